"""For whoever runs the process: whether it lives, and whether it can serve."""

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from storage import SchemaError, check
from web._auth import Shared
from web._problems import Problem, responses

READY_SECONDS = 5
router = APIRouter(tags=["health"])


class Health(BaseModel):
    status: Literal["ok"] = "ok"


@router.get("/healthz", summary="The process lives")
async def get_health() -> Health:
    """Asks nothing of anybody: 200 as long as it runs."""
    return Health()


@router.get(
    "/readyz",
    summary="The database answers, and its schema is the one this version needs",
    responses=responses(503),
)
async def get_readiness(shared: Shared) -> Health:
    """For a load balancer: 503 while it had better send requests elsewhere."""
    url = shared.settings.database_url
    try:
        async with asyncio.timeout(READY_SECONDS):
            await check(url.get_secret_value() if url else "", shared.settings.atom_schema)
    except TimeoutError:
        raise Problem(503, "the database does not answer in time") from None
    except SchemaError as error:
        raise Problem(503, str(error)) from error
    return Health()
