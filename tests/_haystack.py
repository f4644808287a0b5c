"""Where a secret could have ended up: every text of a database, every file of a folder."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import psycopg
from psycopg import sql


def texts_of(database_url: str) -> Iterator[tuple[str, str]]:
    """Every row of every table, as text."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT schemaname, relname FROM pg_stat_user_tables ORDER BY 1, 2"
        ).fetchall()
        for schema, table in tables:
            rows = connection.execute(
                sql.SQL("SELECT t::text FROM {} t").format(sql.Identifier(schema, table))
            )
            for (text,) in rows:
                yield f"{schema}.{table}", text


def files_of(folder: Path) -> Iterator[tuple[str, str]]:
    """Every file below a folder that is not PostgreSQL's own."""
    for path in folder.rglob("*"):
        if path.is_file() and "postgres" not in path.relative_to(folder).parts:
            yield str(path), path.read_text(errors="replace")


def found(needles: Iterable[str], *haystacks: Iterable[tuple[str, str]]) -> set[str]:
    """The places that hold any of the needles."""
    wanted = list(needles)
    assert wanted
    assert all(len(needle) >= 8 for needle in wanted)
    return {
        place
        for haystack in haystacks
        for place, text in haystack
        if any(needle in text for needle in wanted)
    }
