"""What comes of a consent: tokens and accounts, kept as connections with the backfill they owe."""

from collections.abc import Mapping, Sequence

from accounts.runtime import Runtime
from connectors import (
    Account,
    BrokenConnectionError,
    Connector,
    ConnectorError,
    NotAllowedError,
    Words,
    say,
)
from connectors.kernel.hosts import check_account
from connectors.kernel.oauth import app_of_callback, app_of_grant, exchange, identify
from connectors.kernel.token_answers import Tokens
from integrations import load
from storage import grants
from storage.connect_sessions import Session
from storage.oauth_log import record
from web._notes import Note, explained, note
from web._state import Signer, State

# What vendors name in an error answer (RFC 6749 and OpenID Connect, and some of their own).
SAID_NO = frozenset({"access_denied", "user_cancelled_login", "user_cancelled_authorize"})
ADMINISTRATOR = frozenset(
    {"admin_policy_enforced", "org_internal", "consent_required", "interaction_required"}
)
UNAVAILABLE = frozenset({"server_error", "temporarily_unavailable"})
# Scopes that only say who the person is; vendors answer them under other names, or not at all.
IDENTITY = frozenset({"openid", "email", "profile", "offline_access"})


async def tokens_of(
    shared: Runtime, signer: Signer, state: State, callback: Mapping[str, str]
) -> tuple[Tokens, tuple[Account, ...]]:
    """The tokens for a callback's code, and the accounts that they open."""
    connector = load(state.integration)
    app = app_of_grant(connector, shared.settings.app(state.integration), state.answers)
    tokens = await exchange(
        connector,
        app_of_callback(connector, app, callback, shared.clock.now()),
        code=callback["code"],
        code_verifier=signer.code_verifier(state.nonce) if connector.oauth.pkce else None,
        transport=shared.transport,
        budget=shared.budget,
    )
    try:
        accounts = await identify(
            connector, tokens, callback, transport=shared.transport, budget=shared.budget
        )
    except (BrokenConnectionError, NotAllowedError) as error:
        if missing := missing_scopes(connector, tokens):
            listed = ", ".join(missing)
            raise BrokenConnectionError(
                say("not everything was allowed: %(scopes)s", scopes=listed)
            ) from error
        raise
    for account in accounts:
        check_account(connector, account)
    return tokens, accounts


async def finish(
    shared: Runtime,
    session: Session,
    integration: str,
    tokens: Tokens,
    accounts: Sequence[Account],
) -> Note:
    """Store the consent, its backfill owed; what the page tells of it."""
    connector = load(integration)
    await grants.connect(
        shared.database,
        shared.vault,
        tenant_id=session.tenant_id,
        integration=integration,
        tokens=tokens,
        accounts=accounts,
        label=session.label,
        owe_backfill=True,
    )
    names = ", ".join(account.name or account.id for account in accounts)
    connected = say(
        "%(title)s is connected: %(names)s. Its data is being read now.",
        title=connector.title,
        names=names,
    )
    if missing := missing_scopes(connector, tokens):
        lacking = say(
            "Not everything was allowed: %(scopes)s. What needs these cannot be read; to change "
            "that, reconnect and allow all.",
            scopes=", ".join(missing),
        )
        return note("doubt", connected, lacking)
    return note("done", connected)


async def failed(
    shared: Runtime, session: Session, integration: str, outcome: str, reason: str, *told: Words
) -> Note:
    """Logs a consent that came to nothing, with the vendor's own code, and gives the note that the
    page shows: that has none."""
    async with shared.database.transaction(session.tenant_id) as transaction:
        record(
            transaction,
            tenant_id=session.tenant_id,
            grant_id=None,
            integration=integration,
            event="failure",
            outcome=outcome,
            message=reason,
        )
    return note("problem", *told)


def refusal(connector: Connector, callback: Mapping[str, str]) -> tuple[str, tuple[Words, ...]]:
    """A vendor's `error=`: for the log, and in words for the person who comes back with it."""
    title, code = connector.title, callback["error"]
    nothing = say("Nothing was connected.")
    named = code if code.replace("_", "").isalnum() and code.isascii() else "an odd code"
    logged = f"{title} answered a consent with {named[:60]}"
    if error := connector.oauth.error_from(callback):
        return f"{logged}: {error}", (explained(title, error), nothing)
    if code in SAID_NO:
        told = say("You did not allow access at %(title)s, so nothing was connected.", title=title)
        return logged, (told,)
    if code in ADMINISTRATOR:
        told = say(
            "%(title)s wants an administrator of your organisation to allow this app first.",
            title=title,
        )
        return logged, (told, nothing)
    if code in UNAVAILABLE:
        told = say("%(title)s cannot answer right now: try again in some minutes", title=title)
        return logged, (told, nothing)
    told = say(
        "%(title)s did not accept our request, so nothing was connected. Whoever runs this service "
        "has to look at how its app is registered at %(title)s.",
        title=title,
    )
    return logged, (told,)


def exchange_failed(connector: Connector, error: ConnectorError) -> tuple[str, tuple[Words, ...]]:
    """An exchange that failed: for the log, and in words."""
    title = connector.title
    return f"{title} could not be connected: {error}", (
        say("%(title)s could not be connected.", title=title),
        explained(title, error),
        say("Nothing was stored; try again."),
    )


def missing_scopes(connector: Connector, tokens: Tokens) -> list[str]:
    """What was asked for and not given; an answer that names no scopes gave them all."""
    if not tokens.scope:
        return []
    given = {scope.lower() for scope in tokens.scope}
    # Some vendors answer a scope's last part only, others its full address.
    given |= {scope.rpartition("/")[2] for scope in given}
    # Shopify leaves out that who may write may read.
    given |= {f"read_{s.removeprefix('write_')}" for s in given if s.startswith("write_")}
    wanted = [scope for scope in connector.oauth.scopes if scope not in IDENTITY]
    return [
        scope
        for scope in wanted
        if scope.lower() not in given and scope.lower().rpartition("/")[2] not in given
    ]
