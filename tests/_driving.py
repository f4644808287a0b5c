"""Drives a reader by next() and send(), with a function that plays the vendor."""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

from connectors import (
    Checkpoint,
    ConnectorError,
    Context,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Stream,
)
from connectors.kernel.rounds import Rounds

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)

Answer: TypeAlias = Callable[[Request], Response]


def response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer; bytes are those of a file."""
    raw = isinstance(body, bytes)
    return Response(
        status=status,
        headers=headers or {},
        json=None if raw else body,
        url="https://made-up.test",
        sent_at=NOW,
        content=body if raw else b"",
    )


def drive(
    read: Callable[[Checkpoint, Context], Reader],
    answer: Answer,
    at: Mapping[str, Any] | None = None,
    *,
    now: datetime = NOW,
    before: Mapping[str, Any] | None = None,
) -> list[Page]:
    """All pages of a read from that checkpoint, which is saved as JSON before.

    `answer` raises what the client would raise: it is raised in the reader, as the client does.
    """
    saved = Checkpoint(json.loads(json.dumps(at or {})))
    reader = read(saved, Context(now=now, account_id="acme", before=before or {}))
    pages: list[Page] = []
    rounds = Rounds()
    sent: Any = None
    while True:
        try:
            action = reader.throw(sent) if isinstance(sent, ConnectorError) else reader.send(sent)
        except StopIteration:
            return pages
        if isinstance(action, Page):
            try:
                rounds.came(action)
            except ConnectorError as error:
                sent = error
                continue
            pages.append(action)
            sent = None
            continue
        asked = action if isinstance(action, tuple) else (action,)
        try:
            answers = tuple(_answered(answer, request) for request in asked)
            for request, found in zip(asked, answers, strict=True):
                rounds.answered(request, found)
        except ConnectorError as error:
            sent = error
        else:
            sent = answers if isinstance(action, tuple) else answers[0]


def _answered(answer: Answer, request: Request) -> Response:
    found = answer(request)
    # The client hands on good answers, and those that the reader expects.
    assert 200 <= found.status < 300 or found.status in request.expect, (
        request.path,
        found.status,
    )
    return found


def held(
    stream: Stream, pages: Sequence[Page], former: Mapping[str, Record] | None = None
) -> dict[str, Record]:
    """What is held of a stream after those pages, one after the other."""
    records = dict(former or {})

    def key_of(record: Record) -> str:
        return str(stream.key(record) if callable(stream.key) else record[stream.key])

    for page in pages:
        for record in page.records:
            records[key_of(record)] = record
        for record in page.partial:
            if (key := key_of(record)) in records:
                records[key] = {**records[key], **record}
        gone = {*page.deleted, *page.merged}
        if not stream.keeps_hidden:
            gone |= set(page.hidden)
        for listing in page.listed_keys:
            if listing.hidden and stream.keeps_hidden:
                continue
            gone |= {
                key for key in records if key.startswith(listing.prefix) and key not in listing.keys
            }
        records = {key: record for key, record in records.items() if key not in gone}
    return records
