"""The sandbox refuses what Airtable refuses."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._stopped import stopped

BACK = "http://127.0.0.1:9/back"
API = "/api.airtable.com/v0"


@dataclass
class Guest:
    """Somebody with a token of an account of their own."""

    http: httpx.Client
    account: str
    token: str

    def ask(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}"}
        return self.http.request(method, f"{API}{path}", headers=headers, **options)

    def order(self, control: str, **body: Any) -> Any:
        answer = self.http.post(f"/_control/airtable/{control}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> dict[str, Any]:
        params = {"account": self.account, "stream": stream}
        found = self.http.get("/_control/airtable/store", params=params).json()["streams"]
        return dict(found[stream])

    def table(self) -> str:
        """The biggest one, as `base/table`."""
        keys = [key.rpartition("/")[0] for key in self.store("records")]
        return max(keys, key=keys.count)


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["airtable"]) as origin:
        yield origin


@pytest.fixture
def guest(origin: str) -> Iterator[Guest]:
    with httpx.Client(base_url=origin, timeout=60) as http:
        http.post("/_control/airtable/limits", json={"scale": 100})
        account = http.post("/_control/airtable/accounts", json={"size": 250}).json()["id"]
        granted = http.post("/_control/airtable/grant", json={"account": account}).json()
        yield Guest(http, account, granted["access_token"])


def kind(answer: httpx.Response) -> tuple[int, str]:
    error = answer.json()["error"]
    return answer.status_code, error if isinstance(error, str) else error["type"]


def test_what_is_not_there_and_what_may_not_be_seen_is_refused_alike(guest: Guest) -> None:
    refused = (403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND")
    base, _, table = guest.table().partition("/")
    hidden = next(
        id_ for id_, row in guest.store("bases").items() if row["permissionLevel"] == "none"
    )
    assert kind(guest.ask(f"/{base}/tblNone")) == refused
    assert kind(guest.ask(f"/meta/bases/{hidden}/tables")) == refused
    assert kind(guest.ask(f"/appNone/{table}")) == refused
    assert kind(guest.ask(f"/{base}/{table}/recNone")) == (404, "NOT_FOUND")


def test_a_listing_whose_client_was_silent_is_dropped(guest: Guest) -> None:
    path = f"/{guest.table()}"
    first = guest.ask(path).json()
    assert len(first["records"]) == 100
    following = {"offset": first["offset"]}
    assert guest.ask(path, params=following).status_code == 200
    guest.http.post("/_control/clock", json={"advance": 3600})
    guest.token = guest.order("grant", account=guest.account)["access_token"]
    lapsed = guest.ask(path, params=following)
    assert kind(lapsed) == (422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE")
    assert kind(guest.ask(path, params={"offset": "100"})) == (422, "INVALID_OFFSET_VALUE")


@pytest.mark.parametrize("formula", ["IS_AFTER(", "NONE()", "{No such}='x'", "1 2"])
def test_a_formula_that_cannot_be_read_is_refused(guest: Guest, formula: str) -> None:
    answer = guest.ask(f"/{guest.table()}", params={"filterByFormula": formula})
    assert kind(answer) == (422, "INVALID_FILTER_BY_FORMULA")


def test_a_time_that_is_compared_with_a_text_filters_nothing(guest: Guest) -> None:
    formulas = {"LAST_MODIFIED_TIME() > '2100-01-01T00:00:00.000Z'": 100}
    formulas["IS_AFTER(LAST_MODIFIED_TIME(), DATETIME_PARSE('2100-01-01'))"] = 0
    for formula, count in formulas.items():
        answer = guest.ask(f"/{guest.table()}", params={"filterByFormula": formula})
        assert len(answer.json()["records"]) == count


def test_a_call_too_much_locks_for_half_a_minute(guest: Guest) -> None:
    guest.order("limits", scale=1)
    with stopped(guest.http):
        answers = [guest.ask("/meta/bases").status_code for _ in range(6)]
        assert answers == [200] * 5 + [429]
        for seconds, status in ((5, 429), (26, 200)):
            guest.http.post("/_control/clock", json={"advance": seconds})
            assert guest.ask("/meta/bases").status_code == status


def test_webhooks_are_few_end_after_a_week_and_keep_their_secret(guest: Guest) -> None:
    base = guest.table().partition("/")[0]
    path = f"/bases/{base}/webhooks"
    specification = {"options": {"filters": {"dataTypes": ["tableData"]}}}
    body = {"notificationUrl": BACK, "specification": specification}
    made = guest.ask(path, "POST", json=body)
    assert len(base64.b64decode(made.json()["macSecretBase64"])) == 32
    assert kind(guest.ask(path, "POST", json=body)) == (422, "TOO_MANY_WEBHOOKS_IN_BASE")
    listed = guest.ask(path).json()["webhooks"]
    assert not any("macSecretBase64" in one for one in listed)
    guest.http.post("/_control/clock", json={"advance": 8 * 86_400})
    guest.token = guest.order("grant", account=guest.account)["access_token"]
    assert not any(one["isHookEnabled"] for one in guest.ask(path).json()["webhooks"])
    assert guest.ask(f"{path}/{made.json()['id']}/refresh", "POST").status_code == 422
    guest.order("plan", account=guest.account, webhooks=False)
    assert guest.ask(path, "POST", json=body).status_code == 403


def consent(guest: Guest, **more: str) -> httpx.Response:
    described = guest.http.get("/_control").json()["airtable"]
    asked = {
        "client_id": described["client_id"], "redirect_uri": BACK, "response_type": "code",
        "state": "s", "scope": "schema.bases:read", **more,
    }  # fmt: skip
    form = {"decision": "allow", "account": guest.account}
    return guest.http.post(described["authorize_url"], params=asked, data=form)


def test_a_consent_needs_a_proof_key_and_a_refresh_token_serves_once(guest: Guest) -> None:
    verifier = "v" * 50
    digest = hashlib.sha256(verifier.encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
    proof = {"code_challenge": challenge, "code_challenge_method": "S256"}
    assert "code=" not in consent(guest).headers.get("location", "")
    back = consent(guest, **proof).headers["location"]
    code = parse_qs(urlsplit(back).query)["code"][0]
    described = guest.http.get("/_control").json()["airtable"]
    client = (described["client_id"], described["client_secret"])

    def tokens(**form: str) -> httpx.Response:
        return guest.http.post(described["token_url"], data=form, auth=client)

    exchange = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    granted = tokens(**exchange, code_verifier=verifier).json()
    assert granted["refresh_expires_in"] == 60 * 86_400
    again = {"grant_type": "refresh_token", "refresh_token": granted["refresh_token"]}
    renewed = tokens(**again).json()
    guest.token = granted["access_token"]
    assert guest.ask("/meta/bases").status_code == 401  # a refresh ended it
    guest.token = renewed["access_token"]
    assert guest.ask("/meta/bases").status_code == 200
    assert tokens(**again).json()["error"] == "invalid_grant"
    assert guest.ask("/meta/bases").status_code == 401  # the second use ended all of it
