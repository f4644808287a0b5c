"""A Linear workspace in memory: its rows as the API shows them, how they are made and changed."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.data import TOPICS, firm, moment, person, plain, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.linear.auth import new_id
from sandbox.linear.events import TOLD, told
from sandbox.linear.schema import FIELDS, TYPES

# Rows of each stream in a workspace of a given size, in the order in which they can be made.
SHARES = {
    **{"users": 0.2, "issue_labels": 0.2, "cycles": 0.2, "initiatives": 0.15, "projects": 0.25},
    **{"project_milestones": 0.2, "project_updates": 0.25},
    **{"issues": 1.0, "comments": 0.9, "attachments": 0.5},
}
TEAMS = ("Engineering", "Design", "Support", "Finance")
STATES = ("backlog", "unstarted", "started", "completed", "canceled")
PRIORITIES = ("No priority", "Urgent", "High", "Normal", "Low")
# What is in the trash for so long is gone; a change so soon after the making is not in the history.
TRASH, MAKING = timedelta(days=30), timedelta(minutes=3)
LONG_HISTORY = 45
# What the history of an issue tells of, and by which field of it.
TRACKED = {
    "StateId": "state", "AssigneeId": "assignee", "ProjectId": "project", "CycleId": "cycle",
    "Priority": "priority", "Estimate": "estimate", "Title": "title",
}  # fmt: skip
TYPE_OF = {name: stream for stream, name in TYPES.items()}
ENUMS: Mapping[str, tuple[str, ...]] = {
    "ProjectUpdateHealthType": ("onTrack", "atRisk", "offTrack"),
    "InitiativeUpdateHealthType": ("onTrack", "atRisk", "offTrack"),
    "InitiativeStatus": ("Planned", "Active", "Completed"),
    "TeamVisibility": ("public", "private"),
}
STATUSES = tuple(
    {"id": f"5ea7{number}000-0000-4000-8000-000000000000", "name": name.title(), "type": name}
    for number, name in enumerate(("backlog", "planned", "started", "completed", "canceled"))
)


@dataclass
class Workspace:
    """One workspace. Of what is in `hidden` teams nothing is shown to who consented."""

    id: str
    name: str
    clock: Clock
    tables: dict[str, dict[str, Json]]
    tell: Callable[[Any], None]
    hidden: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)
    # Cursors that were handed out, and those that are known no more.
    handed: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)

    def shown(self, stream: str) -> Iterator[Json]:
        """The rows that the API may show, also archived ones and those in the trash."""
        oldest = stamp(self.clock.now() - TRASH)
        for row in self.tables[stream].values():
            purged = row.get("trashed") is True and (row.get("archivedAt") or oldest) < oldest
            of_entry = stream == "issue_history"
            if (of_entry or not purged) and self.team_of(stream, row) not in self.hidden:
                yield row

    def team_of(self, stream: str, row: Json) -> str | None:
        """The team that decides who sees a row; None where all do."""
        tables = self.tables
        match stream:
            case "teams":
                return str(row["id"])
            case "projects":
                return str(row["leadTeamId"])
            case "project_milestones" | "project_updates":
                return self.team_of("projects", tables["projects"][row["project"]["id"]])
            case "comments" | "attachments" | "issue_history":
                id = row["issue"]["id"] if stream == "attachments" else row["issueId"]
                return None if id is None else self.team_of("issues", tables["issues"][id])
            case _:
                team = row.get("team")
                return str(team["id"]) if team else None


MUTATIONS = Mutations[Workspace](
    settable={stream: (*fields, "archivedAt") for stream, fields in FIELDS.items()},
    there=lambda space, stream: space.tables[stream],
)


def new(seed: Seed) -> Workspace:
    """A workspace filled from the seed."""
    random, now = seed.random, seed.clock.now()
    space = Workspace(
        seed.account_id, seed.name, seed.clock, {stream: {} for stream in TYPES}, seed.tell
    )
    if not seed.size:
        return space
    for name in TEAMS:
        _add(space, "teams", {"name": name, "key": name[:3].upper()}, random, now)
    for _ in TEAMS:
        for type_ in STATES:
            _add(space, "workflow_states", {"name": type_.title(), "type": type_}, random, now)
    for stream, share in SHARES.items():
        made = sorted(moment(random, now) for _ in range(seed.length(share)))
        for at in made:
            row = _add(space, stream, {}, random, at)
            # Who edits many rows at once leaves one time on all of them.
            hours = (now - at) // timedelta(hours=1)
            if random.random() < 0.4 and hours > 30:
                row["updatedAt"] = stamp(now - (hours - 30) * timedelta(hours=1))
            if random.random() < 0.1:
                _archive(row, row["updatedAt"])
    for number, issue in enumerate(space.tables["issues"].values()):
        for _ in range(LONG_HISTORY if number == 0 else random.randint(0, 2)):
            _note(space, issue, _filled(space, "issue_history", random, now, 0.3), random)
    for table in ("teams", "workflow_states", "users"):
        _archive(next(reversed(space.tables[table].values())), stamp(now))
    return space


def store(space: Workspace, stream: str) -> dict[str, Json]:
    """What is there and not in the trash."""
    return {
        row["id"]: dict(row)
        for row in space.shown(stream)
        if stream == "issue_history" or not row.get("trashed")
    }


@MUTATIONS.of(("teams", "users", "workflow_states", "cycles", *SHARES), "add")
def add(space: Workspace, change: Change) -> str:
    row = _add(space, change.stream, change.record, change.random, space.clock.now())
    _tell(space, change.stream, "create", row)
    return str(row["id"])


@MUTATIONS.of(("teams", "users", "workflow_states", "cycles", *SHARES), "change")
def change(space: Workspace, change: Change) -> None:
    """Sets some fields. One issue in six is archived instead, which leaves its updatedAt."""
    stream, random = change.stream, change.random
    row = space.tables[stream][str(change.id)]
    former, now = dict(row), space.clock.now()
    archives = stream == "issues" and not change.record and row["archivedAt"] is None
    if archives and random.random() < 1 / 6:
        _archive(row, stamp(now))
        _note(space, row, {"archived": True}, random)
    elif set(change.record) == {"archivedAt"}:
        row |= change.record
    else:
        fresh = {**_filled(space, stream, random, now), **_made(space, stream, random, now)}
        kept = {"team", "leadTeamId", "project", "issue", "issueId", "number", "identifier", "key"}
        names = sorted(name for name in fresh if name not in kept and fresh[name] != row[name])
        row |= change.record or {
            name: fresh[name] for name in random.sample(names, min(3, len(names)))
        }
        row["updatedAt"] = stamp(space.clock.after(datetime.fromisoformat(row["updatedAt"])))
        if stream == "issues":
            _note_change(space, former, row, random)
    _tell(space, stream, "update", row, former)


@MUTATIONS.of(("projects", "initiatives", "issues"), "delete")
def trash(space: Workspace, change: Change) -> None:
    """Into the trash, for 30 days; an issue may be deleted for good at once."""
    stream, row = change.stream, space.tables[change.stream][str(change.id)]
    if stream == "issues" and change.random.random() < 0.4:
        remove(space, change)
        return
    row |= {"trashed": True, "archivedAt": stamp(space.clock.now())}
    if stream == "issues":
        _note(space, row, {"trashed": True}, change.random)
    _tell(space, stream, "remove", row)


@MUTATIONS.of(
    ("comments", "attachments", "issue_labels", "project_milestones", "project_updates"), "delete"
)
def remove(space: Workspace, change: Change) -> None:
    """For good: no list shows it any more, nor what went with it."""
    stream, id = change.stream, str(change.id)
    row = space.tables[stream].pop(id)
    for issue in space.tables["issues"].values():
        for name in ("projectMilestone", "parent"):
            if issue[name] == {"id": id}:
                issue |= {
                    name: None,
                    "updatedAt": stamp(
                        space.clock.after(datetime.fromisoformat(issue["updatedAt"]))
                    ),
                }
    if stream == "issues":
        for inner in ("comments", "attachments", "issue_history"):
            rows = space.tables[inner]
            for one in [one for one in rows.values() if _issue_of(inner, one) == id]:
                del rows[one["id"]]
    _tell(space, stream, "remove", row)


def restore(space: Workspace, body: Json) -> Json:
    """Takes a row (`stream`, `id`) out of the trash."""
    stream, id = str(body.get("stream")), str(body.get("id"))
    row = space.tables.get(stream, {}).get(id)
    if row is None or not row.get("trashed"):
        raise RefusedError(f"{stream} has no {id!r} in the trash")
    former = dict(row)
    updated = stamp(space.clock.after(datetime.fromisoformat(row["updatedAt"])))
    row |= {"trashed": None, "archivedAt": None, "updatedAt": updated}
    _tell(space, stream, "update", row, former)
    return {"id": id}


def hide(space: Workspace, body: Json) -> Json:
    """One more team is private now, without who consented: what of the `stream` is hidden by it."""
    stream = str(body.get("stream"))
    before = set(store(space, stream))
    teams = [row["id"] for row in space.shown("teams")]
    space.hidden.add(max(teams, key=lambda team: _count(space, stream, team)))
    return {"keys": sorted(before - set(store(space, stream)))}


def join(space: Workspace, body: Json) -> Json:
    """Who consented joins the private teams."""
    space.hidden.clear()
    return {}


def expire_checkpoints(space: Workspace) -> None:
    space.expired |= space.handed


def _count(space: Workspace, stream: str, team: str) -> int:
    return sum(space.team_of(stream, row) == team for row in space.shown(stream))


def _issue_of(stream: str, row: Json) -> str | None:
    id: str | None = row["issue"]["id"] if stream == "attachments" else row["issueId"]
    return id


def _tell(
    space: Workspace, stream: str, action: str, row: Json, former: Json | None = None
) -> None:
    if stream in TOLD:
        space.tell(told(stream, action, row, former))


def _note(space: Workspace, issue: Json, entry: Json, random: Random) -> None:
    """An entry of an issue's history."""
    now = stamp(space.clock.now())
    made = {"id": new_id(random), "createdAt": now, "updatedAt": now, "issueId": issue["id"]}
    blank = dict.fromkeys(FIELDS["issue_history"])
    space.tables["issue_history"][made["id"]] = {**blank, **entry, **made}


def _note_change(space: Workspace, former: Json, issue: Json, random: Random) -> None:
    if space.clock.now() - datetime.fromisoformat(issue["createdAt"]) < MAKING:
        return
    entry: Json = {"actorId": _any(space, "users", random)}
    for name, of in TRACKED.items():
        if former[of] != issue[of]:
            entry |= {f"from{name}": _plain(former[of]), f"to{name}": _plain(issue[of])}
    if former["labelIds"] != issue["labelIds"]:
        entry["addedLabelIds"] = sorted({*issue["labelIds"]} - {*former["labelIds"]})
        entry["removedLabelIds"] = sorted({*former["labelIds"]} - {*issue["labelIds"]})
    _note(space, issue, entry, random)


def _plain(value: Any) -> Any:
    return value["id"] if isinstance(value, dict) else value


def _any(space: Workspace, stream: str, random: Random) -> str | None:
    """A row that is not in the trash, if there is one."""
    rows = list(space.tables[stream].values())
    drawn = [random.choice(rows) for _ in range(2 if rows else 0)]
    return next((row["id"] for row in (*drawn, *rows) if not row.get("trashed")), None)


def _archive(row: Json, at: str) -> None:
    row["archivedAt"] = at
    if "autoArchivedAt" in row:
        row["autoArchivedAt"] = at


def _add(space: Workspace, stream: str, given: Json, random: Random, at: datetime) -> Json:
    row = {
        "id": new_id(random),
        **_filled(space, stream, random, at),
        **_made(space, stream, random, at),
        **given,
        **{"createdAt": stamp(at), "updatedAt": stamp(at), "archivedAt": given.get("archivedAt")},
    }
    space.tables[stream][row["id"]] = row
    return row


def _filled(
    space: Workspace, stream: str, random: Random, at: datetime, likely: float = 0.7
) -> Json:
    """A value of its type for each field; what may be missing is there so often."""
    return {
        name: None
        if name in ("trashed", "autoArchivedAt")
        or (not type_.endswith("!") and random.random() > likely)
        else _value(space, name, type_.rstrip("!"), random, at)
        for name, type_ in FIELDS[stream].items()
    }


def _value(space: Workspace, name: str, type_: str, random: Random, at: datetime) -> Any:
    if type_ in TYPE_OF:
        id = _any(space, TYPE_OF[type_], random)
        return {"id": id} if id else None
    if type_ in ENUMS:
        return random.choice(ENUMS[type_])
    match type_:
        case "DateTime":
            return stamp(moment(random, at, 60))
        case "TimelessDate":
            return (at + timedelta(days=random.randint(-30, 90))).date().isoformat()
        case "Boolean":
            return random.random() < 0.3
        case "Float" | "Int":
            return random.randint(0, 20)
        case "JSONObject":
            return {"number": random.randint(1, 900), "status": random.choice(("open", "merged"))}
        case "ProjectStatus":
            return dict(random.choice(STATUSES))
        case "[String!]":
            return [f"OLD-{random.randint(1, 900)}"]
        case "ExternalUser":
            return {"id": new_id(random)}
    if name.endswith("Id"):
        return new_id(random)
    return "#5e6ad2" if name == "color" else sentence(random)


def _made(space: Workspace, stream: str, random: Random, at: datetime) -> Json:
    """What makes a row of a stream plausible."""
    name = f"{firm(random)}: {random.choice(TOPICS)}"
    slug = f"{random.getrandbits(48):012x}"
    named = {"name": name, "slugId": slug, "url": f"https://linear.app/sandbox/{stream}/{slug}"}
    known = FIELDS[stream]
    made: Json = {field: value for field, value in named.items() if field in known}
    match stream:
        case "teams":
            key = "".join(random.choices("ABCDEFGHKLMNPRST", k=4))
            made |= {"key": key, "displayName": name, "issueEstimationType": "linear"}
            made |= {"timezone": "Europe/Berlin"}
        case "users":
            first, last = person(random)
            mail = f"{plain(first)}.{plain(last)}.{slug[:6]}@mail.example"
            made |= {"name": f"{first} {last}", "displayName": plain(first), "email": mail}
            made |= {"active": random.random() < 0.8, "timezone": "Europe/Berlin"}
        case "workflow_states":
            made |= {"type": random.choice(STATES)}
        case "cycles":
            begun = moment(random, at, 60)
            made |= {"number": _next(space, stream), "startsAt": stamp(begun)}
            made |= {"endsAt": stamp(begun + timedelta(days=14))}
        case "projects":
            made |= {"leadTeamId": _any(space, "teams", random), "priority": random.randint(0, 4)}
            made |= {"labelIds": _labels(space, random)}
        case "issues":
            made |= _issue(space, random, slug)
        case "comments":
            of_issue = random.random() < 0.8
            made |= {"issueId": _any(space, "issues", random) if of_issue else None}
            made |= {"parentId": _any(space, "comments", random) if random.random() < 0.3 else None}
            if of_issue:
                made |= dict.fromkeys(
                    ("projectUpdateId", "initiativeUpdateId", "documentContentId")
                )
        case "attachments":
            made |= {"url": f"https://code.example/pull/{slug}", "sourceType": "github"}
    lacking = [
        field
        for field, type_ in known.items()
        if type_.endswith("!")
        and type_.rstrip("!") in TYPE_OF
        and _any(space, TYPE_OF[type_.rstrip("!")], random) is None
    ]
    if lacking or (stream == "projects" and made["leadTeamId"] is None):
        raise RefusedError(f"{stream}: there is no {lacking} that it could be of", status=409)
    return made


def _issue(space: Workspace, random: Random, slug: str) -> Json:
    team = _any(space, "teams", random)
    number = _next(space, f"issues of {team}")
    priority = random.randint(0, 4)
    key = space.tables["teams"][str(team)]["key"] if team else ""
    title = f"{random.choice(TOPICS)} at {firm(random)}"
    return {
        "team": {"id": team},
        "number": number,
        "identifier": f"{key}-{number}",
        "title": title,
        "priority": priority,
        "priorityLabel": PRIORITIES[priority],
        "branchName": f"{key.lower()}-{number}-{plain(title)}",
        "url": f"https://linear.app/sandbox/issue/{key}-{number}/{slug}",
        "labelIds": _labels(space, random),
    }


def _labels(space: Workspace, random: Random) -> list[str]:
    ids = sorted(space.tables["issue_labels"])
    return random.sample(ids, min(len(ids), random.randint(0, 3)))


def _next(space: Workspace, name: str) -> int:
    space.numbers[name] = space.numbers.get(name, 0) + 1
    return space.numbers[name]
