"""A vendor of one plain listing, whose answers are there before anybody asks: to measure speed."""

import json
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tests.referees.player.calls import Answer, Call
from tests.referees.player.vendor import FIRST

PAGES, SIZE = 40, 500
RECORDS = PAGES * SIZE + 1

MANIFEST = f"""
version: 6.48.0
type: DeclarativeSource
check: {{type: CheckStream, stream_names: [rows]}}
streams:
  - type: DeclarativeStream
    name: rows
    primary_key: id
    retriever:
      type: SimpleRetriever
      requester:
        type: HttpRequester
        url_base: https://plain.example/
        path: rows
        authenticator: {{type: BearerAuthenticator, api_token: "{{{{ config['token'] }}}}"}}
      paginator:
        type: DefaultPaginator
        page_token_option:
          {{type: RequestOption, inject_into: request_parameter, field_name: page}}
        page_size_option:
          {{type: RequestOption, inject_into: request_parameter, field_name: limit}}
        pagination_strategy: {{type: PageIncrement, page_size: {SIZE}}}
      record_selector:
        type: RecordSelector
        extractor: {{type: DpathExtractor, field_path: [data, rows]}}
    schema_loader:
      type: InlineSchemaLoader
      schema: {{type: object, properties: {{id: {{type: integer}}}}}}
spec:
  type: Spec
  connection_specification: {{type: object, properties: {{token: {{type: string}}}}}}
"""


class Plain:
    """Answers each page with records of ten fields."""

    def __init__(self) -> None:
        self.now = FIRST
        self.config: Mapping[str, Any] = {"token": "made-up"}
        self.unplayable: dict[str, str] = {}
        assert self._bodies

    @cached_property
    def _bodies(self) -> list[bytes]:
        return [
            json.dumps(
                {"data": {"rows": [_row(page * SIZE + one) for one in range(count)]}}
            ).encode()
            for page, count in enumerate([SIZE] * PAGES + [1])
        ]

    def begin(self) -> None:
        """It counts no calls."""

    def add(self, streams: list[Any]) -> None:
        """There is nothing but the one listing."""

    def is_token(self, call: Call) -> bool:
        return False

    def answer(self, call: Call) -> Answer:
        page = int(dict(call.query).get("page", "0"))
        return Answer(200, {"Content-Type": "application/json"}, self._bodies[page])


def _row(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "name": f"Row {number}",
        "email": f"row.{number}@acme.example",
        "amount": number / 7,
        "open": bool(number % 2),
        "owner": {"id": number % 50, "name": f"Owner {number % 50}"},
        "tags": ["one", "two", f"of {number % 9}"],
        "created": "2026-02-03T04:05:06Z",
        "updated": "2026-03-04T05:06:07Z",
        "note": None,
    }
