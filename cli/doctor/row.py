"""A line of what `atom-sync doctor` found, and what may stand in it: never a secret."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit


class State(StrEnum):
    """How a thing stands. `optional` is unset, and all right so."""

    OK = "ok"
    MISSING = "missing"
    WRONG = "wrong"
    OPTIONAL = "optional"


@dataclass(frozen=True)
class Row:
    """What was looked at, how it stands, and what to do about it.

    One that is not `required` does not fail the whole. `details` are for machines.
    """

    area: str
    what: str
    state: State
    found: str = ""
    remedy: str = ""
    required: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.required and self.state in (State.MISSING, State.WRONG)


def is_local(host: str) -> bool:
    """Whether a host is this machine: its sockets, or its loopback."""
    if not host or host.startswith("/") or host == "localhost":
        return True
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def host_of(url: str) -> str:
    return urlsplit(url).hostname or ""
