"""HubSpot on loopback, over real HTTP: what its documentation promises is what a client gets."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._stopped import stopped

CRM = "/api.hubapi.com/crm/objects/2026-03"
V3 = "/api.hubapi.com/crm/v3"
ALL = {
    "contacts": "email,firstname,lastname,phone,company,jobtitle,lifecyclestage,hs_lead_status,"
    "website,city,country,createdate,lastmodifieddate,hs_object_id",
    "companies": "name,domain,phone,industry,city,country,numberofemployees,annualrevenue,"
    "createdate,hs_lastmodifieddate,hs_object_id",
    "deals": "dealname,amount,dealstage,pipeline,closedate,createdate,hs_lastmodifieddate,"
    "hs_object_id",
    "tickets": "subject,content,hs_pipeline,hs_pipeline_stage,hs_ticket_priority,createdate,"
    "hs_lastmodifieddate,hs_object_id",
}
PATHS = {**{kind: f"{CRM}/{kind}" for kind in ALL}, "deals": f"{CRM}/0-3"}


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["hubspot"]) as origin:
        yield origin


@pytest.fixture
def portal(origin: str) -> Iterator["Portal"]:
    """A fresh account of the sandbox, with room for as many calls as a test makes."""
    with httpx.Client(base_url=origin, timeout=60) as client:
        client.delete("/_control/hubspot/faults")
        client.post("/_control/hubspot/limits", json={"scale": 1000})
        client.post("/_control/hubspot/search_lag", json={"seconds": 0})
        yield Portal(client, size=60)


class Portal:
    """One account, a client of the sandbox and the tokens to read the account with."""

    def __init__(self, client: httpx.Client, *, size: int) -> None:
        self.client = client
        made = client.post("/_control/hubspot/accounts", json={"size": size, "id": _next()})
        self.id: str = made.json()["id"]
        self.tokens = client.post("/_control/hubspot/grant", json={"account": self.id}).json()
        self.headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def get(self, path: str, **params: Any) -> httpx.Response:
        return self.client.get(path, params=params, headers=self.headers)

    def search(self, kind: str = "contacts", **body: Any) -> httpx.Response:
        asked = {"filterGroups": [], "sorts": [], "properties": [], "limit": 200, **body}
        return self.client.post(f"{PATHS[kind]}/search", json=asked, headers=self.headers)

    def ids(self, filters: list[dict[str, Any]]) -> list[str]:
        found = self.search(filterGroups=[{"filters": filters}]).json()
        return [row["id"] for row in found["results"]]

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/_control/hubspot/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, **body: Any) -> str:
        path = f"records/{stream}?account={self.id}"
        return str(self.control(path, op=op, **body)["id"])

    def store(self) -> dict[str, dict[str, Any]]:
        answer = self.client.get("/_control/hubspot/store", params={"account": self.id})
        streams: dict[str, dict[str, Any]] = answer.json()["streams"]
        return streams

    def listed(self, path: str, **params: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        after: dict[str, str] = {}
        while True:
            page = self.get(path, **params, **after).json()
            rows += page["results"]
            if "paging" not in page:
                return rows
            after = {"after": page["paging"]["next"]["after"]}


_numbers = iter(range(7_000_001, 8_000_000))


def _next() -> str:
    return str(next(_numbers))


@pytest.mark.parametrize("kind", list(ALL))
def test_a_list_of_all_properties_equals_the_store(portal: Portal, kind: str) -> None:
    rows = portal.listed(PATHS[kind], limit=7, properties=ALL[kind])
    assert rows
    assert {row["id"]: row for row in rows} == portal.store()[kind]


def test_owners_equal_the_store_page_by_page(portal: Portal) -> None:
    rows = portal.listed("/api.hubapi.com/crm/owners/2026-03", limit=1)
    assert len(rows) > 1
    assert {row["id"]: row for row in rows} == portal.store()["owners"]


def test_a_list_gives_ten_rows_with_default_properties_and_a_link_to_the_next(
    portal: Portal,
) -> None:
    page = portal.get(PATHS["contacts"]).json()
    assert len(page["results"]) == 10
    assert set(page["results"][0]["properties"]) == {
        *("createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname")
    }
    link = page["paging"]["next"]["link"]
    assert link.startswith(f"{portal.client.base_url}".rstrip("/") + PATHS["contacts"])
    following = portal.client.get(link, headers=portal.headers).json()["results"]
    assert int(following[0]["id"]) > int(page["results"][-1]["id"])


def test_a_list_of_more_than_a_hundred_is_refused(portal: Portal) -> None:
    refused = portal.get(PATHS["contacts"], limit=101)
    assert refused.status_code == 400
    assert refused.json()["category"] == "VALIDATION_ERROR"
    assert {"status", "message", "correlationId"} <= set(refused.json())


def test_both_generations_of_paths_serve_the_same(portal: Portal) -> None:
    old = portal.get(f"{V3}/objects/deals").json()["results"]
    assert old == portal.get(PATHS["deals"]).json()["results"]
    assert portal.get(f"{CRM}/deals").status_code == 404


def test_archived_objects_are_listed_only_when_asked_for_and_never_searched(
    portal: Portal,
) -> None:
    gone = portal.change("contacts", "delete", id=next(iter(portal.store()["contacts"])))
    archived = {row["id"]: row for row in portal.listed(PATHS["contacts"], archived="true")}
    assert archived[gone]["archived"] is True
    assert archived[gone]["archivedAt"]
    assert gone not in {row["id"] for row in portal.listed(PATHS["contacts"])}
    assert portal.ids([{"propertyName": "hs_object_id", "operator": "EQ", "value": gone}]) == []
    assert portal.get(f"{PATHS['contacts']}/{gone}").status_code == 404
    assert portal.get(f"{PATHS['contacts']}/{gone}", archived="true").json()["id"] == gone


def test_a_search_pages_in_the_order_of_ids_as_numbers(portal: Portal) -> None:
    sorts = [{"propertyName": "hs_object_id", "direction": "ASCENDING"}]
    ids, after = [], "0"
    while after:
        page = portal.search(sorts=sorts, limit=9, after=after).json()
        ids += [int(row["id"]) for row in page["results"]]
        after = page.get("paging", {}).get("next", {}).get("after", "")
    assert ids == sorted(int(id_) for id_ in portal.store()["contacts"])
    assert page["total"] == len(ids)
    assert "associations" not in page["results"][0]


def test_a_search_by_time_takes_epoch_milliseconds_on_both_sides(portal: Portal) -> None:
    wanted = portal.change("contacts", "change", id=next(iter(portal.store()["contacts"])))
    changed = portal.store()["contacts"][wanted]["updatedAt"]
    at = int(datetime.fromisoformat(changed).timestamp() * 1000)
    field = {"propertyName": "lastmodifieddate"}
    exactly = [
        {**field, "operator": "GTE", "value": str(at)},
        {**field, "operator": "LTE", "value": str(at)},
    ]
    assert portal.ids(exactly) == [wanted]
    assert portal.ids([{**field, "operator": "GT", "value": str(at)}]) == []
    between = {**field, "operator": "BETWEEN", "value": at - 1, "highValue": at + 1}
    assert portal.ids([between]) == [wanted]


def test_filters_of_a_group_all_hold_and_of_the_groups_one(portal: Portal) -> None:
    contacts = list(portal.store()["contacts"].values())[:2]
    one, two = (row["properties"]["email"] for row in contacts)
    email = {"propertyName": "email", "operator": "EQ"}
    both = [{**email, "value": one}, {**email, "value": two}]
    assert portal.ids(both) == []
    groups = [{"filters": [each]} for each in both]
    found = portal.search(filterGroups=groups).json()["results"]
    assert {row["id"] for row in found} == {row["id"] for row in contacts}


@pytest.mark.parametrize(
    ("operator", "given", "expected"),
    [
        ("EQ", {"value": "Lyon"}, {"Lyon"}),
        ("IN", {"values": ["lyon", "berlin"]}, {"Lyon", "Berlin"}),
        ("CONTAINS_TOKEN", {"value": "ly*"}, {"Lyon"}),
        ("NEQ", {"value": "Lyon"}, {"Berlin", "São Paulo"}),
        ("NOT_IN", {"values": ["lyon", "berlin"]}, {"São Paulo"}),
        ("HAS_PROPERTY", {}, {"Berlin", "Lyon", "São Paulo"}),
    ],
)
def test_operators_on_text(
    portal: Portal, operator: str, given: dict[str, Any], expected: set[str]
) -> None:
    for row in list(portal.store()["contacts"]):
        portal.change("contacts", "delete", id=row)
    for city in ("Lyon", "Berlin", "São Paulo"):
        portal.change("contacts", "add", record={"city": city})
    found = portal.search(
        properties=["city"],
        filterGroups=[{"filters": [{"propertyName": "city", "operator": operator, **given}]}],
    ).json()
    assert {row["properties"]["city"] for row in found["results"]} == expected


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"limit": 200, "after": "9900"},
        {"after": "x"},
        {"filterGroups": [{"filters": []}]},
        {"filterGroups": [{"filters": [{"propertyName": "email", "operator": "LIKE"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "nothing", "operator": "EQ"}]}]},
        {"filterGroups": [{"filters": [{"propertyName": "createdate", "operator": "GTE"}]}]},
        {"filterGroups": [{"filters": [{}]}] * 7},
        {"sorts": ["createdate", "email"]},
        {"properties": [5]},
    ],
)
def test_a_search_that_hubspot_refuses_is_refused(portal: Portal, body: dict[str, Any]) -> None:
    refused = portal.search(**body)
    assert refused.status_code == 400
    assert refused.json()["category"] == "VALIDATION_ERROR"


def test_ten_thousand_hits_can_be_paged_and_not_one_more(portal: Portal) -> None:
    big = Portal(portal.client, size=10_100)
    last = big.search(after="9800").json()
    assert len(last["results"]) == 200
    assert last["total"] == len(big.store()["contacts"]) == 10_100
    assert big.search(limit=1, after="10000").status_code == 400


def test_search_sees_changes_late_once_told_to(portal: Portal) -> None:
    changed = next(iter(portal.store()["contacts"]))
    portal.control("search_lag", seconds=30)
    added = portal.change("contacts", "add", record={"city": "Quito"})
    portal.change("contacts", "change", id=changed, record={"city": "Quito"})
    quito = [{"propertyName": "city", "operator": "EQ", "value": "Quito"}]
    assert portal.ids(quito) == []
    assert portal.get(f"{PATHS['contacts']}/{added}").status_code == 200
    portal.client.post("/_control/clock", json={"advance": 31})
    assert set(portal.ids(quito)) == {added, changed}


def test_search_shows_for_a_while_what_was_archived(portal: Portal) -> None:
    portal.control("lag", account=portal.id, seconds=30)
    gone = next(iter(portal.store()["contacts"]))
    portal.change("contacts", "delete", id=gone)
    by_id = [{"propertyName": "hs_object_id", "operator": "EQ", "value": gone}]
    assert portal.ids(by_id) == [gone]
    assert portal.get(f"{PATHS['contacts']}/{gone}").status_code == 404
    portal.client.post("/_control/clock", json={"advance": 31})
    assert portal.ids(by_id) == []


def test_batch_read_gives_what_is_there_and_names_what_is_not(portal: Portal) -> None:
    store = portal.store()["companies"]
    one = next(iter(store))
    asked = {"inputs": [{"id": one}, {"id": "1"}], "properties": ALL["companies"].split(",")}
    answer = portal.client.post(
        f"{PATHS['companies']}/batch/read", json=asked, headers=portal.headers
    )
    assert answer.status_code == 207
    assert answer.json()["results"] == [store[one]]
    assert answer.json()["errors"][0]["context"] == {"ids": ["1"]}


def test_lists_carry_associations_when_asked_for(portal: Portal) -> None:
    rows = portal.listed(PATHS["deals"], limit=100, associations="companies,contacts")
    ties = [row["associations"] for row in rows if "associations" in row]
    tied = next(tie["companies"]["results"] for tie in ties if "companies" in tie)
    assert tied[0]["type"] == "deal_to_company"
    assert tied[0]["id"] in portal.store()["companies"]


def test_an_object_is_created_updated_and_archived(portal: Portal) -> None:
    path, headers = PATHS["contacts"], portal.headers
    given = {"properties": {"email": "Ada@Example.com", "phone": ""}}
    created = portal.client.post(path, json=given, headers=headers)
    assert created.status_code == 201
    id_ = created.json()["id"]
    assert portal.store()["contacts"][id_]["properties"]["email"] == "ada@example.com"
    assert portal.client.post(path, json=given, headers=headers).status_code == 409
    city = {"properties": {"city": "Oslo"}}
    updated = portal.client.patch(f"{path}/{id_}", json=city, headers=headers)
    assert updated.json()["updatedAt"] > created.json()["updatedAt"]
    wrong = {"properties": {"nothing": "1"}}
    assert portal.client.patch(f"{path}/{id_}", json=wrong, headers=headers).status_code == 400
    assert portal.client.delete(f"{path}/{id_}", headers=headers).status_code == 204
    assert id_ not in portal.store()["contacts"]


def test_account_details_name_the_portal(portal: Portal) -> None:
    details = portal.get("/api.hubapi.com/account-info/2026-03/details").json()
    assert details["portalId"] == int(portal.id)


def test_the_code_flow_ends_in_tokens_that_name_their_portal(portal: Portal) -> None:
    described = portal.client.get("/_control").json()["hubspot"]
    asked = {
        "client_id": described["client_id"],
        "redirect_uri": "http://127.0.0.1:9/back",
        "scope": "oauth crm.objects.contacts.read",
        "state": "xyz",
    }
    allowed = {"decision": "allow", "account": portal.id}
    back = portal.client.post(described["authorize_url"], params=asked, data=allowed)
    sent = parse_qs(urlsplit(back.headers["location"]).query)
    assert sent["state"] == ["xyz"]
    form = {
        "grant_type": "authorization_code",
        "code": sent["code"][0],
        "redirect_uri": asked["redirect_uri"],
        "client_id": described["client_id"],
        "client_secret": described["client_secret"],
    }
    tokens = portal.client.post(described["token_url"], data=form).json()
    assert tokens["hub_id"] == int(portal.id)
    assert tokens["expires_in"] == 1800
    assert tokens["scopes"] == ["oauth", "crm.objects.contacts.read"]
    headers = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert portal.client.get(PATHS["contacts"], headers=headers).status_code == 200
    beyond = portal.client.get(PATHS["companies"], headers=headers)
    assert (beyond.status_code, beyond.json()["category"]) == (403, "MISSING_SCOPES")
    client = {name: form[name] for name in ("client_id", "client_secret")}
    shown = portal.client.post(
        described["token_url"] + "/introspect", data={**client, "token": tokens["access_token"]}
    ).json()
    assert (shown["active"], shown["hub_id"]) == (True, int(portal.id))
    again = {**client, "grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
    refreshed = portal.client.post(described["token_url"], data=again).json()
    assert refreshed["refresh_token"] == tokens["refresh_token"]
    assert refreshed["access_token"] != tokens["access_token"]


def test_the_client_is_known_by_the_form_and_never_by_basic(portal: Portal) -> None:
    described = portal.client.get("/_control").json()["hubspot"]
    form = {"grant_type": "refresh_token", "refresh_token": portal.tokens["refresh_token"]}
    basic = (described["client_id"], described["client_secret"])
    refused = portal.client.post(described["token_url"], data=form, auth=basic)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_client")


def test_the_deprecated_token_endpoint_keeps_its_own_error_form(portal: Portal) -> None:
    described = portal.client.get("/_control").json()["hubspot"]
    form = {
        "grant_type": "refresh_token",
        "refresh_token": "unknown",
        "client_id": described["client_id"],
        "client_secret": described["client_secret"],
    }
    refused = portal.client.post("/api.hubapi.com/oauth/v1/token", data=form)
    assert (refused.status_code, refused.json()["status"]) == (400, "BAD_REFRESH_TOKEN")


def test_an_expired_token_says_so_and_a_revoked_one_is_unknown(portal: Portal) -> None:
    portal.control("tokens", account=portal.id, op="expire")
    expired = portal.get(PATHS["contacts"])
    assert (expired.status_code, expired.json()["category"]) == (401, "EXPIRED_AUTHENTICATION")
    portal.control("tokens", account=portal.id, op="revoke")
    revoked = portal.get(PATHS["contacts"])
    assert (revoked.status_code, revoked.json()["category"]) == (401, "INVALID_AUTHENTICATION")


def test_the_search_limit_is_five_a_second_and_sends_no_headers(portal: Portal) -> None:
    portal.control("limits", scale=1)
    with stopped(portal.client):
        answers = [portal.search() for _ in range(6)]
        portal.client.post("/_control/clock", json={"advance": 1.05})
        assert portal.search().status_code == 200
    assert [answer.status_code for answer in answers] == [200] * 5 + [429]
    assert answers[-1].json()["policyName"] == "SECONDLY"
    assert answers[-1].json()["errorType"] == "RATE_LIMIT"
    assert not [name for name in answers[0].headers if "ratelimit" in name.lower()]


def test_the_rolling_limit_is_a_hundred_and_ten_in_ten_seconds(portal: Portal) -> None:
    portal.control("limits", scale=1)
    with stopped(portal.client):
        answers = [portal.get("/api.hubapi.com/account-info/v3/details") for _ in range(111)]
    assert [answer.status_code for answer in answers] == [200] * 110 + [429]
    assert answers[0].headers["X-HubSpot-RateLimit-Max"] == "110"
    assert answers[0].headers["X-HubSpot-RateLimit-Remaining"] == "109"
    assert answers[0].headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
    assert answers[-1].json()["policyName"] == "TEN_SECONDLY_ROLLING"


def test_random_changes_are_told_and_show_in_the_store(portal: Portal) -> None:
    before = portal.store()
    changes = portal.control("mutate", account=portal.id, count=60, seed=5)["changes"]
    after = portal.store()
    assert {change["op"] for change in changes} == {"add", "change", "delete"}
    assert {change["stream"] for change in changes} == set(before)
    last = {(change["stream"], change["id"]): change["op"] for change in changes}
    for (stream, id_), op in last.items():
        assert (id_ in after[stream]) == (op != "delete")
        assert before[stream].get(id_) != after[stream].get(id_) or id_ not in before[stream]
    untouched = [id_ for id_ in before["contacts"] if ("contacts", id_) not in last]
    assert all(before["contacts"][id_] == after["contacts"][id_] for id_ in untouched)


def test_changes_that_are_late_bear_a_time_of_before_they_are_seen(portal: Portal) -> None:
    before = portal.store()["contacts"]
    started = datetime.now(UTC)
    portal.control("mutate", account=portal.id, count=60, seed=5, late=3600)
    times = [
        datetime.fromisoformat(contact["createdAt"])
        for id_, contact in portal.store()["contacts"].items()
        if id_ not in before
    ]
    assert times
    hour = timedelta(hours=1)
    assert all(started - hour <= at + timedelta(seconds=1) <= datetime.now(UTC) for at in times)
    assert max(times) < started - hour / 2


def test_an_unknown_field_is_refused_by_name(portal: Portal) -> None:
    path = f"/_control/hubspot/records/contacts?account={portal.id}"
    refused = portal.client.post(path, json={"op": "add", "record": {"shoe_size": "44"}})
    assert refused.status_code == 400
    assert "shoe_size" in refused.json()["error"]
    assert "email" in refused.json()["error"]


def test_an_account_of_size_nothing_is_empty(portal: Portal) -> None:
    empty = Portal(portal.client, size=0)
    assert all(not records for records in empty.store().values())
    assert empty.get(PATHS["contacts"]).json() == {"results": []}
