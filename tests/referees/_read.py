"""Reads a manifest by `recipes` and the client of production, with a player for a vendor."""

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - the player stands where the network is

import recipes
from connectors import Checkpoint, ConnectorError, Context
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from connectors.kernel.clock import Clock
from tests.referees.player.calls import Call, UnplayableError
from tests.referees.player.plain import MANIFEST, Plain
from tests.referees.player.vendor import Player


class Standing(Clock):
    """A clock that moves only when somebody waits."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    async def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


class Wire:
    """What goes out, instead of the network."""

    def __init__(self, player: Player | Plain) -> None:
        self._player = player
        self.calls: list[dict[str, Any]] = []
        self.unplayable: str | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        call = Call.sent(request.method, str(request.url), dict(request.headers), request.content)
        self.calls.append(call.written(is_token=self._player.is_token(call)))
        try:
            answer = self._player.answer(call)
        except UnplayableError as error:
            self.unplayable = str(error)
            raise httpx.ConnectError(str(error)) from None
        stream = httpx.ByteStream(answer.body)
        return httpx.Response(answer.status, headers=dict(answer.headers), stream=stream)


def read(
    text: str,
    resolved: Mapping[str, Any],
    runs: tuple[str, ...],
    *,
    bare: bool = False,
    dynamic: list[Any] | None = None,
    streams: frozenset[str] | None = None,
) -> dict[str, Any]:
    """What we ask for and get of each stream, in each run: in the form of the CDK's child."""
    recipe = recipes.read(text, name="made_up")
    out: dict[str, Any] = {
        "unread": [[unread.stream, unread.line, unread.why] for unread in recipe.unread],
        "runs": {},
    }
    states: dict[str, Any] = {}
    for run in runs:
        player = Player(resolved, run, bare=bare)
        player.add(dynamic or [])
        began = time.process_time()
        found = asyncio.run(
            _run(recipe.connector, player, states if run == "second" else {}, streams)
        )
        out["runs"][run] = {"streams": found, "cpu": time.process_time() - began}
        if run == "first":
            states = {name: one["state"] for name, one in found.items()}
    return out


def read_plain() -> dict[str, Any]:
    """The plain vendor's one stream."""
    recipe = recipes.read(MANIFEST, name="plain")
    found: dict[str, Any] = asyncio.run(_run(recipe.connector, Plain(), {}, None))["rows"]
    return found


async def _run(
    connector: Any,
    player: Player | Plain,
    states: Mapping[str, Any],
    streams: frozenset[str] | None,
) -> dict[str, Any]:
    clock = Standing(player.now)
    transport = Transport(clock=clock)
    await transport._http.aclose()

    async def no_token(anew: bool) -> str:
        return ""

    found = {}
    for stream in connector.streams:
        if streams is not None and stream.name not in streams:
            continue
        player.begin()
        wire = Wire(player)
        transport._http = httpx.AsyncClient(
            transport=httpx.MockTransport(wire.answer), headers={"user-agent": "ours"}
        )
        transport.__dict__["to_strangers"] = transport  # which looks names up, of real hosts
        client = Client(
            connector,
            transport=transport,
            account_id="acme",
            config=player.config,
            token=no_token,
            budget=Budget(None, clock=clock),
        )
        context = Context(now=player.now, account_id="acme", config=player.config)
        name = stream.title or stream.name
        at = Checkpoint(json.loads(json.dumps(states.get(name) or {})))
        found[name] = await _stream(client, stream, at, context, wire)
        await transport._http.aclose()
    return found


async def _stream(
    client: Client, stream: Any, at: Checkpoint, context: Context, wire: Wire
) -> dict[str, Any]:
    records: list[Any] = []
    errors: list[str] = []
    state: Any = dict(at)
    began = time.process_time()
    try:
        async for page, _ in client.read(stream.read(at, context)):
            records += page.records
            state = page.checkpoint
            errors = [
                f"{type(part.error).__name__}: {part.part}: {part.error}"
                for part in page.unread or ()
            ]
    except (ConnectorError, RecursionError) as error:
        errors.append(f"{type(error).__name__}: {error}"[:400])
    cpu = time.process_time() - began
    return {
        "calls": wire.calls,
        "records": json.loads(json.dumps(records, default=str)),
        "errors": errors,
        "unplayable": wire.unplayable,
        "state": json.loads(json.dumps(state, default=str)),
        "cpu": cpu,
    }
