"""Google's part of the sandbox: consent and tokens, quotas, troubles, batches, partial answers."""

import base64
import hashlib
import json
from collections.abc import Iterator
from email import message_from_bytes
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._gmailbox import SCOPE, Box, calm, reason

AUTHORIZE = "/accounts.google.com/o/oauth2/v2/auth"
TOKEN = "/oauth2.googleapis.com/token"
REVOKE = "/oauth2.googleapis.com/revoke"
BACK = "http://127.0.0.1:9/callback"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["gmail"]) as origin:
        yield origin


@pytest.fixture
def client(origin: str) -> Iterator[httpx.Client]:
    with calm(origin) as client:
        yield client


@pytest.fixture
def box(client: httpx.Client) -> Box:
    """A fresh mailbox, with room for as many calls as a test makes."""
    return Box(client, size=60)


def app(client: httpx.Client) -> dict[str, str]:
    about = client.get("/_control").json()["gmail"]
    return {"client_id": about["client_id"], "client_secret": about["client_secret"]}


def consent(box: Box, scope: str = f"{SCOPE}gmail.readonly", **params: str) -> dict[str, Any]:
    """Walks through the browser's part and takes the tokens."""
    code, verifier = authorize(box, scope, **params), params.get("verifier", "")
    return exchange(box, code, **({"code_verifier": verifier} if verifier else {})).json()  # type: ignore[no-any-return]


def authorize(box: Box, scope: str, **params: str) -> str:
    asked = {
        "client_id": app(box.client)["client_id"],
        "redirect_uri": BACK,
        "response_type": "code",
        "scope": scope,
        **{name: value for name, value in params.items() if name != "verifier"},
    }
    assert box.client.get(AUTHORIZE, params=asked).status_code == 200
    answer = box.client.post(AUTHORIZE, params=asked, data={"account": box.id, "decision": "allow"})
    return parse_qs(urlsplit(answer.headers["location"]).query)["code"][0]


def exchange(box: Box, code: str, **fields: str) -> httpx.Response:
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    return box.client.post(TOKEN, data={**app(box.client), **form, **fields})


def refresh(box: Box, token: str) -> httpx.Response:
    form = {"grant_type": "refresh_token", "refresh_token": token}
    return box.client.post(TOKEN, data={**app(box.client), **form})


def claims(token: str) -> dict[str, Any]:
    body = token.split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    return found


def test_the_first_offline_consent_gives_a_refresh_token_and_the_next_only_when_made_to_ask(
    client: httpx.Client,
) -> None:
    box = Box(client, size=0)
    box.control("tokens", op="revoke")
    assert "refresh_token" not in consent(box)
    box.control("tokens", op="revoke")
    assert "refresh_token" in consent(box, access_type="offline")
    assert "refresh_token" not in consent(box, access_type="offline")
    assert "refresh_token" in consent(box, access_type="offline", prompt="consent")
    assert "refresh_token" not in consent(box, prompt="consent")


def test_a_token_answer_is_googles(box: Box) -> None:
    scope = f"{SCOPE}gmail.readonly openid email"
    tokens = consent(box, scope, access_type="offline", prompt="consent")
    assert tokens["expires_in"] == 3599
    assert tokens["token_type"] == "Bearer"
    assert tokens["scope"].split() == [
        f"{SCOPE}gmail.readonly",
        "openid",
        f"{SCOPE}userinfo.email",
    ]
    told = claims(tokens["id_token"])
    assert told["email"] == box.id
    assert told["iss"] == "https://accounts.google.com"
    assert told["aud"] == app(box.client)["client_id"]
    assert told["sub"] == claims(consent(box, "openid")["id_token"])["sub"]
    assert "id_token" not in consent(box)


def test_a_refresh_gives_no_refresh_token_and_the_old_one_stays_good(box: Box) -> None:
    kept = box.tokens["refresh_token"]
    for _ in range(2):
        answer = refresh(box, kept)
        assert answer.status_code == 200
        assert "refresh_token" not in answer.json()
        assert answer.json()["access_token"] != box.tokens["access_token"]


def test_a_refresh_token_dies_after_six_months_without_use() -> None:
    with start(["gmail"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        box = Box(client, size=0)
        for _ in range(3):
            client.post("/_control/clock", json={"advance": 150 * 86_400})
            assert refresh(box, box.tokens["refresh_token"]).status_code == 200
        client.post("/_control/clock", json={"advance": 184 * 86_400})
        assert refresh(box, box.tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_the_hundred_and_first_refresh_token_silently_kills_the_first(box: Box) -> None:
    second = box.grant()
    for _ in range(98):
        newest = box.grant()
    assert refresh(box, box.tokens["refresh_token"]).status_code == 200
    box.grant()
    assert refresh(box, box.tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert refresh(box, second["refresh_token"]).status_code == 200
    assert refresh(box, newest["refresh_token"]).status_code == 200


def test_a_code_is_good_once_and_only_with_its_address_and_verifier(box: Box) -> None:
    code = authorize(box, "openid")
    assert exchange(box, code).status_code == 200
    used = exchange(box, code)
    assert used.status_code == 400
    assert used.json()["error"] == "invalid_grant"
    assert used.json()["error_description"]
    elsewhere = exchange(box, authorize(box, "openid"), redirect_uri="http://127.0.0.1:9/other")
    assert elsewhere.json()["error"] == "redirect_uri_mismatch"
    verifier = "a-verifier-of-forty-three-characters-or-more"
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    pkce = {"code_challenge": challenge, "code_challenge_method": "S256"}
    assert "access_token" in consent(box, "openid", verifier=verifier, **pkce)
    assert consent(box, "openid", verifier="another", **pkce)["error"] == "invalid_grant"


def test_the_client_is_known_by_the_body_alone(box: Box) -> None:
    form = {"grant_type": "refresh_token", "refresh_token": box.tokens["refresh_token"]}
    known = app(box.client)
    basic = box.client.post(TOKEN, data=form, auth=(known["client_id"], known["client_secret"]))
    wrong = box.client.post(TOKEN, data={**form, **known, "client_secret": "wrong"})
    for answer in (basic, wrong):
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


def test_include_granted_scopes_adds_what_was_granted_before(box: Box) -> None:
    box = Box(box.client, size=0, scopes=[f"{SCOPE}calendar.readonly"])
    assert consent(box)["scope"] == f"{SCOPE}gmail.readonly"
    wider = consent(box, include_granted_scopes="true")["scope"].split()
    assert set(wider) == {f"{SCOPE}gmail.readonly", f"{SCOPE}calendar.readonly"}


def test_revoking_is_answered_with_nothing_and_a_second_time_with_400(box: Box) -> None:
    token = box.tokens["refresh_token"]
    answer = box.client.post(REVOKE, data={"token": token})
    assert (answer.status_code, answer.content) == (200, b"")
    again = box.client.post(REVOKE, data={"token": token})
    assert (again.status_code, again.json()["error"]) == (400, "invalid_token")
    dead = refresh(box, token)
    assert dead.status_code == 400
    assert dead.json() == {
        "error": "invalid_grant",
        "error_description": "Token has been expired or revoked.",
    }
    assert reason(box.get("/profile")) == (401, "authError", "UNAUTHENTICATED")


def test_an_access_token_can_be_revoked_as_well(box: Box) -> None:
    assert box.client.post(REVOKE, data={"token": box.tokens["access_token"]}).status_code == 200
    assert refresh(box, box.tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_only_some_fields_are_given_when_only_some_are_asked_for(box: Box) -> None:
    some = box.get("/messages", fields="messages(id),nextPageToken", maxResults=2).json()
    assert some.keys() == {"messages", "nextPageToken"}
    assert all(each.keys() == {"id"} for each in some["messages"])
    assert box.get("/labels", fields="labels/name").json()["labels"][0].keys() == {"name"}
    assert box.get("/labels", fields="labels(").status_code == 400


def test_quota_units_are_counted_for_each_user_and_minute() -> None:
    with start(["gmail"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        box, other = Box(client, size=5), Box(client, size=5)
        client.post("/_control/gmail/limits", json={"scale": 0.005})  # 30 units
        assert [box.get("/messages").status_code for _ in range(7)] == [200] * 6 + [429]
        assert reason(box.get("/messages")) == (429, "rateLimitExceeded", "RESOURCE_EXHAUSTED")
        assert other.get("/threads").status_code == 200
        client.post("/_control/gmail/quota_status", json={"status": 403})
        assert reason(box.get("/profile"))[:2] == (403, "rateLimitExceeded")
        client.post("/_control/clock", json={"advance": 61})
        assert box.get("/profile").status_code == 200
        costly = {"topicName": "projects/atom-sandbox/topics/gmail"}
        assert reason(box.post("/watch", costly))[1] == "rateLimitExceeded"


@pytest.mark.parametrize(
    ("kind", "status", "reason_"),
    [
        ("429", 429, "rateLimitExceeded"),
        ("500", 500, "backendError"),
        ("503", 503, "backendError"),
        ("unauthorized", 401, "authError"),
    ],
)
def test_ordered_troubles_have_googles_form(box: Box, kind: str, status: int, reason_: str) -> None:
    box.control("faults", kind=kind, count=1, path="/labels")
    assert box.get("/profile").status_code == 200
    assert reason(box.get("/labels"))[:2] == (status, reason_)
    assert box.get("/labels").status_code == 200


def part(number: int, request: str, *headers: str) -> str:
    lines = [
        "--frontier",
        "Content-Type: application/http",
        f"Content-ID: <item{number}>",
        "",
        f"{request} HTTP/1.1",
        *headers,
        "",
        "",
    ]
    return "\r\n".join(lines)


def sent_batch(box: Box, parts: list[str], **headers: str) -> httpx.Response:
    kind = 'multipart/mixed; boundary="frontier"'
    return box.client.post(
        "/gmail.googleapis.com/batch/gmail/v1",
        content="".join(parts) + "--frontier--",
        headers={**box.headers, "Content-Type": kind, **headers},
    )


def inner(answer: httpx.Response) -> list[tuple[str, int, Any]]:
    """Each part's id, status and body."""
    head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
    found = []
    for each in message_from_bytes(head + answer.content).walk():
        if each.get_content_type() != "application/http":
            continue
        content = each.get_payload(decode=True)
        assert isinstance(content, bytes)
        first, _, body = content.partition(b"\r\n\r\n")
        status = int(first.split()[1])
        found.append((each["Content-ID"], status, json.loads(body) if body.strip() else None))
    return found


def test_each_part_of_a_batch_is_answered_for_itself(box: Box) -> None:
    message = box.get("/messages").json()["messages"][0]["id"]
    api = "/gmail/v1/users/me"
    answer = sent_batch(
        box,
        [
            part(1, f"GET {api}/messages/{message}?format=minimal"),
            part(2, f"GET {api}/messages/18aaaaaaaaaaaaaa"),
            part(3, f"GET {api}/profile", "Authorization: Bearer wrong"),
            part(4, f"DELETE {api}/messages/{message}"),
        ],
    )
    assert answer.status_code == 200
    parts = inner(answer)
    assert [each[:2] for each in parts] == [
        ("<response-item1>", 200),
        ("<response-item2>", 404),
        ("<response-item3>", 401),
        ("<response-item4>", 204),
    ]
    assert parts[0][2]["id"] == message
    assert parts[3][2] is None
    assert message not in box.store("messages")


def test_a_batch_spends_the_quota_of_its_parts_and_holds_at_most_100() -> None:
    with start(["gmail"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        box = Box(client, size=5)
        client.post("/_control/gmail/limits", json={"scale": 0.005})  # 30 units
        asked = [part(number, "GET /gmail/v1/users/me/messages") for number in range(8)]
        statuses = [status for _, status, _ in inner(sent_batch(box, asked))]
        assert statuses == [200] * 6 + [429] * 2
        many = [part(number, "GET /gmail/v1/users/me/profile") for number in range(101)]
        assert reason(sent_batch(box, many))[0] == 400
        assert reason(sent_batch(box, [], **{"Content-Type": "text/plain"}))[0] == 400
