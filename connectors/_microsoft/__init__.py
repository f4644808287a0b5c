"""What Microsoft's integrations share: one app for all of them, Graph's errors, paging and deltas.

https://learn.microsoft.com/graph/overview
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    BrokenConnectionError,
    Calls,
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    OAuth2,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    ask,
    say,
)
from connectors.kernel.paging import LAPSED, Read, next_url_pages, rows_of
from connectors.kernel.statuses import PARSE_ERRORS, codes
from connectors.kernel.versions import find

GRAPH = "https://graph.microsoft.com/v1.0"
LOGIN = "https://login.microsoftonline.com/{MICROSOFT_TENANT_ID}/oauth2/v2.0"
NEXT, DELTA = "@odata.nextLink", "@odata.deltaLink"
# The directory that personal accounts are in.
PERSONAL = "9188040d-6c67-4c5b-b112-36a304b66dad"
UNUSED = timedelta(days=90)

IDENTITY = {
    "offline_access": "to keep reading when nobody is there: without it access ends after an hour",
    "openid": "to tell one person's account from another's",
    "profile": "to tell one person's account from another's",
    "User.Read": "to name the account to people",
}

# What the numbers behind AADSTS mean to who has to act. A number not listed goes by its OAuth code.
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
CONSENT = say(
    "Microsoft: the person, or where their organisation wants it an administrator, has to allow "
    "our app first"
)
ADMINISTRATOR = say("Microsoft: an administrator of the organisation has to allow our app first")
SECOND_FACTOR = say(
    "Microsoft: the organisation now wants a second factor: the person has to sign in again"
)
UNUSED_FOR_LONG = say("Microsoft: the authorisation has lapsed: it was not used for too long")
REFUSALS = {
    65001: CONSENT,
    90093: ADMINISTRATOR,
    90094: ADMINISTRATOR,
    90095: ADMINISTRATOR,
    50105: say(
        "Microsoft: an administrator of the organisation has not assigned our app to this person"
    ),
    50173: say("Microsoft: the authorisation was revoked when the password was changed"),
    50057: say("Microsoft: the account is disabled"),
    50076: SECOND_FACTOR,
    50079: SECOND_FACTOR,
    70008: UNUSED_FOR_LONG,
    700082: UNUSED_FOR_LONG,
    700084: say(
        "Microsoft: the authorisation has lapsed: our app is registered as a single-page one"
    ),
}
_AADSTS = re.compile(r"AADSTS(\d{4,9})")

# How Graph answers for a parent that is gone, or that this person may not read any more.
REFUSED = (403, 404)
# Codes of Graph's errors; each workload spells them in its own way, so they are compared in lower
# case. Not by its code but by where it comes: OneDrive's of an account without a drive.
THROTTLED = codes("toomanyrequests activitylimitreached applicationthrottled")
NO_LICENCE = codes("mailboxnotenabledforrestapi mailboxnotsupportedforrestapi")
# A mailbox without room refuses its deltas, and nothing else (microsoft-graph-docs-contrib#6596,
# 2019-09).
FULL = codes("errorquotaexceeded")
# Beside a 401 they say nothing of the token, which was good half an hour later
# (onedrive-api-docs#1340, 2020-07).
PASSES = codes("generalexception unknownerror servicenotavailable")
# Only the first is sure to come with 410 (2026-11): others were seen with 400 and 404 as well.
RESYNC = codes(
    "resyncrequired resyncchangesapplydifferences resyncchangesuploaddifferences "
    "syncstatenotfound syncstateinvalid"
)


def auth(scopes: Mapping[str, str], *, url_overrides: Mapping[str, str] | None = None) -> OAuth2:
    """The rules of Microsoft's authorisation server, for those scopes, each with its reason.

    All integrations are one app, and a consent adds to those before it: whoever connects a second
    one is asked for its own scopes only. Each keeps tokens of its own. `url_overrides` replaces
    what an operator's MICROSOFT_TENANT_ID may say and the integration cannot serve.
    """
    return OAuth2(
        env="MICROSOFT",
        authorize_url=f"{LOGIN}/authorize",
        token_url=f"{LOGIN}/token",
        scopes={**IDENTITY, **scopes},
        console="https://entra.microsoft.com, App registrations",
        pkce=True,
        authorize_params={"response_mode": "query"},
        # A new refresh token comes with each refresh, and the former stays good for its own life.
        rotates=True,
        grace=UNUSED,
        idle_lifetime=UNUSED,
        refused=frozenset(
            {"invalid_grant", "interaction_required", "consent_required", "login_required"}
        ),
        error_from=error_from,
        url_overrides=url_overrides or {},
    )


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """Who has to act, of a refused consent (a callback) or of a refused token call (its body)."""
    if answer.get("error") == "temporarily_unavailable":
        return ProviderUnavailableError("Microsoft cannot answer now (temporarily_unavailable)")
    for number in _numbers(answer):
        if number in REFUSALS:
            return BrokenConnectionError(REFUSALS[number], code=f"AADSTS{number}")
    return None


def _numbers(answer: Mapping[str, Any]) -> list[int]:
    codes = answer.get("error_codes")
    if isinstance(codes, list):
        return [code for code in codes if isinstance(code, int)]
    # A callback has no list: the number opens its description.
    found = _AADSTS.match(str(answer.get("error_description", "")))
    return [int(found[1])] if found else []


def classify(title: str) -> Callable[[Response], ConnectorError | None]:
    """Reads Graph's error form; the rest goes by status."""

    def classified(response: Response) -> ConnectorError | None:
        status, code = response.status, code_of(response)
        if status < 400:
            return None
        if status == 401 and code in PASSES:
            return ProviderUnavailableError(f"{title} cannot answer now ({status})")
        waits = status in (503, 509) and "retry-after" in response.headers
        if status == 429 or waits or code in THROTTLED:
            return RateLimitedError(f"{title} asks us to wait ({status})", retry_after=timedelta())
        if code in NO_LICENCE:
            return may_have_none(title)
        if code in FULL:
            return NotAllowedError(
                f"{title} is full ({status}): it tells what changed once its owner has made room"
            )
        if status == 403:
            return NotAllowedError(
                f"{title} does not allow this (403): the person, or an administrator of their "
                "organisation, took back a permission or never gave it"
            )
        return None

    return classified


def may_have_none(title: str) -> NotAllowedError:
    """Of an account that was read until now, and is answered as if it had no such product.

    Microsoft said so for half an hour of accounts that had one (onedrive-api-docs#1340, 2020-07,
    and #1889, 2025-02), and no new consent mends it. So it is asked again, at each sync.
    """
    return NotAllowedError(
        say(
            "this account has no %(title)s now: if that stays, an administrator of its "
            "organisation has to give it a licence",
            title=title,
        ),
        may_pass=True,
    )


def no_licence(title: str) -> BrokenConnectionError:
    """Of an account that Microsoft knows and that has no such product."""
    return BrokenConnectionError(
        say(
            "this account has no %(title)s: it has no licence for it, or it is not set up yet",
            title=title,
        )
    )


def code_of(response: Response) -> str:
    """The code of an error answer, in lower case; empty where it has none."""
    code = find(response.json, ("error", "code"))
    return code.lower() if isinstance(code, str) else ""


def me(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """Who consented. The settings hold their directory, which events name as `tenantId`, where the
    token answer tells it."""
    asked = {"$select": "id,displayName,mail,userPrincipalName"}
    found = (yield from ask(Request.get("/me", params=asked))).json
    name = found.get("mail") or found.get("userPrincipalName") or found.get("displayName") or ""
    tid = directory(answer)
    return (Account(found["id"], name=name, config={"tenant_id": tid} if tid else {}),)


def directory(answer: Mapping[str, Any]) -> str:
    """The directory (tid) that a token answer's id_token names; nothing where it cannot be read,
    for the tokens beside it are good.

    It came straight from the token endpoint over TLS, so its signature proves nothing more.
    """
    try:
        body = str(answer["id_token"]).split(".")[1]
        tid = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))["tid"]
    except PARSE_ERRORS:
        return ""
    return tid if isinstance(tid, str) else ""


def listing(request: Request, **options: Any) -> Read:
    """Reads a collection from page to page; `begin` and `then` as in `connectors.kernel.paging`."""
    return next_url_pages(request, records="value", url=(NEXT,), **options)


def is_removed(row: Record) -> bool:
    """Whether a delta's row says that it is gone."""
    return "@removed" in row


def get_page(request: Request, link: str | None) -> Calls[Response]:
    """The answer to a delta's first request, or to a link that it gave, which costs 1.

    A link that Graph no longer knows is an expired checkpoint, with 410 and its relatives alike;
    the address that some of them name starts the same enumeration that ours does.
    """
    if link is None:
        return (yield from ask(request))
    expect = (*request.expect, *LAPSED, 409)
    # A link stands for path and parameters alike; headers are not in it.
    response: Response = yield from ask(
        replace(request, path=link, params={}, expect=expect, cost=1)
    )
    status, code = response.status, code_of(response)
    if code in RESYNC or (status in LAPSED and status not in request.expect):
        raise CheckpointExpiredError("Microsoft no longer knows where this delta stood")
    if status >= 400 and status not in request.expect:
        raise ContractError(f"Microsoft refused to go on with a delta ({status})")
    return response


def changes(
    response: Response,
    gone: Callable[[Record], bool],
    key: Callable[[str], str] = lambda id: id,
) -> tuple[list[Record], list[str]]:
    """Records and the ids of deletes. What occurs several times counts as it occurs last."""
    latest: dict[str, Record] = {}
    for row in rows_of(response, "value"):
        latest.pop(key(row["id"]), None)
        latest[key(row["id"])] = row
    kept = [row for row in latest.values() if not gone(row)]
    return kept, [key for key, row in latest.items() if gone(row)]


def onward(response: Response, here: str | None) -> tuple[str, bool]:
    """The link after this answer, and whether it opens the next round.

    An answer with neither link is no end: what it lacks would be taken for all there is.
    """
    following = response.json.get(NEXT)
    if following is None:
        return str(response.json[DELTA]), True
    if following == here:
        raise ContractError("Microsoft's delta does not go on: its next page is this one")
    return str(following), False
