"""Stripe: what happens in a tenant's own account, and its customers, charges, payment intents,
invoices and subscriptions (Connect; API version 2026-10-28.endive).

https://docs.stripe.com/connect/oauth-standard-accounts, https://docs.stripe.com/api/events

An object does not tell when it was changed. So what is stored is an object as it is read, never the
snapshot that an event holds: that is rendered in the version that was in force when the event was
made, and events tell their times in whole seconds, in which an object may change several times.
Events, in whatever order they come, say which objects are to be read again.

Longer than 300 lines: objects do not tell when they were changed, so events name them and each is
read again; lists inside objects are completed, and the two modes kept apart.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

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
    RateLimit,
    RateLimitedError,
    Request,
    Response,
    Revocation,
    Stream,
    SyncType,
    Webhook,
    columns,
)
from connectors.kernel.signatures import stripe_signature
from connectors.kernel.versions import find
from connectors.stripe.events import STREAM_OF, account_id, events
from connectors.stripe.reading import Kind, happened, objects

VERSION = "2026-10-28.endive"


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


CUSTOMERS = columns("name email phone currency balance:bigint delinquent:boolean")
CHARGES = columns(
    "status currency customer_id=customer payment_intent_id=payment_intent description "
    "amount:bigint amount_captured:bigint amount_refunded:bigint captured:boolean "
    "disputed:boolean paid:boolean refunded:boolean"
)
PAYMENT_INTENTS = columns(
    "status currency customer_id=customer latest_charge_id=latest_charge description "
    "amount:bigint amount_received:bigint canceled_at:bigint"
)
INVOICES = columns(
    "number status currency customer_id=customer "
    "subscription_id=parent.subscription_details.subscription billing_reason amount_due:bigint "
    "amount_paid:bigint amount_remaining:bigint total:bigint due_date:bigint"
)
SUBSCRIPTIONS = columns(
    "status currency customer_id=customer latest_invoice_id=latest_invoice collection_method "
    "cancel_at_period_end:boolean canceled_at:bigint ended_at:bigint start_date:bigint"
)
EVENTS = columns("type api_version object_id=data.object.id created:bigint")

connector = Connector(
    name="stripe",
    title="Stripe",
    category="Payments",
    sync_type=SyncType.PUSH,
    base_url="https://api.stripe.com/v1",
    headers={"stripe-version": VERSION},
    auth=OAuth2(
        env="STRIPE_CONNECT",
        authorize_url="https://connect.stripe.com/oauth/authorize",
        token_url="https://connect.stripe.com/oauth/token",  # noqa: S106
        revocation=Revocation(
            url="https://connect.stripe.com/oauth/deauthorize",
            gives=("stripe_user_id",),
            parameter="stripe_user_id",
        ),
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
        objects(Kind("customers", ("customer",)), CUSTOMERS),
        # What was refunded of a charge moves with the events of its refunds, too.
        objects(Kind("charges", ("charge", "refund")), CHARGES),
        objects(Kind("payment_intents", ("payment_intent",)), PAYMENT_INTENTS),
        objects(
            Kind(
                "invoices",
                ("invoice", "invoiceitem"),
                embedded="lines",
                rest=lambda id: Request.get(f"/invoices/{quote(id, safe='')}/lines"),
            ),
            INVOICES,
        ),
        objects(
            Kind(
                "subscriptions",
                ("customer.subscription",),
                # Those that were canceled are on no list without it.
                listed={"status": "all"},
                embedded="items",
                rest=lambda id: Request.get("/subscription_items", params={"subscription": id}),
            ),
            SUBSCRIPTIONS,
        ),
    ),
)
