"""Where manifests come from, and what is said of one before it is added; no database is needed."""

import io
import json
import zipfile
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from cli import run
from cli.integrations import _sources, indexing
from cli.integrations._sources import SourceError
from connectors import all_connectors
from integrations import index, levels
from tests._kraal import FARM, KEY, MANIFEST, kraal


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "kraal.yaml").write_text(MANIFEST)
    return tmp_path


def typed(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any, str]:
    """The status of a command, the JSON that it prints, and what it says beside."""
    capsys.readouterr()
    status = run(["integrations", *words, "--json"])
    printed = capsys.readouterr()
    return status, json.loads(printed.out) if printed.out else None, printed.err


def test_a_manifest_is_checked_and_each_stream_that_is_not_read_named_with_its_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    status, said, _ = typed(capsys, "check", "kraal.yaml")
    assert status == 0
    assert said["streams"] == ["cattle"]
    (left,) = said["unread"]
    assert left["stream"] == "whispers"
    assert MANIFEST.splitlines()[left["line"] - 1].strip().startswith("type: CustomRetriever")
    assert "CustomRetriever" in left["why"]
    assert said["settings"] == [
        "farm", "credentials.kind", "credentials.key (secret)", "credentials.kind",
        "credentials.herder", "credentials.stick (secret)", "since", "size", "calm",
    ]  # fmt: skip
    assert said["hosts"] == ["*.kraal.example"]
    assert said["sha256"] == sha256(MANIFEST.encode()).hexdigest()


def test_settings_are_tried_at_the_vendor(
    capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {"farm": FARM, "credentials": {"kind": "key", "key": KEY}}
    with kraal() as vendor:
        vendor.grow(1)
        monkeypatch.setenv("ATOM_SANDBOX_URL", vendor.origin)
        (place / "good.json").write_text(json.dumps(good))
        status, said, _ = typed(capsys, "check", "kraal.yaml", "--settings", "good.json")
        assert (status, said["tried"]) == (0, "the vendor accepts these settings")
        wrong = {**good, "credentials": {"kind": "key", "key": "canary-of-a-wrong-key"}}
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(wrong)))
        status, said, err = typed(capsys, "check", "kraal.yaml", "--settings", "-")
        assert status == 1
        assert "(401)" in said["tried"]
        assert "canary" not in json.dumps(said) + err
        (place / "odd.json").write_text(json.dumps({**good, "size": 0}))
        status, said, _ = typed(capsys, "check", "kraal.yaml", "--settings", "odd.json")
        assert (status, said["tried"]) == (1, "size: This must be at least 1.")
    (place / "no.json").write_text(f'{{"key": "{KEY}"')
    status, said, err = typed(capsys, "check", "kraal.yaml", "--settings", "no.json")
    assert (status, said) == (1, None)
    assert "no JSON object" in err
    assert KEY not in err


@pytest.mark.parametrize(
    ("where", "why"),
    [
        ("nowhere.yaml", "nowhere.yaml cannot be read"),
        ("http://example.com/manifest.yaml", "only a plain https address is read"),
        ("file:///etc/passwd", "only a plain https address is read"),
        ("https://user:pass@example.com/manifest.yaml", "only a plain https address is read"),
        ("https://127.0.0.1:1/manifest.yaml", "not one of the internet's"),
        ("https://localhost/manifest.yaml", "not one of the internet's"),
        ("no such name", "is no name of an integration"),
        ("--no-index", ""),
    ],
)
def test_a_place_that_no_manifest_can_be_had_from_is_said_in_a_line(
    capsys: pytest.CaptureFixture[str], where: str, why: str
) -> None:
    status, said, err = typed(capsys, "check", where)
    assert status in (1, 2)
    assert said is None
    assert why in err


def test_a_file_that_is_too_large_or_no_text_is_refused(place: Path) -> None:
    (place / "large.yaml").write_bytes(b"#" * (_sources.MOST + 1))
    with pytest.raises(SourceError, match="at most"):
        _sources.find("large.yaml")
    (place / "odd.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(SourceError, match="UTF-8"):
        _sources.find("odd.yaml")


@pytest.fixture
def wheel(place: Path) -> Path:
    path = place / "airbyte_source_kraal-1.2.3-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("source_kraal/manifest.yaml", MANIFEST)
        made.writestr("source_kraal/deeper/manifest.yaml", "another")
        made.writestr(
            "airbyte_source_kraal-1.2.3.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: airbyte-source-kraal\nVersion: 1.2.3\nLicense: ELv2\n"
            "Summary: Source implementation for Kraal & Sons.\n",
        )
    return path


def test_a_wheel_is_read_and_indexed_by_its_facts_alone(wheel: Path) -> None:
    found = _sources.in_wheel(wheel)
    made = indexing.entry(found)
    assert (made.name, made.title, made.licence) == ("kraal", "Kraal & Sons", "ELv2")
    assert (made.package, made.version) == ("airbyte-source-kraal", "1.2.3")
    assert (made.streams, made.unread) == (("cattle",), ("whispers",))
    assert (made.auth, made.hosts) == (("ApiKeyAuthenticator",), ("*.kraal.example",))
    assert made.sha256 == sha256(MANIFEST.encode()).hexdigest()
    assert made.level == 0


def test_a_package_that_holds_another_manifest_than_the_index_knows_is_refused(wheel: Path) -> None:
    found = _sources.in_wheel(wheel)
    entry = indexing.entry(found)
    assert _sources.as_indexed(found, entry).entry is entry
    with pytest.raises(SourceError, match="another manifest than the index knows"):
        _sources.as_indexed(found, replace(entry, sha256="0" * 64))


def test_the_index_is_of_facts_and_each_can_be_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert index.entries()
    for name, one in index.entries().items():
        assert one.name == name == index.slug_of(one.package)
        assert index.find(name.replace("_", "-")) is one
        assert len(one.sha256) == 64
        assert one.licence
        assert one.package == index.package_of(name)
    some = next(iter(index.entries().values()))
    status, said, _ = typed(capsys, "search", some.title.split()[0].upper())
    assert status == 0
    assert some.name in [each["name"] for each in said]
    assert typed(capsys, "search", "no-such-thing")[:2] == (0, [])
    assert "manifest:" not in index.FILE.read_text()


def test_a_built_in_one_has_its_level_from_what_it_declares() -> None:
    found = {one.name: levels.of(one) for one in all_connectors()}
    assert found["openai"] == levels.CONNECTS
    assert found["quickbooks"] == levels.FOLLOWS
    assert found["hubspot"] == levels.TOLD
