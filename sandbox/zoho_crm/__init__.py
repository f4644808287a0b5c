"""Zoho CRM on loopback: modules with their records and deletions, users, notification channels.

https://www.zoho.com/crm/developer/docs/api/v8/

Only reading is offered. Longer than 700 lines: two data centres, listings with page numbers, page
tokens and times, and a dozen modules of which each is shown and refused by itself.
"""

from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Limit, Vendor
from sandbox.zoho_crm.api import ROUTES, rate_headers, trouble
from sandbox.zoho_crm.auth import AUTH, CENTRES, centre_of, token_of
from sandbox.zoho_crm.auth import ROUTES as AUTH_ROUTES
from sandbox.zoho_crm.events import ROUTES as WATCH_ROUTES
from sandbox.zoho_crm.events import SENDER
from sandbox.zoho_crm.seed import MUTATIONS, new, there
from sandbox.zoho_crm.store import MODULE_OF, STREAM_OF, Org, store

DAY = 86_400.0
IN_MODULES = ("records", "deleted_records", "fields")


def refuse_part(org: Org, body: Json) -> Json:
    """A module is closed to who consented from now on; or, with `on` false, all are open again."""
    if not body.get("on", True):
        for module in org.modules.values():
            module.refused = False
        return {"part": "", "keys": []}
    stream = str(body.get("stream"))
    if stream not in IN_MODULES:
        return {"part": "", "keys": []}
    module = next(module for module in org.others() if module.records)
    module.refused = True
    part = f"{module.name}:"
    return {"part": part, "keys": [key for key in store(org, stream) if key.startswith(part)]}


def hide(org: Org, body: Json) -> Json:
    """Some records are no longer shared with who consented, and nothing tells of it."""
    stream = str(body.get("stream"))
    if stream not in (*STREAM_OF.values(), "records"):
        return {"part": "", "keys": []}
    module = org.modules[MODULE_OF.get(stream, "Tasks")]
    hidden = list(module.records)[:2]
    module.hidden.update(hidden)
    prefix = "" if stream in MODULE_OF else f"{module.name}:"
    return {"part": "", "keys": [prefix + id_ for id_ in hidden]}


vendor = Vendor(
    name="zoho_crm",
    title="Zoho CRM",
    base_url="https://www.zohoapis.com/crm/v8",
    auth=AUTH,
    routes=(*AUTH_ROUTES, *WATCH_ROUTES, *ROUTES),
    streams=(
        *STREAM_OF.values(),
        "deleted_records",
        "users",
        "records",
        "modules",
        "fields",
    ),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=there,
    trouble=trouble,
    limits=(Limit("credits", 5_000, DAY),),
    rate_headers=rate_headers,
    expire_checkpoints=lambda org: org.tokens.clear(),
    account_controls={"refuse_part": refuse_part, "hide": hide},
    webhook=SENDER,
    token=token_of,
    answers=lambda account_id: {"accounts_server": CENTRES[centre_of(account_id)][0]},
    three_pages_at=450,
)
