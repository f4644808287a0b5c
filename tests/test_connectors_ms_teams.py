"""Microsoft Teams' readers, driven over the sandbox's rooms and over played answers."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    Effect,
    NotAllowedError,
    Page,
    RateLimitedError,
    Reader,
    Request,
    Response,
    Stream,
    SyncType,
    load,
)
from connectors._microsoft import DELTA, GRAPH, NEXT, PERSONAL
from connectors.kernel.webhooks import Delivery
from connectors.ms_teams.reading import LOOKBACK
from sandbox import start
from tests._driving import NOW, drive, held, response
from tests._graph import Person, calm
from tests.reports._graph import client as client_of

TEAMS = load("ms_teams")
MESSAGES, REPLIES = TEAMS.stream("channel_messages"), TEAMS.stream("message_replies")
CHAT_MESSAGES = TEAMS.stream("chat_messages")
CHANNEL = "t/19:c@thread.tacv2"
MESSAGES_AT = "/teams/t/channels/19%3Ac%40thread.tacv2/messages"
LINK = f"{GRAPH}{MESSAGES_AT}/delta?$deltatoken=1"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["ms_teams"]) as origin:
        yield origin


@pytest.fixture
def client(origin: str) -> Iterator[httpx.Client]:
    with calm(origin, "ms_teams") as client:
        yield client


@pytest.fixture
def person(client: httpx.Client) -> Person:
    return Person(client, "ms_teams", size=40)


class Asked:
    """What the person's client asks, noted."""

    def __init__(self, person: Person) -> None:
        self.person = person
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        return self.person.answer(request)


class Played:
    """One team with one channel, one chat, and the answers of what is in them, in their order."""

    def __init__(self, *answers: Response) -> None:
        self.answers = iter(answers)
        self.asked: list[Request] = []

    def __call__(self, request: Request) -> Response:
        if request.path == "/me/joinedTeams":
            return rows({"id": "t"})
        if request.path.endswith("/channels"):
            return rows({"id": "19:c@thread.tacv2"})
        if request.path == "/me/chats":
            return rows({"id": "chat"})
        self.asked.append(request)
        return next(self.answers)


def rows(*found: dict[str, Any], **links: str) -> Response:
    return response({"value": list(found), **links})


def refused(status: int, code: str = "Forbidden") -> Response:
    return response({"error": {"code": code}}, status)


def message(id_: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "deletedDateTime": None, **more}


def channel_of(person: Person) -> str:
    """The busiest channel."""
    places = [key.rpartition("/")[0] for key in person.store("channel_messages")]
    return max(set(places), key=places.count)


def known(**more: Any) -> Checkpoint:
    """A round is over; the channel has a link."""
    return Checkpoint(parts={CHANNEL: {"link": LINK}}, **more)


def raising(play: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Raises what our client raises for an answer that the reader does not expect."""
    return client_of(TEAMS, play)


def unread(pages: Sequence[Page]) -> dict[str, type[Exception]]:
    """The parts that could not be read, as told at the end."""
    return {one.part: type(one.error) for one in pages[-1].unread or ()}


# -- Teams, channels and chats --------------------------------------------------------------------


def test_joined_teams_are_asked_for_without_any_odata_parameter(person: Person) -> None:
    assert person.get("/me/joinedTeams", **{"$top": 5}).status_code == 400
    asked = Asked(person)
    pages = drive(TEAMS.stream("teams").read, asked)
    assert held(TEAMS.stream("teams"), pages) == person.store("teams")
    assert [dict(one.params) for one in asked.requests] == [{}]


def test_channels_are_found_through_their_teams_and_gone_by_absence(person: Person) -> None:
    stream = TEAMS.stream("channels")
    pages = drive(stream.read, person.answer)
    assert held(stream, pages) == person.store("channels")
    *_, last = person.store("channels")
    person.order("channels", "delete", last)
    person.order("channels", "add")
    changed = drive(stream.read, person.answer, pages[-1].checkpoint)
    assert last not in person.store("channels")
    assert held(stream, [*pages, *changed]) == person.store("channels")


def test_the_channels_of_a_team_that_the_person_left_are_gone(person: Person) -> None:
    stream = TEAMS.stream("channels")
    pages = drive(stream.read, person.answer)
    *_, team = person.store("teams")
    person.order("teams", "delete", team)
    changed = drive(stream.read, person.answer, pages[-1].checkpoint)
    assert held(stream, [*pages, *changed]) == person.store("channels")
    assert list(changed[-1].checkpoint["parts"]) == list(person.store("teams"))


@pytest.mark.parametrize("name", ["channels", "channel_messages", "message_replies"])
def test_what_was_read_of_a_private_channel_stays_when_its_team_is_archived(
    person: Person, name: str
) -> None:
    stream = TEAMS.stream(name)
    team = next(iter(person.store("teams")))
    private = person.order(
        "channels", "add", team_id=team, membershipType="private", displayName="Price"
    ).json()["id"]
    above = person.order("channel_messages", "add", channel=private, text="above").json()["id"]
    person.order("message_replies", "add", message=above, text="below")
    pages = drive(stream.read, person.answer)
    person.control("archive", team=team)
    assert private not in {
        f"{team}/{row['id']}" for row in person.all(f"/teams/{team}/channels")[0]
    }
    changed = drive(stream.read, person.answer, pages[-1].checkpoint)
    stored = person.store(name)
    assert [key for key in stored if key.startswith(private)]
    assert set(held(stream, [*pages, *changed])) == set(stored)
    assert not unread(changed)


def test_channels_may_come_in_several_pages() -> None:
    second = f"{GRAPH}/teams/t/channels?$skiptoken=2"

    def answer(request: Request) -> Response:
        if request.path == "/me/joinedTeams":
            return rows({"id": "t"})
        more = {} if request.path == second else {NEXT: second}
        return rows({"id": "b" if request.path == second else "a"}, **more)

    stream = TEAMS.stream("channels")
    pages = drive(stream.read, answer)
    assert [row["id"] for page in pages for row in page.records] == ["a", "b"]


def test_a_read_of_channels_can_be_stopped_between_teams() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/me/joinedTeams":
            return rows(*({"id": f"t{n}"} for n in range(45)))
        return rows({"id": "c"})

    stream = TEAMS.stream("channels")
    pages = drive(stream.read, answer)
    begun = [page for page in pages if len(page.checkpoint.get("parts", ())) <= 20]
    others = drive(stream.read, answer, begun[-1].checkpoint)
    assert [len(page.records) for page in others if page.records] == [1] * 25
    assert len(held(stream, [*begun, *others])) == 45
    assert sorted(others[-1].checkpoint) == ["parts"]


def test_the_preview_of_a_chat_comes_only_where_it_is_expanded(person: Person) -> None:
    stream = TEAMS.stream("chats")
    found = held(stream, drive(stream.read, person.answer))
    assert found == person.store("chats")
    assert any(chat["lastMessagePreview"] for chat in found.values())
    plain = person.get("/me/chats").json()["value"]
    assert not any("lastMessagePreview" in chat for chat in plain)


# -- Messages of channels -------------------------------------------------------------------------


def test_a_message_is_known_by_its_channel_too_for_its_id_is_unique_there_only(
    person: Person,
) -> None:
    stored = person.store("channel_messages")
    ids = [row["id"] for row in stored.values()]
    assert len(set(ids)) < len(ids)
    assert held(MESSAGES, drive(MESSAGES.read, person.answer)) == stored


def test_messages_older_than_eight_months_are_listed_for_no_delta_tells_of_them(
    person: Person,
) -> None:
    team, _, channel = channel_of(person).partition("/")
    path = f"/teams/{team}/channels/{channel}/messages"
    told = {row["id"] for row in person.all(f"{path}/delta")[0]}
    there = {row["id"] for row in person.all(path)[0]}
    assert told < there
    pages = drive(MESSAGES.read, person.answer)
    assert held(MESSAGES, pages) == person.store("channel_messages")


def test_a_link_is_taken_before_a_new_channel_is_listed() -> None:
    graph = Played(
        rows(message("new"), **{DELTA: LINK}),
        rows(message("new"), **{NEXT: f"{GRAPH}{MESSAGES_AT}?$skiptoken=2"}),
        rows(message("old")),
    )
    *_, last = drive(MESSAGES.read, graph)
    taken, listed, second = graph.asked
    assert taken.path == f"{MESSAGES_AT}/delta"
    assert taken.params["$filter"] == "lastModifiedDateTime gt 2026-11-01T11:55:00.000000Z"
    assert (listed.path, dict(listed.params)) == (MESSAGES_AT, {"$top": 50})
    assert (second.path, dict(second.params)) == (f"{GRAPH}{MESSAGES_AT}?$skiptoken=2", {})
    assert last.checkpoint == known()
    again = Played(rows(**{DELTA: LINK}))
    drive(MESSAGES.read, again, last.checkpoint)
    assert [(one.path, dict(one.params)) for one in again.asked] == [(LINK, {})]


def test_no_page_has_more_than_fifty_messages(person: Person) -> None:
    team, _, channel = channel_of(person).partition("/")
    path = f"/teams/{team}/channels/{channel}/messages"
    assert person.get(f"{path}/delta", **{"$top": 51}).status_code == 400
    for stream in (MESSAGES, REPLIES, CHAT_MESSAGES):
        asked = Asked(person)
        drive(stream.read, asked)
        tops = {one.params["$top"] for one in asked.requests if "messages" in one.path}
        assert tops == {50}


def test_a_deleted_message_is_a_record_that_says_so(person: Person) -> None:
    pages = drive(MESSAGES.read, person.answer)
    place = channel_of(person)
    key = next(key for key in person.store("channel_messages") if key.startswith(place))
    person.order("channel_messages", "delete", key)
    changed = drive(MESSAGES.read, person.answer, pages[-1].checkpoint)
    assert [gone for page in changed for gone in page.deleted] == [key]
    assert not [row for page in changed for row in page.records]
    assert held(MESSAGES, [*pages, *changed]) == person.store("channel_messages")


def test_a_deleted_message_is_gone_whether_its_text_is_or_not() -> None:
    gone = message("1", body={"content": "still here"}) | {
        "deletedDateTime": "2026-10-31T00:00:00Z"
    }
    pages = drive(MESSAGES.read, Played(rows(gone, **{DELTA: f"{LINK}0"})), known())
    assert not [row for page in pages for row in page.records]
    assert [key for page in pages for key in page.deleted] == [f"{CHANNEL}/1"]


def test_what_is_about_the_answer_is_not_part_of_a_message() -> None:
    told = message("1", **{"@odata.type": "#m", "from": {"user": {"@odata.type": "#u", "id": "u"}}})
    pages = drive(MESSAGES.read, Played(rows(told, **{DELTA: f"{LINK}0"})), known())
    (record,) = [row for page in pages for row in page.records]
    assert record == {
        **message("1"),
        "from": {"user": {"id": "u"}},
        "team_id": "t",
        "channel_id": "19:c@thread.tacv2",
    }


@pytest.mark.parametrize(
    ("status", "code"),
    [(410, "syncStateNotFound"), (410, ""), (400, "SyncStateInvalid"), (404, "resyncRequired")],
)
def test_a_lapsed_delta_starts_its_channel_over_without_a_token(
    person: Person, status: int, code: str
) -> None:
    pages = drive(MESSAGES.read, person.answer)
    kept = held(MESSAGES, pages)
    person.control("resync", status=status, code=code)
    person.control("mutate", count=60, seed=4)
    person.control("expire_checkpoints")
    again = drive(MESSAGES.read, person.answer, pages[-1].checkpoint)
    assert held(MESSAGES, again, kept) == person.store("channel_messages")


def test_a_lapsed_delta_that_is_only_not_found_loses_nothing() -> None:
    graph = Played(refused(404, "NotFound"), rows(**{DELTA: f"{LINK}0"}), rows(message("1")))
    pages = drive(MESSAGES.read, graph, known())
    assert not [listing for page in pages for listing in page.listed_keys]
    assert pages[-1].checkpoint == Checkpoint(parts={CHANNEL: {"link": f"{LINK}0"}})


def test_a_page_that_lapses_again_and_again_is_no_endless_read() -> None:
    second = f"{GRAPH}{MESSAGES_AT}/delta?$skiptoken=2"
    graph = Played(
        rows(message("1"), **{NEXT: second}), refused(410, ""),
        rows(message("1"), **{NEXT: second}), refused(410, ""),
    )  # fmt: skip
    pages = drive(MESSAGES.read, graph, known())
    assert unread(pages) == {CHANNEL: ContractError}
    assert [row["id"] for page in pages for row in page.records] == ["1", "1"]


def test_an_answer_with_neither_link_is_no_end_of_a_delta() -> None:
    pages = drive(MESSAGES.read, Played(rows(message("1"))), known())
    assert unread(pages) == {CHANNEL: ContractError}
    assert pages[-1].checkpoint["parts"] == {CHANNEL: {"link": LINK}}


# -- Replies --------------------------------------------------------------------------------------


def test_replies_come_only_where_they_are_expanded(person: Person) -> None:
    asked = Asked(person)
    assert held(REPLIES, drive(REPLIES.read, asked)) == person.store("message_replies")
    listed = [one for one in asked.requests if one.path.endswith("messages")]
    assert listed
    assert {one.params["$expand"] for one in listed} == {"replies"}


def test_a_thread_is_found_again_by_a_reply_that_changed(person: Person) -> None:
    pages = drive(REPLIES.read, person.answer)
    key = next(iter(person.store("message_replies")))
    person.order("message_replies", "change", key, text="another")
    asked = Asked(person)
    changed = drive(REPLIES.read, asked, pages[-1].checkpoint)
    assert key in held(REPLIES, changed)
    assert held(REPLIES, [*pages, *changed]) == person.store("message_replies")
    deltas = [one for one in asked.requests if one.path.endswith("delta")]
    assert deltas
    for one in deltas:
        assert str(one.params["$filter"]).startswith("lastModifiedDateTime gt ")


def test_the_time_to_read_on_from_overlaps_with_what_was_read() -> None:
    graph = Played(rows())
    *_, page = drive(REPLIES.read, graph)
    since = (NOW - LOOKBACK).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    assert page.checkpoint == Checkpoint(parts={CHANNEL: {"since": since}})
    graph = Played(rows(**{DELTA: LINK}))
    drive(REPLIES.read, graph, page.checkpoint)
    assert graph.asked[0].params["$filter"] == f"lastModifiedDateTime gt {since}"


def test_who_comes_back_after_eight_months_reads_all_replies_again() -> None:
    for days, path in ((200, f"{MESSAGES_AT}/delta"), (250, MESSAGES_AT)):
        since = (NOW - timedelta(days=days)).isoformat()
        graph = Played(rows())
        drive(REPLIES.read, graph, Checkpoint(parts={CHANNEL: {"since": since}}))
        assert [one.path for one in graph.asked] == [path]


def test_replies_beyond_those_that_come_with_a_message_come_by_a_link(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.ms_teams.EXPANDED", 5)  # a thousand, at Microsoft
    above = next(key for key in person.store("channel_messages") if channel_of(person) in key)
    for number in range(60):
        person.order("message_replies", "add", message=above, text=str(number))
    asked = Asked(person)
    assert held(REPLIES, drive(REPLIES.read, asked)) == person.store("message_replies")
    assert len([one for one in asked.requests if "/replies?" in one.path]) >= 2


def test_a_message_whose_replies_are_missing_is_not_taken_for_one_without() -> None:
    pages = drive(REPLIES.read, Played(rows(message("1"))))
    assert unread(pages) == {CHANNEL: ContractError}
    assert pages[-1].checkpoint["parts"] == {CHANNEL: {}}


# -- Chats ----------------------------------------------------------------------------------------


def test_an_edit_of_an_old_message_is_found_though_its_chat_does_not_move(person: Person) -> None:
    pages = drive(CHAT_MESSAGES.read, person.answer)
    assert held(CHAT_MESSAGES, pages) == person.store("chat_messages")
    before = person.store("chats")
    chats = [key.rpartition("/")[0] for key in person.store("chat_messages")]
    chat = max(set(chats), key=chats.count)
    oldest = min(key for key in person.store("chat_messages") if key.startswith(chat))
    person.order("chat_messages", "change", oldest, text="another")
    assert person.store("chats") == before
    changed = drive(CHAT_MESSAGES.read, person.answer, pages[-1].checkpoint)
    assert held(CHAT_MESSAGES, [*pages, *changed]) == person.store("chat_messages")


def test_a_filter_of_chat_messages_is_heeded_only_with_an_order_by_the_same_time(
    person: Person,
) -> None:
    pages = drive(CHAT_MESSAGES.read, person.answer)
    chat = next(iter(person.store("chat_messages"))).rpartition("/")[0]
    path, text = f"/chats/{chat}/messages", "lastModifiedDateTime gt 2999-01-01T00:00:00Z"
    assert person.get(path, **{"$filter": text}).json()["value"]
    ordered = {"$filter": text, "$orderby": "lastModifiedDateTime desc"}
    assert person.get(path, **ordered).json()["value"] == []
    assert person.get(path, **{"$orderby": "lastModifiedDateTime asc"}).status_code == 400
    asked = Asked(person)
    drive(CHAT_MESSAGES.read, asked, pages[-1].checkpoint)
    messages = [one.params for one in asked.requests if one.path.endswith("messages")]
    assert messages
    for params in messages:
        assert params["$orderby"] == "lastModifiedDateTime desc"
        assert str(params["$filter"]).startswith("lastModifiedDateTime gt ")


# -- What may not be read -------------------------------------------------------------------------


def test_what_was_read_of_a_channel_goes_with_it(person: Person) -> None:
    pages = drive(MESSAGES.read, person.answer)
    team = list(person.store("teams"))[-1]
    person.order("teams", "delete", team)
    changed = drive(MESSAGES.read, person.answer, pages[-1].checkpoint)
    gone = [listing.prefix for page in changed for listing in page.listed_keys]
    assert gone
    assert all(prefix.startswith(f"{team}/") and prefix.endswith("/") for prefix in gone)
    assert not [place for place in changed[-1].checkpoint["parts"] if place.startswith(team)]
    assert held(MESSAGES, [*pages, *changed]) == person.store("channel_messages")


@pytest.mark.parametrize("stream", [MESSAGES, REPLIES], ids=lambda stream: stream.name)
def test_a_channel_that_the_person_left_is_told_from_a_permission_that_is_gone(
    person: Person, stream: Any
) -> None:
    pages = drive(stream.read, person.answer)
    first = next(iter(person.store("channels")))
    person.control("close", channel=first, listed=False)
    changed = drive(stream.read, raising(person.answer), pages[-1].checkpoint)
    assert [listing.prefix for page in changed for listing in page.listed_keys] == [f"{first}/"]
    assert first not in changed[-1].checkpoint["parts"]
    person.control("close", channel=first, closed=False)
    person.control("admin_consent", given=False)
    refused = before_the_error(stream, raising(person.answer), changed[-1].checkpoint)
    assert not [page for page in refused if page.listed_keys or page.deleted]
    person.control("admin_consent", given=True)
    later = NOW + timedelta(days=1)
    back = drive(stream.read, person.answer, refused[-1].checkpoint, now=later)
    assert held(stream, [*pages, *changed, *refused, *back]) == person.store(stream.name)


def before_the_error(stream: Stream, answer: Any, at: Checkpoint) -> list[Page]:
    """The pages of a read that all its parts refuse."""
    pages: list[Page] = []

    def read(at: Checkpoint, context: Context) -> Reader:
        reader = stream.read(at, context)
        sent: Any = None
        while True:
            failed = isinstance(sent, Exception)
            action = reader.throw(sent) if failed else reader.send(sent)
            if isinstance(action, Page):
                pages.append(action)
            try:
                sent = yield action
            except ConnectorError as error:
                sent = error

    with pytest.raises(NotAllowedError, match="administrator"):
        drive(read, answer, at)
    return pages


@pytest.mark.parametrize("stream", [MESSAGES, REPLIES], ids=lambda stream: stream.name)
def test_what_was_read_of_a_channel_that_is_listed_and_refused_stays(
    person: Person, stream: Stream
) -> None:
    pages = drive(stream.read, person.answer)
    first = next(iter(person.store("channels")))
    person.control("close", channel=first)
    changed = drive(stream.read, raising(person.answer), pages[-1].checkpoint)
    assert unread(changed) == {first: NotAllowedError}
    assert held(stream, [*pages, *changed]) == person.store(stream.name)


@pytest.mark.parametrize("stream", [MESSAGES, REPLIES, CHAT_MESSAGES], ids=lambda one: one.name)
def test_a_checkpoint_of_a_former_version_starts_its_stream_over(stream: Stream) -> None:
    for former in ({"kept": {CHANNEL: LINK}}, {"allowed": True, "todo": [CHANNEL]}):
        with pytest.raises(CheckpointExpiredError):
            drive(stream.read, Played(), Checkpoint(former))


def test_teams_that_all_refuse_to_show_their_channels_empty_nothing() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/me/joinedTeams":
            return rows({"id": "a"}, {"id": "b"})
        return refused(403)

    for name in ("channels", "channel_messages", "message_replies"):
        with pytest.raises(NotAllowedError):
            drive(TEAMS.stream(name).read, raising(answer), known())


def error(status: int, code: str, path: str) -> Response:
    body = {"error": {"code": code}}
    return Response(status=status, headers={}, json=body, url=f"{GRAPH}{path}", sent_at=NOW)


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (error(403, "Forbidden", "/me/joinedTeams"), NotAllowedError, "licence"),
        (error(403, "Forbidden", "/me/chats?$top=50"), NotAllowedError, "licence"),
        (error(403, "Forbidden", "/teams/t/channels"), NotAllowedError, "permission"),
        (error(401, "InvalidAuthenticationToken", "/me/joinedTeams"), type(None), ""),
        (error(429, "TooManyRequests", "/me/chats"), RateLimitedError, ""),
    ],
)
def test_a_licence_or_permission_that_is_missing_is_told_from_a_revoked_grant(
    answer: Response, expected: type, words: str
) -> None:
    found = TEAMS.classify(answer)
    assert isinstance(found, expected)
    assert words in str(found)


def connect(person: Person, **token: Any) -> Any:
    steps = TEAMS.identify({**person.tokens, **token}, {})
    sent: Any = None
    while True:
        try:
            request = steps.send(sent)
        except StopIteration as stop:
            return stop.value
        sent = person.answer(request)
        assert sent.status == 200 or sent.status in request.expect


def test_an_account_is_a_person_of_an_organisation(person: Person) -> None:
    (account,) = connect(person)
    assert account.id == person.id
    assert account.config["tenant_id"] != PERSONAL


def test_a_personal_account_is_refused(client: httpx.Client) -> None:
    with pytest.raises(BrokenConnectionError, match="work or school"):
        connect(Person(client, "ms_teams", personal=True))


def test_consent_is_asked_of_organisations_only() -> None:
    assert TEAMS.oauth.url_overrides == {"common": "organizations"}


def test_an_account_without_a_licence_is_told_so_when_it_connects(person: Person) -> None:
    person.control("licence", given=False)
    with pytest.raises(BrokenConnectionError, match="no licence"):
        connect(person)
    with pytest.raises(BrokenConnectionError, match="not allowed to our app"):
        connect(person, scope="openid User.Read")


# -- Webhooks -------------------------------------------------------------------------------------


def events(**notification: Any) -> Any:
    told = {"subscriptionId": "s", "changeType": "updated", "clientState": "x", **notification}
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={},
        body=httpx.Request("POST", "https://a.test", json={"value": [told]}).content,
        received_at=NOW,
    )  # fmt: skip
    assert TEAMS.webhook
    (event,) = TEAMS.webhook.events(delivery)
    return event


@pytest.mark.parametrize(
    ("resource", "stream", "key"),
    [
        ("teams('t')/channels('19:c@x')/messages('1')", "channel_messages", "t/19:c@x/1"),
        (
            "teams('t')/channels('19:c@x')/messages('1')/replies('2')",
            "message_replies",
            "t/19:c@x/1/2",
        ),
        ("chats('19:a_b@unq')/messages('1')", "chat_messages", "19:a_b@unq/1"),
        ("/teams/t/channels/19%3Ac%40x/messages/1", "channel_messages", "t/19:c@x/1"),
    ],
)
@pytest.mark.parametrize("change", ["created", "updated", "deleted"])
def test_a_notification_names_the_message_that_is_to_be_read(
    resource: str, stream: str, key: str, change: str
) -> None:
    event = events(resource=resource, changeType=change)
    assert (event.effect, event.streams, event.key) == (Effect.READ, (stream,), key)


def test_a_notification_about_what_we_cannot_read_is_a_hint() -> None:
    event = events(resource="teams('t')/something")
    assert event.effect is Effect.HINT
    assert TEAMS.webhook
    assert event.streams == TEAMS.webhook.covers


@pytest.mark.parametrize("name", ["channel_messages", "message_replies", "chat_messages"])
def test_what_a_notification_names_is_read_by_its_id(person: Person, name: str) -> None:
    stream = TEAMS.stream(name)
    assert stream.fetch
    key, other, *_ = person.store(name)
    person.order(name, "delete", other)
    keys = [key, other, f"{key}0"]
    reader = stream.fetch

    (page,) = drive(lambda at, context: reader(keys, context), person.answer)
    assert held(stream, [page]) == {key: person.store(name)[key]}
    assert page.deleted == [other, f"{key}0"]


def test_every_channel_and_chat_has_a_watch_of_its_own(person: Person) -> None:
    def resources() -> set[str]:
        assert TEAMS.watch
        steps = TEAMS.watch.resources(Context(now=NOW, account_id="a"))
        sent: Any = None
        while True:
            try:
                sent = person.answer(steps.send(sent))
            except StopIteration as stop:
                return set(stop.value)

    channels = {
        "/teams/{}/channels/{}/messages".format(*key.split("/")) for key in person.store("channels")
    }
    chats = {f"/chats/{key}/messages" for key in person.store("chats")}
    assert resources() == channels | chats
    person.tokens = person.grant(["User.Read", "Team.ReadBasic.All", "Channel.ReadBasic.All"])
    assert resources() == channels


def test_a_watch_lasts_three_days_at_most_and_has_an_address_for_lifecycle_notifications() -> None:
    assert TEAMS.watch
    assert TEAMS.watch.lifetime < timedelta(minutes=4_320)
    assert TEAMS.watch.streams("/chats/c/messages") == ("chat_messages",)
    assert TEAMS.watch.streams("/teams/t/channels/c/messages") == (
        "channel_messages",
        "message_replies",
    )


@pytest.mark.parametrize(
    ("lifecycle", "effect"),
    [("reauthorizationRequired", Effect.RENEW), ("subscriptionRemoved", Effect.LOST)],
)
def test_a_lifecycle_notification_is_about_its_watch(lifecycle: str, effect: Effect) -> None:
    event = events(lifecycleEvent=lifecycle)
    assert (event.effect, event.watch_id) == (effect, "s")


def test_what_a_watch_missed_is_not_told_of_so_teams_is_polled_too() -> None:
    assert TEAMS.sync_type is SyncType.HYBRID
