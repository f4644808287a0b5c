"""One stream's pages: which one a call asks for, what is on it, and what it says of the next."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from tests.referees.player.answers import encoded
from tests.referees.player.calls import Answer, Call, UnplayableError
from tests.referees.player.endpoints import Endpoint
from tests.referees.player.paging import TOKEN, Cursor, Found
from tests.referees.player.records import number, placed, put, record
from tests.referees.player.templates import Templates
from tests.referees.player.times import read

PAGES = 3
# No record is newer: ours begins anew an hour before it last looked, the CDK at the newest record.
# So both begin at the same.
SETTLED = timedelta(hours=2)
_TOKEN = re.compile(rf"{TOKEN}\d+")


@dataclass(frozen=True)
class Slice:
    """What a call asks for, besides the page."""

    seed: str
    since: datetime
    until: datetime


class Listing:
    """One stream's pages, at a time `now` of a vendor that shows what it has `kept` so long, to who
    does not ask for other times. `unplayable` takes what no answer was found for."""

    def __init__(
        self,
        endpoint: Endpoint,
        templates: Templates,
        now: datetime,
        kept: timedelta,
        unplayable: dict[str, str],
    ) -> None:
        self._of = endpoint
        self._templates = templates
        self._now, self._kept = now, kept
        self._unplayable = unplayable
        retriever = endpoint.retriever
        paginator = retriever.get("paginator") or {}
        self._strategy = paginator.get("pagination_strategy") or {}
        self._kind = self._strategy.get("type") if paginator.get("type") != "NoPagination" else None
        self._option = paginator.get("page_token_option") or {}
        self._parameters = parameters(endpoint.requester)
        size = self._templates.value(self._strategy.get("page_size"), **self._parameters)
        self._size = size if isinstance(size, int) and size > 0 else None
        extractor = (retriever.get("record_selector") or {}).get("extractor") or {}
        path = extractor.get("field_path") or []
        self._path = [str(self._templates.value(str(name), **self._parameters)) for name in path]
        if path and any(not name or name == "None" for name in self._path):
            self._path = [str(name) for name in path]

    def answer(self, call: Call) -> Answer:
        page, found, slice_ = self._page(call)
        rows = self._records(slice_, page)(found.count)
        body = self._whole(rows)
        for path, value in found.body.items():
            if isinstance(body, dict) and type(value) is not object:
                put(body, path, value)
        return encoded(self._of, body, rows, dict(found.headers))

    def _page(self, call: Call) -> tuple[int, Found, Slice]:
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

    def _cursor_page(self, call: Call, page: int, slice_: Slice) -> Found:
        cursor, records, found = self._cursor_pages, self._records(slice_, page), None
        if page < PAGES - 1:
            found = cursor.page(page, False, records, self._whole, self._following(call, page))
            if found is None:
                why = "no answer goes on to another page"
                self._unplayable.setdefault(self._of.name, why)
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

    def _count(self, page: int, slice_: Slice) -> int:
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

    def _slice(self, call: Call) -> Slice:
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
        return Slice(seed, since, until)

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
        since, until = self._now - self._kept, self._now
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
        until = min(until, self._now - SETTLED)
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

    def _records(self, slice_: Slice, page: int) -> Callable[[int], list[dict[str, Any]]]:
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


def parameters(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"parameters": part.get("$parameters") or {}}
