"""What goes wrong with a vendor, grouped by who must act.

ConnectorError                     its message is safe to show a tenant: no token, no body
  x RetryableError                 nobody acts: wait
    + RateLimitedError             .retry_after
    + ProviderUnavailableError     5xx, time-outs, DNS, answers cut short
  x BrokenConnectionError          the tenant acts: reconnect
  x NotAllowedError                the tenant acts: allow what one stream needs; the others go on
  x ContractError                  we act: the vendor changed, or we are wrong
  x SignatureError                 refuse the delivery, store nothing
    + UnknownKeyError              its vendor may have changed keys: read them again first
  x CheckpointExpiredError         nobody acts: the stream is read again from its start
"""

from datetime import timedelta


class ConnectorError(Exception):
    """Anything a connector can fail with; `str()` of it may be shown to a tenant."""


class RetryableError(ConnectorError):
    """Passes by itself: try again later."""


class RateLimitedError(RetryableError):
    """The vendor, or our own budget for it, asks us to wait."""

    def __init__(self, message: str, *, retry_after: timedelta) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProviderUnavailableError(RetryableError):
    """The vendor did not answer, or answered that it cannot now."""


class BrokenConnectionError(ConnectorError):
    """The vendor refuses our authorisation; only the tenant can give a new one."""


class NotAllowedError(ConnectorError):
    """The grant works, but does not cover this; the tenant may reconnect and allow it."""


class ContractError(ConnectorError):
    """The vendor answered in a form its documentation does not have, or refused what we asked."""


class SignatureError(ConnectorError):
    """A delivery that the vendor did not sign."""


class UnknownKeyError(SignatureError):
    """It names a key that is not among the vendor's, as we last read them. Anyone can send such a
    delivery: the keys are read again for it at most once in a while."""


class CheckpointExpiredError(ConnectorError):
    """The vendor no longer knows the checkpoint; the stream restarts as a full read."""
