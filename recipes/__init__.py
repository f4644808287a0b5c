"""Connectors that are written down: manifests of Airbyte's low-code language, read as ours.

    recipe = recipes.read(text, name="freshcaller")
    recipe.connector    # its streams are generators that do no I/O, as all of ours are

A stream that needs what we lack is left out, and `unread` says why: none is read wrongly.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connectors import (
    Calls,
    Connector,
    Context,
    SettingsForm,
    SyncType,
)
from connectors.kernel.statuses import PARSE_ERRORS
from recipes.addresses import hosts_of, reaching
from recipes.checks import check_of
from recipes.limits import limits_of
from recipes.manifest import Component, ManifestError, UnsupportedError, load
from recipes.schemas import secrets_of
from recipes.streams import Built, named_apart, stream_of

__all__ = ["ManifestError", "Recipe", "Unread", "read"]


@dataclass(frozen=True)
class Unread:
    """A stream that is not read: the manifest's line, and the component or feature that we lack."""

    stream: str
    line: int
    why: str


@dataclass(frozen=True)
class Recipe:
    """A manifest that was read. `spec` is the JSON schema of the settings that a connection needs,
    `secrets` the paths of those that nobody is shown, and `check` tries them."""

    connector: Connector
    spec: Mapping[str, Any]
    secrets: frozenset[tuple[str, ...]]
    unread: tuple[Unread, ...]
    check: Callable[[Context], Calls[None]] = field(repr=False)


def read(text: str, name: str) -> Recipe:
    """The connector that a manifest describes, in YAML or JSON, under a name of ours.

    ManifestError names the line, and what is wrong, of a text that is no manifest.
    """
    root = load(text)
    title = _title(root, name)
    built, unread = _streams(root, title)
    spec = _spec(root)
    plans = {one.stream.title: one.plan for one in built}
    check = check_of(root.part("check"), plans, title)
    form = SettingsForm(schema=spec, secrets=secrets_of(spec), verify=check)
    addresses = [each for plan in plans.values() for each in plan.addresses()]
    hosts = hosts_of(addresses)
    exact = [host for host in hosts if "*" not in host]
    connector = Connector(
        name=name,
        title=title,
        sync_type=SyncType.PULL,
        base_url=f"https://{exact[0] if exact else 'address.invalid'}",
        auth=form,
        streams=tuple(one.stream for one in built),
        rate_limits=limits_of(root),
        hosts=hosts,
        files=("*",) if any(plan.links_to_files for plan in plans.values()) else (),
        reaches=reaching(addresses),
    )
    return Recipe(connector, spec, form.secrets, tuple(unread), check)


def _title(root: Component, name: str) -> str:
    return name.replace("_", " ").replace("-", " ").title()


def _streams(root: Component, title: str) -> tuple[list[Built], list[Unread]]:
    built: list[Built] = []
    unread: list[Unread] = []
    spec = root.part("spec")
    rules = spec.part("config_normalization_rules") if spec is not None else None
    for component in root.parts("streams"):
        called = str(component.get("name") or component.parameters.get("name") or "?")
        if rules is not None:
            # The settings would not be what the streams take them for.
            unread.append(Unread(called, rules.line, "Spec.config_normalization_rules"))
            continue
        try:
            built.append(stream_of(component, title))
        except (UnsupportedError, ManifestError) as error:
            why = error.why if isinstance(error, UnsupportedError) else str(error)
            unread.append(Unread(called, error.line or component.line, why))
        except PARSE_ERRORS as error:
            why = f"what is not written as the language has it ({type(error).__name__})"
            unread.append(Unread(called, component.line, why))
    for component in root.parts("dynamic_streams"):
        # Which streams there are, the settings say, or the vendor: a connector's are known before.
        resolver = component.part("components_resolver")
        why = f"streams that only a connection knows ({resolver.type if resolver else '?'})"
        unread.append(Unread(str(component.get("name") or "dynamic"), component.line, why))
    if not built and not unread:
        raise ManifestError("the manifest has no streams", root.line)
    return named_apart(built), unread


def _spec(root: Component) -> Mapping[str, Any]:
    spec = root.part("spec")
    found = spec.get("connection_specification") if spec is not None else None
    return dict(found) if isinstance(found, dict) else {"type": "object", "properties": {}}
