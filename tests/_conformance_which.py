"""What the promises are tried on: every connector that has streams, and accounts of these sizes."""

from collections.abc import Callable
from importlib import import_module
from types import CodeType
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


def readers(of: Callable[[Connector, Stream], object] = lambda connector, stream: True) -> Any:
    """Those streams for a promise that takes seconds: the first that each code reads, and all
    others of the same code for `make thorough`."""
    found: set[object] = set()
    params = []
    for connector in SYNCED:
        for stream in filter(lambda stream: of(connector, stream), connector.streams):
            reader = (connector.name, _code_of(stream.read), _nature_of(stream))
            marks = [pytest.mark.thorough] if reader in found else []
            found.add(reader)
            name = f"{connector.name}.{stream.name}"
            params.append(pytest.param((connector, stream), id=name, marks=marks))
    return params


def _code_of(read: Any, depth: int = 3) -> tuple[CodeType, ...]:
    """The code of a reader, and that of the functions which it was made with."""
    code = getattr(read, "__code__", None) or getattr(type(read).__call__, "__code__", None)
    cells = [cell.cell_contents for cell in getattr(read, "__closure__", None) or ()]
    inner = [_code_of(value, depth - 1) for value in cells if callable(value)] if depth else []
    return tuple(each for each in (code, *(one for codes in inner for one in codes)) if each)


def _nature_of(stream: Stream) -> tuple[bool, ...]:
    """What decides how a stream's pages are taken, whoever reads them."""
    return (
        stream.snapshot, stream.append_only, stream.from_now_on, stream.hides_deletes,
        stream.keeps_hidden, stream.listing is None, stream.fetch is None, stream.window is None,
    )  # fmt: skip


def hands_out_positions(connector: Connector, stream: Stream) -> bool:
    """Whether the sandbox can forget where clients stand."""
    vendor = import_module(f"sandbox.{connector.name}").vendor
    return vendor.expire_checkpoints is not None


def has_tokens_that_end(connector: Connector, stream: Stream) -> bool:
    return connector.oauth.access_token_ttl is not None


EACH_CONNECTOR = pytest.mark.parametrize("connector", SYNCED, ids=lambda connector: connector.name)
EACH_STREAM = pytest.mark.parametrize("of", streams())
EACH_READER = pytest.mark.parametrize("of", readers())
EACH_WITH_POSITIONS = pytest.mark.parametrize("of", readers(hands_out_positions))
EACH_FETCHED = pytest.mark.parametrize("of", streams(lambda connector, stream: stream.fetch))
EACH_WINDOWED = pytest.mark.parametrize("of", readers(lambda connector, stream: stream.window))
