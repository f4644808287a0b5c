"""`integrations`: which there are, and those that are added by a manifest."""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.table import Table

import integrations
from accounts import disconnecting, filled
from accounts.runtime import opened
from cli.integrations import _report, _sources
from cli.terminal import JsonOption, err, example, out, plain, print_json, say
from connectors import ConnectorError, all_connectors
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from integrations import form, index, levels
from servers import local
from servers.database import database_url_of
from settings import Settings, read
from storage import check as check_schema
from storage import connections, erasing
from storage import integrations as store
from storage.integrations import Listed, Manifest

commands = typer.Typer(help="Integrations: those built in, and those added by a manifest.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The integration's name.")]
WhereArgument = Annotated[
    str,
    typer.Argument(metavar="NAME|PATH|URL", help="A name of the index, a file, or an https URL."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Ask nothing.")]


@commands.callback(epilog=example("integrations"))
def every(context: typer.Context, as_json: JsonOption = False) -> None:
    """Every integration, with its level (docs/integrations.md)."""
    if context.invoked_subcommand is not None:
        return
    _list(as_json)


@commands.command("list", epilog=example("integrations list --json"))
def list_integrations(as_json: JsonOption = False) -> None:
    """The same: every integration, with its level."""
    _list(as_json)


@commands.command(epilog=example("integrations search invoices"))
def search(
    words: Annotated[list[str], typer.Argument(metavar="WORDS", help="Each must stand in it.")],
    as_json: JsonOption = False,
) -> None:
    """What the shipped index knows of, by name, title and streams."""
    found = index.search(words)
    if as_json:
        print_json([asdict(one) for one in found])
        return
    table = Table("name", "title", "version", "licence", "streams", "level", box=box.SIMPLE_HEAD,
                  pad_edge=False)  # fmt: skip
    for one in found:
        streams = f"{len(one.streams)} of {len(one.streams) + len(one.unread)}"
        table.add_row(*map(plain, (one.name, one.title, one.version, one.licence, streams,
                                   levels.said(one.level))))  # fmt: skip
    if found:
        out.print(table)
        out.print("add one: atom-sync integrations add NAME", highlight=False)
    else:
        out.print(f"the index has none with {plain(' '.join(words))}", highlight=False)


@commands.command(epilog=example("integrations check acme.yaml --settings settings.json"))
def check(
    where: WhereArgument,
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings",
            metavar="FILE",
            help="Try these settings at the vendor: JSON, - for stdin.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read a manifest, and say which streams are read and which are not; changes nothing."""
    found = _sources.find(where)
    report = _report.of(found)
    if settings is not None and not report.problem:
        report.tried = asyncio.run(_try(found, _settings(settings)))
    if as_json:
        print_json(report.as_json())
    else:
        _report.show(report)
    if report.problem or not report.streams or (report.tried and report.tried != _report.WORKS):
        raise typer.Exit(1)


@commands.command(epilog=example("integrations add acme.yaml --name acme"))
def add(
    where: WhereArgument,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="What it is called here: a-z, 0-9 and _."),
    ] = None,
    title: Annotated[
        str | None, typer.Option("--title", metavar="TITLE", help="How people call it.")
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--licence", metavar="LICENCE", help="Under which its manifest is used."),
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add an integration by its manifest, or replace one; tenants can connect it at once."""
    where = _sources.located(where)
    with local.attached(read()) as settings:
        url, schema = _place(settings)
        before = {one.slug: one for one in asyncio.run(_listed(url, schema))}
        found = _sources.find(where)
        wanted = _manifest(found, name=name, title=title, licence=licence)
        _refuse_unusable(found, wanted.slug)
        if not _is_same(before.get(wanted.slug), wanted):
            _ask(found, wanted, yes=yes)
        outcome = asyncio.run(store.add(url, schema, wanted))
    _tell([(wanted, outcome)], as_json)


@commands.command(epilog=example("integrations upgrade acme"))
def upgrade(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME …]", help="All of them by default.")
    ] = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read manifests again where they came from; runs under way keep what they began with."""
    with local.attached(read()) as settings:
        url, schema = _place(settings)
        known = {one.slug: one for one in asyncio.run(_listed(url, schema))}
        for name in names or ():
            if name not in known:
                raise LookupError(f"no integration {name!r} was added; there are: "
                                  f"{', '.join(known) or 'none'}")  # fmt: skip
        done = []
        for slug in names or known:
            former = known[slug]
            found = _sources.find(_again(former))
            licence = former.licence if found.licence == "not said" else None
            wanted = _manifest(found, name=slug, title=former.title, licence=licence)
            _refuse_unusable(found, slug)
            if not _is_same(former, wanted):
                _ask(found, wanted, yes=yes)
            done.append((wanted, asyncio.run(store.add(url, schema, wanted))))
    _tell(done, as_json)


@commands.command(epilog=example("integrations remove acme"))
def remove(
    name: NameArgument,
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Disconnect every tenant first, and erase what was read."),
    ] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forget an integration that was added, with the tables of its streams."""
    if purge and not yes:
        typer.confirm(f"Disconnect every account of {name} and erase its records?", abort=True)

    async def work(settings: Settings) -> Sequence[str]:
        url, schema = _place(settings)
        await check_schema(url, schema)
        if purge:
            await _purge(settings, name)
        return await store.remove(url, schema, name)

    with local.attached(read()) as settings:
        gone = asyncio.run(work(settings))
    if as_json:
        print_json({"removed": name, "tables": list(gone)})
    else:
        out.print(f"{name} is removed, with {len(gone)} tables", highlight=False)


# What they share


def _list(as_json: bool) -> None:
    with local.attached(read()) as settings:
        added = asyncio.run(_listed(*_place(settings)))
    rows = [
        {"name": one.name, "title": one.title, "level": levels.of(one), "from": "built in"}
        for one in all_connectors()
    ]
    rows += [{**_as_json(one), "name": one.slug, "from": one.source} for one in added]
    rows.sort(key=lambda row: str(row["name"]))
    if as_json:
        print_json(rows)
        return
    table = Table("name", "title", "level", "connections", "version", box=box.SIMPLE_HEAD,
                  pad_edge=False)  # fmt: skip
    table.add_column("from", overflow="fold")
    for row in rows:
        cells = (row["name"], row["title"], levels.said(int(str(row["level"]))),
                 row.get("connections", ""), row.get("version", ""), row["from"])  # fmt: skip
        table.add_row(*(plain(str(cell)) for cell in cells))
    out.print(table)


async def _listed(url: str, schema: str) -> Sequence[Listed]:
    await check_schema(url, schema)
    return await store.listing(url, schema)


def _as_json(one: Listed) -> dict[str, Any]:
    times = {"added_at": one.added_at.isoformat(), "changed_at": one.changed_at.isoformat()}
    return {**asdict(one), **times}


def _manifest(
    found: _sources.Found, *, name: str | None, title: str | None, licence: str | None
) -> Manifest:
    return Manifest(
        slug=name or found.name,
        title=title or found.title,
        version=found.version,
        text=found.text,
        source=found.source,
        licence=licence or found.licence,
        level=found.level,
    )


def _is_same(former: Listed | None, wanted: Manifest) -> bool:
    return former is not None and all(
        getattr(former, name) == getattr(wanted, name) for name in ("sha256", "licence")
    )


def _refuse_unusable(found: _sources.Found, slug: str) -> None:
    """LookupError where no stream of it is read, or nobody could fill in what it needs."""
    recipe = integrations.recipe(slug, found.text)
    if not recipe.connector.streams:
        unread = "; ".join(f"{one.stream} (line {one.line}): {one.why}" for one in recipe.unread)
        raise LookupError(f"none of its streams can be read: {unread or 'it has none'}")
    form.fields(filled.form_of(recipe.connector))


def _ask(found: _sources.Found, wanted: Manifest, *, yes: bool) -> None:
    """The person has seen the licence, and what is left out."""
    report = _report.of(found)
    if found.entry is None and found.source.startswith("package:"):
        say(f"{wanted.slug} is not in the index: its manifest was checked by nobody")
    for one in report.unread:
        say(f"not read: {one.stream} (line {one.line}): {one.why}")
    err.print(f"{wanted.title} {wanted.version}, licence: {wanted.licence}", markup=False)
    if yes:
        return
    if not sys.stdin.isatty():
        raise typer.BadParameter("its licence is to be agreed to: say --yes")
    typer.confirm("Add it?", abort=True)


def _tell(done: Sequence[tuple[Manifest, str]], as_json: bool) -> None:
    if as_json:
        print_json([
            {"name": one.slug, "outcome": outcome, "version": one.version, "sha256": one.sha256,
             "level": one.level, "source": one.source, "licence": one.licence}
            for one, outcome in done
        ])  # fmt: skip
        return
    for one, outcome in done:
        out.print(f"{one.slug} {one.version}: {outcome}", highlight=False)
    if not done:
        out.print("no integration was added so far", highlight=False)


def _again(former: Listed) -> str:
    """Where a manifest came from, as `add` takes it: of the index what that has now."""
    kind, _, rest = former.source.partition(":")
    if kind == "package":
        return rest.partition("==")[0]
    return rest if kind == "file" else former.source


async def _purge(settings: Settings, name: str) -> None:
    """Ends every connection of it, and deletes what was read, however long that takes."""
    async with opened(settings) as shared:
        for one in await connections.listing(shared.database):
            if one.integration == name:
                await disconnecting.disconnect(
                    shared.disconnector(), tenant_id=one.tenant_id, connection_id=one.id,
                    purge=True,
                )  # fmt: skip
        await erasing.purge_owed(shared.database, within=timedelta(days=1))


def _settings(where: str) -> Mapping[str, Any]:
    try:
        text = sys.stdin.read() if where == "-" else Path(where).read_text(encoding="utf-8")
        found = json.loads(text)
    except OSError as error:
        raise LookupError(f"{where} cannot be read: {error.strerror}") from None
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    # Not chained: the parser's error holds the text, with its secrets.
    raise LookupError(f"the settings in {where} are no JSON object")


async def _try(found: _sources.Found, given: Mapping[str, Any]) -> str:
    connector = integrations.recipe(found.name, found.text).connector
    wrong = form.problems(filled.form_of(connector), given)
    if wrong:
        return "; ".join(f"{'.'.join(one.path) or 'settings'}: {one.text}" for one in wrong)
    sandbox = read().atom_sandbox_url
    transport, budget = Transport(sandbox_url=sandbox), Budget(None)
    try:
        await filled.check(connector, given, transport=transport, budget=budget)
    except ConnectorError as error:
        return str(error)
    finally:
        await budget.aclose()
        await transport.close()
    return _report.WORKS


def _place(settings: Settings) -> tuple[str, str]:
    return database_url_of(settings), settings.atom_schema
