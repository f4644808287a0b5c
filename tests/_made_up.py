"""A made-up vendor that delivers to the one address of its app."""

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.responses import Response

from sandbox.kernel.oauth import Call, OAuth
from sandbox.kernel.values import Change, Json, Seed, reply
from sandbox.kernel.vendor import Route, Vendor
from sandbox.kernel.webhooks import Delivery, Message, Sender, again_after
from tests._delivered import Place
from tests._receiver import PATIENCE, Answering, Received

HOST = "api.made.up"
AUTH = OAuth(
    name="made-up",
    client_id="client",
    client_secret="not-a-secret",
    authorize=(("login.made.up", "/authorize"),),
    token=(("login.made.up", "/token"),),
    revoke=(("login.made.up", "/revoke"),),
    revoke_needs_client=False,
    scopes=("read",),
    new_account=lambda random: (str(random.randint(10**6, 10**9)), "Made-up Inc."),
    account_pattern=r"\d+",
)
DOWN = Answering(500)


@dataclass
class Shelf:
    """An account's things."""

    tell: Callable[[Any], None]
    things: dict[str, Json] = field(default_factory=dict)

    def set(self, id_: str, thing: Json | None) -> None:
        if thing is None:
            del self.things[id_]
        else:
            self.things[id_] = {"id": id_, **thing}
        self.tell({"id": id_, "gone": thing is None})


def _new(seed: Seed) -> Shelf:
    shelf = Shelf(seed.tell)
    for number in range(1, seed.size + 1):
        shelf.set(str(number), {"n": 0})
    return shelf


def _apply(shelf: Shelf, change: Change) -> str:
    id_ = change.id or str(1 + max(map(int, shelf.things), default=0))
    shelf.set(id_, None if change.op == "delete" else {"n": change.random.random()})
    return id_


def _put(call: Call) -> Response:
    call.state.set(call.params["id"], call.json())
    return Response(status_code=204)


def _compose(delivery: Delivery) -> Message:
    told = [{"account": each.account_id, "event": each.id, **each.what} for each in delivery.events]
    body = json.dumps({"attempt": delivery.attempt, "told": told}).encode()
    at = f"{delivery.now.timestamp():.3f}"
    secret = delivery.address.secret.encode()
    signature = hmac.new(secret, at.encode() + body, hashlib.sha256).hexdigest()
    headers = {"x-at": at, "x-signature": signature, "x-delivery": delivery.id}
    return Message(url=delivery.address.url, headers=headers, body=body)


SENDER = Sender(
    compose=_compose,
    deadline=PATIENCE,
    retry=again_after(60, 600),
    batch=3,
    secret="made-up secret",
    settings={"loud": False},
)
VENDOR = Vendor(
    name="made_up",
    title="Made up",
    base_url=f"https://{HOST}",
    auth=AUTH,
    routes=(Route("PUT", HOST, "/things/{id}", _put),),
    streams=("things",),
    mutable={"things": ("add", "change", "delete")},
    new=_new,
    store=lambda shelf, stream: dict(shelf.things),
    apply=_apply,
    trouble=lambda wrong, call: reply({"kind": wrong.kind}, 400),
    webhook=SENDER,
)


def with_rules(**rules: Any) -> Vendor:
    return replace(VENDOR, webhook=replace(SENDER, **rules))


def add(place: Place, account: str, count: int = 1) -> list[str]:
    return [place.change(account, "things", "add") for _ in range(count)]


def told(calls: list[Received]) -> list[Json]:
    return [each for call in calls for each in json.loads(call.body)["told"]]


def ids(calls: list[Received]) -> list[str]:
    return [each["id"] for each in told(calls)]


def is_signed(call: Received, secret: str = SENDER.secret) -> bool:
    signed = call.headers["x-at"].encode() + call.body
    expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, call.headers["x-signature"])


def attempt(call: Received) -> int:
    return int(json.loads(call.body)["attempt"])
