"""A tenant's connection to a sandboxed vendor, made as for real, and the comparison with it."""

import secrets
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls
import psycopg

from connectors import Connector, Request, all_connectors, load
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp, answered, authorize_url, exchange, identify
from settings import Settings, incarnation, variables_of
from storage import connections, grants, incarnations, tenants
from storage.database import Database
from storage.incarnations import Incarnation
from storage.vault import Vault

INTEGRATIONS = [connector.name for connector in all_connectors() if connector.streams]
# One for all: a client of its own for each call would read all certificates each time.
# Nor is a connection kept: the sandbox may close an idle one in the moment that it is used.
HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # pragma: allowlist secret


def environment(origin: str, database_url: str, redis_url: str, names: list[str]) -> dict[str, str]:
    """What an operator would set for these integrations of this sandbox."""
    described = HTTP.get(f"{origin}/_control").json()
    values = {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ENCRYPTION_KEYS": KEY,
        "ATOM_SANDBOX_URL": origin,
    }
    for name in names:
        client_id, client_secret, callback = variables_of(name)
        values[client_id] = described[name]["client_id"]
        values[client_secret] = described[name]["client_secret"]
        values[callback] = "http://127.0.0.1/api/integrations/callback"
    return values


def app_of(
    origin: str, settings: Settings, integration: str, account: str, **more: str
) -> OAuthApp:
    """Our app, for a tenant that is asked where its account is, and answers `more` besides."""
    known = HTTP.get(f"{origin}/_control/{integration}/accounts").json()["accounts"]
    answers = next(each.get("answers", {}) for each in known if each["id"] == account)
    return answered(load(integration).oauth, settings.app(integration), {**answers, **more})


def _consent(page: str, account: str) -> dict[str, str]:
    """Say yes on the vendor's page; what the callback is given."""
    answer = HTTP.post(page, data={"decision": "allow", "account": account})
    return dict(parse_qsl(urlsplit(answer.headers["location"]).query))


class RoomyBudget(Budget):
    """A budget with limits a thousand times as wide, as the sandbox's are: nobody waits for it."""

    async def spend(self, connector: Connector, account_id: str, request: Request) -> None:
        wide = tuple(replace(one, amount=one.amount * 1_000) for one in connector.rate_limits)
        await super().spend(replace(connector, rate_limits=wide), account_id, request)


@dataclass(frozen=True)
class Sandboxed:
    """The sandbox, our database, and what a test orders of the one or asks of the other."""

    origin: str
    settings: Settings
    database: Database
    database_url: str

    def control(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        answer = HTTP.request(method, f"{self.origin}/_control{path}", json=body, params=query)
        answer.raise_for_status()
        return answer.json()

    async def connect(
        self,
        integration: str,
        *,
        tenant: str = "acme",
        size: int = 40,
        account: str | None = None,
        **answers: str,
    ) -> connections.Connection:
        """Consent on the vendor's page, exchange the code, store the connection."""
        connector = load(integration)
        if account is None:
            account = str(self.control("POST", f"/{integration}/accounts", {"size": size})["id"])
        app = app_of(self.origin, self.settings, integration, account, **answers)
        verifier = secrets.token_urlsafe(48) if connector.oauth.pkce else None
        page = authorize_url(connector.oauth, app, state="s", code_verifier=verifier)
        page = page.replace("https://", f"{self.origin}/")
        callback = _consent(page, account)
        transport, budget = Transport(sandbox_url=self.origin), Budget(None)
        try:
            granted = await exchange(
                connector, app, code=callback["code"], code_verifier=verifier,
                transport=transport, budget=budget,
            )  # fmt: skip
            accounts = await identify(
                connector, granted, callback, transport=transport, budget=budget
            )
        finally:
            await transport.close()
            await budget.aclose()
        owner = await tenants.create(self.database, slug=tenant, name=tenant, tier="TEAM")
        (connection_id,) = await grants.connect(
            self.database, Vault.parse(KEY), tenant_id=owner.id, integration=integration,
            tokens=granted, accounts=accounts,
        )  # fmt: skip
        return await connections.get(self.database, connection_id)

    def stored(self, connection: connections.Connection) -> dict[str, dict[str, Any]]:
        """Our live records, by plain SQL: {stream: {id: record}}."""
        found: dict[str, dict[str, Any]] = {}
        with psycopg.connect(self.database_url) as sql:
            rows = sql.execute(
                "SELECT stream, record_id, data FROM records"
                " WHERE connection_id = %s AND deleted_at IS NULL",
                (connection.id,),
            )
            for stream, record_id, data in rows:
                found.setdefault(stream.partition(".")[2], {})[record_id] = data
        return found

    def vendor(self, connection: connections.Connection) -> dict[str, dict[str, Any]]:
        """The sandbox's own live records: {stream: {id: record}}, streams that have any."""
        path = f"/{connection.integration}/store"
        streams = self.control("GET", path, account=connection.account_id)["streams"]
        return {stream: held for stream, held in streams.items() if held}

    def change(self, connection: connections.Connection, count: int, seed: int = 1) -> None:
        self.control(
            "POST", f"/{connection.integration}/mutate",
            {"account": connection.account_id, "count": count, "seed": seed},
        )  # fmt: skip

    def fault(self, integration: str, kind: str, **options: Any) -> None:
        self.control("POST", f"/{integration}/faults", {"kind": kind, **options})

    async def tell_to_stop(self) -> Incarnation:
        """As the `up` does that this process stands for (see the fixture `world`)."""
        id = incarnation()
        assert id is not None
        ending = Incarnation(id, "local", "machine-1", 4711)
        await incarnations.tell_to_stop(self.database, ending)
        return ending

    def begin_anew(self) -> None:
        """As the next `up`: nobody told it to stop."""
        self.run("DELETE FROM incarnations")

    def hold(self, integration: str, **options: Any) -> None:
        """Requests such as a fault is ordered for wait for their answer until they are let go."""
        self.fault(integration, "slow", seconds=600, **options)

    def let_go(self, integration: str) -> None:
        self.control("DELETE", f"/{integration}/faults")

    def asked(self, integration: str, part: str = "") -> int:
        """How many requests came whose path has that part, answered or held."""
        log = self.control("GET", f"/{integration}/requests")["log"]
        return sum(part in entry["path"] for entry in log)

    def one(self, query: str, *values: object) -> Any:
        """The single value of a query, as the superuser."""
        with psycopg.connect(self.database_url) as sql:
            row = sql.execute(query, values).fetchone()
        return row[0] if row else None

    def all(self, query: str, *values: object) -> list[Any]:
        """The rows of a query, as the superuser."""
        with psycopg.connect(self.database_url) as sql:
            return sql.execute(query, values).fetchall()

    def run(self, statement: str) -> None:
        """A statement without an answer, as the superuser."""
        with psycopg.connect(self.database_url) as sql:
            sql.execute(statement)

    def connection_status(self, connection_id: UUID) -> str:
        return str(self.one("SELECT status FROM connections WHERE id = %s", connection_id))
