"""HubSpot's ways of saying no."""

from datetime import UTC, datetime
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.clock import stamp
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Kind, reply
from sandbox.kernel.vendor import ErrorCase

ROLLING = "TEN_SECONDLY_ROLLING"
SECONDLY = "SECONDLY"


def error(status: int, category: str, message: str, **more: object) -> Response:
    """HubSpot's error form."""
    body = {"status": "error", "message": message, "correlationId": str(uuid4())}
    return reply({**body, "category": category, **more}, status)


def invalid(message: str) -> Answer:
    return Answer(error(400, "VALIDATION_ERROR", f"Invalid input: {message}"))


def missing(kind: str, asked: str) -> Answer:
    text = f"Object not found. objectId are usually numeric: {asked[:40]} among {kind}"
    return Answer(error(404, "OBJECT_NOT_FOUND", text, subCategory="OBJECT_NOT_FOUND"))


def trouble(wrong: ErrorCase, call: Call) -> Response:
    match wrong.kind:
        case Kind.RATE_LIMITED:
            return _too_many(wrong, call)
        case Kind.UNAUTHORIZED:
            return _unauthorized(call)
        case Kind.FORBIDDEN:
            missing_ = {"context": {"requiredGranularScopes": [wrong.detail]}}
            text = "This app was not granted all the scopes that the call needs."
            detail = {"message": "a scope is missing", **missing_}
            return error(403, "MISSING_SCOPES", text, errors=[detail])
        case Kind.NOT_FOUND:
            return error(404, "OBJECT_NOT_FOUND", "resource not found")
        case Kind.METHOD_NOT_ALLOWED:
            return error(405, "METHOD_NOT_ALLOWED", "the method is not allowed here")
        case Kind.BAD_REQUEST:
            return error(400, "VALIDATION_ERROR", wrong.detail or "Invalid input")
        case Kind.UNAVAILABLE:
            return error(503, "SERVICE_UNAVAILABLE", "The service is not available now.")
        case _:
            return error(500, "INTERNAL_ERROR", "internal error")


def _too_many(wrong: ErrorCase, call: Call) -> Response:
    policy = wrong.limit.name if wrong.limit else SECONDLY if is_search(call) else ROLLING
    body = {
        "status": "error",
        "message": f"You have reached your {policy.lower()} limit.",
        "errorType": "RATE_LIMIT",
        "correlationId": str(uuid4()),
        "policyName": policy,
        "requestId": str(uuid4()),
    }
    return reply(body, 429, wrong.waits)


def _unauthorized(call: Call) -> Response:
    value = call.headers.get("authorization", "").partition(" ")[2].strip()
    token = call.server.access_tokens.get(value)
    now = call.clock.time()
    if token and not token.grant.ended and token.dies_at is not None and token.dies_at <= now:
        died = datetime.fromtimestamp(token.dies_at, UTC)
        ago = int(now - token.dies_at)
        text = f"The OAuth token used to make this call expired {ago} second(s) ago."
        return error(401, "EXPIRED_AUTHENTICATION", text, context={"expire time": [stamp(died)]})
    text = "Authentication credentials not found. This API takes OAuth 2.0 access tokens."
    return error(401, "INVALID_AUTHENTICATION", text)


def is_search(call: Call) -> bool:
    return call.path.startswith("/crm/") and call.path.endswith("/search")
