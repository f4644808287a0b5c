"""The JSON API over real HTTP, as the SaaS's backend calls it."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx  # noqa: TID251 - a test calls our own API
from fastapi import FastAPI
from joserfc import jwt
from joserfc.jwk import OctKey

from servers.ports import free_port
from settings import Settings, read
from tests._sandboxed import KEY
from tests._serving import serving
from web.app import create_app

JWT_SECRET = "canary-jwt-secret-of-enough-characters"  # pragma: allowlist secret
EVERYTHING = (
    "tenants:read connections:read connections:write settings:read settings:write records:read"
    " billing:write"
)
NOBODY = UUID(int=0)


def web_settings(database_url: str, **more: Any) -> Settings:
    given = {"encryption_keys": KEY, "jwt_secret": JWT_SECRET, **more}
    return read(_env_file=None, database_url=database_url, **given)


def claims(tenant_id: UUID = NOBODY, scope: str = EVERYTHING, **more: Any) -> dict[str, Any]:
    """A token's claims; those given as None stay away."""
    full = {
        "aud": "atom-sync",
        "exp": int(time.time()) + 600,
        "tenant_id": str(tenant_id),
        "scope": scope,
        **more,
    }
    return {name: value for name, value in full.items() if value is not None}


def token(payload: Mapping[str, Any], secret: str = JWT_SECRET, algorithm: str = "HS256") -> str:
    key = OctKey.import_key(secret.encode())
    return jwt.encode({"alg": algorithm}, dict(payload), key, algorithms=[algorithm])


@dataclass(frozen=True)
class Api:
    """The API, called with a token."""

    http: httpx.AsyncClient
    bearer: str = ""

    def as_(self, tenant_id: UUID = NOBODY, scope: str = EVERYTHING, **more: Any) -> "Api":
        return replace(self, bearer=token(claims(tenant_id, scope, **more)))

    async def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        return await self.http.request(
            method, path, headers={**headers, **options.pop("headers", {})}, **options
        )

    async def get(self, path: str, **params: Any) -> httpx.Response:
        return await self.call("GET", path, params=params)

    async def post(self, path: str, body: Any = None) -> httpx.Response:
        return await self.call("POST", path, json=body)


@asynccontextmanager
async def api_of(app: FastAPI) -> AsyncIterator[Api]:
    async with (
        serving(app) as origin,
        httpx.AsyncClient(base_url=origin, timeout=60, trust_env=False) as http,
    ):
        yield Api(http)


@asynccontextmanager
async def serving_api(settings: Settings) -> AsyncIterator[Api]:
    async with api_of(create_app(settings)) as api:
        yield api


@asynccontextmanager
async def web_process(
    settings: Settings, folder: Path
) -> AsyncIterator[tuple[subprocess.Popen[bytes], Api]]:
    """Our HTTP surface in a process of its own, which may be killed; it logs to web.log."""
    port = free_port(8800)
    with (folder / "web.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "web", "--port", str(port)],
            cwd=folder,
            env={
                **os.environ,
                **settings.environment(),
                "PYTHONPATH": str(Path(__file__).parents[1]),
            },
            stdout=log,
            stderr=log,
        )
    origin = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=origin, timeout=60, trust_env=False) as http:
            deadline = time.monotonic() + 120
            while True:
                with suppress(httpx.TransportError):
                    await http.get("/healthz")
                    break
                assert process.poll() is None, "it ended by itself"
                assert time.monotonic() < deadline, "it did not start"
                await asyncio.sleep(0.1)
            yield process, Api(http)
    finally:
        process.kill()
        process.wait()


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of an answer that must have this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["title"]
    return body
