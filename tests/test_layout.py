"""The rules of the folders that the import lint has no word for: no cycles, and what is private."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "accounts", "billing", "cli", "connectors", "deployments", "flows", "sandbox", "servers",
    "settings", "storage", "web",
)  # fmt: skip
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(module: str) -> Iterator[str]:
    """The modules of ours that a module imports, at its top, for its types or inside of a function.

    A package counts where a name of its own is imported, not where it only leads to a module.
    """
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                name = inner if inner in FILES else node.module
                if name in FILES:
                    yield name
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)


def test_no_module_imports_itself_by_way_of_another() -> None:
    try:
        tuple(
            TopologicalSorter({name: set(imported(name)) - {name} for name in FILES}).static_order()
        )
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_module_with_an_underscore_is_imported_by_its_own_package_alone() -> None:
    for module in FILES:
        for name in imported(module):
            parts = name.split(".")
            private = next((at for at, part in enumerate(parts) if part.startswith("_")), None)
            if private is not None:
                owner = ".".join(parts[:private])
                assert f"{module}.".startswith(f"{owner}."), f"{module} imports {name}"
