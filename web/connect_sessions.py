"""`POST /api/connect-sessions`: the SaaS's backend asks for a link, and sends a browser there."""

from dataclasses import replace
from datetime import datetime
from typing import Annotated, Self

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from accounts.runtime import Runtime
from connectors import OAuth2, all_connectors
from connectors.kernel.oauth import validated_answers
from integrations import load
from storage import connect_sessions
from storage.idempotency import Claim
from storage.tenants import Tenant
from web import _return_url
from web._auth import Caller, Scope, Shared, needs
from web._idempotency import Made, OnceOnly
from web._problems import Problem, invalid, responses
from web._state import Signer
from web._tenants import named

router = APIRouter(tags=["connections"])

Label = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}$")]


class NewConnectSession(BaseModel):
    """What a link is to be for."""

    model_config = ConfigDict(extra="forbid")

    tenant: str = Field(pattern=r"^[A-Za-z0-9_-]{1,63}$", description="The tenant's id or slug.")
    integration: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9_]{1,63}$",
        description="Only this one; the page lists all if not given.",
    )
    integrations: list[Annotated[str, StringConstraints(max_length=63)]] | None = Field(
        default=None,
        min_length=1,
        max_length=1_000,
        description="Only these, in this order; not together with `integration`.",
    )
    show_unconfigured: bool = Field(
        default=False,
        description="Show also what is not set up yet, and what to set; needs the scope `admin`.",
    )
    language: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z]{2,3}([-_][A-Za-z0-9]{1,8}){0,4}$",
        description="The person's language, as `de` or `fr-CA`. One that the pages are not "
        "written in, or none: they go by the browser's.",
    )
    label: Label | None = Field(
        default=None, description="Tells a second authorisation of one integration apart."
    )
    answers: dict[str, Annotated[str, StringConstraints(max_length=200)]] = Field(
        default={},
        max_length=10,
        description="What the integration asks before consent, where you know it: for shopify "
        "`shop`, its address at myshopify.com.",
    )
    return_url: str = Field(
        max_length=_return_url.MAX_LENGTH,
        description="Where the page leads back to: https, at NEXTAUTH_URL's host or one of "
        "CONNECT_RETURN_HOSTS.",
    )


class ConnectLink(BaseModel):
    """A link for one browser."""

    url: str = Field(description="Send the browser there; it opens once.")
    expires_at: datetime = Field(description="Until then it must be opened.")

    @classmethod
    def of(cls, own_url: str, secret: str, expires_at: datetime) -> Self:
        return cls(url=f"{own_url}/connect/{secret}", expires_at=expires_at)


@router.post(
    "/api/connect-sessions",
    status_code=201,
    summary="A link to connect accounts",
    response_model=ConnectLink,
    responses=responses(401, 403, 404, 409, 422, 429, 503),
)
async def create_connect_session(
    wanted: NewConnectSession,
    shared: Shared,
    caller: Annotated[Caller, needs(Scope.CONNECTIONS_WRITE)],
    once: OnceOnly,
) -> Response:
    """A single-use link by which a person connects accounts in a browser, within ten minutes."""

    async def make(claim: Claim | None) -> Made:
        tenant = await named(shared.database, caller, wanted.tenant)
        return Made(await _link(shared, caller, tenant, wanted), tenant.id, 201)

    return await once(caller, make)


async def _link(
    shared: Runtime, caller: Caller, tenant: Tenant, wanted: NewConnectSession
) -> ConnectLink:
    Signer.of(shared.settings)  # a link that could not be used is not handed out
    if wanted.integration is not None:
        _must_be_known(wanted.integration)
    integrations = _offered(wanted)
    if wanted.show_unconfigured and not caller.is_admin:
        raise Problem(403, "show_unconfigured: the token needs the scope admin")
    answers = _answers(wanted)
    try:
        return_url = _return_url.checked(wanted.return_url, shared.settings)
    except ValueError as error:
        raise invalid("body.return_url", str(error)) from None
    made, secret = await connect_sessions.create(
        shared.database,
        tenant.id,
        integration=wanted.integration,
        label=wanted.label,
        return_url=return_url,
        answers=answers,
        integrations=integrations,
        shows_unconfigured=wanted.show_unconfigured,
        language=wanted.language,
    )
    return ConnectLink.of(shared.settings.nextauth_url or "", secret, made.expires_at)


def _answers(wanted: NewConnectSession) -> dict[str, str]:
    """What was given of what the integration asks; the rest is asked on the page."""
    if not wanted.answers:
        return {}
    auth = load(wanted.integration).auth if wanted.integration else None
    asked = auth.questions if isinstance(auth, OAuth2) else ()
    given = tuple(question for question in asked if question.name in wanted.answers)
    if not isinstance(auth, OAuth2) or len(given) < len(wanted.answers):
        raise invalid("body.answers", "something that this integration does not ask")
    try:
        return validated_answers(replace(auth, questions=given), wanted.answers)
    except ValueError as error:
        raise invalid("body.answers", str(error)) from None


def _offered(wanted: NewConnectSession) -> tuple[str, ...]:
    """Each once, in the order given."""
    if wanted.integrations is None:
        return ()
    if wanted.integration is not None:
        raise invalid("body.integrations", "give either integration or integrations")
    names = tuple(dict.fromkeys(wanted.integrations))
    known = {connector.name for connector in all_connectors()}
    if unknown := [name for name in names if name not in known]:
        raise invalid("body.integrations", f"there is no {', '.join(map(repr, unknown))}")
    return names


def _must_be_known(integration: str) -> None:
    try:
        load(integration)
    except LookupError as error:
        raise invalid("body.integration", str(error)) from None
