"""The hosts that a manifest speaks to: those it names, and those that come of the settings."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from connectors import ConnectorError
from recipes.templates import Scope, Template
from recipes.values import Slice

_HOST = re.compile(r"https://([^/?#\s'\"{]+)")
_CODE = re.compile(r"\{[{%].*?[}%]\}", re.DOTALL)


def hosts_of(addresses: Sequence[Template]) -> tuple[str, ...]:
    """The hosts of addresses as far as the manifest says them: `*` stands for what comes of the
    settings, `*.example.com`."""
    found: dict[str, None] = {}
    for text in (template.text.strip() for template in addresses):
        if text.startswith("https://"):
            host = re.split(r"[/?#]", _CODE.sub("*", text).removeprefix("https://"))[0]
            found[re.sub(r"\*+", "*", host.lower()) or "*"] = None
        else:
            found |= {host.lower(): None for host in _HOST.findall(text)} | {"*": None}
    return tuple(found)


def reaching(addresses: Sequence[Template]) -> Callable[[Mapping[str, Any]], Iterable[str]]:
    """Finds the hosts that the addresses come to with a connection's settings."""
    placed = [template for template in addresses if "{" in template.text]

    def reaches(config: Mapping[str, Any]) -> Iterable[str]:
        scope = Scope(config, datetime.now(UTC))
        found: dict[str, None] = {}
        for template in placed:
            try:
                text = template.text_of(scope, stream_slice=Slice(), next_page_token=None)
                parts = urlsplit(text.strip())
            except (ConnectorError, ValueError):
                continue  # what cannot be worked out is not called
            if parts.scheme == "https":
                found[parts.netloc.lower()] = None
        return tuple(found)

    return reaches
