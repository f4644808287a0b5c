"""What people reported of programs that read Stripe, played on our readers and on our webhooks.

Each docstring tells a report in our own words, where and when it was made, and what is right.
"""

import json
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    Record,
    Request,
    Response,
    load,
)
from connectors.kernel.versions import EPOCH
from tests._driving import NOW, Answer, drive, held, response
from tests._judging import as_the_client, judged
from tests.test_connectors_stripe import ACCOUNT, Played, listed, thing

STRIPE = load("stripe")
NOW_S = int((NOW - EPOCH).total_seconds())
HOUR_AGO = {"since": NOW_S - 3600}


def kept(
    stream: str,
    answer: Answer,
    at: Record | None = None,
    former: dict[str, Record] | None = None,
) -> dict[str, Record]:
    """What is held of a stream after a read of it."""
    of = STRIPE.stream(stream)
    return held(of, drive(of.read, as_the_client(STRIPE, answer), at), former)


def told(type: str, about: Record, **changes: Any) -> list[Event]:
    """What a delivery of that event comes to."""
    event = {
        "id": "evt_9", "object": "event", "type": type, "created": NOW_S, "livemode": True,
        "account": ACCOUNT, "data": {"object": about}, **changes,
    }  # fmt: skip
    delivery = Delivery(
        method="POST", url="https://atom.test/hook", headers={}, query={},
        body=json.dumps(event).encode(), received_at=NOW,
    )  # fmt: skip
    assert STRIPE.webhook
    return list(STRIPE.webhook.events(delivery))


def again(events: list[Event]) -> set[tuple[str, str]]:
    """The records that those events ask to read again."""
    return {(event.streams[0], event.key) for event in events if event.effect is Effect.READ}


def refusal(status: int, code: str | None) -> ConnectorError | None:
    error = {"type": "invalid_request_error", "code": code, "message": "in words"}
    return judged(STRIPE, response({"error": error}, status))


# -- What changed, by the list of events ----------------------------------------------------------


def test_objects_named_on_every_page_of_events_are_read_failed_payments_too() -> None:
    """Incremental reads lost charges that a full read showed: the paging over events was not
    followed to its end, and blocked payments were among the lost.

    airbytehq/airbyte#32976 (2023-12). Right: every page is read, whatever became of the payment.
    """
    played = Played(page=3)
    for n in range(11):
        charge = thing("charge", f"ch_{n}", status="failed" if n % 2 else "succeeded")
        played.happens(f"charge.{charge['status']}", charge)
        played.objects[f"charges/ch_{n}"] = charge
    assert set(kept("charges", played, HOUR_AGO)) == {f"ch_{n}" for n in range(11)}


def test_an_object_made_before_the_last_read_shows_what_became_of_it() -> None:
    """A payment intent that was made before a sync and captured after it kept its first state,
    though the events were there.

    airbytehq/airbyte#31917 (2023-10). Right: the row shows the state of now.
    """
    played = Played()
    intent = thing("payment_intent", "pi_1", status="requires_capture")
    played.happens("payment_intent.succeeded", {**intent, "status": "succeeded"})
    played.objects["payment_intents/pi_1"] = {**intent, "status": "succeeded"}
    rows = kept("payment_intents", played, HOUR_AGO, {"pi_1": intent})
    assert rows["pi_1"]["status"] == "succeeded"


def test_fields_that_the_accounts_own_api_version_does_not_have_are_there() -> None:
    """What an event holds is rendered in the account's version, not in the one that the reader
    asks for: fields that moved between the two came out empty, without an error.

    airbytehq/airbyte#77625 (2026-06). Right: the object is read again in our version.
    """
    played = Played()
    played.happens("invoice.paid", thing("invoice", "in_1", subscription="sub_1"))
    parent = {"subscription_details": {"subscription": "sub_1"}}
    played.objects["invoices/in_1"] = thing("invoice", "in_1", parent=parent, lines=listed([]))
    assert kept("invoices", played, HOUR_AGO)["in_1"]["parent"] == parent


def test_an_invoice_of_more_than_ten_lines_has_them_all_after_a_change() -> None:
    """Events embed the first ten lines of an invoice; the others never came in incremental reads.

    airbytehq/airbyte#85087 (2026-08), dj-stripe/dj-stripe#1052 (2019-11). Right: all of them.
    """
    lines = [{"id": f"il_{n}", "livemode": True} for n in range(16)]
    played, invoice = Played(), thing("invoice", "in_1", lines=listed(lines[:10], more=True))
    played.happens("invoice.updated", invoice)
    played.objects["invoices/in_1"] = invoice
    played.lists["invoices/in_1/lines"] = lines
    assert kept("invoices", played, HOUR_AGO)["in_1"]["lines"]["data"] == lines


def test_a_draft_that_is_deleted_while_its_lines_are_read_costs_the_others_nothing() -> None:
    """A draft was deleted between the list of invoices and the call for its further lines; the
    404 of that call ended the whole import.

    PostHog/posthog#72759 (2026-07). Right: the other invoices are read, and the draft is gone.
    """
    gone = thing("invoice", "in_gone", lines=listed([{"id": "il_1"}], more=True))
    stays = thing("invoice", "in_stays", lines=listed([]))
    assert set(kept("invoices", Played(invoices=[gone, stays]))) == {"in_stays"}


def test_canceled_subscriptions_are_read() -> None:
    """The list of subscriptions leaves those out that were canceled, and so did the table.

    singer-io/tap-stripe#113 (2021-12). Right: all of them are read.
    """
    rows = [thing("subscription", "sub_1", status="canceled", items=listed([]))]

    def answer(request: Request) -> Response:
        asked_for_all = request.params.get("status") == "all"
        return response(listed(rows if asked_for_all else []))

    assert set(kept("subscriptions", answer)) == {"sub_1"}


def test_a_first_read_that_is_stopped_goes_on_where_it_was() -> None:
    """A first read of four million charges failed after nine hours, each time, and began anew.

    airbytehq/airbyte#43428 (2024-08). Right: what was stored is not read a second time.
    """
    played = Played(page=2, charges=[thing("charge", f"ch_{n}") for n in range(7)])
    stream = STRIPE.stream("charges")
    pages = drive(stream.read, played)
    rest = held(stream, drive(stream.read, played, pages[1].checkpoint))
    assert set(rest) == {"ch_4", "ch_5", "ch_6"}


# -- Events that are about something else than their name says ----------------------------------


@pytest.mark.parametrize("type", ["refund.created", "refund.updated", "refund.failed"])
def test_a_refund_that_is_told_of_by_its_own_events_moves_its_charge(type: str) -> None:
    """Refunds that failed later, and others, were never seen: other types of events tell of them
    than those which were followed.

    airbytehq/airbyte#34332 (2024-01). Right: the charge is read again, by poll and by webhook.
    """
    refund = thing("refund", "re_1", charge="ch_1")
    played = Played()
    played.happens(type, refund)
    played.objects["charges/ch_1"] = thing("charge", "ch_1", amount_refunded=300)
    assert again(told(type, refund)) == {("charges", "ch_1")}
    assert kept("charges", played, HOUR_AGO)["ch_1"]["amount_refunded"] == 300


def test_a_refund_in_an_event_of_the_charges_is_not_taken_for_a_charge() -> None:
    """`charge.refund.updated` holds a refund; its id was asked for among the charges, where it is
    not, and the delivery failed.

    dj-stripe/dj-stripe#1039 (2019-10), stripe/sync-engine#114 (2024-08). Right: its charge is read.
    """
    refund = thing("refund", "re_1", charge="ch_1")
    assert again(told("charge.refund.updated", refund)) == {("charges", "ch_1")}


def test_an_item_that_is_put_on_an_invoice_moves_the_invoice() -> None:
    """`invoiceitem.updated` tells that an item was put on an invoice; a mirror could not read it.

    dj-stripe/dj-stripe#848 (2019-03). Right: the invoice, whose lines are stored with it, is read.
    """
    item = thing("invoiceitem", "ii_1", invoice="in_1")
    played = Played()
    played.happens("invoiceitem.updated", item)
    played.objects["invoices/in_1"] = thing("invoice", "in_1", total=2000, lines=listed([]))
    assert again(told("invoiceitem.updated", item)) == {("invoices", "in_1")}
    assert kept("invoices", played, HOUR_AGO)["in_1"]["total"] == 2000


def test_a_preview_of_an_invoice_is_no_invoice() -> None:
    """`invoice.upcoming` holds an invoice that there is not yet, without an id: it was stored,
    which the database refused, and Stripe was told that the delivery failed.

    stripe/sync-engine-fork#102 (2026-02), bitwarden/server#3128 (2023-07). Right: it is no record.
    """
    preview = {"object": "invoice", "customer": "cus_1", "livemode": True}
    events = told("invoice.upcoming", preview)
    assert not again(events)
    assert {event.effect for event in events} == {Effect.HINT}


def test_a_customer_that_was_deleted_unheard_of_is_deleted_when_it_is_read_by_id() -> None:
    """A customer was deleted and its event missed; reading that one customer again changed nothing.

    stripe/sync-engine#265 (2026-02). Right: an answer `deleted` is a deletion.
    """
    played, stream = Played(), STRIPE.stream("customers")
    played.objects["customers/cus_1"] = {"id": "cus_1", "object": "customer", "deleted": True}
    assert stream.fetch
    fetch = stream.fetch
    pages = drive(lambda _, context: fetch(["cus_1"], context), as_the_client(STRIPE, played))
    assert not held(stream, pages, {"cus_1": thing("customer", "cus_1")})


# -- Accounts, modes and keys ---------------------------------------------------------------------


def test_one_kind_of_object_that_a_key_may_not_read_is_that_streams_alone() -> None:
    """A key without the permission for one resource made the whole capture crash.

    estuary/connectors#1782 (2024-08). Right: nobody reconnects; the stream says what it lacks.
    """
    assert isinstance(refusal(403, None), NotAllowedError)


def test_an_account_that_took_its_consent_back_is_asked_to_reconnect() -> None:
    """The account had been deleted, or access to it revoked, and the program crashed on the answer.

    letsrevel/revel-backend#694 (2026-07). Right: the connection is broken, and the tenant acts.
    """
    assert isinstance(refusal(403, "account_invalid"), BrokenConnectionError)


def test_a_platforms_key_that_is_none_is_our_business() -> None:
    """With the key of a connected account in place of a platform's, every call that names an
    account is refused with 400, and was tried again for ever.

    PostHog/posthog#104098 (2026-09). Right: we act; no tenant is asked to reconnect.
    """
    assert isinstance(refusal(400, None), ContractError)


def test_a_key_of_the_other_mode_deletes_nothing() -> None:
    """Objects of live mode were asked for with a key of test mode, which says that there is no such
    object (and, in words, that a similar one exists in the other mode).

    pinax/pinax-stripe-light#227 (2015-12). Right: nothing is deleted, and we are told to act.
    """
    played = Played(charges=[])
    played.objects["balance"] = {"object": "balance", "livemode": False}
    stream, mine = STRIPE.stream("charges"), {"ch_1": thing("charge", "ch_1")}
    assert stream.fetch
    fetch = stream.fetch
    with pytest.raises(ContractError, match="STRIPE_SECRET_KEY"):
        drive(lambda _, context: fetch(["ch_1"], context), as_the_client(STRIPE, played))
    with pytest.raises(ContractError, match="STRIPE_SECRET_KEY"):
        kept("charges", played, None, mine)
    # Nor does a time pass of which nobody reads the events.
    with pytest.raises(ContractError, match="STRIPE_SECRET_KEY"):
        kept("charges", played, HOUR_AGO, mine)


def test_that_access_ended_is_believed_although_nothing_can_be_read_any_more() -> None:
    """The event of a revoked access was to be read again from Stripe, which that very event had
    made impossible, and so it was never handled.

    integrallis/stripe_event#15 (2013-04). Right: its signature is proof enough.
    """
    application = {"id": "ca_1", "object": "application"}
    (event,) = told("account.application.deauthorized", application)
    assert (event.effect, event.account_id) == (Effect.REVOKED, ACCOUNT)


def test_events_of_test_mode_at_a_live_address_do_not_touch_live_data() -> None:
    """A platform's live endpoint hears of its accounts' test mode, too, and took it for live.

    integrallis/stripe_event#33 (2014-06). Right: they are of another account to us.
    """
    about = thing("customer", "cus_1", livemode=False)
    events = told("customer.updated", about, livemode=False)
    assert {event.account_id for event in events} == {f"{ACCOUNT}:test"}


# -- Situations that were known before; they do not count as first tries ---------------------------


def test_a_delivery_that_cannot_be_read_is_kept_and_its_account_read_again() -> None:
    """A form that nobody foresaw costs nothing but itself, and what it may concern is read."""
    (event,) = told("customer.updated", {}, data=None)
    assert (event.effect, event.account_id) == (Effect.UNREADABLE, ACCOUNT)


def test_a_delta_from_too_long_ago_starts_over() -> None:
    """What a checkpoint holds on to at the vendor may be gone."""
    with pytest.raises(CheckpointExpiredError):
        kept("charges", Played(), {"since": NOW_S - 31 * 86_400})
