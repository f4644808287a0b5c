"""Salesforce's change events, listened to over the Streaming API: Bayeux by long polling (CometD).

A session is a handshake, a subscription from a replay id on, and one call after the other that
Salesforce holds open until something happens. Events hold changed fields only, and no version: what
they name is read again. A replay id that is no longer kept, an event that stands for others
(overflow), or a channel from which nothing came yet leave a time for which we got no events: we
read that by change time.
https://developer.salesforce.com/docs/platform/api-streaming/guide
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from connectors import (
    BrokenConnectionError,
    Calls,
    Checkpoint,
    ConnectorError,
    Context,
    ContractError,
    Effect,
    Event,
    EventBatch,
    Feed,
    FeedGap,
    Listener,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
    ask,
)
from connectors.kernel.positions import Position
from connectors.kernel.statuses import PARSE_ERRORS
from connectors.kernel.versions import parse_time
from connectors.salesforce.events import STREAM_OF
from connectors.salesforce.query import eighteen, is_chosen, written

ENDPOINT = "{config[instance_url]}/cometd/67.0"
# All entities that the org's administrator has selected.
CHANNEL = "/data/ChangeEvents"
# Only what happens from now on.
TIP = -1
# A call without an event ends after 110 seconds; the answer to it has to come through, too.
HELD = timedelta(seconds=130)
# In which status a refusal comes is not documented (2026-11): its text is what counts.
STATUSES = (400, 401, 403, 404, 413)
# The org's allowance of listeners, or of events in a day.
WAIT = timedelta(minutes=30)
# Sessions in a row that ended before a call of theirs was held to its end.
MOST_SESSIONS = 4
# The budget of calls to listen.
LISTENING = "events"
EVERY_STREAM = (*STREAM_OF.values(), "custom_objects")


@dataclass(frozen=True, kw_only=True)
class _Heard(Position):
    """Up to which event the feed was heard, and up to when."""

    replay: int | None = None
    until: str = ""


@dataclass
class Standing:
    """How far the feed was heard: up to which event, and up to when. The next `Heard` carries
    what was `missed`, once a session has proven that it works."""

    replay: int | None
    until: datetime | None
    missed: list[FeedGap] = field(default_factory=list)

    def miss(self, since: datetime, now: datetime, reason: str, streams: Sequence[str]) -> None:
        self.missed.append(
            FeedGap(streams=tuple(streams), since=min(since, now), until=now, reason=reason)
        )

    def heard(self, events: Sequence[Event] = (), until: datetime | None = None) -> EventBatch:
        """What came; Salesforce has sent all that happened until then."""
        self.until = max((at for at in (self.until, until) if at), default=None)
        at = _Heard(replay=self.replay, until=written(self.until) if self.until else "")
        missed, self.missed = self.missed, []
        return EventBatch(events, at.saved(), missed)


class _Ended(Exception):  # noqa: N818 - a turn of the protocol, not a fault
    """The session is over; with `refused` our token is, too."""

    def __init__(self, *, refused: bool) -> None:
        super().__init__()
        self.refused = refused


def listen(at: Checkpoint, context: Context) -> Listener:
    """Sessions, one after the other."""
    heard = _Heard.of(at)
    standing = Standing(heard.replay, parse_time(heard.until) if heard.until else None)
    fruitless, refused = 0, False
    while True:
        if fruitless > 1:
            yield timedelta(seconds=2**fruitless)
        client_id = yield from _handshake(renews=refused)
        try:
            yield from _subscribe(client_id, standing)
            # The first call is answered at once, whatever there is to tell.
            yield from _connect(client_id, standing, context, first=True)
            while True:
                yield from _connect(client_id, standing, context)
                fruitless = 0
        except _Ended as ended:
            fruitless, refused = fruitless + 1, ended.refused
        if fruitless >= MOST_SESSIONS:
            raise ProviderUnavailableError("Salesforce ends each session of its events at once")


def _handshake(*, renews: bool) -> Calls[str]:
    """The id of a new session. Where the token is refused it is renewed, once."""
    message = {
        "channel": "/meta/handshake",
        "version": "1.0",
        "minimumVersion": "1.0",
        "supportedConnectionTypes": ["long-polling"],
        "ext": {"replay": True},
    }
    reply = answer_of((yield from ask(_send(message, renews=renews))), "/meta/handshake")
    refusal = refusal_of(reply)
    if refusal.startswith("401") and not renews:
        return (yield from _handshake(renews=True))
    if refusal.startswith("401"):
        raise BrokenConnectionError("Salesforce refuses the token that it has just given")
    if refusal:
        raise _refused(refusal)
    return str(reply["clientId"])


def _subscribe(client_id: str, standing: Standing) -> Calls[None]:
    """Events from where we stand; from now on, where Salesforce no longer keeps what came since."""
    replay, reason = standing.replay, "no event had come yet from which to go on"
    while True:
        message = {
            "channel": "/meta/subscribe",
            "clientId": client_id,
            "subscription": CHANNEL,
            "ext": {"replay": {CHANNEL: TIP if replay is None else replay}},
        }
        response = yield from ask(_send(message))
        refusal = refusal_of(answer_of(response, "/meta/subscribe"))
        if refusal.startswith("400::The replayId") and replay is not None:
            replay, reason = None, "Salesforce no longer kept the events that came since then"
            continue
        if not refusal:
            break
        _end_of_session(refusal, answer_of(response, "/meta/subscribe"))
        raise _refused(refusal)
    standing.replay, standing.missed = replay, []
    if replay is None and standing.until is not None:
        standing.miss(standing.until, response.sent_at, reason, EVERY_STREAM)


def _connect(
    client_id: str, standing: Standing, context: Context, *, first: bool = False
) -> Listener:
    """What happens until the call is answered, and the time that Salesforce asks us to wait."""
    message = {
        "channel": "/meta/connect",
        "clientId": client_id,
        "connectionType": "long-polling",
    }
    response = yield from ask(_send(message))
    reply = answer_of(response, "/meta/connect")
    event_messages = (
        [each for each in response.json if "data" in each] if is_answer(response) else []
    )
    # Beside a refusal, too: they were delivered all the same.
    if event_messages:
        found = [one for each in event_messages for one in _read(each, standing, response, context)]
        yield standing.heard(found)
    if refusal := refusal_of(reply):
        _end_of_session(refusal, reply)
        raise _refused(refusal)
    if not event_messages and not first:
        # More may wait behind what came: only a call without events proves that there are no more.
        yield standing.heard(until=response.sent_at)
    advice = reply.get("advice") or {}
    if advice.get("reconnect") == "handshake":
        raise _Ended(refused=False)
    if wait := min(int(advice.get("interval") or 0), 60_000):
        yield timedelta(milliseconds=wait)


def _read(
    message: Mapping[str, Any], standing: Standing, response: Response, context: Context
) -> Sequence[Event]:
    """What a message tells; where we stand goes on to it, also where we cannot read it: it would
    keep back all that comes after it."""
    standing.replay = int(message["data"]["event"]["replayId"])
    try:
        return tuple(events(message, standing, response, context))
    except (ContractError, *PARSE_ERRORS):
        reason = "Salesforce told of a change in a form that we cannot read"
        since = standing.until or response.sent_at
        standing.miss(since, response.sent_at, reason, EVERY_STREAM)
        return ()


def events(
    message: Mapping[str, Any], standing: Standing, response: Response, context: Context
) -> Iterator[Event]:
    """What a message tells of rows, each its own event."""
    header = message["data"]["payload"]["ChangeEventHeader"]
    at = datetime.fromtimestamp(int(header["commitTimestamp"]) / 1000, UTC)
    ids = [str(each) for each in header.get("recordIds") or ()]
    entity, change = header["entityName"], header["changeType"]
    custom = entity.endswith("__c")
    stream = "custom_objects" if custom else STREAM_OF.get(entity)
    if stream is not None and is_chosen(entity, context):
        # An overflow names no row, and a lossy change of a field's type only how their ids begin.
        if change == "GAP_OVERFLOW" or not ids or any("*" in each for each in ids):
            reason = "Salesforce told of changes without saying of which rows"
            standing.miss(at, response.sent_at, reason, (stream,))
            ids = []
        # Replay ids may come again when an org is moved: not so what a transaction is known by.
        place = f"{header['transactionKey']}:{header['sequenceNumber']}:{change}:{entity}"
        for key in [eighteen(each) for each in ids]:
            yield Event(
                id=f"{place}:{key}",
                type=f"change.{entity}",
                effect=Effect.DELETED if change == "DELETE" else Effect.READ,
                streams=(stream,),
                key=f"{entity}:{key}" if custom else key,
                at=at,
            )
    # They come in the order in which their transactions ended.
    ended = min(at, response.sent_at)
    standing.until = max(ended, standing.until or ended)


def classify(response: Response) -> ConnectorError | None:
    """What passes by itself of the refusals in a Bayeux answer; the rest is the protocol's."""
    for message in response.json:
        refusal = refusal_of(message)
        if refusal.startswith("503"):
            return ProviderUnavailableError("Salesforce is too busy to tell of events")
        if "limit exceeded" in refusal.lower() or "simultaneous" in refusal.lower():
            return RateLimitedError(
                "Salesforce asks us to wait: the org's allowance of listeners, or of events in a "
                "day, is used up",
                retry_after=WAIT,
            )
    return None


def is_answer(response: Response) -> bool:
    """Whether it is Bayeux at all: a list of messages, each of a channel."""
    body = response.json
    return (
        isinstance(body, list)
        and bool(body)
        and all(isinstance(each, dict) and str(each.get("channel", "")) for each in body)
    )


def answer_of(response: Response, channel: str) -> Mapping[str, Any]:
    """The message that answers ours; events may stand around it."""
    if is_answer(response):
        for message in response.json:
            if message["channel"] == channel and "successful" in message:
                found: Mapping[str, Any] = message
                return found
    if response.status == 401:  # in the form of the data API, or without a word
        return {"successful": False, "error": "401"}
    raise ContractError(f"Salesforce did not answer a message to {channel}")


def refusal_of(message: Mapping[str, Any]) -> str:
    """`403::Unknown client`, the cause where that stands in another place; empty of a good one."""
    if message.get("successful", True):
        return ""
    extension = message.get("ext") or {}
    cause = (
        (extension.get("sfdc") or {}).get("failureReason") if isinstance(extension, dict) else None
    )
    return str(cause or message.get("error") or "refused")


def _end_of_session(refusal: str, message: Mapping[str, Any]) -> None:
    """Raises _Ended where another session will do."""
    reconnect = (message.get("advice") or {}).get("reconnect")
    if refusal.startswith("401") or reconnect == "none":
        raise _Ended(refused=True)
    unknown = (
        *("403::Unknown client", "403::Client has not completed handshake"),
        *("400::Client ", "400::Authenticated user"),  # another session's, by cookie or token
    )
    if refusal.startswith(unknown) or reconnect == "handshake":
        raise _Ended(refused=False)


def _refused(refusal: str) -> ConnectorError:
    """What another session would not mend, in words of ours."""
    if refusal.startswith("400::The channel"):
        return NotAllowedError("the Salesforce org has no Change Data Capture")
    if refusal.startswith("403"):
        return NotAllowedError(
            "the Salesforce user may not listen to change events: that takes the right to view all "
            "data"
        )
    return ContractError("Salesforce refused a message of the Streaming API")


def _send(message: Mapping[str, Any], *, renews: bool = False) -> Request:
    # Not of the day's allowance of calls, as far as is documented (2026-11): it has one of its own.
    return Request.post(ENDPOINT, json=[message], expect=STATUSES, renews=renews, budget=LISTENING)


FEED = Feed(listen=listen, held=HELD, wanted="change_events")
