"""Graph's subscriptions and change notifications: for what, how long, and how an address is proven.

https://learn.microsoft.com/graph/api/resources/subscription
https://learn.microsoft.com/graph/change-notifications-delivery-webhooks
"""

import json
import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from starlette.responses import Response

from sandbox._microsoft import GRAPH, missing, new_id, person_of, problem
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Answer, Json, RefusedError, reply
from sandbox.kernel.vendor import Route
from sandbox.kernel.webhooks import (
    AppResponse,
    CallbackFlow,
    Delivery,
    Event,
    Message,
    Notice,
    Receivers,
    Sender,
)

PATH = "/v1.0/subscriptions"
# What is asked for less is given this.
SHORTEST = timedelta(minutes=45)
LONGEST_SECRET = 128
MOST_PER_MAILBOX = 1_000
DEADLINE = 10.0
GIVES_UP_AFTER = timedelta(hours=4)
# Notifications of so many, of whatever subscriptions, share a call to one address.
TOGETHER = 20
REAUTHORIZE = "reauthorizationRequired"


@dataclass(frozen=True)
class Rule:
    """What may be subscribed to below one kind of resource, and what is told about the watch.

    `alone` is the longest without an address for lifecycle notifications, `at_most` how many an
    account may have.
    """

    vendor: str
    resource: str
    scopes: tuple[str, ...]
    longest: timedelta
    lifecycle: tuple[str, ...]
    changes: tuple[str, ...] = ("created", "updated", "deleted")
    alone: timedelta | None = None
    at_most: int | None = None


def _mailbox(resource: str, scope: str) -> Rule:
    lifecycle = (REAUTHORIZE, "subscriptionRemoved", "missed")
    longest = timedelta(minutes=10_080)
    return Rule("outlook", resource, (scope,), longest, lifecycle, at_most=MOST_PER_MAILBOX)


def _chat(resource: str, scope: str) -> Rule:
    lifecycle = (REAUTHORIZE, "subscriptionRemoved")
    longest, alone = timedelta(minutes=4_320), timedelta(hours=1)
    return Rule("ms_teams", resource, (scope,), longest, lifecycle, alone=alone)


RULES = (
    Rule(
        vendor="onedrive",
        resource=r"(me/drive|drives/[^/]+)/root",
        scopes=("Files.Read", "Files.Read.All"),
        longest=timedelta(minutes=42_300),
        lifecycle=(REAUTHORIZE,),
        changes=("updated",),
    ),
    _mailbox(r"me/(mailFolders(\('[^']+'\)|/[^/]+)/)?messages", "Mail.Read"),
    _mailbox(r"me/(calendars/[^/]+/)?events", "Calendars.Read"),
    _mailbox(r"me/(contactFolders/[^/]+/)?contacts", "Contacts.Read"),
    _chat(r"teams/[^/]+/channels/[^/]+/messages", "ChannelMessage.Read.All"),
    _chat(r"chats/[^/]+/messages", "Chat.Read"),
)


@dataclass(frozen=True)
class Changed:
    """Something that a vendor's data tells: `resource` as the notification names it, and `data` as
    its resourceData, None where it holds none."""

    change_type: str
    resource: str
    data: Json | None = None


@dataclass(frozen=True)
class Lifecycle:
    """What happened to the account's subscriptions themselves."""

    event: str


def create(call: Call) -> CallbackFlow[Response]:
    """A new subscription, once both of its addresses have proven themselves."""
    asked = _asked(call)
    rule = _ruled(call, asked)
    expires_at = _until(call, rule, asked)
    for name in ("notificationUrl", "lifecycleNotificationUrl"):
        if asked.get(name):
            yield from _validate(call, str(asked[name]))
    watch = Address(
        url=asked["notificationUrl"],
        secret=str(asked.get("clientState") or ""),
        id=new_id(),
        account_id=call.account.id,
        about={
            "asked": asked,
            "vendor": rule.vendor,
            "resource": asked["resource"].strip("/"),
            "changes": asked["changeType"].split(","),
            "lifecycle_url": asked.get("lifecycleNotificationUrl"),
            "tenant_id": person_of(call).tenant_id,
            "suspended": False,
        },
        grant=call.grant,
        expires_at=expires_at.timestamp(),
    )
    call.server.watches.add(watch)
    return reply(_shown(call, watch), 201)


def listed(call: Call) -> Response:
    watches = call.server.watches.of(call.account.id)
    return reply({"value": [_shown(call, watch) for watch in watches]})


def shown(call: Call) -> Response:
    return reply(_shown(call, _watch(call)))


def renew(call: Call) -> Response:
    """A later end; it also gives the authorisation that was asked for."""
    watch, asked = _watch(call), call.json()
    if not isinstance(asked, dict) or set(asked) != {"expirationDateTime"}:
        raise _invalid(call, "Only expirationDateTime can be changed.")
    full = {**watch.about["asked"], **asked}
    expires_at = _until(call, _ruled(call, full), full)
    renewed = _resumed(replace(watch, expires_at=expires_at.timestamp()))
    call.server.watches.add(renewed)
    return reply(_shown(call, renewed))


def reauthorize(call: Call) -> Response:
    call.server.watches.add(_resumed(_watch(call)))
    return Response(status_code=204)


def delete(call: Call) -> Response:
    call.server.watches.remove(_watch(call).id)
    return Response(status_code=204)


ROUTES = (
    Route("POST", GRAPH, PATH, create),
    Route("GET", GRAPH, PATH, listed),
    Route("GET", GRAPH, f"{PATH}/{{id}}", shown),
    Route("PATCH", GRAPH, f"{PATH}/{{id}}", renew),
    Route("DELETE", GRAPH, f"{PATH}/{{id}}", delete),
    Route("POST", GRAPH, f"{PATH}/{{id}}/reauthorize", reauthorize),
)


def _asked(call: Call) -> Json:
    asked = call.json()
    if not isinstance(asked, dict):
        raise _invalid(call, "The body is not a JSON object.")
    for name in ("changeType", "notificationUrl", "resource", "expirationDateTime"):
        if not isinstance(asked.get(name), str) or not asked[name]:
            raise _invalid(call, f"{name} is missing.")
    for name in ("notificationUrl", "lifecycleNotificationUrl"):
        url = str(asked.get(name) or asked["notificationUrl"])
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise _invalid(call, f"{name} is not a web address.")
    if len(str(asked.get("clientState") or "")) > LONGEST_SECRET:
        raise _invalid(call, f"clientState has more than {LONGEST_SECRET} characters.")
    return asked


def _rule_of(resource: str) -> Rule | None:
    path = resource.strip("/").partition("?")[0]
    found = (rule for rule in RULES if re.fullmatch(rule.resource, path, re.IGNORECASE))
    return next(found, None)


def _ruled(call: Call, asked: Json) -> Rule:
    rule = _rule_of(asked["resource"])
    if rule is None:
        raise _invalid(call, "The resource cannot be subscribed to.")
    changes = asked["changeType"].split(",")
    if not set(changes) <= set(rule.changes):
        raise _invalid(call, f"changeType may be: {', '.join(rule.changes)}.")
    if call.grant is None or not set(rule.scopes) & set(call.grant.scopes):
        raise Answer(problem(call, 403, "ExtensionError", "The scopes do not allow this."))
    watches = call.server.watches.of(call.account.id)
    held = sum(each.about["vendor"] == rule.vendor for each in watches)
    if call.method == "POST" and rule.at_most is not None and held >= rule.at_most:
        raise Answer(problem(call, 403, "ExtensionError", "Too many subscriptions."))
    return rule


def _until(call: Call, rule: Rule, asked: Mapping[str, Any]) -> datetime:
    """When it ends: never sooner than in 45 minutes, and no later than its resource allows."""
    now = call.clock.now()
    try:
        until = datetime.fromisoformat(str(asked["expirationDateTime"]))
    except ValueError:
        raise _invalid(call, "expirationDateTime is not a time.") from None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    if rule.alone and not asked.get("lifecycleNotificationUrl") and until > now + rule.alone:
        raise _invalid(call, f"lifecycleNotificationUrl is required for more than {rule.alone}.")
    if not now < until <= now + rule.longest:
        minutes = rule.longest // timedelta(minutes=1)
        raise _invalid(call, f"A subscription can only expire in the next {minutes} minutes.")
    return max(until, now + SHORTEST)


def _validate(call: Call, url: str) -> CallbackFlow[None]:
    """The address answers with the token that it was called with, decoded, as plain text."""
    token = f"Validation: Testing client application + <{secrets.token_urlsafe(16)}> é"
    joint = "&" if urlsplit(url).query else "?"
    answered = yield Message(
        url=f"{url}{joint}{urlencode({'validationToken': token})}",
        headers={"content-type": "text/plain; charset=utf-8"},
    )
    media = answered.headers.get("content-type", "").partition(";")[0].strip().lower()
    proven = answered.status == 200 and media == "text/plain" and answered.body == token.encode()
    if not proven:
        told = answered.failure or f"HTTP status code {answered.status}"
        raise _invalid(call, f"Subscription validation request failed: {told}.")


def _watch(call: Call) -> Address:
    watch = call.server.watches.get(call.params["id"])
    if watch is None or watch.account_id != call.account.id:
        raise missing(call, "ResourceNotFound")
    return watch


def _resumed(watch: Address) -> Address:
    return replace(watch, about={**watch.about, "suspended": False})


def _shown(call: Call, watch: Address) -> Json:
    return {
        "@odata.context": f"https://{GRAPH}/v1.0/$metadata#subscriptions/$entity",
        "id": watch.id,
        "resource": watch.about["asked"]["resource"],
        "applicationId": call.server.auth.client_id,
        "changeType": ",".join(watch.about["changes"]),
        "clientState": watch.secret or None,
        "notificationUrl": watch.url,
        "lifecycleNotificationUrl": watch.about["lifecycle_url"],
        "expirationDateTime": _ends(watch),
        "creatorId": watch.account_id,
        "includeResourceData": False,
    }


def _ends(watch: Address) -> str:
    return datetime.fromtimestamp(watch.expires_at or 0, UTC).isoformat().replace("+00:00", "Z")


def _invalid(call: Call, message: str) -> Answer:
    return Answer(problem(call, 400, "ValidationError", message))


def sender(
    vendor: str, concerns: Callable[[str, Changed], bool] = lambda resource, changed: True
) -> Sender:
    """How a vendor's changes are told: to the live watches of the account, of whose resources
    `concerns` says which a change is about."""

    def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
        for watch in receivers.watches.of(event.account_id):
            about, what = watch.about, event.what
            if about["vendor"] != vendor:
                continue
            if isinstance(what, Lifecycle):
                yield from _lifecycle(event, what, watch, receivers)
                continue
            told = what.change_type in about["changes"] and not about["suspended"]
            if told and concerns(about["resource"], what):
                yield Notice(event=event, address=watch)

    return Sender(
        compose=compose,
        deadline=DEADLINE,
        retry=_again,
        notices=notices,
        batch=TOGETHER,
        together=lambda notice: notice.address.url,
    )


def _lifecycle(
    event: Event, lifecycle: Lifecycle, watch: Address, receivers: Receivers
) -> Iterable[Notice]:
    """Each resource has its own lifecycle events; without an address for them none is sent."""
    rule, url = _rule_of(watch.about["resource"]), watch.about["lifecycle_url"]
    if rule is None or lifecycle.event not in rule.lifecycle:
        return
    if lifecycle.event == "subscriptionRemoved":
        receivers.watches.remove(watch.id)
    if lifecycle.event == REAUTHORIZE:
        receivers.watches.add(replace(watch, about={**watch.about, "suspended": True}))
    if url:
        yield Notice(event=event, address=replace(watch, url=url))


def compose(delivery: Delivery) -> Message:
    """One call with all notifications of a delivery, each with the secret of its own watch."""
    body = {"value": [_notification(notice) for notice in delivery.notices]}
    return Message(
        url=delivery.address.url,
        headers={"content-type": "application/json; charset=utf-8"},
        body=json.dumps(body).encode(),
    )


def _notification(notice: Notice) -> Json:
    watch, what = notice.address, notice.event.what
    told: Json = {
        "subscriptionId": watch.id,
        "subscriptionExpirationDateTime": _ends(watch),
        "tenantId": watch.about["tenant_id"],
        "clientState": watch.secret or None,
    }
    if isinstance(what, Lifecycle):
        return {**told, "lifecycleEvent": what.event}
    told |= {"changeType": what.change_type, "resource": what.resource}
    return told if what.data is None else {**told, "resourceData": what.data}


def _again(delivery: Delivery, answered: AppResponse) -> float | None:
    """With growing pauses, for up to four hours."""
    wait = 10.0 * 2 ** (delivery.attempt - 1)
    return None if delivery.age + wait > GIVES_UP_AFTER.total_seconds() else wait


def lifecycle(state: Any, body: Json) -> Json:
    """A control: something happened to an account's subscriptions. Its state has a `tell`."""
    event = str(body.get("event", ""))
    known = sorted({name for rule in RULES for name in rule.lifecycle})
    if event not in known:
        raise RefusedError(f"name an event: {', '.join(known)}", status=400)
    state.tell(Lifecycle(event))
    return {"account": body["account"], "event": event}
