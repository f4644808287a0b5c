"""Graph's change notifications: how they are proven and read, and the subscriptions behind them.

https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
https://learn.microsoft.com/graph/change-notifications-lifecycle-events
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from urllib.parse import quote

from connectors import (
    Calls,
    CheckpointExpiredError,
    Context,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    Reply,
    Request,
    Response,
    Watch,
    WatchRequest,
    Webhook,
    ask,
)
from connectors._microsoft import code_of
from connectors.kernel.signatures import echoed_token
from connectors.kernel.versions import parse_time

SUBSCRIPTIONS = "/subscriptions"
# Taken, and not yet acted on: the status that Graph asks for.
ACCEPTED = Reply(status=202)
LIFECYCLE = {
    "reauthorizationRequired": Effect.RENEW,
    "subscriptionRemoved": Effect.LOST,
    "missed": Effect.MISSED,
}


@dataclass(frozen=True)
class Meaning:
    """What a notification asks for: READ and DELETED are of one stream, and name the record."""

    effect: Effect
    streams: tuple[str, ...]
    key: str = ""


# Reads one element of `value`; None where it is of no interest.
Means: TypeAlias = Callable[[Mapping[str, Any]], Meaning | None]


def hint(*streams: str) -> Means:
    """Of notifications that say no more than that something changed in these streams."""
    return lambda notification: Meaning(Effect.HINT, streams)


def graph_webhook(*, means: Means, covers: tuple[str, ...]) -> Webhook:
    """How Graph's notifications are proven and read.

    Nothing is signed: each notification echoes the secret (clientState) of its own watch. One
    delivery may hold those of several watches and tenants.
    """

    def events(delivery: Delivery) -> Sequence[Event]:
        notifications = delivery.json["value"]
        if not isinstance(notifications, list):
            raise TypeError("notifications that are not a list")
        found = [_event(delivery, one, means) for one in notifications]
        return [event for event in found if event is not None]

    return Webhook(
        events=events,
        covers=covers,
        handshake=handshake,
        verify_event=echoed_token,
        reply=lambda delivery: ACCEPTED,
        proof="Nothing is signed. Each notification repeats the secret of its own subscription "
        "(`clientState`): whose it is. What it names is read again; nothing is deleted for it.",
    )


def handshake(delivery: Delivery) -> Reply | None:
    """Graph proves an address while our call that creates the watch is still open.

    The token comes back as it is once its URL encoding is undone, as plain text.
    """
    token = delivery.query.get("validationToken")
    if token is None or delivery.method != "POST":
        return None
    return Reply(token, headers={"x-content-type-options": "nosniff"})


def _event(delivery: Delivery, notification: Mapping[str, Any], means: Means) -> Event | None:
    watch_id = str(notification.get("subscriptionId", ""))
    token = str(notification.get("clientState") or "")
    if lifecycle := notification.get("lifecycleEvent"):
        effect = LIFECYCLE.get(str(lifecycle))
        if effect is None:
            return None
        meaning, kind = Meaning(effect, ()), str(lifecycle)
    else:
        kind = str(notification.get("changeType", ""))
        found = means(notification)
        if found is None:
            return None
        meaning = found
    return Event(
        id=":".join((watch_id, kind, _identity(delivery, notification, kind))),
        type=kind,
        effect=meaning.effect,
        watch_id=watch_id,
        streams=meaning.streams,
        key=meaning.key,
        token=token,
    )


def _identity(delivery: Delivery, notification: Mapping[str, Any], kind: str) -> str:
    """What tells a notification from the next one of its watch; Graph has no dependable id.

    Where it names no version of the record, a notification that is sent again counts as new: read
    twice is better than a change that is taken for one we know.
    """
    data = notification.get("resourceData")
    if isinstance(data, dict) and isinstance(data.get("id"), str):
        etag = str(data.get("@odata.etag") or "")
        if etag or kind in ("created", "deleted"):
            return f"{data['id']}:{etag}"
    return f"{notification.get('resource', '')}:{delivery.received_at.isoformat()}"


def graph_watch(
    *,
    resources: Callable[[Context], Calls[Sequence[str]]],
    streams: Callable[[str], tuple[str, ...]],
    lifetime: timedelta,
    change_type: str = "created,updated,deleted",
) -> Watch:
    """Subscriptions to Graph's resources, such as `/me/drive/root`.

    Lifecycle notifications go to the same address; that can only be said at creation.
    """

    def create(wanted: WatchRequest) -> Calls[MadeWatch | NoWatch]:
        body = {
            "changeType": change_type,
            "notificationUrl": wanted.address,
            "lifecycleNotificationUrl": wanted.address,
            "resource": wanted.resource,
            "expirationDateTime": _until(wanted),
            "clientState": wanted.secret,
        }
        # A conflict: of some resources our app may have one only, whoever it is for.
        response = yield from ask(Request.post(SUBSCRIPTIONS, json=body, expect=(403, 409)))
        if response.status in (403, 409):
            code = code_of(response) or response.status
            return NoWatch(f"Microsoft allows no subscription here ({code})")
        return _watched(response)

    def renew(wanted: WatchRequest, watched: MadeWatch) -> Calls[MadeWatch | NoWatch]:
        # It also gives the authorisation that `reauthorizationRequired` asks for.
        body = {"expirationDateTime": _until(wanted)}
        path = _path(watched)
        response = yield from ask(Request("PATCH", path, json=body, expect=(404,)))
        if response.status == 404:
            raise CheckpointExpiredError("Microsoft no longer has this subscription")
        return _watched(response)

    return Watch(
        resources=resources,
        streams=streams,
        lifetime=lifetime,
        create=create,
        renew=renew,
        delete=_delete,
    )


def _delete(watched: MadeWatch, context: Context) -> Calls[None]:
    yield Request("DELETE", _path(watched), expect=(404,))


def _path(watched: MadeWatch) -> str:
    return f"{SUBSCRIPTIONS}/{quote(watched.vendor_id, safe='')}"


def _watched(response: Response) -> MadeWatch:
    body = response.json
    return MadeWatch(vendor_id=body["id"], expires_at=parse_time(body["expirationDateTime"]))


def _until(wanted: WatchRequest) -> str:
    return iso(wanted.context.now + wanted.lifetime)


def iso(at: datetime) -> str:
    """A time as Graph takes it."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
