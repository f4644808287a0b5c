"""GitHub's REST API: pages with links, conditional requests, and how it refuses.

https://docs.github.com/en/rest (version 2022-11-28)
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, Never

import orjson
from starlette.responses import Response

from sandbox.github.rows import API, HOST, statistics
from sandbox.github.store import Hub, Repo, as_issue
from sandbox.kernel.fields import without
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Limit, Route, Usage

DOCS = "https://docs.github.com/rest"
LIMITS = "https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api"
# A search of runs has no more results than that.
MOST_FOUND = 1_000
SEARCHED = ("actor", "branch", "check_suite_id", "created", "event", "head_sha", "status")
STATUS = {
    Kind.BAD_REQUEST: (422, "Validation Failed"), Kind.UNAUTHORIZED: (401, "Bad credentials"),
    Kind.FORBIDDEN: (403, "Resource not accessible by integration"),
    Kind.NOT_FOUND: (404, "Not Found"), Kind.METHOD_NOT_ALLOWED: (404, "Not Found"),
    Kind.SERVER_ERROR: (500, "Server Error"), Kind.UNAVAILABLE: (503, "Service Unavailable"),
}  # fmt: skip


def no(status: int, message: str, headers: Mapping[str, str] | None = None) -> Never:
    body = {"message": message, "documentation_url": DOCS, "status": str(status)}
    raise Answer(reply(body, status, headers))


def trouble(wrong: ErrorCase, call: Call) -> Response:
    """Of limits the hourly one names its end; those on bursts say only sometimes how long."""
    if wrong.kind is not Kind.RATE_LIMITED:
        status, message = STATUS[wrong.kind]
        body = {"message": message, "documentation_url": DOCS, "status": str(status)}
        return reply(body, status)
    if wrong.limit and wrong.limit.name == "core":
        until = int(call.clock.time() + wrong.limit.per) + 1
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(until)}
        message = "API rate limit exceeded for user ID 1."
        return reply({"message": message, "documentation_url": LIMITS}, 403, headers)
    message = (
        "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
    )
    body = {"message": message, "documentation_url": f"{LIMITS}#about-secondary-rate-limits"}
    return reply(body, 403, wrong.waits)


def rate_headers(usages: Sequence[Usage]) -> Mapping[str, str]:
    for usage in usages:
        if usage.limit.name == "core":
            return {
                "x-ratelimit-limit": str(usage.amount),
                "x-ratelimit-remaining": str(usage.remaining),
                "x-ratelimit-used": str(usage.amount - usage.remaining),
                "x-ratelimit-resource": "core",
            }
    return {}


# -- Answers --------------------------------------------------------------------------------------


def linked(call: Call, body: Any) -> Any:
    """With the addresses in it leading here, where that was ordered."""
    if not call.state.links:
        return body
    return orjson.loads(orjson.dumps(body).replace(API.encode(), call.url(HOST, "").encode()))


def shown(call: Call, body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """With an ETag; nothing but it to whom has just that already."""
    body = linked(call, body)
    etag = f'W/"{sha256(orjson.dumps(body)).hexdigest()}"'
    told = {**(headers or {}), "etag": etag, "x-github-media-type": "github.v3; format=json"}
    if call.headers.get("if-none-match") == etag:
        return Response(status_code=304, headers=told)
    return reply(body, 200, told)


def _number(call: Call, name: str, usual: int, most: int) -> int:
    text = call.query.get(name, "")
    return min(max(1, int(text)), most) if re.fullmatch(r"\d{1,9}", text) else usual


def page_of(call: Call, rows: Sequence[Any]) -> tuple[Sequence[Any], dict[str, str]]:
    """A page, and the Link header that leads on; it names repositories by their number."""
    size, page = _number(call, "per_page", 30, 100), _number(call, "page", 1, 10**9)
    found = rows[(page - 1) * size : page * size]
    last = -(-len(rows) // size)
    path = call.path
    if "owner" in call.params:
        path = f"/repositories/{repo_of(call).row['id']}/{path.split('/', 4)[4]}"

    def link(number: int, rel: str) -> str:
        return f'<{call.url(HOST, path, {**call.query, "page": number})}>; rel="{rel}"'

    links = [link(page - 1, "prev")] if page > 1 else []
    links += [link(page + 1, "next"), link(last, "last")] if page < last else []
    return found, {"link": ", ".join(links)} if links else {}


def listed(call: Call, rows: Iterable[Json]) -> Response:
    found, headers = page_of(call, list(rows))
    return shown(call, list(found), headers)


def ordered(call: Call, rows: Iterable[Json], usual: str, *names: str) -> list[Json]:
    """By `sort` and `direction`; without a sort, some lists pass over the direction."""
    by = call.query.get("sort", usual)
    if by not in ("created", "updated", *names):
        no(422, "Validation Failed")
    backwards = call.query.get("direction", "desc" if by != "full_name" else "asc") == "desc"
    name = {"created": "created_at", "updated": "updated_at", "pushed": "pushed_at"}.get(by, by)
    return sorted(rows, key=lambda row: (row[name], row["id"]), reverse=backwards)


def since(call: Call, rows: Iterable[Json], time: Callable[[Json], str]) -> list[Json]:
    """Those changed since then, that second included."""
    text = call.query.get("since")
    if not text:
        return list(rows)
    try:
        at = datetime.fromisoformat(text.replace(" ", "+"))
    except ValueError:
        no(422, "Validation Failed")
    if at.tzinfo is None:
        no(422, "Validation Failed")
    return [row for row in rows if datetime.fromisoformat(time(row)) >= at]


def _updated(row: Json) -> str:
    return str(row["updated_at"])


def _state(call: Call, rows: Iterable[Json]) -> list[Json]:
    state = call.query.get("state", "open")
    return [row for row in rows if state in ("all", row["state"])]


def repo_of(call: Call) -> Repo:
    """A repository by its number or name; by a former name it is found under its number. One that
    is not shown is not found."""
    hub: Hub = call.state
    repo = hub.repos.get(call.params.get("id", ""))
    if "owner" in call.params:
        name = f"{call.params['owner']}/{call.params['name']}"
        known = hub.repos.values()
        repo = next((one for one in known if one.row["full_name"] == name), None)
        moved = next((one for one in known if name in one.former), None)
        if repo is None and moved and not moved.hidden:
            rest = "/".join(call.path.split("/")[4:])
            path = f"/repositories/{moved.row['id']}" + (f"/{rest}" if rest else "")
            location = call.url(HOST, path, dict(call.query))
            body = {"message": "Moved Permanently", "url": location, "documentation_url": DOCS}
            status = 301 if call.method == "GET" else 307
            raise Answer(reply(body, status, {"location": location}))
    if repo is None or repo.hidden:
        no(404, "Not Found")
    if str(repo.row["id"]) in hub.refused:
        no(
            403, "Resource protected by organization SAML enforcement. You must grant your OAuth "
            "token access to this organization.",
            {"x-github-sso": "required; url=https://github.com/orgs/acme/sso"},
        )  # fmt: skip
    return repo


# -- The person, and the organisation -------------------------------------------------------------


def user(call: Call) -> Response:
    return shown(call, {**call.state.user, "name": call.account.name, "plan": {"name": "team"}})


def user_repos(call: Call) -> Response:
    """What an organisation that wants a sign-in owns is left out, which only a header tells."""
    hub: Hub = call.state
    rows = [repo.row for repo in hub.shown().values()]
    if hub.partial:
        rows = [row for row in rows if row["owner"]["id"] != hub.org["id"]]
    found = ordered(call, since(call, rows, _updated), "full_name", "pushed", "full_name")
    response = listed(call, found)
    if hub.partial:
        response.headers["x-github-sso"] = f"partial-results; organizations={hub.org['id']}"
    return response


def user_orgs(call: Call) -> Response:
    org = call.state.org
    own = {"url": f"{API}/orgs/{org.get('login')}", "description": ""}
    return listed(call, [{**without(org, "type", "site_admin"), **own}] if org else [])


def memberships(call: Call) -> Response:
    org = call.state.org
    return listed(call, [{"state": "active", "role": "admin", "organization": org}] if org else [])


def org_of(call: Call) -> Json:
    hub: Hub = call.state
    if call.params["org"] not in (str(hub.org.get("id")), hub.org.get("login")):
        no(404, "Not Found")
    if str(hub.org["id"]) in hub.refused:
        no(403, "Although you appear to have the correct authorization credentials, the "
           "organization has enabled OAuth App access restrictions.")  # fmt: skip
    return hub.org


def org_members(call: Call) -> Response:
    org_of(call)
    return listed(call, sorted(call.state.members.values(), key=lambda row: str(row["login"])))


# -- Of a repository ------------------------------------------------------------------------------


def repository(call: Call) -> Response:
    return shown(call, {**repo_of(call).row, "network_count": 0, "subscribers_count": 1})


def issues(call: Call) -> Response:
    """With the pull requests among them. Where issues are switched off there are none to list."""
    repo = repo_of(call)
    _switched_on(repo)
    rows = [*repo.issues.values(), *map(as_issue, repo.pull_requests.values())]
    return listed(call, ordered(call, since(call, _state(call, rows), _updated), "created"))


def _switched_on(repo: Repo) -> None:
    if not repo.row["has_issues"]:
        no(410, "Issues are disabled for this repo")


def issue(call: Call) -> Response:
    repo, number = repo_of(call), call.params["number"]
    _switched_on(repo)
    if number in repo.pull_requests:
        return shown(call, as_issue(repo.pull_requests[number]))
    if number not in repo.issues:
        deleted = number.isdecimal() and int(number) <= repo.number
        no(410 if deleted else 404, "This issue was deleted" if deleted else "Not Found")
    return shown(call, repo.issues[number])


def issue_comments(call: Call) -> Response:
    repo = repo_of(call)
    _switched_on(repo)
    rows = since(call, repo.issue_comments.values(), _updated)
    return listed(call, _comments(call, rows))


def _comments(call: Call, rows: list[Json]) -> list[Json]:
    if "sort" not in call.query:
        return sorted(rows, key=lambda row: int(row["id"]))
    return ordered(call, rows, "created")


def pulls(call: Call) -> Response:
    """There is no `since`."""
    return listed(
        call, ordered(call, _state(call, repo_of(call).pull_requests.values()), "created")
    )


def pull(call: Call) -> Response:
    row = _one(repo_of(call).pull_requests, call.params["number"])
    return shown(call, {**row, **statistics(row)})


def reviews(call: Call) -> Response:
    """Oldest first."""
    repo, number = repo_of(call), call.params["number"]
    _one(repo.pull_requests, number)
    found = [row for key, row in repo.reviews.items() if key.partition("/")[0] == number]
    return listed(call, sorted(found, key=lambda row: (row["submitted_at"], row["id"])))


def review(call: Call) -> Response:
    return shown(call, _one(repo_of(call).reviews, f"{call.params['number']}/{call.params['key']}"))


def review_comments(call: Call) -> Response:
    rows = since(call, repo_of(call).review_comments.values(), _updated)
    return listed(call, _comments(call, rows))


def _one(held: Mapping[str, Json], key: str) -> Json:
    if key not in held:
        no(404, "Not Found")
    return held[key]


def single(stream: str) -> Callable[[Call], Response]:
    return lambda call: shown(call, _one(getattr(repo_of(call), stream), call.params["key"]))


def newest(stream: str) -> Callable[[Call], Response]:
    def answer(call: Call) -> Response:
        rows = getattr(repo_of(call), stream).values()
        return listed(call, sorted(rows, key=lambda row: (row["created_at"], row["id"]))[::-1])

    return answer


def labels(call: Call) -> Response:
    return listed(call, sorted(repo_of(call).labels.values(), key=lambda row: str(row["name"])))


def milestones(call: Call) -> Response:
    rows = _state(call, repo_of(call).milestones.values())
    return listed(call, sorted(rows, key=lambda row: str(row["due_on"])))


def runs(call: Call) -> Response:
    """Newest first; of a search there are a thousand at most."""
    rows = sorted(
        repo_of(call).workflow_runs.values(), key=lambda row: (row["created_at"], row["id"])
    )[::-1]
    if status := call.query.get("status"):
        rows = [row for row in rows if status in (row["status"], row["conclusion"])]
    if created := call.query.get("created"):
        rows = [row for row in rows if _within(row["created_at"], created)]
    total = len(rows)
    if any(name in call.query for name in SEARCHED):
        rows = rows[:MOST_FOUND]
    found, headers = page_of(call, rows)
    return shown(call, {"total_count": total, "workflow_runs": list(found)}, headers)


def _within(at: str, created: str) -> bool:
    """`>=`, `<=` and a time, or two times with dots between them."""
    first, dots, last = created.partition("..")
    if dots:
        return first.lstrip("*") <= at <= (last if last != "*" else "9")
    return {">=": at >= created[2:], "<=": at <= created[2:]}.get(created[:2], at[:10] == created)


# -- Commits --------------------------------------------------------------------------------------


def _at(call: Call, repo: Repo, name: str) -> str:
    """The commit that a branch or an id names."""
    if not repo.head:
        no(409, "Git Repository is empty.")
    if name in ("", repo.row["default_branch"], "HEAD"):
        return repo.head
    if name not in repo.commits:
        no(404 if "basehead" in call.params else 422, f"No commit found for SHA: {name}")
    return name


def commits(call: Call) -> Response:
    repo = repo_of(call)
    rows = repo.log(_at(call, repo, call.query.get("sha", "")))
    return listed(call, since(call, rows, lambda row: str(row["commit"]["committer"]["date"])))


def commit(call: Call) -> Response:
    """One that a force push left behind is still found by its id, for a while."""
    repo = repo_of(call)
    row = repo.commits[_at(call, repo, call.params["sha"])]
    return shown(call, {**row, "stats": {"total": 3, "additions": 2, "deletions": 1}, "files": []})


def compare(call: Call) -> Response:
    """What the second leads to and the first does not, oldest first."""
    repo = repo_of(call)
    base, dots, head = call.params["basehead"].partition("...")
    if not dots:
        no(404, "Not Found")
    old, new = repo.log(_at(call, repo, base)), repo.log(_at(call, repo, head))
    had, has = {row["sha"] for row in old}, {row["sha"] for row in new}
    if not had & has:
        no(404, f"No common ancestor between {base} and {head}.")
    ahead, behind = [row for row in new[::-1] if row["sha"] not in had], len(had - has)
    status = {(True, True): "diverged", (True, False): "ahead", (False, True): "behind"}
    found, headers = page_of(call, ahead)
    body = {
        "status": status.get((bool(ahead), bool(behind)), "identical"), "ahead_by": len(ahead),
        "behind_by": behind, "total_commits": len(ahead), "commits": list(found), "files": [],
    }  # fmt: skip
    return shown(call, body, headers)


# -- Routes ---------------------------------------------------------------------------------------

OF_A_REPOSITORY: dict[str, Callable[[Call], Response]] = {
    "": repository, "/issues": issues, "/issues/comments": issue_comments,
    "/issues/comments/{key}": single("issue_comments"), "/issues/events": newest("issue_events"),
    "/issues/events/{key}": single("issue_events"), "/issues/{number}": issue, "/pulls": pulls,
    "/pulls/comments": review_comments, "/pulls/comments/{key}": single("review_comments"),
    "/pulls/{number}": pull, "/pulls/{number}/reviews": reviews,
    "/pulls/{number}/reviews/{key}": review, "/commits": commits, "/commits/{sha}": commit,
    "/compare/{basehead}": compare, "/releases": newest("releases"),
    "/releases/{key}": single("releases"), "/labels": labels, "/milestones": milestones,
    "/actions/runs": runs, "/actions/runs/{key}": single("workflow_runs"),
}  # fmt: skip
PLACES = ("/repositories/{id}", "/repos/{owner}/{name}")
ORGS = ("/organizations/{org}", "/orgs/{org}")
ROUTES = (
    Route("GET", HOST, "/user", user),
    Route("GET", HOST, "/user/repos", user_repos),
    Route("GET", HOST, "/user/orgs", user_orgs, scopes=("read:org",)),
    Route("GET", HOST, "/user/memberships/orgs", memberships, scopes=("read:org",)),
    *(Route("GET", HOST, f"{place}/members", org_members) for place in ORGS),
    *(
        Route("GET", HOST, place + path, handler)
        for place in PLACES
        for path, handler in OF_A_REPOSITORY.items()
    ),
)


def core_cost(call: Call) -> int:
    """Of the hourly limit, by which an answer that nothing changed is not counted."""
    if call.method != "GET" or not call.headers.get("if-none-match"):
        return 1
    for route in ROUTES:
        if found := route.pattern.fullmatch(call.path):
            try:
                answer = route.handler(replace(call, params=found.groupdict()))
            except Answer:
                return 1
            return int(not isinstance(answer, Response) or answer.status_code != 304)
    return 1


VENDOR_LIMITS = (
    Limit("core", 5_000, timedelta(hours=1).total_seconds(), core_cost),
    # The secondary limit, in points: reading takes one, writing five.
    Limit("points", 900, 60.0, lambda call: 1 if call.method == "GET" else 5),
)
