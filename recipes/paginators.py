"""What follows a page: the token of the next one, and where a request carries it."""

from dataclasses import dataclass
from typing import Any, Protocol

from connectors import ContractError, Response
from recipes.manifest import Component, ManifestError, UnsupportedError, unsupported
from recipes.options import Options, RequestOption
from recipes.runs import Run
from recipes.templates import CONFIG, PAGE, Template
from recipes.values import Headers, Slice


@dataclass(frozen=True)
class Answer:
    """A page that was read: the vendor's answer and its first body, how many records it held, how
    many of them are left, and the last of these."""

    response: Response
    body: Any
    size: int
    kept: int
    last: Any
    slice: Slice


class Strategy(Protocol):
    """Tokens of pages: that of the first, or None, and that of the one after an answer."""

    def first(self, run: Run) -> Any: ...

    def after(self, run: Run, answer: Answer, token: Any) -> Any: ...

    def page_size(self, run: Run) -> int | None: ...


@dataclass(frozen=True)
class _Sized:
    size: Template | None

    def page_size(self, run: Run) -> int | None:
        if self.size is None:
            return None
        found = self.size.value(run.scope)
        if isinstance(found, bool) or not isinstance(found, int):
            raise ContractError(f"the page size on line {self.size.line} is no number")
        return found

    def is_last(self, run: Run, answer: Answer) -> bool:
        size = self.page_size(run)
        return answer.size == 0 or bool(size and answer.size < size)


@dataclass(frozen=True)
class Counted(_Sized):
    """Counts records (`step` None) or pages, from `start`."""

    start: int
    step: int | None
    at_first: bool

    def first(self, run: Run) -> Any:
        return self.start if self.at_first else None

    def after(self, run: Run, answer: Answer, token: Any) -> Any:
        if self.is_last(run, answer):
            return None
        here = self.start if token is None else token
        if not isinstance(here, int):
            raise ContractError("a page token that is no number")
        return here + (answer.size if self.step is None else self.step)


@dataclass(frozen=True)
class Cursor(_Sized):
    """A token that each answer holds, until it holds none or a condition is met."""

    value: Template
    stop: Template | None

    def first(self, run: Run) -> Any:
        return None

    def after(self, run: Run, answer: Answer, token: Any) -> Any:
        variables = {
            "response": answer.body,
            "headers": Headers(answer.response),
            "last_record": answer.last,
            "last_page_size": answer.kept,
            "page_size": self.page_size(run),
            "stream_slice": answer.slice,
        }
        if self.stop is not None and self.stop.holds(run.scope, **variables):
            # A header that is not there is how listings end. A field of the body that pages before
            # had is not: the language ends there, and what was not shown would count as gone.
            of_body = token is not None and "headers" not in self.stop.text
            if of_body and self.stop.is_unsettled(run.scope, **variables):
                raise ContractError("a page does not say whether more follow, as those before did")
            return None
        return self.value.value(run.scope, **variables) or None


@dataclass(frozen=True)
class Paginator:
    """`into` is where the token goes, unless it `is_path`: then it is what the request asks for.
    One that goes nowhere is not used: the next page would be the same one again."""

    strategy: Strategy | None = None
    into: RequestOption | None = None
    is_path: bool = False
    size_into: RequestOption | None = None
    is_used: bool = True

    @classmethod
    def of(cls, component: Component | None, decoder: str, requester: Component) -> "Paginator":
        if component is None or component.type == "NoPagination":
            return cls()
        if component.type != "DefaultPaginator":
            raise unsupported(component)
        strategy = _strategy(component.need("pagination_strategy"), decoder)
        option, size = component.part("page_token_option"), component.part("page_size_option")
        if size is not None and getattr(strategy, "size", None) is None:
            raise ManifestError("a page_size_option without a page_size", component.line)
        is_path = option is not None and option.type == "RequestPath"
        return cls(
            strategy,
            None if is_path else RequestOption.of(option),
            is_path,
            RequestOption.of(size),
            option is not None or "next_page_token" in repr(requester),
        )

    def first(self, run: Run) -> Any:
        return self.strategy.first(run) if self.strategy and self.is_used else None

    def after(self, run: Run, answer: Answer, token: Any) -> Any:
        """The token of the next page, None after the last; ContractError where it is this one's."""
        if self.strategy is None or not self.is_used:
            return None
        found = self.strategy.after(run, answer, token)
        if found is None or found is False or found == "":
            return None
        if found == token and token is not None:
            raise ContractError("the vendor's listing does not go on: its next page is this one")
        return found

    def path(self, token: Any) -> str | None:
        return str(token) if self.is_path and token else None

    def options(self, run: Run, token: Any) -> Options:
        made = Options()
        if self.into is not None and token is not None:
            self.into.put(token, made, run.scope)
        size = self.strategy.page_size(run) if self.strategy else None
        if self.size_into is not None and size:
            self.size_into.put(size, made, run.scope)
        return made


def _strategy(component: Component, decoder: str) -> Strategy:
    size = component.get("page_size")
    knows = PAGE if component.type == "OffsetIncrement" else CONFIG
    template = Template.of(component, size, knows) if size is not None else None
    match component.type:
        case "OffsetIncrement":
            return Counted(template, 0, None, component.flag("inject_on_first_request"))
        case "PageIncrement":
            start = component.number("start_from_page", 0)
            at_first = component.flag("inject_on_first_request")
            return Counted(template, start, 1, at_first)
        case "CursorPagination":
            if decoder not in ("", "JsonDecoder", "XmlDecoder"):
                raise UnsupportedError(f"CursorPagination of a {decoder}", component.line)
            stop = component.get("stop_condition")
            return Cursor(
                template,
                Template.of(component, component.text("cursor_value"), PAGE),
                Template.of(component, stop, PAGE) if stop is not None else None,
            )
    raise unsupported(component)
