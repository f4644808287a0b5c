"""Outlook on loopback: a person's mail, calendar and contacts, through Graph.

https://learn.microsoft.com/graph/outlook-mail-concept-overview

Longer than 700 lines: folders with a delta each, series and occurrences, attachments, contacts,
and subscriptions with their lifecycle.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from starlette.responses import Response

from sandbox import _microsoft
from sandbox._microsoft import AUTH, GRAPH, invalid, missing, problem
from sandbox._microsoft.odata import Entry, Feed, View, condition, delta, listing, resync
from sandbox._microsoft.subscriptions import ROUTES as SUBSCRIPTIONS
from sandbox._microsoft.subscriptions import Changed, lifecycle, sender
from sandbox.kernel.fields import without
from sandbox.kernel.oauth import Call
from sandbox.kernel.values import Answer, Json, RefusedError, reply
from sandbox.kernel.vendor import Limit, Route, Vendor
from sandbox.outlook.seed import MUTATIONS, alterable, new, there_and_back
from sandbox.outlook.store import (
    Folder,
    Mailbox,
    Message,
    Told,
    default_id,
    filled,
    folder_shown,
    immutable_id,
    in_view,
    message_shown,
    removed,
    store,
)

DEFAULT, MOST = 10, 1000
REFERENCES = ("id", "seriesMasterId")
# What the delta of a calendar view takes none of.
NOT_HERE = ("$select", "$expand", "$filter", "$orderby", "$search")

Handler: TypeAlias = Callable[[Call, Mailbox], Response]


def folders(call: Call, box: Mailbox) -> Response:
    """Those right below the root, or below another; hidden ones only when they are asked for."""
    above = _folder(call, box).id if "folder" in call.params else box.root_id
    hidden = call.query.get("includeHiddenFolders", "").lower() == "true"
    rows = [each for each in box.within(above) if hidden or not each.hidden]
    shown = [folder_shown(box, each) for each in rows]
    return listing(call, shown, context="mailFolders", default=DEFAULT, most=MOST)


def folder(call: Call, box: Mailbox) -> Response:
    return reply(folder_shown(box, _folder(call, box)))


def folder_changes(call: Call, box: Mailbox) -> Response:
    """Nested and hidden folders are among them."""

    def shape(row: Json) -> Json:
        held = box.folders.get(row["id"])
        return {**folder_shown(box, held), **row} if held else row

    return _delta(call, box, box.folder_feed, "mailFolders", shape=shape)


def messages(call: Call, box: Mailbox) -> Response:
    inside = _folder(call, box).id if "folder" in call.params else None
    held = [one for one in box.messages.values() if inside in (None, one.folder_id)]
    rows = [_seen(call, message_shown(one), one.moves) for one in held]
    return listing(call, rows, context="messages", default=DEFAULT, most=MOST)


def message(call: Call, box: Mailbox) -> Response:
    one = _message(call, box)
    return reply(_seen(call, message_shown(one), one.moves))


def attachments(call: Call, box: Mailbox) -> Response:
    rows = list(_message(call, box).files.values())
    return listing(call, rows, context="attachments", default=DEFAULT, most=MOST)


def message_changes(call: Call, box: Mailbox) -> Response:
    """One delta for each folder. That a filter gives no more than 5,000 messages is left out."""
    if call.query.get("$orderby", "receivedDateTime desc") != "receivedDateTime desc":
        raise invalid(call, "Only receivedDateTime desc is supported.")

    def narrow(options: Mapping[str, str]) -> Callable[[Json], Json | None]:
        fits = condition(call, {"receivedDateTime": ("ge", "gt")}, options.get("$filter", ""))
        return lambda row: row if fits(row) else None

    folder_id = _folder(call, box).id
    if folder_id in box.refused:
        text = "Access is denied. Check credentials and try again."
        raise Answer(problem(call, 403, "ErrorAccessDenied", text))
    feed = box.message_feeds[folder_id]
    return _delta(call, box, feed, "messages", narrow=narrow)


def events(call: Call, box: Mailbox) -> Response:
    start, end = _window(call, call.query)
    held = [one for one in box.events.values() if in_view(one, start, end)]
    # The view has the occurrences of a series, and not the series.
    rows = [filled(box, one) for one in held if one["type"] != "seriesMaster"]
    return listing(call, rows, context="calendarView", default=DEFAULT, most=MOST)


def event(call: Call, box: Mailbox) -> Response:
    held = box.events.get(immutable_id(call.params["id"])[0])
    if held is None:
        raise missing(call, "ErrorItemNotFound")
    return reply(_seen(call, filled(box, held)))


def event_changes(call: Call, box: Mailbox) -> Response:
    """What changes outside of the window is told as if it were gone."""
    if refused := [name for name in NOT_HERE if name in call.query]:
        raise invalid(call, f"{refused[0]} is not supported with change tracking over events.")

    def view(feed: Feed, options: Mapping[str, str]) -> Feed:
        start, end = _window(call, options)

        def windowed(entry: Entry) -> Entry:
            if entry.gone or in_view(entry.shown, start, end):
                return entry
            return replace(entry, gone=True, shown=removed(entry.id))

        return replace(feed, entries=[windowed(entry) for entry in feed.entries])

    return _delta(call, box, box.event_feed, "events", view=view)


def contacts(call: Call, box: Mailbox) -> Response:
    rows = [_seen(call, one) for one in box.contacts.values()]
    return listing(call, rows, context="contacts", default=DEFAULT, most=MOST)


def contact(call: Call, box: Mailbox) -> Response:
    held = box.contacts.get(immutable_id(call.params["id"])[0])
    if held is None:
        raise missing(call, "ErrorItemNotFound")
    return reply(_seen(call, held))


def contact_changes(call: Call, box: Mailbox) -> Response:
    return _delta(call, box, box.contact_feed, "contacts")


def _delta(
    call: Call,
    box: Mailbox,
    feed: Feed,
    collection: str,
    *,
    view: View = lambda feed, options: feed,
    **options: Any,
) -> Response:
    """A page of one of the mailbox's deltas, with ids as this very call asks for them."""

    def seen(feed: Feed, given: Mapping[str, str]) -> Feed:
        found = view(feed, given)
        shown = [replace(each, shown=_seen(call, each.shown)) for each in found.entries]
        return replace(found, entries=shown)

    return delta(
        call,
        replace(feed, refusal=box.folder_feed.refusal),
        context=f"Collection({collection})",
        default=DEFAULT,
        most=MOST,
        view=seen if collection != "mailFolders" else view,
        **options,
    )


def _seen(call: Call, row: Json, moves: int = 0) -> Json:
    """A row with the kind of ids that the call asks for; a link does not remember it."""
    moves = int(row.get("_moves", moves))
    shown = without(row, "_moves")
    if 'idtype="immutableid"' in call.headers.get("prefer", "").lower():
        return shown
    return shown | {name: default_id(shown[name], moves) for name in REFERENCES if shown.get(name)}


def _window(call: Call, options: Mapping[str, str]) -> tuple[datetime, datetime]:
    found = []
    for name in ("startDateTime", "endDateTime"):
        try:
            at = datetime.fromisoformat(options.get(name, ""))
        except ValueError:
            raise invalid(call, f"This request requires a {name}.") from None
        found.append(at if at.tzinfo else at.replace(tzinfo=UTC))
    return found[0], found[1]


def _folder(call: Call, box: Mailbox) -> Folder:
    found = box.folder(call.params["folder"])
    if found is None:
        raise missing(call, "ErrorItemNotFound")
    return found


def _message(call: Call, box: Mailbox) -> Message:
    id_, moves = immutable_id(call.params["id"])
    found = box.messages.get(id_)
    if found is None or moves not in (None, found.moves):
        raise missing(call, "ErrorItemNotFound")
    return found


def _of_the_caller(handler: Handler) -> Callable[[Call], Response]:
    """The handler on the caller's own mailbox, if they have one."""

    def answer(call: Call) -> Response:
        box: Mailbox = call.state
        if not box.provisioned:
            text = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
            raise Answer(problem(call, 404, "MailboxNotEnabledForRESTAPI", text))
        return handler(call, box)

    return answer


MAIL, MAIL_BASICS = ("Mail.Read",), ("Mail.Read", "Mail.ReadBasic")
CALENDAR, CONTACTS = ("Calendars.Read",), ("Contacts.Read",)
TABLE: tuple[tuple[str, Handler, tuple[str, ...]], ...] = (
    ("/me/mailFolders", folders, MAIL_BASICS),
    ("/me/mailFolders/delta", folder_changes, MAIL_BASICS),
    ("/me/mailFolders/delta()", folder_changes, MAIL_BASICS),
    ("/me/mailFolders/{folder}", folder, MAIL_BASICS),
    ("/me/mailFolders/{folder}/childFolders", folders, MAIL_BASICS),
    ("/me/mailFolders/{folder}/messages", messages, MAIL),
    ("/me/mailFolders/{folder}/messages/delta", message_changes, MAIL),
    ("/me/mailFolders/{folder}/messages/delta()", message_changes, MAIL),
    ("/me/messages", messages, MAIL),
    ("/me/messages/{id}", message, MAIL),
    ("/me/messages/{id}/attachments", attachments, MAIL),
    ("/me/calendarView", events, CALENDAR),
    ("/me/calendarView/delta", event_changes, CALENDAR),
    ("/me/calendarView/delta()", event_changes, CALENDAR),
    ("/me/events/{id}", event, CALENDAR),
    ("/me/contacts", contacts, CONTACTS),
    ("/me/contacts/delta", contact_changes, CONTACTS),
    ("/me/contacts/delta()", contact_changes, CONTACTS),
    ("/me/contacts/{id}", contact, CONTACTS),
)
ROUTES = tuple(
    Route("GET", GRAPH, f"/v1.0{path}", _of_the_caller(handler), scopes=scopes)
    for path, handler, scopes in TABLE
)


def _cost(call: Call) -> int:
    return int(any(route.pattern.fullmatch(call.path) for route in ROUTES))


def concerns(resource: str, changed: Changed) -> bool:
    """Whether a watch of that resource hears of it: by its kind, and its folder if it names one."""
    if changed.data is None or not isinstance(changed, Told):
        return False
    kind = changed.data["@odata.type"].rpartition(".")[2].lower()
    if not resource.lower().endswith(f"{kind}s"):
        return False
    _, named, rest = resource.partition("mailFolders")
    where = rest.removesuffix("messages").strip("/()'")
    return not named or where in changed.folders


def provision(box: Mailbox, body: Json) -> Json:
    """Whether the account has a mailbox that Graph can read."""
    if not isinstance(body.get("provisioned"), bool):
        raise RefusedError("say whether it has a mailbox", status=400)
    box.provisioned = body["provisioned"]
    return {"provisioned": box.provisioned}


def refuse_part(box: Mailbox, body: Json) -> Json:
    """The messages of the fullest folder that stays are refused from now on, or shown again."""
    stream = body.get("stream")
    if not isinstance(body.get("on"), bool):
        raise RefusedError("name a stream, and whether a part of it is refused")
    keys = list(store(box, stream)) if stream in ("messages", "attachments") else []
    folders = [key.partition("/")[0] for key in keys]
    folders = [id_ for id_ in folders if box.folders[id_].known_as]
    if not folders:
        return {"keys": [], "part": ""}
    part = next(iter(box.refused), max(sorted(set(folders)), key=folders.count))
    box.refused = {part} if body["on"] else set()
    return {"keys": [key for key in keys if key.startswith(f"{part}/")], "part": part}


def move_there_and_back(box: Mailbox, body: Json) -> Json:
    """A message leaves its folder and comes back, between two rounds of a client."""
    key = str(body.get("message", ""))
    if key not in store(box, "messages"):
        raise RefusedError("name a message as folder/id")
    return {"message": there_and_back(box, key)}


def expire(box: Mailbox) -> None:
    for feed in box.feeds():
        feed.expire()


vendor = Vendor(
    name="outlook",
    title="Outlook",
    base_url=f"https://{GRAPH}/v1.0",
    auth=AUTH,
    routes=(*_microsoft.ROUTES, *SUBSCRIPTIONS, *ROUTES),
    streams=("mail_folders", "messages", "attachments", "events", "contacts"),
    mutable=MUTATIONS.mutable,
    new=new,
    store=store,
    apply=MUTATIONS.apply,
    alterable=alterable,
    trouble=_microsoft.trouble(denied="ErrorAccessDenied", throttled="ApplicationThrottled"),
    limits=(Limit("requests", 10_000, 600.0, _cost),),
    expire_checkpoints=expire,
    account_controls={
        "admin_consent": _microsoft.admin_consent,
        "lifecycle": lifecycle,
        "provision": provision,
        "refuse_part": refuse_part,
        "there_and_back": move_there_and_back,
        "resync": resync(lambda box: box.folder_feed),
    },
    extras=_microsoft.extras,
    webhook=sender("outlook", concerns),
)
