"""Answers as they go over the wire."""

import csv
import gzip
import io
import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from tests.referees.player.calls import Answer, UnplayableError
from tests.referees.player.endpoints import Endpoint

_MEDIA = {
    "CsvDecoder": "text/csv",
    "JsonlDecoder": "application/jsonl",
    "XmlDecoder": "application/xml",
}


def as_json(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(
        status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode()
    )


def encoded(
    endpoint: Endpoint, body: Any, rows: list[dict[str, Any]], headers: dict[str, str]
) -> Answer:
    decoder = endpoint.retriever.get("decoder") or {}
    inner = decoder
    while isinstance(inner.get("decoder"), Mapping):
        inner = inner["decoder"]
    kind = inner.get("type") or "JsonDecoder"
    if kind == "JsonlDecoder":
        content = "\n".join(json.dumps(row) for row in rows).encode()
    elif kind == "CsvDecoder":
        out = io.StringIO()
        names = sorted({name for row in rows for name in row})
        writer = csv.DictWriter(out, names, delimiter=str(inner.get("delimiter") or ","))
        writer.writeheader()
        writer.writerows(rows)
        content = out.getvalue().encode()
    elif kind == "XmlDecoder":
        content = _xml(body)
    elif kind in ("JsonDecoder", "IterableDecoder"):
        content = json.dumps(body).encode()
    else:
        raise UnplayableError(f"{endpoint.name}: answers in the form of {kind} are not made up")
    if decoder.get("type") == "GzipDecoder":
        return Answer(
            200, {"Content-Type": "application/gzip", **headers}, gzip.compress(content, mtime=0)
        )
    if decoder.get("type") == "ZipfileDecoder":
        raise UnplayableError(f"{endpoint.name}: zip files are not made up")
    media = _MEDIA.get(kind, "application/json")
    return Answer(200, {"Content-Type": media, **headers}, content)


def _xml(body: Any) -> bytes:
    """A document of elements by their names; a list is so many of one name."""

    def element(name: str, value: Any) -> str:
        if isinstance(value, list):
            return "".join(element(name, one) for one in value)
        if isinstance(value, dict):
            inside = "".join(element(inner, one) for inner, one in value.items())
            return f"<{name}>{inside}</{name}>"
        return f"<{name}>{'' if value is None else escape(str(value))}</{name}>"

    return "".join(element(name, value) for name, value in body.items()).encode()


def merged(answers: list[Answer]) -> Answer:
    """One answer for streams that read the same address in other places."""
    bodies = [json.loads(answer.body) for answer in answers]
    whole = bodies[0]
    for body in bodies[1:]:
        whole = _joined(whole, body)
    headers = {
        name: value for answer in reversed(answers) for name, value in answer.headers.items()
    }
    return Answer(answers[0].status, headers, json.dumps(whole).encode())


def _joined(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            **other,
            **{
                name: _joined(value, other[name]) if name in other else value
                for name, value in one.items()
            },
        }
    if isinstance(one, list) and isinstance(other, list):
        longer = one if len(one) >= len(other) else other
        pairs = [_joined(a, b) for a, b in zip(one, other, strict=False)]
        return [*pairs, *longer[len(pairs) :]]
    return one
