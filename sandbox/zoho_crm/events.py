"""Notification channels: of which modules' records they tell, with what token, and until when.

https://www.zoho.com/crm/developer/docs/api/v8/notifications/enable.html
"""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Json, reply
from sandbox.kernel.vendor import Route
from sandbox.kernel.webhooks import Delivery, Event, Message, Sender, again_after, to_watches
from sandbox.zoho_crm.api import HOSTS, allow, no
from sandbox.zoho_crm.store import Org, written

LONGEST, DEFAULT = timedelta(days=7), timedelta(hours=1)
LONGEST_TOKEN = 50
EVENT_OF = {"insert": "create", "update": "edit", "delete": "delete"}
PATH = "/crm/v8/actions/watch"


def enable(call: Call) -> Response:
    """New channels, or, by PUT, the new state of those that there are."""
    items = _items(call)
    outcomes = [_enabled(call, item) for item in items]
    failed = sum(outcome["status"] == "error" for outcome in outcomes)
    status = 400 if failed == len(outcomes) else 207 if failed else 201
    return reply({"watch": outcomes}, 200 if status == 201 and call.method == "PUT" else status)


def _items(call: Call) -> list[Json]:
    allow(call, "notifications.ALL")
    body = call.json()
    items = body.get("watch") if isinstance(body, dict) else None
    if not isinstance(items, list) or not items:
        no(400, "MANDATORY_NOT_FOUND", "required field not found", api_name="watch")
    return items


def _error(code: str, message: str, **details: Any) -> Json:
    return {"code": code, "details": details, "message": message, "status": "error"}


def _enabled(call: Call, item: Json) -> Json:
    org: Org = call.state
    for name in ("channel_id", "events", "notify_url"):
        if not item.get(name):
            return _error("MANDATORY_NOT_FOUND", "required field not found", api_name=name)
    channel, token = str(item["channel_id"]), str(item.get("token") or "")
    if not channel.isdecimal() or len(channel) > 19 or len(token) > LONGEST_TOKEN:
        wrong = "token" if channel.isdecimal() else "channel_id"
        return _error("INVALID_DATA", "invalid data", api_name=wrong)
    modules = [event.partition(".")[0] for event in item["events"]]
    for name in modules:
        if name not in org.modules or not org.modules[name].api_supported:
            return _error("INVALID_MODULE", "the module name given seems to be invalid", name=name)
    known = call.server.watches.get(channel)
    if call.method == "PUT" and (known is None or known.account_id != call.account.id):
        return _error("NOT_SUBSCRIBED", "the given channel is not subscribed")
    now = call.clock.now()
    asked = item.get("channel_expiry")
    ends = min(datetime.fromisoformat(asked) if asked else now + DEFAULT, now + LONGEST)
    call.server.watches.add(
        Address(
            url=item["notify_url"], secret=token, id=channel, account_id=call.account.id,
            about={"events": tuple(item["events"])}, grant=call.grant, expires_at=ends.timestamp(),
        )
    )  # fmt: skip
    told = [
        {
            "channel_expiry": written(ends),
            "resource_uri": f"https://{call.host}/crm/v8/{name}",
            "resource_id": org.modules[name].id,
            "resource_name": name,
            "channel_id": channel,
        }
        for name in modules
    ]
    message = "Successfully subscribed for actions-watch of the given module"
    return {"code": "SUCCESS", "details": {"events": told}, "message": message, "status": "success"}


def show(call: Call) -> Response:
    allow(call, "notifications.ALL", "notifications.READ")
    watches = call.server.watches.of(call.account.id)
    if not watches:
        return Response(status_code=204)
    shown = [
        {
            "channel_id": each.id,
            "notify_url": each.url,
            "resource_name": event.partition(".")[0],
            "events": [event],
            "token": each.secret,
            "channel_expiry": written(datetime.fromtimestamp(each.expires_at or 0, UTC)),
        }
        for each in watches
        for event in each.about["events"]
    ]
    info = {"per_page": 200, "count": len(shown), "page": 1, "more_records": False}
    return reply({"watch": shown, "info": info})


def disable(call: Call) -> Response:
    allow(call, "notifications.ALL")
    outcomes = []
    for channel in call.query.get("channel_ids", "").split(","):
        known = call.server.watches.get(channel)
        if known is None or known.account_id != call.account.id:
            outcomes.append(_error("NOT_SUBSCRIBED", "the given channel is not subscribed"))
            continue
        call.server.watches.remove(channel)
        done = {"resource_uri": None, "resource_id": None, "channel_id": channel}
        outcomes.append(
            {"code": "SUCCESS", "details": done, "message": "Successfully unsubscribed",
             "status": "success"}
        )  # fmt: skip
    failed = all(outcome["status"] == "error" for outcome in outcomes)
    return reply({"watch": outcomes}, 400 if failed else 200)


def _concerns(event: Event, watch: Address) -> bool:
    module, operation = event.what["module"], event.what["operation"]
    asked = {f"{module}.all", f"{module}.{EVENT_OF[operation]}"}
    return bool(asked.intersection(watch.about["events"]))


def compose(delivery: Delivery) -> Message:
    """Ids, and nothing of what changed."""
    (event,), watch = delivery.events, delivery.address
    module = event.what["module"]
    body = {
        "server_time": int(event.at.timestamp() * 1000),
        "affected_values": [],
        "query_params": {},
        "module": module,
        "resource_uri": f"https://www.zohoapis.com/crm/v8/{module}",
        "ids": event.what["ids"],
        "affected_fields": {},
        "operation": event.what["operation"],
        "channel_id": watch.id,
        "token": watch.secret,
    }
    headers = {"Content-Type": "application/json"}
    return Message(url=watch.url, headers=headers, body=json.dumps(body).encode())


SENDER = Sender(
    compose=compose,
    notices=to_watches(_concerns),
    deadline=20.0,
    retry=again_after(60, 300),
)


ROUTES = (
    Route("POST", HOSTS, PATH, enable),
    Route("PUT", HOSTS, PATH, enable),
    Route("GET", HOSTS, PATH, show),
    Route("DELETE", HOSTS, PATH, disable),
)
