"""Twenty made-up integrations, known in this process as if their files stood in `connectors/`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import connectors
from benchmarks.vendor.benchmark import connector as one
from connectors import Connector

NAMES = tuple(f"made_up_{number:02}" for number in range(1, 21))
_FILE = "from benchmarks._many import named\n\nconnector = named(__name__)\n"


def named(module: str) -> Connector:
    """The connector that a file of that name declares."""
    name = module.rpartition(".")[2]
    return replace(one, name=name, title=name.replace("_", " ").title())


@contextmanager
def registered() -> Iterator[tuple[str, ...]]:
    """To be entered before anything asks which connectors there are: the answer is kept."""
    with TemporaryDirectory(prefix="atom-connectors-") as folder:
        for name in NAMES:
            (Path(folder) / f"{name}.py").write_text(_FILE)
        connectors.__path__.append(folder)
        yield NAMES
