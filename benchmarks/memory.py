"""`python -m benchmarks.memory`: whether a sync's memory is flat however much it reads.

The process that runs the flow is looked at, in a sync of 100,000 records and in one of a million.
"""

import argparse
import sys

from rich.console import Console

from benchmarks._process import BenchmarkError
from benchmarks._run import Scenario, Series, measure_memory

out, err = Console(width=None if sys.stdout.isatty() else 120), Console(stderr=True)
MOST = 1.25


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--records", type=int, nargs=2, default=(100_000, 1_000_000))
    options = parser.parse_args()
    scenarios = [Scenario(f"{n:,} records, 1,000 a page", n, 1_000, 0.0) for n in options.records]
    try:
        machine, found = measure_memory(scenarios, err.print)
    except BenchmarkError as error:
        err.print(f"[red]error:[/red] {error}")
        return 1
    for scenario, series in zip(scenarios, found, strict=True):
        out.print(
            f"{scenario.title}: {_over(series):.0f} MiB over idle at most,"
            f" {series.seconds[0]:.1f} s"
        )
    ratio = _over(found[1]) / _over(found[0])
    word = "[green]met[/green]" if ratio <= MOST else "[red]missed[/red]"
    out.print(f"wanted: at most {MOST}x; result: {ratio:.2f}x, {word}")
    out.print(f"{machine['date']}, {machine['cpu']}, load at the end {machine['load']}")
    return 0


def _over(series: Series) -> float:
    return (series.peak_bytes - series.idle_bytes) / 2**20


if __name__ == "__main__":
    raise SystemExit(main())
