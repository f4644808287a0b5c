"""The addresses that a manifest reads: which stream a call is for, and where it puts what."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.referees.player.calls import Call
from tests.referees.player.settings import texts
from tests.referees.player.templates import Path, Templates, pieces


@dataclass
class Endpoint:
    """A stream's address. `pattern` fits its URLs; `literals` is how much of it is fixed."""

    name: str
    stream: Mapping[str, Any]
    method: str
    pattern: re.Pattern[str]
    literals: int
    fixed: Mapping[str, str]
    words: frozenset[str]
    keys: list[Path] = field(default_factory=list)
    needed: dict[Path, list[Any]] = field(default_factory=dict)
    is_parent: bool = False
    is_child: bool = False

    @property
    def retriever(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.stream["retriever"]
        return found

    @property
    def requester(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.retriever.get("requester") or {}
        return found

    def fit(self, call: Call) -> int | None:
        """How well a call fits; None where it does not."""
        if call.method != self.method or not self.pattern.fullmatch(single_slashes(call.url)):
            return None
        query = dict(call.query)
        score = self.literals * 100
        for name, value in self.fixed.items():
            if query.get(name) == value:
                score += 10
            elif name in query:
                score -= 10
        if self.words:
            score += sum(word in call.body for word in self.words) * 60 // len(self.words)
        return score


def endpoints(manifest: Mapping[str, Any], templates: Templates) -> list[Endpoint]:
    """All addresses of all streams, with what their children and templates look at."""
    found: dict[int, Endpoint] = {}
    by_shape: dict[str, Endpoint] = {}
    for stream in _streams(manifest):
        endpoint = _endpoint(stream, templates)
        shape = repr((endpoint.name, endpoint.method, endpoint.pattern.pattern, endpoint.fixed))
        known = by_shape.setdefault(shape, endpoint)
        found[id(stream)] = known
    for stream in _streams(manifest):
        known = found[id(stream)]
        router = stream["retriever"].get("partition_router")
        for parent in _parents(router):
            known.is_child = True
            of = found.get(id(parent.get("stream")))
            if of is None:
                continue
            of.is_parent = True
            for key in (parent.get("parent_key"), *_flat(parent.get("extra_fields"))):
                if isinstance(key, str):
                    of.needed.setdefault(tuple(key.split("/")), [])
                elif isinstance(key, tuple):
                    of.needed.setdefault(key, [])
    return list(by_shape.values())


def _flat(fields: Any) -> list[tuple[str, ...]]:
    return [tuple(str(name) for name in path) for path in fields or [] if isinstance(path, list)]


def _streams(part: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(part, Mapping):
        if isinstance(part.get("retriever"), Mapping) and "requester" in part["retriever"]:
            yield part
        for name, inner in part.items():
            if name not in ("definitions", "spec", "schemas", "metadata"):
                yield from _streams(inner)
    elif isinstance(part, list):
        for inner in part:
            yield from _streams(inner)


def _parents(router: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(router, list):
        for one in router:
            yield from _parents(one)
    elif isinstance(router, Mapping):
        yield from router.get("parent_stream_configs") or []
        yield from _parents(router.get("underlying_partition_router"))
        yield from _parents(router.get("partition_routers"))


def address(requester: Mapping[str, Any]) -> str:
    """The template of its URL."""
    base = str(requester.get("url") or requester.get("url_base") or "")
    path = str(requester.get("path") or "")
    if path.startswith(("http://", "https://")) or not path:
        return path or base
    return f"{base.rstrip('/')}/{path.lstrip('/')}"


def pattern(template: str, templates: Templates, known: Mapping[str, Any]) -> tuple[str, int]:
    """A pattern of the URLs that a template gives, and how many of its letters are fixed."""
    whole = templates.value(template, **known)
    if isinstance(whole, str):
        text = whole.partition("?")[0].strip()
        return re.escape(single_slashes(text)) + "/*", len(text)
    found, fixed, query = "", 0, False
    for is_expression, text in pieces(template):
        if is_expression:
            value = templates.value(text, **known)
            text = "" if value is None else str(value)
            if value is None and not query and not text.startswith("{%"):
                found += ".*?"
                continue
        before, mark, _ = text.partition("?")
        if not query:
            found += re.escape(before)
            fixed += len(before)
        query = query or bool(mark)
    found = found.replace("\\ ", "").replace("\\\n", "")
    return single_slashes(found) + "/*", fixed


def single_slashes(url: str) -> str:
    """A URL in which no slash follows another: of those, programs make what they like."""
    return re.sub(r"(?<![:/])/{2,}", "/", url)


def _endpoint(stream: Mapping[str, Any], templates: Templates) -> Endpoint:
    retriever = stream["retriever"]
    requester = retriever["requester"]
    parameters = requester.get("$parameters") or stream.get("$parameters") or {}
    known = {"parameters": parameters}
    form, literals = pattern(address(requester), templates, known)
    fixed = {}
    for name, value in _mapping(requester.get("request_parameters")).items():
        found = templates.value(value, **known)
        if found is not None:
            fixed[name] = str(found)
    body = [
        *texts(requester.get("request_body_json"), None),
        *texts(requester.get("request_body"), None),
    ]
    body += list(texts(requester.get("request_body_data"), None))
    words = frozenset(word for text in body for word in re.findall(r"[A-Za-z_]{3,}", text))
    endpoint = Endpoint(
        name=str(stream.get("name") or ""),
        stream=stream,
        method=str(requester.get("http_method") or "GET").upper(),
        pattern=re.compile(form, re.DOTALL),
        literals=literals,
        fixed=fixed,
        words=words,
    )
    for key in _flatten(stream.get("primary_key")):
        endpoint.keys.append(key)
    selector = retriever.get("record_selector") or {}
    looked_at = [
        selector.get("record_filter"),
        stream.get("transformations"),
        selector.get("transformations"),
    ]
    for text in texts(looked_at, None):
        for path in templates.paths(text):
            if path[0] == "record" and len(path) > 1:
                values = endpoint.needed.setdefault(path[1:], [])
                if text in list(texts(selector.get("record_filter"), None)):
                    names = set(path)
                    values += [one for one in templates.constants(text) if one not in names]
    for text in texts(retriever.get("paginator"), ("cursor_value", "stop_condition")):
        for path in templates.paths(text):
            if path[0] == "last_record" and len(path) > 1:
                endpoint.needed.setdefault(path[1:], [])
    return endpoint


def _flatten(key: Any) -> list[Path]:
    if isinstance(key, str):
        return [(key,)]
    found: list[Path] = []
    for one in key or []:
        found.append(tuple(one) if isinstance(one, list) else (one,))
    return found


def _mapping(part: Any) -> Mapping[str, Any]:
    return part if isinstance(part, Mapping) else {}
