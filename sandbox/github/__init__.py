"""GitHub on loopback: repositories and what hangs on them, an organisation, hooks.

https://docs.github.com/en/rest
"""

from sandbox.github.api import ROUTES, VENDOR_LIMITS, rate_headers, trouble
from sandbox.github.auth import AUTH, AUTH_ROUTES, SITE, TOKEN, token_of
from sandbox.github.events import HOOK_ROUTES, SENDER
from sandbox.github.rows import API
from sandbox.github.seed import new
from sandbox.github.store import MUTATIONS, STREAMS, Hub, alterable, part_of, store
from sandbox.kernel.values import Json, RefusedError
from sandbox.kernel.vendor import Vendor


def app_settings(hub: Hub, body: Json) -> Json:
    """Whether the app's tokens end (`expires`), as those of a GitHub App do; whether the
    organisation wants a sign-in before lists show what it owns (`partial`); and whether addresses
    in rows lead to this sandbox (`links`), for an SDK that follows them."""
    settings = ("expires", "partial", "links")
    for name in settings:
        setattr(hub, name, bool(body.get(name, getattr(hub, name))))
    return {name: getattr(hub, name) for name in settings}


def tell(hub: Hub, body: Json) -> Json:
    """What no change of data causes: `{"event": "github_app_authorization", "action": "revoked"}`,
    or an installation's."""
    event, action = str(body.get("event")), str(body.get("action"))
    more: dict[str, Json] = {
        "github_app_authorization": {},
        "installation": {"repositories": []},
        "installation_repositories": {"repositories_added": [], "repositories_removed": []},
    }
    if event not in more:
        raise RefusedError(f"event must be of: {', '.join(more)}", status=400)
    hub.news(event, action, None, **more[event])
    return {"told": event}


def refuse_part(hub: Hub, body: Json) -> Json:
    """One repository (of members: the organisation) cannot be read from now on, as after it began
    to want a sign-in; or, with `on` false, all can again."""
    part, keys = part_of(hub, str(body.get("stream")))
    if not body.get("on", True):
        hub.refused.clear()
    elif part:
        hub.refused.add(part)
    return {"part": f"{part}/" if part else "", "keys": keys}


def hide(hub: Hub, body: Json) -> Json:
    """A repository is no longer shown to who consented, and nothing tells it."""
    stream = str(body.get("stream"))
    if stream == "organization_members" or not hub.repos:
        return {"part": "", "keys": []}
    part, keys = (next(iter(hub.shown())), []) if stream == "repositories" else part_of(hub, stream)
    hub.repos[part].hidden = True
    return {"part": part, "keys": keys or [part]}


def lose(hub: Hub, body: Json) -> Json:
    """A commit that no branch leads to is cleared away: `{"repository", "sha"}`."""
    repo = hub.repos.get(str(body.get("repository")))
    if repo is None or body.get("sha") not in repo.commits:
        raise RefusedError("there is no such commit")
    if any(row["sha"] == body["sha"] for row in repo.log()):
        raise RefusedError("a branch leads to it", status=409)
    del repo.commits[str(body["sha"])]
    return {}


vendor = Vendor(
    name="github",
    title="GitHub",
    base_url=API,
    auth=AUTH,
    routes=(*AUTH_ROUTES, *HOOK_ROUTES, *ROUTES),
    streams=STREAMS,
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    limits=VENDOR_LIMITS,
    rate_headers=rate_headers,
    account_controls={
        "app": app_settings,
        "refuse_part": refuse_part,
        "hide": hide,
        "lose": lose,
        "tell": tell,
    },
    webhook=SENDER,
    token=token_of,
    extras=lambda account_id, origin: {"token_url": f"{origin}/{SITE}{TOKEN}"},
    three_pages_at=300,
)
