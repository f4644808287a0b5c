"""The web process that `benchmarks.webhooks` measures; says a line when it answers."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Sequence

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from storage.inbox import Arrival
from web import _door
from web.app import create_app


class _Bare:
    """The application, with an inbox that takes everything and stores nothing."""

    def __init__(self, app: ASGIApp, state: object) -> None:
        self._app, self._state = app, state

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self._state.ingress.inbox = self  # type: ignore[attr-defined]
        await self._app(scope, receive, send)

    async def store(self, arrivals: Sequence[Arrival]) -> None:
        return


def _accompany(server: uvicorn.Server) -> None:
    """Say that it answers, and end it with our input."""
    while not server.started:
        time.sleep(0.01)
    sys.stdout.write(json.dumps({"started": True}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.should_exit = True


def main() -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    app = create_app()
    served: ASGIApp = _Bare(app, app.state) if os.environ.get("BENCHMARK_BARE") else app
    server = uvicorn.Server(_door.config(served, port=int(sys.argv[1]), log_config=None))
    threading.Thread(target=_accompany, args=(server,), daemon=True).start()
    server.run()  # with uvloop, where it is installed, as the `uvicorn` command does


if __name__ == "__main__":
    main()
