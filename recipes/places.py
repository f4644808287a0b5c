"""Where a read of a stream stands, and what it gives."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors import ContractError, Position, Record, Unread
from connectors.kernel.parts import OF_A_PART
from recipes.decoders import text_of
from recipes.values import Slice


@dataclass(frozen=True, kw_only=True)
class Where(Position):
    """The checkpoint of a stream. What the last round left: the latest time seen in all (`cursor`)
    and in each of its `parts`, unless there are too `many`, when it looked, and where the streams
    that it `follows` stood. In a round there is `now`, its beginning, and the place inside of it:
    where the router stood (`outer`), how many parts of that batch are `done` and which was the
    `last`, the beginning of the `time` and the `page` under way. `holds` and `lacks` say that
    answers had a place for records, and that some had none."""

    cursor: str | None = None
    look: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    many: bool = False
    follows: Mapping[str, Any] = field(default_factory=dict)
    now: str | None = None
    seen: str | None = None
    outer: Mapping[str, Any] = field(default_factory=dict)
    done: int = 0
    last: str = ""
    time: str | None = None
    page: Any = None
    left_out: bool = False
    lacks: bool = False
    holds: bool = False
    failed: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rows:
    """Records that came together, of one part, and the checkpoint that is true with them. The last
    of a round `ends` it: it says what was `left_out`, and which parts are `unread`."""

    records: list[Record]
    slice: Slice
    after: Mapping[str, Any] = field(default_factory=dict)
    ends: bool = False
    left_out: bool = False
    unread: tuple[Unread, ...] = ()


def later_of(known: str | None, seen: datetime | None, now: datetime) -> str | None:
    """The later of two times, but none that is yet to come."""
    before = datetime.fromisoformat(known) if known else None
    both = [at for at in (before, seen) if at is not None]
    return min(max(both), now).isoformat() if both else None


def key_of(slice: Slice) -> str:
    text = text_of(dict(slice.partition))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def whole_key_of(slice: Slice) -> bytes:
    """The same, with what the part bears beside."""
    text = text_of([dict(slice.partition), dict(slice.extra_fields)])
    return hashlib.sha256(text.encode()).digest()[:8]


def name_of(slice: Slice) -> str:
    """A part, as a person knows it: by the values that it is."""
    values = [value for name, value in slice.partition.items() if name != "parent_slice"]
    return ", ".join(map(str, values))[:120]


def unread_of(name: str, found: Mapping[str, Any]) -> Unread:
    kinds = {kind.__name__: kind for kind in OF_A_PART}
    kind = kinds.get(found["kind"], ContractError)
    return Unread(name, kind(found["error"]))
