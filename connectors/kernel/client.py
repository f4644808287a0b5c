"""The one door to a vendor's HTTP API: drives readers, and keeps the rules that all calls obey.

A token leaves only for the hosts its connector names, over https. What passes by itself is tried
again; what does not is raised as an error of `connectors.kernel.errors`, whose text holds no
token, no body and no query.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

from connectors.kernel.auth import SettingsForm
from connectors.kernel.budget import Budget, Scope
from connectors.kernel.cancellation import end
from connectors.kernel.connector import Connector
from connectors.kernel.errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors.kernel.feeds import EventBatch, Listener
from connectors.kernel.hosts import allowed_hosts, file_hosts, filled
from connectors.kernel.messages import Page, Params, Reader, Request, Response
from connectors.kernel.retry import Patience
from connectors.kernel.rounds import Rounds
from connectors.kernel.statuses import PARSE_ERRORS, error_by_status, retry_after, unreadable
from connectors.kernel.transport import BYTES, Cookies
from connectors.kernel.transport import Transport as Transport
from connectors.kernel.transport import check_host as check_host

REQUEST_IDS = ("x-request-id", "x-hubspot-correlation-id", "intuit_tid", "request-id")

T = TypeVar("T")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[\w:.-]{1,80}")


class Client:
    """Speaks to one vendor for one connection. `token(True)` asks for a token refreshed just now,
    because the vendor refused the former one. `keeps_cookies`: what it sets goes back to it."""

    def __init__(
        self,
        connector: Connector,
        *,
        transport: Transport,
        account_id: str,
        config: Mapping[str, Any],
        token: Callable[[bool], Awaitable[str]],
        budget: Budget,
        keeps_cookies: bool = False,
    ) -> None:
        self.connector: Final = connector
        self.account_id: Final = account_id
        self.requests = 0
        filled_in = isinstance(connector.auth, SettingsForm)
        self._transport = transport.to_strangers if filled_in else transport
        self._clock = transport.clock
        self._config = config
        self._token = token
        self._budget = budget
        self._cookies = Cookies() if keeps_cookies else None
        self._slots = asyncio.Semaphore(connector.concurrency)
        self._renewal = asyncio.Lock()

    def now(self) -> datetime:
        """The time by which it is noted when requests are sent."""
        return self._clock.now()

    async def read(self, reader: Reader) -> AsyncGenerator[tuple[Page, datetime], None]:
        """The reader's pages, each with the time that what it shows was true for certain."""
        observed_at = self._clock.now()
        sent_at: datetime | None = None
        answer: Any = None
        rounds = Rounds()
        try:
            while True:
                action = self._advance(reader, answer)
                if action is None:
                    return
                if isinstance(action, Page):
                    try:
                        rounds.came(action)
                    except ContractError as error:  # a part that goes round leaves the others
                        answer = error
                        continue
                    observed_at, sent_at, answer = sent_at or observed_at, None, None
                    yield action, observed_at
                    continue
                batch = action if isinstance(action, tuple) else (action,)
                began = self._clock.now()
                try:
                    responses = await self._send_all(batch)
                    for request, response in zip(batch, responses, strict=True):
                        rounds.answered(request, response)
                except ConnectorError as error:
                    answer, times = error, [began]
                else:
                    answer = responses if isinstance(action, tuple) else responses[0]
                    times = [response.sent_at for response in responses]
                sent_at = min(times if sent_at is None else [sent_at, *times], default=sent_at)
        finally:
            reader.close()

    async def run(self, steps: Generator[Request, Response, T]) -> T:
        """Send what the generator asks for, one after the other, and return its result."""
        answer: Any = None
        try:
            while True:
                try:
                    failed = isinstance(answer, ConnectorError)
                    request = steps.throw(answer) if failed else steps.send(answer)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                except PARSE_ERRORS as error:
                    raise unreadable(self.connector.title, error) from error
                try:
                    answer = await self.send(request)
                except ConnectorError as error:  # raised where it was asked for
                    answer = error
        finally:
            steps.close()

    async def listen(self, listener: Listener) -> AsyncGenerator[EventBatch, None]:
        """What comes of listening, for as long as that goes."""
        answer: Response | None = None
        try:
            while True:
                action = self._advance(listener, answer)
                answer = None
                if action is None:
                    return
                if isinstance(action, EventBatch):
                    yield action
                elif isinstance(action, timedelta):
                    await self._clock.sleep(action.total_seconds())
                else:
                    answer = await self.send(action)
        finally:
            listener.close()

    async def send(self, request: Request) -> Response:
        """The answer to a request, once it is a good one or one that the request expects."""
        url = self._url(request)
        async with self._slots:
            return await self._send(request, url)

    def _advance(self, steps: Generator[T, Any, None], answer: Any) -> T | None:
        """What the generator does next. An error is raised in it, and passes unless caught."""
        try:
            if isinstance(answer, ConnectorError):
                return steps.throw(answer)
            return steps.send(answer)
        except StopIteration:
            return None
        except PARSE_ERRORS as error:
            raise unreadable(self.connector.title, error) from error

    async def _send_all(self, requests: tuple[Request, ...]) -> tuple[Response, ...]:
        if len(requests) == 1:
            return (await self.send(requests[0]),)
        tasks = [asyncio.ensure_future(self.send(request)) for request in requests]
        try:
            return tuple(await asyncio.gather(*tasks))
        finally:
            await end(*tasks)

    async def _send(self, request: Request, url: str) -> Response:
        patience = Patience()
        renewed: str | None = None
        if request.renews:
            renewed = await self._token(True)
            url = self._url(request)
        while True:
            await self._budget.spend(self.connector, self.account_id, request)
            # Not before the wait for room, which may outlast a token.
            bearer = renewed or await self._bearer()
            outcome = await self._attempt(request, url, bearer)
            if isinstance(outcome, Response):
                return outcome
            error, requested_pause = outcome.error, outcome.retry_after
            is_refusal = isinstance(error, BrokenConnectionError) and not error.may_pass
            is_refusal = is_refusal and not isinstance(self.connector.auth, SettingsForm)
            if is_refusal and not renewed:
                renewed = await self._renew(bearer)
                url = self._url(request)  # the account may have been moved: the token call says so
            elif isinstance(error, RateLimitedError):
                pause = patience.after_rate_limit(error, requested_pause)
                await self._close_budget(request, pause)
                if not patience.worth_waiting(pause):
                    error.retry_after = pause
                    raise error
            elif error.may_pass:
                pause = patience.after_failure(error, requested_pause)
                await self._clock.sleep(pause.total_seconds())
            elif isinstance(error, BrokenConnectionError):
                raise error.lasting or error
            else:
                raise error

    async def _attempt(self, request: Request, url: str, bearer: str) -> "Response | _Failure":
        try:
            response = await self._call(request, url, bearer)
        except ProviderUnavailableError as failure:
            return _Failure(failure)
        error = self._judge(request, response)
        if error is None:
            return response
        for name in REQUEST_IDS:  # a vendor's support asks for it
            if _REQUEST_ID.fullmatch(value := response.headers.get(name, "")):
                error.add_note(f"{name}: {value}")
        return _Failure(error, response.status, retry_after(response, self._clock.now()))

    async def _call(self, request: Request, url: str, bearer: str) -> Response:
        headers = {"accept": "application/json", **self.connector.headers, **request.headers}
        if request.file:
            headers["accept"] = BYTES
        elif isinstance(self.connector.auth, SettingsForm):
            pass  # the reader itself sends what the settings hold
        elif self.connector.auth_header == "authorization":
            headers["authorization"] = f"{self.connector.auth_scheme} {bearer}"
        else:
            headers[self.connector.auth_header] = bearer
        content: bytes | None = None
        if request.form is not None:
            content = urlencode(request.form).encode()
            headers.setdefault("content-type", "application/x-www-form-urlencoded")
        elif request.text is not None:
            content = request.text.encode()
        elif request.json is not None:
            content = json.dumps(request.json).encode()
            headers.setdefault("content-type", "application/json")
        self.requests += 1
        return await self._transport.call(
            self.connector.title, request.method, url, headers, content, self._cookies, request.raw
        )

    async def _bearer(self) -> str:
        return "" if isinstance(self.connector.auth, SettingsForm) else await self._token(False)

    async def _renew(self, refused: str) -> str:
        # Requests that run side by side are refused together; one refresh serves them all.
        async with self._renewal:
            current = await self._token(False)
            return current if current != refused else await self._token(True)

    def _judge(self, request: Request, response: Response) -> ConnectorError | None:
        try:
            if request.judge is not None:
                return request.judge(response)
            error = self.connector.classify(response)
        except PARSE_ERRORS as failure:
            return unreadable(self.connector.title, failure)
        if response.status in request.expect:
            return error if error is not None and error.may_pass else None
        return error or error_by_status(self.connector.title, _where(request), response)

    async def _close_budget(self, request: Request, pause: timedelta) -> None:
        limits = [limit for limit in self.connector.rate_limits if limit.name == request.budget]
        app_wide = limits and all(limit.scope == "app" for limit in limits)
        scope: Scope = "app" if app_wide else "account"
        await self._budget.close_until(
            self.connector, self.account_id, pause, scope, budget=request.budget
        )

    def _url(self, request: Request) -> str:
        """The URL to call, proven to be one that our token may go to."""
        path = self._filled(request.path) if request.path.startswith("{") else request.path
        if _ABSOLUTE.match(path):
            base = self._filled(self.connector.base_url, strict=False)
            url = self._transport.vendor_url(path).partition("#")[0]
            known = {name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)}
            params = {k: v for k, v in self.connector.params.items() if k not in known}
        else:
            base = self._filled(self.connector.base_url)
            url = base.rstrip("/") + "/" + self._filled(path).lstrip("/")
            params = dict(self.connector.params)
        if request.file:
            check_host(self.connector.title, url, file_hosts(self.connector, url))
            return url
        url = _with_params(url, {**params, **request.params})
        check_host(self.connector.title, url, allowed_hosts(self.connector, base, self._config))
        return url

    def _filled(self, template: str, *, strict: bool = True) -> str:
        return filled(self.connector, template, self.account_id, self._config, strict=strict)


@dataclass(frozen=True)
class _Failure:
    error: ConnectorError
    status: int = 0
    retry_after: timedelta | None = None


def _with_params(url: str, params: Params) -> str:
    if not params:
        return url
    pairs: list[tuple[str, str]] = []
    for name, value in params.items():
        values = [value] if isinstance(value, str | int) else value
        pairs += [
            (name, str(item).lower() if isinstance(item, bool) else str(item)) for item in values
        ]
    separator = "&" if "?" in url else "?"
    return f"{url}{separator}{urlencode(pairs, quote_via=quote)}"


def _where(request: Request) -> str:
    """Names the request by our own path; a link that the vendor made may hold what is not ours."""
    path = (
        "a link of its own"
        if _ABSOLUTE.match(request.path)
        else request.path.partition("?")[0][:120]
    )
    return f"{request.method} {path}"
