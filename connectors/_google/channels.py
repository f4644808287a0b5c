"""Google's notification channels: how they are opened and stopped, and what their messages say.

A message has no body, and its headers say no more than that something changed. A channel is never
renewed: a new one is opened, and the former one stopped once both have stood for a while.

https://developers.google.com/workspace/calendar/api/guides/push
https://developers.google.com/workspace/drive/api/guides/push
"""

from collections.abc import Callable
from datetime import timedelta

from connectors import (
    Context,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    Request,
    WatchRequest,
    Webhook,
)
from connectors._google import AWAY, is_away, reasons, refuse
from connectors.kernel.messages import Calls, Params, ask
from connectors.kernel.signatures import channel_secret, google_channel
from connectors.kernel.versions import EPOCH, MILLISECOND, epoch_ms
from connectors.kernel.webhooks import WatchSteps

# The longest that a channel on a log of Drive may last, and what one on a calendar does.
LIFETIME = timedelta(days=7)
# How long Drive's last where nobody asked for more: what is assumed where an answer does not say.
SHORTEST = timedelta(hours=1)
# What some calendars are, such as those of holidays.
UNWATCHABLE = frozenset({"pushNotSupportedForRequestedResource"})


def channel_webhook(
    *, streams: Callable[[str], tuple[str, ...]], covers: tuple[str, ...]
) -> Webhook:
    """`streams` tells from a resource's address what a message is about."""

    def events(delivery: Delivery) -> tuple[Event, ...]:
        headers = delivery.headers
        state = headers["x-goog-resource-state"]
        channel, number = headers["x-goog-channel-id"], headers["x-goog-message-number"]
        if state == "sync":  # only that the channel is open
            return ()
        event = Event(
            id=f"{channel}:{number}",
            type=state,
            effect=Effect.HINT,
            watch_id=channel,
            streams=streams(headers.get("x-goog-resource-uri", "")),
            token=headers.get("x-goog-channel-token", ""),
        )
        return (event,)

    return Webhook(
        events=events,
        covers=covers,
        verify_event=google_channel,
        proof="Nothing is signed. The secret, the id and the resource of one channel, which Google "
        "repeats: whose it is. So a message is a hint to read what is new, and no more.",
    )


def open_channel(
    title: str, path: str, wanted: WatchRequest, *, params: Params | None = None, without: str = ""
) -> WatchSteps:
    """A channel on the resource at that path. `without` says what cannot be watched where its scope
    was not granted."""
    body = {
        "id": wanted.id,
        "type": "web_hook",
        "address": wanted.address,
        "token": wanted.secret,
        "expiration": str(epoch_ms(wanted.context.now + wanted.lifetime)),
    }
    response = yield from ask(
        Request.post(path, params=params or {}, json=body, expect=(400, *AWAY))
    )
    if response.status == 400 and reasons(response) & UNWATCHABLE:
        return NoWatch(f"{title} opens no channel on this")
    try:
        if is_away(title, response, without=without):
            return NoWatch(f"{title} no longer shows this")
    except NotAllowedError as error:
        return NoWatch(str(error))
    if response.status == 400:
        refuse(title, response)
    channel = response.json
    expiration = channel.get("expiration")
    expires_at = (
        EPOCH + int(expiration) * MILLISECOND if expiration else response.sent_at + SHORTEST
    )
    return MadeWatch(
        vendor_id=wanted.id,
        expires_at=expires_at,
        state={"resource_id": channel["resourceId"]},
        secret=channel_secret(wanted.secret, channel["resourceId"]),
    )


def stop_channel(watched: MadeWatch, context: Context) -> Calls[None]:
    """One that is over already is no longer known."""
    body = {"id": watched.vendor_id, "resourceId": watched.state["resource_id"]}
    yield Request.post("/channels/stop", json=body, expect=(404,))
