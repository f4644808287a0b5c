"""QuickBooks Online: a company's customers, invoices, payments, bills and accounts, and the feed
of their changes (Accounting API v3, minor version 75).

https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api
"""

from collections.abc import Generator, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors import (
    Account,
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Connector,
    ConnectorError,
    Context,
    ContractError,
    Delivery,
    Effect,
    Event,
    OAuth2,
    Page,
    ProviderUnavailableError,
    RateLimit,
    RateLimitedError,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Webhook,
    column,
)
from connectors._signatures import hmac_signature
from connectors._versions import epoch_us, parse_time

API = "https://quickbooks.api.intuit.com/v3/company"
PAGE = 1000
# Change data capture: at most this many objects in an answer, over all entities it was asked for.
MOST_CHANGES = 1000
# It looks back 30 days; the margin is for the time until our request is there.
HORIZON = timedelta(days=30) - timedelta(minutes=10)
# A change is committed a moment after the time it is stamped with.
OVERLAP = timedelta(minutes=5)
# Rows that share one LastUpdatedTime are paged by position; a row that is changed meanwhile leaves
# them, and each that follows moves up by one.
SHIFT = 100

ENTITIES = ("Customer", "Invoice", "Payment", "Bill", "Account")
# These are never deleted, only made inactive, and are then hidden unless asked for.
NAME_LISTS = ("Customer", "Account")

REFUSED = ("3200", "3100")
THROTTLED = ("3001", "003001")


def entity_stream(name: str, entity: str, columns: Mapping[str, Column]) -> Stream:
    """Rows of one entity: queried once, then followed by change data capture."""

    def read(at: Checkpoint, context: Context) -> Reader:
        if "since" not in at:
            yield from _backfill(entity, at)
            return
        until = at.get("until")
        if until is None:
            _check_horizon(at, context)
            response = yield _captured((entity,), at["since"])
            rows = [row for _, row in _changes(response)]
            until = _before(response)
            deleted = [row["Id"] for row in rows if _is_deleted(row)]
            if len(rows) < MOST_CHANGES:
                kept = [row for row in rows if not _is_deleted(row)]
                yield Page(kept, Checkpoint(since=until), deleted=deleted)
                return
            if entity not in NAME_LISTS:
                # Which others were deleted is not to be had from a query.
                raise CheckpointExpiredError(f"more {name} changed than QuickBooks can tell")
            at = Checkpoint(since=at["since"], until=until, start=at["since"])
            yield Page((), at, deleted=deleted)
        scan = {"since": at["since"], "until": until}
        yield from _scan(entity, at, scan, Checkpoint(since=until))

    return Stream(
        name=name,
        read=read,
        key="Id",
        version=epoch_us("MetaData.LastUpdatedTime"),
        columns={
            **columns,
            "created_at": column("MetaData.CreateTime", "timestamptz"),
            "updated_at": column("MetaData.LastUpdatedTime", "timestamptz"),
        },
    )


def change_data_capture(at: Checkpoint, context: Context) -> Reader:
    """The latest state of all that changed in the last 30 days, deletions as their stubs."""
    since = max(at.get("since", ""), _iso(context.now - HORIZON))
    pending: list[list[str]] = at.get("pending", [list(ENTITIES)])
    until = at.get("until")
    while pending:
        group, rest = pending[0], pending[1:]
        if "start" not in at:
            response = yield _captured(group, since)
            until = until or _before(response)
            rows = [_tagged(entity, row) for entity, row in _changes(response)]
            full = len(rows) >= MOST_CHANGES
            if full and len(group) > 1:
                half = len(group) // 2
                pending = [group[:half], group[half:], *rest]
                continue
            after = _feed(since, until, rest)
            if not full:
                yield Page(rows, after)
                pending = rest
                continue
            at = Checkpoint(since=since, until=until, pending=pending, start=since)
            yield Page(rows, at)
        scan = {"since": since, "until": until, "pending": pending}
        yield from _scan(group[0], at, scan, _feed(since, until, rest), tagged=True)
        pending, at = rest, Checkpoint()


def _feed(since: str, until: str | None, pending: list[list[str]]) -> Checkpoint:
    if pending:
        return Checkpoint(since=since, until=until, pending=pending)
    return Checkpoint(since=until)


def _backfill(entity: str, at: Checkpoint) -> Reader:
    """All rows. What changes while they are read is found by the time before the first page."""
    until = at.get("until")
    if until is None:
        response = yield _select(entity, None, 1)
        until = _before(response)
        rows = _rows(response, entity)
        if len(rows) < PAGE:
            yield Page(rows, Checkpoint(since=until))
            return
        at = Checkpoint(until=until, **_onward(rows, None, 1))
        yield Page(rows, at)
    yield from _scan(entity, at, {"until": until}, Checkpoint(since=until))


def _scan(
    entity: str,
    at: Checkpoint,
    scan: Mapping[str, Any],
    done: Checkpoint,
    *,
    tagged: bool = False,
) -> Reader:
    """Rows in the order of their last change, each page from the last time seen on.

    A row that is changed meanwhile moves to the end, where it is read again; none is skipped, as
    it would be when counting positions.
    """
    start, position = at["start"], at.get("position", 1)
    while True:
        rows = _rows((yield _select(entity, start, position)), entity)
        page = [_tagged(entity, row) for row in rows] if tagged else rows
        if len(rows) < PAGE:
            yield Page(page, done)
            return
        onward = _onward(rows, start, position)
        start, position = onward["start"], onward["position"]
        yield Page(page, Checkpoint({**scan, **onward}))


def _onward(rows: list[Record], start: str | None, position: int) -> dict[str, Any]:
    last = rows[-1]["MetaData"]["LastUpdatedTime"]
    if start is not None and parse_time(last) == parse_time(start):
        return {"start": start, "position": position + len(rows) - SHIFT}
    return {"start": last, "position": 1}


def _select(entity: str, start: str | None, position: int) -> Request:
    conditions = []
    if entity in NAME_LISTS:
        conditions.append("Active in (true, false)")
    if start is not None:
        # Parsed, because it is the vendor's text, and stands in a query of ours.
        time = parse_time(start).isoformat()
        conditions.append(f"MetaData.LastUpdatedTime >= '{time}'")
    where = f" where {' and '.join(conditions)}" if conditions else ""
    order = f"orderby MetaData.LastUpdatedTime startposition {position} maxresults {PAGE}"
    query = f"select * from {entity}{where} {order}"  # noqa: S608 - Intuit's query language
    return Request.get("/query", params={"query": query})


def _captured(entities: list[str] | tuple[str, ...], since: str) -> Request:
    return Request.get("/cdc", params={"entities": ",".join(entities), "changedSince": since})


def _rows(response: Response, entity: str) -> list[Record]:
    # The entity's key is missing where there are no rows.
    rows: list[Record] = response.json["QueryResponse"].get(entity, [])
    return rows


def _changes(response: Response) -> Iterator[tuple[str, Record]]:
    """Each changed row with its entity. Both levels repeat, and hold counters beside the rows."""
    for capture in response.json["CDCResponse"]:
        for group in capture["QueryResponse"]:
            for entity in ENTITIES:
                for row in group.get(entity, ()):
                    yield entity, row


def _is_deleted(row: Record) -> bool:
    return row.get("status") == "Deleted"


def _tagged(entity: str, row: Record) -> Record:
    return {**row, "entity": entity}


def _before(response: Response) -> str:
    """A time at which all that happened is in the answer, by the vendor's clock where it tells."""
    told = response.json.get("time")
    return _iso((parse_time(told) if told else response.sent_at) - OVERLAP)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _check_horizon(at: Checkpoint, context: Context) -> None:
    if context.now - parse_time(at["since"]) > HORIZON:
        raise CheckpointExpiredError("QuickBooks tells the changes of the last 30 days only")


def classify(response: Response) -> ConnectorError | None:
    """Faults, which come in two spellings, with any status, 200 too."""
    if response.status == 429:
        return _throttled()
    for fault in _faults(response.json):
        errors = fault.get("Error") or fault.get("error") or [{}]
        code = str(errors[0].get("code", ""))
        if code in THROTTLED:
            return _throttled()
        if code in REFUSED:
            return BrokenConnectionError(f"QuickBooks refuses our authorisation (fault {code})")
        if response.status < 300 and fault.get("type") == "SystemFault":
            return ProviderUnavailableError("QuickBooks cannot answer now (a system fault)")
        if response.status < 300 or response.status in (400, 404, 422):
            number = code if code.isdecimal() else "without a code"
            return ContractError(f"QuickBooks refused a request (fault {number})")
    return None


def _throttled() -> RateLimitedError:
    # No answer says how long; Intuit counts by the minute.
    return RateLimitedError("QuickBooks asks us to wait", retry_after=timedelta(seconds=60))


def _faults(body: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(body, list):
        for item in body:
            yield from _faults(item)
    elif isinstance(body, dict):
        for name in ("Fault", "fault"):
            if isinstance(body.get(name), dict):
                yield body[name]
        for name in ("CDCResponse", "QueryResponse"):
            if isinstance(body.get(name), list):
                yield from _faults(body[name])


STREAM_OF = {
    "customer": "customers",
    "invoice": "invoices",
    "payment": "payments",
    "bill": "bills",
    "account": "accounts",
}


def events(delivery: Delivery) -> Iterator[Event]:
    """That an entity changed: CloudEvents, or the form before them (both are sent in 2026).

    They tell ids only, and of a deletion there is nothing to read: change data capture tells both.
    """
    body = delivery.json
    if isinstance(body, list):
        for each in body:
            entity = each["type"].split(".")[1]
            yield from _hint(each["intuitaccountid"], each["type"], entity, each["id"])
        return
    for company in body["eventNotifications"]:
        realm = company["realmId"]
        for each in company["dataChangeEvent"]["entities"]:
            told = [each["name"], each["id"], each["operation"], each["lastUpdated"]]
            kind = f"{each['name']}.{each['operation']}"
            yield from _hint(realm, kind, each["name"], ":".join([realm, *told]))


def _hint(realm: str, kind: str, entity: str, event_id: str) -> Iterator[Event]:
    stream = STREAM_OF.get(entity.lower())
    if stream is not None:
        yield Event(
            id=event_id,
            type=kind,
            effect=Effect.HINT,
            account_id=realm,
            streams=(stream, "change_data_capture"),
        )


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """The company that the redirect names. A browser brought it, so the token has to open it."""
    realm = callback.get("realmId", "")
    if not (realm.isascii() and realm.isdecimal()):
        raise ContractError("QuickBooks did not say which company was connected (realmId)")
    query = "select * from Customer startposition 1 maxresults 1"
    yield Request.get(f"{API}/{realm}/query", params={"query": query})
    return (Account(realm, name=f"QuickBooks company {realm}"),)


def _named(columns: dict[str, str], **typed: Column) -> dict[str, Column]:
    return {**{name: column(path) for name, path in columns.items()}, **typed}


CUSTOMERS = _named(
    {
        "display_name": "DisplayName",
        "given_name": "GivenName",
        "family_name": "FamilyName",
        "company_name": "CompanyName",
        "email": "PrimaryEmailAddr.Address",
        "phone": "PrimaryPhone.FreeFormNumber",
        "currency": "CurrencyRef.value",
    },
    balance=column("Balance", "numeric"),
    active=column("Active", "boolean"),
)
SALES = {
    "number": "DocNumber",
    "customer_id": "CustomerRef.value",
    "customer_name": "CustomerRef.name",
    "currency": "CurrencyRef.value",
}
INVOICES = _named(
    SALES,
    date=column("TxnDate", "date"),
    due_date=column("DueDate", "date"),
    total=column("TotalAmt", "numeric"),
    balance=column("Balance", "numeric"),
)
PAYMENTS = _named(
    {name: path for name, path in SALES.items() if name != "number"},
    date=column("TxnDate", "date"),
    total=column("TotalAmt", "numeric"),
    unapplied=column("UnappliedAmt", "numeric"),
)
BILLS = _named(
    {
        "number": "DocNumber",
        "vendor_id": "VendorRef.value",
        "vendor_name": "VendorRef.name",
        "currency": "CurrencyRef.value",
    },
    date=column("TxnDate", "date"),
    due_date=column("DueDate", "date"),
    total=column("TotalAmt", "numeric"),
    balance=column("Balance", "numeric"),
)
ACCOUNTS = _named(
    {
        "name": "Name",
        "full_name": "FullyQualifiedName",
        "account_type": "AccountType",
        "account_subtype": "AccountSubType",
        "classification": "Classification",
        "currency": "CurrencyRef.value",
    },
    balance=column("CurrentBalance", "numeric"),
    active=column("Active", "boolean"),
)

connector = Connector(
    name="quickbooks",
    title="QuickBooks Online",
    sync_type=SyncType.PULL,
    base_url=f"{API}/{{account_id}}",
    params={"minorversion": 75},
    auth=OAuth2(
        env="QUICKBOOKS",
        authorize_url="https://appcenter.intuit.com/connect/oauth2",
        token_url="https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",  # noqa: S106
        revoke_url="https://developer.api.intuit.com/v2/oauth2/tokens/revoke",
        revoke_body="json",
        scopes=("com.intuit.quickbooks.accounting",),
        console="https://developer.intuit.com",
        why={
            "com.intuit.quickbooks.accounting": "every stream; Intuit has no scope that only reads"
        },
        client_auth="basic",
        rotates=True,
        grace=timedelta(hours=24),
        lapses_after=timedelta(days=100),
    ),
    rate_limits=(
        # 800 a minute over all of Intuit's endpoints is the wider limit, and so never the first.
        RateLimit(500, per=timedelta(minutes=1)),
        RateLimit(10, per=timedelta(seconds=1)),
    ),
    identify=identify,
    classify=classify,
    variables={
        "QUICKBOOKS_WEBHOOK_SECRET": "The app's webhook verifier token; while it is empty, "
        "deliveries are refused."
    },
    webhook=Webhook(
        proven_by="QUICKBOOKS_WEBHOOK_SECRET",
        verify=hmac_signature("intuit-signature", encoding="base64"),
        events=lambda delivery: tuple(events(delivery)),
        covers=(*STREAM_OF.values(), "change_data_capture"),
        setup="In the app's webhooks set this address, and tick every operation of customers, "
        "invoices, payments, bills and accounts.",
        proof="The body, without a time; not the address. The body names the company, and is a "
        "hint to read what changed, and no more.",
    ),
    follows="Change Data Capture, queries",
    judged_by=("python-quickbooks", "intuit-oauth"),
    gaps=(
        "Entities other than the five of the streams.",
        "More than a thousand changes of invoices, payments or bills between two syncs cost a full "
        "read: Intuit does not tell which of them were deleted.",
    ),
    streams=(
        Stream(
            name="change_data_capture",
            read=change_data_capture,
            key=lambda record: f"{record['entity']}:{record['Id']}",
            version=epoch_us("MetaData.LastUpdatedTime"),
            append_only=True,
            columns={
                "entity": column("entity"),
                "entity_id": column("Id"),
                "status": column("status"),
                "updated_at": column("MetaData.LastUpdatedTime", "timestamptz"),
            },
        ),
        entity_stream("customers", "Customer", CUSTOMERS),
        entity_stream("invoices", "Invoice", INVOICES),
        entity_stream("payments", "Payment", PAYMENTS),
        entity_stream("bills", "Bill", BILLS),
        entity_stream("accounts", "Account", ACCOUNTS),
    ),
)
