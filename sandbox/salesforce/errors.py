"""How Salesforce answers: JSON, its errors as an array of them."""

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Kind, reply
from sandbox.kernel.vendor import ErrorCase, Handler
from sandbox.salesforce.kinds import FaultError


def fault(error: FaultError) -> Response:
    """An error of the data API: always an array."""
    told = [{"message": str(error), "errorCode": error.code}]
    return reply(told, error.status)


def guarded(handler: Handler) -> Handler:
    """What the org refuses becomes an answer."""

    def handle(call: Call) -> Response:
        try:
            return handler(call)
        except FaultError as error:
            return fault(error)

    return handle


def trouble(wrong: ErrorCase, call: Call) -> Response:
    """What the sandbox's kernel refuses, in Salesforce's words."""
    match wrong.kind:
        case Kind.UNAUTHORIZED:
            return fault(FaultError("INVALID_SESSION_ID", "Session expired or invalid", 401))
        case Kind.FORBIDDEN:
            return fault(FaultError("INSUFFICIENT_ACCESS", "insufficient access rights", 403))
        case Kind.RATE_LIMITED:
            # No status of its own, and not a word of how long.
            response = fault(
                FaultError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", 403)
            )
            response.headers.update(wrong.waits)
            return response
        case Kind.BAD_REQUEST:
            return fault(FaultError("JSON_PARSER_ERROR", wrong.detail or "The request is wrong"))
        case Kind.NOT_FOUND:
            return fault(FaultError("NOT_FOUND", "The requested resource does not exist", 404))
        case Kind.METHOD_NOT_ALLOWED:
            message = f"HTTP Method '{call.method}' not allowed"
            return fault(FaultError("METHOD_NOT_ALLOWED", message, 405))
        case Kind.UNAVAILABLE:
            message = "Server is unavailable or overloaded, try again later"
            return fault(FaultError("SERVER_UNAVAILABLE", message, 503))
    return fault(FaultError("UNKNOWN_EXCEPTION", "An unexpected error occurred", 500))
