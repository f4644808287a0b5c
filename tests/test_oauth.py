"""Token calls against a made-up authorisation server on loopback."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from connectors import (
    Account,
    BrokenConnectionError,
    Connector,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Revocation,
    load,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp, authorize_url, exchange, identify, refresh, revoke
from connectors.kernel.token_answers import Tokens
from tests._vendor import Answer, PlayedClock, Vendor, made_up, serve

APP = OAuthApp("client-1", "canary-secret", "https://atom.test/callback")
GOOD = {"access_token": "canary-access", "refresh_token": "canary-refresh", "expires_in": 1800}


@pytest.fixture(scope="module")
def served() -> Iterator[Vendor]:
    with serve(Vendor()) as vendor:
        yield vendor


@pytest.fixture
def vendor(served: Vendor) -> Vendor:
    served.reset()
    return served


class Calls:
    """Token calls with what they all need."""

    def __init__(self, transport: Transport, clock: PlayedClock) -> None:
        self.clock = clock
        self.means: dict[str, Any] = {
            "transport": transport,
            "budget": Budget(None, clock=clock),
        }

    async def refresh(self, connector: Connector) -> Tokens:
        return await refresh(
            connector, APP, refresh_token="canary-old", account_id="acme", **self.means
        )


@pytest.fixture
async def calls(vendor: Vendor) -> AsyncIterator[Calls]:
    clock = PlayedClock()
    transport = Transport(sandbox_url=vendor.origin, clock=clock)
    yield Calls(transport, clock)
    await transport.close()


@pytest.fixture
async def impatient(vendor: Vendor) -> AsyncIterator[Calls]:
    """Calls that wait for an answer no longer than a second."""
    clock = PlayedClock()
    transport = Transport(sandbox_url=vendor.origin, clock=clock, timeout=timedelta(seconds=1))
    yield Calls(transport, clock)
    await transport.close()


def with_auth(**changes: Any) -> Connector:
    connector = made_up()
    return replace(connector, auth=replace(connector.oauth, **changes))


def form(body: bytes) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(body.decode()).items()}


def test_the_tenant_is_sent_to_consent_with_state_scopes_and_a_challenge() -> None:
    auth = replace(made_up().oauth, authorize_params={"access_type": "offline"})
    url = authorize_url(auth, APP, state="s/1", code_verifier="v" * 43)
    query = form(urlsplit(url).query.encode())
    challenge = base64.urlsafe_b64encode(hashlib.sha256(b"v" * 43).digest()).decode().rstrip("=")
    assert url.startswith("https://made-up.test/authorize?")
    assert query == {
        "response_type": "code",
        "client_id": "client-1",
        "redirect_uri": "https://atom.test/callback",
        "scope": "read offline",
        "state": "s/1",
        "access_type": "offline",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    assert "code_challenge" not in authorize_url(auth, APP, state="s")


async def test_a_code_is_exchanged_for_tokens(vendor: Vendor, calls: Calls) -> None:
    vendor.will(Answer(body={**GOOD, "scope": "read offline", "hub_id": 7}))
    tokens = await exchange(
        made_up(), APP, code="canary-code", code_verifier="v" * 43, **calls.means
    )
    call = vendor.calls[0]
    assert (call.host, call.path) == ("made-up.test", "/token")
    assert form(call.body) == {
        "grant_type": "authorization_code",
        "redirect_uri": "https://atom.test/callback",
        "code": "canary-code",
        "code_verifier": "v" * 43,
        "client_id": "client-1",
        "client_secret": "canary-secret",
    }
    assert tokens.access_token == "canary-access"
    assert tokens.refresh_token == "canary-refresh"
    assert tokens.expires_at == calls.clock.at + timedelta(minutes=30)
    assert tokens.scope == ("read", "offline")
    assert tokens.extra["hub_id"] == 7
    assert "access_token" not in tokens.extra
    assert "canary" not in repr(tokens)
    assert "canary" not in repr(APP)


async def test_a_basic_client_sends_its_secret_in_the_header(vendor: Vendor, calls: Calls) -> None:
    vendor.will(Answer(body=GOOD))
    await calls.refresh(with_auth(client_auth="basic", token_headers={"x-more": "1"}))
    call = vendor.calls[0]
    credentials = base64.b64encode(b"client-1:canary-secret").decode()
    assert call.headers["authorization"] == f"Basic {credentials}"
    assert call.headers["accept"] == "application/json"
    assert call.headers["x-more"] == "1"
    assert form(call.body) == {"grant_type": "refresh_token", "refresh_token": "canary-old"}


async def test_an_answer_without_a_lifetime_has_the_vendors_usual_one(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(body={"access_token": "a"}))
    tokens = await calls.refresh(with_auth(access_token_ttl=timedelta(minutes=5)))
    assert tokens.expires_at == calls.clock.at + timedelta(minutes=5)
    assert tokens.refresh_token is None


@pytest.mark.parametrize("status", [200, 400, 401, 403])
async def test_a_grant_that_is_over_breaks_the_connection(
    status: int, vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(status, body={"error": "invalid_grant", "error_description": "canary"}))
    with pytest.raises(BrokenConnectionError, match="invalid_grant") as caught:
        await calls.refresh(made_up())
    assert "canary" not in str(caught.value)
    assert len(vendor.calls) == 1


async def test_hubspots_former_form_of_a_bad_refresh_token_is_known(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(400, body={"status": "BAD_REFRESH_TOKEN", "message": "canary"}))
    with pytest.raises(BrokenConnectionError, match="BAD_REFRESH_TOKEN"):
        await calls.refresh(load("hubspot"))


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client", "redirect_uri_mismatch"])
async def test_an_app_that_is_set_up_wrong_is_the_operators_affair(
    code: str, vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(401, body={"error": code}))
    with pytest.raises(ContractError, match="MADE_UP_CLIENT_ID"):
        await calls.refresh(made_up())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(400, body={"error": {"nested": "canary"}}),
        Answer(404, raw=b"<html>canary"),
        Answer(200, body={"token_type": "bearer"}),
        Answer(200, body={"access_token": ""}),
        Answer(200, body=["canary"]),
        Answer(400, body={"error": "canary code 123"}),
    ],
)
async def test_any_other_answer_is_a_contract_error(
    answer: Answer, vendor: Vendor, calls: Calls
) -> None:
    vendor.will(answer)
    with pytest.raises(ContractError) as caught:
        await calls.refresh(made_up())
    assert "canary" not in f"{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize(
    "answer", [Answer(500), Answer(cut=True, body=GOOD), Answer(hang=3, body=GOOD)]
)
async def test_a_token_for_one_use_is_never_sent_twice(
    answer: Answer, vendor: Vendor, impatient: Calls
) -> None:
    vendor.will(answer, Answer(body=GOOD))
    with pytest.raises(ProviderUnavailableError):
        await impatient.refresh(with_auth(rotates=True))
    assert len(vendor.calls) == 1


async def test_a_token_that_stays_good_is_sent_again(vendor: Vendor, calls: Calls) -> None:
    vendor.will(Answer(500), Answer(503), Answer(body=GOOD))
    await calls.refresh(made_up())
    assert len(vendor.calls) == 3


async def test_a_429_closes_the_budget_of_token_calls(vendor: Vendor, calls: Calls) -> None:
    vendor.will(Answer(429, headers={"retry-after": "900"}))
    for _ in range(2):
        with pytest.raises(RateLimitedError) as caught:
            await calls.refresh(made_up())
        assert caught.value.retry_after == timedelta(minutes=15)
    assert len(vendor.calls) == 1


BASIC = "Basic " + base64.b64encode(b"client-1:canary-secret").decode()


# How each of these is ended by its own documentation, as it stands in the facts of 2026-11.
@pytest.mark.parametrize(
    ("revocation", "method", "content", "authorization"),
    [
        pytest.param(
            Revocation.rfc7009("https://made-up.test/revoke"),
            "POST",
            b"token=canary-old&token_type_hint=refresh_token&client_id=client-1"
            b"&client_secret=canary-secret",
            None,
            id="RFC 7009",
        ),
        pytest.param(
            Revocation(url="https://made-up.test/revoke", client_auth="none"),
            "POST", b"token=canary-old", None, id="Google",
        ),
        pytest.param(
            Revocation(
                url="https://made-up.test/revoke/{client_id}", method="DELETE", body="json",
                gives=("access_token",), parameter="access_token", client_auth="basic",
            ),
            "DELETE", b'{"access_token": "canary-old"}', BASIC, id="GitHub",
        ),
        pytest.param(
            Revocation(
                url="https://made-up.test/revoke", gives=("access_token",), parameter="",
                client_auth="token",
            ),
            "POST", b"", "Bearer canary-old", id="Dropbox",
        ),
        pytest.param(
            Revocation(url="https://made-up.test/revoke"),
            "POST", b"token=canary-old&client_id=client-1&client_secret=canary-secret", None,
            id="Box",
        ),
        pytest.param(
            Revocation(url="https://made-up.test/revoke", body="json", client_auth="basic"),
            "POST", b'{"token": "canary-old"}', BASIC, id="Notion",
        ),
    ],
)  # fmt: skip
async def test_a_consent_is_given_back_in_the_vendors_form(
    revocation: Revocation,
    method: str,
    content: bytes,
    authorization: str | None,
    vendor: Vendor,
    calls: Calls,
) -> None:
    vendor.will(Answer(204, raw=b""))
    await revoke(with_auth(revocation=revocation), APP, token="canary-old", **calls.means)
    call = vendor.calls[0]
    assert (call.method, call.path) == (
        method, "/revoke/client-1" if method == "DELETE" else "/revoke"
    )  # fmt: skip
    assert call.body == content
    assert call.headers.get("authorization") == authorization


async def test_token_calls_may_carry_json_as_notions_do(vendor: Vendor, calls: Calls) -> None:
    vendor.will(Answer(body={"access_token": "canary-access"}))
    await exchange(
        with_auth(body="json", client_auth="basic"), APP, code="canary-code", **calls.means
    )
    assert json.loads(vendor.calls[0].body) == {
        "grant_type": "authorization_code",
        "code": "canary-code",
        "redirect_uri": APP.redirect_uri,
    }
    assert vendor.calls[0].headers["content-type"] == "application/json"
    assert vendor.calls[0].headers["authorization"] == BASIC


async def test_quickbooks_is_told_in_json(vendor: Vendor, calls: Calls) -> None:
    vendor.will(Answer(200, raw=b""))
    await revoke(load("quickbooks"), APP, token="canary-old", **calls.means)
    assert vendor.calls[0].body == b'{"token": "canary-old"}'
    assert vendor.calls[0].headers["content-type"] == "application/json"
    assert vendor.calls[0].headers["authorization"].startswith("Basic ")


async def test_a_consent_may_be_ended_by_its_account_with_our_apps_secret(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(body={"team": "t-1"}))
    connector = with_auth(
        revocation=Revocation(url="https://made-up.test/revoke", gives=("team",), parameter="team"),
        bearer="app",
    )
    await revoke(connector, APP, token="t-1", **calls.means)
    assert form(vendor.calls[0].body) == {
        "team": "t-1", "client_id": "client-1", "client_secret": "canary-secret"
    }  # fmt: skip
    assert vendor.calls[0].headers["authorization"] == "Bearer canary-secret"


async def test_a_token_that_never_ends_has_no_time_at_which_it_does(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(body={"access_token": "canary-access"}))
    connector = with_auth(access_token_ttl=None)
    tokens = await exchange(connector, APP, code="canary-code", **calls.means)
    assert tokens.expires_at is None


async def test_a_token_that_the_vendor_no_longer_knows_counts_as_revoked(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(400, body={"error": "invalid_token"}))
    await revoke(made_up(), APP, token="canary-old", **calls.means)
    vendor.answers.clear()
    vendor.will(Answer(401, body={"error": "invalid_client"}))
    with pytest.raises(ContractError):
        await revoke(made_up(), APP, token="canary-old", **calls.means)


async def test_a_refusal_with_200_of_what_is_over_already_counts_as_revoked(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(body={"ok": False, "error": "token_revoked"}))
    unsigned = Revocation(
        url="https://made-up.test/revoke", gives=("access_token",), client_auth="none"
    )
    over = with_auth(refused=frozenset({"token_revoked"}), revocation=unsigned)
    await revoke(over, APP, token="canary-old", **calls.means)
    assert parse_qs(vendor.calls[0].body.decode()) == {"token": ["canary-old"]}
    with pytest.raises(ContractError):
        await revoke(with_auth(revocation=unsigned), APP, token="canary-old", **calls.means)


async def test_a_token_answer_of_another_form_is_read_as_the_vendor_says(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(body={"user": GOOD}))
    connector = with_auth(normalize_answer=lambda answer: answer["user"])
    tokens = await exchange(connector, APP, code="canary-code", **calls.means)
    assert (tokens.access_token, tokens.refresh_token) == ("canary-access", "canary-refresh")


async def test_an_answer_that_holds_a_token_is_no_refusal_whatever_else_it_says(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(body={**GOOD, "error": "invalid_grant", "ok": False}))
    assert (await calls.refresh(load("slack"))).refresh_token == "canary-refresh"


async def test_a_refusal_in_a_form_that_cannot_be_read_is_a_contract_error(
    vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(400, body={"ok": False, "error": ["canary"]}))
    with pytest.raises(ContractError, match=r"slack/errors\.py"):
        await calls.refresh(load("slack"))


@pytest.mark.parametrize("id_", [None, 5, "", " ", {}])
async def test_an_account_without_an_id_is_not_connected(id_: Any, calls: Calls) -> None:
    tokens = Tokens("canary-access", None, None, (), {"team": {"id": id_}})
    with pytest.raises(ContractError, match="did not say which account"):
        await identify(load("slack"), tokens, {}, **calls.means)


async def test_accounts_are_found_from_the_answer_or_by_a_call(
    vendor: Vendor, calls: Calls
) -> None:
    tokens = Tokens("canary-access", None, None, (), {"team": 5})
    found = await identify(made_up(), tokens, {}, **calls.means)
    assert found == (Account("5"),)

    def by_call(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Any:
        response = yield Request.get("/me")
        return (Account(response.json["id"], config={"code": callback["region"]}),)

    vendor.will(Answer(body={"id": "42"}))
    asked = made_up(identify=by_call)
    found = await identify(asked, tokens, {"region": "eu"}, **calls.means)
    assert found == (Account("42", config={"code": "eu"}),)
    assert vendor.calls[0].headers["authorization"] == "Bearer canary-access"
    with pytest.raises(ContractError, match="KeyError"):
        await identify(asked, tokens, {}, **calls.means)


@pytest.mark.parametrize(
    ("status", "expected"), [(401, BrokenConnectionError), (403, NotAllowedError)]
)
async def test_a_grant_that_cannot_read_connects_nothing(
    status: int, expected: type[ConnectorError], vendor: Vendor, calls: Calls
) -> None:
    vendor.will(Answer(status, body={}))
    tokens = Tokens("canary-access", None, None, (), {})
    with pytest.raises(expected):
        await identify(load("gmail"), tokens, {}, **calls.means)
    assert len(vendor.calls) == 1


async def test_a_company_that_the_browser_names_must_open_to_the_token(
    vendor: Vendor, calls: Calls
) -> None:
    tokens = Tokens("canary-access", "r", None, (), {})
    quickbooks = load("quickbooks")
    vendor.will(Answer(body={"QueryResponse": {}}))
    found = await identify(quickbooks, tokens, {"realmId": "310687"}, **calls.means)
    assert found[0].id == "310687"
    assert vendor.calls[0].path == "/v3/company/310687/query"
    vendor.answers.clear()
    fault = {"fault": {"error": [{"code": "3100"}], "type": "SERVICE"}}
    vendor.will(Answer(403, body=fault))
    with pytest.raises(BrokenConnectionError):
        await identify(quickbooks, tokens, {"realmId": "310688"}, **calls.means)
    for realm in ("", "../1", "1/2", "١٢"):
        with pytest.raises(ConnectorError, match="realmId"):
            await identify(quickbooks, tokens, {"realmId": realm}, **calls.means)
