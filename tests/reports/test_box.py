"""What people reported of programs that read Box, played on our reader and our webhooks."""

import base64
import hmac
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    Delivery,
    Effect,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    VerificationKeys,
    load,
)
from tests._driving import NOW, drive, response
from tests._judging import judged
from tests.reports._following import Followed

BOX = load("box")
ITEMS, FILES, EVENTS, COLLABORATIONS, COMMENTS = (
    BOX.stream(name) for name in ("folder_items", "files", "events", "collaborations", "comments")
)
HOUR = timedelta(hours=1)
KEYS = "first-key,second-key"


def error(status: int, code: str, **headers: str) -> Response:
    return response({"type": "error", "status": status, "code": code}, status, headers)


def item(type: str, id: str, parent: str = "0", **more: Any) -> Record:
    return {
        "type": type, "id": id, "etag": "1", "name": f"{type} {id}", "shared_link": None,
        "parent": {"type": "folder", "id": parent, "name": "a name that may change"},
        "owned_by": {"type": "user", "id": "9", "name": "Ada", "login": "ada@acme.example"}, **more,
    }  # fmt: skip


class Drive:
    """One person's folders and events, as Box tells of them; `refuses` are paths with what is
    answered there instead."""

    def __init__(self, *items: Record, size: int = 1_000) -> None:
        self.items = {(one["type"], one["id"]): one for one in items}
        self.under: dict[str, list[Record]] = {}
        self.events: list[Record] = []
        self.refuses: dict[str, Response] = {}
        self.asked: list[Request] = []
        self.size = size
        self.next: Callable[[int], Any] = lambda place: 2**60 + place

    def happens(self, kind: str, source: Any, id: str = "") -> None:
        id = id or f"e-{len(self.events)}"
        self.events.append({"event_id": id, "event_type": kind, "source": source})

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path in self.refuses:
            return self.refuses[request.path]
        if request.path == "/events":
            return self._told(request)
        _, plural, id, *rest = request.path.split("/")
        if rest == ["items"]:
            return self._listed(request, id)
        if rest:
            return response({"total_count": 0, "entries": self.under.get(request.path, [])})
        found = self.items.get((plural.removesuffix("s"), id))
        return response(found) if found else error(404, "not_found")

    def _told(self, request: Request) -> Response:
        asked = request.params["stream_position"]
        place = len(self.events) if asked == "now" else max(int(str(asked)) - 2**60, 0)
        found = self.events[place : place + 2]
        return response({
            "chunk_size": len(found), "entries": found,
            "next_stream_position": self.next(place + len(found)),
        })  # fmt: skip

    def _listed(self, request: Request, folder: str) -> Response:
        assert request.params["usemarker"] is True
        assert "offset" not in request.params
        if folder != "0" and ("folder", folder) not in self.items:
            return error(404, "not_found")
        inside = [one for one in self.items.values() if one["parent"]["id"] == folder]
        start = int(str(request.params.get("marker", 0)))
        page = inside[start : start + self.size]
        more = start + self.size < len(inside)
        following = str(start + self.size) if more else ""
        return response({"entries": page, "limit": self.size, "next_marker": following})

    def paths(self) -> list[str]:
        asked, self.asked = self.asked, []
        return [request.path for request in asked]


def files(*ids: str) -> list[Record]:
    return [item("file", id) for id in ids]


# -- The stream of events --------------------------------------------------------------------------


@pytest.mark.parametrize("nothing_new", [0, "0", -1])
def test_a_position_of_zero_where_nothing_is_new_is_not_taken(nothing_new: Any) -> None:
    """box/box-node-sdk#110 (2017-05), box/box-windows-sdk-v2#371 (2017-08): without events the next
    position is 0, and whoever takes it begins anew."""
    drive = Drive(*files("1"))
    followed = Followed(BOX, FILES, drive).sync()
    stood = followed.at["position"]
    drive.next = lambda place: nothing_new
    followed.sync()
    assert followed.at["position"] == stood


def test_a_position_stays_as_long_as_it_is() -> None:
    """box/box-openapi#535 (2025): positions have more digits than many programs' numbers."""
    drive = Drive(*files("1"))
    drive.next = lambda place: 2**60 + place  # a number; the next answer has a text
    followed = Followed(BOX, FILES, drive).sync()
    assert followed.at["position"] == str(2**60)
    drive.happens("ITEM_RENAME", drive.items["file", "1"])
    drive.next = lambda place: str(2**60 + place)
    assert followed.sync().at["position"] == str(2**60 + 1)


def test_events_that_come_twice_are_kept_once_and_read_once() -> None:
    """box/box-java-sdk#57 (2015): the same event comes again and again."""
    box = Drive(*files("1"))
    for _ in range(2):
        box.happens("ITEM_UPLOAD", box.items["file", "1"], id="e-same")
    pages = drive(EVENTS.read, box)
    assert [event["event_id"] for page in pages for event in page.records] == ["e-same"]
    followed = Followed(BOX, FILES, box).sync()
    for _ in range(2):
        box.happens("ITEM_RENAME", box.items["file", "1"], id="e-again")
    box.paths()
    followed.sync()
    assert box.paths().count("/files/1") == 1


def test_a_short_page_of_events_is_no_end() -> None:
    """box/box-python-sdk#130 (2016): who is behind is told in pages, until one has nothing."""
    box = Drive(*files("1", "2", "3", "4", "5"))
    followed = Followed(BOX, FILES, box).sync()
    for id in "12345":
        box.items["file", id] = item("file", id, etag="2")
        box.happens("ITEM_UPLOAD", box.items["file", id])
    followed.sync()
    assert {row["etag"] for row in followed.rows.values()} == {"2"}


def test_a_place_that_fell_out_of_what_is_kept_is_begun_anew() -> None:
    """box/box-python-sdk#734 (2022-05): what is too old falls off the stream's end, and nothing
    says that there is a gap."""
    box = Drive(*files("1"))
    followed = Followed(BOX, FILES, box).sync()
    followed.sync(now=NOW + timedelta(days=13))
    assert followed.error is None
    followed.sync(now=NOW + timedelta(days=28))
    assert isinstance(followed.error, CheckpointExpiredError)


def test_an_older_event_that_comes_later_does_not_bring_a_file_back() -> None:
    """box/box-java-sdk#57, box/box-python-sdk#130: events come at least once, in any order; an item
    is what it is now."""
    box = Drive(*files("1", "2"))
    followed = Followed(BOX, FILES, box).sync()
    former = box.items.pop(("file", "1"))
    box.happens("ITEM_TRASH", former)
    box.happens("ITEM_UPLOAD", former)
    assert set(followed.sync().rows) == {"2"}


# -- Folders ---------------------------------------------------------------------------------------


def test_a_large_folder_is_paged_by_marker() -> None:
    """r-box/boxr#74 (2018-06), box/box-windows-sdk-v2#132 (2016-02): offsets end at a hundred
    thousand and more with a refusal."""
    box = Drive(*files(*map(str, range(1, 26))), size=10)
    followed = Followed(BOX, FILES, box).sync()
    assert len(followed.rows) == 25


def test_fields_are_asked_for() -> None:
    """box/box-windows-sdk-v2#82 (2015-01), #617 (2019-11): without it nearly all fields are empty
    in a listing."""
    box = Drive(*files("1"))
    Followed(BOX, FILES, box).sync()
    (listed,) = [request for request in box.asked if request.path.endswith("/items")]
    fields = str(listed.params["fields"]).split(",")
    assert {"size", "sha1", "modified_at", "owned_by", "tags", "shared_link"} <= set(fields)


def test_what_was_in_a_folder_that_is_trashed_goes_with_the_next_walk() -> None:
    """box/box-java-sdk#1030 (2022-03): no call lists what is in a folder in the trash."""
    box = Drive(item("folder", "7"), item("file", "70", "7"), item("file", "1"))
    followed = Followed(BOX, ITEMS, box).sync()
    box.happens("ITEM_TRASH", box.items.pop(("folder", "7")))
    del box.items["file", "70"]
    box.paths()
    followed.sync(now=NOW + HOUR / 2)
    assert followed.error is None
    assert set(followed.rows) == {"file_70", "file_1"}
    assert not any("trash" in path for path in box.paths())
    followed.sync(now=NOW + HOUR)
    assert isinstance(followed.error, CheckpointExpiredError)


def test_a_folder_that_is_brought_back_comes_with_what_is_in_it() -> None:
    """box/box-java-sdk#1030: of what is in it no event tells."""
    box = Drive(*files("1"))
    followed = Followed(BOX, FILES, box).sync()
    box.items["folder", "7"] = item("folder", "7")
    box.items["file", "70"] = item("file", "70", "7")
    box.happens("ITEM_UNDELETE_VIA_TRASH", box.items["folder", "7"])
    assert set(followed.sync().rows) == {"1", "70"}


def test_a_folder_that_refuses_leaves_the_others_read() -> None:
    """box/box-python-sdk#547 (2020-09): some items answer 403 where others, of the same rights for
    all one can see, do not."""
    box = Drive(item("folder", "7"), item("folder", "8"), item("file", "70", "7"),
                item("file", "80", "8"))  # fmt: skip
    followed = Followed(BOX, FILES, box).sync()
    box.refuses["/folders/7/items"] = error(403, "access_denied_insufficient_permissions")
    fresh = Followed(BOX, FILES, box, rows=dict(followed.rows)).sync()
    assert fresh.error is None
    assert set(fresh.rows) == {"70", "80"}
    assert set(fresh.at["refused"]) == {"folder_7"}
    fresh.sync(now=NOW + HOUR / 2)
    assert set(fresh.at["refused"]) == {"folder_7"}
    box.refuses.clear()
    fresh.sync(now=NOW + HOUR)
    assert not fresh.at.get("refused")


# -- What hangs on items ---------------------------------------------------------------------------


def test_a_folders_collaborations_come_in_one_answer_however_many() -> None:
    """box/box-openapi#152 (2021-04), cburnette/boxr#125 (2023-05): the answer has a total and no
    pages, and asked for a second one Box gives the first again."""
    box = Drive(item("folder", "7", has_collaborations=True))
    shared = [{"type": "collaboration", "id": str(n), "item": {"id": "7"}} for n in range(3)]
    box.under["/folders/7/collaborations"] = shared
    box.refuses["/folders/7/collaborations"] = response({"total_count": 9, "entries": shared})
    followed = Followed(BOX, COLLABORATIONS, box).sync()
    assert set(followed.rows) == {"folder_7/0", "folder_7/1", "folder_7/2"}
    assert box.paths().count("/folders/7/collaborations") == 1


def test_a_files_collaborations_are_paged_by_marker() -> None:
    """box/box-python-sdk#889 (2025-03): there is no offset, and the marker is in the answer."""
    box = Drive(item("file", "1", has_collaborations=True))

    def answer(request: Request) -> Response:
        if request.path != "/files/1/collaborations":
            return box(request)
        place = int(str(request.params.get("marker", 0)))
        rows = [{"type": "collaboration", "id": str(place), "item": {"id": "1"}}]
        return response({"entries": rows, "next_marker": str(place + 1) if place < 2 else None})

    followed = Followed(BOX, COLLABORATIONS, answer).sync()
    assert set(followed.rows) == {"file_1/0", "file_1/1", "file_1/2"}


def test_comments_are_counted_on_by_the_limit_that_was_kept() -> None:
    """box/developer.box.com's guide to offsets: rows may be held back, so a page has fewer than its
    limit, and is no end."""
    box = Drive(item("file", "1", comment_count=3))

    def answer(request: Request) -> Response:
        if request.path != "/files/1/comments":
            return box(request)
        start = int(str(request.params.get("offset", 0)))
        rows = [{"type": "comment", "id": str(start), "item": {"id": "1"}}]
        return response({"entries": rows, "offset": start, "limit": 2, "total_count": 5})

    followed = Followed(BOX, COMMENTS, answer).sync()
    assert set(followed.rows) == {"file_1/0", "file_1/2", "file_1/4"}


# -- Refusals and tokens ---------------------------------------------------------------------------


def test_a_429_that_does_not_say_how_long_is_a_429() -> None:
    """box/box-windows-sdk-v2#166 (2016-09): there is not always a Retry-After."""
    found = judged(BOX, error(429, "rate_limit_exceeded"))
    assert isinstance(found, RateLimitedError)


def test_a_401_now_and_then_is_of_the_token() -> None:
    """box/box-node-sdk#157 (2017): tokens are refused before their time; a new one is asked for,
    and only when that is refused must the tenant act."""
    assert isinstance(judged(BOX, response(None, 401)), BrokenConnectionError)


def test_refresh_tokens_are_for_one_use() -> None:
    """box/box-java-sdk#114 (2015-04), box/box-windows-sdk-v2#718 (2021-01), cburnette/boxr#73
    (2019-05): two that refresh at once leave one with a token that is spent."""
    assert BOX.oauth.rotates
    assert BOX.oauth.grace is None
    assert BOX.oauth.idle_lifetime == timedelta(days=60)


# -- Webhooks --------------------------------------------------------------------------------------


def delivery(body: bytes, *, key: str = "first-key", header: str = "primary") -> Delivery:
    sent = "2026-11-01T04:00:00-08:00"
    digest = hmac.digest(key.encode(), body + sent.encode(), "sha256")
    return Delivery(
        method="POST", url="https://atom.test/hook", query={}, body=body, received_at=NOW,
        headers={
            "box-delivery-timestamp": sent, "box-signature-version": "1",
            "box-signature-algorithm": "HmacSHA256",
            f"box-signature-{header}": base64.b64encode(digest).decode(),
        },
    )  # fmt: skip


def prove(given: Delivery) -> None:
    assert BOX.webhook
    assert BOX.webhook.verify
    BOX.webhook.verify(given, VerificationKeys(secrets=tuple(KEYS.split(","))))


@pytest.mark.parametrize(
    "body", [b'{"name": "a\\u0301\\nb"}', '{"name": "á"}'.encode(), b'{"name":\t"a"}\n']
)
def test_a_signature_is_over_the_bytes_that_came(body: bytes) -> None:
    """box/box-python-sdk-gen#596 (2025-05): the SDK escaped the body before it looked, and refused
    what Box had signed."""
    prove(delivery(body))
    with pytest.raises(SignatureError):
        prove(Delivery(**{**vars(delivery(body)), "body": body + b" "}))


def test_either_key_will_do_while_one_is_changed() -> None:
    """box/box-python-sdk-gen#219 (2024-07): apps check by themselves what the guide asks for: one
    of two signatures."""
    prove(delivery(b"{}", key="second-key", header="secondary"))
    with pytest.raises(SignatureError):
        prove(delivery(b"{}", key="third-key", header="secondary"))


def test_an_item_that_is_named_by_a_webhook_is_a_hint() -> None:
    """box/box-python-sdk#82 (2015-10): who acts on what one notice says misses what else is new."""
    body = {
        "type": "webhook_event", "id": "d-1", "trigger": "FILE.UPLOADED",
        "created_at": "2026-11-01T03:59:58-08:00", "webhook": {"id": "55", "type": "webhook"},
        "source": item("file", "1"),
    }  # fmt: skip
    assert BOX.webhook
    (event,) = BOX.webhook.events(delivery(json.dumps(body).encode()))
    assert (event.effect, event.watch_id, event.record) == (Effect.HINT, "55", None)
    assert {"files", "events", "comments"} <= set(event.streams)
