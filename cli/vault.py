"""The vault of the operator's settings."""

from settings import Settings, SettingsError
from storage.vault import WHERE_OLD_ONES_LIE, Vault


def vault_of(settings: Settings) -> Vault:
    if settings.encryption_keys is None:
        raise SettingsError(f"ENCRYPTION_KEYS is not set; {WHERE_OLD_ONES_LIE}")
    return Vault.parse(settings.encryption_keys.get_secret_value())
