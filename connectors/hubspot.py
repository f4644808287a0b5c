"""HubSpot: contacts, companies, deals, tickets and owners of a portal (CRM API, version 2026-03).

https://developers.hubspot.com/docs/api-reference/overview
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Account,
    Checkpoint,
    Column,
    Connector,
    ConnectorError,
    Context,
    Delivery,
    Effect,
    Event,
    OAuth2,
    Page,
    RateLimit,
    RateLimitedError,
    Reader,
    Request,
    Response,
    Stream,
    SyncType,
    Webhook,
    column,
)
from connectors._paging import ask, cursor_pages, rows_of
from connectors._signatures import hubspot_signature
from connectors._versions import epoch_ms, epoch_us, find

LIST_PAGE = 100
SEARCH_PAGE = 200
BATCH = 100
# Search is eventually consistent: what was changed just now may not be found yet.
LOOKBACK = timedelta(minutes=5)
OWNERS = "/crm/owners/2026-03"
NEXT = "paging.next.after"

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
    """A stream of CRM objects: listed once, then searched by the time they were changed."""
    names = properties.split()
    listing = cursor_pages(
        Request.get(path, params={"limit": LIST_PAGE, "properties": ",".join(names)}),
        records="results",
        cursor=NEXT,
        param="after",
        begin=lambda context: {"started": epoch_ms(context.now)},
        then=lambda kept: _since(kept["started"]),
    )

    def read(at: Checkpoint, context: Context) -> Reader:
        if "since" not in at:
            yield from listing(at, context)
            return
        since, started = at["since"], at.get("started", epoch_ms(context.now))
        scan = Checkpoint(since=since, started=started, phase="archived")
        if at.get("phase") != "archived":
            search = {"changed": changed, "since": since, "properties": names}
            yield from _changes(f"{path}/search", at.get("after_id"), search, scan)
            at = scan
        yield from _archived(path, at, scan, _since(started))

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for first in range(0, len(keys), BATCH):
            yield from _read_again(path, keys[first : first + BATCH], names)

    return Stream(
        name=name,
        read=read,
        fetch=fetch,
        window=lambda since: _since(epoch_ms(since)),
        # A contact that is erased for privacy is on no list of archived ones: events alone tell.
        hides_deletes=name == "contacts",
        version=epoch_us("updatedAt"),
        columns=_columns(names, changed),
    )


def _read_again(path: str, keys: Sequence[str], names: list[str]) -> Reader:
    inputs = [{"id": key} for key in keys]
    response = yield Request.post(
        f"{path}/batch/read", json={"inputs": inputs, "properties": names}
    )
    rows = rows_of(response, "results")
    found = {row["id"] for row in rows}
    # What a batch leaves out is asked for by itself: only a 404 says that it is gone.
    left = [key for key in keys if key not in found]
    params = {"properties": ",".join(names)}
    answers = yield tuple(
        Request.get(f"{path}/{quote(key, safe='')}", params=params, expect=(404,)) for key in left
    )
    gone = [key for key, answer in zip(left, answers, strict=True) if answer.status == 404]
    rows += [answer.json for answer in answers if answer.status != 404]
    yield Page(rows, Checkpoint(), deleted=gone)


def owners(at: Checkpoint, context: Context) -> Reader:
    """The users of the portal. Few, and without a filter by time: read whole every time."""
    archived = Checkpoint(phase="archived")
    if at.get("phase") != "archived":
        listing = cursor_pages(
            Request.get(OWNERS, params={"limit": LIST_PAGE}),
            records="results",
            cursor=NEXT,
            param="after",
            then=lambda kept: archived,
        )
        yield from listing(at, context)
        at = archived
    yield from _archived(OWNERS, at, archived, Checkpoint())


def _changes(path: str, after_id: str | None, search: dict[str, Any], done: Checkpoint) -> Reader:
    # A query pages no further than 10,000 hits, so each page is a query of its own: by id, from
    # the last id on. A record that is changed meanwhile keeps its place in that order.
    scan = {"since": done["since"], "started": done["started"]}
    while True:
        response = yield Request.post(path, json=_query(after_id, **search), budget="search")
        rows = rows_of(response, "results")
        if not rows or find(response.json, ("paging", "next", "after")) is None:
            yield Page(rows, done)
            return
        after_id = str(max(int(row["id"]) for row in rows))
        yield Page(rows, Checkpoint(scan, after_id=after_id))


def _query(
    after_id: str | None, *, changed: str, since: int, properties: list[str]
) -> dict[str, Any]:
    filters = [{"propertyName": changed, "operator": "GTE", "value": str(since)}]
    if after_id is not None:
        following = str(int(after_id) + 1)
        filters.append({"propertyName": "hs_object_id", "operator": "GTE", "value": following})
    return {
        "filterGroups": [{"filters": filters}],
        "sorts": [{"propertyName": "hs_object_id", "direction": "ASCENDING"}],
        "properties": properties,
        "limit": SEARCH_PAGE,
        "after": "0",
    }


def _archived(path: str, at: Checkpoint, scan: Checkpoint, done: Checkpoint) -> Reader:
    """Deletes: search never finds an archived record, and a listing of them knows no filter."""
    page = at.get("page")
    known = page is None
    while True:
        params: dict[str, str | int | bool] = {"limit": LIST_PAGE, "archived": True}
        if page is not None:
            params["after"] = page
        response = yield from ask(Request.get(path, params=params), resumed=not known)
        ids = [row["id"] for row in rows_of(response, "results")]
        page, known = find(response.json, ("paging", "next", "after")), True
        if page is None:
            yield Page((), done, deleted=ids)
            return
        yield Page((), Checkpoint(scan, page=page), deleted=ids)


def _since(started: int) -> Checkpoint:
    return Checkpoint(since=started - LOOKBACK // timedelta(milliseconds=1))


def _columns(names: list[str], changed: str) -> dict[str, Column]:
    shown = {
        name: column(f"properties.{name}", TYPES.get(name, "text"))
        for name in names
        if name not in ("hs_object_id", "createdate", changed)
    }
    return {
        **shown,
        "created_at": column("createdAt", "timestamptz"),
        "updated_at": column("updatedAt", "timestamptz"),
    }


def classify(response: Response) -> ConnectorError | None:
    """A 429 names the policy that was broken; the rest goes by status."""
    if response.status != 429 or not isinstance(response.json, dict):
        return None
    wait = WAITS.get(str(response.json.get("policyName")), timedelta())
    return RateLimitedError("HubSpot asks us to wait (429)", retry_after=wait)


def events(delivery: Delivery) -> Iterator[Event]:
    """Ids of what changed, whatever happened to it: it is read again, or found to be gone.

    HubSpot does not promise that an eventId is unique; one delivery's are told apart by what else
    names the event, and `attemptNumber`, which changes when it is delivered again, is left out.
    """
    for each in delivery.json:
        kind, _, what = each["subscriptionType"].partition(".")
        stream = STREAM_OF.get(each.get("objectTypeId", kind), "")
        ids = [each["objectId"]]
        if what == "merge":
            ids += [*each.get("mergedObjectIds", ()), each.get("newObjectId")]
        for id_ in dict.fromkeys(str(one) for one in ids if one is not None):
            if stream:
                yield Event(
                    id=f"{each['portalId']}:{each.get('subscriptionId')}:{each['eventId']}:"
                    f"{id_}:{each['occurredAt']}",
                    type=each["subscriptionType"],
                    effect=Effect.READ,
                    account_id=str(each["portalId"]),
                    streams=(stream,),
                    key=id_,
                )


STREAM_OF = {
    "contact": "contacts", "0-1": "contacts",
    "company": "companies", "0-2": "companies",
    "deal": "deals", "0-3": "deals",
    "ticket": "tickets", "0-5": "tickets",
}  # fmt: skip


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """The portal: in the token answer since 2025-08-18, else in the account's details."""
    hub_id = answer.get("hub_id")
    if not str(hub_id).isdecimal():
        response = yield Request.get("/account-info/2026-03/details")
        hub_id = response.json["portalId"]
    return (Account(str(hub_id), name=f"HubSpot {hub_id}"),)


connector = Connector(
    name="hubspot",
    title="HubSpot",
    sync_type=SyncType.PUSH,
    base_url="https://api.hubapi.com",
    auth=OAuth2(
        env="HUBSPOT",
        authorize_url="https://app.hubspot.com/oauth/authorize",
        token_url="https://api.hubapi.com/oauth/2026-03/token",  # noqa: S106
        revoke_url="https://api.hubapi.com/oauth/2026-03/token/revoke",
        scopes=(
            "oauth",
            "crm.objects.contacts.read",
            "crm.objects.companies.read",
            "crm.objects.deals.read",
            "crm.objects.owners.read",
            "tickets",
        ),
        console="https://developers.hubspot.com",
        why={
            "oauth": "asked of every app",
            "crm.objects.contacts.read": "the stream contacts",
            "crm.objects.companies.read": "the stream companies",
            "crm.objects.deals.read": "the stream deals",
            "crm.objects.owners.read": "the stream owners",
            "tickets": "the stream tickets; HubSpot has no scope that only reads them",
        },
        access_token_ttl=timedelta(minutes=30),
        refused=frozenset({"invalid_grant", "BAD_REFRESH_TOKEN"}),
    ),
    rate_limits=(
        # Of an app that is distributed through the marketplace; search is counted on its own.
        RateLimit(110, per=timedelta(seconds=10)),
        RateLimit(5, per=timedelta(seconds=1), name="search"),
    ),
    identify=identify,
    classify=classify,
    webhook=Webhook(
        proven_by="HUBSPOT_CLIENT_SECRET",
        verify=hubspot_signature,
        events=lambda delivery: tuple(events(delivery)),
        covers=("contacts", "companies", "deals", "tickets"),
        setup="In the app's webhook settings set this address as the target, and subscribe to "
        "creation, deletion, merge, restore and change of contacts, companies, deals and tickets.",
        proof="Method, address, body and time. The body names the portal and the records, which "
        "are read again.",
    ),
    follows="search by change time, archived lists",
    judged_by=("hubspot-api-client",),
    gaps=(
        "Associations between objects, and custom properties beyond those of the views.",
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
            read=owners,
            version=epoch_us("updatedAt"),
            snapshot=True,
            columns={
                "email": column("email"),
                "first_name": column("firstName"),
                "last_name": column("lastName"),
                "user_id": column("userId", "bigint"),
                "created_at": column("createdAt", "timestamptz"),
                "updated_at": column("updatedAt", "timestamptz"),
            },
        ),
    ),
)
