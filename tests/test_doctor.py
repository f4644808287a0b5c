"""What an operator has set is looked at live, and each row says what to do; no secret is shown."""

import json
import secrets
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import pytest
from prefect.client.orchestration import PrefectClient

from cli.doctor import examine, unreadable
from cli.doctor import services as services
from cli.doctor.apps import integrations
from cli.doctor.row import Row, is_local
from cli.doctor.secrets import weakness
from cli.doctor.stripe import billing
from connectors import all_connectors
from deployments import prefect_yaml
from settings import Settings, SettingsError, read
from storage import tenant_settings, tenants
from storage.database import Database
from storage.vault import Vault, check_keys
from tests._mailbox import PASSWORD, USER, Mailbox, certificate, smtp
from tests._vendor import Answer, Vendor, serve

KEY = b64encode(secrets.token_bytes(32)).decode()
GIVEN = {
    "jwt_secret": secrets.token_urlsafe(32),
    "nextauth_secret": secrets.token_hex(16),
    "nextauth_url": "https://atom.test",
    "encryption_keys": KEY,
}
STRIPE = {
    "stripe_secret_key": "sk_test_canary51canary",
    "stripe_publishable_key": "pk_test_canary51canary",
    "stripe_webhook_secret": "whsec_canarycanary",
    "stripe_price_id_solo": "price_solo",
    "stripe_price_id_team": "price_team",
    "stripe_price_id_enterprise": "price_enterprise",
}
HUBSPOT = {"hubspot_client_id": "an-id", "hubspot_client_secret": "canary-hubspot"}


def settings_of(**given: Any) -> Settings:
    return read(_env_file=None, **given)


def states(rows: list[Row]) -> dict[str, str]:
    return {row.what: row.state for row in rows}


def found(rows: list[Row], what: str) -> str:
    row = next(row for row in rows if row.what == what)
    return f"{row.state}: {row.found} -> {row.remedy}"


async def test_a_deployment_that_is_gone_is_named(prefect_url: str) -> None:
    async with PrefectClient(prefect_url) as client:
        await prefect_yaml.deploy(client)
        gone = await client.read_deployment_by_name("notify/scheduled")
        await client.delete_deployment(gone.id)
        rows = await services.prefect(settings_of(prefect_api_url=prefect_url))
        assert "not there: notify/scheduled -> run `atom-sync deploy`" in found(rows, "deployments")
        await prefect_yaml.deploy(client)


async def test_all_that_is_needed_is_there_and_no_secret_is_shown(
    database: Database, database_url: str, redis_url: str, prefect_url: str
) -> None:
    await check_keys(database, Vault.parse(KEY))
    async with PrefectClient(prefect_url) as client:
        await prefect_yaml.deploy(client)
    with smtp(Mailbox()) as mailbox, serve(Vendor()) as vendor:
        vendor.will(Answer(body={"object": "balance"}), Answer(body={"id": "p", "active": True}))
        settings = settings_of(
            **GIVEN, **STRIPE, **HUBSPOT, database_url=database_url, redis_url=redis_url,
            prefect_api_url=prefect_url, smtp_host=mailbox.host, from_email="no-reply@atom.test",
            atom_sandbox_url=vendor.origin, hubspot_callback_url=None,
        )  # fmt: skip
        rows = await examine(settings)
    assert [row for row in rows if row.failed] == []
    assert {row.area for row in rows} == {
        "database", "redis", "secrets", "prefect", "mail", "stripe", "apps",
    }  # fmt: skip
    assert states(rows)["key"] == "ok"
    shown = json.dumps([vars(row) for row in rows], default=str)
    for secret in (*GIVEN.values(), *STRIPE.values(), *HUBSPOT.values()):
        if "canary" in secret or secret in (GIVEN["jwt_secret"], GIVEN["nextauth_secret"], KEY):
            assert secret not in shown
    assert vendor.calls[0].path == "/v1/balance"


async def test_a_database_that_is_not_set_up_or_is_away_is_told_with_the_remedy(
    postgres_url: str,
) -> None:
    rows = await services.database(settings_of(database_url=postgres_url, encryption_keys=KEY))
    assert states(rows) == {"reachable": "ok", "TLS": "ok", "clock": "ok", "schema": "wrong"}
    assert "atom-sync migrate" in found(rows, "schema")
    away = "postgresql://u:canary@127.0.0.1:9/none"
    rows = await services.database(settings_of(database_url=away, encryption_keys=KEY))
    assert states(rows) == {"reachable": "wrong", "TLS": "ok"}
    assert "canary" not in str(rows)


@pytest.mark.parametrize(
    ("mode", "state"),
    [("", "wrong"), ("?sslmode=prefer", "wrong"), ("?sslmode=require", "ok"),
     ("?sslmode=verify-full", "ok")],
)  # fmt: skip
async def test_a_database_that_is_elsewhere_needs_tls(mode: str, state: str) -> None:
    url = f"postgresql://u:canary@db.invalid:5432/atom{mode}"
    rows = await services.database(settings_of(database_url=url, encryption_keys=KEY))
    assert states(rows)["TLS"] == state


async def test_master_keys_are_compared_with_what_the_data_needs(
    database: Database, database_url: str
) -> None:
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    tenant = await tenants.create(database, "north", "North", "FREE")
    async with database.transaction(tenant.id) as session:
        await tenant_settings.put(session, Vault([old]), tenant.id, "K", "v")
    with psycopg.connect(database_url) as sql:
        sql.execute("INSERT INTO tenant_settings VALUES (%s, 'OPEN', 'x', false)", (tenant.id,))

    async def rows(*keys: bytes) -> list[Row]:
        text = ",".join(b64encode(key).decode() for key in keys)
        return await examine(settings_of(database_url=database_url, encryption_keys=text))

    lacking = await rows(new)
    assert "wrong: secrets need a key that is not here" in found(lacking, "ENCRYPTION_KEYS")
    both = await rows(new, old)
    assert found(both, "ENCRYPTION_KEYS").startswith("ok: current key ")
    assert "keys rotate" in found(both, "rotation")
    assert "1 settings of tenants are not sealed" in found(both, "tenant_settings")
    assert "not random" in found(await rows(bytes(32)), "ENCRYPTION_KEYS")


@pytest.mark.parametrize(
    "secret",
    [
        "short", "a" * 40, "abcdefghijklmnopqrstuvwxyz0123456789", "0123456789abcdef" * 2,
        "my-super-secret-jwt-key-for-the-platform", "change-me-to-something-long-and-random!",
        "aabbaabbabababbbaaabbabaabbababab",
    ],
)  # fmt: skip
def test_a_secret_that_can_be_guessed_is_weak(secret: str) -> None:
    assert weakness(secret)


def test_random_secrets_are_strong() -> None:
    for _ in range(500):
        for made in (secrets.token_hex(16), secrets.token_urlsafe(24), secrets.token_hex(32)):
            assert not weakness(made), made


async def test_our_own_secrets_are_required_and_must_differ(
    database: Database, database_url: str
) -> None:
    kept = {"database_url": database_url, "encryption_keys": KEY}
    rows = await examine(settings_of(**kept))
    wanted = ("JWT_SECRET", "NEXTAUTH_SECRET", "NEXTAUTH_URL")
    assert [states(rows)[name] for name in wanted] == ["missing"] * 3
    assert all("openssl" in found(rows, name) for name in wanted[:2])
    alone = await examine(settings_of(**kept), embedded=True)
    assert [states(alone)[name] for name in wanted] == ["optional"] * 3
    same = secrets.token_urlsafe(32)
    rows = await examine(
        settings_of(
            **kept, jwt_secret=f"{same},weak", nextauth_secret=same, nextauth_url="http://atom.test"
        )
    )
    assert states(rows)["JWT_SECRET 1 of 2"] == "ok"
    assert states(rows)["JWT_SECRET 2 of 2"] == "wrong"
    assert [row.found for row in rows if row.what == "NEXTAUTH_SECRET"][-1].endswith("the same")
    assert "https" in found(rows, "NEXTAUTH_URL")


async def test_redis_is_asked_and_its_way_looked_at() -> None:
    assert states(await services.cache(settings_of(redis_url=None))) == {"REDIS_URL": "optional"}
    rows = await services.cache(settings_of(redis_url="redis://:canary@127.0.0.1:9/0"))
    assert states(rows) == {"reachable": "wrong"}
    assert "canary" not in str(rows)
    rows = await services.cache(settings_of(redis_url="redis://:canary@redis.invalid:6379/0"))
    assert states(rows) == {"reachable": "wrong", "TLS": "wrong"}


@contextmanager
def prefect_on(host: str, password: str | None, says: str = version("prefect")) -> Iterator[str]:
    """What a Prefect API answers to who asks for its version, on one interface or on all."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = b64encode(password.encode()).decode() if password else ""
            known = not password or self.headers.get("authorization") == f"Basic {given}"
            self.send_response(200 if known else 401)
            self.end_headers()
            self.wfile.write(json.dumps(says).encode() if known else b"")

        def log_message(self, *given: Any) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/api"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def test_a_prefect_server_that_others_reach_must_ask_for_a_password() -> None:
    with prefect_on("127.0.0.1", None) as url:
        rows = await services.prefect(settings_of(prefect_api_url=url))
        assert states(rows) == {"reachable": "ok", "version": "ok", "closed to others": "ok"}
        if not list(services.addresses(url)):
            pytest.skip("this machine has no address but loopback")
    with prefect_on("0.0.0.0", None) as url:  # noqa: S104 - that is what is looked for
        rows = await services.prefect(settings_of(prefect_api_url=url))
        assert states(rows)["closed to others"] == "wrong"
        assert "PREFECT_SERVER_API_AUTH_STRING=user:password" in found(rows, "closed to others")
    with prefect_on("0.0.0.0", "us:canary") as url:  # noqa: S104
        given = {"prefect_api_url": url, "prefect_server_api_auth_string": "us:canary"}
        rows = await services.prefect(settings_of(**given))
        assert states(rows) == {"reachable": "ok", "version": "ok", "closed to others": "ok"}
        given["prefect_api_auth_string"] = "us:canary-of-yesterday"
        rows = await services.prefect(settings_of(**given))
        assert "does not accept our password" in found(rows, "reachable")
        assert "canary" not in str(rows)


@pytest.mark.parametrize(
    ("theirs", "fails"),
    [("3.4.0", True), ("2.20.4", True), ("4.0.0", True), ("3.99.1", False), ("", True)],
)
async def test_a_prefect_server_of_another_version_is_named_with_ours(
    theirs: str, fails: bool
) -> None:
    ours = version("prefect")
    with prefect_on("127.0.0.1", None, theirs) as url:
        rows = await services.prefect(settings_of(prefect_api_url=url))
    assert states(rows) == {"reachable": "ok", "version": "wrong", "closed to others": "ok"}
    told = found(rows, "version")
    assert theirs in told
    assert f"here is Prefect {ours} -> run the server on Prefect {ours}" in told
    assert [row.what for row in rows if row.failed] == (["version"] if fails else [])


async def test_a_prefect_server_elsewhere_without_a_password_fails_even_when_it_is_away() -> None:
    rows = await services.prefect(settings_of(prefect_api_url="http://prefect.invalid:4200/api"))
    assert states(rows) == {"reachable": "wrong", "TLS": "wrong", "closed to others": "missing"}
    assert [row.what for row in rows if row.failed] == ["reachable", "closed to others"]


async def test_mail_is_tried_up_to_the_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert states(await services.mail(settings_of())) == {"SMTP_HOST": "optional"}
    half = await services.mail(settings_of(smtp_user="mailer"))
    assert states(half) == {"SMTP_HOST": "missing"}
    public, context = certificate(tmp_path)
    given = {"smtp_user": USER.decode(), "from_email": "no-reply@atom.test"}
    mailbox = Mailbox()
    options: dict[str, Any] = {
        "tls_context": context,
        "require_starttls": True,
        "auth_required": True,
    }
    with smtp(mailbox, authenticator=mailbox.authenticate, **options):
        right = settings_of(**given, smtp_host=mailbox.host, smtp_pass=PASSWORD.decode())
        assert "certificate" in found(await services.mail(right), "reachable")
        monkeypatch.setenv("SSL_CERT_FILE", str(public))
        told = found(await services.mail(right), "reachable")
        assert told == f"ok: {mailbox.host}, TLS, logged in -> "
        wrong = settings_of(**given, smtp_host=mailbox.host, smtp_pass="canary-wrong")
        told = found(await services.mail(wrong), "reachable")
    assert "does not accept SMTP_USER and SMTP_PASS" in told
    assert "canary" not in told
    assert mailbox.arrived == []
    assert "cannot be reached" in found(await services.mail(right), "reachable")


async def test_stripe_is_asked_through_its_own_library() -> None:
    assert states(await billing(settings_of())) == {"billing": "optional"}
    with serve(Vendor()) as vendor:
        given = {**STRIPE, "atom_sandbox_url": vendor.origin}
        refused = {"error": {"type": "invalid_request_error", "message": "canary in the text"}}
        vendor.will(Answer(status=401, body=refused))
        rows = await billing(settings_of(**given))
        assert "does not accept the key" in found(rows, "key")
        assert (vendor.calls[0].host, vendor.calls[0].path) == ("api.stripe.com", "/v1/balance")
        vendor.reset()
        vendor.will(
            Answer(body={"object": "balance"}),
            Answer(body={"id": "price_solo", "object": "price", "active": True}),
            Answer(body={"id": "price_team", "object": "price", "active": False}),
            Answer(status=404, body=refused),
        )
        rows = await billing(settings_of(**given))
        assert states(rows)["key"] == "ok"
        assert "price_solo" not in states(rows)
        assert "archived" in found(rows, "price_team")
        assert "does not know it" in found(rows, "price_enterprise")
        vendor.reset()
        vendor.will(Answer(status=503, body={}))
        assert "nothing could be verified" in found(await billing(settings_of(**given)), "key")
    rows = await billing(settings_of(**given))
    assert "cannot be reached: nothing could be verified" in found(rows, "key")
    assert "canary" not in str(rows)


async def test_stripes_variables_are_known_by_their_form() -> None:
    given = {
        "stripe_secret_key": "pk_live_canarycanary",
        "stripe_publishable_key": "pk_test_canarycanary",
        "stripe_price_id_solo": "prod_canary",
    }
    rows = await billing(settings_of(**given))
    assert states(rows) == {
        "STRIPE_SECRET_KEY": "wrong",
        "STRIPE_PUBLISHABLE_KEY": "ok",
        "STRIPE_WEBHOOK_SECRET": "missing",
        "STRIPE_PRICE_ID_SOLO": "wrong",
        "STRIPE_PRICE_ID_TEAM": "missing",
        "STRIPE_PRICE_ID_ENTERPRISE": "missing",
        "mode": "wrong",
    }
    assert "canary" not in str(rows)


async def test_what_stands_between_commas_is_looked_at_one_by_one() -> None:
    given = {
        "stripe_secret_key": "sk_live_canary,sk_live_canary",  # pragma: allowlist secret
        "stripe_webhook_secret": "whsec_canarycanary,whsec_former_one",  # pragma: allowlist secret
        "stripe_price_id_solo": "price_monthly, price_yearly",
        "stripe_price_id_team": "price_team,prod_canary",
    }
    found = states(await billing(settings_of(**given)))
    assert found["STRIPE_SECRET_KEY"] == "wrong"
    assert found["STRIPE_WEBHOOK_SECRET"] == "ok"
    assert found["STRIPE_PRICE_ID_SOLO"] == "ok"
    assert found["STRIPE_PRICE_ID_TEAM"] == "wrong"
    assert "STRIPE_PRICE_IDS_IGNORED" not in found
    ignored = settings_of(stripe_price_id_solo="price_a", stripe_price_ids_ignored="price_b,prod_c")
    assert states(await billing(ignored))["STRIPE_PRICE_IDS_IGNORED"] == "wrong"


async def test_what_is_owed_to_erased_tenants_is_shown_though_billing_is_off(
    database: Database, database_url: str
) -> None:
    with psycopg.connect(database_url) as sql:
        sql.execute(
            "INSERT INTO billing_endings (customer_id, problem, owed_since, due_at)"
            " VALUES ('cus_erased', 'billing is off', now(), now())"
        )
    rows = await billing(settings_of(database_url=database_url, encryption_keys=KEY))
    assert states(rows) == {"billing": "optional", "endings": "wrong"}


async def test_customers_that_billing_makes_nothing_of_are_shown(
    database: Database, database_url: str
) -> None:
    given = {"stripe_price_id_solo": "price_solo", "database_url": database_url}
    settings = settings_of(**given, encryption_keys=KEY)
    assert not {"customers", "events"} & set(states(await billing(settings)))
    with psycopg.connect(database_url) as sql:
        for number in range(7):
            sql.execute(
                "INSERT INTO billing_customers (customer_id, livemode, problem, attempts)"
                " VALUES (%s, true, 'an unknown price', 5)", (f"cus_{number}",),
            )  # fmt: skip
        sql.execute('UPDATE billing_customers SET unknown_prices = \'["price_odd", "price_b"]\'')
        sql.execute(
            "INSERT INTO billing_endings (customer_id, problem, owed_since, due_at)"
            " VALUES ('cus_erased', 'not known', now(), now())"
        )
    rows = await billing(settings)
    assert "price_b (7 paying); price_odd (7 paying)" in found(rows, "unknown prices")
    assert "STRIPE_PRICE_IDS_IGNORED" in found(rows, "unknown prices")
    assert "cus_erased: not known" in found(rows, "endings")
    assert "billing dismiss CUSTOMER" in found(rows, "endings")
    assert "cus_0: an unknown price" in found(rows, "customers")
    assert "and 2 more -> " in found(rows, "customers")
    assert "7 could not be read" in found(rows, "events")


def test_each_integration_says_what_to_paste_and_which_scopes_it_asks_for_and_why() -> None:
    rows = integrations(settings_of(nextauth_url="https://atom.test", **HUBSPOT))
    (hubspot,) = [row for row in rows if row.what.startswith("HubSpot")]
    assert hubspot.state == "ok"
    assert hubspot.details["callback"] == "https://atom.test/api/integrations/callback"
    assert "tickets" in hubspot.details["scopes"]
    told = {scope for row in rows for scope in row.details.get("scopes", {})}
    asked = [each.oauth.scopes for each in all_connectors() if each.streams]
    assert told == {scope for scopes in asked for scope in scopes}
    (google,) = [row for row in rows if row.what.startswith("Google")]
    assert (google.state, google.failed) == ("optional", False)
    assert "GOOGLE_CLIENT_ID" in google.remedy


@pytest.mark.parametrize(
    ("given", "state", "told"),
    [
        ({"hubspot_client_secret": None}, "missing", "set HUBSPOT_CLIENT_SECRET"),
        ({"hubspot_client_id": "your-client-id"}, "wrong", "HUBSPOT_CLIENT_ID still holds"),
        ({"hubspot_client_secret": '"quoted"'}, "wrong", "blanks or quotes"),
        ({"nextauth_url": None}, "ok", "back to http://127.0.0.1:8000/api/integrations/callback"),
        ({"hubspot_callback_url": "https://atom.test/elsewhere"}, "wrong", "does not lead to"),
        ({"hubspot_callback_url": "http://atom.test/api/integrations/callback"}, "wrong", "https"),
        ({"hubspot_callback_url": "https://evil.test/api/integrations/hubspot/callback"}, "wrong",
         "another host than NEXTAUTH_URL"),
        ({"hubspot_callback_url": "https://atom.test/api/integrations/hubspot/callback"}, "ok", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_app_is_named(given: dict[str, Any], state: str, told: str) -> None:
    values: dict[str, Any] = {"nextauth_url": "https://atom.test", **HUBSPOT, **given}
    rows = integrations(settings_of(**values))
    (hubspot,) = [row for row in rows if row.what.startswith("HubSpot")]
    assert hubspot.state == state
    assert told in f"{hubspot.found} -> {hubspot.remedy}"
    assert "canary" not in str(rows)


def test_more_than_is_needed_is_flagged_and_fails_nothing() -> None:
    rows = integrations(settings_of(shopify_scopes="read_orders,write_orders"))
    (flagged,) = [row for row in rows if row.what == "SHOPIFY_SCOPES"]
    assert (flagged.state, flagged.failed) == ("wrong", False)
    assert flagged.found.startswith("write_orders: more than is needed")
    assert not [
        row for row in integrations(settings_of(shopify_scopes="read_orders"))
        if row.what == "SHOPIFY_SCOPES"
    ]  # fmt: skip


def test_settings_that_cannot_be_read_are_rows_too() -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(redis_url="canary", prefect_api_url="y")
    rows = unreadable(caught.value)
    assert states(rows) == {"REDIS_URL": "wrong", "PREFECT_API_URL": "wrong"}
    assert all(row.failed for row in rows)
    assert "canary" not in str(rows)


def test_what_is_this_machine() -> None:
    for host in ("", "localhost", "127.0.0.1", "127.8.8.8", "::1", "/run/postgres"):
        assert is_local(host)
    for host in ("10.0.0.1", "db.internal", "192.168.1.1"):
        assert not is_local(host)
