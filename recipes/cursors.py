"""Streams that are read by time: where a read begins and ends, and in which steps."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from connectors import ContractError, Record
from recipes import datetimes
from recipes.manifest import Component, ManifestError, UnsupportedError, unsupported
from recipes.options import Options, RequestOption
from recipes.templates import CONFIG, Scope, Template
from recipes.values import Slice

# A read that is cut into more steps than this is one that was set up wrongly.
MAX_STEPS = 100_000
COUNT = "%epoch_microseconds"
Length: TypeAlias = "timedelta | datetimes.Months"


@dataclass(frozen=True)
class Moment:
    """A time of the manifest, kept between two others where they are given."""

    at: Template
    format: str
    least: Template | None
    most: Template | None

    @classmethod
    def of(cls, component: Component, name: str, format: str) -> "Moment | None":
        found = component.get(name)
        if found is None:
            return None
        if not isinstance(found, Component):
            # A bare text is read in the cursor's own format.
            return cls(Template.of(component, found, CONFIG), format, None, None)
        if found.type != "MinMaxDatetime":
            raise unsupported(found)

        def template(field: str) -> Template | None:
            return Template.of(found, found[field], CONFIG) if found.get(field) else None

        return cls(
            Template.of(found, found.text("datetime"), CONFIG),
            found.text("datetime_format") or format,
            template("min_datetime"),
            template("max_datetime"),
        )

    def when(self, scope: Scope) -> datetime:
        at = self._parsed(self.at, scope)
        if self.least is not None and self.least.option(scope):
            at = max(at, self._parsed(self.least, scope))
        if self.most is not None and self.most.option(scope):
            at = min(at, self._parsed(self.most, scope))
        return at

    def _parsed(self, template: Template, scope: Scope) -> datetime:
        try:
            return datetimes.parse(template.value(scope), self.format)
        except ValueError:
            raise ContractError(
                f"the time on line {template.line}, {template.text[:80]}, is none of the form "
                f"{self.format}: look at the settings of this connection"
            ) from None


@dataclass(frozen=True)
class Window:
    """A read from one time to another; records outside of it are not the stream's."""

    start: datetime
    end: datetime


@dataclass(frozen=True)
class TimeCursor:
    """The times of a stream. `is_feed`: the newest comes first, and the rest is left once it is
    known. `filters`: the vendor lists everything, and what is older is dropped here."""

    field: Template
    format: str
    formats: tuple[str, ...]
    begins: Moment
    ends: Moment | None
    step: Template | None
    granularity: timedelta | None
    lookback: Template | None
    start_option: RequestOption | None
    end_option: RequestOption | None
    names: tuple[Template, Template]
    is_feed: bool
    filters: bool
    is_strict: bool
    is_count: bool = False

    @classmethod
    def of(cls, component: Component) -> "TimeCursor":
        if component.type == "IncrementingCountCursor":
            return cls._count(component)
        if component.type != "DatetimeBasedCursor":
            raise unsupported(component)
        component.without("clamping")
        format = component.text("datetime_format")
        formats = component.items_of("cursor_datetime_formats")
        begins = Moment.of(component, "start_datetime", format)
        if not format or begins is None:
            raise ManifestError("a DatetimeBasedCursor without format or start", component.line)
        if bool(component.get("step")) != bool(component.get("cursor_granularity")):
            raise ManifestError("step and cursor_granularity go together", component.line)

        def template(name: str, default: str = "") -> Template:
            return Template.of(component, component.text(name, default), CONFIG)

        return cls(
            template("cursor_field"),
            format,
            (*map(str, formats), format),
            begins,
            Moment.of(component, "end_datetime", format),
            template("step") if component.get("step") else None,
            _granularity(component),
            template("lookback_window") if component.get("lookback_window") else None,
            RequestOption.of(component.part("start_time_option")),
            RequestOption.of(component.part("end_time_option")),
            (
                template("partition_field_start", "start_time"),
                template("partition_field_end", "end_time"),
            ),
            component.flag("is_data_feed"),
            component.flag("is_client_side_incremental"),
            component.flag("is_compare_strictly"),
        )

    @classmethod
    def _count(cls, component: Component) -> "TimeCursor":
        """A number that only grows: it is read as microseconds of the epoch are."""
        start = Template.of(component, component.get("start_value") or 0, CONFIG)
        names = (Template("start"), Template("end"))
        return cls(
            Template.of(component, component.text("cursor_field"), CONFIG),
            COUNT,
            (COUNT,),
            Moment(start, COUNT, None, None),
            None,
            None,
            None,
            None,
            RequestOption.of(component.part("start_value_option")),
            None,
            names,
            is_feed=False,
            filters=False,
            is_strict=False,
            is_count=True,
        )

    def time_of(self, record: Record, scope: Scope) -> datetime | None:
        """The time of a record, None where it has none that can be read."""
        found = record.get(self.field.text_of(scope))
        if found is None:
            return None
        try:
            return datetimes.parse_any(found, self.formats)
        except ValueError:
            return None

    def window(self, scope: Scope, since: datetime | None) -> Window:
        """What a read covers; `since` is how far the last one got."""
        first = self.begins.when(scope)
        start = first
        if since is not None:
            start = max(_before(since, _length(self.lookback, scope)), first)
        return Window(start, self.ends.when(scope) if self.ends else scope.now)

    def steps(self, window: Window, scope: Scope) -> Iterator[tuple[datetime, Mapping[str, str]]]:
        """The slices of a window in their order, each with where it begins."""
        here, end = window.start, window.end
        if here > end or (here == end and (not self.granularity or self.is_strict)):
            return
        length = _length(self.step, scope)
        for _ in range(MAX_STEPS):
            following = _after(here, length, end)
            is_last = following >= end
            until = end if is_last else following
            if self.granularity and not is_last:
                until -= self.granularity
            yield here, self._slice(here, until, scope)
            if is_last:
                return
            if following <= here:
                raise ContractError("a step of no length")
            here = following
        raise ContractError(f"a read in more than {MAX_STEPS:,} steps")

    def _slice(self, start: datetime, end: datetime, scope: Scope) -> Mapping[str, str]:
        first, last = (name.text_of(scope) for name in self.names)
        return {
            first: datetimes.write(start, self.format),
            last: datetimes.write(end, self.format),
        }

    def options(self, scope: Scope, slice: Slice) -> Options:
        made = Options()
        for option, name in zip((self.start_option, self.end_option), self.names, strict=True):
            if option is not None:
                option.put(slice.get(name.text_of(scope)), made, scope)
        return made

    def holds(self, window: Window, record: Record, scope: Scope) -> bool:
        """Whether a record is of the window; one without a time is."""
        at = self.time_of(record, scope)
        return at is None or window.start <= at <= window.end


def _granularity(component: Component) -> timedelta | None:
    found = component.get("cursor_granularity")
    if not found:
        return None
    try:
        made = datetimes.duration(str(found))
    except ValueError as error:
        raise ManifestError(f"cursor_granularity: {error}", component.line) from None
    if not isinstance(made, timedelta):
        raise UnsupportedError("a cursor_granularity of months", component.line)
    return made


def _length(template: Template | None, scope: Scope) -> "Length | None":
    if template is None or not (found := template.option(scope)):
        return None
    try:
        return datetimes.duration(str(found))
    except ValueError as error:
        raise ContractError(f"line {template.line}: {error}") from None


def _before(here: datetime, length: "Length | None") -> datetime:
    try:
        found: datetime = here if length is None else here - length
    except (OverflowError, ValueError):
        return datetimes.EPOCH
    return found


def _after(here: datetime, length: "Length | None", end: datetime) -> datetime:
    if length is None:
        return end
    try:
        found: datetime = here + length
    except (OverflowError, ValueError):
        return end
    return found
