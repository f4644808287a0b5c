"""Drives a reader by next() and send(), with a function that plays the vendor."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from connectors import Checkpoint, Context, Page, Reader, Record, Request, Response, Stream

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)

Answer: TypeAlias = Callable[[Request], Response]


def response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        status=status, headers=headers or {}, json=body, url="https://made-up.test", sent_at=NOW
    )


def drive(
    read: Callable[[Checkpoint, Context], Reader],
    answer: Answer,
    at: Mapping[str, Any] | None = None,
    *,
    now: datetime = NOW,
) -> list[Page]:
    """All pages of a read from that checkpoint, which is saved as JSON before."""
    saved = Checkpoint(json.loads(json.dumps(at or {})))
    reader = read(saved, Context(now=now, account_id="acme"))
    pages: list[Page] = []
    sent: Any = None
    while True:
        try:
            action = reader.send(sent)
        except StopIteration:
            return pages
        if isinstance(action, Page):
            pages.append(action)
            sent = None
        elif isinstance(action, tuple):
            sent = tuple(_answered(answer, request) for request in action)
        else:
            sent = _answered(answer, action)


def _answered(answer: Answer, request: Request) -> Response:
    found = answer(request)
    # The client hands on good answers, and those that the reader expects.
    assert found.status in (200, 206) or found.status in request.expect, (
        request.path,
        found.status,
    )
    return found


def held(
    stream: Stream, pages: Sequence[Page], former: Mapping[str, Record] | None = None
) -> dict[str, Record]:
    """What is held of a stream after those pages, one after the other."""
    records = dict(former or {})
    for page in pages:
        for record in page.records:
            key = stream.key
            records[key(record) if callable(key) else record[key]] = record
        gone = set(page.deleted)
        for whole in page.whole:
            gone |= {
                key for key in records if key.startswith(whole.prefix) and key not in whole.keys
            }
        records = {key: record for key, record in records.items() if key not in gone}
    return records
