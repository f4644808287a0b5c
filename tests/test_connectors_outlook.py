"""Outlook's readers, driven over the sandbox's mailbox and over played answers."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    Delivery,
    Effect,
    NotAllowedError,
    Page,
    RateLimitedError,
    Request,
    Response,
    load,
)
from connectors._microsoft import DELTA, GRAPH, NEXT
from connectors.outlook.reading import folders
from sandbox import start
from tests._driving import NOW, drive, response
from tests._graph import Person, calm

OUTLOOK = load("outlook")
FOLDERS, MESSAGES, ATTACHMENTS, EVENTS, CONTACTS = OUTLOOK.streams
LINK = f"{GRAPH}/me/mailFolders/f/messages/delta?$deltatoken=1"
DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["outlook"]) as origin:
        yield origin


@pytest.fixture
def client(origin: str) -> Iterator[httpx.Client]:
    with calm(origin, "outlook") as client:
        yield client


@pytest.fixture
def person(client: httpx.Client) -> Person:
    return Person(client, "outlook", size=40)


def merged(pages: list[Page], stream: Any, held: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is stored of these pages, after what was held before."""
    rows = dict(held or {})
    for page in pages:
        key = stream.key if callable(stream.key) else (lambda record: record["id"])
        rows |= {str(key(record)): record for record in page.records}
        for part in page.partial:
            if (changed := str(key(part))) in rows:
                rows[changed] = {**rows[changed], **part}
        for gone in page.deleted:
            rows.pop(gone, None)
        for listing in page.listed_keys:
            under = [key for key in rows if key.startswith(listing.prefix)]
            for lost in set(under) - set(listing.keys):
                del rows[lost]
    return rows


def error(status: int, code: str) -> Response:
    return response({"error": {"code": code}}, status)


def listed(*ids: str, **more: Any) -> Response:
    return response({"value": [{"id": id_, "childFolderCount": 0, **more} for id_ in ids]})


def noted(person: Person) -> tuple[list[Request], Any]:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return person.answer(request)

    return asked, answer


def links(here: Checkpoint) -> list[str]:
    return [place["link"] for place in here["parts"].values()]


def folder_ids(answer: Any) -> list[str]:
    steps: Any = folders(Context(now=NOW, account_id="a"))
    sent: Any = None
    while True:
        try:
            asked = steps.send(sent)
        except StopIteration as stop:
            return list(stop.value.present)
        sent = tuple(map(answer, asked)) if isinstance(asked, tuple) else answer(asked)


@pytest.mark.parametrize("stream", OUTLOOK.streams, ids=lambda stream: stream.name)
def test_each_stream_is_read_whole_and_then_by_its_delta_links(
    client: httpx.Client, stream: Any
) -> None:
    person = Person(client, "outlook", size=120)
    now = datetime.now(UTC)
    pages = drive(stream.read, person.answer, now=now)
    held = merged(pages, stream)
    assert held == person.store(stream.name)
    for seed in range(3):
        person.control("mutate", count=60, seed=seed)
        pages = drive(stream.read, person.answer, pages[-1].checkpoint, now=now)
        held = merged(pages, stream, held)
        assert held == person.store(stream.name)


# -- messages: one delta state for each folder, whose links are used as they are


def test_each_folder_has_a_delta_of_its_own(person: Person) -> None:
    here = drive(MESSAGES.read, person.answer)[-1].checkpoint
    assert set(here["parts"]) == set(person.store("mail_folders"))
    assert len(set(links(here))) == len(here["parts"])


def test_a_link_is_used_as_it_is_with_the_headers_of_the_first_call(person: Person) -> None:
    here = drive(MESSAGES.read, person.answer)[-1].checkpoint
    asked, answer = noted(person)
    drive(MESSAGES.read, answer, here)
    deltas = [request for request in asked if "delta" in request.path]
    assert {request.path for request in deltas} == set(links(here))
    for request in deltas:
        assert not request.params
        assert request.headers["prefer"] == 'IdType="ImmutableId", odata.maxpagesize=50'


def test_ids_stay_when_a_message_is_moved_because_every_request_asks_for_immutable_ones(
    person: Person,
) -> None:
    assert OUTLOOK.headers == {"prefer": 'IdType="ImmutableId"'}
    before = drive(MESSAGES.read, person.answer)
    key = next(iter(person.store("messages")))
    folder, id_ = key.split("/")
    other = next(one for one in person.store("mail_folders") if one != folder)
    person.order("messages", "change", key, folder_id=other)
    pages = drive(MESSAGES.read, person.answer, before[-1].checkpoint)
    (row,) = [row for page in pages for row in page.records]
    assert (row["id"], row["folder_id"]) == (id_, other)


@pytest.mark.parametrize("immutable", [True, False])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_move_is_no_delete_in_whichever_order_its_folders_are_read(
    person: Person, backwards: bool, immutable: bool
) -> None:
    def answer(request: Request) -> Response:
        headers = dict(request.headers) if immutable else {}
        return person.answer(Request(request.method, request.path, request.params, headers=headers))

    pages = drive(MESSAGES.read, answer)
    held = merged(pages, MESSAGES)
    inhabited = [key.split("/")[0] for key in person.store("messages")]
    source, target = sorted(set(inhabited), reverse=backwards)[:2]
    key = next(key for key in person.store("messages") if key.startswith(source))
    person.order("messages", "change", key, folder_id=target)
    held = merged(drive(MESSAGES.read, answer, pages[-1].checkpoint), MESSAGES, held)
    stored = person.store("messages")
    assert sorted(row["internetMessageId"] for row in held.values()) == sorted(
        row["internetMessageId"] for row in stored.values()
    )
    assert {row["internetMessageId"]: row["folder_id"] for row in held.values()} == {
        row["internetMessageId"]: row["folder_id"] for row in stored.values()
    }


def test_a_backfill_is_not_filtered_which_would_cap_it(person: Person) -> None:
    asked, answer = noted(person)
    drive(MESSAGES.read, answer)
    drive(ATTACHMENTS.read, answer)
    names = {name for request in asked for name in request.params}
    links = {name for request in asked for name in parse_qs(urlsplit(request.path).query)}
    assert "$filter" not in names | links


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (410, "syncStateNotFound"),
        (410, ""),
        (400, "SyncStateInvalid"),
        (404, "SYNCSTATENOTFOUND"),
        (400, "resyncRequired"),
    ],
)
@pytest.mark.parametrize("stream", OUTLOOK.streams, ids=lambda stream: stream.name)
def test_a_lapsed_delta_starts_over_whatever_it_is_called(
    person: Person, stream: Any, status: int, code: str
) -> None:
    now = datetime.now(UTC)
    here = drive(stream.read, person.answer, now=now)[-1].checkpoint
    person.control("resync", status=status, code=code)
    person.control("expire_checkpoints")
    with pytest.raises(CheckpointExpiredError):
        drive(stream.read, person.answer, here, now=now)
    assert merged(drive(stream.read, person.answer, now=now), stream) == person.store(stream.name)


def test_an_empty_page_with_a_next_link_is_not_the_end() -> None:
    following = f"{LINK}&next"

    def answer(request: Request) -> Response:
        if request.path == "/me/mailFolders":
            return listed("f")
        if request.path == following:
            return response({"value": [{"id": "m"}], DELTA: LINK})
        return response({"value": [], NEXT: following})

    pages = drive(MESSAGES.read, answer)
    assert [row["id"] for page in pages for row in page.records] == ["m"]
    assert pages[-1].checkpoint == {"parts": {"f": {"link": LINK}}}


# -- folders: nested and hidden ones, and what failed is never none


def test_messages_of_nested_and_hidden_folders_are_read(person: Person) -> None:
    assert set(folder_ids(person.answer)) == set(person.store("mail_folders"))
    shown = person.all("/me/mailFolders", **{"$top": 100})[0]
    assert len(shown) < len(person.store("mail_folders"))


def test_a_search_folder_has_no_messages_of_its_own() -> None:
    searching = {"@odata.type": "#microsoft.graph.mailSearchFolder"}
    assert folder_ids(lambda request: listed("s", **searching)) == []
    assert folder_ids(lambda request: listed("f")) == ["f"]


def test_a_folder_that_goes_takes_its_messages_and_their_attachments(person: Person) -> None:
    folder = person.order("mail_folders", "add").json()["id"]
    person.order("messages", "add", folder_id=folder, files=1)
    for stream in (MESSAGES, ATTACHMENTS):
        pages = drive(stream.read, person.answer)
        held = merged(pages, stream)
        assert any(key.startswith(f"{folder}/") for key in held)
        if stream is ATTACHMENTS:
            person.order("mail_folders", "delete", folder)
            held = merged(drive(stream.read, person.answer, pages[-1].checkpoint), stream, held)
            assert held == person.store(stream.name)


def test_folders_that_cannot_be_listed_are_not_taken_for_none() -> None:
    def answer(request: Request) -> Response:
        if "childFolders" in request.path:
            return error(404, "MailboxNotEnabledForRESTAPI")
        return listed("f", childFolderCount=1)

    with pytest.raises(ContractError):
        folder_ids(answer)
    # Nothing that is refused at the top is for the reader: the client raises it.
    steps: Any = folders(Context(now=NOW, account_id="a"))
    (first,) = next(steps)
    assert first.expect == ()


def test_a_folder_that_may_not_be_read_is_not_taken_for_one_that_is_gone() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        if "delta" in request.path:
            return response({"value": [], DELTA: LINK})
        return listed("f")

    drive(MESSAGES.read, answer)
    assert asked[-1].expect == (404,)


def test_a_folder_whose_inside_is_gone_by_now_has_none() -> None:
    def answer(request: Request) -> Response:
        if "childFolders" in request.path:
            return error(404, "ErrorItemNotFound")
        return listed("f", childFolderCount=1)

    assert folder_ids(answer) == ["f"]


# -- attachments: of messages that changed and have some; deletes by absence


def test_attachments_are_asked_for_where_a_message_has_some_and_without_their_content(
    person: Person,
) -> None:
    asked, answer = noted(person)
    pages = drive(ATTACHMENTS.read, answer)
    having = {row["id"] for row in person.store("messages").values() if row["hasAttachments"]}
    of = {request.path.split("/")[3] for request in asked if request.path.endswith("attachments")}
    assert len(of) == len(having)
    rows = [row for page in pages for row in page.records]
    assert rows
    assert not any("contentBytes" in row for row in rows)


def test_an_attachment_that_was_taken_away_is_known_by_its_absence(person: Person) -> None:
    pages = drive(ATTACHMENTS.read, person.answer)
    held = merged(pages, ATTACHMENTS)
    key = next(iter(held))
    person.order("attachments", "delete", key)
    held = merged(drive(ATTACHMENTS.read, person.answer, pages[-1].checkpoint), ATTACHMENTS, held)
    assert key not in held
    assert held == person.store("attachments")


def test_attachments_that_cannot_be_listed_are_not_taken_for_none() -> None:
    def answer(request: Request) -> Response:
        if request.path.endswith("attachments"):
            return error(404, "MailboxNotEnabledForRESTAPI")
        if "delta" in request.path:
            return response({"value": [{"id": "m", "hasAttachments": True}], DELTA: LINK})
        return listed("f")

    pages = drive(ATTACHMENTS.read, answer)
    assert not any(page.records or page.listed_keys or page.deleted for page in pages)
    (unread,) = pages[-1].unread or ()
    assert (unread.part, type(unread.error)) == ("f", ContractError)


def test_a_checkpoint_of_before_each_folder_had_one_of_its_own_goes_on(person: Person) -> None:
    pages = drive(MESSAGES.read, person.answer)
    held = merged(pages, MESSAGES)
    here = pages[-1].checkpoint
    former = {"links": {id_: place["link"] for id_, place in here["parts"].items()}}
    person.control("mutate", count=30, seed=1)
    later = drive(MESSAGES.read, person.answer, former)
    assert merged(later, MESSAGES, held) == person.store("messages")
    assert sum(len(page.records) for page in later) < len(held)


# -- events: a window that the first request fixes


def test_a_calendar_is_asked_for_with_a_window_and_no_other_option(person: Person) -> None:
    asked, answer = noted(person)
    drive(EVENTS.read, answer)
    assert set(asked[0].params) == {"startDateTime", "endDateTime"}
    refused = person.get("/me/calendarView/delta", **asked[0].params, **{"$select": "id"})
    assert refused.status_code == 400


def test_the_window_moves_on_by_reading_the_calendar_anew() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return response({"value": [], DELTA: LINK})

    (page,) = drive(EVENTS.read, answer)
    drive(EVENTS.read, answer, page.checkpoint, now=NOW + 29 * DAY)
    assert asked[-1].path == LINK
    with pytest.raises(CheckpointExpiredError):
        drive(EVENTS.read, answer, page.checkpoint, now=NOW + 31 * DAY)
    drive(EVENTS.read, answer, now=NOW + 31 * DAY)
    first, last = asked[0].params["startDateTime"], asked[-1].params["startDateTime"]
    moved = datetime.fromisoformat(str(last)) - datetime.fromisoformat(str(first))
    assert moved == 31 * DAY


def test_an_event_outside_of_the_window_is_told_as_removed_and_comes_back_with_it(
    person: Person,
) -> None:
    now = datetime.now(UTC)
    pages = drive(EVENTS.read, person.answer, now=now)
    held = merged(pages, EVENTS)
    far = {"dateTime": f"{now + 380 * DAY:%Y-%m-%dT%H:%M:%S}", "timeZone": "UTC"}
    single = next(id_ for id_, row in held.items() if row["type"] == "singleInstance")
    person.order("events", "change", single, start=far)
    unknown = person.order("events", "add", start=far).json()["id"]
    (page,) = drive(EVENTS.read, person.answer, pages[-1].checkpoint, now=now)
    assert set(page.deleted) == {single, unknown}
    assert person.get(f"/me/events/{single}").status_code == 200
    later = merged(drive(EVENTS.read, person.answer, now=now + 31 * DAY), EVENTS)
    assert {single, unknown} <= set(later)


# -- contacts and errors


def test_a_contact_that_is_gone_is_told_as_removed(person: Person) -> None:
    pages = drive(CONTACTS.read, person.answer)
    gone = next(iter(person.store("contacts")))
    person.order("contacts", "delete", gone)
    (page,) = drive(CONTACTS.read, person.answer, pages[-1].checkpoint)
    assert list(page.deleted) == [gone]


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (error(404, "MailboxNotEnabledForRESTAPI"), NotAllowedError),
        (error(403, "ErrorAccessDenied"), NotAllowedError),
        (error(429, "ApplicationThrottled"), RateLimitedError),
        (error(429, "TooManyRequests"), RateLimitedError),
        (error(401, "InvalidAuthenticationToken"), type(None)),
    ],
)
def test_a_withdrawn_scope_is_told_from_a_mailbox_that_is_not_there(
    answer: Response, expected: type
) -> None:
    assert isinstance(OUTLOOK.classify(answer), expected)


def connect(person: Person) -> Any:
    steps, sent = OUTLOOK.identify(person.tokens, {}), None
    while True:
        try:
            asked = steps.send(sent)  # type: ignore[arg-type]
        except StopIteration as stop:
            return stop.value
        sent = person.answer(asked)


def test_an_account_is_a_person_with_a_mailbox_in_a_directory(person: Person) -> None:
    (account,) = connect(person)
    assert (account.id, account.name) == (person.id, person.get("/me").json()["mail"])
    assert account.config["tenant_id"]
    person.control("provision", provisioned=False)
    with pytest.raises(BrokenConnectionError, match="no licence"):
        connect(person)


def test_four_requests_at_once_are_what_a_mailbox_takes() -> None:
    assert OUTLOOK.concurrency == 4
    (limit,) = OUTLOOK.rate_limits
    assert (limit.amount, limit.per, limit.scope) == (10_000, timedelta(minutes=10), "account")


# -- webhooks: ids only, each proven by the secret of its own watch


def told(*notifications: dict[str, Any]) -> list[Any]:
    assert OUTLOOK.webhook
    body = json.dumps({"value": notifications}).encode()
    return list(
        OUTLOOK.webhook.events(
            Delivery(
                method="POST", url="https://ours.test", headers={}, query={}, body=body,
                received_at=NOW,
            )
        )
    )  # fmt: skip


def notification(kind: str, **more: Any) -> dict[str, Any]:
    data = {"@odata.type": f"#Microsoft.Graph.{kind}", "id": "1", "@odata.etag": 'W/"a"'}
    base = {"subscriptionId": "w", "clientState": "s", "changeType": "updated"}
    return {**base, "resource": "Users/u/x/1", "resourceData": data, **more}


@pytest.mark.parametrize(
    ("kind", "streams"),
    [
        ("Message", ("messages", "attachments")),
        ("Event", ("events",)),
        ("Contact", ("contacts",)),
        ("Another", ()),
    ],
)
def test_a_notification_hints_at_the_deltas_of_its_kind(
    kind: str, streams: tuple[str, ...]
) -> None:
    (event,) = told(notification(kind))
    assert (event.effect, event.streams, event.token) == (Effect.HINT, streams, "s")
    (bare,) = told({**notification(kind), "resourceData": None})
    assert (bare.effect, bare.streams) == (Effect.HINT, ())


def test_notifications_have_no_id_so_watch_change_record_and_version_stand_for_it() -> None:
    first, again, other = told(
        notification("Message"),
        notification("Message"),
        notification("Message", subscriptionId="v"),
    )
    assert first.id == again.id
    assert other.id != first.id
    assert (first.watch_id, other.watch_id) == ("w", "v")


@pytest.mark.parametrize(
    ("lifecycle", "effect"),
    [
        ("reauthorizationRequired", Effect.RENEW),
        ("subscriptionRemoved", Effect.LOST),
        ("missed", Effect.MISSED),
    ],
)
def test_what_happened_to_a_watch_is_told_apart(lifecycle: str, effect: Effect) -> None:
    (event,) = told({"subscriptionId": "w", "clientState": "s", "lifecycleEvent": lifecycle})
    assert event.effect is effect


def test_watches_live_under_a_week_and_are_of_mail_events_and_contacts(person: Person) -> None:
    watch = OUTLOOK.watch
    assert watch
    assert watch.lifetime < timedelta(minutes=10_080)
    steps = watch.resources(Context(now=NOW, account_id="a"))
    with pytest.raises(StopIteration) as stop:
        next(steps)
    covered = {stream for resource in stop.value.value for stream in watch.streams(resource)}
    assert OUTLOOK.webhook
    assert covered == set(OUTLOOK.webhook.covers)
    asked = {
        "changeType": "created,updated,deleted",
        "notificationUrl": "http://127.0.0.1:9/hook",
        "expirationDateTime": (datetime.now(UTC) + timedelta(days=8)).isoformat(),
    }
    refused = person.call("POST", "/subscriptions", json={**asked, "resource": "/me/messages"})
    assert "10080 minutes" in refused.json()["error"]["message"]


@pytest.mark.parametrize("stream", [MESSAGES, ATTACHMENTS, EVENTS], ids=lambda stream: stream.name)
def test_each_checkpoint_of_a_round_resumes_it(client: httpx.Client, stream: Any) -> None:
    person, now = Person(client, "outlook", size=90), datetime.now(UTC)
    listed_keys = drive(stream.read, person.answer, Checkpoint(), now=now)
    for stop in range(1, len(listed_keys), 3):
        rest = drive(stream.read, person.answer, listed_keys[stop - 1].checkpoint, now=now)
        assert merged([*listed_keys[:stop], *rest], stream) == person.store(stream.name)


@pytest.mark.parametrize("stream", [MESSAGES, ATTACHMENTS], ids=lambda stream: stream.name)
def test_a_message_that_was_moved_there_and_back_is_held(person: Person, stream: Any) -> None:
    pages = drive(stream.read, person.answer)
    held = merged(pages, stream)
    key = next(iter(person.store("attachments"))).rpartition("/")[0]
    assert any(one.startswith(key) for one in held)
    person.control("there_and_back", message=key)
    seen = person.all(f"/me/mailFolders/{key.split('/')[0]}/messages", **{"$top": 1000})[0]
    assert key.split("/")[0] in {row["parentFolderId"] for row in seen}
    held = merged(drive(stream.read, person.answer, pages[-1].checkpoint), stream, held)
    assert held == person.store(stream.name)
    assert merged(drive(stream.read, person.answer), stream) == person.store(stream.name)


def test_a_message_that_was_marked_as_read_is_told_in_part_and_held_whole(person: Person) -> None:
    pages = drive(MESSAGES.read, person.answer)
    held = merged(pages, MESSAGES)
    key, row = next(iter(person.store("messages").items()))
    person.order("messages", "change", key, isRead=not row["isRead"])
    pages = drive(MESSAGES.read, person.answer, pages[-1].checkpoint)
    (part,) = [row for page in pages for row in page.partial]
    assert "subject" not in part
    assert merged(pages, MESSAGES, held) == person.store("messages")
    # Another change before the next round makes it whole.
    person.order("messages", "change", key, isRead=row["isRead"])
    person.order("messages", "change", key, subject="Another")
    pages = drive(MESSAGES.read, person.answer, pages[-1].checkpoint)
    assert merged(pages, MESSAGES, held) == person.store("messages")


def test_an_occurrence_that_is_taken_out_of_its_series_goes(client: httpx.Client) -> None:
    person, now = Person(client, "outlook", size=240), datetime.now(UTC)
    pages = drive(EVENTS.read, person.answer, now=now)
    held = merged(pages, EVENTS)
    key, row = next(item for item in held.items() if item[1]["type"] == "occurrence")
    assert row["subject"] == held[row["seriesMasterId"]]["subject"]
    person.order("events", "delete", key)
    pages = drive(EVENTS.read, person.answer, pages[-1].checkpoint, now=now)
    assert key not in [gone for page in pages for gone in page.deleted]
    held = merged(pages, EVENTS, held)
    assert key not in held
    assert held == person.store("events")
    # A round in which no series changed lists nothing.
    asked, answer = noted(person)
    drive(EVENTS.read, answer, pages[-1].checkpoint, now=now)
    assert len(asked) == 1


def test_a_calendar_is_listed_by_its_ids_for_the_audit(client: httpx.Client) -> None:
    person, now = Person(client, "outlook", size=240), datetime.now(UTC)
    assert EVENTS.listing
    assert set(merged(drive(EVENTS.listing, person.answer, now=now), EVENTS)) == set(
        person.store("events")
    )
    assert MESSAGES.listing
    assert set(merged(drive(MESSAGES.listing, person.answer), MESSAGES)) == set(
        person.store("messages")
    )
