"""Stripe: what happens in a tenant's own account, and its customers, charges, payment intents,
invoices and subscriptions (Connect; API version 2026-10-28.endive).

https://docs.stripe.com/connect/oauth-standard-accounts, https://docs.stripe.com/api/events

An object does not tell when it was changed. So what is stored is an object as it is read, never the
snapshot that an event holds: that is rendered in the version that was in force when the event was
made, and events tell their times in whole seconds, in which an object may change several times.
Events, in whatever order they come, say which objects are to be read again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Account,
    BrokenConnectionError,
    Calls,
    Checkpoint,
    CheckpointExpiredError,
    Column,
    Connector,
    ConnectorError,
    Context,
    ContractError,
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
    Steps,
    Stream,
    SyncType,
    Webhook,
    ask,
    ask_all,
    column,
)
from connectors.kernel.paging import ask_page, onward, rows_of
from connectors.kernel.signatures import stripe_signature
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import EPOCH, find
from connectors.stripe.events import STREAM_OF, TEST, account_id, concerned, events

VERSION = "2026-10-28.endive"
PAGE = 100
# Events are kept for 30 days; the margin is for a read that takes its time.
HORIZON = timedelta(days=30) - timedelta(hours=1)
# Clocks differ, and an event may be listed a moment after its time.
OVERLAP = timedelta(minutes=5)

# What comes of a list's rows: a page, whose checkpoint is not known yet.
Understand: TypeAlias = Callable[[list[Record]], Steps[Page]]


def objects(
    name: str,
    groups: tuple[str, ...],
    columns: Mapping[str, Column],
    *,
    listed: Mapping[str, str] | None = None,
    embedded: str = "",
    rest: Callable[[str], Request] | None = None,
) -> Stream:
    """A stream of objects: listed once, then read again whenever an event of the groups names them.

    `listed` are parameters of the list; `embedded` is the field with a list inside the object, and
    `rest` asks for what that leaves out.
    """

    def whole(rows: list[Record], context: Context) -> Steps[Page]:
        """The rows, complete; those that were deleted meanwhile are unsettled."""
        if rest is None:
            return Page(rows, Checkpoint())
        made, vanished = [], []
        for row in rows:
            done = yield from _completed(row, embedded, rest(row["id"]), context)
            if done is None:
                vanished.append(row["id"])
            else:
                made.append(done)
        return Page(made, Checkpoint(), unsettled=vanished)

    def again(keys: Sequence[str], context: Context, *, is_checked: bool = False) -> Steps[Page]:
        """The objects as they are now; those that Stripe does not have are unsettled. If it
        `is_checked` the same read has seen of which mode our key is."""
        if not keys:
            return Page((), Checkpoint())
        answers = yield from ask_all(
            _get(f"/{name}/{quote(key, safe='')}", context, expect=(404,)) for key in keys
        )
        found = {key: answer.json for key, answer in zip(keys, answers, strict=True)}
        missing = [key for key, body in found.items() if _is_missing(body)]
        # Of a deleted customer its id is left.
        deleted = [key for key, body in found.items() if body.get("deleted")]
        living = [body for key, body in found.items() if key not in (*missing, *deleted)]
        if living or not is_checked:
            yield from _check_mode(living, context)
        page = yield from whole(living, context)
        return replace(page, deleted=deleted, unsettled=[*missing, *page.unsettled])

    def read(at: Checkpoint, context: Context) -> Reader:
        if "since" not in at:
            yield from _pages(
                f"/{name}", (listed or {},), at, context, lambda rows: whole(rows, context)
            )
            return
        # Once in a read is enough: what is read is newer than all that it tells of.
        seen: set[str] = set()

        def named(rows: list[Record]) -> Steps[Page]:
            about = [concerned(event) for event in rows]
            keys = dict.fromkeys(key for stream, key in about if stream == name)
            fresh = [key for key in keys if key not in seen]
            page = yield from again(fresh, context, is_checked=bool(seen))
            seen.update(fresh)
            # What Stripe names and does not have may not be readable yet, unless it was deleted.
            over = {
                row["data"]["object"].get("id") for row in rows if row["type"].endswith(".deleted")
            }
            gone = [key for key in page.unsettled if key in over]
            unsettled = [key for key in page.unsettled if key not in over]
            return replace(page, deleted=[*page.deleted, *gone], unsettled=unsettled)

        lists = [{"type": f"{group}.*"} for group in groups]
        yield from _pages("/events", lists, at, context, named)

    def fetch(keys: Sequence[str], context: Context) -> Reader:
        for first in range(0, len(keys), PAGE):
            chunk = keys[first : first + PAGE]
            page = yield from again(chunk, context, is_checked=first > 0)
            yield replace(page, deleted=[*page.deleted, *page.unsettled], unsettled=())

    return Stream(
        name=name,
        read=read,
        fetch=fetch,
        window=lambda since: Checkpoint(since=_seconds(since - OVERLAP)),
        columns={**columns, "created": column("created", "bigint")},
    )


def happened(at: Checkpoint, context: Context) -> Reader:
    """Every event of the last 30 days, as Stripe tells it."""

    def unchanged(rows: list[Record]) -> Steps[Page]:
        yield from ()
        return Page(rows, Checkpoint())

    yield from _pages("/events", ({},), at, context, unchanged)


def _pages(
    path: str,
    lists: Sequence[Mapping[str, str]],
    at: Checkpoint,
    context: Context,
    understand: Understand,
) -> Reader:
    """Lists of one path, one after the other, each the newest first and to its end; with a `since`,
    only what was created from then on."""
    since, started = at.get("since"), at.get("started")
    place, after = at.get("list", 0), at.get("after")
    if since is not None:
        _check_horizon(since, context)
    is_of_our_mode = False
    while True:
        params: dict[str, str | int] = {**lists[place], "limit": PAGE}
        if since is not None:
            params["created[gte]"] = since
        if after is not None:
            params["starting_after"] = after
        # The object that a page follows may be deleted, or an event too old, a moment later.
        response = yield from ask_page(
            _get(path, context, params=params), resumed=after is not None
        )
        if started is None:
            # By Stripe's clock: ours may be ahead, and what happens meanwhile would be lost.
            started = _seconds(min(context.now, vendor_time(response)))
        rows = rows_of(response, "data")
        is_last = not response.json["has_more"] and place + 1 == len(lists)
        if rows or (is_last and not is_of_our_mode):
            yield from _check_mode(rows, context)
            is_of_our_mode = True
        page = yield from understand(rows)
        if is_last:
            done = Checkpoint(since=started - OVERLAP // timedelta(seconds=1))
            yield replace(page, checkpoint=done)
            return
        if response.json["has_more"]:
            after = onward(after, rows[-1]["id"])
        else:
            place, after = place + 1, None
        here = {"started": started, "since": since, "list": place, "after": after}
        saved = {name: value for name, value in here.items() if value not in (None, 0)}
        yield replace(page, checkpoint=Checkpoint(saved))


def _completed(
    record: Record, field: str, request: Request, context: Context
) -> Calls[Record | None]:
    """A list inside an object holds its first rows only; they are all asked for. None where the
    object is deleted meanwhile."""
    listed = record[field]
    while listed["has_more"]:
        after = listed["data"][-1]["id"]
        params = {**request.params, "limit": PAGE, "starting_after": after}
        response = yield from ask(
            replace(_get(request.path, context, expect=(404,)), params=params)
        )
        if _is_missing(response.json):
            return None
        data = [*listed["data"], *rows_of(response, "data")]
        onward(after, data[-1]["id"])
        listed = {**listed, "data": data, "has_more": response.json["has_more"]}
    return {**record, field: listed}


def _get(path: str, context: Context, **options: Any) -> Request:
    account = context.account_id.removesuffix(TEST)
    return Request.get(path, headers={"stripe-account": account}, **options)


def _is_missing(body: Record) -> bool:
    """Whether Stripe has no such object; ContractError if it has no such address."""
    if "error" not in body:
        return False
    if body["error"].get("code") != "resource_missing":
        raise ContractError("Stripe has no such address (404)")
    return True


def _check_mode(rows: Sequence[Record], context: Context) -> Calls[None]:
    """ContractError if the rows are of the other mode, as after a change of our key.

    Nothing proves nothing: a key of the other mode sees no object of this one, and what it does not
    see would count as deleted. So where there are no rows, the balance is asked, which tells its
    mode (https://docs.stripe.com/api/balance/balance_object, 2026-11).
    """
    live = not context.account_id.endswith(TEST)
    objects = rows or [(yield from ask(_get("/balance", context))).json]
    if any(row["livemode"] is not live for row in objects):
        modes = ("live", "test") if live else ("test", "live")
        raise ContractError(
            "this connection is of Stripe's {} mode, and STRIPE_SECRET_KEY of {} mode: nothing of "
            "the other is stored here".format(*modes)
        )


def _check_horizon(since: int, context: Context) -> None:
    if _seconds(context.now) - since > HORIZON // timedelta(seconds=1):
        raise CheckpointExpiredError("Stripe tells the events of the last 30 days only")


def _seconds(at: datetime) -> int:
    return (at - EPOCH) // timedelta(seconds=1)


def classify(response: Response) -> ConnectorError | None:
    """Who must act, by status and code (https://docs.stripe.com/error-low-level, 2026-11); older
    answers report an exceeded rate with a 400."""
    code = find(response.json, ("error", "code"))
    if response.status == 429 and code == "lock_timeout":
        # Somebody else works on that object: no rate of ours.
        return ProviderUnavailableError("Stripe holds the object for another (429)")
    if response.status == 429 or (response.status == 400 and code == "rate_limit"):
        return RateLimitedError("Stripe asks us to wait", retry_after=timedelta())
    # Somebody else works on the object, or another system failed; or Stripe says that it passes.
    may_pass = response.headers.get("stripe-should-retry") == "true"
    if response.status in (409, 424) or (response.status >= 400 and may_pass):
        return ProviderUnavailableError(f"Stripe cannot answer now ({response.status})")
    # From memory of Stripe's answers (2026-11), so wherever it comes.
    if response.status in (401, 403) and code == "account_invalid":
        return BrokenConnectionError("Stripe says that our access to the account was taken back")
    # Our key is the same for all tenants: none of them can mend it.
    if response.status == 401:
        return ContractError("Stripe does not accept our platform's key, STRIPE_SECRET_KEY (401)")
    if response.status == 403:
        return NotAllowedError("Stripe does not let our platform read this (403)")
    return None


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The account that consented; its mode is that of the key we asked with."""
    yield from ()
    account, live = answer["stripe_user_id"], answer["livemode"]
    name = f"Stripe {account}" if live else f"Stripe {account} (test mode)"
    return (Account(account_id(account, live=live), name=name),)


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
        console="https://dashboard.stripe.com/settings/connect",
        scopes={"read_only": "every stream; nothing is ever written"},
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
        verified_by="STRIPE_CONNECT_WEBHOOK_SECRET",
        verify=stripe_signature,
        events=lambda delivery: tuple(events(delivery)),
        covers=(*STREAM_OF.values(), "events"),
        setup="At https://dashboard.stripe.com/webhooks add an endpoint for events of connected "
        "accounts with this address. Choose all events, or those of customers, charges, refunds, "
        "payment intents, invoices, invoice items and subscriptions, and "
        "account.application.deauthorized.",
        proof="Body and time, by a secret of this one endpoint. The body names the account and its "
        "mode; what it names is read again.",
    ),
    sync_method="the events of the last 30 days, each object read again",
    referees=("stripe",),
    limitations=(
        "Objects of other kinds than the five; of all kinds there are the events.",
        "What Stripe sends no event of, such as a payment intent whose metadata alone is changed, "
        "is seen by the next event of the object, or by a full read.",
        "Amounts are in the currency's smallest unit, and times in seconds since 1970, as Stripe "
        "gives them.",
        "A connection that was not synced for 30 days is read anew from its start.",
        "A restricted key of the platform needs to read balances, too: they tell its mode.",
    ),
    streams=(
        Stream(name="events", read=happened, append_only=True, columns=EVENTS),
        objects("customers", ("customer",), CUSTOMERS),
        # What was refunded of a charge moves with the events of its refunds, too.
        objects("charges", ("charge", "refund"), CHARGES),
        objects("payment_intents", ("payment_intent",), PAYMENT_INTENTS),
        objects(
            "invoices",
            ("invoice", "invoiceitem"),
            INVOICES,
            embedded="lines",
            rest=lambda id: Request.get(f"/invoices/{quote(id, safe='')}/lines"),
        ),
        objects(
            "subscriptions",
            ("customer.subscription",),
            SUBSCRIPTIONS,
            # Those that were canceled are on no list without it.
            listed={"status": "all"},
            embedded="items",
            rest=lambda id: Request.get("/subscription_items", params={"subscription": id}),
        ),
    ),
)
