"""What an account sees: its organisation, its repositories, and what comes of each change."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from heapq import heappop, heappush
from random import Random
from typing import Any

from sandbox.github import rows
from sandbox.github.rows import API, touched
from sandbox.kernel.clock import Clock, stamp_in_seconds
from sandbox.kernel.data import sentence
from sandbox.kernel.fields import without
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError

# Nobody deletes these two, which every account begins with.
FIRST = 2
# Made-up changes of runs are of those that are not over, or were made in the last minutes: an older
# one that is run again stands where it stood, and no list by time shows it.
LATELY = timedelta(minutes=30)
# How runs go on; a completed one is run once more.
NEXT = {"queued": "in_progress", "in_progress": "completed", "completed": "queued"}


@dataclass
class Repo:
    """A repository. Of commits it holds all that were ever made, by sha; `head` is where the
    default branch stands. Issues and pull requests share their numbers. A `hidden` one is no longer
    shown to who consented; `former` are names that it had."""

    row: Json
    hidden: bool = False
    head: str = ""
    number: int = 0
    former: list[str] = field(default_factory=list)
    commits: dict[str, Json] = field(default_factory=dict)
    issues: dict[str, Json] = field(default_factory=dict)
    pull_requests: dict[str, Json] = field(default_factory=dict)
    issue_comments: dict[str, Json] = field(default_factory=dict)
    reviews: dict[str, Json] = field(default_factory=dict)
    review_comments: dict[str, Json] = field(default_factory=dict)
    releases: dict[str, Json] = field(default_factory=dict)
    workflow_runs: dict[str, Json] = field(default_factory=dict)
    issue_events: dict[str, Json] = field(default_factory=dict)
    labels: dict[str, Json] = field(default_factory=dict)
    milestones: dict[str, Json] = field(default_factory=dict)

    @property
    def base(self) -> str:
        return str(self.row["url"])

    def log(self, head: str = "") -> list[Json]:
        """As `git log` shows it: newest first by the committer's date, no parent before a child."""
        queue: list[tuple[tuple[int, ...], str]] = []
        found, met = [], {head or self.head}
        for one in met - {""}:
            heappush(queue, (_age(self.commits[one]), one))
        while queue:
            _, sha = heappop(queue)
            found.append(self.commits[sha])
            for parent in self.commits[sha]["parents"]:
                if parent["sha"] not in met:
                    met.add(parent["sha"])
                    heappush(queue, (_age(self.commits[parent["sha"]]), parent["sha"]))
        return found


def _age(commit: Json) -> tuple[int, ...]:
    return tuple(-ord(letter) for letter in commit["commit"]["committer"]["date"])


@dataclass
class Hub:
    """`refused` are repositories, and organisations, that are listed and cannot be read. `expires`:
    the app's tokens end, as those of GitHub Apps do. `partial`: the organisation wants a sign-in,
    and lists leave out what it owns. `links`: addresses in rows lead here."""

    account_id: str
    login: str
    clock: Clock
    tell: Callable[[Any], None]
    org: Json = field(default_factory=dict)
    people: list[Json] = field(default_factory=list)
    members: dict[str, Json] = field(default_factory=dict)
    repos: dict[str, Repo] = field(default_factory=dict)
    hooks: dict[str, Json] = field(default_factory=dict)
    deliveries: dict[str, list[tuple[Json, Any, float]]] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    expires: bool = False
    partial: bool = False
    links: bool = False

    @property
    def user(self) -> Json:
        return rows.user_row(int(self.account_id), self.login)

    def shown(self) -> dict[str, Repo]:
        return {id: repo for id, repo in self.repos.items() if not repo.hidden}

    def news(self, event: str, action: str, repo: Repo | None, **payload: Any) -> None:
        about = {"repository": repo.row} if repo else {}
        said = {"action": action} if action else {}
        self.tell({"event": event, "payload": {**said, **payload, **about, "sender": self.user}})


OF_REPOS = (
    "issues", "pull_requests", "issue_comments", "reviews", "review_comments", "releases",
    "workflow_runs", "issue_events", "labels", "milestones",
)  # fmt: skip
STREAMS = ("repositories", *OF_REPOS, "commits", "organization_members")
NUMBERED = ("issues", "pull_requests")
MUTATIONS = Mutations[Hub]()


def key_in(stream: str, row: Json) -> str:
    """What a row is known by inside its repository."""
    if stream in NUMBERED:
        return str(row["number"])
    if stream == "reviews":
        return f"{row['pull_request_url'].rpartition('/')[2]}/{row['id']}"
    return str(row["sha"] if stream == "commits" else row["id"])


def of_repo(repo: Repo, stream: str) -> dict[str, Json]:
    """The rows of a stream in a repository, each with the repository's id."""
    held = repo.log() if stream == "commits" else getattr(repo, stream).values()
    id = repo.row["id"]
    return {f"{id}/{key_in(stream, row)}": {**row, "repository_id": id} for row in held}


def store(hub: Hub, stream: str) -> dict[str, Json]:
    """As the API gives it, with the ids of what it was asked of."""
    if stream == "repositories":
        return {id: repo.row for id, repo in hub.shown().items()}
    if stream == "organization_members":
        org = hub.org.get("id")
        return {f"{org}/{id}": {**row, "organization_id": org} for id, row in hub.members.items()}
    return {key: row for repo in hub.shown().values() for key, row in of_repo(repo, stream).items()}


def part_of(hub: Hub, stream: str) -> tuple[str, list[str]]:
    """The repository (or organisation) that has most records of a stream, and their keys."""
    if stream == "repositories" or not hub.repos:
        return "", []
    if stream == "organization_members":
        return str(hub.org["id"]), list(store(hub, stream))
    biggest = max(hub.shown().values(), key=lambda repo: len(of_repo(repo, stream)))
    return str(biggest.row["id"]), list(of_repo(biggest, stream))


def alterable(hub: Hub, stream: str) -> Iterable[str]:
    """Nothing is made up where nobody may look. Of commits it is the last, which a force push takes
    back."""
    if stream == "repositories":
        return [one for one in hub.shown() if one not in hub.refused]
    if stream == "organization_members":
        return [] if str(hub.org.get("id")) in hub.refused else list(store(hub, stream))
    found: list[str] = []
    for repo in _open(hub):
        keys = list(of_repo(repo, stream))
        found += keys[:1] if stream == "commits" else keys
    return found


def _open(hub: Hub) -> list[Repo]:
    return [repo for id, repo in hub.shown().items() if id not in hub.refused]


def _some(hub: Hub, random: Random) -> Repo:
    """Where something is added: mostly in the first."""
    found = _open(hub)
    if not found:
        raise RefusedError("there is no repository", status=409)
    return found[0] if random.random() < 0.6 else random.choice(found)


def _place(hub: Hub, change: Change) -> tuple[Repo, str]:
    id, _, key = str(change.id).partition("/")
    repo = hub.repos.get(id)
    if repo is None or key not in getattr(repo, change.stream):
        raise RefusedError("it went with another", status=409)
    return repo, key


# -- Repositories and members ---------------------------------------------------------------------


@MUTATIONS.of("repositories", "add")
def add_repository(hub: Hub, change: Change) -> str:
    owner = hub.org if change.random.random() < 0.5 else hub.user
    row = rows.repository(change.random, owner, hub.clock.now())
    row |= change.record
    repo = hub.repos[str(row["id"])] = Repo(row)
    hub.news("repository", "created", repo)
    return str(row["id"])


@MUTATIONS.of("repositories", "change")
def change_repository(hub: Hub, change: Change) -> None:
    """Renamed now and then: the number stays, the former name leads there."""
    repo = hub.repos[str(change.id)]
    fields = dict(change.record) or {"description": sentence(change.random)}
    if "name" not in fields and not change.record and change.random.random() < 0.4:
        fields = {"name": f"{repo.row['name'].partition('-')[0]}-{change.random.randint(1, 10**6)}"}
    if "name" in fields:
        repo.former.append(repo.row["full_name"])
        fields["full_name"] = f"{repo.row['owner']['login']}/{fields['name']}"
        fields["url"] = f"{API}/repos/{fields['full_name']}"
        fields["html_url"] = f"https://github.com/{fields['full_name']}"
    repo.row = touched(repo.row, hub.clock.now(), **fields)
    hub.news("repository", "renamed" if "name" in fields else "edited", repo)


@MUTATIONS.of("repositories", "delete")
def delete_repository(hub: Hub, change: Change) -> None:
    if str(change.id) in list(hub.repos)[:FIRST]:
        raise RefusedError("nobody deletes the first two", status=409)
    hub.news("repository", "deleted", hub.repos.pop(str(change.id)))


@MUTATIONS.of("organization_members", "add")
def add_member(hub: Hub, change: Change) -> str:
    if str(hub.org["id"]) in hub.refused:
        raise RefusedError("nobody may look there", status=409)
    row = rows.user(change.random)
    hub.members[str(row["id"])] = row
    told = {"membership": {"state": "active", "role": "member", "user": row}}
    hub.news("organization", "member_added", None, organization=hub.org, **told)
    return f"{hub.org['id']}/{row['id']}"


@MUTATIONS.of("organization_members", "delete")
def remove_member(hub: Hub, change: Change) -> None:
    row = hub.members.pop(str(change.id).partition("/")[2])
    told = {"membership": {"state": "active", "role": "member", "user": row}}
    hub.news("organization", "member_removed", None, organization=hub.org, **told)


# -- What repositories hold -----------------------------------------------------------------------


@MUTATIONS.of(("issues", "pull_requests"), "add")
def add_numbered(hub: Hub, change: Change) -> str:
    repo, random = _some(hub, change.random), change.random
    repo.number += 1
    who, now = random.choice(hub.people), hub.clock.now()
    kind = "issue" if change.stream == "issues" else "pull_request"
    row = getattr(rows, kind)(random, repo.base, repo.number, who, now) | change.record
    getattr(repo, change.stream)[str(repo.number)] = row
    hub.news("issues" if kind == "issue" else kind, "opened", repo, **{kind: row})
    return f"{repo.row['id']}/{repo.number}"


@MUTATIONS.of(("issues", "pull_requests"), "change")
def change_numbered(hub: Hub, change: Change) -> None:
    """Edited, or closed and opened again, which leaves an event."""
    repo, key = _place(hub, change)
    now, held = hub.clock.now(), getattr(repo, change.stream)
    kind = "issue" if change.stream == "issues" else "pull_request"
    fields, action = dict(change.record) or {"body": sentence(change.random)}, "edited"
    if not change.record and change.random.random() < 0.5:
        closes = held[key]["state"] == "open"
        fields = {"state": "closed" if closes else "open",
                  "closed_at": stamp_in_seconds(now) if closes else None}  # fmt: skip
        if kind == "pull_request" and closes and change.random.random() < 0.7:
            fields["merged_at"] = fields["closed_at"]
        action = "closed" if closes else "reopened"
        event = rows.issue_event(change.random, repo.base, held[key], action, now)
        repo.issue_events[str(event["id"])] = event
    row = held[key] = touched(held[key], now, **fields)
    hub.news("issues" if kind == "issue" else kind, action, repo, **{kind: row})


@MUTATIONS.of("issues", "delete")
def delete_issue(hub: Hub, change: Change) -> None:
    repo, key = _place(hub, change)
    row = repo.issues.pop(key)
    comments = [id for id, one in repo.issue_comments.items() if _number(one) == key]
    for id in comments:
        del repo.issue_comments[id]
    hub.news("issues", "deleted", repo, issue=row)


def _number(row: Json) -> str:
    """The number of the issue or pull request that something hangs on."""
    return str(row.get("issue_url") or row["pull_request_url"]).rpartition("/")[2]


PARENTS = {"issue_comments": "issue", "reviews": "pull_request", "review_comments": "pull_request"}
KINDS = {
    "issue_comments": ("issue_comment", "comment"),
    "reviews": ("pull_request_review", "review"),
    "review_comments": ("pull_request_review_comment", "comment"),
}


@MUTATIONS.of(tuple(PARENTS), "add")
def add_to_parent(hub: Hub, change: Change) -> str:
    repo = _some(hub, change.random)
    parents = repo.issues if PARENTS[change.stream] == "issue" else repo.pull_requests
    if not parents:
        raise RefusedError("there is nothing to say it of", status=409)
    number = change.record.get("number") or int(change.random.choice(list(parents)))
    made = getattr(rows, change.stream.removesuffix("s"))
    who = change.random.choice(hub.people)
    row = made(change.random, repo.base, number, who, hub.clock.now())
    key = key_in(change.stream, row)
    getattr(repo, change.stream)[key] = row
    action = "submitted" if change.stream == "reviews" else "created"
    _told(hub, repo, change.stream, row, action, +1)
    return f"{repo.row['id']}/{key}"


@MUTATIONS.of(tuple(PARENTS), "change")
def change_of_parent(hub: Hub, change: Change) -> None:
    """The text is edited; a review may be dismissed instead, and has no time that says so."""
    repo, key = _place(hub, change)
    held = getattr(repo, change.stream)
    text = f"{sentence(change.random)} ({change.random.random():.6f})"
    if change.stream == "reviews":
        held[key] = {**held[key], "body": text, "state": "DISMISSED", **change.record}
        _told(hub, repo, change.stream, held[key], "dismissed", 0)
    else:
        fields = change.record or {"body": text}
        held[key] = touched(held[key], hub.clock.now(), **fields)
        _told(hub, repo, change.stream, held[key], "edited", 0)


@MUTATIONS.of(("issue_comments", "review_comments"), "delete")
def delete_comment(hub: Hub, change: Change) -> None:
    repo, key = _place(hub, change)
    row = getattr(repo, change.stream).pop(key)
    _told(hub, repo, change.stream, row, "deleted", -1)


def _told(hub: Hub, repo: Repo, stream: str, row: Json, action: str, more: int) -> None:
    """Moves what it hangs on, and tells of it. An edit of a comment moves nothing."""
    number, (event, name) = _number(row), KINDS[stream]
    parent = PARENTS[stream]
    held = repo.issues if parent == "issue" else repo.pull_requests
    if action != "edited" and number in held:
        counted = {"comments": held[number]["comments"] + more} if parent == "issue" else {}
        held[number] = touched(held[number], hub.clock.now(), **counted)
    shown = held.get(number) or {"number": int(number)}
    hub.news(event, action, repo, **{parent: shown, name: row})


@MUTATIONS.of("commits", "add")
def push(hub: Hub, change: Change) -> str:
    """A commit; or a merge of a branch on which one was made days ago."""
    repo, random = _some(hub, change.random), change.random
    who, now, before = random.choice(hub.people), hub.clock.now(), repo.head
    parents, made = [before] if before else [], []
    if before and random.random() < 0.3:
        old = now - timedelta(days=random.randint(2, 60))
        made.append(rows.commit(random, repo.base, parents, who, old))
        parents = [before, made[0]["sha"]]
    made.append(rows.commit(random, repo.base, parents, who, now))
    repo.commits |= {one["sha"]: one for one in made}
    _moved(hub, repo, made[-1]["sha"], made)
    return f"{repo.row['id']}/{made[-1]['sha']}"


@MUTATIONS.of("commits", "delete")
def force_push(hub: Hub, change: Change) -> None:
    """The branch goes back to before its last commit: what only that one led to is gone."""
    repo, key = _place(hub, change)
    parents = repo.commits[key]["parents"]
    if key != repo.head or not parents:
        raise RefusedError("a branch is put back from its end", status=409)
    _moved(hub, repo, parents[0]["sha"], [], forced=True)


def _moved(hub: Hub, repo: Repo, head: str, made: list[Json], *, forced: bool = False) -> None:
    now, before = stamp_in_seconds(hub.clock.now()), repo.head
    repo.head, repo.row = head, {**repo.row, "pushed_at": max(repo.row["pushed_at"], now)}
    shown = [
        {"id": one["sha"], "message": one["commit"]["message"], "distinct": True, "added": [],
         "timestamp": one["commit"]["committer"]["date"], "author": one["commit"]["author"]}
        for one in made
    ]  # fmt: skip
    hub.news(
        "push", "", repo, ref=f"refs/heads/{repo.row['default_branch']}", after=head,
        before=before or "0" * 40, created=not before, deleted=False, forced=forced, commits=shown,
    )  # fmt: skip


@MUTATIONS.of(("releases", "labels", "milestones", "workflow_runs"), "add")
def add_other(hub: Hub, change: Change) -> str:
    repo, random, now = _some(hub, change.random), change.random, hub.clock.now()
    held, who = getattr(repo, change.stream), random.choice(hub.people)
    name = change.stream.removesuffix("s")
    if name == "label":
        row = rows.label(random, repo.base)
    elif name == "release":
        row = rows.release(random, repo.base, who, now)
    else:
        number = 1 + max(
            (one.get("number") or one["run_number"] for one in held.values()), default=0
        )
        row = getattr(rows, name)(random, repo.base, number, who, now)
    row |= change.record
    held[str(row["id"])] = row
    hub.news(name, "requested" if name == "workflow_run" else "created", repo, **{name: row})
    return f"{repo.row['id']}/{row['id']}"


@MUTATIONS.of(("releases", "labels", "milestones", "workflow_runs"), "change")
def change_other(hub: Hub, change: Change) -> None:
    repo, key = _place(hub, change)
    held, now = getattr(repo, change.stream), hub.clock.now()
    name, action = change.stream.removesuffix("s"), "edited"
    former, text = held[key], f"{sentence(change.random)} ({change.random.random():.6f})"
    if name == "workflow_run":
        lately = former["created_at"] > stamp_in_seconds(now - LATELY)
        if former["status"] == "completed" and not (lately or change.record):
            raise RefusedError("nobody runs it again", status=409)
        status = NEXT[former["status"]]
        action = "requested" if status == "queued" else status
        again = {"run_attempt": former["run_attempt"] + (status == "queued"), "status": status}
        done = change.random.choice(("success", "failure")) if status == "completed" else None
        held[key] = touched(former, now, **{"conclusion": done, **again, **change.record})
    elif name == "label":
        held[key] = {**former, "description": text[:100], **change.record}
    elif name == "release":
        # The field is new, and releases that were never edited do not have it.
        held[key] = {**former, "body": text, "updated_at": stamp_in_seconds(now), **change.record}
    else:
        closed = {"state": "closed", "closed_at": stamp_in_seconds(now)}
        fields = change.record or {"description": text, **closed}
        held[key] = touched(former, now, **fields)
    hub.news(name, action, repo, **{name: held[key]})


@MUTATIONS.of(("releases", "labels", "milestones", "workflow_runs"), "delete")
def delete_other(hub: Hub, change: Change) -> None:
    repo, key = _place(hub, change)
    row, name = getattr(repo, change.stream).pop(key), change.stream.removesuffix("s")
    if name != "workflow_run":  # nobody is told that a run was deleted
        hub.news(name, "deleted", repo, **{name: row})


def as_issue(row: Json) -> Json:
    """A pull request as the list of issues shows it."""
    shared = without(row, "head", "base", "draft", "merge_commit_sha", "merged_at", "issue_url")
    told = {"url": row["url"], "merged_at": row["merged_at"]}
    return {**shared, "url": row["issue_url"], "comments": 0, "pull_request": told}
