"""Graph's collections and delta functions: `$select`, `$top`, pages, and what changed since.

https://learn.microsoft.com/graph/query-parameters
https://learn.microsoft.com/graph/delta-query-overview
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeAlias

from starlette.responses import Response

from sandbox._microsoft import GRAPH, invalid, link, problem
from sandbox.kernel.clock import Clock
from sandbox.kernel.oauth import Call
from sandbox.kernel.paging import place_of, token_of
from sandbox.kernel.values import Answer, Json, RefusedError, reply

NEXT, DELTA = "@odata.nextLink", "@odata.deltaLink"
CONTEXT = f"https://{GRAPH}/v1.0/$metadata#"

Shape: TypeAlias = Callable[[Json], Json]
# From the options of a delta's first call: how it shows an item, None of one that it leaves out.
Narrow: TypeAlias = Callable[[Mapping[str, str]], Callable[[Json], Json | None]]
# After a token that names no page size.
MOST_AT_ONCE = 200
OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}
_COMPARISON = re.compile(r"([\w/]+)\s+(eq|ne|gt|ge|lt|le)\s+('[^']*'|\S+)")
_CALLED_WITH = re.compile(r"\(token=.*\)$")
_PAGE_SIZE = re.compile(r"\bodata\.maxpagesize\s*=\s*(\d+)")


@dataclass(frozen=True)
class Entry:
    """What a delta function tells of an item: as it was then, or that it is gone. One that
    `repeats` is told even when the item has changed again since."""

    sequence: int
    id: str
    shown: Json
    gone: bool
    at: datetime
    repeats: bool


@dataclass
class Feed:
    """All changes of one collection, in order. `refusal` is how a lapsed token is answered."""

    clock: Clock
    entries: list[Entry] = field(default_factory=list)
    latest: dict[str, int] = field(default_factory=dict)
    parts: dict[int, tuple[str, ...]] = field(default_factory=dict)
    epoch: int = 0
    refusal: tuple[int, str] = (410, "syncStateNotFound")

    @property
    def position(self) -> int:
        return self.entries[-1].sequence if self.entries else 0

    def put(self, id_: str, shown: Json, *, repeats: bool = False) -> None:
        """The item is new, or is now as shown."""
        self._add(id_, shown, gone=False, repeats=repeats)

    def put_part(self, id_: str, shown: Json, names: Sequence[str]) -> None:
        """No more than these fields of the item changed: who knows the item is told only them."""
        self.put(id_, shown)
        self.parts[self.position] = tuple(names)

    def told_in_part(self, entry: Entry, since: int) -> Sequence[str] | None:
        """The fields that a client hears of who stands at that sequence; None of all of them."""
        later = [one for one in self.entries[since:] if one.id == entry.id]
        if any(one.sequence not in self.parts for one in later):
            return None
        return [name for one in later for name in self.parts[one.sequence]]

    def drop(self, id_: str, stub: Json, *, repeats: bool = False) -> None:
        """The item is gone; the stub is what is told of it."""
        self._add(id_, stub, gone=True, repeats=repeats)

    def forget(self, id_: str) -> None:
        """The item is gone, and nobody is told."""
        self.latest.pop(id_, None)

    def since(self, at: datetime) -> int:
        """Where a client stands that knows all there was at a time."""
        later = (entry.sequence for entry in self.entries if entry.at > at)
        return next(later, self.position + 1) - 1

    def expire(self) -> None:
        """No token that was handed out works any more."""
        self.epoch += 1

    def _add(self, id_: str, shown: Json, *, gone: bool, repeats: bool) -> None:
        now = self.clock.now()
        entry = Entry(self.position + 1, id_, dict(shown), gone, now, repeats)
        self.latest[id_] = entry.sequence
        self.entries.append(entry)

    def after(self, sequence: int, *, baseline: int) -> Iterable[Entry]:
        """What a client that stands at a sequence is told; who came at the baseline never saw what
        was gone by then."""
        for entry in self.entries[sequence:]:
            last = self.latest.get(entry.id) == entry.sequence
            if entry.gone and entry.sequence <= baseline:
                continue
            if last or (entry.repeats and entry.sequence > baseline):
                yield entry


# From the options of a delta's first call: a feed as who makes this call sees it.
View: TypeAlias = Callable[[Feed, Mapping[str, str]], Feed]
OPTIONS = ("$filter", "$expand", "startDateTime", "endDateTime")


def delta(
    call: Call,
    feed: Feed,
    *,
    context: str,
    default: int,
    most: int,
    shape: Shape = lambda row: row,
    narrow: Narrow = lambda options: lambda row: row,
    view: View = lambda feed, options: feed,
    names: tuple[str, str] = ("$skiptoken", "$deltatoken"),
    dated: bool = False,
) -> Response:
    """A page of a delta function, of any collection that has a feed.

    Options are fixed in the first call and travel in the token; `names` are the parameters that
    hold it in next and delta links. The token may be `latest`, and a time where it is `dated`. The
    second page of a round is empty and leads on, as Graph's pages may. `narrow` is for what else a
    collection takes: `$filter` and `$expand`; `view` makes of the feed what this client sees of it.
    """
    given = {name: call.query[name] for name in OPTIONS if name in call.query}
    at = _position(call, feed, names, dated) or {
        "s": 0,
        "b": feed.position,
        "q": {
            "select": call.query.get("$select", ""),
            "size": page_size(call, default, most),
            "given": given,
        },
    }
    shows = narrow(at["q"]["given"])
    waiting = [
        (entry, row)
        for entry in view(feed, at["q"]["given"]).after(at["s"], baseline=at["b"])
        if (row := entry.shown if entry.gone else shows(entry.shown)) is not None
    ]
    told = [] if at.get("n") == 1 else waiting[: int(at["q"]["size"])]
    rows = [r if e.gone else _selected(shape(r), at["q"]["select"]) for e, r in told]
    if not at["b"]:
        rows = [
            row if entry.gone or (fields := feed.told_in_part(entry, at["s"])) is None
            else {name: row[name] for name in ("id", *fields) if name in row}
            for (entry, _), row in zip(told, rows, strict=True)
        ]  # fmt: skip
    body: Json = {"@odata.context": f"{CONTEXT}{context}", "value": rows}
    path = _CALLED_WITH.sub("()", call.path)
    place = {"e": feed.epoch, "q": at["q"]}
    if len(told) < len(waiting):
        here = told[-1][0].sequence if told else at["s"]
        place |= {"s": here, "b": at["b"], "n": at.get("n", 0) + 1}
        body[NEXT] = link(call, path, {names[0]: token_of(place)})
    else:
        place |= {"s": feed.position, "b": 0}
        body[DELTA] = link(call, path, {names[1]: token_of(place)})
    return reply(body)


def _position(call: Call, feed: Feed, names: tuple[str, str], dated: bool) -> Json | None:
    """Where the call's token stands; None where it has none."""
    given = [call.query[name] for name in names if name in call.query]
    token = call.params.get("token", next(iter(given), ""))
    if not token:
        return None
    options = {"select": call.query.get("$select", ""), "size": MOST_AT_ONCE, "given": {}}
    if token == "latest":
        return {"s": feed.position, "b": 0, "q": options}
    if dated and (moment := _moment(token)):
        return {"s": feed.since(moment), "b": 0, "q": options}
    found = _unpacked(call, token)
    if found["e"] != feed.epoch:
        raise Answer(lapsed(call, feed))
    return found


def _moment(text: str) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def lapsed(call: Call, feed: Feed) -> Response:
    """A token that is too old. With 410 comes the address of a fresh start."""
    status, code = feed.refusal
    path = _CALLED_WITH.sub("()", call.path)
    headers = {"location": link(call, path, {})} if status == 410 else {}
    return problem(call, status, code, "The sync state generation is not found.", headers)


def resync(
    feed_of: Callable[[Any], Feed],
) -> Callable[[Any, Json], Json]:
    """A control: the status and code by which an account's lapsed tokens are refused."""

    def ordered(state: Any, body: Json) -> Json:
        status = body.get("status")
        if not isinstance(status, int) or not 400 <= status < 500:
            raise RefusedError("name a status of 4xx", status=400)
        feed_of(state).refusal = (status, str(body.get("code", "")))
        return {"status": status, "code": str(body.get("code", ""))}

    return ordered


def listing(
    call: Call,
    rows: Sequence[Json],
    *,
    context: str,
    default: int,
    most: int,
    shape: Shape = lambda row: row,
) -> Response:
    """A page of a collection, in an order that does not change; its link holds the place."""
    size = page_size(call, default, most)
    token = call.query.get("$skiptoken", "")
    after = str(_unpacked(call, token)["after"]) if token else ""
    start = 0
    if after:
        start = next((n for n, row in enumerate(rows, 1) if row["id"] == after), len(rows))
    page = rows[start : start + size]
    asked = call.query.get("$select", "")
    body: Json = {"@odata.context": f"{CONTEXT}{context}"}
    body["value"] = [_selected(shape(row), asked) for row in page]
    if start + size < len(rows):
        kept = {name: value for name, value in call.query.items() if name != "$skiptoken"}
        more = {**kept, "$skiptoken": token_of({"after": page[-1]["id"]})}
        body[NEXT] = link(call, call.path, more)
    return reply(body)


def condition(
    call: Call, allowed: Mapping[str, Sequence[str]], text: str | None = None
) -> Callable[[Json], bool]:
    """`$filter`, as far as a collection takes it: fields, each by the operators it allows, with a
    time or a text in quotes, joined by `and`. A `text` stands for what is not in the query."""
    text = call.query.get("$filter", "") if text is None else text
    parts = re.split(r"\s+and\s+", text) if text else []
    tests = []
    for part in parts:
        found = _COMPARISON.fullmatch(part.strip())
        if found is None or found[2] not in allowed.get(found[1], ()):
            raise invalid(call, f"The filter clause {part!r} is not supported.")
        tests.append((found[1], OPERATORS[found[2]], _comparable(found[3])))
    return lambda row: all(
        row.get(name) is not None and compare(_comparable(str(row[name])), value)
        for name, compare, value in tests
    )


def _comparable(text: str) -> tuple[int, float | str]:
    """Times as times, however they are written; all else as text."""
    moment = _moment(text)
    return (0, moment.timestamp()) if moment else (1, text.strip("'"))


def page_size(call: Call, default: int, most: int) -> int:
    """`$top`, or the page size that Prefer asks for; more than there may be is refused."""
    asked = call.query.get("$top", "")
    preferred = _PAGE_SIZE.search(call.headers.get("prefer", ""))
    if not asked:
        return min(max(int(preferred[1]), 1), most) if preferred else default
    if not asked.isdecimal() or not 1 <= int(asked) <= most:
        raise invalid(call, f"The limit of '{most}' for Top query has been exceeded.")
    return int(asked)


def _selected(row: Json, names: str) -> Json:
    """The fields that `$select` names; the id and what is about the row come anyway."""
    if not names:
        return row
    wanted = {"id", *names.split(",")}
    return {key: value for key, value in row.items() if key in wanted or key.startswith("@odata")}


def _unpacked(call: Call, token: str) -> Json:
    found = place_of(token)
    if not isinstance(found, dict):
        raise invalid(call, "The token is not valid.")
    return found
