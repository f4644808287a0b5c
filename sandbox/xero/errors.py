"""How Xero refuses: the gateway with a problem's title and detail, the API with an error number.

https://developer.xero.com/documentation/api/accounting/responsecodes
"""

from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase


def problem(status: int, title: str, detail: str, **headers: str) -> Response:
    body: Json = {"Type": None, "Title": title, "Status": status, "Detail": detail}
    return reply({**body, "Instance": str(uuid4()), "Extensions": {}}, status, headers)


def invalid(message: str, status: int = 400) -> Answer:
    """What the API itself finds wrong with a call."""
    body = {"ErrorNumber": 16, "Type": "QueryParseException", "Message": message}
    return Answer(reply(body, status))


def trouble(case: ErrorCase, call: Call) -> Response:
    """What the sandbox's kernel refuses, in Xero's words."""
    match case.kind:
        case Kind.UNAUTHORIZED:
            return problem(401, "Unauthorized", "AuthenticationUnsuccessful")
        case Kind.FORBIDDEN:
            # A scope that the token has not.
            told = {"www-authenticate": "insufficient_scope"}
            return problem(401, "Unauthorized", "AuthorizationUnsuccessful", **told)
        case Kind.RATE_LIMITED:
            wait = case.retry_after or (case.limit.per if case.limit else None)
            headers = {"x-rate-limit-problem": case.limit.name if case.limit else "concurrent"}
            if wait:  # Xero does not say it of calls that run side by side
                headers["retry-after"] = f"{wait:g}"
            return Response(status_code=429, headers=headers)
        case Kind.UNAVAILABLE:
            return Response("The Organisation is offline", 503, media_type="text/html")
        case Kind.SERVER_ERROR:
            return reply({"ErrorNumber": 500, "Type": "InternalServerException"}, 500)
    status = {Kind.NOT_FOUND: 404, Kind.METHOD_NOT_ALLOWED: 405}.get(case.kind, 400)
    return reply({"ErrorNumber": 10, "Type": "ValidationException", "Message": case.detail}, status)
