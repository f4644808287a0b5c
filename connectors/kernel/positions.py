"""Where a reader stands, under names that mypy knows: a misspelt key would be a silent re-read."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Self

from connectors.kernel.messages import Checkpoint


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a reader stands in its stream: the fields of a subclass are the checkpoint's keys.

    They are JSON values. A field with a default may be missing in the checkpoint; a name that
    Python keeps for itself has an underscore after it, `from_`.
    """

    @classmethod
    def of(cls, at: Mapping[str, Any]) -> Self:
        """The position that a checkpoint holds. Keys that are none of its own are passed over."""
        keys = {each.name: each.name.rstrip("_") for each in fields(cls)}
        return cls(**{name: at[key] for name, key in keys.items() if key in at})

    def saved(self) -> Checkpoint:
        """The checkpoint that holds this position, without what goes without saying."""
        values = ((each, getattr(self, each.name)) for each in fields(self))
        return Checkpoint(
            {each.name.rstrip("_"): held for each, held in values if not _is_default(each, held)}
        )


def _is_default(each: "Field[Any]", held: Any) -> bool:
    is_empty = isinstance(held, str | list | tuple | dict | set) and not held
    return is_empty or (each.default is not MISSING and held == each.default)
