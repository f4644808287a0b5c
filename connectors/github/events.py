"""What GitHub's webhooks tell: which record of which repository is to be read again, or is gone.

Only the body is signed. Which event it is, is told by a header: so it is taken from what the body
holds, and a header that says otherwise is refused.

https://docs.github.com/en/webhooks/webhook-events-and-payloads (2026-11)
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from connectors import Delivery, Effect, Event, Record, SignatureError, each_event

OF_REPOSITORIES = (
    "issues", "pull_requests", "issue_comments", "reviews", "review_comments", "commits",
    "releases", "workflow_runs", "labels", "milestones",
)  # fmt: skip
# What events of every kind have, and no other.
PLAIN = {"action", "changes", "enterprise", "installation", "organization", "repository", "sender"}


def events(delivery: Delivery) -> Iterator[Event]:
    """The events of a delivery. Two hooks are told of one event under one id."""
    headers = delivery.headers
    hook, guid = headers["x-github-hook-id"], headers["x-github-delivery"]
    name = headers["x-github-event"]
    if name not in MEANINGS:
        return

    def read(body: Record) -> Iterator[Event]:
        for number, event in enumerate(MEANINGS[name](body)):
            said = ".".join(filter(None, (name, body.get("action"))))
            yield replace(event, id=f"{hook}:{guid}:{number}", type=said)

    body = delivery.json
    if _kind(body) != name:
        raise SignatureError("a header says another event than what is signed")
    for event in each_event((body,), read):
        yield replace(event, watch_id=hook)


def _kind(body: Record) -> str:
    """Which event it is, by what it is about."""
    if "review" in body:
        return "pull_request_review"
    if "comment" in body:
        return "issue_comment" if "issue" in body else "pull_request_review_comment"
    if "commits" in body and "ref" in body:
        return "push"
    for name, key in KEYS.items():
        if key in body:
            return name
    return "repository" if "repository" in body and not body.keys() - PLAIN else ""


KEYS = {
    "issues": "issue",
    "pull_request": "pull_request",
    "release": "release",
    "workflow_run": "workflow_run",
    # These are named by events of issues, too, when they are put on one.
    "label": "label",
    "milestone": "milestone",
    "organization": "membership",
}


def _event(effect: Effect, *streams: str, key: str = "") -> Event:
    return Event(id="", type="", effect=effect, streams=streams, key=key)


def _about(body: Record, stream: str, *key: object, gone: bool = False) -> Event:
    """A record of the repository: it is read again, for what events hold has other fields than what
    lists show."""
    place = "/".join(str(part) for part in (body["repository"]["id"], *key))
    return _event(Effect.DELETED if gone else Effect.READ, stream, key=place)


def _issue(body: Record) -> Iterator[Event]:
    gone = body["action"] in ("deleted", "transferred")
    yield _about(body, "issues", body["issue"]["number"], gone=gone)


def _issue_comment(body: Record) -> Iterator[Event]:
    gone = body["action"] == "deleted"
    yield _about(body, "issue_comments", body["comment"]["id"], gone=gone)
    on = "pull_requests" if "pull_request" in body["issue"] else "issues"
    yield _about(body, on, body["issue"]["number"])


def _pull_request(body: Record) -> Iterator[Event]:
    yield _about(body, "pull_requests", body["pull_request"]["number"])


def _review(body: Record) -> Iterator[Event]:
    yield _about(body, "reviews", body["pull_request"]["number"], body["review"]["id"])
    yield from _pull_request(body)


def _review_comment(body: Record) -> Iterator[Event]:
    gone = body["action"] == "deleted"
    yield _about(body, "review_comments", body["comment"]["id"], gone=gone)
    yield from _pull_request(body)


def _push(body: Record) -> Iterator[Event]:
    """Only a comparison tells what came into the default branch, and what a force push took out."""
    if body["ref"] == f"refs/heads/{body['repository']['default_branch']}":
        yield _event(Effect.HINT, "commits")


def _release(body: Record) -> Iterator[Event]:
    yield _about(body, "releases", body["release"]["id"], gone=body["action"] == "deleted")


def _workflow_run(body: Record) -> Iterator[Event]:
    yield _about(body, "workflow_runs", body["workflow_run"]["id"])


def _repository(body: Record) -> Iterator[Event]:
    if body["action"] == "deleted":
        yield _event(Effect.DELETED, "repositories", key=str(body["repository"]["id"]))
        for stream in (*OF_REPOSITORIES, "issue_events"):
            yield _event(Effect.EMPTIED, stream, key=f"{body['repository']['id']}/")
    elif body["action"] in ("created", "transferred"):
        yield _event(Effect.HINT, "repositories", *OF_REPOSITORIES)
    else:
        yield _event(Effect.HINT, "repositories")


MEANINGS: dict[str, Callable[[Record], Iterator[Event]]] = {
    "issues": _issue,
    "issue_comment": _issue_comment,
    "pull_request": _pull_request,
    "pull_request_review": _review,
    "pull_request_review_comment": _review_comment,
    "push": _push,
    "release": _release,
    "workflow_run": _workflow_run,
    "label": lambda body: iter((_event(Effect.HINT, "labels"),)),
    "milestone": lambda body: iter((_event(Effect.HINT, "milestones"),)),
    "repository": _repository,
    "organization": lambda body: iter((_event(Effect.HINT, "organization_members"),)),
}
