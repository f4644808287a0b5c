"""How much a client may ask of us: requests by tenant and kind, and bytes of a body."""

import math
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum

from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from connectors import RateLimit
from connectors._budget import Budget
from deployments import stripe_events
from web._problems import Problem, answer, told

MAX_BODY = 64 * 1024
# Vendors send whole records.
MAX_DELIVERY = 4 * 1024 * 1024
MINUTE = timedelta(minutes=1)


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


async def admit(budget: Budget, rate: Rate, owner: str) -> None:
    """Problem 429 unless the owner is within its rate."""
    wait = await budget.admit("web", owner, rate.value)
    if wait:
        seconds = math.ceil(wait)
        raise Problem(
            429,
            f"too many requests: {rate.value.amount} a minute are allowed of this kind; "
            f"try again in {seconds} s",
            headers={"retry-after": str(seconds)},
        )


class BodyLimit:
    """Refuses a body of more bytes than its address takes, whether it says so or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = MAX_DELIVERY if scope["path"] == stripe_events.PATH else MAX_BODY
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or len(declared) > 9 or int(declared) > most:
            await answer(told(_too_large(most)))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > most:
                raise _too_large(most)
            return message

        await self._app(scope, counted, send)


def _too_large(most: int) -> HTTPException:
    # FastAPI turns any other exception that comes up while it reads a body into a 400.
    return HTTPException(413, f"a body may have {most // 1024} KiB")
