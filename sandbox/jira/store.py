"""A Jira site in memory: its issues and what hangs on them, its lists, how they are changed.

What an issue shows of its project, status and people is as of its own last change, and links
between issues are not made up: Jira shows both as they are, and moves no time of the issue then.
"""

from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

from sandbox.kernel.clock import Clock
from sandbox.kernel.data import JOBS, TOPICS, moment, person, plain, sentence
from sandbox.kernel.fields import only, without
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed

# Zones of the person who connected: times are shown in them, and none has a summer time.
ZONES = {"Asia/Tokyo": 9, "America/Phoenix": -7, "Etc/UTC": 0, "Asia/Dubai": 4}
SHARES = {"comments": 0.7, "worklogs": 0.4, "users": 0.15, "projects": 0.02}
# The feeds of worklogs leave the last minute out; so what is made up was done before it.
LAST_MINUTE = timedelta(seconds=61)
LONGEST_LAG = timedelta(hours=12)
# So many are not deleted at random: some board is to have sprints.
FEWEST_BOARDS = 3
CHILDREN = ("comments", "changelogs", "worklogs")
STATUSES = {
    "To Do": "new",
    "In Progress": "indeterminate",
    "In Review": "indeterminate",
    "Done": "done",
}
TYPES = (("Epic", 1), ("Story", 0), ("Task", 0), ("Bug", 0), ("Sub-task", -1))
CUSTOM = (
    (
        "customfield_10016",
        "Story point estimate",
        "number",
        "com.pyxis.greenhopper.jira:jsw-story-points",
    ),
    ("customfield_10020", "Sprint", "array", "com.pyxis.greenhopper.jira:gh-sprint"),
    (
        "customfield_10031",
        "Customer",
        "string",
        "com.atlassian.jira.plugin.system.customfieldtypes:textfield",
    ),
)
SYSTEM = ("summary", "status", "assignee", "created", "updated", "priority", "duedate", "labels")
LISTS = ("priorities", "fields", "statuses", "issue_types", "resolutions", "link_types")


@dataclass
class Issue:
    """An issue; `former` is how the search index had it before each recent change."""

    id: str
    key: str
    created: datetime
    updated: datetime
    fields: Json
    comments: dict[str, Json] = field(default_factory=dict)
    histories: list[Json] = field(default_factory=list)
    former: "list[tuple[datetime, Issue | None]]" = field(default_factory=list)


@dataclass
class Site:
    """One site. `keys` has the keys that issues had before they were moved; `lag` is how late the
    search index is; `epoch` counts how often page tokens were forgotten."""

    id: str
    name: str
    clock: Clock
    zone_name: str
    tell: Callable[[Any], None]
    random: Random
    issues: dict[str, Issue] = field(default_factory=dict)
    removed: list[Issue] = field(default_factory=list)
    tables: dict[str, dict[str, Json]] = field(default_factory=dict)
    shown_on: dict[str, list[str]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    gone_worklogs: list[tuple[int, str]] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    beside: list[str] = field(default_factory=list)
    gone: bool = False
    lag: timedelta = timedelta()
    epoch: int = 0
    last: int = 10_000

    @property
    def host(self) -> str:
        return f"{self.name}-{self.id[:6]}.atlassian.net"

    @property
    def zone(self) -> timezone:
        return timezone(timedelta(hours=ZONES[self.zone_name]))

    def next(self) -> str:
        self.last += self.random.randint(1, 4)
        return str(self.last)

    def at(self, path: str) -> str:
        """A link of the API to itself."""
        return f"https://api.atlassian.com/ex/jira/{self.id}/rest/api/3/{path}"

    def time(self, at: datetime) -> str:
        """A time as Jira writes it: in the zone of the person, with no colon in the offset."""
        written = at.astimezone(self.zone).isoformat(timespec="milliseconds")
        return written[:-3] + written[-2:]

    def live(self, id_or_key: str) -> Issue | None:
        """The issue of an id, or of a key, a former one too, if it may be seen."""
        id_ = self.keys.get(id_or_key.upper(), id_or_key)
        return None if id_ in self.hidden else self.issues.get(id_)

    def index(self) -> Iterable[Issue]:
        """The issues as the search index has them: not those of archived projects."""
        seen = self.clock.now() - self.lag
        archived = {id_ for id_, each in self.tables["projects"].items() if each.get("archived")}
        for issue in (*self.issues.values(), *self.removed):
            known: Issue | None = issue
            for changed_at, former in issue.former:
                if changed_at > seen:
                    known = former
                    break
            else:
                if issue.id not in self.issues:
                    continue
            if known and issue.id not in self.hidden and _project(known) not in archived:
                yield known


def _project(issue: Issue) -> str:
    return str(issue.fields["project"]["id"])


def keys(site: Site, stream: str) -> set[str]:
    """The keys of what `store` shows."""
    live = [each for each in site.issues.values() if each.id not in site.hidden]
    match stream:
        case "issues":
            return {each.id for each in live}
        case "comments":
            return {f"{each.id}/{id_}" for each in live for id_ in each.comments}
        case "worklogs" | "sprints":
            return {*store(site, stream)}
    return {*site.tables[stream]}


MUTATIONS = Mutations[Site](
    settable={
        "issues": ("summary", "project", "issuetype", "status"),
        "comments": ("issue_id", "text"),
        "worklogs": ("issueId", "timeSpentSeconds"),
        "projects": ("name", "archived"),
        "users": ("displayName", "active"),
        "boards": ("name", "type"),
        "sprints": ("name", "state"),
    }
    | dict.fromkeys(LISTS, ("name",)),
    there=keys,
)


# -- How it is made --------------------------------------------------------------------------------


def new(seed: Seed) -> Site:
    random, now = seed.random, seed.clock.now()
    site = Site(
        seed.account_id, seed.name, seed.clock, random.choice(list(ZONES)), seed.tell, random
    )
    site.tables = {
        name: {} for name in (*LISTS, "projects", "users", "boards", "sprints", "worklogs")
    }
    _make_lists(site)
    if not seed.size:
        return site
    for name in ("projects", "users"):
        for _ in range(seed.length(SHARES[name])):
            _add(site, name, {}, random)
    for type_ in ("scrum", "kanban", "simple", "scrum"):
        board = _add(site, "boards", {"type": type_}, random)
        for _ in range(2 if type_ != "kanban" else 0):
            _add_sprint(site, board, {}, random)
    for created in sorted(moment(random, now) for _ in range(seed.size)):
        issue = add_issue(site, {}, created, random)
        if random.random() < 0.7:
            retouch(site, issue, {}, created + (now - created) * random.random(), random)
    issues = list(site.issues.values())
    busy = [random.choice(issues) for _ in range(seed.length(SHARES["comments"]))]
    # An issue with more comments and changes than a search shows.
    for issue in [*busy, *(issues[len(issues) // 2] for _ in range(25))]:
        at = issue.updated + (now - issue.updated) * 0.01
        add_comment(site, issue, {}, at, random)
        retouch(site, issue, {}, at, random)
    for _ in range(seed.length(SHARES["worklogs"])):
        issue = random.choice(issues)
        add_worklog(site, issue, {}, issue.updated + (now - issue.updated) * 0.02, random)
    return site


def _make_lists(site: Site) -> None:
    tables = site.tables
    for number, name in enumerate(("Highest", "High", "Medium", "Low"), 1):
        _put(tables["priorities"], {
            "self": site.at(f"priority/{number}"), "statusColor": "#f15C75", "description": name,
            "iconUrl": f"https://{site.host}/{number}.svg", "name": name, "id": str(number),
            "isDefault": number == 3,
        })  # fmt: skip
    for number, (name, category) in enumerate(STATUSES.items(), 10_000):
        shown: Json = {
            "id": number % 4 + 2,
            "key": category,
            "name": name,
            "colorName": "blue-gray",
        }
        _put(tables["statuses"], {
            "self": site.at(f"status/{number}"), "description": f"It is {name.lower()}",
            "iconUrl": f"https://{site.host}/", "name": name, "id": str(number),
            "statusCategory": {"self": site.at(f"statuscategory/{number % 4 + 2}"), **shown},
        })  # fmt: skip
    for number, (name, level) in enumerate(TYPES, 10_001):
        _put(tables["issue_types"], {
            "self": site.at(f"issuetype/{number}"), "id": str(number), "description": f"A {name}",
            "iconUrl": f"https://{site.host}/{number}.png", "name": name, "subtask": level < 0,
            "avatarId": 10_300 + number, "hierarchyLevel": level,
        })  # fmt: skip
    for number, name in enumerate(("Done", "Won't Do", "Duplicate"), 10_000):
        text = {"id": str(number), "name": name, "description": f"Resolved as {name}"}
        _put(tables["resolutions"], {"self": site.at(f"resolution/{number}"), **text})
    for number, (inward, outward) in enumerate(
        (("is blocked by", "blocks"), ("is cloned by", "clones"))
    ):
        _put(tables["link_types"], {
            "id": str(10_000 + number), "name": outward.title(), "inward": inward,
            "outward": outward, "self": site.at(f"issueLinkType/{10_000 + number}"),
        })  # fmt: skip
    flags = {"orderable": True, "navigable": True, "searchable": True}
    for name in SYSTEM:
        schema = {"type": "string", "system": name}
        _put(tables["fields"], {
            "id": name, "key": name, "name": name.title(), "custom": False, **flags,
            "clauseNames": [name], "schema": schema,
        })  # fmt: skip
    for id_, name, type_, kind in CUSTOM:
        number = int(id_.rpartition("_")[2])
        kinds: Json = {"type": type_, "custom": kind, "customId": number}
        _put(tables["fields"], {
            "id": id_, "key": id_, "name": name, "custom": True, **flags,
            "clauseNames": [f"cf[{number}]", name], "schema": kinds,
        })  # fmt: skip


def _put(table: dict[str, Json], row: Json) -> str:
    id_ = str(row.get("accountId") or row["id"])
    table[id_] = row
    return id_


def _user(site: Site, given: Json, random: Random) -> Json:
    first, last = person(random)
    id_ = f"712020:{random.getrandbits(64):016x}"
    return {
        "self": site.at(f"user?accountId={id_}"), "accountId": id_, "accountType": "atlassian",
        "emailAddress": f"{plain(first)}.{id_[-6:]}@{site.name}.example",
        "avatarUrls": {"48x48": f"https://avatar.example/{id_[-6:]}"},
        "displayName": f"{first} {last}", "active": True, "timeZone": site.zone_name,
        "locale": "en_US", **given,
    }  # fmt: skip


def _project_row(site: Site, given: Json, random: Random) -> Json:
    number, id_ = len(site.tables["projects"]), site.next()
    key = "".join(random.choice("ABCDEFGHKLMNPRSTW") for _ in range(3)) + str(number)
    lead = next(iter(site.tables["users"].values()), None)
    archived = {"archived": True} if given.get("archived") else {}
    name = f"{random.choice(TOPICS).title()} {number}"
    return {
        "expand": "description,lead,issueTypes", "self": site.at(f"project/{id_}"), "id": id_,
        "key": key, "description": f"About the {name.lower()}", "name": name,
        "lead": _shown_user(lead or _user(site, {}, random)),
        "avatarUrls": {"48x48": f"https://{site.host}/{id_}.png"}, "projectTypeKey": "software",
        "simplified": number % 2 == 1, "style": "next-gen" if number % 2 else "classic",
        "isPrivate": False, "properties": {}, **without(given, "archived"), **archived,
    }  # fmt: skip


def _board(site: Site, given: Json, random: Random) -> Json:
    id_, project = int(site.next()), random.choice(list(site.tables["projects"].values()))
    location = {
        "projectId": int(project["id"]), "displayName": f"{project['name']} ({project['key']})",
        "projectName": project["name"], "projectKey": project["key"],
        "projectTypeKey": "software", "name": f"{project['name']} ({project['key']})",
    }  # fmt: skip
    return {
        "id": id_, "self": f"https://api.atlassian.com/ex/jira/{site.id}/rest/agile/1.0/board/{id_}",
        "name": f"{random.choice(JOBS)} board {id_}", "type": random.choice(("scrum", "kanban")),
        "location": location, "isPrivate": False, **given,
    }  # fmt: skip


MAKERS = {"users": _user, "projects": _project_row, "boards": _board}


def _add(site: Site, stream: str, given: Json, random: Random) -> str:
    return _put(site.tables[stream], MAKERS[stream](site, given, random))


def _add_sprint(site: Site, board: str, given: Json, random: Random) -> str:
    """A sprint of a board; now and then another one shows it as well."""
    id_, now = int(site.next()), site.clock.now()
    state = random.choice(("active", "closed", "future"))
    times = {} if state == "future" else {
        "startDate": site.time(now - timedelta(days=20)),
        "endDate": site.time(now - timedelta(days=6)),
    }  # fmt: skip
    site.tables["sprints"][str(id_)] = {
        "id": id_, "self": f"https://api.atlassian.com/ex/jira/{site.id}/rest/agile/1.0/sprint/{id_}",
        "state": state, "name": f"Sprint {id_}", **times,
        **({"completeDate": site.time(now)} if state == "closed" else {}),
        "createdDate": site.time(now), "originBoardId": int(board),
        "goal": random.choice(TOPICS), **given,
    }  # fmt: skip
    others = [each for each, row in site.tables["boards"].items() if row["type"] != "kanban"]
    also = [random.choice(others)] if others and random.random() < 0.4 else []
    site.shown_on[str(id_)] = list(dict.fromkeys([board, *also]))
    return f"{board}/{id_}"


def adf(text: str) -> Json:
    """Text as version 3 of the API has it."""
    words = {"type": "paragraph", "content": [{"type": "text", "text": text}]}
    return {"type": "doc", "version": 1, "content": [words]}


def _shown_user(user: Json | None) -> Json | None:
    return None if user is None else without(user, "locale", "timeZone")


def _pick(site: Site, table: str, random: Random) -> Json:
    rows = [row for row in site.tables[table].values() if not row.get("archived")]
    return random.choice(rows or list(site.tables[table].values()))


def _numbered(site: Site, project: Json) -> str:
    number = site.numbers[project["key"]] = site.numbers.get(project["key"], 0) + 1
    return f"{project['key']}-{number}"


def _project_shown(project: Json) -> Json:
    return only(project, "self", "id", "key", "name", "projectTypeKey", "simplified", "avatarUrls")


def add_issue(site: Site, given: Json, at: datetime, random: Random) -> Issue:
    project = site.tables["projects"].get(str(given.get("project"))) or _pick(
        site, "projects", random
    )
    id_, key, who = site.next(), _numbered(site, project), _shown_user(_pick(site, "users", random))
    assignee = _shown_user(_pick(site, "users", random)) if random.random() < 0.8 else None
    parents = list(site.issues.values())
    parent = random.choice(parents) if parents and random.random() < 0.2 else None
    types = {row["name"]: row for row in site.tables["issue_types"].values()}
    type_ = types.get(str(given.get("issuetype"))) or random.choice(list(types.values()))
    resolved = random.random() < 0.3
    fields = {
        "statuscategorychangedate": site.time(at), "summary": random.choice(TOPICS).capitalize(),
        "issuetype": type_, "project": _project_shown(project),
        "description": adf(sentence(random)), "status": _pick(site, "statuses", random),
        "priority": only(_pick(site, "priorities", random), "self", "iconUrl", "name", "id"),
        "labels": random.sample(["urgent", "later", "customer"], k=random.randint(0, 2)),
        "assignee": assignee, "reporter": who, "creator": who, "components": [], "fixVersions": [],
        "issuelinks": [], "subtasks": [], "attachment": [], "timespent": None,
        "duedate": f"2027-0{random.randint(1, 9)}-15" if random.random() < 0.5 else None,
        "resolution": _pick(site, "resolutions", random) if resolved else None,
        "resolutiondate": site.time(at) if resolved else None,
        "votes": {"self": site.at(f"issue/{key}/votes"), "votes": 0, "hasVoted": False},
        "watches": {"self": site.at(f"issue/{key}/watchers"), "watchCount": 1, "isWatching": False},
        "customfield_10016": float(random.randint(1, 8)) if random.random() < 0.5 else None,
        "customfield_10020": None, "customfield_10031": random.choice(TOPICS),
        **({"parent": {"id": parent.id, "key": parent.key}} if parent else {}),
        **only(given, "summary"),
    }  # fmt: skip
    issue = site.issues[id_] = Issue(id_, key, at, at, fields)
    site.keys[key] = id_
    if site.lag:
        issue.former.append((site.clock.now(), None))
    tell(site, issue, "jira:issue_created", "issue_created")
    return issue


def _touch(site: Site, issue: Issue, at: datetime | None) -> datetime:
    """The time of a change of the issue that comes now; searches may show the former state."""
    if site.lag:
        now = site.clock.now()
        issue.former = [each for each in issue.former if each[0] > now - LONGEST_LAG]
        issue.former.append((now, deepcopy(Issue(
            issue.id, issue.key, issue.created, issue.updated, issue.fields, issue.comments,
            issue.histories,
        ))))  # fmt: skip
    issue.updated = at or site.clock.after(issue.updated)
    return issue.updated


def retouch(site: Site, issue: Issue, given: Json, at: datetime | None, random: Random) -> None:
    """A change of fields, which its changelog tells; now and then it goes to another project."""
    at = _touch(site, issue, at)
    fields = issue.fields = dict(issue.fields)
    project = site.tables["projects"].get(str(given.get("project")))
    if project is None and not given and random.random() < 0.1:
        project = _pick(site, "projects", random)
    if project and project["id"] != fields["project"]["id"]:
        former, issue.key = issue.key, _numbered(site, project)
        site.keys[issue.key] = issue.id
        fields["project"] = _project_shown(project)
        item = _item("Key", "", former, issue.key)
    elif "summary" in given or (not given and random.random() < 0.5):
        text = given.get("summary") or f"{random.choice(TOPICS)} {random.getrandbits(24):x}"
        item = _item("summary", "summary", fields["summary"], text)
        fields["summary"] = text
    else:
        status = site.tables["statuses"].get(str(given.get("status"))) or _pick(
            site, "statuses", random
        )
        item = _item("status", "status", fields["status"]["name"], status["name"])
        fields |= {"status": status, "statuscategorychangedate": site.time(at)}
    author = _shown_user(_pick(site, "users", random))
    changed = {"id": site.next(), "author": author, "created": site.time(at), "items": [item]}
    issue.histories.append(changed)
    tell(site, issue, "jira:issue_updated", "issue_generic", changelog=changed)


def _item(name: str, id_: str, former: str, text: str) -> Json:
    shown = {"field": name, "fieldtype": "jira", **({"fieldId": id_} if id_ else {})}
    return {**shown, "from": None, "fromString": former, "to": None, "toString": text}


def add_comment(site: Site, issue: Issue, given: Json, at: datetime | None, random: Random) -> Json:
    at = _touch(site, issue, at)
    id_, who = site.next(), _shown_user(_pick(site, "users", random))
    issue.comments[id_] = comment = {
        "self": site.at(f"issue/{issue.id}/comment/{id_}"), "id": id_, "author": who,
        "body": adf(given.get("text") or sentence(random)), "updateAuthor": who,
        "created": site.time(at), "updated": site.time(at), "jsdPublic": True,
    }  # fmt: skip
    tell(site, issue, "comment_created", comment=comment)
    tell(site, issue, "jira:issue_updated", "issue_commented")
    return comment


def add_worklog(site: Site, issue: Issue, given: Json, at: datetime, random: Random) -> str:
    id_, who = site.next(), _shown_user(_pick(site, "users", random))
    row = {
        "self": site.at(f"issue/{issue.id}/worklog/{id_}"), "author": who, "updateAuthor": who,
        "comment": adf(sentence(random)), "created": site.time(at), "updated": site.time(at),
        "started": site.time(at - timedelta(hours=3)), "id": id_, "issueId": issue.id,
    }  # fmt: skip
    site.tables["worklogs"][id_] = row
    log_time(site, row, int(given.get("timeSpentSeconds") or 60 * random.randint(5, 480)))
    return id_


def log_time(site: Site, row: Json, seconds: int) -> None:
    row |= {"timeSpent": f"{seconds // 60}m", "timeSpentSeconds": seconds}
    issue = site.issues[row["issueId"]]
    _touch(site, issue, max(issue.updated, datetime.fromisoformat(row["updated"])))
    spent = [each for each in site.tables["worklogs"].values() if each["issueId"] == issue.id]
    total = sum(each["timeSpentSeconds"] for each in spent)
    issue.fields = {**issue.fields, "timespent": total or None}


def tell(site: Site, issue: Issue, event: str, kind: str = "", **more: Any) -> None:
    """What happened, as of now: the issue may be another by the time that it is delivered."""
    thin = only(issue.fields, "summary", "issuetype", "project", "assignee", "priority", "status")
    site.tell({"event": event, "kind": kind, "issue": issue.id, "key": issue.key,
               "host": site.host, "project": issue.fields["project"]["key"],
               "fields": issue.fields if event.startswith("jira:") else thin, **more})  # fmt: skip


# -- How it is changed by order --------------------------------------------------------------------


@MUTATIONS.of("issues")
def _issues(site: Site, change: Change) -> str | None:
    now, random, given = site.clock.now(), change.random, change.record
    if change.op == "add":
        return add_issue(site, given, now, random).id
    issue = site.issues[str(change.id)]
    if change.op == "change":
        retouch(site, issue, given, None, random)
        return None
    _touch(site, issue, None)
    site.removed.append(site.issues.pop(issue.id))
    rows = site.tables["worklogs"]
    site.tables["worklogs"] = {id_: row for id_, row in rows.items() if row["issueId"] != issue.id}
    tell(site, issue, "jira:issue_deleted")
    return None


def _any_issue(site: Site, given: object, random: Random) -> Issue:
    issue = site.live(str(given)) if given else None
    seen = [each for each in site.issues.values() if each.id not in site.hidden]
    if issue is None and (given or not seen):
        raise RefusedError(f"there is no issue {given!r}")
    return issue or random.choice(seen)


@MUTATIONS.of("comments")
def _comments(site: Site, change: Change) -> str | None:
    random, given = change.random, change.record
    if change.op == "add":
        issue = _any_issue(site, given.get("issue_id"), random)
        return f"{issue.id}/{add_comment(site, issue, given, None, random)['id']}"
    issue_id, _, id_ = str(change.id).partition("/")
    issue = site.issues[issue_id]
    if change.op == "delete":
        # No time of the issue moves: only an event tells.
        comment = issue.comments.pop(id_)
        tell(site, issue, "comment_deleted", comment=comment)
        return None
    at = _touch(site, issue, None)
    text = given.get("text") or f"{sentence(random)} {random.getrandbits(24):x}"
    issue.comments[id_] = {**issue.comments[id_], "body": adf(text), "updated": site.time(at)}
    tell(site, issue, "comment_updated", comment=issue.comments[id_])
    return None


@MUTATIONS.of("worklogs")
def _worklogs(site: Site, change: Change) -> str | None:
    random, given, at = change.random, change.record, site.clock.now() - LAST_MINUTE
    if change.op == "add":
        return add_worklog(site, _any_issue(site, given.get("issueId"), random), given, at, random)
    row = site.tables["worklogs"][str(change.id)]
    if change.op == "delete":
        del site.tables["worklogs"][str(change.id)]
        site.gone_worklogs.append((round(at.timestamp() * 1000), str(change.id)))
        return None
    at = max(at, datetime.fromisoformat(row["updated"]) + timedelta(milliseconds=1))
    seconds = int(given.get("timeSpentSeconds") or row["timeSpentSeconds"] + 60)
    row["updated"] = site.time(at)
    log_time(site, row, seconds)
    return None


@MUTATIONS.of("sprints")
def _sprints(site: Site, change: Change) -> str | None:
    boards = [id_ for id_, row in site.tables["boards"].items() if row["type"] != "kanban"]
    if change.op == "add":
        usable = [id_ for id_ in boards if id_ not in site.refused]
        if not usable:
            raise RefusedError("there is no board with sprints")
        return _add_sprint(site, change.random.choice(usable), change.record, change.random)
    id_ = str(change.id).partition("/")[2]
    if change.op == "delete":
        del site.tables["sprints"][id_]
        return None
    name = {"name": f"Sprint {change.random.getrandbits(24):x}"}
    site.tables["sprints"][id_] |= change.record or name
    return None


@MUTATIONS.of(("users", "projects"), "add", "change")
@MUTATIONS.of("boards")
def _places(site: Site, change: Change) -> str | None:
    if change.op == "add":
        return _add(site, change.stream, change.record, change.random)
    if change.op == "delete":
        if len(site.tables["boards"]) <= FEWEST_BOARDS:
            raise RefusedError("the last boards stay")
        del site.tables["boards"][str(change.id)]
        for id_, boards in list(site.shown_on.items()):
            site.shown_on[id_] = [board for board in boards if board != change.id]
        return None
    name = "displayName" if change.stream == "users" else "name"
    made_up = {name: f"{change.random.choice(TOPICS).title()} {change.random.getrandbits(24):x}"}
    site.tables[change.stream][str(change.id)] |= change.record or made_up
    return None


@MUTATIONS.of(LISTS, "change")
def _lists(site: Site, change: Change) -> str | None:
    text = f"Renamed {change.random.getrandbits(24):x}"
    row = site.tables[change.stream][str(change.id)]
    site.tables[change.stream][str(change.id)] = {**row, "name": text, **change.record}
    return None


# -- What is there ---------------------------------------------------------------------------------


def store(site: Site, stream: str) -> dict[str, Json]:
    """What may be seen of a stream. Comments, worklogs and changes stand by themselves, and when an
    issue was last viewed is nobody's but the viewer's."""
    issues = [each for each in site.issues.values() if each.id not in site.hidden]
    match stream:
        case "issues":
            return {each.id: shown(site, each) for each in issues}
        case "comments":
            return _of(issues, lambda each: each.comments.values())
        case "changelogs":
            return _of(issues, lambda each: each.histories)
        case "sprints":
            found = {}
            for id_, row in site.tables["sprints"].items():
                for board in site.shown_on[id_]:
                    if site.tables["boards"].get(board, {}).get("type", "kanban") != "kanban":
                        found[f"{board}/{id_}"] = {**row, "board_id": int(board)}
            return found
        case "worklogs":
            rows = site.tables["worklogs"].items()
            return {id_: dict(row) for id_, row in rows if row["issueId"] not in site.hidden}
    return {id_: dict(row) for id_, row in site.tables[stream].items()}


def alterable(site: Site, stream: str) -> Iterable[str]:
    """What random changes may change: not a part that is refused."""
    for id_ in sorted(keys(site, stream)):
        board = id_.partition("/")[0]
        if stream not in ("boards", "sprints") or not site.refused.intersection(
            site.shown_on.get(id_.partition("/")[2], [board])
        ):
            yield id_


def _of(issues: Iterable[Issue], rows: Callable[[Issue], Iterable[Json]]) -> dict[str, Json]:
    return {
        f"{issue.id}/{row['id']}": {**row, "issue_id": issue.id}
        for issue in issues
        for row in rows(issue)
    }


def shown(site: Site, issue: Issue) -> Json:
    """An issue with all of its own fields."""
    times = {"created": site.time(issue.created), "updated": site.time(issue.updated)}
    place = {"id": issue.id, "self": site.at(f"issue/{issue.id}"), "key": issue.key}
    return {**place, "fields": {**issue.fields, **times}}


def utc_ms(at: datetime) -> int:
    return round(at.astimezone(UTC).timestamp() * 1000)
