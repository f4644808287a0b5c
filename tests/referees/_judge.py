"""What the CDK and we make of one manifest, and whether that is the same."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any, Literal

import recipes
from tests.referees._cdk import Cdk
from tests.referees._compare import Difference, compare
from tests.referees._read import read
from tests.referees.player.vendor import RUNS

# equal: each stream that the CDK reads, in each run. in part: all that we read is equal, and we say
# of the others that we do not read them. fallback: the manifest names Python of its own.
Outcome = Literal["equal", "in part", "different", "fallback", "unread", "unplayable"]


@dataclass
class Verdict:
    """`unread` are our reasons, `differences` what is not equal, `unplayable` what nobody tried."""

    outcome: Outcome
    streams: int = 0
    equal: int = 0
    whole: bool = False
    python: bool = False
    unread: list[tuple[str, int, str]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    unplayable: dict[str, str] = field(default_factory=dict)
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class OverTimeError(BaseException):
    """The time is over; no handler of a program's own errors takes it for one."""


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Ends what is under way after that time, in a process's main thread."""

    def over(number: int, frame: FrameType | None) -> None:
        raise OverTimeError(f"not read within {seconds:.0f} s")

    former = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def judge(text: str, referee: Cdk, *, seconds: float = 100, bare: bool = False) -> Verdict:
    """Reads a manifest on both sides, and compares."""
    python = "class_name:" in text
    theirs = referee.read(text, seconds=seconds, bare=bare)
    try:
        with within(seconds):
            if "resolved" not in theirs:
                recipe = recipes.read(text, name="made_up")
                unread = [(one.stream, one.line, one.why) for one in recipe.unread]
                return Verdict(
                    "fallback" if python else "unplayable",
                    whole=not unread,
                    python=python,
                    unread=unread,
                    why=theirs.get("failed", ""),
                )
            ours = read(text, theirs["resolved"], tuple(RUNS), bare=bare, dynamic=theirs["dynamic"])
    except OverTimeError as error:
        return Verdict("different", python=python, why=f"ours: {error}")
    except recipes.ManifestError as error:
        return Verdict("fallback" if python else "unread", python=python, why=str(error))
    return _verdict(theirs, ours, python)


def _verdict(theirs: dict[str, Any], ours: dict[str, Any], python: bool) -> Verdict:
    streams = {name: one for name, one in theirs["runs"]["first"]["streams"].items()}
    unread = [tuple(one) for one in ours["unread"]]
    differences = list(compare(theirs, ours))
    unplayable = {name: one["unplayable"] for name, one in streams.items() if one["unplayable"]}
    unplayable |= {name: why for name, why in theirs["runs"]["first"]["left"].items() if not python}
    read_by_us = {name for name in streams if name in ours["runs"]["first"]["streams"]}
    missing = set(streams) - read_by_us - {name for name, _, _ in unread}
    if any(why.startswith("streams that only") for _, _, why in unread):
        missing -= {str(one.get("name")) for one in theirs["dynamic"]}
    differences += [Difference(name, "first", "missing", "") for name in sorted(missing)]
    unlike = {difference.stream for difference in differences}
    equal = read_by_us - unlike - set(unplayable)
    if differences:
        outcome: Outcome = "different"
    elif python and not equal:
        outcome = "fallback"
    elif not streams or (read_by_us and not equal):
        outcome = "unplayable"
    elif not read_by_us:
        outcome = "unread"
    else:
        outcome = "in part" if unread else "equal"
    return Verdict(
        outcome,
        streams=len(streams),
        equal=len(equal),
        whole=not unread,
        python=python,
        unread=unread,
        differences=differences,
        unplayable=unplayable,
    )
