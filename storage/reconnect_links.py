"""Links in mails: who has one may open a connect session of ten minutes for one broken grant.

A link is signed, and says whose grant it is and when it ends. It is worth nothing once the grant
works again, so that a mail that is found later opens nothing.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID

from sqlalchemy import select

from storage.database import Database
from storage.models import Connection, Grant, Status
from storage.tenant_settings import tokens_key

LIFE = timedelta(days=14)
_PURPOSE = b"atom-sync reconnect link"
_SIZE = 16 + 16 + 8 + 32


@dataclass(frozen=True)
class Link:
    """What a link stands for."""

    tenant_id: UUID
    grant_id: UUID
    ends_at: datetime


@dataclass(frozen=True)
class Broken:
    """A grant that waits for its tenant: what a connect session for it needs to know."""

    tenant_id: UUID
    integration: str
    label: str | None


def sign(secret: str, link: Link) -> str:
    """The link's last part."""
    content = _packed(link)
    return urlsafe_b64encode(content + _signature(secret, content)).rstrip(b"=").decode()


def read(secret: str, signed: str, *, now: datetime) -> Link | None:
    """What was signed, or None of anything that was not, or is over."""
    # An empty secret signs what anyone can forge.
    if not secret or len(signed) != -(-_SIZE * 4 // 3) or not signed.isascii():
        return None
    raw = urlsafe_b64decode(signed + "=" * (-len(signed) % 4))
    if len(raw) != _SIZE or not hmac.compare_digest(raw[40:], _signature(secret, raw[:40])):
        return None
    ends_at = datetime.fromtimestamp(int.from_bytes(raw[32:40], "big"), UTC)
    link = Link(UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), ends_at)
    return link if now < ends_at else None


async def broken(database: Database, link: Link) -> Broken | None:
    """The link's grant, if it still waits for its tenant."""
    async with database.transaction(link.tenant_id) as session:
        grant = await session.scalar(
            select(Grant).where(
                Grant.id == link.grant_id,
                select(Connection.id)
                .where(Connection.grant_id == Grant.id, Connection.status == Status.NEEDS_REAUTH)
                .exists(),
            )
        )
    if grant is None:
        return None
    prefix = f"{tokens_key(grant.integration)}:"
    label = grant.setting_key.removeprefix(prefix)
    labelled = grant.setting_key.startswith(prefix)
    return Broken(grant.tenant_id, grant.integration, label if labelled else None)


def _packed(link: Link) -> bytes:
    ends = int(link.ends_at.timestamp()).to_bytes(8, "big")
    return link.tenant_id.bytes + link.grant_id.bytes + ends


def _signature(secret: str, content: bytes) -> bytes:
    # A key of its own: what NEXTAUTH_SECRET signs for another purpose is no link.
    key = hmac.digest(secret.encode(), _PURPOSE, sha256)
    return hmac.digest(key, content, sha256)
