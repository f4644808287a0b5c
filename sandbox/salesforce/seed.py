"""A made-up Salesforce org, and the ordered changes to its rows."""

from collections.abc import Callable
from datetime import datetime, timedelta
from random import Random

from sandbox.kernel.data import JOBS, PLACES, TOPICS, domain, firm, person, phone, plain, sentence
from sandbox.kernel.fields import without
from sandbox.kernel.mutations import Mutations
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.salesforce import store as ledger
from sandbox.salesforce.auth import instance_of, user_name
from sandbox.salesforce.kinds import (
    ACCOUNT,
    CONTACT,
    CUSTOM,
    INVOICE,
    KINDS,
    LEAD,
    OPPORTUNITY,
    PERSONAL,
    SHIPMENT,
    STANDARD,
    USER,
    FaultError,
    Kind,
    stamp,
)
from sandbox.salesforce.store import Org

# Rows of each object in an org of a given size, in the order in which they need each other.
SHARES = {
    USER: 0.1,
    ACCOUNT: 0.5,
    CONTACT: 1.0,
    LEAD: 0.4,
    OPPORTUNITY: 0.5,
    INVOICE: 0.3,
    SHIPMENT: 0.2,
}
CUSTOM_STREAM = "custom_objects"
STREAMS = (*STANDARD, CUSTOM_STREAM)
INDUSTRIES = ("Agriculture", "Banking", "Education", "Energy", "Healthcare", "Retail")
STAGES = ("Prospecting", "Qualification", "Proposal/Price Quote", "Closed Won", "Closed Lost")
SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List")
CARRIERS = ("Land", "Sea", "Air")
MUTATIONS = Mutations[Org](refusals=(FaultError,))


def new(seed: Seed) -> Org:
    """An org filled from the seed."""
    random, now = seed.random, seed.clock.now()
    org = Org(seed.account_id, seed.name, seed.clock, random, instance_of(seed.account_id))
    org.tell = seed.tell
    org.admin_id = add(org, USER, {}, random)["Id"]
    for kind, share in SHARES.items():
        for _ in range(seed.length(share)):
            add(org, kind, {}, random)
    # An import touches many rows within one second: a time is no unique place in the order.
    imports = (now - timedelta(days=6, hours=3), now - timedelta(days=50))
    for rows in org.rows.values():
        for row in rows.values():
            _date(row, random, now, imports)
    org.feed.log.clear()  # how an org came to be is no news
    return org


def add(org: Org, kind: Kind, given: Json, random: Random) -> Json:
    """A new row: those fields, and made-up ones for the rest."""
    return ledger.create(org, kind, {**MAKERS[kind](org, random), **given})


def store(org: Org, stream: str) -> dict[str, Json]:
    """What is live and shared with the user, without what depends on who looks."""
    if stream != CUSTOM_STREAM:
        return {id_: listed(row) for id_, row in ledger.shared(org, STANDARD[stream])}
    return {
        f"{kind.name}:{id_}": {"object": kind.name, **listed(row)}
        for kind in CUSTOM
        for id_, row in ledger.shared(org, kind)
    }


def listed(row: Json) -> Json:
    return without(row, *PERSONAL)


@MUTATIONS.of("users", "add", "change")
@MUTATIONS.of((*(stream for stream in STANDARD if stream != "users"), CUSTOM_STREAM))
def _apply(org: Org, change: Change) -> str | None:
    name, _, row_id = (change.id or "").rpartition(":")
    # What is refused to the user is added to by nobody, so that a reader owes nothing of it.
    open_ = [kind for kind in CUSTOM if kind.name not in org.refused]
    kind = STANDARD.get(change.stream) or KINDS.get(name) or change.random.choice(open_)
    if change.op == "add":
        row = add(org, kind, change.record, change.random)
        return f"{kind.name}:{row['Id']}" if kind.custom else str(row["Id"])
    found = org.rows[kind.name].get(row_id)
    if found is None:
        raise RefusedError(f"{change.stream}: {change.id} went with another row", status=409)
    if change.op == "change":
        ledger.change(org, kind, found, change.record or _retouched(org, kind, change.random))
    else:
        ledger.delete(org, kind, found)
    return None


def _date(row: Json, random: Random, now: datetime, imports: tuple[datetime, ...]) -> None:
    """Gives a seeded row its past."""
    updated = now - timedelta(seconds=random.randint(3600, 700 * 86_400))
    if random.random() < 0.3:
        updated = random.choice(imports)
    created = updated - timedelta(seconds=random.choice((0, random.randint(0, 200 * 86_400))))
    row |= {"CreatedDate": stamp(created), "LastModifiedDate": stamp(updated)}
    row["SystemModstamp"] = row["LastModifiedDate"]
    if random.random() < 0.5:
        row["LastViewedDate"] = stamp(now)


def _drawn(org: Org, kind: Kind, random: Random) -> str:
    """Some row's id; a new one's where there is none."""
    rows = org.rows[kind.name]
    if not rows:
        return str(add(org, kind, {}, random)["Id"])
    return random.choice(list(rows)) if len(rows) < 50 else _near(org, kind, random)


def _near(org: Org, kind: Kind, random: Random) -> str:
    """To list them all would make seeding slow: one of the last that were made."""
    at = random.randint(0, 40)
    for number, row_id in enumerate(reversed(org.rows[kind.name])):
        if number == at:
            return row_id
    raise LookupError(kind.name)


def _maybe(random: Random, fields: Json, share: float = 0.7) -> Json:
    return {name: value for name, value in fields.items() if random.random() < share}


def _user(org: Org, random: Random) -> Json:
    first, last = person(random)
    username = user_name(f"{first}{last}", org.numbers)
    return {
        **{"Username": username, "FirstName": first, "LastName": last, "Email": username},
        **{"Title": random.choice(JOBS), "TimeZoneSidKey": "Europe/Berlin", "IsActive": True},
        "Department": random.choice(("Sales", "Service", "Finance")),
    }


def _account(org: Org, random: Random) -> Json:
    name, (city, country) = firm(random), random.choice(PLACES)
    return {
        "Name": name,
        **_maybe(
            random,
            {
                "Type": random.choice(("Customer", "Partner", "Prospect")),
                "Industry": random.choice(INDUSTRIES),
                "Website": f"https://www.{domain(name)}",
                "Phone": phone(random),
                "AnnualRevenue": round(random.uniform(1e4, 1e8), 2),
                "NumberOfEmployees": random.randint(1, 9_000),
                "BillingStreet": f"{random.randint(1, 99)} {firm(random).split()[0]} St",
                "BillingCity": city,
                "BillingPostalCode": str(random.randint(10_000, 99_999)),
                "BillingCountry": country,
                "Description": sentence(random),
            },
        ),
    }


def _contact(org: Org, random: Random) -> Json:
    first, last = person(random)
    city, country = random.choice(PLACES)
    return {
        **{"FirstName": first, "LastName": last},
        "Email": f"{plain(first)}.{org.numbers}@{domain(firm(random))}",
        **_maybe(
            random,
            {
                "AccountId": _drawn(org, ACCOUNT, random),
                "Phone": phone(random),
                "Title": random.choice(JOBS),
                "Department": random.choice(("Buying", "IT", "Finance")),
                "MailingCity": city,
                "MailingCountry": country,
                "Description": sentence(random),
            },
        ),
    }


def _lead(org: Org, random: Random) -> Json:
    first, last = person(random)
    company, (city, country) = firm(random), random.choice(PLACES)
    return {
        **{"FirstName": first, "LastName": last, "Company": company, "Status": "Open"},
        **_maybe(
            random,
            {
                "Title": random.choice(JOBS),
                "Email": f"{plain(last)}.{org.numbers}@{domain(company)}",
                "Phone": phone(random),
                "LeadSource": random.choice(SOURCES),
                "City": city,
                "Country": country,
                "Description": sentence(random),
            },
        ),
    }


def _opportunity(org: Org, random: Random) -> Json:
    closes = org.clock.now() + timedelta(days=random.randint(-300, 200))
    return {
        "Name": f"{firm(random)}: {random.choice(TOPICS)}",
        "StageName": random.choice(STAGES),
        "CloseDate": f"{closes:%Y-%m-%d}",
        **_maybe(
            random,
            {
                "AccountId": _drawn(org, ACCOUNT, random),
                "Amount": round(random.uniform(100, 900_000), 2),
                "Probability": float(random.randint(0, 100)),
                "Type": random.choice(("New Customer", "Existing Customer")),
                "LeadSource": random.choice(SOURCES),
                "Description": sentence(random),
            },
        ),
    }


def _invoice(org: Org, random: Random) -> Json:
    due = org.clock.now() + timedelta(days=random.randint(-60, 60))
    return {
        "Name": f"INV-{org.numbers:06}",
        "Account__c": _drawn(org, ACCOUNT, random),
        "Amount__c": round(random.uniform(10, 9_000), 2),
        "Due__c": f"{due:%Y-%m-%d}",
        "Paid__c": random.random() < 0.5,
        # Commas, quotes and line ends are what a CSV file is tried by.
        **_maybe(random, {"Notes__c": f'"{sentence(random)}",\n{random.choice(TOPICS)}'}),
    }


def _shipment(org: Org, random: Random) -> Json:
    return {
        "Name": f"SHP-{org.numbers:06}",
        "Account__c": _drawn(org, ACCOUNT, random),
        "Carrier__c": random.choice(CARRIERS),
        **_maybe(
            random,
            {
                "Weight__c": round(random.uniform(0.1, 900), 3),
                "Sent__c": stamp(org.clock.now() - timedelta(hours=random.randint(1, 500))),
            },
        ),
    }


MAKERS: dict[Kind, Callable[[Org, Random], Json]] = {
    USER: _user,
    ACCOUNT: _account,
    CONTACT: _contact,
    LEAD: _lead,
    OPPORTUNITY: _opportunity,
    INVOICE: _invoice,
    SHIPMENT: _shipment,
}


def _retouched(org: Org, kind: Kind, random: Random) -> Json:
    """A few fields set anew, now and then one emptied."""
    fresh = MAKERS[kind](org, random)
    fixed = ("Username", "Name", *kind.needed)
    names = [name for name in kind.writable if name not in fixed and name != "OwnerId"]
    chosen = random.sample(names, k=random.randint(1, 2))
    if kind is USER and random.random() < 0.3:
        return {"IsActive": False}
    booleans = {name: random.random() < 0.5 for name in chosen if kind.fields[name] == "boolean"}
    return {**{name: fresh.get(name) for name in chosen}, **booleans}
