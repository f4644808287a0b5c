"""The shipped index: facts about manifests that are published as packages, and none of their text.

Each line is made from the wheel that it names (`python -m cli.integrations.indexing`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

FILE = Path(__file__).with_name("index.json")
PREFIX = "airbyte-source-"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What is known of one manifest.

    `sha256` is that of its text. `streams` are those that we read, and `unread` those that we do
    not. `auth` names its kinds of authentication, and `hosts` where its calls go: `*` stands for
    what a tenant fills in. `level` is what a referee has measured, and 0 while none has.
    """

    name: str
    title: str
    package: str
    version: str
    sha256: str
    licence: str
    streams: tuple[str, ...]
    unread: tuple[str, ...]
    auth: tuple[str, ...]
    hosts: tuple[str, ...]
    level: int = 0


@cache
def entries() -> Mapping[str, Entry]:
    """Every entry, by name."""
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return {one["name"]: _entry(one) for one in found}


def find(name: str) -> Entry | None:
    """The entry of that name, however it is written: `google-ads` and `google_ads` are one."""
    return entries().get(slug_of(name))


def by_hash(sha256: str) -> Entry | None:
    """The entry of exactly that text."""
    return next((one for one in entries().values() if one.sha256 == sha256), None)


def search(words: Iterable[str]) -> list[Entry]:
    """The entries in which each of the words stands somewhere, by name."""
    wanted = [word.lower() for word in words]
    return [one for one in entries().values() if all(word in _text(one) for word in wanted)]


def write(found: Iterable[Entry]) -> None:
    """Writes the index, a line for each entry."""
    lines = [json.dumps(asdict(one), ensure_ascii=False) for one in sorted(found, key=_name)]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


def slug_of(name: str) -> str:
    return name.lower().removeprefix(PREFIX).replace("-", "_")


def package_of(name: str) -> str:
    return f"{PREFIX}{slug_of(name).replace('_', '-')}"


def _name(one: Entry) -> str:
    return one.name


def _text(one: Entry) -> str:
    return " ".join((one.name, one.title, *one.streams, *one.unread)).lower()


def _entry(line: Mapping[str, object]) -> Entry:
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in line.items()}
    return Entry(**values)  # type: ignore[arg-type]  # our own file
