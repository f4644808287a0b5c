"""Salesforce on loopback: SOQL, objects and their rows, the feeds of what was updated and deleted,
and its change events.

https://developer.salesforce.com/docs/platform/api-rest/guide (version 67.0).

Longer than 700 lines: SOQL, bulk jobs, the recycle bin, two ways to be told of changes (CometD,
SOAP), custom objects, and an identity service.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from urllib.parse import quote
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, RefusedError, reply
from sandbox.kernel.vendor import Handler, Limit, Route, Usage, Vendor
from sandbox.salesforce import store as ledger
from sandbox.salesforce.auth import AUTH, INSTANCES, LOGINS, instance_of
from sandbox.salesforce.auth import ROUTES as IDENTITY
from sandbox.salesforce.bulk import handlers
from sandbox.salesforce.errors import guarded, trouble
from sandbox.salesforce.events import SENDER
from sandbox.salesforce.feed import change_events, cometd
from sandbox.salesforce.kinds import (
    BY_NAME,
    CUSTOM,
    KINDS,
    FaultError,
    Kind,
    instant,
    shown,
    stamp,
)
from sandbox.salesforce.query import Query, parse, pick
from sandbox.salesforce.seed import CUSTOM_STREAM, MUTATIONS, STREAMS, new, store
from sandbox.salesforce.store import Org

VERSIONS = ("65.0", "66.0", "67.0")
ROOT = "/services/data/{version}"
PAGE = 2_000
# Of one answer of a feed, over the time that was asked for.
MOST_IDS = 600_000
UPDATED_WINDOW = timedelta(days=30)
DAILY = 15_000
# Of an address, with its headers.
LONGEST_ADDRESS = 16_000


def versions(call: Call) -> Response:
    return reply([{"label": v, "url": f"/services/data/v{v}", "version": v} for v in VERSIONS])


def limits(call: Call) -> Response:
    return reply({"DailyApiRequests": {"Max": DAILY, "Remaining": DAILY - 1}})


def query(call: Call) -> Response:
    """The first rows that a query picks; `queryAll` picks in the recycle bin, too."""
    org, text = org_of(call), call.query.get("q", "")
    if len(quote(text)) > LONGEST_ADDRESS:
        raise FaultError("URI_TOO_LONG", "the address is too long", 414)
    asked = parse(text, visible(org))
    if asked.kind.name in org.refused:
        raise FaultError("INSUFFICIENT_ACCESS", "insufficient access rights on object", 403)
    rows: list[Json] = [row for _, row in ledger.shared(org, asked.kind)]
    if "/queryAll" in call.path:
        rows += ledger.binned(org, asked.kind)
    found = pick(asked, rows)
    if not asked.columns:
        return reply({"totalSize": len(found), "done": True, "records": []})
    return _rows(call, org, asked, found, 0, "01g" + uuid4().hex[:15])


def more(call: Call) -> Response:
    """The following rows of a query that was asked before."""
    org = org_of(call)
    locator, _, start = call.params["locator"].rpartition("-")
    if locator not in org.locators or not start.isdecimal():
        raise FaultError("INVALID_QUERY_LOCATOR", "invalid query locator")
    asked, found = org.locators[locator]
    return _rows(call, org, asked, found, int(start), locator)


def _rows(
    call: Call, org: Org, asked: Query, found: list[Json], start: int, locator: str
) -> Response:
    size = _batch_size(call)
    page, end = found[start : start + size], start + size
    body: Json = {"totalSize": len(found), "done": end >= len(found)}
    if end < len(found):
        org.locators[locator] = (asked, found)
        kind = "queryAll" if "/queryAll" in call.path else "query"
        root = call.path.partition(f"/{kind}")[0]
        body["nextRecordsUrl"] = f"{root}/{kind}/{locator}-{end}"
    body["records"] = [picked(asked, row, call.params["version"]) for row in page]
    return reply(body)


def _batch_size(call: Call) -> int:
    """A hint in a header: from 200 to 2000."""
    told = re.search(r"batchSize\s*=\s*(\d+)", call.headers.get("sforce-query-options", ""), re.I)
    return min(max(int(told[1]), 200), PAGE) if told else PAGE


def picked(asked: Query, row: Json, version: str) -> Json:
    """A row with the columns that were asked for."""
    name, whole = asked.kind.name, shown(asked.kind, row)
    url = f"/services/data/{version}/sobjects/{name}/{row['Id']}"
    found = {column: whole[column] for column in asked.columns}
    return {"attributes": {"type": name, "url": url}, **found}


def describe_all(call: Call) -> Response:
    """Every object that the user may see."""
    listed = [_described(kind) for kind in visible(org_of(call)).values()]
    # What an org has besides: of a custom object its history, which is no object of the tenant's.
    history = {**_described(CUSTOM[0]), "name": "Invoice__History", "replicateable": False}
    return reply({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": [*listed, history]})


def describe(call: Call) -> Response:
    """An object and its fields, the compound ones too."""
    kind = _kind(call)
    fields = [_field(name, type_, kind) for name, type_ in kind.fields.items()]
    fields += [_field(name, "address", kind) for name in kind.compound]
    return reply({**_described(kind), "fields": fields})


def _described(kind: Kind) -> Json:
    return {
        **{"name": kind.name, "label": kind.label, "keyPrefix": kind.prefix},
        **{"custom": kind.custom, "queryable": True, "replicateable": True},
        **{"deletable": kind.deletable, "deprecatedAndHidden": False},
    }


def _field(name: str, type_: str, kind: Kind) -> Json:
    compound = next((c for c, p in kind.compound.items() if p and name.startswith(p)), None)
    return {
        **{"name": name, "type": type_, "label": name, "custom": name.endswith("__c")},
        **{"updateable": name in kind.writable, "createable": name in kind.writable},
        **{"nillable": name not in kind.needed, "calculated": False},
        "compoundFieldName": compound if type_ != "address" else None,
    }


def updated(call: Call) -> Response:
    """Ids of what was changed in a time."""
    org, kind = org_of(call), _kind(call)
    since, until = _window(call, UPDATED_WINDOW)
    ids = ledger.changed(org, kind, since, until)
    if len(ids) > MOST_IDS:
        raise FaultError("EXCEEDED_ID_LIMIT", "too many ids: choose a shorter time")
    return reply({"ids": ids, "latestDateCovered": stamp(until)})


def deleted(call: Call) -> Response:
    """Ids of what was deleted in a time, as far as the log of deletions goes back."""
    org, kind = org_of(call), _kind(call)
    if not kind.deletable:
        raise FaultError("INVALID_TYPE", f"entity type {kind.name} does not support replication")
    since, until = _window(call, ledger.KEPT)
    found = ledger.deletions(org, kind, since, until)
    if len(found) > MOST_IDS:
        raise FaultError("EXCEEDED_ID_LIMIT", "too many ids: choose a shorter time")
    body = {
        "deletedRecords": [{"id": id_, "deletedDate": stamp(at)} for id_, at in found],
        "earliestDateAvailable": stamp(ledger.earliest(org)),
        "latestDateCovered": stamp(until),
    }
    return reply(body)


def _window(call: Call, longest: timedelta) -> tuple[datetime, datetime]:
    """The times that were asked for, in whole minutes: seconds do not count."""
    now = call.clock.now()
    try:
        since, until = (instant(call.query[name]) for name in ("start", "end"))
    except (KeyError, ValueError) as error:
        raise FaultError("INVALID_DATE_FORMAT", "start and end have to be times") from error
    since, until = (at.replace(second=0, microsecond=0) for at in (since, until))
    if until - since < timedelta(minutes=1) or since > now:
        message = "start date must precede end date by more than a minute"
        raise FaultError("INVALID_REPLICATION_DATE", message)
    if since < now - longest - timedelta(minutes=1):
        message = f"startDate before org replication enabled date, or {longest.days} days ago"
        raise FaultError("INVALID_REPLICATION_DATE", message)
    return since, min(until, now)


def read(call: Call) -> Response:
    """One row by its id."""
    kind, row = _kind(call), _row(call)
    asked = call.query.get("fields", "")
    columns = tuple(asked.split(",")) if asked else (*kind.fields, *kind.compound)
    if unknown := [name for name in columns if name not in (*kind.fields, *kind.compound)]:
        raise FaultError("INVALID_FIELD", f"No such column '{unknown[0]}'")
    return reply(picked(Query(kind, columns, lambda row: True), row, call.params["version"]))


def create(call: Call) -> Response:
    row = ledger.create(org_of(call), _kind(call), _body(call))
    return reply({"id": row["Id"], "success": True, "errors": []}, 201)


def change(call: Call) -> Response:
    ledger.change(org_of(call), _kind(call), _row(call), _body(call))
    return Response(status_code=204)


def delete(call: Call) -> Response:
    ledger.delete(org_of(call), _kind(call), _row(call))
    return Response(status_code=204)


def org_of(call: Call) -> Org:
    """The org of the token, if it is at this host: it may have been moved to another."""
    org: Org = call.state
    if call.host != org.instance:
        raise FaultError("INVALID_SESSION_ID", "Session expired or invalid", 401)
    return org


def visible(org: Org) -> dict[str, Kind]:
    """The objects that the user may see, by name in small letters."""
    return {name: kind for name, kind in BY_NAME.items() if kind.name not in org.hidden}


def _kind(call: Call) -> Kind:
    kind = visible(org_of(call)).get(call.params["object"].lower())
    if kind is None:
        raise FaultError("NOT_FOUND", "The requested resource does not exist", 404)
    return kind


def _row(call: Call) -> Json:
    kind, row_id = _kind(call), call.params["id"]
    for found, row in org_of(call).rows[kind.name].items():
        if row_id in (found, found[:15]):
            return row
    raise FaultError("NOT_FOUND", "Provided external ID field does not exist or is wrong", 404)


def _body(call: Call) -> Json:
    body = call.json()
    if not isinstance(body, dict):
        raise FaultError("JSON_PARSER_ERROR", "The body is not a JSON object")
    return body


def undelete(org: Org, body: Json) -> Json:
    """The control that takes a row out of the recycle bin: `{account, object, id}`."""
    kind = KINDS[str(body.get("object", "Account"))]
    row = org.bin[kind.name].get(str(body.get("id")))
    if row is None:
        raise RefusedError(f"the recycle bin has no {kind.name} {body.get('id')!r}")
    ledger.undelete(org, kind, row)
    return {"id": row["Id"]}


def purge(org: Org, body: Json) -> Json:
    """The control that empties the recycle bin; with `log`, the log of deletions, too."""
    if body.get("log"):
        org.purged = org.clock.now()
        for deletions in org.log.values():
            deletions.clear()
    return {"purged": ledger.purge(org)}


def migrate(org: Org, body: Json) -> Json:
    """The control that moves an org to another host: tokens say so from their next refresh on."""
    org.instance = next(host for host in INSTANCES if host != org.instance)
    return {"instance": org.instance}


def hide(org: Org, body: Json) -> Json:
    """The control that takes the right to see an object from the user, `{account, objects}`, or to
    see some rows of a stream, `{account, stream}`, which nothing tells of."""
    if "stream" in body:
        rows = list(store(org, str(body["stream"])))
        keys = [key for key in rows if not key.endswith(org.admin_id)][::3]
        org.unshared |= {key.rpartition(":")[2] for key in keys}
        return {"keys": keys}
    org.hidden = {str(name) for name in body.get("objects", ())}
    return {"hidden": sorted(org.hidden)}


def refuse_part(org: Org, body: Json) -> Json:
    """The control that has queries of one of the org's own objects refused, or taken again:
    `{account, stream, on}`."""
    name = CUSTOM[0].name
    if body.get("stream") != CUSTOM_STREAM:
        return {"keys": [], "part": ""}
    org.refused = {name} if body.get("on", True) else set()
    return {
        "keys": [key for key in store(org, CUSTOM_STREAM) if key.startswith(f"{name}:")],
        "part": name,
    }


def _rate_headers(usages: Sequence[Usage]) -> dict[str, str]:
    """How much of the day's allowance is used up."""
    told = [f"api-usage={each.amount - each.remaining}/{each.amount}" for each in usages]
    return {"sforce-limit-info": told[0]} if told else {}


def _forget(org: Org) -> None:
    org.locators.clear()
    org.jobs.clear()


def _extras(account_id: str, origin: str) -> Json:
    """The org of the printed token is at its own instance."""
    root = f"{origin}/{instance_of(account_id)}/services/data/v67.0"
    return {"base_url": root, "instances": list(INSTANCES), "logins": list(LOGINS)}


def _alterable(org: Org, stream: str) -> Iterator[str]:
    if stream == "users":
        # Whose tokens these are, nobody makes inactive.
        return iter([id_ for id_ in org.rows["User"] if id_ != org.admin_id])
    return iter(store(org, stream))


def _data(method: str, path: str, handler: Handler) -> Iterator[Route]:
    """A path of the data API at each host, with and without a slash at its end."""
    for host in INSTANCES:
        for slash in ("", "/"):
            yield Route(method, host, f"{ROOT}{path}{slash}", guarded(handler), scopes=("api",))


JOBS = handlers(org_of, visible)

vendor = Vendor(
    name="salesforce",
    title="Salesforce",
    base_url=f"https://{INSTANCES[0]}/services/data/v67.0",
    auth=AUTH,
    routes=(
        *IDENTITY,
        *(Route("GET", host, "/services/data/", versions, open=True) for host in INSTANCES),
        # Open: what is wrong with a token is told as Bayeux.
        *(Route("POST", host, "/cometd/{version}", cometd, open=True) for host in INSTANCES),
        *_data("GET", "/limits", limits),
        *_data("GET", "/query", query),
        *_data("GET", "/queryAll", query),
        *_data("GET", "/query/{locator}", more),
        *_data("GET", "/queryAll/{locator}", more),
        *_data("GET", "/sobjects", describe_all),
        *_data("GET", "/sobjects/{object}/describe", describe),
        *_data("GET", "/sobjects/{object}/updated", updated),
        *_data("GET", "/sobjects/{object}/deleted", deleted),
        *_data("POST", "/sobjects/{object}", create),
        *_data("GET", "/sobjects/{object}/{id}", read),
        *_data("PATCH", "/sobjects/{object}/{id}", change),
        *_data("DELETE", "/sobjects/{object}/{id}", delete),
        *_data("POST", "/jobs/query", JOBS["begin"]),
        *_data("GET", "/jobs/query/{id}", JOBS["look"]),
        *_data("PATCH", "/jobs/query/{id}", JOBS["end"]),
        *_data("DELETE", "/jobs/query/{id}", JOBS["delete"]),
        *_data("GET", "/jobs/query/{id}/results", JOBS["results"]),
    ),
    streams=STREAMS,
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    trouble=trouble,
    alterable=_alterable,
    limits=(Limit("daily", DAILY, 86_400.0),),
    rate_headers=_rate_headers,
    expire_checkpoints=_forget,
    account_controls={
        **{"undelete": undelete, "purge": purge, "migrate": migrate, "hide": hide},
        **{"change_events": change_events, "refuse_part": refuse_part},
    },
    webhook=SENDER,
    extras=_extras,
    three_pages_at=4_050,
)
