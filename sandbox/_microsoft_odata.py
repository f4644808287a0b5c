"""Graph's collections and delta functions: `$select`, `$top`, pages, and what changed since.

https://learn.microsoft.com/graph/query-parameters
https://learn.microsoft.com/graph/delta-query-overview
"""

import base64
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from starlette.responses import Response

from sandbox._microsoft import GRAPH, invalid, link, problem
from sandbox._vendor import Answer, Call, Json, reply

NEXT, DELTA = "@odata.nextLink", "@odata.deltaLink"
CONTEXT = f"https://{GRAPH}/v1.0/$metadata#"

Shape: TypeAlias = Callable[[Json], Json]
_PAGE_SIZE = re.compile(r"\bodata\.maxpagesize\s*=\s*(\d+)")


@dataclass(frozen=True)
class Entry:
    """What a delta function tells of an item: as it was then, or that it is gone."""

    sequence: int
    id: str
    shown: Json
    gone: bool


@dataclass
class Feed:
    """All changes of one collection, in their order. `refusal` is how a lapsed token is answered.

    With `every` an item that changed twice occurs twice; else it occurs once, as it is now.
    """

    every: bool = False
    entries: list[Entry] = field(default_factory=list)
    latest: dict[str, int] = field(default_factory=dict)
    epoch: int = 0
    refusal: tuple[int, str] = (410, "syncStateNotFound")

    @property
    def position(self) -> int:
        return self.entries[-1].sequence if self.entries else 0

    def put(self, id_: str, shown: Json) -> None:
        """The item is new, or is now as shown."""
        self._add(id_, shown, gone=False)

    def drop(self, id_: str, stub: Json) -> None:
        """The item is gone; the stub is what is told of it."""
        self._add(id_, stub, gone=True)

    def expire(self) -> None:
        """No token that was handed out works any more."""
        self.epoch += 1

    def _add(self, id_: str, shown: Json, *, gone: bool) -> None:
        entry = Entry(self.position + 1, id_, dict(shown), gone)
        self.latest[id_] = entry.sequence
        self.entries.append(entry)

    def after(self, sequence: int, *, baseline: int) -> Iterable[Entry]:
        """What a client that stands at a sequence is told; who came at the baseline never saw what
        was gone by then."""
        for entry in self.entries[sequence:]:
            last = self.latest[entry.id] == entry.sequence
            if entry.gone and entry.sequence <= baseline:
                continue
            if last or (self.every and entry.sequence > baseline):
                yield entry


def delta(
    call: Call,
    feed: Feed,
    *,
    context: str,
    default: int,
    most: int,
    shape: Shape = lambda row: row,
    names: tuple[str, str] = ("$skiptoken", "$deltatoken"),
    options: Callable[[], Json] = dict,
) -> Response:
    """A round of a delta function, page by page; its options are fixed in the first call and
    travel in the token. `names` are the parameters that hold the token of a next and a delta link.

    The second page of a round is empty and leads on, as Graph's pages may.
    """
    token = next((call.query[name] for name in names if name in call.query), "")
    if token:
        at = _unpacked(call, token)
        if at["e"] != feed.epoch:
            raise Answer(lapsed(call, feed))
    else:
        start = feed.position
        fixed = {"select": call.query.get("$select", ""), "size": page_size(call, default, most)}
        at = {"e": feed.epoch, "s": 0, "b": start, "n": 0, "q": {**fixed, **options()}}
    size = int(at["q"]["size"])
    waiting = list(feed.after(at["s"], baseline=at["b"]))
    told = [] if at["n"] == 1 else waiting[:size]
    here = told[-1].sequence if told else at["s"]
    rows = [_selected(shape(e.shown), at["q"]["select"]) if not e.gone else e.shown for e in told]
    body: Json = {"@odata.context": f"{CONTEXT}{context}", "value": rows}
    if len(told) < len(waiting):
        more = {**at, "s": here, "n": at["n"] + 1}
        body[NEXT] = link(call, call.path, {names[0]: _packed(more)})
    else:
        body[DELTA] = link(call, call.path, {names[1]: latest(feed, at["q"])})
    return reply(body)


def latest(feed: Feed, options: Json) -> str:
    """The token of a client that knows all there is now."""
    start = feed.position
    return _packed({"e": feed.epoch, "s": start, "b": 0, "n": 0, "q": options})


def lapsed(call: Call, feed: Feed) -> Response:
    """A token that is too old. With 410 comes the address of a fresh start."""
    status, code = feed.refusal
    headers = {"location": link(call, call.path, {})} if status == 410 else {}
    return problem(call, status, code, "The sync state generation is not found.", headers)


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
        more = {**kept, "$skiptoken": _packed({"after": page[-1]["id"]})}
        body[NEXT] = link(call, call.path, more)
    return reply(body)


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
    return {key: value for key, value in row.items() if key in wanted or key.startswith("@")}


def _packed(value: Json) -> str:
    raw = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unpacked(call: Call, token: str) -> Any:
    try:
        return json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except ValueError:
        raise invalid(call, "The token is not valid.") from None
