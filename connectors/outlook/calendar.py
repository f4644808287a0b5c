"""How Outlook's calendar is read: a window of it, which moves on.

https://learn.microsoft.com/graph/delta-query-events
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ListedKeys,
    Page,
    Reader,
    Record,
    Request,
    Steps,
    ask,
)
from connectors._microsoft.deltas import PageContext, by_id, delta_stream, each_by_id
from connectors._microsoft.watches import iso
from connectors.kernel.positions import Position
from connectors.kernel.versions import parse_time
from connectors.outlook.reading import EVENTS, MANY, SAME_IDS, all_rows, paged, smaller

# The calendar from a year back to a year ahead; it is read anew when that is a month off.
BACK = AHEAD = timedelta(days=365)
MOVES_AFTER = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class Window(Position):
    """When the window of the calendar was fixed, and whether a series in it may have lost an
    occurrence: see `_Diary`."""

    begun: str = ""
    series: bool = False


def events(at: Checkpoint, context: Context) -> Reader:
    """The calendar in a window that the first request fixes.

    Of an event outside of it a delta says that it is removed, whether it was moved there, changed
    or deleted: it is not in the window, and one that we never had is no error.
    """
    saved = Window.of(at)
    begun = parse_time(saved.begun) if saved.begun else context.now
    if context.now - begun > MOVES_AFTER:
        raise CheckpointExpiredError("the window of this calendar has to move on")
    # No $select, $filter or $orderby: this delta takes none of them.
    window = _window(begun)
    read = delta_stream(
        paged("/me/calendarView/delta", MANY, window),
        smaller=smaller("/me/calendarView/delta", window),
        settle=_Diary(window),
    )
    return read(replace(saved, begun=iso(begun)).beside(at), context)


def _window(begun: datetime) -> dict[str, str]:
    return {"startDateTime": iso(begun - BACK), "endDateTime": iso(begun + AHEAD)}


class _Diary:
    """What the delta of a calendar leaves out, found elsewhere.

    Of an occurrence it gives no more than its times (microsoft-graph-docs#7632, 2020-04): the rest
    is that of its series. When one is taken out of a series, the series and the occurrences that
    remain come again, and nothing says which one is missing (microsoft-graph-docs#4501, 2019-04):
    so the calendar is listed then, by ids.
    """

    def __init__(self, window: Mapping[str, str]) -> None:
        self._window = window
        self._series: dict[str, Record] = {}
        self._master_ids: set[str] = set()

    def __call__(self, page: Page, page_context: PageContext) -> Steps[Page]:
        masters = {row["id"]: row for row in page.records if row.get("type") == "seriesMaster"}
        self._series |= masters
        self._master_ids |= masters.keys()
        records = yield from self._filled(page.records)
        saved = Window.of(page.checkpoint)
        # A series that is gone says no more than its id, and nothing of what was taken out of it.
        if (masters or page.deleted) and not page_context.listing:
            saved = replace(saved, series=True)
        listed_keys: list[ListedKeys] = []
        if page_context.ended and saved.series:
            keys, at = yield from _listed(self._window)
            listed_keys = [ListedKeys("", keys | self._master_ids, at)]
            saved = replace(saved, series=False)
        checkpoint = saved.beside(page.checkpoint)
        return replace(page, records=records, checkpoint=checkpoint, listed_keys=listed_keys)

    def _filled(self, rows: Sequence[Record]) -> Steps[list[Record]]:
        bare = {_series_of(row) for row in rows} - {None, *self._series}
        wanted = sorted(id_ for id_ in bare if id_)
        found = yield from by_id(EVENTS, wanted, headers=SAME_IDS)
        for id_, answer in zip(wanted, found, strict=True):
            # One that cannot be had by now leaves its occurrences with their times.
            self._series[id_] = answer if isinstance(answer, dict) else {}
        return [self._whole(row) for row in rows]

    def _whole(self, row: Record) -> Record:
        series = _series_of(row)
        if series is None or not self._series[series]:
            return row
        return {**self._series[series], **row, "recurrence": None}


def _series_of(row: Record) -> str | None:
    return row.get("seriesMasterId") if row.get("type") == "occurrence" else None


def _listed(window: Mapping[str, str]) -> Steps[tuple[set[str], datetime]]:
    """The ids of all events in a window, with those of their series, and when they were asked."""
    params = {**window, "$select": "id,type,seriesMasterId", "$top": 500}
    first = yield from ask(Request.get("/me/calendarView", params=params, headers=SAME_IDS))
    rows = yield from all_rows(first)
    ids = {row["id"] for row in rows}
    return ids | {row["seriesMasterId"] for row in rows if row.get("seriesMasterId")}, first.sent_at


def events_listed(at: Checkpoint, context: Context) -> Reader:
    """The keys of the calendar, by its plain view."""
    keys, _ = yield from _listed(_window(context.now))
    yield Page([{"id": key} for key in sorted(keys)], Checkpoint())


events_by_id = each_by_id(EVENTS, shape=lambda _, row: row, headers=SAME_IDS)
