"""Google's notification channels: opened on a resource, stopped, and what they deliver.

https://developers.google.com/workspace/calendar/api/guides/push
https://developers.google.com/workspace/drive/api/guides/push
"""

import re
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formatdate
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.responses import Response

from sandbox._google import refused
from sandbox._google.fields import answered
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Json
from sandbox.kernel.webhooks import AppResponse, Delivery, Event, Message, Sender, to_watches

ID = re.compile(r"[A-Za-z0-9\-_+/=]{1,64}")
LONGEST_TOKEN = 256
TYPES = ("web_hook", "webhook")
# An address must be https. Where tests and the demo run, it is not.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# 102 counts, too, and comes before an answer: nobody can end with it.
ACKNOWLEDGED = (200, 201, 202, 204)
TRIED_AGAIN = (500, 502, 503, 504)
FIRST_BACKOFF, ATTEMPTS = 2.0, 8


@dataclass(frozen=True)
class Told:
    """Something that happened to a watched resource, or to one channel itself."""

    resource: str
    state: str
    changed: str = ""
    channel: str = ""


@dataclass(frozen=True)
class Lasting:
    """How long channels of a kind last: where nobody asks for more, and at most."""

    usual: timedelta
    longest: timedelta


def open_channel(call: Call, resource: str, uri: str, lasting: Lasting) -> Response:
    """A new channel on what the caller may see. Its first message says no more than that."""
    body = call.json()
    if not isinstance(body, dict):
        raise refused(400, "parseError", "Parse Error")
    watch = Address(
        url=_url(body),
        secret=str(body.get("token") or ""),
        id=_id(call, body),
        account_id=call.account.id,
        about={
            "vendor": call.vendor,
            "resource": resource,
            "resource_id": _resource_id(call, resource),
            "uri": uri,
        },
        grant=call.grant,
        expires_at=_until(call, body, lasting),
    )
    if len(watch.secret) > LONGEST_TOKEN:
        raise refused(400, "invalid", f"A token has at most {LONGEST_TOKEN} characters.")
    call.server.watches.add(watch)
    call.state.channels.add(watch.id)
    call.outbox.tell(call.account.id, Told(resource, "sync", channel=watch.id))
    return answered(call, _shown(watch))


def stop_channel(call: Call) -> Response:
    """A channel ends for who names it and what it is on, both as they were told."""
    body = call.json()
    if not isinstance(body, dict) or not body.get("id") or not body.get("resourceId"):
        raise refused(400, "required", "id and resourceId are required.")
    watch = call.server.watches.get(str(body["id"]))
    known = watch is not None and watch.about["resource_id"] == body["resourceId"]
    if watch is None or not known or watch.account_id != call.account.id:
        message = f"Channel '{body['id']}' not found for project '{call.server.auth.client_id}'"
        raise refused(404, "channelIdNotFound", message)
    call.server.watches.remove(watch.id)
    return Response(status_code=204)


def _id(call: Call, body: Json) -> str:
    """Chosen by the caller, and never used before."""
    id_ = str(body.get("id") or "")
    if not ID.fullmatch(id_):
        raise refused(400, "invalid", "Invalid channel id: 1 to 64 letters, digits or signs.")
    if id_ in call.state.channels:
        raise refused(400, "channelIdNotUnique", f"Channel id {id_} not unique")
    return id_


def _url(body: Json) -> str:
    if body.get("type") not in TYPES:
        raise refused(400, "invalid", f"Unknown channel type: {body.get('type')}")
    url = urlsplit(str(body.get("address") or ""))
    safe = url.scheme == "https" or (url.scheme == "http" and url.hostname in LOOPBACK)
    if not safe or not url.hostname:
        message = "WebHook callback must be HTTPS."
        raise refused(400, "push.webhookUrlNotHttps", message)
    return url.geturl()


def _until(call: Call, body: Json, lasting: Lasting) -> float:
    """When it ends: as asked, but never later than its kind lasts."""
    now = call.clock.time()
    asked = body.get("expiration")
    params = body.get("params")
    ttl = params.get("ttl") if isinstance(params, dict) else None
    try:
        wanted = int(asked) / 1000 if asked else now + int(ttl) if ttl else None
    except (TypeError, ValueError) as error:
        raise refused(400, "invalid", "Invalid expiration.") from error
    if wanted is not None and wanted <= now:
        raise refused(400, "invalid", "The expiration is in the past.")
    usual, longest = now + lasting.usual.total_seconds(), now + lasting.longest.total_seconds()
    return min(usual if wanted is None else wanted, longest)


def _resource_id(call: Call, resource: str) -> str:
    """The same for every channel on the same thing."""
    named = f"{call.vendor}:{call.account.id}:{resource}"
    return sha256(named.encode()).hexdigest()[:27]


def _shown(watch: Address) -> Json:
    return {
        "kind": "api#channel",
        "id": watch.id,
        "resourceId": watch.about["resource_id"],
        "resourceUri": watch.about["uri"],
        **({"token": watch.secret} if watch.secret else {}),
        "expiration": str(int((watch.expires_at or 0) * 1000)),
    }


def compose(delivery: Delivery) -> Message:
    """Headers only: nothing is signed, the channel's token is echoed."""
    watch, (notice,) = delivery.address, delivery.notices
    told: Told = notice.event.what
    headers = {
        "Content-Type": "application/json; charset=UTF-8",
        "X-Goog-Channel-ID": watch.id,
        "X-Goog-Channel-Expiration": formatdate(watch.expires_at, usegmt=True),
        "X-Goog-Resource-ID": watch.about["resource_id"],
        "X-Goog-Resource-URI": watch.about["uri"],
        "X-Goog-Resource-State": told.state,
        # They rise, and not by one.
        "X-Goog-Message-Number": str(1 + (notice.number - 1) * 37),
    }
    if watch.secret:
        headers["X-Goog-Channel-Token"] = watch.secret
    if told.changed:
        headers["X-Goog-Changed"] = told.changed
    return Message(url=watch.url, headers=headers)


def concerns(vendor: str, event: Event, watch: Address) -> bool:
    told: Told = event.what
    if watch.about.get("vendor") != vendor or watch.about["resource"] != told.resource:
        return False
    return told.channel in ("", watch.id)


def retry(delivery: Delivery, answered: AppResponse) -> float | None:
    """With growing gaps where the app says that it cannot now; anything else is lost."""
    if answered.status not in TRIED_AGAIN or delivery.attempt >= ATTEMPTS:
        return None
    return FIRST_BACKOFF * 2.0 ** (delivery.attempt - 1)


def sender(vendor: str) -> Sender:
    """How the channels of that vendor deliver."""

    def of_vendor(event: Event, watch: Address) -> bool:
        return concerns(vendor, event, watch)

    return Sender(
        compose=compose,
        notices=to_watches(of_vendor),
        deadline=10.0,
        retry=retry,
        acknowledges=lambda answered: answered.status in ACKNOWLEDGED,
    )
