"""Box: files, folders, who may see them, what is said of them, and the person's events (API 2.0).

https://developer.box.com/reference/

Longer than 300 lines: items are found by a walk and followed by events, and what is under them by
both; and its webhooks are one for each folder.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    ConnectorError,
    NotAllowedError,
    OAuth2,
    RateLimit,
    Request,
    Response,
    Revocation,
    Stream,
    SyncType,
    ask,
    columns,
)
from connectors.box.events import SECRET, watch, webhook
from connectors.box.reading import Kind, fetcher, following, log, under_key
from connectors.kernel.paging import cursor_pages

ITEM = (
    "type,id,etag,sequence_id,name,description,created_at,modified_at,created_by,modified_by,"
    "owned_by,parent,item_status,shared_link"
)
FILE = (
    f"{ITEM},sha1,size,extension,version_number,content_created_at,content_modified_at,"
    "file_version,lock,tags"
)
USER = (
    "type,id,name,login,created_at,modified_at,language,timezone,space_amount,max_upload_size,"
    "status,job_title,phone,address,role,enterprise"
)
ITEMS = Kind(types=("file", "folder", "web_link"), fields=ITEM)
FILES = Kind(types=("file",), fields=FILE, key=lambda type, id: id)
COLLABORATIONS = Kind(
    types=("file", "folder"),
    fields="type,id,has_collaborations",
    under="collaborations",
    marked="has_collaborations",
)
COMMENTS = Kind(
    types=("file",),
    fields="type,id,comment_count",
    under="comments",
    marked="comment_count",
)
TASKS = Kind(types=("file",), fields="type,id", under="tasks")


def item_columns(*more: str) -> Any:
    return columns(
        "name etag sequence_id description parent_id=parent.id owner=owned_by.login "
        "shared_url=shared_link.url shared_access=shared_link.access "
        "created_at:timestamptz modified_at:timestamptz",
        *more,
    )


def under_items(name: str, kind: Kind, shown: str) -> Stream:
    """What is said of items, or who may see them: it comes item by item."""
    return Stream(
        name=name,
        read=following(kind),
        fetch=fetcher(kind),
        key=under_key,
        hides_deletes=True,
        columns=columns(shown),
    )


def listed(path: str, fields: str) -> Any:
    """Everything that a path lists, each time."""
    request = Request.get(path, params={"usemarker": True, "limit": 1000, "fields": fields})
    return cursor_pages(request, records="entries", cursor="next_marker", param="marker")


def classify(response: Response) -> ConnectorError | None:
    """By status, as Box documents it; of a 403 it says which right is missing."""
    body = response.json if isinstance(response.json, dict) else {}
    code = body.get("code") or body.get("error")
    if response.status == 403 and isinstance(code, str) and code.replace("_", "").isalnum():
        return NotAllowedError(
            f"Box does not allow this ({code[:60]}): the person who connected lacks a right to it, "
            "or the app lacks a scope that an administrator has to enable"
        )
    return None


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The person: nothing in the token answer says who consented."""
    params = {"fields": "id,login,enterprise"}
    me = (yield from ask(Request.get("/users/me", params=params))).json
    enterprise = (me.get("enterprise") or {}).get("id")
    config = {"enterprise_id": enterprise} if enterprise else {}
    return (Account(me["id"], name=me["login"], config=config),)


connector = Connector(
    name="box",
    title="Box",
    category="Files",
    sync_type=SyncType.PUSH,
    base_url="https://api.box.com/2.0",
    auth=OAuth2(
        env="BOX",
        authorize_url="https://account.box.com/api/oauth2/authorize",
        token_url="https://api.box.com/oauth2/token",  # noqa: S106
        scopes={
            "root_readonly": "every stream but users",
            "manage_webhook": "to be told of changes at once",
            "manage_managed_users": "the stream users, which only an administrator may read; the "
            "rest goes on without it",
        },
        # A form with our client's id and secret, like calls for tokens.
        revocation=Revocation(url="https://api.box.com/oauth2/revoke"),
        rotates=True,
        # Each refresh token is good once; how long one lives that is not used is in the guides
        # only (2026-11).
        idle_lifetime=timedelta(days=60),
        console="https://app.box.com/developers/console",
    ),
    rate_limits=(RateLimit(1_000, per=timedelta(minutes=1)),),
    identify=identify,
    classify=classify,
    webhook=webhook,
    watch=watch,
    variables={
        SECRET: "the primary and the secondary signature key of the app: `primary,secondary`"
    },
    sync_method="the person's stream of events",
    referees=("box-sdk-gen",),
    limitations=(
        "What the person who connected sees, and no more: an administrator does not see what is "
        "others', for which Box wants a call in each one's name.",
        "When a folder is deleted or no longer shared, Box does not tell what was in it: all "
        "folders are walked through again, at most once an hour, and the rows go then.",
        "While a folder refuses to be listed, nothing counts as gone because a walk did not find "
        "it; it is tried again each hour.",
        "Webhooks are hints only, and streams are polled as often as without: the root folder "
        "cannot be watched, folders at the top beyond 200 are not, and of web links and "
        "descriptions no webhook tells.",
        "Of the persons in an item only id and login are kept, of its folder the id: their names "
        "change without an event. Nor is it counted how often a shared link was followed.",
        "The text of a comment may change without an event in the stream; a webhook or the weekly "
        "check finds that. Nothing tells how many tasks a file has: each is asked once.",
        "What is in files is not fetched.",
    ),
    streams=(
        Stream(
            name="folder_items",
            title="Files, folders and web links",
            read=following(ITEMS),
            fetch=fetcher(ITEMS),
            key=lambda item: f"{item['type']}_{item['id']}",
            hides_deletes=True,
            columns=item_columns("item_id=id type"),
        ),
        Stream(
            name="files",
            title="Files",
            read=following(FILES),
            fetch=fetcher(FILES),
            hides_deletes=True,
            columns=item_columns(
                "sha1 size:bigint extension version_number tags:jsonb lock:jsonb "
                "version_id=file_version.id content_modified_at:timestamptz"
            ),
        ),
        Stream(
            name="events",
            title="Events",
            read=log,
            key="event_id",
            append_only=True,
            columns=columns(
                "event_type created_at:timestamptz created_by=created_by.login "
                "source_type=source.type source_id=source.id"
            ),
        ),
        under_items(
            "collaborations",
            COLLABORATIONS,
            "collaboration_id=id item_type item_id role status login=accessible_by.login "
            "invite_email expires_at:timestamptz created_at:timestamptz "
            "modified_at:timestamptz",
        ),
        under_items(
            "comments",
            COMMENTS,
            "comment_id=id file_id=item_id message author=created_by.login created_at:timestamptz",
        ),
        under_items(
            "tasks",
            TASKS,
            "task_id=id file_id=item_id action message is_completed:boolean "
            "due_at:timestamptz created_at:timestamptz",
        ),
        Stream(
            name="trash",
            title="Trash",
            read=listed("/folders/trash/items", f"{ITEM},trashed_at,purged_at"),
            key=lambda item: f"{item['type']}_{item['id']}",
            snapshot=True,
            columns=columns(
                "item_id=id type name trashed_at:timestamptz purged_at:timestamptz "
                "owner=owned_by.login"
            ),
        ),
        Stream(
            name="users",
            title="Users",
            read=listed("/users", USER),
            snapshot=True,
            columns=columns(
                "name login status job_title phone space_amount:bigint "
                "created_at:timestamptz modified_at:timestamptz"
            ),
        ),
    ),
)
