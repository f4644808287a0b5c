"""The vendor that a manifest speaks of: its settings, its clock, and its answers."""

import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from xml.sax.saxutils import escape

from tests.referees.player.calls import Answer, Call
from tests.referees.player.endpoints import Endpoint, endpoints, pattern
from tests.referees.player.paging import TOKEN, Cursor, Found
from tests.referees.player.records import number, placed, put, record
from tests.referees.player.settings import settings
from tests.referees.player.templates import Templates
from tests.referees.player.times import read

FIRST = datetime(2026, 3, 10, 12, 34, 56, 789012, tzinfo=UTC)
# The second run comes later; the third is a first one again, on a day when calls fail.
RUNS = {"first": FIRST, "second": FIRST + timedelta(days=1, hours=1), "faults": FIRST}
MOST_CALLS = 1500
# No record is newer: ours begins anew an hour before it last looked, the CDK at the newest record.
# So both begin at the same.
SETTLED = timedelta(hours=2)
PAGES = 3
_MEDIA = {
    "CsvDecoder": "text/csv",
    "JsonlDecoder": "application/jsonl",
    "XmlDecoder": "application/xml",
}
_TOKEN = re.compile(rf"{TOKEN}\d+")


class UnplayableError(Exception):
    """No answer is known that fits what the manifest asks for."""


@dataclass(frozen=True)
class _Slice:
    """What a call asks for, besides the page."""

    seed: str
    since: datetime
    until: datetime


class Player:
    """Answers for one manifest, whose references are resolved, in one run."""

    def __init__(self, manifest: Mapping[str, Any], run: str, *, bare: bool = False) -> None:
        self.run = run
        self.now = RUNS[run]
        self.config = settings(manifest, FIRST, bare=bare)
        self._templates = Templates(self.config, self.now)
        self._manifest = manifest
        self._endpoints = endpoints(manifest, self._templates)
        self._listings: dict[int, _Listing] = {}
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
            return _json(token)
        fitting = [(score, one) for one in self._endpoints if (score := one.fit(call)) is not None]
        if not fitting:
            raise UnplayableError(f"no stream has the address {call.method} {call.url}")
        best = max(score for score, _ in fitting)
        chosen = [one for score, one in fitting if score == best]
        fault = self._fault(call, chosen[0])
        if fault is not None:
            return fault
        answers = [self._listing(one).answer(call) for one in chosen[:4]]
        return answers[0] if len(answers) == 1 else _merged(answers)

    def _listing(self, endpoint: Endpoint) -> "_Listing":
        if id(endpoint) not in self._listings:
            self._listings[id(endpoint)] = _Listing(self, endpoint)
        return self._listings[id(endpoint)]

    @cached_property
    def _token_calls(self) -> list[tuple[re.Pattern[str], Mapping[str, Any]]]:
        found = []
        for part in _parts(self._manifest):
            if part.get("type") == "OAuthAuthenticator" and part.get("token_refresh_endpoint"):
                form, _ = pattern(
                    part["token_refresh_endpoint"], self._templates, _parameters(part)
                )
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
                form, _ = pattern(whole, self._templates, _parameters(login))
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
            return _json({"error": {"message": "made up"}, "message": "made up"}, status)
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
        return _json({"error": {"message": "made up"}, "message": "made up"}, status, headers)


class _Listing:
    """One stream's pages, for one call."""

    def __init__(self, player: Player, endpoint: Endpoint) -> None:
        self._player = player
        self._of = endpoint
        self._templates: Templates = player._templates
        retriever = endpoint.retriever
        paginator = retriever.get("paginator") or {}
        self._strategy = paginator.get("pagination_strategy") or {}
        self._kind = self._strategy.get("type") if paginator.get("type") != "NoPagination" else None
        self._option = paginator.get("page_token_option") or {}
        parameters = _parameters(endpoint.requester)
        size = self._templates.value(self._strategy.get("page_size"), **parameters)
        self._size = size if isinstance(size, int) and size > 0 else None
        self._parameters = parameters
        extractor = (retriever.get("record_selector") or {}).get("extractor") or {}
        path = extractor.get("field_path") or []
        self._path = [str(self._templates.value(str(name), **parameters)) for name in path]
        if path and any(not name or name == "None" for name in self._path):
            self._path = [str(name) for name in path]

    def answer(self, call: Call) -> Answer:
        page, found, slice_ = self._page(call)
        rows = self._records(slice_, page)(found.count)
        body = self._whole(rows)
        for path, value in found.body.items():
            if isinstance(body, dict) and type(value) is not object:
                put(body, path, value)
        return _encoded(self._of, body, rows, dict(found.headers))

    def _page(self, call: Call) -> tuple[int, Found, _Slice]:
        token = self._asked(call)
        slice_ = self._slice(call)
        if self._kind in ("PageIncrement", "OffsetIncrement"):
            page = self._counted(token)
            return page, Found(self._count(page, slice_), {}, {}), slice_
        if self._kind != "CursorPagination":
            return 0, Found(3, {}, {}), slice_
        wanted = 0
        if token is not None and self._is_path:
            wanted = _number(token) or 0
        elif token is not None:
            for page in range(PAGES - 1):
                named = self._cursor_page(call, page, slice_).token
                if named is not None and str(named) == token:
                    wanted = page + 1
        # A token that no page named: some manifests name the first page themselves.
        return wanted, self._cursor_page(call, wanted, slice_), slice_

    def _cursor_page(self, call: Call, page: int, slice_: _Slice) -> Found:
        cursor, records, found = self._cursor_pages, self._records(slice_, page), None
        if page < PAGES - 1:
            found = cursor.page(page, False, records, self._whole, self._following(call, page))
            if found is None:
                why = "no answer goes on to another page"
                self._player.unplayable.setdefault(self._of.name, why)
        found = found or cursor.page(page, True, records, self._whole, "")
        if found is None:
            raise UnplayableError(f"{self._of.name}: no answer ends the listing")
        return found

    @cached_property
    def _cursor_pages(self) -> Cursor:
        return Cursor(
            self._templates,
            self._strategy,
            self._size,
            self._is_path,
            self._parameters,
            few=1 if self._of.is_parent else 3,
        )

    @property
    def _is_path(self) -> bool:
        return self._option.get("type") == "RequestPath"

    def _asked(self, call: Call) -> str | None:
        """The page token in a call."""
        if self._is_path:
            return dict(call.query).get(TOKEN)
        if self._option.get("type") == "RequestOption":
            name = self._option.get("field_path") or self._option.get("field_name")
            if isinstance(name, list):
                name = tuple(str(self._templates.value(one, **self._parameters)) for one in name)
            else:
                name = str(self._templates.value(name, **self._parameters))
            return call.named(str(self._option.get("inject_into")), name)
        requester = self._of.requester
        for place, part in (
            ("request_parameter", "request_parameters"),
            ("header", "request_headers"),
            ("body_json", "request_body_json"),
            ("body_data", "request_body_data"),
        ):
            values = requester.get(part)
            for name, value in (values if isinstance(values, Mapping) else {}).items():
                if "next_page_token" in str(value):
                    found = call.named(place, name)
                    if found and isinstance(value, str):
                        return found
        found_token = _TOKEN.search(call.url) or _TOKEN.search(call.body)
        return None if found_token is None else found_token.group()

    def _counted(self, token: str | None) -> int:
        first = (
            self._templates.value(self._strategy.get("start_from_page"), **self._parameters) or 0
        )
        if token is None or not re.fullmatch(r"\d+", token):
            return 0
        if self._kind == "PageIncrement":
            return max(0, int(token) - int(first))
        return int(token) // (self._size or 3)

    def _count(self, page: int, slice_: _Slice) -> int:
        """How many records a counted page has: a listing ends with a page that is not full."""
        if self._size is None:
            return (1 if self._of.is_parent else 3) if page < PAGES - 1 else 0
        big = self._size > 10
        short = (self._of.is_parent and big) or self._size > 1000
        # A full page of hundreds, in one stream of four, tries the same as in all.
        short = short or (self._size > 100 and number(self._of.name, "full") % 4 != 0)
        if self._of.is_child and big:
            short = short or number(slice_.seed, "full") % 4 != 0
        full = 0 if short else (1 if big else 2)
        return self._size if page < full else (min(self._size - 1, 2) if page == full else 0)

    def _slice(self, call: Call) -> _Slice:
        other = {TOKEN, *self._token_names}
        if self._of.is_parent and not self._cursor.get("step"):
            # The second run knows the parents of the first. To the child of another one the CDK
            # gives the place where the others stand, and misses what it had before; we do not.
            other |= {str(name) for _, place, name in self._bounds if place == "request_parameter"}
        own = [pair for pair in call.query if pair[0] not in other]
        body = re.sub(r"\d+", "", _TOKEN.sub("", call.body)) if self._pages_in_body else call.body
        url = _TOKEN.sub("", call.url) if not self._is_path else call.url
        seed = repr((self._of.name, url, own, body))
        since, until = self._window(call)
        return _Slice(seed, since, until)

    @property
    def _pages_in_body(self) -> bool:
        if str(self._option.get("inject_into")).startswith("body"):
            return True
        requester = self._of.requester
        return any(
            "next_page_token" in str(requester.get(part))
            for part in ("request_body_json", "request_body_data", "request_body")
        )

    @cached_property
    def _token_names(self) -> set[str]:
        found = set()
        if self._option.get("inject_into") == "request_parameter":
            found.add(
                str(self._templates.value(self._option.get("field_name"), **self._parameters))
            )
        values = self._of.requester.get("request_parameters")
        for name, value in (values if isinstance(values, Mapping) else {}).items():
            if "next_page_token" in str(value):
                found.add(name)
        return found

    def _window(self, call: Call) -> tuple[datetime, datetime]:
        """The times that a call asks for, or what a vendor has of the run."""
        player = self._player
        since, until = player.now - timedelta(days=37), player.now
        if player.run == "second":
            since = player.now - timedelta(days=2)
        cursor = self._cursor
        if not cursor:
            return since, until - SETTLED
        form = str(self._templates.value(cursor.get("datetime_format")) or "%Y-%m-%dT%H:%M:%SZ")
        for which, place, name in self._bounds:
            text = call.named(place, name)
            at = None if text is None else read(text, form)
            if at is not None and which == "start":
                since = at
            elif at is not None:
                until = at
        until = min(until, player.now - SETTLED)
        return since, max(until, since)

    @cached_property
    def _bounds(self) -> list[tuple[str, str, Any]]:
        """Where a call says from when on, and until when."""
        places: list[tuple[str, str, Any]] = []
        cursor = self._cursor
        for which, option in (
            ("start", cursor.get("start_time_option")),
            ("end", cursor.get("end_time_option")),
        ):
            if option:
                name = option.get("field_path") or option.get("field_name")
                if isinstance(name, list):
                    name = tuple(
                        str(self._templates.value(one, **self._parameters)) for one in name
                    )
                else:
                    name = str(self._templates.value(name, **self._parameters))
                places.append((which, str(option.get("inject_into")), name))
        parameters = self._of.requester.get("request_parameters")
        for name, value in (parameters if isinstance(parameters, Mapping) else {}).items():
            for which in ("start", "end"):
                if f"{which}_time" in str(value):
                    places.append((which, "request_parameter", name))
        return places

    @property
    def _cursor(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self._of.stream.get("incremental_sync") or {}
        return found if found.get("type") == "DatetimeBasedCursor" else {}

    def _records(self, slice_: _Slice, page: int) -> Callable[[int], list[dict[str, Any]]]:
        cursor = self._cursor
        forms = cursor.get("cursor_datetime_formats") or [cursor.get("datetime_format")]
        form = str(self._templates.value(forms[0]) or "%Y-%m-%dT%H:%M:%SZ")
        field = self._templates.value(cursor.get("cursor_field"), **self._parameters)
        schema = (self._of.stream.get("schema_loader") or {}).get("schema")
        schema = schema if isinstance(schema, Mapping) else {}

        def made(count: int) -> list[dict[str, Any]]:
            whole = max(count, 1) * (page + 1) + 1
            return [
                record(
                    slice_.seed,
                    page * 10000 // 10 + one if count > 100 else page * 100 + one,
                    schema=schema,
                    keys=self._of.keys,
                    needed=self._of.needed,
                    at=slice_.since
                    + (slice_.until - slice_.since) * ((page * max(count, 1) + one + 1) / whole),
                    cursor=str(field) if field else None,
                    form=form,
                )
                for one in range(count)
            ]

        return made

    def _whole(self, rows: list[dict[str, Any]]) -> Any:
        wants_body = any(
            path[0] == "response" and len(path) > 1
            for text in (self._strategy.get("cursor_value"), self._strategy.get("stop_condition"))
            for path in self._templates.paths(text)
        )
        if not self._path and self._kind == "CursorPagination" and wants_body:
            return dict(rows[0]) if rows else {}
        return placed([dict(row) for row in rows], self._path)

    def _following(self, call: Call, page: int) -> str:
        """The URL of the next page, as a vendor writes it: with all that was asked for."""
        query = [pair for pair in call.query if pair[0] != TOKEN]
        query.append((TOKEN, f"{TOKEN}{page + 1}"))
        return f"{call.url}?{urlencode(query)}"


def _number(token: str | None) -> int | None:
    match = re.fullmatch(rf"{TOKEN}(\d+)", token or "")
    return None if match is None else int(match.group(1))


def _parameters(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"parameters": part.get("$parameters") or {}}


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


def _json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(
        status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()
    )


def _encoded(
    endpoint: Endpoint, body: Any, rows: list[dict[str, Any]], headers: dict[str, str]
) -> Answer:
    decoder = endpoint.retriever.get("decoder") or {}
    inner = decoder
    while isinstance(inner.get("decoder"), Mapping):
        inner = inner["decoder"]
    kind = inner.get("type") or "JsonDecoder"
    if kind == "JsonlDecoder":
        content = "\n".join(json.dumps(row) for row in rows).encode()
    elif kind == "CsvDecoder":
        out = io.StringIO()
        names = sorted({name for row in rows for name in row})
        writer = csv.DictWriter(out, names, delimiter=str(inner.get("delimiter") or ","))
        writer.writeheader()
        writer.writerows(rows)
        content = out.getvalue().encode()
    elif kind == "XmlDecoder":
        content = _xml(body)
    elif kind in ("JsonDecoder", "IterableDecoder"):
        content = json.dumps(body).encode()
    else:
        raise UnplayableError(f"{endpoint.name}: answers in the form of {kind} are not made up")
    if decoder.get("type") == "GzipDecoder":
        return Answer(
            200, {"Content-Type": "application/gzip", **headers}, gzip.compress(content, mtime=0)
        )
    if decoder.get("type") == "ZipfileDecoder":
        raise UnplayableError(f"{endpoint.name}: zip files are not made up")
    media = _MEDIA.get(kind, "application/json")
    return Answer(200, {"Content-Type": media, **headers}, content)


def _xml(body: Any) -> bytes:
    """A document of elements by their names; a list is so many of one name."""

    def element(name: str, value: Any) -> str:
        if isinstance(value, list):
            return "".join(element(name, one) for one in value)
        if isinstance(value, dict):
            inside = "".join(element(inner, one) for inner, one in value.items())
            return f"<{name}>{inside}</{name}>"
        return f"<{name}>{'' if value is None else escape(str(value))}</{name}>"

    return "".join(element(name, value) for name, value in body.items()).encode()


def _merged(answers: list[Answer]) -> Answer:
    """One answer for streams that read the same address in other places."""
    bodies = [json.loads(answer.body) for answer in answers]
    whole = bodies[0]
    for body in bodies[1:]:
        whole = _joined(whole, body)
    headers = {
        name: value for answer in reversed(answers) for name, value in answer.headers.items()
    }
    return Answer(answers[0].status, headers, json.dumps(whole).encode())


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            **other,
            **{
                name: _joined(value, other[name]) if name in other else value
                for name, value in one.items()
            },
        }
    if isinstance(one, list) and isinstance(other, list):
        longer = one if len(one) >= len(other) else other
        pairs = [_joined(a, b) for a, b in zip(one, other, strict=False)]
        return [*pairs, *longer[len(pairs) :]]
    return one
