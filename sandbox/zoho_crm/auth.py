"""Zoho's accounts servers: one for each data centre, each with codes and tokens of its own.

https://www.zoho.com/crm/developer/docs/api/v8/oauth-overview.html
https://www.zoho.com/accounts/protocol/oauth/multi-dc.html
"""

from collections.abc import Mapping
from datetime import timedelta
from random import Random

from starlette.responses import Response

from sandbox.kernel.data import firm
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal
from sandbox.kernel.token_endpoint import fields_of
from sandbox.kernel.values import Account, Answer, Grant, Json, reply
from sandbox.kernel.vendor import Route

# The accounts server of each data centre, and its API.
CENTRES = {
    "us": ("accounts.zoho.com", "www.zohoapis.com"),
    "eu": ("accounts.zoho.eu", "www.zohoapis.eu"),
}
# Of those that there are, those that only read; for each there is an ALL as well.
MODULES = (
    "leads contacts accounts deals tasks events calls notes products quotes salesorders "
    "purchaseorders invoices pricebooks vendors campaigns cases solutions custom"
)
READ = (
    *(f"modules.{module}" for module in MODULES.split()),
    *("modules", "settings", "settings.modules", "settings.fields", "users", "org"),
    "notifications",
)
ERRORS = {"client": "invalid_client", "code": "invalid_code", "refresh_token": "invalid_code"}


def centre_of(account_id: str) -> str:
    """Where an organisation is kept."""
    return "eu" if int(account_id) % 2 else "us"


def token_answer(issue: Issue) -> Json:
    """A code or a refresh token is known in its own data centre alone."""
    accounts, api = CENTRES[centre_of(issue.account.id)]
    if issue.call and issue.call.host != accounts:
        raise Answer(reply({"error": "invalid_code"}))
    body = {
        "access_token": issue.access_token,
        "scope": " ".join(issue.grant.scopes),
        "api_domain": f"https://{api}",
        "token_type": "Bearer",
        "expires_in": int(issue.auth.access_ttl.total_seconds()),
    }
    # A refresh gives no refresh token: the former one stays.
    if issue.refresh_token and not issue.refreshed:
        body["refresh_token"] = issue.refresh_token
    return body


def refuse(refusal: Refusal, call: Call) -> Response:
    """With status 200, and a code that is none of RFC 6749's."""
    return reply({"error": ERRORS.get(refusal.cause, refusal.error)})


def token_of(call: Call) -> str:
    """The token of a call; the word before it is not Bearer."""
    scheme, _, value = call.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme == "Zoho-oauthtoken" else ""


def caller(call: Call, token: str) -> Grant | None:
    """Whose token it is, in the data centre that gave it."""
    held = call.server.access(token)
    if held is None or call.host != CENTRES[centre_of(held.grant.account_id)][1]:
        return None
    return held.grant


def revoke(call: Call) -> Response:
    """Ends the consent of a refresh token; nobody has to say whose app it is."""
    value = fields_of(call).get("token") or call.query.get("token", "")
    found = call.server.refresh(value) or call.server.access(value)
    if found is None:
        return reply({"error": "invalid_code"}, 400)
    found.grant.ended = True
    return reply({"status": "success"})


def _offline(params: Mapping[str, str], first_time: bool) -> bool:
    """Who has consented before gives a refresh token only if asked for consent again."""
    asked_again = params.get("prompt") == "consent"
    return params.get("access_type") == "offline" and (first_time or asked_again)


def _callback(account: Account) -> Mapping[str, str]:
    centre = centre_of(account.id)
    return {"location": centre, "accounts-server": f"https://{CENTRES[centre][0]}"}


def _new_account(random: Random) -> tuple[str, str]:
    return str(random.randint(600_000_000, 899_999_999)), firm(random)


AUTH = OAuth(
    name="zoho_crm",
    client_id="1000.SANDBOXZOHOCRM0000000000000000",
    client_secret="sandbox-zoho-crm-secret",  # pragma: allowlist secret
    authorize=tuple((accounts, "/oauth/v2/auth") for accounts, _ in CENTRES.values()),
    token=tuple((accounts, "/oauth/v2/token") for accounts, _ in CENTRES.values()),
    scopes=tuple(f"ZohoCRM.{what}.{right}" for what in READ for right in ("READ", "ALL")),
    new_account=_new_account,
    account_pattern=r"[1-9]\d{5,18}",
    scope_separator=",",
    pkce="ignored",
    access_ttl=timedelta(hours=1),
    access_prefix="1000.",
    refresh_prefix="1000.",
    refresh_cap=20,
    offline=_offline,
    answer=token_answer,
    refuse=refuse,
    callback=_callback,
    caller=caller,
)

ROUTES = tuple(
    Route("POST", accounts, "/oauth/v2/token/revoke", revoke, open=True)
    for accounts, _ in CENTRES.values()
)
