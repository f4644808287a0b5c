"""What we remember: tables, transactions, secrets, records, leases and checkpoints."""

from storage._schema import OLDEST_POSTGRESQL
from storage.database import Database
from storage.errors import (
    DatabaseUnavailableError,
    LeaseLostError,
    NotFoundError,
    RefusedError,
    SchemaError,
    StorageError,
)
from storage.migrate import Migrated, check, migrate
from storage.models import Status, Tier

__all__ = [
    "OLDEST_POSTGRESQL",
    "Database",
    "DatabaseUnavailableError",
    "LeaseLostError",
    "Migrated",
    "NotFoundError",
    "RefusedError",
    "SchemaError",
    "Status",
    "StorageError",
    "Tier",
    "check",
    "migrate",
]
