"""Where a connect page may lead back to: an address that a backend named, and nobody can bend.

It is stored as given and followed as stored. What browsers and parsers could read differently
(credentials, backslashes, blanks, hosts that are not plain) is refused rather than repaired.
"""

import re

from settings import Settings

MAX_LENGTH = 2_000
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[::1\])(?P<port>:[0-9]{1,5})?"
    r"(?P<rest>[/?#][!-\[\]-~]*)?",
    re.IGNORECASE,
)
_LOOPBACK = re.compile(r"localhost|127\.0\.0\.1|\[::1\]")


def checked(url: str, settings: Settings) -> str:
    """The URL, if a page of ours may lead there; ValueError says what it should be."""
    found = _URL.fullmatch(url) if len(url) <= MAX_LENGTH else None
    if found is None:
        raise ValueError("it should look like https://app.example.com/settings/integrations")
    own = _URL.fullmatch(settings.nextauth_url or "")
    if own and all(_LOOPBACK.fullmatch(each["host"].lower()) for each in (own, found)):
        return url
    if found["scheme"].lower() != "https":
        raise ValueError("it must be https")
    place = _place(found)
    if place in _listed(settings) or (own and place == _place(own)):
        return url
    raise ValueError(f"{place} is not among the hosts that CONNECT_RETURN_HOSTS names")


def host_of(url: str) -> str:
    """The host that the page shows a person: where the link leads."""
    found = _URL.fullmatch(url)
    return _place(found) if found else ""


def _place(found: re.Match[str]) -> str:
    port = "" if found["port"] == ":443" else found["port"] or ""
    return f"{found['host'].lower()}{port}"


def _listed(settings: Settings) -> set[str]:
    return {host.strip().lower() for host in (settings.connect_return_hosts or "").split(",")}
