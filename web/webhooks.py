"""Where vendors deliver: proven, read, stored, and only then answered.

In this order: size, signature over the raw bytes, events, commit to the inbox, 2xx. What is not
proven is 401 and stores nothing; what is proven and of no use to us is counted and answered as if
it were, for a vendor that is refused tries again and then gives us up.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import HTTPException
from prometheus_client import Counter
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from accounts.runtime import Runtime
from connectors import (
    Connector,
    ConnectorError,
    Delivery,
    Effect,
    Event,
    Reply,
    SignatureError,
    Webhook,
    all_connectors,
)
from connectors.kernel.statuses import PARSE_ERRORS
from integrations import load
from settings import webhooks
from storage import DatabaseUnavailableError
from storage.inbox import Arrival
from web._coverage import Coverage
from web._inbox import BusyError, Inbox
from web._limits import MAX_DELIVERY, HeldBody
from web._problems import RETRY_SECONDS, Problem, answer, problem_for
from web._proofs import Proofs

log = logging.getLogger("atom-sync.webhooks")
DELIVERIES = Counter(
    "atom_webhook_deliveries", "Deliveries by what became of them.", ("integration", "outcome")
)
UNREADABLE = Counter(
    "atom_webhook_unreadable_events",
    "Events of a form that we cannot read; the log names the form.",
    ("integration",),
)

# A label of a metric is never a stranger's word.
NAMES = frozenset(connector.name for connector in all_connectors())


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The delivery ends here, with that answer."""

    def __init__(self, outcome: str, response: Response) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.response = response


@dataclass(frozen=True)
class Call:
    """A call to one of the vendors' addresses; `path_token` stands after the integration."""

    integration: str
    path_token: str
    delivery: Delivery


class Ingress:
    """What receiving deliveries takes, for as long as the process lives."""

    def __init__(self, runtime: Runtime, inbox: Inbox, coverage: Coverage) -> None:
        self.runtime = runtime
        self.inbox = inbox
        self.coverage = coverage
        self.proofs = Proofs(runtime)
        self._enabled = frozenset(
            each.name for each in all_connectors() if webhooks.is_enabled(runtime.settings, each)
        )

    async def receive(self, call: Call) -> Response:
        """The answer to one call; everything that happened is counted under its outcome."""
        try:
            connector, webhook = self._connector(call.integration)
        except _Refused as refused:
            return _counted(call.integration, refused)
        try:
            outcome, reply = await self._received(call, connector, webhook)
        except _Refused as refused:
            return _counted(connector.name, refused)
        except (BusyError, DatabaseUnavailableError) as error:
            return _counted(connector.name, self._untaken(connector, error))
        except Exception:
            # A fault of ours: the vendor gets a 500, and may give up before it is mended.
            DELIVERIES.labels(connector.name, "failed").inc()
            self.coverage.failed(connector)
            raise
        DELIVERIES.labels(call.integration, outcome).inc()
        # What a vendor wants to read again may hold what UTF-8 has no bytes for.
        body = reply.body.encode(errors="replace")
        return Response(
            body, reply.status, headers=dict(reply.headers), media_type=reply.content_type
        )

    def _connector(self, integration: str) -> tuple[Connector, Webhook]:
        try:
            connector = load(integration)
        except LookupError:
            raise _refused("unknown", 404, "there is no such integration") from None
        if connector.webhook is None or integration not in self._enabled:
            raise _refused("disabled", 404, f"{connector.title} delivers nothing here")
        return connector, connector.webhook

    async def _received(
        self, call: Call, connector: Connector, webhook: Webhook
    ) -> tuple[str, Reply]:
        delivery = call.delivery
        if (reply := webhook.handshake(delivery)) is not None:
            return "handshake", reply
        if delivery.method != "POST":
            raise _refused("method", 405, "deliveries are POSTed", allow="POST")
        connection_id = self._addressee(call.path_token, webhook)
        try:
            if webhook.verify is not None:
                await self.proofs.verify(connector, webhook.verify, delivery)
            events, proven = self._read(connector, webhook, delivery)
            arrivals = await self._arrivals(connector, webhook, delivery, events, connection_id)
        except SignatureError as error:
            await self.coverage.refused(connector)
            raise _refused("signature", 401, str(error)) from None
        self.coverage.proven(connector)
        if not proven:
            await self.coverage.unreadable(connector)
            return "unreadable", Reply()
        await self._note_unreadable(connector, arrivals)
        await self.inbox.store(arrivals)
        self.coverage.taken(connector)
        return "accepted", webhook.reply(delivery)

    async def _note_unreadable(self, connector: Connector, arrivals: Sequence[Arrival]) -> None:
        """Events that nobody understands are counted by their form; of whom one does not tell, it
        may be of every connection."""
        unread = [one for one in arrivals if one.event.effect is Effect.UNREADABLE]
        for one in unread:
            UNREADABLE.labels(connector.name).inc()
            log.warning("%s sent an event that we cannot read: %s", connector.title, one.event.type)
        if any(not one.event.account_id and one.connection_id is None for one in unread):
            await self.coverage.unreadable(connector)

    def _addressee(self, given: str, webhook: Webhook) -> UUID | None:
        """Whose address it is, if it is one connection's own."""
        if not given:
            if webhook.secret_in_url:
                raise _refused("signature", 401, "this address has to end in what proves it")
            return None
        found = webhooks.connection_of(self.runtime.settings, given, proven=webhook.secret_in_url)
        if found is None:
            outcome, status = ("signature", 401) if webhook.secret_in_url else ("unknown", 404)
            raise _refused(outcome, status, "this is no address of ours")
        return found

    def _read(
        self, connector: Connector, webhook: Webhook, delivery: Delivery
    ) -> tuple[Sequence[Event], bool]:
        """The events; False where a proven delivery has a form that we cannot read."""
        try:
            return webhook.events(delivery), True
        except SignatureError:
            raise
        except (ConnectorError, *PARSE_ERRORS) as error:
            if webhook.verify is None and not webhook.secret_in_url:
                # Nobody has proven anything yet: it is as likely noise as the vendor's.
                raise _refused("unreadable", 400, "this is no delivery that we can read") from None
            kind = type(error).__name__
            log.warning("%s delivered something that we cannot read (%s)", connector.title, kind)
            return (), False

    async def _arrivals(
        self,
        connector: Connector,
        webhook: Webhook,
        delivery: Delivery,
        events: Sequence[Event],
        connection_id: UUID | None,
    ) -> list[Arrival]:
        """Each event with its connection, where a watch or the address tells it."""
        arrivals = []
        forged: SignatureError | None = None
        for event in events:
            owner = connection_id
            if event.watch_id:
                known = await self.proofs.watch(connector.name, event.watch_id)
                if known is None or owner not in (None, known.connection_id):
                    continue  # ended by us a moment ago, or never ours
                if webhook.verify_event is not None:
                    try:
                        webhook.verify_event(delivery, event, known.secret)
                    except SignatureError as error:
                        forged = error
                        continue
                owner = known.connection_id
            elif webhook.verify_event is not None and webhook.verify is None:
                continue  # nothing proves it
            elif not event.account_id and not webhook.secret_in_url:
                # Only the address says whose it is, and nothing proves that.
                if event.effect is not Effect.UNREADABLE or webhook.verify is None:
                    continue
                owner = None
            arrivals.append(
                Arrival(
                    integration=connector.name,
                    event=event,
                    received_at=delivery.received_at,
                    connection_id=owner,
                )
            )
        if forged is not None and not arrivals:
            raise forged
        return arrivals

    def _untaken(self, connector: Connector, error: Exception) -> _Refused:
        """The vendor is to deliver it again; and if it does not, that time is a gap."""
        if isinstance(error, BusyError):
            outcome, why, detail = "busy", "more came than could be stored", str(error)
        else:
            log.debug("%s: %s", connector.name, error)
            outcome, why = "unavailable", "the database was away, or not well"
            detail = "the database is away or busy; deliver it again"
        self.coverage.untaken(connector, why)
        return _refused(outcome, 503, detail, **{"retry-after": str(RETRY_SECONDS)})


@asynccontextmanager
async def opened(runtime: Runtime, wake: Callable[[], None]) -> AsyncIterator[Ingress]:
    """Receiving, for as long as the block lasts; `wake` is called when something was stored."""
    async with Coverage.kept(runtime) as coverage, Inbox.opened(runtime.database, wake) as inbox:
        yield Ingress(runtime, inbox, coverage)


class WebhookMiddleware:
    """The outermost layer: what comes to the vendors' addresses goes no further.

    Not as routes: there is no session, no schema and no line of the log for each delivery, and a
    vendor may send thousands a second. They are counted instead.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not scope["path"].startswith(f"{webhooks.PATH}/"):
            await self._app(scope, receive, send)
            return
        try:
            response = await _answer(scope, receive)
        except ClientDisconnect:
            return  # nobody is there to be answered
        except Exception as error:
            response = answer(problem_for(error))
        response.headers["cache-control"] = "no-store"
        response.headers["x-content-type-options"] = "nosniff"
        await response(scope, receive, send)


async def _answer(scope: Scope, receive: Receive) -> Response:
    integration, _, path_token = scope["path"].removeprefix(f"{webhooks.PATH}/").partition("/")
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    known = integration if integration in NAMES else "unknown"
    try:
        held = HeldBody(MAX_DELIVERY, headers.get("content-length", "0"))
        try:
            body = await _body(receive, held)
            return await _ingress(scope).receive(
                _call(scope, integration, path_token, headers, body)
            )
        finally:
            held.give_back()
    except ClientDisconnect:
        DELIVERIES.labels(known, "left").inc()
        raise
    except HTTPException as error:
        DELIVERIES.labels(known, "size" if error.status_code == 413 else "room").inc()
        if error.status_code == 503 and known != "unknown":
            _ingress(scope).coverage.untaken(load(known), "more came than there was room for")
        return answer(problem_for(error))


def _ingress(scope: Scope) -> Ingress:
    ingress: Ingress = scope["app"].state.ingress
    return ingress


def _call(
    scope: Scope, integration: str, path_token: str, headers: Mapping[str, str], body: bytes
) -> Call:
    runtime = _ingress(scope).runtime
    query = scope["query_string"].decode("latin-1")
    path = scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
    delivery = Delivery(
        method=scope["method"],
        url=f"{runtime.settings.nextauth_url or ''}{path}{'?' if query else ''}{query}",
        headers=headers,
        query=dict(parse_qsl(query, keep_blank_values=True)) if query else {},
        body=body,
        received_at=runtime.clock.now(),
    )
    return Call(integration, path_token, delivery)


async def _body(receive: Receive, held: HeldBody) -> bytes:
    """The body, as far as there is room for it."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        held.take(part)
        parts.append(part)
        if not message.get("more_body"):
            return b"".join(parts)


def _counted(integration: str, refused: _Refused) -> Response:
    known = integration if refused.outcome != "unknown" else "unknown"
    DELIVERIES.labels(known, refused.outcome).inc()
    return refused.response


def _refused(outcome: str, status: int, detail: str, **headers: str) -> _Refused:
    return _Refused(outcome, answer(Problem(status, detail, headers=headers)))
