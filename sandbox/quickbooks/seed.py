"""A made-up QuickBooks company, and the ordered changes to its rows."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime, timedelta
from random import Random

from sandbox.kernel.data import PLACES, TOPICS, domain, firm, person, phone, plain, sentence
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.quickbooks import store as ledger
from sandbox.quickbooks.kinds import (
    ACCOUNT,
    BILL,
    BY_STREAM,
    CUSTOMER,
    INVOICE,
    KINDS,
    PAYMENT,
    FaultError,
    Kind,
    stamp,
    updated_at,
)
from sandbox.quickbooks.store import CLASSES, Books

# Rows of each kind in a company of a given size, in the order in which they need each other.
SHARES = {ACCOUNT: 0.15, CUSTOMER: 0.4, INVOICE: 1.0, PAYMENT: 0.5, BILL: 0.5}
# So often a row is drawn by its number before a new one is made instead.
DRAWS = 30
CDC_WINDOW = timedelta(days=30)
CHANGES = "change_data_capture"
ITEMS = ("Consulting", "Delivery", "Design", "Installation", "Maintenance", "Training")
INACTIVE_SHARE = 0.06
MUTATIONS = Mutations[Books](
    settable={kind.stream: kind.writable for kind in KINDS.values()}, refusals=(FaultError,)
)


def new(seed: Seed) -> Books:
    """A company filled from the seed."""
    random, now = seed.random, seed.clock.now()
    books = Books(seed.account_id, seed.clock, _company(seed), tell=seed.tell)
    for kind, share in SHARES.items():
        for _ in range(seed.length(share)):
            add(books, kind, {}, random)
    # An import touches many rows within one second: a time is no unique place in the order.
    imports = (now - timedelta(days=6, hours=3), now - timedelta(days=50))
    for name, rows in books.rows.items():
        for row in rows.values():
            if KINDS[name].name_list and random.random() < INACTIVE_SHARE:
                row["Active"] = False
            _date(row, KINDS[name], random, now, imports)
    return books


def add(books: Books, kind: Kind, given: Mapping[str, object], random: Random) -> Json:
    """A new row: those fields, and made-up ones for the rest."""
    row = ledger.create(books, kind, {**MAKERS[kind](books, random), **given})
    if kind is ACCOUNT:
        row["CurrentBalance"] = row["CurrentBalanceWithSubAccounts"] = _money(random, 9_000_000)
    return row


def store(books: Books, stream: str) -> dict[str, Json]:
    """What is live; of the changes, those of the last 30 days."""
    if stream != CHANGES:
        return dict(books.rows[BY_STREAM[stream].name])
    since = books.clock.now() - CDC_WINDOW
    found: dict[str, Json] = {}
    for name in KINDS:
        if name in books.refused:
            found |= books.refused[name]
            continue
        for row in changed(books, name, since):
            found[f"{name}:{row['Id']}"] = {**row, "entity": name}
    return found


def changed(books: Books, name: str, since: datetime) -> list[Json]:
    """The rows and stubs that changed since then, the newest first."""
    everything = (*books.rows[name].values(), *books.stubs[name].values())
    found = [row for row in everything if updated_at(row) >= since]
    return sorted(found, key=lambda row: (updated_at(row), int(row["Id"])), reverse=True)


@MUTATIONS.of(BY_STREAM)
def _apply(books: Books, change: Change) -> str | None:
    kind = BY_STREAM[change.stream]
    if change.op == "add":
        return str(add(books, kind, change.record, change.random)["Id"])
    row = books.rows[kind.name][str(change.id)]
    if change.op == "change":
        fields = change.record or _retouched(books, kind, row, change.random)
        ledger.change(books, kind, row, fields)
    elif kind.name_list:
        ledger.change(books, kind, row, {"Active": False})
    else:
        ledger.delete(books, kind, row)
    return None


def void(books: Books, body: Json) -> Json:
    """The control that voids an invoice or a payment: `{account, stream, id}`."""
    stream = body.get("stream", "invoices")
    if stream not in (INVOICE.stream, PAYMENT.stream):
        raise RefusedError("only invoices and payments can be voided", status=400)
    kind = BY_STREAM[stream]
    row = books.rows[kind.name].get(str(body.get("id")))
    if row is None:
        raise RefusedError(f"{stream} has no live record {body.get('id')!r}")
    ledger.void(books, kind, row)
    return {"id": row["Id"]}


def merge(books: Books, body: Json) -> Json:
    """The control that merges a customer into another: `{account, id, into}`."""
    customers = books.rows[CUSTOMER.name]
    row, into = (customers.get(str(body.get(name))) for name in ("id", "into"))
    if row is None or into is None or row is into:
        raise RefusedError("name two live customers: id, and into which it is merged")
    ledger.merge(books, CUSTOMER, row, into)
    return {"id": into["Id"], "deleted_id": row["Id"]}


def refuse_part(books: Books, body: Json) -> Json:
    """The control that takes bills out of the company's plan, or puts them back in:
    `{account, stream, on}`. Of the streams the feed of changes alone is of several kinds."""
    if body.get("stream") != CHANGES:
        return {"keys": [], "part": ""}
    books.refused.pop(BILL.name, None)
    if not body.get("on"):
        return {"keys": [], "part": BILL.name}
    prefix = f"{BILL.name}:"
    shown = {key: row for key, row in store(books, CHANGES).items() if key.startswith(prefix)}
    books.refused[BILL.name] = deepcopy(shown)
    return {"keys": list(shown), "part": BILL.name}


def _company(seed: Seed) -> Json:
    since = seed.clock.now() - timedelta(days=900)
    return {
        "CompanyName": seed.name,
        "LegalName": seed.name,
        "CompanyAddr": {"Id": "1", "Line1": "2500 Garcia Ave", "CountrySubDivisionCode": "CA"},
        "CompanyStartDate": stamp(since)[:10],
        "FiscalYearStartMonth": "January",
        "Country": "US",
        "Email": {"Address": f"books@{domain(seed.name)}"},
        "SupportedLanguages": "en",
        "domain": "QBO",
        "sparse": False,
        "Id": "1",
        "SyncToken": "0",
        "MetaData": {"CreateTime": stamp(since), "LastUpdatedTime": stamp(since)},
    }


def _date(
    row: Json, kind: Kind, random: Random, now: datetime, imports: tuple[datetime, ...]
) -> None:
    """Gives a seeded row its past. No row's age is near 30 days: what change data capture holds
    must not depend on the minute in which it is asked.
    """
    drawn = random.random()
    if drawn < 0.2:
        updated = random.choice(imports)
    elif drawn < 0.45:
        updated = now - timedelta(seconds=random.randint(60, 20 * 86_400 - 60))
    else:
        updated = now - timedelta(seconds=random.randint(41 * 86_400, 700 * 86_400))
    created = updated - timedelta(seconds=random.choice((0, random.randint(0, 200 * 86_400))))
    row["MetaData"] = {"CreateTime": stamp(created), "LastUpdatedTime": stamp(updated)}
    row["SyncToken"] = str(0 if created == updated else random.randint(1, 6))
    if not kind.name_list:
        row["TxnDate"] = stamp(created)[:10]
    if "DueDate" in row:
        row["DueDate"] = stamp(created + timedelta(days=30))[:10]


def _number(books: Books, sequence: str) -> int:
    return books.numbers.get(sequence, 0) + 1


def _money(random: Random, most: int = 300_000) -> float:
    return random.randint(500, most) / 100


def _address(random: Random) -> Json:
    city, country = random.choice(PLACES)
    line = f"{random.randint(1, 990)} {firm(random).split()[0]} Street"
    postal_code = f"{random.randint(10_000, 99_999)}"
    return {"Line1": line, "City": city, "Country": country, "PostalCode": postal_code}


def _drawn(books: Books, kind: Kind, random: Random, wanted: Callable[[Json], bool]) -> Json | None:
    """Some row of that kind, drawn by its number: to list them all would make seeding slow."""
    rows = books.rows[kind.name]
    last = books.numbers.get(kind.name if kind.name_list else "Transaction", 0)
    for _ in range(DRAWS if last else 0):
        row = rows.get(str(random.randint(1, last)))
        if row and wanted(row):
            return row
    return None


def _any(books: Books, kind: Kind, random: Random) -> Json:
    """An active row of a name list; a new one when none is found."""
    found = _drawn(books, kind, random, lambda row: bool(row["Active"]))
    return found or add(books, kind, {}, random)


def _customer(books: Books, random: Random) -> Json:
    first, last = person(random)
    company = firm(random)
    maybe = {
        "PrimaryPhone": {"FreeFormNumber": phone(random)},
        "BillAddr": _address(random),
        "Notes": sentence(random),
        "WebAddr": {"URI": f"https://www.{domain(company)}"},
    }
    number = _number(books, CUSTOMER.name)
    return {
        "DisplayName": f"{company} {number}",
        "GivenName": first,
        "FamilyName": last,
        "CompanyName": company,
        "PrimaryEmailAddr": {"Address": f"{plain(first)}.{number}@{domain(company)}"},
        **{name: value for name, value in maybe.items() if random.random() < 0.7},
    }


def _account(books: Books, random: Random) -> Json:
    number, kind = _number(books, ACCOUNT.name), random.choice(sorted(CLASSES))
    about = {"Description": random.choice(TOPICS).capitalize()} if random.random() < 0.5 else {}
    return {
        "Name": f"{kind} {number}",
        "AccountType": kind,
        "AccountSubType": kind.replace(" ", ""),
        "AcctNum": str(1000 + 10 * number),
        **about,
    }


def _sold(random: Random) -> Json:
    number, price, quantity = random.randrange(len(ITEMS)), _money(random), random.randint(1, 12)
    return {
        "Description": random.choice(TOPICS).capitalize(),
        "Amount": round(price * quantity, 2),
        "DetailType": "SalesItemLineDetail",
        "SalesItemLineDetail": {
            "ItemRef": {"value": str(number + 1), "name": ITEMS[number]},
            "UnitPrice": price,
            "Qty": quantity,
            "TaxCodeRef": {"value": "NON"},
        },
    }


def _invoice(books: Books, random: Random) -> Json:
    customer, now = _any(books, CUSTOMER, random), books.clock.now()
    note = {"PrivateNote": sentence(random)} if random.random() < 0.4 else {}
    return {
        "CustomerRef": ledger.reference(customer),
        "TxnDate": stamp(now)[:10],
        "DueDate": stamp(now + timedelta(days=30))[:10],
        "BillEmail": customer.get("PrimaryEmailAddr"),
        "BillAddr": customer.get("BillAddr"),
        "SalesTermRef": {"value": "3", "name": "Net 30"},
        "Line": [_sold(random) for _ in range(random.randint(1, 4))],
        **note,
    }


def _payment(books: Books, random: Random) -> Json:
    unpaid = _drawn(books, INVOICE, random, lambda row: row["Balance"] > 0)
    made_up = {
        "PaymentRefNum": str(random.randint(1000, 99_999)),
        "PaymentMethodRef": {"value": str(random.randint(1, 4))},
        "TxnDate": stamp(books.clock.now())[:10],
    }
    if unpaid is None or random.random() < 0.15:
        customer = ledger.reference(_any(books, CUSTOMER, random))
        return {**made_up, "CustomerRef": customer, "TotalAmt": _money(random)}
    part = random.choice((1.0, 1.0, 0.5))
    amount = max(round(unpaid["Balance"] * part, 2), 0.01)
    line = {"Amount": amount, "LinkedTxn": [{"TxnId": unpaid["Id"], "TxnType": "Invoice"}]}
    return {
        **made_up,
        "CustomerRef": unpaid["CustomerRef"],
        "TotalAmt": amount,
        "Line": [line],
    }


def _spent(books: Books, random: Random) -> Json:
    return {
        "Description": random.choice(TOPICS).capitalize(),
        "Amount": _money(random),
        "DetailType": "AccountBasedExpenseLineDetail",
        "AccountBasedExpenseLineDetail": {
            "AccountRef": ledger.reference(_any(books, ACCOUNT, random)),
            "BillableStatus": "NotBillable",
            "TaxCodeRef": {"value": "NON"},
        },
    }


def _bill(books: Books, random: Random) -> Json:
    vendor, now = random.randint(1, 40), books.clock.now()
    name = firm(Random(f"{books.id}:{vendor}"))
    return {
        "VendorRef": {"value": str(vendor), "name": name},
        "TxnDate": stamp(now)[:10],
        "DueDate": stamp(now + timedelta(days=30))[:10],
        "Line": [_spent(books, random) for _ in range(random.randint(1, 3))],
    }


MAKERS: dict[Kind, Callable[[Books, Random], Json]] = {
    ACCOUNT: _account,
    CUSTOMER: _customer,
    INVOICE: _invoice,
    PAYMENT: _payment,
    BILL: _bill,
}


def _retouched(books: Books, kind: Kind, row: Json, random: Random) -> Json:
    """A few fields set anew, now and then one emptied."""
    note = random.choice((sentence(random), sentence(random), ""))
    if kind is CUSTOMER:
        fresh = {"Notes": note, "BillAddr": _address(random), "Active": True}
        fresh["PrimaryPhone"] = {"FreeFormNumber": phone(random)}
    elif kind is ACCOUNT:
        fresh = {"Description": note, "AcctNum": str(random.randint(1000, 9999)), "Active": True}
    elif kind is PAYMENT:
        more = row["TotalAmt"] + _money(random)
        fresh = {"PrivateNote": note, "TotalAmt": more}
        fresh["PaymentRefNum"] = str(random.randint(1000, 99_999))
    else:
        line = _sold(random) if kind is INVOICE else _spent(books, random)
        due_at = books.clock.now() + timedelta(days=random.randint(1, 90))
        fresh = {"PrivateNote": note, "DueDate": stamp(due_at)[:10]}
        fresh["Line"] = [*row["Line"], line]
    chosen = random.sample(sorted(fresh), k=random.randint(1, 2))
    return {name: fresh[name] for name in chosen}
