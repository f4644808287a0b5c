"""A NUL or half of a surrogate pair, wherever a request holds text: refused, or of no effect.

PostgreSQL takes neither, and UTF-8 has no lone surrogates: nothing of them may come so far that it
ends as an error of ours.
"""

import base64
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx  # noqa: TID251 - a test is a browser, a backend and a vendor
import pytest
import redis
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from connectors import Account, ContractError, all_connectors
from connectors.kernel.token_answers import Tokens
from settings import Settings, read
from storage import connect_sessions, connections, grants
from storage.connections import Connection
from storage.database import Database
from storage.vault import Vault
from tests._connecting import FOLLOWED, NEXTAUTH_SECRET
from tests._sandboxed import INTEGRATIONS, KEY, Sandboxed, environment
from tests._signing import SECRETS, SIGNED, digest, headers_for
from tests._web import EVERYTHING, JWT_SECRET, Api, claims, serving_api, token
from web import api, billing, callback, connect, metrics
from web import connect_sessions as links
from web._state import Signer, State

BILLING_SECRET = "whsec_canary_of_billing"  # pragma: allowlist secret
PUBLIC = "http://127.0.0.1:3000"
# As they stand in a path or a query: NUL, a surrogate as UTF-8 cannot have it, and no UTF-8 at all.
QUOTED = ("%00", "a%00b", "%ED%A0%80", "%FF")
# As JSON says them.
TEXTS = ("\x00", "a\x00b", "\ud800", "a\udfffb")
NEEDS_PREFECT = "/api/connections/{connection_id}/sync"


@dataclass(frozen=True)
class Ours:
    """Our web process, a connection, and a browser that opened a link."""

    api: Api
    database: Database
    connection: Connection
    session_id: UUID
    browser: str
    cookie: str
    signer: Signer
    rates: redis.Redis

    def known(self) -> dict[str, str]:
        return {
            "tenant_id": str(self.connection.tenant_id),
            "connection_id": str(self.connection.id),
            "session_id": str(self.session_id),
            "state_id": str(uuid4()),
            "key": "OPENAI_API_KEY",
            "stream": "contacts",
            "integration": "hubspot",
            "link": "nobodys",
            "signed": "nobodys",
        }

    async def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """As the backend and as the browser, whichever the address takes, and within the rates."""
        self.rates.flushall()
        bearer = token(claims(uuid4(), f"admin {EVERYTHING} tokens:read keys:read metrics:read"))
        headers = {
            "authorization": f"Bearer {bearer}",
            "cookie": f"{self.signer.cookie}={self.cookie}",
            **FOLLOWED,
            **options.pop("headers", {}),
        }
        return await self.api.http.request(method, path, headers=headers, **options)

    async def state(self, integration: str, **answers: str) -> str:
        """A consent that this browser began."""
        session = await connect_sessions.of_browser(self.database, self.session_id, self.browser)
        state_id, nonce = await connect_sessions.begin(self.database, session, integration)
        made = State(state_id, session.tenant_id, nonce, integration, answers)
        return self.signer.state(made, self.browser)


def _settings(origin: str, database_url: str, redis_url: str) -> Settings:
    given = environment(origin, database_url, redis_url, INTEGRATIONS)
    values: dict[str, Any] = {name.lower(): value for name, value in given.items()} | SECRETS
    values |= {"stripe_webhook_secret": BILLING_SECRET, "jwt_secret": JWT_SECRET}
    return read(
        _env_file=None, nextauth_url=PUBLIC, nextauth_secret=NEXTAUTH_SECRET,
        connect_return_hosts="app.example.com", **values,
    )  # fmt: skip


@pytest.fixture
async def ours(
    origin: str, database: Database, database_url: str, redis_url: str
) -> AsyncIterator[Ours]:
    settings = _settings(origin, database_url, redis_url)
    sandboxed = Sandboxed(origin, settings, database, database_url)
    connection = await sandboxed.connect("quickbooks", size=3)
    signer = Signer.of(settings)
    cookie = signer.new_browser()
    browser = signer.browser(cookie) or ""
    _, secret = await connect_sessions.create(database, connection.tenant_id)
    session = await connect_sessions.open_link(database, secret, browser)
    with redis.Redis.from_url(redis_url) as rates:
        async with serving_api(settings) as opened:
            yield Ours(opened, database, connection, session.id, browser, cookie, signer, rates)


def routes() -> Iterator[APIRoute]:
    """Every route of our own, whatever it answers with."""
    for module in (api, billing, callback, connect, links, metrics):
        yield from _routes(module.router.routes)
    yield from _routes(api.health_router.routes)


def _routes(found: Any) -> Iterator[APIRoute]:
    for route in found:
        if isinstance(route, APIRoute):
            yield route
        elif isinstance(route, BaseRoute):
            inner = getattr(route, "original_router", None) or getattr(route, "router", None)
            yield from _routes(inner.routes if inner else ())


def test_all_routes_are_found() -> None:
    paths = {route.path for route in routes()}
    assert len(paths) >= 25
    assert {
        "/connect/{link}",
        "/api/integrations/callback",
        "/api/connections",
        "/metrics",
    } <= paths


def _filled(path: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path


def _problems(route: APIRoute, answer: httpx.Response, what: object) -> list[str]:
    if answer.status_code < 500 or (route.path == NEEDS_PREFECT and answer.status_code == 503):
        return []
    return [f"{answer.status_code}: {answer.request.method} {route.path} with {what!r}"]


async def test_hostile_text_in_a_path_or_a_query_is_no_error_of_ours(ours: Ours) -> None:
    wrong = []
    for route in routes():
        method = min(route.methods or {"GET"})
        known = ours.known()
        names = [one.alias for one in route.dependant.path_params]
        asked = [one.alias for one in route.dependant.query_params] or ["state", "code", "any"]
        for hostile in QUOTED:
            for name in names:
                path = _filled(route.path, known | {name: hostile})
                wrong += _problems(route, await ours.ask(method, path), path)
            for name in asked:
                query = f"{_filled(route.path, known)}?{name}={hostile}&{hostile}=1"
                wrong += _problems(route, await ours.ask(method, query), query)
    assert wrong == []


async def test_hostile_text_in_a_header_or_a_cookie_is_no_error_of_ours(ours: Ours) -> None:
    wrong = []
    for route in routes():
        method, path = min(route.methods or {"GET"}), _filled(route.path, ours.known())
        names = [one.alias for one in route.dependant.header_params]
        for name in (*names, "cookie", "content-type", "x-odd"):
            for value in (b"\xff\xfe", b"a\xed\xa0\x80b", f"{ours.signer.cookie}=\xff".encode()):
                headers = {name.encode(): value}
                wrong += _problems(route, await ours.ask(method, path, headers=headers), headers)
    assert wrong == []


def _bodies(field: str) -> Iterator[str]:
    for text in TEXTS:
        said = json.dumps(text)
        yield f"{{{json.dumps(field)}: {said}}}"
        yield f"{{{json.dumps(field)}: [{said}]}}"
        yield f"{{{json.dumps(field)}: {{{said}: {said}}}}}"
        yield f"{{{said}: 1}}"
        yield said


WHOLE: dict[str, dict[str, Any]] = {
    "/api/tenants": {"slug": "hostile", "name": "Hostile"},
    "/api/tenants/{tenant_id}": {},
    "/api/connect-sessions": {"tenant": "acme", "return_url": "https://app.example.com/"},
    "/api/tenants/{tenant_id}/settings/{key}": {"value": "sk-proj-hostile"},
}


async def test_hostile_text_in_a_body_is_no_error_of_ours(ours: Ours) -> None:
    wrong = []
    for route in routes():
        if route.body_field is None:
            continue
        method, path = min(route.methods or {"POST"}), _filled(route.path, ours.known())
        annotation: Any = route.dependant.body_params[0].field_info.annotation
        kinds = [annotation, *getattr(annotation, "__args__", ())]
        model: Any = next(one for one in kinds if hasattr(one, "model_fields"))
        for field in model.model_fields:
            for body in _bodies(field):
                whole = json.loads(body)
                if isinstance(whole, dict):
                    body = json.dumps({**WHOLE.get(route.path, {}), **whole})
                answer = await ours.ask(
                    method, path, content=body, headers={"content-type": "application/json"}
                )
                wrong += _problems(route, answer, body)
    assert wrong == []


async def test_hostile_text_in_a_form_of_a_page_is_no_error_of_ours(ours: Ours) -> None:
    form = ours.signer.form_token(ours.session_id, ours.browser)
    wrong = []
    for route in routes():
        if route.methods != {"POST"} or not route.path.startswith("/connect/{session_id}"):
            continue
        for integration in ("hubspot", "shopify", "openai", "%00"):
            path = _filled(route.path, {**ours.known(), "integration": integration})
            for field in ("token", "account", "key", "shop", "purge", "%00"):
                for hostile in QUOTED:
                    body = (
                        f"token={form}&{field}={hostile}"
                        if field != "token"
                        else f"token={hostile}"
                    )
                    answer = await ours.ask(
                        "POST", path, content=body,
                        headers={"content-type": "application/x-www-form-urlencoded"},
                    )  # fmt: skip
                    wrong += _problems(route, answer, (path, body))
    assert wrong == []


async def test_hostile_text_in_a_vendors_answer_is_no_error_of_ours(ours: Ours) -> None:
    """Of a consent that this browser began, so that all of it is read."""
    wrong = []
    for integration in INTEGRATIONS:
        answers = {"shop": "acme.myshopify.com"} if integration == "shopify" else {}
        for name in ("error", "error_description", "code", "realmId", "shop", "hmac", "scope"):
            for hostile in QUOTED:
                state = await ours.state(integration, **answers)
                rest = {"error": "x", "code": "y"}
                rest.pop("code" if name.startswith("error") else "error")
                rest.pop(name, None)
                query = "&".join(f"{one}={value}" for one, value in rest.items())
                path = f"/api/integrations/callback?state={state}&{query}&{name}={hostile}"
                answer = await ours.ask("GET", path)
                if answer.status_code >= 500:
                    wrong.append(f"{answer.status_code}: {integration} {name}={hostile}")
    assert wrong == []


def _signed(payload: Mapping[str, Any]) -> str:
    """A token by whoever knows the secret, with its texts written as JSON allows."""
    parts = [json.dumps(part).encode() for part in ({"alg": "HS256"}, payload)]
    packed = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = base64.urlsafe_b64encode(digest(JWT_SECRET, packed)).rstrip(b"=")
    return f"{packed.decode()}.{mac.decode()}"


async def test_hostile_text_in_a_claim_is_no_error_of_ours(ours: Ours) -> None:
    scope = f"{EVERYTHING} tokens:read keys:read"
    tenant = f"/api/tenants/{ours.connection.tenant_id}"
    asked = (
        ("GET", tenant),
        ("GET", "/api/connections"),
        ("POST", f"/api/connections/{ours.connection.id}/token"),
        ("POST", f"{tenant}/settings/OPENAI_API_KEY/reveal"),
    )
    for name in ("sub", "tenant_id", "scope", "aud", "exp", "iss", "jti", "odd"):
        for hostile in TEXTS:
            given = {**claims(ours.connection.tenant_id, scope), "sub": "backend"}
            for value in (hostile, [hostile], {hostile: hostile}):
                caller = Api(ours.api.http, _signed({**given, name: value}))
                ours.rates.flushall()
                for method, path in asked:
                    answer = await caller.call(method, path)
                    assert answer.status_code < 500, (method, path, name, value)
                    if name == "sub" and value == hostile:
                        assert answer.status_code == 401


HOSTILE_BODIES = [
    '{"value": [{"subscriptionId": %s, "clientState": %s, "changeType": "updated"}]}',
    '{"value": [{"subscriptionId": %s, "clientState": %s, "lifecycleEvent": "missed"}]}',
    '{"type": %s, "challenge": %s}',
    '{"type": "url_verification", "challenge": %s, "token": %s}',
    '{"type": "event_callback", "event_id": %s, "team_id": %s, "event_time": 1,'
    ' "event": {"type": "channel_deleted", "channel": "C1"}}',
    '{"object": "event", "account": %s, "id": %s, "type": "customer.created", "created": 1,'
    ' "livemode": true, "data": {"object": {"object": "customer", "id": "cus_1"}}}',
    '{"id": 1, "admin_graphql_api_id": %s, "note": %s}',
    '{"shop_domain": %s, "shop_id": %s}',
    '[{"portalId": 1, "objectId": %s, "eventId": %s, "occurredAt": 1,'
    ' "subscriptionType": "contact.creation"}]',
    '[{"type": "qbo.customer.created.v1", "id": %s, "intuitaccountid": %s}]',
    '{"message": {"messageId": %s, "data": %s}}',
    "[%s, %s]",
    "%s",
]


async def test_hostile_text_in_a_delivery_is_no_error_of_ours(ours: Ours) -> None:
    for connector in all_connectors():
        if connector.webhook is not None:
            assert await _delivered(ours, connector.name) == []


async def _delivered(ours: Ours, integration: str) -> list[tuple[int, bytes]]:
    """The deliveries that ended as an error of ours."""
    path = f"/api/webhooks/{integration}"
    wrong: list[tuple[int, bytes]] = []
    for text in TEXTS:
        said = json.dumps(text)
        for form in HOSTILE_BODIES:
            body = form.replace("%s", said).encode()
            headers = headers_for(integration, body) if integration in SIGNED else {}
            answer = await ours.api.http.post(path, content=body, headers=headers)
            if answer.status_code >= 500:
                wrong.append((answer.status_code, body))
    for hostile in QUOTED:
        for where in (f"{path}/{hostile}", f"{path}?validationToken={hostile}", f"{path}{hostile}"):
            answer = await ours.api.http.post(where, content=b"{}")
            if answer.status_code >= 500:
                wrong.append((answer.status_code, where.encode()))
    names = ("channel-id", "channel-token", "message-number", "resource-id", "resource-uri")
    for value in (b"\xff", b"a\xed\xa0\x80b"):
        told = [(b"x-goog-resource-state", b"exists")]
        told += [(f"x-goog-{name}".encode(), value) for name in names]
        answer = await ours.api.http.post(path, headers=told)
        if answer.status_code >= 500:
            wrong.append((answer.status_code, value))
    return wrong


async def test_hostile_text_in_an_event_of_billing_is_no_error_of_ours(ours: Ours) -> None:
    for text in TEXTS:
        for field in ("id", "type", "object", "account", "created", "livemode", "data"):
            event = {
                "object": "event", "id": "evt_1", "type": "customer.deleted", "created": 1,
                "livemode": False, "data": {"object": {"id": "cus_1"}},
            } | {field: text}  # fmt: skip
            body = json.dumps(event).encode()
            now = str(int(time.time()))
            mac = digest(BILLING_SECRET, f"{now}.".encode() + body).hex()
            headers = {"stripe-signature": f"t={now},v1={mac}"}
            answer = await ours.api.http.post("/api/billing/stripe", content=body, headers=headers)
            assert answer.status_code < 500, body


async def test_a_cursor_that_holds_hostile_text_is_refused(ours: Ours) -> None:
    for key in TEXTS:
        packed = json.dumps([key, None, "2026-11-01T00:00:00+00:00"]).encode()
        cursor = base64.urlsafe_b64encode(packed).decode().rstrip("=")
        path = f"/api/connections/{ours.connection.id}/records/customers?cursor={cursor}"
        assert (await ours.ask("GET", path)).status_code == 422


async def test_an_account_whose_name_the_database_cannot_hold_is_connected_all_the_same(
    ours: Ours, database: Database
) -> None:
    tokens = Tokens(access_token="t", refresh_token=None, expires_at=None, scope=())
    vault, tenant_id = Vault.parse(KEY), ours.connection.tenant_id
    wanted: dict[str, Any] = {"tenant_id": tenant_id, "integration": "slack", "tokens": tokens}
    for number, text in enumerate(TEXTS):
        accounts = (Account(f"T{number}", name=text),)
        (made,) = await grants.connect(database, vault, accounts=accounts, **wanted)
        found = await connections.get(database, made)
        assert found.account_name == text.translate(
            {0: "\ufffd", 0xD800: "\ufffd", 0xDFFF: "\ufffd"}
        )
        with pytest.raises(ContractError):
            await grants.connect(database, vault, accounts=(Account(text),), **wanted)
