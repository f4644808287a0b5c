"""The database's history: one file a step, numbered; only ever added to."""

from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
VERSION_TABLE = "atom_alembic_version"


@cache
def head() -> str:
    """The newest revision there is. Read from the file names: importing Alembic takes a while."""
    return max(path.name for path in (FOLDER / "versions").glob("[0-9]*.py"))[:4]
