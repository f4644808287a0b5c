"""HubSpot's own SDK against the sandbox, with only its host set."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from hubspot import HubSpot
from hubspot.crm.contacts import ApiException
from hubspot.crm.contacts.models import (
    BatchReadInputSimplePublicObjectId,
    Filter,
    FilterGroup,
    PublicObjectSearchRequest,
    SimplePublicObjectId,
    SimplePublicObjectInput,
    SimplePublicObjectInputForCreate,
)
from hubspot.oauth import ApiException as OAuthApiException

from sandbox import start
from tests._stopped import stopped

pytestmark = pytest.mark.referee

BACK = "http://127.0.0.1:9/back"


class Referee:
    """The SDK, signed in to an account of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int) -> None:
        self.control = control
        self.described = control.get("/_control").json()["hubspot"]
        made = control.post("/_control/hubspot/accounts", json={"id": _next(), "size": size})
        self.account = made.json()["id"]
        tokens = control.post("/_control/hubspot/grant", json={"account": self.account}).json()
        self.sdk = self.signed_in(tokens["access_token"])

    def signed_in(self, access_token: str | None) -> Any:
        return HubSpot(access_token=access_token, host=self.described["base_url"])

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/hubspot/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self) -> Any:
        answer = self.control.get("/_control/hubspot/store", params={"account": self.account})
        return answer.json()["streams"]


_numbers = iter(range(8_000_001, 9_000_000))


def _next() -> str:
    return str(next(_numbers))


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["hubspot"]) as origin:
        yield origin


@pytest.fixture
def referee(origin: str) -> Iterator[Referee]:
    with httpx.Client(base_url=origin, timeout=60) as control:
        control.delete("/_control/hubspot/faults")
        control.post("/_control/hubspot/limits", json={"scale": 100})
        yield Referee(control, size=120)


@pytest.mark.parametrize("kind", ["contacts", "companies", "deals", "tickets"])
def test_the_sdk_pages_through_every_object_and_reads_its_properties(
    referee: Referee, kind: str
) -> None:
    store = referee.store()[kind]
    names = list(next(iter(store.values()))["properties"])
    rows = getattr(referee.sdk.crm, kind).get_all(properties=names)
    assert len(rows) == len(store)
    for row in rows:
        assert row.properties == store[row.id]["properties"]
        assert row.archived is False
        assert row.created_at.isoformat(timespec="milliseconds")[:23] == (
            store[row.id]["createdAt"].rstrip("Z")
        )


def test_the_sdk_follows_pages_by_hand(referee: Referee) -> None:
    first = referee.sdk.crm.contacts.basic_api.get_page(limit=5)
    second = referee.sdk.crm.contacts.basic_api.get_page(limit=5, after=first.paging.next.after)
    assert {row.id for row in first.results}.isdisjoint(row.id for row in second.results)


def test_the_sdk_gets_one_by_id_and_by_address(referee: Referee) -> None:
    id_, record = next(iter(referee.store()["contacts"].items()))
    api = referee.sdk.crm.contacts.basic_api
    assert (
        api.get_by_id(id_, properties=["city"]).properties["city"] == (record["properties"]["city"])
    )
    email = record["properties"]["email"]
    assert api.get_by_id(email, id_property="email").id == id_
    with pytest.raises(ApiException) as refused:
        api.get_by_id("1")
    assert refused.value.status == 404


def test_the_sdk_reads_a_batch(referee: Referee) -> None:
    ids = list(referee.store()["contacts"])[:3]
    asked = BatchReadInputSimplePublicObjectId(
        inputs=[SimplePublicObjectId(id=id_) for id_ in ids],
        properties=["email"],
        properties_with_history=[],
    )
    answer = referee.sdk.crm.contacts.batch_api.read(asked)
    assert [row.id for row in answer.results] == ids


def test_the_sdk_searches_with_filters_and_pages(referee: Referee) -> None:
    store = referee.store()["contacts"]
    times = sorted(record["updatedAt"] for record in store.values())
    since = times[len(times) // 3]
    found: list[str] = []
    after = "0"
    while after:
        request = PublicObjectSearchRequest(
            filter_groups=[
                FilterGroup(
                    filters=[Filter(property_name="lastmodifieddate", operator="GTE", value=since)]
                )
            ],
            sorts=[{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
            properties=["email", "lastmodifieddate"],
            limit=20,
            after=after,
        )
        page = referee.sdk.crm.contacts.search_api.do_search(request)
        found += [row.id for row in page.results]
        after = page.paging.next.after if page.paging else ""
    expected = [id_ for id_, record in store.items() if record["updatedAt"] >= since]
    assert found == sorted(expected, key=int)
    assert page.total == len(expected)


def test_the_sdk_lists_what_is_archived(referee: Referee) -> None:
    id_ = next(iter(referee.store()["deals"]))
    referee.sdk.crm.deals.basic_api.archive(id_)
    archived = {row.id: row for row in referee.sdk.crm.deals.get_all(archived=True)}
    assert archived[id_].archived is True
    assert archived[id_].archived_at is not None
    assert id_ not in {row.id for row in referee.sdk.crm.deals.get_all()}


def test_the_sdk_lists_owners(referee: Referee) -> None:
    store = referee.store()["owners"]
    api = referee.sdk.crm.owners.owners_api
    page = api.get_page(limit=2)
    more = api.get_page(limit=100, after=page.paging.next.after)
    owners = {owner.id: owner for owner in [*page.results, *more.results]}
    assert {id_: owner.email for id_, owner in owners.items()} == {
        id_: owner["email"] for id_, owner in store.items()
    }
    one = next(iter(store))
    assert api.get_by_id(owner_id=int(one)).first_name == store[one]["firstName"]


def test_the_sdk_creates_updates_and_archives(referee: Referee) -> None:
    api = referee.sdk.crm.companies.basic_api
    created = api.create(
        SimplePublicObjectInputForCreate(properties={"name": "Orchard Labs"}, associations=[])
    )
    updated = api.update(created.id, SimplePublicObjectInput(properties={"city": "Lyon"}))
    assert updated.updated_at > created.updated_at
    assert referee.store()["companies"][created.id]["properties"]["city"] == "Lyon"
    api.archive(created.id)
    assert created.id not in referee.store()["companies"]


def test_the_sdk_exchanges_a_code_and_refreshes(referee: Referee) -> None:
    described = referee.described
    client = {name: described[name] for name in ("client_id", "client_secret")}
    scope = "oauth crm.objects.contacts.read"
    asked = {"client_id": client["client_id"], "redirect_uri": BACK, "scope": scope}
    form = {"decision": "allow", "account": referee.account}
    back = referee.control.post(described["authorize_url"], params=asked, data=form)
    code = parse_qs(urlsplit(back.headers["location"]).query)["code"][0]
    api = referee.signed_in(None).oauth.tokens_api
    tokens = api.create(grant_type="authorization_code", code=code, redirect_uri=BACK, **client)
    again = api.create(grant_type="refresh_token", refresh_token=tokens.refresh_token, **client)
    assert again.expires_in == 1800
    contacts = referee.signed_in(again.access_token).crm.contacts
    assert len(contacts.get_all()) == len(referee.store()["contacts"])
    info = referee.sdk.oauth.access_tokens_api.get(again.access_token)
    assert str(info.hub_id) == referee.account
    with pytest.raises(OAuthApiException) as refused:
        api.create(grant_type="authorization_code", code=code, redirect_uri=BACK, **client)
    assert refused.value.status == 400


def test_the_sdk_is_refused_once_the_user_revoked_the_app(referee: Referee) -> None:
    referee.order("tokens", account=referee.account, op="revoke")
    with pytest.raises(ApiException) as refused:
        referee.sdk.crm.contacts.basic_api.get_page()
    assert refused.value.status == 401


def test_the_sdk_ends_a_refresh_token(referee: Referee) -> None:
    tokens = referee.order("grant", account=referee.account)
    referee.sdk.oauth.refresh_tokens_api.archive(tokens["refresh_token"])
    client = {name: referee.described[name] for name in ("client_id", "client_secret")}
    with pytest.raises(OAuthApiException) as refused:
        referee.sdk.oauth.tokens_api.create(
            grant_type="refresh_token", refresh_token=tokens["refresh_token"], **client
        )
    assert refused.value.status == 400
    contacts = referee.signed_in(tokens["access_token"]).crm.contacts
    assert contacts.basic_api.get_page().results


def test_the_sdk_sees_the_rate_limit(referee: Referee) -> None:
    referee.order("limits", scale=1)
    api = referee.sdk.crm.contacts.basic_api
    with stopped(referee.control):
        for _ in range(110):
            api.get_page(limit=1)
        with pytest.raises(ApiException) as refused:
            api.get_page(limit=1)
    assert refused.value.status == 429
    assert "TEN_SECONDLY_ROLLING" in refused.value.body
    assert refused.value.headers["X-HubSpot-RateLimit-Remaining"] == "0"
