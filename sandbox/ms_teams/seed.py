"""What is in a new person's Microsoft Teams, and what happens there when a change is ordered."""

from collections.abc import Container, Iterable, Iterator
from datetime import datetime, timedelta
from random import Random
from uuid import UUID

from sandbox._microsoft.odata import Feed
from sandbox._microsoft.subscriptions import Changed
from sandbox.kernel.data import JOBS, TOPICS, firm, moment, person, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.ms_teams.store import (
    EPOCH,
    MILLISECOND,
    Channel,
    Chat,
    Message,
    Rooms,
    Team,
    described_channel,
    described_team,
    in_channel,
    in_chat,
    milliseconds,
    previewed,
)

STREAMS = ("teams", "channels", "channel_messages", "message_replies", "chats", "chat_messages")
REPLY_SHARE, CHAT_SHARE = 0.6, 0.6
TEAMS, CHATS = 3, 4
REACTIONS = ("like", "heart", "laugh", "surprised")
# So long back the first messages of all channels were written: an id is unique in a channel only.
OLDEST = timedelta(days=400)
MUTATIONS = Mutations[Rooms](
    settable={
        "teams": ("displayName", "description"),
        "channels": ("displayName", "description", "team_id", "membershipType"),
        "channel_messages": ("text", "subject", "importance", "channel"),
        "message_replies": ("text", "importance", "message"),
        "chats": ("topic",),
        "chat_messages": ("text", "importance", "chat"),
    },
    unknown=404,
)


def new(seed: Seed) -> Rooms:
    """Teams and chats with about so many messages in channels, half of them in one."""
    rooms = Rooms(seed.shared, seed.clock, seed.tell)
    if not seed.size:
        return rooms
    random, now = seed.random, seed.clock.now()
    for _ in range(TEAMS):
        team = _new_team(rooms, random)
        for _ in range(random.randint(1, 2)):
            _new_channel(rooms, team, random)
    for _ in range(CHATS):
        _new_chat(rooms, random)
    channels, chats = list(rooms.channels()), list(rooms.chats.values())
    threads: list[tuple[Channel, Message]] = []
    for number in range(seed.size):
        channel = random.choices(channels, [len(channels), *(1 for _ in channels[1:])])[0]
        at = now - OLDEST if not channel.messages else moment(random, now)
        threads.append((channel, _write(rooms, random, at, channel)))
        if number < seed.size * REPLY_SHARE:
            channel, above = random.choice(threads)
            at = moment(random, now, max(1, (now - above.created_at).days))
            _write(rooms, random, max(at, above.created_at + MILLISECOND), channel, above)
        if number < seed.size * CHAT_SHARE:
            chat = random.choices(chats, [len(chats), *(1 for _ in chats[1:])])[0]
            _write(rooms, random, moment(random, now), chat)
    for channel in channels:
        for message in channel.messages.values():
            channel.feed.put(message.id, {"id": message.id})
    return rooms


def store(rooms: Rooms, stream: str) -> dict[str, Json]:
    """The live records; those below another name it, as their own form does not."""
    match stream:
        case "teams":
            return {team.id: described_team(team) for team in rooms.teams.values()}
        case "channels":
            return {
                f"{one.team_id}/{one.id}": {**described_channel(one), "team_id": one.team_id}
                for one in rooms.channels()
            }
        case "channel_messages":
            return {
                f"{one.team_id}/{one.id}/{message.id}": {**in_channel(one, message), **_of(one)}
                for one in rooms.channels()
                for message in one.messages.values()
                if not message.deleted_at
            }
        case "message_replies":
            return {
                f"{one.team_id}/{one.id}/{above.id}/{reply.id}": {
                    **in_channel(one, reply, above), **_of(one), "message_id": above.id,
                }
                for one in rooms.channels()
                for above in one.messages.values()
                for reply in above.replies.values()
                if not reply.deleted_at
            }  # fmt: skip
        case "chats":
            return {chat.id: previewed(rooms, chat) for chat in rooms.chats.values()}
        case _:
            return {
                f"{chat.id}/{message.id}": {**in_chat(chat, message), "chat_id": chat.id}
                for chat in rooms.chats.values()
                for message in chat.messages.values()
                if not message.deleted_at
            }


def _of(channel: Channel) -> Json:
    return {"team_id": channel.team_id, "channel_id": channel.id}


@MUTATIONS.of("teams")
def _change_team(rooms: Rooms, change: Change) -> str:
    if change.op == "add":
        team = _new_team(rooms, change.random)
        _begin(rooms, change.random, next(iter(team.channels.values())))
    else:
        team = rooms.teams[_there(change.id, rooms.teams)]
    if change.op == "delete":
        _not_the_first(team.id, rooms.teams)
        del rooms.teams[team.id]
    else:
        _rename(team, change)
    return team.id


@MUTATIONS.of("channels")
def _change_channel(rooms: Rooms, change: Change) -> str:
    if change.op == "add":
        team_id = str(change.record.get("team_id") or _any(rooms.teams, change.random))
        team = rooms.teams[_there(team_id, rooms.teams)]
        kind = str(change.record.get("membershipType", ""))
        channel = _new_channel(rooms, team, change.random, kind=kind)
        _begin(rooms, change.random, channel)
    else:
        team_id, _, channel_id = str(change.id).partition("/")
        team = rooms.teams[_there(team_id, rooms.teams)]
        channel = team.channels[_there(channel_id, team.channels)]
    if change.op == "delete":
        _not_the_first(channel.id, team.channels)
        del team.channels[channel.id]
    else:
        _rename(channel, change)
    return f"{team.id}/{channel.id}"


def _begin(rooms: Rooms, random: Random, channel: Channel) -> None:
    """A channel opens with a message."""
    _tell(rooms, channel, _write(rooms, random, rooms.clock.now(), channel), None, "add")


def _rename(what: Team | Channel, change: Change) -> None:
    named = {**change.record}
    if not named and change.op == "change":
        named["displayName"] = _title(change.random)
    what.name = str(named.get("displayName", what.name))
    what.description = str(named.get("description", what.description))


@MUTATIONS.of("channel_messages")
def _change_message(rooms: Rooms, change: Change) -> str:
    if change.op == "add":
        channel = _channel(rooms, change.record.get("channel"), change.random)
        message = _write(rooms, change.random, rooms.clock.now(), channel)
        _set(message, change.record)
    else:
        where, _, id_ = str(change.id).rpartition("/")
        channel = _channel(rooms, where, change.random)
        message = channel.messages[_there(id_, channel.messages)]
        _alter(rooms, message, change)
    _tell(rooms, channel, message, None, change.op)
    return f"{channel.team_id}/{channel.id}/{message.id}"


@MUTATIONS.of("message_replies")
def _change_reply(rooms: Rooms, change: Change) -> str:
    if change.op == "add":
        named = str(change.record.get("message") or _any(_messages(rooms), change.random))
        where, _, above_id = named.rpartition("/")
    else:
        thread, _, id_ = str(change.id).rpartition("/")
        where, _, above_id = thread.rpartition("/")
    channel = _channel(rooms, where, change.random)
    above = channel.messages[_there(above_id, channel.messages)]
    if change.op == "add":
        reply = _write(rooms, change.random, rooms.clock.now(), channel, above)
        _set(reply, change.record)
    else:
        reply = above.replies[_there(id_, above.replies)]
        _alter(rooms, reply, change)
    _tell(rooms, channel, reply, above, change.op)
    return f"{channel.team_id}/{channel.id}/{above.id}/{reply.id}"


@MUTATIONS.of("chats")
def _change_chat(rooms: Rooms, change: Change) -> str:
    if change.op == "add":
        chat = _new_chat(rooms, change.random)
        chat.topic = str(change.record.get("topic", chat.topic))
        chat.created_at = chat.updated_at = rooms.clock.now()
        _write(rooms, change.random, rooms.clock.now(), chat)
        return chat.id
    chat = rooms.chats[_there(change.id, rooms.chats)]
    if change.op == "delete":
        _not_the_first(chat.id, rooms.chats)
        del rooms.chats[chat.id]
    else:
        chat.topic = str(change.record.get("topic") or _title(change.random))
        chat.updated_at = rooms.clock.after(chat.updated_at)
    return chat.id


@MUTATIONS.of("chat_messages")
def _change_chat_message(rooms: Rooms, change: Change) -> str:
    if change.op == "add":
        chat_id = str(change.record.get("chat") or _any(rooms.chats, change.random))
        chat = rooms.chats[_there(chat_id, rooms.chats)]
        message = _write(rooms, change.random, rooms.clock.now(), chat)
        _set(message, change.record)
    else:
        chat_id, _, id_ = str(change.id).rpartition("/")
        chat = rooms.chats[_there(chat_id, rooms.chats)]
        message = chat.messages[_there(id_, chat.messages)]
        _alter(rooms, message, change)
    _notify(rooms, f"chats('{chat.id}')/messages('{message.id}')", message.id, change.op)
    return f"{chat.id}/{message.id}"


def _there(id_: str | None, known: Container[str]) -> str:
    if id_ is None or id_ not in known:
        raise RefusedError(f"there is no {id_!r}")
    return id_


def _not_the_first(id_: str, known: Iterable[str]) -> None:
    """The first of a kind has half of all messages: it stays."""
    if id_ == next(iter(known)):
        raise RefusedError("the person may not leave it", status=409)


def _channel(rooms: Rooms, where: object, random: Random) -> Channel:
    places = [f"{one.team_id}/{one.id}" for one in rooms.channels()]
    team_id, _, channel_id = str(where or _any(places, random)).partition("/")
    team = rooms.teams[_there(team_id, rooms.teams)]
    return team.channels[_there(channel_id, team.channels)]


def _any(known: Iterable[str], random: Random) -> str:
    ids = list(known)
    if not ids:
        raise RefusedError("there is nowhere to put it")
    return random.choice(ids)


def _messages(rooms: Rooms) -> Iterator[str]:
    for channel in rooms.channels():
        for message in channel.messages:
            yield f"{channel.team_id}/{channel.id}/{message}"


def _set(message: Message, record: Json) -> None:
    message.text = str(record.get("text", message.text))
    message.subject = record.get("subject", message.subject)
    message.importance = str(record.get("importance", message.importance))


def _alter(rooms: Rooms, message: Message, change: Change) -> None:
    """An edit, a reaction, or a delete: the message stays, without its text."""
    if message.deleted_at:
        raise RefusedError("the message is deleted", status=409)
    message.modified_at = rooms.clock.after(message.modified_at)
    if change.op == "delete":
        message.deleted_at = message.modified_at
    elif change.record:
        _set(message, change.record)
        message.edited_at = message.modified_at
    elif change.random.random() < 0.4:
        kind = change.random.choice(REACTIONS)
        user = {"user": _author(change.random)}
        message.reactions.append({"reactionType": kind, "user": user})
    else:
        message.text = f"{sentence(change.random)} ({change.random.getrandbits(24):x})"
        message.edited_at = message.modified_at


def _tell(rooms: Rooms, channel: Channel, one: Message, above: Message | None, op: str) -> None:
    """To the channel's delta, as a change of the whole thread, and to who watches the channel."""
    top = above or one
    channel.feed.put(top.id, {"id": top.id})
    path = f"teams('{channel.team_id}')/channels('{channel.id}')/messages('{top.id}')"
    _notify(rooms, f"{path}/replies('{one.id}')" if above else path, one.id, op)


def _notify(rooms: Rooms, path: str, id_: str, op: str) -> None:
    kinds = {"add": "created", "change": "updated", "delete": "deleted"}
    data = {"id": id_, "@odata.type": "#Microsoft.Graph.chatMessage", "@odata.id": path}
    rooms.tell(Changed(kinds[op], path, data))


def _new_team(rooms: Rooms, random: Random) -> Team:
    """A team with its general channel."""
    team = Team(_uuid(random), f"{firm(random)} {random.choice(JOBS)}s", sentence(random))
    rooms.teams[team.id] = team
    _new_channel(rooms, team, random, name="General")
    return team


def _new_channel(
    rooms: Rooms, team: Team, random: Random, name: str = "", kind: str = ""
) -> Channel:
    channel = Channel(
        id=f"19:{random.getrandbits(128):032x}@thread.tacv2",
        team_id=team.id,
        name=name or _title(random),
        description=sentence(random),
        created_at=rooms.clock.now() - OLDEST,
        kind=kind or ("standard" if name or random.random() < 0.7 else "private"),
        feed=Feed(rooms.clock, refusal=rooms.refusal),
    )
    team.channels[channel.id] = channel
    return channel


def _new_chat(rooms: Rooms, random: Random) -> Chat:
    at = rooms.clock.now() - OLDEST
    if random.random() < 0.5:
        id_ = f"19:{rooms.person.id}_{_uuid(random)}@unq.gbl.spaces"
        chat = Chat(id_, "oneOnOne", None, at, at)
    else:
        id_ = f"19:{random.getrandbits(128):032x}@thread.v2"
        chat = Chat(id_, "group", _title(random), at, at)
    rooms.chats[chat.id] = chat
    return chat


def _write(
    rooms: Rooms, random: Random, at: datetime, place: Channel | Chat, above: Message | None = None
) -> Message:
    """A new message. Its id is its time in milliseconds, which no other of its place has."""
    taken = {one.id for one in place.everything()} if isinstance(place, Channel) else place.messages
    number = milliseconds(at)
    while str(number) in taken:
        number += 1
    at = EPOCH + number * MILLISECOND
    important = "normal" if random.random() < 0.8 else "high"
    message = Message(str(number), _author(random), sentence(random), at, at, importance=important)
    if isinstance(place, Channel) and above is None and random.random() < 0.4:
        message.subject = random.choice(TOPICS).capitalize()
    (place.messages if above is None else above.replies)[message.id] = message
    return message


def _author(random: Random) -> Json:
    first, last = person(random)
    return {
        "id": _uuid(random), "displayName": f"{first} {last}", "userIdentityType": "aadUser"
    }  # fmt: skip


def _title(random: Random) -> str:
    return f"{random.choice(TOPICS).capitalize()} {random.getrandbits(20)}"


def _uuid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))
