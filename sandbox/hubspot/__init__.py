"""HubSpot on loopback: CRM objects, search, owners and account details.

https://developers.hubspot.com/docs/api-reference (2026-03 and the v3 paths).

Longer than 700 lines: search with its lag and limits, merges, archived records, associations, two
generations of OAuth paths, and signed batches of events.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from itertools import islice
from random import Random
from uuid import uuid4

from starlette.responses import Response

from sandbox.hubspot.auth import AUTH, AUTH_ROUTES, HOST
from sandbox.hubspot.errors import ROLLING, SECONDLY, error, invalid, is_search, missing, trouble
from sandbox.hubspot.events import SENDER
from sandbox.hubspot.kinds import DEFAULTS, PROPERTIES, SINGULAR, modified
from sandbox.hubspot.merges import associate, forget_contact, merge_objects, restore
from sandbox.hubspot.query import BadSearchError, search
from sandbox.hubspot.store import (
    LONGEST_LAG,
    MUTATIONS,
    Item,
    Portal,
    Table,
    alterable,
    archive,
    create,
    new,
    record,
    store,
    update,
)
from sandbox.kernel.clock import stamp
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, RefusedError, reply
from sandbox.kernel.vendor import Handler, Limit, Route, Usage, Vendor

LIST_MAX = 100
OWNERS_MAX = 500
BATCH_MAX = 100
# By which names a kind of object is asked for: in the dated paths deals have only their type id.
DATED = {
    "contacts": ("contacts", "0-1"),
    "companies": ("companies", "0-2"),
    "deals": ("0-3",),
    "tickets": ("tickets", "0-5"),
}
V3 = {**DATED, "deals": ("deals", "0-3")}
BASES = {"/crm/objects/2026-03": DATED, "/crm/v3/objects": V3}
READ_SCOPES = {kind: (f"crm.objects.{kind}.read",) for kind in PROPERTIES} | {
    "tickets": ("tickets",)
}
WRITE_SCOPES = {kind: (f"crm.objects.{kind}.write",) for kind in PROPERTIES} | {
    "tickets": ("tickets",)
}


def list_objects(kind: str, call: Call) -> Response:
    archived = _flag(call, "archived")
    limit, after = _limit(call, 10, LIST_MAX), _after(call)
    found = list(islice(_table(call, kind).after(after, archived=archived), limit + 1))
    names, others = _named(kind, _many(call, "properties")), _many(call, "associations")
    rows = [_shown(call, kind, item, names, others) for item in found[:limit]]
    return reply({"results": rows, **_paging(call, rows, more=len(found) > limit)})


def get_object(kind: str, call: Call) -> Response:
    """Asked for one that was merged away, HubSpot answers with the record that took it in."""
    id_property, table = call.query.get("idProperty", "hs_object_id"), _table(call, kind)
    item = _find(table, call.params["id"], id_property, _flag(call, "archived"))
    if item is None and call.params["id"] in table.merged:
        item = table.survivor(call.params["id"])
    if item is None:
        raise missing(kind, call.params["id"])
    names = _named(kind, _many(call, "properties"))
    return reply(_shown(call, kind, item, names, _many(call, "associations")))


def batch_read(kind: str, call: Call) -> Response:
    body, started = _body(call), call.clock.now()
    inputs = body.get("inputs")
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= BATCH_MAX:
        raise invalid(f"inputs must be a list of 1 to {BATCH_MAX}")
    names = _named(kind, _asked(body))
    id_property = str(body.get("idProperty") or "hs_object_id")
    asked = [str(one.get("id", "")) if isinstance(one, dict) else "" for one in inputs]
    table, archived = _table(call, kind), _flag(call, "archived")
    items = {id_: _find(table, id_, id_property, archived) for id_ in dict.fromkeys(asked)}
    lost_ids = [id_ for id_, item in items.items() if item is None]
    times = {"startedAt": stamp(started), "completedAt": stamp(call.clock.now())}
    answer = {
        "status": "COMPLETE",
        "results": [record(item, names) for item in items.values() if item],
        **times,
    }
    if not lost_ids:
        return reply(answer)
    lost = {
        "status": "error",
        "category": "OBJECT_NOT_FOUND",
        "message": f"Could not get some {kind}; they may be deleted or not exist",
        "context": {"ids": lost_ids},
    }
    return reply({**answer, "numErrors": 1, "errors": [lost]}, 207)


def search_objects(kind: str, call: Call) -> Response:
    body = _body(call)
    try:
        total, items, after = search(call.state, _table(call, kind), body)
    except BadSearchError as wrong:
        raise invalid(str(wrong)) from wrong
    names = _named(kind, _asked(body))
    paging = {"paging": {"next": {"after": after}}} if after else {}
    return reply({"total": total, "results": [record(item, names) for item in items], **paging})


def create_object(kind: str, call: Call) -> Response:
    portal: Portal = call.state
    given = _properties(kind, call)
    _refuse_double(kind, portal.tables[kind], given, None)
    item = create(portal, portal.tables[kind], given, Random(str(uuid4())))
    return reply(record(item, _named(kind, list(given))), 201)


def update_object(kind: str, call: Call) -> Response:
    portal: Portal = call.state
    table = portal.tables[kind]
    id_property = call.query.get("idProperty", "hs_object_id")
    item = _find(table, call.params["id"], id_property, archived=False)
    if item is None:
        raise missing(kind, call.params["id"])
    given = _properties(kind, call)
    _refuse_double(kind, table, given, item)
    update(portal, table, item, given)
    return reply(record(item, _named(kind, list(given))))


def archive_object(kind: str, call: Call) -> Response:
    item = _table(call, kind).items.get(call.params["id"])
    if item is None:
        raise missing(kind, call.params["id"])
    if item.archived_at is None:
        archive(call.state, kind, item)
    return Response(status_code=204)


def list_owners(call: Call) -> Response:
    archived, email = _flag(call, "archived"), call.query.get("email")
    limit, after = _limit(call, 100, OWNERS_MAX), _after(call)
    portal: Portal = call.state
    found = [
        owner
        for owner in portal.owners.values()
        if owner["archived"] == archived and int(owner["id"]) > after
        if email is None or owner["email"] == email
    ]
    rows = found[:limit]
    return reply({"results": rows, **_paging(call, rows, more=len(found) > limit)})


def get_owner(call: Call) -> Response:
    portal: Portal = call.state
    by_user = call.query.get("idProperty") == "userId"
    for owner in portal.owners.values():
        number = owner["userIdIncludingInactive"] if by_user else owner["id"]
        if str(number) == call.params["id"] and owner["archived"] == _flag(call, "archived"):
            return reply(owner)
    raise missing("owners", call.params["id"])


def account_details(call: Call) -> Response:
    return reply(
        {
            "portalId": int(call.account.id),
            "accountType": "STANDARD",
            "timeZone": "US/Eastern",
            "companyCurrency": "USD",
            "additionalCurrencies": [],
            "utcOffset": "-05:00",
            "utcOffsetMilliseconds": -18_000_000,
            "uiDomain": "app.hubspot.com",
            "dataHostingLocation": "na1",
        }
    )


def rate_headers(usages: Sequence[Usage]) -> Mapping[str, str]:
    """Calls under the ten-second limit carry it; search answers tell nothing."""
    for usage in usages:
        if usage.limit.name == ROLLING:
            return {
                "X-HubSpot-RateLimit-Max": str(usage.amount),
                "X-HubSpot-RateLimit-Remaining": str(usage.remaining),
                "X-HubSpot-RateLimit-Interval-Milliseconds": str(int(usage.limit.per * 1000)),
            }
    return {}


def search_lag(states: Mapping[str, Portal], body: Json) -> Json:
    """From now on search sees changes so many seconds late."""
    lag = _lag(body)
    for portal in states.values():
        portal.search_lag = lag
    return {"seconds": lag.total_seconds()}


def lag(portal: Portal, body: Json) -> Json:
    """The same of one portal: `{account, seconds}`."""
    portal.search_lag = _lag(body)
    return {"seconds": portal.search_lag.total_seconds()}


def _lag(body: Json) -> timedelta:
    seconds, longest = body.get("seconds", 0), LONGEST_LAG.total_seconds()
    if not isinstance(seconds, int | float) or not 0 <= seconds <= longest:
        raise RefusedError(f"seconds must be a number from 0 to {longest:.0f}", status=400)
    return timedelta(seconds=seconds)


def _table(call: Call, kind: str) -> Table:
    portal: Portal = call.state
    return portal.tables[kind]


def _find(table: Table, asked: str, id_property: str, archived: bool) -> Item | None:
    if id_property == "hs_object_id":
        item = table.items.get(asked)
    elif id_property == "email" and table.kind == "contacts":
        live = table.after(0, archived=archived)
        item = next((one for one in live if one.properties["email"] == asked.lower()), None)
    else:
        raise invalid(f"{id_property} does not identify {table.kind}")
    return item if item and (item.archived_at is not None) == archived else None


def _named(kind: str, asked: Iterable[str]) -> dict[str, None]:
    """The properties to show: those named, else the default ones; unknown names are passed over."""
    wanted = [name.lower() for name in asked] or DEFAULTS[kind]
    always = ("hs_object_id", "createdate", modified(kind))
    return dict.fromkeys(name for name in (*wanted, *always) if name in PROPERTIES[kind])


def _shown(
    call: Call, kind: str, item: Item, names: Mapping[str, None], others: Sequence[str]
) -> Json:
    shown = record(item, names)
    portal: Portal = call.state
    tied: dict[str, Json] = {}
    for other in others:
        if other not in PROPERTIES:
            raise invalid(f"{other} is no kind of object here")
        ids = portal.ties.get((kind, item.id), {}).get(other, [])
        live = [id_ for id_ in ids if portal.tables[other].items[id_].archived_at is None]
        if live:
            tie = f"{SINGULAR[kind]}_to_{SINGULAR[other]}"
            tied[other] = {"results": [{"id": id_, "type": tie} for id_ in live]}
    return {**shown, "associations": tied} if tied else shown


def _paging(call: Call, rows: Sequence[Json], *, more: bool) -> Json:
    if not more:
        return {}
    after = rows[-1]["id"]
    query: dict[str, list[str]] = {name: call.query.getlist(name) for name in call.query}
    link = call.url(call.host, call.path, {**query, "after": [after]})
    return {"paging": {"next": {"after": after, "link": link}}}


def _properties(kind: str, call: Call) -> dict[str, str | None]:
    given = _body(call).get("properties")
    if not isinstance(given, dict):
        raise invalid("properties are missing")
    fixed = {"hs_object_id", "createdate", modified(kind)}
    for name in given:
        if name not in PROPERTIES[kind] or name in fixed:
            what = "is read only" if name in fixed else "does not exist"
            raise invalid(f"property {str(name)[:60]!r} {what}")
    # An empty text takes a property's value away.
    return {name: str(value) if value not in (None, "") else None for name, value in given.items()}


def _refuse_double(
    kind: str, table: Table, given: Mapping[str, str | None], itself: Item | None
) -> None:
    """Two contacts never share an address."""
    email = given.get("email")
    if kind != "contacts" or not email:
        return
    other = _find(table, email, "email", archived=False)
    if other and other is not itself:
        text = f"Contact already exists. Existing ID: {other.id}"
        raise Answer(error(409, "CONFLICT", text))


def _body(call: Call) -> Json:
    body = call.json()
    if not isinstance(body, dict):
        raise invalid("the body is not a JSON object")
    return body


def _asked(body: Json) -> list[str]:
    names = body.get("properties") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise invalid("properties must be a list of names")
    return names


def _many(call: Call, name: str) -> list[str]:
    """A parameter given many times, or once with commas."""
    return [one for text in call.query.getlist(name) for one in text.split(",") if one]


def _flag(call: Call, name: str) -> bool:
    return call.query.get(name, "false").lower() == "true"


def _limit(call: Call, default: int, most: int) -> int:
    text = call.query.get("limit", str(default))
    if not re.fullmatch(r"\d{1,9}", text) or not 1 <= int(text) <= most:
        raise invalid(f"limit must be from 1 to {most}, it was {text[:20]!r}")
    return int(text)


def _after(call: Call) -> int:
    text = call.query.get("after", "") or "0"
    if not re.fullmatch(r"\d{1,18}", text):
        raise invalid(f"after is not one that was given: {text[:20]!r}")
    return int(text)


def _object_routes() -> Iterable[Route]:
    for base, aliases in BASES.items():
        forget = f"{base}/contacts/gdpr-delete"
        yield Route("POST", HOST, forget, forget_contact, scopes=WRITE_SCOPES["contacts"])
        for kind, names in aliases.items():
            for name in names:
                yield from _routes_of(kind, f"{base}/{name}")


def _routes_of(kind: str, path: str) -> Iterable[Route]:
    def at(method: str, rest: str, handler: Callable[[str, Call], Response]) -> Route:
        reads = handler in (list_objects, get_object, batch_read, search_objects)
        scopes = (READ_SCOPES if reads else WRITE_SCOPES)[kind]
        serve: Handler = partial(handler, kind)
        return Route(method, HOST, f"{path}{rest}", serve, scopes=scopes)

    return (
        at("GET", "", list_objects),
        at("POST", "", create_object),
        at("POST", "/search", search_objects),
        at("POST", "/batch/read", batch_read),
        at("POST", "/merge", merge_objects),
        at("GET", "/{id}", get_object),
        at("PATCH", "/{id}", update_object),
        at("DELETE", "/{id}", archive_object),
    )


OWNER_SCOPES = ("crm.objects.owners.read",)

vendor = Vendor(
    name="hubspot",
    title="HubSpot",
    base_url=f"https://{HOST}",
    auth=AUTH,
    routes=(
        *AUTH_ROUTES,
        *_object_routes(),
        Route("GET", HOST, "/crm/owners/2026-03", list_owners, scopes=OWNER_SCOPES),
        Route("GET", HOST, "/crm/owners/2026-03/{id}", get_owner, scopes=OWNER_SCOPES),
        Route("GET", HOST, "/crm/v3/owners", list_owners, scopes=OWNER_SCOPES),
        # The official SDK asks with the slash.
        Route("GET", HOST, "/crm/v3/owners/", list_owners, scopes=OWNER_SCOPES),
        Route("GET", HOST, "/crm/v3/owners/{id}", get_owner, scopes=OWNER_SCOPES),
        Route("GET", HOST, "/account-info/2026-03/details", account_details),
        Route("GET", HOST, "/account-info/v3/details", account_details),
    ),
    streams=("contacts", "companies", "deals", "tickets", "owners"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=trouble,
    limits=(
        Limit(ROLLING, 110, 10.0, lambda call: 0 if is_search(call) else 1),
        Limit(SECONDLY, 5, 1.0, lambda call: 1 if is_search(call) else 0),
    ),
    rate_headers=rate_headers,
    controls={"search_lag": search_lag},
    account_controls={"lag": lag, "restore": restore, "associate": associate},
    webhook=SENDER,
)
