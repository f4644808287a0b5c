"""Where a reader stands, under names that mypy knows: a misspelt key would be a silent re-read."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Self

from connectors.kernel.messages import Checkpoint


class Position:
    """Where a reader stands in its stream. A subclass is a dataclass of JSON values, and its fields
    are the keys of the checkpoint.

    A field with a default may be missing there; `init=False` stands for one that is not saved. A
    name that Python keeps for itself has an underscore after it, `from_`.
    """

    @classmethod
    def of(cls, at: Mapping[str, Any]) -> Self:
        """The position that a checkpoint holds. Keys that are none of its own are passed over."""
        keys = {each.name: _key(each) for each in _fields(cls)}
        return cls(**{name: at[key] for name, key in keys.items() if key in at})

    def saved(self) -> Checkpoint:
        """The checkpoint that holds this position, without what goes without saying."""
        held = {each: getattr(self, each.name) for each in _fields(type(self))}
        return Checkpoint(
            {_key(each): value for each, value in held.items() if not _is_default(each, value)}
        )

    def beside(self, at: Mapping[str, Any]) -> Checkpoint:
        """A checkpoint that somebody else's keys stand in, with this position for our own."""
        own = {_key(each) for each in _fields(type(self))}
        others = {key: value for key, value in at.items() if key not in own}
        return Checkpoint(others, **self.saved())


def _fields(cls: Any) -> "list[Field[Any]]":
    return [each for each in fields(cls) if each.init]


def _key(each: "Field[Any]") -> str:
    return each.name.rstrip("_")


def _is_default(each: "Field[Any]", value: Any) -> bool:
    is_empty = isinstance(value, list | tuple | dict) and not value
    return is_empty or (each.default is not MISSING and value == each.default)


@dataclass(frozen=True)
class AtPage(Position):
    """The place of a plain listing: the page that comes next."""

    page: str | None = None
