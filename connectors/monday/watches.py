"""Webhooks on boards: monday.com makes one for each event of each board, and none for an account.

They have no end, and an app's cannot be switched off on the board. But they go with the person who
made them, like all integrations of someone who is deactivated (support.monday.com, Transfer
automation ownership, 2026), so twice a week they are looked for.

Calls are counted by the day, for all apps of an account: 200 on the free plan and on a trial, 1,000
on the two plans above, then 10,000 and 25,000 (docs/rate-limits, 2026-11). So a board's webhooks
are asked for in one call, which counts as one by all that is documented; so are they looked for,
and ended. So many boards have them as take a twentieth of a day's calls to make, the newest first;
more than 150 would take too long, for monday.com asks our address once for each event. On the free
plan and on a trial there are none. The other boards are polled, as all are besides. For the same
reason what webhooks tell is read with a budget of its own, `TOLD`: while that is spent, what is
told waits, and is then read together.

Events of subitems are asked for on the board of their parents; where there never was one they are
refused (PipedreamHQ/pipedream#5248, 2023-01), and asked for again at the next look.
https://developer.monday.com/api-reference/reference/webhooks (2026-11)
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from connectors import (
    BrokenConnectionError,
    Calls,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    RetryableError,
    Watch,
    WatchRequest,
    Webhook,
    ask,
)
from connectors.kernel.jwts import hs256_token
from connectors.kernel.webhooks import WatchSteps
from connectors.monday.events import challenge, events
from connectors.monday.query import classify, data_of, graphql
from connectors.monday.reading import BOARD, BOARDS

SECRET = "MONDAY_WEBHOOK_SECRET"  # noqa: S105
SCOPES = {
    "webhooks:read": "to see which webhooks stand",
    "webhooks:write": "webhooks on boards, to hear of changes at once",
}
STREAMS = ("items", "subitems", "column_values", "updates")
# Not move_subitem, which does not say on which board the subitem is.
EVENTS = (
    "create_item", "change_column_value", "change_name", "item_moved_to_any_group",
    "item_archived", "item_deleted", "item_restored",
    "create_subitem", "change_subitem_column_value", "change_subitem_name", "subitem_archived",
    "subitem_deleted",
    "create_update", "edit_update", "delete_update", "create_subitem_update",
)  # fmt: skip
# Of an account's plan, of which a trial has no name: so many boards have webhooks.
MOST = {None: 0, "free": 0, "pro": 150, "enterprise": 150}
OF_OTHERS = 50
# What making a webhook costs is not documented. An item costs 10,000 points to make, and a paid
# account has five times the points that we count: so it is counted as so many rows.
ROWS = 8

LISTED = """query($size: Int!, $page: Int!) { account { tier }
    boards(limit: $size, page: $page, order_by: created_at) { id type } }"""
STANDING = "query($board: ID!) { webhooks(board_id: $board, app_webhooks_only: true) { id } }"


def resources(context: Context) -> Calls[Sequence[str]]:
    """The newest boards, where webhooks were allowed at consent."""
    if not SCOPES.keys() <= {*context.config.get("scopes", ())}:
        return ()
    boards: list[str] = []
    page = 1
    while True:
        asked = graphql(LISTED, {"size": BOARDS, "page": page})
        data = data_of((yield from ask(asked)))
        most = MOST.get(data["account"]["tier"], OF_OTHERS)
        boards += [str(one["id"]) for one in data["boards"] if one["type"] == BOARD]
        if len(boards) >= most or len(data["boards"]) < BOARDS:
            return list(dict.fromkeys(boards))[:most]
        page += 1


def create(wanted: WatchRequest) -> WatchSteps:
    """All events of a board; those that monday.com takes stand, whatever it says of the others."""
    made, error = yield from _made(wanted, EVENTS)
    if isinstance(error, (RetryableError, BrokenConnectionError)) and not made:
        raise error
    if not made:
        return NoWatch(str(error or "monday.com makes no webhook here"))
    return _stands(wanted, made)


def renew(wanted: WatchRequest, watched: MadeWatch) -> WatchSteps:
    """Looks whether all are still there. If one is not, the rest goes as well, and all are made
    anew: what was not told meanwhile is a gap."""
    hooks: Mapping[str, str] = watched.state["hooks"]
    try:
        asked = graphql(STANDING, {"board": wanted.resource})
        standing = data_of((yield from ask(asked)))["webhooks"] or ()
    except (NotAllowedError, ContractError) as error:
        return NoWatch(str(error))
    there = {str(one["id"]) for one in standing}
    if not there.issuperset(hooks.values()) or watched.state["address"] != wanted.address:
        yield from _end(there.intersection(hooks.values()))
        raise CheckpointExpiredError("a webhook of the board is gone")
    if refused := [event for event in EVENTS if event not in hooks]:
        more, _ = yield from _made(wanted, refused)
        hooks = {**hooks, **more}
    return _stands(wanted, hooks)


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    yield from _end(watched.state["hooks"].values())


def _made(
    wanted: WatchRequest, events: Sequence[str]
) -> Calls[tuple[dict[str, str], ConnectorError | None]]:
    """The ids of those that were made, by event, and what was said of the others."""
    each = " ".join(
        f"{event}: create_webhook(board_id: $board, url: $url, event: {event}) {{ id }}"
        for event in events
    )
    query = f"mutation($board: ID!, $url: String!) {{ {each} }}"
    asked = {"board": wanted.resource, "url": wanted.address}
    data, error = yield from _mutated(query, asked, len(events))
    return {event: str(data[event]["id"]) for event in events if data.get(event)}, error


def _end(hooks: Iterable[str]) -> Calls[None]:
    """What is gone already, or no longer ours to end, is no error."""
    ids = {f"hook{number}": id for number, id in enumerate(sorted(hooks))}
    if not ids:
        return
    named = ", ".join(f"${name}: ID!" for name in ids)
    each = " ".join(f"{name}: delete_webhook(id: ${name}) {{ id }}" for name in ids)
    _, error = yield from _mutated(f"mutation({named}) {{ {each} }}", ids, len(ids))
    if isinstance(error, (RetryableError, BrokenConnectionError)):
        raise error


def _mutated(
    query: str, variables: dict[str, Any], count: int
) -> Calls[tuple[dict[str, Any], ConnectorError | None]]:
    """The data of an answer of which a part may be refused, and the refusal; that of one thing has
    been told with 403 as well as with 200."""
    request = replace(graphql(query, variables, rows=count * ROWS), expect=(200,))
    try:
        response = yield from ask(request)
    except (NotAllowedError, ContractError) as error:
        return {}, error
    return response.json.get("data") or {}, classify(response)


def _stands(wanted: WatchRequest, hooks: Mapping[str, str]) -> MadeWatch:
    state = {"hooks": dict(hooks), "address": wanted.address}
    return MadeWatch(vendor_id=min(hooks.values()), expires_at=None, state=state)


watch = Watch(
    resources=resources,
    create=create,
    renew=renew,
    delete=delete,
    streams=lambda resource: STREAMS,
    lifetime=timedelta(days=7),
    needs=(SECRET,),
)
webhook = Webhook(
    events=events,
    verified_by=SECRET,
    verify=hs256_token,
    handshake=challenge,
    # Not all is told: not what goes with a column, a group or an item, nor what changes its board.
    covers=(),
    setup="Webhooks on boards are made by themselves, if the app has an integration feature: "
    "without one monday.com signs no delivery, and all are refused. Set the app's signing secret.",
    proof="Of which account it is, and until when it is good, by a token under the app's signing "
    "secret; neither body nor address. The body names the item or update, which is read again, "
    "and no more.",
)
