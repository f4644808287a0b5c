"""`python -m benchmarks`: measure, and say plainly whether the targets are met."""

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import _report
from benchmarks._process import BenchmarkError
from benchmarks._run import FULL, QUICK, Results, measure

out = Console(width=None if sys.stdout.isatty() else 120)
err = Console(stderr=True, highlight=False)

INTRODUCTION = """# Benchmarks

`make bench` measures, in one run, how long records take from HTTP to committed rows: through the
real flow `sync`, on a real PostgreSQL, Redis and Prefect server, and by a bare script, the *floor*:
httpx, orjson, COPY into a temporary table and one upsert a batch, fetching the next batch while it
stores the last. Both read from the same page server, in pages and batches of the same size, into
tables with the same columns and primary key. The floor keeps no checkpoint, hash, version or lease,
has no row-level security, and checks nothing. Absolute numbers tell more about the machine than
about the code; the ratios are what counts.

"""


def main() -> int:
    options = _options()
    try:
        results = measure(QUICK if options.quick else FULL, err.print)
    except BenchmarkError as error:
        err.print(f"[red]error:[/red] {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        out.print_json(json.dumps(_report.as_json(results)))
    else:
        _show(results)
    if options.markdown:
        options.markdown.write_text(INTRODUCTION + _report.markdown(results))
    if options.quick:
        err.print("--quick shows that the benchmark works; its numbers say nothing about speed")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it work at all")
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there, too")
    options = parser.parse_args()
    if options.markdown:
        options.markdown = options.markdown.resolve()
    return options


def _show(results: Results) -> None:
    values = Table(*_report.COLUMNS)
    for column in values.columns[1:]:
        column.justify = "right"
    for title, *cells in _report.rows(results):
        values.add_row(title if any(cells) else f"[bold]{title}[/bold]", *cells)
    targets = Table("target", "wanted", "result", "")
    for verdict in _report.verdicts(results):
        colour = "green" if verdict.met else "red"
        targets.add_row(
            verdict.title, verdict.target, verdict.result, f"[{colour}]{verdict.word}[/{colour}]"
        )
    out.print(values, targets)
    for note in _report.notes(results):
        out.print(note, highlight=False)


if __name__ == "__main__":
    raise SystemExit(main())
