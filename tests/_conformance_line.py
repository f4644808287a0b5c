"""What the promises look on at: the line to a vendor, and the budget that is spent on it."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from connectors import Connector, RateLimitedError, Request, Response
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.clock import Clock


class Line(Transport):
    """The transport, which notes what is asked of a vendor with its token and what comes back.

    `before` is called with the number of each such request, from 0, just before it is sent.
    """

    connector: Connector
    asked: int
    hosts: set[str]
    limited: int
    before: Callable[[int], None]
    circles: bool = False

    def follow(self, connector: Connector, before: Callable[[int], None] | None = None) -> None:
        """Starts to note anew."""
        self.connector = connector
        self.asked = self.limited = 0
        self.hosts = set()
        self.before = before or (lambda number: None)
        self._first: dict[str, list[Response]] = {}

    async def call(
        self,
        title: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        cookies: Any = None,
        raw: bool = False,
    ) -> Response:
        name = self.connector.auth_header
        carried = headers.get(name, "")
        scheme = f"{self.connector.auth_scheme} " if name == "authorization" else ""
        ours = bool(carried) and carried.startswith(scheme)
        if ours:
            self.hosts.add(urlsplit(url).netloc)
            self.asked += 1
            self.before(self.asked - 1)
        if ours and self.circles and (again := self._again(url)) is not None:
            return again
        response = await super().call(title, method, url, headers, content, cookies, raw)
        if self.circles and response.status == 200:
            self._first.setdefault(urlsplit(url).path, []).append(response)
        if ours and self._is_refusal(response):
            self.limited += 1
        return response

    def _again(self, url: str) -> Response | None:
        """With `circles`: of each address only the first two pages ever come, in turn."""
        first = self._first.get(urlsplit(url).path, [])
        if len(first) < 2:
            return None
        first.append(first[len(first) % 2])
        return first[-1]

    def _is_refusal(self, response: Response) -> bool:
        told = self.connector.classify(response)
        return response.status == 429 or isinstance(told, RateLimitedError)


class Ledger(Budget):
    """A budget of this process that notes, of each named budget, what was spent in its units, in
    how many requests, and the most that one of them took."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(None, clock=clock)
        self.spent: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.dearest: Counter[str] = Counter()

    async def spend(self, connector: Connector, account_id: str, request: Request) -> None:
        await super().spend(connector, account_id, request)
        self.spent[request.budget] += request.cost
        self.requests[request.budget] += 1
        self.dearest[request.budget] = max(self.dearest[request.budget], request.cost)


def at(request: int, act: Callable[[], object]) -> Callable[[int], None]:
    """For `Line.before`: acts before the request of that number."""

    def before(number: int) -> None:
        if number == request:
            act()

    return before
