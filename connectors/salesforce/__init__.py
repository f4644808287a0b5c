"""Salesforce: accounts, contacts, leads, opportunities, users and custom objects of an org (REST
API, version 67.0).

https://developer.salesforce.com/docs/platform/api-rest/guide

Longer than 300 lines: an org is read by SOQL and by bulk jobs, its deletions by the recycle bin
and a log, its custom objects one by one, and it tells of changes by two feeds, outbound messages
and the Streaming API.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    BrokenConnectionError,
    Calls,
    Connector,
    ConnectorError,
    ContractError,
    NotAllowedError,
    OAuth2,
    ProviderUnavailableError,
    Question,
    RateLimit,
    RateLimitedError,
    Response,
    Revocation,
    SyncType,
    Webhook,
    columns,
    say,
)
from connectors.salesforce import feed as feed
from connectors.salesforce.bulk import BUDGET, unfinished
from connectors.salesforce.custom import CUSTOM_OBJECTS
from connectors.salesforce.events import ACK, events
from connectors.salesforce.query import TooSlowError, TooWideError, eighteen, error_code
from connectors.salesforce.reading import object_stream

# The allowance is of a day, and no answer says when there is room again.
WAIT = timedelta(minutes=2)
# By error code, https://developer.salesforce.com/docs/platform/api-rest/guide/errorcodes.html and
# the exception codes of the SOAP API (2026-11). An org's settings, or the rights of its user:
# nothing that a new consent would mend.
NOT_ALLOWED = {
    "API_DISABLED_FOR_ORG": "the Salesforce org has no access to the API",
    "API_CURRENTLY_DISABLED": "the API is switched off in the Salesforce org for now",
    "INSUFFICIENT_ACCESS": "the Salesforce user lacks the right to read this",
    "INSUFFICIENT_ACCESS_OR_READONLY": "the Salesforce user lacks the right to read this",
    "FUNCTIONALITY_NOT_ENABLED": "the Salesforce org has this function switched off",
    "INVALID_TYPE": "the Salesforce user may not see this object, or there is none",
    "OPERATION_TOO_LARGE": "the Salesforce user sees too few rows of too many: an administrator "
    "has to give it the right to view all data",
    "LOGIN_DURING_RESTRICTED_DOMAIN": "the Salesforce user may not call from our addresses: an "
    "administrator has to allow them",
    "LOGIN_DURING_RESTRICTED_TIME": "the Salesforce user may not call at this time of day: an "
    "administrator has to allow it",
    "ORG_LOCKED": "the Salesforce org is locked: an administrator has to ask Salesforce",
    "TRIAL_EXPIRED": "the trial of the Salesforce org has ended",
}
PASSING = (
    *("SERVER_UNAVAILABLE", "UNABLE_TO_LOCK_ROW", "UNKNOWN_EXCEPTION"),
    "REQUEST_RUNNING_TOO_LONG",
)
# Its edge answers so without a word, and well a moment later (airbytehq/airbyte#36885, 2024-04).
PASSING_STATUSES = (406, 420)
# A token that is over, and an org that is at another address: a new token tells of both. The Bulk
# API says it with 400 (singer-io/tap-salesforce#222, 2026-07).
TOKEN_IS_OVER = ("INVALID_SESSION_ID", "InvalidSessionId", "INVALID_AUTH_HEADER")
MOVED_STATUSES = (301, 302, 303, 307, 308)
# Too many fields, or too long an address.
TOO_WIDE, TOO_LONG = "QUERY_TOO_COMPLICATED", (414, 431)
BUSY = "token request is already being processed"
REFUSALS = {
    "inactive_user": say("the Salesforce user who consented is inactive"),
    "inactive_org": say("the Salesforce org is locked, closed or suspended"),
    "OAUTH_APPROVAL_ERROR_GENERIC": say(
        "the Salesforce org blocks apps that its administrator has not installed: an administrator "
        "has to allow this one"
    ),
}
# Production, sandbox orgs, or an org's own address (My Domain), sandboxes and scratch orgs too.
LOGIN_HOST = (
    r"(login|test)\.salesforce\.com"
    r"|[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z]{1,20})?\.my\.salesforce\.com"
)
_IDENTITY = re.compile(r"https://[^/]+/id/(00D\w{12}(?:\w{3})?)/\w+", re.ASCII)


def classify(response: Response) -> ConnectorError | None:
    """By error code: a 403 may be a spent allowance, a setting of the org, or a lost right."""
    if feed.is_answer(response):
        return feed.classify(response)
    code, status = error_code(response), response.status
    if code == "REQUEST_LIMIT_EXCEEDED":
        return RateLimitedError(
            "Salesforce asks us to wait: its allowance for a day is used up", retry_after=WAIT
        )
    if code == "TXN_SECURITY_METERING_ERROR":
        return NotAllowedError(
            "the Salesforce org's transaction security policies take too long to let us read: "
            "an administrator can exempt the user from them",
            may_pass=True,
        )
    if code == "QUERY_TIMEOUT":
        return TooSlowError("Salesforce took too long to answer a query")
    if code in PASSING or status in PASSING_STATUSES:
        return ProviderUnavailableError(f"Salesforce cannot answer now ({code or status})")
    if code in TOKEN_IS_OVER and status in (400, 401, 403):
        return BrokenConnectionError(f"Salesforce refuses our authorisation ({code})")
    if code == "URL_NOT_RESET" or status in MOVED_STATUSES:
        return BrokenConnectionError(
            "the Salesforce org is no longer where it was",
            lasting=ContractError("Salesforce does not say where the org is now"),
        )
    if code == TOO_WIDE or status in TOO_LONG:
        return TooWideError("Salesforce takes no query of so many fields")
    if code in NOT_ALLOWED and status in (400, 403):
        return NotAllowedError(NOT_ALLOWED[code])
    return unfinished(response) if status == 200 else None


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """What Salesforce refuses at consent or at its token endpoint, in words of its own.

    While another refresh of the same token is under way it says `invalid_grant`, as where the grant
    is over: only its second code, the description, tells them apart (release notes of Winter '25).
    """
    code = str(answer.get("error", ""))
    if code == "rate_limit_exceeded":
        return RateLimitedError("Salesforce asks us to wait: too many logins", retry_after=WAIT)
    if code == "invalid_grant" and answer.get("error_description") == BUSY:
        return ProviderUnavailableError("Salesforce is renewing this token already")
    return BrokenConnectionError(REFUSALS[code]) if code in REFUSALS else None


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The org, and where it is now: `instance_url` of the token answer, never a fixed address."""
    yield from ()
    found = _IDENTITY.fullmatch(str(answer["id"]))
    if found is None:
        raise ContractError("Salesforce did not say which org was connected")
    instance = str(answer["instance_url"]).rstrip("/")
    name = instance.partition("://")[2].removesuffix(".my.salesforce.com")
    return (Account(eighteen(found[1]), f"Salesforce {name}", {"instance_url": instance}),)


ACCOUNTS = columns(
    "name=Name type=Type industry=Industry website=Website phone=Phone "
    "annual_revenue=AnnualRevenue:numeric employees=NumberOfEmployees:bigint "
    "billing_city=BillingCity billing_country=BillingCountry owner_id=OwnerId"
)
CONTACTS = columns(
    "name=Name first_name=FirstName last_name=LastName email=Email phone=Phone job_title=Title "
    "account_id=AccountId owner_id=OwnerId"
)
LEADS = columns(
    "name=Name company=Company email=Email phone=Phone status=Status source=LeadSource "
    "converted=IsConverted:boolean owner_id=OwnerId"
)
OPPORTUNITIES = columns(
    "name=Name account_id=AccountId stage=StageName amount=Amount:numeric "
    "probability=Probability:numeric close_date=CloseDate:date closed=IsClosed:boolean "
    "won=IsWon:boolean owner_id=OwnerId"
)
USERS = columns(
    "username=Username name=Name email=Email job_title=Title department=Department "
    "active=IsActive:boolean"
)

connector = Connector(
    name="salesforce",
    title="Salesforce",
    category="CRM",
    sync_type=SyncType.PUSH,
    base_url="{config[instance_url]}/services/data/v67.0",
    hosts=("*.salesforce.com", "*.force.com", "*.cloudforce.com"),
    auth=OAuth2(
        env="SALESFORCE",
        authorize_url="https://{login_host}/services/oauth2/authorize",
        token_url="https://{login_host}/services/oauth2/token",  # noqa: S106
        revocation=Revocation(
            url="https://{login_host}/services/oauth2/revoke", client_auth="none"
        ),
        console="https://login.salesforce.com (Setup > External Client App Manager)",
        scopes={
            "api": "every stream; Salesforce has no scope that only reads: what the app may see is "
            "what the user who consents may see",
            "refresh_token": "access that lasts",
        },
        pkce=True,
        questions=(
            Question(
                name="login_host",
                title="Where you sign in to Salesforce",
                pattern=LOGIN_HOST,
                hint="login.salesforce.com, test.salesforce.com of a sandbox, or your own address, "
                "acme.my.salesforce.com",
                default="login.salesforce.com",
            ),
            Question(
                name="objects",
                title="What is read",
                pattern=r"all|[a-z]\w{0,79}(,[a-z]\w{0,79})*",
                hint="all, or the names of objects: account,contact,invoice__c",
                default="all",
            ),
            Question(
                name="change_events",
                title="Whether to listen to change events",
                pattern="yes|no",
                hint="yes, where your administrator has selected objects for Change Data Capture; "
                "they count towards your org's allowance of events",
                default="no",
            ),
        ),
        # Where the app is set up to rotate, the former token dies at once; else it stays the same.
        rotates=True,
        # No answer says; two hours is what orgs have unless they set another time. One that ends
        # earlier is noticed by its refusal.
        access_token_ttl=timedelta(hours=2),
        error_from=error_from,
    ),
    rate_limits=(
        # Of an org in a day, shared by all its apps; that of the smallest edition.
        RateLimit(15_000, per=timedelta(days=1)),
        RateLimit(10_000, per=timedelta(days=1), name=BUDGET),
        # Salesforce counts events here, and no calls (2026-11). Of a second, so that what happens
        # fast is heard a moment later, and together.
        RateLimit(10, per=timedelta(seconds=1), name=feed.LISTENING),
    ),
    # A sync takes some twenty calls of an allowance that the org's other apps live on, too.
    floor=timedelta(minutes=15),
    identify=identify,
    classify=classify,
    webhook=Webhook(
        secret_in_url=True,
        events=lambda delivery: tuple(events(delivery)),
        # We cannot know whether an administrator has set one up, and no message reports a deletion.
        covers=(),
        reply=lambda delivery: ACK,
        setup="An administrator of the tenant's org adds an outbound message (Setup > Outbound "
        "Messages) with the connection's own address, `webhook_url` of the connection in our API, "
        "and a flow that sends it when a record is created or changed. No session id is needed.",
        proof="Nothing is signed. The address ends in a secret of one connection, whose org the "
        "body must name. The records that it names are read again.",
    ),
    feed=feed.FEED,
    sync_method="SOQL by change time, Bulk API 2.0, the recycle bin, the log of deletions; told of "
    "changes by change events (Streaming API) or outbound messages, where an org has set them up",
    referees=("simple-salesforce", "aiosfstream-ng"),
    limitations=(
        "Changes are told where the org has set up change events or outbound messages; polls keep "
        "the pace of a vendor that does not tell, for neither says what it covers.",
        "The Pub/Sub API (gRPC), which tells the same change events.",
        "Standard objects other than the five of the streams.",
        "Rows of custom objects that never were in the recycle bin, or left it at once: their "
        "deletion is found within six hours.",
        "Formula fields that change without their row: they are read again with its next change.",
    ),
    streams=(
        object_stream("accounts", "Account", ACCOUNTS),
        object_stream("contacts", "Contact", CONTACTS),
        object_stream("leads", "Lead", LEADS),
        object_stream("opportunities", "Opportunity", OPPORTUNITIES),
        object_stream("users", "User", USERS),
        CUSTOM_OBJECTS,
    ),
)
