"""How Notion refuses: an object with a status, a code and the id of the request.

https://developers.notion.com/reference/status-codes
"""

from typing import Any, Never
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.oauth import Call, Refusal
from sandbox.kernel.values import Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase

FORMS = {
    Kind.BAD_REQUEST: (400, "validation_error", "The request is not valid."),
    Kind.UNAUTHORIZED: (401, "unauthorized", "API token is invalid."),
    Kind.FORBIDDEN: (403, "restricted_resource", "Insufficient permissions for this endpoint."),
    Kind.NOT_FOUND: (400, "invalid_request_url", "Invalid request URL."),
    Kind.METHOD_NOT_ALLOWED: (400, "invalid_request_url", "Invalid request URL."),
    Kind.RATE_LIMITED: (429, "rate_limited", "You have been rate limited. Try again later."),
    Kind.SERVER_ERROR: (500, "internal_server_error", "Unexpected error occurred."),
    Kind.UNAVAILABLE: (503, "service_unavailable", "Notion is unavailable, please try again."),
}


def answer(body: Json, status: int = 200, **headers: str) -> Response:
    """Every answer has the id of its request."""
    return reply({**body, "request_id": str(uuid4())}, status, headers)


def refusal(status: int, code: str, message: str, **headers: str) -> Response:
    body = {"object": "error", "status": status, "code": code, "message": message}
    return answer(body, status, **headers)


def no(status: int, code: str, message: str) -> Never:
    raise Answer(refusal(status, code, message))


def invalid(message: str) -> Never:
    no(400, "validation_error", message)


def missing(kind: str, id_: str) -> Never:
    no(
        404, "object_not_found",
        f"Could not find {kind} with ID: {id_}. Make sure the relevant pages and databases are "
        "shared with your integration.",
    )  # fmt: skip


def restricted() -> Never:
    no(403, "restricted_resource", "Insufficient permissions for this endpoint.")


def trouble(case: ErrorCase, call: Call) -> Response:
    status, code, message = FORMS[case.kind]
    waits: dict[str, Any] = {}
    if case.kind is Kind.RATE_LIMITED:
        waits = {"retry-after": str(max(1, round(case.retry_after or 1)))}
    return refusal(status, code, message, **waits)


def refuse(refused: Refusal, call: Call) -> Response:
    """At the token endpoint the form is RFC 6749's."""
    status = 401 if refused.error == "invalid_client" else 400
    body = {"error": refused.error, "error_description": refused.description}
    return answer(body, status)
