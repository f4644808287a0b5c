"""Xero on loopback, over real HTTP: what Xero documents is what a client gets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start

API = "/api.xero.com/api.xro/2.0"
CONNECTIONS = "/api.xero.com/connections"


@dataclass(frozen=True)
class Organisation:
    """An organisation, and a client with a token for it."""

    http: httpx.Client
    id: str
    tokens: dict[str, Any]

    def get(self, path: str, tenant: str = "", modified: str = "", **params: Any) -> httpx.Response:
        headers = {
            "authorization": f"Bearer {self.tokens['access_token']}",
            "xero-tenant-id": tenant or self.id,
            "if-modified-since": modified,
        }
        return self.http.get(path, params=params, headers=headers)

    def order(self, action: str, **body: Any) -> Any:
        return made(self.http, action, account=self.id, **body)

    def delete(self, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.tokens['access_token']}"}
        return self.http.delete(path, headers=headers)

    def refresh(self, token: str) -> httpx.Response:
        described = self.http.get("/_control").json()["xero"]
        client = (described["client_id"], described["client_secret"])
        form = {"grant_type": "refresh_token", "refresh_token": token}
        return self.http.post(described["token_url"], data=form, auth=client)


def made(http: httpx.Client, action: str, **body: Any) -> Any:
    answer = http.post(f"/_control/xero/{action}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture(scope="module")
def http() -> Iterator[httpx.Client]:
    with start(["xero"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield client


@pytest.fixture
def organisation(http: httpx.Client) -> Organisation:
    id_ = made(http, "accounts", size=120)["id"]
    return Organisation(http, id_, made(http, "grant", account=id_))


def test_an_organisation_is_named_with_every_call(organisation: Organisation) -> None:
    other = made(organisation.http, "accounts", size=3)["id"]
    assert organisation.get(f"{API}/Organisation").status_code == 200
    answer = organisation.get(f"{API}/Organisation", tenant=other)
    assert answer.status_code == 403
    assert answer.json()["Detail"] == "AuthenticationUnsuccessful"
    organisation.order("person", beside=[other])
    assert organisation.get(f"{API}/Organisation", tenant=other).status_code == 200


def test_connections_end_one_by_one_and_the_token_opens_the_others(
    organisation: Organisation,
) -> None:
    other = made(organisation.http, "accounts", size=3)["id"]
    organisation.order("person", beside=[other])
    own, beside, practice = organisation.get(CONNECTIONS).json()
    assert (own["tenantId"], beside["tenantId"]) == (organisation.id, other)
    assert practice["tenantType"] == "PRACTICE"
    assert organisation.delete(f"{CONNECTIONS}/{other}").status_code == 403
    assert organisation.delete(f"{CONNECTIONS}/{own['id']}").status_code == 204
    assert organisation.get(f"{API}/Invoices").status_code == 403
    assert organisation.get(f"{API}/Invoices", tenant=other).status_code == 200
    assert organisation.refresh(organisation.tokens["refresh_token"]).status_code == 200


def test_a_refresh_token_is_good_for_thirty_minutes_more(organisation: Organisation) -> None:
    first = organisation.tokens["refresh_token"]
    second = organisation.refresh(first).json()
    assert second["refresh_token"] != first
    assert second["expires_in"] == 1800
    assert organisation.refresh(first).json()["refresh_token"] == second["refresh_token"]
    organisation.http.post("/_control/clock", json={"advance": 1801})
    assert organisation.get(f"{API}/Accounts").status_code == 401
    refused = organisation.refresh(first)
    assert (refused.status_code, refused.json()) == (400, {"error": "invalid_grant"})


def test_without_a_page_a_list_is_a_summary_and_a_page_has_a_hundred(
    organisation: Organisation,
) -> None:
    whole = organisation.get(f"{API}/Invoices").json()
    assert "pagination" not in whole
    assert not any(row["LineItems"] for row in whole["Invoices"])
    page = organisation.get(f"{API}/Invoices", page=1).json()
    assert len(page["Invoices"]) == 100 < page["pagination"]["itemCount"]
    assert all(row["LineItems"] for row in page["Invoices"])
    assert page["Invoices"][0]["UpdatedDateUTC"].startswith("/Date(")
    for wrong in ({"page": 0}, {"page": 1, "pageSize": 1001}, {"order": "Nothing"}):
        assert organisation.get(f"{API}/Invoices", **wrong).status_code == 400


def test_archived_contacts_come_only_when_they_are_asked_for(organisation: Organisation) -> None:
    first, second = organisation.get(f"{API}/Contacts", page=1).json()["Contacts"][:2]
    organisation.order("merge", id=first["ContactID"], into=second["ContactID"])
    shown = {one["ContactID"] for one in organisation.get(f"{API}/Contacts").json()["Contacts"]}
    assert first["ContactID"] not in shown
    ids = {"IDs": first["ContactID"], "includeArchived": "true"}
    (left,) = organisation.get(f"{API}/Contacts", **ids).json()["Contacts"]
    assert left["MergedToContactID"] == second["ContactID"]


def test_a_time_with_a_zone_is_no_time(organisation: Organisation) -> None:
    def count(modified: str) -> int:
        rows = organisation.get(f"{API}/Invoices", modified=modified).json()["Invoices"]
        return len(rows)

    assert count("2999-01-01T00:00:00") == 0
    assert count("2999-01-01T00:00:00Z") == count("") > 0


def test_a_scope_that_was_not_given_is_a_401_with_a_detail_of_its_own(http: httpx.Client) -> None:
    id_ = made(http, "accounts", size=3)["id"]
    tokens = made(http, "grant", account=id_, scopes=["accounting.contacts.read"])
    organisation = Organisation(http, id_, tokens)
    assert organisation.get(f"{API}/Contacts").status_code == 200
    answer = organisation.get(f"{API}/Invoices")
    assert (answer.status_code, answer.json()["Detail"]) == (401, "AuthorizationUnsuccessful")


def test_the_sixty_first_call_of_a_minute_waits(organisation: Organisation) -> None:
    answers = [organisation.get(f"{API}/Currencies") for _ in range(61)]
    assert answers[0].headers["x-minlimit-remaining"] == "59"
    assert [answer.status_code for answer in answers[-2:]] == [200, 429]
    assert answers[-1].headers["x-rate-limit-problem"] == "minute"
    assert answers[-1].headers["retry-after"] == "60"
