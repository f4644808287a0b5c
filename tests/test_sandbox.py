"""The sandbox's kernel, over real HTTP, on two made-up vendors that share one OAuth server."""

import asyncio
import hashlib
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

import sandbox
from sandbox.kernel.app import build
from sandbox.kernel.oauth import Call, OAuth, Rotation
from sandbox.kernel.serve import run
from sandbox.kernel.values import Change, Json, Seed, reply
from sandbox.kernel.vendor import ErrorCase, Limit, Route, Vendor
from sandbox.kernel.world import World

BACK = "http://127.0.0.1:9/back?tenant=acme"
STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "rate_limited": 429,
    "server_error": 500,
    "unavailable": 503,
}

AUTH = OAuth(
    name="made-up",
    client_id="client",
    client_secret="not-a-secret",
    authorize=(("login.made.up", "/authorize"),),
    token=(("login.made.up", "/token"),),
    revoke=(("login.made.up", "/revoke"),),
    scopes=("read", "write", "https://made.up/*"),
    new_account=lambda random: (str(random.randint(100, 999)), "Made-up Inc. <&>"),
    account_pattern=r"\d+",
    callback=lambda account: {"realmId": account.id},
)


def _things(call: Call) -> Any:
    link = call.url(call.host, "/v1/things", {"page": 2})
    return reply({"things": call.state, "next": link, "padding": "x" * 4000})


def _apply(state: dict[str, Json], change: Change) -> str:
    if change.op == "delete":
        del state[str(change.id)]
        return str(change.id)
    id_ = change.id or str(1 + max(map(int, state), default=0))
    state[id_] = {"id": id_, "n": change.random.random(), **change.record}
    return id_


def _trouble(wrong: ErrorCase, call: Call) -> Any:
    return reply({"kind": wrong.kind, "detail": wrong.detail}, STATUS[wrong.kind])


def _expire(state: dict[str, Json]) -> None:
    state["expired"] = {"id": "expired"}


def _new(seed: Seed) -> dict[str, Json]:
    return {str(n): {"id": str(n), "n": seed.random.random()} for n in range(1, seed.size + 1)}


FIRST = Vendor(
    name="first",
    title="First",
    base_url="https://api.made.up/v1",
    auth=AUTH,
    routes=(
        Route("GET", "api.made.up", "/v1/things", _things, scopes=("read",)),
        Route("GET", "api.made.up", "/v1/files/{path:path}", lambda call: reply(call.params)),
    ),
    streams=("things",),
    mutable={"things": ("add", "change", "delete")},
    new=_new,
    store=lambda state, stream: dict(state),
    apply=_apply,
    trouble=_trouble,
    limits=(Limit("minute", 20, 60.0),),
    rate_headers=lambda usages: {"x-remaining": str(usages[0].remaining)},
    expire_checkpoints=_expire,
    controls={"count": lambda states, body: {"accounts": len(states), **body}},
)
SECOND = replace(
    FIRST,
    name="second",
    base_url="https://second.made.up",
    routes=(
        Route("GET", "second.made.up", "/things", _things),
        Route("GET", "*.pod.made.up", "/host", lambda call: reply({"host": call.host})),
    ),
    answers=lambda account_id: {"pod": f"p{account_id}.pod.made.up"},
    expire_checkpoints=None,
    limits=(),
    rate_headers=lambda usages: {},
)


@dataclass
class Place:
    """A running sandbox of the two vendors."""

    client: httpx.Client
    origin: str
    described: Json

    def get(self, path: str = "/api.made.up/v1/things", **options: Any) -> httpx.Response:
        token = self.described["first"]["access_token"]
        return self.client.get(path, headers={"Authorization": f"Bearer {token}"}, **options)

    def order(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/first/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    @property
    def account(self) -> str:
        return str(self.described["first"]["account_id"])

    def token(self, **fields: str) -> httpx.Response:
        client = {"client_id": AUTH.client_id, "client_secret": AUTH.client_secret}
        return self.client.post("/login.made.up/token", data={**client, **fields})

    def decide(self, decision: str = "allow", **params: str) -> dict[str, str]:
        """Goes through the consent form; gives the parameters of the redirect back."""
        asked = {"client_id": "client", "redirect_uri": BACK, "scope": "read", "state": "s"}
        form = {"decision": decision, "account": self.account}
        answer = self.client.post("/login.made.up/authorize", params={**asked, **params}, data=form)
        assert answer.status_code == 302, answer.text
        sent = parse_qs(urlsplit(answer.headers["location"]).query)
        return {name: values[0] for name, values in sent.items()}

    def exchange(self, code: str, **more: str) -> httpx.Response:
        fields = {"code": code, "redirect_uri": BACK, **more}
        return self.token(grant_type="authorization_code", **fields)

    def refresh(self, value: str) -> httpx.Response:
        return self.token(grant_type="refresh_token", refresh_token=value)


def _open(auth: OAuth = AUTH) -> Iterator[Place]:
    app = build(World([replace(FIRST, auth=auth), replace(SECOND, auth=auth)], seed=3))
    with run(app) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield Place(client, origin, client.get("/_control").json())


@pytest.fixture
def place() -> Iterator[Place]:
    yield from _open()


@pytest.fixture
def other_rules(request: pytest.FixtureRequest) -> Iterator[Place]:
    """A sandbox whose OAuth server differs by the test's parameters."""
    yield from _open(replace(AUTH, **request.param))


def test_every_vendor_module_is_found_by_name_and_told_by_its_own() -> None:
    assert "hubspot" in sandbox.names()
    app = sandbox.create_app(["hubspot"])
    described = sandbox.describe(app, "http://127.0.0.1:4010")
    assert described["hubspot"]["base_url"] == "http://127.0.0.1:4010/api.hubapi.com"
    with pytest.raises(LookupError, match="hubspot"):
        sandbox.create_app(["nobody"])


async def test_serve_tells_its_port_and_stops_when_cancelled() -> None:
    ready: asyncio.Queue[int] = asyncio.Queue()
    app = sandbox.create_app(["hubspot"])
    serving = asyncio.create_task(sandbox.serve(app, "127.0.0.1", 0, ready.put_nowait))
    port = await asyncio.wait_for(ready.get(), 60)
    async with httpx.AsyncClient(timeout=60) as client:
        answer = await client.get(f"http://127.0.0.1:{port}/_control")
    assert set(answer.json()) == {"hubspot"}
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


def test_a_vendor_is_reached_by_path_and_by_host_header(place: Place) -> None:
    by_path = place.get()
    token = place.described["first"]["access_token"]
    by_host = place.client.get(
        "/v1/things", headers={"Host": "api.made.up", "Authorization": f"Bearer {token}"}
    )
    assert by_path.json() == by_host.json()
    assert by_path.json()["next"] == f"{place.origin}/api.made.up/v1/things?page=2"


def test_controls_are_never_on_a_vendors_host(place: Place) -> None:
    assert place.client.get("/_control", headers={"Host": "api.made.up"}).status_code == 404
    assert place.client.get("/api.made.up/_control").status_code == 404


def test_an_unknown_host_path_and_method_are_told_apart(place: Place) -> None:
    assert "api.made.up" in place.client.get("/elsewhere.example/x").json()["hosts"]
    assert place.get("/api.made.up/v1/nothing").status_code == 404
    assert place.client.delete("/api.made.up/v1/things").status_code == 405
    assert place.get("/api.made.up/v1/files/a/b.txt").json() == {"path": "a/b.txt"}


def test_no_token_a_wrong_one_and_a_missing_scope_are_refused(place: Place) -> None:
    path = "/api.made.up/v1/things"
    assert place.client.get(path).json()["detail"] == "missing"
    wrong = place.client.get(path, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status_code, wrong.json()["detail"]) == (401, "token")
    narrow = place.order("grant", account=place.account, scopes=["write"])
    headers = {"Authorization": f"Bearer {narrow['access_token']}"}
    assert place.client.get(path, headers=headers).status_code == 403


def test_vendors_that_share_an_oauth_server_share_accounts_and_tokens(place: Place) -> None:
    assert place.get("/second.made.up/things").status_code == 200
    made = place.order("accounts", id="77", size=2)["id"]
    listed = place.client.get("/_control/second/accounts").json()["accounts"]
    assert made in {account["id"] for account in listed}


# -- OAuth --------------------------------------------------------------------------------------


def test_the_consent_page_names_app_scopes_and_accounts_and_escapes_them(place: Place) -> None:
    asked = {"client_id": "client", "redirect_uri": BACK, "scope": "read https://made.up/x"}
    page = place.client.get("/login.made.up/authorize", params=asked)
    assert page.headers["content-type"].startswith("text/html")
    assert '<html lang="en">' in page.text
    assert "https://made.up/x" in page.text
    assert f'value="{place.account}"' in page.text
    assert "Made-up Inc. &lt;&amp;&gt;" in page.text


def test_allowing_sends_a_code_and_the_vendors_extras_back(place: Place) -> None:
    sent = place.decide()
    assert (sent["state"], sent["realmId"], sent["tenant"]) == ("s", place.account, "acme")
    tokens = place.exchange(sent["code"])
    assert tokens.headers["cache-control"] == "no-store"
    assert set(tokens.json()) == {
        *("access_token", "refresh_token", "token_type", "expires_in", "scope")
    }


def test_denying_sends_only_the_refusal_back(place: Place) -> None:
    assert place.decide("deny") == {"error": "access_denied", "state": "s", "tenant": "acme"}


@pytest.mark.parametrize(
    "params",
    [{"client_id": "nobody"}, {"redirect_uri": "javascript:alert(1)"}, {"redirect_uri": ""}],
)
def test_a_wrong_client_or_address_is_never_redirected_to(
    place: Place, params: dict[str, str]
) -> None:
    asked = {"client_id": "client", "redirect_uri": BACK, "scope": "read", **params}
    assert place.client.get("/login.made.up/authorize", params=asked).status_code == 400


def test_an_unknown_scope_is_sent_back_as_an_error(place: Place) -> None:
    asked = {"client_id": "client", "redirect_uri": BACK, "scope": "read everything"}
    answer = place.client.get("/login.made.up/authorize", params=asked)
    assert "error=invalid_scope" in answer.headers["location"]


def test_a_code_works_once_for_its_own_address_and_for_ten_minutes(place: Place) -> None:
    code = place.decide()["code"]
    assert place.exchange(code).status_code == 200
    assert place.exchange(code).json()["error"] == "invalid_grant"
    elsewhere = place.exchange(place.decide()["code"], redirect_uri="http://127.0.0.1:9/other")
    assert elsewhere.json()["error"] == "invalid_grant"
    late = place.decide()["code"]
    place.client.post("/_control/clock", json={"advance": 601})
    assert place.exchange(late).json()["error"] == "invalid_grant"


def test_a_code_with_a_challenge_wants_its_verifier(place: Place) -> None:
    digest = hashlib.sha256(b"verifier").digest()
    challenge = urlsafe_b64encode(digest).rstrip(b"=").decode()
    asked = {"code_challenge": challenge, "code_challenge_method": "S256"}
    wrong = place.exchange(place.decide(**asked)["code"], code_verifier="other")
    assert wrong.json()["error"] == "invalid_grant"
    right = place.exchange(place.decide(**asked)["code"], code_verifier="verifier")
    assert right.status_code == 200


@pytest.mark.parametrize("other_rules", [{"pkce": "required"}], indirect=True)
def test_a_vendor_that_demands_pkce_refuses_to_go_without(other_rules: Place) -> None:
    assert other_rules.decide()["error"] == "invalid_request"


@pytest.mark.parametrize("other_rules", [{"client_auth": "basic"}], indirect=True)
def test_a_vendor_that_demands_basic_does_not_read_the_body(other_rules: Place) -> None:
    refresh = other_rules.described["first"]["refresh_token"]
    assert other_rules.refresh(refresh).json()["error"] == "invalid_client"
    form = {"grant_type": "refresh_token", "refresh_token": refresh}
    basic = ("client", "not-a-secret")
    answer = other_rules.client.post("/login.made.up/token", data=form, auth=basic)
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "invalid_grant"),
        ({"grant_type": "refresh_token", "client_secret": "x"}, "invalid_client"),
    ],
)
def test_wrong_token_requests_get_their_own_errors(
    place: Place, fields: dict[str, str], error: str
) -> None:
    assert place.token(**fields).json()["error"] == error


def test_access_tokens_end_with_their_time_by_the_sandboxs_clock(place: Place) -> None:
    assert place.get().status_code == 200
    place.client.post("/_control/clock", json={"advance": 3601})
    assert place.get().status_code == 401
    assert place.refresh(place.described["first"]["refresh_token"]).status_code == 200


def test_a_refresh_token_that_never_changes_stays(place: Place) -> None:
    refresh = place.described["first"]["refresh_token"]
    assert place.refresh(refresh).json()["refresh_token"] == refresh


DAILY = {"rotation": Rotation("daily", grace=timedelta(days=1), ttl=timedelta(days=100))}


@pytest.mark.parametrize("other_rules", [DAILY], indirect=True)
def test_a_daily_refresh_token_changes_after_a_day_and_the_former_has_a_day_of_grace(
    other_rules: Place,
) -> None:
    first = other_rules.described["first"]["refresh_token"]
    assert other_rules.refresh(first).json()["refresh_token"] == first
    other_rules.client.post("/_control/clock", json={"advance": 86_401})
    second = other_rules.refresh(first).json()["refresh_token"]
    assert second != first
    assert other_rules.refresh(first).json()["refresh_token"] == second
    other_rules.client.post("/_control/clock", json={"advance": 86_401})
    assert other_rules.refresh(first).json()["error"] == "invalid_grant"
    assert other_rules.refresh(second).status_code == 200


ALWAYS = {"rotation": Rotation("always")}


@pytest.mark.parametrize("other_rules", [ALWAYS], indirect=True)
def test_a_single_use_refresh_token_works_once(other_rules: Place) -> None:
    first = other_rules.described["first"]["refresh_token"]
    second = other_rules.refresh(first).json()["refresh_token"]
    assert other_rules.refresh(first).json()["error"] == "invalid_grant"
    assert other_rules.refresh(second).json()["refresh_token"] not in (first, second)


def test_revoking_by_either_token_ends_the_consent(place: Place) -> None:
    client = {"client_id": "client", "client_secret": "not-a-secret"}
    for name in ("access_token", "refresh_token"):
        tokens = place.order("grant", account=place.account)
        form = {**client, "token": tokens[name]}
        assert place.client.post("/login.made.up/revoke", data=form).status_code == 200
        assert place.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
        headers = {"Authorization": f"Bearer {tokens['access_token']}"}
        assert place.client.get("/api.made.up/v1/things", headers=headers).status_code == 401
    assert place.get().status_code == 200


@pytest.mark.parametrize("other_rules", [{"reconnect_replaces": True}], indirect=True)
def test_where_a_new_consent_replaces_the_former_its_tokens_end(other_rules: Place) -> None:
    other_rules.order("grant", account=other_rules.account)
    assert other_rules.get().status_code == 401
    held = other_rules.order("grant", account=other_rules.account)["refresh_token"]
    fresh = other_rules.client.get("/_control").json()["first"]["refresh_token"]
    assert other_rules.refresh(fresh).status_code == 200
    assert other_rules.refresh(held).status_code == 200, "to look is not to connect"


def test_the_described_tokens_stay_while_they_work_and_are_renewed_after(place: Place) -> None:
    assert place.client.get("/_control").json() == place.described
    place.order("tokens", account=place.account, op="revoke")
    place.described = place.client.get("/_control").json()
    assert place.get().status_code == 200


# -- Controls -----------------------------------------------------------------------------------


def test_records_are_added_changed_and_deleted_by_order(place: Place) -> None:
    path = f"records/things?account={place.account}"
    added = place.order(path, op="add", record={"colour": "red"})["id"]
    place.order(path, op="change", id=added, record={"colour": "blue"})
    store = f"/_control/first/store?account={place.account}"
    things = place.client.get(store).json()["streams"]["things"]
    assert things[added]["colour"] == "blue"
    place.order(path, op="delete", id=added)
    assert added not in place.client.get(store).json()["streams"]["things"]


def test_the_same_seed_makes_the_same_changes(place: Place) -> None:
    told = []
    for account in ("501", "502"):
        place.order("accounts", id=account, size=20)
        told.append(place.order("mutate", account=account, count=25, seed=9)["changes"])
    assert told[0] == told[1]
    assert len(told[0]) == 25


def test_the_clock_is_put_forward_and_stopped(place: Place) -> None:
    def at(**order: Any) -> datetime:
        told = place.client.post("/_control/clock", json=order).json()["now"]
        return datetime.fromisoformat(told)

    stopped = at(stopped=True)
    assert at() == stopped
    assert at(advance=90) == stopped + timedelta(seconds=90)
    assert at(stopped=True) == stopped + timedelta(seconds=90)
    running = at(stopped=False)
    assert running - stopped < timedelta(seconds=150), "it goes on from where it stood"
    time.sleep(0.05)
    assert at() > running


def test_the_store_of_one_stream_is_shown_alone(place: Place) -> None:
    path = f"/_control/first/store?account={place.account}"
    streams = place.client.get(path).json()["streams"]
    assert place.client.get(f"{path}&stream=things").json() == {"streams": streams}
    assert "things" in place.client.get(f"{path}&stream=stars").json()["error"]


@pytest.mark.parametrize(
    ("action", "body", "named"),
    [
        ("nobody/mutate", {}, "first, second"),
        ("first/mutate", {"account": "0"}, "first has no account '0'"),
        ("first/records/stars?account={}", {"op": "add"}, "things"),
        ("first/records/things?account={}", {"op": "burn"}, "add, change, delete"),
        ("first/records/things?account={}", {"op": "change", "id": "0"}, "'0'"),
        ("first/accounts", {"id": "letters"}, "letters"),
        ("first/accounts", {"size": "big"}, "size must be a number"),
        ("first/accounts", {"size": -1}, "size must be from 0"),
        ("first/mutate", {"account": "{}", "count": 10_000_000}, "count must be"),
        ("first/mutate", {"account": "{}", "late": -1}, "negative"),
        ("first/grant", {"account": "{}", "scopes": "read"}, "list"),
        ("first/tokens", {"account": "{}", "op": "burn"}, "expire, revoke"),
        ("first/faults", {"kind": "fire"}, "unauthorized"),
        ("first/faults", {"kind": "500", "count": "x"}, "numbers"),
        ("first/limits", {"scale": 0}, "above 0"),
        ("second/expire_checkpoints", {"account": "{}"}, "second"),
        ("first/nothing", {}, "count"),
        ("clock", {"advance": -1}, "forward"),
    ],
)
def test_a_wrong_order_is_refused_and_told_what_there_is(
    place: Place, action: str, body: dict[str, Any], named: str
) -> None:
    filled = {key: place.account if value == "{}" else value for key, value in body.items()}
    refused = place.client.post(f"/_control/{action.format(place.account)}", json=filled)
    assert 400 <= refused.status_code < 500
    assert named in refused.json()["error"]


def test_a_body_that_is_no_json_object_is_refused(place: Place) -> None:
    for content in (b"{", b"[]"):
        refused = place.client.post("/_control/first/faults", content=content)
        assert refused.status_code == 400
        assert "JSON" in refused.json()["error"]


def test_vendors_have_controls_of_their_own(place: Place) -> None:
    assert place.order("count", more=1) == {"accounts": 1, "more": 1}
    place.order("expire_checkpoints", account=place.account)
    assert "expired" in place.get().json()["things"]


def test_limits_are_enforced_per_account_and_can_be_raised(place: Place) -> None:
    answers = [place.get() for _ in range(21)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429]
    assert answers[0].headers["x-remaining"] == "19"
    other = place.order("grant", account=place.order("accounts", id="88")["id"])
    headers = {"Authorization": f"Bearer {other['access_token']}"}
    assert place.client.get("/api.made.up/v1/things", headers=headers).status_code == 200
    place.client.post("/_control/clock", json={"advance": 61})
    assert place.get().status_code == 200
    place.order("limits", scale=100)
    assert {place.get().status_code for _ in range(30)} == {200}


@pytest.mark.parametrize(
    ("kind", "status"), [("429", 429), ("500", 500), ("503", 503), ("unauthorized", 401)]
)
def test_an_ordered_error_comes_in_the_vendors_form_and_then_stops(
    place: Place, kind: str, status: int
) -> None:
    place.order("faults", kind=kind, count=2)
    answers = [place.get() for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert "kind" in answers[0].json()


def test_a_fault_waits_for_its_path_and_its_turn(place: Place) -> None:
    place.order("faults", kind="500", skip=1, path="/files/")
    assert place.get().status_code == 200
    file = "/api.made.up/v1/files/a"
    assert [place.get(file).status_code for _ in range(3)] == [200, 500, 200]
    place.order("faults", kind="500", count=100)
    assert place.client.delete("/_control/first/faults").json() == {"cleared": 1}
    assert place.get().status_code == 200


def test_faults_reach_a_shared_token_endpoint_through_either_vendor(place: Place) -> None:
    place.client.post("/_control/second/faults", json={"kind": "503", "path": "/token"})
    refresh = place.described["first"]["refresh_token"]
    assert [place.refresh(refresh).status_code for _ in range(2)] == [503, 200]


def test_a_cut_answer_promises_more_than_it_sends(place: Place) -> None:
    place.order("faults", kind="cut")
    with pytest.raises(httpx.RemoteProtocolError):
        place.get()
    assert place.get().status_code == 200


def test_a_slow_answer_is_late_and_right(place: Place) -> None:
    right = place.get().json()
    place.order("faults", kind="slow", seconds=0.3)
    began = time.monotonic()
    assert place.get().json() == right
    # The clock that is waited by may tick once less.
    assert time.monotonic() - began > 0.29


def test_what_is_held_is_answered_when_the_faults_are_taken_back(place: Place) -> None:
    right = place.get().json()
    place.order("faults", kind="slow", seconds=600)
    place.client.delete("/_control/first/requests")
    with ThreadPoolExecutor(1) as beside:
        asked = beside.submit(place.get, timeout=60)
        while not place.client.get("/_control/first/requests").json()["total"]:
            time.sleep(0.02)
        assert not asked.done()
        place.client.delete("/_control/first/faults")
        assert asked.result().json() == right


def test_a_hanging_request_is_never_answered_within_its_time(place: Place) -> None:
    place.order("faults", kind="hang")
    with pytest.raises(httpx.ReadTimeout):
        place.get(timeout=0.3)
    assert place.get().status_code == 200


def test_garbage_is_html_that_says_200(place: Place) -> None:
    place.order("faults", kind="garbage")
    answer = place.get()
    assert (answer.status_code, answer.headers["content-type"][:9]) == (200, "text/html")


def test_a_huge_answer_is_streamed_and_not_announced(place: Place) -> None:
    place.order("faults", kind="huge", bytes=5_000_000)
    assert len(place.get().content) >= 5_000_000
    place.order("faults", kind="huge")
    token = place.described["first"]["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    path = "/api.made.up/v1/things"
    with place.client.stream("GET", path, headers=headers) as answer:
        assert "content-length" not in answer.headers
        assert next(answer.iter_raw())


def test_answers_are_compressed_for_those_who_take_it(place: Place) -> None:
    assert place.get().headers["content-encoding"] == "gzip"
    token = place.described["first"]["access_token"]
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
    plain = place.client.get("/api.made.up/v1/things", headers=headers)
    assert "content-encoding" not in plain.headers
    assert plain.json() == place.get().json()


def test_requests_are_counted_and_none_of_their_secrets_is_kept(place: Place) -> None:
    place.client.delete("/_control/first/requests")
    place.get(params={"access_token": "canary-1", "page": "2"})
    place.refresh("canary-2")
    log = place.client.get("/_control/first/requests")
    told = log.json()
    assert told["total"] == 2
    assert told["by_path"] == {"/v1/things": 1, "/token": 1}
    assert told["log"][0]["account"] == place.account
    assert told["log"][0]["query"] == {"access_token": "…", "page": "2"}
    assert [entry["status"] for entry in told["log"]] == [200, 400]
    for secret in ("canary", place.described["first"]["access_token"], "not-a-secret"):
        assert secret not in log.text


def test_a_vendor_may_give_each_account_a_host(place: Place) -> None:
    assert place.get("/p1.pod.made.up/host").json() == {"host": "p1.pod.made.up"}
    for elsewhere in ("/pod.made.up/host", "/p1.pod.made.up.evil/host"):
        assert place.get(elsewhere).status_code == 404
    known = place.client.get("/_control/second/accounts").json()["accounts"]
    account = place.account
    assert {"pod": f"p{account}.pod.made.up"} in [each["answers"] for each in known]
