"""The watches that clients made at the vendors of one OAuth server."""

from sandbox.kernel.clock import Clock
from sandbox.kernel.values import Address


class Watches:
    """Each is there for as long as it works."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_id: dict[str, Address] = {}
        self._by_account: dict[str, dict[str, Address]] = {}

    def add(self, watch: Address) -> None:
        """A new watch, or the new state of the one with its id."""
        self.remove(watch.id)
        self._by_id[watch.id] = watch
        self._by_account.setdefault(watch.account_id, {})[watch.id] = watch

    def get(self, watch_id: str) -> Address | None:
        watch = self._by_id.get(watch_id)
        return watch if watch and watch.works(self._clock.time()) else None

    def remove(self, watch_id: str) -> Address | None:
        """Ends a watch; gives it back if it worked until now."""
        working, watch = self.get(watch_id), self._by_id.pop(watch_id, None)
        if watch:
            del self._by_account[watch.account_id][watch.id]
        return working

    def of(self, account_id: str) -> list[Address]:
        """An account's live watches, in the order in which they were made."""
        now = self._clock.time()
        return [each for each in self._by_account.get(account_id, {}).values() if each.works(now)]
