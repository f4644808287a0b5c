"""What goes wrong with a vendor, grouped by who must act.

ConnectorError                     its message is safe to show a tenant: no token, no body
  x RetryableError                 nobody acts: wait, `.retry_after` if the vendor says how long
    + RateLimitedError
    + ProviderUnavailableError     5xx, time-outs, DNS, answers cut short, what is known to pass
  x BrokenConnectionError          the tenant acts: reconnect
  x NotAllowedError                the tenant's administrator acts: allow, buy or enable what one
                                   stream or a part of it needs; a reconnect alone mends nothing
  x ContractError                  we act: the vendor changed, or we are wrong
  x SignatureError                 refuse the delivery, store nothing
    + UnknownKeyError              its vendor may have changed keys: read them again first
  x CheckpointExpiredError         nobody acts: the stream is read again from its start
"""

import re
from datetime import timedelta

from connectors.kernel.words import Words

_CODE = re.compile(r" \([\w.:-]+\)")


def without_codes(message: str) -> str:
    """The message of an error without a vendor's own codes: for people, where it is all we have."""
    return _CODE.sub("", message)


class ConnectorError(Exception):
    """Anything a connector can fail with; `str()` of it may be shown to a tenant.

    A message of `Words` is told on pages, in the reader's language; a vendor's `code` follows it
    for operators alone. Of any other message, pages tell only who must act.

    With `may_pass` the vendor is known to answer so now and then where nothing is wrong: the
    request is tried again with patience, and the error is raised if the answer stays the same.
    """

    def __init__(self, message: str | Words, *, may_pass: bool = False, code: str = "") -> None:
        super().__init__(f"{message} ({code})" if code else str(message))
        self.words = message if isinstance(message, Words) else None
        self.may_pass = may_pass


class RetryableError(ConnectorError):
    """Passes by itself: try again later, after `retry_after` where that is known."""

    def __init__(self, message: str, *, retry_after: timedelta = timedelta()) -> None:
        super().__init__(message, may_pass=True)
        self.retry_after = retry_after


class RateLimitedError(RetryableError):
    """The vendor, or our own budget for it, asks us to wait."""


class ProviderUnavailableError(RetryableError):
    """The vendor did not answer, or answered that it cannot now."""


class BrokenConnectionError(ConnectorError):
    """The vendor refuses our authorisation; only the tenant can give a new one.

    Of a call to the API it is raised only once a token that was renewed just now is refused, too;
    `lasting` is raised in its place where that means something else.
    """

    def __init__(
        self,
        message: str | Words,
        *,
        may_pass: bool = False,
        code: str = "",
        lasting: ConnectorError | None = None,
    ) -> None:
        super().__init__(message, may_pass=may_pass, code=code)
        self.lasting = lasting


class NotAllowedError(ConnectorError):
    """The grant works, but this one thing is refused: a scope was not given, a plan does not
    include it, an administrator has to allow or enable it. The rest goes on."""


class ContractError(ConnectorError):
    """The vendor answered in a form its documentation does not have, or refused what we asked."""


class SignatureError(ConnectorError):
    """A delivery that the vendor did not sign."""


class UnknownKeyError(SignatureError):
    """It names a key that is not among the vendor's, as we last read them. Anyone can send such a
    delivery: the keys are read again for it at most once in a while."""


class CheckpointExpiredError(ConnectorError):
    """The vendor no longer knows the checkpoint; the stream restarts as a full read."""
