"""The sandbox's HTTP client against servers that answer in every way there is, and in none."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from sandbox.kernel.sender import HttpSender
from sandbox.kernel.webhooks import AppResponse, CallbackFlow, Message
from tests._waiting import until

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Server:
    """Its address, what it was asked, and over how many connections."""

    url: str = ""
    asked: list[bytes] = field(default_factory=list)
    connections: int = 0


@asynccontextmanager
async def answering(raw: bytes, *, close: bool = False) -> AsyncIterator[Server]:
    """A server that answers every call with those bytes."""
    served = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                served.asked.append(head + await reader.readexactly(size))
                writer.write(raw)
                if close:
                    break
        except asyncio.IncompleteReadError:
            pass  # the client let go
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        served.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield served
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def posting() -> AsyncIterator[Callable[[Message], Awaitable[AppResponse]]]:
    post = HttpSender()
    try:
        yield lambda message: post.call(message, 60.0)
    finally:
        post.close()
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("raw", "status", "body"),
    [
        (HEAD + b"content-length: 4\r\n\r\nbody", 200, b"body"),
        (
            CHUNKED + b"2\r\nbo\r\n2;x=1\r\ndy\r\n0\r\n\r\n",
            200,
            b"body",
        ),
        (CHUNKED + b"0\r\nx-trailer: 1\r\n\r\n", 200, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + HEAD + b"content-length: 0\r\n\r\n", 200, b""),
        (b"HTTP/1.1 503 \r\ncontent-length: 0\r\n\r\n", 503, b""),
    ],
)
async def test_an_answer_is_read_to_its_end_and_the_connection_kept(
    raw: bytes, status: int, body: bytes
) -> None:
    async with answering(raw) as server, posting() as call:
        for number in (1, 2):
            answered = await call(Message(url=f"{server.url}/a?b=c", headers={"X-N": str(number)}))
            assert (answered.status, answered.body, answered.failure) == (status, body, "")
    assert [each.split(b"\r\n")[0] for each in server.asked] == [b"POST /a?b=c HTTP/1.1"] * 2
    assert b"x-n: 2" in server.asked[1]
    assert server.connections == 1


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    async with answering(HEAD + b"x-a: b\r\n\r\nall", close=True) as server, posting() as call:
        for _ in range(2):
            answered = await call(Message(url=server.url))
            assert (answered.status, answered.body) == (200, b"all")
            assert answered.headers == {"x-a": "b"}


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"nonsense\r\n\r\n",
        HEAD + b"content-length: 9\r\n\r\nshort",
        HEAD + b"content-length: -1\r\n\r\n",
        HEAD + b"content-length: 99999999999\r\n\r\n",
        CHUNKED + b"zz\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    ],
)
async def test_an_answer_that_is_none_is_a_failure(raw: bytes) -> None:
    async with answering(raw, close=True) as server, posting() as call:
        assert await call(Message(url=server.url)) == AppResponse(failure="connection")


@pytest.mark.parametrize(
    "message",
    [
        Message(url="http://127.0.0.1:9/", headers={"x": "a\r\nb: c"}),
        Message(url="http://127.0.0.1:9/", headers={"x": "日"}),
        Message(url="ftp://127.0.0.1:9/"),
        Message(url="http:///nowhere"),
    ],
)
async def test_what_cannot_be_said_in_http_is_not_sent(message: Message) -> None:
    async with posting() as call:
        assert await call(message) == AppResponse(failure="message")


async def test_a_connection_that_the_server_closed_is_not_used_again() -> None:
    raw = HEAD + b"content-length: 2\r\n\r\nok"
    post = HttpSender()

    def is_closed() -> bool:
        return all(line.reader.at_eof() for lines in post._idle.values() for line in lines)

    async with answering(raw, close=True) as server:
        for _ in range(3):
            assert (await post.call(Message(url=server.url), 60.0)).body == b"ok"
            await until(is_closed)
        post.close()
    assert server.connections == 3


async def test_a_generator_is_sent_what_its_calls_were_answered() -> None:
    def asking(url: str) -> CallbackFlow[list[int]]:
        first = yield Message(url=url)
        second = yield Message(url="http://127.0.0.1:9/")
        return [first.status, second.status]

    async with answering(HEAD + b"content-length: 0\r\n\r\n") as server:
        post = HttpSender()
        assert await post.answer(asking(server.url)) == [200, 0]
        post.close()
        await asyncio.sleep(0)
