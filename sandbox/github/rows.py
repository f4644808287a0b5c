"""Rows as GitHub's REST API shows them: people, repositories, issues and what hangs on them."""

from datetime import datetime, timedelta
from random import Random
from typing import Any

from sandbox.kernel.clock import stamp_in_seconds
from sandbox.kernel.data import TOPICS, person, plain, sentence
from sandbox.kernel.values import Json

HOST = "api.github.com"
API = f"https://{HOST}"


def new_id(random: Random) -> int:
    return random.randrange(10**9, 10**11)


def node_id(kind: str, number: int) -> str:
    return f"{kind}_kw{number:x}"


def sha(random: Random) -> str:
    return f"{random.getrandbits(160):040x}"


def user(random: Random) -> Json:
    login = f"{plain(''.join(person(random)))}-{random.randint(1, 10**6)}"
    return user_row(new_id(random), login)


def user_row(id: int, login: str, kind: str = "User") -> Json:
    return {
        "login": login, "id": id, "node_id": node_id("U", id),
        "avatar_url": f"https://avatars.githubusercontent.com/u/{id}?v=4",
        "url": f"{API}/users/{login}", "html_url": f"https://github.com/{login}", "type": kind,
        "user_view_type": "public", "site_admin": False,
    }  # fmt: skip


def repository(random: Random, owner: Json, at: datetime) -> Json:
    id, name = (
        new_id(random),
        f"{random.choice(TOPICS).replace(' ', '-')}-{random.randint(1, 9999)}",
    )
    full = f"{owner['login']}/{name}"
    when = stamp_in_seconds(at)
    return {
        "id": id,
        "node_id": node_id("R", id),
        "name": name,
        "full_name": full,
        "private": random.random() < 0.5,
        "owner": owner,
        "html_url": f"https://github.com/{full}",
        "description": sentence(random),
        "fork": False,
        "url": f"{API}/repos/{full}",
        "created_at": when,
        "updated_at": when,
        "pushed_at": when,
        "homepage": None,
        "size": random.randint(1, 9999),
        "stargazers_count": 0,
        "language": random.choice(("Python", "Go", "TypeScript")),
        "has_issues": True,
        "has_wiki": True,
        "forks_count": 0,
        "archived": False,
        "disabled": False,
        "open_issues_count": 0,
        "topics": [],
        "visibility": "private",
        "default_branch": "main",
        "permissions": {
            "admin": True,
            "maintain": True,
            "push": True,
            "triage": True,
            "pull": True,
        },
    }


def _made(kind: str, random: Random, who: Json, at: datetime) -> Json:
    id, when = new_id(random), stamp_in_seconds(at)
    return {
        "id": id, "node_id": node_id(kind, id), "user": who, "created_at": when, "updated_at": when,
        "author_association": "MEMBER",
    }  # fmt: skip


def issue(random: Random, base: str, number: int, who: Json, at: datetime) -> Json:
    return {
        **_made("I", random, who, at), "url": f"{base}/issues/{number}", "repository_url": base,
        "number": number, "title": sentence(random)[:60], "labels": [], "state": "open",
        "state_reason": None, "locked": False, "assignee": who if number % 3 == 0 else None,
        "assignees": [who] if number % 3 == 0 else [], "milestone": None, "comments": 0,
        "closed_at": None, "body": sentence(random),
    }  # fmt: skip


def pull_request(random: Random, base: str, number: int, who: Json, at: datetime) -> Json:
    return {
        **_made("PR", random, who, at),
        "url": f"{base}/pulls/{number}",
        "issue_url": f"{base}/issues/{number}",
        "number": number,
        "state": "open",
        "locked": False,
        "title": sentence(random)[:60],
        "body": sentence(random),
        "labels": [],
        "milestone": None,
        "closed_at": None,
        "merged_at": None,
        "merge_commit_sha": sha(random),
        "assignees": [],
        "requested_reviewers": [],
        "draft": number % 5 == 0,
        "head": {"label": f"{who['login']}:topic-{number}", "ref": f"topic-{number}",
                 "sha": sha(random), "user": who},
        "base": {"label": "main", "ref": "main", "sha": sha(random)},
    }  # fmt: skip


# What only the answer about a single pull request has (the schema pull-request, and not
# pull-request-simple, of GitHub's description of its API).
def statistics(row: Json) -> Json:
    return {
        "merged": row["merged_at"] is not None, "mergeable": None, "rebaseable": None,
        "mergeable_state": "unknown", "merged_by": row["user"] if row["merged_at"] else None,
        "comments": 0, "review_comments": 0, "maintainer_can_modify": False,
        "commits": 1 + row["number"] % 7, "additions": row["number"] * 3,
        "deletions": row["number"], "changed_files": 1 + row["number"] % 4,
    }  # fmt: skip


def issue_comment(random: Random, base: str, number: int, who: Json, at: datetime) -> Json:
    row = _made("IC", random, who, at)
    return {
        **row, "url": f"{base}/issues/comments/{row['id']}",
        "issue_url": f"{base}/issues/{number}", "body": sentence(random),
        "performed_via_github_app": None,
    }  # fmt: skip


def review(random: Random, base: str, number: int, who: Json, at: datetime) -> Json:
    id = new_id(random)
    return {
        "id": id, "node_id": node_id("PRR", id), "user": who, "body": sentence(random),
        "state": random.choice(("APPROVED", "CHANGES_REQUESTED", "COMMENTED")),
        "pull_request_url": f"{base}/pulls/{number}", "author_association": "MEMBER",
        "submitted_at": stamp_in_seconds(at), "commit_id": sha(random),
    }  # fmt: skip


def review_comment(random: Random, base: str, number: int, who: Json, at: datetime) -> Json:
    row = _made("PRRC", random, who, at)
    return {
        **row, "url": f"{base}/pulls/comments/{row['id']}",
        "pull_request_url": f"{base}/pulls/{number}", "pull_request_review_id": new_id(random),
        "diff_hunk": "@@ -1 +1 @@", "path": f"src/{plain(who['login'])}.py",
        "line": random.randint(1, 400), "commit_id": sha(random), "body": sentence(random),
    }  # fmt: skip


def commit(random: Random, base: str, parents: list[str], who: Json, at: datetime) -> Json:
    """One whose author GitHub does not know has none; its name stands in the commit itself."""
    id, when = sha(random), stamp_in_seconds(at)
    signed = {"name": who["login"], "email": f"{who['login']}@mail.example", "date": when}
    known = who if random.random() < 0.8 else None
    return {
        "sha": id,
        "node_id": f"C_{id[:16]}",
        "commit": {
            "author": signed,
            "committer": signed,
            "message": sentence(random),
            "tree": {"sha": sha(random), "url": f"{base}/git/trees/{id}"},
            "comment_count": 0,
            "verification": {"verified": False, "reason": "unsigned"},
        },
        "url": f"{base}/commits/{id}",
        "html_url": f"https://github.com/{id}",
        "author": known,
        "committer": known,
        "parents": [{"sha": one, "url": f"{base}/commits/{one}"} for one in parents],
    }


def release(random: Random, base: str, who: Json, at: datetime) -> Json:
    id, when = new_id(random), stamp_in_seconds(at)
    tag = f"v{random.randint(0, 9)}.{random.randint(0, 99)}.{random.randint(0, 999)}"
    return {
        "url": f"{base}/releases/{id}", "id": id, "node_id": node_id("RE", id), "author": who,
        "tag_name": tag, "target_commitish": "main", "name": tag, "draft": False,
        "prerelease": random.random() < 0.2, "created_at": when, "published_at": when,
        "assets": [], "body": sentence(random),
    }  # fmt: skip


def workflow_run(random: Random, base: str, number: int, who: Json, at: datetime) -> Json:
    id, when = new_id(random), stamp_in_seconds(at)
    return {
        "id": id, "name": "CI", "node_id": node_id("WFR", id), "head_branch": "main",
        "head_sha": sha(random), "run_number": number, "run_attempt": 1,
        "event": random.choice(("push", "pull_request", "schedule")),
        "display_title": sentence(random)[:40], "status": "queued", "conclusion": None,
        "workflow_id": 7, "url": f"{base}/actions/runs/{id}", "created_at": when,
        "updated_at": when, "run_started_at": when, "actor": who,
    }  # fmt: skip


def issue_event(random: Random, base: str, what: Json, kind: str, at: datetime) -> Json:
    id = new_id(random)
    return {
        "id": id, "node_id": node_id("IE", id), "url": f"{base}/issues/events/{id}",
        "actor": what["user"], "event": kind, "commit_id": None,
        "created_at": stamp_in_seconds(at),
        "issue": {"id": what["id"], "number": what["number"], "url": what["url"]},
    }  # fmt: skip


def label(random: Random, base: str) -> Json:
    id, name = new_id(random), f"{random.choice(TOPICS)} {random.randint(1, 10**6)}"
    return {
        "id": id, "node_id": node_id("LA", id),
        "url": f"{base}/labels/{name.replace(' ', '%20')}", "name": name,
        "color": f"{random.getrandbits(24):06x}", "default": False,
        "description": sentence(random)[:80],
    }  # fmt: skip


def milestone(random: Random, base: str, number: int, who: Json, at: datetime) -> Json:
    id, when = new_id(random), stamp_in_seconds(at)
    return {
        "url": f"{base}/milestones/{number}", "id": id, "node_id": node_id("MI", id),
        "number": number, "title": f"{random.choice(TOPICS)} {number}",
        "description": sentence(random), "creator": who, "open_issues": 0, "closed_issues": 0,
        "state": "open", "created_at": when, "updated_at": when,
        "due_on": stamp_in_seconds(at + timedelta(days=30)), "closed_at": None,
    }  # fmt: skip


def touched(row: Json, at: datetime, **fields: Any) -> Json:
    """The row after a change: its time never goes back."""
    return {**row, **fields, "updated_at": max(row["updated_at"], stamp_in_seconds(at))}
