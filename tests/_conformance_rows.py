"""How the records that we hold differ from a vendor's, in words. Pure functions."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

SHOWN = 3


def difference(
    ours: Mapping[str, Any], *, owed: Mapping[str, Any], known: Collection[str], deletes: bool
) -> str:
    """What is missing of what is owed, or another than that, and what the vendor does not know.

    Without `deletes` we may still hold what the vendor no longer has. Nothing where all is well.
    """
    missing = [key for key in owed if key not in ours]
    extra = [key for key in ours if key not in known] if deletes else []
    other = [key for key in owed if key in ours and ours[key] != owed[key]]
    told = [
        f"{len(keys)} {what} ({', '.join(sorted(keys)[:SHOWN])})"
        for keys, what in ((missing, "missing"), (extra, "unknown to the vendor"))
        if keys
    ]
    if other:
        first = min(other)
        where = "; ".join([*_places(ours[first], owed[first])][:SHOWN])
        told.append(f"{len(other)} not as the vendor has them ({first}: {where})")
    return ", ".join(told)


def _places(ours: Any, vendors: Any, path: str = "") -> Iterator[str]:
    """Where two values differ."""
    if isinstance(ours, dict) and isinstance(vendors, dict):
        for name in [*vendors, *(name for name in ours if name not in vendors)]:
            yield from _places(ours.get(name), vendors.get(name), f"{path}.{name}".lstrip("."))
    elif ours != vendors:
        yield f"{path} is {ours!r:.60}, not {vendors!r:.60}"


def quoted(name: str) -> str:
    """A name as SQL takes it."""
    return '"{}"'.format(name.replace('"', '""'))
