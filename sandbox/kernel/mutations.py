"""What may be ordered of a vendor's records: each function says of which stream it does what.

MUTATIONS = Mutations[Mailbox](settable={"messages": ("subject", "isRead")})

@MUTATIONS.of("messages", "add")
def add_message(mailbox: Mailbox, change: Change) -> str: ...

vendor = Vendor(..., mutable=MUTATIONS.mutable, apply=MUTATIONS.apply)
"""

from collections.abc import Callable, Collection, Container, Iterable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

from sandbox.kernel.values import OPS, Change, Json, Op, RefusedError

S = TypeVar("S")
# Gives the record's id, if it is new or another now.
Step: TypeAlias = Callable[[S, Change], str | None]
F = TypeVar("F", bound=Step[Any])


class Mutations(Generic[S]):
    """The orders that a vendor takes.

    `settable` are the fields of a stream that an order may set, unless its function sees to that;
    others are refused with the status `unknown`. `there` are the ids of a stream that can be
    changed or deleted, where a record may go with another before its turn: then the order is
    refused, as it is by an error of `refusals`.
    """

    def __init__(
        self,
        *,
        settable: Mapping[str, Collection[str]] | None = None,
        there: Callable[[S, str], Container[str]] | None = None,
        refusals: tuple[type[Exception], ...] = (),
        unknown: int = 400,
    ) -> None:
        self.mutable: dict[str, tuple[Op, ...]] = {}
        self._settable = settable or {}
        self._there = there
        self._refusals = refusals
        self._unknown = unknown
        self._steps: dict[tuple[str, Op], Step[S]] = {}

    def of(self, streams: str | Iterable[str], *ops: Op) -> Callable[[F], F]:
        """Whose function carries out those orders (all, where none are named) of one or more."""

        def registered(step: F) -> F:
            for stream in (streams,) if isinstance(streams, str) else streams:
                self._steps |= dict.fromkeys(((stream, op) for op in ops or OPS), step)
                self.mutable[stream] = tuple(op for op in OPS if (stream, op) in self._steps)
            return step

        return registered

    def apply(self, state: S, change: Change) -> str:
        """Carries out an order of the stream, and gives the record's id."""
        stream, op = change.stream, change.op
        if stream in self._settable:
            refuse_unknown(stream, change.record, self._settable[stream], self._unknown)
        if op != "add" and self._there and change.id not in self._there(state, stream):
            message = f"{stream}: {change.id!r} went with another, or is not to be changed"
            raise RefusedError(message, status=409)
        try:
            return self._steps[stream, op](state, change) or str(change.id)
        except self._refusals as error:
            raise RefusedError(f"{stream}: {error}", status=400) from error


def refuse_unknown(what: str, record: Json, settable: Iterable[str], status: int = 400) -> None:
    """An order sets no other fields than these."""
    if unknown := sorted(set(record) - set(settable)):
        known = ", ".join(settable)
        raise RefusedError(f"{what} has no {unknown} to set; it has: {known}", status=status)
