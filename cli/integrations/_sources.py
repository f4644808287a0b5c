"""Where manifests come from: a file, an https address, or a package that holds one."""

import asyncio
import re
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass, field, replace
from email.parser import Parser
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from connectors import ConnectorError
from connectors.kernel.transport import BYTES, Transport
from integrations import index

MOST = 5 * 2**20
MOST_REDIRECTS = 3
_NAME = re.compile(r"[a-z0-9][a-z0-9-_]{0,60}", re.IGNORECASE)
_SUMMARY = re.compile(r"Source implementation for (.+?)\.?$")


class SourceError(LookupError):
    """No manifest can be had from there; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A manifest, and what is said of it where it was found. `source` finds it again."""

    text: str = field(repr=False)
    name: str
    title: str
    version: str
    licence: str
    source: str
    entry: index.Entry | None = None

    @property
    def sha256(self) -> str:
        return sha256(self.text.encode()).hexdigest()

    @property
    def level(self) -> int:
        """What was measured of exactly this text."""
        known = index.by_hash(self.sha256)
        return known.level if known else 0


def located(where: str) -> str:
    """The same place, from wherever it is looked for."""
    return str(Path(where).absolute()) if not _is_url(where) and _is_path(where) else where


def find(where: str) -> Found:
    """The manifest at a path, at an https address, or of a name."""
    if _is_url(where):
        return asyncio.run(_at(where))
    if _is_path(where):
        return _in(Path(where))
    return _named(where)


def _is_url(where: str) -> bool:
    return re.match(r"[a-z][a-z0-9+.-]*://", where, re.IGNORECASE) is not None


def _is_path(where: str) -> bool:
    return "/" in where or where.endswith((".yaml", ".yml", ".json")) or Path(where).is_file()


def _in(path: Path) -> Found:
    try:
        size = path.stat().st_size
        if size > MOST:
            raise SourceError(f"{path} has {size:,} bytes: a manifest has at most {MOST:,}")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SourceError(f"{path} is no text in UTF-8") from None
    named = path.stem if path.stem != "manifest" else path.resolve().parent.name
    return _found(text, named, source=f"file:{path.resolve()}")


async def _at(url: str) -> Found:
    """What an address answers. It is asked at public addresses only, also where it redirects."""
    transport = Transport(only_public=True, max_body=MOST)
    here = url
    try:
        for _ in range(MOST_REDIRECTS + 1):
            parts = urlsplit(here)
            if parts.scheme != "https" or parts.username or parts.password or not parts.hostname:
                raise SourceError(f"{url}: only a plain https address is read")
            answer = await transport.call("the address", "GET", here, {"accept": BYTES}, None)
            if answer.status not in (301, 302, 303, 307, 308):
                break
            here = urljoin(here, answer.headers.get("location", ""))
        else:
            raise SourceError(f"{url} redirects again and again")
        if answer.status != 200:
            raise SourceError(f"{url} answers {answer.status}")
        text = answer.content.decode("utf-8")
    except ConnectorError as error:
        raise SourceError(f"{url} cannot be read: {error}") from None
    except UnicodeDecodeError:
        raise SourceError(f"{url} is no text in UTF-8") from None
    finally:
        await transport.close()
    path = Path(urlsplit(url).path)
    named = path.stem if path.stem != "manifest" else path.parent.name
    return _found(text, named, source=url)


def _named(name: str) -> Found:
    if not _NAME.fullmatch(name):
        raise SourceError(f"{name!r} is no name of an integration, no file and no https address")
    entry = index.find(name)
    if entry is None:
        return packaged(index.package_of(name))
    return as_indexed(packaged(f"{entry.package}=={entry.version}"), entry)


def as_indexed(found: Found, entry: index.Entry) -> Found:
    """What a package held, once it is what the index was made from."""
    if found.sha256 != entry.sha256:
        raise SourceError(
            f"{entry.package} {entry.version} holds another manifest than the index knows"
            f" (sha256 {found.sha256[:12]}…, not {entry.sha256[:12]}…): it is not added"
        )
    return replace(found, title=entry.title, licence=entry.licence, entry=entry)


def packaged(requirement: str) -> Found:
    """The manifest in a package, which pip fetches as it is set up here; nothing of it is run."""
    with tempfile.TemporaryDirectory() as folder:
        fetching = subprocess.run(  # noqa: S603 - pip itself, with a checked name
            [
                sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:",
                "--ignore-requires-python", "--disable-pip-version-check", "--quiet",
                "--dest", folder, requirement,
            ],
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        wheels = list(Path(folder).glob("*.whl"))
        if fetching.returncode or not wheels:
            lines = [line for line in fetching.stderr.splitlines() if line.startswith("ERROR")]
            why = lines[-1].removeprefix("ERROR: ") if lines else "pip did not fetch it"
            raise SourceError(f"{requirement}: {why}")
        return in_wheel(wheels[0])


def in_wheel(path: Path) -> Found:
    """The manifest that a wheel holds."""
    with zipfile.ZipFile(path) as wheel:
        named = sorted(
            (one for one in wheel.infolist() if one.filename.endswith("/manifest.yaml")),
            key=lambda one: (one.filename.count("/"), one.filename),
        )
        about = next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(wheel.read(about).decode("utf-8", "replace"))
        package, version = metadata["Name"], metadata["Version"]
        if not named:
            raise SourceError(f"{package} {version} holds no manifest: it is written in Python")
        if named[0].file_size > MOST:
            raise SourceError(f"{package} {version}: its manifest is larger than {MOST:,} bytes")
        text = wheel.read(named[0]).decode("utf-8")
    said = _SUMMARY.match(metadata["Summary"] or "")
    slug = index.slug_of(package)
    return Found(
        text=text,
        name=slug,
        title=said[1] if said and not said[1].islower() else _title(slug),
        version=version,
        licence=metadata["License-Expression"] or metadata["License"] or "not said",
        source=f"package:{package}=={version}",
    )


def _found(text: str, named: str, source: str) -> Found:
    slug = re.sub(r"[^a-z0-9]+", "_", named.lower().removeprefix("source-")).strip("_")
    known = index.by_hash(sha256(text.encode()).hexdigest())
    return Found(
        text=text,
        name=slug or "integration",
        title=known.title if known else _title(slug),
        version=known.version if known else "0",
        licence=known.licence if known else "not said",
        source=source,
        entry=known,
    )


def _title(slug: str) -> str:
    return slug.replace("_", " ").title()
