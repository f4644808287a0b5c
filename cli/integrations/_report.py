"""What `check` says of a manifest: what is read of it, what is not, and what a tenant fills in."""

from dataclasses import asdict, dataclass, field
from typing import Any

import integrations
from accounts import filled
from cli.integrations._sources import Found
from cli.terminal import out, plain
from integrations import UnreadableError, form, levels
from integrations.form import FormError

WORKS = "the vendor accepts these settings"


@dataclass(frozen=True)
class Left:
    """A stream that is not read: the manifest's line, and why."""

    stream: str
    line: int
    why: str


@dataclass
class Report:
    """`problem` says what keeps the whole from being used; `tried` what the vendor said."""

    found: Found
    streams: list[str] = field(default_factory=list)
    unread: list[Left] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)
    problem: str = ""
    tried: str = ""

    def as_json(self) -> dict[str, Any]:
        found = self.found
        return {
            "name": found.name, "title": found.title, "version": found.version,
            "sha256": found.sha256, "licence": found.licence, "source": found.source,
            "level": found.level, "streams": self.streams,
            "unread": [asdict(one) for one in self.unread], "settings": self.asked,
            "hosts": self.hosts, "problem": self.problem or None, "tried": self.tried or None,
        }  # fmt: skip


def of(found: Found) -> Report:
    """What is read of a manifest; nothing is called for it."""
    report = Report(found)
    try:
        recipe = integrations.recipe(found.name, found.text)
    except UnreadableError as error:
        report.problem = str(error)
        return report
    report.streams = [stream.name for stream in recipe.connector.streams]
    report.unread = [Left(one.stream, one.line, one.why) for one in recipe.unread]
    report.hosts = list(recipe.connector.hosts)
    auth = filled.form_of(recipe.connector)
    try:
        hidden = form.secrets(auth)
        report.asked = [
            f"{'.'.join(one.path)}{' (secret)' if one.path in hidden else ''}"
            for one in form.leaves(form.fields(auth))
        ]
    except FormError as error:
        report.problem = f"no form can be made of what it asks for: {error}"
    return report


def show(report: Report) -> None:
    found = report.found

    def line(text: str) -> None:
        out.print(plain(text), highlight=False, soft_wrap=True)

    line(f"{found.title} {found.version} ({found.licence}), level {levels.said(found.level)}")
    if report.problem:
        line(f"cannot be used: {report.problem}")
        return
    line(f"read: {', '.join(report.streams) or 'none'}")
    for one in report.unread:
        line(f"not read: {one.stream} (line {one.line}): {one.why}")
    line(f"asks for: {', '.join(report.asked) or 'nothing'}")
    line(f"calls: {', '.join(report.hosts)}")
    if report.tried:
        line(f"tried: {report.tried}")
