"""Notion on loopback: search with its lag and its end, data sources, pages, blocks, comments.

https://developers.notion.com/reference/intro (versions 2025-09-03 and 2026-03-11)

Longer than 700 lines: pages with cells of each kind, blocks within blocks, and what is made of both
for tables to be compared with.
"""

from datetime import timedelta

from sandbox.kernel.values import Json, RefusedError
from sandbox.kernel.vendor import Limit, Vendor
from sandbox.notion.api import ROUTES
from sandbox.notion.auth import AUTH, HOST
from sandbox.notion.auth import ROUTES as AUTH_ROUTES
from sandbox.notion.errors import trouble
from sandbox.notion.events import SENDER
from sandbox.notion.seed import MUTATIONS, alterable, new
from sandbox.notion.store import Workspace, store

STREAMS = (
    "pages", "data_sources", "data_source_rows", "blocks", "comments", "page_markdown",
    "relations", "page_property_items", "databases", "properties_schema", "users",
)  # fmt: skip
CAPABILITIES = ("read_users", "read_comments")
# What stands under a page or data source that calls can be refused of.
PARTS = ("data_source_rows", "blocks", "comments", "page_markdown")


def _part(space: Workspace, stream: str) -> tuple[str, list[str]]:
    """The page or data source that has most records of a stream, and their keys; the home page
    and what is of nothing that can be unshared are left out."""
    found: dict[str, list[str]] = {}
    for key in store(space, stream):
        found.setdefault(key.partition("/")[0], []).append(key)
    found.pop(space.home, None)
    part = max(found, key=lambda one: len(found[one]), default="")
    return part, found.get(part, [])


def refuse_part(space: Workspace, body: Json) -> Json:
    """One page or data source cannot be read from now on; or, with `on` false, all can again. Of a
    page it is an edit that makes it so, as when somebody puts something there."""
    stream = str(body.get("stream"))
    part, keys = _part(space, stream) if stream in PARTS else ("", [])
    if not body.get("on", True):
        space.refused.clear()
    elif part:
        space.refused.add(part)
        if part in space.pages:
            space.edit(part)
    return {"part": part, "keys": keys}


def hide(space: Workspace, body: Json) -> Json:
    """A page or data source is not shared with the app any more, and nothing tells it so."""
    stream = str(body.get("stream"))
    if stream == "users":
        return {"part": "", "keys": []}
    part, keys = _part(space, stream)
    source = part
    if stream == "databases":
        found = (id_ for id_, one in space.sources.items() if one["parent"]["database_id"] == part)
        source = next(found, "")
    if source in space.sources:
        space.hidden |= {*space.rows(source), space.sources[source]["parent"]["database_id"]}
    space.hidden.add(source)
    return {"part": part, "keys": keys}


def lag(space: Workspace, body: Json) -> Json:
    """How many seconds search lags behind."""
    space.lag = timedelta(seconds=float(body.get("seconds", 0)))
    return {"seconds": space.lag.total_seconds()}


def app_settings(space: Workspace, body: Json) -> Json:
    """Which capabilities the app is `lacking`, and after how many results (`most`) search and
    queries end."""
    lacking = body.get("lacking", sorted(space.lacking))
    if not set(lacking) <= set(CAPABILITIES):
        raise RefusedError(f"capabilities are: {', '.join(CAPABILITIES)}", status=400)
    space.lacking, space.most = set(lacking), int(body.get("most", space.most))
    return {"lacking": sorted(space.lacking), "most": space.most}


vendor = Vendor(
    name="notion",
    title="Notion",
    base_url=f"https://{HOST}/v1",
    auth=AUTH,
    routes=(*AUTH_ROUTES, *ROUTES),
    streams=STREAMS,
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    expire_checkpoints=lambda space: space.cursors.clear(),
    # Three a second on average; bursts are tolerated.
    limits=(Limit("average", 180, 60.0),),
    account_controls={"refuse_part": refuse_part, "hide": hide, "lag": lag, "app": app_settings},
    webhook=SENDER,
    three_pages_at=300,
)
