"""Salesforce's Streaming API on loopback: change events over Bayeux by long polling.

A session is a handshake with a cookie. It ends 40 seconds after an answer that no call followed.
https://developer.salesforce.com/docs/platform/api-streaming/guide
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from http.cookies import SimpleCookie
from random import Random
from string import ascii_lowercase, digits
from uuid import uuid4

from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Json, reply
from sandbox.kernel.vendor import bearer
from sandbox.kernel.webhooks import CallbackFlow, LongPoll
from sandbox.salesforce.store import Org, Session

ALL = "/data/ChangeEvents"
COOKIE = "BAYEUX_BROWSER"
LARGEST = 32_768
# What is told for so long to who asks from an earlier place on.
KEPT = timedelta(hours=72)
# Within so many seconds of an answer the next call has to come.
RECONNECT = 40.0
NEVER_TOLD = ("IsDeleted", "SystemModstamp")
DENIED = "403::Handshake denied"
INVALID = "401::Authentication invalid"


def cometd(call: Call) -> CallbackFlow[Response]:
    """Messages of a client, answered in one; that of a connect is held until something happens."""
    messages = call.json()
    if len(call.body) > LARGEST:
        return reply([{"error": "413::Maximum Request Size Exceeded", "successful": False}], 413)
    if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
        return reply([{"error": "400::Bad Request", "successful": False}], 400)
    grant = call.server.caller(call, bearer(call))
    org: Org | None = replace(call, grant=grant).state if grant else None
    if org is not None and call.host != org.instance:
        org = None
    told: list[Json] = []
    cookie, status = "", 200
    for message in messages:
        if message.get("channel") == "/meta/handshake":
            answer, cookie = _handshake(org, message, call)
        else:
            answer = yield from _within(org, message, call, told)
        status = org.feed.status if org and not answer["successful"] else status
        if "id" in message:
            answer["id"] = message["id"]
        told.append(answer)
    response = reply(told, status)
    if cookie:
        response.headers["set-cookie"] = f"{COOKIE}={cookie}; Path=/; HttpOnly"
    return response


def _handshake(org: Org | None, message: Json, call: Call) -> tuple[Json, str]:
    channel = "/meta/handshake"
    ext: Json = {"replay": True, "payload.format": True}
    reason = "401::Request requires authentication" if not bearer(call) else INVALID
    if org is not None:
        reason = org.feed.refuse.get(channel, "")
    if org is None or reason:
        ext["sfdc"] = {"failureReason": reason}
        advice = {"reconnect": "none"}
        return {
            **{"channel": channel, "ext": ext, "advice": advice, "error": DENIED},
            "successful": False,
        }, ""
    if "long-polling" not in message.get("supportedConnectionTypes", ()):
        return _refused(channel, "400::Invalid connection type"), ""
    random = Random()
    client_id = "".join(random.choices(ascii_lowercase + digits, k=27))
    session = Session(uuid4().hex, call.clock.time())
    org.feed.sessions[client_id] = session
    answer = {
        **{"channel": channel, "version": "1.0", "minimumVersion": "1.0", "clientId": client_id},
        **{"supportedConnectionTypes": ["long-polling"], "ext": ext, "successful": True},
    }
    return answer, session.cookie


def _within(org: Org | None, message: Json, call: Call, told: list[Json]) -> CallbackFlow[Json]:
    """The answer to a message of a session."""
    channel, client_id = str(message.get("channel")), str(message.get("clientId"))
    if org is None:
        advice = {"reconnect": "none", "interval": 0}
        return {**_refused(channel, INVALID), "clientId": client_id, "advice": advice}
    session = org.feed.sessions.get(client_id)
    if session is None or call.clock.time() - session.seen_at > RECONNECT:
        org.feed.sessions.pop(client_id, None)
        advice = {"reconnect": "handshake", "interval": 0}
        return {**_refused(channel, "403::Unknown client"), "advice": advice}
    if _cookie(call) != session.cookie:
        told_so = (
            f"400::Client {client_id} has established a session, but no {COOKIE} cookie present"
        )
        return _refused(channel, told_so)
    if error := org.feed.refuse.get(channel):
        return _refused(channel, error)
    known: Json = {"channel": channel, "clientId": client_id, "successful": True}
    if channel == "/meta/subscribe":
        return _subscribe(org, session, message, known)
    if channel == "/meta/unsubscribe":
        session.positions.pop(str(message.get("subscription")), None)
        return {**known, "subscription": message.get("subscription")}
    if channel == "/meta/disconnect":
        org.feed.sessions.pop(client_id)
        return known
    if channel != "/meta/connect":
        return _refused(channel, "404::Unknown channel")
    return (yield from _connect(org, session, known, call, told))


def _connect(
    org: Org, session: Session, known: Json, call: Call, told: list[Json]
) -> CallbackFlow[Json]:
    first, session.connects = session.connects == 0, session.connects + 1
    if not first:
        yield LongPoll(lambda: _something(org, session, call), org.feed.hold)
    for channel in session.positions:
        for number, what in _pending(org, session, channel):
            told.append({"channel": channel, "data": change_event(org, number, what)})
            session.positions[channel] = number
    session.seen_at = call.clock.time()
    timeout = int(org.feed.hold * 1000)
    advice = {"advice": {"reconnect": "retry", "interval": 0, "timeout": timeout}} if first else {}
    return {**known, **advice}


def _something(org: Org, session: Session, call: Call) -> bool:
    """Whether there is something to tell; while a call is open its session lasts."""
    session.seen_at = call.clock.time()
    ended = session not in org.feed.sessions.values()
    return ended or any(next(_pending(org, session, each), None) for each in session.positions)


def _subscribe(org: Org, session: Session, message: Json, known: Json) -> Json:
    channel = str(message.get("subscription"))
    answer = {**known, "subscription": channel}
    if channel != ALL and channel not in {_channel(name) for name in org.selected}:
        error = f"400::The channel you requested to subscribe to does not exist {{{channel}}}"
        return {**answer, "error": error, "successful": False}
    _forget_old(org)
    ext = message.get("ext") or {}
    replay = (ext.get("replay") or {}).get(channel, -1)
    if replay == -1:
        session.positions[channel] = org.feed.number
    elif replay == -2:
        session.positions[channel] = 0
    elif replay in {number for number, _ in org.feed.log}:
        session.positions[channel] = replay
    else:
        error = (
            f"400::The replayId {{{replay}}} you provided was invalid.  Please provide a valid ID,"
            " -2 to replay all events, or -1 to replay only new events."
        )
        return {**answer, "error": error, "successful": False}
    return answer


def _pending(org: Org, session: Session, channel: str) -> Iterator[tuple[int, Json]]:
    for number, what in org.feed.log:
        wanted = channel == ALL or channel == _channel(what["kind"])
        if number > session.positions[channel] and wanted:
            yield number, what


def _forget_old(org: Org) -> None:
    since = (org.clock.time() - KEPT.total_seconds()) * 1000
    org.feed.log = [each for each in org.feed.log if each[1]["at"] >= since]


def change_event(org: Org, number: int, what: Json) -> Json:
    """What the listeners of an object are told: fields that changed, never the cursor's."""
    row, change, told_as = what["row"], what["operation"], what["told_as"]
    names = [name for name in what["changed"] if name not in NEVER_TOLD]
    header: Json = {
        **{"entityName": what["kind"], "recordIds": [row["Id"]], "changeType": change},
        **{"changeOrigin": "", "transactionKey": what["transaction"], "sequenceNumber": 1},
        **{"commitTimestamp": what["at"], "commitNumber": 10_900_000_000_000 + number},
        **{"commitUser": org.admin_id, "changedFields": names if change == "UPDATE" else []},
    }
    if told_as == "gap":
        header["changeType"], names = f"GAP_{change}", []
    elif told_as == "overflow":
        header |= {"changeType": "GAP_OVERFLOW", "recordIds": []}
        names = []
    fields = {name: row[name] for name in names if name != "Id"}
    payload = {"ChangeEventHeader": header, **fields}
    return {"schema": "sandboxChangeEventSchma", "payload": payload, "event": {"replayId": number}}


def _channel(name: str) -> str:
    return f"/data/{name.removesuffix('c') if name.endswith('__c') else name}ChangeEvent"


def _refused(channel: str, error: str) -> Json:
    return {"channel": channel, "error": error, "successful": False}


def _cookie(call: Call) -> str:
    found = SimpleCookie(call.headers.get("cookie", "")).get(COOKIE)
    return found.value if found else ""


def change_events(org: Org, body: Json) -> Json:
    """The control over what listeners are told: the settings of a Feed; `drop` ends all sessions,
    `forget` empties the log, `select` are the objects that are told of."""
    feed = org.feed
    for name in ("told_as", "hold", "refuse", "status"):
        if name in body:
            setattr(feed, name, body[name])
    if "select" in body:
        org.selected = {str(name) for name in body["select"]}
    if body.get("drop"):
        feed.sessions.clear()
    if body.get("forget"):
        feed.log.clear()
    return {"sessions": len(feed.sessions), "log": len(feed.log), "replay": feed.number}
