"""What PostgreSQL says of itself: which of its errors mean "not now", and what each means in words.

Such an error is nobody's attempt: not an event's, a connection's or a caller's. Everything that
speaks to PostgreSQL translates it here, so that whoever waits for a database that is away also
waits for one that is read-only, full or slow.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from storage.errors import DatabaseUnavailableError

# By PostgreSQL's appendix A, read 2026-11 of version 18. The first that a code begins with counts.
# A class without words of its own is told in PostgreSQL's.
_NOT_NOW = {
    "08": "",
    "25006": "takes no writes: it is read-only",
    "25P03": "ended our connection, which was idle within a transaction for too long",
    "25P04": "ended our connection: a transaction took longer than transaction_timeout allows",
    "40001": "let another transaction go first",
    "40P01": "broke a deadlock, and let the other transaction go first",
    "40": "",
    "53100": "has no room: its disk is full",
    "53200": "is out of memory",
    "53300": "has no connection to spare",
    "53400": "reached a limit that it is configured with",
    "53": "",
    "55P03": "is busy: a lock was not free within lock_timeout",
    "57014": "is slow: a statement was cancelled, as one that exceeds statement_timeout is",
    "57P01": "is being shut down, or an administrator ended our connection",
    "57P02": "is being restarted: one of its processes crashed",
    "57P03": "takes no connections now: it starts, recovers or is being shut down",
    "57P04": "was dropped",
    "57P05": "ended our connection, which was idle for too long",
    # Its files, and not what we asked: 58P01 is one that is missing.
    "58030": "fails to read or write its disk",
    "58": "",
    "XX001": "has found damaged data",
    "XX002": "has found a damaged index",
}


@contextmanager
def translated() -> Iterator[None]:
    """DatabaseUnavailableError for what only says that the database is away or not well."""
    try:
        yield
    except (DBAPIError, psycopg.Error, PoolTimeoutError) as error:
        if is_unavailable(error):
            raise unavailable(error) from error
        raise


def is_unavailable(error: Exception) -> bool:
    """Whether the database went away or is not well, rather than refused what was asked."""
    if isinstance(error, PoolTimeoutError):
        return True
    if isinstance(error, DBAPIError):
        if error.connection_invalidated:
            return True
        error = error.orig if isinstance(error.orig, Exception) else error
    if not isinstance(error, psycopg.Error):
        return False
    if error.sqlstate is None:  # libpq's own, and whatever a connect was refused with
        return isinstance(error, psycopg.OperationalError)
    return error.sqlstate.startswith(tuple(_NOT_NOW))


def unavailable(error: Exception) -> DatabaseUnavailableError:
    """The same in words, with its SQLSTATE where there is one."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailableError("every database connection of this process is in use")
    cause = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    lines = str(cause).strip().splitlines() or ["no reason given"]
    if state is None:
        return DatabaseUnavailableError(f"the database is unavailable: {lines[0]}")
    words = next((words for code, words in _NOT_NOW.items() if state.startswith(code)), "")
    told = f"the database {words}" if words else f"the database is unavailable: {lines[0]}"
    return DatabaseUnavailableError(f"{told} (SQLSTATE {state})")
