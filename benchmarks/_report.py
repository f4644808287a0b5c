"""What was measured, in tables: for a terminal, as Markdown, as JSON; and whether it will do."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks._run import Compared, Results, Series

MOST_TIMES_THE_FLOOR = 1.6
MOST_MIB_OVER_IDLE = 200
MOST_SECONDS_OVER_EMPTY = 0.3
COLUMNS = ("", "wall s", "records/s", "CPU s, own", "CPU s, Prefect", "CPU s, PostgreSQL", "MiB")


@dataclass(frozen=True)
class Verdict:
    """A target, what came of it, and whether it is met."""

    title: str
    target: str
    result: str
    met: bool

    @property
    def word(self) -> str:
        return "met" if self.met else "MISSED"


def verdicts(results: Results) -> list[Verdict]:
    found = []
    for compared in results.compared:
        # Of each round by itself: the machine is not the same from one minute to the next.
        ratios = [
            flow / floor
            for flow, floor in zip(compared.flow.seconds, compared.floor.seconds, strict=True)
        ]
        ratio = median(ratios)
        found.append(
            Verdict(
                f"wall time, {compared.scenario.title}",
                f"at most {MOST_TIMES_THE_FLOOR:g}x the floor",
                f"{ratio:.2f}x ({min(ratios):.2f}-{max(ratios):.2f})",
                ratio <= MOST_TIMES_THE_FLOOR,
            )
        )
    for compared in results.compared:
        over = _mib_over_idle(compared.flow)
        found.append(
            Verdict(
                f"memory, {compared.scenario.title}",
                f"at most {MOST_MIB_OVER_IDLE} MiB over idle",
                f"{over:.0f} MiB over {compared.flow.idle_bytes / 2**20:.0f} MiB",
                over <= MOST_MIB_OVER_IDLE,
            )
        )
    over = median(results.no_change.seconds) - median(results.empty.seconds)
    found.append(
        Verdict(
            "no-change sync",
            f"at most {MOST_SECONDS_OVER_EMPTY:g} s over an empty flow of three tasks",
            f"{over:+.2f} s ({_spread(results.no_change.seconds)}"
            f" against {_spread(results.empty.seconds)} s)",
            over <= MOST_SECONDS_OVER_EMPTY,
        )
    )
    return found


def rows(results: Results) -> list[tuple[str, ...]]:
    """The measured values: medians of the counted rounds, and their extremes where it matters."""
    made: list[tuple[str, ...]] = []
    for compared in results.compared:
        records = compared.scenario.records
        made.append((compared.scenario.title, "", "", "", "", "", ""))
        made.append(_row("floor", compared.floor, records, prefect=False))
        made.append(_row("flow", compared.flow, records))
    made.append(("nothing new", "", "", "", "", "", ""))
    made.append(_row("empty flow", results.empty, None))
    made.append(_row("no-change sync", results.no_change, None))
    return made


def _row(
    name: str, series: Series, records: int | None, *, prefect: bool = True
) -> tuple[str, ...]:
    return (
        name,
        _spread(series.seconds),
        f"{records / median(series.seconds):,.0f}" if records else "",
        _cpu(series, "own"),
        _cpu(series, "prefect") if prefect else "",
        _cpu(series, "postgresql"),
        f"{_mib_over_idle(series):+.0f}" if series.idle_bytes else "",
    )


def _spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def _cpu(series: Series, name: str) -> str:
    return f"{median(cpu[name] for cpu in series.cpu):.2f}"


def _mib_over_idle(series: Series) -> float:
    return (series.peak_bytes - series.idle_bytes) / 2**20


def notes(results: Results) -> list[str]:
    """What one must know to read the tables."""
    machine = results.machine
    counted = len(results.compared[0].flow.seconds)
    return [
        f"{machine['date']}, {machine['cpu']}, {machine['memory']}, {machine['system']}; "
        f"Python {machine['python']}, PostgreSQL {machine['postgresql']}, "
        f"Prefect {machine['prefect']}. Load at the start {machine['load']},"
        f" nice {machine['nice']}.",
        f"Medians (least-most) of {counted} rounds after a warm-up, floor and flow in turn, "
        f"and of {len(results.no_change.seconds)} of the no-change sync. Records have 1 KB.",
        "CPU is user and system time of whole process trees, until they are quiet again; "
        "PostgreSQL's includes what it does for Prefect. MiB is the peak over the idle process.",
    ]


def markdown(results: Results) -> str:
    lines = ["| target | wanted | result | |", "|---|---|---|---|"]
    lines += [f"| {v.title} | {v.target} | {v.result} | **{v.word}** |" for v in verdicts(results)]
    lines += ["", f"|{'|'.join(COLUMNS)}|", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    for title, *cells in rows(results):
        head = f"**{title}**" if not any(cells) else title
        lines.append(f"| {head} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"* {note}" for note in notes(results))]) + "\n"


def as_json(results: Results) -> dict[str, Any]:
    return {
        "machine": results.machine,
        "targets": [asdict(verdict) for verdict in verdicts(results)],
        "scenarios": [_compared(compared) for compared in results.compared],
        "no_change": {"empty": asdict(results.empty), "sync": asdict(results.no_change)},
    }


def _compared(compared: Compared) -> dict[str, Any]:
    records = compared.scenario.records
    return asdict(compared) | {
        "records_per_second": {
            "floor": round(records / median(compared.floor.seconds)),
            "flow": round(records / median(compared.flow.seconds)),
        }
    }
