"""What a Zoho organisation has: its modules, their fields, and its users.

https://www.zoho.com/crm/developer/docs/api/v8/modules-api.html
"""

from connectors import Calls, Checkpoint, Context, Page, Reader, Record, Request, Response, ask
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.parts import Parts, each_part

PAGE = 200
# Each of these has a stream of its own.
STREAM_OF = {"Leads": "leads", "Contacts": "contacts", "Accounts": "accounts", "Deals": "deals"}
# What is called a module and has no records of its own: Activities are tasks, events and calls.
WITHOUT_RECORDS = frozenset(
    {"Home", "Feeds", "Reports", "Dashboards", "Analytics", "Documents", "Visits", "Social"}
    | {"SalesInbox", "Approvals", "Activities", "Attachments", "Emails", "Actions_Performed"}
)
# The rows of a subform are part of their record.
WITH_RECORDS = ("default", "custom", "linking")
USERS = ("ActiveUsers", "DeactiveUsers")
# Of a user, what is another thing at each read: whether somebody is signed in, and when on duty.
PASSING = ("Isonline", "$current_shift", "$next_shift", "$shift_effective_from")


def rows(response: Response, path: str) -> list[Record]:
    """The rows of an answer: 204 (none at all) and 304 (none that changed) have no body."""
    return [] if response.status in (204, 304) else rows_of(response, path)


def has_more(response: Response) -> bool:
    return bool(response.json) and bool(response.json["info"]["more_records"])


def module_names() -> Calls[list[str]]:
    """The modules whose records can be read, custom ones too; not in every edition all others."""
    response = yield from ask(Request.get("/settings/modules"))
    return sorted(
        module["api_name"]
        for module in rows(response, "modules")
        if module["api_supported"]
        and module["generated_type"] in WITH_RECORDS
        and module["api_name"] not in WITHOUT_RECORDS
    )


def every_module(context: Context) -> Calls[Parts]:
    """One that is not listed may have been deleted, or is no longer shown: nothing tells which."""
    return Parts((yield from module_names()), hidden=True)


def other_modules(context: Context) -> Calls[Parts]:
    """Those without a stream of their own."""
    names = yield from module_names()
    return Parts([name for name in names if name not in STREAM_OF], hidden=True)


def fields_of(module: str) -> Calls[list[Record]]:
    """The fields of a module that who connected may see."""
    response = yield from ask(Request.get("/settings/fields", params={"module": module}))
    return rows(response, "fields")


def read_modules(at: Checkpoint, context: Context) -> Reader:
    response = yield from ask(Request.get("/settings/modules"))
    yield Page(rows(response, "modules"), Checkpoint())


def _read_fields(module: str) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        found = [{"module": module, **field} for field in (yield from fields_of(module))]
        yield Page(found, Checkpoint())

    return read


def field_key(field: Record) -> str:
    return f"{field['module']}:{field['id']}"


read_fields = each_part(every_module, _read_fields, prefix=lambda module: f"{module}:")


def _types(context: Context) -> Calls[Parts]:
    yield from ()
    return Parts(USERS)


def _users(type_: str) -> Read:
    def read(at: Checkpoint, context: Context) -> Reader:
        page, more = 1, True
        while more:
            params = {"type": type_, "page": page, "per_page": PAGE}
            response = yield from ask(Request.get("/users", params=params))
            page, more = page + 1, has_more(response)
            yield Page([_lasting(user) for user in rows(response, "users")], Checkpoint())

    return read


def _lasting(user: Record) -> Record:
    return {name: value for name, value in user.items() if name not in PASSING}


# Those who work now, and those who left and whose records name them.
read_users = each_part(_types, _users)
