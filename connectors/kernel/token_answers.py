"""What a token endpoint answers: taken as soon as an access token is in it.

By then a refresh token that is good for one use is spent, and the answer is the only copy of the
next one. So no other field, however malformed, costs the pair: what cannot be read counts as not
said.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from connectors.kernel.auth import OAuth2
from connectors.kernel.connector import Connector
from connectors.kernel.messages import Response
from connectors.kernel.statuses import PARSE_ERRORS

# Beyond this a number of seconds means something else.
LONGEST_LIFE = timedelta(days=36_525)
SHORTEST_LIFE = timedelta(seconds=1)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tokens:
    """What a token endpoint gave; `extra` holds the other fields of its answer, and the tenant's
    answers."""

    access_token: str = field(repr=False)
    refresh_token: str | None = field(repr=False)
    expires_at: datetime | None
    scope: tuple[str, ...]
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def read_tokens(
    connector: Connector, response: Response, answers: Mapping[str, str]
) -> Tokens | None:
    """The tokens of a good answer; None of one that holds no access token."""
    auth = connector.oauth
    answer = _plain(auth, response.json)
    access_token = _text(answer.pop("access_token", None)).strip()
    if not (200 <= response.status < 300 and access_token):
        return None
    expires_in, refresh_token = answer.pop("expires_in", None), answer.pop("refresh_token", None)
    lifetime = _lifetime(expires_in)
    if expires_in is not None and lifetime is None:
        # Not the value: it stands beside secrets, and may have been taken for one.
        log.warning(
            "%s gave a token whose expires_in cannot be read: it counts as its usual life, %s",
            connector.title,
            auth.access_token_ttl or "without end",
        )
    ttl = lifetime or auth.access_token_ttl
    return Tokens(
        access_token=access_token,
        refresh_token=_text(refresh_token) or None,
        expires_at=None if ttl is None else response.sent_at + ttl,
        scope=_scope(answer.get("scope") or answer.get("scopes")),
        extra={**answer, **answers},
    )


def _plain(auth: OAuth2, body: Any) -> dict[str, Any]:
    """The answer in the form of RFC 6749, as far as it can be brought into it."""
    if not isinstance(body, dict):
        return {}
    try:
        return dict(auth.normalize_answer(body))
    except PARSE_ERRORS:
        return dict(body)


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value.strip() else ""


def _lifetime(value: Any) -> timedelta | None:
    """A number of seconds, which some vendors write as text; None of what is no time to live.

    Nothing, or less, is said by vendors whose tokens do not end: were it believed, each call would
    renew them.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    if not SHORTEST_LIFE.total_seconds() <= seconds <= LONGEST_LIFE.total_seconds():
        return None
    return timedelta(seconds=seconds)


def _scope(value: Any) -> tuple[str, ...]:
    """What was granted, by spaces, commas or as a list; nothing where the answer does not say."""
    if isinstance(value, str):
        return tuple(value.replace(",", " ").split())
    if isinstance(value, list):
        return tuple(one for one in value if isinstance(one, str))
    return ()
