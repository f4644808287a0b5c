"""Gmail's notifications: Pub/Sub pushes that a mailbox with a watch has changed.

https://developers.google.com/workspace/gmail/api/guides/push
https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
"""

import base64
from datetime import timedelta
from functools import lru_cache

import orjson
from starlette.responses import Response

from sandbox._google import ISSUER, KEY, PROJECT, subject
from sandbox.kernel.clock import stamp
from sandbox.kernel.jwt import certificate, jwk, key_id, sign
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import reply
from sandbox.kernel.vendor import Route
from sandbox.kernel.webhooks import AppResponse, Delivery, Message, Sender

CERTS = "www.googleapis.com"
SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/gmail"
# By whom the push subscription signs.
ACCOUNT = f"gmail-push@{PROJECT}.iam.gserviceaccount.com"
# 102 counts, too, and comes before an answer: nobody can end with it.
ACKNOWLEDGED = (200, 201, 202, 204)
RETENTION = timedelta(days=7).total_seconds()
FIRST_BACKOFF, LONGEST_BACKOFF = 10.0, 600.0
TOKEN_LASTS = 3600
# Google signs once for many pushes.
TOKEN_SHARED_FOR = 600


def compose(delivery: Delivery) -> Message:
    """Only the sender is proven: nothing signs the body."""
    address, (event,) = delivery.address, delivery.events
    message_id = int(event.id.replace("-", "")[:12], 16)
    number: int = event.what["historyId"]
    # Both forms are seen.
    history_id = number if message_id % 2 else str(number)
    data = orjson.dumps({"emailAddress": event.account_id, "historyId": history_id})
    told = str(message_id)
    at = stamp(event.at)
    message = {
        "data": base64.b64encode(data).decode(),
        **{"messageId": told, "message_id": told, "publishTime": at, "publish_time": at},
    }
    token = _token(
        address.about["audience"] or address.url,
        address.about["account"],
        int(delivery.now.timestamp()) // TOKEN_SHARED_FOR * TOKEN_SHARED_FOR,
        "nobody" if delivery.forged else KEY,
    )
    return Message(
        url=address.url,
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
        body=orjson.dumps({"message": message, "subscription": SUBSCRIPTION}),
    )


@lru_cache(maxsize=100)
def _token(audience: str, account: str, issued_at: int, key: str) -> str:
    claims = {
        "aud": audience,
        "azp": subject(account),
        "email": account,
        "email_verified": True,
        "exp": issued_at + TOKEN_LASTS,
        "iat": issued_at,
        "iss": ISSUER,
        "sub": subject(account),
    }
    return sign(key, claims, kid=key_id(KEY))


def retry(delivery: Delivery, answered: AppResponse) -> float | None:
    """With growing gaps for as long as Pub/Sub keeps the message."""
    wait = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** (delivery.attempt - 1))
    return wait if delivery.age + wait < RETENTION else None


def jwk_set(call: Call) -> Response:
    """The keys that Google's tokens are signed with."""
    return reply({"keys": [jwk(KEY)]}, headers={"cache-control": "public, max-age=22000"})


def certificates(call: Call) -> Response:
    """The same keys in the form that Google's own libraries read."""
    headers = {"cache-control": "public, max-age=22000"}
    return reply({key_id(KEY): certificate(KEY)}, headers=headers)


ROUTES = (
    Route("GET", CERTS, "/oauth2/v3/certs", jwk_set, open=True),
    Route("GET", CERTS, "/oauth2/v1/certs", certificates, open=True),
)
SENDER = Sender(
    compose=compose,
    deadline=10.0,
    retry=retry,
    acknowledges=lambda answered: answered.status in ACKNOWLEDGED,
    # Of more than one notification a second for a mailbox the surplus is dropped.
    spacing=1.0,
    # `audience`: who the tokens are for, if not the address; `account`: by whom they are signed.
    settings={"audience": "", "account": ACCOUNT},
)
