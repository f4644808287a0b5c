"""Google Drive on loopback: files, shared drives, who may see them, and the logs of changes.

https://developers.google.com/workspace/drive/api/reference/rest/v3

Longer than 700 lines: folders and shared drives whose permissions are inherited, one log for
each, a search language, and channels.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeAlias
from urllib.parse import urlencode

from starlette.responses import Response

from sandbox._google import (
    AUTH,
    SCOPE,
    older_trouble,
    project,
    quota_status,
    served,
)
from sandbox._google.batch import batch
from sandbox._google.channels import Lasting, open_channel, sender, stop_channel
from sandbox.google_drive import api as reading
from sandbox.google_drive import writes as writing
from sandbox.google_drive.seed import MUTATIONS, new
from sandbox.google_drive.store import FOLDER, USER, Cabinet, alterable, expire, store
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Limit, Route, Vendor

HOST = "www.googleapis.com"
PATH = "/drive/v3"

DRIVE = f"{SCOPE}drive"
# By the discovery document of revision 20261106. To list shared drives, metadata is not enough.
READ = (DRIVE, *(f"{DRIVE}.{name}" for name in ("readonly", "metadata", "metadata.readonly")))
READ_FILES = (*READ, f"{DRIVE}.file", f"{DRIVE}.appdata", f"{DRIVE}.photos.readonly")
READ_CHANGES = (*READ_FILES, f"{DRIVE}.meet.readonly")
READ_DRIVES = (DRIVE, f"{DRIVE}.readonly")
WRITE_FILES = (DRIVE, f"{DRIVE}.file", f"{DRIVE}.appdata")
WRITE_METADATA = (*WRITE_FILES, f"{DRIVE}.metadata")
WRITE_PERMISSIONS = (DRIVE, f"{DRIVE}.file")
WRITE_DRIVES = (DRIVE,)

# Quota units of a project made since 2026-05-01.
A_MINUTE = 325_000

Handler: TypeAlias = Callable[[Call, Cabinet], Response]
ONE = "/files/{file}/permissions/{permission}"
# An hour, unless it is asked for more.
CHANGES_LAST = Lasting(usual=timedelta(hours=1), longest=timedelta(days=7))
FILES_LAST = Lasting(usual=timedelta(hours=1), longest=timedelta(days=1))


def watch_changes(call: Call, cabinet: Cabinet) -> Response:
    """A channel on a log; the token must be one of it."""
    corpus, _ = reading.found_changes(call, cabinet)
    uri = f"https://{HOST}{PATH}/changes?{urlencode(call.query.multi_items())}"
    return open_channel(call, f"changes/{corpus}", uri, CHANGES_LAST)


def watch_file(call: Call, cabinet: Cabinet) -> Response:
    file = reading.found_file(call, cabinet)
    uri = f"https://{HOST}{PATH}/files/{file.id}?alt=json"
    return open_channel(call, f"files/{file.id}", uri, FILES_LAST)


def stop(call: Call, cabinet: Cabinet) -> Response:
    return stop_channel(call)


TABLE: tuple[tuple[str, str, Handler, tuple[str, ...]], ...] = (
    ("GET", "/about", reading.about, READ_FILES),
    ("GET", "/files", reading.list_files, READ_FILES),
    ("POST", "/files", writing.create_file, WRITE_FILES),
    ("GET", "/files/{file}", reading.get_file, READ_FILES),
    ("PATCH", "/files/{file}", writing.update_file, WRITE_METADATA),
    ("DELETE", "/files/{file}", writing.delete_file, WRITE_FILES),
    ("GET", "/files/{file}/permissions", reading.list_permissions, READ_FILES),
    ("POST", "/files/{file}/permissions", writing.create_permission, WRITE_PERMISSIONS),
    ("GET", ONE, reading.get_permission, READ_FILES),
    ("PATCH", ONE, writing.update_permission, WRITE_PERMISSIONS),
    ("DELETE", ONE, writing.delete_permission, WRITE_PERMISSIONS),
    ("GET", "/changes/startPageToken", reading.start_token, READ_CHANGES),
    ("GET", "/changes", reading.list_changes, READ_CHANGES),
    ("POST", "/changes/watch", watch_changes, READ_CHANGES),
    ("POST", "/files/{file}/watch", watch_file, READ_CHANGES),
    ("POST", "/channels/stop", stop, READ_CHANGES),
    ("GET", "/drives", reading.list_drives, READ_DRIVES),
    ("POST", "/drives", writing.create_drive, WRITE_DRIVES),
    ("GET", "/drives/{drive}", reading.get_drive, READ_DRIVES),
    ("PATCH", "/drives/{drive}", writing.update_drive, WRITE_DRIVES),
    ("DELETE", "/drives/{drive}", writing.delete_drive, WRITE_DRIVES),
)


def lose_logs(cabinet: Cabinet, body: Json) -> Json:
    """A control: no change token of an account that was given out so far is taken any more."""
    cabinet.generation += 1
    return {"account": cabinet.address}


def refuse_part(cabinet: Cabinet, body: Json) -> Json:
    """A control: one shared drive is refused, though it is listed, or is no longer."""
    stream = str(body.get("stream", ""))
    if stream not in ("files", "permissions"):
        return {"keys": []}
    found: dict[str, list[str]] = {}
    for key in sorted(store(cabinet, stream)):
        found.setdefault(cabinet.files[key.partition("/")[0]].corpus, []).append(key)
    found.pop(USER, None)
    # The one that has most, so that there is something to lose.
    part = max(found, key=lambda one: len(found[one]), default="")
    cabinet.refused = {part} if part and body.get("on", True) else set()
    return {"keys": found.get(part, []), "part": part}


def hide(cabinet: Cabinet, body: Json) -> Json:
    """A control: a file is no longer shared with the person, and no log tells of it."""
    stream = str(body.get("stream", ""))
    if stream not in ("files", "permissions"):
        return {"keys": []}
    for key in sorted(store(cabinet, "files")):
        file = cabinet.files[key]
        if file.corpus != USER or file.data["mimeType"] == FOLDER:
            continue
        keys = [one for one in sorted(store(cabinet, stream)) if one.partition("/")[0] == key]
        if keys:
            del cabinet.files[key]
            cabinet.log.entries.pop(("file", key), None)
            return {"keys": keys}
    return {"keys": []}


def _cost(call: Call) -> int:
    """Quota units (2026-05-01): 100 of a listing, 50 of a change, 5 of all else."""
    last = call.path.rstrip("/").rpartition("/")[2]
    if call.method == "GET":
        return 100 if last in ("files", "changes", "drives", "permissions") else 5
    return 5 if last in ("watch", "stop") else 50


def extras(account_id: str, origin: str) -> Json:
    """What a client of Google's SDK is told."""
    return {
        "api_endpoint": f"{origin}/{HOST}{PATH}/",
        "batch_url": f"{origin}/{HOST}/batch{PATH}",
    }


vendor = Vendor(
    name="google_drive",
    title="Google Drive",
    base_url=f"https://{HOST}{PATH}",
    auth=AUTH,
    routes=(
        *(
            Route(method, HOST, f"{PATH}{path}", served("Google Drive", handler), scopes=scopes)
            for method, path, handler, scopes in TABLE
        ),
        # Each part of a batch brings its own token.
        Route("POST", HOST, "/batch/drive/v3", batch, open=True),
    ),
    streams=("files", "changes", "shared_drives", "permissions"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=older_trouble,
    limits=(Limit("units per minute per user", A_MINUTE, 60.0, _cost),),
    expire_checkpoints=expire,
    controls={"quota_status": quota_status, "project": project},
    account_controls={"lose_logs": lose_logs, "refuse_part": refuse_part, "hide": hide},
    webhook=sender("google_drive"),
    extras=extras,
)
