"""The books of one organisation: documents that are never taken away, and lists.

A document that was deleted stays with that status, as one that was voided does. Items alone can go.
Times are held as ISO 8601; the API writes them in its own form.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

from sandbox.kernel.clock import Clock, stamp
from sandbox.kernel.data import TOPICS, domain, firm, moment, person, plain, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Records of one kind, as a path and a name of a list; `share` is how many an account has.

    `paged` lists take a page and its size; `event` is how webhooks call it.
    """

    path: str
    key: str
    scope: str
    share: float = 0.0
    paged: bool = False
    by_ids: bool = False
    lines: bool = False
    event: str = ""


_IN, _PAY, _BANK = "invoices", "payments", "banktransactions"
KINDS = {
    "contacts": Kind(
        path="Contacts", key="ContactID", scope="contacts", share=0.4, paged=True, by_ids=True,
        event="CONTACT",
    ),
    "accounts": Kind(path="Accounts", key="AccountID", scope="settings", share=0.1),
    "items": Kind(path="Items", key="ItemID", scope="settings", share=0.2),
    "invoices": Kind(
        path="Invoices", key="InvoiceID", scope=_IN, share=1.0, paged=True, by_ids=True,
        lines=True, event="INVOICE",
    ),
    "credit_notes": Kind(
        path="CreditNotes", key="CreditNoteID", scope=_IN, share=0.2, paged=True, lines=True,
        event="CREDITNOTE",
    ),
    "purchase_orders": Kind(
        path="PurchaseOrders", key="PurchaseOrderID", scope=_IN, share=0.2, paged=True, lines=True
    ),
    "bank_transactions": Kind(
        path="BankTransactions", key="BankTransactionID", scope=_BANK, share=0.4, paged=True,
        lines=True,
    ),
    "prepayments": Kind(
        path="Prepayments", key="PrepaymentID", scope=_PAY, share=0.1, paged=True, lines=True
    ),
    "overpayments": Kind(
        path="Overpayments", key="OverpaymentID", scope=_PAY, share=0.1, paged=True, lines=True
    ),
    "payments": Kind(path="Payments", key="PaymentID", scope=_PAY, share=0.3, paged=True),
    "manual_journals": Kind(
        path="ManualJournals", key="ManualJournalID", scope="manualjournals", share=0.2, paged=True
    ),
    "bank_transfers": Kind(path="BankTransfers", key="BankTransferID", scope=_BANK, share=0.1),
    "tax_rates": Kind(path="TaxRates", key="TaxType", scope="settings"),
    "tracking_categories": Kind(
        path="TrackingCategories", key="TrackingCategoryID", scope="settings"
    ),
    "currencies": Kind(path="Currencies", key="Code", scope="settings"),
    "branding_themes": Kind(path="BrandingThemes", key="BrandingThemeID", scope="settings"),
}  # fmt: skip
LINED = ("invoices", "credit_notes", "bank_transactions", "purchase_orders")
TAXES = {"OUTPUT": 15.0, "INPUT": 15.0, "NONE": 0.0}
# Which accounts lines are of: those of a class.
CLASSES = {"REVENUE": "REVENUE", "EXPENSE": "EXPENSE", "BANK": "ASSET", "CURRLIAB": "LIABILITY"}


@dataclass
class Books:
    """One organisation. `beside` are others that its person connected, too; `refused` kinds that
    the person may not see now."""

    id: str
    clock: Clock
    connection: str
    organisation: Json
    tell: Callable[[Any], None]
    rows: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in KINDS})
    numbers: dict[str, int] = field(default_factory=dict)
    beside: list[str] = field(default_factory=list)
    connected: bool = True
    refused: set[str] = field(default_factory=set)


def put(books: Books, stream: str, row: Json, *, made: bool = False) -> str:
    """Stores a record as of now, and tells it where webhooks do."""
    kind = KINDS[stream]
    former = row.get("UpdatedDateUTC")
    # Two changes of one record are told apart.
    now = books.clock.now()
    if former and former >= stamp(now):
        now = datetime.fromisoformat(former) + timedelta(milliseconds=1)
    if stream not in ("bank_transfers", "tax_rates", "currencies"):
        row["UpdatedDateUTC"] = stamp(now)
    books.rows[stream][row[kind.key]] = row
    if kind.event:
        told = {"category": kind.event, "type": "CREATE" if made else "UPDATE"}
        books.tell({**told, "id": row[kind.key], "at": now})
    return str(row[kind.key])


def store(books: Books, stream: str) -> dict[str, Json]:
    """What is live: neither deleted nor merged into another."""
    if stream == "organisations":
        return {books.organisation["OrganisationID"]: books.organisation}
    if stream == "trial_balance":
        return {row["AccountID"]: row for row in trial_balance(books)}
    if stream == "line_items":
        return {
            f"{KINDS[name].path}/{row[KINDS[name].key]}/{line['LineItemID']}": {
                **line,
                "parent_type": KINDS[name].path,
                "parent_id": row[KINDS[name].key],
                "UpdatedDateUTC": row["UpdatedDateUTC"],
            }
            for name in LINED
            for row in store(books, name).values()
            for line in row["LineItems"]
        }
    return {
        id_: row
        for id_, row in books.rows[stream].items()
        if row.get("Status") != "DELETED" and "MergedToContactID" not in row
    }


def trial_balance(books: Books) -> list[Json]:
    """What each account comes to, by the lines of all that counts."""
    sums: dict[str, float] = {}
    for name in LINED[:3]:
        for row in books.rows[name].values():
            if row["Status"] in ("AUTHORISED", "PAID"):
                for line in row["LineItems"]:
                    code = line["AccountCode"]
                    sums[code] = sums.get(code, 0.0) + line["LineAmount"]
    found = []
    for account in books.rows["accounts"].values():
        if (total := round(sums.get(account["Code"], 0.0), 2)) and account["Status"] == "ACTIVE":
            credit = account["Class"] == "REVENUE"
            found.append(
                {
                    "AccountID": account["AccountID"],
                    "Section": account["Class"].title(),
                    "Account": f"{account['Name']} ({account['Code']})",
                    "Debit": "" if credit else f"{total:.2f}",
                    "Credit": f"{total:.2f}" if credit else "",
                    "YTD Debit": "" if credit else f"{total:.2f}",
                    "YTD Credit": f"{total:.2f}" if credit else "",
                }
            )
    return found


def new(seed: Seed) -> Books:
    """An organisation filled from the seed."""
    random, now = seed.random, seed.clock.now()
    books = Books(
        seed.account_id, seed.clock, _guid(random), _organisation(seed), tell=lambda what: None
    )
    for tax, rate in TAXES.items():
        made = {"Name": tax.title(), "TaxType": tax, "Status": "ACTIVE", "EffectiveRate": rate}
        put(books, "tax_rates", {**made, "DisplayTaxRate": rate})
    for code, name in (("NZD", "New Zealand Dollar"), ("EUR", "Euro")):
        put(books, "currencies", {"Code": code, "Description": name})
    put(books, "branding_themes", {"BrandingThemeID": _guid(random), "Name": "Standard"})
    for number, name in enumerate(("Region", "Project")):
        options = [{"TrackingOptionID": _guid(random), "Name": f"{name} {n}"} for n in range(3)]
        status = ("ACTIVE", "ARCHIVED")[number]
        tracked = {"TrackingCategoryID": _guid(random), "Name": name, "Status": status}
        put(books, "tracking_categories", {**tracked, "Options": options})
    for name, kind in KINDS.items():
        for _ in range(seed.length(kind.share) if kind.share else 0):
            _add(books, name, {}, random)
    # An import touches many within one second.
    imported = now - timedelta(days=6, hours=3)
    for rows in books.rows.values():
        for row in rows.values():
            if "UpdatedDateUTC" in row:
                at = imported if random.random() < 0.2 else moment(random, now)
                row["UpdatedDateUTC"] = stamp(at)
    books.tell = seed.tell
    return books


def _organisation(seed: Seed) -> Json:
    return {
        "OrganisationID": seed.account_id,
        "Name": seed.name,
        "LegalName": seed.name,
        "BaseCurrency": "NZD",
        "CountryCode": "NZ",
        "OrganisationStatus": "ACTIVE",
        "IsDemoCompany": False,
        "CreatedDateUTC": stamp(seed.clock.now() - timedelta(days=900)),
        "Timezone": "NEWZEALANDSTANDARDTIME",
    }


def _guid(random: Random) -> str:
    return str(UUID(int=random.getrandbits(128), version=4))


def _number(books: Books, of: str) -> int:
    books.numbers[of] = books.numbers.get(of, 0) + 1
    return books.numbers[of]


def _money(random: Random) -> float:
    return random.randint(500, 300_000) / 100


def _any(books: Books, stream: str, random: Random, wanted: Callable[[Json], bool]) -> Json:
    """Some record of that kind; a new one when none is found in a few draws."""
    rows = list(books.rows[stream].values())
    for _ in range(30 if rows else 0):
        row = random.choice(rows)
        if wanted(row):
            return row
    return books.rows[stream][_add(books, stream, {}, random)]


def _active(row: Json) -> bool:
    return bool((row.get("ContactStatus") or row.get("Status")) == "ACTIVE")


def _line(books: Books, random: Random, class_: str) -> Json:
    code = _account(books, random, class_)["Code"]
    price, count = _money(random), random.randint(1, 9)
    item = list(books.rows["items"].values())
    named = {"ItemCode": random.choice(item)["Code"]} if item else {}
    return {
        "LineItemID": _guid(random),
        "Description": random.choice(TOPICS).capitalize(),
        "Quantity": float(count),
        "UnitAmount": price,
        "LineAmount": round(price * count, 2),
        "TaxType": "OUTPUT" if class_ == "REVENUE" else "INPUT",
        "TaxAmount": round(price * count * 0.15, 2),
        "AccountCode": code,
        "Tracking": [],
        **named,
    }


def _account(books: Books, random: Random, class_: str) -> Json:
    for row in books.rows["accounts"].values():
        if row["Type"] == class_ and row["Status"] == "ACTIVE" and random.random() < 0.5:
            return row
    return books.rows["accounts"][_add(books, "accounts", {"Type": class_}, random)]


def _totalled(row: Json) -> Json:
    subtotal = round(sum(line["LineAmount"] for line in row["LineItems"]), 2)
    tax = round(sum(line["TaxAmount"] for line in row["LineItems"]), 2)
    return row | {"SubTotal": subtotal, "TotalTax": tax, "Total": round(subtotal + tax, 2)}


def _day(books: Books, later: int = 0) -> str:
    return f"{stamp(books.clock.now() + timedelta(days=later))[:10]}T00:00:00.000Z"


def _bank(books: Books, random: Random) -> Json:
    account = _account(books, random, "BANK")
    return {"AccountID": account["AccountID"], "Name": account["Name"]}


def _document(books: Books, random: Random, class_: str) -> Json:
    """What every document with lines has."""
    contact = _any(books, "contacts", random, _active)
    row = {
        "Contact": {"ContactID": contact["ContactID"], "Name": contact["Name"]},
        "Date": _day(books),
        "DateString": _day(books)[:19],
        "Status": "AUTHORISED",
        "LineAmountTypes": "Exclusive",
        "LineItems": [_line(books, random, class_) for _ in range(random.randint(1, 3))],
        "CurrencyCode": "NZD",
        "HasAttachments": False,
        "Reference": sentence(random)[:40],
    }
    return _totalled(row)


def _contact(books: Books, random: Random, number: int) -> Json:
    first, last = person(random)
    company = firm(random)
    return {
        "Name": f"{company} {number}",
        "FirstName": first,
        "LastName": last,
        "EmailAddress": f"{plain(first)}.{number}@{domain(company)}",
        "ContactStatus": "ACTIVE",
        "IsCustomer": True,
        "IsSupplier": random.random() < 0.3,
        "Addresses": [],
        "Phones": [],
    }


def _new_account(books: Books, random: Random, number: int) -> Json:
    kind = random.choice(sorted(CLASSES))
    made = {"Code": str(100 + number), "Name": f"{kind.title()} {number}", "Type": kind}
    return {**made, "Class": CLASSES[kind], "TaxType": "NONE", "Status": "ACTIVE"}


def _item(books: Books, random: Random, number: int) -> Json:
    return {
        "Code": f"ITEM-{number}",
        "Name": random.choice(TOPICS).capitalize(),
        "Description": sentence(random),
        "IsSold": True,
        "IsPurchased": False,
        "SalesDetails": {"UnitPrice": _money(random), "AccountCode": "200"},
    }


def _bank_transfer(books: Books, random: Random, number: int) -> Json:
    return {
        "CreatedDateUTC": stamp(books.clock.now()),
        "Date": _day(books),
        "FromBankAccount": _bank(books, random),
        "ToBankAccount": _bank(books, random),
        "Amount": _money(random),
    }


def _manual_journal(books: Books, random: Random, number: int) -> Json:
    amount = _money(random)
    codes = [_account(books, random, class_)["Code"] for class_ in ("REVENUE", "EXPENSE")]
    lines = [{"LineAmount": amount, "AccountCode": codes[0]}]
    lines.append({"LineAmount": -amount, "AccountCode": codes[1]})
    about = {"Narration": sentence(random), "Date": _day(books), "Status": "POSTED"}
    return {**about, "JournalLines": lines}


def _invoice(books: Books, random: Random, number: int) -> Json:
    row = _document(books, random, "REVENUE")
    return row | {
        "Type": random.choice(("ACCREC", "ACCPAY")),
        "InvoiceNumber": f"INV-{number:05}",
        "DueDate": _day(books, 30),
        "AmountDue": row["Total"],
        "AmountPaid": 0.0,
        "Payments": [],
    }


def _credit_note(books: Books, random: Random, number: int) -> Json:
    row = _document(books, random, "REVENUE")
    named = {"Type": "ACCRECCREDIT", "CreditNoteNumber": f"CN-{number:05}"}
    return row | named | {"RemainingCredit": row["Total"]}


def _purchase_order(books: Books, random: Random, number: int) -> Json:
    return _document(books, random, "EXPENSE") | {"PurchaseOrderNumber": f"PO-{number:05}"}


def _bank_transaction(books: Books, random: Random, number: int) -> Json:
    spent = {"Type": "SPEND", "IsReconciled": False, "BankAccount": _bank(books, random)}
    return _document(books, random, "EXPENSE") | spent


def _paid_before(books: Books, random: Random, kind: str) -> Json:
    row = _document(books, random, "EXPENSE")
    return row | {"Type": f"RECEIVE-{kind}", "RemainingCredit": row["Total"]}


def _payment(books: Books, random: Random, number: int) -> Json:
    """Pays an invoice in full, which changes with it."""
    invoice = _any(books, "invoices", random, lambda row: row["Status"] == "AUTHORISED")
    bank, id_ = _account(books, random, "BANK"), _guid(random)
    made = {
        "PaymentID": id_,
        "Date": _day(books),
        "Amount": invoice["AmountDue"],
        "Status": "AUTHORISED",
        "PaymentType": f"{invoice['Type']}PAYMENT",
        "Reference": f"{random.getrandbits(32):08x}",
        "Invoice": {"InvoiceID": invoice["InvoiceID"], "InvoiceNumber": invoice["InvoiceNumber"]},
        "Account": {"AccountID": bank["AccountID"], "Code": bank["Code"]},
    }
    paid = {"PaymentID": id_, "Amount": made["Amount"]}
    settled = {"Status": "PAID", "AmountPaid": invoice["Total"], "AmountDue": 0.0}
    put(books, "invoices", {**invoice, **settled, "Payments": [paid]})
    return made


MAKERS: dict[str, Callable[[Books, Random, int], Json]] = {
    "contacts": _contact,
    "accounts": _new_account,
    "items": _item,
    "invoices": _invoice,
    "credit_notes": _credit_note,
    "purchase_orders": _purchase_order,
    "bank_transactions": _bank_transaction,
    "prepayments": lambda books, random, number: _paid_before(books, random, "PREPAYMENT"),
    "overpayments": lambda books, random, number: _paid_before(books, random, "OVERPAYMENT"),
    "payments": _payment,
    "manual_journals": _manual_journal,
    "bank_transfers": _bank_transfer,
}


def _add(books: Books, stream: str, given: Json, random: Random) -> str:
    made = MAKERS[stream](books, random, _number(books, stream))
    row = {KINDS[stream].key: _guid(random), **made, **given}
    if stream == "accounts":
        row["Class"] = CLASSES[row["Type"]]
    return put(books, stream, row, made=True)


SETTABLE = {
    "contacts": ("Name", "FirstName", "LastName", "EmailAddress"),
    "accounts": ("Name",),
    "items": ("Name", "Description"),
    "manual_journals": ("Narration",),
    "payments": ("Reference",),
    "bank_transfers": ("Amount",),
    **{name: ("Reference",) for name in KINDS if KINDS[name].lines},
}


def _there(books: Books, stream: str) -> set[str]:
    """What can be changed: not what has come to the end of its life."""
    return {
        id_
        for id_, row in store(books, stream).items()
        if row.get("Status") not in ("VOIDED", "PAID", "ARCHIVED")
    }


MUTATIONS = Mutations[Books](settable=SETTABLE, there=_there)


@MUTATIONS.of(SETTABLE, "add")
def _added(books: Books, change: Change) -> str:
    return _add(books, change.stream, change.record, change.random)


@MUTATIONS.of([name for name in SETTABLE if name not in ("payments", "bank_transfers")], "change")
def _changed(books: Books, change: Change) -> None:
    row, random = dict(books.rows[change.stream][str(change.id)]), change.random
    if change.record:
        row |= change.record
    elif "LineItems" in row and random.random() < 0.1:
        row["Status"] = "ARCHIVED" if change.stream == "invoices" else "VOIDED"
    elif "LineItems" in row and random.random() < 0.5:
        class_ = "REVENUE" if change.stream in ("invoices", "credit_notes") else "EXPENSE"
        kept = row["LineItems"][random.randint(0, 1) :]
        row = _totalled(row | {"LineItems": [*kept, _line(books, random, class_)]})
        if "AmountDue" in row:
            row["AmountDue"] = row["Total"]
    else:
        row[SETTABLE[change.stream][0]] = f"{random.choice(TOPICS)} {random.getrandbits(32):x}"
        if change.stream == "contacts":
            row["ContactStatus"] = random.choice(("ACTIVE", "ACTIVE", "ARCHIVED"))
    put(books, change.stream, row)


@MUTATIONS.of([name for name in SETTABLE if name != "bank_transfers"], "delete")
def _deleted(books: Books, change: Change) -> None:
    """Accounts are archived, contacts merged, items go; a document is deleted as a draft is."""
    row = dict(books.rows[change.stream][str(change.id)])
    if change.stream == "items":
        del books.rows["items"][row["ItemID"]]
        return
    if change.stream == "contacts":
        into = _any(books, "contacts", change.random, lambda each: _active(each) and each != row)
        merge(books, {"id": row["ContactID"], "into": into["ContactID"]})
        return
    if change.stream == "accounts":
        row["Status"] = "ARCHIVED"
    else:
        row["Status"] = "DELETED"
    if change.stream == "payments":
        _unpaid(books, row)
    put(books, change.stream, row)


def _unpaid(books: Books, payment: Json) -> None:
    """An invoice whose payment was taken back is to be paid again."""
    invoice = books.rows["invoices"][payment["Invoice"]["InvoiceID"]]
    owed = {"Status": "AUTHORISED", "AmountPaid": 0.0, "AmountDue": invoice["Total"]}
    put(books, "invoices", {**invoice, **owed, "Payments": []})


def merge(books: Books, body: Json) -> Json:
    """The control that merges a contact into another: `{account, id, into}`."""
    rows = books.rows["contacts"]
    row, into = (rows.get(str(body.get(name))) for name in ("id", "into"))
    if row is None or into is None or row is into:
        raise RefusedError("name two contacts: id, and into which it is merged")
    left = {"ContactStatus": "ARCHIVED", "MergedToContactID": into["ContactID"]}
    put(books, "contacts", {**row, **left})
    return {"id": into["ContactID"]}
