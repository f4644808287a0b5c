"""The parts of a stream: values of a list, records of a parent stream, and products of these.

A router yields its slices in batches; each knows the place from where it comes again, so that a
read can be left in its middle. What a parent asks of the vendor passes through.
"""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, TypeVar

from connectors import ContractError, Request, Steps
from connectors.kernel.messages import Answered, Asked
from recipes.manifest import Component, ManifestError, unsupported
from recipes.options import Options, RequestOption
from recipes.runs import Run
from recipes.templates import CONFIG, Scope, Template
from recipes.values import AmbiguousError, Slice, get

if TYPE_CHECKING:
    from recipes.reading import Plan

# So many slices may be held at once, where they cannot be taken one page at a time.
MAX_HELD = 100_000
Place: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """Slices that came together. `here` is the place from which they come again, `after` that of
    those after them. `left_out`: some could not be read, so that what is missing is not gone."""

    slices: tuple[Slice, ...]
    here: Place
    after: Place
    left_out: bool = False


T = TypeVar("T")


class Inner(Generic[T]):
    """A generator inside of another: what it asks passes, what it gives comes one by one."""

    def __init__(self, steps: Generator[Asked | T, Answered | None, None]) -> None:
        self._steps = steps

    def following(self) -> Steps[T | None]:
        """What it gives next; None at its end."""
        answer: Any = None
        while True:
            try:
                failed = isinstance(answer, Exception)
                action = self._steps.throw(answer) if failed else self._steps.send(answer)
            except StopIteration:
                return None
            if not isinstance(action, Request | tuple):
                return action
            try:
                answer = yield action
            except Exception as error:
                answer = error


Batches: TypeAlias = Generator[Asked | Batch, Answered | None, None]


class Router(Protocol):
    def batches(self, run: Run, at: Place) -> Batches: ...

    def options(self, scope: Scope, slice: Slice) -> Options: ...

    @property
    def is_whole(self) -> bool:
        """Whether a round sees all the parts there are."""
        ...

    def extras(self) -> frozenset[str]: ...

    def parents(self) -> "tuple[Plan, ...]": ...


@dataclass(frozen=True)
class Lone:
    """A stream that is one part."""

    is_whole = True

    def batches(self, run: Run, at: Place) -> Batches:
        yield Batch((Slice(),), {}, {})

    def options(self, scope: Scope, slice: Slice) -> Options:
        return Options()

    def extras(self) -> frozenset[str]:
        return frozenset()

    def parents(self) -> "tuple[Plan, ...]":
        return ()


@dataclass(frozen=True)
class ListRouter(Lone):
    """A part for each value of a list."""

    values: tuple[Any, ...] | Template
    name: Template
    option: RequestOption | None

    @classmethod
    def of(cls, component: Component) -> "ListRouter":
        found = component.get("values")
        if not isinstance(found, list | str):
            raise ManifestError("a ListPartitionRouter without values", component.line)
        values = Template.of(component, found, CONFIG) if isinstance(found, str) else tuple(found)
        name = Template.of(component, component.text("cursor_field"), CONFIG)
        return cls(values, name, RequestOption.of(component.part("request_option")))

    def batches(self, run: Run, at: Place) -> Batches:
        found = self.values
        values: Any = found.value(run.scope) if isinstance(found, Template) else found
        if not isinstance(values, list | tuple):
            raise ContractError(f"the values on line {self.name.line} are no list")
        name = self.name.text_of(run.scope)
        yield Batch(tuple(Slice({name: value}) for value in values), {}, {})

    def options(self, scope: Scope, slice: Slice) -> Options:
        made = Options()
        if self.option is not None and (value := slice.get(self.name.text_of(scope))):
            self.option.put(value, made, scope)
        return made


@dataclass(frozen=True)
class Parent:
    """A stream whose records are parts of another. `follows`: only what changed in it is read."""

    plan: "Plan"
    key: Template
    field: Template
    option: RequestOption | None
    extra: tuple[tuple[Template, ...], ...]
    follows: bool

    @classmethod
    def of(cls, component: Component, plan: "Plan", follows: bool) -> "Parent":
        """The parent that a component describes; `follows`, if the stream itself is by time."""
        if component.type != "ParentStreamConfig":
            raise unsupported(component)
        component.without("lazy_read_pointer")
        extra = component.get("extra_fields") or []
        return cls(
            plan,
            Template.of(component, component.text("parent_key"), CONFIG),
            Template.of(component, component.text("partition_field"), CONFIG),
            RequestOption.of(component.part("request_option")),
            tuple(tuple(Template.of(component, step, CONFIG) for step in path) for path in extra),
            follows and component.flag("incremental_dependency"),
        )

    def slice_of(self, run: Run, record: Mapping[str, Any], outer: Slice) -> Slice | None:
        """The part that a parent's record is; None where it lacks the key."""
        key = self.key.text_of(run.scope)
        try:
            value = get(record, [step for step in key.split("/") if step])
        except AmbiguousError as error:
            raise ContractError(f"the parent's key {key}: {error}") from None
        if value is None:
            return None
        extra = {}
        for path in self.extra:
            steps = [step.text_of(run.scope) for step in path]
            extra[".".join(steps)] = get(record, steps)
        field = self.field.text_of(run.scope)
        return Slice({field: value, "parent_slice": dict(outer.partition)}, {}, extra)


@dataclass(frozen=True)
class SubstreamRouter:
    """A part for each record of its parents, one parent after the other."""

    of_parents: tuple[Parent, ...]

    @property
    def is_whole(self) -> bool:
        # A parent that is not followed is read from its beginning each time.
        return all(not one.follows and one.plan.router.is_whole for one in self.of_parents)

    def batches(self, run: Run, at: Place) -> Batches:
        first = int(at.get("parent", 0))
        ended = dict(at.get("ended", {}))
        for index, parent in enumerate(self.of_parents[first:], first):
            start = at.get("at", {}) if index == first and "at" in at else None
            if start is None:
                start = ended.get(str(index), {}) if parent.follows else {}
            here: dict[str, Any] = {"parent": index, "at": start, "ended": ended}
            walk = Inner(parent.plan.rows(run, start))
            while (rows := (yield from walk.following())) is not None:
                found = [parent.slice_of(run, row, rows.slice) for row in rows.records]
                after = {**here, "at": dict(rows.after)}
                if rows.ends:
                    ended = {**ended, str(index): dict(rows.after)} if parent.follows else ended
                    after = {"parent": index + 1, "ended": ended}
                slices = tuple(each for each in found if each is not None)
                yield Batch(slices, here, after, rows.left_out)
                here = after

    def options(self, scope: Scope, slice: Slice) -> Options:
        made = Options()
        for parent in self.of_parents:
            value = slice.get(parent.field.text_of(scope))
            if parent.option is not None and value:
                parent.option.put(value, made, scope)
        return made

    def extras(self) -> frozenset[str]:
        paths = [path for parent in self.of_parents for path in parent.extra]
        return frozenset(".".join(step.text for step in path) for path in paths)

    def parents(self) -> "tuple[Plan, ...]":
        return tuple(parent.plan for parent in self.of_parents)


@dataclass(frozen=True)
class ProductRouter:
    """Each part of the first with each of the others."""

    routers: tuple[Router, ...]

    @property
    def is_whole(self) -> bool:
        return all(router.is_whole for router in self.routers)

    def batches(self, run: Run, at: Place) -> Batches:
        others: list[list[Slice]] = []
        left_out = False
        for router in self.routers[1:]:
            held, lacks = yield from _held(router, run)
            others.append(held)
            left_out = left_out or lacks
        walk = Inner(self.routers[0].batches(run, at))
        while (batch := (yield from walk.following())) is not None:
            found = product(batch.slices, *others)
            slices = tuple(islice(map(_merged, found), MAX_HELD + 1))
            yield Batch(_bounded(slices), batch.here, batch.after, batch.left_out or left_out)

    def options(self, scope: Scope, slice: Slice) -> Options:
        made = Options()
        for router in reversed(self.routers):  # of two that set one place, the first is taken
            more = router.options(scope, slice)
            made.request_parameter |= more.request_parameter
            made.header |= more.header
            made.body_json |= more.body_json
            if isinstance(made.body_data, dict) and isinstance(more.body_data, dict):
                made.body_data |= more.body_data
        return made

    def extras(self) -> frozenset[str]:
        return frozenset().union(*(router.extras() for router in self.routers))

    def parents(self) -> "tuple[Plan, ...]":
        return tuple(plan for router in self.routers for plan in router.parents())


@dataclass(frozen=True)
class GroupingRouter(Lone):
    """So many parts of another router as one, whose value is the list of theirs."""

    inner: Router
    size: int
    is_unique: bool

    @property
    def is_whole(self) -> bool:  # type: ignore[override]
        return self.inner.is_whole

    def batches(self, run: Run, at: Place) -> Batches:
        held, left_out = yield from _held(self.inner, run)
        found: list[Slice] = []
        values: set[str] = set()
        for slice in held:
            key = repr(_first(slice.partition))
            if self.is_unique and key in values:
                continue
            values.add(key)
            found.append(slice)
        groups = [found[first : first + self.size] for first in range(0, len(found), self.size)]
        yield Batch(tuple(map(_grouped, groups)), {}, {}, left_out)

    def options(self, scope: Scope, slice: Slice) -> Options:
        return self.inner.options(scope, slice)

    def extras(self) -> frozenset[str]:
        return self.inner.extras()

    def parents(self) -> "tuple[Plan, ...]":
        return self.inner.parents()


def _held(router: Router, run: Run) -> Steps[tuple[list[Slice], bool]]:
    """All parts of a router, and whether some could not be read."""
    found: list[Slice] = []
    left_out = False
    walk = Inner(router.batches(run, {}))
    while (batch := (yield from walk.following())) is not None:
        found += batch.slices
        _bounded(found)
        left_out = left_out or batch.left_out
    return found, left_out


def _bounded(slices: Any) -> Any:
    if len(slices) > MAX_HELD:
        raise ContractError(f"a stream of more than {MAX_HELD:,} parts at once")
    return slices


def _merged(slices: tuple[Slice, ...]) -> Slice:
    """One part of several; of what two of them name, that of the first stands."""
    partition: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for slice in reversed(slices):
        partition |= slice.partition
        extra |= slice.extra_fields
    return Slice(partition, {}, extra)


def _first(partition: Mapping[str, Any]) -> Any:
    return next((value for name, value in partition.items() if name != "parent_slice"), None)


def _grouped(slices: list[Slice]) -> Slice:
    name = next((name for name in slices[0].partition if name != "parent_slice"), "")
    extra: dict[str, list[Any]] = {}
    for slice in slices:
        for field, value in slice.extra_fields.items():
            extra.setdefault(field, []).append(value)
    return Slice({name: [slice.partition.get(name) for slice in slices]}, {}, extra)
