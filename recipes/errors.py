"""What an answer means: a manifest's error handlers, mapped to our errors by who must act."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Response,
)
from connectors.kernel.statuses import MAX_RETRY_AFTER, error_by_status, vendor_time
from recipes.datetimes import EPOCH
from recipes.macros import pattern
from recipes.manifest import Component, ManifestError, UnsupportedError, unsupported
from recipes.templates import ANSWER, CONFIG, Scope, Template
from recipes.values import Headers

ACTIONS = ("SUCCESS", "RETRY", "FAIL", "IGNORE", "RATE_LIMITED")
FAILURES = ("system_error", "config_error", "transient_error")
# Where a body says what went wrong, in the order in which it is looked for.
_MESSAGES = (
    *("message", "messages", "error", "errors", "failures", "failure", "detail", "err"),
    *("error_message", "msg", "reason", "status_message"),
)
_DEFAULTS = {408: "RETRY", 429: "RATE_LIMITED"}


@dataclass(frozen=True)
class Resolution:
    """What is done about an answer. `failure` is who is to blame; `message` is the manifest's."""

    action: str
    failure: str = ""
    message: str = ""


@dataclass(frozen=True)
class Filter:
    """Answers that something is done about."""

    action: str
    failure: str
    codes: frozenset[int]
    predicate: Template | None
    contains: str
    message: str

    @classmethod
    def of(cls, component: Component) -> "Filter":
        if component.type != "HttpResponseFilter":
            raise unsupported(component)
        action = component.text("action")
        if action and action not in ACTIONS:
            raise UnsupportedError(f"HttpResponseFilter.action {action}", component.line)
        failure = component.text("failure_type")
        if failure and failure not in FAILURES:
            raise ManifestError(f"failure_type is {failure!r}", component.line)
        predicate = component.get("predicate")
        message = component.text("error_message")
        return cls(
            action,
            failure,
            _codes(component),
            Template.of(component, predicate, ANSWER) if predicate else None,
            component.text("error_message_contains"),
            # A message with code in it quotes the vendor, and so, perhaps, what nobody may see.
            "" if "{{" in message or "{%" in message else message[:300],
        )

    def matches(self, scope: Scope, response: Response) -> bool:
        if response.status in self.codes:
            return True
        body = {} if response.json is None else response.json
        if self.predicate is not None and self.predicate.holds(
            scope, config=None, response=body, headers=Headers(response), request_url=""
        ):
            return True
        if not self.contains:
            return False
        return self.contains in (_message(response.json) or "")


def _codes(component: Component) -> frozenset[int]:
    found = component.get("http_codes") or []
    try:
        return frozenset(int(code) for code in found)
    except (TypeError, ValueError):
        raise ManifestError("http_codes are no numbers", component.line) from None


def _message(body: Any) -> str | None:
    if isinstance(body, str):
        return body
    if isinstance(body, list):
        return ", ".join(text for text in map(_message, body) if text is not None)
    if isinstance(body, dict):
        return _message(next((body[name] for name in _MESSAGES if body.get(name)), None))
    return None


class Backoff(Protocol):
    """Says how long to wait after an answer; None leaves it to us."""

    def wait(self, scope: Scope, response: Response) -> float | None: ...


@dataclass(frozen=True)
class ConstantBackoff:
    seconds: Template

    def wait(self, scope: Scope, response: Response) -> float | None:
        return _number(self.seconds.value(scope))


@dataclass(frozen=True)
class HeaderBackoff:
    """A header that says how many seconds to wait, or, with `until`, until when."""

    header: Template
    regex: Template | None
    least: Template | None
    until: bool

    def wait(self, scope: Scope, response: Response) -> float | None:
        value: Any = response.headers.get(self.header.text_of(scope).lower())
        if value is not None and self.regex is not None:
            value = _first_match(self.regex.text_of(scope), value)
        seconds = _number(value)
        least = _number(self.least.value(scope)) if self.least else None
        if seconds is not None and self.until:
            seconds = max(0.0, seconds - (vendor_time(response) - EPOCH).total_seconds())
        return least if seconds is None else max(seconds, least or 0.0)


@dataclass(frozen=True)
class OurBackoff:
    """Longer with each attempt, as our own client does it."""

    def wait(self, scope: Scope, response: Response) -> float | None:
        return None


def _first_match(regex: str, value: str) -> str | None:
    """What a pattern finds in a header: its first group, if there is one."""
    try:
        found = pattern(regex, value).search(value)
    except ValueError:
        return None
    return (found.group(1) if found.groups() else found.group()) if found else None


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _backoff(component: Component) -> Backoff:
    match component.type:
        case "ExponentialBackoffStrategy":
            return OurBackoff()
        case "ConstantBackoffStrategy":
            seconds = component.get("backoff_time_in_seconds")
            return ConstantBackoff(Template.of(component, seconds, CONFIG))
        case "WaitTimeFromHeader" | "WaitUntilTimeFromHeader":
            regex, least = component.get("regex"), component.get("min_wait")
            return HeaderBackoff(
                Template.of(component, component.text("header"), CONFIG),
                Template.of(component, regex, CONFIG) if regex else None,
                Template.of(component, least, CONFIG) if least else None,
                component.type.startswith("WaitUntil"),
            )
    raise unsupported(component)


@dataclass(frozen=True)
class ErrorHandler:
    """Handlers that are asked one after the other, each with its filters."""

    handlers: tuple[tuple[Filter, ...], ...] = ()
    backoffs: tuple[Backoff, ...] = ()

    @classmethod
    def of(cls, component: Component | None) -> "ErrorHandler":
        if component is None:
            return cls()
        if component.type == "CompositeErrorHandler":
            inner = [cls.of(each) for each in component.parts("error_handlers")]
            return cls(
                tuple(filters for each in inner for filters in each.handlers),
                tuple(backoff for each in inner for backoff in each.backoffs),
            )
        if component.type != "DefaultErrorHandler":
            raise unsupported(component)
        filters = tuple(Filter.of(each) for each in component.parts("response_filters"))
        return cls((filters,), tuple(map(_backoff, component.parts("backoff_strategies"))))

    def resolve(self, scope: Scope, response: Response) -> Resolution:
        """What is to be done: a failure is only taken once all handlers have been asked."""
        found: Resolution | None = None
        for filters in self.handlers:
            found = _first(filters, scope, response)
            if found.action in ("SUCCESS", "RETRY", "IGNORE"):
                return found
        return found or _default(response)

    def judge(
        self, scope: Scope, title: str, where: str
    ) -> Callable[[Response], ConnectorError | None]:
        """For a request: the error of an answer; None of one that is good, or to be ignored."""

        def judged(response: Response) -> ConnectorError | None:
            found = self.resolve(scope, response)
            if found.action in ("SUCCESS", "IGNORE"):
                return None
            said = f": {found.message}" if found.message else ""
            if found.action in ("RETRY", "RATE_LIMITED"):
                wait = self._wait(scope, response)
                if found.action == "RATE_LIMITED" or response.status == 429:
                    return RateLimitedError(f"{title} asks us to wait{said}", retry_after=wait)
                text = f"{title} cannot answer now ({response.status}) at {where}{said}"
                return ProviderUnavailableError(text, retry_after=wait)
            return _failure(found, title, where, response, said)

        return judged

    def _wait(self, scope: Scope, response: Response) -> timedelta:
        for backoff in self.backoffs:
            if seconds := backoff.wait(scope, response):
                return min(timedelta(seconds=min(seconds, 10**6)), MAX_RETRY_AFTER)
        return timedelta()


def _first(filters: tuple[Filter, ...], scope: Scope, response: Response) -> Resolution:
    for one in filters:
        if one.action and one.matches(scope, response):
            return Resolution(one.action, one.failure, one.message)
    return _default(response)


def _default(response: Response) -> Resolution:
    if 200 <= response.status < 300:
        return Resolution("SUCCESS")
    return Resolution(_DEFAULTS.get(response.status, "RETRY" if response.status >= 500 else "FAIL"))


def _failure(
    found: Resolution, title: str, where: str, response: Response, said: str
) -> ConnectorError:
    status = response.status
    if found.failure == "transient_error":
        return ProviderUnavailableError(f"{title} cannot answer now ({status}) at {where}{said}")
    if found.failure == "config_error" and status != 401:
        return NotAllowedError(f"{title} does not allow this ({status}) at {where}{said}")
    known = error_by_status(title, where, response)
    if isinstance(known, BrokenConnectionError):
        return BrokenConnectionError(f"{known}{said}")
    if isinstance(known, NotAllowedError) and found.failure != "system_error":
        return NotAllowedError(f"{known}{said}")
    if status < 300 and not found.failure:
        return ContractError(f"{title} answered with an error of its own at {where}{said}")
    return ContractError(f"{title} refused a request ({status}) at {where}{said}")
