"""The JSON API for the SaaS's backend, by subject."""

from fastapi import APIRouter

from web._problems import responses
from web.api import (
    connections,
    health,
    integrations,
    records,
    runs,
    secrets,
    settings,
    tenants,
)

router = APIRouter(responses=responses(401, 403, 422, 429, 503))
for subject in (tenants, integrations, connections, runs, records, settings, secrets):
    router.include_router(subject.router)
health_router = health.router

__all__ = ["health_router", "router"]
