"""The six roles, and what the schema must let them do: made if we may, else asked for as SQL."""

from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from storage.errors import SchemaError

OWNER, TENANT, DISPATCH, INGRESS, READER, READER_OF_ALL = ROLES = (
    "atom_owner",
    "atom_tenant",
    "atom_dispatch",
    "atom_ingress",
    "atom_reader",
    "atom_reader_of_all",
)

Connection = psycopg.AsyncConnection[Any]


@dataclass(frozen=True)
class _Role:
    """A role as this user finds it: whether it may be taken, passed on, and what it may do."""

    name: str
    exists: bool
    taken: bool
    may_pass_on: bool
    may_use: bool
    may_create: bool
    may_stage: bool


@dataclass(frozen=True)
class _User:
    """Who runs the migration, and what they may give to the roles."""

    name: str
    database: str
    makes_roles: bool
    schema_exists: bool
    makes_schemas: bool
    shares_schema: bool
    shares_temporary: bool


async def arrange(connection: Connection, schema: str) -> None:
    """Makes roles, memberships and the schema; SchemaError with the SQL for what we may not do."""
    ours: list[sql.Composed] = []
    administrators: list[sql.Composed] = []
    user = await _user(connection, schema)
    for statement, allowed in _missing(user, await _roles(connection, schema), schema):
        (ours if allowed else administrators).append(statement)
    if administrators:
        raise SchemaError(
            f"the database user {user.name!r} lacks rights to set the database up;"
            f" an administrator must run this once in the database {user.database!r}:",
            remedy="\n".join(f"{each.as_string(connection)};" for each in administrators),
        )
    for statement in ours:
        # Roles belong to the cluster: a migration of another database may be making the same
        # ones now, and our advisory lock does not reach it.
        try:
            async with connection.transaction():
                await connection.execute(statement)
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            continue


async def refuse_bound(connection: Connection, schema: str) -> None:
    """SchemaError, with the SQL that helps, for a user who does not see every row there is."""
    cursor = await connection.execute(
        """
        SELECT rolname, rolsuper OR rolbypassrls,
            has_schema_privilege(n.oid, 'USAGE') AND NOT EXISTS (
                SELECT FROM pg_class WHERE relnamespace = n.oid AND relkind IN ('r', 'p', 'v', 'S')
                    AND NOT has_table_privilege(pg_class.oid, 'SELECT')
            )
        FROM pg_roles, pg_namespace n WHERE rolname = current_user AND nspname = %s
        """,
        [schema],
    )
    found = await cursor.fetchone()
    name, unbound, reads = found or ("", False, False)
    if unbound and reads:
        return
    user = sql.Identifier(name)
    needed = [
        *([] if unbound else [sql.SQL("ALTER ROLE {} BYPASSRLS").format(user)]),
        *([] if reads else [sql.SQL("GRANT pg_read_all_data TO {}").format(user)]),
    ]
    raise SchemaError(
        f"the database user {name!r} does not see every tenant's rows (row-level security), and a"
        " backup would lack them. Set DATABASE_URL to a superuser for this command, or have an"
        " administrator run this once:",
        remedy="\n".join(f"{each.as_string(connection)};" for each in needed),
    )


def _missing(user: _User, roles: list[_Role], schema: str) -> list[tuple[sql.Composed, bool]]:
    """What is to be done, in order, and whether this user may do it."""
    needed: list[tuple[sql.Composed, bool]] = []
    for role in roles:
        name = sql.Identifier(role.name)
        if not role.exists:
            needed.append((sql.SQL("CREATE ROLE {} NOLOGIN").format(name), user.makes_roles))
        if not role.taken:
            grant = sql.SQL("GRANT {} TO {} WITH SET TRUE, INHERIT FALSE")
            allowed = role.may_pass_on if role.exists else user.makes_roles
            needed.append((grant.format(name, sql.Identifier(user.name)), allowed))
    if not user.schema_exists:
        create = sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema))
        needed.append((create, user.makes_schemas))
    shares_schema = user.shares_schema if user.schema_exists else user.makes_schemas
    for role in roles:
        rights = "USAGE, CREATE" if role.name == OWNER else "USAGE"
        if not (role.may_create if role.name == OWNER else role.may_use):
            grant = sql.SQL(f"GRANT {rights} ON SCHEMA {{}} TO {{}}")
            statement = grant.format(sql.Identifier(schema), sql.Identifier(role.name))
            needed.append((statement, shares_schema))
        if role.name == TENANT and not role.may_stage:
            grant = sql.SQL("GRANT TEMPORARY ON DATABASE {} TO {}")
            statement = grant.format(sql.Identifier(user.database), sql.Identifier(role.name))
            needed.append((statement, user.shares_temporary))
    return needed


async def _user(connection: Connection, schema: str) -> _User:
    cursor = connection.cursor(row_factory=class_row(_User))
    await cursor.execute(
        """
        SELECT rolname AS name, current_database() AS database,
            rolsuper OR rolcreaterole AS makes_roles,
            n.oid IS NOT NULL AS schema_exists,
            has_database_privilege(current_database(), 'CREATE') AS makes_schemas,
            coalesce(
                has_schema_privilege(n.oid, 'USAGE WITH GRANT OPTION')
                AND has_schema_privilege(n.oid, 'CREATE WITH GRANT OPTION'), false
            ) AS shares_schema,
            has_database_privilege(current_database(), 'TEMPORARY WITH GRANT OPTION')
                AS shares_temporary
        FROM pg_roles LEFT JOIN pg_namespace n ON n.nspname = %s
        WHERE rolname = current_user
        """,
        [schema],
    )
    user = await cursor.fetchone()
    if user is None:
        raise SchemaError("the database does not know the user that is logged in to it")
    return user


async def _roles(connection: Connection, schema: str) -> list[_Role]:
    cursor = connection.cursor(row_factory=class_row(_Role))
    await cursor.execute(
        """
        SELECT wanted.name, r.oid IS NOT NULL AS exists,
            EXISTS (
                SELECT FROM pg_auth_members m
                WHERE m.roleid = r.oid AND m.member = current_user::regrole AND m.set_option
            ) AS taken,
            coalesce(pg_has_role(r.oid, 'MEMBER WITH ADMIN OPTION'), false) AS may_pass_on,
            coalesce(
                has_schema_privilege(r.oid, n.oid, 'USAGE'),
                has_schema_privilege('public'::name, n.oid, 'USAGE'), false
            ) AS may_use,
            coalesce(
                has_schema_privilege(r.oid, n.oid, 'USAGE')
                AND has_schema_privilege(r.oid, n.oid, 'CREATE'), false
            ) AS may_create,
            coalesce(
                has_database_privilege(r.oid, current_database(), 'TEMPORARY'),
                has_database_privilege('public'::name, current_database(), 'TEMPORARY')
            ) AS may_stage
        FROM unnest(%s::text[]) WITH ORDINALITY AS wanted (name, place)
        LEFT JOIN pg_roles r ON r.rolname = wanted.name
        LEFT JOIN pg_namespace n ON n.nspname = %s
        ORDER BY wanted.place
        """,
        [list(ROLES), schema],
    )
    return await cursor.fetchall()
