"""One request of a manifest: its address, what it carries, and what its answer means."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qs, urljoin, urlsplit

from connectors import (
    BrokenConnectionError,
    Calls,
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    Request,
    Response,
    ask,
)
from connectors.kernel.paging import LAPSED
from recipes.authenticators import Authenticator, Nobody, authenticator
from recipes.decoders import Decoder
from recipes.errors import ErrorHandler
from recipes.manifest import Component, ManifestError, UnsupportedError, unsupported
from recipes.options import Options, as_form, as_params
from recipes.places import key_of
from recipes.runs import Run
from recipes.templates import REQUEST, Template, Tree
from recipes.values import Slice

Judge: TypeAlias = Callable[[Response], ConnectorError | None]
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD")


@dataclass(frozen=True)
class Inputs:
    """Values by their names, or a text that stands for all of them."""

    names: tuple[tuple[Template, Any], ...] = ()
    text: Template | None = None

    @classmethod
    def of(cls, component: Component, name: str, knows: frozenset[str]) -> "Inputs":
        found = component.get(name) or {}
        if isinstance(found, str):
            return cls((), Template.of(component, found, knows))
        if not isinstance(found, dict):
            raise ManifestError(f"{component.type}.{name} is no mapping", component.line)
        for value in found.values():
            if isinstance(value, Component):
                raise unsupported(value)
        return cls(
            tuple(
                (
                    Template.of(component, key, knows),
                    Template.of(component, value, knows) if isinstance(value, str) else value,
                )
                for key, value in found.items()
                if key != "$parameters"
            )
        )

    def value(self, run: Run, types: tuple[type, ...], **variables: Any) -> dict[str, Any] | str:
        if self.text is not None:
            found = self.text.entry(run.scope, types, **variables)
            return found if isinstance(found, dict | str) else ""
        made = {}
        for key, value in self.names:
            if isinstance(value, Template):
                value = value.entry(run.scope, types, **variables)
            if value is not None:
                made[str(key.entry(run.scope, (str,), **variables))] = value
        return made


@dataclass(frozen=True)
class Requester:
    """A request that may be made for any part and page of a stream."""

    base: Template
    path: Template | None
    method: str
    params: Inputs
    headers: Inputs
    data: Inputs
    json: Tree | None
    authenticator: Authenticator
    errors: ErrorHandler
    decoder: Decoder
    line: int

    @classmethod
    def of(
        cls,
        component: Component,
        decoder: Component | None = None,
        extra: frozenset[str] = frozenset(),
    ) -> "Requester":
        if component.type != "HttpRequester":
            raise unsupported(component)
        component.without("fetch_properties_from_endpoint", "query_properties")
        knows = REQUEST | extra
        method = str(component.get("http_method") or "GET").upper()
        if method not in METHODS:
            raise ManifestError(f"http_method is {method!r}", component.line)
        base = component.get("url_base") or component.get("url")
        if not base:
            raise UnsupportedError("HttpRequester without an address", component.line)
        url, path = Template.of(component, base, knows), component.get("path")
        if str(base).startswith("http://"):
            raise UnsupportedError("an address that is not https", component.line)
        data, json = _body(component, knows)
        return cls(
            url,
            Template.of(component, path, knows) if path else None,
            method,
            Inputs.of(component, "request_parameters", knows),
            Inputs.of(component, "request_headers", knows),
            data,
            json,
            authenticator(component.part("authenticator"), url),
            ErrorHandler.of(component.part("error_handler")),
            Decoder.of(decoder),
            component.line,
        )

    def addresses(self) -> list[Template]:
        """All addresses that it may send something of the settings to."""
        own = [] if self.is_elsewhere else [self.base]
        return [*own, *self.authenticator.addresses()]

    @property
    def is_elsewhere(self) -> bool:
        """Whether it asks for a file of which an answer says where it lies, with no secret."""
        is_linked = self.base.text.replace(" ", "") == "{{download_target}}"
        return is_linked and isinstance(self.authenticator, Nobody)

    @property
    def where(self) -> str:
        """The request as the manifest names it, which holds nothing of the settings."""
        return f"{self.method} {self.path.text if self.path else self.base.text}"[:160]

    def bodies(self, response: Response) -> list[Any]:
        return self.decoder.bodies(response)

    def address(self, run: Run, path: str | None, **variables: Any) -> str:
        """The URL; `path` is one that an answer named, in place of the manifest's."""
        base = self.base.text_of(run.scope, **variables).strip()
        if not base.startswith("https://"):
            what = f"the address on line {self.base.line}, {self.base.text[:80]},"
            raise ContractError(f"{what} does not begin with https://: look at the settings")
        if not path and self.path is not None:
            path = self.path.text_of(run.scope, **variables).lstrip("/")
        if not path:
            return base
        return urljoin(base if base.endswith("/") else f"{base}/", path)

    def ask(
        self,
        run: Run,
        slice: Slice | None = None,
        token: Any = None,
        *,
        options: Options | None = None,
        path: str | None = None,
        resumed: bool = False,
        judges: Judge | None = None,
    ) -> Calls[Response | None]:
        """The answer; None of one that is to be ignored. `resumed`: it goes on with a listing that
        was left, so that a refusal means that the vendor no longer knows where it stood. `judges`
        says what an answer means that is otherwise a good one."""
        variables = {
            "stream_slice": slice if slice is not None else Slice(),
            "next_page_token": None if token is None else {"next_page_token": token},
        }
        for attempt in (1, 2):
            own = yield from self.authenticator.options(run)
            judge = self._judge(run, resumed, judges)
            request = self._request(run, own, options, path, judge, variables)
            try:
                response = yield from ask(request)
            except BrokenConnectionError:
                if attempt == 2 or not self.authenticator.forget(run):
                    raise
            else:
                is_ignored = self.errors.resolve(run.scope, response).action == "IGNORE"
                return None if is_ignored else response
        raise AssertionError("two attempts")

    def _request(
        self,
        run: Run,
        own: Options,
        options: Options | None,
        path: str | None,
        judge: Judge,
        variables: Mapping[str, Any],
    ) -> Request:
        made = self._given(run, variables)
        made.add(own)
        if options is not None:
            made.add(options)
        url = self.address(run, path, **variables)
        arguments: dict[str, Any] = {}
        if self.method in ("GET", "POST", "PUT", "PATCH"):
            if made.body_json and made.body_data:
                raise ContractError("a request with both a form and JSON as its body")
            if made.body_json:
                arguments["json"] = made.body_json
            elif isinstance(made.body_data, str) and made.body_data:
                arguments["text"] = made.body_data
            elif made.body_data:
                arguments |= as_form(made.body_data)
        here = variables.get("stream_slice")
        headers = {str(name).lower(): str(value) for name, value in made.header.items()}
        if self.decoder.raw:
            headers.setdefault("accept", "*/*")
        return Request(
            self.method,
            url,
            params=_unless_there(url, made.request_parameter),
            headers={**arguments.pop("headers", {}), **headers},
            raw=self.decoder.raw,
            judge=judge,
            file=self.is_elsewhere,
            part=key_of(here) if isinstance(here, Slice) else "",
            **arguments,
        )

    def _given(self, run: Run, variables: Mapping[str, Any]) -> Options:
        params = self.params.value(run, (str, list), **variables)
        headers = self.headers.value(run, (), **variables)
        json = self.json.value(run.scope, **variables) if self.json else None
        if json and not isinstance(json, dict):
            raise ContractError("a body of JSON that is no object")
        return Options(
            params if isinstance(params, dict) else {},
            headers if isinstance(headers, dict) else {},
            self.data.value(run, (str, list), **variables),
            json or {},
        )

    def _judge(self, run: Run, resumed: bool, judges: Judge | None) -> Judge:
        by_status = self.errors.judge(run.scope, run.title, self.where)

        def judge(response: Response) -> ConnectorError | None:
            error = by_status(response)
            if resumed and isinstance(error, ContractError) and response.status in LAPSED:
                return CheckpointExpiredError("the vendor no longer knows where this listing stood")
            if error is None and judges is not None and 200 <= response.status < 300:
                return judges(response)
            return error

        return judge


def _body(component: Component, knows: frozenset[str]) -> tuple[Inputs, Tree | None]:
    data, json = component.get("request_body_data"), component.get("request_body_json")
    holder = component
    if (body := component.part("request_body")) is not None:
        value = body.get("value")
        match body.type:
            case "RequestBodyJsonObject" | "RequestBodyGraphQL":
                json = value
            case "RequestBodyUrlEncodedForm" | "RequestBodyPlainText":
                data = value
            case _:
                raise unsupported(body)
    holder = Component.of({**component, "request_body_data": data}, component.line)
    if isinstance(json, dict):
        for value in json.values():
            if isinstance(value, Component) and value.type == "QueryProperties":
                raise unsupported(value)
    tree = Tree.of(component, json, knows) if json else None
    return Inputs.of(holder, "request_body_data", knows), tree


def _unless_there(url: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that the address does not have already."""
    made = as_params(params)
    if "?" not in url:
        return made
    known = parse_qs(urlsplit(url).query)
    return {name: value for name, value in made.items() if known.get(name, [""])[0] != str(value)}
