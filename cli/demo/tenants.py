"""The demo's tenants, and the accounts that they connect by the vendors' own consent pages."""

import secrets
import zlib
from collections.abc import Sequence

from cli.demo.vendors import consent, control
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import answered, authorize_url, exchange, identify
from integrations import load
from settings import Settings
from storage import connections, grants, tenants
from storage.database import Database
from storage.vault import Vault

TENANTS = (  # slug, name, tier, size of the biggest stream
    ("initech", "Initech", "FREE", 60),
    ("hooli", "Hooli", "SOLO", 120),
    ("acme", "Acme Corporation", "TEAM", 200),
    ("globex", "Globex", "ENTERPRISE", 300),
)
# Who has connected nothing yet: for the person that looks at the demo.
NEWCOMER = "newcomer"


async def connect_all(
    settings: Settings, database: Database, names: Sequence[str]
) -> list[connections.Connection]:
    """Every tenant connects every integration, by the vendors' own consent pages."""
    origin = settings.atom_sandbox_url or ""
    keys = settings.encryption_keys
    vault = Vault.parse(keys.get_secret_value() if keys else "")
    transport = Transport(sandbox_url=origin)
    budget = Budget(settings.redis_url.get_secret_value() if settings.redis_url else None)
    try:
        await tenants.delete(database, NEWCOMER)
        await tenants.create(database, NEWCOMER, "The newcomer", "TEAM")
        for slug, name, tier, size in TENANTS:
            # The sandbox forgets everything when it ends, so what a former demo knew is stale.
            await tenants.delete(database, slug)
            tenant = await tenants.create(
                database, slug=slug, name=name, tier=tier, contact_email=f"ops@{slug}.example"
            )
            for integration in names:
                connector = load(integration)
                made = control(
                    origin, "POST", f"/{integration}/accounts",
                    {"size": size, "seed": seed_of(slug, integration)},
                )  # fmt: skip
                account = made["id"]
                answers = made.get("answers", {})
                if connector.feed is not None:  # what can be listened to is
                    answers = {**answers, connector.feed.wanted: "yes"}
                app = answered(connector.oauth, settings.app(integration), answers)
                verifier = secrets.token_urlsafe(48) if connector.oauth.pkce else None
                asked = authorize_url(connector.oauth, app, state=slug, code_verifier=verifier)
                answer = consent(origin, asked, account)
                granted = await exchange(
                    connector, app, code=answer["code"], code_verifier=verifier,
                    transport=transport, budget=budget,
                )  # fmt: skip
                accounts = await identify(
                    connector, granted, answer, transport=transport, budget=budget
                )
                await grants.connect(
                    database, vault, tenant_id=tenant.id, integration=integration,
                    tokens=granted, accounts=accounts,
                )  # fmt: skip
        return await connections.listing(database)
    finally:
        await budget.aclose()
        await transport.close()


def seed_of(*words: str) -> int:
    """The same seed for the same words in every run."""
    return zlib.crc32("/".join(words).encode())
