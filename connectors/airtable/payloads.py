"""The log that Airtable keeps behind each webhook: what happened to the records of a base.

A delivery says nothing but that there is something new here. Entries are numbered and kept for a
week.

https://airtable.com/developers/web/api/list-webhook-payloads
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors import Calls, Checkpoint, Context, Page, Position, Reader, Record, Request, ask
from connectors.airtable.schema import listed_bases
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.parts import each_part
from connectors.kernel.versions import find

MANAGE = "webhook:manage"
# Beyond so many new entries it is cheaper to read the tables.
MOST = 2_000
# How the webhooks list refuses: no scope, no plan, not this person.
REFUSED = (403, 404, 422)


@dataclass(frozen=True)
class Log:
    """The entries of a base's webhook from number `start` up to `end`, which comes next. Without
    `intact` some are missing."""

    hook: str
    start: int
    end: int
    entries: Sequence[tuple[int, Record]] = ()
    intact: bool = True

    def follows(self, hook: str, cursor: int) -> bool:
        """Whether it holds everything since that number."""
        return self.intact and hook == self.hook and self.start <= cursor <= self.end

    def of(self, table: str, cursor: int) -> tuple[set[str], set[str]]:
        """The records of a table that changed since that number, and those that were deleted. What
        is deleted may be restored under its id."""
        changed: set[str] = set()
        gone: set[str] = set()
        for number, entry in self.entries:
            if number < cursor:
                continue
            for record, kind, _ in _happened(find(entry, ("changedTablesById", table)) or {}):
                is_gone = kind == "destroyed"
                (gone if is_gone else changed).add(record)
                (changed if is_gone else gone).discard(record)
        return changed, gone


def hooks_of(base: str, context: Context) -> Calls[list[Record]]:
    """Our app's webhooks on a base that tell of its records, the oldest first; none where Airtable
    allows none. The list shows no other app's."""
    if MANAGE not in context.config.get("scopes", (MANAGE,)):
        return []
    response = yield from ask(Request.get(f"/bases/{base}/webhooks", expect=REFUSED))
    if response.status in REFUSED:
        return []
    return [hook for hook in rows_of(response, "webhooks") if _tells_all(hook)]


def _tells_all(hook: Record) -> bool:
    filters = hook["specification"]["options"]["filters"]
    narrowed = any(value for name, value in filters.items() if name != "dataTypes")
    return "tableData" in filters["dataTypes"] and not narrowed


def log_of(base: str, places: Collection[tuple[str, int]], context: Context) -> Calls[Log | None]:
    """What is new in a base since those places, webhook and number; None where nothing tells it."""
    hooks = [one for one in (yield from hooks_of(base, context)) if one["isHookEnabled"]]
    if not hooks:
        return None
    used = {hook for hook, _ in places}
    hook = next((one for one in hooks if one["id"] in used), hooks[0])
    id_, end = hook["id"], hook["cursorForNextPayload"]
    start = min((number for one, number in places if one == id_), default=end)
    if start >= end:
        return Log(id_, end, end)
    if end - start > MOST:
        return Log(id_, end, end, intact=False)
    entries: list[tuple[int, Record]] = []
    at = start
    while True:
        found, at, more = yield from _entries(base, id_, at)
        entries += found
        if not found or not more:
            break
    whole = bool(entries) and entries[0][0] == start
    errors = any(entry.get("error") for _, entry in entries)
    return Log(id_, start, at, entries, intact=whole and not errors)


def _entries(
    base: str, hook: str, cursor: int
) -> Calls[tuple[list[tuple[int, Record]], int, bool]]:
    """Entries with their numbers, the number that comes next, and whether there may be more.

    An entry does not say its number. The answer's `cursor` follows the last one: counted from what
    was asked for, numbers are wrong once older entries are no longer kept. `mightHaveMore` may be
    true of an empty page, again and again.
    """
    path = f"/bases/{base}/webhooks/{hook}/payloads"
    response = yield from ask(Request.get(path, params={"cursor": cursor}))
    found, following = rows_of(response, "payloads"), int(response.json["cursor"])
    first = following - len(found)
    more = bool(found) and response.json.get("mightHaveMore") is True
    return [(first + n, entry) for n, entry in enumerate(found)], following, more


# -- As streams -----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Numbers(Position):
    """Of each webhook of a base the number of the entry that comes next."""

    hooks: Mapping[str, int] = field(default_factory=dict)


def in_logs(*, revisions: bool = False) -> Read:
    """The entries in the logs of each base's webhooks; or the revisions that they tell, of the
    oldest alone: all tell the same of a base."""

    def of_base(base: str) -> Read:
        def read(at: Checkpoint, context: Context) -> Reader:
            known = _Numbers.of(at).hooks
            hooks = (yield from hooks_of(base, context))[: 1 if revisions else None]
            numbers = {hook["id"]: known.get(hook["id"], 1) for hook in hooks}
            for hook in hooks:
                id_, more = hook["id"], numbers[hook["id"]] < hook["cursorForNextPayload"]
                while more:
                    found, numbers[id_], more = yield from _entries(base, id_, numbers[id_])
                    rows = [
                        {"base_id": base, "webhook_id": id_, "cursor": number, **row}
                        for number, entry in found
                        for row in (_revisions(entry) if revisions else (lasting(entry),))
                    ]
                    yield Page(rows, _Numbers(hooks=dict(numbers)).saved())
            yield Page((), _Numbers(hooks=numbers).saved())

        return read

    return each_part(listed_bases, of_base)


def _revisions(entry: Record) -> Iterator[Record]:
    """What became of each record, with the values before where the webhook was made to tell."""
    who = {
        "timestamp": entry["timestamp"],
        "source": find(entry, ("actionMetadata", "source")),
        "user_id": find(entry, ("actionMetadata", "sourceMetadata", "user", "id")),
    }
    for table, what in (entry.get("changedTablesById") or {}).items():
        for record, kind, values in _happened(what):
            place = {"table_id": table, "record_id": record, "kind": kind}
            yield {**place, **who, **lasting(values)}


def _happened(table: Record) -> Iterator[tuple[str, str, Record]]:
    """The records of a table of which an entry tells, what happened, and their cells."""
    for record, made in (table.get("createdRecordsById") or {}).items():
        yield record, "created", {"current": made["cellValuesByFieldId"]}
    for record, made in (table.get("changedRecordsById") or {}).items():
        held = {name: find(made, (name, "cellValuesByFieldId")) for name in ("current", "previous")}
        yield record, "changed", {name: value for name, value in held.items() if value is not None}
    for record in table.get("destroyedRecordIds") or ():
        yield record, "destroyed", {}


def lasting(value: Any) -> Any:
    """Without what is another at each read: an attachment's links, which are good for two hours
    (kempsterrrr/P3RKS#75, 2022-11)."""
    if isinstance(value, list):
        return [lasting(one) for one in value]
    if not isinstance(value, dict):
        return value
    if str(value.get("id", "")).startswith("att") and "url" in value:
        value = {name: one for name, one in value.items() if name not in ("url", "thumbnails")}
    return {name: lasting(one) for name, one in value.items()}
