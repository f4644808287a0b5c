"""What a Zoho organisation has: modules with their fields and records, users, page tokens.

Times are in whole seconds, with the offset of the organisation's time zone.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from sandbox.kernel.values import Json, RefusedError, Seed

ZONE = timezone(timedelta(hours=5, minutes=30))
STREAM_OF = {"Leads": "leads", "Contacts": "contacts", "Accounts": "accounts", "Deals": "deals"}
MODULE_OF = {stream: module for module, stream in STREAM_OF.items()}
# So long the recycle bin keeps a record.
KEPT = timedelta(days=60)


def written(at: datetime) -> str:
    return at.astimezone(ZONE).isoformat(timespec="seconds")


@dataclass
class Module:
    """A module. Of its records some are `hidden` from who consented, some are `waiting` for an
    approval; `deleted` is what the recycle bin has, where the module `lists_deleted`."""

    id: str
    name: str
    kind: str = "default"
    api_supported: bool = True
    lists_deleted: bool = True
    fields: list[Json] = field(default_factory=list)
    records: dict[str, Json] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    deleted: list[Json] = field(default_factory=list)
    refused: bool = False

    def shown(self) -> Iterator[Json]:
        return (row for id_, row in self.records.items() if id_ not in self.hidden)


@dataclass
class Org:
    """An organisation; `tokens` are the places for which page tokens were handed out."""

    seed: Seed
    modules: dict[str, Module] = field(default_factory=dict)
    users: dict[str, Json] = field(default_factory=dict)
    tokens: dict[str, Json] = field(default_factory=dict)
    number: int = 0

    def new_id(self) -> str:
        """Ids of an organisation begin alike and grow."""
        self.number += 1
        return f"{self.seed.account_id[:6]}{self.number:013d}"

    def now(self) -> datetime:
        return self.seed.clock.now().replace(microsecond=0)

    def others(self) -> Iterable[Module]:
        """The modules that have no stream of their own."""
        return (
            module
            for module in self.modules.values()
            if module.api_supported and module.name not in STREAM_OF
        )

    def place(self, stream: str, key: str) -> tuple[Module, str]:
        """The module of a record, and its id there."""
        if stream in MODULE_OF:
            return self.modules[MODULE_OF[stream]], key
        name, _, id_ = key.partition(":")
        if name not in self.modules:
            raise RefusedError(f"no module {name!r}; there are: {', '.join(self.modules)}")
        return self.modules[name], id_

    def keep(self, module: Module, record: Json, operation: str) -> str:
        """Saves a record as it is now, and tells of it."""
        if not self.users:
            raise RefusedError("an organisation without users changes nothing", status=409)
        module.records[record["id"]] = {**record, "Modified_Time": written(self.now())}
        self.tell(module, operation, record["id"])
        return str(record["id"])

    def bin(self, module: Module, id_: str) -> None:
        record = module.records.pop(id_)
        module.waiting.discard(id_)
        who = next({"name": user["full_name"], "id": id_} for id_, user in self.users.items())
        tombstone = {
            "deleted_by": who,
            "id": id_,
            "display_name": next(
                (str(v) for k, v in record.items() if "Name" in k and isinstance(v, str)), id_
            ),
            "type": "recycle",
            "created_by": record.get("Owner"),
            "deleted_time": written(self.now()),
        }
        module.deleted.append(tombstone)
        self.tell(module, "delete", id_)

    def tell(self, module: Module, operation: str, id_: str) -> None:
        self.seed.tell({"module": module.name, "operation": operation, "ids": [id_]})


def store(org: Org, stream: str) -> dict[str, Json]:
    match stream:
        case "users":
            return dict(org.users)
        case "modules":
            return {module.id: described(module) for module in org.modules.values()}
        case "fields":
            return {
                f"{module.name}:{each['id']}": {"module": module.name, **each}
                for module in org.modules.values()
                if module.api_supported
                for each in module.fields
            }
        case "records":
            return {
                f"{module.name}:{row['id']}": {"module": module.name, **row}
                for module in org.others()
                for row in module.shown()
            }
        case "deleted_records":
            return {
                f"{module.name}:{row['id']}": {"module": module.name, **row}
                for module in org.modules.values()
                if module.lists_deleted and module.api_supported
                for row in in_bin(org, module)
            }
    return {row["id"]: row for row in org.modules[MODULE_OF[stream]].shown()}


def in_bin(org: Org, module: Module) -> list[Json]:
    """What the list of deletions still tells of, the newest first."""
    oldest = org.now() - KEPT
    return [row for row in reversed(module.deleted) if moment(row["deleted_time"]) >= oldest]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def described(module: Module) -> Json:
    """A module as the list of modules shows it."""
    title = module.name.replace("_", " ")
    return {
        "id": module.id,
        "api_name": module.name,
        "module_name": module.name,
        "singular_label": title.removesuffix("s"),
        "plural_label": title,
        "generated_type": module.kind,
        "api_supported": module.api_supported,
        "creatable": True,
        "editable": True,
        "deletable": True,
        "viewable": True,
        "visible": True,
        "show_as_tab": True,
        "status": "visible",
        "sequence_number": 1,
        "modified_time": None,
        "modified_by": None,
        "profiles": [],
    }
