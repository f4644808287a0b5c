"""Stripe, as far as a platform bills through it: key, customers, Checkout, portal, events.

https://docs.stripe.com/api. An account of this vendor is a business; its secret key is an access
token, from `describe` or the control `grant`. What a tenant's own account has to be synced is not
here yet: it joins these routes on the same host.
"""

from datetime import timedelta
from random import Random
from string import ascii_letters, digits
from typing import Any, Never

from sandbox._data import FIRM_ENDS, FIRM_STARTS
from sandbox._oauth import OAuth
from sandbox._stripe_billing import API, CONTROLS, ROUTES
from sandbox._stripe_business import PRICES, Business
from sandbox._stripe_events import SENDER
from sandbox._stripe_form import trouble
from sandbox._vendor import Change, Json, Limit, RefusedError, Seed, Vendor


def new_account(random: Random) -> tuple[str, str]:
    id = "".join(random.choices(ascii_letters + digits, k=16))
    return f"acct_{id}", f"{random.choice(FIRM_STARTS)} {random.choice(FIRM_ENDS)}"


def new(seed: Seed) -> Business:
    return Business(seed.clock, seed.random, seed.tell)


def _nothing(*given: object) -> Never:
    raise RefusedError("stripe has no records to be synced yet")


def _store(state: Any, stream: str) -> dict[str, Json]:
    return _nothing(stream)


def _apply(state: Any, change: Change) -> str:
    return _nothing(change)


vendor = Vendor(
    name="stripe",
    title="Stripe",
    base_url=f"https://{API}/v1",
    auth=OAuth(
        name="stripe",
        client_id="",
        client_secret="",
        authorize=(),
        token=(),
        scopes=("read_write",),
        new_account=new_account,
        account_pattern=r"acct_[A-Za-z0-9]{16}",
        access_ttl=timedelta(days=36_500),
        access_prefix="sk_test_",
        answer=lambda issue: {"access_token": issue.access_token},
    ),
    routes=ROUTES,
    streams=(),
    mutable={},
    new=new,
    store=_store,
    apply=_apply,
    trouble=trouble,
    limits=(Limit("requests", 100, 1.0),),
    controls=CONTROLS,
    webhook=SENDER,
    extras=lambda account_id, origin: {"prices": list(PRICES)},
)
