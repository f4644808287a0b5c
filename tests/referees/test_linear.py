"""`@linear/sdk` against the sandbox, with only its address set; and the schema that it was made of.

The package is Linear's own, in TypeScript: it is installed with npm, into a folder of the test's.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx  # noqa: TID251 - a client without an SDK
import pytest
from graphql import (
    GraphQLEnumType,
    GraphQLInputObjectType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    parse,
    validate,
)

from connectors import load
from sandbox import start
from sandbox.linear.schema import SCHEMA
from tests._delivered import sandboxed
from tests._driving import drive
from tests.reports.test_linear import Workspace, row

pytestmark = pytest.mark.referee

PACKAGE = "@linear/sdk@98.0.0"
MINUTES = 5 * 60
MADE = timedelta(days=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package in it."""
    npm = shutil.which("npm")
    if npm is None or not shutil.which("node"):
        pytest.skip("node and npm are not here: Linear's SDK runs in nothing else")
    folder = tmp_path_factory.mktemp("linear")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", PACKAGE]
    installed = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=MINUTES, check=False
    )
    if installed.returncode:
        pytest.skip(f"npm could not install {PACKAGE}: {installed.stderr[-200:]}")
    return folder


@pytest.fixture(scope="module")
def types(folder: Path) -> dict[str, dict[str, str]]:
    """Linear's types, by name: the TypeScript of each of their fields."""
    (declared,) = (folder / "node_modules/@linear/sdk/dist").glob("index-*.d.mts")
    text = re.sub(r"/\*.*?\*/", "", declared.read_text(), flags=re.DOTALL)
    found = {}
    for name, body in re.findall(r"^type (\w+) = (?:[\w &]+ & )?\{\n(.*?)^\};", text, re.M | re.S):
        fields = re.findall(r"^ {2}(\w+)(\??): (.+);$", body, re.M)
        found[name] = {field: f"{optional}{type_}" for field, optional, type_ in fields}
    for name, body in re.findall(r"^declare enum (\w+) \{\n(.*?)^\}", text, re.M | re.S):
        found[name] = dict.fromkeys(re.findall(r'= "(\w+)"', body), "")
    assert len(found) > 1_000
    return found


def in_typescript(type_: Any, *, maybe: str) -> str:
    """A type of GraphQL as it is written there; what may be missing begins with a question mark."""
    written = _required(type_, maybe)
    return f"?{written}" if written.startswith(f"{maybe}<") else written


def _required(type_: Any, maybe: str) -> str:
    if not isinstance(type_, GraphQLNonNull):
        return f"{maybe}<{_required(GraphQLNonNull(type_), maybe)}>"
    inner = type_.of_type
    if isinstance(inner, GraphQLList):
        return f"Array<{_required(inner.of_type, maybe)}>"
    plain = isinstance(inner, GraphQLObjectType | GraphQLInputObjectType | GraphQLEnumType)
    return inner.name if plain else f'Scalars["{inner.name}"]'


def test_the_sandbox_has_no_type_field_or_argument_that_linear_has_not(
    types: dict[str, dict[str, str]],
) -> None:
    """Nor one of another type: so a query that the sandbox takes, Linear takes."""
    wrong: list[str] = []

    def compare(of: str, name: str, type_: Any, maybe: str) -> None:
        known = types.get(of, {}).get(name)
        wanted = in_typescript(type_, maybe=maybe)
        if known != wanted:
            wrong.append(f"{of}.{name} is {known}, not {wanted}")

    for name, type_ in SCHEMA.type_map.items():
        if name.startswith("__"):
            continue
        if isinstance(type_, GraphQLEnumType):
            wrong += [
                f"{name} has no {value}" for value in type_.values if value not in types[name]
            ]
        elif isinstance(type_, GraphQLInputObjectType):
            for inner, known in type_.fields.items():
                compare(name, inner, known.type, "InputMaybe")
        elif isinstance(type_, GraphQLObjectType):
            for inner, known in type_.fields.items():
                compare(name, inner, known.type, "Maybe")
                for argument, of in known.args.items():
                    holder = f"{name}{inner[0].upper()}{inner[1:]}Args"
                    compare(holder, argument, of.type, "InputMaybe")
    assert not wrong, wrong


def test_every_query_of_the_connector_is_valid_by_that_schema() -> None:
    for stream in load("linear").streams:
        space = Workspace(row(1, MADE, history={"nodes": [], "pageInfo": {"hasNextPage": False}}))
        drive(stream.read, space)
        (request,) = space.asked
        assert not validate(SCHEMA, parse(request.json["query"])), stream.name


@pytest.fixture(scope="module")
def described() -> Iterator[dict[str, Any]]:
    with start(["linear"]) as origin:
        yield httpx.get(f"{origin}/_control").json()["linear"]


@pytest.fixture(scope="module")
def run(folder: Path, described: dict[str, Any]) -> Callable[..., Any]:
    """Runs a script with a client of the SDK, and gives what it prints."""

    node = shutil.which("node") or "node"

    def run(script: str, **more: Any) -> Any:
        given = {
            "apiUrl": f"{described['base_url']}/graphql",
            "accessToken": described["access_token"],
            **more,
        }
        (folder / "script.mjs").write_text(
            "import * as sdk from '@linear/sdk';\n"
            "import { LinearWebhookClient } from '@linear/sdk/webhooks';\n"
            f"const given = {json.dumps(given)};\n"
            "const linear = new sdk.LinearClient("
            "{ apiUrl: given.apiUrl, accessToken: given.accessToken });\n"
            f"const print = (value) => console.log(JSON.stringify(value));\n{script}"
        )
        done = subprocess.run(
            [node, "script.mjs"],
            cwd=folder, capture_output=True, text=True, timeout=MINUTES, check=False,
        )  # fmt: skip
        assert not done.returncode, done.stderr[-2_000:]
        return json.loads(done.stdout)

    return run


def test_the_sdk_pages_through_a_connection(run: Callable[..., Any]) -> None:
    found = run(
        """
        let page = await linear.workflowStates({ first: 7, includeArchived: true });
        while (page.pageInfo.hasNextPage) page = await page.fetchNext();
        print(page.nodes.map(({ id, name, type, createdAt }) => ({ id, name, type, createdAt })));
        """
    )
    assert len({each["id"] for each in found}) == len(found) == 20
    made = [each["createdAt"] for each in found]
    assert made == sorted(made, reverse=True)


def test_the_sdk_sends_the_connectors_queries(run: Callable[..., Any]) -> None:
    space = Workspace()
    for stream in load("linear").streams:
        drive(stream.read, space)
    asked = [request.json for request in space.asked]
    sizes = run(
        """
        const sizes = [];
        for (const { query, variables } of given.asked) {
            const answer = await linear.client.rawRequest(query, variables);
            sizes.push(answer.data.rows.nodes.length);
        }
        print(sizes);
        """,
        asked=asked,
    )
    assert len(sizes) == len(load("linear").streams)
    assert all(sizes)


def test_the_sdk_knows_each_refusal_for_what_it_is(
    run: Callable[..., Any], described: dict[str, Any]
) -> None:
    control = described["base_url"].partition("/api.linear.app")[0] + "/_control/linear/faults"
    names = run(
        """
        const named = async (ask) => {
            try { await ask(); return ""; } catch (error) {
                return [error.constructor.name, error.type, error.status];
            }
        };
        const raw = (query) => named(() => linear.client.rawRequest(query));
        const found = [
            await raw("{ issues(first: 251) { nodes { id } } }"),
            await raw("{ issues(first: 200) { nodes { history { nodes { id } } } } }"),
            await raw("{ issues { nodes { colour } } }"),
        ];
        const stranger = new sdk.LinearClient({ apiUrl: given.apiUrl, accessToken: "no" });
        found.push(await named(() => stranger.viewer));
        await fetch(given.control, { method: "POST", body: JSON.stringify({ kind: "429" }) });
        found.push(await raw("{ viewer { id } }"));
        print(found);
        """,
        control=control,
    )
    assert names == [
        ["InvalidInputLinearError", "InvalidInput", 400],
        ["InvalidInputLinearError", "InvalidInput", 400],
        ["GraphqlLinearError", "GraphqlError", 400],
        ["AuthenticationLinearError", "AuthenticationError", 401],
        ["RatelimitedLinearError", "Ratelimited", 400],
    ]


def test_the_sdk_proves_a_delivery_and_refuses_a_forged_one(run: Callable[..., Any]) -> None:
    with sandboxed("linear") as place:
        secret = place.point()["secret"]
        account = place.connect()
        place.order(forge=1)
        for _ in range(2):
            place.change(account, "issues", "add")
            place.standing(idle=True)
        calls = [
            {"body": call.body.decode(), "signature": call.headers["linear-signature"]}
            for call in place.receiver.calls
        ]
    told = run(
        """
        const client = new LinearWebhookClient(given.secret);
        print(given.calls.map(({ body, signature }) => {
            try { return client.parseData(Buffer.from(body), signature).type; }
            catch (error) { return error.message; }
        }));
        """,
        secret=secret,
        calls=calls,
    )
    assert told == ["Invalid webhook signature", "Issue"]
