"""How Stripe's objects are read: listed once, then read again whenever an event names them.

https://docs.stripe.com/api/events
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Context,
    ContractError,
    Page,
    Reader,
    Record,
    Request,
    Steps,
    Stream,
    ask,
    ask_all,
    column,
)
from connectors.kernel.paging import ask_page, batches, onward, rows_of
from connectors.kernel.positions import Position
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import EPOCH
from connectors.stripe.events import TEST, concerned

PAGE = 100
# Events are kept for 30 days; the margin is for a read that takes its time.
HORIZON = timedelta(days=30) - timedelta(hours=1)
# Clocks differ, and an event may be listed a moment after its time.
OVERLAP = timedelta(minutes=5)


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where lists of one path stand: in which of them, after which object, and when that began.

    Between two reads it is `since` alone: the time from which events are read.
    """

    since: int | None = None
    started: int | None = None
    list_: int = 0
    after: str | None = None


# What comes of a list's rows: a page, whose checkpoint is not known yet.
Understand: TypeAlias = Callable[[list[Record]], Steps[Page]]


@dataclass(frozen=True)
class Kind:
    """A kind of object, and the groups of events that name it. `listed` are parameters of its list;
    `embedded` is the field with a list inside the object, and `rest` asks for what that leaves
    out."""

    name: str
    groups: tuple[str, ...]
    listed: Mapping[str, str] = field(default_factory=dict)
    embedded: str = ""
    rest: Callable[[str], Request] | None = None


def objects(kind: Kind, columns: Mapping[str, Column]) -> Stream:
    """A stream of objects: listed once, then read again whenever an event names them."""
    return Stream(
        name=kind.name,
        read=lambda at, context: _read(kind, at, context),
        fetch=lambda keys, context: _fetch(kind, keys, context),
        window=lambda since: Place(since=_seconds(since - OVERLAP)).saved(),
        columns={**columns, "created": column("created", "bigint")},
    )


def _read(kind: Kind, at: Checkpoint, context: Context) -> Reader:
    here = Place.of(at)
    if here.since is None:
        path = f"/{kind.name}"
        yield from _pages(
            path, (kind.listed,), here, context, lambda rows: _whole(kind, rows, context)
        )
        return
    # Once in a read is enough: what is read is newer than all that it tells of.
    seen: set[str] = set()
    lists = [{"type": f"{group}.*"} for group in kind.groups]
    yield from _pages(
        "/events", lists, here, context, lambda rows: _named(kind, rows, seen, context)
    )


def _fetch(kind: Kind, keys: Sequence[str], context: Context) -> Reader:
    for turn, some in enumerate(batches(keys, PAGE)):
        page = yield from _again(kind, some, context, is_checked=turn > 0)
        yield replace(page, deleted=[*page.deleted, *page.unsettled], unsettled=())


def _whole(kind: Kind, rows: list[Record], context: Context) -> Steps[Page]:
    """The rows, complete; those that were deleted meanwhile are unsettled."""
    if kind.rest is None:
        return Page(rows, Checkpoint())
    made, vanished = [], []
    for row in rows:
        done = yield from _completed(row, kind.embedded, kind.rest(row["id"]), context)
        if done is None:
            vanished.append(row["id"])
        else:
            made.append(done)
    return Page(made, Checkpoint(), unsettled=vanished)


def _again(
    kind: Kind, keys: Sequence[str], context: Context, *, is_checked: bool = False
) -> Steps[Page]:
    """The objects as they are now; those that Stripe does not have are unsettled. If it
    `is_checked` the same read has seen of which mode our key is."""
    if not keys:
        return Page((), Checkpoint())
    answers = yield from ask_all(
        _get(f"/{kind.name}/{quote(key, safe='')}", context, expect=(404,)) for key in keys
    )
    found = {key: answer.json for key, answer in zip(keys, answers, strict=True)}
    missing = [key for key, body in found.items() if _is_missing(body)]
    # Of a deleted customer its id is left.
    deleted = [key for key, body in found.items() if body.get("deleted")]
    living = [body for key, body in found.items() if key not in (*missing, *deleted)]
    if living or not is_checked:
        yield from _check_mode(living, context)
    page = yield from _whole(kind, living, context)
    return replace(page, deleted=deleted, unsettled=[*missing, *page.unsettled])


def _named(kind: Kind, rows: list[Record], seen: set[str], context: Context) -> Steps[Page]:
    """The objects that those events name, but for those that were `seen`."""
    about = [concerned(event) for event in rows]
    keys = dict.fromkeys(key for stream, key in about if stream == kind.name)
    fresh = [key for key in keys if key not in seen]
    page = yield from _again(kind, fresh, context, is_checked=bool(seen))
    seen.update(fresh)
    # What Stripe names and does not have may not be readable yet, unless it was deleted.
    over = {row["data"]["object"].get("id") for row in rows if row["type"].endswith(".deleted")}
    gone = [key for key in page.unsettled if key in over]
    unsettled = [key for key in page.unsettled if key not in over]
    return replace(page, deleted=[*page.deleted, *gone], unsettled=unsettled)


def happened(at: Checkpoint, context: Context) -> Reader:
    """Every event of the last 30 days, as Stripe tells it."""

    def unchanged(rows: list[Record]) -> Steps[Page]:
        yield from ()
        return Page(rows, Checkpoint())

    yield from _pages("/events", ({},), Place.of(at), context, unchanged)


def _pages(
    path: str,
    lists: Sequence[Mapping[str, str]],
    here: Place,
    context: Context,
    understand: Understand,
) -> Reader:
    """Lists of one path, one after the other, each the newest first and to its end; with a `since`,
    only what was created from then on."""
    if here.since is not None:
        _check_horizon(here.since, context)
    is_of_our_mode = False
    while True:
        params: dict[str, str | int] = {**lists[here.list_], "limit": PAGE}
        if here.since is not None:
            params["created[gte]"] = here.since
        if here.after is not None:
            params["starting_after"] = here.after
        # The object that a page follows may be deleted, or an event too old, a moment later.
        response = yield from ask_page(
            _get(path, context, params=params), resumed=here.after is not None
        )
        # By Stripe's clock: ours may be ahead, and what happens meanwhile would be lost.
        now = _seconds(min(context.now, vendor_time(response)))
        started = now if here.started is None else here.started
        rows = rows_of(response, "data")
        is_last = not response.json["has_more"] and here.list_ + 1 == len(lists)
        if rows or (is_last and not is_of_our_mode):
            yield from _check_mode(rows, context)
            is_of_our_mode = True
        page = yield from understand(rows)
        if is_last:
            done = Place(since=started - OVERLAP // timedelta(seconds=1))
            yield replace(page, checkpoint=done.saved())
            return
        if response.json["has_more"]:
            here = replace(here, started=started, after=onward(here.after, rows[-1]["id"]))
        else:
            here = replace(here, started=started, list_=here.list_ + 1, after=None)
        yield replace(page, checkpoint=here.saved())


def _completed(
    record: Record, field: str, request: Request, context: Context
) -> Calls[Record | None]:
    """A list inside an object holds its first rows only; they are all asked for. None where the
    object is deleted meanwhile."""
    listed = record[field]
    while listed["has_more"]:
        after = listed["data"][-1]["id"]
        params = {**request.params, "limit": PAGE, "starting_after": after}
        response = yield from ask(
            replace(_get(request.path, context, expect=(404,)), params=params)
        )
        if _is_missing(response.json):
            return None
        data = [*listed["data"], *rows_of(response, "data")]
        onward(after, data[-1]["id"])
        listed = {**listed, "data": data, "has_more": response.json["has_more"]}
    return {**record, field: listed}


def _get(path: str, context: Context, **options: Any) -> Request:
    account = context.account_id.removesuffix(TEST)
    return Request.get(path, headers={"stripe-account": account}, **options)


def _is_missing(body: Record) -> bool:
    """Whether Stripe has no such object; ContractError if it has no such address."""
    if "error" not in body:
        return False
    if body["error"].get("code") != "resource_missing":
        raise ContractError("Stripe has no such address (404)")
    return True


def _check_mode(rows: Sequence[Record], context: Context) -> Calls[None]:
    """ContractError if the rows are of the other mode, as after a change of our key.

    Nothing proves nothing: a key of the other mode sees no object of this one, and what it does not
    see would count as deleted. So where there are no rows, the balance is asked, which tells its
    mode (https://docs.stripe.com/api/balance/balance_object, 2026-11).
    """
    live = not context.account_id.endswith(TEST)
    objects = rows or [(yield from ask(_get("/balance", context))).json]
    if any(row["livemode"] is not live for row in objects):
        modes = ("live", "test") if live else ("test", "live")
        raise ContractError(
            "this connection is of Stripe's {} mode, and STRIPE_SECRET_KEY of {} mode: nothing of "
            "the other is stored here".format(*modes)
        )


def _check_horizon(since: int, context: Context) -> None:
    if _seconds(context.now) - since > HORIZON // timedelta(seconds=1):
        raise CheckpointExpiredError("Stripe tells the events of the last 30 days only")


def _seconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(seconds=1)
