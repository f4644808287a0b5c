"""The OpenAPI document: what FastAPI makes of the routes, and what holds for all of them."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI

from web._problems import ProblemDetails, responses
from web._version import API_VERSION

TITLE = "atom-sync"
SUMMARY = "Connects your tenants' apps, keeps their data fresh, and tells you what changed."
DESCRIPTION = """
For the SaaS's own backend, which sends a token of its own making with each request:
`Authorization: Bearer …`. `docs/api.md` says how a token is made, and goes the whole way from a
tenant to its changed records.

* **Errors** are problem details (RFC 9457). A 422 names each wrong field in `errors`.
* **Lists** come in pages: `limit`, and `next_cursor` to send as `cursor`. Unknown query parameters
  and unknown fields are refused, never ignored.
* **Idempotency**: a POST that makes something takes an `Idempotency-Key`. The same request under
  the same key gets the same answer for 24 hours.
* **Rates** are counted by tenant; `RateLimit` and `RateLimit-Policy` say what is left.
* **Versions**: `API-Version` stands on every answer. Within 1.x things are added and nothing is
  taken away, so ignore fields that you do not know.

## What is served besides

These addresses are not for your backend, so they are told of here and not below.

* **Connect pages**, `/connect/{link}` and what follows it, and `/reconnect/{link}`: HTML for the
  browser that opened the link of `POST /api/connect-sessions`.
* **Callbacks**, `GET /api/integrations/callback` and `/api/integrations/{name}/callback`: where
  vendors send a browser back to after its consent; its `state` is signed by this service.
* **Webhooks**, `POST /api/webhooks/{integration}` and `/api/webhooks/{integration}/{connection}`:
  where vendors deliver events, each proven as that vendor proves them. `GET` there answers the
  vendors that try an address before they use it.

This service sends no webhooks of its own yet: follow runs, and ask for what changed.
"""
TAGS = (
    ("tenants", "Your customers. The operator's tokens make, change and delete them."),
    ("integrations", "What can be connected, and which records come of it."),
    ("connections", "Links between a tenant and an account at a vendor: made, watched, ended."),
    ("runs", "Syncs: what each is at, what it did, and who must act where it failed."),
    ("records", "What was synced, whole or as changes."),
    ("settings", "Keys that tenants bring for vendors that they pay themselves."),
    ("secrets", "The answers that hold a secret; each has a scope of its own."),
    ("billing", "Links to Stripe's pages, and where Stripe delivers."),
    ("health", "For whoever runs the service."),
)
HEADERS: dict[str, tuple[str, str]] = {
    "X-Request-ID": ("Names the request; it stands in our log, too.", "00f067aa0ba902b7"),
    "API-Version": ("The version of this API.", API_VERSION),
    "RateLimit-Policy": (
        "How many requests of this kind a tenant may send in so many seconds.", '"reads";q=600;w=60'
    ),
    "RateLimit": (
        "How many are left, and in how many seconds there are more.", '"reads";r=599;t=60'
    ),
    "Retry-After": ("In how many seconds to ask again.", "5"),
    "Idempotent-Replayed": (
        "`true` on the answer to a request that was made before under the same key.", "true"
    ),
}  # fmt: skip
_METHODS = ("get", "put", "post", "delete", "patch")


def described(app: FastAPI) -> dict[str, Any]:
    """The document; made once."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        document["webhooks"] = {}
        components = document["components"]
        schemas = components["schemas"]
        problem = ProblemDetails.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas.update(problem.pop("$defs"))
        schemas[ProblemDetails.__name__] = problem
        for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own form of a 422
            schemas.pop(unused, None)
        components["headers"] = {
            name: {
                "description": about,
                "schema": {"type": "string"},
                "example": example,
            }
            for name, (about, example) in HEADERS.items()
        }
        for path, operation in _operations(document):
            _complete(path, operation)
        app.openapi_schema = document
    return app.openapi_schema


def tags() -> list[dict[str, Any]]:
    return [{"name": name, "description": about} for name, about in TAGS]


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, methods[method]


def _complete(path: str, operation: dict[str, Any]) -> None:
    """What any operation of its kind may answer, and the headers of each answer."""
    security = operation.setdefault("security", [])
    scopes = [scope for each in security for scope in each["JWT"]]
    if scopes:
        about = [operation.get("description", ""), f"Needs the scope `{scopes[0]}`."]
        operation["description"] = "\n\n".join(filter(None, about))
    answers = operation["responses"]
    if "422" in answers:  # FastAPI describes a form of its own
        answers["422"] = responses(422)[422]
    further = [500]
    if "requestBody" in operation:
        further += [400, 408, 413]
        if security:
            further.append(415)
    for status, answer in responses(*further).items():
        answers.setdefault(str(status), answer)
    names = ["X-Request-ID"]
    if path.startswith("/api/"):
        names.append("API-Version")
    keyed = any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
    for status, answer in answers.items():
        held = [*names]
        if keyed and status < "300":
            held.append("Idempotent-Replayed")
        if security and status not in ("401", "403", "408", "413"):
            held += ["RateLimit-Policy", "RateLimit"]
        if status in ("429", "503"):
            held.append("Retry-After")
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in held}
    operation["responses"] = dict(sorted(answers.items()))
