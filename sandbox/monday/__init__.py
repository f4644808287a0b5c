"""monday.com on loopback: boards, items, updates and people by GraphQL; both flows of consent.

https://developer.monday.com/api-reference

Of what can be written only webhooks are offered. Made up are how points are counted, and that a
promoted app gets its tokens of the new flow from either address.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from graphql import DocumentNode, GraphQLError, parse, validate
from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Limit, Route, Vendor
from sandbox.kernel.webhooks import CallbackFlow
from sandbox.monday.api import resolve
from sandbox.monday.auth import AUTH, HOST, ROUTES, token_of
from sandbox.monday.events import SENDER, challenged
from sandbox.monday.schema import SCHEMA, complexity_of
from sandbox.monday.store import (
    MUTATIONS,
    STREAMS,
    Desk,
    alterable,
    hide,
    new,
    refuse_part,
    store,
)

BUDGET, DEAREST, MINUTE = 5_000_000, 5_000_000, 60.0
REFUSALS = {
    Kind.UNAUTHORIZED: (401, "NOT_AUTHENTICATED", "Not Authenticated"),
    Kind.FORBIDDEN: (200, "USER_UNAUTHORIZED", "User unauthorized to perform action"),
    Kind.NOT_FOUND: (404, "NOT_FOUND", "Not found"),
    Kind.METHOD_NOT_ALLOWED: (405, "METHOD_NOT_ALLOWED", "Method not allowed"),
    Kind.BAD_REQUEST: (400, "BAD_REQUEST", "Bad request"),
    Kind.SERVER_ERROR: (200, "INTERNAL_SERVER_ERROR", "Internal server error"),
}
# What a field of a query needs.
SCOPES = {
    "me": "me:read",
    "account": "account:read",
    "boards": "boards:read",
    "items": "boards:read",
    "next_items_page": "boards:read",
    "updates": "updates:read",
    "users": "users:read",
    "workspaces": "workspaces:read",
    "teams": "teams:read",
    "tags": "tags:read",
    "webhooks": "webhooks:read",
    "create_webhook": "webhooks:write",
    "delete_webhook": "webhooks:write",
}


def graphql(call: Call) -> CallbackFlow[Response]:
    """One query or mutation, answered with 200 whatever comes of it."""
    body = call.json()
    if not isinstance(body, dict) or not isinstance(body.get("query"), str):
        return _refused("No query string was present", "BAD_REQUEST", 400)
    variables = body.get("variables") or {}
    try:
        document = _parsed(body["query"])
    except GraphQLError as error:
        return _refused(error.message, "GRAPHQL_PARSE_FAILED", 200)
    if invalid := _invalid(body["query"]):
        return _refused(invalid, "GRAPHQL_VALIDATION_FAILED", 200)
    cost = complexity_of(document, variables)
    if cost > DEAREST:
        text = f"Query has complexity of {cost}, which exceeds max complexity of {DEAREST}"
        return _refused(text, "MAX_COMPLEXITY_EXCEEDED", 200)
    if missing := _missing(call, document):
        return _refused(f"Missing the scope {missing}", "UNAUTHORIZED_FIELD_OR_TYPE", 200)
    told: Any = {"before": BUDGET, "query": cost, "after": BUDGET - cost, "reset_in_x_seconds": 60}
    here = replace(call, params={**call.params, "complexity": told})
    answered = yield from challenged(document, variables)
    return reply(resolve(here, document, variables, body.get("operationName"), answered))


def _missing(call: Call, document: DocumentNode) -> str | None:
    given = call.grant.scopes if call.grant else ()
    for definition in document.definitions:
        for field in getattr(definition, "selection_set").selections:  # noqa: B009
            needed = SCOPES.get(getattr(field, "name").value)  # noqa: B009
            if needed and needed not in given:
                return needed
    return None


@lru_cache
def _parsed(query: str) -> DocumentNode:
    return parse(query)


@lru_cache
def _invalid(query: str) -> str:
    return next((error.message for error in validate(SCHEMA, _parsed(query))), "")


def _refused(
    message: str, code: str, status: int, headers: Mapping[str, str] | None = None, **more: Any
) -> Response:
    extensions = {"code": code, "status_code": status, **more}
    return reply({"errors": [{"message": message, "extensions": extensions}]}, status, headers)


def points(call: Call) -> int:
    body = call.json()
    try:
        asked = complexity_of(_parsed(body["query"]), body.get("variables") or {})
    except (GraphQLError, LookupError, TypeError):
        return 1
    # What is too dear is refused, and takes nothing.
    return asked if asked <= DEAREST else 1


def trouble(wrong: ErrorCase, call: Call) -> Response:
    """A budget that is spent is told with 200, and when it is full again."""
    if wrong.kind is Kind.RATE_LIMITED:
        wait = int(wrong.retry_after or (wrong.limit.per if wrong.limit else 30.0)) or 1
        if wrong.limit and wrong.limit.name == "calls":
            return _refused(
                "Minute limit rate exceeded", "RATE_LIMIT_EXCEEDED", 429, {"retry-after": str(wait)}
            )
        text = (
            f"Complexity budget exhausted, query cost {points(call)} budget remaining 0 out of"
            f" {BUDGET} reset in {wait} seconds"
        )
        return _refused(
            text, "COMPLEXITY_BUDGET_EXHAUSTED", 200, wrong.waits, retry_in_seconds=wait
        )
    if wrong.kind not in REFUSALS:
        return Response("upstream connect error", 503, media_type="text/plain")
    status, code, text = REFUSALS[wrong.kind]
    return _refused(wrong.detail or text, code, status)


def promote(desk: Desk, body: Json) -> Json:
    """The app's version with the new flow goes live for this account."""
    desk.promoted = True
    return {}


def plan(desk: Desk, body: Json) -> Json:
    """The account is on the plan of that `tier`."""
    desk.tier = body.get("tier")
    return {}


def expire_cursors(desk: Desk) -> None:
    desk.cursors.clear()


vendor = Vendor(
    name="monday",
    title="monday.com",
    base_url=f"https://{HOST}",
    auth=AUTH,
    routes=(
        *ROUTES,
        Route("POST", HOST, "/v2", graphql),
    ),
    streams=STREAMS,
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    limits=(Limit("calls", 1_000, MINUTE), Limit("complexity", BUDGET, MINUTE, points)),
    expire_checkpoints=expire_cursors,
    account_controls={
        "hide": hide,
        "refuse_part": refuse_part,
        "promote": promote,
        "plan": plan,
    },
    webhook=SENDER,
    token=token_of,
    three_pages_at=1_000,
)
