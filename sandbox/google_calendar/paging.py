"""Calendar's listings: pages, and what changed since a sync token.

https://developers.google.com/workspace/calendar/api/guides/sync
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from zlib import crc32

from starlette.responses import Response

from sandbox._google import page_size, page_token, position, refused, wrong
from sandbox._google.fields import answered
from sandbox.google_calendar.store import Shelf
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json

# These may differ from one request of a listing to the next.
PAGING = frozenset(
    ["syncToken", "pageToken", "maxResults", "fields", "alt", "prettyPrint", "quotaUser", "key"]
)
# Deletes are in every delta, whether they were asked for before or not.
DELETES = frozenset(["showDeleted", "showHidden"])


@dataclass(frozen=True)
class Row:
    """A thing, or an instance of a series, in a listing; `shown` is None where it is left out."""

    number: int
    id: str
    shown: Json | None


@dataclass(frozen=True, kw_only=True)
class Rules:
    """A listing's own: page sizes, and what a sync token does not go together with."""

    kind: str
    default: int
    most: int
    forbidden: frozenset[str] = frozenset()


def listed(
    call: Call,
    shelf: Shelf,
    rules: Rules,
    rows: Callable[[bool], Iterable[Row]],
    more: Json | None = None,
    *,
    tokens: bool = True,
) -> Response:
    """A page. `rows` are given whether it is of a delta; what it leaves out shortens the page."""
    size = page_size(call, default=rules.default, most=rules.most)
    asked = _asked(call, rules)
    since = _since(call, shelf, rules, asked)
    place = position(call, str, int, int, str)
    if place and (place[0] != asked or place[1] <= shelf.expired_through):
        raise wrong("Invalid page token value.", "pageToken")
    began, after = (place[1], (place[2], place[3])) if place else (shelf.last, (-1, ""))
    delta = since is not None
    # A listing goes by ids, a delta by the order of changes.
    keyed = sorted(
        (((row.number if delta else 0), row.id), row)
        for row in rows(delta)
        if since is None or row.number > since
    )
    left = [(key, row) for key, row in keyed if key > after]
    page = left[:size]
    body: Json = {"kind": rules.kind, "etag": f'"{crc32(shelf.name.encode())}{shelf.last:06d}"'}
    body |= more or {}
    if len(left) > size:
        body["nextPageToken"] = page_token(asked, began, *page[-1][0])
    elif tokens:
        until = shelf.last if delta else began
        body["nextSyncToken"] = page_token(shelf.name, until, asked)
    return answered(call, {**body, "items": [row.shown for _, row in page if row.shown]})


def _asked(call: Call, rules: Rules) -> str:
    """What must be the same in all requests of a listing and of its deltas."""
    free = PAGING | DELETES | rules.forbidden
    same = sorted(pair for pair in call.query.multi_items() if pair[0] not in free)
    return f"{crc32(json.dumps(same).encode()):08x}{'d' if call.query.get('syncToken') else ''}"


def _since(call: Call, shelf: Shelf, rules: Rules, asked: str) -> int | None:
    """The number that the sync token stands for; None without one."""
    token = call.query.get("syncToken", "")
    if not token:
        return None
    unfit = [name for name in sorted(rules.forbidden) if name in call.query]
    unfit += [
        name for name in sorted(DELETES) if call.query.get(name, "").lower() in ("false", "0")
    ]
    if unfit:
        message = f"Sync token cannot be used with {unfit[0]}={call.query[unfit[0]]}."
        raise refused(400, "syncTokenWithRequestRestrictions", message, domain="calendar")
    named = position(call, str, int, str, name="syncToken")
    if named is None or named[0] != shelf.name:
        raise wrong("Invalid sync token value.", "syncToken")
    if named[1] <= shelf.expired_through:
        message = "Sync token is no longer valid, a full sync is required."
        where = {"locationType": "parameter", "location": "syncToken"}
        raise refused(410, "fullSyncRequired", message, domain="calendar", **where)
    if named[2].rstrip("d") != asked.rstrip("d"):
        raise wrong("The sync token is of a request with other parameters.", "syncToken")
    return int(named[1])
