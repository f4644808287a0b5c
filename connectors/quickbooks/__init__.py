"""QuickBooks Online: a company's customers, invoices, payments, bills and accounts, and the feed
of their changes (Accounting API v3, minor version 75).

https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api

Longer than 300 lines: queries page by the time of the last change, change data capture tells the
rest for thirty days, and merges and deletions come in forms of their own.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    ContractError,
    OAuth2,
    RateLimit,
    Request,
    Revocation,
    Stream,
    SyncType,
    Webhook,
    columns,
)
from connectors.kernel.signatures import hmac_signature
from connectors.kernel.versions import epoch_us
from connectors.quickbooks.errors import classify
from connectors.quickbooks.events import STREAM_OF, events
from connectors.quickbooks.reading import change_data_capture, entity_stream

API = "https://quickbooks.api.intuit.com/v3/company"


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The company that the redirect names. A browser brought it, so the token has to open it."""
    realm = callback.get("realmId", "")
    if not (realm.isascii() and realm.isdecimal()):
        raise ContractError("QuickBooks did not say which company was connected (realmId)")
    query = "select * from Customer startposition 1 maxresults 1"
    yield Request.get(f"{API}/{realm}/query", params={"query": query})
    return (Account(realm, name=f"QuickBooks company {realm}"),)


CUSTOMERS = columns(
    "display_name=DisplayName given_name=GivenName family_name=FamilyName company_name=CompanyName "
    "email=PrimaryEmailAddr.Address phone=PrimaryPhone.FreeFormNumber currency=CurrencyRef.value "
    "balance=Balance:numeric active=Active:boolean"
)
NUMBER = "number=DocNumber"
SOLD = "customer_id=CustomerRef.value customer_name=CustomerRef.name currency=CurrencyRef.value"
DUE = "date=TxnDate:date due_date=DueDate:date total=TotalAmt:numeric balance=Balance:numeric"
INVOICES = columns(NUMBER, SOLD, DUE)
PAYMENTS = columns(SOLD, "date=TxnDate:date total=TotalAmt:numeric unapplied=UnappliedAmt:numeric")
BILLS = columns(
    NUMBER,
    "vendor_id=VendorRef.value vendor_name=VendorRef.name currency=CurrencyRef.value",
    DUE,
)
ACCOUNTS = columns(
    "name=Name full_name=FullyQualifiedName account_type=AccountType "
    "account_subtype=AccountSubType classification=Classification currency=CurrencyRef.value "
    "balance=CurrentBalance:numeric active=Active:boolean"
)

connector = Connector(
    name="quickbooks",
    title="QuickBooks Online",
    category="Accounting",
    sync_type=SyncType.PULL,
    base_url=f"{API}/{{account_id}}",
    params={"minorversion": 75},
    auth=OAuth2(
        env="QUICKBOOKS",
        authorize_url="https://appcenter.intuit.com/connect/oauth2",
        token_url="https://oauth.platform.intuit.com/oauth2/v1/tokens/bearer",  # noqa: S106
        revocation=Revocation(
            url="https://developer.api.intuit.com/v2/oauth2/tokens/revoke", body="json"
        ),
        console="https://developer.intuit.com",
        scopes={
            "com.intuit.quickbooks.accounting": "every stream; Intuit has no scope that only reads"
        },
        client_auth="basic",
        rotates=True,
        grace=timedelta(hours=24),
        idle_lifetime=timedelta(days=100),
    ),
    rate_limits=(
        # 800 a minute over all of Intuit's endpoints is the wider limit, and so never the first.
        RateLimit(500, per=timedelta(minutes=1)),
        RateLimit(10, per=timedelta(seconds=1)),
    ),
    identify=identify,
    classify=classify,
    variables={
        "QUICKBOOKS_WEBHOOK_SECRET": "The app's webhook verifier token; while it is empty, "
        "deliveries are refused."
    },
    webhook=Webhook(
        verified_by="QUICKBOOKS_WEBHOOK_SECRET",
        verify=hmac_signature("intuit-signature", encoding="base64"),
        events=lambda delivery: tuple(events(delivery)),
        covers=(*STREAM_OF.values(), "change_data_capture"),
        setup="In the app's webhooks set this address, and tick every operation of customers, "
        "invoices, payments, bills and accounts.",
        proof="The body, without a time; not the address. The body names the company, and is a "
        "hint to read what changed, and no more.",
    ),
    sync_method="Change Data Capture, queries",
    referees=("python-quickbooks", "intuit-oauth"),
    limitations=(
        "Entities other than the five of the streams.",
        "More than a thousand changes of invoices, payments or bills between two syncs cost a full "
        "read: Intuit does not tell which of them were deleted.",
        "Of a customer or an account that was merged into another it is known that it is gone, and "
        "not into which.",
    ),
    streams=(
        Stream(
            name="change_data_capture",
            read=change_data_capture,
            key=lambda record: f"{record['entity']}:{record['Id']}",
            version=epoch_us("MetaData.LastUpdatedTime"),
            append_only=True,
            columns=columns(
                "entity entity_id=Id status updated_at=MetaData.LastUpdatedTime:timestamptz"
            ),
        ),
        entity_stream("customers", "Customer", CUSTOMERS),
        entity_stream("invoices", "Invoice", INVOICES),
        entity_stream("payments", "Payment", PAYMENTS),
        entity_stream("bills", "Bill", BILLS),
        entity_stream("accounts", "Account", ACCOUNTS),
    ),
)
