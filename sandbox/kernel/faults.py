"""Ordered misbehaviour: what a vendor does wrong to the next requests, and the sending of it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sandbox.kernel.values import Json, Kind, RefusedError
from sandbox.kernel.vendor import ErrorCase

KINDS = ("429", "500", "503", "cut", "hang", "slow", "garbage", "huge", "unauthorized", "forbidden")
# Faults that are an answer in the vendor's own form.
TROUBLES = {
    "429": Kind.RATE_LIMITED,
    "500": Kind.SERVER_ERROR,
    "503": Kind.UNAVAILABLE,
    "unauthorized": Kind.UNAUTHORIZED,
    "forbidden": Kind.FORBIDDEN,
}
CHUNK = b'{"padding":"' + b"x" * 65_510 + b'"},\n'
GARBAGE = (
    "<!doctype html><html><head><title>We will be right back</title></head>"
    "<body><h1>Scheduled maintenance</h1></body></html>"
)

_ids = count(1)


@dataclass
class Fault:
    """One order: applies to `count` requests whose path contains `path`, after `skip` of them."""

    id: str
    kind: str
    count: int = 1
    skip: int = 0
    path: str = ""
    seconds: float = 0
    retry_after: float | None = None
    bytes: int = 300_000_000
    # Set when the vendor's faults are taken back: requests that wait are answered then.
    lifted: asyncio.Event = field(default_factory=asyncio.Event, repr=False)

    def trouble(self) -> ErrorCase:
        return ErrorCase(
            kind=TROUBLES[self.kind], detail="ordered fault", retry_after=self.retry_after
        )


def order(body: Json, lifted: asyncio.Event) -> Fault:
    """The fault that a control asks for, over when `lifted` is set."""
    kind = str(body.get("kind", ""))
    if kind not in KINDS:
        raise RefusedError(f"no fault {kind!r}; there are: {', '.join(KINDS)}", status=400)
    try:
        retry_after = body.get("retry_after")
        return Fault(
            id=str(next(_ids)),
            kind=kind,
            count=int(body.get("count", 1)),
            skip=int(body.get("skip", 0)),
            path=str(body.get("path", "")),
            seconds=float(body.get("seconds", 120 if kind == "hang" else 2)),
            retry_after=None if retry_after is None else float(retry_after),
            bytes=int(body.get("bytes", 300_000_000)),
            lifted=lifted,
        )
    except (TypeError, ValueError) as error:
        raise RefusedError(f"a fault's numbers must be numbers: {error}", status=400) from error


def due(faults: list[Fault], path: str, kinds: tuple[str, ...] = KINDS) -> Fault | None:
    """The first order of those kinds that this request falls under, counted down."""
    for fault in faults:
        if fault.kind not in kinds or (fault.path and fault.path not in path):
            continue
        if fault.skip > 0:
            fault.skip -= 1
            continue
        fault.count -= 1
        if fault.count <= 0:
            faults.remove(fault)
        return fault
    return None


async def pause(fault: Fault, stopping: asyncio.Event, receive: Receive) -> bool:
    """Waits until the fault's time is over or it is taken back; False when the client went away or
    the sandbox stops before."""
    ends = [asyncio.ensure_future(stopping.wait()), asyncio.ensure_future(_gone(receive))]
    waits = {*ends, asyncio.ensure_future(fault.lifted.wait())}
    done, pending = await asyncio.wait(
        waits, timeout=fault.seconds, return_when=asyncio.FIRST_COMPLETED
    )
    for wait in pending:
        wait.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    return done.isdisjoint(ends)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        continue


async def send_half(response: Response, send: Send) -> None:
    """All the headers, half the body: the server closes the connection when we return. Of an answer
    without a body nothing could be missing: a proxy says that it broke off before."""
    body = bytes(response.body)
    status, headers = response.status_code, response.raw_headers
    if not body:
        status, headers = 502, []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})


async def send_huge(size: int, scope: Scope, receive: Receive, send: Send) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"results":['
        for _ in range(0, size, len(CHUNK)):
            yield CHUNK
        yield b"{}]}"

    await StreamingResponse(chunks(), media_type="application/json")(scope, receive, send)
