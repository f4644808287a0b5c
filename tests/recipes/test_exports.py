"""Exports: asked for, looked in on, and read where they lie."""

import gzip
from typing import Any

import pytest
import yaml

from connectors import ContractError, Request, Response, RetryableError
from tests.recipes._playing import answer, line_of, only, play, read, stream

EXPORT = """
type: AsyncRetriever
creation_requester:
  type: HttpRequester
  url_base: https://api.made-up.example
  path: exports
  http_method: POST
  authenticator: {type: BearerAuthenticator, api_token: "{{ config['key'] }}"}
polling_requester:
  type: HttpRequester
  url_base: https://api.made-up.example
  path: "exports/{{ creation_response['id'] }}"
download_requester: {type: HttpRequester, url_base: "{{ download_target }}"}
download_decoder: {type: GzipDecoder, decoder: {type: CsvDecoder}}
download_target_extractor: {type: DpathExtractor, field_path: [urls]}
status_extractor: {type: DpathExtractor, field_path: [status]}
status_mapping: {completed: [ready], failed: [failed], running: [pending], timeout: [late]}
record_selector: {type: RecordSelector, extractor: {type: DpathExtractor, field_path: []}}
"""
FILES = ["https://files.elsewhere.example/a?sign=1", "https://files.elsewhere.example/b"]


def export() -> Any:
    return only({**stream(), "retriever": yaml.safe_load(EXPORT)})


class Vendor:
    """Makes an export, which is ready after some looks."""

    def __init__(self, *states: str) -> None:
        self.states = list(states)
        self.asked: list[str] = []

    def __call__(self, request: Request) -> Response:
        self.asked.append(line_of(request))
        if request.path.endswith("/exports"):
            assert request.headers["authorization"] == "Bearer canary"
            return answer({"id": 7})
        if request.path.endswith("/exports/7"):
            state = self.states.pop(0)
            return answer({"status": state, "urls": FILES if state == "ready" else []})
        assert (request.file, dict(request.headers)) == (True, {"accept": "*/*"})
        return answer(gzip.compress(b"id\n1\n" if "/a" in request.path else b"id\n2\n"))


def test_an_export_is_asked_for_and_read() -> None:
    vendor = Vendor("ready")
    played = play(export(), vendor)
    assert vendor.asked == ["POST /exports", "/exports/7", *FILES]
    assert played.records == [{"id": "1"}, {"id": "2"}]
    assert played.last.checkpoint == {}
    assert export().snapshot


def test_one_that_is_not_ready_is_looked_in_on_again_later() -> None:
    vendor = Vendor("pending", "ready")
    with pytest.raises(RetryableError, match="still makes an export") as failed:
        play(export(), vendor)
    (page,) = failed.value.played.pages  # type: ignore[attr-defined]
    rest = play(export(), vendor, at=page.checkpoint)
    assert rest.records == [{"id": "1"}, {"id": "2"}]
    assert vendor.asked == ["POST /exports", "/exports/7", "/exports/7", *FILES]


@pytest.mark.parametrize("state", ["failed", "late", "unknown"])
def test_one_that_fails_is_asked_for_anew(state: str) -> None:
    with pytest.raises(ContractError) as failed:
        play(export(), Vendor(state))
    pages = failed.value.played.pages  # type: ignore[attr-defined]
    vendor = Vendor("ready")
    assert len(play(export(), vendor, at=pages[-1].checkpoint).records) == 2
    assert vendor.asked[-4:] == ["POST /exports", "/exports/7", *FILES]


def test_files_lie_anywhere_and_secrets_go_to_the_vendor_alone() -> None:
    made = {**stream(), "retriever": yaml.safe_load(EXPORT)}
    connector = read(made).connector
    assert (connector.hosts, connector.files) == (("api.made-up.example",), ("*",))
    bearer = {"type": "BearerAuthenticator", "api_token": "{{ config['key'] }}"}
    made["retriever"]["download_requester"]["authenticator"] = bearer
    assert read(made).connector.files == ()


def test_a_status_that_means_two_things_is_refused() -> None:
    made = {**stream(), "retriever": yaml.safe_load(EXPORT)}
    made["retriever"]["status_mapping"]["failed"] = ["ready"]
    (one,) = read(made).unread
    assert "status_mapping has 'ready' twice" in one.why
