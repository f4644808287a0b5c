"""What the promises of every connector are tried on: its sandbox, and a sync as flows make it."""

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls
import psycopg

from connectors import Checkpoint, Connector, Context, Stream, load
from connectors._budget import Budget
from connectors._client import Client, Transport
from connectors._clock import Clock
from connectors._oauth import authorize_url, exchange, identify
from flows._reading import LEASE_TTL, Outcome, Reading, renewed, store
from settings import Settings
from storage import checkpoints, connections, grants, leases, tenants, tokens
from storage.database import Database
from storage.vault import Vault
from tests._sandboxed import KEY

SIZE = 250


@dataclass
class Controls:
    """The sandbox's controls, over one connection that stays open."""

    origin: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.http.close()

    def __call__(self, path: str, body: Any = None, *, method: str = "", **query: str) -> Any:
        """What a control answers: POST with a body, GET without one."""
        method = method or ("GET" if body is None else "POST")
        answer = self.http.request(method, f"{self.origin}/_control{path}", json=body, params=query)
        answer.raise_for_status()
        return answer.json()


class SandboxClock(Clock):
    """The sandbox's clock, by which the kernel lives too: to sleep is to move it forward."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._ahead = timedelta()
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.advance(timedelta(seconds=seconds))

    def advance(self, time: timedelta) -> None:
        self._ahead += time
        self._controls("/clock", {"advance": time.total_seconds()})


@dataclass(frozen=True)
class Bench:
    """Everything that the promises share: one sandbox, one clock, one database."""

    controls: Controls
    clock: SandboxClock
    database: Database
    database_url: str
    settings: Settings

    async def connect(self, connector: Connector, *, size: int = SIZE) -> "Tried":
        """A tenant's connection to a new account, by consent on the vendor's page."""
        app = self.settings.app(connector.name)
        account = str(self.controls(f"/{connector.name}/accounts", {"size": size})["id"])
        transport, budget = self.transport(), Budget(None, clock=self.clock)
        verifier = secrets.token_urlsafe(48) if connector.oauth.pkce else None
        page = transport.address(
            authorize_url(connector.oauth, app, state="s", code_verifier=verifier)
        )
        answer = self.controls.http.post(page, data={"decision": "allow", "account": account})
        callback = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
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
        slug = f"tenant-{uuid4().hex[:12]}"
        tenant = await tenants.create(self.database, slug=slug, name=slug, tier="TEAM")
        connection_id, *_ = await grants.connect(
            self.database, Vault.parse(KEY), tenant_id=tenant.id, integration=connector.name,
            tokens=granted, accounts=accounts,
        )  # fmt: skip
        connection = await connections.get(self.database, connection_id)
        return Tried(self, connector, account, connection)

    def transport(self, timeout: timedelta = timedelta(seconds=30)) -> Transport:
        return Transport(sandbox_url=self.controls.origin, clock=self.clock, timeout=timeout)


@dataclass(frozen=True)
class Tried:
    """One connection of one connector, and the vendor's account behind it."""

    bench: Bench
    connector: Connector
    account: str
    connection: connections.Connection

    def change(self, count: int = 200, *, seed: int = 1) -> None:
        """That many random changes in the vendor's account."""
        body = {"account": self.account, "count": count, "seed": seed}
        self.bench.controls(f"/{self.connector.name}/mutate", body)

    def vendor(self, stream: Stream) -> dict[str, Any]:
        """The vendor's own live records."""
        found = self.bench.controls(f"/{self.connector.name}/store", account=self.account)
        records: dict[str, Any] = found["streams"][stream.name]
        return records

    def stored(self, stream: Stream) -> dict[str, Any]:
        """Our live records, by plain SQL."""
        with psycopg.connect(self.bench.database_url) as sql:
            rows = sql.execute(
                "SELECT record_id, data FROM records"
                " WHERE connection_id = %s AND stream = %s AND deleted_at IS NULL",
                (self.connection.id, f"{self.connector.name}.{stream.name}"),
            )
            return dict(rows.fetchall())

    def client(self, transport: Transport, budget: Budget) -> Client:
        held = ""

        async def token(refused: bool) -> str:
            nonlocal held
            if refused or not held:
                held = await tokens.access_token(
                    self.bench.database, Vault.parse(KEY), self.bench.settings.app, transport,
                    budget, grant_id=self.connection.grant_id,
                    tenant_id=self.connection.tenant_id, refused=held if refused else None,
                    find=load,
                )  # fmt: skip
            return held

        return Client(
            self.connector,
            transport=transport,
            account_id=self.connection.account_id,
            config=self.connection.config,
            token=token,
            budget=budget,
        )

    def context(self) -> Context:
        return Context(
            now=self.bench.clock.now(),
            account_id=self.connection.account_id,
            config=self.connection.config,
        )

    async def sync(
        self, *streams: Stream, full: bool = False, stop: bool = False
    ) -> dict[str, Outcome]:
        """What a run of the flow does; `stop` ends it after the first batch that gets on."""
        transport, budget = self.bench.transport(), Budget(None, clock=self.bench.clock)
        lease = await leases.acquire(
            self.bench.database, connection_id=self.connection.id,
            tenant_id=self.connection.tenant_id, kind="sync", holder="test", ttl=LEASE_TTL,
        )  # fmt: skip
        assert lease is not None
        try:
            async with renewed(self.bench.database, lease):
                saved = await self._saved()
                client = self.client(transport, budget)
                reading = Reading(client, self.context(), streams, saved, full=full)
                states = [one.state for one in saved.values()] if stop else None
                await self._move(reading, lease, states)
        finally:
            await transport.close()
            await budget.aclose()
        errors = {name: o.error for name, o in reading.outcomes.items() if o.error}
        assert not errors
        return reading.outcomes

    async def _saved(self) -> dict[str, checkpoints.Saved]:
        async with self.bench.database.transaction(self.connection.tenant_id) as session:
            return await checkpoints.load(session, self.connection.id)

    async def _move(
        self, reading: Reading, lease: leases.Lease, stop_beyond: list[Checkpoint] | None
    ) -> None:
        try:
            while True:
                batch = await reading.batch()
                here = batch.parts[-1].checkpoint if batch.parts else None
                await store(
                    self.bench.database, lease, reading.integration, batch, reading.outcomes
                )
                if batch.last or (stop_beyond is not None and here not in stop_beyond):
                    return
        finally:
            await reading.close()

    def outdone(self, stream: Stream, before: dict[str, Any]) -> str:
        """How what we hold differs from what the vendor has; nothing where it does not.

        Of a stream that is only ever added to we hold what came since our first read, for which
        `before` is what the vendor had then, and nothing that the vendor never told.
        """
        vendor, ours = self.vendor(stream), self.stored(stream)
        if stream.append_only:
            owed = {key: vendor[key] for key in vendor if vendor[key] != before.get(key)}
            known = {**before, **vendor}
            missing = [key for key in owed if key not in ours]
            extra = [key for key in ours if key not in known]
            other = [key for key in ours if key in vendor and ours[key] != vendor[key]]
        else:
            missing = [key for key in vendor if key not in ours]
            extra = [key for key in ours if key not in vendor]
            other = [key for key in ours if key in vendor and ours[key] != vendor[key]]
        return difference(missing, extra, other)


def difference(missing: list[str], extra: list[str], other: list[str]) -> str:
    told = {"missing": missing, "not the vendor's": extra, "not as the vendor has it": other}
    return "; ".join(
        f"{len(keys)} {what}: {', '.join(sorted(keys)[:5])}" for what, keys in told.items() if keys
    )
