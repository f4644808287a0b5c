"""Salesforce's outbound messages: what the sandbox sends is taken, answered with an Ack, and holds
nothing that we keep but what to read again."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import httpx  # noqa: TID251 - a test is a vendor that calls us
import psycopg
import pytest

from connectors import ContractError, Delivery, Event, load
from connectors.salesforce.events import ACK, OUTBOUND
from sandbox.salesforce.events import SESSION
from settings.webhooks import address_of
from storage.database import Database
from tests._delivered import Place, sandboxed
from tests._delivering import PUBLIC
from tests._receiver import Answering
from tests._stored import Stocked, stock
from tests._web import serving_api, web_settings

WEBHOOK = load("salesforce").webhook


@pytest.fixture
def place() -> Iterator[Place]:
    with sandboxed("salesforce") as place:
        place.receiver.answer = lambda call: Answering(body=ACK.body.encode())
        place.point()
        yield place


def read(body: bytes) -> list[Event]:
    assert WEBHOOK
    return list(
        WEBHOOK.events(
            Delivery(
                method="POST", url=PUBLIC, headers={}, query={}, body=body,
                received_at=datetime.now(UTC),
            )
        )
    )  # fmt: skip


def told(place: Place) -> list[Event]:
    place.standing(idle=True)
    return [event for call in place.receiver.calls for event in read(call.body)]


def test_a_message_names_its_org_and_rows_to_read_again(place: Place) -> None:
    org = place.connect()
    lead = place.change(org, "leads", "add")
    custom = place.change(org, "custom_objects", "add")
    events = told(place)
    assert {event.account_id for event in events} == {org}
    found = {(event.streams[0], event.key) for event in events}
    assert {("leads", lead), ("custom_objects", custom)} <= found
    assert {event.effect for event in events} == {"read"}


def test_several_notifications_of_one_message_are_as_many_events(place: Place) -> None:
    org = place.connect()
    place.order(paused=True)
    made = [place.change(org, "leads", "add") for _ in range(7)]
    place.order(paused=False)
    place.standing(idle=True)
    (call,) = place.receiver.calls
    events = read(call.body)
    assert [event.key for event in events] == made
    assert len({event.id for event in events}) == 7


def test_one_ack_ends_a_message_and_any_other_answer_has_it_sent_again(place: Place) -> None:
    place.order(retry_scale=0.0)
    answers = iter([Answering(), Answering(500), Answering(body=ACK.body.encode())])
    place.receiver.answer = lambda call: next(answers)
    place.change(place.connect(), "leads", "add")
    assert place.standing(idle=True, acknowledged=1)["sent"] == 3
    first, *again = [read(call.body) for call in place.receiver.calls]
    assert all(events == first for events in again)


def test_nothing_is_told_of_a_deletion(place: Place) -> None:
    org = place.connect()
    place.change(org, "leads", "delete", id=next(iter(place.store(org)["leads"])))
    assert told(place) == []
    assert WEBHOOK
    assert WEBHOOK.covers == ()


def message(inner: str, before: str = "", prefix: str = "sf") -> bytes:
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{before}'
        '<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><e:Body>'
        f'<notifications xmlns="{OUTBOUND}"><OrganizationId>00Dx0000000BV7z</OrganizationId>'
        f"<SessionId>{SESSION}</SessionId><Notification><Id>04l000000000001AAA</Id>"
        f'<sObject xsi:type="{prefix}:Account" xmlns:{prefix}="urn:sobject">{inner}</sObject>'
        "</Notification></notifications></e:Body></e:Envelope>"
    ).encode()


def test_a_short_id_is_that_of_the_org_and_any_prefix_will_do() -> None:
    (event,) = read(message("<x:Id>001A0000006Vm9r</x:Id>", prefix="x"))
    assert event.account_id == "00Dx0000000BV7zEAG"
    assert event.key == "001A0000006Vm9rIAC"


def test_a_row_that_was_gone_before_it_was_told_of_has_its_stream_read() -> None:
    (event,) = read(message(""))
    assert (event.effect, event.streams, event.key) == ("hint", ("accounts",), "")


@pytest.mark.parametrize(
    "before",
    [
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>',
        '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE x SYSTEM "https://evil.example/x.dtd">',
    ],
)
def test_a_message_that_declares_a_document_type_is_refused(before: str) -> None:
    with pytest.raises(ContractError, match="document type"):
        read(message("<sf:Id>001A0000006Vm9r</sf:Id>", before))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"<a>" * 10_000,
        b"<a>" * 50 + b"</a>" * 50,
        b"<a/>",
        message("<sf:Id>&undeclared;</sf:Id>"),
    ],
)
def test_what_is_no_message_is_told_without_a_word_of_it(body: bytes) -> None:
    with pytest.raises(ContractError) as error:
        read(body)
    assert SESSION not in str(error.value)


def test_a_notification_that_cannot_be_read_costs_nothing_but_itself() -> None:
    whole = message("<sf:Id>no id</sf:Id>").decode()
    one = whole[whole.index("<Notification>") : whole.index("</Notification>")] + "</Notification>"
    good = one.replace("no id", "001A0000006Vm9r").replace("04l0", "04l1")
    found = read(whole.replace(one, one + good).encode())
    assert [event.effect for event in found] == ["unreadable", "read"]
    assert SESSION not in str(found[0].record)
    assert found[0].account_id == found[1].account_id


@dataclass(frozen=True)
class Receiving:
    """Our web process, and the connection of an org with its own address."""

    http: httpx.AsyncClient
    url: str
    address: str

    def stored(self) -> list[dict[str, Any]]:
        with psycopg.connect(self.url) as sql:
            rows = sql.execute("SELECT event_id, type, data FROM events ORDER BY id")
            return [dict(zip(("id", "type", "data"), row, strict=True)) for row in rows]

    async def deliver(self, body: bytes, address: str = "") -> httpx.Response:
        headers = {"content-type": "text/xml; charset=utf-8", "soapaction": '""'}
        path = (address or self.address).removeprefix(PUBLIC)
        return await self.http.post(path, content=body, headers=headers)


@pytest.fixture
async def receiving(database: Database, database_url: str) -> AsyncIterator[Receiving]:
    settings = web_settings(
        database_url,
        nextauth_url=PUBLIC,
        nextauth_secret="canary-nextauth-secret-of-enough-characters",
    )
    made: Stocked = await stock(database, account_id="00Dx0000000BV7zEAG")
    with psycopg.connect(database_url) as sql:
        sql.execute("UPDATE connections SET integration = 'salesforce'")
    async with serving_api(settings) as api:
        yield Receiving(
            api.http, database_url, address_of(settings, "salesforce", made.connection_id)
        )


async def test_a_message_is_stored_without_its_session_and_answered_with_an_ack(
    receiving: Receiving,
) -> None:
    answer = await receiving.deliver(message("<sf:Id>001A0000006Vm9r</sf:Id>"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/xml")
    told = ElementTree.fromstring(answer.text)  # noqa: S314 - our own answer
    assert told.findtext(f".//{{{OUTBOUND}}}Ack") == "true"
    (event,) = receiving.stored()
    assert event == {
        "id": "04l000000000001AAA",
        "type": "outbound.Account",
        "data": {"effect": "read", "streams": ["accounts"], "key": "001A0000006Vm9rIAC"},
    }
    await receiving.deliver(message("<sf:Id>001A0000006Vm9r</sf:Id>"))
    assert len(receiving.stored()) == 1
    with psycopg.connect(receiving.url) as sql:
        found = sql.execute("SELECT FROM events WHERE events::text LIKE %s", (f"%{SESSION}%",))
        assert found.rowcount == 0


async def test_another_org_that_knows_the_address_has_nothing_stored(receiving: Receiving) -> None:
    body = message("<sf:Id>001A0000006Vm9r</sf:Id>").replace(b"00Dx0000000BV7z", b"00Dy0000000BV7z")
    assert (await receiving.deliver(body)).status_code == 200
    assert receiving.stored() == []


@pytest.mark.parametrize("cut", [0, 1, 41])
async def test_an_address_that_does_not_prove_itself_is_refused(
    receiving: Receiving, cut: int
) -> None:
    wrong = f"{PUBLIC}/api/webhooks/salesforce" if not cut else receiving.address[:-cut]
    answer = await receiving.deliver(message("<sf:Id>001A0000006Vm9r</sf:Id>"), wrong)
    assert answer.status_code == 401
    assert receiving.stored() == []
