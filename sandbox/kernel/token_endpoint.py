"""Where an app exchanges codes and refresh tokens, and revokes them."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import Never

from starlette.responses import Response

from sandbox.kernel.oauth import Call, Refusal
from sandbox.kernel.values import Answer, Json, reply


def check_client(call: Call, fields: Mapping[str, str]) -> None:
    """The client's id and secret, where the vendor wants them; Answer when they are not."""
    auth = call.server.auth
    scheme, _, basic = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic" and auth.client_auth in ("basic", "either"):
        try:
            given = base64.b64decode(basic, validate=True).decode().partition(":")[::2]
        except ValueError:
            given = ("", "")
    elif auth.client_auth == "secret":
        # It says by itself who asks: as a bearer token, or in the body.
        given = (auth.client_id, basic or fields.get("client_secret", ""))
    elif auth.client_auth in ("body", "either"):
        given = (fields.get("client_id", ""), fields.get("client_secret", ""))
    else:
        given = ("", "")
    known = hmac.compare_digest(given[0].encode(), auth.client_id.encode())
    proven = hmac.compare_digest(given[1].encode(), auth.client_secret.encode())
    if not (known and proven):
        no(call, "invalid_client", "client", "the client's id or secret is wrong or missing")


def fields_of(call: Call) -> dict[str, str]:
    """The fields of a token or revoke request, from a form or, where allowed, from JSON."""
    kind = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = call.json() if kind == "application/json" and call.server.auth.takes_json else None
    if isinstance(body, dict):
        return {name: str(value) for name, value in body.items()}
    return call.form() if kind == "application/x-www-form-urlencoded" else {}


def token(call: Call) -> Response:
    """The token endpoint."""
    fields = fields_of(call)
    check_client(call, fields)
    assumed = "" if call.server.auth.needs_grant_type else "authorization_code"
    match fields.get("grant_type", assumed):
        case "authorization_code":
            body = _exchange(call, fields)
        case "refresh_token":
            body = _refresh(call, fields)
        case "":
            no(call, "invalid_request", "request", "grant_type is missing")
        case other:
            no(call, "unsupported_grant_type", "grant_type", f"grant type {other!r} is not served")
    return reply(body, headers={"cache-control": "no-store", "pragma": "no-cache"})


def revoke(call: Call) -> Response:
    """The revocation endpoint: the token's whole grant ends."""
    server, fields = call.server, fields_of(call) or dict(call.query)
    if server.auth.revoke_needs_client:
        check_client(call, fields)
    value = fields.get("token", "")
    if not value:
        no(call, "invalid_request", "request", "token is missing")
    found = server.refresh(value) or server.access(value)
    if found and server.auth.revoke_ends_all:
        server.end(found.grant.account_id)
    elif found:
        found.grant.ended = True
    elif server.auth.revoke_refuses_unknown:
        no(call, "invalid_token", "token", "the token is not known or no longer valid")
    return Response(status_code=server.auth.revoke_status)


def no(call: Call, error: str, cause: str, description: str) -> Never:
    """Answers in the vendor's own OAuth error form."""
    raise Answer(call.server.auth.refuse(Refusal(error, cause, description), call))


def _exchange(call: Call, fields: Mapping[str, str]) -> Json:
    server = call.server
    # A code is spent by its first use, whatever comes of it.
    code = server.codes.pop(fields.get("code", ""), None)
    if code is None or code.grant.ended or call.clock.time() >= code.dies_at:
        no(call, "invalid_grant", "code", "the authorization code is unknown, used or too old")
    assumed = "" if server.auth.needs_redirect_uri else code.redirect_uri
    if fields.get("redirect_uri", assumed) != code.redirect_uri:
        no(call, "invalid_grant", "redirect_uri", "redirect_uri is not that of the authorization")
    if code.challenge and challenge(fields.get("code_verifier", "")) != code.challenge:
        no(call, "invalid_grant", "verifier", "code_verifier does not fit the challenge")
    refresh = server.refresh_token(code.grant) if code.offline else None
    return server.issue(code.grant, refresh, refreshed=False, call=call, nonce=code.nonce)


def _refresh(call: Call, fields: Mapping[str, str]) -> Json:
    server, value = call.server, fields.get("refresh_token", "")
    used = server.refresh(value)
    if used is None:
        no(call, "invalid_grant", "refresh_token", "the refresh token is unknown, dead or revoked")
    return server.issue(used.grant, server.rotate(used), refreshed=True, call=call)


def challenge(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636)."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
