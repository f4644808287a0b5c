"""Microsoft Teams read place by place: a round through what each channel and chat holds.

https://learn.microsoft.com/graph/api/chatmessage-delta
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
)
from connectors._microsoft import NEXT, changes, get_page, onward
from connectors._microsoft.watches import iso
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.paging import onward as further
from connectors.kernel.parts import Listing, each_part
from connectors.kernel.positions import Position
from connectors.kernel.versions import parse_time
from connectors.ms_teams.places import IN_TEAMS, PAGE, all_rows, in_chat, path_of, plain, quoted

# So many replies come with a message; the others by a link.
EXPANDED = 1000
# Messages that are read again by their keys.
AT_ONCE = 20
# What was stamped so long before the last round is read again: clocks differ, and changes show
# late.
LOOKBACK = timedelta(minutes=5)
# A little less than the eight months that a delta reaches back.
REACH = timedelta(days=240)
MODIFIED = "lastModifiedDateTime"


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
                replies = yield from all_rows(request)
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


def _messages(channel: str, function: str, params: Mapping[str, str] | None = None) -> Request:
    path = f"{path_of(channel)}/messages{function}"
    return Request.get(path, params={"$top": PAGE, **(params or {})}, budget=IN_TEAMS)


# -- Records --------------------------------------------------------------------------------------


def is_deleted(message: Record) -> bool:
    """Microsoft reports a deleted message as a record, whose text may be gone or not."""
    return message.get("deletedDateTime") is not None


def in_channel(channel: str, row: Record) -> Record:
    """A message with its channel: its id is unique there only."""
    team_id, _, channel_id = channel.partition("/")
    message = {name: value for name, value in plain(row).items() if name != "replies"}
    return {**message, "team_id": team_id, "channel_id": channel_id}


def in_thread(channel: str, message_id: str, row: Record) -> Record:
    return {**in_channel(channel, row), "message_id": message_id}


def of_chat(chat: str, row: Record) -> Record:
    return {**plain(row), "chat_id": chat}


def message_key(message: Record) -> str:
    return f"{message['team_id']}/{message['channel_id']}/{message['id']}"


def reply_key(reply: Record) -> str:
    return f"{reply['team_id']}/{reply['channel_id']}/{reply['message_id']}/{reply['id']}"


def chat_message_key(message: Record) -> str:
    return f"{message['chat_id']}/{message['id']}"
