"""Slack's events: one address for the app, each call signed, the address asked for a challenge.

https://docs.slack.dev/apis/events-api
"""

import secrets
import time

import orjson

from sandbox.kernel.signing import hex_signature
from sandbox.kernel.values import Address, Json, RefusedError
from sandbox.kernel.webhooks import AppResponse, CallbackFlow, Delivery, Message, Sender
from sandbox.slack.auth import APP_ID, SIGNING_SECRET
from sandbox.slack.rows import BOT

RETRIES = (1.0, 60.0, 300.0)


def _signed(address: Address, body: bytes, at: float, **more: str) -> Message:
    stamp = str(int(at))
    base = b"v0:%b:%b" % (stamp.encode(), body)
    headers = {
        "Content-Type": "application/json",
        "X-Slack-Request-Timestamp": stamp,
        "X-Slack-Signature": f"v0={hex_signature(address.secret, base)}",
        **more,
    }
    return Message(url=address.url, headers=headers, body=body)


def compose(delivery: Delivery) -> Message:
    (event,) = delivery.events
    more = {}
    if delivery.attempt > 1:
        more = {
            "X-Slack-Retry-Num": str(delivery.attempt - 1),
            "X-Slack-Retry-Reason": "http_error",
        }
    body = orjson.dumps(_envelope(event.account_id, event.id, event.at.timestamp(), event.what))
    return _signed(delivery.address, body, delivery.now.timestamp(), **more)


def _envelope(account_id: str, event_id: str, at: float, what: Json) -> Json:
    if what["type"] == "app_rate_limited":
        return {"token": "legacy", "api_app_id": APP_ID, **what}
    is_org = account_id.startswith("E")
    # Of what is said in a shared channel the envelope's team may be the sender's.
    team = what.get("team") if isinstance(what.get("team"), str) else None
    return {
        "token": "legacy",
        "team_id": team or account_id,
        **({"enterprise_id": account_id} if is_org else {}),
        "api_app_id": APP_ID,
        "event": what,
        "type": "event_callback",
        "event_id": "Ev" + event_id.replace("-", "").upper()[:16],
        "event_time": int(at),
        "authorizations": [
            {
                "enterprise_id": account_id if is_org else None,
                "team_id": None if is_org else account_id,
                "user_id": BOT,
                "is_bot": True,
                "is_enterprise_install": is_org,
            }
        ],
    }


def handshake(address: Address) -> CallbackFlow[None]:
    """Where settings ask for it."""
    if not address.about["verified"]:
        return
    challenge = secrets.token_urlsafe(24)
    body = orjson.dumps({"token": "legacy", "type": "url_verification", "challenge": challenge})
    answered = yield _signed(address, body, time.time())
    if answered.status != 200 or challenge.encode() not in answered.body:
        raise RefusedError("the address did not answer with the challenge", status=400)


def retry(delivery: Delivery, answered: AppResponse) -> float | None:
    if answered.headers.get("x-slack-no-retry") == "1" or delivery.attempt > len(RETRIES):
        return None
    return RETRIES[delivery.attempt - 1]


SENDER = Sender(
    compose=compose,
    deadline=3.0,
    retry=retry,
    secret=SIGNING_SECRET,
    # `verified`: the address is asked for a challenge before it is taken.
    settings={"verified": False},
    handshake=handshake,
)
