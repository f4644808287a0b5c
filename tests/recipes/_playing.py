"""Plays the vendor of a manifest that a test writes: answers by address, errors as the client
raises them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import yaml

import recipes
from connectors import ConnectorError, Context, Page, Request, Response, Stream
from connectors.kernel.rounds import Rounds

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)

# A stream in as few words as there are: what a test is about is laid over it.
STREAM = """
type: DeclarativeStream
name: items
primary_key: [id]
retriever:
  type: SimpleRetriever
  requester:
    type: HttpRequester
    url_base: https://api.made-up.example/v1
    path: /items
  record_selector:
    extractor: {type: DpathExtractor, field_path: [items]}
schema_loader:
  type: InlineSchemaLoader
  schema: {type: object, properties: {id: {type: integer}, name: {type: [string, "null"]}}}
"""
SPEC = {"type": "object", "properties": {"key": {"type": "string", "airbyte_secret": True}}}


def laid_over(below: Any, above: Any) -> Any:
    """The one with the other's values; None takes a value away."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    made = {**below}
    for name, value in above.items():
        made[name] = laid_over(made.get(name), value)
    return {name: value for name, value in made.items() if value is not None}


def stream(changes: str = "", **more: Any) -> dict[str, Any]:
    """The stream, with changes that are written as YAML."""
    made = laid_over(yaml.safe_load(STREAM), yaml.safe_load(changes) or {})
    return dict(laid_over(made, more))


def manifest(*streams: dict[str, Any], **more: Any) -> str:
    """A manifest of these streams."""
    whole = {
        "version": "6.0.0",
        "type": "DeclarativeSource",
        "check": {"type": "CheckStream", "stream_names": [streams[0]["name"]]},
        "streams": list(streams),
        "spec": {"type": "Spec", "connection_specification": SPEC},
    }
    return yaml.safe_dump({**whole, **more}, sort_keys=False)


def read(*streams: dict[str, Any], **more: Any) -> recipes.Recipe:
    return recipes.read(manifest(*streams, **more), name="made_up")


def only(*streams: dict[str, Any], **more: Any) -> Stream:
    """The last stream of a manifest that is read wholly."""
    recipe = read(*streams, **more)
    assert recipe.unread == ()
    return recipe.connector.streams[-1]


def answer(body: Any, status: int = 200, **headers: str) -> Response:
    """An answer; of bytes, those that a raw request asked for."""
    raw = isinstance(body, bytes)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = "https://api.made-up.example"
    content = body if raw else b""
    body = None if raw else body
    return Response(status=status, headers=named, json=body, url=url, sent_at=NOW, content=content)


@dataclass
class Played:
    """What a read asked for, and what it gave."""

    requests: list[Request] = field(default_factory=list)
    pages: list[Page] = field(default_factory=list)

    @property
    def urls(self) -> list[str]:
        return [line_of(request) for request in self.requests]

    @property
    def records(self) -> list[dict[str, Any]]:
        return [record for page in self.pages for record in page.records]

    @property
    def last(self) -> Page:
        return self.pages[-1]


def line_of(request: Request) -> str:
    """A request in one line: its method unless it is GET, its address and its query."""
    query = urlencode(request.params, doseq=True)
    method = "" if request.method == "GET" else f"{request.method} "
    path = request.path.removeprefix("https://api.made-up.example")
    return f"{method}{path}{'?' if query else ''}{query}"


def play(
    read: Stream | Callable[..., Any],
    vendor: Callable[[Request], Response] | Mapping[str, Any],
    config: Mapping[str, Any] | None = None,
    at: Mapping[str, Any] | None = None,
    *,
    now: datetime = NOW,
    pages: int = 0,
) -> Played:
    """Reads from a checkpoint, to the end or until so many pages were given. The vendor answers by
    the request's line, or is a function. Errors leave what was read before them on `played`."""
    context = Context(now=now, account_id="acme", config=config or {"key": "canary"})
    if isinstance(read, Stream):
        reader = read.read(json.loads(json.dumps(at or {})), context)
    else:
        reader = read(context)
    played, rounds = Played(), Rounds()
    sent: Any = None
    try:
        while True:
            failed = isinstance(sent, Exception)
            action = reader.throw(sent) if failed else reader.send(sent)
            if isinstance(action, Page):
                played.pages.append(action)
                sent = None
                try:
                    rounds.came(action)
                except ConnectorError as error:
                    sent = error
                if len(played.pages) == pages:
                    return played
            else:
                assert isinstance(action, Request)
                played.requests.append(action)
                sent = answered(action, vendor)
                if isinstance(sent, Response):
                    rounds.answered(action, sent)
    except StopIteration:
        return played
    except Exception as error:
        error.played = played  # type: ignore[attr-defined]
        raise
    finally:
        reader.close()


def answered(
    request: Request, vendor: Callable[[Request], Response] | Mapping[str, Any]
) -> Response | ConnectorError:
    """The vendor's answer, or the error that the client would raise for it."""
    if callable(vendor):
        found = vendor(request)
    else:
        line = line_of(request)
        assert line in vendor, f"nothing is played for {line}"
        found = vendor[line]
    response = found if isinstance(found, Response) else answer(found)
    error = request.judge(response) if request.judge else None
    return error or response
