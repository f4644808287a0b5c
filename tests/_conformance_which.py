"""What the promises are tried on: every connector that has streams, and accounts of these sizes."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

import pytest

from connectors import Connector, Stream, all_connectors

# Sizes of accounts: about the number of records of the biggest stream.
MEDIUM, SMALL, TINY = 250, 30, 10
CHANGES, FEW = 200, 40
# Of one stream: a delta of several pages at most vendors.
MANY = 600

Of: TypeAlias = tuple[Connector, Stream]
SYNCED = [connector for connector in all_connectors() if connector.streams]


def streams(of: Callable[[Connector, Stream], object] = lambda connector, stream: True) -> Any:
    """Those streams, as the parameters of a test."""
    return [
        pytest.param((connector, stream), id=f"{connector.name}.{stream.name}")
        for connector in SYNCED
        for stream in connector.streams
        if of(connector, stream)
    ]


def hands_out_positions(connector: Connector, stream: Stream) -> bool:
    """Whether the sandbox can forget where clients stand."""
    vendor = import_module(f"sandbox.{connector.name}").vendor
    return vendor.expire_checkpoints is not None


def has_tokens_that_end(connector: Connector, stream: Stream) -> bool:
    return connector.oauth.access_token_ttl is not None


EACH_CONNECTOR = pytest.mark.parametrize("connector", SYNCED, ids=lambda connector: connector.name)
EACH_STREAM = pytest.mark.parametrize("of", streams())
EACH_WITH_POSITIONS = pytest.mark.parametrize("of", streams(hands_out_positions))
EACH_FETCHED = pytest.mark.parametrize("of", streams(lambda connector, stream: stream.fetch))
EACH_WINDOWED = pytest.mark.parametrize("of", streams(lambda connector, stream: stream.window))
