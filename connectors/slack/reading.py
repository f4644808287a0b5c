"""What Slack lists: members and channels of each workspace, and what was said in each channel.

https://docs.slack.dev/apis/web-api/pagination
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from connectors.kernel.errors import CheckpointExpiredError, ContractError, NotAllowedError
from connectors.kernel.messages import Calls, Checkpoint, Context, Page, Reader, Record, Steps, ask
from connectors.kernel.paging import Read
from connectors.kernel.parts import Listing, Parts, Round, each_part
from connectors.kernel.positions import AtPage, Position
from connectors.slack.errors import GONE, code_of, not_shown
from connectors.slack.query import PAGE, Got, Params, Rows, call, every, rows

# So far back messages and threads are read again: history knows no edits, only what was posted.
LOOKBACK = timedelta(days=7)
# A reply does not move its thread. So old threads are looked through now and then for new replies.
THREADS_BACK, WIDE_EVERY = timedelta(days=30), timedelta(days=1)
# What a free plan shows; it hides the rest, and shows it again once the plan is paid for (2022-09).
SHOWN = timedelta(days=90)
# Stands for channels that could not be listed.
UNLISTED = ""


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a channel stands: at messages `since` then; in a read at a page, and when it `started`.

    A read of threads goes back to the `oldest`; of a page's threads some are `done`. `wide` is when
    old ones were looked through the last time.
    """

    since: int | None = None
    started: int | None = None
    page: str | None = None
    oldest: str | None = None
    wide: int | None = None
    done: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _Window(Position):
    """One time for all channels, or for these: a window. So checkpoints were before 2026-12, at a
    `place`."""

    since: int | None = None
    channels: Sequence[str] = ()
    place: Any = None


# -- Workspaces -----------------------------------------------------------------------------------


def is_org(context: Context) -> bool:
    """Whether the app is installed in a whole organisation: calls then have to name a workspace."""
    return bool(context.config.get("org"))


def workspaces(context: Context) -> Steps[Parts]:
    found = yield from every("auth.teams.list", "teams", {})
    return Parts(sorted({team["id"] for team in found}))


def listing(
    method: str, records: str, params: Callable[[Context], Params]
) -> Callable[[Checkpoint, Context], Reader]:
    """Of each workspace that the token is for, one after the other."""

    def of_workspace(team: str) -> Read:
        def read(at: Checkpoint, context: Context) -> Reader:
            cursor = AtPage.of(at).page
            while True:
                asked = {**params(context), "team_id": team}
                got = yield from rows(method, records, asked, cursor)
                cursor = got.cursor
                yield Page(got.rows, AtPage(cursor).saved())
                if cursor is None:
                    return

        return read

    of_each = each_part(workspaces, of_workspace)
    return lambda at, context: (of_each if is_org(context) else of_workspace(""))(at, context)


# -- Channels -------------------------------------------------------------------------------------


def kinds(context: Context) -> dict[str, Any]:
    """Private channels are asked for only where that was granted: Slack refuses it all if not."""
    private = "groups:read" in context.config.get("scopes", ())
    return {"types": f"public_channel{',private_channel' if private else ''}"}


def joined(former: Sequence[str]) -> Listing:
    """The channels that the app was invited to: it may read no others.

    Slack puts bots out of a channel that is archived; what was said there is still there. Of a
    workspace that cannot be listed nothing is known: what was read of its channels stays.
    """

    def listed(context: Context) -> Steps[Parts]:
        teams = [""]
        if is_org(context):
            teams = list((yield from workspaces(context)).present)
        present: set[str] = set()
        kept: set[str] = set()
        for team in teams:
            asked = {**kinds(context), "team_id": team}
            try:
                found = yield from every("conversations.list", "channels", asked)
            except (NotAllowedError, ContractError):
                if not team:
                    raise
                kept |= {UNLISTED, *former}
                continue
            present |= {row["id"] for row in found if row.get("is_member") is True}
            kept |= {row["id"] for row in found if row.get("is_archived") is True}
        return Parts(sorted(present), sorted(kept - present), hidden=True)

    return listed


def by_channel(read: Callable[[str], Read]) -> Callable[[Checkpoint, Context], Reader]:
    """Channel by channel, each from where it was read to."""

    def stream(at: Checkpoint, context: Context) -> Reader:
        window = _Window.of(at)
        if window.since is not None:
            at = yield from _of_each(window, context)
        elif window.place is not None:
            raise CheckpointExpiredError("channels are read by themselves now")
        former = tuple(Round.of(at).parts)
        yield from each_part(joined(former), read, prefix=_prefix)(at, context)

    return stream


def _of_each(window: _Window, context: Context) -> Steps[Checkpoint]:
    """For each channel the checkpoint that stood for all."""
    known = [one for one in window.channels if one]
    if not known:
        known = list((yield from joined(())(context)).present)
    return Round(parts={one: Place(since=window.since).saved() for one in known}).saved()


def _prefix(channel: str) -> str:
    return f"{channel}/" if channel else ""


def since_when(at: datetime) -> Checkpoint:
    return _Window(since=int(at.timestamp())).saved()


# -- What was said --------------------------------------------------------------------------------


def history(channel: str, oldest: str, cursor: str | None) -> Rows:
    params = {"channel": channel, "oldest": oldest}
    return (yield from rows("conversations.history", "messages", params, cursor))


def _oldest(since: int | None, back: timedelta) -> str:
    return "" if since is None else f"{since - back.total_seconds():.6f}"


def _shown(got: Got, context: Context) -> datetime | None:
    return context.now - SHOWN if got.limited else None


def messages_of(channel: str) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        here = Place.of(at)
        here = replace(here, started=here.started or int(context.now.timestamp()))
        oldest = _oldest(here.since, LOOKBACK)
        while True:
            got = yield from history(channel, oldest, here.page)
            found = [{**row, "channel_id": channel} for row in got.rows]
            here = replace(here, page=got.cursor)
            saved = here if here.page else Place(since=here.started)
            yield Page(found, saved.saved(), shown_from=_shown(got, context))
            if not here.page:
                return

    return read


def replies_of(channel: str) -> Read:
    """Every thread that had a reply since then, whole.

    History may come newest first or, with `oldest`, from there on: so what is done of a page is
    noted thread by thread. A thread that cannot be read leaves the others read.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        here = _threads_begun(Place.of(at), context)
        since = float(_oldest(here.since, LOOKBACK) or 0)
        failed: NotAllowedError | ContractError | None = None
        while True:
            got = yield from history(channel, here.oldest or "", here.page)
            for parent in got.rows:
                ts = parent["ts"]
                if ts in here.done or not _has_replies(parent, since):
                    continue
                try:
                    found = yield from _thread(channel, ts)
                except (NotAllowedError, ContractError) as error:
                    failed = error
                    continue
                here = replace(here, done=[*here.done, ts])
                yield Page(found, here.saved())
            shown = _shown(got, context)
            here = replace(here, page=got.cursor, done=())
            if not here.page:
                break
            yield Page((), here.saved(), shown_from=shown)
        if failed is not None:
            raise failed
        ended = Place(since=here.started, wide=here.wide)
        yield Page((), ended.saved(), shown_from=shown)

    return read


def _threads_begun(here: Place, context: Context) -> Place:
    """The place of a read of a channel's threads that begins now, if none is under way."""
    if here.started is not None:
        return here
    now = int(context.now.timestamp())
    is_wide = here.wide is None or now - here.wide >= WIDE_EVERY.total_seconds()
    oldest = _oldest(here.since, THREADS_BACK if is_wide else LOOKBACK)
    return replace(here, started=now, oldest=oldest, wide=now if is_wide else here.wide)


def _has_replies(parent: Record, since: float) -> bool:
    if not parent.get("reply_count") or parent.get("thread_ts") != parent["ts"]:
        return False
    return float(parent.get("latest_reply") or parent["ts"]) >= since


def _thread(channel: str, ts: str) -> Calls[list[Record]]:
    """A thread's replies. Its parent is in each page's first row (from memory, 2026-11): wherever
    it stands, it is left out."""
    found = yield from every("conversations.replies", "messages", {"channel": channel, "ts": ts})
    return [{**row, "channel_id": channel} for row in found if row["ts"] != ts]


def members_of(channel: str) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        cursor = AtPage.of(at).page
        while True:
            params = {"channel": channel}
            got = yield from rows("conversations.members", "members", params, cursor)
            # Plain ids, no objects.
            found = [{"channel_id": channel, "user_id": str(one)} for one in got.rows]
            cursor = got.cursor
            yield Page(found, AtPage(cursor).saved())
            if cursor is None:
                return

    return read


# -- One by one -----------------------------------------------------------------------------------


def channels_again(keys: Sequence[str], context: Context) -> Reader:
    """Of events that tell a channel by its id alone, or not all of it."""
    found: list[Record] = []
    gone: list[str] = []
    for key in keys:
        params = {"channel": key, "include_num_members": "true"}
        response = yield from ask(call("conversations.info", params))
        if code_of(response) in GONE:
            gone.append(key)
        else:
            found.append(response.json["channel"])
    yield Page(found, Checkpoint(), deleted=gone)


def replies_again(keys: Sequence[str], context: Context) -> Reader:
    """Single replies: Slack answers a reply's time with it alone, or with its thread around it.

    https://docs.slack.dev/reference/methods/conversations.replies (from memory, 2026-11)
    """
    found: list[Record] = []
    gone: list[str] = []
    for key in keys:
        channel, _, ts = key.partition("/")
        params = {"channel": channel, "ts": ts, "oldest": ts, "latest": ts, "inclusive": "true"}
        response = yield from ask(call("conversations.replies", {**params, "limit": PAGE}))
        if code_of(response) == "thread_not_found":
            gone.append(key)
        elif code := code_of(response):
            raise not_shown(code)
        else:
            said = [row for row in response.json["messages"] if row["ts"] == ts]
            found += [{**row, "channel_id": channel} for row in said]
    yield Page(found, Checkpoint(), deleted=gone)
