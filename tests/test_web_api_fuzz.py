"""The API's own description turned against it: whatever it is sent, it never answers with a 5xx."""

import asyncio
from random import Random
from typing import Any, TypeAlias
from uuid import uuid4

import httpx  # noqa: TID251 - a test asks the sandbox what there is
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.core.errors import InvalidSchema
from schemathesis.core.result import Err, Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from settings import Settings, read
from storage import runs
from storage.database import Database
from tests._sandboxed import Sandboxed, environment
from tests._web import EVERYTHING, JWT_SECRET, claims, serving_api, token

Operation: TypeAlias = APIOperation[Any, Any, Any, Any]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# Of each operation: with every run of the tests, and where the referees judge.
FEW, MANY = 3, 60
# There is no Prefect here, so that they are refused as the description says.
NEEDS_PREFECT = ("/api/connections/{connection_id}/sync", "/api/runs/{run_id}")


def _settings(origin: str, database_url: str, redis_url: str) -> Settings:
    given = environment(origin, database_url, redis_url, ["hubspot"])
    described = httpx.get(f"{origin}/_control").json()["stripe"]
    solo, team, enterprise, *_ = described["prices"]
    return read(
        _env_file=None,
        stripe_secret_key=described["access_token"],
        stripe_webhook_secret="whsec_canarycanary",
        stripe_price_id_solo=solo,
        stripe_price_id_team=team,
        stripe_price_id_enterprise=enterprise,
        jwt_secret=JWT_SECRET,
        nextauth_url="http://127.0.0.1:3000",
        nextauth_secret="canary-nextauth-secret-of-enough-characters",  # pragma: allowlist secret
        **{name.lower(): value for name, value in given.items()},
    )


# Another thread may draw a random number while a strategy does not.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")
@pytest.mark.parametrize(
    "examples",
    [FEW, pytest.param(MANY, marks=[pytest.mark.referee, pytest.mark.timeout(1_800)])],
)
async def test_whatever_it_is_sent_it_answers_as_described_and_never_with_a_5xx(
    origin: str, database: Database, database_url: str, redis_url: str, examples: int
) -> None:
    chosen = _settings(origin, database_url, redis_url)
    hubspot = await Sandboxed(origin, chosen, database, database_url).connect("hubspot", size=3)
    run_id = uuid4()
    await runs.start(database, hubspot, trigger="schedule", flow_run_id=run_id)
    known = {
        "tenant_id": str(hubspot.tenant_id),
        "connection_id": str(hubspot.id),
        "run_id": str(run_id),
        "integration": "hubspot",
        "key": "OPENAI_API_KEY",
        "stream": "contacts",
    }
    async with serving_api(chosen) as api:
        document = (await api.get("/openapi.json")).json()
        schema = schemathesis.openapi.from_dict(document)
        operations = [_of(found) for found in schema.get_all_operations()]
        # What ends things comes last.
        operations.sort(key=lambda operation: (operation.method == "delete", operation.label))
        assert len(operations) >= 28
        for operation in operations:
            await asyncio.to_thread(_send, operation, str(api.http.base_url), known, examples)


def _of(found: Ok[Operation] | Err[InvalidSchema]) -> Operation:
    if isinstance(found, Err):
        raise found.err()
    return found.ok()


def _send(operation: Operation, origin: str, known: dict[str, str], examples: int) -> None:
    random = Random(operation.label)

    @seed(20261123)
    @settings(
        max_examples=examples,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def send(case: Case[Any]) -> None:
        # Half of what is asked for exists; each time it is another who asks, for the rates' sake.
        for name in known.keys() & (case.path_parameters or {}).keys():
            if random.random() < 0.5:
                case.path_parameters[name] = known[name]
        bearer = token(claims(uuid4(), f"admin {EVERYTHING} tokens:read keys:read"))
        response = case.call(
            base_url=origin,
            session=session,
            headers={"authorization": f"Bearer {bearer}"},
            timeout=60,
        )
        if operation.path in NEEDS_PREFECT and response.status_code == 503:
            return
        case.validate_response(response, checks=CHECKS)

    with requests.Session() as session:
        send()
