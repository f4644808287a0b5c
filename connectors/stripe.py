"""Stripe: what happens in a tenant's own account, and its customers, charges, payment intents,
invoices and subscriptions (Connect; API version 2026-10-28.endive).

https://docs.stripe.com/connect/oauth-standard-accounts, https://docs.stripe.com/api/events

An object does not tell when it was changed. So what is stored is an object as it is read, never the
snapshot that an event holds: that is rendered in the version that was in force when the event was
made, and events tell their times in whole seconds, in which an object may change several times.
Events, in whatever order they come, say which objects are to be read again.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

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
    NotAllowedError,
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
from connectors._paging import ask, onward, rows_of
from connectors._signatures import stripe_signature
from connectors._versions import EPOCH, find

VERSION = "2026-10-28.endive"
PAGE = 100
# Events are kept for 30 days; the margin is for a read that takes its time.
HORIZON = timedelta(days=30) - timedelta(hours=1)
# Clocks differ, and an event may be listed a moment after its time.
OVERLAP = timedelta(minutes=5)
# One account's test data is kept apart from its live data: it is another account to us.
TEST = ":test"

DEAUTHORIZED = "account.application.deauthorized"
# A preview of an invoice that there is not yet.
PREVIEW = "invoice.upcoming"
STREAM_OF = {
    "customer": "customers",
    "charge": "charges",
    "payment_intent": "payment_intents",
    "invoice": "invoices",
    "subscription": "subscriptions",
}

# What comes of a page's rows: records, and keys of those that are gone.
Understood: TypeAlias = Generator[Any, Any, tuple[list[Record], list[str]]]
Understand: TypeAlias = Callable[[list[Record]], Understood]


def objects(
    name: str,
    group: str,
    columns: Mapping[str, Column],
    *,
    listed: Mapping[str, str] | None = None,
    embedded: str = "",
    rest: Callable[[str], Request] | None = None,
) -> Stream:
    """A stream of objects: listed once, then read again whenever an event of the group names them.

    `listed` are parameters of the list; `embedded` is the field with a list inside the object, and
    `rest` asks for what that leaves out.
    """

    def whole(context: Context, rows: list[Record]) -> Understood:
        if rest is None:
            return rows, []
        made = []
        for row in rows:
            made.append((yield from _completed(row, embedded, rest(row["id"]), context)))
        return made, []

    def again(context: Context, keys: Sequence[str]) -> Understood:
        if not keys:
            return [], []
        answers = yield tuple(
            _get(f"/{name}/{quote(key, safe='')}", context, expect=(404,)) for key in keys
        )
        found = {key: answer.json for key, answer in zip(keys, answers, strict=True)}
        gone = [key for key, body in found.items() if _is_gone(body)]
        living = [body for key, body in found.items() if key not in gone]
        records, _ = yield from whole(context, _of_our_mode(living, context))
        return records, gone

    def read(at: Checkpoint, context: Context) -> Reader:
        if "since" not in at:
            params: dict[str, str | int] = {**(listed or {}), "limit": PAGE}
            yield from _pages(f"/{name}", params, at, context, lambda rows: whole(context, rows))
            return
        # Once in a read is enough: what is read is newer than all that it tells of.
        seen: set[str] = set()

        def named(rows: list[Record]) -> Understood:
            keys = [key for stream, key in map(concerned, rows) if stream == name]
            fresh = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(fresh)
            return (yield from again(context, fresh))

        yield from _pages("/events", {"type": f"{group}.*", "limit": PAGE}, at, context, named)

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for first in range(0, len(keys), PAGE):
            records, gone = yield from again(context, keys[first : first + PAGE])
            yield Page(records, Checkpoint(), deleted=gone)

    return Stream(
        name=name,
        read=read,
        fetch=fetch,
        window=lambda since: Checkpoint(since=_seconds(since - OVERLAP)),
        columns={**columns, "created": column("created", "bigint")},
    )


def happened(at: Checkpoint, context: Context) -> Reader:
    """Every event of the last 30 days, as Stripe tells it."""

    def unchanged(rows: list[Record]) -> Understood:
        yield from ()
        return rows, []

    yield from _pages("/events", {"limit": PAGE}, at, context, unchanged)


def _pages(
    path: str,
    params: Mapping[str, str | int],
    at: Checkpoint,
    context: Context,
    understand: Understand,
) -> Reader:
    """A list, the newest first, to its end; with a `since`, only what was created from then on."""
    started, after = at.get("started", _seconds(context.now)), at.get("after")
    kept: dict[str, Any] = {"started": started}
    if "since" in at:
        _check_horizon(at["since"], context)
        kept["since"] = at["since"]
        params = {**params, "created[gte]": at["since"]}
    while True:
        here = params if after is None else {**params, "starting_after": after}
        # The object that a page follows may be deleted, or an event too old, a moment later.
        response = yield from ask(_get(path, context, params=here), resumed=after is not None)
        rows = _of_our_mode(rows_of(response, "data"), context)
        records, gone = yield from understand(rows)
        if not response.json["has_more"]:
            done = Checkpoint(since=started - OVERLAP // timedelta(seconds=1))
            yield Page(records, done, deleted=gone)
            return
        after = onward(after, rows[-1]["id"])
        yield Page(records, Checkpoint({**kept, "after": after}), deleted=gone)


def _completed(
    record: Record, field: str, request: Request, context: Context
) -> Generator[Request, Response, Record]:
    """A list inside an object holds its first rows only; they are all asked for."""
    listed = record[field]
    while listed["has_more"]:
        after = listed["data"][-1]["id"]
        params = {**request.params, "limit": PAGE, "starting_after": after}
        response = yield replace(_get(request.path, context), params=params)
        data = [*listed["data"], *rows_of(response, "data")]
        onward(after, data[-1]["id"])
        listed = {**listed, "data": data, "has_more": response.json["has_more"]}
    return {**record, field: listed}


def _get(path: str, context: Context, **options: Any) -> Request:
    account = context.account_id.removesuffix(TEST)
    return Request.get(path, headers={"stripe-account": account}, **options)


def _is_gone(body: Record) -> bool:
    if "error" not in body:
        return bool(body.get("deleted"))  # a customer leaves its id behind
    if body["error"].get("code") != "resource_missing":
        raise ContractError("Stripe has no such address (404)")
    return True


def _of_our_mode(rows: list[Record], context: Context) -> list[Record]:
    """The rows; ContractError if they are of the other mode, as after a change of our key."""
    live = not context.account_id.endswith(TEST)
    if any(row["livemode"] is not live for row in rows):
        modes = ("live", "test") if live else ("test", "live")
        raise ContractError(
            "this connection is of Stripe's {} mode, and STRIPE_SECRET_KEY of {} mode: nothing of "
            "the other is stored here".format(*modes)
        )
    return rows


def _check_horizon(since: int, context: Context) -> None:
    if _seconds(context.now) - since > HORIZON // timedelta(seconds=1):
        raise CheckpointExpiredError("Stripe tells the events of the last 30 days only")


def _seconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(seconds=1)


def concerned(event: Mapping[str, Any]) -> tuple[str, str]:
    """The stream and the key of the record that an event is about; empty where there is none.

    By the object that it holds, for its type says less: `charge.dispute.created` holds a dispute,
    which names its charge, and `customer.source.updated` a card, which names its customer.
    """
    about, group = event["data"]["object"], event["type"].partition(".")[0]
    if event["type"] == PREVIEW:
        return "", ""
    stream, key = STREAM_OF.get(about.get("object")), about.get("id")
    if stream is None:
        stream, key = STREAM_OF.get(group), about.get(group)
    return (stream, key) if stream and isinstance(key, str) else ("", "")


def events(delivery: Delivery) -> Iterator[Event]:
    """That something happened in an account: it is read again, and so is the list of events.

    Live endpoints are told of test mode, too (unproven, 2026-11), so each event names its mode's
    account. Without an account it is about our own, and billing's; of another form (v2) it is thin.
    """
    body = delivery.json
    if body.get("object") != "event" or not body.get("account"):
        return
    account_id = _account_id(body["account"], live=body["livemode"])
    if body["type"] == DEAUTHORIZED:
        yield Event(
            id=body["id"],
            type=DEAUTHORIZED,
            effect=Effect.REVOKED,
            account_id=account_id,
            at=EPOCH + timedelta(seconds=body["created"]),
        )
        return
    stream, key = concerned(body)
    if stream:
        yield Event(
            id=body["id"],
            type=body["type"],
            effect=Effect.READ,
            account_id=account_id,
            streams=(stream,),
            key=key,
        )
    yield Event(
        id=f"{body['id']}:events",
        type=body["type"],
        effect=Effect.HINT,
        account_id=account_id,
        streams=("events",),
    )


def classify(response: Response) -> ConnectorError | None:
    """What 401, 403 and 429 mean here; older answers told of the rate with a 400."""
    code = find(response.json, ("error", "code"))
    if response.status == 429 and code == "lock_timeout":
        # Somebody else works on that object: no rate of ours.
        return ProviderUnavailableError("Stripe holds the object for another (429)")
    if response.status == 429 or (response.status == 400 and code == "rate_limit"):
        return RateLimitedError("Stripe asks us to wait", retry_after=timedelta())
    # From memory of Stripe's answers (2026-11), so wherever it comes.
    if response.status in (401, 403) and code == "account_invalid":
        return BrokenConnectionError("Stripe says that our access to the account was taken back")
    # Our key is the same for all tenants: none of them can mend it.
    if response.status == 401:
        return ContractError("Stripe does not accept our platform's key, STRIPE_SECRET_KEY (401)")
    if response.status == 403:
        return NotAllowedError("Stripe does not let our platform read this (403)")
    return None


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """The account that consented; its mode is that of the key we asked with."""
    yield from ()
    account, live = answer["stripe_user_id"], answer["livemode"]
    name = f"Stripe {account}" if live else f"Stripe {account} (test mode)"
    return (Account(_account_id(account, live=live), name=name),)


def _account_id(account: str, *, live: bool) -> str:
    return account if live else f"{account}{TEST}"


def _named(columns: Mapping[str, str], **typed: str) -> dict[str, Column]:
    """Columns of text by their paths, and those of another type, which are named as their field."""
    text = {name: column(path) for name, path in columns.items()}
    return {**text, **{name: column(name, type) for name, type in typed.items()}}


CUSTOMERS = _named(
    {"name": "name", "email": "email", "phone": "phone", "currency": "currency"},
    balance="bigint",
    delinquent="boolean",
)
CHARGES = _named(
    {
        "status": "status",
        "currency": "currency",
        "customer_id": "customer",
        "payment_intent_id": "payment_intent",
        "description": "description",
    },
    amount="bigint",
    amount_captured="bigint",
    amount_refunded="bigint",
    captured="boolean",
    disputed="boolean",
    paid="boolean",
    refunded="boolean",
)
PAYMENT_INTENTS = _named(
    {
        "status": "status",
        "currency": "currency",
        "customer_id": "customer",
        "latest_charge_id": "latest_charge",
        "description": "description",
    },
    amount="bigint",
    amount_received="bigint",
    canceled_at="bigint",
)
INVOICES = _named(
    {
        "number": "number",
        "status": "status",
        "currency": "currency",
        "customer_id": "customer",
        "subscription_id": "parent.subscription_details.subscription",
        "billing_reason": "billing_reason",
    },
    amount_due="bigint",
    amount_paid="bigint",
    amount_remaining="bigint",
    total="bigint",
    due_date="bigint",
)
SUBSCRIPTIONS = _named(
    {
        "status": "status",
        "currency": "currency",
        "customer_id": "customer",
        "latest_invoice_id": "latest_invoice",
        "collection_method": "collection_method",
    },
    cancel_at_period_end="boolean",
    canceled_at="bigint",
    ended_at="bigint",
    start_date="bigint",
)
EVENTS = _named(
    {"type": "type", "api_version": "api_version", "object_id": "data.object.id"}, created="bigint"
)

connector = Connector(
    name="stripe",
    title="Stripe",
    sync_type=SyncType.PUSH,
    base_url="https://api.stripe.com/v1",
    headers={"stripe-version": VERSION},
    auth=OAuth2(
        env="STRIPE_CONNECT",
        authorize_url="https://connect.stripe.com/oauth/authorize",
        token_url="https://connect.stripe.com/oauth/token",  # noqa: S106
        revoke_url="https://connect.stripe.com/oauth/deauthorize",
        gives_back="stripe_user_id",
        scopes=("read_only",),
        console="https://dashboard.stripe.com/settings/connect",
        why={"read_only": "every stream; nothing is ever written"},
        # Connect's secret is the platform's own key, and with it every call is made.
        variables=("STRIPE_CONNECT_CLIENT_ID", "STRIPE_SECRET_KEY"),
        bearer="app",
        access_token_ttl=None,
    ),
    # An account may be asked 100 times a second, and 25 times in test mode or of one kind of
    # object; a second of ours is not quite one of Stripe's, so some are left over. Whether a
    # platform's calls count for itself, too, is not documented (2026-11).
    rate_limits=(RateLimit(20, per=timedelta(seconds=1)),),
    identify=identify,
    classify=classify,
    variables={
        "STRIPE_CONNECT_WEBHOOK_SECRET": "The signing secret of the endpoint for connected "
        "accounts, another than billing's; while it is empty, deliveries are refused."
    },
    webhook=Webhook(
        proven_by="STRIPE_CONNECT_WEBHOOK_SECRET",
        verify=stripe_signature,
        events=lambda delivery: tuple(events(delivery)),
        covers=(*STREAM_OF.values(), "events"),
        setup="At https://dashboard.stripe.com/webhooks add an endpoint for events of connected "
        "accounts with this address. Choose all events, or those of customers, charges, payment "
        "intents, invoices and subscriptions, and account.application.deauthorized.",
        proof="Body and time, by a secret of this one endpoint. The body names the account and its "
        "mode; what it names is read again.",
    ),
    follows="the events of the last 30 days, each object read again",
    judged_by=("stripe",),
    gaps=(
        "Objects of other kinds than the five; of all kinds there are the events.",
        "What Stripe sends no event of, such as a payment intent whose metadata alone is changed, "
        "is seen by the next event of the object, or by a full read.",
        "Amounts are in the currency's smallest unit, and times in seconds since 1970, as Stripe "
        "gives them.",
        "A connection that was not synced for 30 days is read anew from its start.",
    ),
    streams=(
        Stream(name="events", read=happened, append_only=True, columns=EVENTS),
        objects("customers", "customer", CUSTOMERS),
        objects("charges", "charge", CHARGES),
        objects("payment_intents", "payment_intent", PAYMENT_INTENTS),
        objects(
            "invoices",
            "invoice",
            INVOICES,
            embedded="lines",
            rest=lambda id: Request.get(f"/invoices/{quote(id, safe='')}/lines"),
        ),
        objects(
            "subscriptions",
            "customer.subscription",
            SUBSCRIPTIONS,
            # Those that were canceled are on no list without it.
            listed={"status": "all"},
            embedded="items",
            rest=lambda id: Request.get("/subscription_items", params={"subscription": id}),
        ),
    ),
)
