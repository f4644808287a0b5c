"""Airbyte's own CDK, which reads a manifest in an environment of its own, as a referee of ours."""

import hashlib
import json
import subprocess
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON = ROOT / ".venv-cdk" / "bin" / "python"
CHILD = HERE / "_cdk_child.py"


class Cdk:
    """A process that has the CDK loaded. What it said of a manifest is kept in a `cache`."""

    def __init__(self, cache: Path | None = None) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._cache = cache
        self._mark = hashlib.sha256(
            b"".join(path.read_bytes() for path in [CHILD, *sorted((HERE / "player").glob("*.py"))])
        )

    def read(self, text: str, *, seconds: float = 60, **options: Any) -> dict[str, Any]:
        """What the CDK asked for and got of each stream, in each run; see `_cdk_child`."""
        job = {"text": text, "seconds": seconds, **options}
        kept = self._kept(job)
        if kept is not None and kept.exists():
            found: dict[str, Any] = json.loads(zlib.decompress(kept.read_bytes()))
            return found
        line = self._ask(job)
        if kept is not None:
            kept.write_bytes(zlib.compress(line.encode(), 1))
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self._process is not None:
            self._process.communicate()

    def _ask(self, job: dict[str, Any]) -> str:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [str(PYTHON), str(CHILD)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the CDK's process ended with {process.wait()}")
        return line

    def _kept(self, job: dict[str, Any]) -> Path | None:
        if self._cache is None:
            return None
        self._cache.mkdir(parents=True, exist_ok=True)
        mark = self._mark.copy()
        mark.update(json.dumps(job, sort_keys=True).encode())
        return self._cache / f"{mark.hexdigest()}.z"


@contextmanager
def cdk(cache: Path | None = None) -> Iterator[Cdk]:
    """The CDK, for as long as it is needed."""
    referee = Cdk(cache)
    try:
        yield referee
    finally:
        referee.close()
