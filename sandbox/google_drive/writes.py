"""Writing to a Drive: the metadata of files, permissions, shared drives.

https://developers.google.com/workspace/drive/api/reference/rest/v3
"""

from random import Random

from starlette.responses import Response

from sandbox._google import refused
from sandbox._google.fields import answered
from sandbox.google_drive.api import DRIVE, FILE, PERMISSION, found_drive, found_file, shown
from sandbox.google_drive.seed import FILE_FIELDS, add_drive, add_file
from sandbox.google_drive.store import (
    USER,
    Cabinet,
    File,
    grant,
    grants_of,
    leave,
    move,
    note_drive,
    put,
    remove,
    share,
    shown_drive,
    shown_file,
    trash,
)
from sandbox.kernel.clock import stamp
from sandbox.kernel.fields import only
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json

ROLES = ("organizer", "fileOrganizer", "writer", "commenter", "reader")
NOTHING = 204


def _body(call: Call) -> Json:
    body = call.json() if call.body else {}
    if not isinstance(body, dict):
        raise refused(400, "parseError", "Parse Error")
    return body


def _own_file(call: Call, cabinet: Cabinet) -> File:
    file = found_file(call, cabinet)
    if file.role not in ("owner", "organizer", "writer"):
        message = "The user does not have sufficient permissions for this file."
        raise refused(403, "insufficientFilePermissions", message)
    return file


def create_file(call: Call, cabinet: Cabinet) -> Response:
    """A file without content: the sandbox keeps metadata only."""
    body, random = _body(call), Random(call.clock.time())
    parent = (body.get("parents") or [cabinet.root])[0]
    corpus = parent if parent in cabinet.drives else USER
    if parent in cabinet.files:
        corpus = cabinet.files[parent].corpus
    elif corpus == USER and parent not in ("root", cabinet.root):
        raise refused(404, "notFound", f"File not found: {parent}.")
    given = {"name": "Untitled", **body, "parents": [cabinet.root if parent == "root" else parent]}
    file = add_file(cabinet, random, given, corpus)
    if corpus == USER:
        mine = grant(cabinet.owner, cabinet.address, "owner")
        file.role, file.grants = "owner", {mine["id"]: mine}
        file.data |= {"owners": [cabinet.me], "ownedByMe": True, "writersCanShare": True}
        file.data.pop("sharedWithMeTime", None)
    return answered(call, shown(call, shown_file(cabinet, file), FILE))


def update_file(call: Call, cabinet: Cabinet) -> Response:
    """Some of the metadata; a parent is put on or taken off by the query."""
    file, body = _own_file(call, cabinet), _body(call)
    parent = call.query.get("addParents", "")
    if parent in cabinet.drives and file.corpus == USER:
        move(cabinet, file, parent)
    elif parent:
        put(cabinet, file, parents=[parent])
    if bool(body.get("trashed", file.trashed)) is not file.trashed:
        trash(cabinet, file, trashed=bool(body["trashed"]))
    given = {name: body[name] for name in FILE_FIELDS if name in body and name != "trashed"}
    if given:
        put(cabinet, file, **given, modifiedTime=stamp(cabinet.clock.now()))
    return answered(call, shown(call, shown_file(cabinet, file), FILE))


def delete_file(call: Call, cabinet: Cabinet) -> Response:
    """For good, and not by way of the bin."""
    remove(cabinet, _own_file(call, cabinet))
    return Response(status_code=NOTHING)


def create_permission(call: Call, cabinet: Cabinet) -> Response:
    file, body = _own_file(call, cabinet), _body(call)
    kind, role = body.get("type"), body.get("role")
    if kind not in ("user", "group", "domain", "anyone") or role not in ROLES:
        raise refused(400, "invalid", "The specified type or role is invalid.")
    if kind in ("user", "group") and not body.get("emailAddress"):
        raise refused(400, "required", "The emailAddress of the permission is required.")
    if kind == "anyone":
        made: Json = {"kind": "drive#permission", "id": "anyoneWithLink", "type": kind}
        made |= {"role": role, "allowFileDiscovery": False}
    else:
        address = str(body.get("emailAddress") or body.get("domain"))
        made = {**grant(address, address, str(role)), "type": kind}
    file.grants[made["id"]] = made
    share(cabinet, file)
    return answered(call, shown(call, made, PERMISSION))


def update_permission(call: Call, cabinet: Cabinet) -> Response:
    file, body = _own_file(call, cabinet), _body(call)
    held = _own_grant(call, file)
    if body.get("role") not in ROLES:
        raise refused(400, "invalid", "The specified role is invalid.")
    file.grants[held["id"]] = {**held, "role": body["role"]}
    share(cabinet, file)
    return answered(call, shown(call, grants_of(cabinet, file)[held["id"]], PERMISSION))


def delete_permission(call: Call, cabinet: Cabinet) -> Response:
    file = _own_file(call, cabinet)
    del file.grants[_own_grant(call, file)["id"]]
    share(cabinet, file)
    return Response(status_code=NOTHING)


def _own_grant(call: Call, file: File) -> Json:
    held = file.grants.get(call.params["permission"])
    if held is None or held["role"] == "owner":
        raise refused(404, "notFound", f"Permission not found: {call.params['permission']}.")
    return held


def create_drive(call: Call, cabinet: Cabinet) -> Response:
    """A shared drive; the request's id lets it be repeated."""
    name = _body(call).get("name")
    if not call.query.get("requestId") or not name:
        raise refused(400, "required", "A requestId and a name are required.")
    drive = add_drive(cabinet, Random(call.query["requestId"]), {"name": name})
    drive.role = "organizer"
    return answered(call, shown(call, shown_drive(cabinet, drive), DRIVE))


def update_drive(call: Call, cabinet: Cabinet) -> Response:
    drive = found_drive(cabinet, call.params["drive"])
    body = _body(call)
    drive.resource |= only(body, "name", "colorRgb")
    note_drive(cabinet, drive, to_member=True)
    return answered(call, shown(call, shown_drive(cabinet, drive), DRIVE))


def delete_drive(call: Call, cabinet: Cabinet) -> Response:
    """Only an empty one."""
    drive = found_drive(cabinet, call.params["drive"])
    id_ = str(drive.resource["id"])
    if any(file.corpus == id_ and not file.trashed for file in cabinet.files.values()):
        raise refused(403, "cannotDeleteDriveWithItems", "The shared drive is not empty.")
    leave(cabinet, id_)
    return Response(status_code=NOTHING)
