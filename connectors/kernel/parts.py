"""Streams that are read part by part: channels, folders, calendars, objects, sites.

Each part has a checkpoint of its own, and fails by itself: the others are read, what was read of it
before stays, and it is tried again, later each time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias

from connectors.kernel.errors import (
    CheckpointExpiredError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
)
from connectors.kernel.messages import (
    Calls,
    Checkpoint,
    Context,
    ListedKeys,
    Page,
    Reader,
    Request,
    Response,
    Steps,
    Unread,
    ask,
    ask_all,
)
from connectors.kernel.paging import Read
from connectors.kernel.positions import Position
from connectors.kernel.statuses import PARSE_ERRORS, unreadable

# What concerns a part, and not the connection or the vendor as a whole.
OF_A_PART = (NotAllowedError, ContractError, ProviderUnavailableError)
# So many parts in a row that are away mean that the vendor is, or all, where there are fewer.
AWAY_IN_A_ROW = 3
# A part that failed is tried again by the next sync, then after so long, twice as long each time.
NONE, FIRST_PAUSE, LONGEST_PAUSE = timedelta(), timedelta(minutes=10), timedelta(days=1)


@dataclass(frozen=True)
class Parts:
    """The parts that a vendor lists now.

    `present` are to be read. `kept` are known to exist and cannot be read now, such as an archived
    channel: what was read of them stays. A former part in neither is asked about by `check`, where
    there is one, which says in the same way what has become of it. Otherwise it is gone, and what
    was read of it with it; with `hidden`, it is no longer shown to who consented.
    """

    present: Sequence[str]
    kept: Sequence[str] = ()
    hidden: bool = False
    check: "Callable[[Sequence[str]], Calls[Parts]] | None" = None


@dataclass(frozen=True, kw_only=True)
class Round(Position):
    """The checkpoint of a stream of parts: of each its own; what is `kept`, and what `failed`, as
    {"tries", "due", "kind", "error"}.

    In a round there are those that are `todo`, the checkpoint `here` inside of the first of them,
    those that parts had `before`, and from when on the vendor shows records.
    """

    parts: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    kept: Sequence[str] = ()
    failed: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    todo: Sequence[str] = ()
    here: dict[str, Any] | None = None
    before: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    shown_from: str | None = None

    def saved(self) -> Checkpoint:
        """Empty parts are no beginning, nor is an empty place in one."""
        here = {} if self.here is None else {"here": self.here}
        return Checkpoint(super().saved(), parts=self.parts, **here)


Listing: TypeAlias = Callable[[Context], Steps[Parts]]
ReadPart: TypeAlias = Callable[[str], Read]


def each_part(
    listing: Listing,
    read: ReadPart,
    *,
    prefix: Callable[[str], str] | None = None,
    alone: bool = False,
) -> Read:
    """Reads all parts, one round through them a sync; a round that was interrupted goes on.

    `listing` yields Requests and returns the parts there are. `read` gives the reader of one part,
    with the part's own checkpoint: the last one that it yields is where the next round begins.
    Where keys of records begin with a `prefix` of their part, they go with it. A checkpoint that
    the vendor has forgotten starts the whole stream over, or, with `alone`, its part only: for
    vendors that tell of every delete in a record.

    While the stream is read anew, a part that fails keeps where it stood before: a later read of it
    from its beginning would not tell what was deleted. The checkpoint is a `Round`.
    """

    def stream(at: Checkpoint, context: Context) -> Reader:
        walk = _Walk.resumed(at, context, prefix)
        if walk.todo is None:
            yield from _begin(walk, listing, context)
        while walk.todo:
            if walk.here is None:
                # Whatever becomes of this process: the next one begins with another part.
                yield Page((), walk.postponed())
            yield from _try_part(walk, read, context, alone)
        if not walk.ended:
            yield Page((), walk.checkpoint(), **walk.tail())
        if walk.refusal is not None and not walk.allowed and walk.size == len(walk.failed):
            # It is no part that is refused, but all of it.
            raise walk.refusal

    return stream


def _begin(walk: "_Walk", listing: Listing, context: Context) -> Reader:
    """Starts a round: which parts there are, and what is gone with those that are no more."""
    listed = yield from listing(context)
    if listed.check and (left := walk.unlisted(listed)):
        found = yield from listed.check(left)
        present, kept = [*listed.present, *found.present], [*listed.kept, *found.kept]
        listed = replace(listed, present=present, kept=kept)
    gone, of = walk.begin(listed), walk.prefix
    listed_keys = (
        [ListedKeys(of(part), (), context.now, hidden=listed.hidden) for part in gone] if of else []
    )
    yield Page((), walk.checkpoint(), listed_keys=listed_keys)


def _try_part(walk: "_Walk", read: ReadPart, context: Context, alone: bool) -> Reader:
    """Reads the next part. What concerns it alone is noted; other errors are raised."""
    assert walk.todo  # noqa: S101 - there is a part to be read
    part = walk.todo[0]
    try:
        yield from _of_part(walk, part, read(part), context)
    except CheckpointExpiredError as error:
        if not alone:
            raise
        if not walk.restart(part):
            # Its pages cannot be followed: to read it anew would come to this place again.
            again = f"the vendor no longer knows where this part stood, each time: {error}"
            walk.fail(part, ContractError(again))
    except OF_A_PART as error:
        walk.away = walk.away + 1 if isinstance(error, ProviderUnavailableError) else 0
        if walk.away >= min(AWAY_IN_A_ROW, walk.size):
            raise
        walk.fail(part, error)
        walk.refusal = error if isinstance(error, NotAllowedError) else walk.refusal
    except PARSE_ERRORS as error:
        walk.fail(part, unreadable("the vendor", error))
    else:
        walk.away, walk.allowed = 0, True


@dataclass
class _Walk:
    """Where a round stands; it is saved as a `Round`."""

    now: datetime
    parts: dict[str, Any]
    kept: list[str]
    failed: dict[str, dict[str, Any]]
    todo: list[str] | None
    here: dict[str, Any] | None
    before: dict[str, Any]
    shown_from: datetime | None
    prefix: Callable[[str], str] | None
    # Not saved: what this process has met.
    away: int = 0
    allowed: bool = False
    refusal: NotAllowedError | None = None
    restarted: set[str] = field(default_factory=set)
    ended: bool = False

    @classmethod
    def resumed(
        cls, at: Mapping[str, Any], context: Context, prefix: Callable[[str], str] | None
    ) -> "_Walk":
        saved = Round.of(at)
        todo, shown = saved.todo, saved.shown_from
        return cls(
            context.now,
            dict(saved.parts),
            list(saved.kept),
            dict(saved.failed),
            list(todo) if todo else None,
            saved.here,
            dict(saved.before if todo else Round.of(context.before).parts),
            datetime.fromisoformat(shown) if todo and shown else None,
            prefix,
        )

    @property
    def size(self) -> int:
        """How many parts there are."""
        return len({*self.parts, *self.failed, *(self.todo or ())})

    def unlisted(self, listed: Parts) -> list[str]:
        """The former parts that are not listed now."""
        known = {*listed.present, *listed.kept}
        return [part for part in {**self.parts, **self.failed} if part not in known]

    def begin(self, listed: Parts) -> list[str]:
        """Starts a round; the former parts that are gone."""
        gone = self.unlisted(listed)
        for part in gone:
            self.parts.pop(part, None)
            self.failed.pop(part, None)
        self.kept = [part for part in dict.fromkeys(listed.kept) if part not in listed.present]
        self.todo = [part for part in dict.fromkeys(listed.present) if self._is_due(part)]
        return gone

    def _is_due(self, part: str) -> bool:
        failed = self.failed.get(part)
        return failed is None or datetime.fromisoformat(failed["due"]) <= self.now

    def checkpoint(self) -> Checkpoint:
        ended = Round(parts=dict(self.parts), kept=list(self.kept), failed=dict(self.failed))
        if not self.todo:
            return ended.saved()
        shown = self.shown_from.isoformat() if self.shown_from else None
        return replace(
            ended,
            todo=list(self.todo),
            here=self.here,
            before=dict(self.before),
            shown_from=shown,
        ).saved()

    def came(self, page: Page) -> None:
        """Of all parts together no more was shown than of the one that shows the least."""
        if page.shown_from is not None:
            self.shown_from = max(self.shown_from or page.shown_from, page.shown_from)

    def postponed(self) -> Checkpoint:
        assert self.todo  # noqa: S101 - there is a part to be read
        return Checkpoint({**self.checkpoint(), "todo": [*self.todo[1:], self.todo[0]]})

    def end(self, part: str, state: Mapping[str, Any]) -> None:
        self.before.pop(part, None)
        self.parts[part] = dict(state)
        self.failed.pop(part, None)
        self._next()

    def fail(self, part: str, error: Exception) -> None:
        tries = self.failed.get(part, {}).get("tries", 0) + 1
        pause = min(FIRST_PAUSE * 2 ** min(tries - 2, 10), LONGEST_PAUSE) if tries > 1 else NONE
        self.failed[part] = {
            "tries": tries,
            "due": (self.now + pause).isoformat(),
            "kind": type(error).__name__,
            "error": str(error),
        }
        if (before := self.before.pop(part, None)) is not None:
            self.parts[part] = before
        elif self.here is not None and isinstance(error, ProviderUnavailableError):
            self.parts[part] = self.here  # the place is good: it is tried again from there
        # What was stored of it may be more than its checkpoint says: it is only read again.
        self.parts.setdefault(part, {})
        self._next()

    def restart(self, part: str) -> bool:
        """Forgets where the part stood; False if it stood nowhere, or that was done before."""
        stood = self.here or self.parts.get(part)
        if part in self.restarted or not stood:
            return False
        self.restarted.add(part)
        self.here, self.parts[part] = None, {}
        return True

    def tail(self) -> dict[str, Any]:
        """What stands on a round's last page, and on no other."""
        if self.todo:
            return {}
        self.ended = True
        left = (*self.kept, *self.failed)
        unseen = [self.prefix(part) if self.prefix else "" for part in left]
        return {"unread": self.unread(), "unseen": unseen, "shown_from": self.shown_from}

    def _next(self) -> None:
        self.todo, self.here = (self.todo or [])[1:], None

    def unread(self) -> list[Unread]:
        kinds = {kind.__name__: kind for kind in OF_A_PART}
        return [
            Unread(part, kinds.get(failed["kind"], ContractError)(failed["error"]))
            for part, failed in self.failed.items()
        ]


def _of_part(walk: _Walk, part: str, read: Read, context: Context) -> Reader:
    """Reads one part; its pages bear the checkpoint of the round. Its last page ends it."""
    state = walk.here if walk.here is not None else walk.parts.get(part, {})
    reader = read(Checkpoint(state), context)
    last: Page | None = None
    answer: Any = None
    while True:
        try:
            failed = isinstance(answer, Exception)
            action = reader.throw(answer) if failed else reader.send(answer)
        except StopIteration:
            break
        except Exception:
            if last is not None:  # what was read before it failed is kept
                walk.here = dict(last.checkpoint)
                yield replace(last, checkpoint=walk.checkpoint())
            raise
        if not isinstance(action, Page):
            try:
                answer = yield action
            except Exception as error:
                answer = error
            continue
        walk.came(action)
        if last is not None:
            walk.here = dict(last.checkpoint)
            yield replace(last, checkpoint=walk.checkpoint())
        last, answer = action, None
    if last is None:
        raise ContractError(f"the reader of part {part} ended without a page")
    walk.end(part, last.checkpoint)
    yield replace(last, checkpoint=walk.checkpoint(), **walk.tail())


def ask_each(
    requests: Sequence[Request],
) -> Steps[list[Response | Exception]]:
    """The answer of each request, or the error of one that fails by itself.

    They are asked side by side; only when one fails is each asked alone, to know which. So many in
    a row that are away mean that the vendor is: then the last error is raised.
    """
    try:
        return list((yield from ask_all(requests)))
    except OF_A_PART as error:
        if len(requests) == 1:
            return [error]
    answers: list[Response | Exception] = []
    away = 0
    for request in requests:
        try:
            answers.append((yield from ask(request)))
            away = 0
        except OF_A_PART as error:
            away = away + 1 if isinstance(error, ProviderUnavailableError) else 0
            if away >= AWAY_IN_A_ROW:
                raise
            answers.append(error)
    return answers
