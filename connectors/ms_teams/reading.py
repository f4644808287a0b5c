"""Microsoft Teams read place by place: which teams, channels and chats there are, and a round
through what each of them holds.

https://learn.microsoft.com/graph/api/chatmessage-delta
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    ListedKeys,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
)
from connectors._microsoft import NEXT, REFUSED, changes, get_page, onward
from connectors._microsoft.watches import iso
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.paging import onward as further
from connectors.kernel.parts import OF_A_PART, Listing, Parts, each_part
from connectors.kernel.positions import Position
from connectors.kernel.versions import parse_time

TEAMS, CHATS = "/me/joinedTeams", "/me/chats"
# The most that Graph gives of messages, and of chats (the latter by what clients ask for, 2026-11).
PAGE = 50
LIST_OF_CHATS = Request.get(CHATS, params={"$top": PAGE})
# So many replies come with a message; the others by a link.
EXPANDED = 1000
# Messages that are read again by their keys.
AT_ONCE = 20
# What was stamped so long before the last round is read again: clocks differ, and changes show
# late.
LOOKBACK = timedelta(minutes=5)
# A little less than the eight months that a delta reaches back.
REACH = timedelta(days=240)
# The budget of what is counted for any one team or channel.
IN_TEAMS = "teams"
MODIFIED = "lastModifiedDateTime"


@dataclass(frozen=True, kw_only=True)
class _Channels(Position):
    """The channels of a team that were there at the last look."""

    ids: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _Feed(Position):
    """Where a channel's delta stands between rounds, at a `link`. In a round `next` is that of the
    next page; in the first listing `listed` is that of the delta which follows it."""

    link: str | None = None
    next_: str | None = None
    listed: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Since(Position):
    """Since when changes are read; in a round, the link of the `next` page and when it `began`."""

    since: str | None = None
    next_: str | None = None
    began: str | None = None


# -- Teams, channels and chats --------------------------------------------------------------------


def teams() -> Calls[list[str]]:
    """The ids of the teams that the person is in. OData parameters are not taken here."""
    return [team["id"] for team in (yield from _all(Request.get(TEAMS)))]


def chats() -> Calls[list[str]]:
    return [chat["id"] for chat in (yield from _all(LIST_OF_CHATS))]


def chats_if_allowed() -> Calls[list[str]]:
    """None where we may not read chats."""
    answer = yield from ask(replace(LIST_OF_CHATS, expect=(403,)))
    if answer.status == 403:
        return []
    return [chat["id"] for chat in (yield from _all(LIST_OF_CHATS, answer))]


def listed_channels(context: Context) -> Steps[Parts]:
    """The channels of all teams, as `team/channel`; of a team that shows none now, the former."""
    found, unlisted = yield from _channels_of_all()

    def check(former: Sequence[str]) -> Calls[Parts]:
        present: list[str] = []
        kept: list[str] = []
        for channel in former:
            if channel.partition("/")[0] in unlisted:
                kept.append(channel)
                continue
            there = yield from channel_again(channel)
            if there is not None:
                (kept if there is ARCHIVED else present).append(channel)
        return Parts(present, kept)

    return Parts(found, hidden=True, check=check)


def channels() -> Calls[list[str]]:
    """The channels of all teams that show them, as `team/channel`."""
    found, _ = yield from _channels_of_all()
    return found


def _channels_of_all() -> Calls[tuple[list[str], set[str]]]:
    """All channels, and the teams that the person is in and that do not show theirs now. If none
    does, its refusal is raised: it is the permission that is gone."""
    found: list[str] = []
    unlisted: set[str] = set()
    refusal: ConnectorError | None = None
    team_ids = yield from teams()
    for team in team_ids:
        try:
            rows = yield from channels_of(team)
        except OF_A_PART as error:
            unlisted.add(team)
            refusal = error
        else:
            found += [channel_key(row) for row in rows]
    if refusal is not None and len(unlisted) == len(team_ids):
        raise refusal
    return found, unlisted


def channels_of(team: str) -> Calls[list[Record]]:
    """The channels of a team, each with the team's id."""
    request = Request.get(f"/teams/{quoted(team)}/channels", budget=IN_TEAMS)
    return [{**plain(row), "team_id": team} for row in (yield from _all(request))]


# A channel that is not shown since its team is archived.
ARCHIVED: Record = {}


def channel_again(channel: str) -> Calls[Record | None]:
    """A channel that is listed no more, asked for by its id: None if it is gone.

    The list of an archived team's channels lacks the private ones (microsoft-graph-docs#9758,
    2020-09; #17306, 2022-06): people still see them in Teams.
    """
    team = channel.partition("/")[0]
    answer = yield from ask(Request.get(path_of(channel), expect=REFUSED, budget=IN_TEAMS))
    if answer.status == 200:
        return {**plain(answer.json), "team_id": team}
    of_team = yield from ask(Request.get(f"/teams/{quoted(team)}", expect=REFUSED, budget=IN_TEAMS))
    archived = of_team.status == 200 and of_team.json.get("isArchived")
    return ARCHIVED if archived else None


def read_channels(team: str) -> Read:
    """The channels of one team: no delta tells of them, so all are listed."""

    def read(at: Checkpoint, context: Context) -> Reader:
        rows = yield from channels_of(team)
        listed = {row["id"] for row in rows}
        kept = []
        for id_ in _Channels.of(at).ids:
            if id_ in listed:
                continue
            there = yield from channel_again(f"{team}/{id_}")
            if there is ARCHIVED:
                kept.append(id_)
            elif there is not None:
                rows.append(there)
        ids = [row["id"] for row in rows] + kept
        listed_keys = ListedKeys(f"{team}/", [f"{team}/{id_}" for id_ in ids], context.now)
        yield Page(rows, _Channels(ids=ids).saved(), listed_keys=[listed_keys])

    return read


def listed_teams(context: Context) -> Steps[Parts]:
    return Parts((yield from teams()), hidden=True)


def listed_chats(context: Context) -> Steps[Parts]:
    return Parts((yield from chats()), hidden=True, check=_chats_again)


def _chats_again(former: Sequence[str]) -> Calls[Parts]:
    """Chats that are listed no more: some with people of other organisations are in no list, and
    their messages are given all the same (microsoft-graph-docs#12259, 2021-04)."""
    present: list[str] = []
    for chat in former:
        answer = yield from ask(Request.get(in_chat(chat), params={"$top": 1}, expect=REFUSED))
        if answer.status == 200:
            present.append(chat)
    return Parts(present)


def _all(request: Request, answer: Response | None = None) -> Calls[list[Record]]:
    """The rows of every page; the first answer may be there already."""
    response: Response = answer or (yield from ask(request))
    found, link = rows_of(response, "value"), request.path
    while following := response.json.get(NEXT):
        link = further(link, following)
        response = yield from ask(Request.get(link, budget=request.budget))
        found = [*found, *rows_of(response, "value")]
    return found


# -- Messages -------------------------------------------------------------------------------------


def by_part(listing: Listing, read: Callable[[str], Read]) -> Read:
    """Reads what each place holds. Microsoft reports every delete in a record, so a link which has
    lapsed starts its place over, and nothing else. Every key of a record begins with its place."""
    walk = each_part(listing, read, prefix=lambda place: f"{place}/", alone=True)

    def reader(at: Checkpoint, context: Context) -> Reader:
        if "allowed" in at or (at and "parts" not in at):
            raise CheckpointExpiredError("this checkpoint is of a former version of ours")
        yield from walk(at, context)

    return reader


def messages_of_channel(channel: str) -> Read:
    """What a channel's delta tells since its link; of a new channel all there is.

    A delta reaches back eight months. So the messages of a new channel are listed, once a link is
    taken that leads on from now.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        here, followed = _Feed.of(at), Followed()
        if here.listed is None:
            since = {"$filter": f"{MODIFIED} gt {iso(context.now - LOOKBACK)}"}
            ended, place = False, here.next_ or here.link
            while not ended:
                followed.add(place)
                response = yield from get_page(_messages(channel, "/delta", since), place)
                page = _channel_page(channel, response)
                place, ended = onward(response, place)
                if not ended:
                    saved = _Feed(link=here.link, next_=place)
                elif here.link is not None:
                    saved = _Feed(link=place)
                else:
                    saved = _Feed(listed=place)
                yield replace(page, checkpoint=saved.saved())
            if here.link is not None:
                return
            here = saved
        while True:
            followed.add(here.next_)
            response = yield from get_page(_messages(channel, ""), here.next_)
            page = _channel_page(channel, response)
            here = replace(here, next_=next_page(response, here.next_))
            if not here.next_:
                yield replace(page, checkpoint=_Feed(link=here.listed).saved())
                return
            yield replace(page, checkpoint=here.saved())

    return read


def _channel_page(channel: str, response: Response) -> Page:
    rows, gone = changes(response, is_deleted)
    records = [in_channel(channel, row) for row in rows]
    return Page(records, Checkpoint(), deleted=[f"{channel}/{id_}" for id_ in gone])


def replies_of_channel(channel: str) -> Read:
    """The replies to all messages of a new channel, then those of threads in which something
    changed: this filter finds a thread by its replies, too. Replies come only where expanded."""

    def request(since: str | None, context: Context) -> Request:
        function, params = "", {"$expand": "replies"}
        if since is not None and parse_time(since) > context.now - REACH:
            function, params["$filter"] = "/delta", f"{MODIFIED} gt {since}"
        return _messages(channel, function, params)

    def rows(response: Response) -> Steps[list[Record]]:
        found: list[Record] = []
        for message in rows_of(response, "value"):
            replies, link = list(message["replies"]), message.get(f"replies{NEXT}")
            if not link and len(replies) >= EXPANDED:
                # The link is missing now and then (microsoft-graph-docs-contrib#8819, 2023-11).
                path = replies_at(channel, message["id"])
                request = Request.get(path, params={"$top": PAGE}, budget=IN_TEAMS)
                replies = yield from _all(request)
            while link:
                answer = yield from ask(Request.get(link, budget=IN_TEAMS))
                replies += rows_of(answer, "value")
                following = answer.json.get(NEXT)
                link = further(link, following) if following else None
            found += [in_thread(channel, message["id"], row) for row in replies]
        return found

    return _since(request, rows, reply_key)


def messages_of_chat(chat: str) -> Read:
    """A chat's messages that changed. Without an order by the same time a filter would be passed
    over without a word, and all would come back."""

    def request(since: str | None, context: Context) -> Request:
        params: dict[str, str | int] = {"$top": PAGE, "$orderby": f"{MODIFIED} desc"}
        if since is not None:
            params["$filter"] = f"{MODIFIED} gt {since}"
        return Request.get(in_chat(chat), params=params)

    def rows(response: Response) -> Steps[list[Record]]:
        yield from ()
        return [of_chat(chat, row) for row in rows_of(response, "value")]

    return _since(request, rows, chat_message_key)


def _since(
    request: Callable[[str | None, Context], Request],
    rows: Callable[[Response], Steps[list[Record]]],
    key: Callable[[Record], str],
) -> Read:
    """Reads what changed since a time, page by page."""

    def read(at: Checkpoint, context: Context) -> Reader:
        here, followed = _Since.of(at), Followed()
        began = parse_time(here.began) if here.began else context.now
        here = replace(here, began=iso(began))
        while True:
            followed.add(here.next_)
            response = yield from get_page(request(here.since, context), here.next_)
            found = yield from rows(response)
            records = [row for row in found if not is_deleted(row)]
            deleted = [key(row) for row in found if is_deleted(row)]
            here = replace(here, next_=next_page(response, here.next_))
            if here.next_ is None:
                ended = _Since(since=iso(began - LOOKBACK))
                yield Page(records, ended.saved(), deleted=deleted)
                return
            yield Page(records, here.saved(), deleted=deleted)

    return read


class Followed:
    """The links that one read of a place has followed. One that leads back to a page that was read
    before has no end (microsoft-graph-docs#12995, 2021-06; #21096, 2023-04)."""

    def __init__(self) -> None:
        self._links: set[str] = set()

    def add(self, link: str | None) -> None:
        if link is not None and link in self._links:
            raise ContractError("Microsoft's next link leads back to a page that was read before")
        self._links |= {link} if link else set()


def next_page(response: Response, here: str | None) -> str | None:
    """The link to the next page, None at the end: a page without rows that leads to itself is one,
    too (microsoft-graph-docs#8057, 2020-05)."""
    following = response.json.get(NEXT)
    ended = not following or (following == here and not rows_of(response, "value"))
    return None if ended else str(following)


def replies_at(channel: str, message: str) -> str:
    return f"{path_of(channel)}/messages/{quoted(message)}/replies"


def in_chat(chat: str) -> str:
    return f"/chats/{quoted(chat)}/messages"


def _messages(channel: str, function: str, params: Mapping[str, str] | None = None) -> Request:
    path = f"{path_of(channel)}/messages{function}"
    return Request.get(path, params={"$top": PAGE, **(params or {})}, budget=IN_TEAMS)


def path_of(channel: str) -> str:
    """The path of a channel named as `team/channel`."""
    team, _, id_ = channel.partition("/")
    return f"/teams/{quoted(team)}/channels/{quoted(id_)}"


def quoted(id_: str) -> str:
    return quote(id_, safe="")


# -- Records --------------------------------------------------------------------------------------


def is_deleted(message: Record) -> bool:
    """Microsoft reports a deleted message as a record, whose text may be gone or not."""
    return message.get("deletedDateTime") is not None


def plain(value: Any) -> Any:
    """Without what is about the answer: one and the same message comes with more of it by a delta
    than by its id. Replies are records of their own."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if "@odata" not in name}
        return {name: plain(one) for name, one in kept.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def in_channel(channel: str, row: Record) -> Record:
    """A message with its channel: its id is unique there only."""
    team_id, _, channel_id = channel.partition("/")
    message = {name: value for name, value in plain(row).items() if name != "replies"}
    return {**message, "team_id": team_id, "channel_id": channel_id}


def in_thread(channel: str, message_id: str, row: Record) -> Record:
    return {**in_channel(channel, row), "message_id": message_id}


def of_chat(chat: str, row: Record) -> Record:
    return {**plain(row), "chat_id": chat}


def channel_key(channel: Record) -> str:
    return f"{channel['team_id']}/{channel['id']}"


def message_key(message: Record) -> str:
    return f"{message['team_id']}/{message['channel_id']}/{message['id']}"


def reply_key(reply: Record) -> str:
    return f"{reply['team_id']}/{reply['channel_id']}/{reply['message_id']}/{reply['id']}"


def chat_message_key(message: Record) -> str:
    return f"{message['chat_id']}/{message['id']}"
