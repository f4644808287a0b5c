"""How a stream is read: part by part, time by time, page by page, with a checkpoint after each.

A part that fails leaves the others. What could not be read, or was to be ignored, is not gone:
then a listing says of nothing that it is.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

from connectors import (
    ConnectorError,
    NotAllowedError,
    ProviderUnavailableError,
    Record,
)
from connectors.kernel.looks import Look, Looks
from connectors.kernel.messages import Answered, Asked
from connectors.kernel.parts import AWAY_IN_A_ROW, OF_A_PART
from connectors.kernel.statuses import PARSE_ERRORS, unreadable
from recipes.cursors import TimeCursor, Window
from recipes.exports import Export
from recipes.options import Options
from recipes.paginators import Answer, Paginator
from recipes.places import Rows, Where, key_of, later_of, name_of, unread_of, whole_key_of
from recipes.requests import Requester
from recipes.runs import Run
from recipes.selectors import Selector
from recipes.slices import Batch, Inner, Lone, Router
from recipes.templates import Scope, Template
from recipes.values import Slice

LOOKS = Looks()
# Of so many parts the checkpoint knows each by itself; of more only how far they are all read.
MAX_PARTS = 2_000
MAX_FAILED = 100
NO_CONTENT = 204
# So many parts of a round are told apart.
MAX_KNOWN = 200_000


RowsOf: TypeAlias = Generator[Asked | Rows, Answered | None, None]


@dataclass(frozen=True)
class Plan:
    """A stream of a manifest, ready to be read."""

    name: str
    requester: Requester
    paginator: Paginator
    selector: Selector
    router: Router
    cursor: TimeCursor | None
    slices_only_first: bool = False
    export: Export | None = None

    @property
    def is_whole(self) -> bool:
        """Whether each read shows all the records there are."""
        return self.cursor is None and self.router.is_whole

    @property
    def links_to_files(self) -> bool:
        """Whether answers link to files that lie elsewhere."""
        return self.requester.is_elsewhere

    def addresses(self) -> list[Template]:
        """All addresses that a read may ask, those of its parents too."""
        parents = [each for plan in self.router.parents() for each in plan.addresses()]
        if (export := self.export) is not None:
            more = [
                export.create,
                export.poll,
                *([export.ask_targets] if export.ask_targets else []),
            ]
            parents += [each for one in more for each in one.addresses()]
        return [*self.requester.addresses(), *parents]

    def rows(self, run: Run, at: Mapping[str, Any]) -> RowsOf:
        """All records, or those since the checkpoint; the last rows end the round."""
        walk = _Walk(self, run, Where.of(at))
        try:
            yield from walk.round()
        except Exception:
            yield from walk.give()  # what was read before it failed is kept
            raise

    def options(self, run: Run, slice: Slice, token: Any) -> Options:
        made = self.paginator.options(run, token)
        if token is None or not self.slices_only_first:
            made.add(self.router.options(run.scope, slice))
            if self.cursor is not None:
                made.add(self.cursor.options(run.scope, slice))
        return made


class _Walk:
    """One round through a stream. What is held back is given with the place that is true then."""

    def __init__(self, plan: Plan, run: Run, at: Where) -> None:
        self.plan, self.run = plan, run
        begins = at.now is None
        now = run.scope.now if begins else datetime.fromisoformat(at.now or "")
        self.look: Look = LOOKS.begin(at.look, now)
        self.scope = Scope(run.scope.config, now)
        # How far each part is read stays as it was until the part is read to its end.
        self.parts = dict(at.parts)
        self.at = replace(at, now=now.isoformat(), look=self.look.saved)
        if begins:
            self.at = replace(self.at, outer={"ended": at.follows} if at.follows else {})
        self.is_fresh, self.resumes = begins, not begins
        self.failed = dict(at.failed)
        self.held: Rows | None = None
        self.part_seen: datetime | None = None
        self.has_untimed = False
        self.read: set[bytes] = set()
        self.away = 0
        self.refusal: NotAllowedError | None = None
        self.allowed = 0

    def round(self) -> RowsOf:
        walk: Inner[Batch] = Inner(self.plan.router.batches(self.run, self.at.outer))
        while (batch := (yield from walk.following())) is not None:
            yield from self._batch(batch)
        yield from self._end()

    def give(self, rows: Rows | None = None) -> RowsOf:
        """Gives what is held back, and holds these rows in its place."""
        held, self.held = self.held, None
        if held is not None:
            yield replace(held, after=self._place())
        self.held = rows

    def _place(self) -> Mapping[str, Any]:
        return replace(self.at, parts=self.parts, failed=self.failed).saved()

    def _batch(self, batch: Batch) -> RowsOf:
        self.at = replace(self.at, left_out=self.at.left_out or batch.left_out)
        keys = [key_of(slice) for slice in batch.slices]
        done, self.resumes = (self.at.done if self.resumes else 0), False
        if done and (done > len(keys) or keys[done - 1] != self.at.last):
            # The page of parents is another by now: its parts are read from the first on.
            done = 0
            self.at = replace(self.at, time=None, page=None)
        for index in range(done, len(keys)):
            slice, key = batch.slices[index], keys[index]
            if self._is_new(slice):
                yield from self._part(slice, key)
            self.at = replace(self.at, done=index + 1, last=key, time=None, page=None)
        self.at = replace(self.at, outer=batch.after, done=0, last="", time=None, page=None)

    def _is_new(self, slice: Slice) -> bool:
        """Whether no part that is just the same was read in this round, as of two parents."""
        whole = whole_key_of(slice)
        if whole in self.read:
            return False
        if len(self.read) < MAX_KNOWN:
            self.read.add(whole)
        return True

    def _part(self, slice: Slice, key: str) -> RowsOf:
        self.part_seen, self.has_untimed = None, False
        try:
            yield from self._times(slice, key)
        except OF_A_PART as error:
            is_away = isinstance(error, ProviderUnavailableError)
            self.away = self.away + 1 if is_away else 0
            if isinstance(self.plan.router, Lone) and not slice.partition:
                raise
            if self.away >= AWAY_IN_A_ROW or len(self.failed) >= MAX_FAILED:
                raise
            self.refusal = error if isinstance(error, NotAllowedError) else self.refusal
            self._fail(slice, error)
        except PARSE_ERRORS as error:
            found = unreadable(self.run.title, error)
            if isinstance(self.plan.router, Lone) and not slice.partition:
                raise found from error
            self._fail(slice, found)
        else:
            self.away, self.allowed = 0, self.allowed + 1
            self._note(key)

    def _fail(self, slice: Slice, error: ConnectorError) -> None:
        name = name_of(slice)
        self.failed[name] = {"kind": type(error).__name__, "error": str(error)}

    def _note(self, key: str) -> None:
        """Notes how far a part is read, which is read to its end now."""
        if self.plan.cursor is None or self.at.many:
            return
        if self.part_seen is None and self.has_untimed:
            return  # nobody knows how far: it is read from where it began
        before = self.parts.get(key) or None
        latest = later_of(before, self.part_seen, self.scope.now)
        self.parts[key] = latest or ""
        if len(self.parts) > MAX_PARTS:
            self.parts, self.at = {}, replace(self.at, many=True)

    def _since(self, key: str) -> datetime | None:
        """How far a part is read, None where it is to be read from its start."""
        if self.at.many:
            known: str | None = self.at.cursor or ""
        else:
            known = self.parts.get(key)
        if known is None or self.look.since is None:
            return None
        if not known and self.plan.cursor and self.plan.cursor.is_count:
            return None  # what a count stood at is not known by when we looked
        # Never later than the last look: what shows late, or bears a time to come, is not missed.
        latest = datetime.fromisoformat(known) if known else self.look.since
        return min(latest, self.look.since)

    def _times(self, slice: Slice, key: str) -> RowsOf:
        cursor = self.plan.cursor
        if cursor is None:
            yield from self._read(slice, None)
            return
        window = cursor.window(self.scope, self._since(key))
        under_way = datetime.fromisoformat(self.at.time) if self.at.time else None
        for start, times in cursor.steps(window, self.scope):
            if under_way is not None and start < under_way:
                continue
            if under_way != start:
                self.at = replace(self.at, page=None)
            self.at = replace(self.at, time=start.isoformat())
            yield from self._read(slice.within(times), window)
            self.at = replace(self.at, page=None)

    def _read(self, slice: Slice, window: Window | None) -> RowsOf:
        export = self.plan.export
        if export is None:
            yield from self._pages(slice, window)
            return
        job = self.run.shown(self.at.page)
        if job is None:
            job = yield from export.created(self.run, slice)
            self.at = replace(self.at, page=self.run.hidden(job))
            yield from self.give(Rows([], slice))
            yield from self.give()  # saved at once: another job for the same would be one too many
        try:
            downloads = yield from export.downloads(self.run, slice, job)
            self.at = replace(self.at, page=None)
            for download in downloads:
                yield from self._pages(download, window)
                self.at = replace(self.at, page=None)
        except OF_A_PART:
            self.at = replace(self.at, page=None)  # a job that failed is not asked about again
            self.held = self.held or Rows([], slice)
            raise

    def _pages(self, slice: Slice, window: Window | None) -> RowsOf:
        plan, run = self.plan, self.run
        resumed = self.at.page is not None
        token = run.shown(self.at.page) if resumed else plan.paginator.first(run)
        while True:
            response = yield from plan.requester.ask(
                run,
                slice,
                token,
                options=plan.options(run, slice, token),
                path=plan.paginator.path(token),
                resumed=resumed,
            )
            resumed = False
            if response is None:  # to be ignored
                self.at = replace(self.at, left_out=True)
                yield from self.give(Rows([], slice))
                return
            bodies = plan.requester.bodies(response)
            found = plan.selector.extractor.found(run, bodies)
            kept = plan.selector.selected(run, found.rows, slice, token)
            fresh = kept
            if plan.cursor and window and (plan.cursor.is_feed or plan.cursor.filters):
                fresh = [one for one in kept if plan.cursor.holds(window, one, self.scope)]
            if found.missing and response.status != NO_CONTENT:
                self.at = replace(self.at, lacks=True)
            elif not self.at.holds:
                self.at = replace(self.at, holds=True)
            yield from self.give(Rows(fresh, slice))
            self._observe(fresh)
            shown = kept if plan.cursor and plan.cursor.is_feed else fresh
            last = shown[-1] if shown else None
            body = bodies[0] if bodies else {}
            answer = Answer(response, body, len(found.rows), len(shown), last, slice)
            if window and plan.cursor and plan.cursor.is_feed and last is not None:
                ends = not plan.cursor.holds(window, last, self.scope)
                if ends:
                    return
            token = plan.paginator.after(run, answer, token)
            if token is None:
                return
            self.at = replace(self.at, page=run.hidden(token))

    def _observe(self, records: list[Record]) -> None:
        cursor = self.plan.cursor
        if cursor is None:
            return
        times = [at for one in records if (at := cursor.time_of(one, self.scope)) is not None]
        if not times:
            self.has_untimed = self.has_untimed or bool(records)
            return
        self.part_seen = max([*times, self.part_seen] if self.part_seen else times)
        self.at = replace(self.at, seen=later_of(self.at.seen, self.part_seen, self.scope.now))

    def _end(self) -> RowsOf:
        at = self.at
        seen = datetime.fromisoformat(at.seen) if at.seen else None
        follows = at.outer.get("ended", {})
        final = Where(
            cursor=later_of(at.cursor, seen, self.scope.now),
            look=self.look.checkpoint,
            parts=self.parts,
            many=at.many,
            follows=follows,
        )
        if self.failed and (at.many or follows):
            # How far the failed ones are read is not known by itself: all begin where they did.
            final = replace(final, cursor=at.cursor, look=self._look_before(), follows={})
        if self.plan.is_whole:
            final = Where()
        elif self.plan.cursor is None:
            final = Where(follows=final.follows)
        held, self.held = self.held or Rows([], Slice()), None
        unread = tuple(unread_of(name, found) for name, found in self.failed.items())
        # A vendor that leaves the place for records out where there are none has it elsewhere.
        is_odd = at.lacks and not at.holds
        left_out = at.left_out or is_odd or bool(self.failed)
        yield replace(held, after=final.saved(), ends=True, left_out=left_out, unread=unread)
        if self.refusal is not None and not self.allowed and self.is_fresh:
            # It is no part that is refused, but all of it.
            raise self.refusal

    def _look_before(self) -> Mapping[str, Any]:
        since = self.look.since
        return {"looked": since.isoformat()} if since else {}
