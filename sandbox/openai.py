"""OpenAI's models, as far as a key is verified by them: no stream, no OAuth, keys that stay good.

https://platform.openai.com/docs/api-reference/models
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from random import Random
from string import ascii_letters, digits
from typing import Any, Never

from starlette.responses import Response

from sandbox.kernel.data import FIRM_ENDS, FIRM_STARTS
from sandbox.kernel.oauth import Call, OAuth
from sandbox.kernel.values import Change, Json, Kind, RefusedError, Seed, reply
from sandbox.kernel.vendor import ErrorCase, Route, Vendor

HOST = "api.openai.com"
# When each was made, in epoch seconds, and by whom.
MODELS = (
    ("gpt-4o", 1_715_367_049, "system"),
    ("gpt-4o-mini", 1_721_172_741, "system"),
    ("o3", 1_744_225_308, "system"),
    ("text-embedding-3-small", 1_705_948_997, "system"),
    ("whisper-1", 1_677_532_384, "openai-internal"),
)
FORMS = {
    Kind.BAD_REQUEST: (400, "invalid_request_error", None, "The request cannot be read."),
    Kind.UNAUTHORIZED: (401, "invalid_request_error", "invalid_api_key", "That key is not ours."),
    Kind.FORBIDDEN: (403, "invalid_request_error", None, "The key lacks the scope api.model.read."),
    Kind.NOT_FOUND: (404, "invalid_request_error", "model_not_found", "There is no such model."),
    Kind.METHOD_NOT_ALLOWED: (405, "invalid_request_error", None, "The method does not fit."),
    Kind.RATE_LIMITED: (429, "requests", "rate_limit_exceeded", "Too many requests a minute."),
    Kind.SERVER_ERROR: (500, "server_error", None, "Something went wrong on our side."),
    Kind.UNAVAILABLE: (503, "service_unavailable_error", None, "The engine is overloaded."),
}


@dataclass
class Project:
    """What a key belongs to, and the answers that were ordered for its next calls."""

    ordered: deque[Response] = field(default_factory=deque)


def models(call: Call) -> Response:
    if call.state.ordered:
        answer: Response = call.state.ordered.popleft()
        return answer
    return reply({"object": "list", "data": [_model(*each) for each in MODELS]})


def model(call: Call) -> Response:
    for each in MODELS:
        if each[0] == call.params["model"]:
            return reply(_model(*each))
    return trouble(ErrorCase(kind=Kind.NOT_FOUND), call)


def _model(name: str, created: int, owner: str) -> Json:
    return {"id": name, "object": "model", "created": created, "owned_by": owner}


def trouble(trouble: ErrorCase, call: Call) -> Response:
    status, kind, code, message = FORMS[trouble.kind]
    if trouble.kind is Kind.UNAUTHORIZED:
        if trouble.detail == "missing":
            code, message = None, "The call came without a key."
        else:
            sent = call.headers.get("authorization", "").partition(" ")[2]
            message = f"{message} It was {sent[:8]}***{sent[-4:]}."
    headers = trouble.waits if trouble.kind is Kind.RATE_LIMITED else {}
    return reply(_error(message, kind, code), status, headers)


def _error(message: str, kind: str, code: str | None) -> Json:
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def answer(states: Mapping[str, Any], body: Json) -> Json:
    """Orders what the next listing of models is answered with: a status, a code, a message."""
    status, count = body.get("status", 401), body.get("count", 1)
    if type(status) is not int or not 400 <= status < 600 or type(count) is not int:
        raise RefusedError("an answer has a status from 400 to 599, and a count", status=400)
    account = str(body.get("account", ""))
    if account not in states:
        raise RefusedError(f"openai has no account {account!r}; it has: {', '.join(states)}")
    kind, code = str(body.get("type", "invalid_request_error")), body.get("code")
    error = _error(str(body.get("message", "Ordered by a test.")), kind, code)
    for _ in range(count):
        states[account].ordered.append(reply(error, status))
    return {"account": account, "ordered": len(states[account].ordered)}


def new_account(random: Random) -> tuple[str, str]:
    letters = "".join(random.choices(ascii_letters + digits, k=24))
    return f"proj_{letters}", f"{random.choice(FIRM_STARTS)} {random.choice(FIRM_ENDS)}"


def _nothing(*given: object) -> Never:
    raise RefusedError("openai has no records")


def _store(state: Any, stream: str) -> dict[str, Json]:
    return _nothing(stream)


def _apply(state: Any, change: Change) -> str:
    return _nothing(change)


def _new(seed: Seed) -> Project:
    return Project()


vendor = Vendor(
    name="openai",
    title="OpenAI",
    base_url=f"https://{HOST}/v1",
    # Without places there is no consent: keys come from the controls, and from `describe`.
    auth=OAuth(
        name="openai",
        client_id="",
        client_secret="",
        authorize=(),
        token=(),
        scopes=("api.model.read",),
        new_account=new_account,
        account_pattern=r"proj_[A-Za-z0-9]{24}",
        access_ttl=timedelta(days=36_500),
        access_prefix="sk-proj-",
        answer=lambda issue: {"access_token": issue.access_token},
    ),
    routes=(
        Route("GET", HOST, "/v1/models", models, scopes=("api.model.read",)),
        Route("GET", HOST, "/v1/models/{model}", model, scopes=("api.model.read",)),
    ),
    streams=(),
    mutable={},
    new=_new,
    store=_store,
    apply=_apply,
    trouble=trouble,
    controls={"answer": answer},
)
