"""Addresses that tenants give before consent: where they stand, and what they cannot do."""

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs
from uuid import uuid4

import pytest

from connectors import (
    Account,
    BrokenConnectionError,
    Connector,
    ContractError,
    Question,
    Request,
    Revocation,
    SignatureError,
    all_connectors,
)
from connectors import OAuth2 as Rules
from connectors.kernel.auth import Callback
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from connectors.kernel.oauth import (
    OAuthApp,
    answered,
    app_of_callback,
    app_of_grant,
    authorize_url,
    exchange,
    identify,
    refresh,
    revoke,
    validated_answers,
)
from tests._vendor import Answer, Vendor, made_up, serve
from web._state import Signer, State

APP = OAuthApp("client-1", "canary-secret", "https://atom.test/callback")
SHOP = Question(
    name="shop",
    title="Address of the shop",
    pattern=r"[a-z0-9][a-z0-9-]*\.myshop\.test",
    hint="as in acme.myshop.test",
)
LOGIN = Question(name="login", title="Login", pattern=r".*", hint="", default="login.vendor.test")
GOOD = {"access_token": "canary-access", "refresh_token": "canary-refresh", "expires_in": 60}
HOSTILE = [
    "",
    " ",
    "acme",
    "myshop.test",
    ".myshop.test",
    "-acme.myshop.test",
    "evil.test",
    "evil.test/acme.myshop.test",
    "evil.test/.myshop.test",
    "evil.test#acme.myshop.test",
    "evil.test?acme.myshop.test",
    "evil.test\\acme.myshop.test",
    "evil.test%2facme.myshop.test",
    "https://evil.test/acme.myshop.test",
    "https://https://acme.myshop.test",
    "http://acme.myshop.test",
    "acme.myshop.test@evil.test",
    "acme.myshop.test:pass@evil.test",
    "evil.test@acme.myshop.test",
    "acme.myshop.test:8443",
    "acme.myshop.test.evil.test",
    "acme.myshop.test/admin",
    "acme.myshop.test//",
    "acme.myshop.test.",
    "acme\n.myshop.test",
    "acme.myshop.test\nevil.test",
    "acmе.myshop.test",  # noqa: RUF001 - a Cyrillic letter
    "acme.myshop。test",
    "[::1].myshop.test",
    "a" * 100 + ".myshop.test",
]


def shop(**changes: Any) -> Connector:
    """A vendor that gives each tenant a host of its own."""
    given: dict[str, Any] = {
        "questions": (SHOP,),
        "authorize_url": "https://{shop}/oauth/authorize",
        "token_url": "https://{shop}/oauth/token",
        "revocation": Revocation.rfc7009("https://{shop}/oauth/revoke"),
        **changes,
    }
    auth = replace(made_up().oauth, **given)
    return made_up(auth=auth, base_url="https://{config[shop]}/v1", hosts=("*.myshop.test",))


@pytest.fixture(scope="module")
def served() -> Iterator[Vendor]:
    with serve(Vendor()) as vendor:
        yield vendor


@pytest.fixture
def vendor(served: Vendor) -> Vendor:
    served.reset()
    return served


@pytest.fixture
async def means(vendor: Vendor) -> AsyncIterator[dict[str, Any]]:
    transport = Transport(sandbox_url=vendor.origin)
    yield {"transport": transport, "budget": Budget(None)}
    await transport.close()


def test_an_answer_stands_in_the_address_of_consent() -> None:
    app = answered(shop().oauth, APP, {"shop": "acme.myshop.test"})
    url = authorize_url(shop().oauth, app, state="s")
    assert url.startswith("https://acme.myshop.test/oauth/authorize?")


@pytest.mark.parametrize(
    "given", ["Acme.MyShop.test", " acme.myshop.test ", "https://acme.myshop.test/"]
)
def test_an_answer_may_be_pasted_as_people_see_it(given: str) -> None:
    assert validated_answers(shop().oauth, {"shop": given}) == {"shop": "acme.myshop.test"}


@pytest.mark.parametrize("given", [*HOSTILE, None, 7, ["acme.myshop.test"]])
def test_a_hostile_answer_is_refused_with_a_hint(given: object) -> None:
    with pytest.raises(ValueError, match=r"^Address of the shop: as in acme\.myshop\.test$"):
        validated_answers(shop().oauth, {"shop": given})


@pytest.mark.parametrize("given", ["a/b", "a@b", "a:1", "a?b", "a#b", "a b", "a%2fb", "{shop}"])
def test_a_pattern_that_allows_too_much_opens_no_other_host(given: str) -> None:
    with pytest.raises(ValueError, match="Login"):
        validated_answers(shop(questions=(LOGIN,)).oauth, {"login": given})


def test_a_default_is_taken_where_nothing_is_answered() -> None:
    auth = shop(questions=(LOGIN,)).oauth
    assert validated_answers(auth, {"login": ""}) == {"login": "login.vendor.test"}


def test_no_connector_takes_a_hostile_answer() -> None:
    asking = [
        (connector.auth, question)
        for connector in all_connectors()
        if isinstance(connector.auth, Rules)
        for question in connector.auth.questions
        if f"{{{question.name}}}" in connector.auth.authorize_url + connector.auth.token_url
    ]
    for auth, question in asking:
        alone = replace(auth, questions=(replace(question, default=""),))
        for given in HOSTILE:
            with pytest.raises(ValueError, match=question.title):
                validated_answers(
                    alone, {question.name: given.replace("myshop.test", "myshopify.com")}
                )


async def test_tokens_come_from_and_go_back_to_the_tenants_own_host(
    vendor: Vendor, means: dict[str, Any]
) -> None:
    connector = shop(token_params={"expiring": "1"})
    app = answered(connector.oauth, APP, {"shop": "acme.myshop.test"})
    vendor.will(Answer(body={**GOOD, "shop": "evil.test"}), Answer(body=GOOD), Answer(body={}))
    tokens = await exchange(connector, app, code="c", **means)
    # The vendor's answer cannot change what was asked and checked.
    assert tokens.extra["shop"] == "acme.myshop.test"
    again = app_of_grant(connector, APP, tokens.extra)
    await refresh(connector, again, refresh_token="r", account_id="a", **means)
    await revoke(connector, again, token="t", **means)
    assert {call.host for call in vendor.calls} == {"acme.myshop.test"}
    assert [call.path for call in vendor.calls] == ["/oauth/token", "/oauth/token", "/oauth/revoke"]
    expiring = [parse_qs(call.body.decode()).get("expiring") for call in vendor.calls]
    assert expiring == [["1"], None, None]


@pytest.mark.parametrize("held", [{}, {"shop": "evil.test"}, {"shop": "evil.test/x.myshop.test"}])
def test_a_stored_consent_without_its_answer_waits_for_the_tenant(held: dict[str, str]) -> None:
    with pytest.raises(BrokenConnectionError, match="connect again"):
        app_of_grant(shop(), APP, held)


async def test_an_account_keeps_the_answers_and_is_called_at_its_host(
    vendor: Vendor, means: dict[str, Any]
) -> None:
    def who(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Any:
        response = yield Request.get("/me")
        return (Account(response.json["id"]),)

    connector = replace(shop(), identify=who, auth_header="x-shop-token")
    app = answered(connector.oauth, APP, {"shop": "acme.myshop.test"})
    vendor.will(Answer(body=GOOD), Answer(body={"id": "7"}))
    tokens = await exchange(connector, app, code="c", **means)
    (account,) = await identify(connector, tokens, {}, **means)
    assert account == Account("7", config={"shop": "acme.myshop.test"})
    asked = vendor.calls[-1]
    assert (asked.host, asked.path) == ("acme.myshop.test", "/v1/me")
    assert asked.headers["x-shop-token"] == "canary-access"
    assert "authorization" not in asked.headers


def client(connector: Connector, config: dict[str, Any], means: dict[str, Any]) -> Client:
    async def token(refused: bool) -> str:
        return "canary-access"

    return Client(connector, account_id="1", config=config, token=token, **means)


# An address of the vendor's own is one, however long its name and whatever its path.
@pytest.mark.parametrize(
    "given", [h for h in HOSTILE if not re.match(r"acme.myshop.test/|a{9}", h)]
)
async def test_no_token_goes_to_a_host_that_is_no_shop(
    vendor: Vendor, means: dict[str, Any], given: str
) -> None:
    with pytest.raises(ContractError):
        await client(shop(), {"shop": given}, means).send(Request.get("/me"))
    whole = replace(shop(), base_url="{config[instance_url]}/v1")
    with pytest.raises(ContractError):
        await client(whole, {"instance_url": f"https://{given}"}, means).send(Request.get("/me"))
    assert vendor.calls == []


async def test_a_whole_address_may_come_from_the_connections_settings(
    vendor: Vendor, means: dict[str, Any]
) -> None:
    connector = replace(shop(), base_url="{config[instance_url]}/v1")
    vendor.will(Answer(body={}))
    config = {"instance_url": "https://acme.myshop.test"}
    await client(connector, config, means).send(Request.get("/me"))
    assert (vendor.calls[0].host, vendor.calls[0].path) == ("acme.myshop.test", "/v1/me")
    for url in ("http://acme.myshop.test", "https://acme.myshop.test@evil.test", ""):
        with pytest.raises(ContractError):
            await client(connector, {"instance_url": url}, means).send(Request.get("/me"))
    with pytest.raises(ContractError, match="not set"):
        await client(connector, {}, means).send(Request.get("/me"))


async def test_a_link_to_another_tenants_host_is_not_followed(
    vendor: Vendor, means: dict[str, Any]
) -> None:
    speaker = client(shop(), {"shop": "acme.myshop.test"}, means)
    with pytest.raises(ContractError, match="no token may go to"):
        await speaker.send(Request.get("https://other.myshop.test/v1/me"))
    with pytest.raises(ContractError, match="no token may go to"):
        await speaker.send(Request.get("https://*.myshop.test/v1/me"))
    assert vendor.calls == []


def test_a_callback_may_name_the_host_that_counts_from_then_on() -> None:
    def named(callback: Callback) -> Mapping[str, str]:
        if callback.params["proof"] != callback.client_secret:
            raise SignatureError("not the vendor's")
        return {"shop": callback.params["shop"]}

    connector = shop(verify_callback=named)
    app = answered(connector.oauth, APP, {"shop": "former.myshop.test"})
    now = datetime.now(UTC)
    proven = {"proof": APP.client_secret, "shop": "acme.myshop.test"}
    assert app_of_callback(connector, app, proven, now).answers == {"shop": "acme.myshop.test"}
    with pytest.raises(SignatureError):
        app_of_callback(connector, app, {**proven, "proof": "guessed"}, now)
    for params in ({**proven, "shop": "evil.test"}, {"proof": APP.client_secret}):
        with pytest.raises(ContractError, match="cannot read"):
            app_of_callback(connector, app, params, now)


def test_a_state_carries_the_answers_and_none_can_be_put_into_it() -> None:
    signer = Signer(b"s" * 32, secure=True)
    state = State(uuid4(), uuid4(), "A" * 22, "shop", {"shop": "acme.myshop.test", "x": "1&y=2"})
    text = signer.state(state, "browser")
    assert signer.open_state(text, "browser") == state
    signature = text.partition(".")[2]
    other = signer.state(replace(state, answers={"shop": "evil.test"}), "other")
    assert signer.open_state(f"{other.partition('.')[0]}.{signature}", "browser") is None
    assert signer.open_state(other, "browser") is None
