"""Microsoft's SDK, signed in to an account of the sandbox with nothing changed but its address."""

from typing import Any

import httpx  # noqa: TID251 - what the SDK connects by
from kiota_abstractions.authentication import (
    AccessTokenProvider,
    AllowedHostsValidator,
    BaseBearerTokenAuthenticationProvider,
)
from msgraph import GraphRequestAdapter, GraphServiceClient
from msgraph.graph_request_adapter import options
from msgraph_core import GraphClientFactory


class Token(AccessTokenProvider):  # type: ignore[misc]
    """Hands the SDK a token that the test got."""

    def __init__(self, value: str) -> None:
        self.value = value

    async def get_authorization_token(
        self, uri: str, additional_authentication_context: dict[str, Any] | None = None
    ) -> str:
        return self.value

    def get_allowed_hosts_validator(self) -> AllowedHostsValidator:
        return AllowedHostsValidator([])


def signed_in(
    control: httpx.Client, vendor: str, account: str, connections: httpx.AsyncHTTPTransport
) -> GraphServiceClient:
    """The SDK with a token of that account. It wraps `connections`, and does not close them."""
    described = control.get("/_control").json()[vendor]
    tokens = control.post(f"/_control/{vendor}/grant", json={"account": account}).json()
    http = GraphClientFactory.create_with_default_middleware(
        client=httpx.AsyncClient(transport=connections), options=options
    )
    bearer = BaseBearerTokenAuthenticationProvider(Token(tokens["access_token"]))
    adapter = GraphRequestAdapter(bearer, client=http)
    adapter.base_url = described["graph_url"]
    return GraphServiceClient(request_adapter=adapter)
