"""`backup` and `restore`: the database in a file, and a file as the database."""

import asyncio
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli.keys import tell_faults
from cli.terminal import JsonOption, out, print_json, say
from cli.vault import vault_of
from servers import backups, local
from servers.database import database_url_of, migrated, ready
from settings import Settings, SettingsError, read
from storage import rotation
from storage.backups import contents, refill, refuse_newer
from storage.vault import VaultError, check_keys

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", show_default=False)]


def backup(
    file: FileArgument,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the database to FILE, while everything runs; `restore` brings it back."""
    file = file.absolute()
    _refuse_place(file, force)
    with local.attached(given := read()) as settings:
        url = database_url_of(settings)
        found = asyncio.run(contents(url, settings.atom_schema))
        size = backups.dump(
            url, settings.atom_schema, file, server=found.server, over_tls=found.over_tls
        )
        known = vault_of(settings).fingerprints
    if as_json:
        print_json(
            {
                "file": str(file),
                "bytes": size,
                "revision": found.revision,
                "fingerprints": found.fingerprints,
                "missing": [name for name in found.fingerprints if name not in known],
            }
        )
        return
    tell = f"{file}: {size:,} bytes, schema {found.revision}"
    out.print(tell, highlight=False, markup=False, soft_wrap=True)
    for name in found.fingerprints:
        where = _place_of_keys(given) if name in known else "missing here: find it"
        say(f"its secrets open with the master key {name} ({where})")
    if found.fingerprints:
        say("keep these keys too, apart from the backup: without them its secrets are lost")


def restore(file: FileArgument) -> None:
    """Bring a backup back into an empty database, then migrate it to this release.

    The database that ATOM_HOME or DATABASE_URL names; where there is none yet it is made.
    """
    file, given = file.absolute(), read()
    archive = backups.existing(file)
    refuse_newer(archive.revision)
    if archive.schema != given.atom_schema:
        raise SettingsError(
            f"the backup is of the schema {archive.schema}, and ATOM_SCHEMA is"
            f" {given.atom_schema}: set ATOM_SCHEMA={archive.schema}. Nothing was written"
        )
    backups.read_through(archive)
    keys = _KeyFile.of(given)
    with local.attached(given, makes=True) as settings:
        url = database_url_of(settings)
        with closing(archive.script()) as script:
            asyncio.run(refill(url, settings.atom_schema, script))
        asyncio.run(migrated(settings))
        out.print(f"{file} is restored", highlight=False, markup=False, soft_wrap=True)
        faults = asyncio.run(_try_keys(settings, keys))
    tell_faults(faults)
    say("now run `atom-sync doctor`; docs/recovery.md says what differs after a restore")
    if faults:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _KeyFile:
    """The home's key file as a restore finds it; None where ENCRYPTION_KEYS has the keys."""

    path: Path | None
    is_new: bool

    @classmethod
    def of(cls, settings: Settings) -> "_KeyFile":
        path = None if settings.encryption_keys is not None else settings.home / "keys"
        return cls(path, path is not None and not path.exists())

    def remedy(self) -> str:
        if self.path is None:
            return "add it to ENCRYPTION_KEYS, after the current one"
        if self.is_new:
            return f"put the file `keys` that the backup was made with in {self.path}"
        return f"add it to the file {self.path}, after the current one and a comma"


async def _try_keys(settings: Settings, keys: _KeyFile) -> list[rotation.Fault]:
    """VaultError if a key is missing; else what does not open with the ones there are."""
    vault = vault_of(settings)
    async with ready(settings) as database:
        found = await rotation.survey(database, vault)
        if found.missing:
            if keys.path is not None and keys.is_new:
                # Made a moment ago, and nothing was sealed with it: the right one belongs there.
                keys.path.unlink()
            raise VaultError(
                "the data is back, and its secrets need a master key that is not here"
                f" (fingerprint {', '.join(found.missing)}): {keys.remedy()}. Do not make a new"
                " one: it opens nothing. Then run `atom-sync keys check` and `atom-sync doctor`"
            )
        await check_keys(database, vault)
        return await rotation.try_all(database, vault)


def _refuse_place(file: Path, force: bool) -> None:
    if file.is_dir() or not file.parent.is_dir():
        raise backups.BackupError(f"{file} is no place for a file: name one in an existing folder")
    if file.exists() and not force:
        raise backups.BackupError(f"{file} exists: name another, or replace it with --force")


def _place_of_keys(settings: Settings) -> str:
    if settings.encryption_keys is not None:
        return "in ENCRYPTION_KEYS"
    return f"in the file {settings.home / 'keys'}"
