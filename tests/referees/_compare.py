"""Two readings of one manifest, compared: the same requests, and the same records of them.

What rightly differs is left out, each with its reason: see the constants here, and what the player
does not provoke (`listing.SETTLED`, and the parents of a second run). The order of requests is not
compared: each page's request names the page before it, and parts may be read in any order.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

# Set by the HTTP library, whichever that is.
LIBRARY = {
    "user-agent",
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "transfer-encoding",
}
# Ours asks for JSON where a manifest says nothing; requests asks for anything.
ANYTHING = ("*/*", "application/json")
# What follows a whole number, outside of texts.
_WHOLE = re.compile(r"(?<=\d)\.0(?=[,\]}]|$)")


@dataclass(frozen=True)
class Difference:
    """`kind` is one of few words, to count by; `text` shows the two values."""

    stream: str
    run: str
    kind: str
    text: str


def compare(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[Difference]:
    """All that differs, stream by stream; what we do not read, and the CDK cannot play, apart."""
    for run, reading in theirs["runs"].items():
        other = ours["runs"].get(run)
        if other is None:
            continue
        for name, stream in reading["streams"].items():
            if name in other["streams"]:
                found = next(_differences(stream, other["streams"][name]), None)
                if found is not None:
                    yield Difference(name, run, *found)


def _differences(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The first is what the others come of."""
    if theirs["unplayable"]:
        return
    if ours["unplayable"]:
        yield "address", ours["unplayable"]
    their_calls, our_calls = _calls(theirs, False), _calls(ours, False)
    fails, failed = bool(theirs["errors"]), bool(ours["errors"])
    if failed and not fails:
        yield "only we fail", _short(ours["errors"][0])
    if fails and not failed:
        yield "only they fail", _short(theirs["errors"][0])
    if set(their_calls) != set(our_calls):
        yield from _unlike(their_calls, our_calls)
    elif their_calls != our_calls:
        more = (our_calls - their_calls) or (their_calls - our_calls)
        call, times = more.most_common(1)[0]
        who = "we" if our_calls - their_calls else "they"
        yield "repeated", f"{who} ask {times} times more: {_short(call)}"
    if set(_calls(theirs, True)) != set(_calls(ours, True)):
        yield from (
            (f"token {kind}", text)
            for kind, text in _unlike(_calls(theirs, True), _calls(ours, True))
        )
    if fails and failed:
        return
    their_records, our_records = _records(theirs), _records(ours)
    if their_records != our_records:
        yield _records_unlike(their_records, our_records)


def _calls(reading: Mapping[str, Any], tokens: bool) -> Counter[str]:
    return Counter(
        json.dumps(_call(call), sort_keys=True)
        for call in reading["calls"]
        if call["is_token"] == tokens
    )


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    headers = {name: value for name, value in call["headers"].items() if name not in LIBRARY}
    if headers.get("accept") in ANYTHING:
        del headers["accept"]
    if not call["body"]:
        headers.pop("content-type", None)
    return {
        "method": call["method"],
        "url": unquote(call["url"]),
        "query": sorted([name, value] for name, value in call["query"]),
        "headers": headers,
        "body": _body(call["body"]),
    }


def _body(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        pairs = parse_qsl(text, keep_blank_values=True)
        return sorted(pairs) if pairs else text


def _unlike(theirs: Counter[str], ours: Counter[str]) -> Iterator[tuple[str, str]]:
    """What differs in the two calls that are most alike; or that there are more of them."""
    only_theirs = [json.loads(call) for call in theirs if call not in ours]
    only_ours = [json.loads(call) for call in ours if call not in theirs]
    counts = f"{len(theirs)} calls / {len(ours)}"
    if not only_ours:
        yield "we ask less", f"{counts}; they also: {_short(json.dumps(only_theirs[0]))}"
        return
    if not only_theirs:
        yield "we ask more", f"{counts}; we also: {_short(json.dumps(only_ours[0]))}"
        return
    pairs = [
        (sum(one[part] == other[part] for part in one), one, other)
        for one in only_theirs[:30]
        for other in only_ours[:30]
    ]
    _, one, other = max(pairs, key=lambda pair: pair[0])
    parts = [part for part in one if one[part] != other[part]]
    text = "; ".join(f"{part}: {_apart(one[part], other[part])}" for part in parts)
    yield "+".join(parts), f"{one['method']} {one['url']} {text}"


def _apart(one: Any, other: Any) -> str:
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in {**one, **other} if not _same(one, other, name)]
        return ", ".join(
            f"{name}: they {_short(one.get(name, '-'))}, we {_short(other.get(name, '-'))}"
            for name in names[:4]
        )
    if isinstance(one, list) and isinstance(other, list):
        return (
            f"only they {_short([item for item in one if item not in other])}, "
            f"only we {_short([item for item in other if item not in one])}"
        )
    return f"they {_short(one)}, we {_short(other)}"


def _records(reading: Mapping[str, Any]) -> Counter[str]:
    return Counter(map(_written, reading["records"]))


def _written(value: Any) -> str:
    """As JSON, where a number has one form: of 7, the CDK makes 7.0 if a schema says number."""
    return _WHOLE.sub("", json.dumps(value, sort_keys=True))


def _records_unlike(theirs: Counter[str], ours: Counter[str]) -> tuple[str, str]:
    counts = f"{theirs.total()} records / {ours.total()}"
    only_theirs, only_ours = list(theirs - ours), list(ours - theirs)
    if not only_ours or not only_theirs:
        who, which = ("we", only_ours[0]) if only_ours else ("they", only_theirs[0])
        return f"{who} have more records", f"{counts}; {who} also: {_short(which)}"
    pairs = []
    for one in map(json.loads, only_theirs[:20]):
        for other in map(json.loads, only_ours[:20]):
            alike = sum(_same(one, other, name) for name in {**one, **other})
            pairs.append((alike, one, other))
    _, one, other = max(pairs, key=lambda pair: pair[0])
    return "records", f"{counts}; {_apart(one, other)}"


def _same(one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> bool:
    """Whether a field is the same in both, to the type: 1 and True are two things."""
    if (name in one) != (name in other):
        return False
    return _written(one.get(name)) == _written(other.get(name))


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 200 else f"{text[:130]} … {text[-60:]}"
