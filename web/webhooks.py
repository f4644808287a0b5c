"""Where vendors deliver: proven, read, stored, and only then answered.

In this order: size, signature over the raw bytes, events, commit to the inbox, 2xx. What is not
proven is 401 and stores nothing; what is proven and of no use to us is counted and answered as if
it were, for a vendor that is refused tries again and then gives us up.
"""

import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

from fastapi import FastAPI
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import Response

from connectors import (
    Connector,
    ConnectorError,
    Delivery,
    Event,
    Reply,
    SignatureError,
    Webhook,
    load,
)
from connectors._answers import SHAPE_ERRORS
from deployments import webhooks
from deployments.runtime import Runtime
from storage import DatabaseUnavailableError
from storage.inbox import Arrival
from web._coverage import Coverage
from web._inbox import BusyError, Inbox
from web._problems import Problem, answer
from web._proofs import Proofs

log = logging.getLogger("atom-sync.webhooks")
DELIVERIES = Counter(
    "atom_webhook_deliveries", "Deliveries by what became of them.", ("integration", "outcome")
)


class _Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The delivery ends here, with that answer."""

    def __init__(self, outcome: str, response: Response) -> None:
        super().__init__(outcome)
        self.outcome = outcome
        self.response = response


class Ingress:
    """What receiving deliveries takes, for as long as the process lives."""

    def __init__(self, runtime: Runtime, inbox: Inbox, coverage: Coverage) -> None:
        self.runtime = runtime
        self.inbox = inbox
        self.coverage = coverage
        self.proofs = Proofs(runtime)

    async def receive(self, request: Request) -> Response:
        """The answer to one call; everything that happened is counted under its outcome."""
        integration = request.path_params["integration"]
        try:
            connector, webhook = self._connector(integration)
            outcome, reply = await self._received(request, connector, webhook)
        except _Refused as refused:
            known = integration if refused.outcome != "unknown" else "unknown"
            DELIVERIES.labels(known, refused.outcome).inc()
            return refused.response
        DELIVERIES.labels(integration, outcome).inc()
        return Response(
            reply.body, reply.status, headers=dict(reply.headers), media_type=reply.content_type
        )

    def _connector(self, integration: str) -> tuple[Connector, Webhook]:
        try:
            connector = load(integration)
        except LookupError:
            raise _refused("unknown", 404, "there is no such integration") from None
        if connector.webhook is None or not webhooks.is_enabled(self.runtime.settings, connector):
            raise _refused("disabled", 404, f"{connector.title} delivers nothing here")
        return connector, connector.webhook

    async def _received(
        self, request: Request, connector: Connector, webhook: Webhook
    ) -> tuple[str, Reply]:
        delivery = await _delivery(request, self.runtime)
        if (reply := webhook.handshake(delivery)) is not None:
            return "handshake", reply
        if delivery.method != "POST":
            raise _refused("method", 405, "deliveries are POSTed", allow="POST")
        connection_id = self._addressee(request, webhook)
        try:
            if webhook.verify is not None:
                await self.proofs.verify(connector, webhook.verify, delivery)
            events, proven = self._read(connector, webhook, delivery)
            arrivals = await self._arrivals(connector, webhook, delivery, events, connection_id)
        except SignatureError as error:
            await self.coverage.refused(connector)
            raise _refused("signature", 401, str(error)) from None
        self.coverage.accepted(connector)
        if not proven:
            await self.coverage.unreadable(connector)
            return "unreadable", Reply()
        await self._store(arrivals)
        return "accepted", webhook.reply(delivery)

    def _addressee(self, request: Request, webhook: Webhook) -> UUID | None:
        """Whose address it is, if it is one connection's own."""
        given = request.path_params.get("connection")
        if given is None:
            if webhook.addressed:
                raise _refused("signature", 401, "this address has to end in what proves it")
            return None
        found = webhooks.connection_of(self.runtime.settings, given, proven=webhook.addressed)
        if found is None:
            outcome, status = ("signature", 401) if webhook.addressed else ("unknown", 404)
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
        except (ConnectorError, *SHAPE_ERRORS) as error:
            if webhook.verify is None and not webhook.addressed:
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

    async def _store(self, arrivals: Sequence[Arrival]) -> None:
        again = {"retry-after": "5"}
        try:
            await self.inbox.store(arrivals)
        except BusyError as error:
            raise _refused("busy", 503, str(error), **again) from None
        except DatabaseUnavailableError:
            detail = "the database is away; deliver it again"
            raise _refused("unavailable", 503, detail, **again) from None


def install(app: FastAPI) -> None:
    """The two addresses. Not as API routes: they are the vendors', and take any body there is."""
    for path in ("/{integration}", "/{integration}/{connection}"):
        app.add_route(f"{webhooks.PATH}{path}", _receive, methods=["GET", "POST"])


async def _receive(request: Request) -> Response:
    ingress: Ingress = request.app.state.ingress
    return await ingress.receive(request)


@asynccontextmanager
async def opened(runtime: Runtime, wake: Callable[[], None]) -> AsyncIterator[Ingress]:
    """Receiving, for as long as the block lasts; `wake` is called when something was stored."""
    async with Coverage.kept(runtime) as coverage, Inbox.opened(runtime.database, wake) as inbox:
        yield Ingress(runtime, inbox, coverage)


async def _delivery(request: Request, runtime: Runtime) -> Delivery:
    public = runtime.settings.nextauth_url or str(request.base_url).rstrip("/")
    path = request.scope.get("raw_path", b"").decode("latin-1").partition("?")[0]
    query = request.scope["query_string"].decode("latin-1")
    return Delivery(
        method=request.method,
        url=f"{public}{path}{'?' if query else ''}{query}",
        headers=dict(request.headers),
        query=dict(request.query_params),
        body=await request.body(),
        received_at=datetime.now(UTC),
    )


def _refused(outcome: str, status: int, detail: str, **headers: str) -> _Refused:
    return _Refused(outcome, answer(Problem(status, detail, headers=headers)))
