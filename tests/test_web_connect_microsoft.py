"""Connecting a Microsoft account: directories, administrators who must allow us, licences."""

from datetime import timedelta
from html import unescape
from re import search
from urllib.parse import urlsplit
from uuid import UUID

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest

from storage import tenants
from storage.database import Database
from tests._connecting import Connecting, connecting, note, query_of, with_query

COMMON = "/login.microsoftonline.com/common/oauth2/v2.0/"


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme & Sons", "TEAM")).id


def order(origin: str, account: str, control: str, **body: object) -> None:
    url = f"{origin}/_control/onedrive/{control}"
    httpx.post(url, json={"account": account, **body}).raise_for_status()


def paths(ours: Connecting) -> set[str]:
    """What the sandbox's authorisation server was asked for."""
    log = httpx.get(f"{ours.vendors}/_control/onedrive/requests").json()["log"]
    return {each["path"] for each in log if each["host"] == "login.microsoftonline.com"}


async def test_consent_and_tokens_are_asked_of_the_operators_directory(
    origin: str, database_url: str, acme: UUID
) -> None:
    with connecting(origin, database_url, microsoft_tenant_id="organizations") as ours:
        httpx.delete(f"{origin}/_control/onedrive/requests")
        person, page = ours.visitor(acme)
        page = person.connect(page, "onedrive", ours.account("onedrive"))
        assert note(page)[0] == "done"
        assert paths(ours) == {
            "/organizations/oauth2/v2.0/authorize",
            "/organizations/oauth2/v2.0/token",
        }


async def test_an_administrator_who_has_to_allow_us_is_told_of(
    origin: str, database_url: str, acme: UUID
) -> None:
    with connecting(origin, database_url) as ours:
        person, page = ours.visitor(acme)
        account = ours.account("onedrive")
        order(origin, account, "admin_consent", given=False)
        vendor_page = person.leave(page, "onedrive")
        assert urlsplit(vendor_page).path == f"{COMMON}authorize"
        asked = query_of(vendor_page)["scope"]
        wider = with_query(vendor_page, scope=f"{asked} ChannelMessage.Read.All")
        answer = person.http.post(wider, data={"decision": "allow", "account": account})
        link = search(r'href="([^"]*)"', answer.text)
        assert link
        kind, text = note(person.get(unescape(link[1])))
        assert kind == "problem"
        assert "an administrator of the organisation has to allow our app first" in text
        assert "AADSTS90094" not in text
        (logged,) = ours.rows("SELECT message FROM oauth_log")
        assert "(AADSTS90094)" in logged["message"]
        assert ours.rows("SELECT id FROM connections") == []


async def test_an_account_without_a_drive_is_not_connected_and_told_why(
    origin: str, database_url: str, acme: UUID
) -> None:
    with connecting(origin, database_url) as ours:
        person, page = ours.visitor(acme)
        account = ours.account("onedrive")
        order(origin, account, "provision", provisioned=False)
        kind, text = note(person.connect(page, "onedrive", account))
        assert kind == "problem"
        assert "This account has no OneDrive now: if that stays, an administrator" in text
        assert ours.rows("SELECT id FROM connections") == []


async def test_teams_asks_for_what_an_administrator_has_to_allow(
    origin: str, database_url: str, acme: UUID
) -> None:
    with connecting(origin, database_url) as ours:
        person, page = ours.visitor(acme)
        account = ours.account("ms_teams")
        order(origin, account, "admin_consent", given=False)
        vendor_page = person.leave(page, "ms_teams")
        assert "/organizations/" in urlsplit(vendor_page).path
        answer = person.http.post(vendor_page, data={"decision": "allow", "account": account})
        link = search(r'href="([^"]*)"', answer.text)
        assert link
        kind, text = note(person.get(unescape(link[1])))
        assert kind == "problem"
        assert "an administrator of the organisation has to allow our app first" in text


async def test_an_account_without_a_licence_for_teams_is_not_connected_and_told_why(
    origin: str, database_url: str, acme: UUID
) -> None:
    with connecting(origin, database_url) as ours:
        person, page = ours.visitor(acme)
        account = ours.account("ms_teams")
        url = f"{origin}/_control/ms_teams/licence"
        httpx.post(url, json={"account": account, "given": False}).raise_for_status()
        kind, text = note(person.connect(page, "ms_teams", account))
        assert kind == "problem"
        assert "This account has no Microsoft Teams: it has no licence for it" in text
        assert ours.rows("SELECT id FROM connections") == []


async def test_a_second_integration_is_asked_for_its_own_scopes_and_adds_to_the_consent(
    origin: str, database_url: str, acme: UUID
) -> None:
    with connecting(origin, database_url) as ours:
        person, page = ours.visitor(acme)
        account = ours.account("onedrive")
        page = person.connect(page, "onedrive", account)
        assert note(page)[0] == "done"
        vendor_page = person.leave(page, "outlook")
        asked = query_of(vendor_page)["scope"].split()
        assert {"Mail.Read", "Calendars.Read", "Contacts.Read"} <= set(asked)
        assert "Files.Read" not in asked
        page = person.get(person.consent(vendor_page, account))
        assert note(page)[0] == "done"
        connected = ours.rows(
            "SELECT integration, account_id, status, grant_id FROM connections ORDER BY 1"
        )
        assert [(row["integration"], row["account_id"], row["status"]) for row in connected] == [
            ("onedrive", account, "active"),
            ("outlook", account, "active"),
        ]
        assert len({row["grant_id"] for row in connected}) == 2
        kept = ours.rows("SELECT setting_key FROM tenant_settings ORDER BY 1")
        assert [row["setting_key"] for row in kept] == ["onedrive_tokens", "outlook_tokens"]


async def test_an_account_without_a_mailbox_is_not_connected_and_told_why(
    origin: str, database_url: str, acme: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It is asked for again with patience: it may only be under way.
    monkeypatch.setattr("connectors.kernel.retry.BACKOFF", timedelta(milliseconds=20))
    with connecting(origin, database_url) as ours:
        person, page = ours.visitor(acme)
        account = ours.account("outlook")
        body = {"account": account, "provisioned": False}
        httpx.post(f"{origin}/_control/outlook/provision", json=body).raise_for_status()
        kind, text = note(person.connect(page, "outlook", account))
        assert kind == "problem"
        assert "This account has no Outlook now: if that stays, an administrator" in text
        assert ours.rows("SELECT id FROM connections") == []
