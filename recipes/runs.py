"""One read of a connection's stream: what it knows, and the tokens that it got on the way."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from connectors import Context
from recipes.templates import Scope


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

    @property
    def config(self) -> Mapping[str, Any]:
        return self.scope.config
