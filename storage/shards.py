"""Which of several dispatchers a connection belongs to: the same in Python and in SQL."""

from hashlib import md5
from uuid import UUID

from sqlalchemy import BigInteger, ColumnElement, Text, cast, func
from sqlalchemy.dialects.postgresql import BIT

from storage.models import Connection


def shard_of(connection_id: UUID, shards: int) -> int:
    """The connection's shard, from 0."""
    digest = md5(str(connection_id).encode(), usedforsecurity=False).hexdigest()
    return int(digest[:8], 16) % shards


def in_shard(shard: int, shards: int) -> ColumnElement[bool]:
    """Of a row of `connections`: whether `shard_of` gives this shard."""
    return shard_in_sql(shards) == shard


def shard_in_sql(shards: int) -> ColumnElement[int]:
    """`shard_of` of a row of `connections`."""
    digits = func.left(func.md5(cast(Connection.id, Text)), 8)
    # PostgreSQL reads hexadecimal digits as bits only.
    return cast(cast(func.concat("x", digits), BIT(32)), BigInteger) % shards
