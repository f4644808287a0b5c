"""Box on loopback: one person's files and folders, their events and webhooks (API 2.0).

https://developer.box.com/reference/

Only reading is offered, and the webhooks.
"""

from collections.abc import Callable
from datetime import timedelta
from random import Random

from starlette.responses import Response

from sandbox.box import api, events
from sandbox.box.api import trouble
from sandbox.box.seed import MUTATIONS, alterable, new
from sandbox.box.store import UNDER, Drive, store
from sandbox.kernel.data import person
from sandbox.kernel.oauth import Call, Issue, OAuth, Rotation
from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Limit, Route, Vendor

HOST = "api.box.com"
READ, HOOKS, PEOPLE = "root_readonly", "manage_webhook", "manage_managed_users"


def token_answer(issue: Issue) -> Json:
    """The scopes are not told; the lifetime varies by some minutes."""
    lasts = int(issue.auth.access_ttl.total_seconds())
    return {
        "access_token": issue.access_token, "expires_in": lasts + len(issue.account.id) * 3,
        "restricted_to": [], "refresh_token": issue.refresh_token, "token_type": "bearer",
    }  # fmt: skip


def _new_account(random: Random) -> tuple[str, str]:
    return str(random.randint(10**9, 10**11)), " ".join(person(random))


AUTH = OAuth(
    name="box",
    client_id="ly1nj6n11vionaie65emwzk575hnnmrk",
    client_secret="hOzsTeFlT6ko0dme22uGbQal04SBPYc1",  # pragma: allowlist secret
    authorize=(("account.box.com", "/api/oauth2/authorize"),),
    token=((HOST, "/oauth2/token"),),
    revoke=((HOST, "/oauth2/revoke"),),
    scopes=(READ, HOOKS, PEOPLE),
    new_account=_new_account,
    account_pattern=r"\d{1,20}",
    client_auth="body",
    # A code is taken with no address beside it: the token call documents none.
    needs_redirect_uri=False,
    pkce="ignored",
    access_ttl=timedelta(hours=1),
    # Good for one use, with no grace for an answer that is lost.
    rotation=Rotation("always", ttl=timedelta(days=60)),
    answer=token_answer,
)


# -- Controls -------------------------------------------------------------------------------------


def _folder(drive: Drive, stream: str) -> tuple[str, list[str]]:
    """The folder under which most of a stream lies, and the keys of that."""
    if stream not in ("folder_items", "files", *UNDER):
        return "", []
    rows, found = store(drive, stream), dict[str, list[str]]()
    for folder in drive.live("folder"):
        below = {each.key for each in drive.below(folder)}
        keys = [key for key in rows if _place(stream, key) in below]
        found[folder.key] = keys
    part = max(found, key=lambda one: len(found[one]), default="")
    return part, found.get(part, [])


def _place(stream: str, key: str) -> str:
    return f"file_{key}" if stream == "files" else key.partition("/")[0]


def refuse_part(drive: Drive, body: Json) -> Json:
    """One folder may not be listed from now on, as it was moved to where a policy forbids it; or,
    with `on` false, all may again."""
    if not body.get("on", True):
        drive.refused.clear()
        return {"part": "", "keys": []}
    part, keys = _folder(drive, str(body.get("stream")))
    if part:
        drive.refused.add(part)
        drive.touch(drive.items[part], "ITEM_MOVE")
    return {"part": part, "keys": keys}


def hide(drive: Drive, body: Json) -> Json:
    """A folder is no longer shared with the person, and nothing tells it."""
    part, keys = _folder(drive, str(body.get("stream")))
    if part:
        drive.hidden.add(part)
    return {"part": part, "keys": keys}


def expire_checkpoints(drive: Drive) -> None:
    """Markers are not to be kept. Positions of events end with their time."""
    drive.era += 1


def person_is(drive: Drive, body: Json) -> Json:
    """Whether the person is an `admin`."""
    drive.is_admin = bool(body.get("admin", drive.is_admin))
    return {"admin": drive.is_admin}


def _route(
    method: str, path: str, handler: Callable[[Drive, Call], Response], *scopes: str
) -> Route:
    def handle(call: Call) -> Response:
        return handler(call.state, call)

    return Route(method, HOST, f"/2.0{path}", handle, scopes=scopes)


vendor = Vendor(
    name="box",
    title="Box",
    base_url=f"https://{HOST}/2.0",
    auth=AUTH,
    routes=(
        _route("GET", "/users/me", api.me),
        _route("GET", "/users", api.users, PEOPLE),
        _route("GET", "/events", api.events, READ),
        _route("GET", "/folders/trash/items", api.trash, READ),
        _route("GET", "/folders/{id}/items", api.folder_items, READ),
        *(
            _route("GET", f"/{kind}s/{{id}}", api.item_of(kind), READ)
            for kind in ("file", "folder", "web_link")
        ),
        *(_route("GET", f"/files/{{id}}/{name}", api.under("file", name), READ) for name in UNDER),
        _route("GET", "/folders/{id}/collaborations", api.under("folder", "collaborations"), READ),
        _route("POST", "/webhooks", events.create, HOOKS),
        _route("GET", "/webhooks", events.listed, HOOKS),
        _route("GET", "/webhooks/{id}", events.one, HOOKS),
        _route("PUT", "/webhooks/{id}", events.update, HOOKS),
        _route("DELETE", "/webhooks/{id}", events.remove, HOOKS),
    ),
    streams=(
        "folder_items",
        "files",
        "events",
        "collaborations",
        "comments",
        "tasks",
        "trash",
        "users",
    ),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    limits=(Limit("minute", 1_000, 60.0),),
    expire_checkpoints=expire_checkpoints,
    account_controls={
        "refuse_part": refuse_part,
        "hide": hide,
        "person": person_is,
        "tell": events.tell,
    },
    webhook=events.SENDER,
    three_pages_at=250,
)
