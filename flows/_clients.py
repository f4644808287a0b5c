"""The client that speaks to a vendor for one connection, with tokens from the database."""

import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

from accounts.runtime import Runtime
from connectors import Connector, Context
from connectors.kernel.client import Client, Transport
from integrations import load
from storage import connections
from storage.keeping import until_stored

# So long a call that is under way waits for a database that is not well.
PATIENCE = timedelta(minutes=1)
TOKEN_HELD_SECONDS = 60.0  # far less than the time ahead of its expiry at which one is refreshed


async def reading_client(
    shared: Runtime, connection: connections.Connection, connector: Connector | None = None
) -> tuple[Client, Context]:
    """As `client_of`, for readers, whose settings hold what the tenant filled in; the connector is
    the one that the run began with."""
    connector = connector or load(connection.integration)
    config = await shared.config_of(connector, connection)
    return client_of(shared, connection, connector=connector, config=config)


def client_of(
    shared: Runtime,
    connection: connections.Connection,
    *,
    connector: Connector | None = None,
    config: dict[str, Any] | None = None,
    listening: Transport | None = None,
) -> tuple[Client, Context]:
    """The client, and the context of the run that its readers get. One that is `listening` has a
    session of its own at the vendor, over calls that last."""
    connector = connector or load(connection.integration)
    config = dict(connection.config) if config is None else config
    client = Client(
        connector,
        transport=listening or shared.transport,
        account_id=connection.account_id,
        config=config,
        token=_token_source(shared, connection, config),
        budget=shared.budget,
        keeps_cookies=listening is not None,
    )
    context = Context(now=shared.clock.now(), account_id=connection.account_id, config=config)
    return client, context


def _token_source(
    shared: Runtime, connection: connections.Connection, config: dict[str, Any]
) -> Callable[[bool], Awaitable[str]]:
    """The access token for each request, read from the database at most once a minute.

    Who is refused may have been moved: `config` is then what the connection's settings are now.
    """
    held, read_at = "", -TOKEN_HELD_SECONDS

    async def token(refused: bool) -> str:
        nonlocal held, read_at
        if refused or time.monotonic() - read_at >= TOKEN_HELD_SECONDS:
            held = await until_stored(
                partial(shared.bearer, connection, refused=held if refused else None),
                patience=PATIENCE, waits="a call waits for its token",
            )  # fmt: skip
            read_at = time.monotonic()
        if refused:
            config.update((await connections.get(shared.database, connection.id)).config)
        return held

    return token
