"""What a test can order of a vendor's deliveries, and bursts of changes to make many."""

import time
from collections.abc import Iterator

import pytest

from sandbox.kernel.values import Json
from tests._delivered import Place, placed
from tests._made_up import DOWN, VENDOR, add, ids, is_signed, told
from tests._receiver import OK, Answering


@pytest.fixture
def place() -> Iterator[Place]:
    with placed(VENDOR) as made:
        yield made


def test_deliveries_are_paused_and_go_on(place: Place) -> None:
    place.point()
    account = place.connect()
    assert place.order(paused=True)["paused"] is True
    added = add(place, account, 4)
    place.standing(waiting=4, sent=0)
    place.order(paused=False)
    place.standing(acknowledged=2, idle=True)
    assert ids(place.receiver.calls) == added


def test_the_next_deliveries_are_dropped_without_a_word(place: Place) -> None:
    place.point()
    account = place.connect()
    assert place.order(drop=2)["drop"] == 2
    added = add(place, account, 3)
    found = place.standing(dropped=2, acknowledged=1, idle=True)
    assert found["orders"]["drop"] == 0
    assert ids(place.receiver.calls) == added[2:]


def test_the_next_delivery_comes_twice_and_only_one_of_them_counts(place: Place) -> None:
    place.point()
    account = place.connect()
    place.order(duplicate=1)
    add(place, account, 2)
    calls = place.receiver.wait(3)
    place.standing(made=2, sent=3, acknowledged=2, idle=True)
    events = [each["event"] for each in told(calls)]
    assert len(events) == 3
    assert len(set(events)) == 2


def test_a_forged_call_is_not_signed_and_the_retry_is(place: Place) -> None:
    place.point()
    account = place.connect()
    place.receiver.answer = lambda call: OK if is_signed(call) else Answering(401)
    place.order(forge=1, retry_scale=0)
    add(place, account)
    found = place.standing(made=1, sent=2, acknowledged=1, idle=True)
    assert [is_signed(call) for call in place.receiver.calls] == [False, True]
    assert [line["forged"] for line in found["log"]] == [True, False]


def test_shuffled_events_come_in_another_order_and_all(place: Place) -> None:
    place.point()
    account = place.connect()
    place.order(paused=True, shuffle=True, batch=1)
    added = add(place, account, 30)
    place.order(paused=False, shuffle=False)
    place.standing(acknowledged=30, idle=True)
    assert sorted(ids(place.receiver.calls)) == sorted(added)
    assert ids(place.receiver.calls) != added


def test_a_delay_passes_by_the_sandboxs_clock(place: Place) -> None:
    place.point()
    account = place.connect()
    place.order(delay=120)
    added = add(place, account, 2)
    place.advance(100)
    time.sleep(0.1)
    assert place.standing(waiting=2)["sent"] == 0
    place.advance(30)
    place.standing(waiting=0, idle=True)
    assert ids(place.receiver.calls) == added


@pytest.mark.parametrize(
    "body", [{"drop": -1}, {"drop": 1.5}, {"drop": True}, {"paused": 1}, {"delay": "soon"}]
)
def test_an_order_that_is_none_is_refused(place: Place, body: Json) -> None:
    assert place.client.post("/_control/made_up/deliveries", json=body).status_code == 400


def test_an_unknown_order_is_told_what_there_is(place: Place) -> None:
    answer = place.client.post("/_control/made_up/deliveries", json={"lose": 1})
    assert answer.status_code == 404
    assert "duplicate" in answer.json()["error"]


def test_clearing_forgets_what_was_sent_and_what_was_to_be_sent(place: Place) -> None:
    place.point()
    account = place.connect()
    place.receiver.answer = lambda call: DOWN
    add(place, account)
    place.standing(retrying=1)
    place.order(paused=True, forge=3)
    add(place, account)
    assert place.control("DELETE", "deliveries") == {"cleared": 1}
    place.receiver.answer = lambda call: OK
    place.advance(601)
    found = place.standing(made=0, sent=0, retrying=0, waiting=0, idle=True)
    assert (found["log"], found["orders"]["forge"], found["orders"]["paused"]) == ([], 0, False)
    add(place, account)
    place.standing(made=1, acknowledged=1, idle=True)


def test_a_burst_changes_all_accounts_in_turn_and_names_what_it_does_not_know(
    place: Place,
) -> None:
    place.point()
    first, second = place.connect(), place.connect()
    answer = place.control("POST", "burst", accounts=[first, second], count=6, seed=4)
    assert answer == {"changes": 6, "accounts": 2}
    place.standing(events=6, idle=True)
    everybody = place.control("POST", "burst")
    assert everybody == {"changes": 3, "accounts": 3}
    wrong: list[Json] = [{"accounts": []}, {"streams": ["nothing"]}]
    for body in wrong:
        assert place.client.post("/_control/made_up/burst", json=body).status_code == 400
