"""The forms of Jira's answers: pages by `startAt`, refusals."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase

LIMIT_REASON = "jira-burst-based"


def wrong(status: int, message: str) -> Response:
    return reply({"errorMessages": [message], "errors": {}}, status)


def missing(what: str) -> Answer:
    """What is gone and what may not be seen are not told apart."""
    text = f"{what} does not exist or you do not have permission to see it."
    return Answer(wrong(404, text))


def number(call: Call, name: str, default: int) -> int:
    text = call.query.get(name) or str(default)
    if not text.lstrip("-").isdecimal() or int(text) < 0:
        raise Answer(wrong(400, f"{name} is not a number from 0 on: {text[:20]!r}"))
    return int(text)


def cut(call: Call, rows: Sequence[Any], most: int) -> tuple[int, int, list[Any]]:
    """Where a page starts, its most rows, which Jira may cut down, and the rows."""
    start, size = number(call, "startAt", 0), min(number(call, "maxResults", min(50, most)), most)
    return start, size, list(rows[start : start + size])


def paged(
    call: Call, rows: Sequence[Any], *, most: int, name: str = "values", total: bool = True
) -> Response:
    start, size, page = cut(call, rows, most)
    body: Json = {"maxResults": size, "startAt": start}
    if total:
        body["total"] = len(rows)
    if name == "values":
        body["isLast"] = start + len(page) >= len(rows)
    return reply({**body, name: page})


def trouble(case: ErrorCase, call: Call) -> Response:
    """What the gateway refuses has another form than what Jira does. A scope that is missing is a
    401 of the gateway."""
    match case.kind:
        case Kind.UNAUTHORIZED:
            return reply({"code": 401, "message": "Unauthorized"}, 401)
        case Kind.FORBIDDEN if ":" in case.detail:
            return reply({"code": 401, "message": "Unauthorized; scope does not match"}, 401)
        case Kind.FORBIDDEN:
            return wrong(403, "You do not have permission to do that.")
        case Kind.RATE_LIMITED:
            wait = case.retry_after if case.limit is None else case.limit.per
            waits = {} if wait is None else {"retry-after": f"{wait:g}"}
            return Response("{}", 429, {**waits, "RateLimit-Reason": LIMIT_REASON})
        case Kind.NOT_FOUND:
            return reply({"code": 404, "message": "Not Found"}, 404)
        case Kind.METHOD_NOT_ALLOWED:
            return wrong(405, "Method Not Allowed")
        case Kind.BAD_REQUEST:
            return wrong(400, case.detail or "Bad Request")
        case Kind.UNAVAILABLE:
            return Response("upstream connect error", 503)
        case _:
            return wrong(500, "Internal server error")
