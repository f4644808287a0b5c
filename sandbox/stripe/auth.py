"""Stripe Connect: whose data a key opens, and how an account is connected and let go.

https://docs.stripe.com/connect/oauth-reference (2026-11)
"""

import hmac
from functools import partial
from random import Random
from string import ascii_letters, digits

from starlette.responses import Response

from sandbox.kernel.data import FIRM_ENDS, FIRM_STARTS
from sandbox.kernel.oauth import Call, Issue
from sandbox.kernel.token_endpoint import check_client, fields_of, no
from sandbox.kernel.values import Account, Grant, Json, reply
from sandbox.kernel.vendor import Route
from sandbox.stripe.form import denied
from sandbox.stripe.store import TEST_KEY, Business, Modes

HOST = "connect.stripe.com"
LIVE_KEY = "sk_live_"
# The platform's own keys, one of each mode. With them it bills, and acts for who consented.
PLATFORM_KEY, PLATFORM_TEST_KEY = f"{LIVE_KEY}sandbox_1", f"{TEST_KEY}sandbox_1"
PLATFORM = "acct_SandboxPlatform1"
DEAUTHORIZED = "account.application.deauthorized"
CLIENT_ID = "ca_sandbox"


def new_account(random: Random) -> tuple[str, str]:
    id = "".join(random.choices(ascii_letters + digits, k=16))
    return f"acct_{id}", f"{random.choice(FIRM_STARTS)} {random.choice(FIRM_ENDS)}"


def caller(call: Call, key: str) -> Grant | None:
    """An account's key opens its own data; the platform's that of the account which the header
    names, if it consented, or its own."""
    if not any(hmac.compare_digest(key, known) for known in (PLATFORM_KEY, PLATFORM_TEST_KEY)):
        held = call.server.access(key.removeprefix(TEST_KEY).removeprefix(LIVE_KEY))
        return held.grant if held else None
    named = call.headers.get("stripe-account", PLATFORM)
    if named == PLATFORM and named not in call.server.accounts:
        _open_platform(call)
    consents = call.server.consents(named)
    if not consents:
        denied(
            f"The provided key does not have access to account '{named}' (or that account does not "
            "exist). Application access may have been revoked.",
            code="account_invalid",
        )
    return consents[-1]


def _open_platform(call: Call) -> None:
    """The platform's own account, empty: it is there once somebody asks for it."""
    server, random = call.server, Random(PLATFORM)
    tell = partial(call.outbox.tell, PLATFORM)
    live, test = (Business(call.clock, random, tell, livemode=live) for live in (True, False))
    server.accounts[PLATFORM] = Account(PLATFORM, "The platform", {"stripe": Modes(live, test)})
    server.open(PLATFORM, server.auth.scopes)


def answer(issue: Issue) -> Json:
    """What a consent gives; and, by a control, an account's own key of test mode."""
    if issue.call is None:
        return {"access_token": f"{TEST_KEY}{issue.access_token}"}
    return {
        "access_token": f"{LIVE_KEY}{issue.access_token}",
        "livemode": True,
        "refresh_token": issue.refresh_token,
        "scope": issue.grant.scopes[0],
        "stripe_publishable_key": "pk_live_sandbox",
        "stripe_user_id": issue.account.id,
        "token_type": "bearer",
    }


def deauthorize(call: Call) -> Response:
    """Ends the consent of an account, which is told; one that has none is refused."""
    fields = fields_of(call)
    check_client(call, fields)
    id = fields.get("stripe_user_id", "")
    if fields.get("client_id") != CLIENT_ID or not call.server.consents(id):
        no(call, "invalid_client", "client", "This application is not connected to that account.")
    held: Modes = call.server.accounts[id].state["stripe"]
    held.live.tell(DEAUTHORIZED, {"id": CLIENT_ID, "object": "application", "name": "atom-sync"})
    call.server.end(id)
    return reply({"stripe_user_id": id})


CONNECT = (Route("POST", HOST, "/oauth/deauthorize", deauthorize, open=True),)
