"""What is made up in a Zoho organisation: modules, fields, records and users; and what changes."""

from datetime import datetime
from random import Random
from typing import Any

from sandbox.kernel import data
from sandbox.kernel.fields import typed
from sandbox.kernel.mutations import Mutations, refuse_unknown
from sandbox.kernel.values import Change, Json, RefusedError, Seed
from sandbox.zoho_crm.store import MODULE_OF, STREAM_OF, Module, Org, written

# Fields by module, each with its data_type; all have an owner and two times besides.
CUSTOM = " ".join(f"Measure_{number}:double" for number in range(1, 46))
MODULES = {
    "Leads": "First_Name:text Last_Name:text Email:email Phone:phone Company:text "
    "Lead_Status:picklist Lead_Source:picklist Converted__s:boolean",
    # More fields than one call may name.
    "Contacts": "First_Name:text Last_Name:text Email:email Phone:phone Title:text "
    f"Account_Name:lookup Description:textarea {CUSTOM}",
    "Accounts": "Account_Name:text Website:website Phone:phone Industry:picklist "
    "Employees:integer Annual_Revenue:currency Billing_City:text Billing_Country:text",
    "Deals": "Deal_Name:text Account_Name:lookup Stage:picklist Amount:currency "
    "Probability:integer Closing_Date:date Pipeline:picklist",
    "Tasks": "Subject:text Status:picklist Priority:picklist Due_Date:date",
    "Notes": "Note_Title:text Note_Content:textarea",
    "Products": "Product_Name:text Unit_Price:currency Product_Active:boolean",
    "Invoices": "Subject:text Status:picklist Grand_Total:currency Due_Date:date",
    "Projects": "Name:text Kick_off:date Budget:currency",
}
CUSTOM_MODULES = ("Projects",)
NO_LIST_OF_DELETIONS = ("Notes",)
NOT_FOR_APPS = ("Reports", "Home")
SYSTEM = "Owner:ownerlookup Created_Time:datetime Modified_Time:datetime"
JSON_TYPES = {
    "lookup": "jsonobject", "ownerlookup": "jsonobject", "boolean": "boolean",
    "integer": "integer", "double": "double", "currency": "double",
}  # fmt: skip
CHOICES = ("New", "Open", "Attempted", "Qualified", "Closed")
SHARES = {"Leads": 1.0, "Contacts": 0.8, "Accounts": 0.4, "Deals": 0.6}
UNSET = frozenset({"Created_Time", "Modified_Time"})


def new(seed: Seed) -> Org:
    org, random = Org(seed), seed.random
    for _ in range(seed.length(0.1)):
        _add_user(org, random, data.moment(random, seed.clock.now()))
    for name, fields in MODULES.items():
        kind = "custom" if name in CUSTOM_MODULES else "default"
        module = Module(org.new_id(), name, kind, lists_deleted=name not in NO_LIST_OF_DELETIONS)
        module.fields = [
            _field(org, field, type_) for field, type_ in typed(f"{fields} {SYSTEM}").items()
        ]
        org.modules[name] = module
    for name in NOT_FOR_APPS:
        org.modules[name] = Module(org.new_id(), name, api_supported=False)
    for module in org.modules.values():
        if module.api_supported:
            _fill(org, module, random)
    return org


def _fill(org: Org, module: Module, random: Random) -> None:
    """Some of its records were made by one import, within a second."""
    imported = data.moment(random, org.now())
    for number in range(org.seed.length(SHARES.get(module.name, 0.1))):
        at = imported if number % 5 == 0 else data.moment(random, org.now())
        row = _row(org, module, {}, random)
        row |= {"Created_Time": written(at), "Modified_Time": written(at)}
        module.records[row["id"]] = row
        if number % 7 == 3:
            module.waiting.add(row["id"])


def _field(org: Org, name: str, type_: str) -> Json:
    field = {
        "id": org.new_id(),
        "api_name": name,
        "field_label": name.replace("_", " "),
        "data_type": type_,
        "json_type": JSON_TYPES.get(type_, "string"),
        "length": 120,
        "custom_field": name.startswith("Measure_"),
        "visible": True,
        "read_only": False,
        "system_mandatory": name in ("Last_Name", "Deal_Name"),
    }
    if type_ == "ownerlookup":  # not every field says it
        del field["json_type"]
    return field


def _value(org: Org, name: str, type_: str, random: Random) -> Any:
    first, last = data.person(random)
    match type_:
        case "email":
            return f"{data.plain(first)}.{data.plain(last)}@{data.domain(data.firm(random))}"
        case "phone":
            return data.phone(random)
        case "website":
            return f"https://{data.domain(data.firm(random))}"
        case "picklist":
            return random.choice(CHOICES)
        case "boolean":
            return random.random() < 0.3
        case "integer":
            return random.randint(0, 5_000)
        case "double" | "currency":
            return round(random.uniform(0, 90_000), 2)
        case "date":
            return f"2026-{random.randint(1, 12):02d}-{random.randint(1, 28):02d}"
        case "textarea":
            return data.sentence(random)
        case "ownerlookup":
            id_, user = random.choice(list(org.users.items()))
            return {"name": user["full_name"], "id": id_, "email": user["email"]}
        case "lookup":
            accounts = list(org.modules["Accounts"].records.values())
            found = random.choice(accounts) if accounts else None
            return found and {"name": found["Account_Name"], "id": found["id"]}
    if "First" in name or "Last" in name:
        return first if "First" in name else last
    return data.firm(random) if "Name" in name else random.choice(data.TOPICS)


def _row(org: Org, module: Module, given: Json, random: Random) -> Json:
    values = {
        field["api_name"]: _value(org, field["api_name"], field["data_type"], random)
        for field in module.fields
        if field["api_name"] not in UNSET
    }
    now = written(org.now())
    return {**values, "Created_Time": now, "Modified_Time": now, **given, "id": org.new_id()}


def _add_user(org: Org, random: Random, at: datetime) -> str:
    first, last = data.person(random)
    id_ = org.new_id()
    org.users[id_] = {
        "id": id_,
        "first_name": first,
        "last_name": last,
        "full_name": f"{first} {last}",
        "email": f"{data.plain(first)}.{id_[-4:]}@{data.domain(data.firm(random))}",
        "status": "active",
        "confirm": True,
        "role": {"name": random.choice(data.JOBS), "id": org.new_id()},
        "profile": {"name": "Standard", "id": org.new_id()},
        "time_zone": "Asia/Kolkata",
        "zuid": str(random.randint(10**8, 10**9)),
        "created_time": written(at),
        "Modified_Time": written(at),
    }
    return id_


# -- What changes ---------------------------------------------------------------------------------


def there(org: Org, stream: str) -> list[str]:
    if stream == "users":
        return list(org.users)
    if stream in MODULE_OF:
        return _open(org.modules[MODULE_OF[stream]])
    return [f"{module.name}:{id_}" for module in org.others() for id_ in _open(module)]


def _open(module: Module) -> list[str]:
    """What somebody changes is neither hidden nor in a module that is refused."""
    return [] if module.refused else [row["id"] for row in module.shown()]


MUTATIONS = Mutations[Org](there=there)
STREAMS = (*STREAM_OF.values(), "records")


@MUTATIONS.of(STREAMS, "add")
def _add(org: Org, change: Change) -> str:
    given = dict(change.record)
    name = MODULE_OF.get(change.stream) or given.pop("module", None)
    open_ = [module.name for module in org.others() if not module.refused]
    module, _ = org.place("records", f"{name or change.random.choice(open_)}:")
    _check(module, given)
    if not org.users:
        _add_user(org, change.random, org.now())
    id_ = org.keep(module, _row(org, module, given, change.random), "insert")
    return id_ if change.stream in MODULE_OF else f"{module.name}:{id_}"


@MUTATIONS.of(STREAMS, "change")
def _change(org: Org, change: Change) -> None:
    module, id_ = org.place(change.stream, str(change.id))
    _check(module, change.record)
    former, given = module.records[id_], dict(change.record)
    if not given:
        field = change.random.choice(
            [each for each in module.fields if each["data_type"] in ("text", "currency", "double")]
        )
        given = {field["api_name"]: _value(org, field["api_name"], field["data_type"],
                                           change.random)}  # fmt: skip
        if given.items() <= former.items():
            given = {field["api_name"]: f"{change.random.getrandbits(64):x}"}
    org.keep(module, {**former, **given}, "update")


@MUTATIONS.of(STREAMS, "delete")
def _delete(org: Org, change: Change) -> None:
    org.bin(*org.place(change.stream, str(change.id)))


@MUTATIONS.of("users", "add", "change")
def _change_user(org: Org, change: Change) -> str:
    refuse_unknown("users", change.record, ("full_name", "email", "status"))
    id_ = change.id or _add_user(org, change.random, org.now())
    user = org.users[id_]
    other = "deleted" if user["status"] == "active" else "active"
    given = change.record or ({} if change.op == "add" else {"status": other})
    org.users[id_] = {**user, **given, "Modified_Time": written(org.now())}
    return id_


def _check(module: Module, given: Json) -> None:
    known = [field["api_name"] for field in module.fields if field["api_name"] not in UNSET]
    refuse_unknown(module.name, given, known)
    if not module.api_supported:
        raise RefusedError(f"{module.name} has no records", status=409)
