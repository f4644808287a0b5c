"""Who calls the API: a bearer JWT of the SaaS's backend, for one tenant, with the scopes it needs.

The tokens are HS256 under JWT_SECRET. While the secret is being changed (`new,former`) both are
accepted. A thing of another tenant is as good as absent: 404, as if it did not exist.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import OctKey
from joserfc.jwt import JWTClaimsRegistry

from accounts.runtime import Runtime
from settings import Settings, SettingsError
from storage import NotFoundError
from storage.rows import is_storable
from web import _limits
from web._described import query_names
from web._problems import SHOWN, Problem, invalid

AUDIENCE = "atom-sync"
LEEWAY_SECONDS = 30  # clocks of two machines differ
MAX_TOKEN = 8_192
MIN_SECRET = 32  # RFC 7518: as long as the hash, at least


class Scope(StrEnum):
    """What a token may be used for."""

    TENANTS_READ = "tenants:read"
    CONNECTIONS_READ = "connections:read"
    CONNECTIONS_WRITE = "connections:write"
    SETTINGS_READ = "settings:read"
    SETTINGS_WRITE = "settings:write"
    RECORDS_READ = "records:read"
    TOKENS_READ = "tokens:read"
    KEYS_READ = "keys:read"
    METRICS_READ = "metrics:read"
    BILLING_WRITE = "billing:write"
    ADMIN = "admin"


# `admin` includes every scope but those that give a secret away: they are always asked for by name.
SECRETS = frozenset({Scope.TOKENS_READ, Scope.KEYS_READ})
bearer = HTTPBearer(
    scheme_name="JWT",
    bearerFormat="JWT",
    auto_error=False,
    description=(
        f"HS256 under `JWT_SECRET`; required claims: `aud` (`{AUDIENCE}`), `exp`, `tenant_id` (a "
        f"UUID) and `scope` (space separated): {', '.join(f'`{scope}`' for scope in Scope)}. "
        "`admin` acts for every tenant, and includes all but `tokens:read` and `keys:read`."
    ),
)


@dataclass(frozen=True)
class Caller:
    """A verified token."""

    tenant_id: UUID
    scopes: frozenset[str]
    subject: str | None = None

    @property
    def is_admin(self) -> bool:
        return Scope.ADMIN in self.scopes

    def has(self, scope: str) -> bool:
        return scope in self.scopes or (self.is_admin and scope not in SECRETS)

    def acts_for(self, tenant_id: UUID) -> bool:
        return self.is_admin or tenant_id == self.tenant_id

    def must_act_for(self, tenant_id: UUID, absent: str) -> None:
        """NotFoundError with the text for what does not exist, unless the caller may see it."""
        if not self.acts_for(tenant_id):
            raise NotFoundError(absent)


def runtime(request: Request) -> Runtime:
    """What the process opened at its start."""
    opened: Runtime = request.app.state.runtime
    return opened


Shared = Annotated[Runtime, Depends(runtime)]


async def caller(
    request: Request,
    needed: SecurityScopes,
    shared: Shared,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Caller:
    """The caller, once its token is proven, has the scopes, and is within its rate."""
    if given is None:
        raise Problem(
            401, "send a token: `Authorization: Bearer …`", headers={"www-authenticate": "Bearer"}
        )
    found = verified(shared.settings, given.credentials, now=shared.clock.now())
    request.state.tenant_id = str(found.tenant_id)
    if missing := [scope for scope in needed.scopes if not found.has(scope)]:
        raise Problem(
            403,
            f"the token lacks the scope {' '.join(missing)}",
            headers={
                "www-authenticate": f'Bearer error="insufficient_scope", scope="{missing[0]}"'
            },
        )
    request.state.caller = found
    rate = _limits.of_scopes(needed.scopes)
    standing = await _limits.stand(shared.budget, rate, str(found.tenant_id))
    request.state.rate_headers = standing.headers
    standing.must_have_room()
    known_parameters(request)
    return found


def known_parameters(request: Request) -> None:
    """Problem 422 for a query parameter that the route has not, or that is given twice."""
    given = [name for name, _ in request.query_params.multi_items()]
    if not given:
        return
    known = query_names(request)
    for name in given:
        if name not in known:
            there_are = f"there are: {', '.join(known)}" if known else "this route takes none"
            raise invalid(f"query.{name[:SHOWN]}", f"there is no such parameter; {there_are}")
        if given.count(name) > 1:
            raise invalid(f"query.{name}", "it is given more than once")


def needs(*scopes: Scope) -> Any:
    """`Annotated[Caller, needs(Scope.RECORDS_READ)]`: a caller whose token has these scopes."""
    return Security(caller, scopes=[str(scope) for scope in scopes])


def verified(settings: Settings, token: str, *, now: datetime) -> Caller:
    """The caller that a token proves at that time; else Problem 401, whatever is wrong with it."""
    keys = _keys(settings)
    if len(token) > MAX_TOKEN:
        raise _refused("it is too long")
    for key in keys:
        try:
            claims = jwt.decode(token, key, algorithms=["HS256"]).claims
        except (JoseError, ValueError):
            continue  # not signed under this secret, or no token at all
        return _caller(claims, now)
    raise _refused("it is not signed by whom it should be")


def _caller(claims: Mapping[str, Any], now: datetime) -> Caller:
    registry = JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY_SECONDS,
        aud={"essential": True, "value": AUDIENCE},
        exp={"essential": True},
        tenant_id={"essential": True},
        scope={"essential": True},
    )
    try:
        registry.validate(dict(claims))
        tenant_id = UUID(claims["tenant_id"])
        scopes = frozenset(claims["scope"].split())
    except JoseError as error:
        raise _refused(error.description or error.error) from error
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise _refused("`tenant_id` must be a UUID and `scope` a text") from error
    subject = claims.get("sub")
    if isinstance(subject, str) and not is_storable(subject):
        raise _refused("`sub` must be a text without NUL and without half of a surrogate pair")
    return Caller(tenant_id, scopes, subject if isinstance(subject, str) else None)


def _keys(settings: Settings) -> list[OctKey]:
    if settings.jwt_secret is None:
        raise SettingsError("the API is off: set JWT_SECRET (make one: openssl rand -base64 48)")
    secrets = [part.strip() for part in settings.jwt_secret.get_secret_value().split(",")]
    if any(len(secret) < MIN_SECRET for secret in secrets):
        raise SettingsError(
            f"the API is off: JWT_SECRET needs {MIN_SECRET} characters or more, and so does the "
            "former one after the comma"
        )
    return [OctKey.import_key(secret.encode()) for secret in secrets]


def _refused(reason: str) -> Problem:
    return Problem(
        401,
        f"the token is not accepted: {reason}",
        headers={"www-authenticate": 'Bearer error="invalid_token"'},
    )
