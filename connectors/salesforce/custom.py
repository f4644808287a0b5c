"""Rows of an org's own objects, one object after the other; each fails by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from connectors import Calls, Checkpoint, Context, Page, Reader, Request, Stream, ask, column
from connectors.kernel.paging import Read
from connectors.kernel.parts import Parts, each_part
from connectors.kernel.versions import epoch_us, parse_time
from connectors.salesforce.query import changes_since, digest, is_chosen, written
from connectors.salesforce.reading import OVERLAP, TIMES, fetch_rows, list_rows, read_rows

# So long an object in which nothing changed is asked for that alone: one call for what would be
# three, of an allowance that an org of hundreds of objects shares with its other apps. What left
# the recycle bin at once is found after it, and fields that may be seen from now on.
QUIET = timedelta(hours=6)


def _prefix(name: str) -> str:
    return f"{name}:"


def custom_objects(at: Checkpoint, context: Context) -> Reader:
    """What happened to the rows of each object; a `window` is where an object begins."""
    begin = {"since": at["window"]} if "window" in at else {}
    failed = frozenset(at.get("failed", ()))

    def look(name: str, at: Checkpoint, context: Context) -> Reader:
        again = name in failed and "since" not in at
        yield from (_again if again else _look)(name, at, context)

    of = each_part(_listing, lambda name: _part(name, look, begin), prefix=_prefix)
    yield from _mapped(of(_renewed(at), context), _shaped)


def list_custom(at: Checkpoint, context: Context) -> Reader:
    """Ids and versions of all rows."""
    of = each_part(_listing, lambda name: _part(name, list_rows, {}), prefix=_prefix)
    yield from of(at, context)


def fetch_custom(keys: Sequence[str], context: Context) -> Reader:
    """Rows of the org's own objects by their keys, `Invoice__c:a00…`."""
    of: dict[str, list[str]] = {}
    for key in keys:
        name, _, id_ = key.partition(":")
        if is_chosen(name, context):
            of.setdefault(name, []).append(id_)
    for name, ids in of.items():
        fetch = _part(name, lambda name, at, context, ids=ids: fetch_rows(name, ids, context), {})
        yield from fetch(Checkpoint(), context)


CUSTOM_OBJECTS = Stream(
    name="custom_objects",
    read=custom_objects,
    listing=list_custom,
    fetch=fetch_custom,
    window=lambda since: Checkpoint(window=written(since - OVERLAP)),
    key=lambda record: f"{record['object']}:{record['Id']}",
    version=epoch_us("SystemModstamp"),
    columns={
        "object": column("object"),
        "object_id": column("Id"),
        "name": column("Name"),
        "owner_id": column("OwnerId"),
        **TIMES,
    },
)


def _listing(context: Context) -> Calls[Parts]:
    """The org's own objects that are to be read. One that the user may not see any more is listed
    no more, as one that is no longer there: no answer tells the two apart."""
    response = yield from ask(Request.get("/sobjects"))
    names = [
        each["name"]
        for each in response.json["sobjects"]
        if each["custom"] and each["queryable"] and each["replicateable"]
        # What installed packages keep to themselves, and what is an object's history or sharing.
        if each["name"].endswith("__c") and is_chosen(each["name"], context)
    ]
    return Parts(sorted(names), hidden=True)


def _look(name: str, at: Checkpoint, context: Context) -> Reader:
    is_at_rest = "since" in at and "started" not in at
    if is_at_rest and context.now - parse_time(at["since"]) < QUIET:
        response = yield from ask(changes_since(name, at["since"]))
        if not response.json["records"]:
            yield Page((), at)
            return
    yield from read_rows(name, at, context)


def _again(name: str, at: Checkpoint, context: Context) -> Reader:
    """All rows of an object that could not be read before; what was stored of it then may be gone
    since: Salesforce lists deletions for 15 days."""
    start = Checkpoint(since=written(context.now - timedelta(days=14)))
    yield from _mapped(
        read_rows(name, at, context),
        lambda page: replace(page, checkpoint=start) if "since" in page.checkpoint else page,
    )
    yield from read_rows(name, start, context)


def _part(name: str, read: Callable[..., Reader], begin: Mapping[str, Any]) -> Read:
    """The rows of one object, their keys with its name; which fields it has stays with it."""

    def named(page: Page) -> Page:
        kept = {"shape": page.shape} if page.shape else {}
        return replace(
            page,
            records=[{"object": name, **row} for row in page.records],
            checkpoint=Checkpoint({**page.checkpoint, **kept}),
            deleted=[f"{name}:{key}" for key in page.deleted],
            hidden=[f"{name}:{key}" for key in page.hidden],
            merged={f"{name}:{key}": f"{name}:{into}" for key, into in page.merged.items()},
            shape=None,
        )

    return lambda at, context: _mapped(read(name, Checkpoint(at or begin), context), named)


def _shaped(page: Page) -> Page:
    """The last page of a round says which fields all objects have."""
    if page.unread is None:
        return page
    parts = page.checkpoint.get("parts", {})
    return replace(page, shape=digest(f"{n}:{state.get('shape')}" for n, state in parts.items()))


def _mapped(reader: Reader, change: Callable[[Page], Page]) -> Reader:
    """The same reader, with its pages changed."""
    answer: Any = None
    while True:
        try:
            failed = isinstance(answer, Exception)
            action = reader.throw(answer) if failed else reader.send(answer)
        except StopIteration:
            return
        if isinstance(action, Page):
            action = change(action)
        try:
            answer = yield action
        except Exception as error:
            answer = error


def _renewed(at: Checkpoint) -> Checkpoint:
    """A checkpoint as it was written until 2026-11, in the form of today."""
    if "objects" not in at:
        return Checkpoint({name: held for name, held in at.items() if name != "window"})
    renewed = Checkpoint(parts=dict(at["objects"]))
    if at.get("left"):
        renewed["todo"] = list(at["left"])
    return renewed
