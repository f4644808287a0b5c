"""Hosts that come from outside, such as a shop's name in a callback: only those a vendor has."""

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import quote

from connectors.kernel.auth import Account
from connectors.kernel.connector import Connector
from connectors.kernel.errors import ContractError

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
# Names that lead to this machine or its neighbours, and addresses without a name.
_PRIVATE = re.compile(
    r"(.*\.)?(localhost|local|localdomain|internal|intranet|lan|home|corp|private|"
    r"home\.arpa|[0-9]+|0x[0-9a-f]+|nip\.io|sslip\.io|localtest\.me)"
)
_NOTHING: Mapping[str, Any] = {}
_PLACEHOLDER = re.compile(r"\{(?:(account_id)|config\[(\w+)\])\}")


def check_account(connector: Connector, account: Account) -> None:
    """ContractError unless every host in an account's settings is one of the connector's own.

    `hosts` may hold patterns, `*.myshopify.com`. A setting counts as a host where it is a URL, or
    where it stands in the host of the base URL.
    """
    config = account.config
    urls = [value for value in config.values() if isinstance(value, str) and "://" in value]
    if _is_placed(connector):
        urls.append(filled(connector, connector.base_url, account.id, config, strict=False))
    if not all(_is_allowed(connector, url) for url in urls):
        raise ContractError(
            f"{connector.title} named a host that is not one of its own: nothing was connected"
        )


def allowed_hosts(
    connector: Connector, base: str, config: Mapping[str, Any] = _NOTHING
) -> tuple[str, ...]:
    """Where the token of the connection with that base URL may go: hosts, and the base URL itself
    unless its host came from outside and is none of the connector's; those of its settings too."""
    exact = tuple(host for host in connector.hosts if "*" not in host)
    named = (host for host in connector.reaches(config) if is_public(host))
    exact += tuple(host for host in named if _is_allowed(connector, f"https://{host}"))
    return (base, *exact) if not _is_placed(connector) or _is_allowed(connector, base) else exact


def file_hosts(connector: Connector, url: str) -> tuple[str, ...]:
    """Where a file may lie: at one of `files`, or, with `*` among them, at any public host."""
    host = _netloc(url).lower()
    return (*connector.files, *([host] if "*" in connector.files and is_public(host) else []))


def is_public(host: str) -> bool:
    """Whether it is the full name of a host that anybody may look up."""
    return _HOST.fullmatch(host) is not None and _PRIVATE.fullmatch(host) is None


def filled(
    connector: Connector,
    template: str,
    account_id: str,
    config: Mapping[str, Any],
    *,
    strict: bool = True,
) -> str:
    """The template with the connection's values in place; ContractError where one is not set."""

    def value(match: re.Match[str]) -> str:
        found = account_id if match[1] else config.get(match[2])
        if not found and strict:
            raise ContractError(f"{connector.title} needs {match[0]}, which is not set")
        if match.start() == 0 and not match[1]:  # an address, and checked as a whole
            return str(found or "https://unset")
        return quote(str(found or "unset"), safe="")

    return _PLACEHOLDER.sub(value, template)


def _is_placed(connector: Connector) -> bool:
    """Whether the host of the base URL depends on the connection."""
    url = connector.base_url
    return bool(_PLACEHOLDER.match(url) or _PLACEHOLDER.search(_netloc(url)))


def _is_allowed(connector: Connector, url: str) -> bool:
    """Whether it is a plain https address, of a host that is the connector's."""
    host = _netloc(url)
    return (
        url.startswith("https://")
        and _HOST.fullmatch(host) is not None
        and any(_fits(host, pattern) for pattern in (*connector.hosts, _netloc(connector.base_url)))
    )


def _netloc(url: str) -> str:
    # Not urlsplit: the brackets of a placeholder are an IPv6 address to it.
    return url.partition("://")[2].partition("/")[0]


def _fits(host: str, pattern: str) -> bool:
    return "{" not in pattern and fnmatchcase(host, pattern)
