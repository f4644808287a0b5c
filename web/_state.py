"""What NEXTAUTH_SECRET signs: the browser's cookie, OAuth states, and the tokens of forms.

Each purpose has a key of its own, so that a signature made for one is worth nothing for another.
"""

import binascii
import hmac
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal
from urllib.parse import parse_qsl, urlencode, urlsplit
from uuid import UUID

from settings import Settings, SettingsError

MIN_SECRET = 32
MAX_STATE = 600
COOKIE_LIFE = 24 * 3600

Purpose = Literal["browser", "state", "form", "pkce"]


@dataclass(frozen=True)
class State:
    """What a vendor is given to bring back: which return is awaited, and whose it is."""

    id: UUID
    tenant_id: UUID
    nonce: str
    integration: str
    answers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Signer:
    """Signs and checks with one secret; `secure` says that our own address is https."""

    secret: bytes
    secure: bool

    @classmethod
    def of(cls, settings: Settings) -> "Signer":
        if settings.nextauth_url is None or settings.nextauth_secret is None:
            raise SettingsError("connecting accounts is off: set NEXTAUTH_URL and NEXTAUTH_SECRET")
        secret = settings.nextauth_secret.get_secret_value()
        if len(secret) < MIN_SECRET:
            raise SettingsError(
                f"connecting accounts is off: NEXTAUTH_SECRET needs {MIN_SECRET} characters or "
                "more (make one: openssl rand -base64 48)"
            )
        return cls(secret.encode(), urlsplit(settings.nextauth_url).scheme == "https")

    @property
    def cookie(self) -> str:
        # The prefix keeps other hosts of our domain from setting it; it needs https.
        return "__Host-atom-connect" if self.secure else "atom-connect"

    def new_browser(self) -> str:
        """The cookie of a browser that has none."""
        name = secrets.token_urlsafe(32)
        return f"{name}.{self._sign('browser', name)}"

    def browser(self, cookie: str | None) -> str | None:
        """The browser that a cookie of ours names."""
        name, _, signature = (cookie or "").partition(".")
        return name if name and self._is_signed(signature, "browser", name) else None

    def state(self, state: State, browser: str) -> str:
        """The `state` that goes to a vendor; it is good in this browser only."""
        named = f"{state.integration}?{urlencode(state.answers)}"
        packed = _text(
            b"".join((state.id.bytes, state.tenant_id.bytes, _bytes(state.nonce))) + named.encode()
        )
        return f"{packed}.{self._sign('state', packed, browser)}"

    def open_state(self, text: str, browser: str) -> State | None:
        """What we signed for this browser; None of anything else."""
        packed, _, signature = text.partition(".")
        if len(text) > MAX_STATE or not self._is_signed(signature, "state", packed, browser):
            return None
        raw = _bytes(packed)
        integration, _, answers = raw[48:].decode().partition("?")
        return State(
            UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), _text(raw[32:48]), integration,
            dict(parse_qsl(answers)),
        )  # fmt: skip

    def form_token(self, session_id: UUID, browser: str) -> str:
        """What a form of ours carries, and a form of anyone else cannot know."""
        return self._sign("form", str(session_id), browser)

    def is_our_form(self, token: str, session_id: UUID, browser: str) -> bool:
        return self._is_signed(token, "form", str(session_id), browser)

    def code_verifier(self, nonce: str) -> str:
        """The PKCE verifier of a state: derived, so that it is kept nowhere."""
        return self._sign("pkce", nonce)

    def _sign(self, purpose: Purpose, *parts: str) -> str:
        key = hmac.digest(self.secret, f"atom-sync {purpose}".encode(), sha256)
        # Each part goes with its length, so that no two lists of parts read the same.
        encoded = [part.encode() for part in parts]
        framed = b"".join(len(part).to_bytes(4, "big") + part for part in encoded)
        return _text(hmac.digest(key, framed, sha256))

    def _is_signed(self, signature: str, purpose: Purpose, *parts: str) -> bool:
        return hmac.compare_digest(signature.encode(), self._sign(purpose, *parts).encode())


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""
