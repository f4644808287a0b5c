"""What Jira's platform and agile APIs answer.

https://developer.atlassian.com/cloud/jira/platform/rest/v3
https://developer.atlassian.com/cloud/jira/software/rest
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from random import Random
from typing import Any
from uuid import uuid4

from starlette.responses import Response

from sandbox.jira.answers import cut, missing, number, paged, wrong
from sandbox.jira.jql import TIMES, BadJqlError, parse
from sandbox.jira.store import (
    MUTATIONS,
    Issue,
    Site,
    add_comment,
    add_issue,
    add_worklog,
    shown,
    store,
    utc_ms,
)
from sandbox.kernel.fields import only
from sandbox.kernel.oauth import Call
from sandbox.kernel.paging import place_of, token_of
from sandbox.kernel.values import Answer, Change, Json, reply

MOST_IDS, MOST_FULL, MOST_CHANGES = 5_000, 100, 50
# Of an issue's comments and worklogs a search shows the first, of its changes the newest.
INLINE, INLINE_CHANGES = 20, 40
TOKEN_LIFE = 7 * 86_400
FEED_PAGE, UNLISTED = 1_000, 60_000


# -- Search ----------------------------------------------------------------------------------------


def search(site: Site, call: Call) -> Response:
    """Issues in the order that was asked for, page by page. A token is good for its query only, and
    for seven days; it stands for the place of the last issue in the order."""
    asked = _asked(call)
    try:
        rows, key = _found(site, str(asked.get("jql") or ""))
    except BadJqlError as error:
        return wrong(400, str(error))
    names, expand = _names(asked.get("fields"), "id"), _names(asked.get("expand"), "")
    size = min(_size(asked), _most(names, expand))
    query = hashlib.sha256(str(asked.get("jql")).encode()).hexdigest()[:12]
    if given := asked.get("nextPageToken"):
        place = place_of(str(given))
        if not (isinstance(place, list) and place[:2] == [site.epoch, query]):
            return wrong(400, "The provided next page token is invalid.")
        if place[2] < call.clock.time() - TOKEN_LIFE:
            return wrong(400, "The provided next page token has expired.")
        rows = [row for row in rows if key(row) > place[3]]
    page = rows[:size]
    body: Json = {"issues": [found_issue(site, row["issue"], names, expand) for row in page]}
    if len(rows) <= size:
        return reply({**body, "isLast": True})
    token = token_of([site.epoch, query, int(call.clock.time()), key(page[-1])])
    return reply({**body, "nextPageToken": token, "isLast": False})


def _asked(call: Call) -> Json:
    if call.method == "GET":
        several = {name: ",".join(call.query.getlist(name)) for name in ("fields", "expand")}
        return {**dict(call.query), **{name: text for name, text in several.items() if text}}
    body = call.json()
    if not isinstance(body, dict):
        raise Answer(wrong(400, "Invalid request payload."))
    return body


def _names(given: Any, default: str) -> list[str]:
    listed = given if isinstance(given, list) else str(given or default).split(",")
    return [str(name).strip() for name in listed if str(name).strip()]


def _size(asked: Json) -> int:
    text = str(asked.get("maxResults", 50))
    if not text.isdecimal() or not int(text):
        raise Answer(wrong(400, "maxResults must be a number above 0"))
    return int(text)


def _most(names: Sequence[str], expand: Sequence[str]) -> int:
    """What is asked for besides ids makes pages smaller, whatever size was asked for."""
    if "changelog" in expand:
        return MOST_CHANGES
    return MOST_IDS if {*names} <= {"id", "key"} else MOST_FULL


def _found(site: Site, jql: str) -> tuple[list[Json], Callable[[Json], list[int]]]:
    projects = site.tables["projects"].values()
    known = {row[name].lower(): row["id"] for row in projects for name in ("key", "name")}
    known |= {key.lower(): id_ for key, id_ in site.keys.items()}
    test, order = parse(jql, site.zone, site.clock.now(), known)
    if unsortable := {column for column, _ in order} - {*TIMES, "id"}:
        raise BadJqlError(f"Not able to sort using field '{min(unsortable)}'.")

    def key(row: Json) -> list[int]:
        values = [
            (-1 if down else 1) * (utc_ms(row[name]) if name in TIMES else row[name])
            for name, down in order
        ]
        return [*values, row["id"]]

    rows = [row for row in map(_row, site.index()) if test(row)]
    return sorted(rows, key=key), key


def _row(issue: Issue) -> Json:
    fields = issue.fields
    return {
        "issue": issue, "id": int(issue.id), "project": fields["project"]["id"],
        "created": issue.created, "updated": issue.updated, "status": fields["status"]["name"],
        "assignee": (fields["assignee"] or {}).get("accountId"),
    }  # fmt: skip


def found_issue(site: Site, issue: Issue, names: Sequence[str], expand: Sequence[str]) -> Json:
    """An issue with the fields of those names, `*all`, and without `-name`."""
    whole = shown(site, issue)
    comments = list(issue.comments.values())
    worklogs = [row for row in site.tables["worklogs"].values() if row["issueId"] == issue.id]
    fields = {
        **whole["fields"], "lastViewed": site.time(site.clock.now()),
        "comment": {"comments": comments[:INLINE], "self": f"{whole['self']}/comment",
                    "maxResults": INLINE, "total": len(comments), "startAt": 0},
        "worklog": {"startAt": 0, "maxResults": INLINE, "total": len(worklogs),
                    "worklogs": worklogs[:INLINE]},
    }  # fmt: skip
    if not {"*all", "*navigable"} & {*names}:
        fields = only(fields, *names)
    fields = {name: value for name, value in fields.items() if f"-{name}" not in names}
    if not fields and not expand:
        return only(whole, "id", *("key" for name in names if name == "key"))
    newest = issue.histories[: -INLINE_CHANGES - 1 : -1]
    changes = {"startAt": 0, "maxResults": INLINE_CHANGES, "total": len(issue.histories)}
    changelog = {"changelog": {**changes, "histories": newest}} if "changelog" in expand else {}
    known = "operations,versionedRepresentations,editmeta,changelog,renderedFields"
    return {"expand": known, **whole, "fields": fields, **changelog}


# -- One issue -------------------------------------------------------------------------------------


def _issue(site: Site, call: Call) -> Issue:
    issue = site.live(call.params["issue"])
    if issue is None:
        raise missing("Issue")
    return issue


def get_issue(site: Site, call: Call) -> Response:
    names = _names(call.query.get("fields"), "*all")
    found = found_issue(site, _issue(site, call), names, _names(call.query.get("expand"), ""))
    return reply({**found, "expand": "renderedFields,names,schema,operations,editmeta,changelog"})


def bulk_fetch(site: Site, call: Call) -> Response:
    """Up to a hundred issues. Those that are not there, or not for the person to see, are left out;
    what cannot be given now is among the errors."""
    body = _asked(call)
    asked = body.get("issueIdsOrKeys")
    if not isinstance(asked, list) or not 1 <= len(asked) <= 100:
        return wrong(400, "issueIdsOrKeys must have from 1 to 100 elements")
    found = {issue.id: issue for issue in (site.live(str(one)) for one in asked) if issue}
    names = _names(body.get("fields"), "*all")
    rows = [found_issue(site, found[id_], names, ()) for id_ in sorted(found, key=int)]
    return reply({"expand": "schema,names", "issues": rows, "issueErrors": []})


def comments(site: Site, call: Call) -> Response:
    return paged(call, [*_issue(site, call).comments.values()], most=100, name="comments")


def changelog(site: Site, call: Call) -> Response:
    return paged(call, _issue(site, call).histories, most=100)


def create_issue(site: Site, call: Call) -> Response:
    fields = _asked(call).get("fields") or {}
    project = fields.get("project") or {}
    rows = site.tables["projects"].values()
    ids = [
        row["id"]
        for row in rows
        if project.get("key") == row["key"] or project.get("id") == row["id"]
    ]
    type_ = (fields.get("issuetype") or {}).get("name")
    if not ids or not fields.get("summary") or not type_:
        return reply({"errorMessages": [], "errors": {"project": "project is required"}}, 400)
    given = {"project": ids[0], "summary": fields["summary"], "issuetype": type_}
    issue = add_issue(site, given, site.clock.now(), Random(str(uuid4())))
    return reply({"id": issue.id, "key": issue.key, "self": site.at(f"issue/{issue.id}")}, 201)


def delete_issue(site: Site, call: Call) -> Response:
    id_ = _issue(site, call).id
    MUTATIONS.apply(site, Change("issues", "delete", id_, {}, Random(id_)))
    return Response(status_code=204)


def create_comment(site: Site, call: Call) -> Response:
    body = _asked(call).get("body")
    if not isinstance(body, dict):
        return reply(
            {"errorMessages": [], "errors": {"comment": "Comment body is not valid!"}}, 400
        )
    issue, random = _issue(site, call), Random(str(uuid4()))
    comment = add_comment(site, issue, {}, None, random)
    comment["body"] = body
    return reply(comment, 201)


def create_worklog(site: Site, call: Call) -> Response:
    given = {"timeSpentSeconds": _asked(call).get("timeSpentSeconds") or 60}
    issue, random = _issue(site, call), Random(str(uuid4()))
    id_ = add_worklog(site, issue, given, site.clock.now(), random)
    return reply(site.tables["worklogs"][id_], 201)


# -- Worklogs of the site --------------------------------------------------------------------------


def worklogs_updated(site: Site, call: Call) -> Response:
    rows = site.tables["worklogs"].values()
    times = ((utc_ms(datetime.fromisoformat(row["updated"])), str(row["id"])) for row in rows)
    return _feed(site, call, times)


def worklogs_deleted(site: Site, call: Call) -> Response:
    return _feed(site, call, site.gone_worklogs)


def _feed(site: Site, call: Call, times: Iterable[tuple[int, str]]) -> Response:
    """Ids by the time of their change, a thousand to a page; not those of the last minute."""
    since, latest = number(call, "since", 0), utc_ms(site.clock.now()) - UNLISTED
    found = sorted(each for each in times if since <= each[0] <= latest)
    page = found[:FEED_PAGE]
    until, last = page[-1][0] if page else since, len(found) <= FEED_PAGE
    values = [{"worklogId": int(id_), "updatedTime": at, "properties": []} for at, id_ in page]
    link = site.at(f"worklog/updated?since={until}")
    body = {"values": values, "since": since, "until": until, "self": link, "lastPage": last}
    return reply(body if last else {**body, "nextPage": link})


def worklog_list(site: Site, call: Call) -> Response:
    ids = _asked(call).get("ids")
    if not isinstance(ids, list) or len(ids) > 1_000:
        return wrong(400, "ids must be a list of at most 1000")
    seen = store(site, "worklogs")
    return reply([seen[str(id_)] for id_ in ids if str(id_) in seen])


# -- Lists -----------------------------------------------------------------------------------------


def bare(table: str) -> Callable[[Site, Call], Response]:
    """A list without pages."""
    return lambda site, call: reply([*site.tables[table].values()])


def pages(table: str, most: int) -> Callable[[Site, Call], Response]:
    return lambda site, call: paged(call, [*site.tables[table].values()], most=most)


def projects(site: Site, call: Call) -> Response:
    """Live projects, unless others are asked for by their status."""
    wanted = call.query.getlist("status") or ["live"]
    if not {*wanted} <= {"live", "archived", "deleted"}:
        return wrong(400, "status is none of: live, archived, deleted")
    expand = _names(call.query.get("expand"), "")
    rows = [
        {
            name: value
            for name, value in row.items()
            if name not in ("description", "lead") or name in expand
        }
        for row in site.tables["projects"].values()
        if ("archived" if row.get("archived") else "live") in wanted
    ]
    return paged(call, rows, most=100)


def users(site: Site, call: Call) -> Response:
    """A bare list: it ends with an empty page."""
    _, _, page = cut(call, [*site.tables["users"].values()], 1_000)
    return reply(page)


def link_types(site: Site, call: Call) -> Response:
    return reply({"issueLinkTypes": [*site.tables["link_types"].values()]})


def myself(site: Site, call: Call) -> Response:
    user = next(iter(site.tables["users"].values()), {"accountId": "712020:nobody"})
    return reply({**user, "timeZone": site.zone_name})


def server_info(site: Site, call: Call) -> Response:
    version = {"version": "1001.0.0-SNAPSHOT", "versionNumbers": [1001, 0, 0]}
    return reply({"baseUrl": f"https://{site.host}", **version, "deploymentType": "Cloud"})


# -- Jira Software ---------------------------------------------------------------------------------


def boards(site: Site, call: Call) -> Response:
    return paged(call, [*site.tables["boards"].values()], most=50)


def board_sprints(site: Site, call: Call) -> Response:
    board = site.tables["boards"].get(call.params["board"])
    if board is None or call.params["board"] in site.refused:
        raise missing("The board")
    if board["type"] == "kanban":
        return wrong(400, "The board does not support sprints")
    rows = [
        row
        for id_, row in site.tables["sprints"].items()
        if call.params["board"] in site.shown_on[id_]
    ]
    return paged(call, rows, most=50, total=False)
