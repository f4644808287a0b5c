"""What the promises of every connector are tried on: its sandbox, and a sync as flows make it."""

import json
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import uuid4

import psycopg
from sqlalchemy import text

import sandbox
from accounts import tokens
from connectors import Checkpoint, CheckpointExpiredError, Connector, Context, Reader, Stream
from connectors.kernel.client import Client
from connectors.kernel.hosts import filled
from connectors.kernel.oauth import authorize_url, exchange, identify
from flows._batches import Outcome
from flows._reading import Reading
from flows._storing import LEASE_TTL, renewed, store
from settings import Settings, read
from storage import audits, checkpoints, connections, grants, leases, records, runs, tenants
from storage.database import Database
from storage.models import Failure
from storage.vault import Vault
from tests._conformance_controls import Controls, SandboxClock
from tests._conformance_line import Ledger, Line
from tests._conformance_rows import difference, quoted
from tests._sandboxed import KEY, app_of, environment

VAULT = Vault.parse(KEY)
MONTH = timedelta(days=30)
# How long the short line waits for an answer.
IMPATIENT = timedelta(seconds=0.2)


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
    budgets: dict[str, Ledger] = field(default_factory=dict)

    def account(self, connector: Connector, size: int) -> str:
        """A new account at the vendor."""
        return str(self.controls(f"/{connector.name}/accounts", {"size": size})["id"])

    async def connect(
        self, connector: Connector, *, size: int = 0, account: str | None = None
    ) -> "Tried":
        """A tenant's connection to an account, a new one unless it is named, by consent on the
        vendor's page."""
        account = account or self.account(connector, size)
        app = app_of(self.line.sandbox_url or "", self.settings, connector.name, account)
        # The vendor counts by account, whoever is connected to it.
        budget = self.budgets.setdefault(account, Ledger(self.clock))
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


@asynccontextmanager
async def opened(database_url: str, integrations: list[str]) -> AsyncIterator[Bench]:
    """A bench for those integrations, for as long as the block lasts."""
    database = Database.connect(database_url)
    with (
        sandbox.start() as origin,
        Controls(origin) as controls,
        psycopg.connect(database_url, autocommit=True) as sql,
    ):
        clock = SandboxClock(controls)
        line = Line(sandbox_url=origin, clock=clock)
        short_line = Line(sandbox_url=origin, clock=clock, timeout=IMPATIENT)
        values = environment(origin, database_url, "", integrations)
        settings = read(_env_file=None, **{name.lower(): v for name, v in values.items() if v})
        yield Bench(controls, clock, line, short_line, database, sql, settings)
        await line.close()
        await short_line.close()
    await database.close()


@dataclass
class Tried:
    """One connection of one connector, and the vendor's account behind it.

    Of each stream that is only ever added to, `before` is what the vendor had when it began to be
    read, and what came since is owed; `told` are the keys of all that
    the vendor had whenever we looked.
    """

    bench: Bench
    connector: Connector
    account: str
    connection: connections.Connection
    budget: Ledger
    before: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: dict[str, set[str]] = field(default_factory=dict)

    # -- the vendor's side

    def order(self, control: str, **body: Any) -> Any:
        """A control of the vendor, for this account."""
        path = f"/{self.connector.name}/{control}"
        return self.bench.controls(path, {"account": self.account, **body})

    def change(
        self, count: int, of: Stream | None = None, *, late: timedelta = timedelta()
    ) -> None:
        """That many random changes, of all streams, or of one if it can be changed by itself;
        stamped with a time that is so far back."""
        # No seed twice for an account: it would draw ids that there were already.
        seeds = self.bench.seeds
        seeds[self.account] += 1
        order: dict[str, Any] = {
            "count": count,
            "seed": seeds[self.account],
            "late": late.total_seconds(),
        }
        if of and of.name in import_module(f"sandbox.{self.connector.name}").vendor.mutable:
            order["streams"] = [of.name]
        self.order("mutate", **order)

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
        base = filled(
            self.connector, self.connector.base_url, self.connection.account_id,
            self.connection.config,
        )  # fmt: skip
        return [urlsplit(base).netloc, *self.connector.hosts, *self.connector.files]

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
        audit: bool = False,
        before: Callable[[int], None] | None = None,
        stop: Callable[[int, Checkpoint], bool] = lambda batches, at: False,
        line: Line | None = None,
    ) -> Outcome:
        """What a run of the flow does, on one stream.

        `before` acts before each request; `stop` says after each batch whether to leave the rest.
        """
        if not await self.saved(stream):
            self.begin(stream)
        line = line or self.bench.line
        line.follow(self.connector, before)
        run = await runs.start(self.bench.database, self.connection, trigger="manual")
        async with self._reading(stream, line, full=full, audit=audit) as (reading, lease):
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
        if stream.append_only:
            self._told(stream)
        await runs.finish(
            self.bench.database,
            run,
            self.connection,
            outcomes=reading.outcomes,
            requests=reading.requests,
            error=reading.outcomes[stream.name].error,
            failure=Failure.BROKEN if reading.broken else Failure.OURS,
            stopped="told to stop" if stopped else "",
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
        before = self.before[stream.name]
        owed = {key: vendor[key] for key in vendor if vendor[key] != before.get(key)}
        return difference(ours, owed=owed, known=self.told[stream.name], deletes=deletes)

    def _told(self, stream: Stream) -> dict[str, Any]:
        """What the vendor has, which is noted as known to it for good."""
        vendor = self.vendor(stream)
        self.told.setdefault(stream.name, set()).update(vendor)
        return vendor

    def begin(self, stream: Stream) -> None:
        """What the vendor has now is not owed of a stream that is only ever added to."""
        if stream.append_only:
            self.before[stream.name] = self._told(stream)

    async def step(self, stream: Stream, pages: int) -> bool:
        """Syncs so many pages at least, until the checkpoint moves; whether that was the end."""
        saved = await self.saved(stream)
        outcome = await self.sync(stream, stop=lambda done, at: done >= pages and at != saved)
        assert outcome.error is None, outcome.error
        return outcome.done

    async def measure(self, stream: Stream, at: Checkpoint | None = None) -> tuple[int, int]:
        """How many pages and requests a read takes, from what is saved or from there; nothing is
        stored. Requests that a limit refused are asked again, and do not count."""
        self.bench.line.follow(self.connector)
        client, pages = self.client(self.bench.line), 0
        start = await self.saved(stream) if at is None else at
        try:
            async for _ in client.read(stream.read(start, self.context())):
                pages += 1
        except CheckpointExpiredError:  # then all is read
            async for _ in client.read(stream.read(Checkpoint(), self.context())):
                pages += 1
        return pages, self.bench.line.asked - self.bench.line.limited

    async def read(
        self, stream: Stream, reader: Reader, known: Collection[str]
    ) -> tuple[dict[str, Any], set[str]]:
        """The records that a reader gives, by key, and which of those known it says are gone;
        nothing is stored."""
        self.bench.line.follow(self.connector)
        found: dict[str, Any] = {}
        gone: set[str] = set()
        async for page, observed_at in self.client(self.bench.line).read(reader):
            for row in records.rows(stream, page, observed_at):
                if row.listed_keys is not None:
                    under = {key for key in known if key.startswith(row.record_id)}
                    gone |= under - row.listed_keys
                elif row.deleted:
                    gone.add(row.record_id)
                else:
                    found[row.record_id] = json.loads(row.data)
        return found, gone

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
        self, stream: Stream, line: Line, *, full: bool, audit: bool
    ) -> AsyncIterator[tuple[Reading, leases.Lease]]:
        lease = await leases.acquire(
            self.bench.database, connection_id=self.connection.id,
            tenant_id=self.connection.tenant_id, kind="sync", holder="test", ttl=LEASE_TTL,
        )  # fmt: skip
        assert lease is not None
        async with renewed(self.bench.database, lease):
            saved = await self._load()
            reading = Reading(
                self.client(line), self.context(), [stream], saved, full=full,
                audit={stream.name: MONTH} if audit else None, known=self._known,
            )  # fmt: skip
            try:
                yield reading, lease
            finally:
                await reading.close()

    async def _known(self, stream: Stream, keys: Sequence[str]) -> Mapping[str, int | None]:
        return await records.versions(
            self.bench.database, self.connection.tenant_id, keys=keys,
            stream=f"{self.connector.name}.{stream.name}", connection_id=self.connection.id,
        )  # fmt: skip

    async def audit(self, stream: Stream) -> audits.Result:
        """Checks a stream against what the vendor lists, and says what differed."""
        outcome = await self.sync(stream, audit=True)
        assert outcome.error is None, outcome.error
        async with self.bench.database.transaction(self.connection.tenant_id) as session:
            return (await audits.latest(session, self.connection.id))[stream.name]

    def written(self, stream: Stream) -> dict[str, tuple[str, bool]]:
        """Which transaction last wrote each row of the stream, dead ones too."""
        rows = self.bench.sql.execute(
            "SELECT record_id, xmin::text, deleted_at IS NULL FROM records"
            " WHERE connection_id = %s AND stream = %s",
            (self.connection.id, f"{self.connector.name}.{stream.name}"),
        )
        return {key: (transaction, live) for key, transaction, live in rows.fetchall()}

    def tamper(self, stream: Stream, statement: str, *values: object) -> None:
        """A statement on the stream's rows, behind everybody's back; it ends with a WHERE."""
        where = " connection_id = %s AND stream = %s"
        found = (self.connection.id, f"{self.connector.name}.{stream.name}")
        self.bench.sql.execute((statement + where).encode(), (*values, *found))

    async def _load(self) -> dict[str, checkpoints.Saved]:
        async with self.bench.database.transaction(self.connection.tenant_id) as session:
            return await checkpoints.load(session, self.connection.id)

    async def saved(self, stream: Stream) -> Checkpoint:
        """Where the stream stands."""
        saved = (await self._load()).get(stream.name)
        return saved.state if saved else Checkpoint()

    def context(self) -> Context:
        return Context(
            now=self.bench.clock.now(),
            account_id=self.connection.account_id,
            config=self.connection.config,
        )
