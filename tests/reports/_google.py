"""What the played reports of Google's vendors share: refusals, and one who polls a stream."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Connector,
    ConnectorError,
    Context,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Unread,
)
from connectors.kernel.rounds import Rounds
from connectors.kernel.statuses import PARSE_ERRORS, error_by_status, unreadable
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
    listed; what was read before a failure stays, and what the vendor could not show yet is asked
    for again, and taken for gone only after some minutes.
    """

    def __init__(
        self, connector: Connector, stream: str, vendor: Callable[[Request], Response]
    ) -> None:
        self.connector, self.stream, self.vendor = connector, connector.stream(stream), vendor
        self.rows: Mapping[str, Record] = {}
        self.at = Checkpoint()
        self.error: ConnectorError | None = None
        self.unread: Sequence[Unread] = ()
        self.unsettled: dict[str, datetime] = {}
        self.calls: list[Request] = []

    def poll(self, now: datetime = NOW) -> list[Request]:
        """One run; the calls that it took."""
        self.calls, self.error = [], None
        try:
            self._settle(now)
            try:
                self._take(self.stream.read(self.at, self._context(now)), now)
            except CheckpointExpiredError:
                self._whole(now)
        except ConnectorError as error:
            self.error = error
        return self.calls

    def audit(self, now: datetime = NOW) -> None:
        """A full read, which finds what the vendor did not tell of."""
        self.calls, self.error = [], None
        at = self.at
        self._whole(now)
        self.at = at

    def _whole(self, now: datetime) -> None:
        before, self.rows = self.rows, {}
        try:
            unseen = self._take(self.stream.read(Checkpoint(), self._context(now)), now)
        except ConnectorError:
            self.rows = {**before, **self.rows}
            raise
        kept = {key: row for key, row in before.items() if key.startswith(tuple(unseen))}
        self.rows = {**kept, **self.rows}

    def _settle(self, now: datetime) -> None:
        due = [key for key, since in self.unsettled.items() if now - since >= timedelta(minutes=1)]
        if not due or self.stream.fetch is None:
            return
        before = self.rows
        self._take(self.stream.fetch(due, self._context(now)), now, moves=False)
        for key in due:
            young = now - self.unsettled[key] < timedelta(minutes=5)
            if not young or key in self.rows or key in before or key.endswith("/"):
                del self.unsettled[key]

    def _context(self, now: datetime) -> Context:
        return Context(now=now, account_id="ann@firm.example")

    def _take(self, reader: Reader, now: datetime, *, moves: bool = True) -> Sequence[str]:
        rounds, unseen = Rounds(), cast(Sequence[str], ())
        answer: Any = None
        while True:
            failed = isinstance(answer, ConnectorError)
            try:
                action = reader.throw(answer) if failed else reader.send(answer)
            except StopIteration:
                return unseen
            except PARSE_ERRORS as error:
                raise unreadable(self.connector.title, error) from None
            if isinstance(action, Page):
                rounds.came(action)
                self.rows = held(self.stream, [action], self.rows)
                self.unread = self.unread if action.unread is None else action.unread
                self.unsettled |= {key: now for key in action.unsettled}
                unseen = action.unseen
                if moves:
                    self.at = Checkpoint(json.loads(json.dumps(action.checkpoint)))
                answer = None
                continue
            asked = action if isinstance(action, tuple) else (action,)
            try:
                answers = tuple(self._answered(request, now) for request in asked)
                for request, found in zip(asked, answers, strict=True):
                    rounds.answered(request, found)
            except ConnectorError as error:
                answer = error
            else:
                answer = answers if isinstance(action, tuple) else answers[0]

    def _answered(self, request: Request, now: datetime) -> Response:
        self.calls.append(request)
        assert len(self.calls) < MOST, "it never ends"
        answer = replace(self.vendor(request), sent_at=now)
        if answer.status in request.expect:
            error = self.connector.classify(answer)
            error = error if error is not None and error.may_pass else None
        else:
            error = meaning(self.connector, answer)
        if error is not None:
            raise error
        return answer
