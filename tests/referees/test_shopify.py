"""`ShopifyAPI` and raw GraphQL against the sandbox, with only their address set."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx  # noqa: TID251 - a client without an SDK
import pytest
import shopify

from sandbox import start

pytestmark = pytest.mark.referee

BACK = "https://app.example.com/back"


@dataclass
class Referee:
    """The SDK, pointed at a shop of the sandbox."""

    http: httpx.Client
    described: dict[str, Any]

    @property
    def shop(self) -> str:
        return str(self.described["account_id"])

    def execute(self, query: str, variables: Any = None) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(shopify.GraphQL().execute(query, variables))
        return answer

    def consent(self) -> dict[str, str]:
        """What the browser comes back with."""
        asked = {
            "client_id": self.described["client_id"],
            "scope": "read_orders,read_products",
            "redirect_uri": BACK,
            "state": "nonce-1",
        }
        form = {"decision": "allow", "account": self.shop}
        back = self.http.post(self.described["authorize_url"], params=asked, data=form)
        return dict(parse_qsl(urlsplit(back.headers["location"]).query))

    def token(self, **fields: str) -> httpx.Response:
        secret = {name: self.described[name] for name in ("client_id", "client_secret")}
        return self.http.post(self.described["token_url"], data={**secret, **fields})


@pytest.fixture
def referee() -> Iterator[Referee]:
    with start(["shopify"]) as origin, httpx.Client(timeout=30, trust_env=False) as http:
        described = http.get(f"{origin}/_control").json()["shopify"]
        shopify.Session.setup(api_key=described["client_id"], secret=described["client_secret"])
        shopify.ShopifyResource.site = described["base_url"]
        shopify.ShopifyResource.headers = {"X-Shopify-Access-Token": described["access_token"]}
        yield Referee(http, described)
        shopify.ShopifyResource.clear_session()


def test_the_sdk_proves_the_callback_and_refuses_another(referee: Referee) -> None:
    params = referee.consent()
    assert params["shop"] == referee.shop
    assert shopify.Session.validate_params(params)
    assert not shopify.Session.validate_params({**params, "shop": "other.myshopify.com"})


def test_a_code_gives_a_token_that_never_ends_or_one_that_is_renewed(referee: Referee) -> None:
    # As the SDK asks: without a grant type. It knows no tokens that end.
    lasting = referee.token(code=referee.consent()["code"]).json()
    assert lasting.keys() == {"access_token", "scope"}
    ending = referee.token(code=referee.consent()["code"], expiring="1").json()
    assert ending["expires_in"] == 3600
    renewed = referee.token(grant_type="refresh_token", refresh_token=ending["refresh_token"])
    assert renewed.json()["refresh_token"] != ending["refresh_token"]


def test_the_sdk_asks_for_the_shop_by_rest(referee: Referee) -> None:
    assert shopify.Shop.current().myshopify_domain == referee.shop


def test_the_sdk_pages_through_a_connection(referee: Referee) -> None:
    query = """query($after: String) { products(first: 40, after: $after, sortKey: UPDATED_AT) {
        edges { cursor node { id title updatedAt } } pageInfo { hasNextPage endCursor } } }"""
    found: list[Any] = []
    after = None
    while True:
        page = referee.execute(query, {"after": after})["data"]["products"]
        found += [edge["node"] for edge in page["edges"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert len({row["id"] for row in found}) == len(found) == 150
    assert [row["updatedAt"] for row in found] == sorted(row["updatedAt"] for row in found)


def test_raw_graphql_is_answered_with_200_whatever_is_wrong(referee: Referee) -> None:
    url = f"{referee.described['base_url']}/graphql.json"
    headers = {"X-Shopify-Access-Token": referee.described["access_token"]}
    for query, code in {
        "{ nothing }": "undefinedField",
        "{ orders(first: 250) { nodes { id totalPriceSet { shopMoney { amount } } customer { id } }"
        " } }": "MAX_COST_EXCEEDED",
    }.items():
        answer = referee.http.post(url, json={"query": query}, headers=headers)
        assert answer.status_code == 200
        assert answer.json()["errors"][0]["extensions"]["code"] == code
    refused = referee.http.post(url, json={"query": "{ shop { id } }"})
    assert refused.status_code == 401
    assert isinstance(refused.json()["errors"], str)


def test_the_sdk_subscribes_and_takes_it_back(referee: Referee) -> None:
    made = referee.execute(
        """mutation { webhookSubscriptionCreate(topic: ORDERS_UPDATED, webhookSubscription: {
            uri: "https://app.example.com/hooks", format: JSON }) {
            webhookSubscription { id topic uri } userErrors { message } } }"""
    )["data"]["webhookSubscriptionCreate"]
    assert made["userErrors"] == []
    query = "query($id: ID!) { webhookSubscription(id: $id) { topic } }"
    id = made["webhookSubscription"]["id"]
    assert referee.execute(query, {"id": id})["data"]["webhookSubscription"]
    mutation = "mutation($id: ID!) { webhookSubscriptionDelete(id: $id) { userErrors { field } } }"
    referee.execute(mutation, {"id": id})
    assert referee.execute(query, {"id": id})["data"]["webhookSubscription"] is None
