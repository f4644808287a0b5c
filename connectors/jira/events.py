"""Jira's dynamic webhooks: they name what changed, and it is read again.

The token that comes with a delivery proves that Jira sent one, and covers nothing of it: so no
event stores or deletes anything by itself. Which site it is about stands in the address of the
record itself, as its cloud id or as the site's host; on a host, ids of webhooks are unique.
https://developer.atlassian.com/cloud/jira/platform/webhooks (2026-11)
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from connectors import Delivery, Effect, Event, each_event

COVERED = ("issues", "comments", "changelogs")
_CLOUD = re.compile(r"/ex/jira/([0-9A-Za-z-]{1,64})/")


def events(delivery: Delivery) -> Iterator[Event]:
    """What one delivery asks to be read again, for each webhook of ours that it matched."""
    identifier = delivery.headers.get("x-atlassian-webhook-identifier", "")
    return each_event([delivery.json], partial(_events, identifier), _cloud)


def _events(identifier: str, body: Mapping[str, Any]) -> Iterator[Event]:
    kind, asked = str(body["webhookEvent"]), tuple(_asked(body))
    stamp = identifier or f"{kind}:{body['timestamp']}"
    for whose in _whose(body):
        place = whose.get("account_id") or whose["watch_id"]
        for effect, stream, key in asked:
            id_ = f"{place}:{stamp}:{stream}:{key}"
            yield Event(id=id_, type=kind, effect=effect, streams=(stream,), key=key, **whose)


def _asked(body: Mapping[str, Any]) -> Iterator[tuple[Effect, str, str]]:
    """What is to be read. A deleted issue takes along what hangs on it: the key `issue/` is all."""
    subject, _, what = str(body["webhookEvent"]).removeprefix("jira:").partition("_")
    effect = Effect.GONE if what == "deleted" else Effect.READ
    if subject not in ("issue", "comment") or what not in ("created", "updated", "deleted"):
        return
    issue = str(int(body["issue"]["id"]))
    if subject == "comment":
        yield effect, "comments", f"{issue}/{int(body['comment']['id'])}"
        return
    yield effect, "issues", issue
    if what != "created":
        yield effect, "changelogs", f"{issue}/"
    if what == "deleted":
        yield effect, "comments", f"{issue}/"


def _whose(body: Mapping[str, Any]) -> list[dict[str, Any]]:
    if cloud := _cloud(body):
        return [{"account_id": cloud}]
    host = urlsplit(body["issue"]["self"]).hostname
    return [{"watch_id": f"{host}:{int(id_)}"} for id_ in body["matchedWebhookIds"]]


def _cloud(body: Mapping[str, Any]) -> str:
    found = _CLOUD.search(body["issue"]["self"])
    return found[1] if found else ""
