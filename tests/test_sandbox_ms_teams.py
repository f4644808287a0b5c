"""Teams' sandbox: what it lists, in what order, what it refuses, and whom it tells of a message."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._delivered import Place, sandboxed
from tests._graph import GRAPH, Person, calm, problem
from tests._receiver import Answering, Received

BY_PREVIEW = "lastMessagePreview/createdDateTime desc"


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


def messages_at(person: Person) -> tuple[str, str]:
    """The path of the busiest channel's messages, and the beginning of their keys."""
    places = [key.rpartition("/")[0] for key in person.store("channel_messages")]
    team, _, channel = (place := max(set(places), key=places.count)).partition("/")
    return f"/teams/{team}/channels/{channel}/messages", place


def test_a_team_and_a_channel_can_be_asked_for_by_id(person: Person) -> None:
    team, _, channel = next(iter(person.store("channels"))).partition("/")
    assert person.get(f"/teams/{team}").json()["isArchived"] is False
    assert person.get(f"/teams/{team}/channels/{channel}").json()["id"] == channel
    for path in ("/teams/none", f"/teams/{team}/channels/none", f"/teams/none/channels/{channel}"):
        assert problem(person.get(path)) == (404, "NotFound")
    person.control("close", channel=f"{team}/{channel}", listed=False)
    assert problem(person.get(f"/teams/{team}/channels/{channel}")) == (403, "Forbidden")
    assert channel not in {row["id"] for row in person.all(f"/teams/{team}/channels")[0]}


def test_the_list_of_an_archived_team_lacks_its_private_channels_which_can_be_read(
    person: Person,
) -> None:
    team = next(iter(person.store("teams")))
    private = person.order("channels", "add", team_id=team, membershipType="private").json()["id"]
    path = f"/teams/{team}/channels"
    for archived in (True, False):
        person.control("archive", team=team, archived=archived)
        assert person.get(f"/teams/{team}").json()["isArchived"] is archived
        listed = {f"{team}/{row['id']}" for row in person.all(path)[0]}
        assert (private in listed) is not archived
        assert person.get(f"{path}/{private.partition('/')[2]}").status_code == 200


def test_the_thread_in_which_something_was_written_last_comes_first(person: Person) -> None:
    path, place = messages_at(person)
    oldest = person.all(path)[0][-1]["id"]
    person.order("message_replies", "add", message=f"{place}/{oldest}")
    assert person.all(path)[0][0]["id"] == oldest


def test_a_listing_of_messages_takes_neither_filter_nor_order(person: Person) -> None:
    path, _ = messages_at(person)
    for option in ({"$filter": "id eq '1'"}, {"$orderby": "id"}, {"$expand": "reactions"}):
        assert problem(person.get(path, **option)) == (400, "invalidRequest")


@pytest.mark.parametrize(
    "text", ["lastModifiedDateTime ge 2026-01-01T00:00:00Z", "createdDateTime gt 2026-01-01"]
)
def test_a_delta_is_filtered_by_the_time_of_a_change_only(person: Person, text: str) -> None:
    path, _ = messages_at(person)
    assert problem(person.get(f"{path}/delta", **{"$filter": text})) == (400, "invalidRequest")


@pytest.mark.parametrize("function", ["delta", "delta()"])
def test_a_delta_tells_of_a_thread_whose_reply_changed(person: Person, function: str) -> None:
    path, place = messages_at(person)
    asked = {"$expand": "replies", "$top": 50}
    _, _, link = person.all(f"{path}/{function}", **asked)
    assert f"/{function}?" in link
    above = next(key for key in person.store("channel_messages") if key.startswith(place))
    reply = person.order("message_replies", "add", message=above, text="here").json()["id"]
    (told,), _, _ = person.all(link)
    assert told["id"] == above.rpartition("/")[2]
    assert reply.rpartition("/")[2] in {one["id"] for one in told["replies"]}


def test_a_deleted_message_stays_without_its_text(person: Person) -> None:
    path, place = messages_at(person)
    key = next(key for key in person.store("channel_messages") if key.startswith(place))
    person.order("channel_messages", "delete", key)
    found = person.get(f"{path}/{key.rpartition('/')[2]}").json()
    assert found["deletedDateTime"] == found["lastModifiedDateTime"]
    assert found["body"]["content"] == ""
    assert key not in person.store("channel_messages")
    assert person.order("channel_messages", "change", key).status_code == 404


def test_a_reply_is_not_found_among_the_messages_of_its_channel(person: Person) -> None:
    key = next(iter(person.store("message_replies")))
    team, channel, above, id_ = key.split("/")
    path = f"/teams/{team}/channels/{channel}/messages"
    assert problem(person.get(f"{path}/{id_}")) == (404, "NotFound")
    assert person.get(f"{path}/{above}/replies/{id_}").json()["replyToId"] == above
    listed = person.all(f"{path}/{above}/replies")[0]
    assert id_ in {one["id"] for one in listed}


def test_a_chat_moves_to_the_front_by_what_is_written_and_is_updated_by_its_name(
    person: Person,
) -> None:
    asked = {"$expand": "lastMessagePreview", "$orderby": BY_PREVIEW}
    *_, last = person.all("/me/chats", **asked)[0]
    person.order("chat_messages", "add", chat=last["id"], text="new")
    first, *_ = person.all("/me/chats", **asked)[0]
    assert first["id"] == last["id"]
    assert first["lastMessagePreview"]["body"]["content"] == "new"
    assert first["lastUpdatedDateTime"] == last["lastUpdatedDateTime"]
    person.order("chats", "change", last["id"], topic="renamed")
    renamed = person.store("chats")[last["id"]]
    assert renamed["lastUpdatedDateTime"] > last["lastUpdatedDateTime"]
    assert problem(person.get("/me/chats", **{"$orderby": "topic"}))[0] == 400


def test_who_has_no_licence_or_no_permission_is_refused(
    person: Person, client: httpx.Client
) -> None:
    path, _ = messages_at(person)
    person.control("admin_consent", given=False)
    assert problem(person.get(path)) == (403, "Forbidden")
    assert person.get("/me/joinedTeams").status_code == 200
    person.tokens = person.grant(["Team.ReadBasic.All"])
    assert problem(person.get("/me/chats")) == (403, "Forbidden")
    person.control("licence", given=False)
    assert problem(person.get("/me/joinedTeams")) == (403, "Forbidden")
    private = Person(client, "ms_teams", personal=True)
    assert problem(private.get("/me/joinedTeams")) == (403, "Forbidden")


def test_what_cannot_be_done_is_refused(person: Person) -> None:
    first = next(iter(person.store("teams")))
    assert person.order("teams", "delete", first).status_code == 409
    assert person.order("channel_messages", "add", channel="no/where").status_code == 404
    assert person.order("chats", "add", members=3).status_code == 404


def test_nobody_is_in_a_team_of_an_empty_account(client: httpx.Client) -> None:
    nobody = Person(client, "ms_teams", size=0)
    assert nobody.get("/me/joinedTeams").json()["value"] == []
    assert nobody.order("message_replies", "add").status_code == 404
    assert nobody.order("teams", "add").status_code == 200
    assert len(nobody.store("channel_messages")) == 1


# -- Subscriptions --------------------------------------------------------------------------------


def proven(call: Received) -> Answering:
    token = call.query.get("validationToken")
    plain = {"content-type": "text/plain"}
    return Answering(202) if token is None else Answering(200, token.encode(), plain)


@pytest.fixture
def place() -> Iterator[Place]:
    with sandboxed("ms_teams") as made:
        made.receiver.answer = proven
        yield made


def subscribe(place: Place, account: str, resource: str, lasts: timedelta, **more: Any) -> Any:
    body = {
        "changeType": "created,updated,deleted",
        "notificationUrl": place.receiver.url,
        "lifecycleNotificationUrl": place.receiver.url,
        "resource": resource,
        "expirationDateTime": (datetime.now(UTC) + lasts).isoformat(),
        "clientState": "canary",
        **more,
    }
    return place.call(account, "POST", f"{GRAPH}/subscriptions", body)


def told(place: Place) -> list[dict[str, Any]]:
    place.standing(idle=True)
    calls = [call for call in place.receiver.calls if call.body]
    return [one for call in calls for one in json.loads(call.body)["value"]]


def test_a_subscription_of_more_than_an_hour_needs_an_address_for_lifecycle_notifications(
    place: Place,
) -> None:
    account = place.connect(size=5)
    chat = next(iter(place.store(account)["chats"]))
    resource, alone = f"/chats/{chat}/messages", {"lifecycleNotificationUrl": None}
    assert subscribe(place, account, resource, timedelta(hours=2), **alone).status_code == 400
    assert subscribe(place, account, resource, timedelta(minutes=59), **alone).status_code == 201
    assert subscribe(place, account, resource, timedelta(hours=71)).status_code == 201
    assert subscribe(place, account, resource, timedelta(hours=73)).status_code == 400


def test_only_what_happens_in_a_channel_or_chat_is_told_to_who_watches_it(place: Place) -> None:
    account = place.connect(size=8)
    store = place.store(account)
    key = next(iter(store["message_replies"]))
    team, channel, above, id_ = key.split("/")
    watched = f"/teams/{team}/channels/{channel}/messages"
    assert subscribe(place, account, watched, timedelta(hours=1)).status_code == 201
    place.change(account, "message_replies", "change", id=key)
    place.change(account, "chat_messages", "add")
    other = next(one for one in store["channels"] if channel not in one)
    place.change(account, "channel_messages", "add", record={"channel": other})
    (notification,) = told(place)
    path = f"teams('{team}')/channels('{channel}')/messages('{above}')/replies('{id_}')"
    assert notification["resource"] == path
    assert notification["resourceData"]["id"] == id_
    assert (notification["changeType"], notification["clientState"]) == ("updated", "canary")
