"""Watches in the sandbox: each with its own address and token, proven, ended by the clock."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest
from starlette.responses import Response

from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Address, Answer, Json, reply
from sandbox.kernel.vendor import Route
from sandbox.kernel.webhooks import (
    AppResponse,
    CallbackFlow,
    Delivery,
    Event,
    Message,
    Notice,
    Sender,
    again_after,
    to_watches,
)
from tests._delivered import Place, placed
from tests._made_up import HOST, VENDOR
from tests._receiver import Answering, Received

LASTS = 3600.0


def _watch(call: Call) -> CallbackFlow[Response]:
    """Asks the address while the call is open, and only then makes the watch."""
    body: Json = call.json()
    asked = Message(url=f"{body['address']}?prove=me%20now")
    answered = yield asked
    if (answered.status, answered.body) != (200, b"me now"):
        raise Answer(reply({"refused": answered.failure or answered.status}, 400))
    ends = call.clock.time() + LASTS
    watch = Address(
        url=body["address"],
        secret=body["token"],
        id=body["id"],
        account_id=call.account.id,
        about={"thing": body["thing"], "soap": body.get("soap", False)},
        grant=call.grant,
        expires_at=ends,
    )
    call.server.watches.add(watch)
    call.outbox.tell(call.account.id, {"watch": watch.id, "state": "sync"})
    warning = {"watch": watch.id, "state": "ends soon"}
    call.outbox.tell(call.account.id, warning, at=call.clock.now() + timedelta(seconds=LASTS - 600))
    return reply({"id": watch.id, "expires_at": ends}, 201)


def _unwatch(call: Call) -> Response:
    gone = call.server.watches.remove(call.params["id"])
    return Response(status_code=204 if gone else 404)


def _concerns(event: Event, watch: Address) -> bool:
    if "watch" in event.what:
        return bool(event.what["watch"] == watch.id)
    return bool(event.what["id"] == watch.about["thing"])


def _compose_watched(delivery: Delivery) -> Message:
    """Headers alone; where it is SOAP, several watches in one body."""
    if delivery.address.about["soap"]:
        found = "".join(
            f"<n><watch>{each.address.id}</watch><token>{each.address.secret}</token></n>"
            for each in delivery.notices
        )
        headers = {"content-type": "text/xml; charset=utf-8"}
        return Message(
            url=delivery.address.url, headers=headers, body=f"<all>{found}</all>".encode()
        )
    (notice,) = delivery.notices
    headers = {
        "x-watch": notice.address.id,
        "x-token": notice.address.secret,
        "x-number": str(notice.number),
        "x-state": notice.event.what.get("state", "exists"),
    }
    return Message(url=delivery.address.url, headers=headers)


def _together(notice: Notice) -> str:
    return notice.address.url if notice.address.about["soap"] else notice.address.id


def _took(answered: AppResponse) -> bool:
    soap = "xml" in answered.headers.get("content-type", "")
    return answered.status == 200 and (not soap or b"<Ack>true</Ack>" in answered.body)


WATCHED = replace(
    VENDOR,
    name="watched",
    routes=(
        *VENDOR.routes,
        Route("POST", HOST, "/watches", _watch),
        Route("DELETE", HOST, "/watches/{id}", _unwatch),
    ),
    webhook=Sender(
        compose=_compose_watched,
        deadline=5.0,
        retry=again_after(60),
        notices=to_watches(_concerns),
        together=_together,
        acknowledges=_took,
        batch=1,
    ),
)


@dataclass
class MadeWatch:
    """A sandbox with watches, an account, and its client."""

    place: Place
    account: str
    token: str

    def call(self, method: str, path: str, **body: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.token}"}
        return self.place.client.request(method, f"/{HOST}{path}", json=body, headers=headers)

    def watch(self, id_: str, thing: str, **more: Any) -> httpx.Response:
        fields = {"address": self.place.receiver.url, "token": f"token of {id_}", **more}
        return self.call("POST", "/watches", id=id_, thing=thing, **fields)

    def touch(self, thing: str) -> None:
        assert self.call("PUT", f"/things/{thing}", n=1).status_code == 204


@pytest.fixture
def watched(request: pytest.FixtureRequest) -> Iterator[MadeWatch]:
    sender: Sender | None = WATCHED.webhook
    assert sender
    rules = getattr(request, "param", {})
    with placed(replace(WATCHED, webhook=replace(sender, **rules))) as place:
        place.receiver.answer = lambda call: Answering(body=call.query.get("prove", "").encode())
        account = place.connect()
        yield MadeWatch(place, account, place.token(account))


def states(calls: list[Received]) -> list[tuple[str, str, str]]:
    return [
        (call.headers["x-watch"], call.headers["x-number"], call.headers["x-state"])
        for call in calls
        if "prove" not in call.query
    ]


def test_an_address_is_proven_while_the_call_that_makes_the_watch_is_open(
    watched: MadeWatch,
) -> None:
    def answer(call: Received) -> Answering:
        # Who is asked may ask back: the vendor's API is not held up by the open call.
        if "prove" in call.query:
            watched.touch("5")
        return Answering(body=call.query.get("prove", "").encode())

    watched.place.receiver.answer = answer
    assert watched.watch("a", "1").status_code == 201
    assert watched.place.receiver.calls[0].query == {"prove": "me now"}
    assert states(watched.place.receiver.wait(2)) == [("a", "1", "sync")]
    log = watched.place.control("GET", "requests")["log"]
    assert [line["status"] for line in log] == [204, 201]


def test_an_address_that_does_not_prove_itself_gets_no_watch(watched: MadeWatch) -> None:
    watched.place.receiver.answer = lambda call: Answering(404)
    refused = watched.watch("a", "1")
    assert (refused.status_code, refused.json()) == (400, {"refused": 404})
    nobody = watched.watch("a", "1", address="http://127.0.0.1:9/nobody")
    assert nobody.json() == {"refused": "connection"}
    watched.touch("1")
    watched.place.standing(made=0, idle=True)


def test_a_watch_hears_of_its_own_thing_with_its_token_and_numbers_that_rise(
    watched: MadeWatch,
) -> None:
    watched.watch("a", "1")
    watched.watch("b", "2")
    for thing in ("1", "2", "3", "1"):
        watched.touch(thing)
    watched.place.standing(acknowledged=5, idle=True)
    heard = states(watched.place.receiver.calls)
    assert [each for each in heard if each[0] == "a"] == [
        *(("a", "1", "sync"), ("a", "2", "exists"), ("a", "3", "exists"))
    ]
    assert [each for each in heard if each[0] == "b"] == [("b", "1", "sync"), ("b", "2", "exists")]
    for call in watched.place.receiver.calls[2:]:
        assert call.body == b""
        assert call.headers.get("x-token", "token of a").startswith("token of ")


def test_a_watch_is_warned_of_its_end_and_ends_by_the_sandboxs_clock(watched: MadeWatch) -> None:
    watched.watch("a", "1")
    watched.place.standing(acknowledged=1, idle=True)
    watched.place.advance(LASTS - 599)
    watched.place.standing(acknowledged=2, idle=True)
    assert states(watched.place.receiver.calls)[-1] == ("a", "2", "ends soon")
    watched.place.advance(600)
    # The token has its hour, too; it is the watch that is over.
    replace(watched, token=watched.place.token(watched.account)).touch("1")
    watched.place.standing(made=2, idle=True)


def test_a_watch_ends_when_its_client_ends_it_and_with_its_consent(watched: MadeWatch) -> None:
    watched.watch("a", "1")
    watched.watch("b", "1")
    assert watched.call("DELETE", "/watches/a").status_code == 204
    assert watched.call("DELETE", "/watches/a").status_code == 404
    watched.touch("1")
    watched.place.standing(acknowledged=3, idle=True)
    other = watched.place.token(watched.account)
    watched.place.client.post("/login.made.up/revoke", data={"token": watched.token})
    ended = replace(watched, token=other)
    ended.touch("1")
    watched.place.standing(made=3, idle=True)


@pytest.mark.parametrize("watched", [{"batch": 10}], indirect=True)
def test_notices_of_several_watches_go_in_one_call_and_want_their_own_answer(
    watched: MadeWatch,
) -> None:
    for id_ in ("a", "b", "c"):
        assert watched.watch(id_, "1", soap=True).status_code == 201
    watched.place.standing(idle=True)
    watched.place.control("DELETE", "deliveries")
    watched.place.receiver.calls.clear()
    wrong = Answering(body=b"<Ack>false</Ack>", headers={"content-type": "text/xml"})
    watched.place.receiver.answer = lambda call: wrong
    watched.touch("1")
    watched.place.standing(sent=1, retrying=1, in_flight=0)
    right = replace(wrong, body=b"<Ack>true</Ack>")
    watched.place.receiver.answer = lambda call: right
    watched.place.advance(61)
    watched.place.standing(made=1, sent=2, acknowledged=1, idle=True)
    for call in watched.place.receiver.calls:
        assert call.headers["content-type"].startswith("text/xml")
        for id_ in ("a", "b", "c"):
            assert f"<watch>{id_}</watch><token>token of {id_}</token>".encode() in call.body
