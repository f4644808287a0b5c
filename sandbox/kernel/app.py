"""The ASGI side: finds the vendor's route, checks token and limits, answers or misbehaves."""

import gzip
from collections.abc import Mapping
from dataclasses import replace
from email.utils import format_datetime
from typing import TypeVar
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from sandbox.kernel import control
from sandbox.kernel.faults import GARBAGE, KINDS, TROUBLES, Fault, due, pause, send_half, send_huge
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Kind, reply
from sandbox.kernel.vendor import ErrorCase, Route, Vendor
from sandbox.kernel.webhooks import CallbackFlow, LongPoll
from sandbox.kernel.world import World, shown_query

T = TypeVar("T")

GZIP_FROM = 1024


def build(world: World) -> Starlette:
    """The application over that world; `app.state.world` is it."""
    controls: ASGIApp = control.app(world)

    async def root(scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "").partition(":")[0].lower()
        path: str = scope["path"]
        if world.serves(host):
            await _serve(world, host, path, scope, receive, send)
        elif path == "/_control" or path.startswith("/_control/"):
            await controls(scope, receive, send)
        elif world.serves(first := path.split("/", 2)[1].lower()):
            rest = path[len(first) + 1 :] or "/"
            await _serve(world, first, rest, scope, receive, send)
        else:
            body = {"error": f"no vendor host {first!r} here", "hosts": world.hosts}
            await reply(body, 404)(scope, receive, send)

    app = Starlette(routes=[Mount("/", app=root)])
    app.state.world = world
    return app


def origin_of(scope: Scope, world: World) -> str:
    """Where the client finds this sandbox, for links: its Host unless that is a vendor's."""
    host = Headers(scope=scope).get("host", "")
    if not host or world.serves(host.partition(":")[0].lower()):
        name, port = scope.get("server") or ("127.0.0.1", 80)
        host = f"{name}:{port}"
    return f"{scope['scheme']}://{host}"


async def _serve(
    world: World, host: str, path: str, scope: Scope, receive: Receive, send: Send
) -> None:
    request = Request(scope, receive)
    names, _, _ = _match(world, host, path, scope["method"])
    vendor = world.vendors[names[0]]
    call = Call(
        method=scope["method"],
        host=host,
        path=path,
        params={},
        query=QueryParams(parse_qsl(scope["query_string"].decode("latin-1"), True)),
        headers=request.headers,
        body=await request.body(),
        origin=origin_of(scope, world),
        clock=world.clock,
        server=world.server(vendor),
        outbox=world.outboxes[vendor.name],
        inner=lambda part: _unasked(_respond(world, part, tuple(TROUBLES)))[0],
    )
    response, fault = await world.post.answer(_respond(world, call, KINDS))
    await _send(world, response, fault, scope, receive, send)


def _unasked(asking: CallbackFlow[T]) -> T:
    """What comes of it when nobody can be asked: a call inside another calls nobody."""
    try:
        step = next(asking)
    except StopIteration as done:
        answer: T = done.value
        return answer
    where = "wait" if isinstance(step, LongPoll) else f"call {step.url}"
    raise LookupError(f"a part of a batch cannot {where}")


def _respond(
    world: World, call: Call, kinds: tuple[str, ...]
) -> CallbackFlow[tuple[Response, Fault | None]]:
    """The answer to a call, logged, and the ordered fault of those kinds that it falls under."""
    names, route, params = _match(world, call.host, call.path, call.method)
    vendor = world.vendors[names[0]]
    call = replace(call, params=params, vendor=vendor.name)
    fault = next((f for name in names if (f := due(world.faults[name], call.path, kinds))), None)
    response, call = yield from _answer(world, vendor, route, call, fault)
    _log(world, names, route, call, response.status_code)
    return response, fault


def _match(
    world: World, host: str, path: str, method: str
) -> tuple[tuple[str, ...], Route | None, Mapping[str, str]]:
    other: tuple[str, ...] = ()
    for names, route in world.routes(host):
        found = route.pattern.fullmatch(path)
        if found and route.method == method:
            return names, route, found.groupdict()
        if found:
            other = names
    if other:
        return other, None, {"": "method"}
    return world.routes(host)[-1][0], None, {}


def _answer(
    world: World, vendor: Vendor, route: Route | None, call: Call, fault: Fault | None
) -> CallbackFlow[tuple[Response, Call]]:
    """The answer, and the call with its grant once its token is known."""
    token = vendor.token(call)
    try:
        if token and (route is None or not route.open) and (g := call.server.caller(call, token)):
            call = replace(call, grant=g)
        if fault and fault.kind in TROUBLES:
            return vendor.trouble(fault.trouble(), call), call
        if fault and fault.kind in ("garbage", "huge"):
            return HTMLResponse(GARBAGE), call
        if route is None:
            known = "" in call.params
            kind = Kind.METHOD_NOT_ALLOWED if known else Kind.NOT_FOUND
            return vendor.trouble(ErrorCase(kind=kind), call), call
        if route.open:
            return (yield from _handled(route, call)), call
        return (yield from _guarded(world, vendor, route, call)), call
    except Answer as answer:
        return answer.response, call


def _handled(route: Route, call: Call) -> CallbackFlow[Response]:
    answer = route.handler(call)
    return answer if isinstance(answer, Response) else (yield from answer)


def _guarded(world: World, vendor: Vendor, route: Route, call: Call) -> CallbackFlow[Response]:
    if call.grant is None:
        detail = "token" if vendor.token(call) else "missing"
        return vendor.trouble(ErrorCase(kind=Kind.UNAUTHORIZED, detail=detail), call)
    if route.scopes and not set(route.scopes) & set(call.grant.scopes):
        return vendor.trouble(ErrorCase(kind=Kind.FORBIDDEN, detail=route.scopes[0]), call)
    usages, hit = world.meters[vendor.name].take(call)
    if hit:
        response = vendor.trouble(ErrorCase(kind=Kind.RATE_LIMITED, limit=hit), call)
    else:
        try:
            response = yield from _handled(route, call)
        except Answer as answer:
            response = answer.response
    for name, value in vendor.rate_headers(usages).items():
        response.headers[name] = value
    return response


def _log(
    world: World, names: tuple[str, ...], route: Route | None, call: Call, status: int
) -> None:
    path = call.path
    if route and "token" in call.params:
        path = route.path
    entry = {
        "at": call.clock.now().isoformat(),
        "method": call.method,
        "host": call.host,
        "path": path,
        "query": shown_query(call.query),
        "status": status,
        "account": call.grant.account_id if call.grant else None,
    }
    for name in names:
        world.logs[name].add(entry)


async def _send(
    world: World,
    response: Response,
    fault: Fault | None,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    kind = fault.kind if fault else ""
    if fault and kind in ("hang", "slow") and not await pause(fault, world.stopping, receive):
        return
    if kind == "hang":
        response = HTMLResponse("<h1>504 Gateway Time-out</h1>", 504)
    if fault and kind == "huge":
        await send_huge(fault.bytes, scope, receive, send)
        return
    # By the vendors' own clock, from which positions in time are taken.
    response.headers["date"] = format_datetime(world.clock.now(), usegmt=True)
    _compress(response, Headers(scope=scope))
    if kind == "cut":
        await send_half(response, send)
    else:
        await response(scope, receive, send)


def _compress(response: Response, asked: Headers) -> None:
    """Vendors compress what is worth it for a client that takes it."""
    if "gzip" not in asked.get("accept-encoding", "") or len(response.body) < GZIP_FROM:
        return
    response.body = gzip.compress(bytes(response.body), compresslevel=1)
    response.headers["content-encoding"] = "gzip"
    response.headers["content-length"] = str(len(response.body))
