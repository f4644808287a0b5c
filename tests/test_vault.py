"""The vault: what is sealed opens in its own place only, and keys never show."""

import base64
import multiprocessing
import pickle
import secrets
import stat
from pathlib import Path
from uuid import uuid4

import pytest

from storage.vault import (
    Vault,
    VaultError,
    fingerprint,
    load_or_create_key_file,
)

CANARY = "canary-7f3d-refresh-token"
TENANT = uuid4()
SETTING = "quickbooks_tokens"


def a_key() -> bytes:
    return secrets.token_bytes(32)


@pytest.fixture
def vault() -> Vault:
    return Vault([a_key()])


def test_a_secret_opens_in_the_place_it_was_sealed_for(vault: Vault) -> None:
    wrapped = vault.new_data_key(TENANT)
    for secret in (CANARY, "", "ключ 🔑 \x00 end", "x" * 100_000):
        sealed = vault.seal(wrapped, TENANT, SETTING, secret)
        assert vault.open(wrapped, TENANT, SETTING, sealed) == secret
        assert not secret or secret not in sealed


def test_the_same_secret_is_never_sealed_twice_alike(vault: Vault) -> None:
    wrapped = vault.new_data_key(TENANT)
    assert len({vault.seal(wrapped, TENANT, SETTING, CANARY) for _ in range(100)}) == 100


def test_a_ciphertext_moved_to_another_setting_tenant_or_key_does_not_open(vault: Vault) -> None:
    wrapped, other = vault.new_data_key(TENANT), uuid4()
    sealed = vault.seal(wrapped, TENANT, SETTING, CANARY)
    with pytest.raises(VaultError, match="does not open"):
        vault.open(wrapped, TENANT, "hubspot_tokens", sealed)
    with pytest.raises(VaultError, match="belongs to another tenant"):
        vault.open(wrapped, other, SETTING, sealed)
    with pytest.raises(VaultError, match="does not open"):
        vault.open(vault.new_data_key(other), other, SETTING, sealed)
    with pytest.raises(VaultError, match="does not open"):
        vault.open(vault.new_data_key(TENANT), TENANT, SETTING, sealed)


def test_a_ciphertext_altered_anywhere_does_not_open(vault: Vault) -> None:
    wrapped = vault.new_data_key(TENANT)
    sealed = vault.seal(wrapped, TENANT, SETTING, CANARY)
    version, body = sealed.split(".")
    raw = bytearray(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    for place in range(len(raw)):
        raw[place] ^= 1
        altered = f"{version}.{base64.urlsafe_b64encode(bytes(raw)).decode().rstrip('=')}"
        raw[place] ^= 1
        with pytest.raises(VaultError):
            vault.open(wrapped, TENANT, SETTING, altered)
    for damaged in ("", "v1", "v1.", "v1.!!", f"v2.{body}", sealed[:-8], f"{sealed}.x", CANARY):
        with pytest.raises(VaultError):
            vault.open(wrapped, TENANT, SETTING, damaged)


def test_a_damaged_data_key_is_refused(vault: Vault) -> None:
    wrapped = vault.new_data_key(TENANT)
    for damaged in ("", "v1", wrapped[:-6], f"{wrapped}AAAA", f"v2{wrapped[2:]}"):
        with pytest.raises(VaultError):
            vault.seal(damaged, TENANT, SETTING, CANARY)


def test_a_process_that_lacks_the_key_says_which_one_is_missing(vault: Vault) -> None:
    wrapped = vault.new_data_key(TENANT)
    with pytest.raises(VaultError, match=vault.fingerprints[0]) as caught:
        Vault([a_key()]).seal(wrapped, TENANT, SETTING, CANARY)
    assert "ENCRYPTION_KEYS" in str(caught.value)


def test_a_new_first_key_still_opens_what_the_old_one_wrapped() -> None:
    old, new = a_key(), a_key()
    wrapped = Vault([old]).new_data_key(TENANT)
    sealed = Vault([old]).seal(wrapped, TENANT, SETTING, CANARY)
    both = Vault([new, old])
    assert both.needs_rewrap(wrapped)
    assert both.open(wrapped, TENANT, SETTING, sealed) == CANARY
    rewrapped = both.rewrap(wrapped, TENANT)
    assert not both.needs_rewrap(rewrapped)
    assert Vault([new]).open(rewrapped, TENANT, SETTING, sealed) == CANARY
    with pytest.raises(VaultError):
        both.rewrap(wrapped, uuid4())


def test_keys_are_read_in_base64_with_either_alphabet_and_in_hex() -> None:
    key, other = b"\xfb\xff" * 16, a_key()
    forms = (
        base64.b64encode(key).decode(),
        base64.urlsafe_b64encode(key).decode().rstrip("="),
        key.hex(),
        key.hex().upper(),
    )
    for form in forms:
        vault = Vault.parse(f" {form}\n, {other.hex()} ")
        assert vault.fingerprints == (fingerprint(key), fingerprint(other))


@pytest.mark.parametrize(
    "text",
    ["", ",", CANARY, "ab" * 32 + ",", "zz" * 32, " " * 64, "cd" * 31, "é" * 44],
)
def test_a_malformed_key_is_named_but_never_echoed(text: str) -> None:
    with pytest.raises(VaultError, match=r"ENCRYPTION_KEYS.*openssl rand -base64 32") as caught:
        Vault.parse(text)
    assert text.strip(", ") == "" or text.strip(", ") not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_vault_shows_nothing_and_is_not_serialised() -> None:
    key = a_key()
    vault = Vault([key])
    for shown in (repr(vault), str(vault), f"{vault!r:>3}"):
        assert shown.strip() == "<Vault>"
    assert not hasattr(vault, "__dict__")
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(vault)
    assert fingerprint(key) not in key.hex()
    assert len(fingerprint(key)) == 16


def test_text_that_is_not_unicode_is_refused_without_being_shown(vault: Vault) -> None:
    with pytest.raises(VaultError, match="not valid Unicode") as caught:
        vault.seal(vault.new_data_key(TENANT), TENANT, SETTING, f"{CANARY}\udc80")
    assert caught.value.__cause__ is None
    assert CANARY not in str(caught.value)


def test_a_vault_takes_keys_of_the_right_size_only() -> None:
    for keys in ([], [b""], [a_key(), b"short"]):
        with pytest.raises(VaultError, match="32 bytes"):
            Vault(keys)


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "encryption.key"
    keys = load_or_create_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_key_file(path) == keys
    assert len(Vault.parse(keys).fingerprints) == 1
    assert list(tmp_path.iterdir()) == [path]


def test_processes_that_race_for_the_key_file_get_the_same_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Pool(4) as pool:
        for attempt in range(10):
            path = tmp_path / f"{attempt}.key"
            assert len(set(pool.map(load_or_create_key_file, [path] * 8, chunksize=1))) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644])
def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "encryption.key"
    key = load_or_create_key_file(path)
    path.chmod(mode)
    with pytest.raises(VaultError, match="chmod 600") as caught:
        load_or_create_key_file(path)
    assert key not in str(caught.value)


@pytest.mark.parametrize("content", [b"", CANARY.encode(), b"\xff\xfe"])
def test_a_key_file_without_a_key_names_the_file_only(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "encryption.key"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(VaultError, match=r"encryption\.key") as caught:
        load_or_create_key_file(path)
    assert CANARY not in str(caught.value)


def test_a_key_file_in_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="No such file"):
        load_or_create_key_file(tmp_path / "missing" / "encryption.key")
