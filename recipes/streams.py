"""A manifest's streams as ours: built from their components, or left out with the reason why."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import Any

from connectors import Checkpoint, Context, Page, Reader, Record, Stream
from connectors.kernel.versions import EPOCH, MICROSECOND
from recipes import datetimes
from recipes.cursors import TimeCursor
from recipes.decoders import text_of
from recipes.delegating import Delegating
from recipes.exports import DOWNLOADED, Export
from recipes.manifest import Component, ManifestError, UnsupportedError, slug, unsupported
from recipes.paginators import Paginator
from recipes.places import Rows
from recipes.reading import Plan
from recipes.requests import Requester
from recipes.runs import Run
from recipes.schemas import columns_of
from recipes.selectors import Selector
from recipes.slices import (
    GroupingRouter,
    Inner,
    ListRouter,
    Lone,
    Parent,
    ProductRouter,
    Router,
    SubstreamRouter,
)
from recipes.templates import Scope, Template
from recipes.values import get

LONGEST_NAME = 40
MAX_PARENTS = 8
_LATEST = datetime.max.replace(tzinfo=UTC) - timedelta(days=2)


@dataclass(frozen=True)
class Built:
    """A stream of ours, with the plan that it is read by."""

    stream: Stream
    plan: Plan | Delegating


def stream_of(component: Component, title: str) -> Built:
    """The stream that a component describes; UnsupportedError where we lack what it needs."""
    described = component
    plan: Plan | Delegating | None = None
    if component.type == "StateDelegatingStream":
        component.without("api_retention_period")
        described = component.need("incremental_stream", "DeclarativeStream")
        first = plan_of(component.need("full_refresh_stream", "DeclarativeStream"))
        plan = Delegating(component.text("name"), first, plan_of(described))
        if first.cursor is None or plan.cursor is None:
            raise UnsupportedError("a StateDelegatingStream without cursors", component.line)
    plan = plan or plan_of(component)
    schema = _schema(described)
    time = _time_of(plan.cursor)
    stream = Stream(
        name=short(slug(plan.name)),
        title=plan.name,
        read=_reader(plan, title),
        key=_key(described),
        version=_version(time),
        columns=columns_of(schema),
        snapshot=plan.is_whole,
        hides_deletes=not plan.is_whole,
        made_at=(lambda record: time(record) or _LATEST) if time else None,
    )
    return Built(stream, plan)


def plan_of(component: Component, depth: int = 0) -> Plan:
    """How the stream of a component is read."""
    if component.type != "DeclarativeStream":
        raise unsupported(component)
    if depth > MAX_PARENTS:
        raise UnsupportedError(
            f"more than {MAX_PARENTS} streams inside of each other", component.line
        )
    component.without("file_uploader")
    retriever = component.need("retriever", "SimpleRetriever", "AsyncRetriever")
    retriever.without("page_size_reduction", "request_window_splitting", "pagination_reset")
    times = component.part("incremental_sync")
    cursor = TimeCursor.of(times) if times is not None else None
    router = _router(retriever, depth, follows=cursor is not None)
    extra = router.extras()
    export = None
    if retriever.type == "AsyncRetriever":
        export = Export.of(retriever, extra)
        extra |= DOWNLOADED
    prefix = "download_" if export is not None else ""
    decoder, requester = retriever.part(f"{prefix}decoder"), retriever.need(f"{prefix}requester")
    extractor = retriever.part("download_extractor")
    if extractor is not None and extractor.type not in (
        "ResponseToFileExtractor",
        "DpathExtractor",
    ):
        raise unsupported(extractor)
    return Plan(
        _named(component, component.text("name") or "stream"),
        Requester.of(requester, decoder, extra),
        Paginator.of(
            retriever.part(f"{prefix}paginator"), decoder.type if decoder else "", requester
        ),
        Selector.of(
            retriever.need("record_selector"),
            component,
            extra,
            client_side=bool(cursor and cursor.filters),
            schema=_schema(component),
        ),
        router,
        cursor,
        retriever.flag("ignore_stream_slicer_parameters_on_paginated_requests"),
        export,
    )


def _router(retriever: Component, depth: int, follows: bool) -> Router:
    made = [_router_of(each, depth, follows) for each in retriever.parts("partition_router")]
    if not made:
        return Lone()
    return made[0] if len(made) == 1 else ProductRouter(tuple(made))


def _router_of(component: Component, depth: int, follows: bool) -> Router:
    match component.type:
        case "ListPartitionRouter":
            return ListRouter.of(component)
        case "SubstreamPartitionRouter":
            configs = component.parts("parent_stream_configs")
            if not configs:
                raise ManifestError("a SubstreamPartitionRouter without parents", component.line)
            plans = [plan_of(one.need("stream"), depth + 1) for one in configs]
            parents = map(Parent.of, configs, plans, repeat(follows))
            return SubstreamRouter(tuple(parents))
        case "GroupingPartitionRouter":
            inner = _router_of(component.need("underlying_partition_router"), depth, follows)
            size = max(component.number("group_size", 1), 1)
            return GroupingRouter(inner, size, component.flag("deduplicate", default=True))
    raise unsupported(component)


def _schema(component: Component) -> Mapping[str, Any]:
    loaders = component.parts("schema_loader")
    for loader in loaders:
        schema = loader.get("schema")
        if loader.type == "InlineSchemaLoader" and isinstance(schema, dict):
            return schema
    return {}


def short(name: str) -> str:
    """A name that leaves room in the name of a table."""
    if len(name) <= LONGEST_NAME:
        return name
    ending = hashlib.sha256(name.encode()).hexdigest()[:6]
    return f"{name[: LONGEST_NAME - 7].rstrip('_')}_{ending}"


def _reader(plan: Plan | Delegating, title: str) -> Callable[[Checkpoint, Context], Reader]:
    def read(at: Checkpoint, context: Context) -> Reader:
        run = Run.of(title, context)
        walk: Inner[Rows] = Inner(plan.rows(run, at))
        while (rows := (yield from walk.following())) is not None:
            page = Page(rows.records, Checkpoint(rows.after))
            if not rows.ends:
                yield page
                continue
            unseen = ("",) if rows.left_out else ()
            shown = plan.cursor.begins.when(run.scope) if plan.cursor else None
            yield Page(
                page.records,
                page.checkpoint,
                unread=rows.unread,
                unseen=unseen,
                shown_from=shown,
            )

    return read


def _paths(component: Component) -> list[list[str]]:
    """The paths of the fields that make a stream's key."""
    found = component.get("primary_key")
    if isinstance(found, str):
        return [[found]] if found else []
    if not isinstance(found, list):
        return []
    paths = [each if isinstance(each, list) else [each] for each in found]
    return [[_named(component, str(step)) for step in path] for path in paths if path]


def _named(component: Component, text: str) -> str:
    """A name that may be written with the component's parameters."""
    try:
        template = Template.of(component, text, frozenset({"parameters"}))
    except UnsupportedError:
        return text  # a name that nothing has: records are known by what they hold
    return str(template.value(Scope({}, EPOCH)))


def _key(component: Component) -> Callable[[Record], str]:
    paths = _paths(component)

    def key(record: Record) -> str:
        values = [get(record, path) for path in paths]
        if not values or any(value is None for value in values):
            # Without a key a record is known by what it holds.
            return hashlib.sha256(text_of(record).encode()).hexdigest()
        if len(values) == 1 and isinstance(values[0], str | int):
            return str(values[0])
        return text_of(values)

    return key


def _time_of(cursor: TimeCursor | None) -> Callable[[Record], datetime | None] | None:
    """Finds the time of a record, where it does not depend on a connection's settings."""
    if cursor is None or "{" in cursor.field.text:
        return None
    field, formats = cursor.field.text, cursor.formats

    def time(record: Record) -> datetime | None:
        found = record.get(field)
        try:
            return None if found is None else datetimes.parse_any(found, formats)
        except ValueError:
            return None

    return time


def _version(
    time: Callable[[Record], datetime | None] | None,
) -> Callable[[Record], int | None]:
    def version(record: Record) -> int | None:
        at = time(record) if time else None
        return None if at is None else (at - EPOCH) // MICROSECOND

    return version


def named_apart(built: Sequence[Built]) -> list[Built]:
    """The streams, none with the name of another."""
    taken: set[str] = set()
    made = []
    for one in built:
        name, number = one.stream.name, 1
        while name in taken:
            number += 1
            name = f"{one.stream.name[: LONGEST_NAME - 4]}_{number}"
        taken.add(name)
        made.append(replace(one, stream=replace(one.stream, name=name)))
    return made
