"""The vendors on loopback: an application that, as far as a client can tell, *is* them.

A vendor's address `https://HOST/PATH` is served at `{origin}/HOST/PATH`, and also at `/PATH` when
the Host header is HOST. State lives in memory, data comes from a seed, all times from one clock,
and `{origin}/_control` orders changes and misbehaviour.

`kernel` holds what all vendors share; its docstring tells how a vendor is added. A folder with an
underscore is shared by several vendors.
"""

import contextlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from starlette.applications import Starlette

from sandbox.kernel.app import build
from sandbox.kernel.control import description
from sandbox.kernel.serve import run, serve
from sandbox.kernel.world import World

__all__ = ["create_app", "describe", "names", "serve", "start"]


def names() -> tuple[str, ...]:
    """The integrations there are, by the names of their modules and packages."""
    found = (module.name for module in iter_modules(__path__))
    return tuple(sorted(name for name in found if name != "kernel" and not name.startswith("_")))


def create_app(integrations: Sequence[str] | None = None, *, seed: int = 1) -> Starlette:
    """The sandbox of those integrations (all, when None); LookupError names those there are."""

    chosen = names() if integrations is None else tuple(integrations)
    for name in chosen:
        if name not in names():
            raise LookupError(f"no integration {name!r}; there are: {', '.join(names())}")
    vendors = [import_module(f"sandbox.{name}").vendor for name in chosen]
    return build(World(vendors, seed))


def describe(app: Starlette, origin: str) -> dict[str, Any]:
    """For each vendor: where a client is pointed at, the app's client, tokens that work."""

    return description(app.state.world, origin)


@contextlib.contextmanager
def start(
    integrations: Sequence[str] | None = None, port: int = 0, *, seed: int = 1
) -> Iterator[str]:
    """A sandbox in a thread of its own for as long as the block lasts; gives its origin."""

    with run(create_app(integrations, seed=seed), port) as origin:
        yield origin
