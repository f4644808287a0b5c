"""The one door to a vendor's HTTP API: drives readers, and keeps the rules that all calls obey.

A token leaves only for the hosts its connector names, over https. What passes by itself is tried
again; what does not is raised as an error of `connectors.kernel.errors`, whose text holds no
token, no body and no query.
"""

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlencode

import httpx  # noqa: TID251 - here, and nowhere else

from connectors.kernel.body import parse_json, read_body
from connectors.kernel.budget import Budget, Scope
from connectors.kernel.clock import SYSTEM_CLOCK, Clock
from connectors.kernel.connector import Connector
from connectors.kernel.errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors.kernel.feeds import EventBatch, Listener
from connectors.kernel.hosts import allowed_hosts, filled
from connectors.kernel.messages import Page, Params, Reader, Request, Response
from connectors.kernel.retry import MalformedError, Patience
from connectors.kernel.rounds import Rounds
from connectors.kernel.statuses import PARSE_ERRORS, error_by_status, retry_after, unreadable

USER_AGENT = "atom-sync/0.1"
REQUEST_IDS = ("x-request-id", "x-hubspot-correlation-id", "intuit_tid", "request-id")

# Their INFO and DEBUG lines hold URLs and headers.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

T = TypeVar("T")
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,40}")
# What is asked for as bytes comes as bytes.
_BYTES = "application/octet-stream"
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_REQUEST_ID = re.compile(r"[\w:.-]{1,80}")


class Transport:
    """The process's pooled connections. `sandbox_url` sends every vendor's calls there instead."""

    def __init__(
        self,
        *,
        sandbox_url: str | None = None,
        timeout: timedelta = timedelta(seconds=30),
        max_body: int = 64 * 2**20,
        connections: int = 100,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.sandbox_url = sandbox_url.rstrip("/") if sandbox_url else None
        self.clock = clock
        self._max_body = max_body
        # A vendor that sends a byte now and then never times out; this ends that as well.
        self._deadline = timeout.total_seconds() * 4
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout.total_seconds(), pool=None),
            limits=httpx.Limits(
                max_connections=connections, max_keepalive_connections=connections // 2
            ),
            headers={"user-agent": USER_AGENT, "accept-encoding": "gzip"},
            # The connections are shared by all tenants; a cookie would be, too.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # A proxy that the environment names cannot reach the sandbox on loopback.
            trust_env=self.sandbox_url is None,
        )

    async def close(self) -> None:
        await self._http.aclose()

    def vendor_url(self, url: str) -> str:
        """The vendor's own URL of a link that may lead into the sandbox."""
        if self.sandbox_url and url.startswith(f"{self.sandbox_url}/"):
            return f"https://{url.removeprefix(self.sandbox_url).lstrip('/')}"
        return url

    def address(self, url: str) -> str:
        """Where a call to this URL of a vendor is really sent."""
        if self.sandbox_url and url.startswith("https://"):
            return f"{self.sandbox_url}/{url.removeprefix('https://')}"
        return url

    async def call(
        self,
        title: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        cookies: httpx.Cookies | None = None,
    ) -> Response:
        """One call and its answer, of whatever status; the URL must have been checked."""
        sent_at = self.clock.now()
        try:
            async with asyncio.timeout(self._deadline):
                return await self._call(title, method, url, headers, content, cookies, sent_at)
        except TimeoutError as error:
            raise ProviderUnavailableError(f"{title} did not finish its answer in time") from error
        except httpx.TimeoutException as error:
            raise ProviderUnavailableError(f"{title} did not answer in time") from error
        except httpx.RemoteProtocolError:
            # The text of a protocol error may quote what was sent or received: it is not chained.
            raise ProviderUnavailableError(f"{title} cut its answer short") from None
        except (
            httpx.LocalProtocolError,
            httpx.UnsupportedProtocol,
            httpx.InvalidURL,
            UnicodeError,
        ):
            raise ContractError(f"the request for {title} cannot be sent as it is") from None
        except httpx.TransportError as error:
            name = type(error).__name__
            raise ProviderUnavailableError(f"{title} could not be reached ({name})") from error

    async def _call(
        self,
        title: str,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        cookies: httpx.Cookies | None,
        sent_at: datetime,
    ) -> Response:
        request = self._http.build_request(
            method, self.address(url), headers=dict(headers), content=content
        )
        if cookies is not None:
            cookies.set_cookie_header(request)
        answer = await self._http.send(request, stream=True, follow_redirects=False)
        if cookies is not None:
            cookies.extract_cookies(answer)
        try:
            encoding = answer.headers.get("content-encoding", "").strip().lower()
            body = await read_body(answer.aiter_raw(), encoding, self._max_body, title)
        finally:
            await answer.aclose()
        raw = _is_raw(headers, answer)
        return Response(
            status=answer.status_code,
            headers=dict(answer.headers),
            json=None if raw else _parse(body, answer, title),
            url=url,
            sent_at=sent_at,
            content=body if raw else b"",
        )


def _is_raw(headers: Mapping[str, str], answer: httpx.Response) -> bool:
    """Whether the bytes were asked for: of a file always, of CSV unless it is an error instead."""
    accept = headers.get("accept")
    return accept == _BYTES or (accept == "text/csv" and answer.is_success)


def _parse(body: bytes, answer: httpx.Response, title: str) -> Any:
    try:
        return parse_json(body)
    except ValueError:
        if not answer.is_success:
            return None
        media = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not _MEDIA_TYPE.fullmatch(media):
            media = "an unknown type"
        what = "malformed JSON" if media.endswith("json") else f"{media} instead of JSON"
        # Not chained: the parser's error holds the whole body.
        raise MalformedError(f"{title} answered with {what}") from None


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
        self._transport = transport
        self._clock = transport.clock
        self._config = config
        self._token = token
        self._budget = budget
        self._cookies = httpx.Cookies() if keeps_cookies else None
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
                    request = steps.send(answer)
                except StopIteration as stop:
                    result: T = stop.value
                    return result
                except PARSE_ERRORS as error:
                    raise unreadable(self.connector.title, error) from error
                answer = await self.send(request)
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
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, request: Request, url: str) -> Response:
        patience = Patience()
        renewed: str | None = None
        if request.renews:
            renewed = await self._token(True)
            url = self._url(request)
        while True:
            await self._budget.spend(self.connector, self.account_id, request)
            # Not before the wait for room, which may outlast a token.
            bearer = renewed or await self._token(False)
            outcome = await self._attempt(request, url, bearer)
            if isinstance(outcome, Response):
                return outcome
            error, requested_pause = outcome.error, outcome.retry_after
            is_refusal = isinstance(error, BrokenConnectionError) and not error.may_pass
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
            headers["accept"] = _BYTES
        elif self.connector.auth_header == "authorization":
            headers["authorization"] = f"Bearer {bearer}"
        else:
            headers[self.connector.auth_header] = bearer
        content: bytes | None = None
        if request.form is not None:
            content = urlencode(request.form).encode()
            headers.setdefault("content-type", "application/x-www-form-urlencoded")
        elif request.json is not None:
            content = json.dumps(request.json).encode()
            headers.setdefault("content-type", "application/json")
        self.requests += 1
        return await self._transport.call(
            self.connector.title, request.method, url, headers, content, self._cookies
        )

    async def _renew(self, refused: str) -> str:
        # Requests that run side by side are refused together; one refresh serves them all.
        async with self._renewal:
            current = await self._token(False)
            return current if current != refused else await self._token(True)

    def _judge(self, request: Request, response: Response) -> ConnectorError | None:
        try:
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
            check_host(self.connector.title, url, self.connector.files)
            return url
        url = _with_params(url, {**params, **request.params})
        check_host(self.connector.title, url, allowed_hosts(self.connector, base))
        return url

    def _filled(self, template: str, *, strict: bool = True) -> str:
        return filled(self.connector, template, self.account_id, self._config, strict=strict)


@dataclass(frozen=True)
class _Failure:
    error: ConnectorError
    status: int = 0
    retry_after: timedelta | None = None


def check_host(title: str, url: str, allowed: tuple[str, ...]) -> None:
    """ContractError unless a secret may be sent to this URL; allowed are hosts, and https URLs."""
    try:
        # Parsed by what sends it: where two parsers differ there is a way around a check.
        parsed = httpx.URL(url)
        hosts = {httpx.URL(name).netloc if "://" in name else name.encode() for name in allowed}
    except httpx.InvalidURL:
        raise ContractError(f"{title}: a link is not a URL") from None
    if parsed.scheme != "https":
        raise ContractError(f"{title}: a link is not https")
    if parsed.userinfo or parsed.netloc not in hosts:
        raise ContractError(f"{title}: a link leads to a host that no token may go to")


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
