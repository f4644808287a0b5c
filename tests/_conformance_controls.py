"""What the promises order of a sandbox, and its clock, by which the kernel lives too."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls

from connectors.kernel.clock import Clock


@dataclass
class Controls:
    """The sandbox's controls, over one connection that stays open."""

    origin: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.http.close()

    def __call__(self, path: str, body: Any = None, **query: str) -> Any:
        """What a control answers: POST with a body, GET without one."""
        return self._ask("GET" if body is None else "POST", path, body, query).json()

    def clear(self, path: str) -> Any:
        return self._ask("DELETE", path, None, {}).json()

    def _ask(self, method: str, path: str, body: Any, query: dict[str, str]) -> httpx.Response:
        answer = self.http.request(method, f"{self.origin}/_control{path}", json=body, params=query)
        answer.raise_for_status()
        return answer


class SandboxClock(Clock):
    """The sandbox's clock, by which the kernel lives too: to sleep is to move it forward."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._ahead = timedelta()
        self._stopped_at: datetime | None = None
        self.slept = 0.0

    def now(self) -> datetime:
        return (self._stopped_at or datetime.now(UTC)) + self._ahead

    async def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.advance(timedelta(seconds=seconds))

    def advance(self, time: timedelta) -> None:
        self._ahead += time
        self._controls("/clock", {"advance": time.total_seconds()})

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """No time passes but what is slept: how fast this machine is does not count."""
        self._stopped_at = datetime.now(UTC)
        self._controls("/clock", {"stopped": True})
        try:
            yield
        finally:
            self._ahead -= datetime.now(UTC) - self._stopped_at
            self._stopped_at = None
            self._controls("/clock", {"stopped": False})
