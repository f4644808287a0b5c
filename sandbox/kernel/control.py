"""The controls under `/_control`: what a test or a demo orders, in JSON."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from math import isfinite
from random import Random
from typing import Any, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from sandbox.kernel import orders
from sandbox.kernel.faults import order
from sandbox.kernel.values import OPS, Account, Change, Json, RefusedError, reply
from sandbox.kernel.vendor import Vendor
from sandbox.kernel.webhooks import CallbackFlow
from sandbox.kernel.world import DEFAULT_SIZE, World, granted

# So many records of a stream, or changes at once, are what a sandbox in memory can bear.
MOST = 1_000_000

Control: TypeAlias = Callable[[World, Request, Json], Json | CallbackFlow[Json]]


def app(world: World) -> Router:
    """The controls of that world."""

    def at(path: str, method: str, control: Control) -> Route:
        async def endpoint(request: Request) -> Response:
            return await _run(control, world, request)

        endpoint_: Callable[[Request], Awaitable[Response]] = endpoint
        return Route(f"/_control{path}", endpoint_, methods=[method])

    return Router(
        [
            at("", "GET", lambda world, request, body: description(world, _origin(request))),
            at("/clock", "POST", _clock),
            at("/faults", "DELETE", _clear_faults),
            at("/limits", "POST", _limits),
            at("/{vendor}/accounts", "GET", _accounts),
            at("/{vendor}/accounts", "POST", _add_account),
            at("/{vendor}/store", "GET", _store),
            at("/{vendor}/records/{stream}", "POST", _record),
            at("/{vendor}/mutate", "POST", _mutate),
            at("/{vendor}/burst", "POST", _burst),
            at("/{vendor}/grant", "POST", _grant),
            at("/{vendor}/tokens", "POST", _tokens),
            at("/{vendor}/expire_checkpoints", "POST", _expire_checkpoints),
            at("/{vendor}/faults", "POST", _add_fault),
            at("/{vendor}/faults", "DELETE", _clear_faults),
            at("/{vendor}/limits", "POST", _limits),
            at("/{vendor}/requests", "GET", _requests),
            at("/{vendor}/requests", "DELETE", _clear_requests),
            at("/{vendor}/webhook", "GET", _webhook),
            at("/{vendor}/webhook", "POST", _set_webhook),
            at("/{vendor}/deliveries", "GET", _deliveries),
            at("/{vendor}/deliveries", "POST", _order_deliveries),
            at("/{vendor}/deliveries", "DELETE", _clear_deliveries),
            at("/{vendor}/{control}", "POST", _own),
        ],
        default=_nothing,
    )


def description(world: World, origin: str) -> Json:
    """For each vendor, all that a client needs to be pointed at this sandbox."""
    return {name: _describe(world, vendor, origin) for name, vendor in world.vendors.items()}


async def _run(control: Control, world: World, request: Request) -> Response:
    try:
        answer = control(world, request, _body(await request.body()))
        return reply(answer if isinstance(answer, dict) else await world.post.answer(answer))
    except RefusedError as error:
        return reply({"error": str(error)}, error.status)


def _body(raw: bytes) -> Json:
    try:
        body = json.loads(raw or b"{}")
    except ValueError as error:
        raise RefusedError("the body is not JSON", status=400) from error
    if not isinstance(body, dict):
        raise RefusedError("the body must be a JSON object", status=400)
    return body


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    body = {"error": f"no control {scope['method']} {scope['path']}; see GET /_control"}
    await reply(body, 404)(scope, receive, send)


def _origin(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"


def _describe(world: World, vendor: Vendor, origin: str) -> Json:
    account_id, tokens = world.newcomer(vendor)
    auth = vendor.auth
    places = {"authorize_url": auth.authorize, "token_url": auth.token, "revoke_url": auth.revoke}
    return {
        "title": vendor.title,
        "base_url": vendor.base_url.replace("https://", f"{origin}/", 1),
        **{
            name: f"{origin}/{found[0][0]}{found[0][1]}" if found else None
            for name, found in places.items()
        },
        "client_id": auth.client_id,
        "client_secret": auth.client_secret,
        "access_token": tokens["access_token"],
        "refresh_token": tokens.get("refresh_token"),
        "account_id": account_id,
        "streams": list(vendor.streams),
        "three_pages_at": vendor.three_pages_at,
        **({"webhook_secret": vendor.webhook.secret} if vendor.webhook else {}),
        **vendor.extras(account_id, origin),
    }


def _vendor(world: World, request: Request) -> Vendor:
    return world.vendor(request.path_params["vendor"])


def _meant(world: World, request: Request) -> Sequence[Vendor]:
    """The vendor that the path names, or all where it names none."""
    named = "vendor" in request.path_params
    return (_vendor(world, request),) if named else tuple(world.vendors.values())


def _state(world: World, vendor: Vendor, account_id: object) -> Any:
    return world.account(vendor, str(account_id or "")).state[vendor.name]


def _number(body: Json, name: str, default: float) -> float:
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise RefusedError(f"{name} must be a number", status=400)
    return value


def _size(body: Json, name: str, default: int) -> int:
    number = int(_number(body, name, default))
    if not 0 <= number <= MOST:
        raise RefusedError(f"{name} must be from 0 to {MOST:,}", status=400)
    return number


def _clock(world: World, request: Request, body: Json) -> Json:
    seconds = _number(body, "advance", 0)
    if seconds < 0:
        raise RefusedError("the clock goes forward only", status=400)
    stopped = body.get("stopped")
    if stopped is not None:
        (world.clock.stop if stopped else world.clock.go)()
    world.advance(seconds)
    return {"now": world.clock.now().isoformat()}


def _accounts(world: World, request: Request, body: Json) -> Json:
    vendor = _vendor(world, request)
    accounts = world.server(vendor).accounts.values()
    return {"accounts": [_known(vendor, account) for account in accounts]}


def _known(vendor: Vendor, account: Account) -> Json:
    answers = vendor.answers(account.id)
    return {
        "id": account.id, "name": account.name, **({"answers": answers} if answers else {}),
    }  # fmt: skip


def _add_account(world: World, request: Request, body: Json) -> Json:
    vendor = _vendor(world, request)
    account = world.add_account(
        world.server(vendor),
        size=_size(body, "size", DEFAULT_SIZE),
        account_id=str(body["id"]) if "id" in body else None,
        seed=int(_number(body, "seed", 0)) if "seed" in body else None,
    )
    return _known(vendor, account)


def _store(world: World, request: Request, body: Json) -> Json:
    vendor = _vendor(world, request)
    state = _state(world, vendor, request.query_params.get("account"))
    only = request.query_params.get("stream")
    if only is not None and only not in vendor.streams:
        known = ", ".join(vendor.streams)
        raise RefusedError(f"{vendor.name} has no stream {only!r}; it has: {known}")
    streams = vendor.streams if only is None else (only,)
    return {"streams": {stream: vendor.store(state, stream) for stream in streams}}


def _record(world: World, request: Request, body: Json) -> Json:
    vendor, stream = _vendor(world, request), request.path_params["stream"]
    state = _state(world, vendor, request.query_params.get("account"))
    if stream not in vendor.mutable:
        known = ", ".join(vendor.mutable)
        raise RefusedError(f"{vendor.name} has no stream {stream!r} to change; it has: {known}")
    op, record_id = body.get("op"), body.get("id")
    if op not in vendor.mutable[stream]:
        known = ", ".join(vendor.mutable[stream])
        raise RefusedError(f"{stream} has no op {op!r}; it has: {known}", status=400)
    if op != "add" and str(record_id) not in vendor.store(state, stream):
        raise RefusedError(f"{stream} has no live record {record_id!r}")
    record = body.get("record") or {}
    if not isinstance(record, dict):
        raise RefusedError("record must be an object of the fields to set", status=400)
    known_id = None if record_id is None else str(record_id)
    change = Change(stream, op, known_id, record, Random(world.clock.time()))
    return {"id": vendor.apply(state, change)}


def _mutate(world: World, request: Request, body: Json) -> Json:
    """Made-up changes of one account; those that are `late` bear a time of so long ago."""
    vendor = _vendor(world, request)
    state = _state(world, vendor, body.get("account"))
    random = Random(int(_number(body, "seed", world.clock.time())))
    if (late := _number(body, "late", 0)) < 0:
        raise RefusedError("late must not be negative", status=400)
    change = _changer(vendor, state, _streams(vendor, body), random)
    with world.clock.back(late):
        made = [change() for _ in range(_size(body, "count", 10))]
    return {"changes": [each for each in made if each]}


def _burst(world: World, request: Request, body: Json) -> Json:
    """Made-up changes of many accounts (all, where none are named), in turn."""
    vendor, accounts = _vendor(world, request), body.get("accounts")
    if accounts is None:
        accounts = list(world.server(vendor).accounts)
    if not isinstance(accounts, list) or not accounts:
        raise RefusedError("accounts must be a list of ids", status=400)
    streams, random = _streams(vendor, body), Random(int(_number(body, "seed", world.clock.time())))
    changers = [
        _changer(vendor, _state(world, vendor, account), streams, random)
        for account in dict.fromkeys(map(str, accounts))
    ]
    count = _size(body, "count", len(changers))
    made = sum(changers[number % len(changers)]() is not None for number in range(count))
    return {"changes": made, "accounts": len(changers)}


def _streams(vendor: Vendor, body: Json) -> list[str]:
    """The streams to change: those named, or all that can be."""
    named = body.get("streams", list(vendor.mutable))
    if not vendor.mutable:
        raise RefusedError(f"{vendor.name} has nothing to change")
    if not isinstance(named, list) or not named or not set(named) <= set(vendor.mutable):
        raise RefusedError(f"streams must be of: {', '.join(vendor.mutable)}", status=400)
    return sorted(named)


def _changer(
    vendor: Vendor, state: Any, streams: Sequence[str], random: Random
) -> Callable[[], Json | None]:
    """Makes one change at a time; None when what was drawn cannot be done."""
    alterable = vendor.alterable or vendor.store
    live = {stream: list(alterable(state, stream)) for stream in streams}

    def change() -> Json | None:
        stream = random.choice(streams)
        ops = [op for op in OPS if op in vendor.mutable[stream]]
        op = random.choice(ops if live[stream] else [op for op in ops if op == "add"] or [None])
        if op is None:
            return None
        chosen = None if op == "add" else random.choice(live[stream])
        try:
            record_id = vendor.apply(state, Change(stream, op, chosen, {}, random))
        except RefusedError:
            live[stream] = [id_ for id_ in live[stream] if id_ != chosen]
            return None
        if op == "add":
            live[stream].append(record_id)
        elif op == "delete":
            live[stream].remove(record_id)
        return {"op": op, "stream": stream, "id": record_id}

    return change


def _grant(world: World, request: Request, body: Json) -> Json:
    vendor = _vendor(world, request)
    account, server = world.account(vendor, str(body.get("account", ""))), world.server(vendor)
    scopes = body.get("scopes") or granted(vendor)
    if isinstance(scopes, str) or not all(isinstance(scope, str) for scope in scopes):
        raise RefusedError("scopes must be a list of texts", status=400)
    grant = server.open(account.id, scopes)
    answer = server.issue(grant, server.refresh_token(grant), refreshed=False, call=None)
    return {**answer, **vendor.auth.callback(account), "account_id": account.id}


def _tokens(world: World, request: Request, body: Json) -> Json:
    vendor = _vendor(world, request)
    account, op = world.account(vendor, str(body.get("account", ""))), body.get("op")
    if op == "expire":
        world.server(vendor).expire(account.id)
    elif op == "revoke":
        world.server(vendor).end(account.id)
    else:
        raise RefusedError(f"tokens have no op {op!r}; they have: expire, revoke", status=400)
    return {"account": account.id, "op": op}


def _expire_checkpoints(world: World, request: Request, body: Json) -> Json:
    vendor = _vendor(world, request)
    if vendor.expire_checkpoints is None:
        raise RefusedError(f"{vendor.name} hands out no delta positions")
    vendor.expire_checkpoints(_state(world, vendor, body.get("account")))
    return {"account": str(body["account"])}


def _add_fault(world: World, request: Request, body: Json) -> Json:
    vendor = _vendor(world, request)
    fault = order(body, world.lifted[vendor.name])
    world.faults[vendor.name].append(fault)
    return {"id": fault.id}


def _clear_faults(world: World, request: Request, body: Json) -> Json:
    """Also those that requests are held by: they are answered."""
    cleared = 0
    for vendor in _meant(world, request):
        cleared += len(world.faults[vendor.name])
        world.faults[vendor.name].clear()
        world.lifted[vendor.name].set()
        world.lifted[vendor.name] = asyncio.Event()
    return {"cleared": cleared}


def _limits(world: World, request: Request, body: Json) -> Json:
    scale = _number(body, "scale", 1)
    if scale <= 0:
        raise RefusedError("scale must be above 0", status=400)
    for vendor in _meant(world, request):
        world.meters[vendor.name].scale = scale
    return {"scale": scale}


def _requests(world: World, request: Request, body: Json) -> Json:
    log = world.logs[_vendor(world, request).name]
    return {"total": log.total, "by_path": dict(log.by_path), "log": list(log.entries)}


def _clear_requests(world: World, request: Request, body: Json) -> Json:
    log = world.logs[_vendor(world, request).name]
    cleared = log.total
    log.clear()
    return {"cleared": cleared}


def _webhook(world: World, request: Request, body: Json) -> Json:
    return orders.shown_address(world.outbox(_vendor(world, request)))


def _set_webhook(world: World, request: Request, body: Json) -> CallbackFlow[Json]:
    return orders.set_address(world.outbox(_vendor(world, request)), body)


def _deliveries(world: World, request: Request, body: Json) -> Json:
    return orders.deliveries(world.outbox(_vendor(world, request)))


def _order_deliveries(world: World, request: Request, body: Json) -> Json:
    return orders.order(world.outbox(_vendor(world, request)), body)


def _clear_deliveries(world: World, request: Request, body: Json) -> Json:
    return orders.clear(world.outbox(_vendor(world, request)))


def _own(world: World, request: Request, body: Json) -> Json:
    """A control that only this vendor has."""
    vendor, name = _vendor(world, request), request.path_params["control"]
    if name not in vendor.controls:
        known = ", ".join(vendor.controls) or "none of its own"
        raise RefusedError(f"{vendor.name} has no control {name!r}; it has: {known}")
    accounts = world.server(vendor).accounts.values()
    states = {account.id: account.state[vendor.name] for account in accounts}
    return vendor.controls[name](states, body)
