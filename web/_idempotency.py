"""`Idempotency-Key`: what a POST makes is made once, and a repetition is answered alike.

By draft-ietf-httpapi-idempotency-key-header-06 (2025-02): another request under the key is a 422,
one that comes while the first is being answered a 409. An error is not kept: after it the key is
free, or, where a part may have been done, the same request goes on under it.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import orjson
from fastapi import Depends, Header, Request
from pydantic import BaseModel
from starlette.responses import Response

from storage import StorageError, idempotency
from storage.idempotency import Answer, Claim, KeyReusedError, KeyUnderWayError
from web._auth import Caller, Shared
from web._problems import Problem, invalid, problem_for

REPLAYED = "idempotent-replayed"
# The draft's form is a string of RFC 9651, in quotation marks; most clients send it bare.
KeyHeader = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r'^("[A-Za-z0-9_.:-]{1,128}"|[A-Za-z0-9_.:-]{1,128})$',
        examples=["order-17"],
        description="Made by you, one for each thing to be made: the same request under the same "
        "key gets the same answer for 24 hours, and makes nothing again.",
    ),
]


@dataclass(frozen=True)
class Made:
    """What a request made, and the tenant whose it is."""

    answer: BaseModel
    about: UUID
    status: int

    def as_answer(self) -> Answer:
        return Answer(self.status, self.answer.model_dump_json())


class Once:
    """Answers a request once. As a dependency it stands after the caller's."""

    def __init__(self, request: Request, shared: Shared, idempotency_key: KeyHeader = None) -> None:
        self._request, self._shared = request, shared
        self.key = idempotency_key.strip('"') if idempotency_key else None

    async def __call__(
        self, caller: Caller, make: Callable[[Claim | None], Awaitable[Made]]
    ) -> Response:
        """What `make` makes, or what was answered to the same request before."""
        if self.key is None:
            return _response((await make(None)).as_answer())
        database, vault = self._shared.database, self._shared.vault
        found = await self._claimed(caller, self.key)
        if isinstance(found, Answer):
            return _response(found, {REPLAYED: "true"})
        try:
            made = await make(found)
        except BaseException as error:
            nothing_made = isinstance(error, Exception) and problem_for(error).status < 500
            with suppress(StorageError):  # the claim runs out by itself
                await idempotency.release(database, found, nothing_made=nothing_made)
            raise
        await idempotency.settle(database, vault, found, made.as_answer(), about=made.about)
        return _response(made.as_answer())

    async def _claimed(self, caller: Caller, key: str) -> Claim | Answer:
        try:
            return await idempotency.claim(
                self._shared.database, self._shared.vault, tenant_id=caller.tenant_id,
                subject=caller.subject or "", key=key, request=await self._fingerprinted(),
            )  # fmt: skip
        except KeyReusedError as error:
            raise invalid("header.idempotency-key", f"{error}: take a new one") from None
        except KeyUnderWayError as error:
            raise Problem(409, f"{error}; ask again", headers={"retry-after": "1"}) from None

    async def _fingerprinted(self) -> bytes:
        """What makes two requests the same: where they go and what they say."""
        said = await self._request.body()
        with suppress(ValueError):  # or it is the same only byte for byte
            said = orjson.dumps(orjson.loads(said), option=orjson.OPT_SORT_KEYS)
        url = self._request.url
        return f"{self._request.method} {url.path}?{url.query}\n".encode() + said


OnceOnly = Annotated[Once, Depends()]


def _response(answer: Answer, headers: dict[str, str] | None = None) -> Response:
    return Response(answer.body, answer.status, headers, media_type="application/json")
