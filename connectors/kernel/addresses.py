"""Which addresses on the network a stranger may send us to: public ones, and no others.

A name is resolved once, every address that it has is looked at, and what is connected to is what
was looked at: a name that answers otherwise the next time (DNS rebinding) changes nothing.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import httpcore

from connectors.kernel.errors import BrokenConnectionError

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]
Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Through these an IPv6 address leads to the IPv4 one in its last 32 bits (RFC 6052, RFC 8215).
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))


def is_public(text: str) -> bool:
    """Whether an IP address is one of the internet's, also where another is wrapped in it."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return all(each.is_global and not each.is_multicast for each in (address, *_inside(address)))


def _inside(address: Address) -> Iterable[Address]:
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    wrapped: list[Address | None] = [address.ipv4_mapped, address.sixtofour]
    wrapped += address.teredo or ()
    if any(address in network for network in _NAT64):
        wrapped.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return [each for each in wrapped if each is not None]


async def resolve(host: str, port: int) -> list[str]:
    """The addresses that a name has now."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise httpcore.ConnectError("the name has no address") from error
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class PublicOnly(httpcore.AsyncNetworkBackend):
    """Connects to public addresses; BrokenConnectionError where a name has any other."""

    def __init__(
        self, network: httpcore.AsyncNetworkBackend | None = None, resolving: Resolve = resolve
    ) -> None:
        self._network = network or httpcore.AnyIOBackend()
        self._resolve = resolving

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        async with asyncio.timeout(timeout):
            addresses = await self._resolve(host, port)
        if not addresses or not all(is_public(each) for each in addresses):
            raise BrokenConnectionError(
                "the address that was given is not one of the internet's: it is not called"
            )
        failed: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
        for address in addresses:
            try:
                return await self._network.connect_tcp(
                    address, port, timeout, local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
        raise failed or httpcore.ConnectError("the name has no address")

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        raise httpcore.ConnectError("a vendor is not on a socket of this machine")

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
