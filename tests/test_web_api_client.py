"""A client that is generated from the OpenAPI document goes the way of docs/api.md."""

import asyncio
import importlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx  # noqa: TID251 - the document is fetched as anybody does
import pytest
from openapi_python_client import generate
from openapi_python_client.config import Config, ConfigFile, MetaType
from prefect.client.orchestration import PrefectClient
from prefect.flow_engine import run_flow_async

from deployments.prefect_yaml import deploy
from flows.sync import sync
from tests._connecting import Connecting, connecting, note
from tests._sandboxed import Sandboxed
from tests._web import JWT_SECRET
from tests.test_documented import code

DOCS = Path(__file__).parent.parent / "docs/api.md"
PACKAGE = "generated_client"


def token(tenant_id: str, scope: str) -> str:
    """As docs/api.md makes one."""
    given: dict[str, Any] = {"tenant_id": tenant_id, "scope": scope, "JWT_SECRET": JWT_SECRET}
    exec(next(text for _, text in code(DOCS) if "import time\n" in text), given)  # noqa: S102
    return str(given["token"])


@pytest.fixture
def pages(world: Sandboxed, prefect_url: str) -> Iterator[Connecting]:
    with connecting(
        world.origin, world.database_url, ["hubspot"], prefect_api_url=prefect_url
    ) as opened:
        yield opened


@pytest.fixture
def generated(pages: Connecting, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """The modules of the client, as a generator makes it of the served document."""
    document = tmp_path / "openapi.json"
    document.write_bytes(httpx.get(f"{pages.origin}/openapi.json", trust_env=False).content)
    wanted = ConfigFile(package_name_override=PACKAGE, post_hooks=[])
    config = Config.from_sources(
        wanted, MetaType.NONE, document, "utf-8", overwrite=True, output_path=tmp_path / PACKAGE
    )
    said = list(generate(config=config))
    assert said == [], [(one.header, one.detail) for one in said]
    sys.path.insert(0, str(tmp_path))
    try:
        yield lambda name: importlib.import_module(f"{PACKAGE}.{name}")
    finally:
        sys.path.remove(str(tmp_path))
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]


async def _work(prefect: PrefectClient, run_id: UUID) -> None:
    """As a worker's process does, in this one."""
    flow_run = await prefect.read_flow_run(run_id)
    if flow_run.state is not None and not flow_run.state.is_final():
        await run_flow_async(
            sync, flow_run=flow_run, parameters=flow_run.parameters, return_type="state"
        )


async def test_it_makes_connects_syncs_reads_and_erases_a_tenant(
    pages: Connecting, world: Sandboxed, generated: Callable[[str], Any], prefect_url: str
) -> None:
    client_of = generated("client").AuthenticatedClient
    models = generated("models")

    def call(name: str, bearer: str, *args: Any, **more: Any) -> Any:
        with client_of(base_url=pages.origin, token=bearer, timeout=60) as client:
            answer = generated(f"api.{name}").sync_detailed(*args, client=client, **more)
        assert answer.status_code < 400, answer.content
        return answer.parsed

    admin, own_id = token(str(UUID(int=0)), "admin"), uuid4()
    new = models.NewTenant(slug="acme", name="Acme Inc.", tier=models.Tier.TEAM, id=own_id)
    made = [
        call("tenants.create_tenant", admin, body=new, idempotency_key="signup-4711")
        for _ in range(2)
    ]
    assert made[0] == made[1]
    assert made[0].id == own_id

    mine = token(str(own_id), "connections:read connections:write records:read")
    (hubspot,) = [
        one for one in call("integrations.list_integrations", mine).items if one.name == "hubspot"
    ]
    assert (hubspot.configured, hubspot.missing_settings) == (True, None)
    wanted = models.NewConnectSession(
        tenant="acme", integration="hubspot", return_url="https://app.example.com/apps"
    )
    link = call("connections.create_connect_session", mine, body=wanted)
    account = pages.account("hubspot", size=7)
    person = pages.person()
    page_after = person.connect(person.get(link.url), "hubspot", account)
    assert note(page_after)[0] == "done", page_after.text

    (connection,) = call("connections.list_connections", mine, integration="hubspot").items
    assert (connection.tenant_id, connection.account_id) == (own_id, account)
    async with PrefectClient(prefect_url) as prefect:
        await deploy(prefect)
        run = call("connections.start_sync", mine, connection.id)
        working = asyncio.create_task(_work(prefect, run.id))
        deadline = time.monotonic() + 120
        while run.state in ("waiting", "running") and time.monotonic() < deadline:
            await asyncio.sleep(0.2)
            run = await asyncio.to_thread(call, "runs.get_run", mine, run.id)
        await working
    assert run.state == "done", run
    assert run.streams["contacts"].changed > 0
    streams = {one.name: one for one in call("connections.list_streams", mine, connection.id).items}
    assert streams["contacts"].records == run.streams["contacts"].changed

    read: dict[str, Any] = {}
    cursor = None
    while True:
        page = call("records.list_records", mine, connection.id, "contacts", limit=3, cursor=cursor)
        read |= {record.id: record.data.to_dict() for record in page.items}
        cursor = page.next_cursor
        if cursor is None:
            break
    assert read == dict(
        world.all(
            "SELECT record_id, data FROM records WHERE connection_id = %s"
            " AND stream = 'hubspot.contacts' AND deleted_at IS NULL",
            connection.id,
        )
    )
    changed = call(
        "records.list_records", mine, connection.id, "contacts",
        changed_since=page.next_changed_since,
    )  # fmt: skip
    assert {record.id for record in changed.items} <= set(read)

    call("tenants.delete_tenant", admin, own_id)
    assert pages.rows("SELECT 1 FROM tenants") == []
    assert pages.rows("SELECT 1 FROM idempotency_keys WHERE sealed_answer IS NOT NULL") == []
