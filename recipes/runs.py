"""One read of a connection's stream: what it knows, and the tokens that it got on the way."""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from connectors import Context
from recipes.templates import Scope

# A shorter setting is no secret worth hiding, and stands in much that has nothing to do with it.
SHORTEST = 6


def _texts(node: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield name, node
    elif isinstance(node, Mapping):
        for key, inner in node.items():
            yield from _texts(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(node, list):
        for index, inner in enumerate(node):
            yield from _texts(inner, f"{name}.{index}")


def _replaced(value: Any, pairs: list[tuple[str, str]]) -> Any:
    if isinstance(value, str):
        for old, new in pairs:
            value = value.replace(old, new)
        return value
    if isinstance(value, dict):
        return {key: _replaced(inner, pairs) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_replaced(inner, pairs) for inner in value]
    return value


@dataclass(frozen=True)
class Token:
    """An access token that was asked for, and until when it is good."""

    text: str = field(repr=False)
    until: datetime | None = None


@dataclass
class Run:
    """`tokens` holds them by the component that asked for them, for as long as the read lasts;
    `refused` are those components of which the vendor refused one."""

    title: str
    scope: Scope
    tokens: dict[int, Token] = field(default_factory=dict, repr=False)
    refused: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, title: str, context: Context) -> "Run":
        # A copy: what a template did to it would be there for the next read.
        return cls(title, Scope(deepcopy(dict(context.config)), context.now))

    def hidden(self, value: Any) -> Any:
        """What a checkpoint may hold of a vendor's value, such as a link that bears our key: in the
        place of a setting stands its name."""
        return _replaced(value, [(text, mark) for mark, text in self._marks()])

    def shown(self, value: Any) -> Any:
        """The vendor's value again."""
        return _replaced(value, self._marks())

    def _marks(self) -> list[tuple[str, str]]:
        found = [(name, text) for name, text in _texts(self.config, "") if len(text) >= SHORTEST]
        found.sort(key=lambda pair: len(pair[1]), reverse=True)
        plain = [(f"⟦{name}⟧", text) for name, text in found]
        quoted = [(f"⟦%{name}⟧", quote(text, safe="")) for name, text in found]
        return [*plain, *quoted]

    @property
    def config(self) -> Mapping[str, Any]:
        return self.scope.config
