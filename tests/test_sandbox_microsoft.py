"""Microsoft's part of the sandbox: directories, consent, tokens and troubles."""

from collections.abc import Iterator
from html import unescape
from re import search

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._graph import IDENTITY, LOGIN, Person, calm, claims, problem, query

NEEDS_ADMIN = f"{IDENTITY} ChannelMessage.Read.All"
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["onedrive"]) as origin:
        yield origin


@pytest.fixture
def client(origin: str) -> Iterator[httpx.Client]:
    with calm(origin, "onedrive") as client:
        yield client


@pytest.fixture
def person(client: httpx.Client) -> Person:
    return Person(client, "onedrive", size=0)


def test_a_token_answer_is_microsofts(person: Person) -> None:
    person.control("tokens", op="revoke")
    tokens = person.exchange()
    assert set(tokens) == {
        *("token_type", "scope", "expires_in", "ext_expires_in"),
        *("access_token", "refresh_token", "id_token"),
    }
    assert tokens["token_type"] == "Bearer"
    assert tokens["expires_in"] == tokens["ext_expires_in"] == 3599
    assert tokens["scope"].split() == ["openid", "profile", "User.Read", "Files.Read"]
    told = claims(tokens["id_token"])
    assert told["oid"] == person.id
    assert told["iss"] == f"https://login.microsoftonline.com/{told['tid']}/v2.0"
    person.tokens = tokens
    me = person.get("/me").json()
    assert (me["id"], me["userPrincipalName"]) == (person.id, told["preferred_username"])


def test_without_offline_access_there_is_no_refresh_token(person: Person) -> None:
    assert "refresh_token" not in person.exchange("openid Files.Read")


def test_each_refresh_gives_a_new_token_and_the_old_one_stays_good(person: Person) -> None:
    first = person.exchange()["refresh_token"]
    seen = {first}
    for _ in range(3):
        answer = person.refresh(first)
        assert answer.status_code == 200
        seen.add(answer.json()["refresh_token"])
    assert len(seen) == 4
    for token in seen:
        assert person.refresh(token).status_code == 200


def test_a_refresh_token_lapses_after_90_days_and_says_so() -> None:
    with start(["onedrive"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        person = Person(client, "onedrive", size=0)
        token = person.exchange()["refresh_token"]
        client.post("/_control/clock", json={"advance": 89 * 86_400})
        newer = person.refresh(token).json()["refresh_token"]
        client.post("/_control/clock", json={"advance": 2 * 86_400})
        assert person.refresh(token).json()["error_codes"] == [700082]
        assert person.refresh(newer).status_code == 200


@pytest.mark.parametrize(
    ("fields", "status", "error", "number"),
    [
        ({"client_secret": "x"}, 401, "invalid_client", 7000215),
        ({"refresh_token": "x"}, 400, "invalid_grant", 9002313),
        ({"grant_type": "password"}, 400, "unsupported_grant_type", 70003),
        ({"grant_type": "authorization_code", "code": "x"}, 400, "invalid_grant", 54005),
    ],
)
def test_an_oauth_error_has_a_number_and_a_text_that_opens_with_it(
    person: Person, fields: dict[str, str], status: int, error: str, number: int
) -> None:
    given = {"grant_type": "refresh_token", "refresh_token": person.tokens["refresh_token"]}
    answer = person.token(**{**given, **fields})
    body = answer.json()
    assert (answer.status_code, body["error"], body["error_codes"]) == (status, error, [number])
    assert body["error_description"].startswith(f"AADSTS{number}: ")
    assert {"trace_id", "correlation_id", "timestamp"} < set(body)


def test_a_revoked_grant_is_told_from_one_that_lapsed(person: Person) -> None:
    token = person.exchange()["refresh_token"]
    person.control("tokens", op="revoke")
    assert person.refresh(token).json()["error_codes"] == [50173]
    assert problem(person.get("/me")) == (401, "InvalidAuthenticationToken")


def test_a_consent_adds_to_those_before_it(client: httpx.Client) -> None:
    person = Person(client, "onedrive", size=0)
    person.control("tokens", op="revoke")
    first = person.exchange(f"{IDENTITY} Mail.Read")
    assert "Files.Read" not in first["scope"].split()
    second = person.exchange(f"{IDENTITY} Files.Read")
    assert {"Mail.Read", "Files.Read"} < set(second["scope"].split())
    # The first one's tokens are for what they were given for.
    again = person.refresh(first["refresh_token"]).json()
    assert "Files.Read" not in again["scope"].split()


@pytest.mark.parametrize(
    ("personal", "tenant", "admitted"),
    [
        (False, "common", True),
        (True, "common", True),
        (False, "organizations", True),
        (True, "organizations", False),
        (False, "consumers", False),
        (True, "consumers", True),
        (False, "own", True),
        (False, PERSONAL, False),
        (True, PERSONAL, True),
    ],
)
def test_the_directory_in_the_path_says_who_may_sign_in(
    client: httpx.Client, personal: bool, tenant: str, admitted: bool
) -> None:
    person = Person(client, "onedrive", size=0, personal=personal)
    tenant_id = claims(person.tokens["id_token"])["tid"]
    answer = person.consent(tenant=tenant_id if tenant == "own" else tenant)
    if admitted:
        code = query(answer)["code"]
        granted = person.token(tenant="organizations", grant_type="authorization_code", code=code)
        assert granted.status_code == 200
    else:
        assert answer.status_code == 400
        assert "AADSTS50020" in answer.text


def test_what_only_an_administrator_may_allow_ends_at_an_approval_page(person: Person) -> None:
    assert "code" in query(person.consent(NEEDS_ADMIN))
    person.control("admin_consent", given=False)
    answer = person.consent(NEEDS_ADMIN, state="s1")
    assert answer.status_code == 200
    assert "Need admin approval" in answer.text
    link = search(r'href="([^"]*)"', answer.text)
    assert link
    back = httpx.URL(unescape(link[1])).params
    assert (back["error"], back["state"]) == ("access_denied", "s1")
    assert back["error_description"].startswith("AADSTS90094: ")
    assert "code" in query(person.consent())


def test_an_admin_consent_that_is_taken_back_ends_refreshes(person: Person) -> None:
    token = person.exchange(NEEDS_ADMIN)["refresh_token"]
    person.control("admin_consent", given=False)
    assert person.refresh(token).json()["error_codes"] == [65001]
    person.control("admin_consent", given=True)
    assert person.refresh(token).status_code == 200


def test_a_person_selects_what_they_are_told_of_themselves(person: Person) -> None:
    told = person.get("/me", **{"$select": "id,mail"}).json()
    assert {name for name in told if not name.startswith("@")} == {"id", "mail"}


def test_where_the_endpoints_are_is_published(person: Person) -> None:
    url = f"{LOGIN}/organizations/v2.0/.well-known/openid-configuration"
    found = person.client.get(url).json()
    assert found["token_endpoint"].endswith("/organizations/oauth2/v2.0/token")


def test_a_call_without_the_scope_a_path_or_a_method_is_refused(client: httpx.Client) -> None:
    person = Person(client, "onedrive", size=0, scopes=["User.Read"])
    assert problem(person.get("/me/drive")) == (403, "accessDenied")
    assert problem(person.get("/me/nothing")) == (400, "BadRequest")
    assert problem(person.call("DELETE", "/me")) == (405, "UnknownError")
    assert problem(client.get("/graph.microsoft.com/v1.0/me")) == (
        401,
        "InvalidAuthenticationToken",
    )


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("429", (429, "activityLimitReached")),
        ("500", (500, "generalException")),
        ("503", (503, "serviceNotAvailable")),
        ("unauthorized", (401, "InvalidAuthenticationToken")),
    ],
)
def test_an_ordered_trouble_has_graphs_form(
    person: Person, kind: str, expected: tuple[int, str]
) -> None:
    order = {"kind": kind, "retry_after": 7}
    person.client.post("/_control/onedrive/faults", json=order)
    answer = person.get("/me/drive")
    assert problem(answer) == expected
    assert answer.headers.get("retry-after") == ("7" if kind in ("429", "503") else None)
    assert answer.headers["request-id"]
