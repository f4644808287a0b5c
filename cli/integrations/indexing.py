"""Makes lines of the shipped index: `python -m cli.integrations.indexing NAME|WHEEL|FOLDER …`.

A name is fetched by pip, as it is set up here, and a folder's wheels are read as they lie there.
Lines of others stay. Nothing of a wheel is run, and none of its text is kept.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import integrations
from accounts import filled
from cli.integrations import _sources
from cli.integrations._sources import Found, SourceError
from integrations import UnreadableError, form, index
from integrations.index import Entry

_AUTHENTICATOR = re.compile(r"^\s*type:\s*[\"']?(\w+Authenticator)[\"']?\s*$", re.MULTILINE)


def entry(found: Found, former: Entry | None = None) -> Entry:
    """The facts of one manifest. What was measured of the same text stays known.

    UnreadableError of one that is not read at all; FormError where no form can be made of it.
    """
    recipe = integrations.recipe(found.name, found.text)
    form.fields(filled.form_of(recipe.connector))
    package, _, version = found.source.removeprefix("package:").partition("==")
    same = former is not None and former.sha256 == found.sha256
    return Entry(
        name=found.name,
        title=found.title,
        package=package,
        version=version,
        sha256=found.sha256,
        licence=found.licence,
        streams=tuple(stream.name for stream in recipe.connector.streams),
        unread=tuple(one.stream for one in recipe.unread),
        auth=tuple(sorted(set(_AUTHENTICATOR.findall(found.text)))),
        hosts=recipe.connector.hosts,
        level=former.level if same and former else 0,
    )


def _found(wanted: Iterable[str]) -> Iterator[tuple[str, Found | str]]:
    for each in wanted:
        path = Path(each)
        wheels = sorted(path.glob("*.whl")) if path.is_dir() else [path]
        named = not path.exists()
        for one in [path] if named else wheels:
            try:
                found = _sources.packaged(index.package_of(each)) if named else None
                yield str(one), found or _sources.in_wheel(one)
            except SourceError as error:
                yield str(one), str(error)


def main(wanted: list[str]) -> int:
    """How many could not be indexed; each is said."""
    known = dict(index.entries())
    failed = 0
    for name, found in _found(wanted):
        try:
            if isinstance(found, str):
                raise SourceError(found)  # noqa: TRY301 - said below, as the others
            made = entry(found, known.get(found.name))
        except (SourceError, UnreadableError, form.FormError) as error:
            failed += 1
            sys.stdout.write(f"{name}: left out: {error}\n")
        else:
            known[made.name] = made
            sys.stdout.write(
                f"{made.name} {made.version}: {len(made.streams)} streams,"
                f" {len(made.unread)} not read\n"
            )
    index.write(known.values())
    return failed


if __name__ == "__main__":
    sys.exit(bool(main(sys.argv[1:])))
