"""A recipe through the client that production uses: hosts, retries, answers as they come."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - the vendor stands where the network is
import pytest

import recipes
from connectors import BrokenConnectionError, Checkpoint, ConnectorError, Context, ContractError
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from connectors.kernel.clock import Clock
from connectors.kernel.hosts import is_public
from tests.recipes._playing import manifest, read, stream

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


class Standing(Clock):
    """Moves only when somebody waits."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


class Vendor:
    """Answers by a function, and notes what came."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.answer = answer
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        found = self.answer(request)
        body = httpx.ByteStream(found.content)
        return httpx.Response(found.status_code, headers=found.headers, stream=body)


async def records(
    recipe: recipes.Recipe, vendor: Vendor, config: dict[str, Any]
) -> list[dict[str, Any]]:
    client = await client_of(recipe, vendor, config)
    context = Context(now=NOW, account_id="acme", config=config)
    (one,) = recipe.connector.streams
    found: AsyncIterator[Any] = client.read(one.read(Checkpoint(), context))
    return [record async for page, _ in found for record in page.records]


async def client_of(recipe: recipes.Recipe, vendor: Vendor, config: dict[str, Any]) -> Client:
    clock = Standing()
    transport = Transport(clock=clock)
    await transport.close()
    transport._http = httpx.AsyncClient(transport=httpx.MockTransport(vendor))
    transport.__dict__["to_strangers"] = transport  # which looks names up, of real hosts

    async def no_token(anew: bool) -> str:
        raise AssertionError("a recipe has no token of ours")

    return Client(
        recipe.connector,
        transport=transport,
        account_id="acme",
        config=config,
        token=no_token,
        budget=Budget(None, clock=clock),
    )


ITEMS = {"items": [{"id": 1}]}
CSV = "{decoder: {type: CsvDecoder}, record_selector: {extractor: {field_path: []}}}"


def _linking(link: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(200, json={**ITEMS, "next": link})


def _saying(status: int, content: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda request: httpx.Response(status, text=content)


BEARER = {"type": "BearerAuthenticator", "api_token": "{{ config['key'] }}"}


def recipe_at(base: str, **requester: Any) -> recipes.Recipe:
    return read(
        stream(retriever={"requester": {"url_base": base, "authenticator": BEARER, **requester}})
    )


async def test_the_settings_are_what_is_sent_and_nothing_of_ours() -> None:
    vendor = Vendor(lambda request: httpx.Response(200, json=ITEMS))
    recipe = recipe_at(
        "https://api.made-up.example/v1", request_parameters={"a": "{{ config.key }}"}
    )
    assert await records(recipe, vendor, {"key": "canary"}) == [{"id": 1}]
    (request,) = vendor.asked
    assert request.headers["authorization"] == "Bearer canary"
    assert str(request.url) == "https://api.made-up.example/v1/items?a=canary"


async def test_what_passes_is_tried_again_and_a_refusal_is_not() -> None:
    answers = [httpx.Response(503), httpx.Response(429), httpx.Response(200, json=ITEMS)]
    vendor = Vendor(lambda request: answers.pop(0))
    recipe = recipe_at("https://api.made-up.example")
    assert await records(recipe, vendor, {"key": "canary"}) == [{"id": 1}]
    refusing = Vendor(lambda request: httpx.Response(401))
    with pytest.raises(BrokenConnectionError):
        await records(recipe, refusing, {"key": "canary"})
    assert len(refusing.asked) == 1


async def test_a_file_comes_as_its_bytes_and_an_error_of_it_as_json() -> None:
    recipe = read(stream(f"retriever: {CSV}"))
    vendor = Vendor(lambda request: httpx.Response(200, content=b"id\n1\n"))
    assert await records(recipe, vendor, {}) == [{"id": "1"}]
    with pytest.raises(ContractError):
        await records(recipe, Vendor(lambda request: httpx.Response(404, json={})), {})


@pytest.mark.parametrize(
    ("base", "config", "allowed"),
    [
        ("https://{{ config['sub'] }}.made-up.example", {"sub": "acme"}, True),
        ("https://{{ config['sub'] }}.made-up.example", {"sub": "evil.example/x?"}, False),
        ("https://{{ config['sub'] }}.made-up.example", {"sub": "evil.example#"}, False),
        ("https://{{ config['sub'] }}.made-up.example", {"sub": "user@evil.example/"}, False),
        ("{{ config['url'] }}", {"url": "https://own.example/api"}, True),
        ("{{ config['url'] }}", {"url": "http://own.example"}, False),
        ("{{ config['url'] }}", {"url": "https://localhost"}, False),
        ("{{ config['url'] }}", {"url": "https://127.0.0.1"}, False),
        ("{{ config['url'] }}", {"url": "https://169.254.169.254/latest"}, False),
        ("{{ config['url'] }}", {"url": "https://[::1]/"}, False),
        ("{{ config['url'] }}", {"url": "https://2130706433/"}, False),
        ("{{ config['url'] }}", {"url": "https://db.internal/"}, False),
        ("{{ config['url'] }}", {"url": "https://own.example:8443/"}, False),
        ("{{ config['url'] }}", {"url": "file:///etc/passwd"}, False),
        ("{{ config['url'] }}", {"url": ""}, False),
    ],
)
async def test_a_host_of_the_settings(base: str, config: dict[str, str], allowed: bool) -> None:
    vendor = Vendor(lambda request: httpx.Response(200, json=ITEMS))
    recipe = recipe_at(base)
    if allowed:
        assert await records(recipe, vendor, {**config, "key": "canary"}) == [{"id": 1}]
    else:
        with pytest.raises(ContractError) as failed:
            await records(recipe, vendor, {**config, "key": "canary"})
        assert "canary" not in str(failed.value)
        assert vendor.asked == []


async def test_no_link_of_an_answer_leads_the_secret_elsewhere() -> None:
    paginator = {
        "type": "DefaultPaginator",
        "page_token_option": {"type": "RequestPath"},
        "pagination_strategy": {"type": "CursorPagination", "cursor_value": "{{ response.next }}"},
    }
    requester = {"authenticator": BEARER}
    recipe = read(stream(retriever={"paginator": paginator, "requester": requester}))
    for link in ("https://evil.example/x", "//evil.example/x", "http://api.made-up.example/x"):
        vendor = Vendor(_linking(link))
        with pytest.raises(ContractError):
            await records(recipe, vendor, {"key": "canary"})
        assert {request.url.host for request in vendor.asked} == {"api.made-up.example"}


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("api.example.com", True),
        ("localhost", False),
        ("x.localhost", False),
        ("printer.local", False),
        ("10.0.0.1", False),
        ("10.0.0.1.nip.io", False),
        ("0x7f.1", False),
        ("intranet", False),
        ("", False),
    ],
)
def test_public_hosts(host: str, is_it: bool) -> None:
    assert is_public(host) is is_it


async def test_the_check_makes_the_manifests_first_request() -> None:
    other = stream(name="other", retriever={"requester": {"path": "/other"}})
    check = {"type": "CheckStream", "stream_names": ["other"]}
    recipe = read(stream(), other, check=check)
    config = {"key": "canary"}
    vendor = Vendor(lambda request: httpx.Response(200, json=ITEMS))
    client = await client_of(recipe, vendor, config)
    context = Context(now=NOW, account_id="", config=config)
    await client.run(recipe.check(context))
    assert [request.url.path for request in vendor.asked] == ["/v1/other"]
    client = await client_of(recipe, Vendor(lambda request: httpx.Response(401)), config)
    with pytest.raises(BrokenConnectionError):
        await client.run(recipe.check(context))


async def test_a_check_of_parts_is_good_with_the_first_that_is_read() -> None:
    router = {"type": "ListPartitionRouter", "values": ["a", "b", "c"], "cursor_field": "k"}
    requester = {"path": "/{{ stream_slice.k }}"}
    recipe = read(stream(retriever={"partition_router": router, "requester": requester}))
    context = Context(now=NOW, account_id="", config={})

    def only_b(request: httpx.Request) -> httpx.Response:
        good = request.url.path == "/v1/b"
        return httpx.Response(200 if good else 403, json=ITEMS if good else {})

    await (await client_of(recipe, Vendor(only_b), {})).run(recipe.check(context))
    none = await client_of(recipe, Vendor(lambda request: httpx.Response(403)), {})
    with pytest.raises(ConnectorError):
        await none.run(recipe.check(context))


async def test_a_secret_is_in_no_text(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    recipe = recipe_at("https://api.made-up.example", path="/{{ config.key }}")
    context = Context(now=NOW, account_id="acme", config={"key": "canary"})
    shown = [repr(context), repr(recipe), repr(recipe.connector), caplog.text]
    for status in (200, 400, 401, 403, 404, 422):
        # No JSON, of which the parser's error holds the whole.
        content = "canary" if status == 200 else json.dumps({"message": "canary"})
        vendor = Vendor(_saying(status, content))
        with pytest.raises(ConnectorError) as failed:
            await records(recipe, vendor, {"key": "canary"})
        shown += [str(failed.value), repr(failed.value), repr(failed.value.__cause__)]
    assert not [text for text in shown if "canary" in text]


def test_a_manifest_is_read_in_no_time() -> None:
    import time

    text = manifest(*[stream(name=f"s{number}") for number in range(100)])
    began = time.process_time()
    assert len(recipes.read(text, name="x").connector.streams) == 100
    assert time.process_time() - began < 5
