"""Stripe, from both sides: a tenant's own account that is connected to a platform (Connect), and
the platform's, through which it bills.

https://docs.stripe.com/api, https://docs.stripe.com/connect. An account is a business. In live mode
it has made-up data, which a platform's key opens once the account has consented; an account's own
secret key, from `describe` or the control `grant`, is of test mode, where nothing is to begin with.

Longer than 700 lines: both sides of Connect, several API versions, billing with its pages, and
signed events.
"""

from datetime import timedelta
from functools import partial

from sandbox.kernel.oauth import Call, OAuth
from sandbox.kernel.values import Json, Seed
from sandbox.kernel.vendor import Limit, Vendor
from sandbox.stripe.api import API, HELD, READING
from sandbox.stripe.auth import (
    CLIENT_ID,
    CONNECT,
    HOST,
    PLATFORM_KEY,
    PLATFORM_TEST_KEY,
    answer,
    caller,
    new_account,
)
from sandbox.stripe.billing import CONTROLS, ROUTES
from sandbox.stripe.events import SENDER
from sandbox.stripe.form import trouble
from sandbox.stripe.seed import MUTATIONS, fill
from sandbox.stripe.store import PRICES, Business, Modes
from sandbox.stripe.versions import OLD

STREAMS = {f"{kind}s": kind for kind in HELD}
COUNTED = ("charges", "customers", "events", "invoices", "payment_intents", "subscriptions")


def new(seed: Seed) -> Modes:
    """Live mode has moved to no newer version since the account was made."""
    live = Business(seed.clock, seed.random, seed.tell, livemode=True, version=OLD)
    fill(live, seed.size)
    return Modes(live, Business(seed.clock, seed.random, seed.tell))


def store(state: Modes, stream: str) -> dict[str, Json]:
    if stream == "events":
        return {event["id"]: event for event in state.live.kept()}
    held = HELD[STREAMS[stream]](state.live)
    return {id: each for id, each in held.items() if not each.get("deleted")}


def _of(resource: str, call: Call) -> int:
    """What a platform asks of one kind of object; what an account asks for itself is not told
    apart, so that who bills is not slowed down."""
    return int("stripe-account" in call.headers and call.path.split("/")[2] == resource)


vendor = Vendor(
    name="stripe",
    title="Stripe",
    base_url=f"https://{API}/v1",
    auth=OAuth(
        name="stripe",
        client_id=CLIENT_ID,
        client_secret=PLATFORM_KEY,
        authorize=((HOST, "/oauth/authorize"),),
        token=((HOST, "/oauth/token"),),
        scopes=("read_only", "read_write"),
        new_account=new_account,
        account_pattern=r"acct_[A-Za-z0-9]{16}",
        client_auth="secret",
        pkce="ignored",
        access_ttl=timedelta(days=36_500),
        answer=answer,
        caller=caller,
    ),
    routes=(*READING, *ROUTES, *CONNECT),
    streams=("events", *STREAMS),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=lambda state, change: MUTATIONS.apply(state.live, change),
    trouble=trouble,
    limits=(
        Limit("requests", 100, 1.0),
        *(Limit(resource, 25, 1.0, cost=partial(_of, resource)) for resource in COUNTED),
    ),
    account_controls=CONTROLS,
    webhook=SENDER,
    extras=lambda account_id, origin: {"prices": list(PRICES), "test_key": PLATFORM_TEST_KEY},
)
