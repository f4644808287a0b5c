"""The page on which a person picks an account and allows or denies, and what its form does."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from html import escape
from urllib.parse import urlencode, urlsplit

from starlette.responses import HTMLResponse, RedirectResponse, Response

from sandbox.kernel.oauth import Call, OAuth, Place
from sandbox.kernel.token_endpoint import revoke, token
from sandbox.kernel.values import Answer
from sandbox.kernel.vendor import Handler, Route

STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif }
main { max-width: 30rem; margin: 3rem auto; padding: 0 1rem }
fieldset { border: 1px solid GrayText; border-radius: .5rem; margin: 1rem 0 }
label { display: block; padding: .35rem 0 }
button { font: inherit; padding: .5rem 1.25rem; margin-right: .5rem; border-radius: .5rem }
"""


def routes(auth: OAuth) -> tuple[Route, ...]:
    """The endpoints of an OAuth server, to be put among a vendor's routes."""

    def at(places: tuple[Place, ...], method: str, handler: Handler) -> list[Route]:
        return [Route(method, host, path, handler, open=True) for host, path in places]

    return (
        *at(auth.authorize, "GET", ask),
        *at(auth.authorize, "POST", decide),
        *at(auth.token, "POST", token),
        *at(auth.revoke, "POST", revoke),
    )


def ask(call: Call) -> Response:
    """Shows the form."""
    scopes = _check(call)
    server = call.server
    choices = "".join(
        f'<label><input type="radio" name="account" value="{escape(account.id)}"'
        f"{' checked' if first else ''}> {escape(account.name)} ({escape(account.id)})</label>"
        for first, account in zip(
            [True] + [False] * len(server.accounts), server.accounts.values(), strict=False
        )
    )
    listed = "".join(f"<li>{_choice(scope, server.auth.granular)}</li>" for scope in scopes)
    where = escape(urlsplit(call.query["redirect_uri"]).netloc)
    return page(
        "Allow access?",
        f"<p>The app <strong>{escape(server.auth.client_id)}</strong> at <strong>{where}</strong> "
        f'asks for access to an account:</p><form method="post"><ul>{listed}</ul>'
        f"<fieldset><legend>Account</legend>{choices}</fieldset>"
        '<button name="decision" value="allow">Allow</button>'
        '<button name="decision" value="deny">Deny</button></form>',
    )


def _choice(scope: str, granular: bool) -> str:
    name = f"<code>{escape(scope)}</code>"
    if not granular:
        return name
    box = f'<input type="checkbox" name="{escape(scope)}" value="yes" checked>'
    return f'<label>{box} {name}</label><input type="hidden" name="granular" value="yes">'


def decide(call: Call) -> Response:
    """Sends the browser back with a code, or with the person's refusal."""
    scopes = _check(call)
    server, form, query = call.server, call.form(), call.query
    if server.auth.granular and "granular" in form:
        scopes = [scope for scope in scopes if scope in form]
    state = {"state": query["state"]} if "state" in query else {}
    if form.get("decision") == "deny":
        return back(call, {"error": "access_denied", **state})
    account = server.accounts.get(form.get("account", ""))
    if form.get("decision") != "allow" or account is None:
        return page("Nothing was decided", "<p>Pick an account, then Allow or Deny.</p>", 400)
    if refused := server.auth.admit(call, account, scopes):
        return refused
    earlier = server.consents(account.id)
    if server.auth.widens(dict(query)):
        scopes = list(dict.fromkeys([*scopes, *(scope for g in earlier for scope in g.scopes)]))
    code = server.code(
        server.open(account.id, scopes),
        query["redirect_uri"],
        query.get("code_challenge", "") if server.auth.pkce != "ignored" else "",
        offline=server.auth.offline(dict(query), not earlier),
        nonce=query.get("nonce", ""),
    )
    answer = {"code": code, **state, **server.auth.callback(account)}
    return back(call, server.auth.sign(call, answer))


def _check(call: Call) -> list[str]:
    """The scopes asked for. A wrong client or address is told the person, never redirected to."""
    auth, query = call.server.auth, call.query
    target = urlsplit(query.get("redirect_uri", ""))
    if query.get("client_id") != auth.client_id:
        raise Answer(page("Unknown app", "<p>No app has this client_id.</p>", 400))
    if target.scheme not in ("http", "https") or not target.netloc or target.fragment:
        raise Answer(page("Bad address", "<p>redirect_uri is not a web address.</p>", 400))
    state = {"state": query["state"]} if "state" in query else {}
    if query.get("response_type", "code") != "code":
        raise Answer(back(call, {"error": "unsupported_response_type", **state}))
    weak = auth.pkce == "required" and "code_challenge" not in query
    plain = "code_challenge" in query and query.get("code_challenge_method") != "S256"
    if auth.pkce != "ignored" and (weak or plain):
        raise Answer(back(call, {"error": "invalid_request", **state}))
    asked = query.get("scope", "").replace(auth.scope_separator, " ").split()
    more = query.get("optional_scope", "").replace(auth.scope_separator, " ").split()
    # Some vendors have none.
    if (auth.scopes and not asked) or not all(_known(auth, scope) for scope in asked):
        raise Answer(back(call, {"error": "invalid_scope", **state}))
    return [*asked, *(scope for scope in more if _known(auth, scope) and scope not in asked)]


def _known(auth: OAuth, scope: str) -> bool:
    return any(fnmatchcase(scope, known) for known in auth.scopes)


def back(call: Call, answer: Mapping[str, str]) -> Response:
    """Sends the browser to the app's address, with those parameters."""
    target = call.query["redirect_uri"]
    joint = "&" if urlsplit(target).query else "?"
    return RedirectResponse(f"{target}{joint}{urlencode(answer)}", 302)


def page(title: str, body: str, status: int = 200) -> Response:
    """What a person reads at the OAuth server."""
    return HTMLResponse(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>",
        status,
    )
