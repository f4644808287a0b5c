"""What people reported of programs that read Slack, played on our reader and our webhooks."""

import json
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    ContractError,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    Record,
    Request,
    Response,
    Stream,
    load,
)
from tests._conformance import Bench
from tests._driving import NOW, Answer, drive, held, response
from tests._vendor import Answer as AppResponse
from tests.reports._line import line

SLACK = load("slack")
USERS, CHANNELS, MESSAGES, REPLIES, MEMBERS = (
    SLACK.stream(name)
    for name in ("users", "channels", "messages", "thread_replies", "channel_members")
)
DAY = timedelta(days=1)


def ts(ago: timedelta, micro: int = 0) -> str:
    return f"{int((NOW - ago).timestamp())}.{micro:06d}"


def said(ago: timedelta, text: str = "hello", **more: Any) -> Record:
    return {"type": "message", "user": "U1", "text": text, "ts": ts(ago), **more}


def thread(ago: timedelta, *replies: timedelta) -> list[Record]:
    """A message and its replies."""
    start = ts(ago)
    parent = said(ago, thread_ts=start, reply_count=len(replies), latest_reply=ts(replies[-1]))
    return [parent, *(said(one, "a reply", thread_ts=start) for one in replies)]


def no(error: str, **more: Any) -> Response:
    return response({"ok": False, "error": error, **more})


def listed(name: str, rows: Iterable[Any], cursor: str = "") -> Response:
    body = {"ok": True, name: list(rows), "response_metadata": {"next_cursor": cursor}}
    return response(body)


class Room:
    """Channels that the app is in, by id, with what is said there. `special` answers first."""

    def __init__(self, talk: dict[str, list[Record]]) -> None:
        self.talk = talk
        self.rows = {one: {"id": one, "name": one.lower(), "is_member": True} for one in talk}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.special: Callable[[str, dict[str, Any]], Response | None] = lambda method, given: None

    def __call__(self, request: Request) -> Response:
        method, given = request.path.strip("/"), dict(request.params)
        self.asked.append((method, given))
        if (answer := self.special(method, given)) is not None:
            # As the client does: what a reader is not to see is raised.
            if error := SLACK.classify(answer):
                raise error
            return answer
        if method == "conversations.list":
            return listed("channels", self.rows.values())
        talk = self.talk[str(given["channel"])]
        if method == "conversations.members":
            return listed("members", sorted({one["user"] for one in talk}))
        if method == "conversations.replies":
            return listed("messages", [one for one in talk if _root(one) == given["ts"]])
        top = [one for one in talk if _root(one) == one["ts"] or _is_broadcast(one)]
        shown = [one for one in top if float(one["ts"]) > float(str(given.get("oldest") or 0))]
        return listed("messages", sorted(shown, key=lambda one: float(one["ts"]), reverse=True))


def _root(message: Record) -> Any:
    return message.get("thread_ts", message["ts"])


def _is_broadcast(message: Record) -> bool:
    return message.get("subtype") == "thread_broadcast"


def told(event: Record, **envelope: Any) -> list[Event]:
    body = {
        "type": "event_callback",
        "event_id": "Ev1",
        "event_time": int(NOW.timestamp()),
        "team_id": "T1",
        "authorizations": [
            {"team_id": "T1", "user_id": "UBOT", "is_bot": True, "is_enterprise_install": False}
        ],
        "event": event,
        **envelope,
    }
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={},
        body=json.dumps(body).encode(), received_at=NOW,
    )  # fmt: skip
    assert SLACK.webhook
    return list(SLACK.webhook.events(delivery))


def applied(stream: Stream, events: list[Event], former: dict[str, Record]) -> dict[str, Record]:
    """What is held of a stream after the events that hold a record or tell of a deletion."""
    found = dict(former)
    for event in events:
        if stream.name not in event.streams:
            continue
        if event.effect is Effect.RECORD and event.record is not None:
            key = stream.key
            found[key(event.record) if callable(key) else event.record[key]] = event.record
        elif event.effect is Effect.DELETED:
            found.pop(event.key, None)
        elif event.effect is Effect.EMPTIED:
            found = {key: row for key, row in found.items() if not key.startswith(event.key)}
    return found


# -- Threads --------------------------------------------------------------------------------------


def test_a_reply_to_an_old_thread_is_found_without_its_event() -> None:
    """onyx-dot-app/onyx#14012 (2026-08): a poll looks for threads in the history of the last
    while. A reply does not move its parent's ts, so one to an older thread never comes. Right: it
    is found by a later read, also when its event was lost."""
    room = Room({"C1": thread(20 * DAY, 19 * DAY)})
    pages = drive(REPLIES.read, room)
    first = held(REPLIES, pages)
    assert first.keys() == {f"C1/{ts(19 * DAY)}"}
    room.talk["C1"] = thread(20 * DAY, 19 * DAY, DAY / 24)
    pages = drive(REPLIES.read, room, pages[-1].checkpoint, now=NOW + DAY)
    later = held(REPLIES, pages, first)
    assert f"C1/{ts(DAY / 24)}" in later


def test_each_reply_is_held_under_the_channel_of_its_thread() -> None:
    """airbytehq/airbyte#32143 (2023-11): of 350 threads in eleven channels 96 came, and many under
    another channel than theirs. Right: all of them, each under its own channel, also where two
    channels have a thread of the same time."""
    room = Room({one: thread(2 * DAY, DAY) for one in ("C1", "C2", "C3")})
    found = held(REPLIES, drive(REPLIES.read, room))
    assert {key: row["channel_id"] for key, row in found.items()} == {
        f"{one}/{ts(DAY)}": one for one in ("C1", "C2", "C3")
    }


def test_a_thread_that_is_gone_leaves_the_others_read() -> None:
    """rusq/slackdump#690 (2026-05): one thread of the history answered thread_not_found, as very
    old ones of free workspaces do, and the archive ended there. Right: the other threads come."""
    room = Room({"C1": [*thread(3 * DAY, 2 * DAY), *thread(2 * DAY, DAY)]})

    def lost(method: str, given: dict[str, Any]) -> Response | None:
        gone = method == "conversations.replies" and given["ts"] == ts(3 * DAY)
        return no("thread_not_found") if gone else None

    room.special = lost
    assert held(REPLIES, drive(REPLIES.read, room)).keys() == {f"C1/{ts(DAY)}"}


async def test_a_connection_that_is_reset_in_a_thread_does_not_end_the_read() -> None:
    """rusq/slackdump#234 (2023-09): the connection was reset while one thread was read, and the
    export ended. Right: the call is made again."""
    talk = thread(2 * DAY, DAY)
    answers = [
        AppResponse(body={"ok": True, "channels": [{"id": "C1", "is_member": True}]}),
        AppResponse(body={"ok": True, "messages": talk[:1]}),
        AppResponse(body={"ok": True}, cut=True),
        AppResponse(body={"ok": True, "messages": talk}),
    ]
    async with line(SLACK, "T1", *answers) as spoken:
        pages = await spoken.read(REPLIES)
    assert held(REPLIES, pages).keys() == {f"C1/{ts(DAY)}"}


def test_threads_are_all_read_whichever_way_the_history_is_paged() -> None:
    """slackhq/slack-api-docs#4 (2014-09): with `oldest` and no `latest`, history answers the
    messages that are nearest to `oldest` first, and goes on towards now; with both it goes back
    from `latest`. Right: every thread is read in either order."""
    room = Room({"C1": [*thread(3 * DAY, DAY / 2), *thread(2 * DAY, DAY / 3)]})
    old, new = room.talk["C1"][0], room.talk["C1"][2]

    def forward(method: str, given: dict[str, Any]) -> Response | None:
        if method != "conversations.history" or "latest" in given:
            return None
        return listed("messages", [new]) if given.get("cursor") else listed("messages", [old], "a")

    room.special = forward
    at = {"since": int((NOW - DAY).timestamp()), "channels": ["C1"]}
    found = held(REPLIES, drive(REPLIES.read, room, at))
    assert found.keys() == {f"C1/{ts(DAY / 2)}", f"C1/{ts(DAY / 3)}"}


def test_a_reply_that_is_told_only_by_its_thread_leads_to_that_reply() -> None:
    """gugu91/pinet#744 (2026-05): a reply came as a hidden message_replied, which tells of its
    parent and at most names the reply, and was dropped. Right: the parent is brought up to date,
    and the reply is read."""
    parent, _ = thread(2 * DAY, DAY / 24)
    hidden = {
        "type": "message", "subtype": "message_replied", "hidden": True, "channel": "C1",
        "message": parent, "ts": ts(DAY / 24, 1), "event_ts": ts(DAY / 24, 1),
    }  # fmt: skip
    events = told(hidden)
    assert applied(MESSAGES, events, {})[f"C1/{ts(2 * DAY)}"]["reply_count"] == 1
    asks = {Effect.HINT, Effect.READ, Effect.MISSED}
    assert any(one.effect in asks and "thread_replies" in one.streams for one in events)


def test_a_reply_has_no_subtype_and_is_one_all_the_same() -> None:
    """slackapi/node-slack-sdk#1019 (2020-05): what the documentation calls message_replied comes
    as a message without subtype, that has a thread_ts. Right: it is held as a reply of its thread,
    and not among the messages of the channel."""
    reply = {**said(DAY, thread_ts=ts(2 * DAY)), "channel": "C1", "channel_type": "channel"}
    events = told(reply)
    assert applied(REPLIES, events, {}).keys() == {f"C1/{ts(DAY)}"}
    assert not applied(MESSAGES, events, {})


def test_an_edited_reply_stays_in_its_thread() -> None:
    """slackapi/java-slack-sdk#774 (2021-07): the message inside a message_changed has a thread_ts
    that programs did not look at. Right: the edit is of the reply, and makes no message."""
    edited = said(DAY, "better", thread_ts=ts(2 * DAY), edited={"user": "U1", "ts": ts(DAY / 2)})
    event = {"type": "message", "subtype": "message_changed", "channel": "C1", "message": edited}
    events = told({**event, "previous_message": said(DAY), "ts": ts(DAY / 2)})
    former = {f"C1/{ts(DAY)}": {**said(DAY, thread_ts=ts(2 * DAY)), "channel_id": "C1"}}
    assert applied(REPLIES, events, former)[f"C1/{ts(DAY)}"]["text"] == "better"
    assert not applied(MESSAGES, events, {})


# -- Deletions ------------------------------------------------------------------------------------


def _grave() -> Record:
    return {
        "type": "message", "subtype": "tombstone", "hidden": True, "user": "USLACKBOT",
        "text": "This message was deleted.", "ts": ts(2 * DAY), "thread_ts": ts(2 * DAY),
        "reply_count": 1, "latest_reply": ts(DAY),
    }  # fmt: skip


def test_the_text_of_a_deleted_parent_is_not_kept() -> None:
    """42wim/matterbridge#600 (2018-11): who deletes a message with replies is told of by a
    message_changed, to one of Slackbot's in its place; the deletion was not passed on. Right: the
    former text is gone, and the replies stay."""
    former = {f"C1/{ts(2 * DAY)}": {**said(2 * DAY, "a secret"), "channel_id": "C1"}}
    event = {"type": "message", "subtype": "message_changed", "channel": "C1", "message": _grave()}
    events = told({**event, "ts": ts(DAY / 2), "hidden": True})
    assert "a secret" not in json.dumps(applied(MESSAGES, events, former))
    replies = {f"C1/{ts(DAY)}": said(DAY)}
    assert applied(REPLIES, events, replies) == replies


def test_a_grave_that_is_deleted_in_turn_is_gone() -> None:
    """slack-edge/slack-edge#10 (2024-01): once the last reply is deleted, too, a message_deleted
    comes whose previous message is the one in the deleted parent's place. Right: its row goes."""
    event = {
        "type": "message", "subtype": "message_deleted", "channel": "C1", "hidden": True,
        "deleted_ts": ts(2 * DAY), "ts": ts(DAY / 2), "channel_type": "channel",
        "previous_message": {**_grave(), "reply_count": 0, "latest_reply": "0000000000.000000"},
    }  # fmt: skip
    former = {f"C1/{ts(2 * DAY)}": {**_grave(), "channel_id": "C1"}}
    assert not applied(MESSAGES, told(event), former)


async def test_messages_that_a_free_plan_hides_are_kept(bench: Bench) -> None:
    """writethedocs/www#1797 (2022-09): Slack's free plans show the messages of the last 90 days
    only (before, the last 10,000); the older ones are hidden, and show again on a paid plan.
    Right: what was read before stays, also after all is read again."""
    tried = await bench.connect(SLACK, size=30)
    assert not await tried.follow(MESSAGES)
    before = tried.stored(MESSAGES)
    tried.order("app", shown_days=90)
    bench.clock.advance(60 * DAY)
    limit = bench.clock.now() - 90 * DAY
    assert any(float(row["ts"]) < limit.timestamp() for row in before.values())
    outcome = await tried.sync(MESSAGES, full=True)
    assert outcome.error is None
    assert tried.stored(MESSAGES).keys() == before.keys()


def test_a_member_whose_profile_was_erased_is_held_without_it() -> None:
    """slack-edge/slack-edge#14 (2024-01): an administrator can deactivate a member, and then erase
    the profile: is_forgotten, which was documented nowhere, and placeholders in place of the
    person's data. Right: what was erased there is gone here."""
    former = {"U1": {"id": "U1", "profile": {"real_name": "Ada Byron"}, "updated": 100}}
    user = {"id": "U1", "deleted": True, "is_forgotten": True, "updated": 100}
    changed = {"type": "user_change", "user": {**user, "profile": {"real_name": "Deactivated"}}}
    (row,) = applied(USERS, told(changed), former).values()
    assert "Ada" not in json.dumps(row)
    assert (USERS.version(row) or 0) >= (USERS.version(former["U1"]) or 0)


# -- Channels -------------------------------------------------------------------------------------


def test_a_channel_that_got_another_id_without_a_word_is_read_under_it() -> None:
    """Netflix/dispatch#560 (2020-09): the id of a private channel changes from G to C when someone
    opens the dialogue to share it; no event tells so. Right: what was said is held under the new
    id, from the start, and no more under the former."""
    room = Room({"G1": [said(40 * DAY), said(DAY)], "C2": [said(DAY)]})
    pages = drive(MESSAGES.read, room)
    first = held(MESSAGES, pages)
    other = Room({"C1": room.talk["G1"], "C2": room.talk["C2"]})
    later = held(MESSAGES, drive(MESSAGES.read, other, pages[-1].checkpoint), first)
    assert later.keys() == {f"C1/{ts(40 * DAY)}", f"C1/{ts(DAY)}", f"C2/{ts(DAY)}"}


def test_private_channels_have_events_of_their_own_and_the_operator_is_told_of_them() -> None:
    """slackapi/bolt-js#1826 (2023-05): channel_rename and channel_deleted come of public channels
    only; of private ones they have other names. Right: both are understood, and who sets our app
    up is told to subscribe to both."""
    for kind in ("group_rename", "group_archive", "group_unarchive", "group_left"):
        (event,) = told({"type": kind, "channel": "G1"})
        assert (event.effect, event.streams) == (Effect.READ, ("channels",))
    assert told({"type": "group_deleted", "channel": "G1"})[0].effect is Effect.DELETED
    assert SLACK.webhook
    for name in ("message.groups", "group_rename", "group_deleted", "group_left"):
        assert name in SLACK.webhook.setup


def test_messages_of_private_channels_are_held() -> None:
    """dust-tt/dust#20032 (2026-01): the messages of private channels come with the channel_type
    group; a handler that knew only channel and im dropped them. Right: they are held."""
    said_there = {**said(DAY), "channel": "G1", "channel_type": "group"}
    assert applied(MESSAGES, told(said_there), {}).keys() == {f"G1/{ts(DAY)}"}


def test_pages_that_are_short_or_empty_do_not_end_a_list() -> None:
    """slackapi/python-slack-sdk#1043 (2021-06): pages of conversations.list have fewer rows than
    were asked for, some none, since Slack filters a page after it has cut it. Right: the list ends
    where no cursor follows, and all channels are held."""
    pages = [["C1"], [], [], ["C2", "C3"]]

    def answer(request: Request) -> Response:
        number = int(request.params.get("cursor", 0))  # type: ignore[arg-type]
        rows = [{"id": one} for one in pages[number]]
        return listed("channels", rows, str(number + 1) if number + 1 < len(pages) else "")

    assert held(CHANNELS, drive(CHANNELS.read, answer)).keys() == {"C1", "C2", "C3"}


@pytest.mark.parametrize("stream", SLACK.streams, ids=lambda stream: stream.name)
def test_no_list_is_asked_for_without_a_limit(stream: Stream) -> None:
    """rneatherway/gh-slack#48 (2023-07): a workspace of 30,000 answers limit_required to a call
    without a limit. Right: every call has one that Slack takes."""
    room = Room({"C1": thread(2 * DAY, DAY)})
    room.special = lambda method, given: (
        listed("members", [{"id": "U1"}]) if method == "users.list" else None
    )
    drive(stream.read, room)
    assert room.asked
    assert all(0 < int(given["limit"]) <= 999 for _, given in room.asked)


# -- Lists that do not end ------------------------------------------------------------------------


def _endless(cursors: Callable[[str], str]) -> Answer:
    calls = 0

    def answer(request: Request) -> Response:
        nonlocal calls
        calls += 1
        assert calls < 50, "it would go on for ever"
        if request.path == "/conversations.list":
            return listed("channels", [{"id": "C1", "is_member": True}])
        given = str(request.params.get("cursor", ""))
        return listed("messages", [said(DAY)], cursors(given))

    return answer


def test_a_cursor_that_leads_to_itself_ends_the_read() -> None:
    """ltworf/localslackirc#381 (2022-10): the history of a busy channel gave the same cursor again
    and again, and was read without end. Right: the read ends, and says that it is not whole."""
    (unread,) = drive(MESSAGES.read, _endless(lambda given: "a"))[-1].unread or ()
    assert isinstance(unread.error, ContractError)


def test_cursors_that_lead_in_a_circle_end_the_read() -> None:
    """openclaw/openclaw#115056 (2026-07): a list whose cursors came back to one that it had given
    before hung for ever; Slack's own SDK does not notice either. Right: the read ends."""
    circle = {"": "a", "a": "b", "b": "c", "c": "a"}
    (unread,) = drive(MESSAGES.read, _endless(circle.__getitem__))[-1].unread or ()
    assert isinstance(unread.error, ContractError)


# -- Whom an event is about -----------------------------------------------------------------------


def test_an_event_of_a_shared_channel_is_ours_by_its_authorizations() -> None:
    """slackapi/java-slack-sdk#629 (2020-11): in a channel that another workspace shares with ours,
    the team_id above is theirs; the event was taken for an unknown workspace's. Right: it is of
    the workspace that authorised the app."""
    events = told({**said(DAY), "channel": "C1"}, team_id="T9", is_ext_shared_channel=True)
    assert {one.account_id for one in events} == {"T1"}


def test_what_a_stranger_says_in_a_shared_channel_is_held_with_its_author() -> None:
    """Sorunome/mx-puppet-slack#46 (2020-04): messages of people of another workspace named a user
    that users.list does not have, and were lost. Right: they are held, and say by whom and of
    which workspace."""
    stranger = {**said(DAY), "user": "U9", "team": "T9", "user_team": "T9"}
    room = Room({"C1": [stranger]})
    (row,) = held(MESSAGES, drive(MESSAGES.read, room)).values()
    assert (row["user"], row["user_team"]) == ("U9", "T9")
    (row,) = applied(MESSAGES, told({**stranger, "channel": "C1"}), {}).values()
    assert row["user"] == "U9"


def test_a_message_without_an_author_of_its_own_is_held() -> None:
    """hfaran/slack-export-viewer#120 (2020-02): a file_comment has no user; who wrote it stands in
    its comment. Programs stumbled over it. Right: it is held as it came."""
    comment = {"id": "Fc1", "user": "U2", "comment": "nice"}
    row = {"type": "message", "subtype": "file_comment", "ts": ts(DAY), "comment": comment}
    room = Room({"C1": [row]})
    (found,) = held(MESSAGES, drive(MESSAGES.read, room)).values()
    assert found == {**row, "channel_id": "C1"}


def test_a_delivery_without_an_event_is_no_fault() -> None:
    """errbotio/err-backend-slackv3#72 (2022-07): what Slack sends need not have an event in it; a
    program that looked for one fell over. Right: it is let be."""
    assert SLACK.webhook
    body = json.dumps({"type": "hello", "num_connections": 1}).encode()
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={}, body=body,
        received_at=NOW,
    )  # fmt: skip
    assert list(SLACK.webhook.events(delivery)) == []


# -- Refusals -------------------------------------------------------------------------------------


def test_what_an_organisation_does_not_let_us_list_is_not_our_fault() -> None:
    """stablyai/agent-slack#109 (2026-06): an organisation answers enterprise_is_restricted to
    conversations.list, for tokens that it does not let list everything. Right: an administrator
    there is told to allow it; it is no fault of the program, and no call to connect again."""
    error = SLACK.classify(no("enterprise_is_restricted"))
    assert isinstance(error, NotAllowedError)


async def test_a_token_that_has_expired_is_renewed_and_the_call_made_again() -> None:
    """slackapi/bolt-js#1968 (2023-10): with token rotation on, calls answered token_expired, with
    HTTP 200, and nothing renewed it. Right: the token is renewed once, and the read goes on."""
    good = {"ok": True, "members": [{"id": "U1"}]}
    refused = AppResponse(body={"ok": False, "error": "token_expired"})
    async with line(SLACK, "T1", refused, AppResponse(body=good)) as spoken:
        pages = await spoken.read(USERS)
    assert held(USERS, pages).keys() == {"U1"}
    assert len(spoken.renewed) == 1


async def test_a_limit_is_waited_for_as_long_as_slack_says() -> None:
    """airbytehq/airbyte#2376 (2021-03): a connector waited by a rule of its own, and failed after
    hours; Retry-After said how long. Right: it waits that long, and the read goes on."""
    limited = AppResponse(429, {"ok": False, "error": "ratelimited"}, {"Retry-After": "30"})
    good = AppResponse(body={"ok": True, "members": [{"id": "U1"}]})
    async with line(SLACK, "T1", limited, good) as spoken:
        started = spoken.clock.now()
        assert held(USERS, await spoken.read(USERS))
    assert spoken.clock.now() - started >= timedelta(seconds=30)


async def test_a_limit_that_is_told_in_plain_text_is_one() -> None:
    """slackhq/slack-api-docs#69 (2016-11): under load Slack answers with a sentence in place of
    JSON, and programs fell over it. Right: it is waited for, and the read goes on."""
    limited = AppResponse(429, raw=b"You are sending too many requests.", headers={
        "content-type": "text/plain", "retry-after": "5"
    })  # fmt: skip
    good = AppResponse(body={"ok": True, "members": [{"id": "U1"}]})
    async with line(SLACK, "T1", limited, good) as spoken:
        assert held(USERS, await spoken.read(USERS)).keys() == {"U1"}


async def test_an_internal_error_of_slacks_is_tried_again() -> None:
    """slackapi/python-slack-sdk#1403 (2023-09): conversations.list answered internal_error, with
    HTTP 200, in the middle of a run, which ended there. Right: it is asked again."""
    bad = AppResponse(body={"ok": False, "error": "internal_error"})
    good = AppResponse(body={"ok": True, "channels": [{"id": "C1"}]})
    async with line(SLACK, "T1", bad, good) as spoken:
        assert held(CHANNELS, await spoken.read(CHANNELS)).keys() == {"C1"}


# -- Known before: these do not count among the first tries ---------------------------------------


def test_what_was_said_in_a_channel_stays_when_it_is_archived() -> None:
    """elastic/connectors#1972, chaoss/grimoirelab-perceval#552 and rusq/slackdump#324: Slack puts
    bots out of a channel that is archived: is_member is false, and history refuses them. Right:
    what was said there is kept, for it is still there."""
    room = Room({"C1": [said(DAY)], "C2": [said(2 * DAY)]})
    pages = drive(MESSAGES.read, room)
    first = held(MESSAGES, pages)
    room.rows["C1"] |= {"is_archived": True, "is_member": False}
    room.special = lambda method, given: (
        no("not_in_channel") if given.get("channel") == "C1" else None
    )
    later = held(MESSAGES, drive(MESSAGES.read, room, pages[-1].checkpoint), first)
    assert later.keys() == first.keys()


def test_a_private_channel_that_may_not_be_read_leaves_the_others_read() -> None:
    """singer-io/tap-slack#7: private channels could be listed (groups:read), but not read (no
    groups:history): missing_scope. Right: the public channels are read."""
    room = Room({"A1": [said(DAY)], "C2": [said(DAY)]})
    room.rows["A1"] |= {"is_private": True}
    room.special = lambda method, given: (
        no("missing_scope", needed="groups:history") if given.get("channel") == "A1" else None
    )
    pages = drive(MESSAGES.read, room)
    assert held(MESSAGES, pages).keys() == {f"C2/{ts(DAY)}"}
    (unread,) = pages[-1].unread or ()
    assert unread.part == "A1"
    assert isinstance(unread.error, NotAllowedError)
