"""How a vendor of the sandbox delivers to the one address of its app, over real HTTP."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Event

import pytest

from sandbox.kernel.values import Address, Json, RefusedError
from sandbox.kernel.webhooks import CallbackFlow, Delivery, Message
from tests._delivered import Place, placed
from tests._made_up import (
    DOWN,
    HOST,
    SENDER,
    VENDOR,
    add,
    attempt,
    ids,
    is_signed,
    told,
    with_rules,
)
from tests._receiver import OK, PATIENCE, Answering, Received


@pytest.fixture
def place() -> Iterator[Place]:
    with placed(VENDOR) as made:
        yield made


# -- What is told ---------------------------------------------------------------------------------


def test_a_change_is_delivered_whether_ordered_or_made_through_the_api(place: Place) -> None:
    place.point()
    account = place.connect()
    (ordered,) = add(place, account)
    headers = {"Authorization": f"Bearer {place.token(account)}"}
    written = place.client.put(f"/{HOST}/things/77", json={"n": 1}, headers=headers)
    assert written.status_code == 204
    place.change(account, "things", "delete", id="77")
    found = place.standing(events=3, failed=0, idle=True)
    assert found["made"] == found["sent"] == found["acknowledged"]
    heard = [(each["account"], each["id"], each["gone"]) for each in told(place.receiver.calls)]
    assert heard == [(account, ordered, False), (account, "77", False), (account, "77", True)]


def test_a_delivery_is_signed_when_it_is_sent_with_the_secret_of_the_address(place: Place) -> None:
    assert place.point() == {"url": place.receiver.url, "secret": SENDER.secret, "loud": False}
    account = place.connect()
    add(place, account)
    place.standing(acknowledged=1, idle=True)
    assert is_signed(place.receiver.calls[0])
    assert abs(float(place.receiver.calls[0].headers["x-at"]) - time.time()) < 60
    place.point(secret="another", loud=True)
    add(place, account)
    place.standing(acknowledged=2, idle=True)
    place.advance(3600)
    add(place, account)
    place.standing(acknowledged=3, idle=True)
    _, second, third = place.receiver.calls
    assert is_signed(second, "another")
    assert abs(float(third.headers["x-at"]) - time.time() - 3600) < 60


def test_without_an_address_changes_go_on_and_nothing_is_kept(place: Place) -> None:
    account = place.connect()
    changes = place.control("POST", "mutate", account=account, count=5)["changes"]
    assert len(changes) == 5
    place.standing(made=0, waiting=0, idle=True)
    place.point()
    place.control("POST", "webhook", url=None)
    assert place.control("GET", "webhook")["url"] is None
    add(place, account)
    place.standing(made=0, idle=True)


def test_an_app_hears_only_of_accounts_that_let_it(place: Place) -> None:
    place.point()
    stranger = str(place.control("POST", "accounts", size=3)["id"])
    add(place, stranger)
    friend = place.connect()
    add(place, friend)
    place.receiver.wait(1)
    place.control("POST", "tokens", account=friend, op="revoke")
    add(place, friend)
    place.standing(events=1, made=1, idle=True)
    assert {each["account"] for each in told(place.receiver.calls)} == {friend}


def test_how_an_account_came_to_be_is_no_news(place: Place) -> None:
    place.point()
    place.connect()
    place.standing(events=0, made=0, idle=True)


def test_a_vendor_without_webhooks_says_so() -> None:
    with placed(replace(VENDOR, webhook=None)) as place:
        account = place.connect()
        add(place, account)
        for method, path in (("GET", "deliveries"), ("POST", "webhook"), ("POST", "deliveries")):
            answer = place.client.request(method, f"/_control/made_up/{path}", json={})
            assert answer.status_code == 404
            assert "sends no webhooks" in answer.json()["error"]


@pytest.mark.parametrize(
    "body", [{"url": "ftp://x.example/"}, {"url": "here"}, {"colour": 1}, {"url": "http://a/#b"}]
)
def test_an_address_that_is_none_is_refused(place: Place, body: Json) -> None:
    answer = place.client.post("/_control/made_up/webhook", json=body)
    assert answer.status_code == 400
    assert place.control("GET", "webhook")["url"] is None


def test_the_description_tells_the_secret_that_deliveries_are_signed_with(
    place: Place,
) -> None:
    assert place.client.get("/_control").json()["made_up"]["webhook_secret"] == SENDER.secret


# -- How it is sent -------------------------------------------------------------------------------


def test_what_happens_at_once_goes_together_up_to_the_vendors_batch(place: Place) -> None:
    place.point()
    accounts = [place.connect() for _ in range(4)]
    assert place.control("POST", "burst", accounts=accounts, count=8) == {
        "changes": 8,
        "accounts": 4,
    }
    place.standing(events=8, idle=True)
    sizes = [len(json.loads(call.body)["told"]) for call in place.receiver.calls]
    assert sum(sizes) == 8
    assert max(sizes) <= 3
    assert {each["account"] for each in told(place.receiver.calls)} == set(accounts)


def test_each_account_is_told_in_order_and_many_at_the_same_time(place: Place) -> None:
    place.point()
    accounts = [place.connect() for _ in range(6)]
    place.order(batch=1)
    open_: dict[str, int] = dict.fromkeys(accounts, 0)
    overlaps = []
    together = Event()

    def answer(call: Received) -> Answering:
        (one,) = told([call])
        open_[one["account"]] += 1
        overlaps.append(open_[one["account"]] > 1)
        if place.receiver.most_open > 1:
            together.set()
        together.wait(PATIENCE)
        open_[one["account"]] -= 1
        return OK

    place.receiver.answer = answer
    headers = {each: {"Authorization": f"Bearer {place.token(each)}"} for each in accounts}
    for number in range(5):
        for account in accounts:
            path = f"/{HOST}/things/{100 + number}"
            place.client.put(path, json={}, headers=headers[account])
    place.standing(acknowledged=30, idle=True)
    for account in accounts:
        heard = [each["id"] for each in told(place.receiver.calls) if each["account"] == account]
        assert heard == [str(100 + number) for number in range(5)]
    assert not any(overlaps)
    assert together.is_set()


def test_no_more_calls_are_open_at_once_than_the_vendor_makes() -> None:
    with placed(with_rules(concurrency=2, batch=1)) as place:
        place.point()
        accounts = [place.connect() for _ in range(8)]
        full = Event()

        def answer(call: Received) -> Answering:
            if place.receiver.most_open > 1:
                full.set()
            full.wait(PATIENCE)
            return Answering(after=0.05)

        place.receiver.answer = answer
        place.control("POST", "burst", accounts=accounts, count=8)
        place.standing(acknowledged=8, idle=True)
        assert place.receiver.most_open == 2


def test_the_vendors_api_answers_while_its_deliveries_hang(place: Place) -> None:
    place.point()
    account = place.connect()
    answering = Event()

    def answer(call: Received) -> Answering:
        answering.wait(PATIENCE)
        return OK

    place.receiver.answer = answer
    add(place, account)
    place.receiver.wait(1)
    add(place, account)
    assert place.standing(in_flight=1, waiting=1)["acknowledged"] == 0
    answering.set()
    place.standing(acknowledged=2, idle=True)


def test_a_delivery_that_fails_is_tried_again_when_the_vendor_does_by_its_clock(
    place: Place,
) -> None:
    place.point()
    account = place.connect()
    place.receiver.answer = lambda call: DOWN
    add(place, account)
    place.receiver.wait(1)
    place.standing(sent=1, retrying=1, in_flight=0)
    place.advance(50)
    time.sleep(0.1)
    assert place.standing(retrying=1)["sent"] == 1
    place.advance(11)
    place.receiver.wait(2)
    place.standing(sent=2, retrying=1, in_flight=0)
    place.receiver.answer = lambda call: OK
    place.advance(601)
    calls = place.receiver.wait(3)
    found = place.standing(made=1, sent=3, acknowledged=1, failed=0, idle=True)
    assert [attempt(call) for call in calls] == [1, 2, 3]
    assert len({call.headers["x-delivery"] for call in calls}) == 1
    assert len({each["event"] for each in told(calls)}) == 1
    assert all(is_signed(call) for call in calls)
    assert [line["status"] for line in found["log"]] == [500, 500, 200]
    assert [line["acknowledged"] for line in found["log"]] == [False, False, True]


def test_a_delivery_is_given_up_after_the_vendors_last_try(place: Place) -> None:
    place.point()
    account = place.connect()
    place.receiver.answer = lambda call: DOWN
    place.order(retry_scale=0)
    add(place, account)
    place.standing(made=1, sent=3, acknowledged=0, failed=1, idle=True)


def test_a_scale_makes_retries_come_sooner(place: Place) -> None:
    place.point()
    account = place.connect()
    place.receiver.answer = lambda call: DOWN
    place.client.post("/_control/clock", json={"stopped": True})
    place.order(retry_scale=0.1)
    add(place, account)
    for sent, wait in ((1, 6), (2, 60)):
        place.standing(sent=sent, retrying=1, in_flight=0)
        place.advance(wait - 1)
        assert place.standing(retrying=1)["sent"] == sent
        place.advance(2)
    place.standing(sent=3, failed=1, idle=True)


def test_an_answer_that_comes_late_is_none() -> None:
    with placed(with_rules(deadline=0.2)) as place:
        place.point()
        account = place.connect()
        place.receiver.answer = lambda call: Answering(after=1.0)
        add(place, account)
        found = place.standing(sent=1, retrying=1, in_flight=0)
        assert found["log"][0]["failure"] == "timeout"
        assert found["log"][0]["status"] == 0


def test_an_address_where_nobody_is_fails_and_hears_of_it_when_it_is_back(place: Place) -> None:
    account = place.connect()
    place.control("POST", "webhook", url="http://127.0.0.1:9/nobody")
    add(place, account)
    assert place.standing(retrying=1)["log"][0]["failure"] == "connection"
    place.point()
    place.advance(61)
    (call,) = place.receiver.wait(1)
    assert attempt(call) == 2


def test_what_counts_as_acknowledged_is_the_vendors_own() -> None:
    with placed(with_rules(acknowledges=lambda answered: answered.body == b"taken")) as place:
        place.point()
        account = place.connect()
        add(place, account)
        place.standing(sent=1, acknowledged=0, retrying=1, in_flight=0)
        place.receiver.answer = lambda call: Answering(410, b"taken")
        place.advance(61)
        place.standing(sent=2, acknowledged=1, idle=True)


def test_later_events_pass_one_that_fails() -> None:
    with placed(with_rules(batch=1)) as place:
        place.point()
        account = place.connect()
        place.receiver.answer = lambda call: DOWN if attempt(call) == 1 else OK
        added = add(place, account, 2)
        place.standing(sent=2, retrying=2, waiting=0, in_flight=0)
        place.advance(61)
        place.standing(sent=4, acknowledged=2, idle=True)
        assert ids(place.receiver.calls)[:2] == added


def test_later_events_wait_for_one_that_fails_where_the_vendor_holds_them_back() -> None:
    with placed(with_rules(batch=1, holds_back=True)) as place:
        place.point()
        account, other = place.connect(), place.connect()
        place.receiver.answer = lambda call: DOWN if attempt(call) == 1 else OK
        first, second = add(place, account, 2)
        place.standing(sent=1, retrying=1, waiting=1, in_flight=0)
        add(place, other)
        place.standing(sent=2, retrying=2, waiting=1, in_flight=0)
        place.advance(61)
        place.standing(sent=5, acknowledged=2, retrying=1, in_flight=0)
        place.advance(61)
        place.standing(acknowledged=3, idle=True)
        heard = [each["id"] for each in told(place.receiver.calls) if each["account"] == account]
        assert heard == [first, first, second, second]


def test_a_surplus_of_notices_is_dropped_where_the_vendor_spaces_them() -> None:
    with placed(with_rules(spacing=30.0)) as place:
        place.point()
        one, other = place.connect(), place.connect()
        add(place, one, 3)
        add(place, other)
        place.standing(made=2, acknowledged=2, dropped=2, idle=True)
        place.advance(31)
        add(place, one)
        place.standing(made=3, acknowledged=3, dropped=2, idle=True)


def test_a_fault_of_the_sandbox_is_logged_and_holds_nothing_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def compose(delivery: Delivery) -> Message:
        if delivery.events[0].what["id"] == "4":
            raise LookupError("a mistake of the vendor's module")
        return SENDER.compose(delivery)

    with placed(with_rules(compose=compose)) as place:
        place.point()
        account = place.connect(size=3)
        assert add(place, account) == ["4"]
        place.standing(failed=1, idle=True)
        add(place, account)
        place.standing(failed=1, acknowledged=1, idle=True)
    assert "a mistake of the vendor's module" in caplog.text


def test_the_log_names_accounts_and_no_secret(place: Place) -> None:
    place.point()
    account = place.connect()
    add(place, account)
    (line,) = place.standing(acknowledged=1, idle=True)["log"]
    assert (line["accounts"], line["events"], line["attempt"]) == ([account], 1, 1)
    assert SENDER.secret not in json.dumps(line)


def test_two_thousand_deliveries_to_one_address_arrive_once_each(place: Place) -> None:
    place.point()
    accounts = [place.connect() for _ in range(50)]
    place.order(batch=1)
    place.control("POST", "burst", accounts=accounts, count=2000, streams=["things"])
    place.receiver.wait(2000)
    found = place.standing(made=2000, sent=2000, acknowledged=2000, idle=True)
    assert found["failed"] == found["dropped"] == 0
    assert len({each["event"] for each in told(place.receiver.calls)}) == 2000


def test_an_app_address_is_proven_before_the_control_takes_it() -> None:
    def handshake(address: Address) -> CallbackFlow[None]:
        answered = yield Message(url=f"{address.url}?challenge=42", method="GET")
        if answered.body != b"42":
            raise RefusedError("the address does not answer the challenge", status=400)

    with placed(with_rules(handshake=handshake)) as place:
        refused = place.client.post("/_control/made_up/webhook", json={"url": place.receiver.url})
        assert refused.status_code == 400
        assert place.control("GET", "webhook")["url"] is None
        place.receiver.answer = lambda call: Answering(body=call.query["challenge"].encode())
        assert place.point()["url"] == place.receiver.url
        assert [call.method for call in place.receiver.calls] == ["GET", "GET"]
