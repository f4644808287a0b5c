"""OneDrive: the items of a person's drive and who may see them, through Microsoft Graph (v1.0).

https://learn.microsoft.com/graph/api/driveitem-delta
"""

from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Account,
    Checkpoint,
    Connector,
    ConnectorError,
    Context,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    SyncType,
    Whole,
    column,
    one_resource,
)
from connectors._microsoft import (
    GRAPH,
    NEXT,
    auth,
    changes,
    delta_stream,
    follow,
    listing,
    me,
    no_licence,
    onward,
)
from connectors._microsoft import classify as graph_error
from connectors._microsoft_watches import graph_watch, graph_webhook, hint
from connectors._paging import rows_of

DRIVE = "/me/drive"
ROOT, DELTA = f"{DRIVE}/root", f"{DRIVE}/root/delta"
# Graph's default: that a page may have 1,000 is not documented (2026-11).
PAGE = 200
# Items whose permissions are asked for at a time.
SHARED = 100
# In resource units, by which SharePoint counts; what has the token of a delta costs 1.
LIST, PERMISSIONS = 2, 5
# A file's address of an hour that asks for no authorisation: a secret, and never the same.
DOWNLOAD = "@microsoft.graph.downloadUrl"
_graph_error = graph_error("OneDrive")


def is_deleted(item: Record) -> bool:
    """Of an item that is gone nothing else is sure to come: name, size and cTag may be missing."""
    return "deleted" in item


def kept(item: Record) -> Record:
    return {name: value for name, value in item.items() if name != DOWNLOAD}


def permissions(at: Checkpoint, context: Context) -> Reader:
    """Of every item at first, then of the items that changed: a share taken back is not told."""
    params = {"$top": SHARED, "$select": "id,deleted,parentReference"}
    link, ended = at.get("link"), False
    while not ended:
        response = yield from follow(Request.get(DELTA, params=params, cost=LIST), link)
        items, deleted = changes(response, is_deleted)
        found: list[Record] = []
        whole = [Whole(f"{id_}/", (), response.sent_at) for id_ in deleted]
        answers = yield tuple(_permissions(item) for item in items)
        for item, answer in zip(items, answers, strict=True):
            rows = yield from _rest(item["id"], answer)
            found += rows
            keys = [permission_key(row) for row in rows]
            whole.append(Whole(f"{item['id']}/", keys, answer.sent_at))
        link, ended = onward(response, link)
        yield Page(found, Checkpoint(link=link), whole=whole)


def _permissions(item: Record) -> Request:
    # By the drive's own id: the form below /me/drive is documented, but no SDK uses it (2026-11).
    drive, id_ = (quote(one, safe="!") for one in (item["parentReference"]["driveId"], item["id"]))
    path = f"/drives/{drive}/items/{id_}/permissions"
    return Request.get(path, expect=(404,), cost=PERMISSIONS)


def _rest(item_id: str, answer: Response) -> Generator[Request, Response, list[Record]]:
    """All permissions of an item, each with the item's id; none of one that is gone by now."""
    if answer.status == 404:
        return []
    rows = rows_of(answer, "value")
    while following := answer.json.get(NEXT):
        answer = yield Request.get(following, cost=PERMISSIONS)
        rows += rows_of(answer, "value")
    return [{**row, "item_id": item_id} for row in rows]


def permission_key(permission: Record) -> str:
    """A permission's id is unique on its item only."""
    return f"{permission['item_id']}/{permission['id']}"


def classify(response: Response) -> ConnectorError | None:
    """Graph's errors, and what of an account that has no drive is not found."""
    if response.status == 404 and response.url.startswith(f"{GRAPH}{DRIVE}"):
        return no_licence("OneDrive")
    return _graph_error(response)


def identify(
    answer: Mapping[str, Any], callback: Mapping[str, str]
) -> Generator[Request, Response, tuple[Account, ...]]:
    """Whose drive it is; its own id and kind (personal or business) are kept as settings."""
    (account,) = yield from me(answer, callback)
    # With 400 too: no other request is as plain as this, so nothing of ours can be wrong with it.
    response = yield Request.get(DRIVE, expect=(400, 404))
    if response.status != 200:
        raise no_licence("OneDrive")
    drive = {"drive_id": response.json["id"], "drive_type": response.json["driveType"]}
    return (replace(account, config={**account.config, **drive}),)


connector = Connector(
    name="onedrive",
    title="OneDrive",
    sync_type=SyncType.HYBRID,
    base_url=GRAPH,
    auth=auth({"Files.Read": "every stream: files, folders, drives and permissions"}),
    rate_limits=(
        # What an app gets in a Microsoft tenant of up to 1,000 licences; larger ones get more.
        RateLimit(1_250, per=timedelta(minutes=1)),
    ),
    identify=identify,
    classify=classify,
    webhook=graph_webhook(
        # All that is told is that something below the root changed.
        means=hint("drive_items", "permissions"),
        covers=("drive_items", "permissions"),
    ),
    watch=graph_watch(
        resources=one_resource(ROOT),
        streams=lambda resource: ("drive_items", "permissions"),
        # The most is 42,300 minutes, a little less than 30 days.
        lifetime=timedelta(days=29),
        change_type="updated",
    ),
    follows="delta links",
    judged_by=("msgraph-sdk", "msal"),
    gaps=(
        "The person's own drive only: those of others, and SharePoint's, need Files.Read.All.",
        "What is in files is not fetched, and no address is kept that would give it away.",
        "If Files.Read is too little for change notifications, the drive is polled.",
    ),
    streams=(
        Stream(
            name="drive_items",
            title="Files and folders",
            # A folder goes when it is said to be gone: what was in it is told of item by item.
            read=delta_stream(
                Request.get(DELTA, params={"$top": PAGE}, cost=LIST), gone=is_deleted, shape=kept
            ),
            # One drive, so an item's id is enough: a delete may come with nothing else.
            columns={
                "name": column("name"),
                "size": column("size", "bigint"),
                "mime_type": column("file.mimeType"),
                "child_count": column("folder.childCount", "bigint"),
                "drive_id": column("parentReference.driveId"),
                # A delta has no paths: they are made by going up from parent to parent.
                "parent_id": column("parentReference.id"),
                "web_url": column("webUrl"),
                "created_at": column("createdDateTime", "timestamptz"),
                "updated_at": column("lastModifiedDateTime", "timestamptz"),
            },
        ),
        Stream(
            name="drives",
            title="Drives",
            read=listing(Request.get("/me/drives", cost=LIST)),
            snapshot=True,
            columns={
                "name": column("name"),
                "drive_type": column("driveType"),
                "used": column("quota.used", "bigint"),
                "total": column("quota.total", "bigint"),
                "web_url": column("webUrl"),
            },
        ),
        Stream(
            name="permissions",
            title="Permissions",
            read=permissions,
            key=permission_key,
            columns={
                "item_id": column("item_id"),
                "permission_id": column("id"),
                "roles": column("roles", "jsonb"),
                "granted_to": column("grantedToV2", "jsonb"),
                "link": column("link", "jsonb"),
                "inherited_from": column("inheritedFrom.id"),
            },
        ),
    ),
)
