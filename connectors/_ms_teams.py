"""Microsoft Teams read place by place: which teams, channels and chats there are, and a round
through what each of them holds.

https://learn.microsoft.com/graph/api/chatmessage-delta
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Context,
    NotAllowedError,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Whole,
)
from connectors._microsoft import NEXT, REFUSED, changes, follow, onward
from connectors._microsoft_watches import iso
from connectors._paging import onward as further
from connectors._paging import rows_of
from connectors._versions import parse_time

TEAMS, CHATS = "/me/joinedTeams", "/me/chats"
# The most that Graph gives of messages, and of chats (the latter by what clients ask for, 2026-11).
PAGE = 50
LIST_OF_CHATS = Request.get(CHATS, params={"$top": PAGE})
# Teams whose channels are one page, and messages that are read again by their keys.
AT_ONCE = 20
# What was stamped so long before the last round is read again: clocks differ, and changes show
# late.
LOOKBACK = timedelta(minutes=5)
# A little less than the eight months that a delta reaches back.
REACH = timedelta(days=240)
# The budget of what is counted for any one team or channel.
IN_TEAMS = "teams"
MODIFIED = "lastModifiedDateTime"
NOT_ALLOWED = (
    "Microsoft Teams lets us read none of it (403): an administrator of the organisation has not "
    "allowed our app to, or took that back"
)


@dataclass(frozen=True)
class Told:
    """What an answer tells of a place. `at` is where to go on in it, None at its end: then `kept`
    is what its next round begins with. One that is a refusal tells nothing."""

    records: Sequence[Record] = ()
    deleted: Sequence[str] = ()
    at: Mapping[str, Any] | None = None
    kept: Any = None
    refusal: Response | None = None


@dataclass(frozen=True)
class Here:
    """A place, what its last round kept, where this one stands in it, and when it began."""

    place: str
    kept: Any
    at: Mapping[str, Any] | None
    began: datetime


Step: TypeAlias = Callable[[Here], Generator[Any, Any, Told]]
Places: TypeAlias = Callable[[], Generator[Any, Any, list[str]]]


def of_each(places: Places, step: Step) -> Callable[[Checkpoint, Context], Reader]:
    """Reads what each place holds, one place after the other.

    `places` returns the keys of those there are, and `step` takes one of them an answer further.
    Every key of a record begins with its place: with a place goes what was read of it.
    """

    def read(at: Checkpoint, context: Context) -> Reader:
        kept: dict[str, Any] = dict(at.get("kept", {}))
        began = parse_time(at["began"]) if "began" in at else context.now
        todo, place_at, allowed = at.get("todo"), at.get("at"), at.get("allowed", False)
        lapsed: set[str] = set()

        def saved() -> Checkpoint:
            if not todo:
                return Checkpoint(kept=dict(kept))
            here = {"at": dict(place_at)} if place_at else {}
            run = {"todo": list(todo), "began": iso(began), "allowed": allowed, **here}
            return Checkpoint(kept=dict(kept), **run)

        if todo is None:
            todo = yield from places()
            left = sorted(kept.keys() - set(todo))
            kept = {place: kept[place] for place in todo if place in kept}
            yield Page((), saved(), whole=[_emptied(place, context.now) for place in left])
        while todo:
            here = Here(todo[0], kept.get(todo[0]), place_at, began)
            try:
                told = yield from step(here)
            except CheckpointExpiredError:
                if here.place in lapsed:
                    raise
                # Every delete is told in a record: only this place is read again. If its link has
                # lapsed as well, from nothing.
                if place_at is None:
                    del kept[here.place]
                else:
                    lapsed.add(here.place)
                place_at = None
                continue
            if told.refusal is None:
                allowed, place_at = True, told.at
                if place_at is None:
                    kept[here.place], todo = told.kept, todo[1:]
                yield Page(told.records, saved(), deleted=told.deleted)
                continue
            if told.refusal.status == 403 and not allowed:
                yield from _any_allowed(step, todo[1:], began)
            kept.pop(here.place, None)
            todo, place_at = todo[1:], None
            yield Page((), saved(), whole=[_emptied(here.place, told.refusal.sent_at)])

    return read


def _any_allowed(step: Step, places: Sequence[str], began: datetime) -> Generator[Any, Any, None]:
    """A place that refuses us is one that the person has left. If all do, it is the permission that
    is gone, and what we hold has to stay: NotAllowedError."""
    for place in places:
        told = yield from step(Here(place, None, None, began))
        if told.refusal is None:
            return
    raise NotAllowedError(NOT_ALLOWED)


def _emptied(place: str, at: datetime) -> Whole:
    return Whole(f"{place}/", (), at)


# -- Teams, channels and chats --------------------------------------------------------------------


def teams() -> Generator[Any, Any, list[str]]:
    """The ids of the teams that the person is in. OData parameters are not taken here."""
    return [team["id"] for team in (yield from _all(Request.get(TEAMS)))]


def chats() -> Generator[Any, Any, list[str]]:
    return [chat["id"] for chat in (yield from _all(LIST_OF_CHATS))]


def chats_if_allowed() -> Generator[Any, Any, list[str]]:
    """None where we may not read chats."""
    answer = yield replace(LIST_OF_CHATS, expect=(403,))
    if answer.status == 403:
        return []
    return [chat["id"] for chat in (yield from _all(LIST_OF_CHATS, answer))]


def channels() -> Generator[Any, Any, list[str]]:
    """The channels of all teams, as `team/channel`."""
    todo, allowed, found = (yield from teams()), False, []
    while todo:
        rows, allowed = yield from channels_of(todo[:AT_ONCE], allowed=allowed)
        found += [channel_key(row) for row in rows]
        todo = todo[AT_ONCE:]
    return found


def channels_of(
    team_ids: Sequence[str], *, allowed: bool
) -> Generator[Any, Any, tuple[list[Record], bool]]:
    """The channels of these teams, each with the id of its team; and whether any team shows its
    own. A team that does not is one that the person has left, unless none does."""
    found: list[Record] = []
    answers: list[Response] = []
    for team in team_ids:
        answers.append((yield _channels(team)))
    allowed = allowed or any(answer.status != 403 for answer in answers)
    if not allowed:
        raise NotAllowedError(NOT_ALLOWED)
    for team, answer in zip(team_ids, answers, strict=True):
        if answer.status not in REFUSED:
            rows = yield from _all(_channels(team), answer)
            found += [{**plain(row), "team_id": team} for row in rows]
    return found, allowed


def _channels(team: str) -> Request:
    return Request.get(f"/teams/{quoted(team)}/channels", expect=REFUSED, budget=IN_TEAMS)


def _all(request: Request, answer: Response | None = None) -> Generator[Any, Any, list[Record]]:
    """The rows of every page; the first answer may be there already."""
    response: Response = answer or (yield request)
    found, link = rows_of(response, "value"), request.path
    while following := response.json.get(NEXT):
        link = further(link, following)
        response = yield Request.get(link, budget=request.budget)
        found = [*found, *rows_of(response, "value")]
    return found


# -- Messages -------------------------------------------------------------------------------------


def messages_of_channel(here: Here) -> Generator[Any, Any, Told]:
    """What a channel's delta tells since its link; of a new channel all there is.

    A delta reaches back eight months. So the messages of a new channel are listed, once a link is
    taken that leads on from now.
    """
    channel, link = here.place, here.kept
    if here.at and "listed" in here.at:
        link = here.at["listed"]
        response = yield from _answer(_messages(channel, ""), here.at.get("next"))
    else:
        since = {"$filter": f"{MODIFIED} gt {iso(here.began - LOOKBACK)}"}
        on = here.at["next"] if here.at else link
        response = yield from _answer(_messages(channel, "/delta", since), on)
    if response.status in REFUSED:
        return Told(refusal=response)
    rows, gone = changes(response, is_deleted)
    records = [in_channel(channel, row) for row in rows]
    deleted = [f"{channel}/{id_}" for id_ in gone]
    if here.at and "listed" in here.at:
        following = response.json.get(NEXT)
        at = {**here.at, "next": following} if following else None
        return Told(records, deleted, at, link)
    following, ended = onward(response, on)
    if not ended:
        return Told(records, deleted, {"next": following})
    if link is None:
        return Told(records, deleted, {"listed": following})
    return Told(records, deleted, kept=following)


def replies_of_channel(here: Here) -> Generator[Any, Any, Told]:
    """The replies to all messages of a new channel, then those of threads in which something
    changed: this filter finds a thread by its replies, too. Replies come only where expanded."""
    channel, function, params = here.place, "", {"$expand": "replies"}
    if here.kept is not None and parse_time(here.kept) > here.began - REACH:
        function, params["$filter"] = "/delta", f"{MODIFIED} gt {here.kept}"
    response = yield from _answer(_messages(channel, function, params), _next(here))
    if response.status in REFUSED:
        return Told(refusal=response)
    found: list[Record] = []
    for message in rows_of(response, "value"):
        rows, link = list(message["replies"]), message.get(f"replies{NEXT}")
        while link:
            answer = yield Request.get(link, budget=IN_TEAMS)
            rows += rows_of(answer, "value")
            following = answer.json.get(NEXT)
            link = further(link, following) if following else None
        found += [in_thread(channel, message["id"], row) for row in rows]
    return _page(here, response, found, reply_key)


def messages_of_chat(here: Here) -> Generator[Any, Any, Told]:
    """A chat's messages that changed. Without an order by the same time a filter would be passed
    over without a word, and all would come back."""
    params: dict[str, str | int] = {"$top": PAGE, "$orderby": f"{MODIFIED} desc"}
    if here.kept is not None:
        params["$filter"] = f"{MODIFIED} gt {here.kept}"
    request = Request.get(f"/chats/{quoted(here.place)}/messages", params=params)
    response = yield from _answer(request, _next(here))
    if response.status in REFUSED:
        return Told(refusal=response)
    rows = [of_chat(here.place, row) for row in rows_of(response, "value")]
    return _page(here, response, rows, chat_message_key)


def _page(
    here: Here, response: Response, rows: Sequence[Record], key: Callable[[Record], str]
) -> Told:
    """A page of what changed since a time."""
    following = response.json.get(NEXT)
    at = {"next": further(_next(here), following)} if following else None
    records = [row for row in rows if not is_deleted(row)]
    deleted = [key(row) for row in rows if is_deleted(row)]
    return Told(records, deleted, at, iso(here.began - LOOKBACK))


def _next(here: Here) -> str | None:
    return here.at["next"] if here.at else None


def _answer(request: Request, link: str | None) -> Generator[Any, Any, Response]:
    """The answer to a request, or to a link that came of it.

    A link that has lapsed and one into a place that is gone look alike (404): without the link, the
    latter is refused again. How a delta's link lapses here is not sure (2026-11).
    """
    if link is None:
        response: Response = yield replace(request, expect=REFUSED)
        return response
    return (yield from follow(replace(request, expect=(403,)), link))


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
    """A deleted message is told of as a record, whose text may be gone or not."""
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
