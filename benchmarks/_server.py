"""The page server: every answer is rendered before the first request, head and body as one.

A process of its own, so that what it costs is not counted with what it serves.
"""

import argparse
import asyncio
import json
import random
import sys
from datetime import UTC, datetime, timedelta

import orjson

from benchmarks._vendor import PATH

RECORD_BYTES = 1024
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)
_WORDS = (
    "order", "invoice", "Zürich", "follow-up", "call", "renewal", 'the "big" one', "draft", "Åsa",
    "contract", "quote", "meeting", "naïve", "paid", "shipped", "line one\nline two", "pending",
)  # fmt: skip


def record(number: int, chance: random.Random) -> dict[str, object]:
    """A record as CRMs have them, of 1 KB as JSON: text, numbers, nothing at all, a nested part."""
    updated_at = _FIRST + timedelta(seconds=number)
    properties: dict[str, object] = {
        "name": f"Customer {number}",
        "email": f"customer-{number}@example.test",
        "amount": round(chance.uniform(1, 100_000), 2),
        "stage": chance.choice(("new", "open", "won", "lost")),
        "phone": f"+41 44 {number:07d}",
        "owner_id": chance.randrange(10**9),
        "closed_at": None,
        "archived": False,
        "tags": chance.sample(_WORDS, 4),
        "address": {"street": f"Bahnhofstrasse {number % 300}", "city": "Zürich", "zip": "8001"},
        "notes": "",
    }
    made: dict[str, object] = {
        "id": str(number),
        "createdAt": _FIRST.isoformat().replace("+00:00", "Z"),
        "updatedAt": updated_at.isoformat().replace("+00:00", "Z"),
        "properties": properties,
    }
    room = RECORD_BYTES - len(orjson.dumps(made))
    text = " ".join(chance.choices(_WORDS, k=room // 4))
    while len(orjson.dumps(text)) - 2 > room:
        text = text[: room - len(orjson.dumps(text)) + 2]
    properties["notes"] = text + "." * (room - len(orjson.dumps(text)) + 2)
    return made


def pages(records: int, page_size: int) -> dict[bytes, bytes]:
    """Request target -> whole answer; one more page, which is empty, follows the last record."""
    chance = random.Random(1)
    answers = {}
    for after in [*range(0, records, page_size), records]:
        until = min(after + page_size, records)
        body = orjson.dumps(
            {
                "items": [record(number, chance) for number in range(after + 1, until + 1)],
                "next": until,
                "more": until < records,
            }
        )
        head = (
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        answers[f"{PATH}?after={after}".encode()] = head.encode() + body
    return answers


class PageServer(asyncio.Protocol):
    """Answers each request after the latency; knows nothing of HTTP but the request line."""

    def __init__(self, answers: dict[bytes, bytes], latency: float) -> None:
        self._answers = answers
        self._latency = latency
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            answer = self._answers.get(
                head.split(b" ", 2)[1], b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
            )
            if self._latency:
                asyncio.get_running_loop().call_later(self._latency, self._transport.write, answer)
            else:
                self._transport.write(answer)


async def serve(records: int, page_size: int, latency: float) -> None:
    answers = pages(records, page_size)
    server = await asyncio.get_running_loop().create_server(
        lambda: PageServer(answers, latency), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    sys.stdout.write(json.dumps({"origin": f"http://127.0.0.1:{port}"}) + "\n")
    sys.stdout.flush()
    async with server:
        await asyncio.to_thread(sys.stdin.read)  # until whoever started us is gone


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--page-size", type=int, required=True)
    parser.add_argument("--latency", type=float, required=True)
    asyncio.run(serve(**vars(parser.parse_args())))
