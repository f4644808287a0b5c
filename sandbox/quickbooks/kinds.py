"""The kinds of rows of a QuickBooks company: their columns, their fields, their times."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

from sandbox.kernel.fields import typed, words
from sandbox.kernel.values import Json

# Rows carry the company's own offset; the sandbox's companies keep no summer time.
PACIFIC = timezone(timedelta(hours=-8))
EVERY = typed("Id:id MetaData.CreateTime:time MetaData.LastUpdatedTime:time")


class FaultError(Exception):
    """What QuickBooks refuses, in its own words; `code` is its error code."""

    def __init__(self, code: str, message: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.message = message
        self.detail = detail


def missing(name: str) -> FaultError:
    """A required field or parameter is not there."""
    message = "Required param missing, need to supply the required value for the API"
    return FaultError("2020", message, f"Required parameter {name} is missing in the request")


@dataclass(frozen=True, kw_only=True, eq=False)
class Kind:
    """A kind of row. A name list is never emptied: its rows are only made inactive.

    `columns` are those that a query may filter and order by, each with its type: id, text, number,
    bool, date, time or ref. `writable` are the fields a client may set, `needed` those without
    which nothing is created. `order` is how rows come when nobody asked for an order.
    """

    name: str
    stream: str
    name_list: bool
    columns: Mapping[str, str]
    writable: tuple[str, ...]
    needed: tuple[str, ...] = ()
    order: tuple[tuple[str, bool], ...] = (("TxnDate", True), ("Id", True))


CUSTOMER = Kind(
    name="Customer",
    stream="customers",
    name_list=True,
    columns=EVERY
    | typed(
        "DisplayName:text FullyQualifiedName:text GivenName:text FamilyName:text CompanyName:text "
        "PrintOnCheckName:text Active:bool Balance:number"
    ),
    writable=words(
        "Active BillAddr CompanyName DisplayName FamilyName GivenName MiddleName Mobile Notes "
        "PreferredDeliveryMethod PrimaryEmailAddr PrimaryPhone PrintOnCheckName ShipAddr Taxable "
        "Title WebAddr"
    ),
    needed=("DisplayName",),
    order=(("DisplayName", False),),
)
ACCOUNT = Kind(
    name="Account",
    stream="accounts",
    name_list=True,
    columns=EVERY
    | typed(
        "Name:text FullyQualifiedName:text AcctNum:text AccountType:text AccountSubType:text "
        "Classification:text Active:bool SubAccount:bool CurrentBalance:number"
    ),
    writable=words("AccountSubType AccountType AcctNum Active Description Name"),
    needed=("Name", "AccountType"),
    order=(("FullyQualifiedName", False),),
)
INVOICE = Kind(
    name="Invoice",
    stream="invoices",
    name_list=False,
    columns=EVERY
    | typed(
        "DocNumber:text TxnDate:date DueDate:date TotalAmt:number Balance:number CustomerRef:ref"
    ),
    writable=words(
        "BillAddr BillEmail CustomerMemo CustomerRef DocNumber DueDate EmailStatus Line "
        "PrintStatus PrivateNote SalesTermRef ShipAddr ShipDate TrackingNum TxnDate"
    ),
    needed=("CustomerRef", "Line"),
)
PAYMENT = Kind(
    name="Payment",
    stream="payments",
    name_list=False,
    columns=EVERY
    | typed("PaymentRefNum:text TxnDate:date TotalAmt:number UnappliedAmt:number CustomerRef:ref"),
    writable=words(
        "CustomerRef DepositToAccountRef Line PaymentMethodRef PaymentRefNum PrivateNote TotalAmt "
        "TxnDate"
    ),
    needed=("CustomerRef", "TotalAmt"),
)
BILL = Kind(
    name="Bill",
    stream="bills",
    name_list=False,
    columns=EVERY
    | typed(
        "DocNumber:text TxnDate:date DueDate:date TotalAmt:number Balance:number VendorRef:ref"
    ),
    writable=(
        "APAccountRef",  # pragma: allowlist secret
        *words("DocNumber DueDate Line PrivateNote SalesTermRef TxnDate VendorRef"),
    ),
    needed=("VendorRef", "Line"),
)
COMPANY = Kind(
    name="CompanyInfo",
    stream="",
    name_list=False,
    columns=EVERY | typed("CompanyName:text"),
    writable=(),
    order=(("Id", False),),
)

KINDS = {kind.name: kind for kind in (CUSTOMER, ACCOUNT, INVOICE, PAYMENT, BILL)}
BY_STREAM = {kind.stream: kind for kind in KINDS.values()}
# Paths, `from` and `entities` take a kind's name in any case.
BY_PATH = {kind.name.lower(): kind for kind in (*KINDS.values(), COMPANY)}


def stamp(moment: datetime) -> str:
    """A time as rows carry it: whole seconds."""
    return moment.astimezone(PACIFIC).isoformat(timespec="seconds")


def instant(text: str) -> datetime:
    """A time as clients write it; without an offset it is the company's own. Else ValueError."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=PACIFIC)


def updated_at(row: Json) -> datetime:
    return datetime.fromisoformat(row["MetaData"]["LastUpdatedTime"]).astimezone(UTC)
