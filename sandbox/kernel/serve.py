"""Runs the sandbox on a port: for good, or beside a test in a thread."""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from sandbox.kernel.world import World

# What uvicorn says when we cut an answer on purpose or leave a client that hung up.
ORDERED = ("ASGI callable returned without",)


class _Server(uvicorn.Server):
    """Leaves signals to its caller, and lets go of hanging requests when it stops."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        app = self.config.app
        if isinstance(app, Starlette):
            world: World = app.state.world
            await world.close()
        await super().shutdown(sockets)


def _unordered(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(ORDERED)


def _server(app: Starlette) -> _Server:
    logging.getLogger("uvicorn.error").addFilter(_unordered)
    return _Server(
        uvicorn.Config(
            app,
            access_log=False,
            log_level="warning",
            log_config=None,
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
        )
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends small writes at once (TCP_NODELAY) only where the protocol is named: without it
    # every answer waits 40 ms for the client's delayed ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.listen(512)
    return listening


async def serve(
    app: Starlette,
    host: str = "127.0.0.1",
    port: int = 0,
    ready: Callable[[int], None] = lambda port: None,
) -> None:
    """Serves until cancelled; `ready` is told the port once it is bound (0 picks a free one)."""
    listening = _listen(host, port)
    server = _server(app)
    serving = asyncio.create_task(server.serve([listening]))
    try:
        ready(listening.getsockname()[1])
        await asyncio.shield(serving)
    finally:
        server.should_exit = True
        await serving
        listening.close()


@contextlib.contextmanager
def run(app: Starlette, port: int = 0) -> Iterator[str]:
    """The app served from a thread for as long as the block lasts; gives its origin."""
    listening = _listen("127.0.0.1", port)
    server = _server(app)
    thread = threading.Thread(target=server.run, args=([listening],), name="sandbox", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listening.close()
