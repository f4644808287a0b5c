"""Our own secrets: there, strong enough, each its own; and the master keys that the data needs."""

import math
from collections import Counter
from dataclasses import replace
from itertools import pairwise

from pydantic import SecretStr

from cli.doctor.row import Row, State, host_of, is_local
from servers.database import database_url_of
from settings import Settings
from storage import StorageError, check
from storage.database import Database
from storage.rotation import survey
from storage.vault import WHERE_OLD_ONES_LIE, Vault, parse_keys

AREA = "secrets"
LENGTH = 32
BITS = 80  # of 300,000 random texts of 32 hex digits none came below 89
# Words that stand in examples, and that no random text holds.
WORDS = ("secret", "password", "change", "example", "replace", "nextauth", "your-", "your_")
MAKE = "make one: openssl rand -base64 32"


def weakness(secret: str) -> str:
    """Why a secret can be guessed; nothing if it looks random."""
    if len(secret) < LENGTH:
        return f"it has {len(secret)} characters, fewer than {LENGTH}"
    if any(word in secret.lower() for word in WORDS):
        return "it holds words of an example"
    if secret in (secret + secret)[1:-1]:
        return "it repeats itself"
    steps = Counter(ord(after) - ord(before) for before, after in pairwise(secret))
    if steps.most_common(1)[0][1] > len(secret) // 2:
        return "its characters follow a pattern"
    counts = Counter(secret).values()
    bits = -sum(n * math.log2(n / len(secret)) for n in counts)
    return "" if bits >= BITS else "it has too few different characters"


def secrets(settings: Settings, *, embedded: bool) -> list[Row]:
    """The secrets that sign, and the address that is signed for.

    With an `embedded` database all is on one machine, and `atom-sync up` makes what is not set.
    """
    rows = [
        *_signing("JWT_SECRET", settings.jwt_secret, rotates=True),
        *_signing("NEXTAUTH_SECRET", settings.nextauth_secret, rotates=False),
        _address(settings.nextauth_url),
    ]
    if embedded:
        rows = [_made_by_us(row) if row.state is State.MISSING else row for row in rows]
    given = [_text(settings.jwt_secret), _text(settings.nextauth_secret)]
    if given[0] and given[1] and given[1] in given[0].split(","):
        found = "JWT_SECRET and NEXTAUTH_SECRET are the same"
        rows.append(Row(AREA, "NEXTAUTH_SECRET", State.WRONG, found, MAKE))
    return rows


def _made_by_us(row: Row) -> Row:
    found = "not set: atom-sync up makes it, for this machine"
    return replace(row, state=State.OPTIONAL, found=found, remedy="", required=False)


def _signing(name: str, secret: SecretStr | None, *, rotates: bool) -> list[Row]:
    if secret is None:
        return [Row(AREA, name, State.MISSING, "not set", MAKE)]
    text = secret.get_secret_value()
    parts = [part.strip() for part in text.split(",")] if rotates else [text]
    rows = []
    for place, part in enumerate(parts, start=1):
        what = name if len(parts) == 1 else f"{name} {place} of {len(parts)}"
        if problem := weakness(part):
            rows.append(Row(AREA, what, State.WRONG, problem, MAKE))
        else:
            rows.append(Row(AREA, what, State.OK, f"{len(part)} characters"))
    return rows


def _address(url: str | None) -> Row:
    name = "NEXTAUTH_URL"
    if url is None:
        remedy = "set our public address, such as https://app.example.com"
        return Row(AREA, name, State.MISSING, "not set", remedy)
    if not url.startswith("https://") and not is_local(host_of(url)):
        remedy = "vendors and browsers must reach us over https"
        return Row(AREA, name, State.WRONG, f"{url} is not https", remedy)
    return Row(AREA, name, State.OK, url)


async def master_keys(settings: Settings, *, embedded: bool = False) -> list[Row]:
    """ENCRYPTION_KEYS, compared with what the database's secrets are wrapped by."""
    name = "ENCRYPTION_KEYS"
    if settings.encryption_keys is None:
        row = Row(AREA, name, State.MISSING, "not set", WHERE_OLD_ONES_LIE)
        return [_made_by_us(row) if embedded else row]
    text = settings.encryption_keys.get_secret_value()
    # 32 random bytes hold about 30 different ones.
    if any(len(set(key)) < 16 for key in parse_keys(text, source=name)):
        return [Row(AREA, name, State.WRONG, "a key is not random", f"{MAKE}, and rotate to it")]
    vault = Vault.parse(text)
    if settings.database_url is None:
        return [Row(AREA, name, State.OK, "not compared: there is no database yet")]
    url = database_url_of(settings)
    database = Database.connect(url, schema=settings.atom_schema, pool_size=1)
    try:
        await check(url, settings.atom_schema)
        keys = await survey(database, vault)
    except StorageError:
        return [Row(AREA, name, State.OK, "not compared: the database is not ready")]
    finally:
        await database.close()
    if keys.missing:
        found = f"secrets need a key that is not here (fingerprint {', '.join(keys.missing)})"
        remedy = f"add it after the current one; {WHERE_OLD_ONES_LIE}"
        return [Row(AREA, name, State.WRONG, found, remedy)]
    rows = [Row(AREA, name, State.OK, f"current key {keys.current}")]
    if keys.left:
        found = f"{keys.left:,} tenants are under an older key"
        remedy = "run atom-sync keys rotate"
        rows.append(Row(AREA, "rotation", State.WRONG, found, remedy, required=False))
    if keys.plaintext:
        found = f"{len(keys.plaintext):,} settings of tenants are not sealed"
        remedy = "seal them: atom-sync import tenant-settings --from the same database"
        rows.append(Row(AREA, "tenant_settings", State.WRONG, found, remedy))
    return rows


def _text(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
