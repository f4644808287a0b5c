"""Microsoft's own SDK against the sandbox's mailbox, with only its address set."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from kiota_abstractions.api_error import APIError
from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    BaseBearerTokenAuthenticationProvider,
)
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.generated.models.subscription import Subscription
from msgraph.generated.users.item.calendar_view.delta.delta_request_builder import (
    DeltaRequestBuilder as CalendarDelta,
)
from msgraph.generated.users.item.mail_folders.item.messages.delta.delta_request_builder import (
    DeltaRequestBuilder as MessageDelta,
)
from msgraph.generated.users.item.mail_folders.mail_folders_request_builder import (
    MailFoldersRequestBuilder,
)
from msgraph.graph_request_adapter import options
from msgraph_core import GraphClientFactory

from sandbox import start
from tests._receiver import receiving

pytestmark = pytest.mark.referee

IMMUTABLE = 'IdType="ImmutableId"'


class Token(AccessTokenProvider):  # type: ignore[misc]
    """Hands the SDK a token that the test got."""

    def __init__(self, value: str) -> None:
        self.value = value

    async def get_authorization_token(
        self, uri: str, additional_authentication_context: dict[str, Any] | None = None
    ) -> str:
        return self.value

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return AllowedHostsValidator([])


class Referee:
    """The SDK, signed in to a mailbox of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int = 40) -> None:
        self.control = control
        described = control.get("/_control").json()["outlook"]
        made = control.post("/_control/outlook/accounts", json={"size": size}).json()
        self.account = made["id"]
        tokens = control.post("/_control/outlook/grant", json={"account": self.account}).json()
        # The SDK wraps what connects, and does not close it.
        self.connections = httpx.AsyncHTTPTransport()
        client = httpx.AsyncClient(transport=self.connections)
        http = GraphClientFactory.create_with_default_middleware(client=client, options=options)
        bearer = BaseBearerTokenAuthenticationProvider(Token(tokens["access_token"]))
        adapter = GraphRequestAdapter(bearer, client=http)
        adapter.base_url = described["graph_url"]
        self.graph = GraphServiceClient(request_adapter=adapter)

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.control.get("/_control/outlook/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def order(self, control: str, **body: Any) -> None:
        body = {"account": self.account, **body}
        self.control.post(f"/_control/outlook/{control}", json=body).raise_for_status()

    def change(self, stream: str, op: str, id_: str | None = None, **record: Any) -> None:
        path = f"/_control/outlook/records/{stream}"
        body = {"op": op, "id": id_, "record": record}
        params = {"account": self.account}
        self.control.post(path, params=params, json=body).raise_for_status()


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    with start(["outlook"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post("/_control/outlook/limits", json={"scale": 1000})
        yield client


@pytest.fixture
async def referee(control: httpx.Client) -> AsyncIterator[Referee]:
    made = Referee(control)
    yield made
    await made.connections.aclose()


def asking(parameters: Any = None, prefer: str = IMMUTABLE) -> Any:
    """How a request is to be made; the SDK sends its headers with that one only."""
    made: Any = RequestConfiguration(query_parameters=parameters)
    made.headers.add("Prefer", prefer)
    return made


async def round_of(delta: Any, configuration: Any) -> tuple[dict[str, Any], str]:
    """Each row of a round as it occurs last, and its delta link."""
    page = await delta.get(request_configuration=configuration)
    rows = {row.id: row for row in page.value}
    while page.odata_next_link:
        page = await delta.with_url(page.odata_next_link).get(request_configuration=asking())
        rows |= {row.id: row for row in page.value}
    return rows, page.odata_delta_link


def is_removed(row: Any) -> bool:
    return "@removed" in row.additional_data


async def test_folders_are_listed_and_followed(referee: Referee) -> None:
    folders = referee.graph.me.mail_folders
    rows, link = await round_of(folders.delta, asking())
    stored = referee.store("mail_folders")
    assert {id_: row.display_name for id_, row in rows.items()} == {
        id_: row["displayName"] for id_, row in stored.items()
    }
    parameters = MailFoldersRequestBuilder.MailFoldersRequestBuilderGetQueryParameters(
        top=100, include_hidden_folders="true"
    )
    listed = await folders.get(request_configuration=asking(parameters))
    assert listed
    above = {one.id: one.child_folder_count for one in listed.value or []}
    nested = 0
    for id_, count in above.items():
        below = await folders.by_mail_folder_id(str(id_)).child_folders.get()
        assert below
        assert len(below.value or []) == count
        nested += count or 0
    assert nested
    assert len(above) + nested == len(stored)
    referee.change("mail_folders", "add", displayName="New")
    changed, _ = await round_of(folders.delta.with_url(link), asking())
    assert [row.display_name for row in changed.values() if not is_removed(row)] == ["New"]


async def test_messages_are_followed_folder_by_folder_with_ids_that_stay(
    referee: Referee,
) -> None:
    inbox = await referee.graph.me.mail_folders.by_mail_folder_id("inbox").get()
    assert inbox
    delta = referee.graph.me.mail_folders.by_mail_folder_id(str(inbox.id)).messages.delta
    paged = f"{IMMUTABLE}, odata.maxpagesize=3"
    rows, link = await round_of(delta, asking(prefer=paged))
    stored = {
        key.split("/")[1]: row
        for key, row in referee.store("messages").items()
        if row["folder_id"] == inbox.id
    }
    assert len(rows) > 3
    assert {id_: row.subject for id_, row in rows.items()} == {
        id_: row["subject"] for id_, row in stored.items()
    }
    moved, gone, *_ = stored
    other = next(id_ for id_ in referee.store("mail_folders") if id_ != inbox.id)
    referee.change("messages", "change", f"{inbox.id}/{moved}", folder_id=other)
    referee.change("messages", "delete", f"{inbox.id}/{gone}")
    changed, _ = await round_of(delta.with_url(link), asking())
    assert set(changed) == {moved, gone}
    assert all(is_removed(row) for row in changed.values())
    message = await referee.graph.me.messages.by_message_id(moved).get(
        request_configuration=asking()
    )
    assert message
    assert message.parent_folder_id == other


async def test_a_delta_of_messages_takes_a_filter_by_when_they_came(referee: Referee) -> None:
    since = datetime.now(UTC) - timedelta(days=150)
    parameters = MessageDelta.DeltaRequestBuilderGetQueryParameters(
        filter=f"receivedDateTime ge {since:%Y-%m-%dT%H:%M:%SZ}", select=["subject"]
    )
    delta = referee.graph.me.mail_folders.by_mail_folder_id("inbox").messages.delta
    rows, _ = await round_of(delta, asking(parameters))
    every, _ = await round_of(delta, asking())
    late = {id_ for id_, row in every.items() if row.received_date_time >= since}
    assert set(rows) == late
    assert 0 < len(late) < len(every)
    assert all(row.received_date_time is None for row in rows.values())


async def test_attachments_are_listed_below_their_message(referee: Referee) -> None:
    stored = referee.store("attachments")
    message_id = next(iter(stored.values()))["message_id"]
    message = referee.graph.me.messages.by_message_id(message_id)
    listed = await message.attachments.get()
    assert listed
    assert {one.id: one.name for one in listed.value or []} == {
        row["id"]: row["name"] for row in stored.values() if row["message_id"] == message_id
    }


async def test_a_calendar_is_followed_in_its_window(referee: Referee) -> None:
    now, year = datetime.now(UTC), timedelta(days=365)
    window = CalendarDelta.DeltaRequestBuilderGetQueryParameters(
        start_date_time=f"{now - year:%Y-%m-%dT%H:%M:%SZ}",
        end_date_time=f"{now + year:%Y-%m-%dT%H:%M:%SZ}",
    )
    delta = referee.graph.me.calendar_view.delta
    rows, link = await round_of(delta, asking(window))
    assert {id_: row.start.date_time for id_, row in rows.items()} == {
        id_: row["start"]["dateTime"] for id_, row in referee.store("events").items()
    }
    referee.change("events", "add", subject="Now")
    far = {"dateTime": f"{now + 2 * year:%Y-%m-%dT%H:%M:%S}", "timeZone": "UTC"}
    referee.change("events", "add", start=far)
    changed, _ = await round_of(delta.with_url(link), asking())
    assert sorted(is_removed(row) for row in changed.values()) == [False, True]
    with pytest.raises(APIError) as refused:
        await delta.get(request_configuration=asking())
    assert refused.value.response_status_code == 400


async def test_contacts_are_followed(referee: Referee) -> None:
    delta = referee.graph.me.contacts.delta
    rows, link = await round_of(delta, asking())
    stored = referee.store("contacts")
    assert {id_: row.display_name for id_, row in rows.items()} == {
        id_: row["displayName"] for id_, row in stored.items()
    }
    gone = next(iter(stored))
    referee.change("contacts", "delete", gone)
    changed, _ = await round_of(delta.with_url(link), asking())
    assert [(row.id, is_removed(row)) for row in changed.values()] == [(gone, True)]


async def test_a_delta_that_lapsed_is_refused_with_410(referee: Referee) -> None:
    delta = referee.graph.me.contacts.delta
    _, link = await round_of(delta, asking())
    referee.order("expire_checkpoints")
    with pytest.raises(APIError) as refused:
        await delta.with_url(link).get()
    assert refused.value.response_status_code == 410
    assert refused.value.error.code == "syncStateNotFound"


async def test_a_mailbox_that_is_not_there_says_so(referee: Referee) -> None:
    referee.order("provision", provisioned=False)
    with pytest.raises(APIError) as refused:
        await referee.graph.me.mail_folders.get()
    assert refused.value.response_status_code == 404
    assert refused.value.error.code == "MailboxNotEnabledForRESTAPI"


async def test_an_address_has_to_prove_itself_before_it_is_subscribed(referee: Referee) -> None:
    with receiving() as receiver:
        with pytest.raises(APIError) as refused:
            await referee.graph.subscriptions.post(
                Subscription(
                    change_type="created,updated,deleted",
                    notification_url=receiver.url,
                    resource="/me/messages",
                    expiration_date_time=datetime.now(UTC) + timedelta(days=6),
                    client_state="secret",
                )
            )
        assert refused.value.response_status_code == 400
        assert [call.query.keys() for call in receiver.calls] == [{"validationToken"}]
