"""Runs in the CDK's own environment: reads manifests as the CDK does, with a player for a vendor.

A line of JSON on its standard input is a manifest to read; a line of JSON on its standard output is
what was asked for and what came of it. Each is read in a process of its own, within its time.
"""

import gc
import io
import json
import logging
import os
import pickle
import resource
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

# The packages that the player is in import, themselves, what is not installed here.
for _name, _folder in (
    ("tests", Path(__file__).parents[1]),
    ("tests.referees", Path(__file__).parent),
):
    _module = ModuleType(_name)
    _module.__path__ = [str(_folder)]
    sys.modules[_name] = _module

import airbyte_cdk.sources.declarative.parsers.model_to_component_factory  # noqa: F401 - slow
import requests
import yaml
from airbyte_cdk.models import (
    AirbyteStateBlob,
    AirbyteStateMessage,
    AirbyteStateType,
    AirbyteStreamState,
    StreamDescriptor,
)
from airbyte_cdk.sources.concurrent_source.concurrent_source import ConcurrentSource  # noqa: F401
from airbyte_cdk.sources.declarative.concurrent_declarative_source import (
    ConcurrentDeclarativeSource,
)
from airbyte_cdk.sources.declarative.parsers.manifest_component_transformer import (
    ManifestComponentTransformer,
)
from airbyte_cdk.sources.declarative.parsers.manifest_reference_resolver import (
    ManifestReferenceResolver,
)
from airbyte_cdk.sources.message.concurrent_repository import ConcurrentMessageRepository
from airbyte_cdk.sources.streams.call_rate import APIBudget
from airbyte_cdk.sources.streams.http.http_client import HttpClient
from freezegun import freeze_time
from requests.structures import CaseInsensitiveDict

from tests.referees.player.calls import Call, UnplayableError
from tests.referees.player.plain import Plain
from tests.referees.player.vendor import RUNS, Player

logging.disable(logging.CRITICAL)


class Wire:
    """What goes out, instead of the network."""

    def __init__(self) -> None:
        self.player: Player | Plain | None = None
        self.calls: list[dict[str, Any]] = []

    def send(self, adapter: Any, request: requests.PreparedRequest, **_: Any) -> requests.Response:
        assert self.player is not None
        call = Call.sent(
            request.method or "GET",
            request.url or "",
            dict(request.headers),
            request.body,
        )
        self.calls.append(call.written(is_token=self.player.is_token(call)))
        answer = self.player.answer(call)
        response = requests.Response()
        response.status_code = answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response._content = answer.body
        response.url = request.url or ""
        response.request = request
        response.encoding = "utf-8"
        response.raw = io.BytesIO(answer.body)
        return response


WIRE = Wire()


def install() -> None:
    """Puts the player where the network is, and takes out waits, caches and budgets."""
    requests.adapters.HTTPAdapter.send = lambda self, request, **options: WIRE.send(self, request)
    session = HttpClient._request_session

    def uncached(self: Any) -> Any:
        self._use_cache = False
        return session(self)

    HttpClient._request_session = uncached
    # Nobody takes the messages from the queue here.
    ConcurrentMessageRepository.emit_message = lambda self, message: None
    ConcurrentMessageRepository.log_message = lambda self, level, provider: None
    APIBudget.acquire_call = lambda self, request, block=True, timeout=None: None
    ConcurrentDeclarativeSource._pre_process_manifest = preprocess
    time.sleep = lambda seconds: None


def resolved(manifest: dict[str, Any]) -> dict[str, Any]:
    manifest.setdefault("type", "DeclarativeSource")
    whole = ManifestReferenceResolver().preprocess_manifest(manifest)
    found: dict[str, Any] = ManifestComponentTransformer().propagate_types_and_parameters(
        "", whole, {}
    )
    return found


def preprocess(source: Any, manifest: dict[str, Any]) -> dict[str, Any]:
    """Manifests come here resolved."""
    return manifest


@contextmanager
def at(run: str, frozen: bool) -> Iterator[None]:
    if not frozen:
        yield
        return
    with freeze_time(RUNS[run], ignore=["queue", "threading", "selectors"]):
        time.sleep = lambda seconds: None
        yield


def read(job: dict[str, Any]) -> dict[str, Any]:
    text = job["text"]
    whole = resolved(yaml.load(text, yaml.CSafeLoader))
    fresh = pickle.dumps(whole)
    result: dict[str, Any] = {"resolved": whole, "runs": {}}
    states: dict[str, Any] = {}
    for run in job.get("runs", list(RUNS)):
        player = Plain() if job.get("plain") else Player(whole, run, bare=job.get("bare", False))
        result.setdefault("config", player.config)
        WIRE.player = player
        began = time.process_time()
        with at(run, not job.get("plain")):
            out = _run(pickle.loads(fresh), player, states if run == "second" else {})
        # What was looked at once is not looked at again; its references are in place already.
        ConcurrentDeclarativeSource._validate_source = lambda self: None
        result["dynamic"] = out.pop("dynamic")
        result["runs"][run] = out
        out["unplayable"] = player.unplayable
        out["cpu"] = time.process_time() - began
        if run == "first":
            states = {name: one["state"] for name, one in out["streams"].items()}
    return result


def _run(
    manifest: dict[str, Any], player: Player | Plain, states: dict[str, Any]
) -> dict[str, Any]:
    state = [
        AirbyteStateMessage(
            type=AirbyteStateType.STREAM,
            stream=AirbyteStreamState(
                stream_descriptor=StreamDescriptor(name=name), stream_state=AirbyteStateBlob(value)
            ),
        )
        for name, value in states.items()
        if value
    ]
    source = ConcurrentDeclarativeSource(
        catalog=None, config=player.config, state=state, source_config=manifest
    )
    WIRE.calls = []
    source._prepare_for_stream_build()
    dynamic = source.dynamic_streams
    player.add(dynamic)
    every = source._stream_configs(source._source_config) + dynamic
    out: dict[str, Any] = {}
    left: dict[str, str] = {}
    # One after the other: one that names Python which is not here leaves the others.
    for config in every:
        try:
            (stream,) = source._create_streams([config], every)
        except Exception as error:
            left[str(config.get("name"))] = _said(error)
            continue
        player.begin()
        out[stream.name] = _stream(stream, source)
    return {"streams": out, "left": left, "dynamic": dynamic}


def _stream(stream: Any, source: ConcurrentDeclarativeSource) -> dict[str, Any]:
    WIRE.calls = []
    records: list[Any] = []
    errors: list[str] = []
    unplayable = None
    began = time.process_time()
    try:
        # As the concurrent source does it, one partition after the other.
        for partition in stream.generate_partitions():
            try:
                for record in partition.read():
                    records.append(dict(record.data))
                    stream.cursor.observe(record)
                stream.cursor.close_partition(partition)
            except UnplayableError:
                raise
            except Exception as error:
                if isinstance(cause := _cause(error), UnplayableError):
                    raise cause from None
                errors.append(_said(error))
        stream.cursor.ensure_at_least_one_state_emitted()
    except UnplayableError as error:
        unplayable = str(error)
    except Exception as error:
        if isinstance(cause := _cause(error), UnplayableError):
            unplayable = str(cause)
        else:
            errors.append(_said(error))
    cpu = time.process_time() - began
    state = source._connector_state_manager.get_stream_state(stream.name, stream.namespace)
    return {
        "calls": WIRE.calls,
        "records": json.loads(json.dumps(records, default=str)),
        "errors": errors,
        "unplayable": unplayable,
        "state": json.loads(json.dumps(state, default=str)),
        "cpu": cpu,
    }


def _cause(error: BaseException | None) -> BaseException | None:
    while error is not None and not isinstance(error, UnplayableError):
        error = error.__cause__ or error.__context__
    return error


def _said(error: BaseException) -> str:
    kind = getattr(error, "failure_type", None)
    text = getattr(error, "internal_message", None) or getattr(error, "message", None) or str(error)
    return f"{type(error).__name__} {getattr(kind, 'value', '')}: {text}"[:400]


def _in_a_process(job: dict[str, Any], seconds: float) -> dict[str, Any]:
    """The result of one job, read in a fork of this process that is ended when its time is over."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        try:
            resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
            result = read(job)
        except BaseException as error:
            last = traceback.format_exc().splitlines()[-12:]
            result = {"failed": _said(error), "trace": last}
        with os.fdopen(into, "w") as file:
            json.dump(result, file, default=str)
        os._exit(0)
    os.close(into)
    found, ends = bytearray(), time.monotonic() + seconds
    selector = selectors.DefaultSelector()
    selector.register(out, selectors.EVENT_READ)
    with os.fdopen(out, "rb", buffering=0) as file:
        while True:
            if not selector.select(max(0.0, ends - time.monotonic())):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return {"failed": f"not read within {seconds:.0f} s"}
            piece = file.read(2**20)
            if not piece:
                break
            found += piece
    os.waitpid(child, 0)
    try:
        answer: dict[str, Any] = json.loads(found)
    except ValueError:
        return {"failed": "its process ended early"}
    return answer


def main() -> None:
    # The CDK prints messages of its own.
    results, sys.stdout = sys.stdout, open(os.devnull, "w")  # noqa: SIM115
    install()
    gc.freeze()
    for line in sys.stdin:
        job = json.loads(line)
        result = _in_a_process(job, job.get("seconds", 60))
        print(json.dumps({"name": job.get("name"), **result}), file=results, flush=True)


if __name__ == "__main__":
    main()
