"""OneDrive's sandbox: drives, items, permissions, and what the delta function tells."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

from sandbox import start
from tests._graph import Person, calm, problem

DELTA = "/me/drive/root/delta"


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
    return Person(client, "onedrive", size=50)


@pytest.fixture
def private(client: httpx.Client) -> Person:
    """Someone with a personal account."""
    return Person(client, "onedrive", size=50, personal=True)


def latest(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Each item as it occurs last; None of one that is gone."""
    return {row["id"]: None if "deleted" in row else row for row in rows}


def plain(rows: dict[str, Any]) -> dict[str, Any]:
    """Without the addresses for downloads, which are new in each answer."""
    return {
        id_: row and {k: v for k, v in row.items() if k != "@microsoft.graph.downloadUrl"}
        for id_, row in rows.items()
    }


def file_of(person: Person) -> dict[str, Any]:
    return next(row for row in person.store("drive_items").values() if "file" in row)


def folder_of(person: Person) -> dict[str, Any]:
    """A folder that has something in it, and is not the root."""
    rows = person.store("drive_items").values()
    return next(
        row for row in rows if row.get("folder", {}).get("childCount") and "root" not in row
    )


def test_a_drive_has_a_kind_and_an_owner(person: Person, private: Person) -> None:
    for who, kind in ((person, "business"), (private, "personal")):
        drive = who.get("/me/drive").json()
        assert drive["driveType"] == kind
        assert drive["owner"]["user"]["id"] == who.id
        (listed,) = who.get("/me/drives").json()["value"]
        assert listed == drive
        assert who.get(f"/drives/{drive['id']}").json() == drive


def test_a_delta_enumerates_the_drive_over_a_page_that_is_empty(person: Person) -> None:
    rows, sizes, link = person.all(DELTA, **{"$top": 8})
    assert plain(latest(rows)) == person.store("drive_items")
    assert len(rows) == len(latest(rows))
    assert sizes[:2] == [8, 0]
    assert link


@pytest.mark.parametrize(
    "path",
    [
        "/me/drive/root/delta()",
        "/me/drive/items/root/delta",
        "/drives/{drive}/root/delta",
        "/drives/{drive}/items/root/delta()",
    ],
)
def test_every_form_of_the_delta_function_is_the_same(person: Person, path: str) -> None:
    drive = person.get("/me/drive").json()["id"]
    rows, _, link = person.all(path.format(drive=drive))
    assert plain(latest(rows)) == person.store("drive_items")
    assert path.format(drive=drive) in link


def test_an_item_that_changed_twice_occurs_twice_and_the_last_one_counts(person: Person) -> None:
    item, link = file_of(person), person.all(DELTA)[2]
    person.order("drive_items", "change", item["id"], name="first")
    person.order("drive_items", "change", item["id"], name="second")
    rows, _, link = person.all(link)
    assert [row["name"] for row in rows if row["id"] == item["id"]] == ["first", "second"]
    person.order("drive_items", "delete", item["id"])
    rows, _, _ = person.all(link)
    assert latest(rows)[item["id"]] is None


def test_the_folders_above_a_change_are_told_up_to_the_root(person: Person) -> None:
    stored = person.store("drive_items")
    item = next(row for row in stored.values() if "file" in row)
    link = person.all(DELTA)[2]
    person.order("drive_items", "change", item["id"], size=7)
    told = latest(person.all(link)[0])
    above, parent = set(), item["parentReference"].get("id")
    while parent:
        above.add(parent)
        parent = stored[parent]["parentReference"].get("id")
    assert set(told) == {item["id"], *above}
    assert plain(told) == {id_: person.store("drive_items")[id_] for id_ in told}


def test_a_folder_that_is_renamed_tells_nothing_of_what_is_in_it(person: Person) -> None:
    folder, link = folder_of(person), person.all(DELTA)[2]
    person.order("drive_items", "change", folder["id"], name="renamed")
    told = latest(person.all(link)[0])
    inside = [
        id_
        for id_, row in person.store("drive_items").items()
        if row["parentReference"].get("id") == folder["id"]
    ]
    assert inside
    assert folder["id"] in told
    assert not set(inside) & set(told)


def test_a_folder_that_is_deleted_tells_each_item_in_it_and_itself_last(person: Person) -> None:
    folder, link = folder_of(person), person.all(DELTA)[2]
    before = person.store("drive_items")
    person.order("drive_items", "delete", folder["id"])
    rows, _, _ = person.all(link)
    gone = [row["id"] for row in rows if "deleted" in row]
    assert gone[-1] == folder["id"]
    assert set(gone) == set(before) - set(person.store("drive_items"))
    assert len(gone) > 1


def test_what_is_left_out_depends_on_the_kind_of_drive(person: Person, private: Person) -> None:
    for who, left_out, gone_without in (
        (person, {"cTag"}, {"name", "cTag"}),
        (private, set(), {"size", "cTag"}),
    ):
        rows, _, link = who.all(DELTA)
        names = {"name", "size", "cTag"}
        assert all(names - set(row) == left_out for row in rows)
        assert all("path" not in row["parentReference"] for row in rows)
        item = file_of(who)
        whole = who.get(f"/me/drive/items/{item['id']}").json()
        assert "cTag" in whole
        assert whole["parentReference"]["path"].startswith("/drive/root:")
        who.order("drive_items", "delete", item["id"])
        (gone,) = [row for row in who.all(link)[0] if "deleted" in row]
        assert names - set(gone) == gone_without


def test_a_file_comes_with_an_address_to_download_it_that_is_new_each_time(
    person: Person,
) -> None:
    rows, _, _ = person.all(DELTA)
    again, _, _ = person.all(DELTA)
    name = "@microsoft.graph.downloadUrl"
    addresses = {row[name] for row in [*rows, *again] if "file" in row}
    assert len(addresses) == 2 * sum("file" in row for row in rows)
    chosen, _, _ = person.all(DELTA, **{"$select": "id,name"})
    assert all(set(row) == {"id", "name"} for row in chosen)


def test_options_are_fixed_in_the_first_call(person: Person) -> None:
    rows, sizes, link = person.all(DELTA, **{"$select": "id", "$top": 7})
    assert max(sizes) == 7
    assert all(set(row) == {"id"} for row in rows)
    person.control("mutate", count=20, seed=2)
    rows, sizes, _ = person.all(link)
    assert max(sizes) == 7
    assert all(set(row) == {"id"} for row in rows if "deleted" not in row)


def test_the_token_latest_gives_a_link_without_an_enumeration(person: Person) -> None:
    for path in (f"{DELTA}?token=latest", f"{DELTA}(token='latest')"):
        rows, _, link = person.all(path)
        assert rows == []
        person.control("mutate", count=5, seed=9)
        rows, _, _ = person.all(link)
        assert rows


def test_a_token_may_be_a_time_on_business_drives_only() -> None:
    with start(["onedrive"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        person = Person(client, "onedrive", size=20)
        client.post("/_control/clock", json={"advance": 600})
        since = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        item = file_of(person)
        person.order("drive_items", "change", item["id"], name="later")
        rows, _, link = person.all(DELTA, token=since)
        assert latest(rows)[item["id"]]["name"] == "later"
        assert len(rows) < 10
        assert person.all(link)[0] == []
        private = Person(client, "onedrive", size=20, personal=True)
        assert problem(private.get(DELTA, token=since)) == (400, "invalidRequest")


def test_a_lapsed_token_names_the_address_of_a_fresh_start(person: Person) -> None:
    _, _, link = person.all(DELTA)
    person.control("expire_checkpoints")
    answer = person.get(link)
    assert problem(answer) == (410, "resyncChangesApplyDifferences")
    rows, _, _ = person.all(answer.headers["location"])
    assert plain(latest(rows)) == person.store("drive_items")
    person.control("resync", status=400, code="resyncRequired")
    answer = person.get(link)
    assert problem(answer) == (400, "resyncRequired")
    assert "location" not in answer.headers


def test_a_token_that_was_never_given_is_refused(person: Person) -> None:
    for token in ("nonsense", "bm9uc2Vuc2U", "W10"):
        assert problem(person.get(DELTA, token=token)) == (400, "invalidRequest")


def test_a_page_size_is_from_1_to_1000(person: Person) -> None:
    for top in ("0", "1001", "x", "-1"):
        assert problem(person.get(DELTA, **{"$top": top})) == (400, "invalidRequest")


def test_permissions_are_of_one_item_and_their_ids_only_there(person: Person) -> None:
    stored = person.store("permissions")
    drive = person.get("/me/drive").json()["id"]
    found: dict[str, Any] = {}
    for id_ in person.store("drive_items"):
        rows, _, _ = person.all(f"/drives/{drive}/items/{id_}/permissions")
        found |= {f"{id_}/{row['id']}": {**row, "item_id": id_} for row in rows}
        assert [row["id"] for row in rows].count("owner") == 1
    assert found == stored
    assert problem(person.get("/me/drive/items/01NONE/permissions")) == (404, "itemNotFound")


def test_a_share_that_comes_or_goes_changes_its_item(person: Person) -> None:
    item, link = file_of(person), person.all(DELTA)[2]
    key = person.order("permissions", "add", item_id=item["id"]).json()["id"]
    assert key in person.store("permissions")
    rows, _, link = person.all(link)
    assert latest(rows)[item["id"]]["shared"]
    person.order("permissions", "delete", key)
    assert key not in person.store("permissions")
    assert item["id"] in latest(person.all(link)[0])


def test_the_children_of_a_folder_are_listed_in_pages(person: Person) -> None:
    rows, sizes, _ = person.all("/me/drive/items/root/children", **{"$top": 2})
    children = [
        id_
        for id_, row in person.store("drive_items").items()
        if row["parentReference"].get("id") == person.get("/me/drive/root").json()["id"]
    ]
    assert sorted(row["id"] for row in rows) == sorted(children)
    assert max(sizes) <= 2


def test_a_move_below_itself_the_root_and_unknown_fields_are_refused(person: Person) -> None:
    folder, root = folder_of(person), person.get("/me/drive/root").json()["id"]
    move = person.order("drive_items", "change", folder["id"], parent_id=folder["id"])
    assert move.status_code == 409
    assert person.order("drive_items", "delete", root).status_code == 409
    assert person.order("drive_items", "change", folder["id"], colour="red").status_code == 404


def test_a_drive_that_was_never_set_up_is_not_found(person: Person) -> None:
    person.control("provision", provisioned=False)
    for path in ("/me/drive", "/me/drives", DELTA):
        assert problem(person.get(path)) == (404, "ResourceNotFound")
    person.control("provision", provisioned=False, status=400, code="BadRequest")
    assert problem(person.get("/me/drive")) == (400, "BadRequest")


def test_another_persons_drive_is_not_found(person: Person, private: Person) -> None:
    theirs = private.get("/me/drive").json()["id"]
    assert problem(person.get(f"/drives/{theirs}")) == (404, "itemNotFound")


def test_calls_cost_resource_units(client: httpx.Client) -> None:
    person = Person(client, "onedrive", size=20)
    client.post("/_control/onedrive/limits", json={"scale": 20 / 1250})
    item = file_of(person)["id"]
    _, _, link = person.all(DELTA)  # 2
    for _ in range(3):
        assert person.get(f"/me/drive/items/{item}/permissions").status_code == 200  # 5 each
    assert [person.get(link).status_code for _ in range(3)] == [200] * 3  # 1 each
    answer = person.get(link)
    assert problem(answer) == (429, "activityLimitReached")
    assert answer.headers["retry-after"] == "60"
    assert person.get("/me").status_code == 200
