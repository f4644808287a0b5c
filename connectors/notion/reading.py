"""How what a workspace shares with us is followed, by search.

Search knows no filter by time: it is read from the last edited on, down to where the last look
began. It lags, may leave things out without a word, and ends after 10,000: what it does not show
is not gone for that, until an audit has found it missing.

https://developers.notion.com/reference/post-search
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from connectors import (
    Calls,
    Checkpoint,
    Context,
    ContractError,
    ListedKeys,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    Reader,
    Record,
    Unread,
)
from connectors.kernel.looks import Look, Looks
from connectors.kernel.paging import Read, batches
from connectors.kernel.parts import AWAY_IN_A_ROW, OF_A_PART
from connectors.kernel.positions import Position
from connectors.kernel.statuses import PARSE_ERRORS, unreadable, vendor_time
from connectors.kernel.versions import parse_time
from connectors.notion.errors import NotShownError, PartlyReadError
from connectors.notion.query import PAGE, one, page_of, search

# Their overlap is more than the minute to which Notion rounds times of edits down.
LOOKS = Looks()
CUT = "Notion shows no more than 10,000 of them"

# Reads what a stream has of a page or data source: all of it.
ReadOne: TypeAlias = Callable[[Record], Calls[Sequence[Record]]]


@dataclass(frozen=True, kw_only=True)
class Followed:
    """What is read of each `kind` of object that search finds; `path` is where one is read.

    The keys of a stream are the `object`'s own, stand `under` it (they begin with its id and a
    slash), or are those of something `beside` it. Of `dear` objects each takes calls of its own.
    """

    kind: str
    path: str
    read: ReadOne
    key: Callable[[Record], str]
    keys: Literal["object", "under", "beside"] = "object"
    dear: bool = False
    # Several data sources may be of one database: it is read once.
    of: Callable[[Record], object] = lambda row: row["id"]


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    """Where a look stands, beside its times: at a `page` of the search, of which some objects are
    `done`; `searched` to its end. `failed` are objects that could not be read, with why; `cut`
    says that since the last full read a search ended before all was shown."""

    page: str | None = None
    done: Sequence[str] = ()
    searched: bool = False
    failed: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False


def follow(what: Followed) -> Read:
    """Reads everything that search finds, and from then on what was edited since the last look."""

    def read(at: Checkpoint, context: Context) -> Reader:
        yield from _Walk.resumed(what, at, context).read()

    return read


@dataclass
class _Found:
    """What came of some objects: all records of each that was read, some of others, and those that
    are gone, with whether they are only hidden."""

    records: dict[str, Sequence[Record]] = field(default_factory=dict)
    partly: list[Record] = field(default_factory=list)
    gone: dict[str, bool] = field(default_factory=dict)


@dataclass
class _Walk:
    """A look that is under way: its times and place are saved, the rest is what this read met."""

    what: Followed
    context: Context
    look: Look
    here: Place
    retried: Sequence[str]
    in_a_row: int = 0
    allowed: bool = False
    met: set[object] = field(default_factory=set)

    @classmethod
    def resumed(cls, what: Followed, at: Checkpoint, context: Context) -> "_Walk":
        look, here = LOOKS.begin(at, context.now), Place.of(at)
        # What failed is tried again as often as there is a late look.
        due = look.late == look.looked and not (here.page or here.searched)
        return cls(what, context, look, here, tuple(here.failed) if due else ())

    def read(self) -> Reader:
        if self.retried:
            yield from self._retry()
        while not self.here.searched:
            listed = yield from page_of(search(self.what.kind), self.here.page)
            if listed is None:  # it no longer knows the place: from the last edited on again
                self.here = replace(self.here, page=None, done=())
                continue
            now = vendor_time(listed.response)
            looked, late = (min(each, now) for each in (self.look.looked, self.look.late))
            self.look = replace(self.look, looked=looked, late=late)
            fresh = [row for row in listed.rows if self._is_fresh(row)]
            yield from self._read([row for row in fresh if row["id"] not in self.here.done])
            known = len(fresh) < len(listed.rows)
            ended = listed.cursor is None or known
            cut = (listed.cut and ended and not known) or (
                self.here.cut and self.look.since is not None
            )
            page = None if ended else listed.cursor
            self.here = replace(self.here, page=page, done=(), searched=ended, cut=cut)
            yield self._page(_Found())
        yield from self._end()

    def _is_fresh(self, row: Record) -> bool:
        since, edited = self.look.since, row.get("last_edited_time")
        return since is None or edited is None or parse_time(edited) >= since

    def _read(self, objects: Sequence[Record]) -> Reader:
        for group in batches(objects, 1 if self.what.dear else PAGE):
            found = _Found()
            for each in group:
                if (of := self.what.of(each)) not in self.met:
                    self.met.add(of)
                    yield from self._read_one(each, found)
            self.here = replace(self.here, done=[*self.here.done, *(row["id"] for row in group)])
            yield self._page(found)

    def _read_one(self, row: Record, found: _Found) -> Calls[None]:
        """One that fails leaves the others read, and keeps what was read of it before."""
        id_, failed = row["id"], dict(self.here.failed)
        failed.pop(id_, None)
        try:
            found.records[id_] = yield from self.what.read(row)
            self.in_a_row, self.allowed = 0, True
        except NotShownError:
            found.gone[id_] = True
        except OF_A_PART as error:
            if isinstance(error, PartlyReadError):
                found.partly += error.records
            else:
                self._note(error)
            failed[id_] = str(error)
        except PARSE_ERRORS as error:
            failed[id_] = str(unreadable("Notion", error))
        self.here = replace(self.here, failed=failed)

    def _note(self, error: Exception) -> None:
        """So many in a row that are refused mean that all are; or away, that Notion is."""
        refused = isinstance(error, NotAllowedError) and not self.allowed
        if refused or isinstance(error, ProviderUnavailableError):
            self.in_a_row += 1
            if self.in_a_row >= AWAY_IN_A_ROW:
                raise error

    def _retry(self) -> Reader:
        """Tries what failed once more; it may be gone by now."""
        objects, found = [], _Found()
        for id_ in self.retried:
            try:
                row = yield from one(f"{self.what.path}/{id_}")
            except NotShownError:
                found.gone[id_] = True
            except OF_A_PART as error:
                self._note(error)
            else:
                if row.get("in_trash"):
                    found.gone[id_] = False
                else:
                    objects.append(row)
        self._forget(found.gone)
        yield self._page(found)
        yield from self._read(objects)
        self.here = replace(self.here, done=())

    def _forget(self, gone: Container[str]) -> None:
        left = {id_: why for id_, why in self.here.failed.items() if id_ not in gone}
        self.here = replace(self.here, failed=left)

    def _end(self) -> Reader:
        """What went into the trash since; then the look is over."""
        found = _Found()
        if self.look.since is not None:
            for row in (yield from in_trash(self.what.kind, self._is_fresh)):
                found.gone[row["id"]] = False
                if self.what.keys == "beside":
                    yield from self._read_one(row, found)
        self._forget(found.gone)
        failed, cut = self.here.failed, self.here.cut
        unread = [Unread(id_, ContractError(why)) for id_, why in failed.items()]
        unread += [Unread("search", ContractError(CUT))] if cut else []
        whole = cut or (failed and self.what.keys == "beside")
        unseen = [""] if whole else [self._prefix(id_) for id_ in failed]
        ended = Checkpoint(self.look.checkpoint, **Place(failed=failed, cut=cut).saved())
        yield replace(self._page(found), checkpoint=ended, unread=unread, unseen=unseen)

    def _prefix(self, id_: str) -> str:
        return f"{id_}/" if self.what.keys == "under" else id_

    def _page(self, found: _Found) -> Page:
        rows = [*found.partly, *(row for each in found.records.values() for row in each)]
        deleted = [self.what.key(row) for row in rows if row.get("in_trash")]
        hidden: list[str] = []
        listed: list[ListedKeys] = []
        if self.what.keys == "object":
            deleted += [id_ for id_, hides in found.gone.items() if not hides]
            hidden = [id_ for id_, hides in found.gone.items() if hides]
        elif self.what.keys == "under":
            now, key = self.context.now, self.what.key
            listed = [
                ListedKeys(self._prefix(id_), [key(row) for row in each], now)
                for id_, each in found.records.items()
            ]
            listed += [
                ListedKeys(self._prefix(id_), (), now, hidden=hides)
                for id_, hides in found.gone.items()
            ]
        return Page(
            [row for row in rows if not row.get("in_trash")],
            Checkpoint(self.look.saved, **self.here.saved()),
            deleted=deleted, hidden=hidden, listed_keys=listed,
        )  # fmt: skip


def in_trash(kind: str, is_fresh: Callable[[Record], bool]) -> Calls[list[Record]]:
    """What is in the trash, from the last edited on for as long as that is fresh.

    That it counts as edited when it is moved there is not documented (2026-11): webhooks and the
    audit tell of it as well.
    """
    found: list[Record] = []
    cursor: str | None = None
    while True:
        listed = yield from page_of(search(kind, trash=True), cursor)
        if listed is None:
            found, cursor = [], None
            continue
        fresh = [row for row in listed.rows if is_fresh(row)]
        found += fresh
        cursor = listed.cursor
        if cursor is None or len(fresh) < len(listed.rows):
            return found


def again(
    path: str,
    key: Callable[[Record], str],
    finish: Callable[[Record, str], Calls[Record]],
) -> Callable[[Sequence[str], Context], Reader]:
    """Reads objects by keys that end with their ids. One that went elsewhere has another key."""

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for each in keys:
            try:
                found = yield from one(f"{path}/{each.rpartition('/')[2]}")
            except NotShownError:
                yield Page((), Checkpoint(), hidden=[each])
                continue
            record = yield from finish(found, each)
            records = [] if record.get("in_trash") else [record]
            gone = [each] if not records or key(record) != each else []
            yield Page(records, Checkpoint(), deleted=gone)

    return fetch
