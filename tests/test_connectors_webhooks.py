"""Each connector proves and reads what the sandbox's vendor of its name delivers."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

import pytest

import sandbox
from connectors import SignatureError, all_connectors, load
from connectors.kernel.webhooks import Delivery, Event, VerificationKeys, Webhook
from sandbox.kernel.values import Json
from sandbox.kernel.vendor import Vendor
from tests._delivered import Place, sandboxed
from tests._receiver import Received


def _vendor(slug: str) -> Vendor:
    vendor: Vendor = import_module(f"sandbox.{slug}").vendor
    return vendor


# At Box an app has no address: each of its webhooks has one, and names no account.
EACH_HOOK = {"box"}


def _slugs() -> Iterator[str]:
    """Those that have one address for the app on both sides."""
    # A sandbox may come before its connector.
    known = {connector.name for connector in all_connectors()}
    for slug in known.intersection(sandbox.names()) - EACH_HOOK:
        webhook = load(slug).webhook
        if webhook and webhook.verified_by and _vendor(slug).webhook:
            yield slug


# Vendors whose deliveries say no more than that something happened, which they may say twice.
WITHOUT_IDS = {"dropbox"}


@dataclass(frozen=True)
class Both:
    """A vendor's sandbox with two accounts that it tells of, and the connector's side."""

    place: Place
    webhook: Webhook
    proof: VerificationKeys
    accounts: tuple[str, ...]
    stream: str

    def deliveries(self) -> list[Delivery]:
        """All that came, once nothing is left to send."""
        self.place.standing(idle=True)
        return [self._delivery(call) for call in self.place.receiver.calls]

    def events(self) -> list[list[Event]]:
        return [list(self.webhook.events(delivery)) for delivery in self.deliveries()]

    def prove(self, delivery: Delivery, proof: VerificationKeys | None = None) -> None:
        assert self.webhook.verify
        self.webhook.verify(delivery, proof or self.proof)

    def _delivery(self, call: Received) -> Delivery:
        return Delivery(
            method=call.method,
            url=self.place.receiver.url,
            headers=call.headers,
            query=call.query,
            body=call.body,
            received_at=datetime.now(UTC),
        )


@pytest.fixture(params=sorted(_slugs()))
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    slug: str = request.param
    webhook = load(slug).webhook
    assert webhook
    with sandboxed(slug) as place:
        place.point()
        accounts = tuple(place.connect(size=10) for _ in range(2))
        described = place.client.get("/_control").json()[slug]
        if slug == "gmail":
            for account in accounts:
                body = {"topicName": described["topic_name"]}
                place.call(account, "POST", "/gmail.googleapis.com/gmail/v1/users/me/watch", body)
        watch = load(slug).watch
        told = webhook.covers or (watch.streams("") if watch else ())
        mutable = list(_vendor(slug).mutable)
        stream = next((each for each in mutable if each in told), mutable[0])
        yield Both(place, webhook, _proof(place, webhook, described), accounts, stream)


def _proof(place: Place, webhook: Webhook, described: Mapping[str, Any]) -> VerificationKeys:
    keys: Json = {}
    if webhook.keys_url:
        keys = place.client.get(webhook.keys_url.replace("https://", "/")).json()
    variables = described.get("variables", {})
    return VerificationKeys(secrets=(described["webhook_secret"],), keys=keys, variables=variables)


def test_what_is_delivered_is_proven_and_names_its_accounts_and_streams(both: Both) -> None:
    both.place.control("POST", "burst", accounts=list(both.accounts), count=40)
    found = both.events()
    for delivery in both.deliveries():
        both.prove(delivery)
    events = [event for each in found for event in each]
    assert {event.account_id for event in events} == set(both.accounts)
    assert len({event.id for event in events}) == len(events)
    for event in events:
        assert event.streams or both.webhook.covers


def test_a_forged_delivery_is_refused_and_so_is_a_changed_one(both: Both) -> None:
    both.place.order(forge=1)
    for account in both.accounts:
        both.place.change(account, both.stream, "add")
        both.place.standing(idle=True)
    forged, *genuine = both.deliveries()
    with pytest.raises(SignatureError):
        both.prove(forged)
    for delivery in genuine:
        both.prove(delivery)
        headers = {name: _another(name, value) for name, value in delivery.headers.items()}
        with pytest.raises(SignatureError):
            both.prove(replace(delivery, headers=headers, body=delivery.body + b" "))
        with pytest.raises(SignatureError):
            both.prove(delivery, replace(both.proof, secrets=("other",), keys={"keys": []}))


def _another(name: str, value: str) -> str:
    """A bearer token with one sign changed: of a push, the token is all that is signed."""
    if name != "authorization":
        return value
    return value[:-40] + ("A" if value[-40] != "A" else "B") + value[-39:]


def test_an_event_that_is_delivered_again_is_known_by_its_id(both: Both) -> None:
    if both.place.name in WITHOUT_IDS:
        pytest.skip("its deliveries have no id, and two that say the same are two")
    # Several: what changes in an organization's repository concerns nobody by GitHub's own words.
    both.place.order(duplicate=6)
    for _ in range(6):
        both.place.change(both.accounts[0], both.stream, "add")
    both.place.standing(idle=True)
    times = Counter(event.id for found in both.events() for event in found)
    assert set(times.values()) == {2}
