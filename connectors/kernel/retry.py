"""When a request that failed is tried again, and when its error is raised."""

import random
from datetime import timedelta

from connectors.kernel.budget import MAX_WAIT
from connectors.kernel.errors import (
    ConnectorError,
    ContractError,
    ProviderUnavailableError,
    RateLimitedError,
    RetryableError,
)

ATTEMPTS = 5
# A pause is drawn from nothing to a ceiling, which doubles from the first of these to the second.
BACKOFF, MAX_BACKOFF = timedelta(seconds=2), timedelta(minutes=1)
MAX_PAUSES = timedelta(minutes=2)


class MalformedError(ProviderUnavailableError):
    """A whole answer that is not JSON: often a proxy's error page, so it is asked for once more."""


class Patience:
    """Counts one request's failures, and says how long to pause until the next attempt."""

    def __init__(self, attempts: int = ATTEMPTS) -> None:
        self._attempts = attempts
        self._failures = 0
        self._malformed = 0
        self._paused = timedelta()
        self._rate_limit_wait = timedelta()

    def after_rate_limit(
        self, error: RateLimitedError, requested_pause: timedelta | None
    ) -> timedelta:
        """How long to close the rate budget. The caller waits for the budget, not by sleeping."""
        self._failures += 1
        return requested_pause or error.retry_after or max(timedelta(seconds=1), self._backoff())

    def worth_waiting(self, pause: timedelta) -> bool:
        self._rate_limit_wait += pause
        return self._failures < self._attempts and self._rate_limit_wait <= MAX_WAIT

    def after_failure(self, error: ConnectorError, requested_pause: timedelta | None) -> timedelta:
        """How long to sleep before the next attempt; raises the error after the last one."""
        self._failures += 1
        if isinstance(error, MalformedError):
            self._malformed += 1
            if self._malformed > 1:
                raise ContractError(str(error))
        pause = self._backoff()
        if isinstance(error, RetryableError):
            error.retry_after = requested_pause or error.retry_after
            pause = max(error.retry_after, pause)
        self._paused += pause
        if self._failures >= self._attempts or self._paused > MAX_PAUSES:
            raise error
        return pause

    def _backoff(self) -> timedelta:
        doublings: int = 2 ** max(0, self._failures - 1)
        ceiling = min(MAX_BACKOFF, BACKOFF * doublings)
        return ceiling * random.random()  # noqa: S311 - it only spreads load
