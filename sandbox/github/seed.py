"""A made-up account: a person, an organisation, and repositories of both."""

from datetime import datetime, timedelta
from typing import Any

from sandbox.github import rows
from sandbox.github.store import Hub, Repo, key_in
from sandbox.kernel.clock import stamp_in_seconds
from sandbox.kernel.data import moment
from sandbox.kernel.values import Json, Seed

# How long a stream begins, as a share of the biggest, and how much of it the first repository has.
SHARES = {
    "issues": 0.5, "pull_requests": 0.15, "issue_comments": 1.0, "reviews": 0.3,
    "review_comments": 0.3, "releases": 0.08, "workflow_runs": 0.5, "issue_events": 0.2,
    "labels": 0.1, "milestones": 0.08, "commits": 0.9,
}  # fmt: skip
MOST_IN_FIRST = 0.75


def new(seed: Seed) -> Hub:
    random, now = seed.random, seed.clock.now()
    hub = Hub(seed.account_id, seed.name, seed.clock, seed.tell)
    owner = rows.user_row(rows.new_id(random), f"{seed.name}-works", "Organization")
    hub.org = owner
    hub.people = [rows.user(random) for _ in range(6)]
    if not seed.size:
        return hub
    for row in [hub.user, *hub.people, *(rows.user(random) for _ in range(seed.length(0.1)))]:
        hub.members[str(row["id"])] = row
    for number in range(max(2, min(6, seed.size // 40))):
        born = moment(random, now - timedelta(days=401), 300)
        row = rows.repository(random, hub.org if number % 2 else hub.user, born)
        hub.repos[str(row["id"])] = Repo(row)
    for stream, share in SHARES.items():
        for _ in range(seed.length(share)):
            _fill(hub, stream, seed, now)
    return hub


def _fill(hub: Hub, stream: str, seed: Seed, now: datetime) -> None:
    random, found = seed.random, list(hub.repos.values())
    # The last repository stays without a commit.
    places = found[1:-1] if stream == "commits" else found[1:]
    repo = found[0] if random.random() < MOST_IN_FIRST or not places else random.choice(places)
    who = random.choice(hub.people)
    made = moment(random, now - timedelta(days=1), 400)
    if stream == "commits":
        row = rows.commit(random, repo.base, [repo.head] if repo.head else [], who, made)
        repo.head = row["sha"]
    else:
        found_row = _row(repo, stream, seed, who, made)
        if found_row is None:
            return
        row = found_row
        if "updated_at" in row and stream != "workflow_runs":
            row["updated_at"] = stamp_in_seconds(moment(random, now - timedelta(hours=2), 1))
    getattr(repo, stream)[key_in(stream, row)] = row


def _row(repo: Repo, stream: str, seed: Seed, who: Json, made: datetime) -> Json | None:
    random, base = seed.random, repo.base
    held: dict[str, Any] = getattr(repo, stream)
    match stream:
        case "issues" | "pull_requests":
            repo.number += 1
            row = getattr(rows, stream.removesuffix("s"))(random, base, repo.number, who, made)
            if random.random() < 0.4:
                row |= {"state": "closed", "closed_at": row["created_at"]}
                if stream == "pull_requests":
                    row["merged_at"] = row["created_at"]
            return dict(row)
        case "issue_comments" | "reviews" | "review_comments" | "issue_events":
            parents = repo.pull_requests if "review" in stream else repo.issues
            if not parents:
                return None
            number = random.choice(list(parents))
            if stream == "issue_events":
                return rows.issue_event(random, base, parents[number], "labeled", made)
            if stream == "issue_comments":
                parents[number]["comments"] += 1
            made_row = getattr(rows, stream.removesuffix("s"))
            return dict(made_row(random, base, int(number), who, made))
        case "labels":
            return rows.label(random, base)
        case "releases":
            row = rows.release(random, base, who, made)
            return {**row, "updated_at": row["created_at"]} if random.random() < 0.5 else row
        case "milestones":
            return rows.milestone(random, base, len(held) + 1, who, made)
        case _:
            run = rows.workflow_run(random, base, len(held) + 1, who, made)
            return {**run, "status": "completed", "conclusion": "success"}
