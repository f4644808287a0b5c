"""How Stripe's API is asked and refuses: nested forms, its error object, idempotency keys.

https://docs.stripe.com/api/errors, https://docs.stripe.com/api/idempotent_requests (2026-11)
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Never
from urllib.parse import parse_qsl

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase

_PART = re.compile(r"\[([^\[\]]*)\]")
FORMS = {
    Kind.BAD_REQUEST: (400, "invalid_request_error", None, "The request cannot be read."),
    Kind.UNAUTHORIZED: (401, "invalid_request_error", None, "That API key is not ours."),
    Kind.FORBIDDEN: (403, "invalid_request_error", None, "The key may not do this."),
    Kind.NOT_FOUND: (404, "invalid_request_error", None, "There is no such address."),
    Kind.METHOD_NOT_ALLOWED: (405, "invalid_request_error", None, "The method does not fit."),
    Kind.RATE_LIMITED: (429, "invalid_request_error", "rate_limit", "Too many requests."),
    Kind.SERVER_ERROR: (500, "api_error", None, "Something went wrong on our side."),
    Kind.UNAVAILABLE: (503, "api_error", None, "We are not there for a moment."),
}


def trouble(trouble: ErrorCase, call: Call) -> Response:
    status, kind, code, message = FORMS[trouble.kind]
    return _error(status, kind, message, code=code)


def refuse(message: str, *, param: str | None = None, code: str | None = None) -> Never:
    """Answer that a parameter is wrong."""
    raise Answer(_error(400, "invalid_request_error", message, code=code, param=param))


def denied(message: str, *, code: str) -> Never:
    """Answer that the key may not do this."""
    raise Answer(_error(403, "invalid_request_error", message, code=code))


def missing(what: str, id: str, *, param: str = "id", status: int = 404) -> Never:
    """Answer that there is no such thing; one that a parameter names is a bad request."""
    message = f"No such {what}: {id!r}"
    body = _error(status, "invalid_request_error", message, code="resource_missing", param=param)
    raise Answer(body)


def _error(
    status: int, kind: str, message: str, *, code: str | None = None, param: str | None = None
) -> Response:
    error = {"type": kind, "message": message, "code": code, "param": param}
    shown = {name: value for name, value in error.items() if value is not None}
    return reply({"error": shown}, status)


def asked(call: Call, known: Iterable[str]) -> Json:
    """The call's form, or its query, as the object it stands for; nothing unknown may be in it."""
    text = call.body.decode() if call.method == "POST" else str(call.query)
    found: Json = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        head, *parts = [name.partition("[")[0], *_PART.findall(name)]
        _put(found, [head, *parts], value)
    listed = {name: _listed(value) for name, value in found.items()}
    for name in listed.keys() - {*known, "expand"}:
        refuse(f"Received unknown parameter: {name}", param=name, code="parameter_unknown")
    return listed


def _put(into: Json, path: list[str], value: str) -> None:
    for part in path[:-1]:
        into = into.setdefault(part, {})
        if not isinstance(into, dict):
            refuse("Invalid object", param=path[0])
    into[path[-1] or str(len(into))] = value


def _listed(value: Any) -> Any:
    """An object whose names are 0, 1, 2 … is a list."""
    if not isinstance(value, dict):
        return value
    made = {name: _listed(part) for name, part in value.items()}
    if made and all(name.isdigit() for name in made):
        return [made[name] for name in sorted(made, key=int)]
    return made


def once(
    handler: Callable[[Call], Response],
    answers: Callable[[Call], dict[str, tuple[bytes, Response]]],
) -> Callable[[Call], Response]:
    """A handler that answers a repeated idempotency key as it did the first time."""

    def answer(call: Call) -> Response:
        key = call.headers.get("idempotency-key")
        if not key:
            return handler(call)
        kept, given = answers(call), f"{call.path} ".encode() + call.body
        if key not in kept:
            kept[key] = given, _answered(handler, call)
        first, response = kept[key]
        if first != given:
            message = "Keys for idempotent requests can only be used with the same parameters."
            return _error(400, "idempotency_error", message)
        return Response(response.body, response.status_code, media_type="application/json")

    return answer


def _answered(handler: Callable[[Call], Response], call: Call) -> Response:
    try:
        return handler(call)
    except Answer as answer:
        return answer.response
