"""Jira's dynamic webhooks, one for each site: it lives for thirty days, and ends without a word.

An app has five for each person and site, and one address for all of them. The filter must not be
empty, and knows few operators: `project != null` is every issue (ShipfoxHQ/shipfox#1272, 2026-08).
https://developer.atlassian.com/cloud/jira/platform/rest/v3/api-group-webhooks (2026-11)
"""

from datetime import timedelta

from connectors import (
    Calls,
    CheckpointExpiredError,
    Context,
    MadeWatch,
    NoWatch,
    Request,
    Watch,
    WatchRequest,
    ask,
    one_resource,
)
from connectors.jira.events import COVERED
from connectors.jira.reading import API, every
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import parse_time
from connectors.kernel.webhooks import WatchSteps

WEBHOOK = f"{API}/webhook"
LIFETIME = timedelta(days=30)
FILTER = "project != null"
EVENTS = [
    f"{subject}_{what}"
    for subject in ("jira:issue", "comment")
    for what in ("created", "updated", "deleted")
]


def create(wanted: WatchRequest) -> WatchSteps:
    """A webhook; one of ours that stands already is taken as it is, since there are so few."""
    standing, _ = yield from every(WEBHOOK, "values")
    for hook in standing:
        if hook.get("url") == wanted.address and {*EVENTS} <= {*hook["events"]}:
            return (yield from _extended(wanted, hook["id"]))
    body = {"url": wanted.address, "webhooks": [{"events": EVENTS, "jqlFilter": FILTER}]}
    response = yield from ask(Request.post(WEBHOOK, json=body, expect=(400, 403)))
    if response.status in (400, 403):
        return NoWatch(_refusal((response.json or {}).get("errorMessages")))
    # What is refused comes with status 200 (QuackbackIO/quackback#352, 2026-08).
    made = response.json["webhookRegistrationResult"][0]
    if "createdWebhookId" not in made:
        return NoWatch(_refusal(made.get("errors")))
    expires_at = vendor_time(response) + LIFETIME
    return _watched(wanted, made["createdWebhookId"], expires_at=expires_at)


def renew(wanted: WatchRequest, watched: MadeWatch) -> WatchSteps:
    """Jira passes over ids that it does not know: so they are looked for first."""
    id_ = watched.state["id"]
    standing, _ = yield from every(WEBHOOK, "values")
    if id_ not in {hook["id"] for hook in standing}:
        raise CheckpointExpiredError("Jira has let the webhook end")
    return (yield from _extended(wanted, id_))


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    yield from ask(Request("DELETE", WEBHOOK, json={"webhookIds": [watched.state["id"]]}))


def _extended(wanted: WatchRequest, id_: int) -> Calls[MadeWatch]:
    request = Request("PUT", f"{WEBHOOK}/refresh", json={"webhookIds": [id_]})
    expires_at = parse_time((yield from ask(request)).json["expirationDate"])
    return _watched(wanted, id_, expires_at=expires_at)


def _watched(wanted: WatchRequest, id_: int, **more: object) -> MadeWatch:
    vendor_id = f"{wanted.context.config.get('host')}:{id_}"
    return MadeWatch(vendor_id=vendor_id, state={"id": id_}, **more)  # type: ignore[arg-type]


def _refusal(messages: object) -> str:
    said = "; ".join(map(str, messages)) if isinstance(messages, list) else ""
    return f"Jira takes no webhook: {said[:200] or 'it does not say why'}"


watch = Watch(
    resources=one_resource("issues"),
    create=create,
    renew=renew,
    delete=delete,
    streams=lambda resource: COVERED,
    lifetime=LIFETIME,
)
