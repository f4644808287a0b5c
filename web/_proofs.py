"""What deliveries are proven by: the operator's secrets, vendors' keys, secrets of watches."""

import time
from dataclasses import dataclass, replace
from typing import Any

from accounts.runtime import Runtime
from connectors import Connector, ConnectorError, Delivery, UnknownKeyError, VerificationKeys
from connectors.kernel.webhooks import Verify
from settings import webhooks
from storage import watches
from storage.watches import Known

# Vendors change their keys within days, and announce them before they use them.
KEYS_SECONDS = 3_600.0
# A delivery under a key that we do not have makes us ask again, but not for each forgery.
KEYS_AGAIN_SECONDS = 60.0
WATCH_SECONDS = 300.0
MOST_WATCHES = 50_000


@dataclass(frozen=True)
class _Keys:
    set: dict[str, Any]
    at: float


class Proofs:
    """Fetched when they are needed, and kept for a while."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._set: dict[str, VerificationKeys] = {}
        self._keys: dict[str, _Keys] = {}
        self._watches: dict[tuple[str, str], tuple[Known, float]] = {}

    async def verify(self, connector: Connector, verify: Verify, delivery: Delivery) -> None:
        """SignatureError unless the vendor sent it."""
        url = connector.webhook.keys_url if connector.webhook else ""
        keys = await self._keys_at(url, KEYS_SECONDS) if url else {}
        try:
            verify(delivery, self._proof(connector, keys))
        except UnknownKeyError:
            newer = await self._keys_at(url, KEYS_AGAIN_SECONDS)
            verify(delivery, self._proof(connector, newer))

    def _proof(self, connector: Connector, keys: dict[str, Any]) -> VerificationKeys:
        """What the operator has set is read once: it stands for as long as the process lives."""
        if connector.name not in self._set:
            self._set[connector.name] = webhooks.proof_of(self._runtime.settings, connector, {})
        held = self._set[connector.name]
        return replace(held, keys=keys) if keys else held

    async def watch(self, integration: str, vendor_id: str) -> Known | None:
        """Whose watch that is, and its secret; None of one that we do not keep."""
        now = time.monotonic()
        found = self._watches.get((integration, vendor_id))
        if found is not None and found[1] > now:
            return found[0]
        known = await watches.known(
            self._runtime.database, self._runtime.vault, integration, vendor_id
        )
        if known is not None:
            if len(self._watches) >= MOST_WATCHES:
                self._watches.clear()
            self._watches[integration, vendor_id] = (known, now + WATCH_SECONDS)
        return known

    async def _keys_at(self, url: str, good_for: float) -> dict[str, Any]:
        held = self._keys.get(url)
        now = time.monotonic()
        if held is not None and now - held.at < good_for:
            return held.set
        try:
            answer = await self._runtime.transport.call("the vendor's keys", "GET", url, {}, None)
        except ConnectorError:
            answer = None
        if answer is None or answer.status != 200 or not isinstance(answer.json, dict):
            # The former ones may do; they are asked for again soon.
            former = held.set if held is not None else {}
            self._keys[url] = _Keys(former, now - KEYS_SECONDS + KEYS_AGAIN_SECONDS)
            return former
        if held is not None and held.set == answer.json:
            self._keys[url] = _Keys(held.set, now)
            return held.set
        self._keys[url] = _Keys(answer.json, now)
        return answer.json
