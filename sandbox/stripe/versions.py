"""Stripe's objects as they are shown: in the version that is asked for, their lists cut short.

https://docs.stripe.com/upgrades (2026-11): what changed with 2025-03-31.basil stands here for all
that ever changed.
"""

import re

from sandbox.kernel.fields import without
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json
from sandbox.stripe.form import refuse

# What a call is answered in that asks for no other: of an account that has not moved on.
OLD, NEW = "2024-06-20", "2026-10-28.endive"
BASIL = "2025-03-31"
# So many rows of a list stand inside an object.
EMBEDDED = 10
LISTS = {"invoice": "lines", "subscription": "items"}
_VERSION = re.compile(r"20\d\d-\d\d-\d\d(\.[a-z]+)?")


def asked_version(call: Call, default: str) -> str:
    """The version of the call's header."""
    version = call.headers.get("stripe-version", default)
    if not _VERSION.fullmatch(version):
        refuse(f"Invalid Stripe API version: {version}")
    return version


def shown(held: Json, version: str) -> Json:
    """An object as that version shows it; what is held is in the newest form, and whole."""
    kind = held["object"]
    if field := LISTS.get(kind):
        held = {**held, field: _cut(held[field])} if field in held else held
    if version < BASIL:
        held = _OLDER.get(kind, dict)(held)
    return held


def _cut(listed: Json) -> Json:
    rows = listed["data"]
    return {**listed, "data": rows[:EMBEDDED], "has_more": len(rows) > EMBEDDED}


def _older_subscription(held: Json) -> Json:
    """Its period was the subscription's own, not each item's."""
    period = ("current_period_start", "current_period_end")
    items = held["items"]["data"]
    rows = [{name: item[name] for name in item if name not in period} for item in items]
    own = {name: items[0][name] for name in period} if items else {}
    return {**held, **own, "items": {**held["items"], "data": rows}}


def _older_invoice(held: Json) -> Json:
    """It named its subscription itself, and said whether it was paid."""
    parent = held["parent"] or {}
    own = without(held, "parent")
    subscription = parent.get("subscription_details", {}).get("subscription")
    return {**own, "subscription": subscription, "paid": held["status"] == "paid"}


_OLDER = {"subscription": _older_subscription, "invoice": _older_invoice}
