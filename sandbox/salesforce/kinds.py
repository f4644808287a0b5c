"""The objects of a Salesforce org: their fields, their ids, their times, and what it refuses."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from string import ascii_letters, ascii_uppercase, digits

from sandbox.kernel.fields import typed, words
from sandbox.kernel.values import Json

# What the user who asks has looked at: another value for each user, and no change of the record.
PERSONAL = ("LastViewedDate", "LastReferencedDate")
_SUFFIXES = ascii_uppercase + "012345"


class FaultError(Exception):
    """What Salesforce refuses, in its own words: an error code, and a status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """An object. `fields` are types by name, `writable` those that a client may set, `needed` those
    without which nothing is created. `compound` ones are made of others, which a bulk job and a
    list of fields to copy leave out.
    """

    name: str
    label: str
    prefix: str
    stream: str
    fields: Mapping[str, str]
    writable: tuple[str, ...]
    needed: tuple[str, ...] = ()
    compound: Mapping[str, str]

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    @property
    def deletable(self) -> bool:
        return "IsDeleted" in self.fields


EVERY = typed(
    "Id:id CreatedDate:datetime CreatedById:reference LastModifiedDate:datetime "
    "LastModifiedById:reference SystemModstamp:datetime"
) | dict.fromkeys(PERSONAL, "datetime")
OWNED = typed("OwnerId:reference IsDeleted:boolean") | EVERY


def _kind(
    name: str,
    prefix: str,
    stream: str,
    fields: str,
    *,
    needed: str = "Name",
    made: str = "",
    base: Mapping[str, str] = OWNED,
    compound: Mapping[str, str] | None = None,
) -> Kind:
    """`fields` and `made` (which Salesforce works out) are written as `Name:string`."""
    own = typed(fields)
    return Kind(
        name=name,
        label=name.removesuffix("__c"),
        prefix=prefix,
        stream=stream,
        fields={**base, **own, **typed(made)},
        writable=(*own, *(["OwnerId"] if "OwnerId" in base else [])),
        needed=words(needed),
        compound=compound or {},
    )


USER = _kind(
    "User",
    "005",
    "users",
    "Username:string FirstName:string LastName:string Email:email Title:string "
    "Department:string IsActive:boolean TimeZoneSidKey:picklist",
    needed="Username LastName Email",
    made="Name:string UserType:picklist",
    base=EVERY,
)
ACCOUNT = _kind(
    "Account",
    "001",
    "accounts",
    "Name:string Type:picklist Industry:picklist Website:url Phone:phone AnnualRevenue:currency "
    "NumberOfEmployees:int BillingStreet:textarea BillingCity:string BillingPostalCode:string "
    "BillingCountry:string Description:textarea",
    made="MasterRecordId:reference",
    compound={"BillingAddress": "Billing"},
)
CONTACT = _kind(
    "Contact",
    "003",
    "contacts",
    "AccountId:reference FirstName:string LastName:string Email:email Phone:phone Title:string "
    "Department:string MailingCity:string MailingCountry:string Description:textarea",
    needed="LastName",
    made="Name:string MasterRecordId:reference",
    compound={"MailingAddress": "Mailing"},
)
LEAD = _kind(
    "Lead",
    "00Q",
    "leads",
    "FirstName:string LastName:string Company:string Title:string Email:email Phone:phone "
    "Status:picklist LeadSource:picklist City:string Country:string Description:textarea",
    needed="LastName Company",
    made="Name:string IsConverted:boolean ConvertedDate:date ConvertedAccountId:reference",
    compound={"Address": ""},
)
OPPORTUNITY = _kind(
    "Opportunity",
    "006",
    "opportunities",
    "AccountId:reference Name:string StageName:picklist Amount:currency Probability:percent "
    "CloseDate:date Type:picklist LeadSource:picklist Description:textarea",
    needed="Name StageName CloseDate",
    made="IsClosed:boolean IsWon:boolean",
)
INVOICE = _kind(
    "Invoice__c",
    "a00",
    "custom_objects",
    "Name:string Account__c:reference Amount__c:currency Due__c:date Paid__c:boolean "
    "Notes__c:textarea",
)
SHIPMENT = _kind(
    "Shipment__c",
    "a01",
    "custom_objects",
    "Name:string Account__c:reference Carrier__c:picklist Weight__c:double Sent__c:datetime",
)

KINDS = {kind.name: kind for kind in (USER, ACCOUNT, CONTACT, LEAD, OPPORTUNITY, INVOICE, SHIPMENT)}
# Paths and queries take a name in any case.
BY_NAME = {kind.name.lower(): kind for kind in KINDS.values()}
CUSTOM = tuple(kind for kind in KINDS.values() if kind.custom)
STANDARD = {kind.stream: kind for kind in KINDS.values() if not kind.custom}
# What points at a row, and goes with it when it is deleted.
CHILDREN = {
    "Account": (
        ("Contact", "AccountId"),
        ("Opportunity", "AccountId"),
    )
}


def stamp(moment: datetime) -> str:
    """A time as rows carry it: whole seconds, an offset without a colon."""
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.000+0000"


def instant(text: str) -> datetime:
    """A time as rows carry it or clients write it; ValueError of what has no offset."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.astimezone(UTC)


def eighteen(short: str) -> str:
    """The id of 18 characters, in which case does not count, for one of 15."""
    suffix = ""
    for start in (0, 5, 10):
        part = short[start : start + 5]
        suffix += _SUFFIXES[sum(1 << at for at, letter in enumerate(part) if letter.isupper())]
    return short + suffix


def new_id(prefix: str, random: Random, number: int) -> str:
    """An id that no other row has: by its number, in Salesforce's alphabet."""
    alphabet = digits + ascii_letters
    tail = ""
    for _ in range(9):
        number, at = divmod(number, len(alphabet))
        tail = alphabet[at] + tail
    return eighteen(f"{prefix}{''.join(random.choice(alphabet) for _ in range(3))}{tail}")


def shown(kind: Kind, row: Json) -> Json:
    """A row with the fields that are made of others."""
    whole = dict(row)
    for name, prefix in kind.compound.items():
        parts = ("Street", "City", "PostalCode", "Country")
        found = {part: row.get(f"{prefix}{part}") for part in parts}
        address = {part[0].lower() + part[1:]: value for part, value in found.items()}
        whole[name] = address if any(found.values()) else None
    return whole
