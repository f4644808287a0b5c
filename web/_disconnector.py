"""What disconnecting needs, from what the process has opened."""

from connectors import ContractError
from connectors.kernel.oauth import OAuthApp
from deployments.runtime import Runtime
from settings import SettingsError
from storage.disconnecting import Disconnector


def disconnector(runtime: Runtime) -> Disconnector:
    def app(integration: str) -> OAuthApp:
        try:
            return runtime.settings.app(integration)
        except SettingsError as error:
            # The operator took the app away: that must not keep a tenant from disconnecting.
            raise ContractError(str(error)) from error

    return Disconnector(runtime.database, runtime.vault, app, runtime.transport, runtime.budget)
