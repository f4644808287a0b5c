"""Stripe, for billing: its variables by their form, the key by a call of Stripe's own library, and
what waits for the operator because Stripe could not be understood."""

import asyncio
import re
from collections.abc import Iterable

import stripe
from sqlalchemy.exc import SQLAlchemyError

from cli.doctor.row import Row, State
from servers.database import opened
from settings import Settings, listed_of
from storage import StorageError, endings
from storage import billing as ledger

AREA = "stripe"
IGNORED = "STRIPE_PRICE_IDS_IGNORED"
PRICE = re.compile(r"price_\w+")
SECONDS = 10
SHOWN = 5
DASHBOARD = "copy it from https://dashboard.stripe.com/apikeys"
FORMS = {
    "STRIPE_SECRET_KEY": (re.compile(r"[sr]k_(test|live)_\w{8,}"), DASHBOARD),
    "STRIPE_PUBLISHABLE_KEY": (re.compile(r"pk_(test|live)_\w{8,}"), DASHBOARD),
    "STRIPE_WEBHOOK_SECRET": (
        re.compile(r"whsec_\S{8,}"),
        "it is shown with the endpoint at https://dashboard.stripe.com/webhooks",
    ),
    **{
        f"STRIPE_PRICE_ID_{tier}": (
            PRICE,
            f"the id of the price of {tier}, which begins with price_",
        )
        for tier in ("SOLO", "TEAM", "ENTERPRISE")
    },
}


async def billing(settings: Settings) -> list[Row]:
    """Nothing set is all right; what is set has to work."""
    values = {name: _text(settings, name) for name in FORMS}
    if not any(values.values()):
        found = "not set: tiers are set with atom-sync tenants set-tier"
        row = Row(AREA, "billing", State.OPTIONAL, found, required=False)
        return [row, *await _customers(settings)]
    rows = [_form(name, value) for name, value in values.items()]
    if not all(PRICE.fullmatch(price) for price in listed_of(settings.stripe_price_ids_ignored)):
        remedy = "the ids of prices, which begin with price_"
        rows.append(Row(AREA, IGNORED, State.WRONG, "it does not look like one", remedy))
    secret, public = values["STRIPE_SECRET_KEY"], values["STRIPE_PUBLISHABLE_KEY"]
    if secret and public and _mode(secret) != _mode(public):
        found = "one key is of test mode, the other of live mode"
        rows.append(Row(AREA, "mode", State.WRONG, found, DASHBOARD))
    if secret and rows[0].state is State.OK:
        prices = [price for name in FORMS if "PRICE" in name for price in listed_of(values[name])]
        rows += await asyncio.to_thread(_ask, secret, prices, settings.stripe_api_base)
    return [*rows, *await _customers(settings)]


async def _customers(settings: Settings) -> list[Row]:
    """Customers that billing could make nothing of."""
    if settings.database_url is None:
        return []
    try:
        async with opened(settings) as database:
            problems, unread = await ledger.troubles(database)
            prices = await ledger.unknown_prices(database)
            owed = await endings.owed(database)
    except (StorageError, SQLAlchemyError):
        return []  # the database's own row reports it
    rows = []
    if problems:
        remedy = (
            "see to each at Stripe or in the STRIPE_ variables, then atom-sync billing reconcile"
        )
        found = _first(f"{customer}: {text}" for customer, text in problems.items())
        rows.append(Row(AREA, "customers", State.WRONG, found, remedy))
    if prices:
        found = _first(f"{price} ({count} paying)" for price, count in prices.items())
        remedy = f"name each in a STRIPE_PRICE_ID_ variable, or, if it is no tier's, in {IGNORED}"
        rows.append(Row(AREA, "unknown prices", State.WRONG, found, remedy))
    if owed:
        found = _first(f"{each.customer_id}: {each.problem}" for each in owed)
        remedy = (
            "their tenants are erased, and may be charged still: end what they pay for at Stripe, "
            "then atom-sync billing reconcile; or atom-sync billing dismiss CUSTOMER"
        )
        rows.append(Row(AREA, "endings", State.WRONG, found, remedy))
    if unread:
        found = f"{unread} could not be read again and again; they keep their tiers meanwhile"
        remedy = "look at what is said of the key above, and at the web process's log"
        rows.append(Row(AREA, "events", State.WRONG, found, remedy))
    return rows


def _first(entries: Iterable[str]) -> str:
    """The first of many, and how many more there are."""
    all_entries = list(entries)
    more = f" and {len(all_entries) - SHOWN} more" if len(all_entries) > SHOWN else ""
    return "; ".join(all_entries[:SHOWN]) + more


def _form(name: str, value: str) -> Row:
    pattern, remedy = FORMS[name]
    if not value:
        return Row(AREA, name, State.MISSING, "not set", remedy)
    parts = [value] if name.endswith("_KEY") else listed_of(value)
    if not all(pattern.fullmatch(part) for part in parts):
        return Row(AREA, name, State.WRONG, "it does not look like one", remedy)
    mode = _mode(value)
    return Row(AREA, name, State.OK, f"of {mode} mode" if mode else "set")


def _mode(key: str) -> str:
    found = re.match(r"[a-z]+_(test|live)_", key)
    return found[1] if found else ""


def _ask(key: str, prices: list[str], address: str) -> list[Row]:
    client = stripe.StripeClient(
        key,
        base_addresses={"api": address},
        http_client=stripe.RequestsClient(timeout=SECONDS),
        max_network_retries=0,
    )
    try:
        client.v1.balance.retrieve()
        rows = [Row(AREA, "key", State.OK, f"{address} accepts it")]
    except stripe.PermissionError:
        # A restricted key that may not see the balance is a key all the same.
        rows = [Row(AREA, "key", State.OK, f"{address} knows it, as a restricted key")]
    except stripe.StripeError as error:
        return [_refused("key", error, address, "make another key in the dashboard")]
    for price in prices:
        try:
            found = client.v1.prices.retrieve(price)
        except stripe.StripeError as error:
            remedy = "compare the STRIPE_PRICE_ID_ variables with the product catalogue, by mode"
            rows.append(_refused(price, error, address, remedy))
            continue
        if not found.active:
            remedy = "activate it, or set another"
            rows.append(Row(AREA, price, State.WRONG, "it is archived", remedy))
    return rows


def _refused(what: str, error: stripe.StripeError, address: str, remedy: str) -> Row:
    """Stripe's own messages quote a part of the key, so they are left out."""
    match error:
        case stripe.AuthenticationError():
            found = "Stripe does not accept the key"
        case stripe.APIConnectionError():
            found = f"{address} cannot be reached: nothing could be verified"
            remedy = "look at the network, and try again"
        case stripe.InvalidRequestError():
            found = f"Stripe does not know it ({error.code or error.http_status})"
        case _:
            found = f"Stripe answers {error.http_status or 'nothing'}: nothing could be verified"
            remedy = "try again"
    return Row(AREA, what, State.WRONG, found, remedy)


def _text(settings: Settings, name: str) -> str:
    value = getattr(settings, name.lower())
    if value is None:
        return ""
    return value if isinstance(value, str) else str(value.get_secret_value())
