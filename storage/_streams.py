"""What each stream has in the database: a partition of `records`, and a view with typed columns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

import psycopg
from psycopg import sql

from connectors import Column, Connector, Stream
from storage._rights import OWNER, READER, READER_OF_ALL, TENANT, Connection
from storage.errors import SchemaError

# PostgreSQL cuts longer names off, and then two of them may be the same.
LONGEST_NAME = 63
FIXED_COLUMNS = ("record_id", "connection_id", "tenant_id", "observed_at", "data")


@dataclass(frozen=True)
class _Kept:
    """A stream as the database keeps it."""

    name: str
    title: str
    columns: tuple[tuple[str, Column], ...]

    @property
    def view(self) -> str:
        return self.name.replace(".", "_")

    @property
    def partition(self) -> str:
        return f"records_{self.view}"


async def keep(
    connection: Connection, connectors: Iterable[Connector]
) -> tuple[Sequence[str], Sequence[str]]:
    """Makes what is missing, as the owner; the partitions and the views that it made."""
    kept = [_kept(connector, stream) for connector in connectors for stream in connector.streams]
    _refuse_equal_names(kept)
    partitions = await _partitions(connection)
    for stream in kept:
        if (other := partitions.get(stream.partition, stream.name)) != stream.name:
            raise _equal_names(other, stream)
    views = await _views(connection)
    made = [stream for stream in kept if stream.partition not in partitions]
    for stream in made:
        await _refuse_foreign(connection, stream.partition)
        await _make_partition(connection, stream)
    remade = []
    for stream in kept:
        definition = _definition(stream)
        comment = _comment(stream, definition.as_string(connection))
        if views.get(stream.view) == comment:
            continue
        if stream.view not in views:
            await _refuse_foreign(connection, stream.view)
        await _make_view(connection, stream, definition, comment)
        remade.append(stream.view)
    return [stream.partition for stream in made], remade


def _kept(connector: Connector, stream: Stream) -> _Kept:
    title = f"{connector.title} {stream.title or stream.name}"
    kept = _Kept(f"{connector.name}.{stream.name}", title, tuple(stream.columns.items()))
    if len(kept.partition.encode()) > LONGEST_NAME:
        raise SchemaError(f"the stream {kept.name} has too long a name for a table")
    taken = sorted(set(FIXED_COLUMNS).intersection(stream.columns))
    if taken:
        raise SchemaError(f"the stream {kept.name} may not call a column {', '.join(taken)}")
    return kept


def _refuse_equal_names(kept: Sequence[_Kept]) -> None:
    names: dict[str, str] = {}
    for stream in kept:
        other = names.setdefault(stream.view, stream.name)
        if other != stream.name:
            raise _equal_names(other, stream)


def _equal_names(other: str, stream: _Kept) -> SchemaError:
    return SchemaError(f"{other} and {stream.name} would both be the view {stream.view}")


async def drop(connection: Connection, integration: str) -> Sequence[str]:
    """Drops what an integration's streams have, as the owner, records and all; the partitions that
    are gone."""
    partitions = await _partitions(connection)
    views = await _views(connection)
    gone = [
        (name, stream)
        for name, stream in partitions.items()
        if stream.partition(".")[0] == integration
    ]
    for name, stream in gone:
        view = stream.replace(".", "_")
        if view in views:
            try:
                await connection.execute(sql.SQL("DROP VIEW {}").format(sql.Identifier(view)))
            except psycopg.errors.DependentObjectsStillExist as error:
                raise SchemaError(
                    f"something was built upon the view {view} ({error.diag.message_detail});"
                    " drop that first"
                ) from error
        await connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(name)))
    return [name for name, _ in gone]


async def _refuse_foreign(connection: Connection, name: str) -> None:
    cursor = await connection.execute("SELECT to_regclass(quote_ident(%s))", [name])
    row = await cursor.fetchone()
    if row is not None and row[0] is not None:
        raise SchemaError(
            f"the database holds a table or view {name} that atom-sync did not make;"
            " rename it, or set ATOM_SCHEMA to a schema of its own"
        )


async def _partitions(connection: Connection) -> dict[str, str]:
    """The partitions that there are, and the stream of each."""
    cursor = await connection.execute(
        "SELECT c.relname, substring(pg_get_expr(c.relpartbound, c.oid) FROM '''(.*)''')"
        " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'records'::regclass"
    )
    return dict(await cursor.fetchall())


async def _views(connection: Connection) -> dict[str, str]:
    """Our views, and the comment by which we know what they were made from."""
    cursor = await connection.execute(
        "SELECT relname, coalesce(obj_description(oid, 'pg_class'), '') FROM pg_class"
        " WHERE relkind = 'v' AND relnamespace = quote_ident(current_schema())::regnamespace"
        " AND relowner = %s::regrole",
        [OWNER],
    )
    return dict(await cursor.fetchall())


async def _make_partition(connection: Connection, stream: _Kept) -> None:
    # Made alone and then attached: CREATE TABLE … PARTITION OF would lock all of `records`, and
    # wait for every reader of it. Only the parent is granted: its policies do not bind whoever
    # reads a partition directly, so that reader has policies, and rights, of its own: none.
    partition = sql.Identifier(stream.partition)
    for statement in (
        "CREATE TABLE {partition} (LIKE records INCLUDING ALL)",
        "ALTER TABLE {partition} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
        "CREATE POLICY owner ON {partition} TO {owner} USING (true)",
        "ALTER TABLE records ATTACH PARTITION {partition} FOR VALUES IN ({stream})",
    ):
        await connection.execute(
            sql.SQL(statement).format(
                partition=partition, owner=sql.Identifier(OWNER), stream=sql.Literal(stream.name)
            )
        )


async def _make_view(
    connection: Connection, stream: _Kept, definition: sql.Composed, comment: str
) -> None:
    view = sql.Identifier(stream.view)
    options = sql.SQL(" WITH (security_invoker = true) AS ")
    try:
        try:
            # In place where that is possible: grants on the view and views upon it survive.
            async with connection.transaction():
                await connection.execute(
                    sql.SQL("CREATE OR REPLACE VIEW ") + view + options + definition
                )
        except psycopg.errors.InvalidTableDefinition:
            await connection.execute(sql.SQL("DROP VIEW ") + view)
            await connection.execute(sql.SQL("CREATE VIEW ") + view + options + definition)
    except psycopg.errors.DependentObjectsStillExist as error:
        raise SchemaError(
            f"the view {stream.view} gets other columns, and something was built upon it"
            f" ({error.diag.message_detail}); drop that, migrate, and make it again"
        ) from error
    except (psycopg.errors.UndefinedObject, psycopg.errors.SyntaxError) as error:
        types = ", ".join(f"{name} {column.type}" for name, column in stream.columns)
        raise SchemaError(
            f"PostgreSQL does not know every type of {stream.name}'s columns: {types}"
        ) from error
    may_read = sql.SQL(", ").join(map(sql.Identifier, (TENANT, READER, READER_OF_ALL)))
    await connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(view, may_read))
    await connection.execute(sql.SQL("COMMENT ON VIEW {} IS {}").format(view, sql.Literal(comment)))


def _definition(stream: _Kept) -> sql.Composed:
    columns = [sql.Identifier(name) for name in FIXED_COLUMNS]
    typed = [
        sql.SQL("{} AS {}").format(_expression(column), sql.Identifier(name))
        for name, column in stream.columns
    ]
    return sql.SQL("SELECT {} FROM records WHERE stream = {} AND deleted_at IS NULL").format(
        sql.SQL(", ").join([*columns, *typed]), sql.Literal(stream.name)
    )


# PostgreSQL also takes words: 'now' would be another time at each query, and 'NaN' and 'infinity'
# would spoil sums, and fail in most clients. So would a time of the first or the last year there
# is, once it is shown in another zone; some vendors mean "none" by it.
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
_TIME = r"^\s*(?!0001-01-01|9999-12-31)\d{4}-\d"
FORMS = {
    "numeric": _NUMBER, "bigint": _NUMBER, "integer": _NUMBER,
    "timestamptz": _TIME, "timestamp": _TIME, "date": r"^\s*\d{4}-\d",
}  # fmt: skip


def _expression(column: Column) -> sql.Composed:
    path = sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(map(sql.Literal, column.path)))
    if column.type == "jsonb":
        return sql.SQL("data #> {}").format(path)
    if column.type == "text":
        return sql.SQL("data #>> {}").format(path)
    # The type is a connector's own words, and PostgreSQL takes a type in no other way.
    return sql.SQL(
        "CASE WHEN pg_input_is_valid(data #>> {path}, {name}) AND data #>> {path} ~ {form}"
        " THEN (data #>> {path})::{type} END"
    ).format(
        path=path, name=sql.Literal(column.type), type=sql.SQL(column.type),
        form=sql.Literal(FORMS.get(column.type, "")),
    )  # fmt: skip


def _comment(stream: _Kept, definition: str) -> str:
    fingerprint = sha256(definition.encode()).hexdigest()[:16]
    return f"{stream.title}, kept by atom-sync ({fingerprint})"
