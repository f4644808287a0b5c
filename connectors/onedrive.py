"""OneDrive: the items of a person's drive and who may see them, through Microsoft Graph (v1.0).

https://learn.microsoft.com/graph/api/driveitem-delta

For change notifications of a drive Microsoft's table asks for Files.ReadWrite (a personal account)
or Files.ReadWrite.All (one of an organisation), although its text says that reading is enough
(subscription-post-subscriptions, read 2026-11). We ask for reading only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Account,
    Calls,
    Checkpoint,
    Connector,
    ConnectorError,
    Context,
    ContractError,
    ListedKeys,
    Page,
    RateLimit,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    Stream,
    SyncType,
    Unread,
    ask,
    columns,
    one_resource,
)
from connectors._microsoft import GRAPH, NEXT, auth, listing, may_have_none, me, no_licence
from connectors._microsoft import classify as graph_error
from connectors._microsoft.deltas import PageContext, Settle, as_it_came, delta_stream
from connectors._microsoft.watches import graph_watch, graph_webhook, hint
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.parts import OF_A_PART, ask_each
from connectors.kernel.positions import Position

DRIVE = "/me/drive"
ROOT, DELTA = f"{DRIVE}/root", f"{DRIVE}/root/delta"
# Graph's default: that a page may have 1,000 is not documented (2026-11).
PAGE = 200
# Items whose permissions are asked for at a time.
SHARED = 100
# Rows of a page where Graph cannot make a large one.
FEW = 20
# So many items are asked for again whose permissions could not be had.
MOST_AGAIN = 500
# In resource units, by which SharePoint counts; what has the token of a delta costs 1.
LIST, PERMISSIONS = 2, 5
# A file's address of an hour that asks for no authorisation: a secret, and never the same.
DOWNLOAD = "@microsoft.graph.downloadUrl"
_graph_error = graph_error("OneDrive")


@dataclass(frozen=True, kw_only=True)
class Waiting(Position):
    """Items whose permissions could not be had, each with {"drive", "kind", "error"}, and when that
    was `tried`."""

    refused: Mapping[str, dict[str, str]] = field(default_factory=dict)
    tried: str = ""


def is_deleted(item: Record) -> bool:
    """Of an item that is gone nothing else is sure to come: name, size and cTag may be missing."""
    return "deleted" in item


def kept(item: Record) -> Record:
    return {name: value for name, value in item.items() if name != DOWNLOAD}


def item_key(id_: str) -> str:
    """An item's id in one form.

    On personal drives it begins with the drive's: 16 digits that come in capitals or not
    (onedrive-api-docs#1902, 2025-06), and without their first zero (#1890, 2025-02).
    """
    drive, mark, number = id_.partition("!")
    return f"{_drive_key(drive)}{mark}{number}" if mark else id_


def _drive_key(id_: str) -> str:
    """A personal drive's id in one form; in others, which begin with b!, case matters."""
    return id_ if "!" in id_ else f"{'0' if len(id_) == 15 else ''}{id_.upper()}"


def _delta(params: Mapping[str, Any], *, settle: Settle = as_it_came) -> Read:
    """The root's delta. A folder goes when the delta says that it is gone: the delta reports what
    was in it, item by item."""
    request = Request.get(DELTA, params=params, cost=LIST)
    return delta_stream(
        request,
        gone=is_deleted,
        shape=kept,
        key=item_key,
        settle=settle,
        # Of what goes while the first listing is paged nothing else tells
        # (microsoft-graph-docs-contrib#8794, 2023-11).
        begin=replace(request, params={**params, "token": "latest"}),
        smaller=[replace(request, params={**params, "$top": FEW})],
    )


def permissions(at: Checkpoint, context: Context) -> Reader:
    """Of every item at first, then of the items that changed: no delta reports a share that
    was taken back."""
    own = context.config.get("drive_id")
    params = {"$top": SHARED, "$select": "id,deleted,parentReference"}

    def settle(page: Page, page_context: PageContext) -> Steps[Page]:
        changed = {item_key(item["id"]): _drive_of(item, own) for item in page.records}
        saved = Waiting.of(page.checkpoint)
        waiting = {id_: one for id_, one in saved.refused.items() if id_ not in page.deleted}
        asked = {id_: drive for id_, drive in changed.items() if drive}
        tried = saved.tried
        if waiting and page_context.is_time_again(tried):
            asked |= {id_: one["drive"] for id_, one in waiting.items()}
            tried = ""
        found, listed_keys, failed = yield from _asked(asked)
        waiting = {id_: one for id_, one in waiting.items() if id_ not in asked} | failed
        gone = [ListedKeys(f"{id_}/", (), page_context.at) for id_ in page.deleted]
        most = dict(list(waiting.items())[-MOST_AGAIN:])
        tried = (tried or page_context.now.isoformat()) if waiting else ""
        checkpoint = Waiting(refused=most, tried=tried).beside(page.checkpoint)
        page = Page(found, checkpoint, listed_keys=[*gone, *listed_keys])
        if not page_context.ended:
            return page
        unread = [Unread(id_, _error(one)) for id_, one in waiting.items()]
        return replace(page, unread=unread, unseen=[f"{id_}/" for id_ in waiting])

    return _delta(params, settle=settle)(at, context)


def _drive_of(item: Record, own: str | None) -> str | None:
    """The drive of an item, if it is the person's own.

    Folders that others share into a personal drive come without one or with another's, and asking
    for them is refused (onedrive-api-docs#907 and #561).
    """
    drive: str | None = item.get("parentReference", {}).get("driveId")
    return drive if drive and (own is None or _drive_key(drive) == _drive_key(own)) else None


def _asked(
    drives: Mapping[str, str],
) -> Steps[tuple[list[Record], list[ListedKeys], dict[str, Any]]]:
    """The permissions of these items, each with its drive, and why those of some are not shown."""
    found, listed_keys, failed = list[Record](), list[ListedKeys](), dict[str, Any]()
    answers = yield from ask_each([_permissions(id_, drive) for id_, drive in drives.items()])
    for (id_, drive), answer in zip(drives.items(), answers, strict=True):
        error = answer if isinstance(answer, Exception) else _refusal(answer)
        if error is not None or isinstance(answer, Exception):
            failed[id_] = {"drive": drive, "kind": type(error).__name__, "error": str(error)}
            continue
        rows = yield from _rest(id_, answer)
        found += rows
        listed_keys.append(
            ListedKeys(f"{id_}/", [permission_key(row) for row in rows], answer.sent_at)
        )
    return found, listed_keys, failed


def _refusal(answer: Response) -> ConnectorError | None:
    return _graph_error(answer) if answer.status == 403 else None


def _error(refused: Mapping[str, str]) -> ConnectorError:
    kinds = {kind.__name__: kind for kind in OF_A_PART}
    return kinds.get(refused["kind"], ContractError)(refused["error"])


def _permissions(item_id: str, drive_id: str) -> Request:
    # By the drive's own id: the form below /me/drive is documented, but no SDK uses it (2026-11).
    drive, id_ = (quote(one, safe="!") for one in (drive_id, item_id))
    path = f"/drives/{drive}/items/{id_}/permissions"
    return Request.get(path, expect=(403, 404), cost=PERMISSIONS)


def _rest(item_id: str, answer: Response) -> Calls[list[Record]]:
    """All permissions of an item, each with the item's id; none of one that is gone by now."""
    if answer.status == 404:
        return []
    rows = rows_of(answer, "value")
    while following := answer.json.get(NEXT):
        answer = yield from ask(Request.get(following, cost=PERMISSIONS))
        rows += rows_of(answer, "value")
    return [{**row, "item_id": item_id} for row in rows]


def permission_key(permission: Record) -> str:
    """A permission's id is unique on its item only."""
    return f"{permission['item_id']}/{permission['id']}"


def classify(response: Response) -> ConnectorError | None:
    """Graph's errors, and what of an account that has no drive is not found."""
    if response.status == 404 and response.url.startswith(f"{GRAPH}{DRIVE}"):
        return may_have_none("OneDrive")
    return _graph_error(response)


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """Whose drive it is; its own id and kind (personal or business) are kept as settings."""
    (account,) = yield from me(answer, callback)
    # With 400 too: no other request is as plain as this, so nothing of ours can be wrong with it.
    response = yield from ask(Request.get(DRIVE, expect=(400, 404)))
    if response.status != 200:
        raise no_licence("OneDrive")
    drive = {"drive_id": response.json["id"], "drive_type": response.json["driveType"]}
    return (replace(account, config={**account.config, **drive}),)


connector = Connector(
    name="onedrive",
    title="OneDrive",
    category="Files",
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
        # A notification says only that something below the root changed.
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
    sync_method="delta links",
    referees=("msgraph-sdk", "msal"),
    limitations=(
        "The person's own drive only: those of others, and SharePoint's, need Files.Read.All.",
        "What is in files is not fetched, and no address is kept that would give it away.",
        "Who may see an item may change untold, as when a folder above it is shared: the weekly "
        "check finds that.",
        "Of folders that others share into a personal drive no permissions are read.",
        "For change notifications Microsoft's table asks for Files.ReadWrite (personal accounts) "
        "or Files.ReadWrite.All (organisations), its text for reading only. We ask for Files.Read: "
        "where Microsoft refuses it, `status` says so, and the drive is polled.",
    ),
    streams=(
        Stream(
            name="drive_items",
            title="Files and folders",
            read=_delta({"$top": PAGE}),
            # One drive, so an item's id is enough: a delete may come with nothing else.
            key=lambda item: item_key(item["id"]),
            # After many deletions at once the delta never reports some
            # (onedrive-api-docs#1927, 2026-06).
            hides_deletes=True,
            columns=columns(
                "name size:bigint mime_type=file.mimeType child_count=folder.childCount:bigint "
                "drive_id=parentReference.driveId",
                # A delta has no paths: they are made by going up from parent to parent.
                "parent_id=parentReference.id web_url=webUrl "
                "created_at=createdDateTime:timestamptz "
                "updated_at=lastModifiedDateTime:timestamptz",
            ),
        ),
        Stream(
            name="drives",
            title="Drives",
            read=listing(Request.get("/me/drives", cost=LIST)),
            snapshot=True,
            columns=columns(
                "name drive_type=driveType used=quota.used:bigint total=quota.total:bigint "
                "web_url=webUrl"
            ),
        ),
        Stream(
            name="permissions",
            title="Permissions",
            read=permissions,
            key=permission_key,
            # The delta may leave out a share that is taken back (onedrive-api-docs#937, 2018-10), a
            # person who is added to a link (microsoft-graph-docs#15242, 2021-12), and what a folder
            # above hands down.
            hides_deletes=True,
            columns=columns(
                "item_id permission_id=id roles:jsonb granted_to=grantedToV2:jsonb link:jsonb "
                "inherited_from=inheritedFrom.id"
            ),
        ),
    ),
)
