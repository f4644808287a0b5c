"""What the promises of every connector are tried on: its sandbox, and a sync as flows make it."""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls
import psycopg
from sqlalchemy import text

from connectors import Checkpoint, CheckpointExpiredError, Connector, Context, Stream
from connectors._client import Client
from connectors._clock import Clock
from connectors._oauth import authorize_url, exchange, identify
from flows._reading import LEASE_TTL, Outcome, Reading, renewed, store
from settings import Settings
from storage import checkpoints, connections, grants, leases, runs, tenants, tokens
from storage.database import Database
from storage.models import Failure
from storage.vault import Vault
from tests._conformance_line import Ledger, Line
from tests._conformance_rows import difference, quoted
from tests._sandboxed import KEY

VAULT = Vault.parse(KEY)


@dataclass
class Controls:
    """The sandbox's controls, over one connection that stays open."""

    origin: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.http.close()

    def __call__(self, path: str, body: Any = None, **query: str) -> Any:
        """What a control answers: POST with a body, GET without one."""
        return self._ask("GET" if body is None else "POST", path, body, query).json()

    def clear(self, path: str) -> Any:
        return self._ask("DELETE", path, None, {}).json()

    def _ask(self, method: str, path: str, body: Any, query: dict[str, str]) -> httpx.Response:
        answer = self.http.request(method, f"{self.origin}/_control{path}", json=body, params=query)
        answer.raise_for_status()
        return answer


class SandboxClock(Clock):
    """The sandbox's clock, by which the kernel lives too: to sleep is to move it forward."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._ahead = timedelta()
        self._stopped_at: datetime | None = None
        self.slept = 0.0

    def now(self) -> datetime:
        return (self._stopped_at or datetime.now(UTC)) + self._ahead

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.advance(timedelta(seconds=seconds))

    def advance(self, time: timedelta) -> None:
        self._ahead += time
        self._controls("/clock", {"advance": time.total_seconds()})

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """No time passes but what is slept: how fast this machine is does not count."""
        self._stopped_at = datetime.now(UTC)
        self._controls("/clock", {"stopped": True})
        try:
            yield
        finally:
            self._ahead -= datetime.now(UTC) - self._stopped_at
            self._stopped_at = None
            self._controls("/clock", {"stopped": False})


@dataclass(frozen=True)
class Bench:
    """Everything that the promises share: one sandbox, one clock, one database.

    `line` waits long for an answer, `short_line` not even as long as a person would.
    """

    controls: Controls
    clock: SandboxClock
    line: Line
    short_line: Line
    database: Database
    sql: psycopg.Connection[Any]
    settings: Settings
    seeds: Counter[str] = field(default_factory=Counter)

    def account(self, connector: Connector, size: int) -> str:
        """A new account at the vendor."""
        return str(self.controls(f"/{connector.name}/accounts", {"size": size})["id"])

    async def connect(
        self, connector: Connector, *, size: int = 0, account: str | None = None
    ) -> "Tried":
        """A tenant's connection to an account, a new one unless it is named, by consent on the
        vendor's page."""
        app, budget = self.settings.app(connector.name), Ledger(self.clock)
        account = account or self.account(connector, size)
        verifier = secrets.token_urlsafe(48) if connector.oauth.pkce else None
        page = authorize_url(connector.oauth, app, state="s", code_verifier=verifier)
        form = {"decision": "allow", "account": account}
        answer = self.controls.http.post(self.line.address(page), data=form)
        callback = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
        self.line.follow(connector)
        granted = await exchange(
            connector, app, code=callback["code"], code_verifier=verifier,
            transport=self.line, budget=budget,
        )  # fmt: skip
        accounts = await identify(connector, granted, callback, transport=self.line, budget=budget)
        slug = f"tenant-{uuid4().hex[:12]}"
        tenant = await tenants.create(self.database, slug=slug, name=slug, tier="TEAM")
        connection_id, *_ = await grants.connect(
            self.database, VAULT, tenant_id=tenant.id, integration=connector.name,
            tokens=granted, accounts=accounts,
        )  # fmt: skip
        connection = await connections.get(self.database, connection_id)
        return Tried(self, connector, account, connection, budget)


@dataclass
class Tried:
    """One connection of one connector, and the vendor's account behind it.

    Of each stream that is only ever added to, `before` is what the vendor had when it began to be
    read, and what came since is owed; `told` is all that the vendor ever had.
    """

    bench: Bench
    connector: Connector
    account: str
    connection: connections.Connection
    budget: Ledger
    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: dict[str, dict[str, Any]] = field(default_factory=dict)

    # -- the vendor's side

    def order(self, control: str, **body: Any) -> Any:
        """A control of the vendor, for this account."""
        path = f"/{self.connector.name}/{control}"
        return self.bench.controls(path, {"account": self.account, **body})

    def change(self, count: int, *, late: timedelta = timedelta()) -> None:
        """That many random changes, of all streams; stamped with a time that is so far back."""
        # No seed twice for an account: it would draw ids that there were already.
        seeds = self.bench.seeds
        seeds[self.account] += 1
        self.order("mutate", count=count, seed=seeds[self.account], late=late.total_seconds())

    def lapse(self) -> None:
        """Every position that the vendor gave out so far is one that it no longer knows."""
        self.order("expire_checkpoints")
        for stream in self.connector.streams:
            self.begin(stream)

    def vendor(self, stream: Stream) -> dict[str, Any]:
        """The vendor's own live records."""
        path = f"/{self.connector.name}/store"
        streams = self.bench.controls(path, account=self.account, stream=stream.name)["streams"]
        records: dict[str, Any] = streams[stream.name]
        return records

    # -- our side

    def stored(self, stream: Stream) -> dict[str, Any]:
        """Our live records, by plain SQL."""
        rows = self.bench.sql.execute(
            "SELECT record_id, data FROM records"
            " WHERE connection_id = %s AND stream = %s AND deleted_at IS NULL",
            (self.connection.id, f"{self.connector.name}.{stream.name}"),
        )
        return dict(rows.fetchall())

    async def shown(self, stream: Stream) -> tuple[int, list[str]]:
        """How many records the stream's view shows to its tenant, and which columns of it none of
        them has a value for."""
        values = [f"count(nullif(to_jsonb({quoted(name)}), 'null'))" for name in stream.columns]
        view = quoted(f"{self.connector.name}_{stream.name}")
        query = text(f"SELECT {', '.join(['count(*)', *values])} FROM {view}")
        async with self.bench.database.transaction(self.connection.tenant_id) as session:
            count, *filled = (await session.execute(query)).one()
        return count, [name for name, n in zip(stream.columns, filled, strict=True) if not n]

    def hosts(self) -> list[str]:
        """Those that the connector names, some as patterns."""
        base = self.connector.base_url.partition("://")[2].partition("/")[0]
        base = base.replace("{account_id}", self.connection.account_id)
        for name, value in self.connection.config.items():
            base = base.replace(f"{{config[{name}]}}", str(value))
        return [base, *self.connector.hosts]

    def status(self) -> str:
        row = self.bench.sql.execute(
            "SELECT status FROM connections WHERE id = %s", (self.connection.id,)
        ).fetchone()
        return str(row[0]) if row else ""

    def refreshes(self) -> int:
        """How often the access token was renewed."""
        rows = self.bench.sql.execute(
            "SELECT FROM oauth_log WHERE grant_id = %s AND event = 'refresh'",
            (self.connection.grant_id,),
        )
        return len(rows.fetchall())

    def forget(self) -> None:
        """As if nothing had ever been read."""
        for table in ("records", "checkpoints", "seen"):
            self.bench.sql.execute(
                f"DELETE FROM {table} WHERE connection_id = %s", (self.connection.id,)
            )

    # -- syncing

    async def sync(
        self,
        stream: Stream,
        *,
        full: bool = False,
        before: Callable[[int], None] | None = None,
        stop: Callable[[int, Checkpoint], bool] = lambda batches, at: False,
        line: Line | None = None,
    ) -> Outcome:
        """What a run of the flow does, on one stream.

        `before` acts before each request; `stop` says after each batch whether to leave the rest.
        """
        if not await self._saved(stream):
            self.begin(stream)
        line = line or self.bench.line
        line.follow(self.connector, before)
        run = await runs.start(self.bench.database, self.connection, trigger="manual")
        async with self._reading(stream, line, full=full) as (reading, lease):
            batches, stopped = 0, False
            while not stopped:
                batch = await reading.batch()
                at = batch.parts[-1].checkpoint if batch.parts else Checkpoint()
                await store(
                    self.bench.database, lease, reading.integration, batch, reading.outcomes
                )
                if batch.last:
                    break
                batches += 1
                stopped = stop(batches, at)
        await runs.finish(
            self.bench.database,
            run,
            self.connection,
            outcomes=reading.outcomes,
            requests=reading.requests,
            error=reading.outcomes[stream.name].error,
            failure=Failure.BROKEN if reading.broken else Failure.OURS,
            stopped=stopped,
        )
        return reading.outcomes[stream.name]

    async def follow(self, stream: Stream, **options: Any) -> str:
        """Syncs, and says what is wrong then: an error, or how we differ from the vendor.

        Deletes that the vendor does not tell are only looked for by reading everything again.
        """
        had = self.stored(stream)
        outcome = await self.sync(stream, **options)
        if outcome.error is None and stream.hides_deletes:
            if problem := self.difference(stream, deletes=False):
                return problem
            outcome = await self.sync(stream, full=True)
        if stream.append_only and (lost := had.keys() - self.stored(stream).keys()):
            return f"{len(lost)} lost ({min(lost)})"
        return outcome.error or self.difference(stream)

    def difference(self, stream: Stream, *, deletes: bool = True) -> str:
        """How what we hold differs from what the vendor has; nothing where it does not."""
        vendor, ours = self.vendor(stream), self.stored(stream)
        if not stream.append_only:
            return difference(ours, owed=vendor, known=vendor, deletes=deletes)
        before, told = self.before[stream.name], self.told[stream.name]
        told |= vendor
        owed = {key: vendor[key] for key in vendor if vendor[key] != before.get(key)}
        return difference(ours, owed=owed, known=told, deletes=deletes)

    def begin(self, stream: Stream) -> None:
        """What the vendor has now is not owed of a stream that is only ever added to."""
        if stream.append_only:
            self.before[stream.name] = self.vendor(stream)
            self.told[stream.name] = self.told.get(stream.name, {}) | self.before[stream.name]

    async def step(self, stream: Stream) -> bool:
        """Syncs until the checkpoint moves, and says whether the stream's end was reached."""
        saved = await self._saved(stream)
        outcome = await self.sync(stream, stop=lambda batches, at: at != saved)
        assert outcome.error is None
        return outcome.done

    async def measure(self, stream: Stream, at: Checkpoint | None = None) -> tuple[int, int]:
        """How many pages and requests a read takes, from what is saved or from there; nothing is
        stored."""
        self.bench.line.follow(self.connector)
        at = await self._saved(stream) if at is None else at
        client, pages = self.client(self.bench.line), 0
        try:
            async for _ in client.read(stream.read(at, self._context())):
                pages += 1
        except CheckpointExpiredError:  # as a sync does, it starts over
            async for _ in client.read(stream.read(Checkpoint(), self._context())):
                pages += 1
        return pages, self.bench.line.asked

    def client(self, line: Line) -> Client:
        held = ""

        async def token(refused: bool) -> str:
            nonlocal held
            if refused or not held:
                held = await tokens.access_token(
                    self.bench.database, VAULT, self.bench.settings.app, line, self.budget,
                    grant_id=self.connection.grant_id, tenant_id=self.connection.tenant_id,
                    refused=held if refused else None,
                )  # fmt: skip
            return held

        return Client(
            self.connector,
            transport=line,
            account_id=self.connection.account_id,
            config=self.connection.config,
            token=token,
            budget=self.budget,
        )

    @asynccontextmanager
    async def _reading(
        self, stream: Stream, line: Line, *, full: bool
    ) -> AsyncIterator[tuple[Reading, leases.Lease]]:
        lease = await leases.acquire(
            self.bench.database, connection_id=self.connection.id,
            tenant_id=self.connection.tenant_id, kind="sync", holder="test", ttl=LEASE_TTL,
        )  # fmt: skip
        assert lease is not None
        async with renewed(self.bench.database, lease):
            saved = await self._load()
            reading = Reading(self.client(line), self._context(), [stream], saved, full=full)
            try:
                yield reading, lease
            finally:
                await reading.close()

    async def _load(self) -> dict[str, checkpoints.Saved]:
        async with self.bench.database.transaction(self.connection.tenant_id) as session:
            return await checkpoints.load(session, self.connection.id)

    async def _saved(self, stream: Stream) -> Checkpoint:
        saved = (await self._load()).get(stream.name)
        return saved.state if saved else Checkpoint()

    def _context(self) -> Context:
        return Context(
            now=self.bench.clock.now(),
            account_id=self.connection.account_id,
            config=self.connection.config,
        )
