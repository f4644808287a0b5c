"""What people reported of programs that read OneDrive through Microsoft Graph, played on ours."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    Page,
    Record,
    Request,
    Response,
    RetryableError,
    Stream,
    load,
)
from connectors._microsoft import GRAPH
from tests._driving import NOW, drive, held
from tests.reports._graph import client, error, page, told

ONEDRIVE = load("onedrive")
ITEMS, PERMISSIONS = ONEDRIVE.stream("drive_items"), ONEDRIVE.stream("permissions")
DELTA = "/me/drive/root/delta"
Answer = Response | Callable[[Request], Response]


def link(token: str) -> str:
    return f"{GRAPH}{DELTA}?token={token}"


def item(id_: str, parent: str = "AB!0", drive_id: str = "ab", **more: Any) -> Record:
    return {
        "id": id_,
        "name": f"{id_}.txt",
        "file": {"mimeType": "text/plain"},
        "parentReference": {"driveId": drive_id, "id": parent},
        **more,
    }


def gone(id_: str) -> Record:
    return {"id": id_, "deleted": {"state": "deleted"}}


def cabinet(
    first: Answer,
    later: Mapping[str, Answer] | None = None,
    grants: Mapping[str, Answer] | None = None,
) -> Callable[[Request], Response]:
    """A drive: its delta, what its links lead to, and the permissions of its items."""
    owner = page({"id": "own", "roles": ["owner"]})

    def answer(request: Request) -> Response:
        found: Answer
        if request.path.endswith("/permissions"):
            id_ = request.path.split("/items/")[1].removesuffix("/permissions")
            found = (grants or {}).get(id_, owner)
        elif request.path == DELTA and request.params.get("token") == "latest":
            found = page(delta=link("latest"))
        elif request.path == DELTA:
            found = first
        elif later is not None and request.path in later:
            found = later[request.path]
        else:
            # What came before the first listing leads to what comes after it.
            found = page(delta=link("1" if request.path == link("latest") else "end"))
        return found if isinstance(found, Response) else found(request)

    return client(ONEDRIVE, answer)


def rounds(
    stream: Stream,
    play: Callable[[Request], Response],
    *,
    count: int,
    every: timedelta = timedelta(hours=1),
    rows: dict[str, Record] | None = None,
    at: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Record], Checkpoint]:
    """So many polls, one after the other; what the vendor forgot is read from the start, and what
    passes by itself is tried again at the next one. What is held in the end."""
    rows, saved = dict(rows or {}), Checkpoint(at or {})
    for number in range(count):
        now = NOW + every * number
        reader = Kept(stream, play, rows)
        try:
            reader.read(saved, now)
        except CheckpointExpiredError:
            # A read from the start: what it does not meet is gone.
            rows = {}
            reader = Kept(stream, play, rows)
            reader.read(Checkpoint(), now)
        except RetryableError:
            pass
        rows, saved = reader.rows, reader.saved or saved
    return rows, saved


class Kept:
    """What is stored, page after page, of a read that may fail amid."""

    def __init__(
        self, stream: Stream, play: Callable[[Request], Response], rows: dict[str, Record]
    ) -> None:
        self.stream, self.play, self.rows = stream, play, rows
        self.saved: Checkpoint | None = None

    def read(self, at: Checkpoint, now: Any) -> None:
        def noted(at: Checkpoint, context: Any) -> Any:
            reader = self.stream.read(at, context)
            sent: Any = None
            while True:
                try:
                    failed = isinstance(sent, Exception)
                    step = reader.throw(sent) if failed else reader.send(sent)
                except StopIteration:
                    return
                if isinstance(step, Page):
                    self.rows = held(self.stream, [step], self.rows)
                    self.saved = step.checkpoint
                try:
                    sent = yield step
                except ConnectorError as problem:
                    sent = problem

        drive(noted, self.play, at, now=now)


def test_an_item_that_is_made_and_deleted_within_one_listing_is_gone() -> None:
    """An item was on one page of a delta and deleted on a later one of the same.
    alcionai/corso#2917, 2023-03."""
    later = {link("2"): page(gone("AB!1"), item("AB!2"), delta=link("end"))}
    pages = drive(ITEMS.read, cabinet(page(item("AB!1"), next=link("2")), later))
    assert set(held(ITEMS, pages)) == {"AB!2"}


def test_items_whose_deletion_was_never_told_are_looked_for_every_week() -> None:
    """After many deletions at once the delta left out some of the tombstones, for good.
    OneDrive/onedrive-api-docs#1927, 2026-06."""
    assert ITEMS.hides_deletes


def test_an_item_that_comes_several_times_counts_as_it_comes_last() -> None:
    """A full scan held one item several times and failed. takezoh/obsidian-air-sync#88, 2026-09."""
    later = {link("2"): page(item("AB!1", name="third"), delta=link("end"))}
    first = page(item("AB!1", name="first"), item("AB!1", name="second"), next=link("2"))
    rows = held(ITEMS, drive(ITEMS.read, cabinet(first, later)))
    assert [row["name"] for row in rows.values()] == ["third"]


def test_a_folder_that_was_made_anew_stays_though_the_old_ones_deletion_comes_last() -> None:
    """A folder was deleted and one of its name made; the delta told of the new one first and of
    the deletion last. abraunegg/onedrive#154, 2018-09."""
    first = page(item("AB!1", name="docs", folder={}), delta=link("1"))
    later = {link("1"): page(item("AB!9", name="docs", folder={}), gone("AB!1"), delta=link("end"))}
    rows, _ = rounds(ITEMS, cabinet(first, later), count=2)
    assert set(rows) == {"AB!9"}


def test_a_next_link_that_is_not_found_amid_the_listing_starts_it_over() -> None:
    """After eighty pages a next link was answered 404 itemNotFound.
    OneDrive/onedrive-api-docs#1476, 2021-04."""
    later = {link("2"): error(404, "itemNotFound", "Item does not exist")}
    with pytest.raises(CheckpointExpiredError):
        drive(ITEMS.read, cabinet(page(item("AB!1"), next=link("2")), later))


def test_a_listing_that_starts_over_does_not_need_the_address_that_was_named_for_it() -> None:
    """410 named a Location to begin from, and that was answered 500.
    OneDrive/onedrive-api-docs#249, 2015-11."""
    lapsed = error(410, "resyncRequired", location=link("broken"))
    later = {link("1"): lapsed, link("broken"): error(500, "generalException")}
    play = cabinet(page(item("AB!2"), delta=link("end")), later)
    rows, _ = rounds(ITEMS, play, count=1, rows={"AB!1": item("AB!1")}, at={"link": link("1")})
    assert set(rows) == {"AB!2"}


@pytest.mark.parametrize("stream", [ITEMS, PERMISSIONS], ids=lambda stream: stream.name)
def test_a_delta_link_that_is_never_answered_is_given_up(stream: Stream) -> None:
    """After 40,000 new files the delta link was answered 504 at every try; a plain listing was
    given. microsoftgraph/microsoft-graph-docs#2531, 2018-04."""
    play = cabinet(page(item("AB!2"), delta=link("end")), {link("1"): error(504, "UnknownError")})
    rows, _ = rounds(stream, play, count=30, at={"link": link("1")})
    assert any(key.startswith("AB!2") for key in rows)


def test_a_delta_link_with_more_deletions_than_the_vendor_can_tell_is_given_up() -> None:
    """When more than a few files had been deleted the delta link was answered 500 "nextLink value
    without skip or skiptoken". microsoftgraph/microsoft-graph-docs#2497, 2018-04."""
    broken = error(500, "InternalServerError", "nextLink value without skip or skiptoken")
    play = cabinet(page(item("AB!2"), delta=link("end")), {link("1"): broken})
    kept = {"AB!1": item("AB!1"), "AB!2": item("AB!2")}
    rows, _ = rounds(ITEMS, play, count=30, rows=kept, at={"link": link("1")})
    assert set(rows) == {"AB!2"}


def test_a_vendor_that_is_away_for_an_hour_makes_nobody_read_all_again() -> None:
    """The other side of it: what passes within an hour is waited for, and the link is kept.
    microsoftgraph/microsoft-graph-docs#2531, 2018-04 (asked there: retry, or list all again?)."""
    asked: list[Request] = []

    def away(request: Request) -> Response:
        asked.append(request)
        if len(asked) < 12:
            return error(503, "serviceNotAvailable")
        return page(item("AB!3"), delta=link("end"))

    def never(request: Request) -> Response:
        raise AssertionError("all was read again")

    play = cabinet(never, {link("1"): away})
    every = timedelta(minutes=5)
    rows, _ = rounds(ITEMS, play, count=12, every=every, at={"link": link("1")})
    assert set(rows) == {"AB!3"}


def test_a_delta_that_gives_the_same_items_under_new_links_ends() -> None:
    """For weeks a delta gave the same items again and again, with a new next link each time.
    OneDrive/onedrive-api-docs#1424, 2021-01, and #1431, 2021-02."""
    asked: list[str] = []

    def again(request: Request) -> Response:
        asked.append(request.path)
        return page(item("AB!1"), item("AB!2"), next=link(str(len(asked))))

    class Anywhere(dict[str, Any]):
        def __contains__(self, key: object) -> bool:
            return True

        def __getitem__(self, key: str) -> Any:
            return again

    with pytest.raises(ContractError):
        drive(ITEMS.read, cabinet(again, Anywhere()))
    assert len(asked) < 10


def test_next_links_that_lead_back_end() -> None:
    """Next links referred to pages that came before, after dozens of pages.
    OneDrive/onedrive-api-docs#1620, 2022-08."""
    later = {
        link("2"): page(item("AB!2"), next=link("3")),
        link("3"): page(item("AB!3"), next=link("2")),
    }
    with pytest.raises(ContractError):
        drive(ITEMS.read, cabinet(page(item("AB!1"), next=link("2")), later))


def test_a_share_that_was_taken_back_goes_though_no_delta_tells_of_it() -> None:
    """A link was removed from a file, and the delta had nothing of it. Right: all is compared every
    week. OneDrive/onedrive-api-docs#937, 2018-10."""
    assert PERMISSIONS.hides_deletes
    first = page(item("AB!1"), delta=link("end"))
    grants = {"AB!1": page({"id": "own"}, {"id": "link"})}
    rows = held(PERMISSIONS, drive(PERMISSIONS.read, cabinet(first, grants=grants)))
    assert set(rows) == {"AB!1/own", "AB!1/link"}
    rows = held(PERMISSIONS, drive(PERMISSIONS.read, cabinet(first)), rows)
    assert set(rows) == {"AB!1/own"}


def test_a_person_who_is_added_to_a_link_comes_though_no_delta_tells_of_it() -> None:
    """A person was added to a link that a file had, and neither delta nor notification told of it.
    Right: all is compared every week. microsoftgraph/microsoft-graph-docs#15242, 2021-12."""
    assert PERMISSIONS.hides_deletes
    one = page({"id": "link", "grantedToIdentitiesV2": [{"user": {"id": "1"}}]})
    two = page({"id": "link", "grantedToIdentitiesV2": [{"user": {"id": "1"}}, {"user": {}}]})
    first = page(item("AB!1"), delta=link("end"))
    rows = held(PERMISSIONS, drive(PERMISSIONS.read, cabinet(first, grants={"AB!1": one})))
    play = cabinet(first, grants={"AB!1": two})
    rows = held(PERMISSIONS, drive(PERMISSIONS.read, play), rows)
    assert len(rows["AB!1/link"]["grantedToIdentitiesV2"]) == 2


def test_an_id_in_other_letters_is_the_same_item() -> None:
    """Ids of personal drives, and of what is in them, came now in capitals and now not.
    OneDrive/onedrive-api-docs#1902, 2025-06."""
    later = {
        link("1"): page(item("abc1!7", name="new"), item("abc1!8"), delta=link("2")),
        link("2"): page(gone("ABC1!8"), delta=link("end")),
    }
    play = cabinet(page(item("ABC1!7", name="old"), delta=link("1")), later)
    rows, _ = rounds(ITEMS, play, count=3)
    assert [row["name"] for row in rows.values()] == ["new"]


def test_an_id_that_lost_its_first_zero_is_the_same_item() -> None:
    """The id of a drive that begins with a zero came without it in some answers, in ids of items
    too. OneDrive/onedrive-api-docs#1890, 2025-02; abraunegg/onedrive#3115, 2025-02."""
    later = {link("1"): page(item("65FB7C645F8339C!7", name="new"), delta=link("end"))}
    play = cabinet(page(item("065FB7C645F8339C!7", name="old"), delta=link("1")), later)
    rows, _ = rounds(ITEMS, play, count=2)
    assert [row["name"] for row in rows.values()] == ["new"]


def test_a_size_below_zero_is_kept_as_it_came() -> None:
    """Folders came with sizes below zero. OneDrive/onedrive-api-docs#926, 2018-10."""
    rows = held(
        ITEMS, drive(ITEMS.read, cabinet(page(item("AB!1", size=-1474174), delta=link("e"))))
    )
    assert rows["AB!1"]["size"] == -1474174


def test_an_item_without_a_size_is_held() -> None:
    """Of business drives the delta left out sizes. OneDrive/onedrive-api-docs#966, 2018-12."""
    rows = held(ITEMS, drive(ITEMS.read, cabinet(page(item("AB!1"), delta=link("e")))))
    assert "size" not in rows["AB!1"]


def test_a_notebook_is_held_though_it_is_neither_file_nor_folder() -> None:
    """OneNote notebooks have a package facet only, and were left out.
    wisecom-oy/atlas#52, 2026-07."""
    book = {"id": "AB!5", "name": "Notes", "package": {"type": "oneNote"}}
    book["parentReference"] = {"driveId": "ab", "id": "AB!0"}
    play = cabinet(page(book, delta=link("e")))
    assert set(held(ITEMS, drive(ITEMS.read, play))) == {"AB!5"}
    assert set(held(PERMISSIONS, drive(PERMISSIONS.read, play))) == {"AB!5/own"}


def test_a_file_that_is_locked_costs_nothing_but_itself() -> None:
    """While a file is edited by somebody it is answered 423 accessDenied.
    OneDrive/onedrive-api-docs#912, 2018-09."""
    grants = {"AB!1": error(423, "accessDenied", "Lock token does not match existing lock")}
    first = page(item("AB!1"), item("AB!2"), delta=link("end"))
    rows, at = rounds(PERMISSIONS, cabinet(first, grants=grants), count=1)
    assert set(rows) == {"AB!2/own"}
    # It is read once it can be, without a change of its own.
    play = cabinet(first)
    rows, _ = rounds(PERMISSIONS, play, count=3, every=timedelta(days=1), rows=rows, at=at)
    assert set(rows) == {"AB!1/own", "AB!2/own"}


def test_a_file_that_we_may_not_look_at_costs_nothing_but_itself() -> None:
    """Some files could not be read by their owner's own program, which then failed for all.
    skilion/onedrive#219, 2017-07."""
    grants = {"AB!1": error(403, "accessDenied", "Access denied")}
    first = page(item("AB!1"), item("AB!2"), delta=link("end"))
    rows, _ = rounds(PERMISSIONS, cabinet(first, grants=grants), count=1)
    assert set(rows) == {"AB!2/own"}


def test_a_tombstone_without_times_is_a_deletion() -> None:
    """Tombstones stopped to say when. OneDrive/onedrive-api-docs#834, 2018-04."""
    later = {link("1"): page(gone("AB!1"), delta=link("end"))}
    rows, _ = rounds(ITEMS, cabinet(page(item("AB!1"), delta=link("1")), later), count=2)
    assert rows == {}


def test_a_tombstone_of_the_year_one_is_a_deletion() -> None:
    """Tombstones of business drives had times in the year one.
    OneDrive/onedrive-api-docs#535, 2017-03."""
    dead = {**gone("AB!1"), "lastModifiedDateTime": "0001-01-01T00:00:00-08:00"}
    later = {link("1"): page(dead, delta=link("end"))}
    rows, _ = rounds(ITEMS, cabinet(page(item("AB!1"), delta=link("1")), later), count=2)
    assert rows == {}


def test_an_item_that_did_not_change_for_years_may_come_with_a_delta() -> None:
    """A delta held items that had last changed years ago, in no order.
    OneDrive/onedrive-api-docs#1468, 2021-03."""
    old = item("AB!9", lastModifiedDateTime="2019-01-01T00:00:00Z")
    later = {link("1"): page(item("AB!3"), old, delta=link("end"))}
    rows, _ = rounds(ITEMS, cabinet(page(item("AB!1"), delta=link("1")), later), count=2)
    assert set(rows) == {"AB!1", "AB!3", "AB!9"}


def test_deletions_are_asked_for_wherever_fields_are_chosen() -> None:
    """Deleted items came without their facet, because it was not among the chosen fields.
    wisecom-oy/atlas#139, 2026-08."""
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return page(delta=link("end"))

    for stream in (ITEMS, PERMISSIONS):
        drive(stream.read, client(ONEDRIVE, answer))
    chosen = [str(request.params["$select"]) for request in asked if "$select" in request.params]
    assert all("deleted" in fields.split(",") for fields in chosen)


def test_a_drive_that_is_refused_as_a_whole_is_for_an_administrator() -> None:
    """403 accessDenied at the drive itself, for days, of an account that had consented.
    lavinir/hassio-onedrive-backup#10, 2022-11."""
    problem = told(ONEDRIVE, error(403, "accessDenied", "Access denied"), "/me/drive")
    assert isinstance(problem, NotAllowedError)


# -- situations that were reported to us; they do not count in the first-try figure


def test_permissions_of_an_item_without_its_place_cost_nothing_but_themselves() -> None:
    """A folder that others share comes without parentReference."""
    shared = {"id": "CD!7", "folder": {"childCount": 3}}
    first = page(item("AB!1"), shared, delta=link("end"))
    rows = held(PERMISSIONS, drive(PERMISSIONS.read, cabinet(first)))
    assert "AB!1/own" in rows


@pytest.mark.parametrize(
    "status",
    [
        403,
        404,
    ],
)
def test_permissions_of_an_item_of_another_drive_cost_nothing_but_themselves(status: int) -> None:
    shared = {"id": "CD!8", "folder": {}, "parentReference": {"driveId": "cd"}}
    first = page(item("AB!1"), shared, delta=link("end"))
    grants = {"CD!8": error(status, "accessDenied")}
    rows = held(PERMISSIONS, drive(PERMISSIONS.read, cabinet(first, grants=grants)))
    assert set(rows) == {"AB!1/own"}


@pytest.mark.parametrize("stream", [ITEMS, PERMISSIONS], ids=lambda stream: stream.name)
def test_a_folder_that_is_made_anew_amid_the_first_listing_is_held_once(stream: Stream) -> None:
    """While the first listing is paged a folder is deleted and made anew. Only a delta that was
    begun before tells that the old one is gone."""
    old = item("AB!1", folder={})
    new = item("AB!3", folder={})
    begun: list[str] = []

    def first(request: Request) -> Response:
        return page(old, next=link("second"))

    def answer(request: Request) -> Response:
        if request.params.get("token") == "latest":
            begun.append("latest")
            return page(delta=link("before"))
        later = {
            link("second"): page(new, delta=link("after")),
            link("before"): page(gone("AB!1"), new, delta=link("after")),
        }
        return cabinet(first, later)(request)

    rows, _ = rounds(stream, client(ONEDRIVE, answer), count=3)
    assert {key.partition("/")[0] for key in rows} == {"AB!3"}


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/me/drives", 404, "UnknownError"),
        (DELTA, 404, "UnknownError"),
        ("/me/drives", 401, "generalException"),
    ],
)
def test_an_account_that_has_a_drive_is_not_asked_to_reconnect(
    path: str, status: int, code: str
) -> None:
    """For half an hour an account that has a drive is answered as if it had none, or as if its new
    token were bad; then all is well again."""
    problem = told(ONEDRIVE, error(status, code), path)
    assert not isinstance(problem, BrokenConnectionError)
