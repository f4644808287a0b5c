"""Taking over the `tenant_settings` rows of an existing database, each sealed for its tenant.

What the other database calls encrypted is none of ours: it cannot be opened here. Where such a row
holds plaintext after all, it has lain open under a false name; it is reported, and never used.
"""

import json
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import dict_row
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from storage import tenant_settings
from storage.database import CONNECT_OPTIONS, Database
from storage.errors import NotFoundError, StorageError
from storage.models import Tenant, TenantSetting
from storage.sickness import unavailable
from storage.vault import Vault, VaultError

COLUMNS = ("tenant_id", "setting_key", "setting_value", "encrypted")
# As a rule, a nonce and a tag are 28 bytes: in base64, 38 characters.
_SHORTEST_SEALED = 38
_SEALED = re.compile(r"[A-Za-z0-9+/=_.:$,-]+")
# How vendors' keys and tokens begin, and a JWT.
_OPEN = re.compile(
    r"(sk|pk|rk|whsec|xox[a-z]|gh[opsu]|shp[a-z]{2}|ya29|pat|Bearer|eyJ[\w-]+)[-_. ]"
)


class Outcome(StrEnum):
    """What became of a row."""

    SEALED = "sealed"
    UNCHANGED = "unchanged"
    KEPT = "kept ours"
    MISLABELLED = "plaintext marked encrypted"
    FOREIGN = "encrypted by another system"
    UNKNOWN_TENANT = "unknown tenant"
    UNUSABLE = "unusable"

    @property
    def needs_attention(self) -> bool:
        return self not in (Outcome.SEALED, Outcome.UNCHANGED, Outcome.KEPT)


REMEDIES = {
    Outcome.SEALED: "",
    Outcome.UNCHANGED: "it is here already",
    Outcome.KEPT: "ours is another, and newer: a refresh or a tenant changed it since",
    Outcome.MISLABELLED: "not used: it has lain open, so replace it at the vendor",
    Outcome.FOREIGN: "have the other system write it out with encrypted = false, or connect again",
    Outcome.UNKNOWN_TENANT: "make it first: atom-sync tenants create SLUG --id ID",
    Outcome.UNUSABLE: "",
}


@dataclass(frozen=True)
class Imported:
    """A row of the other database, and what became of it; never its value."""

    tenant: str
    setting: str
    outcome: Outcome
    remedy: str


async def read_settings(
    database: Database,
    vault: Vault,
    url: str,
    *,
    schema: str = "public",
    dry_run: bool = False,
    report: Callable[[Imported], None] = lambda row: None,
) -> list[Imported]:
    """Seal what may be sealed, row by row, and say what became of each. Repeating changes nothing.

    A setting that is here already is never overwritten: its tokens may have been renewed since.
    """
    done = []
    async with aclosing(_rows(url, schema)) as rows:
        async for row in rows:
            imported = await _import(database, vault, row, dry_run=dry_run)
            report(imported)
            done.append(imported)
    return done


async def _rows(url: str, schema: str) -> AsyncGenerator[dict[str, object], None]:
    """The rows of the other database, in a transaction that can only read."""
    try:
        async with await psycopg.AsyncConnection.connect(_conninfo(url)) as connection:
            await connection.set_read_only(True)
            await _check(connection, schema)
            query = sql.SQL(
                "SELECT tenant_id::text, setting_key::text, setting_value::text, encrypted"
                " FROM {} ORDER BY 1, 2"
            ).format(sql.Identifier(schema, "tenant_settings"))
            async with connection.cursor("settings", row_factory=dict_row) as cursor:
                await cursor.execute(query)
                async for row in cursor:
                    yield row
    except psycopg.OperationalError as error:
        raise unavailable(error) from None
    except psycopg.Error as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        raise StorageError(f"that database refuses: {lines[0]}") from None


def _conninfo(url: str) -> str:
    try:
        return make_conninfo(url, **{**CONNECT_OPTIONS, **conninfo_to_dict(url)})
    except psycopg.ProgrammingError:
        # libpq's own message may quote a part of the password.
        raise StorageError("the other database's URL cannot be read") from None


async def _check(connection: psycopg.AsyncConnection[tuple[object, ...]], schema: str) -> None:
    found = await connection.execute(
        "SELECT column_name FROM information_schema.columns"
        " WHERE table_schema = %s AND table_name = 'tenant_settings'",
        (schema,),
    )
    there = {name for (name,) in await found.fetchall()}
    if missing := [name for name in COLUMNS if name not in there]:
        raise NotFoundError(
            f"that database has no {schema}.tenant_settings with {', '.join(COLUMNS)}:"
            f" {', '.join(missing)} is missing (another schema? --schema)"
        )


async def _import(
    database: Database, vault: Vault, row: dict[str, object], *, dry_run: bool
) -> Imported:
    tenant_id, key = str(row["tenant_id"]), str(row["setting_key"])
    value = row["setting_value"]

    def said(tenant: str, outcome: Outcome, remedy: str = "") -> Imported:
        return Imported(tenant, key, outcome, remedy or REMEDIES[outcome])

    async with database.owning() as session:
        tenant = await _tenant(session, tenant_id)
    if tenant is None:
        return said(tenant_id, Outcome.UNKNOWN_TENANT)
    ours, slug = tenant
    if not isinstance(value, str) or not value:
        return said(slug, Outcome.UNUSABLE, "it is empty")
    if row["encrypted"] is not False:
        outcome = await _of_encrypted(database, vault, ours, key, value)
        return said(slug, outcome)
    if problem := _problem(key, value):
        return said(slug, Outcome.UNUSABLE, problem)
    async with database.transaction(ours) as session:
        outcome = await _compared(session, vault, ours, key, value)
        if outcome is Outcome.SEALED and not dry_run:
            await tenant_settings.put(session, vault, ours, key, value)
    return said(slug, outcome)


async def _tenant(session: AsyncSession, tenant_id: str) -> tuple[UUID, str] | None:
    """Our tenant of that id, or of that slug."""
    known = [Tenant.slug == tenant_id]
    with suppress(ValueError):
        known.append(Tenant.id == UUID(tenant_id))
    found = await session.execute(select(Tenant.id, Tenant.slug).where(or_(*known)))
    row = found.first()
    return (row[0], row[1]) if row else None


async def _of_encrypted(
    database: Database, vault: Vault, tenant_id: UUID, key: str, value: str
) -> Outcome:
    """A row that says it is encrypted: ours already, another system's, or not at all."""
    async with database.transaction(tenant_id) as session:
        try:
            await tenant_settings.unseal(session, vault, tenant_id, key, value)
        except VaultError:
            return Outcome.FOREIGN if looks_sealed(value) else Outcome.MISLABELLED
    return Outcome.UNCHANGED


async def _compared(
    session: AsyncSession, vault: Vault, tenant_id: UUID, key: str, value: str
) -> Outcome:
    row = await session.get(TenantSetting, (tenant_id, key))
    if row is None:
        return Outcome.SEALED
    held = await tenant_settings.get(session, vault, tenant_id, key)
    if held is None or held.get_secret_value() != value:
        return Outcome.KEPT
    return Outcome.UNCHANGED if row.encrypted else Outcome.SEALED


def _problem(key: str, value: str) -> str:
    """Why a value cannot be what its name says."""
    if not key or len(key) > 200:
        return "its name is empty or too long"
    if key.partition(":")[0].endswith("_tokens"):
        try:
            tokens = json.loads(value)
        except ValueError:
            tokens = None
        if not isinstance(tokens, dict) or not isinstance(tokens.get("access_token"), str):
            return "tokens are a JSON object with an access_token"
    return ""


def looks_sealed(value: str) -> bool:
    """Whether a text can be a ciphertext: long, of one alphabet, and no known kind of key."""
    text = value.strip()
    return (
        len(text) >= _SHORTEST_SEALED
        and _SEALED.fullmatch(text) is not None
        and _OPEN.match(text) is None
        and any(letter.isdigit() for letter in text)
        and any(letter.isalpha() for letter in text)
    )
