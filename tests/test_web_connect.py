"""Connecting an account, as a person does it: the link, the vendor's page, and back."""

import re
from collections.abc import Iterator
from uuid import UUID

import httpx  # noqa: TID251 - a test is a browser
import pytest

from storage import tenants
from storage.database import Database
from tests._connecting import Connecting, connecting, note, query_of, with_query
from tests._sandboxed import INTEGRATIONS
from tests._waiting import until


@pytest.fixture
def ours(origin: str, database_url: str) -> Iterator[Connecting]:
    with connecting(origin, database_url) as application:
        yield application


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme & Sons", "TEAM")).id


@pytest.fixture
async def other(database: Database) -> UUID:
    return (await tenants.create(database, "other", "Other", "TEAM")).id


@pytest.mark.parametrize("integration", INTEGRATIONS)
async def test_an_account_is_connected_and_its_backfill_owed(
    ours: Connecting, acme: UUID, integration: str
) -> None:
    person, page = ours.visitor(acme)
    account = ours.account(integration)
    page = person.connect(page, integration, account, **ours.answers(integration, account))
    assert page.status_code == 200
    assert note(page)[0] == "done", note(page)
    (row,) = ours.rows("SELECT * FROM connections")
    assert (row["integration"], row["account_id"].lower()) == (integration, account.lower())
    assert row["status"] == "active"
    assert row["backfill_owed_at"] is not None
    (logged,) = ours.rows("SELECT event, grant_id FROM oauth_log")
    assert logged == {"event": "connect", "grant_id": row["grant_id"]}
    (kept,) = ours.rows("SELECT setting_key, setting_value, encrypted FROM tenant_settings")
    assert kept["setting_key"] == f"{integration}_tokens"
    assert kept["encrypted"]


@pytest.mark.parametrize("integration", INTEGRATIONS)
async def test_an_account_is_reconnected_in_place(
    ours: Connecting, acme: UUID, integration: str
) -> None:
    person, page = ours.visitor(acme)
    account = ours.account(integration)
    page = person.connect(page, integration, account, **ours.answers(integration, account))
    before = ours.rows("SELECT id, grant_id FROM connections")
    ours.rows("UPDATE connections SET status = 'needs_reauth', status_reason = 'over'")
    page = person.get(str(page.url))
    assert "Needs attention" in page.text
    page = person.connect(page, integration, account, **ours.answers(integration, account))
    assert note(page)[0] == "done"
    assert ours.rows("SELECT id, grant_id FROM connections") == before
    (row,) = ours.rows("SELECT status, status_reason FROM connections")
    assert row == {"status": "active", "status_reason": None}


@pytest.mark.parametrize("integration", INTEGRATIONS)
async def test_who_says_no_is_told_that_nothing_was_connected(
    ours: Connecting, acme: UUID, integration: str
) -> None:
    person, page = ours.visitor(acme)
    account = ours.account(integration)
    leaving = person.leave(page, integration, **ours.answers(integration, account))
    back = person.consent(leaving, account, "deny")
    page = person.get(back)
    assert page.status_code == 200
    kind, text = note(page)
    assert kind == "problem"
    assert "You did not allow access" in text
    assert ours.rows("SELECT id FROM connections") == []
    assert ours.rows("SELECT event FROM oauth_log") == [{"event": "failure"}]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("server_error", "try again in some minutes"),
        ("admin_policy_enforced", "administrator"),
        ("redirect_uri_mismatch", "did not accept our request, so"),
        ("<script>alert(1)</script>", "did not accept our request, so"),
    ],
)
async def test_what_vendors_answer_instead_of_a_code_is_told_in_words(
    ours: Connecting, acme: UUID, code: str, words: str
) -> None:
    person, page = ours.visitor(acme)
    state = query_of(person.leave(page, "hubspot"))["state"]
    back = f"{ours.origin}/api/integrations/callback"
    page = person.get(with_query(back, error=code, state=state, error_description="<b>x</b>"))
    assert words in note(page)[1]
    # The code is for who runs this, and stands in the log.
    assert code not in page.text
    (logged,) = ours.rows("SELECT message FROM oauth_log")
    assert (code if code.isidentifier() else "an odd code") in logged["message"]
    assert "<script>" not in page.text
    assert "<b>" not in page.text


@pytest.mark.parametrize("path", ["callback", "hubspot/callback", "HUBSPOT/callback"])
async def test_both_callback_addresses_work(ours: Connecting, acme: UUID, path: str) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    page = person.get(f"/api/integrations/{path}?{back.partition('?')[2]}")
    assert note(page)[0] == "done"


async def test_an_integration_is_called_back_by_the_name_of_its_vendors_app(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "gmail"), ours.account("gmail"))
    page = person.get(f"/api/integrations/google/callback?{back.partition('?')[2]}")
    assert note(page)[0] == "done"


async def test_gmail_gets_a_code_challenge_and_its_verifier_is_kept_nowhere(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    vendor_page = person.leave(page, "gmail")
    asked = query_of(vendor_page)
    assert asked["code_challenge_method"] == "S256"
    # Another verifier's challenge is not met, so ours was really sent.
    back = person.consent(with_query(vendor_page, code_challenge="A" * 43), ours.account("gmail"))
    assert note(person.get(back))[0] == "problem"
    assert ours.rows("SELECT id FROM connections") == []


async def test_a_realm_that_the_token_does_not_open_is_not_connected(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    mine, theirs = ours.account("quickbooks"), ours.account("quickbooks")
    back = person.consent(person.leave(page, "quickbooks"), mine)
    page = person.get(with_query(back, realmId=theirs))
    assert note(page)[0] == "problem"
    assert ours.rows("SELECT id FROM connections") == []


async def test_scopes_that_were_not_granted_are_said(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme)
    narrower = with_query(person.leave(page, "hubspot"), scope="oauth tickets")
    page = person.get(person.consent(narrower, ours.account("hubspot")))
    kind, text = note(page)
    assert kind == "doubt", text
    assert "Not everything was allowed: crm.objects.contacts.read" in text
    assert "tickets" not in text


async def test_scopes_without_which_nothing_works_are_said(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme)
    narrower = with_query(
        person.leave(page, "gmail"), scope="openid email", include_granted_scopes=None
    )
    page = person.get(person.consent(narrower, ours.account("gmail")))
    kind, text = note(page)
    assert kind == "problem"
    assert "Not everything was allowed: https://www.googleapis.com/auth/gmail.readonly" in text
    assert ours.rows("SELECT 1 FROM connections") == []


async def test_the_page_says_whose_it_is_and_where_it_leads_back(
    ours: Connecting, acme: UUID
) -> None:
    _, page = ours.visitor(acme, return_url="https://app.example.com/apps?tab=1&x=%22")
    assert "Acme &amp; Sons" in page.text
    assert 'href="https://app.example.com/apps?tab=1&amp;x=%22"' in page.text
    assert "Back to app.example.com" in page.text


async def test_a_page_may_not_be_framed_kept_or_scripted(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    # The only script is a file of ours, and the policy names that file alone.
    (tag,) = re.findall(r"<script.*?</script>", page.text, re.DOTALL)
    source = re.fullmatch(r'<script src="(/pages/[^"]*)" defer></script>', tag)
    assert source
    assert f"script-src {ours.origin}{source[1]};" in policy
    assert person.get(source[1]).headers["content-type"].startswith("text/javascript")
    assert " style=" not in page.text
    assert re.search(r"\son\w+=", page.text) is None
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"


async def test_a_link_for_one_integration_shows_and_starts_that_one_only(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme, integration="hubspot")
    assert "HubSpot" in page.text
    assert "QuickBooks" not in page.text
    assert person.press(page, "start/hubspot", "start/quickbooks").status_code == 403
    assert person.press(page, "start/hubspot", "start/nothing").status_code == 403


async def test_what_the_operator_did_not_set_up_is_shown_to_the_operators_people_alone(
    origin: str, database_url: str, acme: UUID
) -> None:
    with connecting(origin, database_url, ["hubspot"]) as ours:
        person, page = ours.visitor(acme)
        assert "start/hubspot" in page.text
        assert "Gmail" not in page.text
        assert "GOOGLE_CLIENT_ID" not in page.text
        assert person.get(f"{page.url}/apps/gmail").status_code == 409
        assert person.press(page, "start/hubspot", "start/gmail").status_code == 409
        _, page = ours.visitor(acme, integration="gmail")
        assert "whoever runs this service has to set it up first" in page.text
        assert "GOOGLE_CLIENT_ID" not in page.text
        refused = ours.link(acme, show_unconfigured=True)
        assert refused.status_code == 403
        assert "needs the scope admin" in refused.json()["detail"]
        _, page = ours.visitor(acme, scope="admin", show_unconfigured=True)
        assert "Not set up yet" in page.text
        assert "Gmail is not configured: set GOOGLE_CLIENT_ID" in page.text
        assert "start/gmail" not in page.text


async def test_a_disconnected_account_is_given_back_at_the_vendor_and_keeps_its_records(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    page = person.connect(page, "hubspot", ours.account("hubspot"))
    (row,) = ours.rows("SELECT id FROM connections")
    page = person.press(page, f"disconnect/{row['id']}")
    assert note(page)[0] == "done"
    assert ours.rows("SELECT status FROM connections") == [{"status": "revoked"}]
    assert ours.rows("SELECT 1 FROM tenant_settings") == []
    assert ours.rows("SELECT 1 FROM revocations") == []
    events = [row["event"] for row in ours.rows("SELECT event FROM oauth_log ORDER BY id")]
    assert events == ["connect", "disconnect", "revoke"]
    assert any(path.endswith("/revoke") for path in ours.requests("hubspot"))
    again = person.connect(page, "hubspot", ours.account("hubspot"))
    assert note(again)[0] == "done"


async def test_purging_removes_the_connection_and_its_grant(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme)
    page = person.connect(page, "hubspot", ours.account("hubspot"))
    (row,) = ours.rows("SELECT id FROM connections")
    page = person.press(page, f"disconnect/{row['id']}", purge="yes")
    assert "Its data was deleted" in note(page)[1]
    assert ours.rows("SELECT 1 FROM connections UNION ALL SELECT 1 FROM grants") == []


async def test_nobody_disconnects_what_is_another_tenants(
    ours: Connecting, acme: UUID, other: UUID
) -> None:
    person, page = ours.visitor(acme)
    page = person.connect(page, "hubspot", ours.account("hubspot"))
    (row,) = ours.rows("SELECT id FROM connections")
    stranger, theirs = ours.visitor(other)
    stranger.connect(theirs, "hubspot", ours.account("hubspot"))
    theirs = stranger.get(str(theirs.url))
    (mine,) = ours.rows("SELECT id FROM connections WHERE tenant_id = %s", other)
    assert stranger.press(theirs, str(mine["id"]), str(row["id"])).status_code == 404
    assert ours.rows("SELECT DISTINCT status FROM connections") == [{"status": "active"}]


async def test_an_api_key_is_verified_stored_masked_and_removed(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    page = person.press(page, "key/openai", key="sk-no-such-key-at-all-0123456789")
    assert note(page) == (
        "problem",
        "OpenAI does not know this key: it is mistyped, or was revoked. It was not stored.",
    )
    key = ours.described("openai")["access_token"]
    page = person.press(page, "key/openai", key=key)
    assert note(page)[0] == "done"
    assert key not in page.text
    assert f"…{key[-4:]}" in page.text
    (kept,) = ours.rows("SELECT setting_key, setting_value FROM tenant_settings")
    assert kept["setting_key"] == "OPENAI_API_KEY"
    assert key not in kept["setting_value"]
    page = person.press(page, "forget/openai")
    assert note(page)[0] == "done"
    assert ours.rows("SELECT 1 FROM tenant_settings") == []


def sections(page: httpx.Response) -> dict[str, list[str]]:
    """The headings of the list, and the names of the apps under each."""
    parts = re.split(r'<h2 id="\w+">(.*?)</h2>', page.text)[1:]
    return {
        title: re.findall(r"<h3>(.*?)</h3>", body)
        for title, body in zip(parts[::2], parts[1::2], strict=True)
    }


async def test_the_backend_says_what_is_offered_and_in_which_order(
    ours: Connecting, acme: UUID
) -> None:
    chosen = ["slack", "gmail", "openai", "box", "gmail"]
    person, page = ours.visitor(acme, integrations=chosen)
    assert sections(page) == {"Available apps": ["Slack", "Gmail", "OpenAI", "Box"]}
    assert person.press(page, "start/slack", "start/hubspot").status_code == 403
    assert person.get(f"{page.url}/apps/hubspot").status_code == 403
    page = person.connect(page, "box", ours.account("box"))
    assert sections(page) == {
        "Connected apps": ["Box"],
        "Available apps": ["Slack", "Gmail", "OpenAI"],
    }
    for wrong, said in (
        ({"integrations": ["slack", "slak", "../etc"]}, "there is no 'slak', '../etc'"),
        ({"integrations": []}, "at least 1 item"),
        ({"integrations": ["slack"], "integration": "slack"}, "either integration or integrations"),
        ({"language": "de; drop"}, "language"),
    ):
        refused = ours.link(acme, **wrong)
        assert refused.status_code == 422, wrong
        assert said in refused.json()["detail"]


async def test_what_needs_attention_comes_first_and_no_vendors_code_is_shown(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    for integration in ("hubspot", "gmail", "slack"):
        page = person.connect(page, integration, ours.account(integration))
    reason = "Slack no longer accepts this authorisation (invalid_grant)"
    status = "UPDATE connections SET status = %s, status_reason = %s, failure = %s"
    ours.rows(f"{status} WHERE integration = 'slack'", "needs_reauth", reason, None)
    reason = "contacts: HubSpot answered 503 (XYZ_17)"
    ours.rows(f"{status} WHERE integration = 'hubspot'", "active", reason, "unavailable")
    page = person.get(str(page.url))
    found = sections(page)
    assert list(found) == ["Needs attention", "Connected apps", "Available apps"]
    assert found["Needs attention"] == ["Slack"]
    assert found["Connected apps"] == ["Gmail", "HubSpot"]
    assert found["Available apps"][:3] == ["Airtable", "Box", "Dropbox"]
    assert "Slack no longer lets us read this account. Reconnect it" in page.text
    assert "New data is late: the app does not answer." in page.text
    for code in ("invalid_grant", "XYZ_17", "503"):
        assert code not in page.text


async def test_a_key_that_could_not_be_verified_is_not_called_connected(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    key = ours.described("openai")["access_token"]
    ours.control("/openai/faults", {"kind": "429", "path": "/models", "count": 1})
    page = person.press(page, "key/openai", key=key)
    kind, text = note(page)
    assert kind == "doubt"
    assert text.startswith("The key is saved, but not verified yet. OpenAI says that this key is")
    assert "Saved, not verified yet" in page.text
    assert '"state connected"' not in page.text
    assert "429" not in page.text
    (kept,) = ours.rows("SELECT unproven FROM tenant_settings")
    assert kept["unproven"]["doubt"] == "limited"
    assert "429" in kept["unproven"]["message"]  # for who runs this
    page = person.press(page, "check/openai")
    assert note(page) == ("done", "OpenAI accepts the key.")
    assert '"state connected"' in page.text
    assert ours.rows("SELECT unproven FROM tenant_settings") == [{"unproven": None}]


async def test_what_was_typed_and_does_not_fit_is_not_lost(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme)
    page = person.press(page, "start/shopify", shop='acme".example.com')
    assert page.status_code == 400
    assert note(page)[1].startswith("Address of your shop: its name at myshopify.com")
    assert 'value="acme&#34;.example.com"' in page.text


async def test_a_person_reads_the_page_in_their_language(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme, language="de-AT")
    assert '<html lang="de">' in page.text
    assert "Verbinden Sie Ihre Apps" in page.text
    page = person.press(page, "key/openai", key="zu kurz")
    assert note(page)[1].startswith("Das kann kein Schlüssel von OpenAI sein")
    other = ours.person()
    other.http.headers["accept-language"] = "pt, fr-CA;q=0.8, de;q=0.5"
    page = other.get(ours.url(acme))
    assert page.headers["content-language"] == "fr"
    assert "Connectez vos applications" in page.text
    page = other.get("/connect/no-such-link")
    assert page.status_code == 404
    assert "Ce lien ne peut pas être utilisé" in page.text
    # A link's language goes before the browser's; one that we have not, after it.
    assert '<html lang="es">' in other.get(ours.url(acme, language="es")).text
    assert '<html lang="fr">' in other.get(ours.url(acme, language="ja")).text


async def test_the_list_is_searched_without_a_script(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme)

    def shown(query: str) -> list[str]:
        text = person.get(f"{page.url}?{query}").text
        tiles = re.findall(r'<li id="(\w+)"( class="card")?( hidden)?>', text)
        return [name for name, _, hidden in tiles if not hidden]

    assert shown("q=hub") == ["github", "hubspot"]
    assert shown("q=CALENDAR%20goo") == ["google_calendar"]
    assert shown("q=project") == ["jira", "linear", "monday"]
    assert shown("category=CRM") == ["hubspot", "salesforce", "zoho_crm"]
    assert shown("category=CRM&q=zo") == ["zoho_crm"]
    assert shown("q=%22%3E%3Cb%3E") == []
    assert "No app was found." in person.get(f"{page.url}?q=nothing-like-it").text
    assert '"&#34;&gt;&lt;b&gt;"' in person.get(f"{page.url}?q=%22%3E%3Cb%3E").text


async def test_sessions_that_are_over_are_swept_with_what_they_held(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    person.leave(page, "hubspot")
    ours.rows("UPDATE connect_sessions SET expires_at = now() - interval '2 hours'")
    left = "SELECT 1 FROM oauth_states UNION ALL SELECT 1 FROM connect_sessions"
    await until(lambda: not ours.rows(left))


async def test_a_program_that_looks_at_a_link_does_not_use_it_up(
    ours: Connecting, acme: UUID
) -> None:
    url = ours.url(acme)
    program = ours.person()
    seen = program.get(url, **{"sec-fetch-mode": "cors", "sec-fetch-dest": "empty"})
    assert "Continue" in seen.text
    assert ours.person().get(url).status_code == 200
    late = ours.person().post(url, {})
    assert late.status_code == 403
