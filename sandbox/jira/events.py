"""Jira's dynamic webhooks: made by the API, told with a token that covers nothing of the body.

https://developer.atlassian.com/cloud/jira/platform/webhooks
"""

import hmac
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson
from starlette.responses import Response

from sandbox.jira.answers import paged, wrong
from sandbox.jira.auth import CLIENT_SECRET
from sandbox.jira.store import Site
from sandbox.kernel.jwt import packed, unpadded
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Json, reply
from sandbox.kernel.webhooks import Delivery, Event, Message, Notice, Receivers, Sender, again_after

LIFETIME = 30 * 86_400.0
MOST = 5
EVENTS = {
    f"{what}_{how}"
    for what in ("jira:issue", "comment")
    for how in ("created", "updated", "deleted")
} | {"issue_property_set", "issue_property_deleted"}
_TERM = re.compile(r"(\w+)\s*(!=|=|not\s+in|in|is\s+not|is|~|[<>]=?)\s*(.*)", re.IGNORECASE)
_FIELDS = ("issuekey", "project", "issuetype", "status", "assignee", "reporter")


def register(site: Site, call: Call) -> Response:
    """Each webhook by itself: one that is refused is told so with status 200."""
    body = call.json()
    url, hooks = str(body.get("url", "")), body.get("webhooks")
    if not url.startswith(("https://", "http://127.0.0.1")) or not isinstance(hooks, list):
        return wrong(400, "A webhook needs an https url and at least one filter.")
    if any(each.url != url for each in _standing(site, call)):
        return wrong(400, "Only a single URL per app is allowed to be registered via REST API.")
    results = [_registered(site, call, url, hook) for hook in hooks]
    return reply({"webhookRegistrationResult": results})


def _registered(site: Site, call: Call, url: str, hook: Json) -> Json:
    events, jql = hook.get("events") or [], str(hook.get("jqlFilter", "")).strip()
    term = _TERM.fullmatch(jql)
    if len(_standing(site, call)) >= MOST:
        return {"errors": [f"Maximum number of webhooks ({MOST}) has been reached."]}
    if not events or not set(events) <= EVENTS:
        return {"errors": ["The events are missing or not known."]}
    if not jql:
        return {"errors": ["Empty JQL search not supported"]}
    if term is None or term[1].lower() not in _FIELDS:
        return {"errors": [f"The field of {jql[:40]!r} is unsupported"]}
    if term[2].lower() not in ("=", "!=", "in", "not in"):
        return {"errors": [f"Operator {term[2].lower()} is unsupported"]}
    number = int(site.next())
    about = {"number": number, "jql": jql, "term": term.groups(), "events": list(events)}
    _keep(site, call, Address(
        url=url, secret=CLIENT_SECRET, id=f"{site.id}:{number}", account_id=site.id, about=about,
        grant=call.grant, expires_at=call.clock.time() + LIFETIME,
    ))  # fmt: skip
    return {"createdWebhookId": number}


def listed(site: Site, call: Call) -> Response:
    rows = [
        {
            "id": each.about["number"], "jqlFilter": each.about["jql"], "url": each.url,
            "events": each.about["events"], "expirationDate": _date(site, each),
        }
        for each in _standing(site, call)
    ]  # fmt: skip
    return paged(call, rows, most=100)


def refresh(site: Site, call: Call) -> Response:
    """Ids that are not known are passed over."""
    ids, until = call.json().get("webhookIds", []), call.clock.time() + LIFETIME
    for each in _standing(site, call):
        if each.about["number"] in ids:
            _keep(site, call, Address(**{**vars(each), "expires_at": until}))
    return reply({"expirationDate": _written(site, until)})


def remove(site: Site, call: Call) -> Response:
    for each in _standing(site, call):
        if each.about["number"] in call.json().get("webhookIds", []):
            call.server.watches.remove(each.id)
    return Response(status_code=202)


def _standing(site: Site, call: Call) -> list[Address]:
    return call.server.watches.of(site.id)


def _keep(site: Site, call: Call, hook: Address) -> None:
    call.server.watches.add(hook)


def _date(site: Site, hook: Address) -> str:
    return _written(site, hook.expires_at or 0)


def _written(site: Site, at: float) -> str:
    return site.time(datetime.fromtimestamp(at, UTC))


# -- What is told ----------------------------------------------------------------------------------


def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """To the app, as if every site had a webhook of its own, and to each that matches."""
    if receivers.app:
        yield Notice(event=event, address=receivers.app)
    for hook in receivers.watches.of(event.account_id):
        if event.what["event"] in hook.about["events"] and _matches(hook.about, event.what):
            yield Notice(event=event, address=hook)


def _matches(about: Mapping[str, Any], what: Mapping[str, Any]) -> bool:
    name, sign, text = about["term"]
    values = {value.strip(" ()'\"").lower() for value in text.split(",")}
    fields = what["fields"]
    found = {
        "project": what["project"], "issuekey": what["key"],
        "status": fields["status"]["name"], "issuetype": fields["issuetype"]["name"],
    }.get(name.lower(), "")  # fmt: skip
    return (found.lower() in values) == (sign.lower() in ("=", "in"))


def compose(delivery: Delivery) -> Message:
    (event,) = delivery.events
    what, hook = event.what, delivery.address
    # Where the record is, one webhook writes as the site has it, another as the API does.
    base = f"https://api.atlassian.com/ex/jira/{event.account_id}"
    if hook.id:
        base = f"https://{what['host']}"
    issue = {"id": what["issue"], "self": f"{base}/rest/api/2/{what['issue']}", "key": what["key"]}
    body = {
        "timestamp": round(event.at.timestamp() * 1000), "webhookEvent": what["event"],
        **({"issue_event_type_name": what["kind"]} if what["kind"] else {}),
        "issue": {**issue, "fields": what["fields"]},
        **({"comment": what["comment"]} if "comment" in what else {}),
        **({"changelog": what["changelog"]} if "changelog" in what else {}),
        **({"matchedWebhookIds": [hook.about["number"]]} if hook.id else {}),
    }  # fmt: skip
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {_token(hook.secret, int(delivery.now.timestamp()))}",
        "X-Atlassian-Webhook-Identifier": str(uuid5(NAMESPACE_URL, f"{event.id} {hook.id}")),
        "X-Atlassian-Webhook-Flow": "Primary",
        **(
            {"X-Atlassian-Webhook-Retry": str(delivery.attempt - 1)} if delivery.attempt > 1 else {}
        ),
    }
    return Message(url=hook.url, headers=headers, body=orjson.dumps(body))


def _token(secret: str, now: int) -> str:
    """Which claims Jira makes is not documented: these are assumed."""
    claims = {"iss": "jira", "iat": now, "exp": now + 180}
    signed = f"{packed({'alg': 'HS256', 'typ': 'JWT'})}.{packed(claims)}"
    return f"{signed}.{unpadded(hmac.digest(secret.encode(), signed.encode(), 'sha256'))}"


SENDER = Sender(
    compose=compose,
    notices=notices,
    deadline=20.0,
    retry=again_after(60, 300, 900, 1_800, 3_600),
    secret=CLIENT_SECRET,
)
