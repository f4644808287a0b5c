"""Settings for a manifest, made up from what its specification says of them."""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from tests.referees.player.times import written

_DATE = re.compile(r"date|start|since|from_time|begin|end_time|^end|until")
_FORMS = (
    "%Y-%m-%dT%H:%M:%SZ",
    "%Y-%m-%d",
    "%Y-%m-%dT%H:%M:%S.%fZ",
    "%Y-%m-%dT%H:%M:%S.000Z",
    "%Y-%m-%dT%H:%M:%S",
    "%Y-%m-%d %H:%M:%S",
    "%Y-%m-%dT%H:%M:%S+00:00",
    "%d/%m/%Y",
    "%m/%d/%Y",
    "%Y%m%d",
    "%d-%m-%Y",
    "%Y-%m",
    "%Y",
    "%s",
)
_SETTING = re.compile(r"""config(?:\.|\[\s*['"]|\.get\(\s*['"])([A-Za-z0-9_\-]+)""")


def settings(manifest: Mapping[str, Any], now: datetime, *, bare: bool) -> dict[str, Any]:
    """Values for all settings, or with `bare` for those only that a tenant must give."""
    spec = (manifest.get("spec") or {}).get("connection_specification") or {}
    addresses = {
        found
        for text in texts(manifest.get("streams"), ("url_base", "url"))
        if text.lstrip().startswith("{{") and "http" not in text
        for found in _SETTING.findall(text.partition("}}")[0])
    }
    for text in texts(manifest.get("streams"), ("url_base", "url")):
        if host := re.match(r"https://\{\{([^}]*)\}\}(?=[/:]|\s*$)", text.strip()):
            addresses |= {f"{name}:host" for name in _SETTING.findall(host[1])}
    found = _object(spec, now, bare, addresses)
    if not spec.get("properties"):
        for text in texts(manifest.get("streams"), None):
            for name in _SETTING.findall(text):
                found.setdefault(name, _value(name, {"type": "string"}, now, bare, addresses))
    return found


def texts(part: Any, names: tuple[str, ...] | None, at: str = "") -> Iterator[str]:
    """All texts in a part of a manifest, or those under the given names."""
    if isinstance(part, Mapping):
        for name, inner in part.items():
            yield from texts(inner, names, str(name))
    elif isinstance(part, list):
        for inner in part:
            yield from texts(inner, names, at)
    elif isinstance(part, str) and (names is None or at in names):
        yield part


def _object(
    spec: Mapping[str, Any], now: datetime, bare: bool, addresses: set[str]
) -> dict[str, Any]:
    required = spec.get("required") or []
    found = {}
    for name, about in (spec.get("properties") or {}).items():
        optional = name not in required
        if optional and (bare or re.search(r"end|until|to_date", name)):
            if "default" in about and not _is_date(name, about):
                found[name] = about["default"]
            continue
        found[name] = _value(name, about, now, bare, addresses)
    return found


def _is_date(name: str, about: Mapping[str, Any]) -> bool:
    if about.get("format") in ("date", "date-time"):
        return True
    shape = str(about.get("pattern", "")) + str(about.get("examples", ""))
    looks = "[0-9]{4}" in shape or r"\d{4}" in shape or bool(re.search(r"20\d\d-", shape))
    return bool(_DATE.search(name.lower())) and (looks or about.get("type") == "string")


def _value(
    name: str, about: Mapping[str, Any], now: datetime, bare: bool, addresses: set[str]
) -> Any:
    if "const" in about:
        return about["const"]
    if about.get("enum"):
        return about["enum"][0]
    for choice in ("oneOf", "anyOf"):
        if about.get(choice):
            return _object(about[choice][0], now, bare, addresses)
    kind = about.get("type", "string")
    kind = (
        next((one for one in kind if one != "null"), "string") if isinstance(kind, list) else kind
    )
    if kind == "string" and _is_date(name, about):
        return _date(name, about, now)
    if "default" in about and name not in addresses:
        return about["default"]
    if kind == "object":
        return _object(about, now, bare, addresses)
    if kind == "array":
        return [_value(name, about.get("items") or {}, now, bare, addresses)]
    if kind == "boolean":
        return False
    if kind in ("integer", "number"):
        return _number(about)
    return _text(name, about, addresses)


def _number(about: Mapping[str, Any]) -> Any:
    examples = about.get("examples") or []
    if examples and isinstance(examples[0], int | float):
        return examples[0]
    return max(about.get("minimum", 7), min(7, about.get("maximum", 7)))


def _date(name: str, about: Mapping[str, Any], now: datetime) -> str:
    late = re.search(r"end|until|to_", name.lower())
    at = (now - timedelta(days=2 if late else 37)).replace(
        hour=0, minute=0, second=0, microsecond=0
    )
    forms = [form for form in _FORMS if _fits(about, str(written(at, form)))]
    if not about.get("pattern"):
        examples = about.get("examples") or about.get("default") or ""
        first = examples[0] if isinstance(examples, list) and examples else str(examples)
        like = [form for form in _FORMS if _shape(str(written(at, form))) == _shape(str(first))]
        day_only = ["%Y-%m-%d"] if about.get("format") == "date" else []
        forms = [*like, *day_only, *forms]
    return str(written(at, forms[0] if forms else "%Y-%m-%dT%H:%M:%SZ"))


def _shape(text: str) -> str:
    return re.sub(r"\d", "0", text)


def _fits(about: Mapping[str, Any], text: str) -> bool:
    try:
        return re.search(str(about.get("pattern", "")), text) is not None
    except re.error:
        return True


def _address(name: str, about: Mapping[str, Any]) -> str:
    """A URL, with a slash at its end where the examples have one."""
    examples = [str(one) for one in about.get("examples") or []]
    end = "/" if examples and examples[0].endswith("/") else ""
    return f"https://{name.replace('_', '-')}.acme.example{end}"


def _text(name: str, about: Mapping[str, Any], addresses: set[str]) -> str:
    examples = [
        str(one) for one in about.get("examples") or [] if not re.search(r"[<>{}\s]", str(one))
    ]
    made_up = [
        *([_address(name, about)] if name in addresses else []),
        *examples,
        *([f"{name.replace('_', '-')}.acme.example"] if f"{name}:host" in addresses else []),
        f"{name.replace('_', '-')}-acme",
        "acme",
        "https://acme.example.com",
        "acme.example.com",
        "12345678",
        "0" * 32,
        "a" * 32,
        "12345678-1234-1234-1234-123456789abc",
        "someone@acme.example",
        "USD",
        "1",
    ]
    return next((text for text in made_up if text and _fits(about, text)), made_up[-1])
