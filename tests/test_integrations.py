"""An integration that is added at run time: from its manifest over the form to rows, and away."""

import asyncio
import json
import logging
import re
import shlex
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import DictRow
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from sqlalchemy.ext.asyncio import AsyncSession

import integrations
from accounts.runtime import opened
from cli import run
from connectors.kernel.cancellation import end
from deployments import freshness_targets
from deployments.reconcile import tier_deployments
from flows.sync import sync
from integrations import Listing
from settings import INCARNATION, read
from storage import connections, schedules, tenants
from storage import integrations as store
from storage.database import Database
from tests._connecting import Connecting, Person, connecting, note
from tests._haystack import files_of, found, texts_of
from tests._kraal import FARM, KEY, MANIFEST, Kraal, kraal
from tests._sandboxed import KEY as MASTER_KEY
from tests._web import claims, token

SETTINGS = {"farm": FARM, "credentials": {"kind": "key", "key": KEY}}
# What a browser sends of the form, filled in.
FORM = {".farm": FARM, ".credentials": "0", ".credentials.0.key": KEY, ".calm": "yes"}


@pytest.fixture
def vendor() -> Iterator[Kraal]:
    with kraal() as made:
        made.grow(5)
        yield made


@pytest.fixture(autouse=True)
def place(
    vendor: Kraal, database_url: str, redis_url: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:  # fmt: skip
    """A shell in which the operator has set what is needed, and a folder with the manifest."""
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "ENCRYPTION_KEYS": MASTER_KEY,
        "ATOM_HOME": str(tmp_path / "home"),
        "ATOM_SANDBOX_URL": vendor.origin,
        INCARNATION: str(uuid4()),
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "kraal.yaml").write_text(MANIFEST)
    yield tmp_path
    integrations.hold(Listing())


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme & Sons", "TEAM")).id


class Terminal:
    """Types commands, and reads the JSON that they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.errors = ""

    async def __call__(self, *words: str, status: int = 0) -> Any:
        self._capsys.readouterr()
        given = await asyncio.to_thread(run, ["integrations", *words, "--json"])
        printed = self._capsys.readouterr()
        self.errors = printed.err
        assert given == status, printed
        return json.loads(printed.out) if printed.out.strip() else None


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture
def ours(vendor: Kraal, database_url: str) -> Iterator[Connecting]:
    with connecting(vendor.origin, database_url, []) as application:
        yield application


def rows(database_url: str, query: str) -> list[DictRow]:
    with psycopg.connect(database_url, row_factory=psycopg.rows.dict_row) as sql:
        return sql.execute(query.encode()).fetchall()


def fill_in(ours: Connecting, acme: UUID, **changes: str) -> tuple[Person, Any]:
    """A person opens the form and sends it; the page that they see then."""
    person, page = ours.visitor(acme, integration="kraal")
    (link,) = re.findall(r'href="(/connect/[^"]*/settings/kraal)"', page.text)
    form = person.get(link)
    assert form.status_code == 200, form.text
    return person, person.press(form, "settings/kraal", **{**FORM, **changes})


async def synced(database: Database) -> Any:
    (one,) = [c for c in await connections.listing(database) if c.integration == "kraal"]
    return await sync(one.id, return_state=True)


async def test_from_a_manifest_to_rows_an_upgrade_under_way_and_away(
    typed: Terminal, ours: Connecting, acme: UUID, vendor: Kraal, database: Database,
    database_url: str, prefect_url: str, prefect_database: str, place: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    # Added: by a command, and again without a change.
    (added,) = await typed("add", "kraal.yaml", "--yes")
    assert (added["name"], added["outcome"], added["level"]) == ("kraal", "added", 0)
    assert "not read: whispers" in typed.errors
    assert [one["outcome"] for one in await typed("add", "kraal.yaml")] == ["unchanged"]
    assert {"kraal", "hubspot"} <= {one["name"] for one in await typed("list")}
    await until_shown(ours)

    # Told by the API, like all others.
    bearer = {"authorization": f"Bearer {token(claims(acme, 'connections:read'))}"}
    told = ours.person().http.get(f"{ours.origin}/api/integrations?limit=100", headers=bearer)
    (one,) = [each for each in told.json()["items"] if each["name"] == "kraal"]
    assert (one["sign_in"], one["configured"], one["sync_type"]) == ("form", True, "pull")
    assert [stream["name"] for stream in one["streams"]] == ["cattle"]

    # Connected: what is wrong is said at its field, by us and then by the vendor.
    person, page = fill_in(ours, acme, **{".farm": "North!", ".size": "0"})
    assert page.status_code == 422
    assert "This does not have the form lower-case letters." in page.text
    assert "This must be at least 1." in page.text
    assert vendor.asked == []
    wrong = "canary-kraal-key-of-another-farm"
    _, page = fill_in(ours, acme, **{".credentials.0.key": wrong})
    assert "Kraal does not accept these settings" in page.text
    assert wrong not in page.text
    assert rows(database_url, "SELECT * FROM connections") == []
    person, page = fill_in(ours, acme)
    assert note(page)[0] == "done", page.text
    (row,) = rows(database_url, "SELECT * FROM connections")
    assert row["config"] == {"farm": FARM, "credentials": {"kind": "key"}, "calm": True}
    assert row["backfill_owed_at"] is not None
    # The same settings connect once; others of the same account are refused.
    person, page = fill_in(ours, acme)
    assert note(page)[0] == "done"
    assert len(rows(database_url, "SELECT * FROM connections")) == 1

    # Scheduled by the tenant's tier, and its freshness promised.
    groups = await schedules.groups(database)
    deployments, wrong_ones = tier_deployments(read(), groups)
    assert [one.name for one in deployments] == ["kraal-TEAM"]
    assert wrong_ones == {}
    assert await freshness_targets.save(read(), database)
    promised = rows(database_url, "SELECT stream FROM freshness WHERE integration = 'kraal'")
    assert promised == [{"stream": "cattle"}]

    # Synced: as a flow run, into tables and a view.
    state = await synced(database)
    assert state.is_completed(), state.message
    shown = rows(database_url, "SELECT record_id, name, weight FROM kraal_cattle ORDER BY 1")
    assert [one["record_id"] for one in shown] == ["1", "2", "3", "4", "5"]
    assert float(shown[4]["weight"]) == 2.5

    # Upgraded while a run is under way: it goes on with what it began with.
    vendor.asked.clear()
    vendor.gate.clear()
    vendor.waiting.clear()
    running = asyncio.create_task(synced(database))
    try:
        assert await asyncio.to_thread(vendor.waiting.wait, 30)
        newer = MANIFEST.replace("kraal.example/v1", "kraal.example/v2").replace(
            "name: {type: [string", "age: {type: [integer, 'null']}\n          name: {type: [string"
        )
        (place / "kraal.yaml").write_text(newer)
        (upgraded,) = await typed("upgrade", "kraal", "--yes")
        assert upgraded["outcome"] == "changed"
        vendor.gate.set()
        state = await running
    finally:
        vendor.gate.set()
        await end(running)
    assert state.is_completed(), state.message
    assert {path.split("/")[2] for path in vendor.asked} == {"v1"}
    vendor.asked.clear()
    vendor.cattle[:] = vendor.cattle[1:]
    assert (await synced(database)).is_completed()
    assert {path.split("/")[2] for path in vendor.asked} == {"v2"}
    left = rows(database_url, "SELECT record_id, age FROM kraal_cattle ORDER BY 1")
    assert [one["record_id"] for one in left] == ["2", "3", "4", "5"]

    # Reconnected: the key stays where nothing else is changed.
    link = settings_link(page, row["id"])
    again = person.get(link)
    assert KEY not in again.text
    kept = person.press(again, link, **{**FORM, ".credentials.0.key": ""})
    assert note(kept)[0] == "done", kept.text
    assert (await synced(database)).is_completed()
    elsewhere = {**FORM, ".farm": "south", ".credentials.0.key": ""}
    moved = person.press(person.get(link), link, **elsewhere)
    assert moved.status_code == 422
    assert "This is needed." in moved.text
    assert vendor.keys <= {KEY, wrong}
    # With the key typed again other settings are the same connection's, which reads anew.
    smaller = person.press(person.get(link), link, **{**FORM, ".size": "3"})
    assert note(smaller)[0] == "done", smaller.text
    (changed,) = rows(database_url, "SELECT * FROM connections")
    assert (changed["id"], changed["config"]["size"]) == (row["id"], 3)
    assert changed["account_id"] != row["account_id"]
    assert rows(database_url, "SELECT state FROM checkpoints") == [{"state": {}}]

    # A key that the vendor takes no more: the tenant is asked, and mends it.
    vendor.key = "canary-kraal-key-that-is-the-next"
    state = await synced(database)
    assert state.is_failed()
    assert "its tenant has to act" in (state.message or "")
    (broken,) = rows(database_url, "SELECT status, failure FROM connections")
    assert broken == {"status": "needs_reauth", "failure": "broken"}
    page = person.get(f"/connect/{link.split('/')[2]}")
    assert "Needs attention" in page.text
    mended = {**FORM, ".size": "3", ".credentials.0.key": vendor.key}
    assert note(person.press(person.get(link), link, **mended))[0] == "done"
    assert (await synced(database)).is_completed()

    # Nobody has seen the key: no table, no file, no log, no run of Prefect's.
    secrets = [KEY, wrong, vendor.key]
    places = found(
        secrets, texts_of(database_url), texts_of(prefect_database), files_of(place),
        [("log", caplog.text)],
    )  # fmt: skip
    assert places == set()

    # Away: not while somebody is connected, and then with all that it had.
    await typed("remove", "kraal", status=1)
    assert "acme/kraal (Kraal)" in typed.errors
    gone = await typed("remove", "kraal", "--purge", "--yes")
    assert gone["tables"] == ["records_kraal_cattle"]
    assert rows(database_url, "SELECT 1 FROM pg_class WHERE relname LIKE '%kraal%'") == []
    for table in ("tenant_settings", "sync_intervals WHERE integration = 'kraal'", "grants"):
        assert rows(database_url, f"SELECT 1 FROM {table}") == []
    await store.refresh(database)
    with pytest.raises(LookupError, match="no integration 'kraal'"):
        integrations.load("kraal")


async def test_of_a_hundred_added_ones_no_manifest_is_read_but_that_which_is_used(
    database: Database, database_url: str
) -> None:
    """All but one cannot be read: whatever reads them fails."""
    with psycopg.connect(database_url) as sql, sql.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO integrations (slug, title, version, manifest, sha256, source, licence,"
            " read_by) VALUES (%s, %s, '1', %s, %s, 'file:x', 'MIT', %s)",
            [
                (f"kraal_{n}", f"Kraal {n}", integrations.pack("- none" if n else MANIFEST),
                 f"{n:064}", integrations.reader())
                for n in range(100)
            ],
        )  # fmt: skip
        sql.execute("INSERT INTO integration_lists (revision) VALUES (gen_random_uuid())")
    async with opened(read()) as shared:
        assert len(integrations.added()) == 100
        assert await connections.listing(shared.database) == []
        assert {one.name for one in integrations.all_of(await store.in_use(database))} >= {"slack"}
        used = integrations.load("kraal_0")
        assert (used.title, [one.name for one in used.streams]) == ("Kraal 0", ["cattle"])
        with pytest.raises(LookupError, match="kraal_7: its manifest cannot be read"):
            integrations.load("kraal_7")
        # Everybody reads the list, and its owner alone changes it.
        for others in (database.transaction(uuid4()), database.dispatching(), database.receiving()):
            with pytest.raises(ProgrammingError, match="permission denied for table integrations"):
                await _written_by(others)
        # Nothing has changed: one small query, and what was read stays read.
        assert not await store.refresh(shared.database)
        assert integrations.load("kraal_0") is used
        with psycopg.connect(database_url) as sql:
            sql.execute("DELETE FROM integrations WHERE slug <> 'kraal_0'")
            sql.execute("UPDATE integration_lists SET revision = gen_random_uuid()")
        assert await store.refresh(shared.database)
        assert [one.slug for one in integrations.added()] == ["kraal_0"]
        assert integrations.load("kraal_0") is used
    # What a newer reader of manifests may read otherwise is made anew; what it cannot read is left.
    assert await store.keep(database_url, "public") == []
    with psycopg.connect(database_url) as sql:
        sql.execute(
            "INSERT INTO integrations (slug, title, version, manifest, sha256, source, licence,"
            " read_by) VALUES ('odd', 'Odd', '1', %s, %s, 'file:x', 'MIT', '')",
            [integrations.pack("- none"), "f" * 64],
        )
        sql.execute("UPDATE integrations SET read_by = 'an older one'")
    assert await store.keep(database_url, "public") == ["kraal_0"]
    assert rows(database_url, "SELECT name FROM kraal_0_cattle") == []
    async with opened(read()):
        assert integrations.title_of("kraal_0") == "Kraal 0"
        assert integrations.streams_of("nothing-of-that-name") == ()


async def _written_by(others: AbstractAsyncContextManager[AsyncSession]) -> None:
    async with others as session:
        assert await session.scalar(text("SELECT count(*) FROM integrations")) == 100
        await session.execute(text("UPDATE integrations SET manifest = 'x'"))


async def test_what_cannot_be_added_is_refused_with_the_reason_and_leaves_nothing(
    typed: Terminal, database_url: str, place: Path
) -> None:
    before = rows(database_url, "SELECT relname FROM pg_class ORDER BY 1")
    for manifest, words, why in (
        (MANIFEST, ["--name", "hubspot"], "is the name of an integration that is built in"),
        (MANIFEST, ["--name", "sync"], ""),
        (MANIFEST.replace("name: cattle", "name: runs"), ["--name", "sync"], "did not make"),
        ("type: DeclarativeSource", [], "line 1: the manifest has no streams"),
        (MANIFEST.replace("type: SimpleRetriever", "type: CustomRetriever"), [],
         "none of its streams can be read: cattle (line 21)"),
        ("- just a list", [], "the manifest is no mapping"),
        (MANIFEST.replace("{{ config['farm'] }}.kraal.example", "10.0.0.1"), [], "no public host"),
        (MANIFEST.replace("type: string, title: Herder", "type: object, title: H"), [],
         "credentials.herder: we cannot ask for such a value"),
    ):  # fmt: skip
        (place / "kraal.yaml").write_text(manifest)
        if not why:
            await typed("add", "kraal.yaml", "--yes", *words)
            await typed("remove", words[-1])
            continue
        await typed("add", "kraal.yaml", "--yes", *words, status=1)
        assert why in " ".join(typed.errors.split())
    # Without --yes nobody has agreed to its licence.
    (place / "kraal.yaml").write_text(MANIFEST)
    await typed("add", "kraal.yaml", status=2)
    await typed("remove", "kraal", status=1)
    assert "no integration 'kraal' was added; there are: none" in typed.errors
    assert rows(database_url, "SELECT relname FROM pg_class ORDER BY 1") == before
    assert rows(database_url, "SELECT slug FROM integrations") == []


async def until_shown(ours: Connecting) -> None:
    """The web process looks at the list every two seconds."""
    for _ in range(100):
        if any(one.slug == "kraal" for one in integrations.added()):
            return
        await asyncio.sleep(0.1)
    raise AssertionError("the web process does not know it")


def settings_link(page: Any, connection_id: UUID) -> str:
    return f"/connect/{str(page.url).rstrip('/').rpartition('/')[2]}/settings/kraal/{connection_id}"


async def test_what_the_document_says_can_be_typed_as_it_stands(
    database_url: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parent.parent / "docs/adding.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (manifest,) = [text for language, text in blocks if language == "yaml"]
    (place / "frost.yaml").write_text(manifest)
    lines = [line for language, text in blocks if not language for line in text.splitlines()]
    assert [line.split()[2] for line in lines] == ["check", "add", "list", "upgrade", "remove"]
    for line in lines:
        assert await asyncio.to_thread(run, shlex.split(line)[1:]) == 0, capsys.readouterr()
        if "add" in line:
            shown = rows(database_url, "SELECT id, taken_at, degrees FROM frost_readings")
            assert shown == []
    printed = capsys.readouterr().out
    assert "read: readings" in printed
    assert "not read" not in printed
    assert "frost 0: unchanged" in printed
    assert rows(database_url, "SELECT slug FROM integrations") == []
