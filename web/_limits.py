"""How much a client may ask of us: requests by tenant and kind, and bytes of bodies."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import ClassVar

from fastapi import HTTPException
from prometheus_client import Counter, Gauge
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from billing import events
from connectors import RateLimit
from connectors.kernel.budget import Budget
from web._problems import Problem, answer, problem_for

MAX_BODY = 64 * 1024
# Vendors send whole records.
MAX_DELIVERY = 4 * 1024 * 1024
# Of all bodies together, in this process: until it is read whole, anyone may have sent it.
MAX_HELD = 64 * 1024 * 1024
KEPT_FOR_SMALL = MAX_HELD // 8
MINUTE = timedelta(minutes=1)
REFUSED = Counter(
    "atom_web_refused",
    "Requests and connections that were ended before anything of them was proven, by why.",
    ("why",),
)


class Rate(Enum):
    """Kinds of requests, each with a limit of its own for every tenant (or visitor)."""

    READS = RateLimit(600, per=MINUTE, name="reads")
    WRITES = RateLimit(120, per=MINUTE, name="writes")
    SECRETS = RateLimit(60, per=MINUTE, name="secrets")
    PAGES = RateLimit(120, per=MINUTE, name="pages")


def of_scopes(scopes: Sequence[str]) -> Rate:
    """The kind of request that needs these scopes."""
    if any(scope in ("tokens:read", "keys:read") for scope in scopes):
        return Rate.SECRETS
    return Rate.READS if all(scope.endswith(":read") for scope in scopes) else Rate.WRITES


@dataclass(frozen=True)
class Standing:
    """How an owner stands with one kind of requests; `wait` is in seconds, 0 while there is room.

    The headers are those of draft-ietf-httpapi-ratelimit-headers-10 (2025-09).
    """

    limit: RateLimit
    wait: float
    left: int
    reset: float

    @property
    def headers(self) -> dict[str, str]:
        name, limit = f'"{self.limit.name}"', self.limit
        seconds = math.ceil(limit.per.total_seconds())
        return {
            "ratelimit-policy": f"{name};q={limit.amount};w={seconds}",
            "ratelimit": f"{name};r={self.left};t={math.ceil(self.reset)}",
        }

    def must_have_room(self) -> None:
        """Problem 429 unless there is some."""
        if self.wait:
            seconds = math.ceil(self.wait)
            raise Problem(
                429,
                f"too many requests: {self.limit.amount} a minute are allowed of this kind; "
                f"try again in {seconds} s",
                headers={"retry-after": str(seconds)},
            )


async def stand(budget: Budget, rate: Rate, owner: str) -> Standing:
    """How the owner stands once this request is counted."""
    wait = await budget.admit("web", owner, rate.value)
    left, reset = (0, wait) if wait else await budget.left("web", owner, rate.value)
    return Standing(rate.value, wait, left, reset)


async def admit(budget: Budget, rate: Rate, owner: str) -> None:
    """Problem 429 unless the owner is within its rate."""
    wait = await budget.admit("web", owner, rate.value)
    Standing(rate.value, wait, 0, wait).must_have_room()


class HeldBody:
    """What the process holds of one request's body: no more than its address takes, and of all
    together no more than there is room for. It is given back once the request is answered."""

    __slots__ = ("_most", "bytes")
    # Of the process.
    total: ClassVar = 0

    def __init__(self, most: int, declared: str) -> None:
        """HTTPException for a length that would be too much."""
        self._most, self.bytes = most, 0
        if not declared.isdecimal() or len(declared) > 9:
            raise _too_large(most)
        self._check(int(declared))

    def take(self, part: bytes) -> None:
        """One more part of it, or HTTPException."""
        self._check(len(part))
        self.bytes += len(part)
        HeldBody.total += len(part)

    def give_back(self) -> None:
        HeldBody.total -= self.bytes
        self.bytes = 0

    def _check(self, more: int) -> None:
        size = self.bytes + more
        if size > self._most:
            raise _too_large(self._most)
        # What is left for small ones, which nearly all are, no large one may take.
        if HeldBody.total + more > (MAX_HELD if size <= MAX_BODY else MAX_HELD - KEPT_FOR_SMALL):
            REFUSED.labels("room").inc()
            raise HTTPException(
                503, "too much is being received at once; send it again", {"retry-after": "5"}
            )


Gauge("atom_web_held_bytes", "Bytes of bodies that are held now.").set_function(
    lambda: HeldBody.total
)


class BodyLimit:
    """Refuses a body of more bytes than its address takes, or than there is room for, whether it
    says so or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = MAX_DELIVERY if scope["path"] == events.PATH else MAX_BODY
        declared = dict(scope["headers"]).get(b"content-length", b"0").decode("latin-1")
        try:
            held = HeldBody(most, declared)
        except HTTPException as error:
            await answer(problem_for(error))(scope, receive, send)
            return

        async def counted() -> Message:
            message = await receive()
            held.take(message.get("body", b""))
            return message

        try:
            await self._app(scope, counted, send)
        finally:
            held.give_back()


def _too_large(most: int) -> HTTPException:
    # FastAPI turns any other exception that comes up while it reads a body into a 400.
    return HTTPException(413, f"a body may have {most // 1024} KiB")
