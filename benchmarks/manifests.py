"""`python -m benchmarks.manifests FOLDER`: how many of its manifests we read as the CDK does.

Each `NAME/manifest.yaml` is read by both from the same played answers; the first `make referees`
installs the CDK. What is known is kept, so that a run which was ended goes on.
"""

import argparse
import hashlib
import json
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import recipes
from tests.referees import _compare, _judge, _read
from tests.referees._cdk import ROOT, Cdk, cdk
from tests.referees._judge import Verdict, judge
from tests.referees.player import plain

out = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
CACHE = ROOT / ".atom" / "manifests"
SHOWN = 40
ROUNDS = 3

_referee: Cdk | None = None


def main() -> int:
    options = _options()
    files = sorted(options.folder.glob("*/manifest.yaml"))[:: options.every]
    # Not by their names: a run that is ended has seen some of each kind.
    files.sort(key=lambda file: hashlib.sha256(file.parent.name.encode()).digest())
    if options.only:
        files = [file for file in files if options.only in file.parent.name]
    if not files:
        out.print(f"{options.folder} has no NAME/manifest.yaml")
        return 1
    results: dict[str, dict[str, Any]] = {}
    with ProcessPoolExecutor(
        options.processes, initializer=_start, initargs=(options.cache,)
    ) as pool:
        jobs = {
            pool.submit(_judged, str(file), options.seconds, options.cache): file.parent.name
            for file in files
        }
        for job in as_completed(jobs):
            name = jobs[job]
            results[name] = job.result()
            if options.verbose:
                print(name, results[name]["outcome"], file=sys.stderr, flush=True)
    results = dict(sorted(results.items()))
    ours, theirs = speeds()
    if options.json:
        speed = {"ours": ours, "the CDK": theirs, "ratio": ours / theirs}
        found = {"manifests": results, "table": _counted(results), "records per CPU-s": speed}
        print(json.dumps(found, indent=1))
    else:
        _show(results)
        out.print(
            f"records per CPU-s: ours {ours:,.0f}, the CDK {theirs:,.0f}: {ours / theirs:.1f}x"
        )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.manifests", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true", help="print JSON, for machines")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=100, help="for one manifest, on each side")
    parser.add_argument("--every", type=int, default=1, help="each so-manieth manifest only")
    parser.add_argument("--only", default="", help="manifests with this in their name")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where it is kept what is known")
    parser.add_argument("--verbose", action="store_true", help="say of each when it is done")
    return parser.parse_args()


def _start(cache: Path) -> None:
    global _referee
    _referee = Cdk(cache / "cdk")


def _judged(file: str, seconds: float, cache: Path) -> dict[str, Any]:
    text = Path(file).read_text()
    kept = cache / "ours" / f"{hashlib.sha256(_sources() + text.encode()).hexdigest()}.json"
    if kept.exists():
        found: dict[str, Any] = json.loads(kept.read_text())
        return found
    assert _referee is not None
    try:
        verdict = judge(text, _referee, seconds=seconds).as_json()
    except Exception as error:  # one manifest that breaks a reader leaves the others
        why = f"{type(error).__name__}: {str(error)[:300]}"
        return Verdict("different", why=f"ours: {why}", python="class_name:" in text).as_json()
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(verdict))
    return verdict


def _sources() -> bytes:
    """A mark of all that may change what we make of a manifest."""
    mark = hashlib.sha256()
    folders = [Path(recipes.__file__).parent, ROOT / "connectors" / "kernel"]
    own = [Path(str(module.__file__)) for module in (_compare, _judge, _read)]
    player = sorted((ROOT / "tests" / "referees" / "player").glob("*.py"))
    for path in [
        *(path for folder in folders for path in sorted(folder.rglob("*.py"))),
        *own,
        *player,
    ]:
        mark.update(path.read_bytes())
    return mark.digest()


def speeds() -> tuple[float, float]:
    """Records per second of CPU, ours and the CDK's, of one plain listing; the best of three."""
    with cdk() as referee:
        theirs = [
            referee.read(plain.MANIFEST, plain=True, runs=["first"])["runs"]["first"]
            for _ in range(ROUNDS)
        ]
    ours = [_read.read_plain() for _ in range(ROUNDS)]
    streams = [one["streams"]["rows"] for one in theirs]
    for one in [*ours, *streams]:
        assert len(one["records"]) == plain.RECORDS, one["errors"]
    first, second = (min(one["cpu"] for one in side) for side in (ours, streams))
    return plain.RECORDS / first, plain.RECORDS / second


def _counted(results: dict[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """How many came out how: of all, and of those without Python of their own."""
    table: dict[str, dict[str, int]] = {}
    for title, some in (
        ("all", list(results.values())),
        ("without Python of their own", [one for one in results.values() if not one["python"]]),
    ):
        counts = Counter(one["outcome"] for one in some)
        table[title] = {
            "manifests": len(some),
            "read whole": sum(one["whole"] for one in some),
            **{name: counts[name] for name in _judge.Outcome.__args__},  # type: ignore[attr-defined]
            "streams": sum(one["streams"] for one in some),
            "equal streams": sum(one["equal"] for one in some),
        }
    return table


def whys(results: dict[str, dict[str, Any]]) -> list[tuple[str, int, int, str]]:
    """Why what fell did: the reason, of how many manifests and streams, and one of them."""
    found: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name, one in results.items():
        if one["why"]:
            found[f"{one['outcome']}: {one['why'][:110]}"].append((name, ""))
        for stream, _, why in one["unread"]:
            found[f"unread: {why}"].append((name, stream))
        for stream, why in one["unplayable"].items():
            found[f"not playable: {why.removeprefix(stream)[:90]}"].append((name, stream))
        for difference in one["differences"]:
            kind = f"different: {difference['kind']} ({difference['run']})"
            found[kind].append((name, difference["stream"]))
    rows = [
        (why, len({name for name, _ in where}), len(set(where)), " ".join(where[0]))
        for why, where in found.items()
    ]
    return sorted(rows, key=lambda row: (-row[1], -row[2]))


def _show(results: dict[str, dict[str, Any]]) -> None:
    counted = Table("", *_counted(results))
    table = _counted(results)
    for row in table["all"]:
        counted.add_row(row, *(str(column[row]) for column in table.values()))
    out.print(counted)
    fallen = Table("why", "manifests", "streams", "such as")
    for why, manifests, streams, where in whys(results)[:SHOWN]:
        fallen.add_row(why[:100], str(manifests), str(streams), where[:50])
    out.print(fallen)


if __name__ == "__main__":
    began = time.monotonic()
    code = main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
    sys.exit(code)
