"""Stripe's readers and events, driven over a played account."""

import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    Effect,
    Event,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    RateLimitedError,
    Reader,
    Record,
    Request,
    Response,
    Stream,
    load,
)
from connectors.kernel.signatures import stripe_signature
from connectors.kernel.versions import EPOCH
from connectors.kernel.webhooks import Delivery
from tests._driving import NOW, response

STRIPE = load("stripe")
WEBHOOK = STRIPE.webhook
ACCOUNT = "acct_1Tenant"
NOW_S = int((NOW - EPOCH).total_seconds())
DAY = 86_400
OVERLAP = 300


def thing(kind: str, id: str, **fields: Any) -> Record:
    return {"id": id, "object": kind, "livemode": True, "created": NOW_S - DAY, **fields}


def listed(rows: list[Record], *, more: bool = False) -> Record:
    return {"object": "list", "data": rows, "has_more": more}


def missing(param: str = "id", status: int = 404) -> Response:
    error = {"type": "invalid_request_error", "code": "resource_missing", "param": param}
    return response({"error": error}, status)


class Played:
    """An account: lists by path (the newest first), objects by path, and what was asked for."""

    def __init__(self, *, page: int = 100, live: bool = True, **lists: list[Record]) -> None:
        self.lists: dict[str, list[Record]] = {"events": [], **lists}
        self.objects: dict[str, Any] = {"balance": {"object": "balance", "livemode": live}}
        self.asked: list[Request] = []
        self.page = page
        self.version = 0

    def happens(
        self, type: str, about: Record, *, ago: int = 60, api_version: str = "2020-08-27"
    ) -> Record:
        event = {
            **thing("event", f"evt_{len(self.lists['events'])}"),
            "type": type,
            "created": NOW_S - ago,
            "api_version": api_version,
            "data": {"object": about},
        }
        self.lists["events"].insert(0, event)
        return event

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        path = request.path.lstrip("/")
        if path not in self.lists:
            found = self.objects.get(path)
            return missing() if found is None else response(found)
        rows = self.lists[path]
        group = str(request.params.get("type", "*")).removesuffix("*")
        since = int(str(request.params.get("created[gte]", 0)))
        rows = [
            row
            for row in rows
            if row.get("created", NOW_S) >= since and row.get("type", group).startswith(group)
        ]
        if (after := request.params.get("starting_after")) is not None:
            ids = [row["id"] for row in rows]
            if after not in ids:
                return missing("starting_after", 400)
            rows = rows[ids.index(str(after)) + 1 :]
        return response(listed(rows[: self.page], more=len(rows) > self.page))

    def paths(self) -> list[str]:
        return [request.path for request in self.asked]


def context(account: str = ACCOUNT) -> Context:
    return Context(now=NOW, account_id=account)


def drive(reader: Reader, played: Callable[[Request], Response]) -> list[Page]:
    pages: list[Page] = []
    sent: Any = None
    while True:
        try:
            action = reader.send(sent)
        except StopIteration:
            return pages
        if isinstance(action, Page):
            pages.append(action)
            sent = None
        elif isinstance(action, tuple):
            sent = tuple(played(request) for request in action)
        else:
            sent = played(action)


def read(
    stream: str, played: Played, at: Mapping[str, Any] | None = None, account: str = ACCOUNT
) -> list[Page]:
    saved = Checkpoint(json.loads(json.dumps(at or {})))
    return drive(STRIPE.stream(stream).read(saved, context(account)), played)


def since(stream: str, played: Played) -> tuple[list[Record], list[str]]:
    """What a read from an hour ago on gives: records, and what is gone."""
    pages = read(stream, played, {"since": NOW_S - 3600})
    return [r for page in pages for r in page.records], [k for page in pages for k in page.deleted]


# -- Lists --------------------------------------------------------------------------------------


def test_a_backfill_follows_the_last_id_until_there_is_no_more() -> None:
    played = Played(page=2, customers=[thing("customer", f"cus_{n}") for n in range(5)])
    pages = read("customers", played)
    assert [r["id"] for page in pages for r in page.records] == [f"cus_{n}" for n in range(5)]
    assert [request.params.get("starting_after") for request in played.asked] == [
        None, "cus_1", "cus_3",
    ]  # fmt: skip
    assert all(request.params["limit"] == 100 for request in played.asked)
    # What changes meanwhile is found from a time before the first page.
    assert pages[-1].checkpoint == {"since": NOW_S - OVERLAP}


def test_a_backfill_goes_on_after_the_last_id_it_has_stored() -> None:
    played = Played(page=2, customers=[thing("customer", f"cus_{n}") for n in range(5)])
    at = read("customers", played)[0].checkpoint
    rest = read("customers", played, at)
    assert [r["id"] for page in rest for r in page.records] == ["cus_2", "cus_3", "cus_4"]


def test_a_page_after_a_customer_that_was_deleted_meanwhile_starts_the_list_again() -> None:
    played = Played(customers=[thing("customer", "cus_1")])
    with pytest.raises(CheckpointExpiredError):
        read("customers", played, {"started": NOW_S, "after": "cus_deleted"})


def test_canceled_subscriptions_are_listed_only_when_all_are_asked_for() -> None:
    played = Played(subscriptions=[])
    read("subscriptions", played)
    assert played.asked[0].params["status"] == "all"


def test_an_invoice_holds_its_first_ten_lines_and_the_rest_is_asked_for() -> None:
    lines = [{"id": f"il_{n}", "livemode": True} for n in range(25)]
    invoice = thing("invoice", "in_1", lines=listed(lines[:10], more=True))
    played = Played(page=10, invoices=[invoice])
    played.lists["invoices/in_1/lines"] = lines
    (page,) = read("invoices", played)
    assert page.records[0]["lines"]["data"] == lines
    assert page.records[0]["lines"]["has_more"] is False
    assert played.paths() == ["/invoices", "/invoices/in_1/lines", "/invoices/in_1/lines"]


def test_a_subscription_of_many_items_is_whole_too() -> None:
    items = [{"id": f"si_{n}", "livemode": True} for n in range(12)]
    subscription = thing("subscription", "sub_1", items=listed(items[:10], more=True))
    played = Played(subscriptions=[subscription])
    played.lists["subscription_items"] = items
    (page,) = read("subscriptions", played)
    assert page.records[0]["items"]["data"] == items
    assert played.asked[1].params["subscription"] == "sub_1"


# -- Events as the list of what changed ---------------------------------------------------------


def test_created_finds_new_objects_only_so_changes_are_read_from_events() -> None:
    played = Played(customers=[])
    played.happens("customer.updated", thing("customer", "cus_old"))
    played.objects["customers/cus_old"] = thing("customer", "cus_old", name="New")
    records, gone = since("customers", played)
    assert [r["name"] for r in records] == ["New"]
    assert gone == []
    assert played.asked[0].params["type"] == "customer.*"
    assert played.asked[0].params["created[gte]"] == NOW_S - 3600


@pytest.mark.parametrize("api_version", ["2020-08-27", "2026-10-28.endive"])
def test_a_snapshot_is_never_what_is_stored_whatever_version_it_is_rendered_in(
    api_version: str,
) -> None:
    played = Played()
    snapshot = thing("subscription", "sub_1", current_period_end=1, status="trialing")
    played.happens("customer.subscription.updated", snapshot, api_version=api_version)
    now = thing("subscription", "sub_1", status="active", items=listed([{"id": "si_1"}]))
    played.objects["subscriptions/sub_1"] = now
    assert since("subscriptions", played) == ([now], [])
    assert STRIPE.headers == {"stripe-version": "2026-10-28.endive"}


def test_events_of_one_object_in_any_order_cost_one_read_and_give_what_it_is_now() -> None:
    played = Played(page=2)
    for status in ("succeeded", "processing", "created", "requires_action", "canceled"):
        played.happens(f"payment_intent.{status}", thing("payment_intent", "pi_1", status=status))
    now = thing("payment_intent", "pi_1", status="succeeded")
    played.objects["payment_intents/pi_1"] = now
    assert since("payment_intents", played) == ([now], [])
    assert played.paths().count("/payment_intents/pi_1") == 1


def test_a_deleted_customer_leaves_its_id_and_a_deleted_draft_leaves_nothing() -> None:
    played = Played()
    played.happens("customer.deleted", thing("customer", "cus_1"))
    played.objects["customers/cus_1"] = {"id": "cus_1", "object": "customer", "deleted": True}
    played.happens("invoice.deleted", thing("invoice", "in_1"))
    assert since("customers", played) == ([], ["cus_1"])
    assert since("invoices", played) == ([], ["in_1"])


def test_a_404_that_does_not_say_that_the_object_is_missing_deletes_nothing() -> None:
    played = Played()
    played.happens("charge.updated", thing("charge", "ch_1"))
    played.objects["charges/ch_1"] = {"error": {"type": "invalid_request_error"}}
    with pytest.raises(ContractError):
        since("charges", played)


def test_a_canceled_subscription_is_no_deleted_one() -> None:
    played = Played()
    canceled = thing("subscription", "sub_1", status="canceled", items=listed([]))
    played.happens("customer.subscription.deleted", canceled)
    played.objects["subscriptions/sub_1"] = canceled
    assert since("subscriptions", played) == ([canceled], [])


def test_a_dispute_and_a_refund_name_their_charge() -> None:
    played = Played()
    played.happens("charge.dispute.created", thing("dispute", "dp_1", charge="ch_1"))
    played.happens("charge.refund.updated", thing("refund", "re_1", charge="ch_2"))
    charges = [thing("charge", id) for id in ("ch_2", "ch_1")]
    played.objects |= {f"charges/{each['id']}": each for each in charges}
    assert since("charges", played) == (charges, [])


def test_sources_and_discounts_name_their_customer_and_subscriptions_do_not() -> None:
    played = Played()
    played.happens("customer.source.updated", thing("card", "card_1", customer="cus_1"))
    played.happens("customer.discount.created", thing("discount", "di_1", customer="cus_2"))
    played.happens(
        "customer.subscription.updated", thing("subscription", "sub_1", customer="cus_3")
    )
    customers = [thing("customer", id) for id in ("cus_2", "cus_1")]
    played.objects |= {f"customers/{each['id']}": each for each in customers}
    assert since("customers", played) == (customers, [])


@pytest.mark.parametrize("preview", [{"object": "invoice"}, thing("invoice", "upcoming_in_1")])
def test_an_upcoming_invoice_is_a_preview_and_not_read(preview: Record) -> None:
    played = Played()
    played.happens("invoice.upcoming", preview)
    assert since("invoices", played) == ([], [])
    assert set(played.paths()) == {"/events"}


def test_a_delta_that_was_stopped_goes_on_after_the_last_event_it_has_stored() -> None:
    played = Played(page=2)
    for n in range(5):
        played.happens("charge.updated", thing("charge", f"ch_{n}"))
        played.objects[f"charges/ch_{n}"] = thing("charge", f"ch_{n}")
    pages = read("charges", played, {"since": NOW_S - 3600})
    rest = read("charges", played, pages[0].checkpoint)
    assert [r["id"] for page in rest for r in page.records] == ["ch_2", "ch_1", "ch_0"]
    assert rest[-1].checkpoint == pages[-1].checkpoint == {"since": NOW_S - OVERLAP}


def test_a_delta_over_two_groups_of_events_goes_on_in_the_one_where_it_was() -> None:
    played = Played(page=1)
    for n, type in enumerate(
        ("charge.updated", "refund.failed", "charge.updated", "refund.failed")
    ):
        about = (
            thing("charge", f"ch_{n}") if n % 2 == 0 else thing("refund", "re", charge=f"ch_{n}")
        )
        played.happens(type, about)
        played.objects[f"charges/ch_{n}"] = thing("charge", f"ch_{n}")
    pages = read("charges", played, {"since": NOW_S - 3600})
    assert [r["id"] for page in pages for r in page.records] == ["ch_2", "ch_0", "ch_3", "ch_1"]
    for done, page in enumerate(pages[:-1], start=1):
        rest = read("charges", played, page.checkpoint)
        assert [one.records for one in rest] == [one.records for one in pages[done:]]
        assert rest[-1].checkpoint == {"since": NOW_S - OVERLAP}


def test_an_object_that_an_event_names_and_nobody_finds_yet_is_looked_for_again() -> None:
    played = Played()
    played.happens("invoice.created", thing("invoice", "in_new"))
    played.happens("invoiceitem.deleted", thing("invoiceitem", "ii_1", invoice="in_other"))
    pages = read("invoices", played, {"since": NOW_S - 3600})
    assert {key for page in pages for key in page.unsettled} == {"in_new", "in_other"}
    assert not any(page.deleted for page in pages)


def test_a_clock_of_ours_that_is_ahead_loses_no_events() -> None:
    played = Played()

    def answer(request: Request) -> Response:
        by_stripe = {"date": "Sun, 01 Nov 2026 11:40:00 GMT"}
        return response(played(request).json, headers=by_stripe)

    (page,) = drive(STRIPE.stream("events").read(Checkpoint(), context()), answer)
    assert page.checkpoint == {"since": NOW_S - 20 * 60 - OVERLAP}


def test_a_poll_with_nothing_new_asks_as_often_however_much_there_is() -> None:
    for count in (0, 1_000):
        played = Played(charges=[thing("charge", f"ch_{n}") for n in range(count)])
        assert since("charges", played) == ([], [])
        assert played.paths() == ["/events", "/events", "/balance"]


def test_many_deletions_in_a_row_ask_for_the_keys_mode_once() -> None:
    played = Played(page=5)
    for number in range(50):
        played.happens("customer.deleted", thing("customer", f"cus_{number}"))
    found = {
        key for page in read("customers", played, {"since": NOW_S - 3600}) for key in page.deleted
    }
    assert len(found) == 50
    assert played.paths().count("/balance") == 1


@pytest.mark.parametrize("stream", [stream.name for stream in STRIPE.streams])
def test_events_are_kept_for_30_days_and_what_is_older_is_read_from_its_start(stream: str) -> None:
    read(stream, Played(), {"since": NOW_S - 29 * DAY})
    with pytest.raises(CheckpointExpiredError):
        read(stream, Played(), {"since": NOW_S - 30 * DAY})


def test_the_stream_of_events_has_them_all_as_they_are() -> None:
    played = Played(page=1)
    told = [played.happens(type, {"object": "payout"}) for type in ("payout.paid", "radar.odd")]
    pages = read("events", played)
    assert [r for page in pages for r in page.records] == told[::-1]
    assert "type" not in played.asked[0].params


def test_a_gap_is_closed_from_the_time_it_began() -> None:
    stream = STRIPE.stream("charges")
    assert stream.window
    at = stream.window(NOW - timedelta(hours=1))
    assert at == {"since": NOW_S - 3600 - OVERLAP}


def test_an_id_goes_into_a_path_as_one_part_of_it() -> None:
    played = Played()
    fetch = STRIPE.stream("customers").fetch
    assert fetch
    drive(fetch(["../charges/ch_1"], context()), played)
    assert played.paths()[0] == "/customers/..%2Fcharges%2Fch_1"


# -- Account, mode, key -------------------------------------------------------------------------


def identified(**answer: Any) -> Any:
    steps = STRIPE.identify(answer, {})
    with pytest.raises(StopIteration) as stop:
        next(steps)
    return stop.value.value


@pytest.mark.parametrize("stream", STRIPE.streams, ids=lambda stream: stream.name)
@pytest.mark.parametrize("account", [ACCOUNT, f"{ACCOUNT}:test"])
def test_every_call_names_the_account_it_is_for(stream: Stream, account: str) -> None:
    lines = listed([{"id": "il_1", "livemode": True}], more=True)
    live = not account.endswith("test")
    row = thing("x", "x_1", livemode=live, lines=lines, items=lines)
    played, more = Played(live=live), [*lines["data"], {"id": "il_2"}]
    played.lists |= {"invoices/x_1/lines": more, "subscription_items": more, stream.name: [row]}
    read(stream.name, played, account=account)
    if stream.fetch:
        drive(stream.fetch(["x_9"], context(account)), played)
    assert {request.headers["stripe-account"] for request in played.asked} == {ACCOUNT}


def test_the_platforms_own_key_is_used_and_nothing_is_ever_refreshed() -> None:
    assert STRIPE.oauth.bearer == "app"
    assert STRIPE.oauth.access_token_ttl is None
    assert STRIPE.oauth.variables == ("STRIPE_CONNECT_CLIENT_ID", "STRIPE_SECRET_KEY")


def test_the_mode_of_the_key_is_that_of_the_connection_and_each_mode_is_an_account() -> None:
    (live,) = identified(stripe_user_id=ACCOUNT, livemode=True)
    (test,) = identified(stripe_user_id=ACCOUNT, livemode=False)
    assert (live.id, test.id) == (ACCOUNT, f"{ACCOUNT}:test")


@pytest.mark.parametrize(("account", "livemode"), [(ACCOUNT, False), (f"{ACCOUNT}:test", True)])
def test_data_of_the_other_mode_is_never_stored(account: str, livemode: bool) -> None:
    row = thing("customer", "cus_1", livemode=livemode)
    with pytest.raises(ContractError, match="STRIPE_SECRET_KEY"):
        read("customers", Played(customers=[row]), account=account)
    played = Played()
    played.objects["customers/cus_1"] = row
    fetch = STRIPE.stream("customers").fetch
    assert fetch
    with pytest.raises(ContractError, match="STRIPE_SECRET_KEY"):
        drive(fetch(["cus_1"], context(account)), played)


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (403, "account_invalid", BrokenConnectionError),
        (401, "account_invalid", BrokenConnectionError),
        # The key is ours: a wrong one must not cost every tenant its connection.
        (401, None, ContractError),
        (403, None, NotAllowedError),
        (429, "rate_limit", RateLimitedError),
        (400, "rate_limit", RateLimitedError),
        (429, "lock_timeout", ProviderUnavailableError),
        (409, None, ProviderUnavailableError),
        (424, None, ProviderUnavailableError),
    ],
)
def test_errors_are_told_apart_by_their_code(
    status: int, code: str | None, error: type[ConnectorError]
) -> None:
    body = {"error": {"type": "invalid_request_error", "code": code, "message": "canary"}}
    told = STRIPE.classify(response(body, status))
    assert type(told) is error
    assert "canary" not in str(told)
    if isinstance(told, RateLimitedError):
        assert not told.retry_after  # it is not promised


def test_what_stripe_says_is_worth_a_second_try_gets_one() -> None:
    refused = response({"error": {}}, 400, {"stripe-should-retry": "true"})
    assert isinstance(STRIPE.classify(refused), ProviderUnavailableError)
    final = response({"error": {}}, 400, {"stripe-should-retry": "false"})
    assert STRIPE.classify(final) is None


def test_what_is_no_error_of_stripes_own_is_left_to_the_map_by_status() -> None:
    assert STRIPE.classify(response({"error": {"code": "parameter_unknown"}}, 400)) is None
    assert STRIPE.classify(response(None, 500)) is None
    assert STRIPE.classify(response({"object": "list"})) is None


# -- Webhooks -----------------------------------------------------------------------------------


def told(**changes: Any) -> list[Event]:
    """Our events of a delivered one."""
    event = {
        "id": "evt_1", "object": "event", "type": "customer.updated", "created": NOW_S,
        "livemode": True, "account": ACCOUNT, "api_version": "2020-08-27",
        "data": {"object": {"id": "cus_1", "object": "customer"}},
        **changes,
    }  # fmt: skip
    body = json.dumps({name: value for name, value in event.items() if value is not None})
    delivery = Delivery(
        method="POST", url="https://atom.test/x", headers={}, query={}, body=body.encode(),
        received_at=NOW,
    )  # fmt: skip
    assert WEBHOOK
    return list(WEBHOOK.events(delivery))


def test_an_event_says_what_to_read_again_and_that_there_is_an_event() -> None:
    first, second = told()
    assert (first.effect, first.streams, first.key) == (Effect.READ, ("customers",), "cus_1")
    assert first.record is None
    assert (second.effect, second.streams) == (Effect.HINT, ("events",))
    assert {first.account_id, second.account_id} == {ACCOUNT}
    assert first.id != second.id


@pytest.mark.parametrize(
    ("type", "about", "names"),
    [
        ("charge.refunded", {"object": "charge", "id": "ch_1"}, "charges ch_1"),
        ("charge.dispute.closed", {"object": "dispute", "charge": "ch_1"}, "charges ch_1"),
        ("payment_intent.canceled", {"object": "payment_intent", "id": "p"}, "payment_intents p"),
        ("invoice.paid", {"object": "invoice", "id": "in_1"}, "invoices in_1"),
        ("customer.subscription.paused", {"object": "subscription", "id": "s"}, "subscriptions s"),
        ("customer.tax_id.created", {"object": "tax_id", "customer": "c"}, "customers c"),
        ("invoice.upcoming", {"object": "invoice"}, ""),
        ("payout.paid", {"object": "payout", "id": "po_1"}, ""),
    ],
)
def test_events_are_routed_by_the_object_they_carry(type: str, about: Record, names: str) -> None:
    events = told(type=type, data={"object": about})
    read = [f"{each.streams[0]} {each.key}" for each in events if each.effect is Effect.READ]
    assert read == ([names] if names else [])
    assert events[-1].streams == ("events",)


def test_an_event_of_test_mode_that_a_live_endpoint_hears_is_another_accounts() -> None:
    assert {each.account_id for each in told(livemode=False)} == {f"{ACCOUNT}:test"}


def test_an_event_without_an_account_is_the_platforms_own_and_billings() -> None:
    assert told(account=None) == []


def test_a_thin_event_does_not_go_through_the_parser_of_snapshots() -> None:
    assert told(object="v2.core.event", data=None, livemode=None) == []


def test_a_deauthorisation_takes_the_consent_back_as_of_its_time() -> None:
    application = {"object": {"object": "application", "id": "ca_1"}}
    (only,) = told(type="account.application.deauthorized", data=application)
    assert (only.effect, only.account_id, only.at) == (Effect.REVOKED, ACCOUNT, NOW)


def test_the_endpoint_of_connected_accounts_has_a_secret_of_its_own() -> None:
    assert WEBHOOK
    assert WEBHOOK.verified_by == "STRIPE_CONNECT_WEBHOOK_SECRET"
    assert WEBHOOK.verify is stripe_signature
