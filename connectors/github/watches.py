"""GitHub's hooks: one on each organisation that the person administrates, one on each other
repository.

Each has a secret of its own. GitHub tells an event once: what failed, because we were away, is
asked for again for the three days that it is kept; after that, what changed is read.

https://docs.github.com/en/webhooks/using-webhooks/handling-failed-webhook-deliveries (2026-11)
"""

from datetime import timedelta

from connectors import (
    Calls,
    CheckpointExpiredError,
    Context,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    Request,
    Watch,
    WatchRequest,
    Webhook,
    ask,
)
from connectors.github.events import MEANINGS, OF_REPOSITORIES, events, verify, verify_event
from connectors.github.reading import BY_AGE, every
from connectors.kernel.webhooks import WatchSteps

KEPT = timedelta(days=3)
SECRET = "GITHUB_WEBHOOK_SECRET"  # noqa: S105


def resources(context: Context) -> Calls[tuple[str, ...]]:
    """Their paths. A hook on an organisation tells of all that it has, and of what is new in it."""
    try:
        found, _ = yield from every("/user/memberships/orgs", {"state": "active"})
    except NotAllowedError:
        found = []
    orgs = {row["organization"]["id"] for row in found if row["role"] == "admin"}
    repos, _ = yield from every("/user/repos", BY_AGE)
    single = [f"repositories/{row['id']}" for row in repos if row["owner"]["id"] not in orgs]
    return (*(f"organizations/{id}" for id in sorted(orgs)), *single)


def create(wanted: WatchRequest) -> WatchSteps:
    """Of two hooks on one thing the addresses must differ: another tenant may have one, too."""
    told = [name for name in MEANINGS if name != "organization" or _is_org(wanted.resource)]
    config = {
        "url": f"{wanted.address}?watch={wanted.id}",
        "content_type": "json",
        "secret": wanted.secret,
        "insecure_ssl": "0",
    }
    body = {"name": "web", "active": True, "events": told, "config": config}
    try:
        answer = yield from ask(Request.post(f"/{wanted.resource}/hooks", json=body, expect=(422,)))
    except NotAllowedError:
        return NoWatch("GitHub takes hooks only from who administrates the repository")
    if answer.status == 422:
        return NoWatch("GitHub takes no further hook here")
    return _stands(str(answer.json["id"]), wanted)


def renew(wanted: WatchRequest, watched: MadeWatch) -> WatchSteps:
    """Looks whether it is still there, and has sent again what we did not get."""
    path = f"/{wanted.resource}/hooks/{watched.vendor_id}"
    answer = yield from ask(Request.get(path, expect=(404,)))
    if answer.status == 404:
        raise CheckpointExpiredError("the hook was deleted at GitHub")
    if not answer.json["active"]:
        return NoWatch("the hook was switched off at GitHub")
    listed = yield from ask(Request.get(f"{path}/deliveries", params={"per_page": 100}))
    got = {row["guid"] for row in listed.json if row["status_code"] < 400}
    failed = {row["guid"]: row["id"] for row in listed.json if row["guid"] not in got}
    for id in failed.values():
        yield from ask(Request.post(f"{path}/deliveries/{id}/attempts", expect=(404, 422)))
    return _stands(watched.vendor_id, wanted)


def delete(watched: MadeWatch, context: Context) -> Calls[None]:
    """One that is gone already is no longer found; nor is one that we may no longer see."""
    path = f"/{watched.state['resource']}/hooks/{watched.vendor_id}"
    yield Request("DELETE", path, expect=(403, 404))


def stands(context: Context) -> Calls[None]:
    """Whether our token still works: a 401 is raised as what it is."""
    yield from ask(Request.get("/user"))


def _is_org(resource: str) -> bool:
    return resource.startswith("organizations/")


def _stands(id: str, wanted: WatchRequest) -> MadeWatch:
    """It has no end of its own; what it told while nobody looked is lost after three days."""
    ends = wanted.context.now + KEPT
    return MadeWatch(vendor_id=id, expires_at=ends, state={"resource": wanted.resource})


def _streams(resource: str) -> tuple[str, ...]:
    more = ("repositories", "organization_members") if _is_org(resource) else ()
    return (*OF_REPOSITORIES, *more)


watch = Watch(
    resources=resources,
    create=create,
    renew=renew,
    delete=delete,
    streams=_streams,
    lifetime=KEPT,
    needs=(SECRET,),
)
webhook = Webhook(
    events=lambda delivery: tuple(events(delivery)),
    verified_by=SECRET,
    verify=verify,
    verify_event=verify_event,
    covers=OF_REPOSITORIES,
    stands=stands,
    setup="Hooks on repositories and organizations are made by themselves. Of a GitHub App, set "
    "this address as its webhook URL, too, with this secret.",
    proof="The body, by the secret of one hook, or the operator's of what a GitHub App is told; no "
    "header, and not when it was sent. So which event it is, is taken from the body, and whose it "
    "is, from the hook whose secret fits.",
)
