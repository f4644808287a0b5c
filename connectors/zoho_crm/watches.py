"""Notifications: a channel for each module, which ends within a week unless it is renewed.

Zoho sends ids, signs nothing, and promises nothing of how surely it sends: a notification is a
hint to read what is new, and polls go on as without it.
https://www.zoho.com/crm/developer/docs/api/v8/notifications/overview.html
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from connectors import (
    Calls,
    CheckpointExpiredError,
    Context,
    Delivery,
    Effect,
    Event,
    MadeWatch,
    NoWatch,
    Request,
    Response,
    Watch,
    WatchRequest,
    Webhook,
    ask,
)
from connectors.kernel.signatures import echoed_token
from connectors.kernel.versions import parse_time
from connectors.kernel.webhooks import WatchSteps
from connectors.zoho_crm.errors import code_of
from connectors.zoho_crm.modules import STREAM_OF

SCOPE = "ZohoCRM.notifications.ALL"
PATH = "/actions/watch"
# Zoho cuts what is longer than a week.
LIFETIME = timedelta(days=7)
MARGIN = timedelta(minutes=10)
# A channel's id is a number that we choose: one of eighteen digits.
CHANNELS = 10**18
REFUSED = (400, 403, 404)


def events(delivery: Delivery) -> Sequence[Event]:
    """That records of a module were made, changed or deleted."""
    body = delivery.json
    operation, channel = str(body["operation"]), str(body["channel_id"])
    ids = ",".join(str(id_) for id_ in body["ids"])
    event = Event(
        id=f"{channel}:{body['server_time']}:{operation}:{ids}"[:500],
        type=f"{body['module']}.{operation}"[:100],
        effect=Effect.HINT,
        watch_id=channel,
        streams=streams_of(str(body["module"])),
        token=str(body.get("token") or ""),
    )
    return (event,)


def streams_of(module: str) -> tuple[str, ...]:
    return (STREAM_OF[module],)


def resources(context: Context) -> Calls[Sequence[str]]:
    """The modules with a stream of their own, where notifications were allowed at consent: a hint
    of another one would have all others read as well."""
    yield from ()
    return tuple(STREAM_OF) if SCOPE in context.config.get("scopes", (SCOPE,)) else ()


def create(wanted: WatchRequest) -> WatchSteps:
    channel = str(int(wanted.id, 16) % CHANNELS)
    response = yield from ask(Request.post(PATH, json=_body(wanted, channel), expect=REFUSED))
    made = _outcome(response)
    if made.get("code") != "SUCCESS":
        return NoWatch(f"Zoho CRM gives no notifications of {wanted.resource} ({_code(made)})")
    return _made(wanted, channel, made)


def renew(wanted: WatchRequest, watched: MadeWatch) -> WatchSteps:
    """A week more, with the secret that it has from now on."""
    body = _body(wanted, watched.vendor_id)
    response = yield from ask(Request("PUT", PATH, json=body, expect=REFUSED))
    made = _outcome(response)
    if made.get("code") != "SUCCESS":
        raise CheckpointExpiredError("Zoho CRM no longer keeps this notification channel")
    return _made(wanted, watched.vendor_id, made)


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    params = {"channel_ids": watched.vendor_id}
    yield from ask(Request("DELETE", PATH, params=params, expect=REFUSED))


def _body(wanted: WatchRequest, channel: str) -> dict[str, Any]:
    ends = wanted.context.now + min(wanted.lifetime, LIFETIME) - MARGIN
    item = {
        "channel_id": channel,
        "events": [f"{wanted.resource}.all"],
        "channel_expiry": ends.isoformat(timespec="seconds"),
        "token": wanted.secret,
        "notify_url": wanted.address,
    }
    return {"watch": [item]}


def _outcome(response: Response) -> Mapping[str, Any]:
    """What became of the one channel; its failure may come with a status of success (207)."""
    items = (response.json or {}).get("watch") or [{"code": code_of(response)}]
    return dict(items[0])


def _code(outcome: Mapping[str, Any]) -> str:
    return str(outcome.get("code") or "no reason given")[:40]


def _made(wanted: WatchRequest, channel: str, outcome: Mapping[str, Any]) -> MadeWatch:
    """It ends when Zoho says, which may be earlier than was asked for."""
    ends = [parse_time(event["channel_expiry"]) for event in outcome["details"]["events"]]
    return MadeWatch(vendor_id=channel, expires_at=min(ends), state={"module": wanted.resource})


webhook = Webhook(
    events=events,
    # Zoho does not promise to tell of every change.
    covers=(),
    verify_event=echoed_token,
    proof="Nothing is signed. The body repeats the secret of its own channel (`token`). What it "
    "names is read again; nothing is deleted or stored for it.",
)

watch = Watch(
    resources=resources,
    create=create,
    renew=renew,
    delete=delete,
    streams=streams_of,
    lifetime=LIFETIME,
)
