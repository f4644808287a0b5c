"""OneDrive's readers, driven over the sandbox's drive and over played answers."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    NotAllowedError,
    Page,
    RateLimitedError,
    Request,
    Response,
    load,
)
from connectors._microsoft import DELTA, GRAPH, NEXT
from sandbox import start
from tests._driving import NOW, drive, response
from tests._graph import Person, calm

ONEDRIVE = load("onedrive")
ITEMS, PERMISSIONS = ONEDRIVE.stream("drive_items"), ONEDRIVE.stream("permissions")
LINK = f"{GRAPH}/me/drive/root/delta?token=1"


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with start(["onedrive"]) as origin:
        yield origin


@pytest.fixture
def client(origin: str) -> Iterator[httpx.Client]:
    with calm(origin, "onedrive") as client:
        yield client


@pytest.fixture
def person(client: httpx.Client) -> Person:
    return Person(client, "onedrive", size=40)


def merged(pages: list[Page], stream: Any, held: dict[str, Any] | None = None) -> dict[str, Any]:
    """What is stored of these pages, after what was held before."""
    rows = dict(held or {})
    for page in pages:
        rows |= {_key(stream, record): record for record in page.records}
        for key in page.deleted:
            rows.pop(key, None)
        for listing in page.listed_keys:
            for key in [key for key in rows if key.startswith(listing.prefix)]:
                if key not in listing.keys:
                    del rows[key]
    return rows


def _key(stream: Any, record: dict[str, Any]) -> str:
    return str(stream.key(record) if callable(stream.key) else record[stream.key])


def delta(*rows: dict[str, Any], link: str = LINK) -> Response:
    return response({"value": list(rows), DELTA: link})


def listing_of(request: Request, *rows: dict[str, Any]) -> Response:
    """These rows are there at first, and nothing changes."""
    latest = request.params.get("token") == "latest" or request.path.startswith("https")
    return delta() if latest else delta(*rows)


def shares(*ids: str, following: str = "") -> Response:
    more = {NEXT: following} if following else {}
    return response({"value": [{"id": id_, "roles": ["read"]} for id_ in ids], **more})


def item(id_: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "parentReference": {"driveId": "b!d"}, **more}


@pytest.mark.parametrize("personal", [False, True])
def test_a_drive_is_enumerated_and_its_link_replayed(client: httpx.Client, personal: bool) -> None:
    person = Person(client, "onedrive", size=450, personal=personal)
    pages = drive(ITEMS.read, person.answer)
    assert [len(page.records) for page in pages[:2]] == [200, 0]
    held = merged(pages, ITEMS)
    assert held == person.store("drive_items")
    for seed in range(3):
        person.control("mutate", count=60, seed=seed)
        pages = drive(ITEMS.read, person.answer, pages[-1].checkpoint)
        held = merged(pages, ITEMS, held)
        assert held == person.store("drive_items")
    (quiet,) = drive(ITEMS.read, person.answer, pages[-1].checkpoint)
    assert (list(quiet.records), list(quiet.deleted)) == ([], [])


def test_of_an_item_that_occurs_several_times_the_last_occurrence_is_kept(person: Person) -> None:
    here = drive(ITEMS.read, person.answer)[-1].checkpoint
    key = person.order("drive_items", "add", name="first").json()["id"]
    person.order("drive_items", "change", key, name="second")
    (page,) = drive(ITEMS.read, person.answer, here)
    assert [row["name"] for row in page.records if row["id"] == key] == ["second"]
    person.order("drive_items", "delete", key)
    (page,) = drive(ITEMS.read, person.answer, here)
    assert key in page.deleted
    assert key not in {row["id"] for row in page.records}


def test_a_delete_is_known_by_its_facet_whatever_else_is_left_out() -> None:
    gone = {"id": "1", "deleted": {"state": "deleted"}}
    page, _ = drive(ITEMS.read, lambda request: delta(gone, item("2")))
    assert page.deleted == ["1"]
    assert [row["id"] for row in page.records] == ["2"]


def test_what_is_moved_out_of_a_folder_before_that_goes_is_kept(person: Person) -> None:
    pages = drive(ITEMS.read, person.answer)
    held = merged(pages, ITEMS)
    folder = person.order("drive_items", "add", folder=True).json()["id"]
    inside = person.order("drive_items", "add", parent_id=folder, folder=False).json()["id"]
    root = person.get("/me/drive/root").json()["id"]
    person.order("drive_items", "change", inside, parent_id=root)
    person.order("drive_items", "delete", folder)
    held = merged(drive(ITEMS.read, person.answer, pages[-1].checkpoint), ITEMS, held)
    assert folder not in held
    assert held[inside]["parentReference"]["id"] == root
    assert held == person.store("drive_items")


def test_a_path_is_made_by_going_up_from_parent_to_parent(person: Person) -> None:
    held = merged(drive(ITEMS.read, person.answer), ITEMS)
    assert all("path" not in row["parentReference"] for row in held.values())
    for id_, row in held.items():
        names = []
        while "root" not in row:
            names.append(row["name"])
            row = held[row["parentReference"]["id"]]
        listed_keys = person.get(f"/me/drive/items/{id_}").json()
        if names:
            above = "/".join(reversed(names[1:]))
            path = f"/drive/root:/{above}" if above else "/drive/root:"
            assert listed_keys["parentReference"]["path"] == path


def test_an_address_for_downloads_is_never_kept(person: Person) -> None:
    name = "@microsoft.graph.downloadUrl"
    assert any(name in row for row in person.all("/me/drive/root/delta")[0])
    pages = drive(ITEMS.read, person.answer)
    assert not any(name in row for page in pages for row in page.records)


@pytest.mark.parametrize("stream", [ITEMS, PERMISSIONS], ids=lambda stream: stream.name)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (410, "resyncChangesApplyDifferences"),
        (410, "resyncChangesUploadDifferences"),
        (410, "resyncRequired"),
        (410, ""),
        (400, "resyncRequired"),
        (404, "SyncStateNotFound"),
    ],
)
def test_a_lapsed_delta_starts_the_stream_over(
    person: Person, stream: Any, status: int, code: str
) -> None:
    here = drive(stream.read, person.answer)[-1].checkpoint
    person.control("resync", status=status, code=code)
    person.control("expire_checkpoints")
    with pytest.raises(CheckpointExpiredError):
        drive(stream.read, person.answer, here)
    assert merged(drive(stream.read, person.answer), stream) == person.store(stream.name)


def test_drives_are_read_whole_each_time(person: Person) -> None:
    stream = ONEDRIVE.stream("drives")
    assert stream.snapshot
    (page,) = drive(stream.read, person.answer)
    assert merged([page], stream) == person.store("drives")
    assert page.checkpoint == {}


def test_permissions_of_all_items_are_read_and_then_those_of_changed_ones(
    client: httpx.Client,
) -> None:
    person = Person(client, "onedrive", size=220)
    pages = drive(PERMISSIONS.read, person.answer)
    held = merged(pages, PERMISSIONS)
    assert held == person.store("permissions")
    for seed in range(3):
        person.control("mutate", count=40, seed=seed)
        pages = drive(PERMISSIONS.read, person.answer, pages[-1].checkpoint)
        held = merged(pages, PERMISSIONS, held)
        assert held == person.store("permissions")


def test_a_share_taken_back_is_known_by_its_absence() -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        if "delta" in request.path:
            return listing_of(request, item("1"), item("2", deleted={}))
        return shares("a", "b")

    page, _ = drive(PERMISSIONS.read, answer)
    assert [PERMISSIONS.key(row) for row in page.records] == ["1/a", "1/b"]  # type: ignore[operator]
    gone, listed = page.listed_keys
    assert (gone.prefix, list(gone.keys)) == ("2/", [])
    assert (listed.prefix, list(listed.keys)) == ("1/", ["1/a", "1/b"])
    paths = [request.path for request in asked if "delta" not in request.path]
    assert paths == ["/drives/b!d/items/1/permissions"]


def test_an_item_that_went_while_its_permissions_were_asked_for_has_none() -> None:
    def answer(request: Request) -> Response:
        if "delta" in request.path:
            return listing_of(request, item("1"))
        return response({"error": {"code": "itemNotFound"}}, 404)

    page, _ = drive(PERMISSIONS.read, answer)
    assert page.records == []
    assert [(listing.prefix, list(listing.keys)) for listing in page.listed_keys] == [("1/", [])]


def test_permissions_in_several_pages_are_one_listing() -> None:
    following = f"{GRAPH}/drives/b!d/items/1/permissions?$skiptoken=x"

    def answer(request: Request) -> Response:
        if "delta" in request.path:
            return listing_of(request, item("1"))
        return shares("b") if request.path == following else shares("a", following=following)

    page, _ = drive(PERMISSIONS.read, answer)
    assert list(page.listed_keys[0].keys) == ["1/a", "1/b"]


def test_permissions_that_cannot_be_read_are_not_taken_for_none() -> None:
    def answer(request: Request) -> Response:
        return delta(item("1")) if request.path.endswith("delta") else response({})

    with pytest.raises(KeyError):
        drive(PERMISSIONS.read, answer)


def test_calls_cost_resource_units(person: Person) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Response:
        asked.append(request)
        return person.answer(request)

    here = drive(PERMISSIONS.read, answer)[-1].checkpoint
    costs = {"listing": set(), "link": set(), "permissions": set()}  # type: dict[str, set[int]]
    for request in asked:
        of = "permissions" if request.path.endswith("/permissions") else "listing"
        costs["link" if request.path.startswith("http") else of].add(request.cost)
    assert costs == {"listing": {2}, "link": {1}, "permissions": {5}}
    asked.clear()
    drive(ITEMS.read, answer, here)
    assert [request.cost for request in asked] == [1]


def error(status: int, code: str, path: str = "/me/drive") -> Response:
    found = response({"error": {"code": code}}, status)
    return Response(status=status, headers={}, json=found.json, url=f"{GRAPH}{path}", sent_at=NOW)


@pytest.mark.parametrize(
    ("answer", "expected", "words"),
    [
        (error(404, "ResourceNotFound"), NotAllowedError, "licence"),
        (error(404, "itemNotFound", "/me/drive/root/delta"), NotAllowedError, "licence"),
        (error(404, "itemNotFound", "/drives/d/items/1/permissions"), type(None), ""),
        (error(403, "accessDenied"), NotAllowedError, "permission"),
        (error(429, "activityLimitReached"), RateLimitedError, ""),
        (error(503, "activityLimitReached"), RateLimitedError, ""),
        (error(401, "InvalidAuthenticationToken"), type(None), ""),
    ],
)
def test_a_missing_licence_is_told_from_a_permission_that_is_missing(
    answer: Response, expected: type, words: str
) -> None:
    found = ONEDRIVE.classify(answer)
    assert isinstance(found, expected)
    assert words in str(found)
    # A licence that was there a minute ago may only seem to be gone.
    assert found is None or found.may_pass is (words == "licence" or expected is RateLimitedError)


def connect(person: Person) -> Any:
    steps = ONEDRIVE.identify(person.tokens, {})
    sent: Any = None
    while True:
        try:
            sent = person.answer(steps.send(sent))
        except StopIteration as stop:
            return stop.value


@pytest.mark.parametrize(("personal", "kind"), [(False, "business"), (True, "personal")])
def test_an_account_is_a_person_with_their_drive_and_directory(
    client: httpx.Client, personal: bool, kind: str
) -> None:
    person = Person(client, "onedrive", personal=personal)
    (account,) = connect(person)
    assert account.id == person.id
    assert account.name == person.get("/me").json()["mail"]
    assert account.config["drive_type"] == kind
    assert account.config["drive_id"] in person.store("drives")
    assert account.config["tenant_id"]


@pytest.mark.parametrize(("status", "code"), [(404, "ResourceNotFound"), (400, "BadRequest")])
def test_an_account_without_a_drive_is_told_so_when_it_connects(
    person: Person, status: int, code: str
) -> None:
    person.control("provision", provisioned=False, status=status, code=code)
    with pytest.raises(BrokenConnectionError, match="no licence"):
        connect(person)


def test_a_notification_only_hints_at_what_changed() -> None:
    assert ONEDRIVE.webhook
    assert ONEDRIVE.watch
    resources = ONEDRIVE.watch.resources(Context(now=NOW, account_id="a"))
    with pytest.raises(StopIteration) as stop:
        next(resources)
    (root,) = stop.value.value
    assert root == "/me/drive/root"
    assert ONEDRIVE.watch.streams(root) == ONEDRIVE.webhook.covers == ("drive_items", "permissions")


def test_each_checkpoint_of_a_round_resumes_it(client: httpx.Client) -> None:
    person = Person(client, "onedrive", size=220)
    at = Checkpoint()
    for stream in (ITEMS, PERMISSIONS):
        listed_keys = drive(stream.read, person.answer, at)
        for stop in range(1, len(listed_keys)):
            rest = drive(stream.read, person.answer, listed_keys[stop - 1].checkpoint)
            assert merged([*listed_keys[:stop], *rest], stream) == person.store(stream.name)
