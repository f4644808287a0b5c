"""Slack on loopback: members, channels, messages and threads, and its events.

https://docs.slack.dev/reference/methods

Longer than 700 lines: the Web API's methods answer 200 to everything, with a page and an error
form of each, and it plays members, threads and edits.
"""

from collections.abc import Callable

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, RefusedError
from sandbox.kernel.vendor import Limit, Vendor
from sandbox.slack.api import ROUTES, method_of, trouble
from sandbox.slack.auth import AUTH, HOST
from sandbox.slack.auth import ROUTES as AUTH_ROUTES
from sandbox.slack.events import SENDER
from sandbox.slack.rows import BOT
from sandbox.slack.seed import new
from sandbox.slack.store import MUTATIONS, Workspace, alterable, join, leave, of_a_channel, store

# By the minute, of each method by itself. Tiers 2, 3 and 4.
TIERS = {
    "users.list": 20,
    "conversations.list": 20,
    "auth.teams.list": 20,
    "conversations.info": 50,
    "conversations.history": 50,
    "conversations.replies": 50,
    "conversations.members": 100,
}
SLOW = ("conversations.history", "conversations.replies")


def _counts(method: str, *, restricted: bool = False) -> Callable[[Call], int]:
    def cost(call: Call) -> int:
        return int(method_of(call) == method and (not restricted or call.state.restricted))

    return cost


def app_settings(space: Workspace, body: Json) -> Json:
    """Whether the app is `restricted`, as one that is sold outside the marketplace, and whether
    its tokens are rotated (`rotates`), as an account finds it; and how many days back its plan
    shows messages (`shown_days`, 90 of a free one, null without a limit)."""
    space.shown_days = body.get("shown_days", space.shown_days)
    space.restricted = bool(body.get("restricted", space.restricted))
    space.rotates = bool(body.get("rotates", space.rotates))
    return {name: getattr(space, name) for name in ("restricted", "rotates", "shown_days")}


def tell(space: Workspace, body: Json) -> Json:
    """An event that no change of data causes: `{"account": …, "event": {"type": …}}`."""
    event = body.get("event")
    if not isinstance(event, dict) or "type" not in event:
        raise RefusedError("event must be an object with a type", status=400)
    space.tell(event)
    return {"told": event["type"]}


def invite(space: Workspace, body: Json) -> Json:
    """The app comes into a channel, or with `out` leaves it."""
    channel = str(body.get("channel", ""))
    if channel not in space.channels:
        raise RefusedError(f"there is no channel {channel!r}")
    inside = not body.get("out")
    space.channels[channel] = {**space.channels[channel], "is_member": inside}
    (join if inside else leave)(space, channel, BOT)
    if not inside:
        space.news("channel_left", channel=channel)
    return {"channel": channel, "is_member": inside}


def refuse_part(space: Workspace, body: Json) -> Json:
    """One channel cannot be read from now on, as a private one without groups:history; or, with
    `on` false, all can again."""
    channel, keys = of_a_channel(space, str(body.get("stream")))
    if not body.get("on", True):
        space.refused.clear()
    elif channel:
        space.refused.add(channel)
    return {"part": channel, "keys": keys}


def hide(space: Workspace, body: Json) -> Json:
    """The app is put out of a channel, and nothing tells it so."""
    channel, keys = of_a_channel(space, str(body.get("stream")))
    if channel:
        space.channels[channel] = {**space.channels[channel], "is_member": False}
        space.members[channel].discard(BOT)
    return {"part": channel, "keys": keys}


def forget_cursors(space: Workspace) -> None:
    space.era += 1


vendor = Vendor(
    name="slack",
    title="Slack",
    base_url=f"https://{HOST}/api",
    auth=AUTH,
    routes=(*AUTH_ROUTES, *ROUTES),
    streams=("users", "channels", "messages", "thread_replies", "channel_members"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    expire_checkpoints=forget_cursors,
    limits=(
        *(Limit(name, amount, 60.0, _counts(name)) for name, amount in TIERS.items()),
        *(Limit(f"{name} of some", 1, 60.0, _counts(name, restricted=True)) for name in SLOW),
    ),
    account_controls={
        "app": app_settings,
        "tell": tell,
        "invite": invite,
        "refuse_part": refuse_part,
        "hide": hide,
    },
    webhook=SENDER,
)
