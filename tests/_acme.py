"""A made-up vendor's OAuth server on loopback, under whichever rules a test gives it, and processes
that refresh a token there: whole ones, and ones that die on the way."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from typing import Any, Literal
from uuid import UUID

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.responses import Response as AppResponse

from accounts.tokens import access_token
from connectors import Account, Calls, Connector, OAuth2, Response, SyncType
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp
from connectors.kernel.token_answers import Tokens
from sandbox.kernel.app import build
from sandbox.kernel.oauth import Call, OAuth, Rotation
from sandbox.kernel.serve import run
from sandbox.kernel.values import Kind, reply
from sandbox.kernel.vendor import ErrorCase, Vendor
from sandbox.kernel.world import World
from storage.database import Database
from storage.vault import Vault

HOST = "acme.test"
SECRET = "canary-client-secret"
# How a refresh token lives: for good, one use with a day's grace, one use and no grace.
Rules = Literal["lasting", "graceful", "single-use"]
ROTATIONS = {
    "lasting": Rotation(),
    "graceful": Rotation("always", grace=timedelta(days=1)),
    "single-use": Rotation("always"),
}
STATUS = {Kind.RATE_LIMITED: 429, Kind.SERVER_ERROR: 500, Kind.UNAVAILABLE: 503}


def _trouble(trouble: ErrorCase, call: Call) -> AppResponse:
    wait = {"retry-after": f"{trouble.retry_after:g}"} if trouble.retry_after else {}
    return reply({"error": "temporarily_unavailable"}, STATUS.get(trouble.kind, 400), wait)


@dataclass(frozen=True)
class Acme:
    """The vendor's side, and what a test orders of it."""

    origin: str
    world: World

    def consent(self, account_id: str = "a-1") -> Tokens:
        """What a token endpoint gave for an authorization code; its access token has expired."""
        given = self._control("/grant", {"account": account_id})
        self._control("/tokens", {"account": account_id, "op": "expire"})
        return Tokens(
            access_token=given["access_token"],
            refresh_token=given["refresh_token"],
            expires_at=datetime.now(UTC) - timedelta(seconds=1),
            scope=("read",),
            extra={"instance_url": "https://eu.acme.test"},
        )

    def accepts(self, access_token: str) -> bool:
        return self.world.servers["acme"].access(access_token) is not None

    def revoke(self, account_id: str = "a-1") -> None:
        self._control("/tokens", {"account": account_id, "op": "revoke"})

    def fault(self, kind: str, **options: Any) -> None:
        self._control("/faults", {"kind": kind, "path": "/token", **options})

    def hold(self) -> None:
        """The next refresh waits for its answer until it is let go."""
        self.fault("slow", seconds=600)

    def let_go(self) -> None:
        httpx.delete(f"{self.origin}/_control/acme/faults").raise_for_status()

    @property
    def calls(self) -> int:
        """How often the token endpoint was called."""
        return self.world.logs["acme"].by_path["/token"]

    async def called(self) -> None:
        """Waits for the first call to the token endpoint."""
        while self.calls == 0:  # noqa: ASYNC110 - the vendor lives in another thread's loop
            await asyncio.sleep(0.02)

    def _control(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = httpx.post(f"{self.origin}/_control/acme{path}", json=body)
        answer.raise_for_status()
        return answer.json()


@contextmanager
def acme(rules: Rules = "lasting", **oauth: Any) -> Iterator[Acme]:
    """The vendor under those rules, with two accounts, for as long as the block lasts."""
    auth = OAuth(
        name="acme",
        client_id="acme-app",
        client_secret=SECRET,
        authorize=((HOST, "/authorize"),),
        token=((HOST, "/token"),),
        scopes=("read",),
        new_account=lambda random: ("a-1", "Acme One"),
        rotation=ROTATIONS[rules],
        **oauth,
    )
    vendor = Vendor(
        name="acme",
        title="Acme",
        base_url=f"https://{HOST}",
        auth=auth,
        routes=(),
        streams=(),
        mutable={},
        new=lambda seed: None,
        store=lambda state, stream: {},
        apply=lambda state, change: "",
        trouble=_trouble,
    )
    world = World([vendor], seed=1)
    world.add_account(world.servers["acme"], size=0, account_id="a-2")
    with run(build(world)) as origin:
        yield Acme(origin, world)


def connector_of(rules: Rules) -> Connector:
    return Connector(
        name="acme",
        title="Acme",
        sync_type=SyncType.PULL,
        base_url=f"https://{HOST}",
        auth=OAuth2(
            env="ACME",
            authorize_url=f"https://{HOST}/authorize",
            token_url=f"https://{HOST}/token",
            scopes={"read": "everything"},
            rotates=rules != "lasting",
            grace=timedelta(days=1) if rules == "graceful" else None,
        ),
        streams=(),
        rate_limits=(),
        identify=_identify,
    )


def _identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    yield from ()
    return (Account("a-1"),)


def app(integration: str) -> OAuthApp:
    return OAuthApp(
        client_id="acme-app", client_secret=SECRET, redirect_uri="https://us.test/callback"
    )


@dataclass(frozen=True)
class Caller:
    """All that a process needs to get the grant's access token."""

    database_url: str
    origin: str
    key: bytes
    grant_id: UUID
    tenant_id: UUID
    rules: Rules = "lasting"
    timeout: timedelta = timedelta(seconds=10)
    refused: str | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator["Line"]:
        """A pool, a transport and budgets of its own, as each process has them."""
        database = Database.connect(self.database_url)
        transport, budget = Transport(sandbox_url=self.origin), Budget(None)
        try:
            yield Line(self, database, transport, budget)
        finally:
            await transport.close()
            await budget.aclose()
            await database.close()

    async def token(self) -> str:
        async with self.open() as line:
            return await line.token()

    def with_(self, **changes: Any) -> "Caller":
        return replace(self, **changes)


@dataclass(frozen=True)
class Line:
    """A caller with its pools open."""

    caller: Caller
    database: Database
    transport: Transport
    budget: Budget

    async def token(self, **options: Any) -> str:
        caller, connector = self.caller, connector_of(self.caller.rules)
        return await access_token(
            self.database,
            Vault([caller.key]),
            app,
            self.transport,
            self.budget,
            grant_id=caller.grant_id,
            tenant_id=caller.tenant_id,
            **{
                "timeout": caller.timeout,
                "refused": caller.refused,
                "find": lambda name: connector,
                **options,
            },
        )


def get_token(caller: Caller) -> str:
    """For a process of its own."""
    return asyncio.run(caller.token())


def get_token_at_once(
    caller: Caller, together: Barrier, answers: "SimpleQueue[tuple[int, str]]"
) -> None:
    """For one of many processes, which all ask in the same instant."""

    async def ask() -> str:
        async with caller.open() as line:
            together.wait(60)
            return await line.token()

    answers.put((os.getpid(), asyncio.run(ask())))


# Where on its way a process dies.
Step = Literal["claiming", "claimed", "answered", "storing", "stored"]


def get_token_and_die(caller: Caller, step: Step, sign: int = signal.SIGKILL) -> None:
    """Goes as far as that step, then gets that signal from itself."""

    async def go() -> None:
        async with caller.open() as line:
            dying = replace(
                line,
                database=_DyingDatabase(line.database, step, sign),
                transport=_DyingTransport(caller.origin, step, sign),
            )
            await dying.token()

    asyncio.run(go())


class _DyingTransport(Transport):
    def __init__(self, origin: str, step: Step, sign: int) -> None:
        super().__init__(sandbox_url=origin)
        self._step, self._sign = step, sign

    async def call(self, *args: Any) -> Response:
        if self._step == "claimed":
            os.kill(os.getpid(), self._sign)
        response = await super().call(*args)
        if self._step == "answered":
            os.kill(os.getpid(), self._sign)
        return response


class _DyingDatabase(Database):
    """Dies in its first transaction or its second, or after that."""

    def __init__(self, database: Database, step: Step, sign: int) -> None:
        super().__init__(database._engine, database.schema)
        self._step, self._sign = step, sign
        self._transactions = 0

    @asynccontextmanager
    async def transaction(self, tenant_id: UUID) -> AsyncIterator[AsyncSession]:
        self._transactions += 1
        async with super().transaction(tenant_id) as session:
            yield session
            await session.flush()
            if (self._transactions, self._step) in ((1, "claiming"), (2, "storing")):
                os.kill(os.getpid(), self._sign)
        if (self._transactions, self._step) == (2, "stored"):
            os.kill(os.getpid(), self._sign)
