"""Jira Cloud on loopback: sites with issues, search, worklog feeds, lists, boards, webhooks.

https://developer.atlassian.com/cloud/jira/platform/rest/v3/intro

Longer than 700 lines: a query language, fourteen lists of which some hang on issues, an index that
lags behind them, two feeds, and webhooks with filters that are made by the API.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TypeAlias

from starlette.responses import Response

from sandbox.jira import api, events
from sandbox.jira.answers import trouble
from sandbox.jira.auth import (
    AUTH,
    BOARDS,
    HOOKS,
    HOST,
    READ,
    SPRINTS,
    USERS,
    accessible_resources,
    site_of,
)
from sandbox.jira.store import CHILDREN, LONGEST_LAG, MUTATIONS, Site, alterable, new, store
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, RefusedError
from sandbox.kernel.vendor import Limit, Route, Vendor

Of: TypeAlias = Callable[[Site, Call], Response]
SITE = "/ex/jira/{cloud}/rest"


def _at(method: str, path: str, handler: Of, scope: str = READ) -> Route:
    def answered(call: Call) -> Response:
        return handler(site_of(call), call)

    api_path = path if path.startswith("/agile/") else f"/api/3{path}"
    return Route(method, HOST, f"{SITE}{api_path}", answered, scopes=(scope,))


ROUTES = (
    Route("GET", HOST, "/oauth/token/accessible-resources", accessible_resources),
    _at("GET", "/search/jql", api.search),
    _at("POST", "/search/jql", api.search),
    _at("POST", "/issue/bulkfetch", api.bulk_fetch),
    _at("POST", "/issue", api.create_issue),
    _at("GET", "/issue/{issue}", api.get_issue),
    _at("DELETE", "/issue/{issue}", api.delete_issue),
    _at("GET", "/issue/{issue}/comment", api.comments),
    _at("POST", "/issue/{issue}/comment", api.create_comment),
    _at("POST", "/issue/{issue}/worklog", api.create_worklog),
    _at("GET", "/issue/{issue}/changelog", api.changelog),
    _at("GET", "/worklog/updated", api.worklogs_updated),
    _at("GET", "/worklog/deleted", api.worklogs_deleted),
    _at("POST", "/worklog/list", api.worklog_list),
    _at("GET", "/project/search", api.projects),
    _at("GET", "/users/search", api.users, USERS),
    _at("GET", "/priority/search", api.pages("priorities", 50)),
    _at("GET", "/resolution/search", api.pages("resolutions", 50)),
    _at("GET", "/field", api.bare("fields")),
    _at("GET", "/status", api.bare("statuses")),
    _at("GET", "/issuetype", api.bare("issue_types")),
    _at("GET", "/issueLinkType", api.link_types),
    _at("GET", "/myself", api.myself, USERS),
    _at("GET", "/serverInfo", api.server_info),
    _at("GET", "/agile/1.0/board", api.boards, BOARDS),
    _at("GET", "/agile/1.0/board/{board}/sprint", api.board_sprints, SPRINTS),
    _at("POST", "/webhook", events.register, HOOKS),
    _at("GET", "/webhook", events.listed, HOOKS),
    _at("PUT", "/webhook/refresh", events.refresh, HOOKS),
    _at("DELETE", "/webhook", events.remove, HOOKS),
)


def refuse_part(site: Site, body: Json) -> Json:
    """A board is no longer shown to the person, or is again."""
    part, keys = "", list(store(site, "sprints"))
    site.refused = set()
    if body.get("stream") == "sprints" and body.get("on") and keys:
        board = keys[0].partition("/")[0]
        site.refused, part = {board}, f"{board}/"
    return {"part": part, "keys": [key for key in keys if part and key.startswith(part)]}


def hide(site: Site, body: Json) -> Json:
    """A security level takes some issues out of sight, with all that hangs on them."""
    stream = str(body.get("stream"))
    if stream not in ("issues", *CHILDREN):
        return {"keys": []}
    before = store(site, stream)
    for id_ in [id_ for id_ in site.issues if id_ not in site.hidden][::7]:
        site.hidden.add(id_)
    return {"keys": sorted(before.keys() - store(site, stream).keys())}


def lag(site: Site, body: Json) -> Json:
    """How many `seconds` after them changes show in searches from now on; by id they do at once."""
    site.lag = min(timedelta(seconds=float(body.get("seconds", 0))), LONGEST_LAG)
    return {"seconds": site.lag.total_seconds()}


def sites(site: Site, body: Json) -> Json:
    """Which other accounts' sites the person picked `beside` this one, and whether this one is
    `gone`."""
    beside = body.get("beside", site.beside)
    if not isinstance(beside, list):
        raise RefusedError("beside must be a list of accounts", status=400)
    site.beside, site.gone = [str(id_) for id_ in beside], bool(body.get("gone", site.gone))
    return {"beside": site.beside, "gone": site.gone}


def forget_tokens(site: Site) -> None:
    site.epoch += 1


vendor = Vendor(
    name="jira",
    title="Jira",
    base_url=f"https://{HOST}/ex/jira",
    auth=AUTH,
    routes=ROUTES,
    streams=(
        "issues",
        "comments",
        "changelogs",
        "worklogs",
        "projects",
        "users",
        "boards",
        "sprints",
        "priorities",
        "fields",
        "statuses",
        "issue_types",
        "resolutions",
        "link_types",
    ),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    limits=(Limit("burst", 100, 1.0),),
    expire_checkpoints=forget_tokens,
    account_controls={"refuse_part": refuse_part, "hide": hide, "lag": lag, "sites": sites},
    webhook=events.SENDER,
    extras=lambda account_id, origin: {"base_url": f"{origin}/{HOST}/ex/jira/{account_id}"},
)
