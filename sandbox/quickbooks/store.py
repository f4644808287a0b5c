"""A QuickBooks company in memory: its rows, and what follows when one of them changes.

Always true: an invoice's Balance is its TotalAmt less what payments put on it, and a customer's
Balance is the sum of its invoices' less what its payments have not put on any.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.kernel.clock import Clock
from sandbox.kernel.fields import without
from sandbox.kernel.values import Json
from sandbox.quickbooks.kinds import (
    BILL,
    CUSTOMER,
    INVOICE,
    KINDS,
    PAYMENT,
    FaultError,
    Kind,
    missing,
    stamp,
)

CURRENCY = {"value": "USD", "name": "United States Dollar"}
# What sets other rows moving when a client changes it.
MOVING = frozenset(("CustomerRef", "Line", "TotalAmt"))
CLASSES = {
    "Bank": "Asset",
    "Other Current Asset": "Asset",
    "Fixed Asset": "Asset",
    "Accounts Receivable": "Asset",
    "Accounts Payable": "Liability",
    "Credit Card": "Liability",
    "Equity": "Equity",
    "Income": "Revenue",
    "Expense": "Expense",
    "Cost of Goods Sold": "Expense",
}


@dataclass
class Books:
    """One company. `stubs` are what is left of deleted transactions, and of who was merged away;
    `refused` are kinds that its plan does not have now, with what of them was shown before."""

    id: str
    clock: Clock
    company: Json
    rows: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in KINDS})
    stubs: dict[str, dict[str, Json]] = field(default_factory=lambda: {name: {} for name in KINDS})
    numbers: dict[str, int] = field(default_factory=dict)
    tell: Callable[[Json], None] = lambda what: None
    refused: dict[str, dict[str, Json]] = field(default_factory=dict)


def create(books: Books, kind: Kind, given: Mapping[str, Any]) -> Json:
    """A new row with those fields."""
    fields = _checked(books, kind, given, None)
    for name in kind.needed:
        if name not in fields:
            raise missing(name)
    # Transactions of all kinds draw their ids from one sequence, each name list has its own.
    sequence = kind.name if kind.name_list else "Transaction"
    number = books.numbers[sequence] = books.numbers.get(sequence, 0) + 1
    now = stamp(books.clock.now())
    row: Json = {
        **_defaults(kind, now),
        **fields,
        "domain": "QBO",
        "sparse": False,
        "Id": str(number),
        "SyncToken": "0",
        "MetaData": {"CreateTime": now, "LastUpdatedTime": now},
    }
    if kind is INVOICE or kind is BILL:
        row.setdefault("DocNumber", str(1000 + number))
    complete(kind, row)
    books.rows[kind.name][row["Id"]] = row
    _tell(books, kind, row, "created")
    _weigh(books, kind, row, 1)
    return row


def change(
    books: Books, kind: Kind, row: Json, given: Mapping[str, Any], *, sparse: bool = True
) -> None:
    """Sets those fields; what a full change (not sparse) does not name is emptied."""
    fields = _checked(books, kind, given, row)
    gone = [name for name in given if name in kind.writable and name not in fields]
    if not sparse:
        gone += [name for name in kind.writable if name not in fields]
    if short := sorted(set(gone) & set(kind.needed)):
        raise missing(short[0])
    if kind is INVOICE and "Line" in fields and _total(fields) < _applied(row):
        _unlink(books, row)
    kept = without(row, *gone)
    after = {**_defaults(kind, stamp(books.clock.now())), **kept, **fields}
    complete(kind, after)
    # No row of a name list can be deleted, and yet Intuit's table has a Delete for each of them: it
    # is taken to tell that one was made inactive (2026-11, unproven).
    retired = kind.name_list and row["Active"] and not after["Active"]
    moving = bool(MOVING & {*fields, *gone})
    if moving:
        _weigh(books, kind, row, -1)
    row.clear()
    row.update(after)
    if moving:
        _weigh(books, kind, row, 1)
    _touch(books, kind, row, "deleted" if retired else "updated")


def delete(books: Books, kind: Kind, row: Json) -> Json:
    """Takes a transaction away; what is left of it is the stub in change data capture."""
    if kind is INVOICE:
        _unlink(books, row)
    _weigh(books, kind, row, -1)
    del books.rows[kind.name][row["Id"]]
    stub = books.stubs[kind.name][row["Id"]] = _stub(books, row)
    _tell(books, kind, row, "deleted")
    return without(stub, "MetaData")


def merge(books: Books, kind: Kind, row: Json, into: Json) -> None:
    """One customer becomes another: its transactions are the other's, and of it a stub is left."""
    for each in (INVOICE, PAYMENT):
        for transaction in books.rows[each.name].values():
            if transaction["CustomerRef"]["value"] == row["Id"]:
                change(books, each, transaction, {"CustomerRef": reference(into)})
    del books.rows[kind.name][row["Id"]]
    books.stubs[kind.name][row["Id"]] = _stub(books, row)
    told = {"entity": kind.name, "id": into["Id"], "operation": "merged"}
    books.tell({**told, "deleted_id": row["Id"]})


def _stub(books: Books, row: Json) -> Json:
    now = stamp(books.clock.now())
    stub = {"domain": "QBO", "status": "Deleted", "Id": row["Id"]}
    return {**stub, "MetaData": {"LastUpdatedTime": now}}


def void(books: Books, kind: Kind, row: Json) -> None:
    """Keeps the row of an invoice or a payment, and makes all its amounts zero."""
    if kind is INVOICE:
        _unlink(books, row)
    _weigh(books, kind, row, -1)
    note = row.get("PrivateNote", "")
    row["PrivateNote"] = f"Voided - {note}" if note else "Voided"
    if kind is PAYMENT:
        row |= {"Line": [], "TotalAmt": 0}
    for line in row["Line"]:
        line["Amount"] = 0
        line.get("SalesItemLineDetail", {}).update(Qty=0, UnitPrice=0)
    complete(kind, row)
    _weigh(books, kind, row, 1)
    _touch(books, kind, row, "voided")


def _touch(books: Books, kind: Kind, row: Json, operation: str = "updated") -> None:
    """The row was edited now."""
    row["MetaData"]["LastUpdatedTime"] = stamp(books.clock.now())
    row["SyncToken"] = str(int(row["SyncToken"]) + 1)
    _tell(books, kind, row, operation)


def _tell(books: Books, kind: Kind, row: Json, operation: str) -> None:
    books.tell({"entity": kind.name, "id": row["Id"], "operation": operation})


def complete(kind: Kind, row: Json) -> None:
    """The fields that QuickBooks works out itself."""
    if kind is CUSTOMER:
        row["FullyQualifiedName"] = row["DisplayName"]
        row.setdefault("PrintOnCheckName", row.get("CompanyName") or row["DisplayName"])
    elif kind is PAYMENT:
        applied = _cents(sum(line["Amount"] for line in row["Line"]))
        if applied > row["TotalAmt"]:
            raise _business("The amounts of the lines are more than the amount received.")
        row["UnappliedAmt"] = _cents(row["TotalAmt"] - applied)
    elif kind.name_list:
        row["FullyQualifiedName"] = row["Name"]
        row["Classification"] = CLASSES.get(row["AccountType"], "Expense")
    else:
        _number_lines(kind, row)


def reference(row: Json) -> Json:
    """How other rows name this one."""
    return {"value": row["Id"], "name": row.get("DisplayName") or row["Name"]}


def _defaults(kind: Kind, now: str) -> Json:
    """What a row has that nobody set."""
    if kind is CUSTOMER:
        return {
            **{"Active": True, "Taxable": False, "Job": False, "BillWithParent": False},
            **{"Balance": 0, "BalanceWithJobs": 0, "PreferredDeliveryMethod": "None"},
            "CurrencyRef": CURRENCY,
        }
    if kind.name_list:
        return {
            **{"Active": True, "SubAccount": False, "CurrentBalance": 0},
            **{"CurrentBalanceWithSubAccounts": 0, "CurrencyRef": CURRENCY},
        }
    shared: Json = {"TxnDate": now[:10], "CurrencyRef": CURRENCY}
    if kind is PAYMENT:
        return {**shared, "ProcessPayment": False, "Line": []}
    shared |= {"Balance": 0, "TotalAmt": 0, "LinkedTxn": []}
    if kind is BILL:
        return shared
    return {
        **shared,
        **{"EmailStatus": "NotSet", "PrintStatus": "NeedToPrint", "CustomField": []},
        **{"ApplyTaxAfterDiscount": False, "TxnTaxDetail": {"TotalTax": 0}},
    }


def _number_lines(kind: Kind, row: Json) -> None:
    applied, total = _applied(row), _total(row)
    lines = [line for line in row["Line"] if line["DetailType"] != "SubTotalLineDetail"]
    for number, line in enumerate(lines, 1):
        line |= {"Id": str(number), "LineNum": number}
    if kind is INVOICE:
        subtotal = {"Amount": total, "DetailType": "SubTotalLineDetail", "SubTotalLineDetail": {}}
        lines.append(subtotal)
    row |= {"Line": lines, "TotalAmt": total, "Balance": _cents(total - applied)}


def _total(row: Json) -> float:
    amounts = (ln["Amount"] for ln in row["Line"] if ln["DetailType"] != "SubTotalLineDetail")
    return _cents(float(sum(amounts)))


def _cents(amount: float) -> float:
    # Adding zero makes a negative zero, which rounding leaves behind, a plain one.
    return round(float(amount), 2) + 0.0


def _applied(row: Json) -> float:
    """What payments put on an invoice or a bill."""
    return _cents(float(row["TotalAmt"] - row["Balance"]))


def _weigh(books: Books, kind: Kind, row: Json, sign: int) -> None:
    """Puts a transaction's weight on the rows it bears on, or (-1) takes it off them."""
    if kind is INVOICE:
        _owe(books, row["CustomerRef"]["value"], sign * row["Balance"])
    elif kind is PAYMENT:
        for line in row["Line"]:
            _apply(books, row, line, sign)
        _owe(books, row["CustomerRef"]["value"], -sign * row["UnappliedAmt"])


def _owe(books: Books, customer_id: str, amount: float) -> None:
    customer = books.rows["Customer"][customer_id]
    if amount:
        customer["Balance"] = _cents(customer["Balance"] + amount)
        customer["BalanceWithJobs"] = customer["Balance"]
        # What follows from another row's change is no edit: it has no event (2026-11, unproven).
        customer["MetaData"]["LastUpdatedTime"] = stamp(books.clock.now())


def _apply(books: Books, payment: Json, line: Json, sign: int) -> None:
    """Takes a payment's line off the balance of its invoice, or (-1) puts it back."""
    for link in line["LinkedTxn"]:
        invoice = books.rows["Invoice"][link["TxnId"]]
        invoice["Balance"] = _cents(invoice["Balance"] - sign * line["Amount"])
        mark = {"TxnId": payment["Id"], "TxnType": "Payment"}
        if sign > 0:
            invoice["LinkedTxn"].append(mark)
        else:
            invoice["LinkedTxn"].remove(mark)
        _owe(books, invoice["CustomerRef"]["value"], -sign * line["Amount"])
        _touch(books, INVOICE, invoice)


def _unlink(books: Books, invoice: Json) -> None:
    """Takes an invoice out of its payments, which keep the money as the customer's credit."""
    for payment_id in {link["TxnId"] for link in invoice["LinkedTxn"]}:
        payment = books.rows["Payment"][payment_id]
        kept = [line for line in payment["Line"] if not _links(line, invoice)]
        given_back = payment["TotalAmt"] - payment["UnappliedAmt"]
        given_back -= sum(line["Amount"] for line in kept)
        payment["Line"] = kept
        complete(PAYMENT, payment)
        _owe(books, payment["CustomerRef"]["value"], -given_back)
        _owe(books, invoice["CustomerRef"]["value"], given_back)
        _touch(books, PAYMENT, payment)
    invoice |= {"LinkedTxn": [], "Balance": invoice["TotalAmt"]}


def _links(line: Json, invoice: Json) -> bool:
    return any(link["TxnId"] == invoice["Id"] for link in line["LinkedTxn"])


def _checked(books: Books, kind: Kind, given: Mapping[str, Any], row: Json | None) -> Json:
    """The fields that a client may set, without the empty ones; FaultError when one cannot be."""
    fields = {
        name: value
        for name, value in given.items()
        if name in kind.writable and value is not None and value != ""
    }
    if kind.name_list:
        _check_name(books, kind, fields, row)
    if "CustomerRef" in fields:
        customer = books.rows["Customer"].get(_id_of(fields["CustomerRef"]))
        if customer is None:
            raise _invalid_reference("CustomerRef")
        fields["CustomerRef"] = reference(customer)
    if "VendorRef" in fields and not _id_of(fields["VendorRef"]):
        raise _invalid_reference("VendorRef")
    if "TotalAmt" in fields:
        fields["TotalAmt"] = _amount(fields["TotalAmt"])
    for name in ("TxnDate", "DueDate", "ShipDate"):
        if name in fields:
            _check_date(fields[name])
    if "Line" in fields:
        fields["Line"] = _lines(books, kind, fields["Line"])
    return fields


def _check_name(books: Books, kind: Kind, fields: Json, row: Json | None) -> None:
    label = kind.needed[0]
    if "Active" in fields and not isinstance(fields["Active"], bool):
        raise FaultError("2110", "Invalid Boolean", "Active is neither true nor false")
    if label not in fields or (row and row[label] == fields[label]):
        return
    if any(other[label] == fields[label] for other in books.rows[kind.name].values()):
        raise FaultError(
            "6240",
            "Duplicate Name Exists Error",
            "The name supplied already exists. : Another row already has it.",
        )


def _lines(books: Books, kind: Kind, given: Any) -> list[Json]:
    if not isinstance(given, list) or not all(isinstance(line, dict) for line in given):
        raise missing("Line")
    lines = []
    for line in given:
        line_ = {name: value for name, value in line.items() if value is not None}
        if "Amount" not in line_ and line_.get("DetailType") != "DescriptionOnly":
            raise missing("Line.Amount")
        line_["Amount"] = _amount(line_.get("Amount", 0))
        if kind is PAYMENT:
            _check_links(books, line_)
        elif "DetailType" not in line_:
            raise missing("Line.DetailType")
        lines.append(line_)
    if kind is not PAYMENT and not lines:
        raise missing("Line")
    return lines


def _check_links(books: Books, line: Json) -> None:
    links = line.setdefault("LinkedTxn", [])
    for link in links:
        if not isinstance(link, dict) or link.get("TxnType") != "Invoice":
            raise _invalid_reference("LinkedTxn")
        link["TxnId"] = str(link.get("TxnId"))
        if link["TxnId"] not in books.rows["Invoice"]:
            raise _invalid_reference("LinkedTxn")
    if len(links) != 1:
        raise missing("Line.LinkedTxn")


def _id_of(ref: Any) -> str:
    return str(ref.get("value") or "") if isinstance(ref, dict) else ""


def _amount(value: Any) -> float:
    try:
        return _cents(float(value))
    except (TypeError, ValueError) as error:
        raise FaultError("2090", "Invalid Number", f"Invalid Number : {value}") from error


def _check_date(value: Any) -> None:
    try:
        datetime.strptime(str(value), "%Y-%m-%d")  # noqa: DTZ007 - a date has no zone
    except ValueError as error:
        raise FaultError("2100", "Invalid Date", f"Date value expected: {value}") from error


def _invalid_reference(name: str) -> FaultError:
    return FaultError("2500", "Invalid Reference Id", f"Invalid Reference Id : {name}")


def _business(detail: str) -> FaultError:
    message = "A business validation error has occurred while processing your request"
    return FaultError("6000", message, f"Business Validation Error: {detail}")
