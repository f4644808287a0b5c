"""What goes into a request, and where: its query, its headers, its body."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlencode

from connectors import ContractError
from recipes.manifest import Component, ManifestError, UnsupportedError
from recipes.templates import CONFIG, Scope, Template

Place: TypeAlias = Literal["request_parameter", "header", "body_data", "body_json"]


@dataclass
class Options:
    """The values of a request by where they go; `body_data` is a form, or a text that is sent as
    it is."""

    request_parameter: dict[str, Any] = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)
    body_data: dict[str, Any] | str = field(default_factory=dict)
    body_json: dict[str, Any] = field(default_factory=dict)

    def add(self, more: "Options") -> None:
        """Takes in more of them; ContractError where two say different things of one place."""
        _merge(self.request_parameter, more.request_parameter, "the query")
        _merge(self.header, more.header, "the headers")
        _merge(self.body_json, more.body_json, "the body", deep=True)
        if not self.body_data:
            self.body_data = deepcopy(more.body_data)
        elif more.body_data:
            if isinstance(self.body_data, str) or isinstance(more.body_data, str):
                raise ContractError("two parts of a request would write its body as a text")
            _merge(self.body_data, more.body_data, "the form")


def _merge(into: dict[str, Any], more: Mapping[str, Any], where: str, deep: bool = False) -> None:
    for name, value in more.items():
        if name not in into:
            into[name] = deepcopy(value)
            continue
        known = into[name]
        if deep and isinstance(known, dict) and isinstance(value, dict):
            _merge(known, value, where, deep)
        elif not deep or known != value:
            raise ContractError(f"two parts of a request set {name} in {where}")


def as_params(values: Mapping[str, Any]) -> dict[str, str | Sequence[str]]:
    """The values of a query: what is None goes, a list is a name that comes several times."""
    return {
        str(name): [str(each) for each in value] if isinstance(value, list | tuple) else str(value)
        for name, value in values.items()
        if value is not None
    }


def as_form(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a Request that sends them as a form."""
    made = as_params(values)
    if all(isinstance(value, str) for value in made.values()):
        return {"form": made}
    content_type = {"content-type": "application/x-www-form-urlencoded"}
    return {"text": urlencode(made, doseq=True), "headers": content_type}


@dataclass(frozen=True)
class RequestOption:
    """Where one value goes; `path` has more than one step only in a JSON body."""

    into: Place
    path: tuple[Template, ...]

    @classmethod
    def of(cls, component: Component | None) -> "RequestOption | None":
        if component is None:
            return None
        found = component.get("inject_into")
        into = next((place for place in get_args(Place) if place == found), None)
        if into is None:
            raise ManifestError(f"inject_into is {found!r}", component.line)
        names = component.get("field_path") or [component.get("field_name")]
        if not isinstance(names, list) or None in names:
            raise ManifestError("a RequestOption without a field_name", component.line)
        if len(names) > 1 and into != "body_json":
            raise UnsupportedError("RequestOption.field_path outside of JSON", component.line)
        return cls(into, tuple(Template.of(component, name, CONFIG) for name in names))

    def put(self, value: Any, options: Options, scope: Scope) -> None:
        *outer, last = (step.text_of(scope) for step in self.path)
        target: Any = getattr(options, self.into)
        for step in outer:
            target = target.setdefault(step, {})
        target[last] = value
