"""Where vendors deliver to, and what proves their deliveries, from the operator's settings."""

import hmac
from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

from pydantic import SecretStr

from connectors import ApiKey, Connector, VerificationKeys
from integrations import load
from settings import Settings, SettingsError

PATH = "/api/webhooks"


def address_of(settings: Settings, integration: str, connection_id: UUID | None = None) -> str:
    """The address for an integration's deliveries; one connection's own where an id is given.

    Where nothing is signed the address is what is secret: it ends in a code that only we make.
    """
    if settings.nextauth_url is None:
        raise SettingsError("NEXTAUTH_URL: set our public address, vendors deliver webhooks to it")
    address = f"{settings.nextauth_url}{PATH}/{integration}"
    if connection_id is None:
        return address
    webhook = load(integration).webhook
    if webhook is None or not webhook.secret_in_url:
        return f"{address}/{connection_id}"
    return f"{address}/{connection_id}.{code_of(settings, connection_id)}"


def own_address(settings: Settings, integration: str, connection_id: UUID) -> str | None:
    """The address that a person gives to the vendor, of a vendor that signs nothing; None of the
    others, and while our own address is not set."""
    webhook = load(integration).webhook
    if webhook is None or not webhook.secret_in_url or settings.nextauth_url is None:
        return None
    return address_of(settings, integration, connection_id)


def code_of(settings: Settings, connection_id: UUID) -> str:
    """What proves a delivery whose vendor signs nothing: the end of a connection's own address."""
    if settings.nextauth_secret is None:
        raise SettingsError("NEXTAUTH_SECRET: set it, it makes the addresses of webhooks")
    secret = settings.nextauth_secret.get_secret_value().encode()
    return hmac.new(secret, f"webhook:{connection_id}".encode(), sha256).hexdigest()[:40]


def connection_of(settings: Settings, given: str, *, proven: bool) -> UUID | None:
    """Whose address ends like that; None if it is not ours, or should prove itself and fails."""
    id_, _, code = given.partition(".")
    try:
        connection_id = UUID(id_)
    except ValueError:
        return None
    if not proven:
        return None if code else connection_id
    right = code_of(settings, connection_id)
    same = hmac.compare_digest(right.encode(), code.encode(errors="replace"))
    return connection_id if same else None


def proof_of(
    settings: Settings, connector: Connector, keys: Mapping[str, object]
) -> VerificationKeys:
    """What the operator has set; no secrets where the variable is empty."""
    values = variables_of(settings, connector)
    name = connector.webhook.verified_by if connector.webhook else ""
    secrets = tuple(part.strip() for part in values.get(name, "").split(",") if part.strip())
    return VerificationKeys(secrets=secrets, keys=keys, variables=values)


def variables_of(settings: Settings, connector: Connector) -> dict[str, str]:
    """The connector's variables that are set, its app's secret among them."""
    names = set(connector.variables)
    if connector.webhook is not None and connector.webhook.verified_by:
        names.add(connector.webhook.verified_by)
    if connector.watch is not None:
        names.update(connector.watch.needs)
    found = {}
    for name in names:
        value = getattr(settings, name.lower(), None)
        if value:
            found[name] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    return found


def is_enabled(settings: Settings, connector: Connector) -> bool:
    """Whether deliveries of this vendor are taken: an empty secret proves nothing."""
    if connector.webhook is None or isinstance(connector.auth, ApiKey):
        return False
    if not connector.webhook.verified_by:
        return True
    return bool(proof_of(settings, connector, {}).secrets)


def is_watchable(settings: Settings, connector: Connector) -> bool:
    """Whether the operator has set what watches of this vendor need."""
    if connector.watch is None or settings.nextauth_url is None:
        return False
    values = variables_of(settings, connector)
    return all(values.get(name) for name in connector.watch.needs)


def unset(settings: Settings, connector: Connector) -> list[str]:
    """What the integration's webhooks and watches need, and the operator has not set."""
    needed = [connector.webhook.verified_by] if connector.webhook else []
    needed += connector.watch.needs if connector.watch else ()
    return [name for name in needed if name and not getattr(settings, name.lower(), None)]
