"""A connection to a sandboxed vendor, and what looks after its watches there."""

from dataclasses import dataclass
from datetime import timedelta

from accounts import watching
from accounts.runtime import Runtime
from accounts.watching import Looked
from flows.watches import station
from storage import connections
from tests._sandboxed import Sandboxed


@dataclass(frozen=True)
class Watched:
    """The connection, the runtime that looks after it, and the vendor's side."""

    vendor: Sandboxed
    shared: Runtime
    connection: connections.Connection

    async def look(self, *, later: timedelta = timedelta()) -> Looked:
        now = self.shared.clock.now() + later
        return await watching.look_after(station(self.shared, self.connection), now)
