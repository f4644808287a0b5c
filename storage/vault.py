"""The vault: tenants' secrets under AES-256-GCM, in an envelope of two keys.

A master key (`ENCRYPTION_KEYS`) wraps each tenant's data key, the data key seals that tenant's
secrets. The associated data names the tenant and the setting, so a ciphertext that is moved to
another row does not open. Both texts carry their format's version; the wrapped key also carries
its master key's fingerprint.
"""

import base64
import os
import secrets
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NoReturn
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from storage.database import Database
from storage.errors import StorageError
from storage.models import Installation, Tenant

KEY_BYTES = 32
NONCE_BYTES = 12  # what GCM takes as it is; random ones are safe for 2**32 seals under one key
VERSION = "v1"
HOW_TO_MAKE_ONE = "make one with: openssl rand -base64 32"
WHERE_OLD_ONES_LIE = (
    "it lies in the file `keys` of the ATOM_HOME that the database was made with, or with your"
    " backups (docs/recovery.md)"
)


class VaultError(StorageError):
    """A secret or a key that cannot be used; the message holds neither."""


class Vault:
    """Seals and opens secrets. The first master key is current, older ones are still read."""

    __slots__ = ("_keys",)

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != KEY_BYTES for key in keys):
            raise VaultError(f"a vault takes one or more keys of {KEY_BYTES} bytes each")
        self._keys = {fingerprint(key): bytes(key) for key in keys}

    @classmethod
    def parse(cls, text: str) -> "Vault":
        """The vault of `ENCRYPTION_KEYS`: comma-separated, the current key first."""
        return cls(parse_keys(text, source="ENCRYPTION_KEYS"))

    def __repr__(self) -> str:
        return "<Vault>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a vault is not serialised: each process reads its own keys")

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """What the keys are known by, the current one first."""
        return tuple(self._keys)

    def new_data_key(self, tenant_id: UUID) -> str:
        """A fresh data key, wrapped for that tenant."""
        return self._wrap(secrets.token_bytes(KEY_BYTES), tenant_id)

    def seal(self, wrapped: str, tenant_id: UUID, setting_key: str, plaintext: str) -> str:
        """The text that only this tenant's key, for this setting, opens again."""
        data_key = self._unwrap(wrapped, tenant_id)
        bound_to = _bind("setting", str(tenant_id), setting_key)
        try:
            body = plaintext.encode()
        except UnicodeEncodeError:
            # Not chained: that error carries the whole text.
            raise VaultError(f"the setting {setting_key!r} is not valid Unicode") from None
        return f"{VERSION}.{_encrypt(data_key, body, bound_to)}"

    def open(self, wrapped: str, tenant_id: UUID, setting_key: str, sealed: str) -> str:
        """What was sealed; VaultError when the text, its place or the key is another."""
        data_key = self._unwrap(wrapped, tenant_id)
        version, _, body = sealed.partition(".")
        bound_to = _bind("setting", str(tenant_id), setting_key)
        try:
            _expect_version(version)
            return _decrypt(data_key, body, bound_to).decode()
        except (InvalidTag, ValueError) as error:
            raise VaultError(
                f"the setting {setting_key!r} of tenant {tenant_id} does not open: "
                "it was altered, or sealed for another tenant or setting"
            ) from error

    def needs_rewrap(self, wrapped: str) -> bool:
        """Whether the data key is still wrapped by an older master key."""
        return _wrapped_by(wrapped) != self.fingerprints[0]

    def rewrap(self, wrapped: str, tenant_id: UUID) -> str:
        """The same data key under the current master key: secrets stay as they are sealed."""
        return self._wrap(self._unwrap(wrapped, tenant_id), tenant_id)

    def _wrap(self, data_key: bytes, tenant_id: UUID) -> str:
        current = self.fingerprints[0]
        bound_to = _bind("data key", str(tenant_id))
        return f"{VERSION}.{current}.{_encrypt(self._keys[current], data_key, bound_to)}"

    def _unwrap(self, wrapped: str, tenant_id: UUID) -> bytes:
        master = self._keys.get(_wrapped_by(wrapped))
        if master is None:
            raise VaultError(
                f"the secrets of tenant {tenant_id} need a key that this process lacks "
                f"(fingerprint {_wrapped_by(wrapped)}): add it to ENCRYPTION_KEYS, after the "
                "current one"
            )
        try:
            return _decrypt(master, wrapped.split(".")[2], _bind("data key", str(tenant_id)))
        except (InvalidTag, ValueError) as error:
            raise VaultError(
                f"the data key of tenant {tenant_id} does not open: "
                "it was altered, or belongs to another tenant"
            ) from error


def fingerprint(key: bytes) -> str:
    """Sixteen hex digits that tell keys apart; of a random 256-bit key they give nothing away."""
    return sha256(b"atom-sync master key\0" + key).hexdigest()[:16]


def parse_keys(text: str, *, source: str) -> list[bytes]:
    """Keys of 32 bytes, each in base64 or hex, separated by commas. Never echoes them."""
    keys = []
    for place, part in enumerate(text.split(","), start=1):
        key = _decode_key(part.strip())
        if len(key) != KEY_BYTES:
            raise VaultError(
                f"{source}: key {place} is not {KEY_BYTES} bytes in base64 or hex; "
                f"{HOW_TO_MAKE_ONE}"
            )
        keys.append(key)
    return keys


def load_or_create_key_file(path: Path) -> str:
    """That file's keys as `ENCRYPTION_KEYS` has them; made at first use with mode 0600.

    Processes that race for the first use get the same key.
    """
    try:
        if not path.exists():
            _create_key_file(path)
        with path.open(encoding="ascii") as file:
            mode = os.fstat(file.fileno()).st_mode
            if mode & 0o077:
                raise VaultError(
                    f"the key file {path} can be read by others (mode {mode & 0o777:04o}): "
                    f"run chmod 600 {path}"
                )
            text = file.read().strip()
    except UnicodeDecodeError:
        # Not chained: that error carries what the file holds.
        raise VaultError(f"the key file {path} does not hold keys in base64 or hex") from None
    except OSError as error:
        raise VaultError(f"the key file {path} cannot be used: {error.strerror}") from error
    parse_keys(text, source=f"the key file {path}")
    return text


async def check_keys(database: Database, vault: Vault) -> None:
    """VaultError unless this process has every key that stored secrets need, the current one too.

    The first process leaves its keys' fingerprints in the database. A new first key is taken up
    as long as the former one is still among the keys.
    """
    async with database.owning() as session:
        known = list(vault.fingerprints)
        row = {"singleton": True, "key_fingerprints": known}
        await session.execute(insert(Installation).values(row).on_conflict_do_nothing())
        installation = (await session.scalars(select(Installation).with_for_update())).one()
        stored = installation.key_fingerprints
        wrapped = await session.scalars(select(Tenant.data_key).where(Tenant.data_key.is_not(None)))
        needed = {*stored[:1], *(_wrapped_by(key.decode()) for key in wrapped if key)}
        if missing := needed.difference(known):
            raise VaultError(
                "this process lacks an encryption key that the database's secrets need "
                f"(fingerprint {', '.join(sorted(missing))}): add it to ENCRYPTION_KEYS, "
                f"after the current one; {WHERE_OLD_ONES_LIE}"
            )
        installation.key_fingerprints = known


def _create_key_file(path: Path) -> None:
    # The whole key is on the disk before the name exists, and a link refuses a name that is
    # taken: no process ever reads half a key or replaces another's.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _decode_key(text: str) -> bytes:
    try:
        if len(text) == 2 * KEY_BYTES:
            return bytes.fromhex(text)
        standard = text.rstrip("=").replace("-", "+").replace("_", "/")
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except ValueError:
        return b""


def _wrapped_by(wrapped: str) -> str:
    parts = wrapped.split(".")
    if len(parts) != 3 or parts[0] != VERSION:
        raise VaultError("a wrapped data key is not in a form that this version reads")
    return parts[1]


def _expect_version(version: str) -> None:
    if version != VERSION:
        raise ValueError("sealed in a form that this version does not read")


def _bind(*parts: str) -> bytes:
    # Each part goes with its length, so that no two lists of parts read the same.
    encoded = [part.encode() for part in ("atom-sync", VERSION, *parts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def _encrypt(key: bytes, plaintext: bytes, bound_to: bytes) -> str:
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = nonce + AESGCM(key).encrypt(nonce, plaintext, bound_to)
    return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()


def _decrypt(key: bytes, text: str, bound_to: bytes) -> bytes:
    padded = text + "=" * (-len(text) % 4)
    sealed = base64.b64decode(padded, altchars=b"-_", validate=True)
    return AESGCM(key).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound_to)
