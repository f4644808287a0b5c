"""A made-up vendor on loopback, and the manifest by which it is added."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

KEY = "canary-kraal-key-that-nobody-may-see"
FARM = "north"
PAGE = 2

# It asks for all kinds of things that such manifests ask for.
MANIFEST = """
version: 6.44.0
type: DeclarativeSource
check:
  type: CheckStream
  stream_names: [cattle]
definitions:
  requester:
    type: HttpRequester
    url_base: https://{{ config['farm'] }}.kraal.example/v1
    http_method: GET
    authenticator:
      type: ApiKeyAuthenticator
      api_token: "{{ config['credentials']['key'] }}"
      inject_into: {type: RequestOption, inject_into: header, field_name: X-Key}
streams:
  - type: DeclarativeStream
    name: cattle
    primary_key: [id]
    retriever:
      type: SimpleRetriever
      requester: {$ref: "#/definitions/requester", path: /cattle}
      record_selector:
        type: RecordSelector
        extractor: {type: DpathExtractor, field_path: [items]}
      paginator:
        type: DefaultPaginator
        page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: offset}
        page_size_option: {type: RequestOption, inject_into: request_parameter, field_name: limit}
        pagination_strategy: {type: OffsetIncrement, page_size: 2}
    schema_loader:
      type: InlineSchemaLoader
      schema:
        type: object
        properties:
          id: {type: integer}
          name: {type: [string, "null"]}
          weight: {type: [number, "null"]}
  - type: DeclarativeStream
    name: whispers
    primary_key: [id]
    retriever:
      type: CustomRetriever
      class_name: source_kraal.components.Whispers
spec:
  type: Spec
  connection_specification:
    type: object
    required: [farm, credentials]
    properties:
      farm:
        type: string
        title: Farm
        description: The name in <a href="https://kraal.example">your address</a>.
        pattern: "^[a-z]+$"
        pattern_descriptor: lower-case letters
        examples: [north]
        order: 0
      credentials:
        type: object
        title: Access
        order: 1
        oneOf:
          - type: object
            title: Key
            required: [kind, key]
            properties:
              kind: {type: string, const: key}
              key: {type: string, title: Secret key, airbyte_secret: true}
          - type: object
            title: Herder
            required: [kind, herder, stick]
            properties:
              kind: {type: string, const: herder}
              herder: {type: string, title: Herder}
              stick: {type: string, title: Stick, airbyte_secret: true}
      since: {type: string, title: Since, format: date, default: "2026-01-01", order: 2}
      size: {type: integer, title: How many, minimum: 1, order: 3}
      calm: {type: boolean, title: Calm only, default: true, order: 4}
"""


@dataclass
class Kraal:
    """What it has, what it was asked, and what it answers in place of that."""

    origin: str = ""
    cattle: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)
    key: str = KEY
    redirect: str = ""
    # Set by a test that wants answers held back from a second page on, until it sets it.
    gate: threading.Event = field(default_factory=threading.Event)
    waiting: threading.Event = field(default_factory=threading.Event)

    def grow(self, count: int) -> None:
        for _ in range(count):
            number = len(self.cattle) + 1
            self.cattle.append({"id": number, "name": f"No. {number}", "weight": number / 2})


@contextmanager
def kraal() -> Iterator[Kraal]:
    """The vendor, whose hosts are the first part of the path, as in the sandbox."""
    vendor = Kraal()
    vendor.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body, headers = _answer(vendor, self.path, self.headers.get("x-key"))
            content = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    vendor.origin = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield vendor
    finally:
        vendor.gate.set()
        server.shutdown()
        server.server_close()
        thread.join(10)


def _answer(vendor: Kraal, path: str, key: str | None) -> tuple[int, Any, dict[str, str]]:
    parts = urlsplit(path)
    if parts.path == "/_control":
        return 200, {}, {}
    vendor.asked.append(parts.path)
    if vendor.redirect:
        return 302, {}, {"location": vendor.redirect}
    if key is not None:
        vendor.keys.add(key)
    host, _, rest = parts.path.lstrip("/").partition("/")
    if host != f"{FARM}.kraal.example" or not rest.endswith("/cattle"):
        return 404, {"error": "there is no such farm"}, {}
    if key != vendor.key:
        return 401, {"error": f"the key {key} is not known"}, {}
    query = dict(parse_qsl(parts.query))
    offset, limit = int(query.get("offset", 0)), int(query.get("limit", PAGE))
    if offset:
        vendor.waiting.set()
        vendor.gate.wait(60)
    return 200, {"items": vendor.cattle[offset : offset + limit]}, {}
