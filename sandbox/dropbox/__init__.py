"""Dropbox on loopback: a tree with its log, what it shares, team spaces, and webhooks for the app.

https://www.dropbox.com/developers/documentation/http/documentation

Only reading is offered. Longer than 700 lines: nine kinds of records, and two roots of paths.
"""

import secrets
from collections.abc import Mapping
from datetime import timedelta
from random import Random

import orjson
from starlette.responses import Response

from sandbox.dropbox.api import HOST, ROUTES, SCOPES, answer
from sandbox.dropbox.store import (
    MUTATIONS,
    expire_checkpoints,
    new,
    new_id,
    refuse_part,
    store,
    there,
)
from sandbox.kernel.data import person
from sandbox.kernel.oauth import Call, Issue, OAuth
from sandbox.kernel.signing import hex_signature
from sandbox.kernel.values import Address, Json, Kind, RefusedError
from sandbox.kernel.vendor import ErrorCase, Limit, Vendor
from sandbox.kernel.webhooks import CallbackFlow, Delivery, Message, Sender, again_after

SECRET = "dropbox-sandbox-secret"  # pragma: allowlist secret


def _new_account(random: Random) -> tuple[str, str]:
    return f"dbid:{new_id(random, 35)}", " ".join(person(random))


def _offline(params: Mapping[str, str], first_time: bool) -> bool:
    return params.get("token_access_type") == "offline"


def _answer(issue: Issue) -> Json:
    """A refresh tells of nothing but the access token."""
    body = {**issue.body(), "expires_in": 14_400}
    if issue.refreshed:
        return {name: body[name] for name in ("access_token", "token_type", "expires_in")}
    return {**body, "uid": "123456789", "account_id": issue.account.id}


AUTH = OAuth(
    name="dropbox",
    client_id="dropbox-sandbox-app",
    client_secret=SECRET,
    authorize=(("www.dropbox.com", "/oauth2/authorize"),),
    token=((HOST, "/oauth2/token"),),
    scopes=SCOPES,
    new_account=_new_account,
    account_pattern=r"dbid:\S{35}",
    client_auth="either",
    pkce="optional",
    access_ttl=timedelta(hours=4),
    access_prefix="sl.",
    offline=_offline,
    answer=_answer,
)


def _tagged(tag: str, status: int, **more: object) -> Response:
    return answer({"error_summary": f"{tag}/...", "error": {".tag": tag, **more}}, status)


def trouble(wrong: ErrorCase, call: Call) -> Response:
    match wrong.kind:
        case Kind.UNAUTHORIZED:
            return _tagged("invalid_access_token", 401)
        case Kind.FORBIDDEN if wrong.detail in SCOPES:
            return _tagged("missing_scope", 401, required_scope=wrong.detail)
        case Kind.FORBIDDEN:
            return _tagged("paper_access_denied", 403)
        case Kind.RATE_LIMITED:
            wait = wrong.retry_after or (wrong.limit.per if wrong.limit else 1.0)
            error = {"reason": {".tag": "too_many_requests"}, "retry_after": int(wait)}
            headers = {"retry-after": f"{wait:g}"}
            return answer({"error_summary": "too_many_requests/..", "error": error}, 429, headers)
        case Kind.SERVER_ERROR | Kind.UNAVAILABLE:
            status = 500 if wrong.kind is Kind.SERVER_ERROR else 503
            return Response("Internal Server Error", status, media_type="text/plain")
        case Kind.NOT_FOUND:
            return Response("Unknown API function", 404, media_type="text/plain")
    return Response("Bad request", 400, media_type="text/plain")


def compose(delivery: Delivery) -> Message:
    """The accounts in which something happened, and no more."""
    named = list(dict.fromkeys(event.account_id for event in delivery.events))
    body = orjson.dumps({"list_folder": {"accounts": named}, "delta": {"users": []}})
    signature = hex_signature(delivery.address.secret, body)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "DropboxWebhooks/1.0",
        "X-Dropbox-Signature": signature,
    }
    return Message(url=delivery.address.url, headers=headers, body=body)


def handshake(address: Address) -> CallbackFlow[None]:
    """Where settings ask for it: the console does so when an address is entered."""
    if not address.about["verified"]:
        return
    challenge = secrets.token_urlsafe(24)
    answered = yield Message(url=f"{address.url}?challenge={challenge}", method="GET")
    if answered.status != 200 or answered.body != challenge.encode():
        raise RefusedError("the address did not answer with the challenge", status=400)


vendor = Vendor(
    name="dropbox",
    title="Dropbox",
    base_url=f"https://{HOST}/2",
    auth=AUTH,
    routes=ROUTES,
    streams=(
        "files",
        "account",
        "shared_folders",
        "file_revisions",
        "shared_links",
        "folder_members",
        "received_files",
        "file_requests",
        "space_usage",
    ),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=there,
    trouble=trouble,
    limits=(Limit("minute", 1_000, 60.0),),
    expire_checkpoints=expire_checkpoints,
    account_controls={"refuse_part": refuse_part},
    webhook=Sender(
        compose=compose,
        deadline=10.0,
        retry=again_after(10.0, 30.0, 60.0, 180.0, 300.0),
        batch=20,
        secret=SECRET,
        settings={"verified": False},
        handshake=handshake,
    ),
    three_pages_at=650,
)
