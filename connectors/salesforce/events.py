"""Salesforce's outbound messages: SOAP that an administrator of an org has sent to us.

They name what was created or changed, a hundred at the most in one, and nothing signs them: the
address holds a secret, and the org has to be the connection's. They come in any order, with the
fields that somebody chose, so all that is taken from them is what to read again. A SessionId may be
in them, which opens the org's API: it is never looked at, and goes nowhere.
https://developer.salesforce.com/docs/atlas.en-us.api.meta/api/sforce_api_om_outboundmessaging_notifications.htm
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from xml.parsers import expat

from connectors import ContractError, Delivery, Effect, Event, Reply, each_event
from connectors.salesforce.query import eighteen

STREAM_OF = {
    "Account": "accounts",
    "Contact": "contacts",
    "Lead": "leads",
    "Opportunity": "opportunities",
    "User": "users",
}
SOAP = "http://schemas.xmlsoap.org/soap/envelope/"
OUTBOUND = "http://soap.sforce.com/2005/09/outbound"
TYPE = "http://www.w3.org/2001/XMLSchema-instance type"
ROOT = (f"{SOAP} Envelope", f"{SOAP} Body", f"{OUTBOUND} notifications")
ORGANIZATION = (*ROOT, f"{OUTBOUND} OrganizationId")
NOTIFICATION = (*ROOT, f"{OUTBOUND} Notification")
NOTIFICATION_ID = (*NOTIFICATION, f"{OUTBOUND} Id")
SOBJECT = (*NOTIFICATION, f"{OUTBOUND} sObject")
DEEPEST = 20
# One answer for all the notifications of a message; any other counts as a failure, with 200 too.
ACK = Reply(
    '<?xml version="1.0" encoding="UTF-8"?>'
    f'<soapenv:Envelope xmlns:soapenv="{SOAP}"><soapenv:Body>'
    f'<notificationsResponse xmlns="{OUTBOUND}"><Ack>true</Ack></notificationsResponse>'
    "</soapenv:Body></soapenv:Envelope>",
    content_type="text/xml; charset=utf-8",
)


@dataclass
class Notification:
    """One of a message: its own id, the object, and the row's id, if it was still there."""

    id: str = ""
    sobject: str = ""
    row_id: str = ""


@dataclass
class Message:
    """What is read of a message, and no more."""

    organization: str = ""
    notifications: list[Notification] = field(default_factory=list)


def events(delivery: Delivery) -> Iterator[Event]:
    """That rows were created or changed: they are read again, or found to be gone."""
    message = parsed(delivery.body)
    organization = eighteen(message.organization)

    def read(notification: Mapping[str, str]) -> Iterator[Event]:
        custom = notification["sobject"].endswith("__c")
        stream = "custom_objects" if custom else STREAM_OF.get(notification["sobject"])
        if stream is None:
            return
        key = eighteen(notification["row_id"]) if notification["row_id"] else ""
        yield Event(
            id=eighteen(notification["id"]),
            type=f"outbound.{notification['sobject']}",
            effect=Effect.READ if key else Effect.HINT,  # gone before it was sent: no field at all
            account_id=organization,
            streams=(stream,),
            key=f"{notification['sobject']}:{key}" if custom and key else key,
        )

    return each_event(map(asdict, message.notifications), read, lambda notification: organization)


def parsed(body: bytes) -> Message:
    """The message; ContractError of what is none. Whatever declares a document type is refused:
    entities are how a small text becomes a large one, or reads our files."""
    message, path = Message(), list[str]()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True

    def begin(name: str, attributes: Mapping[str, str]) -> None:
        path.append(name)
        if len(path) > DEEPEST:
            raise ContractError("a message of Salesforce is nested too deeply")
        if tuple(path) == NOTIFICATION:
            message.notifications.append(Notification())
        elif tuple(path) == SOBJECT:
            message.notifications[-1].sobject = attributes.get(TYPE, "").rpartition(":")[2]

    def text(data: str) -> None:
        here = tuple(path)
        if here == ORGANIZATION:
            message.organization += data.strip()
        elif here == NOTIFICATION_ID:
            message.notifications[-1].id += data.strip()
        elif here[:-1] == SOBJECT and here[-1].rpartition(" ")[2] == "Id":
            message.notifications[-1].row_id += data.strip()

    parser.StartElementHandler = begin
    parser.EndElementHandler = lambda name: path.pop()
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    try:
        parser.Parse(body, True)
    except expat.ExpatError:
        # Not chained: its text is harmless, but what was parsed hangs on its frames.
        raise ContractError("a message of Salesforce is not XML") from None
    if not message.notifications:
        raise ContractError("a message of Salesforce notifies of nothing")
    return message


def _refuse(*declared: object) -> None:
    raise ContractError("a message of Salesforce declares a document type")
