"""Dropbox: files and folders of an account and its team space, their revisions, and who sees them.

https://www.dropbox.com/developers/documentation/http/documentation (v2, 2026-11)

`include_deleted` of a listing only adds what was deleted before it, and makes it much slower
(osteele/banyan#3, 2018-02). The cursor tells of deletions without it: rclone keeps its view of a
Dropbox by such a cursor (its Dropbox backend, 2026-11). Dropbox itself does not say so outright.

Longer than 300 lines: a row is a path, so that deletions, moves and what takes a path over are
told apart here; half of it says what the nine streams are.
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Column,
    Connector,
    ContractError,
    Delivery,
    Effect,
    Event,
    OAuth2,
    RateLimit,
    Reply,
    Revocation,
    SignatureError,
    Stream,
    SyncType,
    Webhook,
    ask,
    columns,
    each_event,
)
from connectors.dropbox.errors import classify
from connectors.dropbox.reading import (
    bare,
    files,
    folder_members,
    listing,
    member_key,
    one,
    revisions,
)
from connectors.kernel.signatures import hmac_signature

API = "https://api.dropboxapi.com"
FOLLOWED = ("files", "file_revisions")


def tags(**paths: str) -> dict[str, Column]:
    """Columns of tags: Dropbox names them `.tag`, and `access_type/.tag` leads to one."""
    return {name: Column(tuple(path.split("/"))) for name, path in paths.items()}


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The account that the token answer names, as webhooks do."""
    if not (account := answer.get("account_id")):
        raise ContractError(
            "Dropbox named no account: the app is linked to a team, and this one reads accounts"
        )
    person = (yield from ask(bare("/users/get_current_account"))).json
    return (Account(str(account), name=person["email"]),)


def handshake(delivery: Delivery) -> Reply | None:
    """Dropbox asks once, when the address is entered, to see its challenge again."""
    if delivery.method != "GET" or not (challenge := delivery.query.get("challenge")):
        return None
    return Reply(challenge, headers={"x-content-type-options": "nosniff"})


def events(delivery: Delivery) -> Iterator[Event]:
    """A hint for each account that is named. What changed there its cursor tells."""
    try:
        named = delivery.json["list_folder"]["accounts"]
    except (ValueError, LookupError, TypeError):
        raise SignatureError("the delivery names no accounts") from None
    return each_event(named, lambda account: [_hint(account, delivery)], str)


def _hint(account: Any, delivery: Delivery) -> Event:
    """Dropbox's deliveries have no id, and two that say the same are two: a hint too many only
    costs a look."""
    if not isinstance(account, str):
        raise TypeError("an account that is no text")
    return Event(
        id=f"{account}:{delivery.received_at.isoformat()}",
        type="list_folder",
        effect=Effect.HINT,
        account_id=account,
        streams=FOLLOWED,
    )


TIMES = "client_modified:timestamptz server_modified:timestamptz"
FILE = "rev size:bigint content_hash is_downloadable:boolean"

connector = Connector(
    name="dropbox",
    title="Dropbox",
    category="Files",
    sync_type=SyncType.HYBRID,
    base_url=f"{API}/2",
    auth=OAuth2(
        env="DROPBOX",
        authorize_url="https://www.dropbox.com/oauth2/authorize",
        token_url=f"{API}/oauth2/token",
        # It takes the bearer token and no body, and ends the refresh token, too.
        revocation=Revocation(
            url=f"{API}/2/auth/token/revoke",
            gives=("access_token",),
            parameter="",
            client_auth="token",
            unknown=frozenset({401}),
        ),
        console="https://www.dropbox.com/developers/apps, as a scoped app with full access",
        scopes={
            "account_info.read": "the streams account and space_usage, and to find the team space",
            "files.metadata.read": "the streams files and file_revisions",
            "sharing.read": "the streams shared_folders, folder_members, shared_links and "
            "received_files; the rest goes on without it",
            "file_requests.read": "the stream file_requests; the rest goes on without it",
        },
        # Without this there is no refresh token.
        authorize_params={"token_access_type": "offline"},
        pkce=True,
        access_token_ttl=timedelta(hours=4),
    ),
    # Dropbox does not say how much it allows; it refuses bursts, and tells how long to wait.
    rate_limits=(RateLimit(600, per=timedelta(minutes=1)),),
    identify=identify,
    classify=classify,
    webhook=Webhook(
        verified_by="DROPBOX_CLIENT_SECRET",
        verify=hmac_signature("x-dropbox-signature"),
        handshake=handshake,
        events=lambda delivery: tuple(events(delivery)),
        covers=FOLLOWED,
        setup="In the App Console enter this address under Webhooks: Dropbox asks it for a "
        "challenge at once, and then tells of every account that is connected.",
        proof="The body, without a time; not the address. The body names accounts, and is a hint "
        "to read what changed, and no more.",
    ),
    sync_method="a cursor over everything under the account's root",
    referees=("dropbox",),
    limitations=(
        "A row of files is a path: what is moved is deleted at one path, and comes up at another "
        "with the same file_id.",
        "A rename that changes nothing but the case of letters is not told by the cursor (so the "
        "documentation of `path_display`): the next audit finds it.",
        "Revisions of files that were deleted before the first sync are not read, nor those at "
        "paths in a folder that was deleted in one go.",
        "Contents of files are not read, nor team members and team events, which only a team's "
        "administrator may see.",
        "A consent is given back with its last access token: once that has ended, after four hours "
        "without a sync, it only ends at Dropbox itself.",
    ),
    streams=(
        Stream(
            name="files",
            read=files,
            key="path_lower",
            columns=columns(
                "file_id=id name path_display",
                TIMES,
                FILE,
                "shared_folder_id=sharing_info.shared_folder_id",
            )
            | tags(type=".tag"),
        ),
        Stream(
            name="account",
            read=one("/users/get_current_account"),
            key="account_id",
            snapshot=True,
            columns=columns(
                "name=name.display_name email is_email_verified=email_verified:boolean "
                "is_disabled=disabled:boolean country locale is_paired:boolean team:jsonb "
                "root_namespace_id=root_info.root_namespace_id"
            )
            | tags(account_type="account_type/.tag"),
        ),
        Stream(
            name="shared_folders",
            title="Shared folders",
            read=listing(
                "/sharing/list_folders", "/sharing/list_folders/continue", "entries", limit=1_000
            ),
            key="shared_folder_id",
            snapshot=True,
            columns=columns(
                "name path_lower parent_shared_folder_id preview_url owner_team=owner_team:jsonb "
                "is_team_folder:boolean is_inside_team_folder:boolean time_invited:timestamptz "
                "policy:jsonb"
            )
            | tags(access_type="access_type/.tag"),
        ),
        Stream(
            name="file_revisions",
            title="File revisions",
            read=revisions,
            key="rev",
            append_only=True,
            columns=columns("file_id=id name path_display", TIMES, "size:bigint content_hash"),
        ),
        Stream(
            name="shared_links",
            title="Shared links",
            read=listing(
                "/sharing/list_shared_links", "/sharing/list_shared_links", "links", rooted=True
            ),
            key="url",
            snapshot=True,
            columns=columns(
                "file_id=id name path_lower expires_at=expires:timestamptz link_permissions:jsonb"
            )
            | tags(type=".tag", visibility="link_permissions/resolved_visibility/.tag"),
        ),
        Stream(
            name="folder_members",
            title="Members of shared folders",
            read=folder_members,
            key=member_key,
            snapshot=True,
            columns=columns(
                "shared_folder_id kind account_id=user.account_id email=user.email "
                "display_name=user.display_name group_id=group.group_id "
                "group_name=group.group_name invited_email=invitee.email "
                "is_inherited:boolean"
            )
            | tags(access_type="access_type/.tag"),
        ),
        Stream(
            name="received_files",
            title="Received files",
            read=listing(
                "/sharing/list_received_files",
                "/sharing/list_received_files/continue",
                "entries",
                limit=300,
            ),
            snapshot=True,
            columns=columns(
                "name path_display preview_url owner_display_names:jsonb time_invited:timestamptz"
            )
            | tags(access_type="access_type/.tag"),
        ),
        Stream(
            name="file_requests",
            title="File requests",
            read=listing(
                "/file_requests/list_v2",
                "/file_requests/list/continue",
                "file_requests",
                limit=1_000,
            ),
            snapshot=True,
            columns=columns(
                "title url destination created_at=created:timestamptz is_open:boolean "
                "file_count:bigint deadline=deadline.deadline:timestamptz description"
            ),
        ),
        Stream(
            name="space_usage",
            title="Space usage",
            read=one("/users/get_space_usage"),
            key=lambda row: "space_usage",
            snapshot=True,
            columns=columns("used:bigint allocated=allocation.allocated:bigint")
            | tags(allocation="allocation/.tag"),
        ),
    ),
)
