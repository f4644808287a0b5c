"""How QuickBooks answers: JSON with the time, and its faults in two spellings.

The accounting service writes `Fault` with capitals; the gateway before it (401, 403, 429) in small
letters. Who does not ask for JSON gets XML, which the sandbox keeps to its faults.
"""

from uuid import uuid4
from xml.sax.saxutils import escape, quoteattr

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase
from sandbox.quickbooks.kinds import PACIFIC, FaultError

NAMESPACE = "http://schema.intuit.com/finance/v3"
# What a gateway answer holds beside its fault, always empty.
EMPTY: Json = {
    **dict.fromkeys(("report", "queryResponse", "syncErrorResponse", "requestId", "status")),
    **{"batchItemResponse": [], "attachableResponse": [], "cdcresponse": []},
}


def answer(call: Call, body: Json, status: int = 200) -> Response:
    """An answer in JSON."""
    return reply({**body, "time": _time(call)}, status, support_id())


def fault(
    call: Call, error: FaultError, status: int = 400, type_: str = "ValidationFault"
) -> Response:
    """A fault of the accounting service."""
    if not takes_json(call):
        return _xml(call, error, status, type_)
    told = {"Message": error.message, "Detail": error.detail, "code": error.code}
    return answer(call, {"Fault": {"Error": [told], "type": type_}}, status)


def gateway(call: Call, error: FaultError, status: int, type_: str) -> Response:
    """A fault of the gateway."""
    if not takes_json(call):
        return _xml(call, error, status, type_)
    told = {"message": error.message, "detail": error.detail, "code": error.code, "element": None}
    body = {
        "warnings": None,
        "intuitObject": None,
        "fault": {"error": [told], "type": type_},
        **EMPTY,
        "time": int(call.clock.time() * 1000),
    }
    return reply(body, status, support_id())


def forbidden(call: Call) -> Response:
    """This token does not open this company, or not for accounting."""
    message = "message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403"
    return gateway(call, FaultError("3100", message, "The app has no access"), 403, "SERVICE")


def trouble(wrong: ErrorCase, call: Call) -> Response:
    """What the sandbox's kernel refuses, in QuickBooks' words."""
    match wrong.kind:
        case Kind.UNAUTHORIZED:
            message = "message=AuthenticationFailed; errorCode=003200; statusCode=401"
            detail = "No token" if wrong.detail == "missing" else "Token expired or revoked"
            return gateway(call, FaultError("3200", message, detail), 401, "AUTHENTICATION")
        case Kind.FORBIDDEN:
            return forbidden(call)
        case Kind.RATE_LIMITED:
            message = "message=ThrottleExceeded; errorCode=003001; statusCode=429"
            error = FaultError("3001", message, "The request limit was reached")
            response = gateway(call, error, 429, "SERVICE")
            # QuickBooks itself never says how long to wait: only an order of the sandbox does.
            response.headers.update(wrong.waits)
            return response
        case Kind.BAD_REQUEST:
            return fault(call, FaultError("2010", "Request is invalid", wrong.detail))
        case Kind.NOT_FOUND | Kind.METHOD_NOT_ALLOWED:
            status = 404 if wrong.kind is Kind.NOT_FOUND else 405
            return fault(call, unsupported(f"{call.method} {call.path}"), status)
    message = "An application error has occurred while processing your request"
    status = 503 if wrong.kind is Kind.UNAVAILABLE else 500
    error = FaultError("10000", message, f"System Failure Error: {wrong.detail}")
    return fault(call, error, status, "SystemFault")


def unsupported(operation: str) -> FaultError:
    detail = f"Operation {operation} is not supported."
    return FaultError("500", "Unsupported Operation", detail)


def takes_json(call: Call) -> bool:
    return "application/json" in call.headers.get("accept", "")


def support_id() -> dict[str, str]:
    """The header by which Intuit's support finds a request."""
    return {"intuit_tid": f"1-{uuid4()}"}


def _time(call: Call) -> str:
    return call.clock.now().astimezone(PACIFIC).isoformat(timespec="milliseconds")


def _xml(call: Call, error: FaultError, status: int, type_: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
        f'<IntuitResponse xmlns="{NAMESPACE}" time="{_time(call)}"><Fault type={quoteattr(type_)}>'
        f"<Error code={quoteattr(error.code)}><Message>{escape(error.message)}</Message>"
        f"<Detail>{escape(error.detail)}</Detail></Error></Fault></IntuitResponse>"
    )
    return Response(body, status, support_id(), media_type="application/xml")
