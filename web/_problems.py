"""Errors as clients get them: problem details (RFC 9457), and nothing that should not leave.

Code that refuses a request raises a `Problem`; `problem_for` maps what the layers below raise:

NotFoundError                404     DatabaseUnavailableError    503, Retry-After
RateLimitedError             503, Retry-After                    ProviderUnavailableError  503
BrokenConnectionError        409     NotAllowedError             409
ContractError                502
SettingsError                503     anything else               500, without a word of its text
"""

import logging
import math
import traceback
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    SignatureError,
)
from deployments.triggers import PrefectUnavailableError
from settings import SettingsError
from storage import DatabaseUnavailableError, NotFoundError, StorageError

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
log = logging.getLogger("atom-sync.problems")


class Problem(Exception):  # noqa: N818 - RFC 9457 calls it so
    """A request is refused; `detail` is for whoever sent it."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        self.members = members


class ProblemDetails(BaseModel):
    """What every error answer looks like."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "there is no connection 7d0c7f1e-5f0c-4d5e-9a52-3f4c36a2b8f1",
            }
        }
    )

    type: str = Field(description="`about:blank`: the title says what kind it is.")
    title: str
    status: int
    detail: str = Field(description="What was wrong, and what to do.")


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error answers of a route, for its OpenAPI description."""
    schema = {"$ref": f"#/components/schemas/{ProblemDetails.__name__}"}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {MEDIA_TYPE: {"schema": schema}},
        }
        for status in statuses
    }


def answer(problem: Problem) -> JSONResponse:
    body = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        **problem.members,
    }
    return JSONResponse(
        body, status_code=problem.status, headers=problem.headers, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    """Let every error of a route end in problem details."""
    for kind in (
        Problem,
        ConnectorError,
        StorageError,
        SettingsError,
        PrefectUnavailableError,
        RequestValidationError,
        HTTPException,
    ):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    return answer(problem_for(error))


def problem_for(error: Exception) -> Problem:
    """The problem that a client gets for an error."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid(error.errors())
        case HTTPException():
            return Problem(error.status_code, str(error.detail), headers=error.headers)
        case NotFoundError():
            return Problem(404, str(error))
        case DatabaseUnavailableError():
            return _later(503, "the database is away or busy; try again", RETRY_SECONDS)
        case PrefectUnavailableError():
            return _later(503, str(error), RETRY_SECONDS)
        case SettingsError():
            return Problem(503, str(error))
        case ClientDisconnect():
            # Nobody is there to read this, and nothing of ours went wrong.
            return Problem(400, "the client left before it had sent all of its request")
        case RateLimitedError():
            return _later(503, str(error), error.retry_after.total_seconds())
        case ProviderUnavailableError():
            return _later(503, str(error), RETRY_SECONDS)
        case BrokenConnectionError() | NotAllowedError():
            return Problem(409, str(error))
        case SignatureError():
            return Problem(401, str(error))
        case ConnectorError():
            return Problem(502, str(error))
        case _:
            log.error(
                "a request failed: %s at %s", type(error).__name__, places(error.__traceback__)
            )
            return Problem(500, "something went wrong on our side; it has been logged")


def _later(status: int, detail: str, seconds: float) -> Problem:
    return Problem(status, detail, headers={"retry-after": str(max(1, math.ceil(seconds)))})


def _invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """Where the request is wrong and how; never the value, which may be a secret."""
    found = [
        {"at": ".".join(str(part) for part in error["loc"]), "problem": _unquoted(error)}
        for error in errors
    ]
    detail = "; ".join(f"{one['at']}: {one['problem']}" for one in found)
    return Problem(422, detail, errors=found)


def _unquoted(error: Mapping[str, Any]) -> str:
    # What a parser says of a malformed value may quote a part of it.
    if error["type"] in ("uuid_parsing", "datetime_from_date_parsing", "json_invalid"):
        return f"not a valid {error['type'].split('_')[0]}"
    return str(error["msg"]).removeprefix("Value error, ")


def places(trace: TracebackType | None) -> str:
    """Where an exception came from, the innermost first; its text may hold anything."""
    frames = traceback.extract_tb(trace)
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames[-8:]))
