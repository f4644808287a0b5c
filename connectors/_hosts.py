"""Hosts that come from outside, such as a shop's name in a callback: only those a vendor has."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from connectors._errors import ContractError
from connectors._types import Account, Connector

_HOST = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
_PLACEHOLDER = re.compile(r"\{config\[(\w+)\]\}")


def check_account(connector: Connector, account: Account) -> None:
    """ContractError unless every host in an account's settings is one of the connector's own.

    `hosts` may hold patterns, `*.myshopify.com`. A setting counts as a host where it is a URL, or
    where it stands in the host of the base URL.
    """
    known = [*connector.hosts, _netloc(connector.base_url)]
    for host in _hosts(connector, account):
        if host is None or not any(_fits(host, pattern) for pattern in known):
            raise ContractError(
                f"{connector.title} named a host that is not one of its own: nothing was connected"
            )


def _hosts(connector: Connector, account: Account) -> Iterable[str | None]:
    for value in account.config.values():
        if isinstance(value, str) and "://" in value:
            yield _host_of(value)
    template = _netloc(connector.base_url)
    if names := _PLACEHOLDER.findall(template):
        if any(not isinstance(account.config.get(name), str) for name in names):
            yield None
        else:
            filled = _PLACEHOLDER.sub(lambda match: str(account.config[match[1]]), template)
            yield filled if _HOST.fullmatch(filled) else None


def _host_of(url: str) -> str | None:
    """The host of a plain https address; None of anything cleverer."""
    host = _netloc(url)
    return host if url.startswith("https://") and _HOST.fullmatch(host) else None


def _netloc(url: str) -> str:
    # Not urlsplit: the brackets of a placeholder are an IPv6 address to it.
    return url.partition("://")[2].partition("/")[0]


def _fits(host: str, pattern: str) -> bool:
    return "{" not in pattern and fnmatchcase(host, pattern)
