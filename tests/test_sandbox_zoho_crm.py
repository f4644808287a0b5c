"""The sandbox refuses what Zoho CRM refuses."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start

SERVERS = {"www.zohoapis.com": "accounts.zoho.com", "www.zohoapis.eu": "accounts.zoho.eu"}


@dataclass
class Guest:
    """Somebody with a token of an organisation of their own."""

    http: httpx.Client
    account: str
    granted: dict[str, Any]

    @property
    def host(self) -> str:
        return str(self.granted["api_domain"]).removeprefix("https://")

    def ask(
        self, path: str, *, host: str = "", word: str = "Zoho-oauthtoken", method: str = "GET",
        since: str = "", json: Any = None, **params: Any,
    ) -> httpx.Response:  # fmt: skip
        headers = {"authorization": f"{word} {self.granted['access_token']}"}
        if since:
            headers["if-modified-since"] = since
        return self.http.request(
            method, f"/{host or self.host}/crm/v8{path}", params=params, headers=headers, json=json
        )

    def order(self, control: str, **body: Any) -> Any:
        answer = self.http.post(f"/_control/zoho_crm/{control}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def grant(self, *scopes: str) -> "Guest":
        return Guest(self.http, self.account, self.order(
            "grant", account=self.account, scopes=[f"ZohoCRM.{scope}" for scope in scopes]
        ))  # fmt: skip


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["zoho_crm"]) as origin:
        yield origin


@pytest.fixture(scope="module")
def guest(origin: str) -> Iterator[Guest]:
    with httpx.Client(base_url=origin, timeout=60) as http:
        http.post("/_control/zoho_crm/limits", json={"scale": 100})
        account = http.post("/_control/zoho_crm/accounts", json={"size": 450}).json()["id"]
        granted = http.post("/_control/zoho_crm/grant", json={"account": account}).json()
        yield Guest(http, account, granted)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"] if answer.content else ""


def test_a_token_is_known_in_its_data_centre_and_after_its_own_word(guest: Guest) -> None:
    (other,) = SERVERS.keys() - {guest.host}
    assert guest.ask("/org").status_code == 200
    assert code(guest.ask("/org", host=other)) == (401, "INVALID_TOKEN")
    assert code(guest.ask("/org", word="Bearer")) == (401, "INVALID_TOKEN")
    described = guest.http.get("/_control").json()["zoho_crm"]
    form = {
        "grant_type": "refresh_token",
        "refresh_token": guest.granted["refresh_token"],
        "client_id": described["client_id"],
        "client_secret": described["client_secret"],
    }
    answer = guest.http.post(f"/{SERVERS[other]}/oauth/v2/token", data=form)
    assert (answer.status_code, answer.json()) == (200, {"error": "invalid_code"})
    answer = guest.http.post(f"/{SERVERS[guest.host]}/oauth/v2/token", data=form)
    assert "access_token" in answer.json()
    assert "refresh_token" not in answer.json()
    wrong = guest.http.post(
        f"/{SERVERS[guest.host]}/oauth/v2/token", data={**form, "client_secret": "x"}
    )
    assert (wrong.status_code, wrong.json()) == (200, {"error": "invalid_client"})


def test_the_oldest_of_more_than_twenty_refresh_tokens_is_dropped(origin: str) -> None:
    with httpx.Client(base_url=origin, timeout=60) as http:
        account = http.post("/_control/zoho_crm/accounts", json={"size": 0}).json()["id"]
        first, *_, last = [
            http.post("/_control/zoho_crm/grant", json={"account": account}).json()
            for _ in range(21)
        ]
        host = SERVERS[first["api_domain"].removeprefix("https://")]
        found = [
            http.post(f"/{host}/oauth/v2/token/revoke", data={"token": each["refresh_token"]})
            for each in (first, last)
        ]
        assert [answer.json() for answer in found] == [
            {"error": "invalid_code"}, {"status": "success"}
        ]  # fmt: skip


def test_a_listing_names_its_fields_and_goes_no_further_than_two_thousand_rows(
    guest: Guest,
) -> None:
    names = ",".join(f"Field_{number}" for number in range(51))
    assert code(guest.ask("/Leads")) == (400, "REQUIRED_PARAM_MISSING")
    assert code(guest.ask("/Leads", fields=names)) == (400, "LIMIT_EXCEEDED")
    assert code(guest.ask("/Leads", fields="Email", page=11)) == (
        400, "DISCRETE_PAGINATION_LIMIT_EXCEEDED"
    )  # fmt: skip
    assert code(guest.ask("/Leads", fields="Email", per_page=201)) == (400, "INVALID_DATA")
    assert code(guest.ask("/Leads", fields="Email", page=10)) == (204, "")
    assert code(guest.ask("/Nothing", fields="Email")) == (400, "INVALID_MODULE")
    assert code(guest.ask("/Reports", fields="Email")) == (400, "NOT_SUPPORTED")
    assert code(guest.ask("/Notes/deleted")) == (400, "INVALID_MODULE")
    shown = guest.ask("/Leads", fields="Email,Nothing").json()["data"]
    assert all(set(row) == {"id", "Email"} for row in shown)


def test_a_page_token_is_of_one_listing_and_lives_a_day(guest: Guest) -> None:
    asked = {"fields": "Email", "sort_by": "Modified_Time"}
    token = guest.ask("/Leads", **asked).json()["info"]["next_page_token"]
    assert guest.ask("/Leads", **asked, page_token=token).status_code == 200
    assert guest.ask("/Leads", **asked, page_token=token, page=2).status_code == 400
    other = guest.ask("/Leads", fields="Phone", sort_by="Modified_Time", page_token=token)
    assert code(other) == (400, "INVALID_DATA")
    guest.http.post("/_control/clock", json={"advance": 90_000})
    guest.granted = guest.order("grant", account=guest.account)
    assert code(guest.ask("/Leads", **asked, page_token=token)) == (400, "INVALID_DATA")


def test_what_is_converted_or_waits_for_approval_is_shown_to_who_asks(guest: Guest) -> None:
    def count(**more: str) -> int:
        found, token = 0, None
        while True:
            given = {**more, "page_token": token} if token else more
            answer = guest.ask("/Leads", fields="Email", **given).json()
            found += len(answer["data"])
            token = answer["info"]["next_page_token"]
            if not token:
                return found

    most = count(converted="both", approved="both")
    assert most == 450
    assert count() < count(converted="both") < most
    assert count() < count(approved="both") < most


def test_a_time_has_an_offset_and_nothing_new_is_no_body(guest: Guest) -> None:
    assert code(guest.ask("/Leads", fields="Email", since="2026-11-01")) == (400, "INVALID_DATA")
    later = "2099-01-01T00:00:00+05:30"
    assert code(guest.ask("/Leads", fields="Email", since=later)) == (304, "")
    assert code(guest.ask("/Leads/deleted", since=later)) == (304, "")


def test_a_scope_is_of_one_module(guest: Guest) -> None:
    only = guest.grant("modules.leads.READ")
    assert only.ask("/Leads", fields="Email").status_code == 200
    for path in ("/Deals", "/Projects", "/users", "/settings/modules", "/actions/watch"):
        assert code(only.ask(path, fields="Email")) == (401, "OAUTH_SCOPE_MISMATCH")
    assert guest.grant("modules.custom.READ").ask("/Projects", fields="Name").status_code == 200


def test_a_channel_needs_a_module_a_short_token_and_ends_within_a_week(guest: Guest) -> None:
    def ask(method: str = "POST", **item: Any) -> httpx.Response:
        made = {"channel_id": "77", "events": ["Leads.all"], "notify_url": "http://127.0.0.1:9/"}
        return guest.ask("/actions/watch", method=method, json={"watch": [made | item]})

    def outcome(answer: httpx.Response) -> str:
        return str(answer.json()["watch"][0]["code"])

    assert outcome(ask(token="t" * 51)) == "INVALID_DATA"
    assert outcome(ask(events=["Nothing.all"])) == "INVALID_MODULE"
    assert outcome(ask("PUT")) == "NOT_SUBSCRIBED"
    made = ask(channel_expiry="2099-01-01T00:00:00Z")
    assert (made.status_code, outcome(made)) == (201, "SUCCESS")
    ends = made.json()["watch"][0]["details"]["events"][0]["channel_expiry"]
    assert ends < "2099"
    assert outcome(ask("PUT")) == "SUCCESS"
    guest.http.post("/_control/clock", json={"advance": 4_000})
    guest.granted = guest.order("grant", account=guest.account)
    assert outcome(ask("PUT")) == "NOT_SUBSCRIBED"
