"""Stripe's own library against the sandbox, with only its addresses set: a platform that connects
accounts, reads what they have and hears of what happens there."""

import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders, and is the browser
import pytest
import stripe
from stripe import oauth_error

from sandbox import start
from tests._vendor import Answer, Vendor, serve

pytestmark = pytest.mark.referee

BACK = "http://127.0.0.1:9/back"
VERSION = "2026-10-28.endive"
SERVICES = ("customers", "charges", "payment_intents", "invoices", "subscriptions", "events")


class Referee:
    """The library with the platform's key, a connected account, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, origin: str, size: int) -> None:
        self.control, self.origin = control, origin
        self.described = control.get("/_control").json()["stripe"]
        self.account: str = self.order("accounts", size=size)["id"]
        self.platform = self.client(self.described["client_secret"])

    def client(self, key: str) -> Any:
        api, connect = (f"{self.origin}/{name}.stripe.com" for name in ("api", "connect"))
        return stripe.StripeClient(
            key,
            client_id=self.described["client_id"],
            base_addresses={"api": api, "connect": connect},
        )

    def order(self, action: str, **body: Any) -> Any:
        answer = self.control.post(f"/_control/stripe/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, id: str | None = None) -> str:
        path = f"records/{stream}?account={self.account}"
        return str(self.order(path, op=op, **({"id": id} if id else {}))["id"])

    def store(self, stream: str) -> Any:
        query = {"account": self.account, "stream": stream}
        return self.control.get("/_control/stripe/store", params=query).json()["streams"][stream]

    @property
    def own(self) -> Any:
        """The header by which the platform acts for the account."""
        return {"stripe_account": self.account}

    def consent(self) -> str:
        """A person's yes on Stripe's page; the code that the platform is given."""
        page = self.platform.oauth.authorize_url(
            {"scope": "read_only", "state": "s-1", "redirect_uri": BACK}
        )
        answer = httpx.post(page, data={"decision": "allow", "account": self.account})
        back = parse_qs(urlsplit(answer.headers["location"]).query)
        assert back["state"] == ["s-1"]
        return back["code"][0]

    def connect(self) -> Any:
        return self.platform.oauth.token(
            {"grant_type": "authorization_code", "code": self.consent(), "redirect_uri": BACK}
        )


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["stripe"]) as origin:
        yield origin


@pytest.fixture
def referee(origin: str) -> Iterator[Referee]:
    with httpx.Client(base_url=origin, timeout=60) as control:
        control.delete("/_control/stripe/faults")
        control.post("/_control/stripe/limits", json={"scale": 100})
        made = Referee(control, origin, size=150)
        made.connect()
        yield made


def code_of(error: Any) -> str:
    """What a PermissionError leaves in the answer."""
    code: str = error.json_body["error"]["code"]
    return code


def heard(app: Vendor, count: int) -> list[Any]:
    """What was delivered, once it is so many."""
    deadline = time.monotonic() + 60
    while len(app.calls) < count:
        assert time.monotonic() < deadline, f"{len(app.calls)} deliveries"
        time.sleep(0.02)
    return list(app.calls)


@pytest.mark.parametrize("stream", SERVICES)
def test_the_sdk_lists_all_that_an_account_has_page_by_page(referee: Referee, stream: str) -> None:
    referee.order("mutate", account=referee.account, count=120)
    service = getattr(referee.platform.v1, stream)
    asked = {"limit": 40, **({"status": "all"} if stream == "subscriptions" else {})}
    page = service.list(asked, referee.own)
    rows = list(page.auto_paging_iter())
    assert {row.id for row in rows} == set(referee.store(stream))
    assert len(rows) == len({row.id for row in rows})
    assert [row.created for row in rows] == sorted((row.created for row in rows), reverse=True)
    assert all(row.livemode for row in rows)


def test_the_sdk_pages_backwards_and_within_bounds_of_time(referee: Referee) -> None:
    charges = referee.platform.v1.charges
    rows = list(charges.list({"limit": 100}, referee.own).auto_paging_iter())
    before = charges.list({"limit": 3, "ending_before": rows[10].id}, referee.own)
    assert [row.id for row in before.data] == [row.id for row in rows[7:10]]
    assert before.has_more
    bounds = {"gte": rows[20].created, "lt": rows[5].created}
    found = charges.list({"limit": 100, "created": bounds}, referee.own)
    within = [row.id for row in rows if bounds["gte"] <= row.created < bounds["lt"]]
    assert [row.id for row in found.data] == within


def test_the_sdk_reads_one_object_in_the_version_that_it_pins(referee: Referee) -> None:
    stored = next(row for row in referee.store("subscriptions").values())
    found = referee.platform.v1.subscriptions.retrieve(stored["id"], None, referee.own)
    assert "current_period_end" not in found.to_dict()
    assert found.to_dict()["items"]["data"][0]["current_period_end"]
    older: Any = {**referee.own, "stripe_version": "2024-06-20"}
    former = referee.platform.v1.subscriptions.retrieve(stored["id"], None, older)
    assert former.to_dict()["current_period_end"]
    with pytest.raises(stripe.InvalidRequestError, match="version"):
        referee.platform.v1.customers.list({}, {**referee.own, "stripe_version": "newest"})


def test_the_sdk_finds_the_lines_that_an_invoice_leaves_out(referee: Referee) -> None:
    stored = next(
        row for row in referee.store("invoices").values() if len(row["lines"]["data"]) > 10
    )
    found = referee.platform.v1.invoices.retrieve(stored["id"], None, referee.own)
    assert found.lines.has_more
    assert len(found.lines.data) == 10
    lines = referee.platform.v1.invoices.line_items.list(stored["id"], {"limit": 7}, referee.own)
    ids = [line.id for line in lines.auto_paging_iter()]
    assert ids == [line["id"] for line in stored["lines"]["data"]]


def test_the_sdk_sees_canceled_subscriptions_only_when_it_asks_for_all(referee: Referee) -> None:
    stored = referee.store("subscriptions")
    canceled = {id for id, row in stored.items() if row["status"] == "canceled"}
    assert canceled
    shown = referee.platform.v1.subscriptions.list({"limit": 100}, referee.own)
    assert {row.id for row in shown.auto_paging_iter()} == set(stored) - canceled


def test_the_sdk_is_told_of_changes_by_events_in_the_accounts_own_version(
    referee: Referee,
) -> None:
    id = next(iter(referee.store("customers")))
    referee.change("customers", "delete", id)
    events: Any = referee.platform.v1.events
    (event,) = events.list({"type": "customer.deleted"}, referee.own).data
    assert event.data.object.id == id
    assert event.api_version == "2024-06-20"
    assert events.retrieve(event.id, None, referee.own).id == event.id
    both = events.list({"types": ["customer.deleted", "charge.updated"]}, referee.own)
    assert [each.id for each in both.data] == [event.id]
    assert events.list({"type": "charge.*"}, referee.own).data == []
    with pytest.raises(stripe.InvalidRequestError):
        events.list({"type": "charge.*", "types": ["charge.updated"]}, referee.own)
    gone = referee.platform.v1.customers.retrieve(id, None, referee.own)
    assert gone.deleted is True
    assert id not in {
        row.id
        for row in referee.platform.v1.customers.list(
            {"limit": 100}, referee.own
        ).auto_paging_iter()
    }


def test_events_are_kept_for_30_days(referee: Referee) -> None:
    referee.change("charges", "add")
    assert referee.platform.v1.events.list({}, referee.own).data
    referee.control.post("/_control/clock", json={"advance": 30 * 86_400 + 1})
    assert referee.platform.v1.events.list({}, referee.own).data == []


def test_the_sdk_walks_the_whole_consent(referee: Referee) -> None:
    code = referee.consent()
    asked = {"grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
    token = referee.platform.oauth.token(asked)
    assert token.stripe_user_id == referee.account
    assert token.livemode is True
    assert token.scope == "read_only"
    assert "expires_in" not in token.to_dict()
    with pytest.raises(oauth_error.InvalidGrantError):
        referee.platform.oauth.token(asked)
    # The token opens the account by itself, too.
    own = referee.client(token.access_token)
    assert own.v1.accounts.retrieve_current().id == referee.account
    assert own.v1.charges.list({"limit": 1}).data
    named = referee.platform.v1.accounts.retrieve(referee.account, None, referee.own)
    assert named.business_profile.name


def test_a_key_that_is_not_the_platforms_gets_no_token(referee: Referee) -> None:
    other = referee.client("sk_test_other")
    with pytest.raises(oauth_error.InvalidClientError):
        other.oauth.token({"grant_type": "authorization_code", "code": referee.consent()})
    with pytest.raises(stripe.AuthenticationError):
        other.v1.customers.list({}, referee.own)


def test_an_account_that_did_not_consent_or_that_left_is_not_opened(referee: Referee) -> None:
    stranger: Any = {"stripe_account": referee.order("accounts", size=3)["id"]}
    with pytest.raises(stripe.PermissionError) as unknown:
        referee.platform.v1.customers.list({}, stranger)
    assert code_of(unknown.value) == "account_invalid"
    done = referee.platform.oauth.deauthorize({"stripe_user_id": referee.account})
    assert done.stripe_user_id == referee.account
    with pytest.raises(stripe.PermissionError) as left:
        referee.platform.v1.customers.list({}, referee.own)
    assert left.value.http_status == 403
    assert code_of(left.value) == "account_invalid"
    with pytest.raises(oauth_error.InvalidClientError):
        referee.platform.oauth.deauthorize({"stripe_user_id": referee.account})


def test_the_platforms_endpoint_hears_of_connected_accounts_with_their_names(
    referee: Referee,
) -> None:
    endpoints = referee.platform.v1.webhook_endpoints
    with serve(Vendor()) as app:
        made = endpoints.create(
            {
                "url": f"{app.origin}/hooks",
                "enabled_events": ["charge.succeeded", "account.application.deauthorized"],
                "connect": True,
                "api_version": VERSION,
            }
        )
        for _ in range(2):
            app.will(Answer(body={}))
        referee.change("charges", "add")
        referee.platform.oauth.deauthorize({"stripe_user_id": referee.account})
        calls = heard(app, 2)
        endpoints.delete(made.id)
    events = [
        referee.platform.construct_event(call.body, call.headers["stripe-signature"], made.secret)
        for call in calls
    ]
    assert [event.type for event in events] == [
        "charge.succeeded", "account.application.deauthorized",
    ]  # fmt: skip
    assert {event.account for event in events} == {referee.account}
    assert all(event.livemode for event in events)
    with pytest.raises(stripe.SignatureVerificationError):
        referee.platform.construct_event(
            calls[0].body, calls[0].headers["stripe-signature"], "whsec_other"
        )


def test_a_live_endpoint_hears_of_test_mode_and_neither_mode_sees_the_others_data(
    referee: Referee,
) -> None:
    tests = referee.client(referee.described["test_key"])
    assert tests.v1.customers.list({}, referee.own).data == []
    with serve(Vendor()) as app:
        endpoint: Any = {"enabled_events": ["customer.created"], "connect": True}
        live = referee.platform.v1.webhook_endpoints.create(
            {**endpoint, "url": f"{app.origin}/hooks/live"}
        )
        test = tests.v1.webhook_endpoints.create({**endpoint, "url": f"{app.origin}/hooks/test"})
        for _ in range(3):
            app.will(Answer(body={}))
        made = tests.v1.customers.create({"name": "In test mode"}, referee.own)
        calls = heard(app, 2)
        referee.change("customers", "add")
        calls = heard(app, 3)
        referee.platform.v1.webhook_endpoints.delete(live.id)
        tests.v1.webhook_endpoints.delete(test.id)
    assert sorted(call.path for call in calls[:2]) == ["/live", "/test"]
    assert calls[2].path == "/live"
    assert made.id not in referee.store("customers")
    assert [row.id for row in tests.v1.customers.list({}, referee.own).data] == [made.id]


def test_the_platforms_own_account_is_another_than_those_it_connects(referee: Referee) -> None:
    assert referee.platform.v1.accounts.retrieve_current().id != referee.account
    assert referee.platform.v1.customers.list({}).data == []


def test_the_sdk_tells_errors_apart(referee: Referee) -> None:
    customers = referee.platform.v1.customers
    with pytest.raises(stripe.InvalidRequestError) as unknown:
        customers.list({"starting_after": "cus_none"}, referee.own)
    assert (unknown.value.code, unknown.value.param) == ("resource_missing", "starting_after")
    with pytest.raises(stripe.InvalidRequestError) as odd:
        customers.list({"limit": 101}, referee.own)
    assert odd.value.param == "limit"
    referee.order("faults", kind="429")
    with pytest.raises(stripe.RateLimitError):
        customers.list({}, {**referee.own, "max_network_retries": 0})
    referee.order("faults", kind="500")
    with pytest.raises(stripe.APIError):
        customers.list({}, {**referee.own, "max_network_retries": 0})
