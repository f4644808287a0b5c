"""Reading an answer's body: never more of it than agreed, and numbers as the vendor wrote them."""

import json
import math
import re
import zlib
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import orjson

from connectors.kernel.errors import ContractError, ProviderUnavailableError

# Python refuses to print an int of more than 4,300 digits, PostgreSQL takes 131,072.
MAX_DIGITS = 4_000

_DIGITS_TO_ZERO = bytes(
    ord("0") if chr(byte).isascii() and chr(byte).isdigit() else byte for byte in range(256)
)
_LONG_RUN = b"0" * 19
_LONG_NUMBER = re.compile(rb"(?:^|[:,\[\s-])0{19}")


async def read_body(
    chunks: AsyncIterator[bytes], encoding: str, max_body: int, title: str
) -> bytes:
    """The body, decompressed. The limit holds for what arrives and for what it unpacks to."""
    if encoding in ("", "identity"):
        return await _plain(chunks, max_body, title)
    if encoding in ("gzip", "x-gzip"):
        return await _gunzip(chunks, max_body, title)
    raise ContractError(f"{title} answered in an encoding that we did not ask for")


async def _plain(chunks: AsyncIterator[bytes], max_body: int, title: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > max_body:
            raise _too_large(title, max_body)
        parts.append(chunk)
    return b"".join(parts)


async def _gunzip(chunks: AsyncIterator[bytes], max_body: int, title: str) -> bytes:
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
    parts: list[bytes] = []
    size = arrived = 0
    try:
        async for chunk in chunks:
            arrived += len(chunk)
            while chunk:
                if unpack.eof:
                    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16)
                # One byte more than is left is asked for, so that a bomb is noticed, not unpacked.
                part = unpack.decompress(chunk, max_body - size + 1)
                size += len(part)
                if size > max_body:
                    raise _too_large(title, max_body)
                parts.append(part)
                chunk = unpack.unused_data
    except zlib.error as error:
        raise ProviderUnavailableError(f"{title} sent a body that does not unpack") from error
    if arrived and not unpack.eof:
        raise ProviderUnavailableError(f"{title} sent a body that was cut short")
    return b"".join(parts)


def _too_large(title: str, max_body: int) -> ContractError:
    return ContractError(f"{title} answered with more than {max_body / 2**20:g} MiB")


def parse_json(body: bytes) -> Any:
    """The value of a JSON text (None of an empty one); ValueError where it is none.

    orjson reads an integer beyond 64 bits as a float and refuses lone surrogates; the standard
    library is slower, and keeps both.
    """
    if not body.strip():
        return None
    if not _holds_long_number(body):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass  # the standard library decides
    try:
        return json.loads(body, parse_constant=_refuse, parse_float=_number)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _holds_long_number(body: bytes) -> bool:
    zeroed = body.translate(_DIGITS_TO_ZERO)
    return _LONG_RUN in zeroed and _LONG_NUMBER.search(zeroed) is not None


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _number(text: str) -> float | int:
    number = float(text)
    if math.isfinite(number):
        return number
    exact = Decimal(text)
    if exact.adjusted() > MAX_DIGITS:
        raise ValueError("a number of too many digits")
    return int(exact)
