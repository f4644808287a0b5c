"""Which integrations there are: the connectors in `connectors/`, and those added at run time.

An added one is a manifest, which `recipes` reads into a connector. Each process holds what the
database listed last (`storage.integrations`); a manifest is read when its integration is first
used, and once. Who begins work with a connector keeps that value, whatever is listed meanwhile.
"""

import zlib
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from uuid import UUID

import connectors
from connectors import Connector, Stream
from connectors.kernel.hosts import is_public

if TYPE_CHECKING:
    from recipes import Recipe

__all__ = [
    "Added",
    "Listing",
    "UnreadableError",
    "added",
    "all_of",
    "hold",
    "is_built_in",
    "listing",
    "load",
    "names",
    "pack",
    "read",
    "reader",
    "recipe",
    "streams_of",
    "title_of",
    "unpack",
]


@dataclass(frozen=True, kw_only=True)
class Added:
    """An integration as the database lists it; its manifest is `packed`.

    `level` says how well it is known to work (docs/integrations.md): 0 is unknown.
    """

    slug: str
    title: str
    version: str
    sha256: str
    level: int = 0
    packed: bytes = field(repr=False)

    @property
    def manifest(self) -> str:
        return unpack(self.packed)


@dataclass(frozen=True)
class Listing:
    """All that were added, as they stood at one revision of the list."""

    revision: UUID | None = None
    added: tuple[Added, ...] = ()


@dataclass
class _Held:
    """What this process knows. The connectors are those of manifests that it has read."""

    listing: Listing = field(default_factory=Listing)
    by_slug: dict[str, Added] = field(default_factory=dict)
    read: dict[tuple[str, str, str], Connector] = field(default_factory=dict)


_held = _Held()
_reading = Lock()


def load(name: str) -> Connector:
    """The connector of that name, built in or added.

    LookupError names those there are, or says what keeps a manifest from being read.
    """
    if is_built_in(name):
        return connectors.load(name)
    found = _held.by_slug.get(name)
    if found is None:
        raise LookupError(f"no integration {name!r}; there are: {', '.join(names())}")
    return _connector(found)


def title_of(name: str) -> str:
    """How people call it, also where its manifest cannot be read any more."""
    if is_built_in(name):
        return connectors.load(name).title
    return _held.by_slug[name].title if name in _held.by_slug else name


def streams_of(name: str) -> tuple[Stream, ...]:
    """Its streams; none where its manifest cannot be read any more."""
    try:
        return load(name).streams
    except LookupError:
        return ()


def all_of(names: Collection[str]) -> tuple[Connector, ...]:
    """Every connector that is built in, and of the added ones those of these names."""
    more = sorted(set(names) & set(_held.by_slug))
    return (*connectors.all_connectors(), *(load(name) for name in more))


def names() -> tuple[str, ...]:
    """Of all there are, built in and added."""
    return tuple(sorted({*connectors.names(), *_held.by_slug}))


def is_built_in(name: str) -> bool:
    return name in connectors.names()


def added() -> tuple[Added, ...]:
    """Those that were added, by name; no manifest is read for it."""
    return tuple(_held.by_slug[slug] for slug in sorted(_held.by_slug))


def listing() -> Listing:
    """What this process holds."""
    return _held.listing


def hold(found: Listing) -> None:
    """From now on these are the added ones; connectors of manifests that stayed stay read."""
    by_slug = {each.slug: each for each in found.added}
    keys = {_key(each) for each in found.added}
    _held.read = {key: value for key, value in _held.read.items() if key in keys}
    _held.by_slug, _held.listing = by_slug, found


class UnreadableError(ValueError):
    """A text is no manifest that can be read; the message names the line, and what is wrong."""


def recipe(slug: str, manifest: str) -> "Recipe":
    """A manifest as it was read: its connector, and the streams that were left out."""
    # To read manifests takes libraries that most processes never need.
    import recipes

    try:
        found = recipes.read(manifest, name=slug)
    except recipes.ManifestError as error:
        raise UnreadableError(str(error)) from error
    for host in found.connector.hosts:
        if "*" not in host and not is_public(host):
            raise UnreadableError(f"it would call {host}, which is no public host")
    return found


def read(slug: str, title: str, manifest: str) -> Connector:
    """The connector that a manifest describes."""
    return replace(recipe(slug, manifest).connector, title=title)


@cache
def reader() -> str:
    """Which reader of manifests this is: another wherever its code is."""
    folder = Path(__file__).parent.parent / "recipes"
    code = sha256()
    for file in sorted(folder.rglob("*.py")):
        code.update(file.read_bytes())
    return code.hexdigest()[:16]


def pack(manifest: str) -> bytes:
    """A manifest as it is stored: many hold schemas of a few hundred kilobytes."""
    return zlib.compress(manifest.encode(), 9)


def unpack(packed: bytes) -> str:
    return zlib.decompress(packed).decode()


def _connector(one: Added) -> Connector:
    key = _key(one)
    with _reading:
        if key not in _held.read:
            try:
                _held.read[key] = read(one.slug, one.title, one.manifest)
            except UnreadableError as error:  # another version of us could read it
                raise LookupError(f"{one.slug}: its manifest cannot be read: {error}") from error
        return _held.read[key]


def _key(one: Added) -> tuple[str, str, str]:
    return one.slug, one.title, one.sha256
