"""Microsoft's own SDK and token library against the sandbox, with only their addresses set."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders
import msal
import pytest
import requests
from kiota_abstractions.api_error import APIError
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph.generated.drives.item.items.item.delta.delta_request_builder import (
    DeltaRequestBuilder,
)

from sandbox import start
from tests.referees._graph import signed_in

pytestmark = pytest.mark.referee

PAGED = DeltaRequestBuilder.DeltaRequestBuilderGetQueryParameters
BACK = "http://127.0.0.1:9/callback"


class Referee:
    """The SDK, signed in to a drive of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int = 60) -> None:
        self.control = control
        made = control.post("/_control/onedrive/accounts", json={"size": size}).json()
        self.account = made["id"]
        self.connections = httpx.AsyncHTTPTransport()
        self.graph = signed_in(control, "onedrive", self.account, self.connections)

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.control.get("/_control/onedrive/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def order(self, control: str, **body: Any) -> None:
        body = {"account": self.account, **body}
        self.control.post(f"/_control/onedrive/{control}", json=body).raise_for_status()

    async def delta(self) -> Any:
        """The delta builder of the drive's root: the SDK has none below /me/drive."""
        drive = await self.graph.me.drive.get()
        assert drive
        assert drive.id
        return self.graph.drives.by_drive_id(drive.id).items.by_drive_item_id("root").delta


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    with start(["onedrive"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post("/_control/onedrive/limits", json={"scale": 1000})
        yield client


@pytest.fixture
async def referee(control: httpx.Client) -> AsyncIterator[Referee]:
    made = Referee(control)
    yield made
    await made.connections.aclose()


async def round_of(delta: Any, page: Any) -> tuple[list[Any], str]:
    """All items of a round that begins with that page, and its delta link."""
    items = list(page.value)
    while page.odata_next_link:
        page = await delta.with_url(page.odata_next_link).get()
        items += page.value
    return items, page.odata_delta_link


async def test_who_consented_and_their_drives_are_named(referee: Referee) -> None:
    me = await referee.graph.me.get()
    assert me
    assert me.id == referee.account
    drives = await referee.graph.me.drives.get()
    assert drives
    assert [drive.id for drive in drives.value or []] == list(referee.store("drives"))
    (drive,) = list(drives.value or [])
    assert drive.drive_type == "business"
    assert drive.owner
    assert drive.owner.user
    assert drive.owner.user.id == referee.account


async def test_a_delta_is_enumerated_in_pages_and_then_tells_what_changed(
    referee: Referee,
) -> None:
    delta = await referee.delta()
    asked = RequestConfiguration(query_parameters=PAGED(top=25))
    items, link = await round_of(delta, await delta.get(request_configuration=asked))
    assert {item.id for item in items} == set(referee.store("drive_items"))
    before = referee.store("drive_items")
    referee.order("mutate", count=40, seed=5)
    items, link = await round_of(delta, await delta.with_url(link).get())
    latest = {item.id: item for item in items}
    after = referee.store("drive_items")
    gone = {id_ for id_, item in latest.items() if item.deleted}
    assert set(before) - gone | set(latest) - gone == set(after)
    assert {id_: latest[id_].name for id_ in latest.keys() & after.keys()} == {
        id_: after[id_]["name"] for id_ in latest.keys() & after.keys()
    }
    items, _ = await round_of(delta, await delta.with_url(link).get())
    assert items == []


async def test_the_latest_token_gives_a_baseline_without_an_enumeration(referee: Referee) -> None:
    drive = await referee.graph.me.drive.get()
    assert drive
    root = referee.graph.drives.by_drive_id(str(drive.id)).items.by_drive_item_id("root")
    page = await root.delta_with_token("latest").get()
    assert page
    assert page.value == []
    referee.order("mutate", count=3, seed=1)
    items, _ = await round_of(root.delta, await root.delta.with_url(page.odata_delta_link).get())
    assert items


async def test_a_delta_that_lapsed_is_refused_with_410(referee: Referee) -> None:
    delta = await referee.delta()
    _, link = await round_of(delta, await delta.get())
    referee.order("expire_checkpoints")
    with pytest.raises(APIError) as refused:
        await delta.with_url(link).get()
    assert refused.value.response_status_code == 410
    assert refused.value.error.code == "resyncChangesApplyDifferences"
    location = refused.value.response_headers["location"]
    items, _ = await round_of(delta, await delta.with_url(location).get())
    assert {item.id for item in items} == set(referee.store("drive_items"))


async def test_items_children_and_permissions_are_read_by_id(control: httpx.Client) -> None:
    referee = Referee(control, size=12)
    drive = await referee.graph.me.drive.get()
    assert drive
    items = referee.graph.drives.by_drive_id(str(drive.id)).items
    stored = referee.store("drive_items")
    permissions = referee.store("permissions")
    for id_, expected in stored.items():
        item = await items.by_drive_item_id(id_).get()
        assert item
        assert (item.name, item.size) == (expected["name"], expected["size"])
        assert (item.folder is not None) == ("folder" in expected)
        shared = await items.by_drive_item_id(id_).permissions.get()
        assert shared
        assert {f"{id_}/{one.id}" for one in shared.value or ()} == {
            key for key in permissions if key.startswith(f"{id_}/")
        }
        children = await items.by_drive_item_id(id_).children.get()
        assert children
        assert {child.id for child in children.value or ()} == {
            key for key, one in stored.items() if one["parentReference"].get("id") == id_
        }
    await referee.connections.aclose()


async def test_an_item_that_is_not_there_is_not_found(referee: Referee) -> None:
    drive = await referee.graph.me.drive.get()
    assert drive
    items = referee.graph.drives.by_drive_id(str(drive.id)).items
    with pytest.raises(APIError) as refused:
        await items.by_drive_item_id("01NOTTHERE").get()
    assert refused.value.response_status_code == 404


@pytest.mark.filterwarnings("ignore:response_mode='form_post' is recommended")
def test_microsofts_own_token_library_signs_in_and_refreshes(control: httpx.Client) -> None:
    described = control.get("/_control").json()["onedrive"]
    account = control.post("/_control/onedrive/accounts", json={"size": 0}).json()["id"]
    session = requests.Session()
    origin = str(control.base_url).rstrip("/")

    class Lines:
        """The library takes Microsoft's own addresses only; they are answered from here."""

        def get(self, url: str, **options: Any) -> Any:
            answer = session.get(url.replace("https:/", origin, 1), **options)
            answer._content = answer.content.replace(origin.encode(), b"https:/")
            return answer

        def post(self, url: str, **options: Any) -> Any:
            return session.post(url.replace("https:/", origin, 1), **options)

        def close(self) -> None:
            session.close()

    app = msal.ConfidentialClientApplication(
        described["client_id"],
        client_credential=described["client_secret"],
        authority="https://login.microsoftonline.com/common",
        http_client=Lines(),
        instance_discovery=False,
    )
    flow = app.initiate_auth_code_flow(["Files.Read", "User.Read"], redirect_uri=BACK)
    back = control.post(
        flow["auth_uri"].replace("https:/", origin, 1),
        data={"account": account, "decision": "allow"},
    )
    answer = {k: v[0] for k, v in parse_qs(urlsplit(back.headers["location"]).query).items()}
    tokens = app.acquire_token_by_auth_code_flow(flow, answer)
    assert "error" not in tokens, tokens
    assert tokens["id_token_claims"]["oid"] == account
    again = app.acquire_token_by_refresh_token(tokens["refresh_token"], ["Files.Read"])
    assert "error" not in again, again
    assert again["access_token"] != tokens["access_token"]
    control.post("/_control/onedrive/tokens", json={"account": account, "op": "revoke"})
    refused = app.acquire_token_by_refresh_token(tokens["refresh_token"], ["Files.Read"])
    assert (refused["error"], refused["error_codes"]) == ("invalid_grant", [50173])
    session.close()
