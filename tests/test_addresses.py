"""What a stranger names is called at public addresses alone, and at those that were looked at."""

from collections.abc import Iterable
from typing import Any

import httpcore
import pytest

from connectors import BrokenConnectionError
from connectors.kernel.addresses import PublicOnly, is_public
from connectors.kernel.transport import Transport

PUBLIC = ["93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "8.8.8.8"]
PRIVATE = [
    "127.0.0.1", "10.0.0.1", "172.16.3.4", "192.168.1.1", "169.254.169.254", "0.0.0.0",  # noqa: S104
    "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1",
    "ff02::1", "localhost", "",
]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_of_a_machine_or_a_network_of_ours_is_not(address: str) -> None:
    assert not is_public(address)


class Network(httpcore.AsyncMockBackend):
    """Writes down what is connected to."""

    def __init__(self, refuses: str = "") -> None:
        super().__init__([])
        self.connected: list[str] = []
        self._refuses = refuses

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None,
        local_address: str | None = None, socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:  # fmt: skip
        self.connected.append(host)
        if host == self._refuses:
            raise httpcore.ConnectError("refused")
        return await super().connect_tcp(host, port, timeout, local_address, socket_options)


class Names:
    """A name server that answers otherwise each time."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)

    async def __call__(self, host: str, port: int) -> list[str]:
        return self._answers.pop(0)


async def test_a_name_is_looked_up_once_and_what_was_looked_at_is_connected_to() -> None:
    network, names = Network(), Names(["93.184.215.14"], ["127.0.0.1"])
    backend = PublicOnly(network, names)
    await backend.connect_tcp("rebinding.example", 443)
    assert network.connected == ["93.184.215.14"]
    with pytest.raises(BrokenConnectionError, match="not one of the internet's"):
        await backend.connect_tcp("rebinding.example", 443)
    assert network.connected == ["93.184.215.14"]


async def test_one_private_address_among_public_ones_is_one_too_many() -> None:
    network = Network()
    with pytest.raises(BrokenConnectionError):
        await PublicOnly(network, Names(["93.184.215.14", "10.0.0.1"])).connect_tcp(
            "x.example", 443
        )
    assert network.connected == []


async def test_the_next_address_is_tried_where_one_refuses() -> None:
    network = Network(refuses="8.8.8.8")
    await PublicOnly(network, Names(["8.8.8.8", "93.184.215.14"])).connect_tcp("x.example", 443)
    assert network.connected == ["8.8.8.8", "93.184.215.14"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "2130706433", "0x7f000001", "[::1]"])
async def test_a_call_to_this_machine_is_not_made_however_it_is_written(host: str) -> None:
    transport = Transport(only_public=True)
    try:
        with pytest.raises(BrokenConnectionError, match="not one of the internet's"):
            await transport.call("Kraal", "GET", f"https://{host}:1/", {}, None)
    finally:
        await transport.close()


async def test_the_sandbox_is_the_one_exception() -> None:
    transport = Transport(sandbox_url="http://127.0.0.1:1")
    assert transport.to_strangers is transport
    await transport.close()
    plain = Transport()
    assert plain.to_strangers is plain.to_strangers is not plain
    await plain.close()
