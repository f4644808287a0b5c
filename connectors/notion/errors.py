"""Notion's error codes: who must act.

https://developers.notion.com/reference/status-codes (2026-11)
"""

from collections.abc import Sequence
from datetime import timedelta

from connectors import (
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Response,
)


class NotShownError(NotAllowedError):
    """It is not shared with our connection, or never was: Notion makes no difference."""


class NotReadableError(ContractError):
    """Notion does not take what was asked, such as what a block of an unknown kind holds."""


class PartlyReadError(ContractError):
    """Something in an object could not be read: these `records` are not all there is of it."""

    def __init__(self, records: Sequence[Record], error: ConnectorError) -> None:
        super().__init__(str(error))
        self.records = records


# A 529 is answered like a 429 (https://developers.notion.com/reference/request-limits, 2026-11).
OVERLOADED = 529
SOON = timedelta(seconds=1)


def classify(response: Response) -> ConnectorError | None:
    """By the code of its error form; by the status where there is none."""
    body = response.json if isinstance(response.json, dict) else {}
    code = body.get("code")
    if response.status == OVERLOADED:
        return RateLimitedError("Notion is overloaded, and asks us to wait (529)")
    if code == "object_not_found":
        return NotShownError(
            "Notion does not show this: whoever can open it has to share it with the connection "
            "(••• > Connections)"
        )
    if code == "restricted_resource":
        return NotAllowedError(
            "Notion does not allow this: the app lacks the capability (read content, comments or "
            "user information), or the person who connected has no right to it"
        )
    if code == "conflict_error":
        return ProviderUnavailableError("Notion was changing this just now", retry_after=SOON)
    if code == "validation_error" and response.status == 400:
        return NotReadableError("Notion does not take this request (validation_error)")
    return None
