"""Streams that are read in one way at first, and in another once it is known how far they are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from recipes.cursors import TimeCursor
from recipes.places import Rows
from recipes.reading import Plan, RowsOf
from recipes.runs import Run
from recipes.slices import Inner
from recipes.templates import Template


@dataclass(frozen=True)
class Delegating:
    """`first` reads everything; from where that ended, `then` reads what changed."""

    name: str
    first: Plan
    then: Plan
    is_whole: bool = False

    @property
    def cursor(self) -> TimeCursor | None:
        return self.then.cursor

    @property
    def links_to_files(self) -> bool:
        return self.first.links_to_files or self.then.links_to_files

    def addresses(self) -> list[Template]:
        return [*self.first.addresses(), *self.then.addresses()]

    def rows(self, run: Run, at: Mapping[str, Any]) -> RowsOf:
        if at and "first" not in at:
            yield from self.then.rows(run, at)
            return
        walk: Inner[Rows] = Inner(self.first.rows(run, at.get("first", {})))
        while (rows := (yield from walk.following())) is not None:
            yield rows if rows.ends else replace(rows, after={"first": dict(rows.after)})
