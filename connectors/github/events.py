"""What GitHub's webhooks tell: which record of which repository is to be read again, or is gone.

A hook on a repository or an organization has a secret of its own, which proves its deliveries. What
a GitHub App is told as a whole is proven by the operator's. Only the body is signed. A header says
which secret it must be; another one which event it is: that is taken from what the body holds, and
a header that says otherwise is refused.

https://docs.github.com/en/webhooks/webhook-events-and-payloads (2026-11)
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from connectors import (
    Delivery,
    Effect,
    Event,
    Record,
    SignatureError,
    VerificationKeys,
    each_event,
)
from connectors.kernel.signatures import hmac_signature, per_watch
from connectors.kernel.statuses import PARSE_ERRORS

OF_REPOSITORIES = (
    "issues", "pull_requests", "issue_comments", "reviews", "review_comments", "commits",
    "releases", "workflow_runs", "labels", "milestones",
)  # fmt: skip
# What events of every kind have, and no other.
PLAIN = {
    "action", "changes", "enterprise", "installation", "organization", "repositories", "repository",
    "requester", "sender",
}  # fmt: skip


_signed = hmac_signature("x-hub-signature-256", prefix="sha256=")
verify_event = per_watch(_signed)


def is_of_app(delivery: Delivery) -> bool:
    return delivery.headers.get("x-github-hook-installation-target-type") == "integration"


def verify(delivery: Delivery, proof: VerificationKeys) -> None:
    """Of what the app is told. All others are of a hook, whose secret proves each event."""
    if is_of_app(delivery):
        _signed(delivery, proof)


def events(delivery: Delivery) -> Iterator[Event]:
    """The events of a delivery. Two hooks are told of one event under one id."""
    headers = delivery.headers
    name, hook = headers.get("x-github-event", ""), headers.get("x-github-hook-id", "")
    meaning = (OF_APP if is_of_app(delivery) else MEANINGS).get(name)
    try:
        body, guid = delivery.json, headers["x-github-delivery"]
        kind = _kind(body)
    except PARSE_ERRORS:
        raise SignatureError("this is no delivery of GitHub's") from None
    if not hook or (meaning is not None and kind != name):
        raise SignatureError("a header says another event than what is signed")
    if meaning is None:
        return

    def read(body: Record) -> Iterator[Event]:
        for number, event in enumerate(meaning(body)):
            said = ".".join(filter(None, (name, body.get("action"))))
            yield replace(event, id=f"{hook}:{guid}:{number}", type=said)

    for event in each_event((body,), read):
        if not is_of_app(delivery):
            yield replace(event, watch_id=hook)
        elif account := _account(body):
            yield replace(event, account_id=account)


def _account(body: Record) -> str:
    """Whose event of the app it is: the person's who owns the repository, or who did it. Which
    people of an organization are connected, none of them says."""
    owner = body["repository"]["owner"] if "repository" in body else body["sender"]
    return str(owner["id"]) if owner["type"] == "User" else ""


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
    if body.keys() - PLAIN:
        return ""
    if "repository" in body:
        return "repository"
    return "installation" if "installation" in body else "github_app_authorization"


KEYS = {
    "issues": "issue",
    "pull_request": "pull_request",
    "release": "release",
    "workflow_run": "workflow_run",
    # These are named by events of issues, too, when they are put on one.
    "label": "label",
    "milestone": "milestone",
    "organization": "membership",
    "installation_repositories": "repositories_added",
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


def _revoked(body: Record) -> Iterator[Event]:
    if body["action"] == "revoked":
        yield _event(Effect.REVOKED)


def _installed(body: Record) -> Iterator[Event]:
    """The app sees more than before, or less: what it no longer sees is only hidden."""
    yield _event(Effect.HINT, "repositories", *OF_REPOSITORIES)


OF_APP = {
    **MEANINGS,
    "github_app_authorization": _revoked,
    "installation": _installed,
    "installation_repositories": _installed,
}
