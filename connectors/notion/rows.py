"""The rows of data sources: queried one by one, which lists all of them.

A query ends after 10,000 rows; a longer one is cut by when rows were made, which no edit moves
(https://developers.notion.com/guides/data-apis/query-large-data-sources, 2026-11).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from connectors import (
    Checkpoint,
    Context,
    ContractError,
    Page,
    ProviderUnavailableError,
    Reader,
    Record,
    Request,
    Steps,
)
from connectors.kernel.looks import Look
from connectors.kernel.paging import Read, mapped
from connectors.kernel.parts import Parts, Round, ask_each, each_part
from connectors.kernel.positions import Position
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import parse_time
from connectors.notion.errors import NotShownError
from connectors.notion.query import PAGE, completed, every, page_of, search
from connectors.notion.reading import CUT, LOOKS, in_trash

# A query that takes Notion too long is asked for in smaller pages, as its 503 advises.
LEAST = 10


@dataclass(frozen=True, kw_only=True)
class RowsPlace(Position):
    """Where the rows of a data source stand, beside their look: those made `from_` a time on, at a
    `page` of so many."""

    from_: str | None = None
    page: str | None = None
    size: int = PAGE


def row_key(row: Record) -> str:
    return f"{row['parent'].get('data_source_id')}/{row['id']}"


def data_source_rows(at: Checkpoint, context: Context) -> Reader:
    """Data source by data source; what went into the trash since is found by search, at once."""
    rounds, trash, deleted = Round.of(at), at.get("trash"), list[str]()
    if not rounds.todo:
        # Looked through as far back as search may lag: that is cheap, and no deletion comes twice.
        since = (parse_time(trash) if trash else context.now) - LOOKS.lag
        rows = yield from in_trash("page", lambda row: parse_time(row["last_edited_time"]) >= since)
        deleted = [row_key(row) for row in rows if row["parent"].get("data_source_id")]
        trash = context.now.isoformat()

    def beside(page: Page) -> Page:
        nonlocal deleted
        gone, deleted = [*page.deleted, *deleted], []
        return replace(page, checkpoint=Checkpoint(page.checkpoint, trash=trash), deleted=gone)

    parts = each_part(_sources(tuple(rounds.parts)), rows_of_source, prefix="{}/".format)
    yield from mapped(parts(at, context), beside)


def _sources(former: Sequence[str]) -> Callable[[Context], Steps[Parts]]:
    """The data sources that search shows. Of one that it shows no more Notion is asked: that
    search leaves it out does not mean that it is gone."""

    def listed(context: Context) -> Steps[Parts]:
        found = yield from every(search("data_source"))
        present = [row["id"] for row in found]
        missing = [id_ for id_ in former if id_ not in present]
        kept, hidden = [], False
        if missing:
            answers = yield from ask_each([Request.get(f"/data_sources/{id_}") for id_ in missing])
            for id_, answer in zip(missing, answers, strict=True):
                if isinstance(answer, NotShownError):
                    hidden = True
                elif isinstance(answer, Exception):
                    kept.append(id_)
                elif not answer.json["in_trash"]:
                    present.append(id_)
        return Parts(present, kept, hidden=hidden)

    return listed


def rows_of_source(source: str) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        look, here = LOOKS.begin(at, context.now), RowsPlace.of(at)
        while True:
            try:
                listed = yield from page_of(_query(source, look, here), here.page, here.size)
            except ProviderUnavailableError:
                if here.size > LEAST:
                    smaller = replace(here, size=max(here.size // 2, LEAST))
                    yield Page((), Checkpoint(look.saved, **smaller.saved()))
                raise
            if listed is None:
                here = replace(here, page=None)
                continue
            now = vendor_time(listed.response)
            look = replace(look, looked=min(look.looked, now), late=min(look.late, now))
            records = []
            for row in listed.rows:
                if row["object"] == "page":  # a wiki has data sources among its rows
                    records.append((yield from completed(row)))
            if listed.cursor is None and not listed.cut:
                yield Page(records, Checkpoint(look.checkpoint))
                return
            here = _onward(here, listed.cursor, listed.rows)
            yield Page(records, Checkpoint(look.saved, **here.saved()))

    return read


def _onward(here: RowsPlace, cursor: str | None, rows: Sequence[Record]) -> RowsPlace:
    """The next page; after the last that Notion shows, the rows made since the last of them."""
    if cursor is not None:
        return replace(here, page=cursor)
    if not rows or rows[-1]["created_time"] == here.from_:
        raise ContractError(CUT)
    return replace(here, page=None, from_=rows[-1]["created_time"])


def _query(source: str, look: Look, here: RowsPlace) -> Request:
    filters = []
    if look.since is not None:
        filters.append(_on_or_after("last_edited_time", look.since.isoformat()))
    if here.from_ is not None:
        filters.append(_on_or_after("created_time", here.from_))
    return Request.post(
        f"/data_sources/{source}/query",
        json={
            "sorts": [{"timestamp": "created_time", "direction": "ascending"}],
            **({"filter": {"and": filters}} if filters else {}),
        },
    )


def _on_or_after(timestamp: str, at: str) -> dict[str, Any]:
    return {"timestamp": timestamp, timestamp: {"on_or_after": at}}
