"""Several organisations of one consent at Xero: each is connected, and disconnected, by itself."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from storage import tenants
from storage.database import Database
from tests._connecting import Connecting, connecting, note
from tests._sandboxed import HTTP


@pytest.fixture
def ours(origin: str, database_url: str) -> Iterator[Connecting]:
    with connecting(origin, database_url, ["xero"]) as application:
        yield application


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme & Sons", "TEAM")).id


def connected(ours: Connecting, account: str) -> set[str]:
    """The organisations that a token of that account's person opens."""
    token = ours.control("/xero/grant", {"account": account})["access_token"]
    headers = {"authorization": f"Bearer {token}"}
    listed: Any = HTTP.get(f"{ours.vendors}/api.xero.com/connections", headers=headers).json()
    return {each["tenantId"] for each in listed if each["tenantType"] == "ORGANISATION"}


async def test_an_organisation_is_disconnected_at_xero_and_the_others_are_not(
    ours: Connecting, acme: UUID
) -> None:
    first, second = ours.account("xero"), ours.account("xero")
    ours.control("/xero/person", {"account": first, "beside": [second]})
    person, page = ours.visitor(acme)
    page = person.connect(page, "xero", first)
    assert second in page.text, "both are offered"
    page = person.press(page, "/accounts/", account=[first, second])
    rows = ours.rows("SELECT id, account_id, grant_id FROM connections")
    assert {row["account_id"] for row in rows} == {first, second}
    assert len({row["grant_id"] for row in rows}) == 1
    ids = {row["account_id"]: row["id"] for row in rows}

    page = person.press(page, f"disconnect/{ids[second]}")
    assert note(page)[0] == "done"
    assert connected(ours, first) == {first}
    states = ours.rows("SELECT account_id, status FROM connections")
    assert {row["account_id"]: row["status"] for row in states} == {
        first: "active",
        second: "revoked",
    }
    assert ours.rows("SELECT 1 FROM tenant_settings"), "the token opens the other one"

    page = person.press(page, f"disconnect/{ids[first]}")
    assert connected(ours, first) == set()
    assert ours.rows("SELECT 1 FROM tenant_settings UNION ALL SELECT 1 FROM revocations") == []


async def test_an_organisation_that_xero_has_disconnected_already_is_no_error(
    ours: Connecting, acme: UUID
) -> None:
    account = ours.account("xero")
    person, page = ours.visitor(acme)
    page = person.connect(page, "xero", account)
    ours.control("/xero/person", {"account": account, "connected": False})
    (row,) = ours.rows("SELECT id FROM connections")
    page = person.press(page, f"disconnect/{row['id']}")
    assert note(page)[0] == "done"
    assert ours.rows("SELECT status FROM connections") == [{"status": "revoked"}]
