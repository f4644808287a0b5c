"""How the records of a module are read: all of them, what changed, and what was deleted.

Rows come in the order of their last change, and each page begins at the time at which the former
ended: a row that changes meanwhile moves to the end, and none is skipped. Page tokens, which end
after a day, are only used within one second, of which an import may leave thousands of rows.
https://www.zoho.com/crm/developer/docs/api/v8/get-records.html
https://www.zoho.com/crm/developer/docs/api/v8/get-deleted-records.html
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Context,
    ContractError,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    Stream,
    ask,
    ask_all,
    columns,
)
from connectors.kernel.looks import Look, Looks, is_under_way, looked_until
from connectors.kernel.paging import Read, batches, mapped, onward
from connectors.kernel.parts import Round, each_part
from connectors.kernel.positions import Position
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import epoch_us, parse_time
from connectors.zoho_crm.errors import TOO_DEEP, code_of
from connectors.zoho_crm.modules import (
    PAGE,
    every_module,
    fields_of,
    has_more,
    other_modules,
    rows,
)

# One call names no more fields than this, and no more ids.
FIELDS, IDS = 50, 100
# So often fields are asked for: they change seldom, and each module's cost a call.
FIELDS_EVERY = timedelta(hours=6)
CHANGED = "Modified_Time"
LOOKS = Looks()
# How modules without a list of deletions answer.
NOT_LISTED = ("INVALID_MODULE", "NOT_SUPPORTED", "INVALID_URL_PATTERN")
# The recycle bin keeps rows for 60 days; how long the list tells of them then, no page says
# (2026-11). Half of that is on the safe side.
DELETIONS_KEPT = timedelta(days=30)
TIMES = columns("created_at=Created_Time:timestamptz updated_at=Modified_Time:timestamptz")


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where the reader of a module stands, beside its look, which is saved in the same checkpoint.

    In a look: rows are listed `after` a time, up to the page of a `token` among those of one
    second; in the `phase` "deleted" what is left is the list of deletions. In and between looks:
    which `fields` the module had when they were `described`; a look ends with those of its start.
    """

    after: str = ""
    token: str = ""
    phase: str = ""
    described: str = ""
    fields: Sequence[str] = ()

    @property
    def shape(self) -> str:
        return digest(self.fields)


@dataclass(frozen=True)
class Module:
    """A module, and the names of its fields, without the id, which always comes."""

    name: str
    fields: Sequence[str]

    @property
    def is_timed(self) -> bool:
        """Some modules have no time of the last change (airbytehq/airbyte#80275, 2026-06)."""
        return CHANGED in self.fields

    def rows(self, *, since: str = "", token: str = "") -> Request:
        """A page of rows; by `since` those that were changed then or later."""
        return self._asked(
            self.fields[:FIELDS],
            since,
            sort_by=CHANGED if self.is_timed else "id",
            sort_order="asc",
            **({"page_token": token} if token else {}),
        )

    def rest(self, ids: Sequence[str], fields: Sequence[str]) -> Request:
        """More fields of rows that are known."""
        return self._asked(fields, ids=",".join(ids))

    def _asked(self, fields: Sequence[str], since: str = "", **params: Any) -> Request:
        # What waits for an approval, and a lead that was converted, is left out unless it is asked
        # for (airbytehq/airbyte#39398, 2024-06).
        asked = {"fields": ",".join(fields), "approved": "both", "per_page": PAGE, **params}
        if self.name == "Leads":
            asked["converted"] = "both"
        headers = {"If-Modified-Since": since} if since else {}
        # Only who resumes at a token is refused for that.
        expect = (304, 400) if params.get("page_token") else (304,)
        return Request.get(f"/{self.name}", params=asked, headers=headers, expect=expect)


def digest(words: Sequence[str]) -> str:
    return blake2b("\n".join(sorted(words)).encode(), digest_size=8).hexdigest()


def described(name: str) -> Steps[Sequence[str]]:
    """The names of a module's fields; some have none to ask by (airbytehq/airbyte#31433)."""
    found = [field.get("api_name") for field in (yield from fields_of(name))]
    names = [str(field) for field in found if field and field not in ("id", CHANGED)]
    return (*([CHANGED] if CHANGED in found else []), *names)


def module_reader(name: str) -> Read:
    """All rows of a module, or what happened to them since the checkpoint."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here, look = Place.of(at), LOOKS.begin(at, context.now)
        if look.since and context.now - look.since > DELETIONS_KEPT:
            raise CheckpointExpiredError("Zoho may not tell all that was deleted so long ago")
        if not is_under_way(at) and not _is_fresh(here, context):
            fields = yield from described(name)
            here = replace(here, described=context.now.isoformat(), fields=fields)
        if not here.phase:
            yield from _changed(Module(name, here.fields), look, here)
        if look.since:
            yield from _deleted(name, look, replace(here, after="", token="", phase="deleted"))

    return read


def _is_fresh(here: Place, context: Context) -> bool:
    described = here.described
    return bool(described) and context.now - parse_time(described) < FIELDS_EVERY


def _written(look: Look) -> str:
    return look.since.isoformat(timespec="seconds") if look.since else ""


def _by_both_clocks(look: Look, response: Response) -> Look:
    """The look as begun by the vendor's clock, where that one is behind ours."""
    earlier = min(look.looked, vendor_time(response))
    return replace(look, looked=earlier, late=earlier if look.late == look.looked else look.late)


def _changed(module: Module, look: Look, here: Place) -> Reader:
    """Rows by the time of their last change; by their ids where the module has no such time."""
    since = here.after or (_written(look) if module.is_timed else "")
    token, refused = here.token, False
    while True:
        response = yield from ask(module.rows(since=since, token=token))
        if response.status == 400:
            if refused:
                raise ContractError("Zoho CRM takes none of the page tokens that it gives")
            # It has lapsed: the rows of this second are read from their first page again.
            token, refused = "", True
            continue
        look = _by_both_clocks(look, response)
        found = rows(response, "data")
        whole = yield from _with_rest(module, found)
        if not has_more(response):
            break
        first, last = (str(found[at].get(CHANGED) or "") if found else "" for at in (0, -1))
        if module.is_timed and first and last and parse_time(last) > parse_time(first):
            since, token, refused = last, "", False
        else:
            token = onward(token, response.json["info"]["next_page_token"])
        here = replace(here, after=since, token=token)
        yield Page(whole, here.beside(look.saved))
    here = replace(here, after="", token="", phase="deleted" if look.since else "")
    at = here.beside(look.saved if look.since else look.checkpoint)
    yield Page(whole, at, shape=None if look.since else here.shape)


def _with_rest(module: Module, found: list[Record]) -> Steps[list[Record]]:
    """The rows with the fields for which the first answer had no room. One that is gone by then is
    left out: the list of deletions tells of it, or the next look has it again."""
    more = list(batches(module.fields[FIELDS:], FIELDS))
    if not (more and found):
        return found
    some = list(batches([row["id"] for row in found], IDS))
    answers = yield from ask_all(module.rest(ids, fields) for fields in more for ids in some)
    parts: dict[str, list[Record]] = {}
    for answer in answers:
        for row in rows(answer, "data"):
            parts.setdefault(row["id"], []).append(row)
    whole = []
    for row in found:
        others = parts.get(row["id"], [])
        if len(others) == len(more):
            whole.append({name: value for part in (*others, row) for name, value in part.items()})
    return whole


def _deleted(name: str, look: Look, here: Place) -> Reader:
    page, more = 1, True
    while more:
        found, more = yield from _deletions(name, _written(look), page)
        page += 1
        ended = replace(here, phase="").beside(look.checkpoint)
        yield Page(
            (),
            here.beside(look.saved) if more else ended,
            deleted=[row["id"] for row in found],
            shape=None if more else here.shape,
        )


def _deletions(name: str, since: str, page: int) -> Steps[tuple[list[Record], bool]]:
    """A page of what went into the recycle bin, or out of it for good; and if there are more.

    Some modules, such as Notes, have no such list.
    """
    response = yield from ask(
        Request.get(
            f"/{name}/deleted",
            params={"type": "all", "page": page, "per_page": PAGE},
            headers={"If-Modified-Since": since},
            expect=(304, 400),
        )
    )
    if response.status != 400:
        return rows(response, "data"), has_more(response)
    if code_of(response) == TOO_DEEP:
        raise CheckpointExpiredError("more was deleted at once than Zoho CRM lists")
    if code_of(response) in NOT_LISTED:
        return [], False
    raise ContractError("Zoho CRM refused to tell what was deleted")


def module_stream(name: str, module: str, shown: Mapping[str, Column]) -> Stream:
    """The records of a module that has a stream of its own."""
    return Stream(
        name=name,
        read=module_reader(module),
        window=looked_until,
        version=epoch_us(CHANGED),
        columns={**shown, **TIMES},
    )


# -- All other modules, each by itself ------------------------------------------------------------


def _prefix(name: str) -> str:
    return f"{name}:"


def _named(of: Callable[[str], Read]) -> Callable[[str], Read]:
    """The records of one module among others: keys begin with its name, its shape stays with it."""

    def named(name: str) -> Read:
        def change(page: Page) -> Page:
            return replace(
                page,
                records=[{"module": name, **row} for row in page.records],
                deleted=[_prefix(name) + key for key in page.deleted],
                shape=None,
            )

        return lambda at, context: mapped(of(name)(at, context), change)

    return named


def _shaped(page: Page) -> Page:
    """The last page of a round says which fields all modules have."""
    if page.unread is None:
        return page
    parts = Round.of(page.checkpoint).parts
    return replace(
        page, shape=digest([f"{name}:{Place.of(at).shape}" for name, at in parts.items()])
    )


_each_record = each_part(other_modules, _named(module_reader), prefix=_prefix)


def read_records(at: Checkpoint, context: Context) -> Reader:
    yield from mapped(_each_record(at, context), _shaped)


RECORDS = Stream(
    name="records",
    read=read_records,
    key=lambda record: f"{record['module']}:{record['id']}",
    version=epoch_us(CHANGED),
    # Of modules without a list of deletions nothing tells what is gone.
    hides_deletes=True,
    columns={**columns("module id owner_id=Owner.id"), **TIMES},
)


# -- The log of deletions -------------------------------------------------------------------------


def _read_deleted(name: str) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        look = LOOKS.begin(at, context.now)
        look = replace(look, since=look.since or context.now - DELETIONS_KEPT)
        page, more = 1, True
        while more:
            try:
                found, more = yield from _deletions(name, _written(look), page)
            except CheckpointExpiredError:  # what is listed is all that can be had
                found, more = [], False
            page += 1
            tombstones = [{"module": name, **row} for row in found]
            yield Page(tombstones, Checkpoint(look.saved if more else look.checkpoint))

    return read


DELETED_RECORDS = Stream(
    name="deleted_records",
    read=each_part(every_module, _read_deleted),
    key=lambda record: f"{record['module']}:{record['id']}",
    version=epoch_us("deleted_time"),
    append_only=True,
    columns=columns(
        "module id display_name type deleted_by=deleted_by.name deleted_at=deleted_time:timestamptz"
    ),
)
