"""Errors as clients get them: problem details (RFC 9457), and nothing that should not leave.

Code that refuses a request raises a `Problem`; `problem_for` maps what the layers below raise:

NotFoundError                404     DatabaseUnavailableError    503, Retry-After
RateLimitedError             503, Retry-After                    ProviderUnavailableError  503
BrokenConnectionError        409     NotAllowedError             409
ContractError                502
SettingsError                503     anything else               500, without a word of its text

A 422 says in `errors` which field is wrong, and how; `invalid` makes one.
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
from web._described import body_names

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = 5
# So much of a name that a client made up is said to it.
SHOWN = 60
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


def invalid(at: str, problem: str, **members: Any) -> Problem:
    """One field of a request is wrong: `body.return_url`, `query.cursor`."""
    found = [{"at": at, "problem": problem}]
    return Problem(422, f"{at}: {problem}", errors=found, **members)


class FieldProblem(BaseModel):
    """A field that is wrong. Its value is not repeated."""

    at: str = Field(description="Where it stands.", examples=["body.return_url"])
    problem: str = Field(examples=["it must be https"])


class ProblemDetails(BaseModel):
    """What every error answer looks like; some have further members."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "there is no connection 7d0c7f1e-5f0c-4d5e-9a52-3f4c36a2b8f1",
                }
            ]
        },
    )

    type: str = Field(description="`about:blank`: the title says what kind it is.")
    title: str
    status: int
    detail: str = Field(description="What was wrong, and what to do.")
    errors: list[FieldProblem] | None = Field(
        default=None, description="Of a 422: each field that is wrong."
    )


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
    if isinstance(error, RequestValidationError):
        return answer(_invalid(error, body_names(request)))
    return answer(problem_for(error))


def problem_for(error: Exception) -> Problem:
    """The problem that a client gets for an error."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _invalid(error)
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


def _invalid(error: RequestValidationError, body_fields: Sequence[str] = ()) -> Problem:
    """Where the request is wrong and how; never the value, which may be a secret."""
    if isinstance(error.body, bytes):
        return Problem(415, "send the body as JSON, with `Content-Type: application/json`")
    found = [
        {"at": _place(one["loc"]), "problem": _unquoted(one, body_fields)} for one in error.errors()
    ]
    detail = "; ".join(f"{one['at']}: {one['problem']}" for one in found)
    return Problem(422, detail, errors=found)


def _place(steps: Sequence[object]) -> str:
    # The name of a field that there is not is the client's own text.
    return ".".join(str(step)[:SHOWN] for step in steps)


def _unquoted(error: Mapping[str, Any], body_fields: Sequence[str]) -> str:
    # What a parser says of a malformed value may quote a part of it.
    if error["type"] in ("uuid_parsing", "datetime_from_date_parsing", "json_invalid"):
        return f"not a valid {error['type'].split('_')[0]}"
    if error["type"] == "extra_forbidden":
        known = f"; there are: {', '.join(body_fields)}" if len(error["loc"]) == 2 else ""
        return f"there is no such field{known}"
    return str(error["msg"]).removeprefix("Value error, ")


def places(trace: TracebackType | None) -> str:
    """Where an exception came from, the innermost first; its text may hold anything."""
    frames = traceback.extract_tb(trace)
    return " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames[-8:]))
