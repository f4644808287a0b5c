"""Google Drive: files, who may see them, shared drives, and the logs of changes (API v3).

Google keeps one log for a person and one for each shared drive, and only all of them together tell
of everything. Of one thing they do not tell: when a folder in a shared drive is shared, or is no
longer, what is in it has other permissions, too; only a full read finds these.

https://developers.google.com/workspace/drive/api/guides/about-changes

Longer than 300 lines: there are logs for the person and for each shared drive, which only
together tell of everything, and permissions that no log names.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    Context,
    NoWatch,
    RateLimit,
    Request,
    Stream,
    SyncType,
    Watch,
    WatchRequest,
    ask,
    columns,
)
from connectors._google import AWAY, SCOPE, auth, classify, is_away
from connectors._google.channels import LIFETIME, channel_webhook, open_channel, stop_channel
from connectors.google_drive.changes import (
    GET,
    TITLE,
    USER,
    Kind,
    drive_ids,
    log_request,
    of_corpora,
)
from connectors.google_drive.reading import (
    FILE,
    PERMITTED,
    change_files,
    change_key,
    change_permissions,
    fetch_permissions,
    keep_changes,
    list_files,
    list_permissions,
    permission_key,
    shared_drives,
)
from connectors.kernel.versions import integer
from connectors.kernel.webhooks import WatchSteps

STREAMS = ("files", "changes", "shared_drives", "permissions")
# Of files whose permissions are read, each of which may take a call of its own.
DETAILED = 100


def resources(context: Context) -> Calls[Sequence[str]]:
    """The logs: each has a channel of its own."""
    drives = yield from drive_ids()
    return [USER, *(drives or ())]


def watch(wanted: WatchRequest) -> WatchSteps:
    """A channel on a log, from now on."""
    corpus = wanted.resource
    expect = () if corpus == USER else AWAY
    response = yield from ask(
        log_request("/changes/startPageToken", corpus, cost=GET, expect=expect)
    )
    if is_away(TITLE, response):
        return NoWatch("this shared drive is no longer this person's to see")
    asked = log_request(
        "/changes/watch",
        corpus,
        cost=GET,
        expect=(),
        pageToken=response.json["startPageToken"],
        includeRemoved=True,
        includeItemsFromAllDrives=True,
    )
    return (yield from open_channel(TITLE, asked.path, wanted, params=asked.params))


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The person, by their address: it is the account's at all of Google's integrations."""
    user = (yield from ask(Request.get("/about", params={"fields": "user"}, cost=GET))).json["user"]
    return (Account(user["emailAddress"].lower(), name=user["emailAddress"]),)


connector = Connector(
    name="google_drive",
    title=TITLE,
    category="Files",
    sync_type=SyncType.HYBRID,
    base_url="https://www.googleapis.com/drive/v3",
    auth=auth(
        {
            f"{SCOPE}drive.metadata.readonly": "the streams files, permissions and changes",
            f"{SCOPE}drive.readonly": "the stream shared_drives, and to find what is in them: to "
            "list shared drives Google wants this one, though no content is read; the rest goes "
            "on without it",
        }
    ),
    rate_limits=(
        # In quota units, of a project made since 2026-05-01: 325,000 and 1,000,000 (Google's page
        # "Usage limits", 2026-11). Who consents is asked for before there is an account to count
        # that for: some are left for it.
        RateLimit(324_000, per=timedelta(minutes=1)),
        RateLimit(990_000, per=timedelta(minutes=1), scope="app"),
    ),
    sync_method="a log of changes for the person and one for each shared drive",
    referees=("google-api-python-client",),
    limitations=(
        "When a folder in a shared drive is shared, or is no longer, no log tells of what is in "
        "it: all permissions in that drive are read again within a day.",
        "Google tells of a file that is deleted and of one that is no longer shared in the same "
        "way, and sometimes not at all: both count as deleted, and an audit finds the latter.",
        "The stream changes is the person's own log; of what is in shared drives it holds what "
        "Google shows there.",
    ),
    identify=identify,
    classify=classify(TITLE),
    webhook=channel_webhook(streams=lambda address: STREAMS, covers=STREAMS),
    watch=Watch(
        resources=resources,
        create=watch,
        delete=stop_channel,
        streams=lambda resource: STREAMS,
        lifetime=LIFETIME,
    ),
    concurrency=8,
    streams=(
        of_corpora(
            "files",
            Kind(file=FILE, page=1000, listed=list_files, changed=change_files),
            columns(
                "name mime_type=mimeType description parents:jsonb drive_id=driveId owners:jsonb "
                "is_owned_by_me=ownedByMe:boolean is_starred=starred:boolean "
                "size_bytes=size:bigint md5_checksum=md5Checksum web_view_link=webViewLink "
                "last_modifying_user_email=lastModifyingUser.emailAddress "
                "created_at=createdTime:timestamptz modified_at=modifiedTime:timestamptz "
                "shared_with_me_at=sharedWithMeTime:timestamptz"
            ),
            version=integer("version"),
            hides_deletes=True,
        ),
        of_corpora(
            "changes",
            Kind(file=FILE, page=1000, changed=keep_changes),
            columns(
                "change_type=changeType changed_at=time:timestamptz is_removed=removed:boolean "
                "file_id=fileId drive_id=driveId file_name=file.name"
            ),
            key=change_key,
            append_only=True,
            from_now_on=True,
        ),
        Stream(
            name="shared_drives",
            title="Shared drives",
            read=shared_drives,
            snapshot=True,
            columns=columns(
                "name is_hidden=hidden:boolean restrictions:jsonb "
                "created_at=createdTime:timestamptz"
            ),
        ),
        of_corpora(
            "permissions",
            Kind(
                file=PERMITTED,
                page=DETAILED,
                listed=list_permissions,
                changed=change_permissions,
                inherits=True,
            ),
            columns(
                "file_id type role email_address=emailAddress domain display_name=displayName "
                "expires_at=expirationTime:timestamptz"
            ),
            key=permission_key,
            fetch=fetch_permissions,
        ),
    ),
)
