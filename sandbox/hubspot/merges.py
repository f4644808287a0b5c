"""What becomes of HubSpot's objects besides being written: merged, forgotten, brought back.

https://developers.hubspot.com/docs/api-reference (merge and gdpr-delete of each kind of object)
"""

from random import Random
from uuid import uuid4

from starlette.responses import Response

from sandbox.hubspot.errors import invalid, missing
from sandbox.hubspot.kinds import PROPERTIES, SINGULAR, modified
from sandbox.hubspot.store import Item, Portal, Table, archive, create, record, tell, update
from sandbox.kernel.fields import without
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, RefusedError, reply


def merge_objects(kind: str, call: Call) -> Response:
    body, portal = call.json(), call.state
    if not isinstance(body, dict):
        raise invalid("the body is not a JSON object")
    named = [str(body.get(name, "")) for name in ("primaryObjectId", "objectIdToMerge")]
    primary, other = (_live(kind, portal.tables[kind], id_) for id_ in named)
    if primary is other:
        raise invalid("an object cannot be merged with itself")
    return reply(record(_merge(portal, portal.tables[kind], primary, other)))


def forget_contact(call: Call) -> Response:
    """What the law lets a person have forgotten: nothing of it can be read again. A contact that
    is not there is no error: its address must not come back."""
    body, portal = call.json(), call.state
    if not isinstance(body, dict) or "objectId" not in body:
        raise invalid("objectId is missing")
    table: Table = portal.tables["contacts"]
    by_email = body.get("idProperty") == "email"
    for id_, item in list(table.items.items()):
        if body["objectId"] == (item.properties["email"] if by_email else id_):
            _forget(portal, table, item)
    return Response(status_code=204)


def restore(portal: Portal, body: Json) -> Json:
    """A control: what a user does in HubSpot, `{account, stream, id}` of an archived object."""
    kind = str(body.get("stream"))
    if kind not in PROPERTIES:
        raise RefusedError(f"name one of: {', '.join(PROPERTIES)}")
    table = portal.tables[kind]
    item = table.items.get(str(body.get("id")))
    if item is None or item.archived_at is None:
        raise RefusedError(f"{kind} has no archived record {body.get('id')!r}")
    item.archived_at = None
    update(portal, table, item, {})
    tell(portal, kind, item, "restore", item.updated_at)
    return {"id": item.id}


def associate(portal: Portal, body: Json) -> Json:
    """A control: a user ties two objects, `{account, stream, id, to}`; it changes neither of them.

    The event of it is the only one that names no `objectId`.
    """
    kind = str(body.get("stream"))
    if kind not in PROPERTIES:
        raise RefusedError(f"name one of: {', '.join(PROPERTIES)}")
    item = portal.tables[kind].items.get(str(body.get("id")))
    if item is None:
        raise RefusedError(f"{kind} has no record {body.get('id')!r}")
    tell(
        portal,
        kind,
        item,
        "associationChange",
        portal.clock.now(),
        fromObjectId=int(item.id),
        toObjectId=int(body.get("to", 0)),
        associationType=f"{SINGULAR[kind].upper()}_TO_CONTACT",
        associationRemoved=False,
        isPrimaryAssociation=False,
    )
    return {"id": item.id}


def _live(kind: str, table: Table, id_: str) -> Item:
    item = table.items.get(id_)
    if item is None or item.archived_at is not None:
        raise missing(kind, id_)
    return item


def _merge(portal: Portal, table: Table, primary: Item, other: Item) -> Item:
    """The primary object with what only the other one had.

    Of contacts the primary one stays; of other kinds a new object takes the place of both. HubSpot
    says that either can be so, not when (2026-11). No object's end or beginning is told beside
    the merge itself.
    """
    own = ("hs_object_id", "createdate", modified(table.kind))
    had = without(primary.properties, *own)
    moved = {name: other.properties[name] for name, value in had.items() if value is None}
    moved = {name: value for name, value in moved.items() if value is not None}
    if table.kind == "contacts":
        survivor, gone = primary, [other]
        update(portal, table, primary, moved)
    else:
        random = Random(str(uuid4()))
        survivor = create(portal, table, {**had, **moved}, random, told=False)
        gone = [primary, other]
    table.merged |= {item.id: survivor.id for item in gone}
    for item in gone:
        archive(portal, table.kind, item, told=False)
    tell(
        portal,
        table.kind,
        survivor,
        "merge",
        survivor.updated_at,
        primaryObjectId=int(primary.id),
        mergedObjectIds=[int(other.id)],
        newObjectId=int(survivor.id),
        numberOfPropertiesMoved=len(moved),
    )
    return survivor


def _forget(portal: Portal, table: Table, item: Item) -> None:
    del table.items[item.id]
    table.order.remove(int(item.id))
    for kind, ids in portal.ties.pop((table.kind, item.id), {}).items():
        for id_ in ids:
            portal.ties[kind, id_][table.kind].remove(item.id)
    for each in portal.tables.values():
        each.revision += 1
    tell(portal, table.kind, item, "privacyDeletion", portal.clock.now())
