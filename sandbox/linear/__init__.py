"""Linear on loopback: workspaces, their GraphQL API with its points, and webhooks for the app.

https://linear.app/developers/graphql

Only reading is offered: no mutations. Longer than 700 lines: a schema of thirteen types with its
points, and how each of them is made and changed.
"""

from collections.abc import Sequence
from functools import lru_cache

from graphql import DocumentNode, GraphQLError, parse, validate
from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Limit, Route, Usage, Vendor
from sandbox.linear.api import extensions, resolve
from sandbox.linear.auth import AUTH, HOST, ROUTES
from sandbox.linear.events import SENDER, revoked
from sandbox.linear.schema import ROWS, SCHEMA, complexity_of
from sandbox.linear.store import (
    MUTATIONS,
    Workspace,
    expire_checkpoints,
    hide,
    join,
    new,
    restore,
    store,
)

HOUR = 3_600.0
DEAREST = 10_000
# How an order of the kernel is put: status, type and code.
REFUSALS = {
    Kind.UNAUTHORIZED: (401, "authentication error", "AUTHENTICATION_ERROR"),
    Kind.FORBIDDEN: (403, "forbidden", "FORBIDDEN"),
    Kind.NOT_FOUND: (404, "invalid input", "INPUT_ERROR"),
    Kind.METHOD_NOT_ALLOWED: (405, "invalid input", "INPUT_ERROR"),
    Kind.BAD_REQUEST: (400, "invalid input", "INPUT_ERROR"),
    Kind.SERVER_ERROR: (500, "internal error", "INTERNAL_SERVER_ERROR"),
}


def graphql(call: Call) -> Response:
    """One query: invalid ones, and whatever fails as a whole, are answered with 400."""
    body = call.json()
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        return _refused("Query is missing", "graphql error", "BAD_REQUEST")
    variables = body.get("variables") or {}
    try:
        document = _parsed(body["query"])
    except GraphQLError as error:
        return _refused(error.message, "graphql error", "GRAPHQL_PARSE_FAILED")
    if invalid := _invalid(body["query"]):
        return _refused(invalid, "graphql error", "GRAPHQL_VALIDATION_FAILED")
    if (points := complexity_of(document, variables)) > DEAREST:
        shown = f"The query is too complex. Complexity: {points}. Maximum allowed complexity: "
        return _refused(
            "Query too complex", "invalid input", "INPUT_ERROR", shown=f"{shown}{DEAREST}."
        )
    answer = resolve(call, document, variables, body.get("operationName"))
    failed = answer.get("data") is None and "errors" in answer
    return reply(answer, 400 if failed else 200, {"X-Complexity": str(points)})


@lru_cache
def _parsed(query: str) -> DocumentNode:
    return parse(query)


@lru_cache
def _invalid(query: str) -> str:
    """What is wrong with a query that can be parsed, if anything."""
    return next((error.message for error in validate(SCHEMA, _parsed(query))), "")


def _refused(
    message: str, type_: str, code: str, status: int = 400, *, shown: str = "", **headers: str
) -> Response:
    error = {"message": message, "extensions": extensions(type_, code, status, shown)}
    return reply({"errors": [error]}, status, {**headers})


def points(call: Call) -> int:
    """What a call takes of the points of an hour."""
    body = call.json()
    try:
        asked = complexity_of(_parsed(body["query"]), body.get("variables") or {})
    except (GraphQLError, LookupError, TypeError):
        return 1
    return min(asked, DEAREST)


def rate_headers(usages: Sequence[Usage]) -> Json:
    return {
        f"X-RateLimit-{usage.limit.name.title()}-{name}": str(value)
        for usage in usages
        for name, value in {"Limit": usage.amount, "Remaining": usage.remaining}.items()
    }


def trouble(wrong: ErrorCase, call: Call) -> Response:
    """A limit is answered with 400, whatever the documents say (NangoHQ/nango#3108, 2024-12)."""
    if wrong.kind is Kind.RATE_LIMITED:
        wait = wrong.retry_after or (wrong.limit.per if wrong.limit else 30.0)
        bucket = (wrong.limit.name if wrong.limit else "requests").title()
        reset = str(int((call.clock.time() + wait) * 1_000))
        headers = {
            f"X-RateLimit-{bucket}-Remaining": "0",
            f"X-RateLimit-{bucket}-Reset": reset,
            "X-Complexity": str(points(call)),
            **wrong.waits,
        }
        error = {
            "message": "Rate limit exceeded",
            "extensions": {
                **extensions("ratelimited", "RATELIMITED", 429),
                "http": {"status": 400},
            },
        }
        return reply({"errors": [error]}, 400, headers)
    if wrong.kind not in REFUSALS:
        return Response("upstream connect error", 503, media_type="text/plain")
    status, type_, code = REFUSALS[wrong.kind]
    return _refused(wrong.detail or wrong.kind.value, type_, code, status)


def remove_app(space: Workspace, body: Json) -> Json:
    """The app is told that a workspace has it no more; `tokens` with `revoke` ends its tokens."""
    space.tell(revoked())
    return {"workspace": space.id}


vendor = Vendor(
    name="linear",
    title="Linear",
    base_url=f"https://{HOST}",
    auth=AUTH,
    routes=(*ROUTES, Route("POST", HOST, "/graphql", graphql)),
    streams=tuple(ROWS),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    trouble=trouble,
    limits=(Limit("requests", 1_200, HOUR), Limit("complexity", 200_000, HOUR, points)),
    rate_headers=rate_headers,
    expire_checkpoints=expire_checkpoints,
    account_controls={"hide": hide, "join": join, "restore": restore, "remove_app": remove_app},
    webhook=SENDER,
)
