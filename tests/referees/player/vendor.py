"""The vendor that a manifest speaks of: its settings, its clock, and its answers."""

import re
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from tests.referees.player.answers import as_json, merged
from tests.referees.player.calls import Answer, Call, UnplayableError
from tests.referees.player.endpoints import Endpoint, endpoints, pattern
from tests.referees.player.listing import Listing, parameters
from tests.referees.player.records import number, put
from tests.referees.player.settings import settings
from tests.referees.player.templates import Templates

FIRST = datetime(2026, 3, 10, 12, 34, 56, 789012, tzinfo=UTC)
# The second run comes later; the third is a first one again, on a day when calls fail.
RUNS = {"first": FIRST, "second": FIRST + timedelta(days=1, hours=1), "faults": FIRST}
KEPT = {"first": timedelta(days=37), "second": timedelta(days=2), "faults": timedelta(days=37)}
MOST_CALLS = 1500


class Player:
    """Answers for one manifest, whose references are resolved, in one run."""

    def __init__(self, manifest: Mapping[str, Any], run: str, *, bare: bool = False) -> None:
        self.run = run
        self.now = RUNS[run]
        self.config = settings(manifest, FIRST, bare=bare)
        self._templates = Templates(self.config, self.now)
        self._manifest = manifest
        self._endpoints = endpoints(manifest, self._templates)
        self._listings: dict[int, Listing] = {}
        self._seen: Counter[str] = Counter()
        self._calls = 0
        self.unplayable: dict[str, str] = {}

    def add(self, streams: list[Any]) -> None:
        """Streams that come of others, or of settings, once these are read."""
        self._endpoints += endpoints({"streams": streams}, self._templates)

    def begin(self) -> None:
        """Another stream begins: it has as many calls as the one before."""
        self._calls = 0

    def answer(self, call: Call) -> Answer:
        """What the vendor answers; the same to the same call, but for a fault, which passes."""
        self._calls += 1
        if self._calls > MOST_CALLS:
            raise UnplayableError("the reading does not come to an end")
        token = self._token(call)
        if token is not None:
            return as_json(token)
        fitting = [(score, one) for one in self._endpoints if (score := one.fit(call)) is not None]
        if not fitting:
            raise UnplayableError(f"no stream has the address {call.method} {call.url}")
        best = max(score for score, _ in fitting)
        chosen = [one for score, one in fitting if score == best]
        fault = self._fault(call, chosen[0])
        if fault is not None:
            return fault
        answers = [self._listing(one).answer(call) for one in chosen[:4]]
        return answers[0] if len(answers) == 1 else merged(answers)

    def _listing(self, endpoint: Endpoint) -> "Listing":
        if id(endpoint) not in self._listings:
            self._listings[id(endpoint)] = Listing(
                endpoint, self._templates, self.now, KEPT[self.run], self.unplayable
            )
        return self._listings[id(endpoint)]

    @cached_property
    def _token_calls(self) -> list[tuple[re.Pattern[str], Mapping[str, Any]]]:
        found = []
        for part in _parts(self._manifest):
            if part.get("type") == "OAuthAuthenticator" and part.get("token_refresh_endpoint"):
                form, _ = pattern(part["token_refresh_endpoint"], self._templates, parameters(part))
                found.append((re.compile(form), part))
            elif part.get("type") in (
                "SessionTokenAuthenticator",
                "LegacySessionTokenAuthenticator",
            ):
                login = part.get("login_requester") or {
                    "url_base": part.get("api_url"),
                    "path": part.get("login_url"),
                }
                base, path = (
                    str(login.get("url_base") or login.get("url") or ""),
                    str(login.get("path") or ""),
                )
                whole = f"{base.rstrip('/')}/{path.lstrip('/')}" if path else base
                form, _ = pattern(whole, self._templates, parameters(login))
                found.append((re.compile(form), part))
        return found

    def is_token(self, call: Call) -> bool:
        """Whether a call is to the authorisation server."""
        return self._token(call) is not None

    def _token(self, call: Call) -> Any:
        for form, part in self._token_calls:
            if not form.fullmatch(call.url):
                continue
            body: dict[str, Any] = {}
            if part.get("type") == "OAuthAuthenticator":
                body["token_type"] = "Bearer"
                body[part.get("access_token_name") or "access_token"] = "access-made-up"
                body[part.get("expires_in_name") or "expires_in"] = 360000
                updater = part.get("refresh_token_updater") or {}
                body[updater.get("refresh_token_name") or "refresh_token"] = "refresh-made-up"
                return body
            path = part.get("session_token_path") or [
                part.get("session_token_response_key") or "token"
            ]
            put(body, [str(self._templates.value(name)) for name in path], "session-made-up")
            return body
        return None

    def _fault(self, call: Call, endpoint: Endpoint) -> Answer | None:
        """On a bad day each third call is refused at first; what is to be ignored stays refused."""
        if self.run != "faults":
            return None
        mark = repr((call.method, call.url, call.query, call.body))
        chosen = number(mark, "fault")
        if chosen % 3:
            return None
        passing, ignored = _errors(endpoint.requester.get("error_handler"))
        if ignored and chosen % 2:
            status = ignored[chosen % len(ignored)]
            return as_json({"error": {"message": "made up"}, "message": "made up"}, status)
        self._seen[mark] += 1
        if self._seen[mark] > 1:
            return None
        headers = {"Retry-After": "2"}
        for strategy in _parts(endpoint.requester.get("error_handler")):
            name = str(self._templates.value(strategy.get("header") or "Retry-After"))
            if strategy.get("type") == "WaitTimeFromHeader":
                headers[name] = "3"
            elif strategy.get("type") == "WaitUntilTimeFromHeader":
                headers[name] = str(int(self.now.timestamp()) + 5)
        status = passing[chosen % len(passing)] if passing else 429
        return as_json({"error": {"message": "made up"}, "message": "made up"}, status, headers)


def _parts(part: Any) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    if isinstance(part, Mapping):
        found.append(part)
        for inner in part.values():
            found += _parts(inner)
    elif isinstance(part, list):
        for inner in part:
            found += _parts(inner)
    return found


def _errors(handler: Any) -> tuple[list[int], list[int]]:
    """The statuses that a handler tries again, and those that it ignores."""
    passing: list[int] = []
    ignored: list[int] = []
    for part in _parts(handler):
        codes = part.get("http_codes") or []
        codes = [int(code) for code in codes if str(code).isdigit()]
        if (
            part.get("type") != "HttpResponseFilter"
            or part.get("predicate")
            or part.get("error_message_contains")
        ):
            continue
        if part.get("action") in ("RETRY", "RATE_LIMITED"):
            passing += [code for code in codes if code >= 400]
        elif part.get("action") == "IGNORE":
            ignored += [code for code in codes if code >= 400]
    first = set(ignored)
    return [code for code in passing if code not in first], ignored
