"""Xero's consents: a token belongs to a person, and opens each organisation connected to the app.

https://developer.xero.com/documentation/guides/oauth2/auth-flow
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta
from random import Random
from uuid import UUID

from starlette.responses import Response

from sandbox.kernel.data import firm
from sandbox.kernel.oauth import Call, OAuth, Refusal, Rotation
from sandbox.kernel.values import Account, Answer, Json, reply
from sandbox.xero.errors import problem
from sandbox.xero.store import Books

API = "api.xero.com"
SETTINGS, CONTACTS = "accounting.settings.read", "accounting.contacts.read"
INVOICES, PAYMENTS = "accounting.invoices.read", "accounting.payments.read"
BANK, MANUAL = "accounting.banktransactions.read", "accounting.manualjournals.read"
REPORTS = "accounting.reports.trialbalance.read"


def refuse(refusal: Refusal, call: Call) -> Response:
    """Xero names the error and says no more, with 400 for a wrong client, too."""
    return reply({"error": refusal.error}, 400)


def reconnected(call: Call, account: Account, scopes: Sequence[str]) -> None:
    """A new consent connects the organisation that was disconnected."""
    account.state["xero"].connected = True


def guid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


AUTH = OAuth(
    name="xero",
    client_id="0F5A4D3BSANDBOXXEROAPP",
    client_secret="sandbox-xero-secret",  # pragma: allowlist secret
    authorize=(("login.xero.com", "/identity/connect/authorize"),),
    token=(("identity.xero.com", "/connect/token"),),
    revoke=(("identity.xero.com", "/connect/revocation"),),
    # Of an app made since 2026-03-02: the broad scopes are refused, journals need an approval.
    scopes=(
        *("openid", "profile", "email", "offline_access"),
        *(SETTINGS, CONTACTS, INVOICES, PAYMENTS, BANK, MANUAL, REPORTS),
    ),
    # An account is an organisation.
    new_account=lambda random: (guid(random), firm(random)),
    account_pattern=r"[0-9a-f-]{36}",
    client_auth="either",
    access_ttl=timedelta(minutes=30),
    rotation=Rotation("always", grace=timedelta(minutes=30), ttl=timedelta(days=60)),
    offline=lambda params, first_time: "offline_access" in params.get("scope", "").split(),
    refuse=refuse,
    admit=reconnected,
)


def organisations(call: Call) -> Iterator[Books]:
    """Those that the token of a call opens."""
    own: Books = call.state
    for id_ in (own.id, *own.beside):
        if id_ in call.server.accounts:
            books: Books = call.server.accounts[id_].state["xero"]
            if books.connected:
                yield books


def books_of(call: Call) -> Books:
    """The organisation that a call names; one that it does not name is none."""
    wanted = call.headers.get("xero-tenant-id", "")
    for books in organisations(call):
        if books.id == wanted:
            return books
    raise Answer(problem(403, "Forbidden", "AuthenticationUnsuccessful"))


def connections(call: Call) -> Response:
    """What the person has connected to the app, whichever consent it was; a practice too."""
    found = [_connection(books, "ORGANISATION") for books in organisations(call)]
    practice = {**_connection(call.state, "PRACTICE"), "tenantName": "A practice"}
    for name in ("id", "tenantId"):
        practice[name] = practice[name][::-1].replace("-", "")
    return reply([*found, practice])


def disconnect(call: Call) -> Response:
    """Ends one connection: the token goes on opening the others."""
    for books in organisations(call):
        if books.connection == call.params["id"]:
            books.connected = False
            return Response(status_code=204)
    return problem(403, "Forbidden", "AuthenticationUnsuccessful")


def _connection(books: Books, kind: str) -> Json:
    made = books.organisation["CreatedDateUTC"].removesuffix("Z") + "0000"
    return {
        "id": books.connection,
        "authEventId": books.connection[::-1],
        "tenantId": books.id,
        "tenantType": kind,
        "tenantName": books.organisation["Name"],
        "createdDateUtc": made,
        "updatedDateUtc": made,
    }
