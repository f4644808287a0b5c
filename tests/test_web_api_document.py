"""The OpenAPI document is valid, says what is so, and docs/api.md types what it describes."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests._web import JWT_SECRET, web_settings
from tests.test_documented import code
from web._auth import Scope, verified
from web._version import API_VERSION
from web.api._fields import DEFAULT_LIMIT, MOST
from web.app import create_app

DOCS = Path(__file__).parent.parent / "docs/api.md"
# Proven otherwise than by a token, or by nothing.
OPEN = {"get_health", "get_readiness", "receive_stripe_event"}
SETTINGS = web_settings("postgresql://nobody@nowhere/nothing")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    made: dict[str, Any] = create_app(SETTINGS).openapi()
    return made


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def check(document: dict[str, Any], schema: dict[str, Any], value: Any) -> None:
    """ValidationError unless the value is one of that schema of the document's."""
    whole = {**schema, "components": document["components"]}
    Draft202012Validator(
        whole, format_checker=Draft202012Validator.FORMAT_CHECKER
    ).validate(value)  # fmt: skip


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["info"]["version"] == API_VERSION
    assert document["webhooks"] == {}


def test_every_example_is_one_of_its_schema(document: dict[str, Any]) -> None:
    tried = 0
    for node in nodes(document):
        if isinstance(node.get("examples"), list):
            for example in node["examples"]:
                check(document, node, example)
                tried += 1
        if "example" in node and "schema" in node:
            check(document, node["schema"], node["example"])
            tried += 1
    assert tried > 40


def test_operations_are_called_as_one_would_and_are_told_of(document: dict[str, Any]) -> None:
    tags = {tag["name"] for tag in document["tags"] if tag["description"]}
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)
    for method, path, operation in operations(document):
        id = operation["operationId"]
        assert re.fullmatch(r"(list|get|create|update|delete|start|pause|resume|put|reveal|receive)"
                            r"_[a-z_]+", id), id  # fmt: skip
        assert operation["summary"], id
        assert len(operation["tags"]) == 1, id
        assert set(operation["tags"]) <= tags, id
        if id in OPEN:
            assert operation["security"] == [], id
        else:
            ((scope,),) = (each["JWT"] for each in operation["security"])
            assert scope in set(Scope), id
            assert {"401", "403", "422", "429", "500", "503"} <= set(operation["responses"]), id
        if "{" in path:
            assert "404" in operation["responses"], (method, path)


def test_every_error_is_described_as_problem_details(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if status >= "400":
                (kind,) = answer["content"]
                assert kind == "application/problem+json", (path, status)
            assert "X-Request-ID" in answer["headers"]
    assert "HTTPValidationError" not in json.dumps(document)


def test_every_list_has_pages(document: dict[str, Any]) -> None:
    for _, path, operation in operations(document):
        if operation["operationId"].startswith("list_"):
            taken = {each["name"]: each["schema"] for each in operation["parameters"]}
            assert "cursor" in taken, path
            limit = taken["limit"]
            assert (limit["default"], limit["maximum"]) == (DEFAULT_LIMIT, MOST), path


def test_what_makes_something_takes_an_idempotency_key(document: dict[str, Any]) -> None:
    taking = {
        operation["operationId"]
        for _, _, operation in operations(document)
        if any(each["name"] == "Idempotency-Key" for each in operation.get("parameters", ()))
    }
    assert taking == {
        "create_tenant", "create_connect_session", "start_sync", "create_checkout", "create_portal",
    }  # fmt: skip


def curls() -> list[str]:
    return [
        line.strip()
        for language, text in code(DOCS)
        if language != "inline"
        for line in re.sub(r"\\\n\s*", "", text).splitlines()
        if line.strip().startswith("curl ")
    ]


@pytest.mark.parametrize("line", [line for line in curls() if "$API/api" in line])
def test_a_request_can_be_sent_as_it_is_documented(line: str, document: dict[str, Any]) -> None:
    words = shlex.split(line)
    method = words[words.index("-X") + 1] if "-X" in words else "GET"
    url = urlsplit(next(word for word in words if word.startswith("$API/")))
    found = [
        operation
        for verb, path, operation in operations(document)
        if verb == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", f"$API{path}")
                                           .replace("$", r"\$"), url.path)
    ]  # fmt: skip
    assert found, "there is no such route"
    operation = found[0]
    headers = {words[at + 1].split(":")[0] for at, word in enumerate(words) if word == "-H"}
    assert "Authorization" in headers
    taken = {each["name"]: each["schema"] for each in operation.get("parameters", ())}
    assert headers - {"Authorization"} <= set(taken)
    for name, value in parse_qsl(url.query):
        check(document, taken[name], int(value) if value.isdecimal() else value)
    if "--json" in words:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        check(document, schema, json.loads(words[words.index("--json") + 1]))


def test_every_step_of_the_way_is_documented() -> None:
    assert len(curls()) >= 12


def test_tokens_are_made_as_documented(tmp_path: Path) -> None:
    texts = [text for _, text in code(DOCS)]
    given: dict[str, Any] = {
        "tenant_id": str(UUID(int=7)), "scope": "admin", "JWT_SECRET": JWT_SECRET,
    }  # fmt: skip
    exec(next(text for text in texts if "import time\n" in text), given)  # noqa: S102
    caller = verified(SETTINGS, given["token"], now=datetime.now(UTC))
    assert (caller.tenant_id, caller.is_admin) == (UUID(int=7), True)

    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / ".atom").mkdir()
    (tmp_path / ".atom/jwt-secret").write_text(f"{JWT_SECRET}\n")
    shell = next(text for text in texts if "token()" in text)
    done = subprocess.run(
        ["/bin/sh", "-c", f"{shell}\necho $ADMIN"],
        cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    caller = verified(SETTINGS, done.stdout.strip(), now=datetime.now(UTC))
    assert (caller.tenant_id, caller.is_admin) == (UUID(int=0), True)
