"""What Shopify's answers mean, and who sent a callback.

https://shopify.dev/docs/api/usage/response-codes
https://shopify.dev/docs/api/usage/rate-limits
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cache
from typing import Any
from urllib.parse import urlencode

from connectors.kernel.auth import Callback
from connectors.kernel.errors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    SignatureError,
)
from connectors.kernel.messages import Response, Unread
from connectors.kernel.signatures import check_hmac, text_key
from connectors.kernel.versions import EPOCH

log = logging.getLogger(__name__)
VERSION = "2026-10"
EXPORT_ASKED_AGAIN = timedelta(minutes=1)
# Whom a code concerns, beside THROTTLED and ACCESS_DENIED.
TOO_DEAR = "MAX_COST_EXCEEDED"
PASSING = frozenset({"INTERNAL_SERVER_ERROR", "TIMEOUT"})
INACTIVE = "SHOP_INACTIVE"


class TooDearError(ContractError):
    """A query that asks for more points than the shop's bucket ever holds: ask for fewer rows."""


def data_of(response: Response) -> dict[str, Any]:
    """The data of an answer without errors: one with some may lack anything.

    Fields that our app is not approved for are no such error: they come as null, and the rest of
    the rows is whole (reported 2023-03).
    """
    errors = response.json.get("errors")
    if errors and not _are_of_fields(errors):
        code = errors[0].get("extensions", {}).get("code") if isinstance(errors, list) else None
        named = f" ({code})" if isinstance(code, str) and code.isidentifier() else ""
        raise ContractError(f"Shopify refused a query{named}")
    data: dict[str, Any] = response.json["data"]
    return data


def is_refused(response: Response) -> bool:
    errors = response.json.get("errors")
    return bool(errors) and not _are_of_fields(errors)


def denied(response: Response) -> set[str]:
    """The fields that our app is not approved for: protected customer data."""
    errors = response.json.get("errors")
    return {str(error["path"][-1]) for error in errors} if _are_of_fields(errors) else set()


def unapproved(fields: Iterable[str]) -> list[Unread]:
    return [
        Unread(
            field,
            NotAllowedError(
                f"Shopify has not approved our app for the field {field}: request access to "
                "protected customer data for the app in Shopify's partner dashboard"
            ),
        )
        for field in sorted(fields)
    ]


def _are_of_fields(errors: Any) -> bool:
    """Whether each error is of a field inside of a row, and nothing else is missing."""
    return isinstance(errors, list) and bool(errors) and all(map(_is_of_field, errors))


def _is_of_field(error: Any) -> bool:
    if _code(error) != "ACCESS_DENIED":
        return False
    path = error.get("path")
    if not isinstance(path, list) or not path or not isinstance(path[-1], str):
        return False
    return path[-1].isidentifier() and any(isinstance(part, int) for part in path)


def classify(response: Response) -> ConnectorError | None:
    """Shopify answers a throttled query with 200 or 429, and a query that we may not make with 200
    as well."""
    _compare_version(response.headers.get("x-shopify-api-version", VERSION))
    if response.status in (402, 423):
        return _inactive(f"({response.status})")
    body = response.json
    if not isinstance(body, dict):
        return None
    if response.status == 404 and "errors" in body:
        text = "Shopify does not have this shop any more (404)"
        return BrokenConnectionError(text, may_pass=True)
    codes = set(_codes(body.get("errors")))
    if "THROTTLED" in codes:
        return _throttled(body.get("extensions", {}).get("cost"))
    if response.status == 200 and TOO_DEAR in codes:
        return TooDearError(f"Shopify does not answer so much at once ({TOO_DEAR})")
    if response.status == 200 and "ACCESS_DENIED" in codes:
        if body.get("data") and _are_of_fields(body["errors"]):
            return None
        return NotAllowedError("Shopify does not let us read this: connect again and allow it")
    if INACTIVE in codes:
        return _inactive(f"({INACTIVE})")
    if response.status == 200 and codes & PASSING:
        return ProviderUnavailableError("Shopify cannot answer now")
    return _unfinished(body)


def _inactive(code: str) -> ConnectorError:
    text = f"the shop is frozen or locked {code}: its owner has to settle that with Shopify"
    return NotAllowedError(text, may_pass=True)


def _unfinished(body: Mapping[str, Any]) -> ConnectorError | None:
    """An export that is under way is waited for as a limit is."""
    data = body.get("data")
    export = data.get("node") if isinstance(data, dict) else None
    if isinstance(export, dict) and export.get("status") in ("CREATED", "RUNNING"):
        return RateLimitedError("Shopify is preparing an export", retry_after=EXPORT_ASKED_AGAIN)
    return None


def _codes(errors: Any) -> Iterator[str]:
    """The codes of a list of errors; where we are not let in at all it is a text instead."""
    for error in errors if isinstance(errors, list) else ():
        if code := _code(error):
            yield code


def _code(error: Any) -> str:
    extensions = error.get("extensions") if isinstance(error, dict) else None
    code = extensions.get("code") if isinstance(extensions, dict) else None
    return code if isinstance(code, str) else ""


def _throttled(cost: Any) -> ConnectorError:
    """How long the bucket takes to hold what the query asks for, if it ever does: some shops have
    one of 40 points (reported 2026-08)."""
    if not isinstance(cost, dict):
        return RateLimitedError("Shopify asks us to wait (THROTTLED)")
    status, asked = cost["throttleStatus"], cost["requestedQueryCost"]
    if 0 < status.get("maximumAvailable", 0) < asked:
        return TooDearError("the shop's bucket never holds what the query asks for (THROTTLED)")
    missing = asked - status["currentlyAvailable"]
    wait = timedelta(seconds=max(0.0, missing / max(status["restoreRate"], 1)))
    return RateLimitedError("Shopify asks us to wait (THROTTLED)", retry_after=wait)


@cache
def _compare_version(answered: str) -> None:
    # A version that is over is answered as the oldest that is not, and nothing else tells.
    if answered != VERSION:
        log.warning("Shopify answers as version %s, not as %s", answered[:20], VERSION)


def verify_callback(callback: Callback) -> Mapping[str, str]:
    """The shop that a callback names, once its digest proves that Shopify wrote it."""
    params = {name: text for name, text in callback.params.items() if name != "signature"}
    given = params.pop("hmac", "")
    pairs = sorted(params.items())
    # The two SDKs escape what separates the parameters in two ways (2026-11).
    messages = (urlencode(pairs), "&".join(sorted(f"{_escaped(pair)}" for pair in pairs)))
    check_hmac([given], [text.encode() for text in messages], [text_key(callback.client_secret)])
    timestamp = params.get("timestamp", "")
    age = abs(
        callback.at - (EPOCH + timedelta(seconds=int(timestamp if timestamp.isdecimal() else 0)))
    )
    if age > timedelta(days=1):
        raise SignatureError("the callback is too old")
    return {"shop": params["shop"]}


def _escaped(pair: tuple[str, str]) -> str:
    name, value = (text.replace("%", "%25") for text in pair)
    return f"{name.replace('=', '%3D')}={value}".replace("&", "%26")
