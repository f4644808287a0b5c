"""QuickBooks' webhooks: CloudEvents, or the form before them (both are sent in 2026).

They tell ids only, and of a deletion there is nothing to read: change data capture tells both. A
merge names the one that was merged away as well, `deletedId`, of which change data capture may not
tell (https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks, 2026-11).
"""

from collections.abc import Iterator, Mapping
from typing import Any

from connectors import Delivery, Effect, Event, each_event

STREAM_OF = {
    "customer": "customers",
    "invoice": "invoices",
    "payment": "payments",
    "bill": "bills",
    "account": "accounts",
}


def events(delivery: Delivery) -> Iterator[Event]:
    """One event for each entity that changed."""
    body = delivery.json
    if isinstance(body, list):
        return each_event(body, _of_cloud_event, lambda each: str(each["intuitaccountid"]))
    return each_event([body], _of_former)


def _of_cloud_event(each: Mapping[str, Any]) -> Iterator[Event]:
    data = each.get("data") or {}
    return _changed(
        each["intuitaccountid"],
        each["type"],
        each["type"].split(".")[1],
        each["id"],
        data.get("deletedid", data.get("deletedId")),
    )


def _of_former(body: Mapping[str, Any]) -> Iterator[Event]:
    return each_event(body["eventNotifications"], _of_company, _realm)


def _of_company(company: Mapping[str, Any]) -> Iterator[Event]:
    entities = company["dataChangeEvent"]["entities"]
    notifications = [{"realmId": company["realmId"], "entity": each} for each in entities]
    return each_event(notifications, _of_entity, _realm)


def _realm(notification: Mapping[str, Any]) -> str:
    return str(notification["realmId"])


def _of_entity(notification: Mapping[str, Any]) -> Iterator[Event]:
    realm, each = notification["realmId"], notification["entity"]
    event_id = ":".join([realm, each["name"], each["id"], each["operation"], each["lastUpdated"]])
    kind = f"{each['name']}.{each['operation']}"
    return _changed(realm, kind, each["name"], event_id, each.get("deletedId"))


def _changed(realm: str, kind: str, entity: str, event_id: str, merged: object) -> Iterator[Event]:
    stream = STREAM_OF.get(entity.lower())
    if stream is None:
        return
    yield Event(
        id=event_id,
        type=kind,
        effect=Effect.HINT,
        account_id=realm,
        streams=(stream, "change_data_capture"),
    )
    if merged:
        yield Event(
            id=f"{event_id}:merged",
            type=kind,
            effect=Effect.READ,
            account_id=realm,
            streams=(stream,),
            key=str(merged),
        )
