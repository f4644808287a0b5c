"""Rows of an org's own objects, one object after the other; each fails by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from connectors import Calls, Checkpoint, Context, Page, Reader, Request, Stream, ask, columns
from connectors.kernel.paging import Read, mapped
from connectors.kernel.parts import Parts, Round, each_part
from connectors.kernel.positions import Position
from connectors.kernel.versions import epoch_us, parse_time
from connectors.salesforce.query import changes_since, digest, is_chosen, written
from connectors.salesforce.reading import OVERLAP, TIMES, Place, fetch_rows, list_rows, read_rows

# So long an object in which nothing changed is asked for that alone: one call for what would be
# three, of an allowance that an org of hundreds of objects shares with its other apps. What left
# the recycle bin at once is found after it, and fields that may be seen from now on.
QUIET = timedelta(hours=6)


@dataclass(frozen=True, kw_only=True)
class _Begin(Position):
    """A `window` is where each object begins; the others are as checkpoints were until 2026-11."""

    window: str = ""
    objects: Mapping[str, dict[str, Any]] = field(default_factory=dict)
    left: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class _Shape(Position):
    """Which fields an object has, beside where the reader of its rows stands."""

    shape: str | None = None


def _prefix(name: str) -> str:
    return f"{name}:"


def custom_objects(at: Checkpoint, context: Context) -> Reader:
    """What happened to the rows of each object."""
    begin, failed = _Begin.of(at), Round.of(at).failed
    window = Place(since=begin.window).saved()
    if begin.objects:
        at = Round(parts=begin.objects, todo=begin.left).saved()

    def look(name: str, at: Checkpoint, context: Context) -> Reader:
        again = name in failed and not Place.of(at).since
        yield from (_again if again else _look)(name, at, context)

    of = each_part(_listing, lambda name: _part(name, look, window), prefix=_prefix)
    yield from mapped(of(at, context), _shaped)


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
    window=lambda since: _Begin(window=written(since - OVERLAP)).saved(),
    key=lambda record: f"{record['object']}:{record['Id']}",
    version=epoch_us("SystemModstamp"),
    columns={
        **columns("object object_id=Id name=Name owner_id=OwnerId"),
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
    here = Place.of(at)
    is_at_rest = here.since and not here.started
    if is_at_rest and context.now - parse_time(here.since) < QUIET:
        response = yield from ask(changes_since(name, here.since))
        if not response.json["records"]:
            yield Page((), at)
            return
    yield from read_rows(name, at, context)


def _again(name: str, at: Checkpoint, context: Context) -> Reader:
    """All rows of an object that could not be read before; what was stored of it then may be gone
    since: Salesforce lists deletions for 15 days."""
    start = Place(since=written(context.now - timedelta(days=14))).saved()

    def begun(page: Page) -> Page:
        return replace(page, checkpoint=start) if Place.of(page.checkpoint).since else page

    yield from mapped(read_rows(name, at, context), begun)
    yield from read_rows(name, start, context)


def _part(name: str, read: Callable[..., Reader], begin: Mapping[str, Any]) -> Read:
    """The rows of one object, their keys with its name; which fields it has stays with it."""

    def named(page: Page) -> Page:
        return replace(
            page,
            records=[{"object": name, **row} for row in page.records],
            checkpoint=Checkpoint(page.checkpoint, **_Shape(shape=page.shape).saved()),
            deleted=[f"{name}:{key}" for key in page.deleted],
            hidden=[f"{name}:{key}" for key in page.hidden],
            merged={f"{name}:{key}": f"{name}:{into}" for key, into in page.merged.items()},
            shape=None,
        )

    return lambda at, context: mapped(read(name, Checkpoint(at or begin), context), named)


def _shaped(page: Page) -> Page:
    """The last page of a round says which fields all objects have."""
    if page.unread is None:
        return page
    parts = Round.of(page.checkpoint).parts
    return replace(page, shape=digest(f"{n}:{_Shape.of(at).shape}" for n, at in parts.items()))
