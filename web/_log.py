"""Lines of JSON: one for each request, what was asked and how it ended, with nothing secret in it.

Paths hold link secrets and queries hold codes, so the line names the route, never the address. Of
an exception it names the kind and the place, for the text may hold anything.
"""

import json
import logging
import time
from datetime import UTC, datetime
from secrets import token_hex

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from web._problems import answer, places, problem_for
from web._version import API_VERSION

log = logging.getLogger("atom-sync.access")
UNMATCHED = "unmatched"
HEADERS = ((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


def configure() -> None:
    """To stderr, unless whoever runs the process has set up logging of its own."""
    # Its lines hold whole addresses. Not by a setting of the server: nobody may forget it.
    logging.getLogger("uvicorn.access").disabled = True
    if not logging.root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
        logging.root.addHandler(handler)
        logging.root.setLevel(logging.INFO)


class JsonLines(logging.Formatter):
    """A record as one line; a request's line brings its own fields."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
        }
        if record.name == log.name:
            return json.dumps(line | json.loads(record.getMessage()))
        line["message"] = record.getMessage()
        if record.exc_info and record.exc_info[0]:
            line["error"] = f"{record.exc_info[0].__name__} at {places(record.exc_info[2])}"
        return json.dumps(line)


class AccessLog:
    """The outermost layer: logs, names the request, and answers for what nothing else caught."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = token_hex(8)
        status = 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *_with_defaults(scope, message["headers"]),
                    (b"x-request-id", request_id.encode()),
                ]
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            # Not raised on: the server would log the error's text, which may hold anything.
            if not status:
                await answer(problem_for(error))(scope, receive, noted)
        finally:
            seconds = time.perf_counter() - started
            log.info("%s", json.dumps(_line(scope, status, seconds, request_id)))


def _with_defaults(scope: Scope, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers, and those that every answer of ours has unless it says otherwise."""
    given = {name.lower() for name, _ in headers}
    defaults = [(name, value) for name, value in HEADERS if name not in given]
    if scope["path"].startswith("/api/"):
        defaults.append((b"api-version", API_VERSION.encode()))
        if b"cache-control" not in given:
            defaults.append((b"cache-control", b"no-store"))
    rates: dict[str, str] = scope.get("state", {}).get("rate_headers", {})
    return [*headers, *defaults, *((n.encode(), v.encode()) for n, v in rates.items())]


def _line(scope: Scope, status: int, seconds: float, request_id: str) -> dict[str, object]:
    return {
        "method": scope["method"],
        "route": getattr(scope.get("route"), "path", UNMATCHED),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "tenant": scope.get("state", {}).get("tenant_id"),
        "request_id": request_id,
    }
