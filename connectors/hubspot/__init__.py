"""HubSpot: contacts, companies, deals, tickets and owners of a portal (CRM API, version 2026-03).

https://developers.hubspot.com/docs/api-reference/overview

Longer than 300 lines: the search index is used for ids only, records that were merged or left out
are asked for by themselves, and what is archived has a listing with a rhythm of its own.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Column,
    Connector,
    ConnectorError,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    OAuth2,
    ProviderUnavailableError,
    RateLimit,
    RateLimitedError,
    Request,
    Response,
    Revocation,
    Stream,
    SyncType,
    Webhook,
    ask,
    column,
    columns,
    each_event,
)
from connectors.hubspot.reading import fetcher, owners_reader, reader
from connectors.kernel.looks import looked_until
from connectors.kernel.signatures import hubspot_signature
from connectors.kernel.versions import epoch_us

OWNERS = "/crm/owners/2026-03"
MOVED = "HubSpot is moving this portal to another data centre: it answers again within a day"
# By the policy a 429 names; search answers and some others carry no Retry-After.
WAITS = {
    "SECONDLY": timedelta(seconds=1),
    "TEN_SECONDLY_ROLLING": timedelta(seconds=10),
    "DAILY": timedelta(hours=1),
}

CONTACTS = (
    "email firstname lastname phone company jobtitle lifecyclestage hs_lead_status website city "
    "country createdate lastmodifieddate hs_object_id"
)
COMPANIES = (
    "name domain phone industry city country numberofemployees annualrevenue createdate "
    "hs_lastmodifieddate hs_object_id"
)
DEALS = "dealname amount dealstage pipeline closedate createdate hs_lastmodifieddate hs_object_id"
TICKETS = (
    "subject content hs_pipeline hs_pipeline_stage hs_ticket_priority createdate "
    "hs_lastmodifieddate hs_object_id"
)
TYPES = {
    "amount": "numeric",
    "annualrevenue": "numeric",
    "numberofemployees": "numeric",
    "closedate": "timestamptz",
}


def objects(
    name: str, path: str, properties: str, *, changed: str = "hs_lastmodifieddate"
) -> Stream:
    """A stream of CRM objects."""
    names = properties.split()
    return Stream(
        name=name,
        read=reader(path, names, changed),
        fetch=fetcher(path, names),
        window=looked_until,
        # A contact that is erased for privacy is on no list of archived ones: events alone tell.
        hides_deletes=name == "contacts",
        version=epoch_us("updatedAt"),
        columns=_columns(names, changed),
    )


def _columns(names: list[str], changed: str) -> dict[str, Column]:
    shown = {
        name: column(f"properties.{name}", TYPES.get(name, "text"))
        for name in names
        if name not in ("hs_object_id", "createdate", changed)
    }
    return {
        **shown,
        **columns("created_at=createdAt:timestamptz updated_at=updatedAt:timestamptz"),
    }


def classify(response: Response) -> ConnectorError | None:
    """A 429 names the policy that was broken, a 403 what is missing; 477 is a portal that HubSpot
    moves to another data centre, within a day (PostHog/posthog#64985, 2026-06). Others by status.

    https://developers.hubspot.com/docs/api-reference/error-handling (2026-11)
    """
    body = response.json if isinstance(response.json, dict) else {}
    if response.status == 477:
        return ProviderUnavailableError(MOVED)
    if response.status == 403 and body.get("category") == "MISSING_SCOPES":
        # Which scope HubSpot names is not always the one that is missing.
        return NotAllowedError(
            "HubSpot does not let the app read this: the person who connected may not, the plan of "
            "the portal does not include it, or it was not allowed when it was connected"
        )
    if response.status != 429 or not body:
        return None
    wait = WAITS.get(str(body.get("policyName")), timedelta())
    return RateLimitedError("HubSpot asks us to wait (429)", retry_after=wait)


def error_from(answer: Mapping[str, Any]) -> ConnectorError | None:
    """A portal that is moved gives no token either; the grant is as good as before."""
    if answer.get("category") == "MIGRATION_IN_PROGRESS":
        return ProviderUnavailableError(MOVED)
    return None


def events(delivery: Delivery) -> Iterator[Event]:
    """Ids of what changed, whatever happened to it: it is read again, or found to be gone."""
    return each_event(delivery.json, _events, account=lambda each: each["portalId"])


def _events(each: Mapping[str, Any]) -> Iterator[Event]:
    """HubSpot does not promise that an eventId is unique; we tell one delivery's events apart
    by what else names them, and leave out `attemptNumber`, which changes with each attempt.

    An event of an association names two objects, and changes neither.
    """
    kind, _, what = each["subscriptionType"].partition(".")
    stream = STREAM_OF.get(each.get("objectTypeId", kind), "")
    if not stream or what == "associationChange":
        return
    ids = [each["objectId"]]
    if what == "merge":
        # A new record may take the place of both; no other event reports changes of properties.
        ids += [
            each.get("primaryObjectId"),
            *each.get("mergedObjectIds", ()),
            each.get("newObjectId"),
        ]
    # What a person wants forgotten is forgotten: a record that is only deleted keeps its content.
    effect = Effect.ERASE if what == "privacyDeletion" else Effect.READ
    for id_ in dict.fromkeys(int(one) for one in ids if one is not None):
        yield Event(
            id=f"{each['portalId']}:{each.get('subscriptionId')}:{each['eventId']}:"
            f"{id_}:{each['occurredAt']}",
            type=each["subscriptionType"],
            effect=effect,
            account_id=str(each["portalId"]),
            streams=(stream,),
            key=str(id_),
        )


STREAM_OF = {
    "contact": "contacts", "0-1": "contacts",
    "company": "companies", "0-2": "companies",
    "deal": "deals", "0-3": "deals",
    "ticket": "tickets", "0-5": "tickets",
}  # fmt: skip


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The portal: in the token answer since 2025-08-18, else in the account's details."""
    hub_id = answer.get("hub_id")
    if not str(hub_id).isdecimal():
        response = yield from ask(Request.get("/account-info/2026-03/details"))
        hub_id = response.json["portalId"]
    return (Account(str(hub_id), name=f"HubSpot {hub_id}"),)


connector = Connector(
    name="hubspot",
    title="HubSpot",
    category="CRM",
    sync_type=SyncType.PUSH,
    base_url="https://api.hubapi.com",
    auth=OAuth2(
        env="HUBSPOT",
        authorize_url="https://app.hubspot.com/oauth/authorize",
        token_url="https://api.hubapi.com/oauth/2026-03/token",  # noqa: S106
        revocation=Revocation.rfc7009("https://api.hubapi.com/oauth/2026-03/token/revoke"),
        console="https://developers.hubspot.com",
        scopes={
            "oauth": "asked of every app",
            "crm.objects.contacts.read": "the stream contacts",
            "crm.objects.companies.read": "the stream companies",
            "crm.objects.deals.read": "the stream deals",
            "crm.objects.owners.read": "the stream owners",
            "tickets": "the stream tickets; HubSpot has no scope that only reads them",
        },
        access_token_ttl=timedelta(minutes=30),
        refused=frozenset({"invalid_grant", "BAD_REFRESH_TOKEN"}),
        error_from=error_from,
    ),
    rate_limits=(
        # Of an app that is distributed through the marketplace; search is counted on its own.
        RateLimit(110, per=timedelta(seconds=10)),
        RateLimit(5, per=timedelta(seconds=1), name="search"),
    ),
    identify=identify,
    classify=classify,
    webhook=Webhook(
        verified_by="HUBSPOT_CLIENT_SECRET",
        verify=hubspot_signature,
        events=lambda delivery: tuple(events(delivery)),
        covers=("contacts", "companies", "deals", "tickets"),
        setup="In the app's webhook settings set this address as the target, and subscribe to "
        "creation, deletion, merge, restore and change of contacts, companies, deals and tickets.",
        proof="Method, address, body and time. The body names the portal and the records, which "
        "are read again.",
    ),
    sync_method="search by change time, records by id, lists of archived ones",
    referees=("hubspot-api-client",),
    limitations=(
        "Associations between objects, and custom properties beyond those of the views.",
        "Archived records of a portal that has more than five hundred of a kind: where no webhook "
        "tells of them they are found within a day.",
        "Changes of owners are not told of by webhooks: they are polled.",
    ),
    streams=(
        objects("contacts", "/crm/objects/2026-03/contacts", CONTACTS, changed="lastmodifieddate"),
        objects("companies", "/crm/objects/2026-03/companies", COMPANIES),
        # In the dated paths a deal goes by its type's number.
        objects("deals", "/crm/objects/2026-03/0-3", DEALS),
        objects("tickets", "/crm/objects/2026-03/tickets", TICKETS),
        Stream(
            name="owners",
            read=owners_reader(OWNERS),
            version=epoch_us("updatedAt"),
            snapshot=True,
            columns=columns(
                "email first_name=firstName last_name=lastName "
                "user_id=userIdIncludingInactive:bigint archived:boolean "
                "created_at=createdAt:timestamptz updated_at=updatedAt:timestamptz"
            ),
        ),
    ),
)
