"""Airtable on loopback: bases, tables, records and the logs of webhooks of one person.

https://airtable.com/developers/web/api/introduction
https://airtable.com/developers/web/guides/webhooks-api

Longer than 1,000 lines: formulas have a reader of their own, listings and logs end with time, and
tables are made with a field of each kind, which can be renamed, added and taken away.
"""

import base64
import hmac
import json
from datetime import timedelta
from random import Random

from starlette.responses import Response

from sandbox.airtable.api import HOST, ROUTES, trouble
from sandbox.airtable.seed import MUTATIONS, alterable, new
from sandbox.airtable.store import Home, new_id, store
from sandbox.kernel.clock import stamp
from sandbox.kernel.data import person
from sandbox.kernel.oauth import Call, Issue, OAuth, Refusal, Rotation, refuse
from sandbox.kernel.values import Address, Json, RefusedError
from sandbox.kernel.vendor import Limit, Vendor
from sandbox.kernel.webhooks import Delivery, Event, Message, Sender, again_after, to_watches

REFRESH_TTL = timedelta(days=60)
IN_TABLES = ("records", "attachments", "record_links")
IN_SCHEMA = ("tables", "fields", "views")


def token_answer(issue: Issue) -> Json:
    """A refresh ends the former access token, too."""
    if issue.refreshed and issue.call:
        now, server = issue.call.clock.time(), issue.call.server
        for token in server.access_tokens.values():
            if token.grant is issue.grant and token.value != issue.access_token:
                token.dies_at = now
    return {**issue.body(), "refresh_expires_in": int(REFRESH_TTL.total_seconds())}


def refuse_token(refusal: Refusal, call: Call) -> Response:
    """A refresh token that comes a second time was stolen, for all that Airtable knows: the consent
    is over."""
    if refusal.cause == "refresh_token":
        known = call.server.refresh_tokens.get(call.form().get("refresh_token", ""))
        if known is not None:
            known.grant.ended = True
    return refuse(refusal, call)


def _new_account(random: Random) -> tuple[str, str]:
    return new_id("usr", random), " ".join(person(random))


AUTH = OAuth(
    name="airtable",
    client_id="0a1b2c3d-sandbox-airtable",
    client_secret="sandbox-airtable-secret",  # pragma: allowlist secret
    authorize=(("airtable.com", "/oauth2/v1/authorize"),),
    token=(("airtable.com", "/oauth2/v1/token"),),
    scopes=("data.records:read", "schema.bases:read", "webhook:manage"),
    new_account=_new_account,
    account_pattern=r"usr[A-Za-z0-9]{1,20}",
    client_auth="basic",
    pkce="required",
    access_ttl=timedelta(hours=1),
    rotation=Rotation("always", ttl=REFRESH_TTL),
    answer=token_answer,
    refuse=refuse_token,
)


def compose(delivery: Delivery) -> Message:
    """A ping: that there is something new in a log, and not what."""
    what = delivery.events[0].what
    body = {"base": {"id": what["base"]}, "webhook": {"id": what["webhook"]}}
    raw = json.dumps({**body, "timestamp": stamp(delivery.events[0].at)}).encode()
    try:
        key = base64.b64decode(delivery.address.secret, validate=True)
    except ValueError:  # somebody who does not know the secret
        key = delivery.address.secret.encode()
    mac = f"hmac-sha256={hmac.digest(key, raw, 'sha256').hex()}"
    headers = {"Content-Type": "application/json", "X-Airtable-Content-MAC": mac}
    return Message(url=delivery.address.url, headers=headers, body=raw)


def _concerns(event: Event, watch: Address) -> bool:
    return bool(event.what["webhook"] == watch.id)


SENDER = Sender(
    compose=compose,
    notices=to_watches(_concerns),
    deadline=25.0,
    retry=again_after(10, 60, 600, 3600),
    acknowledges=lambda answered: answered.status in (200, 204),
)


# -- Controls -------------------------------------------------------------------------------------


def refuse_part(home: Home, body: Json) -> Json:
    """A table cannot be read from now on, or a base does not show its schema; or, with `on` false,
    all can again."""
    stream = str(body.get("stream"))
    if not body.get("on", True):
        for base in home.bases.values():
            base.refused = False
            for table in base.tables.values():
                table.refused = False
        return {"part": "", "keys": []}
    base = next(home.open_bases())
    if stream in IN_TABLES:
        # Of a base without a webhook: only there is each table asked each time.
        base, table = next(found for found in home.tables() if not found[0].hooks)
        table.refused, part = True, f"{base.id}/{table.id}"
    elif stream in IN_SCHEMA:
        base.refused, part = True, base.id
    else:
        return {"part": "", "keys": []}
    return {"part": part, "keys": _under(home, stream, part)}


def hide(home: Home, body: Json) -> Json:
    """The person unticks a base."""
    stream, base = str(body.get("stream")), next(home.open_bases())
    keys = [base.id] if stream == "bases" else _under(home, stream, base.id)
    base.hidden = True
    return {"part": base.id, "keys": keys if stream in (*IN_TABLES, *IN_SCHEMA, "bases") else []}


def _under(home: Home, stream: str, part: str) -> list[str]:
    return [key for key in store(home, stream) if key.startswith(f"{part}/")]


def plan(home: Home, body: Json) -> Json:
    """Whether the plan has `webhooks`, and whether its calls of the month are `used_up`."""
    home.webhooks = bool(body.get("webhooks", home.webhooks))
    home.used_up = bool(body.get("used_up", home.used_up))
    return {"webhooks": home.webhooks, "used_up": home.used_up}


def recompute(home: Home, body: Json) -> Json:
    """A cell is computed anew, as by a rollup or by TODAY(): no time of a change moves, and no log
    tells."""
    key = str(body.get("record", ""))
    try:
        _, table = home.find(key)
        record = table.records[key.split("/")[2]]
    except (KeyError, IndexError, ValueError) as error:
        raise RefusedError(f"there is no record {key!r}") from error
    record.cells[table.of_type("formula")[0]] = body.get("value", {"error": "#ERROR!"})
    return {"record": key}


def break_hooks(home: Home, body: Json) -> Json:
    """The webhooks of all bases: switched off (`broken`), or no longer calling (`silent`)."""
    for base in home.bases.values():
        for hook in base.hooks.values():
            hook.broken = bool(body.get("broken", hook.broken))
            hook.notifies = not body.get("silent", not hook.notifies)
    return {"hooks": sum(len(base.hooks) for base in home.bases.values())}


def forget_listings(home: Home) -> None:
    home.listings.clear()


vendor = Vendor(
    name="airtable",
    title="Airtable",
    base_url=f"https://{HOST}/v0",
    auth=AUTH,
    routes=ROUTES,
    streams=("bases", *IN_SCHEMA, *IN_TABLES, "webhook_payloads", "revisions"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    # Five for each base; here of all bases that an account sees.
    limits=(Limit("second", 5, 1.0),),
    expire_checkpoints=forget_listings,
    account_controls={
        "refuse_part": refuse_part,
        "hide": hide,
        "plan": plan,
        "recompute": recompute,
        "break_hooks": break_hooks,
    },
    webhook=SENDER,
)
