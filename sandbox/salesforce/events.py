"""Salesforce's outbound messages: SOAP to an address that an administrator has typed in.

https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging.htm
"""

from collections.abc import Iterable
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from sandbox.kernel.values import Json
from sandbox.kernel.webhooks import AppResponse, Delivery, Event, Message, Notice, Receivers, Sender
from sandbox.salesforce.kinds import KINDS, eighteen

SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
OUTBOUND = "http://soap.sforce.com/2005/09/outbound"
ACTION = eighteen("04kA0000000TN4D")
DAY, LONGEST = 86_400.0, 7_200.0
# A field that an administrator chose besides the id; the empty ones are left out.
CHOSEN = ("Name", "LastModifiedDate")
SESSION = "00D!AQ-sandbox-session"


def compose(delivery: Delivery) -> Message:
    """One envelope for all the notices of an org."""
    about = delivery.address.about
    organization = delivery.events[0].account_id
    if delivery.forged:
        # Anyone's org can be pointed at an address that became known.
        organization = eighteen("00D000000000001")
    session = (
        f"<SessionId>{SESSION}</SessionId>" if about["session"] else '<SessionId xsi:nil="true"/>'
    )
    told = "".join(_notification(event) for event in delivery.events)
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<soapenv:Envelope xmlns:soapenv="{SOAP}" xmlns:xsd="http://www.w3.org/2001/XMLSchema"'
        ' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>'
        f'<notifications xmlns="{OUTBOUND}">'
        f"<OrganizationId>{organization}</OrganizationId><ActionId>{ACTION}</ActionId>{session}"
        "<EnterpriseUrl>https://na139.salesforce.com/services/Soap/c/67.0</EnterpriseUrl>"
        "<PartnerUrl>https://na139.salesforce.com/services/Soap/u/67.0</PartnerUrl>"
        f"{told}</notifications></soapenv:Body></soapenv:Envelope>"
    )
    headers = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}
    return Message(url=delivery.address.url, headers=headers, body=body.encode())


def _notification(event: Event) -> str:
    kind, row = event.what["kind"], event.what["row"]
    number = int(event.id.replace("-", ""), 16) % 10**12
    fields = "".join(
        f"<sf:{name}>{escape(str(row[name]))}</sf:{name}>" for name in CHOSEN if row.get(name)
    )
    return (
        f"<Notification><Id>{eighteen(f'04l{number:012}')}</Id>"
        f'<sObject xsi:type="sf:{kind}" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">'
        f"<sf:Id>{row['Id']}</sf:Id>{fields}</sObject></Notification>"
    )


def notices(event: Event, receivers: Receivers) -> Iterable[Notice]:
    """Rules fire when a row is created or changed; nothing fires when it is deleted."""
    app = receivers.app
    if app is None or event.what["operation"] not in ("CREATE", "UPDATE"):
        return []
    wanted = app.about["objects"]
    if event.what["kind"] not in (wanted or KINDS):
        return []
    return [Notice(event=event, address=app)]


def acknowledges(answered: AppResponse) -> bool:
    """Only an envelope with its Ack counts, whatever the status."""
    if answered.status != 200:
        return False
    try:
        found = ElementTree.fromstring(answered.body).find(f".//{{{OUTBOUND}}}Ack")  # noqa: S314
    except ElementTree.ParseError:
        return False
    return found is not None and found.text == "true"


def retry(delivery: Delivery, answered: AppResponse) -> float | None:
    """With growing gaps, for a day."""
    return None if delivery.age >= DAY else min(15.0 * 2**delivery.attempt, LONGEST)


def _account(notice: Notice) -> str:
    return notice.event.account_id


SETTINGS: Json = {"session": False, "objects": []}
SENDER = Sender(
    compose=compose,
    deadline=60.0,
    retry=retry,
    notices=notices,
    acknowledges=acknowledges,
    batch=100,
    together=_account,
    secret="",
    # `session`: "Send Session ID"; `objects`: those with a rule, or all.
    settings=SETTINGS,
)
