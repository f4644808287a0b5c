"""A call as it was sent, and what is answered: the same on both sides."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit


class UnplayableError(Exception):
    """No answer is known that fits what the manifest asks for."""


@dataclass(frozen=True)
class Call:
    """One request; `url` is without its query, `headers` have lower-case names."""

    method: str
    url: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""

    @classmethod
    def sent(
        cls, method: str, url: str, headers: Mapping[str, str], body: bytes | str | None
    ) -> "Call":
        parts = urlsplit(url)
        text = body.decode() if isinstance(body, bytes) else body or ""
        return cls(
            method=method.upper(),
            url=urlunsplit((parts.scheme, parts.netloc, parts.path, "", "")),
            query=tuple(sorted(parse_qsl(parts.query, keep_blank_values=True))),
            headers={name.lower(): value for name, value in headers.items()},
            body=text,
        )

    def written(self, *, is_token: bool) -> dict[str, Any]:
        """As JSON; `is_token` says that it is to an authorisation server."""
        return {
            "method": self.method,
            "url": self.url,
            "query": self.query,
            "headers": dict(self.headers),
            "body": self.body,
            "is_token": is_token,
        }

    @property
    def json(self) -> Any:
        """The body as JSON; None of another."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body, keep_blank_values=True)) if self.json is None else {}

    def named(self, place: str, name: str | tuple[str, ...]) -> str | None:
        """What stands under that name in that part of the call, as text."""
        if place == "header":
            return self.headers.get(str(name).lower())
        if place == "request_parameter":
            return dict(self.query).get(str(name))
        if place == "body_data":
            return self.form.get(str(name))
        found = self.json
        for key in (name,) if isinstance(name, str) else name:
            if not isinstance(found, dict) or key not in found:
                return None
            found = found[key]
        return None if found is None else str(found)


@dataclass(frozen=True)
class Answer:
    """What comes back."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
