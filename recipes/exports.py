"""Exports: a vendor is asked for a file, looked in on until it is made, and the file is read.

A job that is not ready within a minute is looked in on again by the next sync: the checkpoint holds
what the vendor said of it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from connectors import (
    Calls,
    ConnectorError,
    ContractError,
    Response,
    RetryableError,
)
from recipes.manifest import Component, ManifestError
from recipes.requests import Requester
from recipes.runs import Run
from recipes.selectors import Extractor
from recipes.values import Slice

# How long between two looks at a job.
PAUSE = timedelta(seconds=10)
CREATED = frozenset({"creation_response"})
POLLED = CREATED | {"polling_response"}
DOWNLOADED = POLLED | {"download_target"}

Status = Literal["completed", "failed", "running", "timeout", "skipped"]
STATUSES: tuple[Status, ...] = ("completed", "failed", "running", "timeout", "skipped")


@dataclass(frozen=True)
class Export:
    """`create` asks for a file, `poll` how far it is, and `targets` where it lies, or are."""

    create: Requester
    poll: Requester
    ask_targets: Requester | None
    statuses: Mapping[str, Status]
    status: Extractor
    targets: Extractor | None

    @classmethod
    def of(cls, component: Component, extra: frozenset[str]) -> "Export":
        """The export of an AsyncRetriever; its downloads are requests of the stream itself."""
        component.without("abort_requester", "delete_requester", "url_requester")
        decoder = component.part("decoder")
        where = component.part("download_target_extractor") or component.part("urls_extractor")
        lists = component.part("download_target_requester")
        return cls(
            Requester.of(component.need("creation_requester"), decoder, extra),
            Requester.of(component.need("polling_requester"), decoder, extra | CREATED),
            Requester.of(lists, decoder, extra | POLLED) if lists is not None else None,
            _statuses(component.need("status_mapping")),
            Extractor.of(component.need("status_extractor")),
            Extractor.of(where) if where is not None else None,
        )

    def created(self, run: Run, slice: Slice) -> Calls[dict[str, Any]]:
        """What the vendor says of a file that it was asked for now."""
        response = yield from self.create.ask(run, slice)
        if response is None:
            raise ContractError(f"{run.title} does not say what becomes of an export")
        return _context(response)

    def downloads(self, run: Run, slice: Slice, job: Mapping[str, Any]) -> Calls[list[Slice]]:
        """The files of a job that is ready, each as the slice that its request is for.

        RetryableError while it is not; ContractError of one that failed.
        """
        here = _with(slice, creation_response=dict(job))
        response = yield from self.poll.ask(run, here, judges=self._until_ready(run))
        if response is None or (state := self._state(run, response)) == "skipped":
            return []
        if state != "completed":
            raise ContractError(f"{run.title} could not make an export ({state})")
        here = _with(here, polling_response=_context(response))
        if self.targets is None:
            return [_with(here, download_target="")]
        requester = self.poll
        if self.ask_targets is not None:
            requester = self.ask_targets
            response = yield from requester.ask(run, here)
        bodies = requester.bodies(response) if response is not None else []
        rows = self.targets.found(run, bodies).rows
        return [_with(here, download_target=row) for row in rows]

    def _until_ready(self, run: Run) -> Callable[[Response], ConnectorError | None]:
        def judge(response: Response) -> ConnectorError | None:
            try:
                if self._state(run, response) != "running":
                    return None
            except ContractError as error:
                return error
            return RetryableError(f"{run.title} still makes an export", retry_after=PAUSE)

        return judge

    def _state(self, run: Run, response: Response) -> Status:
        rows = self.status.found(run, self.poll.bodies(response)).rows
        known = self.statuses.get(str(rows[0])) if rows else None
        if known is None:
            raise ContractError(f"{run.title} says of an export what its manifest does not know")
        return known


def _statuses(component: Component) -> dict[str, Status]:
    found: dict[str, Status] = {}
    for status in STATUSES:
        for text in component.get(status) or ():
            if found.setdefault(str(text), status) != status:
                raise ManifestError(f"status_mapping has {text!r} twice", component.line)
    return found


def _context(response: Response) -> dict[str, Any]:
    body = response.json if isinstance(response.json, dict) else {}
    return {"headers": dict(response.headers), **body}


def _with(slice: Slice, **fields: Any) -> Slice:
    return Slice(slice.partition, slice.cursor_slice, {**slice.extra_fields, **fields})
