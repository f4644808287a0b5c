"""The rules of every call to a vendor, once, against a made-up vendor on loopback."""

import asyncio
import gzip
import json
import logging
import resource
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    Connector,
    ConnectorError,
    ContractError,
    EventBatch,
    Listener,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    RateLimit,
    RateLimitedError,
    Reader,
    Request,
    Response,
    ask,
    ask_all,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from connectors.kernel.retry import ATTEMPTS
from tests._vendor import HOST, Answer, PlayedClock, Vendor, made_up, serve

TOKEN = "canary-token-9f2c"
OK = Answer(body={"ok": True})


@pytest.fixture(scope="module")
def served() -> Iterator[Vendor]:
    with serve(Vendor()) as vendor:
        yield vendor


@pytest.fixture
def vendor(served: Vendor) -> Vendor:
    served.reset()
    return served


@pytest.fixture
def clock() -> PlayedClock:
    return PlayedClock()


@pytest.fixture
async def transport(vendor: Vendor, clock: PlayedClock) -> AsyncIterator[Transport]:
    opened = Transport(sandbox_url=vendor.origin, clock=clock)
    yield opened
    await opened.close()


class Speaker:
    """Makes clients, and counts the tokens they are given."""

    def __init__(self, transport: Transport, clock: PlayedClock) -> None:
        self.transport, self.clock = transport, clock
        self.refreshes = 0

    async def token(self, refused: bool) -> str:
        if refused:
            await asyncio.sleep(0.01)
            self.refreshes += 1
        return f"{TOKEN}-{self.refreshes}"

    def client(self, connector: Connector | None = None, **options: Any) -> Client:
        values = {"account_id": "acme", "config": {}, "budget": Budget(None, clock=self.clock)}
        return Client(
            connector or made_up(),
            transport=self.transport,
            token=self.token,
            **{**values, **options},
        )


@pytest.fixture
def speaker(transport: Transport, clock: PlayedClock) -> Speaker:
    return Speaker(transport, clock)


async def pages(client: Client, reader: Reader) -> list[tuple[Page, datetime]]:
    return [found async for found in client.read(reader)]


async def test_a_request_is_sent_to_the_vendor_with_token_parameters_and_headers(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(OK)
    connector = made_up(
        base_url=f"https://{HOST}/v1/{{account_id}}/{{config[site]}}",
        params={"version": 75},
        headers={"x-api": "2"},
    )
    client = speaker.client(connector, account_id="a/ñ", config={"site": "x y"})
    request = Request.get("/things", params={"q": "a b&c", "tag": ["1", "2"], "all": True})
    response = await client.send(request)
    call = vendor.calls[0]
    assert (call.host, call.path) == (HOST, "/v1/a%2F%C3%B1/x%20y/things")
    assert call.query == "version=75&q=a%20b%26c&tag=1&tag=2&all=true"
    assert call.headers["authorization"] == f"Bearer {TOKEN}-0"
    assert call.headers["accept"] == "application/json"
    assert call.headers["x-api"] == "2"
    assert response.json == {"ok": True}
    assert response.url.startswith(f"https://{HOST}/v1/")
    assert client.requests == 1


async def test_a_placeholder_that_is_not_set_is_named(speaker: Speaker) -> None:
    connector = made_up(base_url=f"https://{HOST}/{{config[site]}}")
    with pytest.raises(ContractError, match=r"\{config\[site\]\}"):
        await speaker.client(connector).send(Request.get("/x"))


async def test_json_and_form_bodies_are_sent_as_such(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(OK)
    client = speaker.client()
    await client.send(Request.post("/a", json={"x": 1}))
    await client.send(Request.post("/b", form={"x": "1 2"}))
    first, second = vendor.calls
    assert (first.body, first.headers["content-type"]) == (b'{"x": 1}', "application/json")
    assert second.body == b"x=1+2"
    assert second.headers["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.test/v1/next",
        f"https://{HOST}.evil.test/next",
        f"https://{HOST}@evil.test/next",
        f"https://user:pass@{HOST}/next",
        f"https://evil.test\\@{HOST}/next",
        f"https://{HOST}:8443/next",
        f"http://{HOST}/next",
        "ftp://evil.test/next",
        "https://[not-a-host/next",
    ],
)
async def test_no_token_goes_to_a_host_that_the_connector_does_not_name(
    link: str, vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(OK)
    with pytest.raises(ContractError):
        await speaker.client().send(Request.get(link))
    assert not vendor.calls


async def test_links_of_the_vendor_are_followed_where_the_connector_names_their_host(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(OK)
    client = speaker.client(made_up(hosts=("files.made-up.test",), params={"version": 75}))
    await client.send(Request.get("https://files.made-up.test/x?cursor=a%2Fb&version=9#top"))
    assert (vendor.calls[0].host, vendor.calls[0].query) == (
        "files.made-up.test",
        "cursor=a%2Fb&version=9",
    )


async def test_links_into_the_sandbox_stand_for_the_vendors_own(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(OK)
    client = speaker.client()
    response = await client.send(Request.get(f"{vendor.origin}/{HOST}/v1/next?page=2"))
    assert response.url == f"https://{HOST}/v1/next?page=2"
    with pytest.raises(ContractError):
        await client.send(Request.get(f"{vendor.origin}/evil.test/v1/next"))
    assert len(vendor.calls) == 1


async def test_a_redirect_is_not_followed(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(302, headers={"location": "https://evil.test/"}))
    with pytest.raises(ContractError, match="302"):
        await speaker.client().send(Request.get("/x"))
    assert len(vendor.calls) == 1


async def test_cookies_of_one_tenant_are_not_shown_for_another(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(body={}, headers={"set-cookie": "session=acme; Path=/"}))
    await speaker.client().send(Request.get("/x"))
    await speaker.client(account_id="other").send(Request.get("/x"))
    assert "cookie" not in vendor.calls[1].headers


async def test_what_passes_by_itself_is_tried_again(
    vendor: Vendor, speaker: Speaker, clock: PlayedClock
) -> None:
    vendor.will(Answer(500), Answer(503), Answer(cut=True, body={}), Answer(body={}))
    client = speaker.client()
    assert (await client.send(Request.get("/x"))).json == {}
    assert client.requests == 4
    assert len(clock.slept) == 3
    assert sum(clock.slept) < 15


async def test_patience_ends_with_the_fifth_failure(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(502))
    with pytest.raises(ProviderUnavailableError, match=r"502\) at GET /x"):
        await speaker.client().send(Request.get("/x?secret=1"))
    assert len(vendor.calls) == 5


async def test_a_vendor_that_hangs_or_is_away_is_unavailable(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(hang=3, body={}), Answer(body={"late": False}))
    impatient = Transport(
        sandbox_url=vendor.origin, clock=speaker.clock, timeout=timedelta(seconds=1)
    )
    speaker.transport = impatient
    assert (await speaker.client().send(Request.get("/x"))).json == {"late": False}
    await impatient.close()
    gone = Transport(sandbox_url="http://127.0.0.1:1", clock=speaker.clock)
    speaker.transport = gone
    with pytest.raises(ProviderUnavailableError, match="could not be reached"):
        await speaker.client().send(Request.get("/x"))
    await gone.close()


async def test_a_503_is_asked_again_when_it_says(
    vendor: Vendor, speaker: Speaker, clock: PlayedClock
) -> None:
    vendor.will(Answer(503, headers={"retry-after": "20"}), OK)
    await speaker.client().send(Request.get("/x"))
    assert clock.slept == [20]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7),
        # The vendor's clock is an hour behind ours: its date counts from its own Date.
        (
            {
                "date": "Sun, 01 Nov 2026 11:00:00 GMT",
                "retry-after": "Sun, 01 Nov 2026 11:00:30 GMT",
            },
            30,
        ),
        ({"retry-after": "soon"}, 1),
        ({}, 1),
    ],
)
async def test_a_429_is_waited_for(
    headers: dict[str, str], seconds: float, vendor: Vendor, speaker: Speaker, clock: PlayedClock
) -> None:
    vendor.will(Answer(429, headers=headers), OK)
    started = clock.at
    await speaker.client().send(Request.get("/x"))
    assert seconds <= (clock.at - started).total_seconds() <= seconds + 2
    assert len(vendor.calls) == 2


async def test_a_429_closes_the_budget_for_the_others_too(
    vendor: Vendor, speaker: Speaker, clock: PlayedClock
) -> None:
    vendor.will(Answer(429, headers={"retry-after": "3600"}), OK)
    budget = Budget(None, clock=clock)
    with pytest.raises(RateLimitedError) as caught:
        await speaker.client(budget=budget).send(Request.get("/x"))
    assert caught.value.retry_after == timedelta(hours=1)
    with pytest.raises(RateLimitedError) as caught:
        await speaker.client(budget=budget).send(Request.get("/y"))
    assert timedelta(minutes=59) < caught.value.retry_after <= timedelta(hours=1)
    assert len(vendor.calls) == 1
    assert not clock.slept
    await speaker.client(account_id="other", budget=budget).send(Request.get("/x"))


async def test_a_429_of_one_budget_leaves_the_other_open(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(429, headers={"retry-after": "3600"}), OK)
    second = timedelta(seconds=1)
    connector = made_up(rate_limits=(RateLimit(9, second), RateLimit(9, second, name="search")))
    client = speaker.client(connector)
    with pytest.raises(RateLimitedError):
        await client.send(Request.post("/search", budget="search"))
    await client.send(Request.get("/list"))


async def test_who_listens_has_a_session_of_its_own(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(body={}, headers={"set-cookie": "session=acme; Path=/; HttpOnly"}), OK)
    one, another = (speaker.client(keeps_cookies=True) for _ in range(2))
    for client in (one, one, another):
        await client.send(Request.get("/things"))
    told = [call.headers.get("cookie") for call in vendor.calls]
    assert told == [None, "session=acme", None]


async def test_what_is_heard_is_handed_on_and_waits_are_waited(
    vendor: Vendor, speaker: Speaker, clock: PlayedClock
) -> None:
    def listen() -> Listener:
        response = yield from ask(Request.post("/held", json={}))
        yield EventBatch((), Checkpoint(response.json))
        yield timedelta(seconds=40)
        yield Request.post("/held", json={})
        raise KeyError("canary")

    vendor.will(OK)
    began = clock.now()
    told = speaker.client().listen(listen())
    assert (await anext(told)).checkpoint == {"ok": True}
    with pytest.raises(ContractError) as raised:
        await anext(told)
    assert clock.now() - began >= timedelta(seconds=40)
    assert len(vendor.calls) == 2
    assert "canary" not in str(raised.value)


async def test_a_request_may_ask_for_a_new_token_and_goes_where_the_account_is_then(
    vendor: Vendor, clock: PlayedClock, speaker: Speaker
) -> None:
    config = {"home": f"https://{HOST}/old"}

    async def token(refused: bool) -> str:
        if refused:
            config["home"] = f"https://{HOST}/new"
        return "renewed" if refused else "former"

    client = Client(
        made_up(base_url="{config[home]}/v1", hosts=(HOST,)), transport=speaker.transport,
        account_id="acme", config=config, token=token, budget=Budget(None, clock=clock),
    )  # fmt: skip
    vendor.will(OK)
    await client.send(Request.post("{config[home]}/events", json=[]))
    await client.send(Request.post("{config[home]}/events", json=[], renews=True))
    assert [call.path for call in vendor.calls] == ["/old/events", "/new/events"]
    sent = [call.headers["authorization"] for call in vendor.calls]
    assert sent == ["Bearer former", "Bearer renewed"]


async def test_a_setting_that_leads_elsewhere_gets_no_token(speaker: Speaker) -> None:
    for home in ("https://evil.test", f"https://{HOST}@evil.test", "http://made-up.test"):
        client = speaker.client(config={"home": home})
        with pytest.raises(ContractError, match="Made Up: a link"):
            await client.send(Request.post("{config[home]}/events", json=[]))


async def test_a_refused_token_is_refreshed_once(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(401), OK)
    await speaker.client().send(Request.get("/x"))
    assert [call.headers["authorization"][-1] for call in vendor.calls] == ["0", "1"]
    assert speaker.refreshes == 1


async def test_a_token_that_is_refused_with_200_is_refreshed_once_too(
    vendor: Vendor, speaker: Speaker
) -> None:
    def classify(response: Response) -> ConnectorError | None:
        return None if response.json["ok"] else BrokenConnectionError("token_expired")

    vendor.will(Answer(body={"ok": False}), Answer(body={"ok": True}))
    await speaker.client(made_up(classify=classify)).send(Request.get("/x"))
    assert speaker.refreshes == 1
    vendor.reset()
    vendor.will(Answer(body={"ok": False}))
    with pytest.raises(BrokenConnectionError):
        await speaker.client(made_up(classify=classify)).send(Request.get("/x"))
    assert len(vendor.calls) == 2


async def test_a_second_401_means_that_the_connection_is_broken(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(401, headers={"x-request-id": "req_12"}))
    with pytest.raises(BrokenConnectionError) as caught:
        await speaker.client().send(Request.get("/x"))
    assert len(vendor.calls) == 2
    assert caught.value.__notes__ == ["x-request-id: req_12"]


async def test_requests_refused_together_share_one_refresh(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(*[Answer(401)] * 4, OK)

    def reader() -> Reader:
        responses = yield from ask_all(Request.get(f"/{number}") for number in range(4))
        yield Page([response.json for response in responses], Checkpoint())

    await pages(speaker.client(), reader())
    assert speaker.refreshes == 1


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (403, NotAllowedError),
        (400, ContractError),
        (404, ContractError),
        (422, ContractError),
    ],
)
async def test_other_refusals_are_not_tried_again(
    status: int, expected: type[ConnectorError], vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(status, body={"detail": "their text"}))
    with pytest.raises(expected, match=str(status)) as caught:
        await speaker.client().send(Request.get("/x"))
    assert "their text" not in str(caught.value)
    assert len(vendor.calls) == 1


async def test_a_status_that_the_reader_expects_is_handed_to_it(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(404, raw=b"<html>", headers={"content-type": "text/html"}))
    response = await speaker.client().send(Request.get("/x", expect=(404,)))
    assert (response.status, response.json) == (404, None)


async def test_a_vendors_own_error_form_is_asked_first(vendor: Vendor, speaker: Speaker) -> None:
    def classify(response: Response) -> ConnectorError | None:
        if response.json["fault"] == "slow":
            return RateLimitedError("slow down", retry_after=timedelta(seconds=4))
        return BrokenConnectionError("gone") if response.json["fault"] else None

    vendor.will(Answer(403, body={"fault": "slow"}), Answer(200, body={"fault": "revoked"}))
    with pytest.raises(BrokenConnectionError, match="gone"):
        await speaker.client(made_up(classify=classify)).send(Request.get("/x", expect=(403,)))
    assert len(vendor.calls) == 3  # once more, with a new token


@pytest.mark.parametrize("kind", [NotAllowedError, BrokenConnectionError])
async def test_a_refusal_that_may_pass_is_believed_only_if_it_stays(
    kind: type[ConnectorError], vendor: Vendor, speaker: Speaker
) -> None:
    def classify(response: Response) -> ConnectorError | None:
        return kind("it has none", may_pass=True) if response.status == 403 else None

    client = speaker.client(made_up(classify=classify))
    vendor.will(Answer(403), Answer(403), OK)
    assert (await client.send(Request.get("/x"))).status == 200
    vendor.reset()
    vendor.will(Answer(403))
    with pytest.raises(kind, match="it has none"):
        await client.send(Request.get("/x", expect=(403,)))
    assert len(vendor.calls) == ATTEMPTS
    assert speaker.refreshes == 0


async def test_an_empty_body_is_none(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(204, raw=b""))
    assert (await speaker.client().send(Request.get("/x"))).json is None


async def test_bytes_that_were_asked_for_are_no_json(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(raw=b"1,2"), Answer(404, body={"code": "NO_JOB"}))
    asked = Request.get("/x", headers={"accept": "text/csv"}, expect=(404,))
    found, refused = [await speaker.client().send(asked) for _ in range(2)]
    assert (found.content, found.json) == (b"1,2", None)
    assert (refused.content, refused.json) == (b"", {"code": "NO_JOB"})


async def test_a_page_that_is_not_json_is_asked_for_once_more(
    vendor: Vendor, speaker: Speaker
) -> None:
    page = Answer(raw=b"<html>canary</html>", headers={"content-type": "text/html; charset=utf-8"})
    vendor.will(page, OK)
    await speaker.client().send(Request.get("/x"))
    vendor.calls.clear()
    vendor.answers.clear()
    vendor.will(page)
    with pytest.raises(ContractError, match="text/html instead of JSON") as caught:
        await speaker.client().send(Request.get("/x"))
    assert len(vendor.calls) == 2
    assert "canary" not in repr(caught.value)


@pytest.mark.parametrize("raw", [b'{"a": [1, 2', b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}'])
async def test_malformed_json_is_called_so(raw: bytes, vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(raw=raw))
    with pytest.raises(ContractError, match="malformed JSON"):
        await speaker.client().send(Request.get("/x"))


@pytest.mark.parametrize(
    "text",
    [
        '{"n": 123456789012345678901234567890}',
        '{"n": -9999999999999999999}',
        "[18446744073709551616]",
        '{"s": "a\\ud800b", "n": 1}',
        '{"s": "\\u0000", "n": 0.1, "id": "12345678901234567890123"}',
    ],
)
async def test_numbers_and_strings_stay_as_the_vendor_wrote_them(
    text: str, vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(raw=text.encode()))
    assert (await speaker.client().send(Request.get("/x"))).json == json.loads(text)


async def test_a_number_beyond_every_float_stays_a_number(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(raw=b'{"n": 1.5e400}'), Answer(raw=b'{"n": 1e999999999}'))
    client = speaker.client()
    assert (await client.send(Request.get("/x"))).json == {"n": 15 * 10**399}
    with pytest.raises(ContractError):
        await client.send(Request.get("/x"))


async def test_compressed_answers_are_unpacked(vendor: Vendor, speaker: Speaker) -> None:
    body = gzip.compress(b'{"a": "' + b"x" * 300_000) + gzip.compress(b'"}')
    vendor.will(Answer(raw=body, headers={"content-encoding": "gzip"}))
    response = await speaker.client().send(Request.get("/x"))
    assert len(response.json["a"]) == 300_000
    assert "gzip" in vendor.calls[0].headers["accept-encoding"]


async def test_a_compressed_answer_that_was_cut_is_unavailable(
    vendor: Vendor, speaker: Speaker
) -> None:
    whole = gzip.compress(json.dumps(list(range(9000))).encode())
    gzipped = {"content-encoding": "gzip"}
    vendor.will(Answer(raw=whole[:-20], headers=gzipped), Answer(raw=whole, headers=gzipped))
    client = speaker.client()
    assert len((await client.send(Request.get("/x"))).json) == 9000
    assert client.requests == 2


def _megabytes(count: int) -> Iterator[bytes]:
    for _ in range(count):
        yield b"x" * 2**20


async def test_an_answer_of_300_megabytes_is_given_up_early(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(pieces=lambda: _megabytes(300)))
    with pytest.raises(ContractError, match="more than 64 MiB"):
        await speaker.client().send(Request.get("/x"))


async def test_a_gzip_bomb_is_not_unpacked(vendor: Vendor, clock: PlayedClock) -> None:
    bomb = gzip.compress(b"0" * 400 * 2**20, 1)
    vendor.will(Answer(raw=gzip.compress(b"1") + bomb, headers={"content-encoding": "gzip"}))
    transport = Transport(sandbox_url=vendor.origin, clock=clock, max_body=2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ContractError, match="more than 1 MiB"):
        await Speaker(transport, clock).client().send(Request.get("/x"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024
    await transport.close()


async def test_requests_of_one_connection_run_side_by_side_within_bounds(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(body=1, hang=0.1))

    def reader() -> Reader:
        responses = yield from ask_all(Request.get(f"/{number}") for number in range(12))
        urls = [response.url.rsplit("/", 1)[1] for response in responses]
        yield Page([{"id": url} for url in urls], Checkpoint())

    read = await pages(speaker.client(made_up(concurrency=3)), reader())
    assert [record["id"] for record in read[0][0].records] == [str(n) for n in range(12)]
    assert vendor.most_under_way == 3


async def test_the_failure_of_one_stops_the_others(vendor: Vendor, speaker: Speaker) -> None:
    vendor.will(Answer(400), Answer(body=1, hang=1))

    def reader() -> Reader:
        yield tuple(Request.get(f"/{number}") for number in range(30))

    with pytest.raises(ContractError):
        await pages(speaker.client(made_up(concurrency=2)), reader())
    assert len(vendor.calls) < 5


async def test_a_page_is_as_old_as_the_first_request_for_it(
    vendor: Vendor, speaker: Speaker, clock: PlayedClock
) -> None:
    vendor.will(OK)

    def reader() -> Reader:
        yield Request.get("/1")
        clock.at += timedelta(minutes=1)
        yield Request.get("/2")
        yield Page((), Checkpoint(n=1))
        yield Page((), Checkpoint(n=2))
        clock.at += timedelta(minutes=1)
        yield Request.get("/3")
        yield Page((), Checkpoint(n=3))

    start = clock.at
    times = [observed_at - start for _, observed_at in await pages(speaker.client(), reader())]
    assert times == [timedelta(), timedelta(), timedelta(minutes=2)]


async def test_an_answer_of_another_shape_is_a_contract_error_without_their_values(
    vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(Answer(body={"count": "canary-value"}))

    def reader() -> Reader:
        response = yield from ask(Request.get("/x"))
        yield Page((), Checkpoint(n=int(response.json["count"])))

    with pytest.raises(
        ContractError, match=r"Made Up answered.*ValueError at test_client"
    ) as caught:
        await pages(speaker.client(), reader())
    assert isinstance(caught.value.__cause__, ValueError)
    assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r}"


async def test_a_reader_that_is_left_is_closed(vendor: Vendor, speaker: Speaker) -> None:
    closed = []

    def reader() -> Reader:
        try:
            while True:
                yield Page((), Checkpoint())
        finally:
            closed.append(True)

    read = speaker.client().read(reader())
    await anext(read)
    await read.aclose()
    assert closed == [True]


@pytest.mark.parametrize("ending", ["\nx: y", "ñ"])
async def test_a_token_that_cannot_be_sent_is_not_shown(
    ending: str, vendor: Vendor, speaker: Speaker
) -> None:
    vendor.will(OK)

    async def token(refused: bool) -> str:
        return f"{TOKEN}{ending}"

    client = Client(
        made_up(),
        transport=speaker.transport,
        account_id="a",
        config={},
        token=token,
        budget=Budget(None),
    )
    with pytest.raises(ContractError) as caught:
        await client.send(Request.get("/x"))
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert TOKEN not in str(caught.value)


async def test_no_url_is_logged(
    vendor: Vendor, speaker: Speaker, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    vendor.will(Answer(500), OK)
    await speaker.client().send(Request.get("/x", params={"code": "canary"}))
    ours = [r.getMessage() for r in caplog.records if not r.name.startswith("uvicorn")]
    assert not any("canary" in line for line in ours)


def test_values_do_not_show_what_they_carry() -> None:
    response = Response(
        status=200,
        headers={"set-cookie": "canary"},
        json={"name": "canary"},
        url="https://x/?t=canary",
        sent_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    assert "canary" not in repr(response)
    assert "canary" not in repr(Request.post("/x", json={"a": "canary"}, params={"b": "canary"}))
