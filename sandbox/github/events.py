"""GitHub's webhooks: made for a repository or an organisation, signed, never sent again by itself.

https://docs.github.com/en/rest/repos/webhooks
https://docs.github.com/en/webhooks/using-webhooks/best-practices-for-using-webhooks
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

import orjson
from starlette.responses import Response

from sandbox.github.api import linked, listed, no, org_of, repo_of, shown
from sandbox.github.rows import API, HOST
from sandbox.github.store import Hub
from sandbox.kernel.clock import stamp_in_seconds
from sandbox.kernel.oauth import Call
from sandbox.kernel.signing import hex_signature
from sandbox.kernel.values import Address, Json, reply
from sandbox.kernel.vendor import Route
from sandbox.kernel.webhooks import (
    AppResponse,
    Delivery,
    Event,
    Message,
    Notice,
    Receivers,
    Sender,
)

EVENTS = {
    "create", "delete", "issue_comment", "issues", "label", "member", "milestone", "organization",
    "ping", "pull_request", "pull_request_review", "pull_request_review_comment", "push", "release",
    "repository", "star", "workflow_run",
}  # fmt: skip
MOST = 20
APP_ID, APP_HOOK = "1234567", "510000001"
# Deliveries are kept for so long, and can be sent again.
KEPT = 3 * 86_400


def _place(call: Call) -> str:
    """What the hook is on; only who administrates it finds its hooks."""
    if "org" in call.params:
        _scope(call, "admin:org_hook")
        return f"organizations/{org_of(call)['id']}"
    _scope(call, "admin:repo_hook")
    repo = repo_of(call)
    if not repo.row["permissions"]["admin"]:
        no(404, "Not Found")
    return f"repositories/{repo.row['id']}"


def _scope(call: Call, scope: str) -> None:
    """A token that may not is told that there is nothing."""
    if call.grant is None or scope not in call.grant.scopes:
        no(404, "Not Found")


def create(call: Call) -> Response:
    hub, place, body = call.state, _place(call), call.json()
    config = body.get("config") if isinstance(body, dict) else None
    if not isinstance(config, dict) or not re.match(r"https?://", str(config.get("url"))):
        no(422, "Validation Failed")
    events = body.get("events") or ["push"]
    if body.get("name", "web") != "web" or not set(events) <= EVENTS | {"*"}:
        no(422, "Validation Failed")
    there = [one for one in hub.hooks.values() if one["place"] == place]
    if any(one["config"]["url"] == config["url"] for one in there):
        no(422, "Validation Failed: Hook already exists on this repository")
    if len(there) >= MOST:
        no(422, "The hook cannot be created: there are 20 already")
    id = str(410_000_000 + len(hub.hooks) + int(call.account.id) % 10**6 * 100)
    now = stamp_in_seconds(call.clock.now())
    hook = {
        "type": "Repository", "id": int(id), "name": "web", "active": body.get("active", True),
        "events": events, "created_at": now, "updated_at": now,
        "config": {"url": config["url"], "content_type": config.get("content_type", "form"),
                   "insecure_ssl": "0", "secret": config.get("secret", "")},
        "place": place,
    }  # fmt: skip
    hub.hooks[id] = hook
    call.server.watches.add(
        Address(
            url=str(config["url"]),
            secret=str(config.get("secret", "")),
            id=id,
            account_id=call.account.id,
            about={"hook": hook, "kept": hub.deliveries.setdefault(id, [])},
            grant=call.grant,
        )
    )
    call.outbox.tell(call.account.id, {"event": "ping", "hook": id, "payload": _ping(hook)})
    return reply(linked(call, _shown(hook)), 201)


def _ping(hook: Json) -> Json:
    return {"zen": "Keep it logically awesome.", "hook_id": hook["id"], "hook": _shown(hook)}


def _shown(hook: Json) -> Json:
    config = (
        {**hook["config"], "secret": "********"} if hook["config"]["secret"] else hook["config"]
    )
    url = f"{API}/{hook['place']}/hooks/{hook['id']}"
    shown = {name: value for name, value in hook.items() if name != "place"}
    return {**shown, "config": config, "url": url, "deliveries_url": f"{url}/deliveries"}


def _hook(call: Call) -> Json:
    place, hub = _place(call), call.state
    hook: Json | None = hub.hooks.get(call.params["hook"])
    if hook is None or hook["place"] != place:
        no(404, "Not Found")
    return hook


def hooks(call: Call) -> Response:
    place = _place(call)
    return listed(call, [_shown(one) for one in call.state.hooks.values() if one["place"] == place])


def hook(call: Call) -> Response:
    return shown(call, _shown(_hook(call)))


def delete(call: Call) -> Response:
    id = str(_hook(call)["id"])
    del call.state.hooks[id]
    call.server.watches.remove(id)
    return Response(status_code=204)


def deliveries(call: Call) -> Response:
    """Newest first, of three days."""
    hub: Hub = call.state
    held = hub.deliveries[str(_hook(call)["id"])]
    after = call.clock.time() - KEPT
    return listed(call, [row for row, _, at in reversed(held) if at > after])


def attempt(call: Call) -> Response:
    """Sends a delivery once more, with the same id."""
    hub, hook = call.state, _hook(call)
    for row, event, _ in hub.deliveries[str(hook["id"])]:
        if str(row["id"]) == call.params["delivery"]:
            again = {**event.what, "hook": str(hook["id"]), "guid": row["guid"]}
            call.outbox.tell(call.account.id, again)
            return reply({}, 202)
    no(404, "Not Found")


def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """To the app, of everything; and to each active hook on the repository or its organisation that
    asked for such events."""
    if receivers.app and not event.what.get("hook"):
        yield Notice(event=event, address=receivers.app)
    for watch in receivers.watches.of(event.account_id):
        hook = watch.about["hook"]
        if event.what.get("hook"):
            concerned = event.what["hook"] == watch.id
        else:
            wanted = event.what["event"] in hook["events"] or "*" in hook["events"]
            concerned = (
                wanted and hook["active"] and hook["place"] in _places(event.what["payload"])
            )
        if concerned:
            yield Notice(event=event, address=watch)


def _places(payload: Json) -> set[str]:
    found = set()
    if repo := payload.get("repository"):
        found = {f"repositories/{repo['id']}", f"organizations/{repo['owner']['id']}"}
    if org := payload.get("organization"):
        found.add(f"organizations/{org['id']}")
    return found


def compose(delivery: Delivery) -> Message:
    """The GUID is the event's: two hooks that hear of it are told the same one."""
    (event,) = delivery.events
    address = delivery.address
    guid = event.what.get("guid") or event.id
    if not address.id:
        payload = event.what["payload"]
        if event.what["event"] != "github_app_authorization":
            payload = {**payload, "installation": {"id": 77, "node_id": "MDIz"}}
        told = ("integration", APP_ID)
        return _message(address, APP_HOOK, guid, event.what["event"], told, orjson.dumps(payload))
    body = orjson.dumps(event.what["payload"])
    place, _, target = address.about["hook"]["place"].partition("/")
    told = ("repository" if place == "repositories" else "organization", target)
    if not delivery.forged:
        row = {
            "id": int(delivery.id.replace("-", "")[:12], 16), "guid": guid,
            "delivered_at": stamp_in_seconds(delivery.now), "redelivery": "guid" in event.what,
            "duration": 0.1, "status": "OK", "status_code": 200, "event": event.what["event"],
            "action": event.what["payload"].get("action"),
        }  # fmt: skip
        address.about["kept"].append((row, event, delivery.now.timestamp()))
    return _message(address, address.id, guid, event.what["event"], told, body)


def _message(
    address: Address, hook: str, guid: str, event: str, target: tuple[str, str], body: bytes
) -> Message:
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": guid,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": hook,
        "X-GitHub-Hook-Installation-Target-ID": target[1],
        "X-GitHub-Hook-Installation-Target-Type": target[0],
    }
    if address.secret:
        headers["X-Hub-Signature-256"] = f"sha256={hex_signature(address.secret, body)}"
    return Message(url=address.url, headers=headers, body=body)


def retry(delivery: Delivery, answered: AppResponse) -> None:
    """It is not tried again, only noted as failed."""
    (event,) = delivery.events
    for row, of, _ in delivery.address.about.get("kept", ()):
        if of is event:
            row |= {"status": "failed", "status_code": answered.status or 502}


def _routes(method: str, path: str, handler: Callable[[Call], Any]) -> list[Route]:
    places = ("/repositories/{id}", "/repos/{owner}/{name}", "/organizations/{org}", "/orgs/{org}")
    return [Route(method, HOST, f"{place}/hooks{path}", handler) for place in places]


HOOK_ROUTES = (
    *_routes("GET", "", hooks),
    *_routes("POST", "", create),
    *_routes("GET", "/{hook}", hook),
    *_routes("DELETE", "/{hook}", delete),
    *_routes("GET", "/{hook}/deliveries", deliveries),
    *_routes("POST", "/{hook}/deliveries/{delivery}/attempts", attempt),
)
SENDER = Sender(
    compose=compose,
    notices=notices,
    deadline=10.0,
    retry=retry,
    secret="sandbox-github-webhook-secret",  # pragma: allowlist secret
)
