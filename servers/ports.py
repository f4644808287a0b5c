"""Ports of loopback: which are free, and which we keep for ourselves."""

import socket

from servers.processes import ServiceError, reserved

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether nobody listens on that port of loopback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(preferred: int) -> int:
    """That port if it is free on loopback, else the next one that is; it is ours from now on."""
    for port in range(preferred, preferred + 200):
        if is_free(port) and reserved(port):
            return port
    raise ServiceError(f"no free port between {preferred} and {preferred + 200}")
