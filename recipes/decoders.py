"""An answer's body as the values in it: JSON, lines of JSON, CSV, XML, and any of them packed."""

import csv
import io
import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from xml.parsers import expat

from connectors import ContractError, ProviderUnavailableError, Response
from connectors.kernel.body import parse_json
from recipes.manifest import Component, unsupported

MAX_UNPACKED = 256 * 2**20
MAX_NESTED = 200
_ESCAPES = {"\\t": "\t", "\\n": "\n"}


@dataclass(frozen=True)
class Decoder:
    """`raw` says that the answer's bytes are needed. Its bodies are what records are looked for in:
    one, or of an answer that is a list each item."""

    raw: bool
    read: Callable[[bytes], list[Any]]

    @classmethod
    def of(cls, component: Component | None) -> "Decoder":
        if component is None or component.type == "JsonDecoder":
            return cls(False, _json)
        return cls(True, _parser(component))

    def bodies(self, response: Response) -> list[Any]:
        if self.raw and response.content:
            return self.read(response.content)
        return _listed(response.json)


def _listed(found: Any) -> list[Any]:
    if isinstance(found, list):
        return found or [{}]
    return [{}] if found is None else [found]


def _json(content: bytes) -> list[Any]:
    try:
        return _listed(parse_json(content))
    except ValueError:
        raise ContractError("the vendor answered with malformed JSON") from None


def _lines(content: bytes) -> list[Any]:
    return [item for line in content.splitlines() if line.strip() for item in _json(line)]


def _iterable(content: bytes) -> list[Any]:
    return [{"record": line.decode("utf-8", "replace")} for line in content.splitlines()]


def _unpacked(content: bytes) -> bytes:
    if content[:2] != b"\x1f\x8b":
        return content  # the transport, or the vendor, unpacked it already
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    try:
        made = unpack.decompress(content, MAX_UNPACKED + 1)
    except zlib.error:
        raise ProviderUnavailableError("the vendor sent a file that does not unpack") from None
    return _measured(made)


def _measured(made: bytes) -> bytes:
    if len(made) > MAX_UNPACKED:
        raise ContractError(f"the vendor sent more than {MAX_UNPACKED // 2**20} MiB")
    return made


def _unzipped(content: bytes) -> list[bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_UNPACKED:
                raise ContractError(f"the vendor sent more than {MAX_UNPACKED // 2**20} MiB")
            return [archive.read(info) for info in archive.infolist() if not info.is_dir()]
    except zipfile.BadZipFile:
        raise ProviderUnavailableError("the vendor sent a file that does not unpack") from None


def _csv(component: Component) -> Callable[[bytes], list[Any]]:
    delimiter = component.text("delimiter", ",")
    delimiter = _ESCAPES.get(delimiter, delimiter)
    encoding = component.text("encoding", "utf-8")
    nulls = (
        {"", *component.get("set_values_to_none", ())}
        if "set_values_to_none" in component
        else set()
    )
    if len(delimiter) != 1:
        raise unsupported(component)

    def read(content: bytes) -> list[Any]:
        text = content.decode(encoding, "replace")
        rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), delimiter=delimiter)
        return [
            {
                name: None if value in nulls else value
                for name, value in row.items()
                if name is not None
            }
            for row in rows
        ]

    return read


class _Tree:
    """XML as JSON has it: attributes are `@name`, a text beside them `#text`, and elements of one
    name a list."""

    def __init__(self) -> None:
        self.root: dict[str, Any] = {}
        self._open: list[tuple[str, dict[str, Any], list[str]]] = [("", self.root, [])]

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) > MAX_NESTED:
            raise ContractError("the vendor answered with XML that is nested too deeply")
        made = {f"@{key}": value for key, value in attributes.items()}
        self._open.append((name, made, []))

    def text(self, text: str) -> None:
        self._open[-1][2].append(text)

    def end(self, name: str) -> None:
        _, made, parts = self._open.pop()
        text = "".join(parts).strip()
        value: Any = made
        if not made:
            value = text or None
        elif text:
            made["#text"] = text
        outer = self._open[-1][1]
        if name not in outer:
            outer[name] = value
        elif isinstance(outer[name], list):
            outer[name].append(value)
        else:
            outer[name] = [outer[name], value]


def _entity(*declared: Any) -> None:
    # An entity may stand for another one many times, and so on.
    raise ContractError("the vendor answered with XML that declares entities")


def _xml(content: bytes) -> list[Any]:
    tree, parser = _Tree(), expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = tree.start, tree.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = tree.text, _entity
    try:
        parser.Parse(content, True)
    except expat.ExpatError:
        raise ContractError("the vendor answered with malformed XML") from None
    return [tree.root]


def _parser(component: Component) -> Callable[[bytes], list[Any]]:
    match component.type:
        case "JsonDecoder" | "JsonParser":
            return _json
        case "JsonlDecoder" | "JsonLineParser":
            return _lines
        case "XmlDecoder":
            return _xml
        case "IterableDecoder":
            return _iterable
        case "CsvDecoder" | "CsvParser":
            return _csv(component)
        case "GzipDecoder" | "GzipParser":
            inner = component.part("decoder") or component.need("inner_parser")
            gunzipped = _parser(inner)
            return lambda content: gunzipped(_unpacked(content))
        case "ZipfileDecoder":
            each = _parser(component.part("decoder") or component.need("parser"))
            return lambda content: [item for file in _unzipped(content) for item in each(file)]
        case "CompositeRawDecoder":
            return _parser(component.need("parser"))
    raise unsupported(component)


def text_of(value: Any) -> str:
    """A value as a text of JSON, always the same for the same value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
