"""The application, which `python -m web` serves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from accounts.runtime import opened
from billing import customers as selling
from settings import Settings, read
from web import (
    _background,
    _document,
    _log,
    _problems,
    api,
    billing,
    callback,
    connect,
    connect_sessions,
    metrics,
    settings_form,
    webhooks,
)
from web._limits import BodyLimit
from web._log import AccessLog
from web._look import Look
from web._version import API_VERSION


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
        title=_document.TITLE,
        version=API_VERSION,
        summary=_document.SUMMARY,
        description=_document.DESCRIPTION,
        openapi_tags=_document.tags(),
        servers=[{"url": chosen.nextauth_url or "/", "description": "This service"}],
        generate_unique_id_function=lambda route: route.name,
        lifespan=lifespan,
    )
    app.state.look = Look.of(chosen)
    app.state.metrics = metrics.Counted()
    app.openapi = partial(_document.described, app)  # type: ignore[method-assign]
    app.include_router(callback.router)  # first: below, /api/integrations/{integration} is any name
    app.include_router(api.router)
    app.include_router(api.health_router)
    for pages in (billing, connect_sessions, connect, settings_form, metrics):
        app.include_router(pages.router)
    _problems.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(AccessLog)
    app.add_middleware(webhooks.WebhookMiddleware)  # the last one added is the outermost
    return app
