"""Microsoft Graph, played for a reader: answers by path, and errors as the client raises them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from connectors import Connector, Request, Response
from connectors._microsoft import GRAPH
from connectors.kernel.statuses import error_by_status
from tests._driving import response


def error(status: int, code: str, message: str = "", **headers: str) -> Response:
    body = {"error": {"code": code, "message": message, "innerError": {"request-id": "r"}}}
    return response(body, status, headers)


def told(connector: Connector, answer: Response, path: str = "/me") -> Exception | None:
    """What the client raises for that answer, once its patience is over."""
    url = path if path.startswith("http") else f"{GRAPH}{path}"
    answer = replace(answer, url=url)
    found = connector.classify(answer)
    return found or error_by_status(connector.title, f"GET {path}", answer)


def client(
    connector: Connector, play: Callable[[Request], Response]
) -> Callable[[Request], Response]:
    """Answers as the client hands them on: an error that the reader does not expect is raised."""

    def answer(request: Request) -> Response:
        found = play(request)
        if found.status < 400 or found.status in request.expect:
            return found
        problem = told(connector, found, request.path)
        assert problem is not None
        raise problem

    return answer


def page(*rows: Mapping[str, Any], next: str = "", delta: str = "") -> Response:
    body: dict[str, Any] = {"value": [dict(row) for row in rows]}
    if next:
        body["@odata.nextLink"] = next
    if delta:
        body["@odata.deltaLink"] = delta
    return response(body)
