"""What the played reports of Google's vendors share: refusals, and one who polls a stream."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    ConnectorError,
    Context,
    Page,
    Record,
    Request,
    Response,
    RetryableError,
)
from connectors._answers import error_by_status
from tests._driving import NOW, held, response

# More calls than any of these situations takes.
MOST = 400


def refusal(code: int, reason: str, message: str = "", **more: Any) -> Response:
    """An error in Google's form."""
    detail = {"domain": "global", "reason": reason, "message": message}
    error = {"code": code, "message": message, "errors": [detail], **more}
    return response({"error": error}, status=code)


def meaning(connector: Connector, answer: Response) -> ConnectorError | None:
    """What the client makes of an answer that no reader expects; None of a good one."""
    return connector.classify(answer) or error_by_status(connector.title, "GET /x", answer)


class Mirror:
    """What is held of a stream by one who polls it.

    As a flow run does, it reads anew what the vendor has forgotten, and then drops what is not
    listed; what was read before a failure stays.
    """

    def __init__(
        self, connector: Connector, stream: str, vendor: Callable[[Request], Response]
    ) -> None:
        self.connector, self.stream, self.vendor = connector, connector.stream(stream), vendor
        self.rows: Mapping[str, Record] = {}
        self.at = Checkpoint()
        self.error: ConnectorError | None = None
        self.calls: list[Request] = []

    def poll(self, now: datetime = NOW) -> list[Request]:
        """One run; the calls that it took."""
        self.calls, self.error = [], None
        try:
            try:
                self._read(self.at, now)
            except CheckpointExpiredError:
                before, self.rows = self.rows, {}
                try:
                    self._read(Checkpoint(), now)
                except ConnectorError:
                    self.rows = {**before, **self.rows}
                    raise
        except ConnectorError as error:
            self.error = error
        return self.calls

    def _read(self, at: Checkpoint, now: datetime) -> None:
        reader = self.stream.read(at, Context(now=now, account_id="ann@firm.example"))
        sent: Any = None
        while True:
            try:
                action = reader.send(sent)
            except StopIteration:
                return
            if isinstance(action, Page):
                self.rows, self.at = held(self.stream, [action], self.rows), action.checkpoint
                sent = None
            elif isinstance(action, tuple):
                sent = tuple(self._answered(request, now) for request in action)
            else:
                sent = self._answered(action, now)

    def _answered(self, request: Request, now: datetime) -> Response:
        self.calls.append(request)
        assert len(self.calls) < MOST, "it never ends"
        answer = replace(self.vendor(request), sent_at=now)
        if answer.status in request.expect:
            error = self.connector.classify(answer)
            error = error if isinstance(error, RetryableError) else None
        else:
            error = meaning(self.connector, answer)
        if error is not None:
            raise error
        return answer
