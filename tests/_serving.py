"""Our own HTTP surface on a port of loopback, in the test's loop: asked over real HTTP."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn
from fastapi import FastAPI

from web import _door


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # they are the test runner's


@asynccontextmanager
async def serving(app: FastAPI, at: socket.socket | None = None) -> AsyncIterator[str]:
    """The app's origin, for as long as the block lasts; `at` is where it listens, if that had to be
    known before the app was made."""
    config = _door.config(app, port=0, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
    server = _Server(config)
    serve = asyncio.create_task(server.serve(sockets=None if at is None else [at]))
    try:
        while not server.started:
            if serve.done():
                serve.result()
                raise RuntimeError("the application did not start")
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serve
