"""The sandbox's memory: accounts, tokens, orders for faults, and what was asked of it."""

import asyncio
import re
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from random import Random
from typing import Any

from starlette.datastructures import QueryParams

from sandbox.kernel.clock import Clock
from sandbox.kernel.consent import routes as oauth_routes
from sandbox.kernel.faults import Fault
from sandbox.kernel.limits import Meter
from sandbox.kernel.oauth import AuthorizationServer
from sandbox.kernel.outbox import Outbox
from sandbox.kernel.sender import HttpSender
from sandbox.kernel.values import Account, Grant, Json, RefusedError, Seed
from sandbox.kernel.vendor import Route, Vendor
from sandbox.kernel.webhooks import SILENT

DEFAULT_SIZE = 250
LOG_LENGTH = 10_000
# Parameters that hold a secret: their values never reach the request log.
SECRET = frozenset(
    ["access_token", "client_secret", "code", "code_verifier", "hapikey", "refresh_token", "token"]
)


@dataclass
class Log:
    """The requests a vendor had; the newest are kept whole, all are counted."""

    total: int = 0
    by_path: Counter[str] = field(default_factory=Counter)
    entries: deque[Json] = field(default_factory=lambda: deque(maxlen=LOG_LENGTH))

    def add(self, entry: Json) -> None:
        self.total += 1
        self.by_path[entry["path"]] += 1
        self.entries.append(entry)

    def clear(self) -> None:
        self.total = 0
        self.by_path.clear()
        self.entries.clear()


def shown_query(query: QueryParams) -> Json:
    """A query for the log: secrets blotted out, a repeated name as a list."""
    shown: Json = {}
    for name in query:
        values = ["…" if name in SECRET else value for value in query.getlist(name)]
        shown[name] = values[0] if len(values) == 1 else values
    return shown


class World:
    """All the state of one sandbox."""

    def __init__(self, vendors: Iterable[Vendor], seed: int) -> None:
        self.clock = Clock()
        self.seed = seed
        self.vendors = {vendor.name: vendor for vendor in vendors}
        self.servers: dict[str, AuthorizationServer] = {}
        for vendor in self.vendors.values():
            self.servers.setdefault(vendor.auth.name, AuthorizationServer(vendor.auth, self.clock))
        self.faults: dict[str, list[Fault]] = {name: [] for name in self.vendors}
        self.lifted = {name: asyncio.Event() for name in self.vendors}
        self.logs = {name: Log() for name in self.vendors}
        self.meters = {
            name: Meter(self.clock, vendor.limits) for name, vendor in self.vendors.items()
        }
        self.post = HttpSender()
        self.outboxes = {name: self._outbox(vendor) for name, vendor in self.vendors.items()}
        self.stopping = asyncio.Event()
        self._newcomers: dict[str, tuple[Grant, Json]] = {}
        self._routes: dict[str, list[tuple[tuple[str, ...], Route]]] = {}
        self._add_routes()
        for server in self.servers.values():
            self.add_account(server, size=DEFAULT_SIZE)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Those that vendors have, some as patterns."""
        return tuple(self._routes)

    def serves(self, host: str) -> bool:
        return self._known(host) is not None

    def routes(self, host: str) -> list[tuple[tuple[str, ...], Route]]:
        """A host's routes, each with the vendors it belongs to."""
        return self._routes[self._known(host) or host]

    def _known(self, host: str) -> str | None:
        if host in self._routes:
            return host
        patterns = (known for known in self._routes if "*" in known)
        return next((pattern for pattern in patterns if fnmatchcase(host, pattern)), None)

    def vendor(self, name: str) -> Vendor:
        if name not in self.vendors:
            raise RefusedError(f"no vendor {name!r}; there are: {', '.join(self.vendors)}")
        return self.vendors[name]

    def server(self, vendor: Vendor) -> AuthorizationServer:
        return self.servers[vendor.auth.name]

    def outbox(self, vendor: Vendor) -> Outbox:
        """The sending side of a vendor that has one."""
        if vendor.webhook is None:
            raise RefusedError(f"{vendor.name} sends no webhooks")
        return self.outboxes[vendor.name]

    def advance(self, seconds: float) -> None:
        """Moves the clock; what is due by then is sent."""
        self.clock.advance(seconds)
        for outbox in self.outboxes.values():
            outbox.wake()

    async def close(self) -> None:
        """Lets go of hanging requests, and sends nothing any more."""
        self.stopping.set()
        for outbox in self.outboxes.values():
            await outbox.close()
        self.post.close()

    def account(self, vendor: Vendor, account_id: str) -> Account:
        accounts = self.server(vendor).accounts
        if account_id not in accounts:
            known = ", ".join(accounts)
            raise RefusedError(f"{vendor.name} has no account {account_id!r}; it has: {known}")
        return accounts[account_id]

    def add_account(
        self,
        server: AuthorizationServer,
        *,
        size: int,
        account_id: str | None = None,
        seed: int | None = None,
    ) -> Account:
        """A new account of every vendor of that OAuth server, filled from the seed."""
        number = len(server.accounts)
        base = self.seed if seed is None else seed
        made_up, name = server.auth.new_account(Random(f"{base}:{server.auth.name}:{number}"))
        account = Account(account_id or made_up, name)
        if not re.fullmatch(server.auth.account_pattern, account.id):
            wanted = server.auth.account_pattern
            raise RefusedError(f"account id {account.id!r} does not match {wanted}", status=400)
        if account.id in server.accounts:
            raise RefusedError(f"there is an account {account.id!r} already", status=409)

        def seed_of(name: str) -> Seed:
            random = Random(f"{base}:{name}:{account.id}")
            shared = account.state.get(server.auth.name)
            tell = partial(self._tell, server, name, account.id)
            return Seed(account.id, account.name, random, self.clock, size, shared, tell)

        if server.auth.shared:
            account.state[server.auth.name] = server.auth.shared(seed_of(server.auth.name))
        for vendor in self.vendors.values():
            if vendor.auth.name == server.auth.name:
                account.state[vendor.name] = vendor.new(seed_of(vendor.name))
        server.accounts[account.id] = account
        return account

    def newcomer(self, vendor: Vendor) -> tuple[str, Json]:
        """The default account's id and a token answer whose access token works."""
        server = self.server(vendor)
        known = self._newcomers.get(vendor.auth.name)
        if known and server.access(known[1]["access_token"]):
            return known[0].account_id, known[1]
        if known and not known[0].ended:
            grant = known[0]
        else:
            # To be shown what there is must end nobody's consent.
            grant = server.open(next(iter(server.accounts)), granted(vendor), beside=True)
        answer = server.issue(grant, server.refresh_token(grant), refreshed=False, call=None)
        self._newcomers[vendor.auth.name] = grant, answer
        return grant.account_id, answer

    def _outbox(self, vendor: Vendor) -> Outbox:
        server, sender = self.server(vendor), vendor.webhook or SILENT
        return Outbox(self.clock, sender, self.post, server.watches, server.consents)

    def _tell(self, server: AuthorizationServer, name: str, account_id: str, what: Any) -> None:
        # How an account came to be is no news: it is known only once it is filled.
        if account_id in server.accounts and name in self.outboxes:
            self.outboxes[name].tell(account_id, what)

    def _add_routes(self) -> None:
        for server in self.servers.values():
            sharing = tuple(
                v.name for v in self.vendors.values() if v.auth.name == server.auth.name
            )
            for route in oauth_routes(server.auth):
                self._routes.setdefault(route.host, []).append((sharing, route))
        owners: dict[Route, tuple[str, ...]] = {}
        for vendor in self.vendors.values():
            for route in vendor.routes:
                owners[route] = (*owners.get(route, ()), vendor.name)
        for route, names in owners.items():
            self._routes.setdefault(route.host, []).append((names, route))


def granted(vendor: Vendor) -> tuple[str, ...]:
    """Every scope that a grant without a browser gets: those that are no pattern."""
    return tuple(scope for scope in vendor.auth.scopes if "*" not in scope)
