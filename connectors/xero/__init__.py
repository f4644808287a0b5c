"""Xero: an organisation's contacts, invoices and other documents, lists, and trial balance
(Accounting API 2.0).

https://developer.xero.com/documentation/api/accounting/overview

One consent covers every organisation that its person let the app into; each is a connection, and
ends by itself.
Journals are not read: their scope is given to apps on Xero's approval only, and an app without it
that asks for it gets no token at all (XeroAPI/xero-mcp-server#298, 2026-08).

Longer than 300 lines, with its helpers: nineteen streams, of which one is made of four others, and
a report; what it says of each is half of this file.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import quote

from connectors import (
    Account,
    BrokenConnectionError,
    Calls,
    Connector,
    ConnectorError,
    Context,
    NotAllowedError,
    OAuth2,
    RateLimit,
    Request,
    Response,
    Stream,
    SyncType,
    Webhook,
    ask,
    columns,
    say,
)
from connectors.kernel.looks import looked_until
from connectors.kernel.paging import rows_of
from connectors.kernel.signatures import hmac_signature
from connectors.kernel.versions import epoch_us
from connectors.xero.events import STREAM_OF, events
from connectors.xero.reading import Kind, again, changed, line_items, line_key, trial_balance, whole

CONNECTIONS = "https://api.xero.com/connections"
CHANGED = epoch_us("UpdatedDateUTC")


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """Every organisation that the token opens, those of earlier consents too. A practice is listed
    among them, and has no books."""
    listed = rows_of((yield from ask(Request.get(CONNECTIONS))), "")
    found = [each for each in listed if each["tenantType"] == "ORGANISATION"]
    if not found:
        raise NotAllowedError(
            say(
                "no Xero organisation was allowed: the person who connects has to pick one on "
                "Xero's page, and needs the right to connect apps to it"
            )
        )
    return tuple(
        Account(each["tenantId"], name=each["tenantName"], config={"connection": each["id"]})
        for each in found
    )


def leave(context: Context) -> Calls[None]:
    """Ends one organisation's connection; to give the token back would end all that its person made
    with the app. One that has ended already is refused like a stranger's."""
    connection = quote(str(context.config["connection"]), safe="")
    yield Request("DELETE", f"{CONNECTIONS}/{connection}", expect=(403, 404))


def classify(response: Response) -> ConnectorError | None:
    """What a refusal is about stands in its detail, not in its status: a scope that is missing is
    a 401 like a token that has ended (XeroAPI/Xero-NetStandard#97, 2019-12), and an organisation
    that was disconnected a 403 (XeroAPI/Xero-OpenAPI#585, 2024-03)."""
    body = response.json if isinstance(response.json, dict) else {}
    detail = str(body.get("Detail") or body.get("detail"))
    if response.status == 401 and detail.startswith("AuthorizationUnsuccessful"):
        return NotAllowedError(
            "Xero does not let the app read this: its scope was not allowed when the organisation "
            "was connected"
        )
    if response.status == 403 and detail.startswith("AuthenticationUnsuccessful"):
        return BrokenConnectionError("this Xero organisation is not connected to the app any more")
    return None


ARCHIVED_TOO = {"includeArchived": True}
INVOICES = Kind(path="Invoices", key="InvoiceID", by_ids=True, params=ARCHIVED_TOO)
CONTACTS = Kind(path="Contacts", key="ContactID", by_ids=True, params=ARCHIVED_TOO)
PAYMENTS = Kind(path="Payments", key="PaymentID")
BANK_TRANSACTIONS = Kind(path="BankTransactions", key="BankTransactionID")
CREDIT_NOTES = Kind(path="CreditNotes", key="CreditNoteID")
PURCHASE_ORDERS = Kind(path="PurchaseOrders", key="PurchaseOrderID")
MANUAL_JOURNALS = Kind(path="ManualJournals", key="ManualJournalID")
PREPAYMENTS = Kind(path="Prepayments", key="PrepaymentID")
OVERPAYMENTS = Kind(path="Overpayments", key="OverpaymentID")

STATED = "status=Status updated_at=UpdatedDateUTC:timestamptz"
CONTACT = "contact_id=Contact.ContactID contact_name=Contact.Name"
MONEY = "currency=CurrencyCode subtotal=SubTotal:numeric tax=TotalTax:numeric total=Total:numeric"
DOCUMENT = f"{CONTACT} {MONEY} date=Date:date {STATED}"


def followed(name: str, kind: Kind, shown: str) -> Stream:
    """Documents that are found by the time of their last change."""
    return Stream(
        name=name,
        read=changed(kind),
        fetch=again(kind),
        window=looked_until,
        key=kind.key,
        version=CHANGED,
        columns=columns(shown),
    )


def listed(name: str, path: str, key: str, shown: str, records: str = "", **params: Any) -> Stream:
    """A list that is short enough to be read whole each time."""
    read = whole(path, records, **params)
    return Stream(name=name, read=read, key=key, snapshot=True, columns=columns(shown))


connector = Connector(
    name="xero",
    title="Xero",
    category="Accounting",
    sync_type=SyncType.PULL,
    base_url="https://api.xero.com/api.xro/2.0",
    auth=OAuth2(
        env="XERO",
        authorize_url="https://login.xero.com/identity/connect/authorize",
        token_url="https://identity.xero.com/connect/token",  # noqa: S106
        console="https://developer.xero.com/app/manage",
        scopes={
            "offline_access": "to stay connected for longer than half an hour",
            "accounting.settings.read": "the lists: accounts, items, tax rates and so on",
            "accounting.contacts.read": "the stream contacts",
            "accounting.invoices.read": "invoices, credit notes, purchase orders and their lines",
            "accounting.payments.read": "payments, prepayments and overpayments",
            "accounting.banktransactions.read": "bank transactions and transfers",
            "accounting.manualjournals.read": "the stream manual_journals",
            "accounting.reports.trialbalance.read": "the stream trial_balance",
        },
        client_auth="basic",
        rotates=True,
        grace=timedelta(minutes=30),
        idle_lifetime=timedelta(days=60),
        access_token_ttl=timedelta(minutes=30),
    ),
    # All are counted for each organisation, but for the last one; five calls may be open at once.
    rate_limits=(
        RateLimit(60, per=timedelta(minutes=1)),
        RateLimit(5000, per=timedelta(days=1)),
        RateLimit(10_000, per=timedelta(minutes=1), scope="app"),
    ),
    concurrency=5,
    # A poll takes two dozen calls, of 5,000 a day.
    floor=timedelta(minutes=10),
    identify=identify,
    leave=leave,
    classify=classify,
    variables={
        "XERO_WEBHOOK_SECRET": "The app's webhooks key; while it is empty, deliveries are refused."
    },
    webhook=Webhook(
        verified_by="XERO_WEBHOOK_SECRET",
        verify=hmac_signature("x-xero-signature", encoding="base64"),
        events=lambda delivery: tuple(events(delivery)),
        covers=tuple(STREAM_OF.values()),
        setup="In the app's webhooks set this address, tick contacts, invoices and credit notes, "
        "and send the intent to receive.",
        proof="The body, without a time; not the address. The body names the organisation and the "
        "record, which is read again, and no more.",
    ),
    sync_method="If-Modified-Since, newest first; whole lists",
    referees=("xero-python",),
    limitations=(
        "Journals (the general ledger): Xero gives their scope only to apps that it approved.",
        "Apps that were made before 2026-03-02 may not have the granular scopes yet.",
        "Quotes, repeating invoices, budgets, attachments, history, payroll, files and assets.",
        "Invoices show their contact's name as of their own last change.",
        "The trial balance is today's: former days are not kept.",
        "An organisation that is disconnected while Xero does not answer stays on its person's "
        "list of connected apps: Xero is not asked again.",
    ),
    streams=(
        followed(
            "invoices",
            INVOICES,
            f"number=InvoiceNumber type=Type reference=Reference {DOCUMENT} due_date=DueDate:date "
            "amount_due=AmountDue:numeric amount_paid=AmountPaid:numeric",
        ),
        followed(
            "contacts",
            CONTACTS,
            "name=Name first_name=FirstName last_name=LastName email=EmailAddress "
            "status=ContactStatus is_customer=IsCustomer:boolean is_supplier=IsSupplier:boolean "
            "updated_at=UpdatedDateUTC:timestamptz",
        ),
        followed(
            "payments",
            PAYMENTS,
            "invoice_id=Invoice.InvoiceID account_id=Account.AccountID type=PaymentType "
            f"reference=Reference amount=Amount:numeric date=Date:date {STATED}",
        ),
        followed(
            "bank_transactions",
            BANK_TRANSACTIONS,
            f"type=Type account_id=BankAccount.AccountID is_reconciled=IsReconciled:boolean "
            f"{DOCUMENT}",
        ),
        followed(
            "credit_notes",
            CREDIT_NOTES,
            f"number=CreditNoteNumber type=Type remaining=RemainingCredit:numeric {DOCUMENT}",
        ),
        followed("purchase_orders", PURCHASE_ORDERS, f"number=PurchaseOrderNumber {DOCUMENT}"),
        followed(
            "manual_journals",
            MANUAL_JOURNALS,
            f"narration=Narration lines=JournalLines:jsonb date=Date:date {STATED}",
        ),
        followed("prepayments", PREPAYMENTS, f"type=Type {DOCUMENT}"),
        followed("overpayments", OVERPAYMENTS, f"type=Type {DOCUMENT}"),
        Stream(
            name="line_items",
            title="Lines of documents",
            read=line_items(INVOICES, CREDIT_NOTES, BANK_TRANSACTIONS, PURCHASE_ORDERS),
            key=line_key,
            version=CHANGED,
            columns=columns(
                "parent_type parent_id description=Description quantity=Quantity:numeric "
                "unit_amount=UnitAmount:numeric amount=LineAmount:numeric tax=TaxAmount:numeric "
                "account_code=AccountCode item_code=ItemCode tax_type=TaxType"
            ),
        ),
        listed(
            "accounts",
            "Accounts",
            "AccountID",
            "code=Code name=Name type=Type class=Class tax_type=TaxType status=Status "
            "updated_at=UpdatedDateUTC:timestamptz",
        ),
        listed(
            "items",
            "Items",
            "ItemID",
            "code=Code name=Name description=Description price=SalesDetails.UnitPrice:numeric "
            "is_sold=IsSold:boolean updated_at=UpdatedDateUTC:timestamptz",
        ),
        listed(
            "bank_transfers",
            "BankTransfers",
            "BankTransferID",
            "from_account_id=FromBankAccount.AccountID to_account_id=ToBankAccount.AccountID "
            "amount=Amount:numeric date=Date:date created_at=CreatedDateUTC:timestamptz",
        ),
        listed(
            "tax_rates", "TaxRates", "TaxType", "name=Name rate=EffectiveRate:numeric status=Status"
        ),
        listed(
            "tracking_categories",
            "TrackingCategories",
            "TrackingCategoryID",
            "name=Name status=Status options=Options:jsonb",
            includeArchived=True,
        ),
        listed("currencies", "Currencies", "Code", "description=Description"),
        listed("branding_themes", "BrandingThemes", "BrandingThemeID", "name=Name"),
        listed(
            "organisations",
            "Organisation",
            "OrganisationID",
            "name=Name legal_name=LegalName currency=BaseCurrency country=CountryCode",
            records="Organisations",
        ),
        Stream(
            name="trial_balance",
            read=trial_balance,
            key="AccountID",
            snapshot=True,
            columns=columns("account=Account section=Section debit=Debit credit=Credit"),
        ),
    ),
)
