"""Notion's webhooks: one subscription of the app, each call one event, which holds ids and no more.

Events are aggregated, and may come late or out of order: they say what to read again.
https://developers.notion.com/reference/webhooks-events-delivery (2026-11)
"""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors import Delivery, Effect, Event, Reply, each_event
from connectors.kernel.versions import parse_time

# What else is of a page or data source, and has to be looked at when it changed.
CONTENT = ("blocks", "page_markdown")
CELLS = ("relations", "page_property_items")
OF_A_PAGE = {"content_updated": CONTENT, "properties_updated": CELLS}
OF_A_SOURCE = ("properties_schema", "databases")


def handshake(delivery: Delivery) -> Reply | None:
    """The first call of a new subscription, which holds the token that proves the others."""
    try:
        body = delivery.json
    except ValueError:
        return None
    if isinstance(body, dict) and "verification_token" in body and "type" not in body:
        return Reply()
    return None


def events(delivery: Delivery) -> Iterator[Event]:
    return each_event([delivery.json], _events, lambda body: body["workspace_id"])


def _events(body: Mapping[str, Any]) -> Iterator[Event]:
    of, _, what = body["type"].partition(".")
    entity, data = body["entity"]["id"], body.get("data") or {}
    parent = data.get("parent") or {}

    def event(effect: Effect, streams: tuple[str, ...], key: str = "") -> Event:
        return Event(
            id=f"{body['id']}:{streams[0]}",
            type=body["type"],
            effect=effect,
            account_id=body["workspace_id"],
            streams=streams,
            key=key,
            at=parse_time(body["timestamp"]),
        )

    if of == "page":
        yield event(Effect.READ, ("pages",), entity)
        if source := parent.get("data_source_id"):
            yield event(Effect.READ, ("data_source_rows",), f"{source}/{entity}")
        yield event(Effect.HINT, OF_A_PAGE.get(what, (*CONTENT, *CELLS)))
    elif of == "comment":
        yield event(Effect.READ, ("comments",), f"{data['page_id']}/{entity}")
    elif of == "data_source" and what != "content_updated":
        yield event(Effect.READ, ("data_sources",), entity)
        yield event(Effect.HINT, OF_A_SOURCE)
    elif of == "database" and body["entity"]["type"] == "database":
        yield event(Effect.READ, ("databases",), entity)
