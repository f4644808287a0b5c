"""One HTTP call to a vendor, and whom a secret may go to: all that knows httpx.

The errors that it raises hold no token, no body and no query.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache, cached_property
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx  # noqa: TID251 - here, and nowhere else

from connectors.kernel.addresses import PublicOnly
from connectors.kernel.body import parse_json, read_body
from connectors.kernel.clock import SYSTEM_CLOCK, Clock
from connectors.kernel.errors import ContractError, ProviderUnavailableError
from connectors.kernel.messages import Response
from connectors.kernel.retry import MalformedError

USER_AGENT = "atom-sync/0.1"

# Their INFO and DEBUG lines hold URLs and headers.
for _name in ("httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,40}")
# What is asked for as bytes comes as bytes.
BYTES = "application/octet-stream"
Cookies = httpx.Cookies


class Transport:
    """The process's pooled connections. `sandbox_url` sends every vendor's calls there instead.

    With `only_public` it calls hosts whose names come from outside: at public addresses, straight
    and through no proxy, which would look a name up itself.
    """

    def __init__(
        self,
        *,
        sandbox_url: str | None = None,
        timeout: timedelta = timedelta(seconds=30),
        max_body: int = 64 * 2**20,
        connections: int = 100,
        clock: Clock = SYSTEM_CLOCK,
        only_public: bool = False,
    ) -> None:
        self.sandbox_url = sandbox_url.rstrip("/") if sandbox_url else None
        self.clock = clock
        self._max_body = max_body
        self._timeout = timeout
        # A vendor that sends a byte now and then never times out; this ends that as well.
        self._deadline = timeout.total_seconds() * 4
        limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections // 2
        )
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout.total_seconds(), pool=None),
            limits=limits,
            transport=_OnlyPublic(limits) if only_public else None,
            headers={"user-agent": USER_AGENT, "accept-encoding": "gzip"},
            # The connections are shared by all tenants; a cookie would be, too.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # A proxy that the environment names cannot reach the sandbox on loopback.
            trust_env=self.sandbox_url is None and not only_public,
            verify=_trusted(),
        )

    @cached_property
    def to_strangers(self) -> "Transport":
        """For hosts whose names a tenant filled in. In the sandbox all are on loopback, and it is
        this one."""
        if self.sandbox_url is not None:
            return self
        return Transport(
            timeout=self._timeout, max_body=self._max_body, clock=self.clock, only_public=True
        )

    async def close(self) -> None:
        await self._http.aclose()
        strangers = self.__dict__.get("to_strangers", self)
        if strangers is not self:
            await strangers.close()

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
        cookies: Cookies | None = None,
        raw: bool = False,
    ) -> Response:
        """One call and its answer, of whatever status; the URL must have been checked."""
        sent_at = self.clock.now()
        try:
            async with asyncio.timeout(self._deadline):
                return await self._call(title, method, url, headers, content, cookies, sent_at, raw)
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
        cookies: Cookies | None,
        sent_at: datetime,
        raw: bool,
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
        raw = _is_raw(headers, answer) or (raw and answer.is_success)
        return Response(
            status=answer.status_code,
            headers=dict(answer.headers),
            json=None if raw else _parse(body, answer, title),
            url=url,
            sent_at=sent_at,
            content=body if raw else b"",
        )


class _OnlyPublic(httpx.AsyncHTTPTransport):
    """HTTPX's own, but for the network below it, which its constructor does not take (0.28)."""

    def __init__(self, limits: httpx.Limits) -> None:
        super().__init__(limits=limits)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_trusted(),
            max_connections=limits.max_connections,
            max_keepalive_connections=limits.max_keepalive_connections,
            keepalive_expiry=limits.keepalive_expiry,
            network_backend=PublicOnly(),
        )


def _is_raw(headers: Mapping[str, str], answer: httpx.Response) -> bool:
    """Whether the bytes were asked for: of a file always, of CSV unless it is an error instead."""
    accept = headers.get("accept")
    return accept == BYTES or (accept == "text/csv" and answer.is_success)


@cache
def _trusted() -> ssl.SSLContext:
    """The certificates that a vendor's may be signed by: read once, for that takes 26 ms."""
    return httpx.create_ssl_context()


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
