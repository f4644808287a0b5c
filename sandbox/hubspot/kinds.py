"""The kinds of objects of a HubSpot portal: their properties, their names, their times."""

from typing import TypeAlias

from sandbox.kernel.fields import words

Properties: TypeAlias = dict[str, str | None]

# Properties, and among them those that come without being named.
PROPERTIES = {
    "contacts": words(
        "city company country createdate email firstname hs_lead_status hs_object_id jobtitle "
        "lastmodifieddate lastname lifecyclestage phone website"
    ),
    "companies": words(
        "annualrevenue city country createdate domain hs_lastmodifieddate hs_object_id industry "
        "name numberofemployees phone"
    ),
    "deals": words(
        "amount closedate createdate dealname dealstage hs_lastmodifieddate hs_object_id pipeline"
    ),
    "tickets": words(
        "content createdate hs_lastmodifieddate hs_object_id hs_pipeline hs_pipeline_stage "
        "hs_ticket_priority subject"
    ),
}
DEFAULTS = {
    "contacts": words("createdate email firstname hs_object_id lastmodifieddate lastname"),
    "companies": words("createdate domain hs_lastmodifieddate hs_object_id name"),
    "deals": PROPERTIES["deals"],
    "tickets": PROPERTIES["tickets"],
}
SINGULAR = {"contacts": "contact", "companies": "company", "deals": "deal", "tickets": "ticket"}


def modified(kind: str) -> str:
    """Contacts alone have their own name for the property of the last change."""
    return "lastmodifieddate" if kind == "contacts" else "hs_lastmodifieddate"
