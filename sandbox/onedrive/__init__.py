"""OneDrive on loopback: a person's drive, its items and their permissions, through Graph.

https://learn.microsoft.com/graph/api/resources/onedrive
"""

import secrets
from collections.abc import Callable
from typing import TypeAlias

from starlette.responses import Response

from sandbox import _microsoft
from sandbox._microsoft import AUTH, GRAPH, invalid, missing, problem
from sandbox._microsoft.odata import delta, listing, resync
from sandbox._microsoft.subscriptions import ROUTES as SUBSCRIPTIONS
from sandbox._microsoft.subscriptions import lifecycle, sender
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, RefusedError, reply
from sandbox.kernel.vendor import Limit, Route, Vendor
from sandbox.onedrive.seed import MUTATIONS, alterable, new, store
from sandbox.onedrive.store import Drive, Item, described, whole

DEFAULT, MOST = 200, 1000
READ = ("Files.Read", "Files.Read.All")
# Resource units of an app in a Microsoft tenant of up to 1,000 licences.
UNITS_A_MINUTE = 1_250

Handler: TypeAlias = Callable[[Call, Drive], Response]


def drive(call: Call, held: Drive) -> Response:
    return reply(described(held))


def drives(call: Call, held: Drive) -> Response:
    return listing(call, [described(held)], context="drives", default=DEFAULT, most=MOST)


def root(call: Call, held: Drive) -> Response:
    return reply(whole(held, held.root))


def item(call: Call, held: Drive) -> Response:
    return reply(_downloadable(whole(held, _item(call, held))))


def children(call: Call, held: Drive) -> Response:
    inside = sorted(held.children.get(_item(call, held).id, ()))
    rows = [whole(held, held.items[id_]) for id_ in inside]
    return listing(call, rows, context="driveItems", default=DEFAULT, most=MOST)


def permissions(call: Call, held: Drive) -> Response:
    item = _item(call, held)
    if item.id in held.hides:
        raise Answer(problem(call, 403, "accessDenied", "Access denied"))
    rows = list(item.permissions.values())
    return listing(call, rows, context="permissions", default=DEFAULT, most=MOST)


def changes(call: Call, held: Drive) -> Response:
    """The delta function of the root; on business drives the token may be a time."""
    if "item" in call.params and _item(call, held) is not held.root:
        raise invalid(call, "Delta is supported on the root of a drive only.")
    return delta(
        call,
        held.feed,
        context="Collection(driveItem)",
        default=DEFAULT,
        most=MOST,
        names=("token", "token"),
        dated=held.business,
        shape=_downloadable,
    )


def _item(call: Call, held: Drive) -> Item:
    id_ = call.params["item"]
    found = held.root if id_ == "root" else held.items.get(id_)
    if found is None:
        raise missing(call)
    return found


def _downloadable(row: Json) -> Json:
    """A file with an address that anybody can download it from for an hour."""
    if "file" not in row:
        return row
    address = f"https://drive.example/download?tempauth={secrets.token_urlsafe(16)}"
    return {"@microsoft.graph.downloadUrl": address, **row}


def _of_the_caller(handler: Handler) -> Callable[[Call], Response]:
    """The handler on the caller's own drive; one that was never set up is not found."""

    def answer(call: Call) -> Response:
        held: Drive = call.state
        if not held.provisioned:
            raise Answer(problem(call, *held.refusal, "User's mysite not found."))
        if call.params.get("drive", held.id) != held.id:
            raise missing(call)
        return handler(call, held)

    return answer


# Path, handler, resource units; delta costs less with a token.
TABLE: tuple[tuple[str, Handler, int], ...] = (
    ("/me/drive", drive, 1),
    ("/me/drives", drives, 2),
    ("/drives/{drive}", drive, 1),
    *(
        (f"{base}{path}", handler, units)
        for base in ("/me/drive", "/drives/{drive}")
        for path, handler, units in (
            ("/root", root, 1),
            ("/root/delta", changes, 2),
            ("/root/delta()", changes, 2),
            ("/root/delta(token='{token}')", changes, 2),
            ("/items/{item}", item, 1),
            ("/items/{item}/delta", changes, 2),
            ("/items/{item}/delta()", changes, 2),
            ("/items/{item}/delta(token='{token}')", changes, 2),
            ("/items/{item}/children", children, 2),
            ("/items/{item}/permissions", permissions, 5),
        )
    ),
)
ROUTES = tuple(
    Route("GET", GRAPH, f"/v1.0{path}", _of_the_caller(handler), scopes=READ)
    for path, handler, _ in TABLE
)


def _cost(call: Call) -> int:
    for route, (_, handler, units) in zip(ROUTES, TABLE, strict=True):
        if route.pattern.fullmatch(call.path):
            return 1 if handler is changes and "token" in call.query else units
    return 0


def provision(held: Drive, body: Json) -> Json:
    """Whether the account has a drive, and how it is told where it has none."""
    if not isinstance(body.get("provisioned"), bool):
        raise RefusedError("say whether the drive is provisioned", status=400)
    held.provisioned = body["provisioned"]
    held.refusal = (int(body.get("status", 404)), str(body.get("code", "ResourceNotFound")))
    return {"provisioned": held.provisioned}


def refuse_part(held: Drive, body: Json) -> Json:
    """The permissions of the root, which never goes, are refused from now on, or shown again."""
    if not isinstance(body.get("on"), bool):
        raise RefusedError("name a stream, and whether a part of it is refused")
    if body.get("stream") != "permissions":
        return {"keys": [], "part": ""}
    root = held.root.id
    held.hides = {root} if body["on"] else set()
    keys = [key for key in store(held, "permissions") if key.startswith(f"{root}/")]
    return {"keys": keys, "part": root}


def expire(held: Drive) -> None:
    held.feed.expire()


vendor = Vendor(
    name="onedrive",
    title="OneDrive",
    base_url=f"https://{GRAPH}/v1.0",
    auth=AUTH,
    routes=(*_microsoft.ROUTES, *SUBSCRIPTIONS, *ROUTES),
    streams=("drive_items", "drives", "permissions"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=_microsoft.trouble(denied="accessDenied", throttled="activityLimitReached"),
    limits=(Limit("resource units", UNITS_A_MINUTE, 60.0, _cost),),
    expire_checkpoints=expire,
    account_controls={
        "admin_consent": _microsoft.admin_consent,
        "lifecycle": lifecycle,
        "provision": provision,
        "refuse_part": refuse_part,
        "resync": resync(lambda held: held.feed),
    },
    extras=_microsoft.extras,
    webhook=sender("onedrive"),
)
