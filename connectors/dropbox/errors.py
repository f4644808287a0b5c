"""What Dropbox's answers mean: who must act.

The tags stand in dropbox/dropbox-api-spec (auth.stone, common.stone, files.stone; 2026-11). Errors
of a route come with 409; those of the form of a request with 400, in plain text.
"""

from datetime import timedelta
from typing import Any

from connectors.kernel.errors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
)
from connectors.kernel.messages import Response
from connectors.kernel.statuses import MAX_RETRY_AFTER, codes
from connectors.kernel.versions import find

# What is refused is a part of the account: a folder, a link, what a plan or a role leaves out.
NOT_ALLOWED = codes(
    "no_permission access_denied not_a_member access_error email_unverified "
    "no_explicit_access unmounted team_folder restricted_content unsupported_content_type "
    "insufficient_plan no_write_permission disabled_for_team email_not_verified"
)
# A folder that was unshared has no id any more; what has no revisions is no file.
NOT_THERE = codes("not_found invalid_id not_file")
AWAY = codes("internal_error too_many_write_operations conflict")


class NotThereError(ContractError):
    """What was asked for is no longer there: it was deleted after it was listed."""


def classify(response: Response) -> ConnectorError | None:
    """The error of an answer, or None where its status says all."""
    status, tags = response.status, _tags(find(response.json, ("error",)))
    named = f" ({'/'.join(tags)})" if tags else ""
    if status == 401:
        if "missing_scope" in tags:
            scope = find(response.json, ("error", "required_scope"))
            lacks = f": it lacks the scope {scope}" if isinstance(scope, str) else ""
            return NotAllowedError(
                f"Dropbox's consent does not cover this{lacks}. Turn it on for the app, and "
                "connect again"
            )
        return BrokenConnectionError(f"Dropbox refuses our authorisation{named}")
    if status == 403:
        return NotAllowedError(
            f"Dropbox does not allow this{named}: the account's plan or its role in the team "
            "does not include it"
        )
    if status == 409:
        return _of_a_route(tags, named)
    if status == 422:
        # The account moved into a team, or out of one: its paths begin elsewhere now.
        if "no_permission" in tags:
            return NotAllowedError("Dropbox does not show this account the root of its team")
        return CheckpointExpiredError(f"Dropbox has another root for this account now{named}")
    if status == 429:
        return RateLimitedError(f"Dropbox asks us to wait{named}", retry_after=_wait(response))
    return None


def _of_a_route(tags: list[str], named: str) -> ConnectorError:
    if "reset" in tags or "invalid_cursor" in tags:
        return CheckpointExpiredError(f"Dropbox no longer knows where a listing stood{named}")
    if NOT_THERE.intersection(tags):
        return NotThereError(f"Dropbox does not find what was asked for{named}")
    if NOT_ALLOWED.intersection(tags):
        return NotAllowedError(f"Dropbox does not allow this{named}")
    if AWAY.intersection(tags):
        return ProviderUnavailableError(f"Dropbox cannot answer now{named}")
    return ContractError(f"Dropbox refused a request{named}", may_pass="other" in tags)


def _tags(error: Any) -> list[str]:
    """The tag of an error, then those of what it is about: `path`, `not_found`."""
    found: list[str] = []
    while isinstance(error, dict) and isinstance(tag := error.get(".tag"), str) and len(found) < 5:
        if tag.isidentifier():
            found.append(tag)
        error = error.get("reason") if tag not in error else error[tag]
    if not found and isinstance(error, dict):  # a limit has no tag of its own, but a reason
        return _tags(error.get("reason")) if "reason" in error else []
    return found


def _wait(response: Response) -> timedelta:
    """What the body says; the kernel looks at Retry-After where this is nothing."""
    told = find(response.json, ("error", "retry_after"))
    if isinstance(told, bool) or not isinstance(told, int | float) or told < 0:
        return timedelta()
    return timedelta(seconds=min(float(told), MAX_RETRY_AFTER.total_seconds()))
