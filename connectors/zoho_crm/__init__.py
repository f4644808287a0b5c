"""Zoho CRM: leads, contacts, accounts and deals, the records of all other modules, users (API v8).

https://www.zoho.com/crm/developer/docs/api/v8/

Longer than 300 lines: the modules and their fields are the organisation's own, rows and deletions
are read apart, and each module has a channel for notifications.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Callback,
    Calls,
    Connector,
    OAuth2,
    Question,
    RateLimit,
    Request,
    Revocation,
    Stream,
    SyncType,
    ask,
    columns,
)
from connectors.kernel.versions import epoch_us
from connectors.zoho_crm.errors import classify, error_from
from connectors.zoho_crm.modules import field_key, read_fields, read_modules, read_users
from connectors.zoho_crm.reading import DELETED_RECORDS, RECORDS, module_stream
from connectors.zoho_crm.watches import SCOPE, watch, webhook

# The data centres: the hosts of their accounts servers, and what the API's end in
# (`dc/*_data_center.py` of zohocrmsdk8_0 7.0.0). A token goes to no others.
DATA_CENTRES = {
    "accounts.zoho.com": "zohoapis.com",
    "accounts.zoho.eu": "zohoapis.eu",
    "accounts.zoho.in": "zohoapis.in",
    "accounts.zoho.com.au": "zohoapis.com.au",
    "accounts.zoho.com.cn": "zohoapis.com.cn",
    "accounts.zoho.jp": "zohoapis.jp",
    "accounts.zohocloud.ca": "zohoapis.ca",
    "accounts.zoho.sa": "zohoapis.sa",
}
# An organisation may have sandboxes of its own, and developers an edition of theirs.
ENVIRONMENTS = ("www", "sandbox", "developer")
MODULES = (
    "leads contacts accounts deals tasks events calls notes products quotes salesorders "
    "purchaseorders invoices pricebooks vendors campaigns cases solutions custom"
)


def verify_callback(callback: Callback) -> Mapping[str, str]:
    """The accounts server that a callback names, which alone takes its code. A browser brought it:
    it counts where it is one of the data centres, which the question's pattern sees to."""
    named = callback.params.get("accounts-server", "")
    return {**callback.answers, "accounts_server": named} if named else callback.answers


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The organisation, and the API of its data centre, as the token answer names it."""
    response = yield from ask(Request.get("/org"))
    (org,) = response.json["org"]
    config = {"api_domain": str(answer["api_domain"]).rstrip("/")}
    return (Account(str(org["zgid"]), str(org["company_name"]), config),)


OWNER = "owner_id=Owner.id"
LEADS = columns(
    "first_name=First_Name last_name=Last_Name email=Email phone=Phone company=Company "
    "status=Lead_Status source=Lead_Source converted=Converted__s:boolean",
    OWNER,
)
CONTACTS = columns(
    "first_name=First_Name last_name=Last_Name email=Email phone=Phone job_title=Title "
    "account_id=Account_Name.id",
    OWNER,
)
ACCOUNTS = columns(
    "name=Account_Name website=Website phone=Phone industry=Industry employees=Employees:bigint "
    "annual_revenue=Annual_Revenue:numeric billing_city=Billing_City "
    "billing_country=Billing_Country",
    OWNER,
)
DEALS = columns(
    "name=Deal_Name account_id=Account_Name.id stage=Stage amount=Amount:numeric "
    "probability=Probability:numeric closing_date=Closing_Date:date pipeline=Pipeline",
    OWNER,
)

connector = Connector(
    name="zoho_crm",
    title="Zoho CRM",
    category="CRM",
    sync_type=SyncType.PULL,
    base_url="{config[api_domain]}/crm/v8",
    hosts=tuple(f"{one}.{end}" for end in DATA_CENTRES.values() for one in ENVIRONMENTS),
    auth_scheme="Zoho-oauthtoken",
    auth=OAuth2(
        env="ZOHO",
        authorize_url="https://{accounts_server}/oauth/v2/auth",
        token_url="https://{accounts_server}/oauth/v2/token",  # noqa: S106
        revocation=Revocation(
            url="https://{accounts_server}/oauth/v2/token/revoke", client_auth="none"
        ),
        console="https://api-console.zoho.com (for all data centres)",
        scopes={
            **{
                f"ZohoCRM.modules.{module}.READ": f"records of {module}"
                for module in MODULES.split()
            },
            "ZohoCRM.settings.modules.READ": "which modules there are",
            "ZohoCRM.settings.fields.READ": "which fields they have",
            "ZohoCRM.users.READ": "the stream users",
            "ZohoCRM.org.READ": "which organisation was connected",
            SCOPE: "to hear of changes at once; Zoho has no smaller scope for it",
        },
        scope_separator=",",
        # Only who is asked again gives a refresh token again (schmorrison/Zoho#43, 2022-07).
        authorize_params={"access_type": "offline", "prompt": "consent"},
        questions=(
            Question(
                name="accounts_server",
                title="Where you sign in to Zoho",
                pattern="|".join(host.replace(".", r"\.") for host in DATA_CENTRES),
                hint=f"one of {', '.join(DATA_CENTRES)}",
                default="accounts.zoho.com",
            ),
        ),
        verify_callback=verify_callback,
        refused=frozenset({"invalid_grant", "invalid_code"}),
        error_from=error_from,
    ),
    rate_limits=(
        # Of the smallest edition, in 24 hours, and shared with the organisation's other apps.
        RateLimit(5_000, per=timedelta(days=1)),
    ),
    # A sync takes some four calls for each module, of credits that other apps share.
    floor=timedelta(hours=1),
    identify=identify,
    classify=classify,
    webhook=webhook,
    watch=watch,
    sync_method="records by the time of their last change (If-Modified-Since), the list of deleted "
    "records; notifications as hints",
    referees=("zohocrmsdk8_0",),
    limitations=(
        "Rows of subforms, and what only the call for one record shows.",
        "A record that is brought back from the recycle bin without another change is found by an "
        "audit.",
        "Deleted notes, and records of other modules without a list of deletions, are found by an "
        "audit.",
        "A field that is new, or gone, is found within six hours.",
        "Zoho keeps twenty refresh tokens of one user for an app: the next consent ends the first.",
        "Attachments, related lists, the history of stages, pipelines, tags, roles, territories.",
    ),
    streams=(
        module_stream("leads", "Leads", LEADS),
        module_stream("contacts", "Contacts", CONTACTS),
        module_stream("accounts", "Accounts", ACCOUNTS),
        module_stream("deals", "Deals", DEALS),
        DELETED_RECORDS,
        Stream(
            name="users",
            read=read_users,
            snapshot=True,
            version=epoch_us("Modified_Time"),
            columns=columns(
                "full_name email status role=role.name profile=profile.name time_zone "
                "created_at=created_time:timestamptz updated_at=Modified_Time:timestamptz"
            ),
        ),
        RECORDS,
        Stream(
            name="modules",
            read=read_modules,
            snapshot=True,
            columns=columns(
                "api_name module_name singular_label plural_label generated_type "
                "api_supported:boolean"
            ),
        ),
        Stream(
            name="fields",
            read=read_fields,
            key=field_key,
            snapshot=True,
            columns=columns(
                "module field_id=id api_name field_label data_type json_type "
                "custom=custom_field:boolean"
            ),
        ),
    ),
)
