"""What people reported of programs that read Teams through Microsoft Graph, played on ours."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    Context,
    ContractError,
    Delivery,
    Effect,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    load,
)
from connectors._microsoft import GRAPH
from tests._driving import NOW, drive, held, response
from tests.reports._graph import client, error, page, told

TEAMS = load("ms_teams")
CHANNELS, MESSAGES, REPLIES = (
    TEAMS.stream(name) for name in ("channels", "channel_messages", "message_replies")
)
CHATS, CHAT_MESSAGES = TEAMS.stream("chats"), TEAMS.stream("chat_messages")
Special = Callable[[Request], Response | None]
STAMP = "2026-10-01T08:00:00.000Z"


def message(id_: str, **more: Any) -> Record:
    return {
        "id": id_,
        "createdDateTime": STAMP,
        "lastModifiedDateTime": STAMP,
        "deletedDateTime": None,
        "body": {"contentType": "html", "content": id_},
        **more,
    }


def thread(id_: str, *replies: str) -> Record:
    return message(id_, replies=[message(one) for one in replies])


@dataclass
class Rooms:
    """Teams with channels, and chats; each channel has a thread and each chat a message of its own,
    and all deltas tell of nothing new. `special` answers first."""

    special: Special = lambda request: None
    teams: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"T": ["c", "d"]})
    chats: Sequence[str] = ("one", "two")
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        return client(TEAMS, self.play)(request)

    def play(self, request: Request) -> Response:
        self.asked.append(request.path)
        if (found := self.special(request)) is not None:
            return found
        path = request.path.removeprefix(GRAPH).partition("?")[0]
        match path.strip("/").split("/"):
            case ["me", "joinedTeams"]:
                return page(*({"id": team} for team in self.teams))
            case ["me", "chats"]:
                return page(*({"id": chat} for chat in self.chats))
            case ["teams", team] if team in self.teams:
                return response({"id": team, "isArchived": False})
            case ["teams", team, "channels"] if team in self.teams:
                return page(*({"id": one} for one in self.teams[team]))
            case ["teams", team, "channels", one] if one in self.teams.get(team, ()):
                return response({"id": one})
            case ["teams", _, "channels", _, "messages", "delta"]:
                return page(delta=link(f"{path}?$deltatoken=1"))
            case ["teams", _, "channels", channel, "messages"]:
                return page(thread(f"{channel}1", f"{channel}1r"))
            case ["chats", chat, "messages"]:
                return page(message(f"{chat}1"))
        return error(404, "NotFound")


def link(path: str) -> str:
    return f"{GRAPH}{path}"


def of(channel: str) -> str:
    return f"/teams/T/channels/{channel}/messages"


def at(path: str, *answers: Response) -> Special:
    """Those answers to what is asked at that path, its links included; the last again and again."""
    left = list(answers)

    def special(request: Request) -> Response | None:
        if request.path.removeprefix(GRAPH).partition("?")[0] != path:
            return None
        return left.pop(0) if len(left) > 1 else left[0]

    return special


def linked(answers: Mapping[str, Response]) -> Special:
    """Answers by the whole path."""
    return lambda request: answers.get(request.path.removeprefix(GRAPH))


def sync(
    stream: Stream,
    rooms: Callable[[Request], Response],
    former: Mapping[str, Record] | None = None,
    saved: Checkpoint | None = None,
) -> tuple[dict[str, Record], Checkpoint, dict[str, type[Exception]]]:
    """What is held after a sync, its checkpoint, and the parts that are told as unread."""
    pages = drive(stream.read, rooms, saved)
    unread: dict[str, type[Exception]]
    unread = {one.part: type(one.error) for one in pages[-1].unread or ()}
    return held(stream, pages, former), pages[-1].checkpoint, unread


def watched(rooms: Callable[[Request], Response]) -> list[str]:
    """What is watched of those rooms."""
    assert TEAMS.watch
    steps = TEAMS.watch.resources(Context(now=NOW, account_id="a"))
    sent: Any = None
    while True:
        try:
            sent = rooms(steps.send(sent))
        except StopIteration as stop:
            return list(stop.value)


# -- Pages that lead nowhere ----------------------------------------------------------------------


def test_a_chat_whose_next_page_is_always_the_same_holds_nobody_up() -> None:
    """microsoftgraph/microsoft-graph-docs#12995 (2021-06): the messages of a chat come with one and
    the same next link, over and over. Right: the read ends, the other chats are read, and that this
    one is not read to its end is told."""
    again = link("/chats/one/messages?$skiptoken=A")
    rooms = Rooms(at("/chats/one/messages", page(message("1"), next=again)))
    rows, _, unread = sync(CHAT_MESSAGES, rooms)
    assert set(rows) == {"one/1", "two/two1"}
    assert unread == {"one": ContractError}
    assert len(rooms.asked) < 10


def test_an_empty_last_page_that_leads_to_itself_is_the_end_of_its_chat() -> None:
    """microsoftgraph/microsoft-graph-docs#8057 (2020-05): the last page of a chat's messages has no
    rows, and a next link that gives the same again. Right: the chat is read to its end, and the
    next sync asks for what changed since."""
    end = link("/chats/one/messages?$skiptoken=E")
    rooms = Rooms(
        linked({"/chats/one/messages?$skiptoken=E": page(next=end)}),
        chats=("one",),
    )
    first = at("/chats/one/messages", page(message("1"), next=end))
    ends = rooms.special
    rooms.special = lambda request: ends(request) or first(request)
    rows, saved, unread = sync(CHAT_MESSAGES, rooms)
    assert (set(rows), unread) == ({"one/1"}, {})
    filters: list[str] = []

    def later(request: Request) -> Response | None:
        filters.extend(str(value) for name, value in request.params.items() if name == "$filter")
        return None

    rows, _, _ = sync(CHAT_MESSAGES, Rooms(later, chats=("one",)), rows, saved)
    assert filters
    assert set(rows) == {"one/1", "one/one1"}


def test_a_chat_whose_second_page_is_refused_holds_nobody_up() -> None:
    """microsoftgraph/microsoft-graph-docs-contrib#2588 (2022-01): of group chats the first page is
    given, and its next link is refused with 400, each time; other chats can be read. Right: they
    are read, the first page is kept, and the rest is told as unread."""
    second = "/chats/one/messages?$skiptoken=B"
    refused = linked({second: error(400, "BadRequest", "Invalid continuation token")})
    first = at("/chats/one/messages", page(message("1"), next=link(second)))
    rooms = Rooms(lambda request: refused(request) or first(request))
    rows, _, unread = sync(CHAT_MESSAGES, rooms)
    assert set(rows) == {"one/1", "two/two1"}
    assert unread == {"one": ContractError}


def test_the_delta_of_an_empty_channel_that_cannot_be_followed_holds_nobody_up() -> None:
    """microsoftgraph/microsoft-graph-docs#8864 (2020-06), also
    microsoftgraph/msgraph-beta-sdk-dotnet#243 (2021-03): the delta of a channel without messages
    answers with no rows and a next link, which is refused with 400. Right: the other channels are
    read, and this one is told as unread."""
    on = f"{of('c')}/delta?$skiptoken=S"
    refused = linked({on: error(400, "BadRequest", "Parameter 'DeltaToken' not supported.")})
    empty = at(f"{of('c')}/delta", page(next=link(on)))
    rooms = Rooms(lambda request: refused(request) or empty(request))
    rows, _, unread = sync(MESSAGES, rooms)
    assert set(rows) == {"T/d/d1"}
    assert unread == {"T/c": ContractError}


def test_pages_that_end_at_a_deleted_message_delete_nothing() -> None:
    """microsoftgraph/microsoft-graph-docs#13270 (2021-06): where a message of a chat was deleted,
    the page that would hold it is short, and its next link leads to a page without rows and without
    a link. Right: what was read of older messages stays: nothing is taken for gone."""
    rows, saved, _ = sync(
        CHAT_MESSAGES, Rooms(at("/chats/one/messages", page(message("2"), message("1"))))
    )
    last = "/chats/one/messages?$skiptoken=D"
    ends = linked({last: page()})
    gone = message("3", deletedDateTime=STAMP)
    first = at("/chats/one/messages", page(gone, next=link(last)))
    rooms = Rooms(lambda request: ends(request) or first(request))
    rows, _, unread = sync(CHAT_MESSAGES, rooms, rows, saved)
    assert (set(rows), unread) == ({"one/1", "one/2", "two/two1"}, {})


def test_a_message_that_comes_on_two_pages_is_held_once() -> None:
    """MicrosoftDocs/msteams-docs#13435 (2025-10): a message that was answered stands first in the
    list of a channel's messages, and comes again where it stood before. Right: it is held once,
    and its replies too."""
    second = f"{of('c')}?$skiptoken=2"
    ends = linked({second: page(thread("2"), thread("1", "1r"))})
    first = at(of("c"), page(thread("1", "1r"), thread("3"), next=link(second)))
    rooms = Rooms(lambda request: ends(request) or first(request), teams={"T": ["c"]})
    rows, _, _ = sync(MESSAGES, rooms)
    assert set(rows) == {"T/c/1", "T/c/2", "T/c/3"}
    rows, _, _ = sync(REPLIES, rooms)
    assert set(rows) == {"T/c/1/1r"}


# -- What is missing ------------------------------------------------------------------------------


def test_a_full_list_of_replies_without_a_next_link_is_not_taken_for_all() -> None:
    """microsoftgraph/microsoft-graph-docs-contrib#8819 (2023-11): a thread has 2,000 replies; with
    its message come 1,000, now and then without the link to the others and without their count.
    Right: the others are read."""
    many = [message(str(number)) for number in range(1_000, 3_000)]
    rest = link(f"{of('c')}/1/replies?$skiptoken=2")
    pages = linked({f"{of('c')}/1/replies?$skiptoken=2": page(*many[1_000:])})
    listed = at(f"{of('c')}/1/replies", page(*many[:1_000], next=rest))
    first = at(of("c"), page(message("1", replies=many[:1_000])))
    rooms = Rooms(
        lambda request: pages(request) or listed(request) or first(request), teams={"T": ["c"]}
    )
    rows, _, _ = sync(REPLIES, rooms)
    assert len(rows) == 2_000


def test_a_team_whose_list_of_channels_is_empty_for_once_loses_none() -> None:
    """airbytehq/airbyte#1878 (2021-01): Graph answers a request for a team's channels with an empty
    list, now and then. Right: channels that can be had by their ids are not gone, nor are their
    messages."""
    for stream in (CHANNELS, MESSAGES, REPLIES):
        rows, saved, _ = sync(stream, Rooms())
        again, _, _ = sync(stream, Rooms(at("/teams/T/channels", page())), rows, saved)
        assert again.keys() == rows.keys() != set()


def test_a_chat_that_is_not_listed_and_can_be_read_is_not_gone() -> None:
    """microsoftgraph/microsoft-graph-docs#12259 (2021-04): a chat with someone of another
    organisation is in no list of chats, and is not found by its id; its messages are given all the
    same. Right: what was read of a chat stays as long as its messages are given."""
    rows, saved, _ = sync(CHAT_MESSAGES, Rooms())
    again, _, unread = sync(CHAT_MESSAGES, Rooms(at("/me/chats", page({"id": "two"}))), rows, saved)
    assert (set(again), unread) == ({"one/one1", "two/two1"}, {})

    def left(request: Request) -> Response | None:
        if request.path == "/me/chats":
            return page({"id": "two"})
        return error(403, "Forbidden") if "/chats/one/" in request.path else None

    rows, _, _ = sync(CHAT_MESSAGES, Rooms(left), rows, saved)
    assert set(rows) == {"two/two1"}


def test_messages_that_a_filtered_delta_should_not_tell_of_change_nothing() -> None:
    """microsoftgraph/microsoft-graph-docs#9063 (2020-07): a channel's first delta since a time
    tells of messages that changed long before. Right: they are held as they are."""
    old = page(message("c1"), delta=link(f"{of('c')}/delta?$deltatoken=1"))
    rooms = Rooms(at(f"{of('c')}/delta", old))
    rows, _, unread = sync(MESSAGES, rooms)
    assert (set(rows), unread) == ({"T/c/c1", "T/d/d1"}, {})


def test_a_reaction_that_moves_no_time_is_held_where_a_delta_tells_of_it() -> None:
    """microsoftgraph/microsoft-graph-docs#6693 (2019-12): the time of a message's last change does
    not move when someone reacts to it. Right: the message is held with its reaction, though its
    time is the same."""
    rooms = Rooms(teams={"T": ["c"]})
    rows, saved, _ = sync(MESSAGES, rooms)
    liked = message("c1", reactions=[{"reactionType": "like"}])
    rooms.special = at(
        f"{of('c')}/delta", page(liked, delta=link(f"{of('c')}/delta?$deltatoken=2"))
    )
    changed, _, _ = sync(MESSAGES, rooms, rows, saved)
    assert changed["T/c/c1"]["reactions"] == [{"reactionType": "like"}]
    assert MESSAGES.version(changed["T/c/c1"]) == MESSAGES.version(rows["T/c/c1"])


def test_a_system_message_of_an_unknown_kind_and_of_nobody_is_held() -> None:
    """microsoftgraph/microsoft-graph-docs#17661 (2022-07): calls and the like come as messages of
    the kind unknownFutureValue, without a sender. Right: they are held like others."""
    told = message("1", messageType="unknownFutureValue", **{"from": None}, eventDetail={"x": 1})
    rooms = Rooms(at("/chats/one/messages", page(told)), chats=("one",))
    rows, _, unread = sync(CHAT_MESSAGES, rooms)
    assert unread == {}
    assert rows["one/1"]["messageType"] == "unknownFutureValue"
    assert rows["one/1"]["from"] is None


# -- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["BadGateway", "Proxy_InternalServerError"])
def test_a_channel_whose_delta_always_fails_holds_nobody_up(code: str) -> None:
    """microsoftgraph/microsoft-graph-docs#6451 (2019-11), also #6518 (2019-12): the delta of some
    channels, those of new teams, fails with 502 each time; others do not. Right: they are read, and
    what cannot be read is told."""
    rooms = Rooms(at(f"{of('c')}/delta", error(502, code, "Failed to execute backend request.")))
    rows, _, unread = sync(MESSAGES, rooms)
    assert set(rows) == {"T/d/d1"}
    assert unread == {"T/c": ProviderUnavailableError}


def test_an_empty_channel_that_is_refused_is_read_once_it_is_not() -> None:
    """microsoftgraph/microsoft-graph-docs#9960 (2020-09): a request for the messages of a channel
    that has none is answered with 403. Right: the others are read, and so is this one as soon as it
    is given."""
    rows, saved, _ = sync(MESSAGES, Rooms(at(of("c"), error(403, "Forbidden"))))
    assert set(rows) == {"T/d/d1"}
    drive_later = drive(MESSAGES.read, Rooms(), saved, now=NOW.replace(day=2))
    assert set(held(MESSAGES, drive_later, rows)) == {"T/c/c1", "T/d/d1"}


def test_a_team_that_a_guest_may_not_look_into_is_told_of_and_others_are_read() -> None:
    """microsoftgraph/microsoft-graph-docs#9181 (2020-07): who is a guest in a team sees its
    channels in Teams, and is refused them by Graph (403: Teams is disabled for your tenant). Right:
    the channels of other teams are read, and that those are not is told."""
    refused = at("/teams/G/channels", error(403, "Forbidden", "Teams is disabled for your tenant."))
    rooms = Rooms(refused, teams={"T": ["c"], "G": ["g"]})
    rows, _, unread = sync(CHANNELS, rooms)
    assert (set(rows), unread) == ({"T/c"}, {"G": NotAllowedError})


def test_chats_that_are_refused_all_at_once_stay_and_channels_are_read() -> None:
    """microsoftgraph/microsoft-graph-docs#7206 (2020-02): for some people the list of chats is
    refused from one day on (403), and nothing else is. Right: what was read of chats stays, the
    error says that it is a permission or licence, and channels are read and watched."""
    rows, saved, _ = sync(CHAT_MESSAGES, Rooms())
    rooms = Rooms(at("/me/chats", error(403, "Forbidden", "Forbidden")))
    for stream in (CHATS, CHAT_MESSAGES):
        with pytest.raises(NotAllowedError, match="licence"):
            sync(stream, rooms, rows, saved)
    assert set(sync(MESSAGES, rooms)[0]) == {"T/c/c1", "T/d/d1"}
    assert watched(rooms) == [of("c"), of("d")]


def test_teams_that_are_disabled_for_an_organisation_are_no_broken_connection() -> None:
    """MicrosoftDocs/msteams-docs#11571 (2024-09): the second page of chats is refused with 401, by
    a code inside that says that Teams is disabled in the organisation, while the first was given by
    the same token. Right: the connection is not taken for revoked, which only the person could
    mend: it is a matter of their organisation."""
    body = {
        "error": {
            "code": "Unauthorized",
            "message": "Teams has been disabled on the tenant.",
            "innerError": {"code": "ServicePrincipalDisabledOnTenant"},
        }
    }
    found = told(TEAMS, response(body, 401), "/chats?$skiptoken=2")
    assert isinstance(found, NotAllowedError)
    real = told(TEAMS, error(401, "InvalidAuthenticationToken"), "/chats?$skiptoken=2")
    assert isinstance(real, BrokenConnectionError)


def test_a_missing_permission_is_named_and_not_only_what_failed() -> None:
    """airbytehq/airbyte#1536 (2021-01): of an app without permissions the log said that channels
    could not be had, and not why. Right: the error says that a permission is missing, and who gives
    it."""
    answer = error(403, "Authorization_RequestDenied", "Insufficient privileges.")
    found = told(TEAMS, answer, "/teams/T/channels")
    assert isinstance(found, NotAllowedError)
    assert "permission" in str(found)
    assert "administrator" in str(found)


def test_an_answer_that_asks_to_wait_without_saying_how_long_is_waited_for() -> None:
    """microsoftgraph/microsoft-graph-docs-contrib#6218 (2019-12): requests about chat messages are
    answered with 429 without a Retry-After. Right: we wait, for a time of ours."""
    found = told(TEAMS, error(429, "TooManyRequests"), "/chats/one/messages")
    assert isinstance(found, RateLimitedError)


# -- Notifications --------------------------------------------------------------------------------


def events(*resources: tuple[str, str]) -> list[Any]:
    told = [
        {"subscriptionId": "s", "changeType": change, "clientState": "x", "resource": resource}
        for resource, change in resources
    ]
    delivery = Delivery(
        method="POST", url="https://ours.test/hook", headers={}, query={},
        body=json.dumps({"value": told}).encode(), received_at=NOW,
    )  # fmt: skip
    assert TEAMS.webhook
    return list(TEAMS.webhook.events(delivery))


def test_notifications_out_of_order_lead_to_the_message_as_it_is_and_missed_ones_are_found() -> (
    None
):
    """microsoftgraph/microsoft-graph-docs#7952 (2020-04): of messages sent in quick succession some
    are not notified of, and others in another order. Right: a message is read as it is now,
    whatever came first, and the next sync finds those that were not told of."""
    first, second = events(
        ("chats('one')/messages('1')", "updated"), ("chats('one')/messages('1')", "created")
    )
    assert (first.effect, first.key) == (second.effect, second.key) == (Effect.READ, "one/1")
    now = message("1", body={"content": "after the edit"})
    single = linked({"/chats/one/messages/1": response(now)})
    assert CHAT_MESSAGES.fetch
    reader = CHAT_MESSAGES.fetch
    (found,) = drive(lambda at, context: reader(["one/1"], context), Rooms(single))
    assert held(CHAT_MESSAGES, [found])["one/1"]["body"] == {"content": "after the edit"}
    rows, saved, _ = sync(CHAT_MESSAGES, Rooms())
    missed = Rooms(at("/chats/one/messages", page(message("missed"))))
    rows, _, _ = sync(CHAT_MESSAGES, missed, rows, saved)
    assert "one/missed" in rows


def test_chats_are_not_watched_by_a_path_that_never_tells_anything() -> None:
    """MicrosoftDocs/msteams-docs#5648 (2022-04): a subscription to a chat's messages below /me is
    made and confirmed, and nothing is ever told. Right: chats are watched by the documented path,
    and polled beside it."""
    assert [one for one in watched(Rooms()) if "/chats/" in one] == [
        "/chats/one/messages",
        "/chats/two/messages",
    ]
    assert TEAMS.sync_type is SyncType.HYBRID


# -- Situations that were played before; they do not count in the first-try figure ----------------


def test_next_links_that_lead_back_end_and_hold_nobody_up() -> None:
    """microsoftgraph/microsoft-graph-docs#21096 (2023-04): the next link of a page is that of a
    page before it. Right: the read ends, and the other chats are read."""
    first, second = "/chats/one/messages?$skiptoken=A", "/chats/one/messages?$skiptoken=B"
    circle = linked(
        {
            first: page(message("2"), next=link(second)),
            second: page(message("3"), next=link(first)),
        }
    )
    start = at("/chats/one/messages", page(message("1"), next=link(first)))
    rooms = Rooms(lambda request: circle(request) or start(request))
    rows, _, unread = sync(CHAT_MESSAGES, rooms)
    assert set(rows) == {"one/1", "one/2", "one/3", "two/two1"}
    assert unread == {"one": ContractError}
    assert len(rooms.asked) < 10


def test_a_private_channel_of_an_archived_team_stays() -> None:
    """microsoftgraph/microsoft-graph-docs#9758 (2020-09), #17306 (2022-06): the list of an archived
    team's channels lacks the private ones, which people still see. Right: what was read of them
    stays, whether they are given by their ids or not."""
    archived = response({"id": "T", "isArchived": True})
    listed = page({"id": "c"})
    for by_id in (response({"id": "d"}), error(403, "Forbidden"), error(404, "NotFound")):
        special = linked(
            {"/teams/T": archived, "/teams/T/channels": listed, "/teams/T/channels/d": by_id}
        )
        for stream in (CHANNELS, MESSAGES, REPLIES):
            rows, saved, _ = sync(stream, Rooms())
            again, saved, _ = sync(stream, Rooms(special), rows, saved)
            assert again.keys() == rows.keys()
            again, _, _ = sync(stream, Rooms(special), again, saved)
            assert again.keys() == rows.keys()


def test_many_channels_of_one_team_that_are_deleted_at_once_are_gone() -> None:
    """Of our own suite (2026-11-29), whose random changes met it: whether the team is archived
    was asked for each channel, and five times the same question with the same answer counts as a
    listing that leads in a circle. Right: they are gone, and the team is asked once."""
    many = [f"c{number}" for number in range(9)]
    for stream in (CHANNELS, MESSAGES, REPLIES):
        rows, saved, _ = sync(stream, Rooms(teams={"T": [*many, "d"]}))
        assert len(rows) == 10
        rooms = Rooms(teams={"T": ["d"]})
        again, _, unread = sync(stream, rooms, rows, saved)
        assert unread == {}
        assert [key.split("/")[1] for key in again] == ["d"]
        assert rooms.asked.count("/teams/T") == 1


@pytest.mark.parametrize(
    ("place", "status"),
    [("/teams/G/channels", 403), ("/teams/G/channels", 400), ("/teams/G/channels/g/messages", 403)],
)
def test_a_team_that_refuses_for_a_while_loses_nothing_and_holds_nobody_up(
    place: str, status: int
) -> None:
    """microsoftgraph/microsoft-graph-toolkit#1663 (2022-05), microsoftgraph/microsoft-graph-docs
    #7793 (2020-04), #3680 (2018-12): a team that the person is in answers 403 or 400 for its
    channels, or for the messages of one, now and then; others do not. Right: what was read of it
    stays, and the others are read."""
    teams = {"T": ["c"], "G": ["g"]}
    rows, saved, _ = sync(MESSAGES, Rooms(teams=teams))
    assert set(rows) == {"T/c/c1", "G/g/g1"}
    new = at(f"{of('c')}/delta", page(message("c2"), delta=link(f"{of('c')}/delta?$deltatoken=2")))

    def ill(request: Request) -> Response | None:
        if request.path.removeprefix(GRAPH).startswith(place):
            return error(status, "Forbidden", "Failed to execute Skype backend request.")
        return new(request)

    rows, saved, _ = sync(MESSAGES, Rooms(ill, teams=teams), rows, saved)
    assert set(rows) == {"T/c/c1", "T/c/c2", "G/g/g1"}
    rows, _, _ = sync(MESSAGES, Rooms(teams=teams), rows, saved)
    assert set(rows) == {"T/c/c1", "T/c/c2", "G/g/g1"}
