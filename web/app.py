"""The application, which `python -m web` serves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from accounts.runtime import opened
from billing import customers as selling
from settings import Settings, read
from web import (
    _background,
    _log,
    _problems,
    api,
    billing,
    callback,
    connect,
    connect_sessions,
    metrics,
    webhooks,
)
from web._limits import BodyLimit
from web._log import AccessLog
from web._look import Look

DESCRIPTION = """
The SaaS's backend speaks to this API with a token of its own making for one tenant.
Errors are problem details (RFC 9457). How to make tokens, and what each scope allows, is in
`docs/api.md`.
"""


def create_app(settings: Settings | None = None) -> FastAPI:
    """The HTTP surface on those settings, or on what the environment and `.env` say."""
    chosen = settings or read()
    _log.configure()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(chosen) as runtime:
            app.state.runtime = runtime
            async with (
                selling.opened(chosen, runtime.database, clock=runtime.clock) as app.state.billing,
                _background.billed(runtime, app.state.billing) as app.state.wake_billing,
                _background.kept(runtime) as app.state.wake_owed,
                _background.drained(runtime) as wake_drain,
                _background.scheduled(runtime),
                webhooks.opened(runtime, wake_drain) as app.state.ingress,
            ):
                yield

    # Swagger UI from the wheel: this origin runs no script of anybody else's server.
    app = FastAPIOffline(
        docs_url="/docs",
        redoc_url=None,
        static_url="/docs/static",
        title="atom-sync",
        version="0.1.0",
        description=DESCRIPTION,
        lifespan=lifespan,
    )
    app.state.look = Look.of(chosen)
    app.state.metrics = metrics.Counted()
    app.openapi = partial(_described, app)  # type: ignore[method-assign]
    app.include_router(api.router)
    app.include_router(api.health_router)
    for pages in (billing, connect_sessions, connect, callback, metrics):
        app.include_router(pages.router)
    _problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(AccessLog)
    app.add_middleware(webhooks.WebhookMiddleware)  # the last one added is the outermost
    return app


def _described(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with what the error answers of every route look like."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        schemas = document["components"]["schemas"]
        schemas[_problems.ProblemDetails.__name__] = _problems.ProblemDetails.model_json_schema()
        app.openapi_schema = document
    return app.openapi_schema
