"""What goes wrong with what we remember, grouped by who must act.

StorageError
  x DatabaseUnavailableError       nobody acts here: the database is away, full, read-only, busy ...
  x ConnectedAlreadyError          the tenant: these settings are connected, give another name
  x IntegrationError               the operator: another name, or disconnect first; it says which
  x LeaseLostError                 nobody acts: another process took the work over, this one leaves
  x NotFoundError                  the caller: there is no such tenant, connection or setting
  x ReaderError                    the operator: another name for a reader, or remove one first
  x RefusedError                   we act: PostgreSQL does not take what we wrote
  x SchemaError                    the operator: migrate, or run the SQL that `.remedy` holds
"""

from connectors import Words


class StorageError(Exception):
    """Anything storage can fail with; `str()` of it holds no secret."""


class DatabaseUnavailableError(StorageError):
    """PostgreSQL is away or not well, see `storage.sickness`: try again later; nobody's attempt."""


class ConnectedAlreadyError(StorageError):
    """An account of the same settings is connected, with other secrets; `words` are for people."""

    def __init__(self, words: Words) -> None:
        super().__init__(str(words))
        self.words = words


class IntegrationError(StorageError):
    """An integration cannot be added, or not be removed, as things are; the message says why."""


class LeaseLostError(StorageError):
    """The lease is over, or another holder has it; nothing of this transaction may be kept."""


class RefusedError(StorageError):
    """PostgreSQL refused a statement of ours; its words, which may quote a row, are left out."""


class ReaderError(StorageError):
    """There can be no such reader; the message says why."""


class NotFoundError(StorageError):
    """There is no such thing; the message names what there is."""


class SchemaError(StorageError):
    """The database is not in a state to work with; `remedy` is the SQL to run, if SQL helps."""

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{message}\n\n{remedy}" if remedy else message)
        self.remedy = remedy
