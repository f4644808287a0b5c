"""Positions: what of a checkpoint a reader sees, and what is saved of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from connectors.kernel.positions import Position


@dataclass(frozen=True, kw_only=True)
class Place(Position):
    since: str
    from_: str | None = None
    pages: int | None = 0
    todo: Sequence[str] = ()


def test_a_position_is_saved_without_what_goes_without_saying() -> None:
    assert Place(since="x").saved() == {"since": "x"}
    assert Place(since="x", from_="y", pages=None, todo=["a"]).saved() == {
        "since": "x", "from": "y", "pages": None, "todo": ["a"],
    }  # fmt: skip
    assert Place(since="x", todo=[]).saved() == {"since": "x"}


def test_keys_of_another_release_are_passed_over() -> None:
    assert Place.of({"since": "x", "from": "y", "later": 1}) == Place(since="x", from_="y")


def test_what_must_be_there_is_missed() -> None:
    with pytest.raises(TypeError):
        Place.of({"from": "y"})
    with pytest.raises(TypeError):
        Place(sinse="x")  # type: ignore[call-arg]
