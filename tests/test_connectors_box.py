"""Box's traps: what goes untold, folders that cannot be listed, hooks on folders."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    Delivery,
    Effect,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    Page,
    Request,
    Response,
    SignatureError,
    Stream,
    VerificationKeys,
    WatchRequest,
    load,
)
from connectors.box import FILES as BOX_FILES
from connectors.box.reading import only_new
from storage.models import Failure
from tests._conformance import Bench
from tests._delivered import sandboxed
from tests._driving import NOW, drive, response
from tests._judging import as_the_client, judged
from tests.reports._following import Followed
from tests.reports.test_box import Drive, error, files, item

BOX = load("box")
ITEMS, FILES, COLLABORATIONS, COMMENTS = (
    BOX.stream(name) for name in ("folder_items", "files", "collaborations", "comments")
)
HOUR = timedelta(hours=1)


# -- Items -----------------------------------------------------------------------------------------


def test_a_file_and_a_folder_of_the_same_id_are_two() -> None:
    box = Drive(item("folder", "5"), item("file", "5"))
    followed = Followed(BOX, ITEMS, box).sync()
    assert set(followed.rows) == {"folder_5", "file_5"}
    box.happens("ITEM_TRASH", box.items.pop(("file", "5")))
    assert set(followed.sync().rows) == {"folder_5"}


def test_of_others_only_what_stays_the_same_is_kept() -> None:
    link = {"url": "https://app.box.com/s/x", "download_count": 4, "preview_count": 9}
    followed = Followed(BOX, FILES, Drive(item("file", "1", shared_link=link))).sync()
    row = followed.rows["1"]
    assert row["parent"] == {"type": "folder", "id": "0"}
    assert row["owned_by"] == {"type": "user", "id": "9", "login": "ada@acme.example"}
    assert row["shared_link"] == {"url": "https://app.box.com/s/x"}


def test_a_position_is_taken_before_the_first_folder_is_listed_and_saved() -> None:
    box = Drive(*files("1"))
    first, *_ = drive(FILES.read, box)
    assert box.paths() == ["/events", "/folders/0/items"]
    assert first.checkpoint["position"]
    assert first.checkpoint["todo"] == ["0"]


def test_what_no_event_says_went_and_is_not_found_is_read_again_later() -> None:
    box = Drive(*files("1"))
    followed = Followed(BOX, FILES, box).sync()
    box.happens("ITEM_UPLOAD", item("file", "2"))
    pages = drive(FILES.read, as_the_client(BOX, box), followed.at)
    assert [key for page in pages for key in page.unsettled] == ["2"]
    assert not any(page.deleted for page in pages)


@pytest.mark.parametrize("stream", [FILES, COMMENTS], ids=lambda stream: stream.name)
def test_a_busy_file_that_many_pages_of_events_name_is_no_circle(stream: Stream) -> None:
    box = Drive(item("file", "1", comment_count=1))
    box.under["/files/1/comments"] = [{"type": "comment", "id": "c", "item": {"id": "1"}}]
    followed = Followed(BOX, stream, box).sync()
    for _ in range(12):
        box.happens("COMMENT_CREATE", {"type": "comment", "item": {"type": "file", "id": "1"}})
    before = dict(followed.rows)
    followed.sync()
    assert followed.error is None
    assert followed.at["position"] == str(2**60 + 12)
    assert followed.rows == before


def test_what_went_and_came_back_within_one_read_is_stored_again() -> None:
    page = only_new(BOX_FILES)
    row, at = item("file", "1"), Checkpoint()
    assert page(Page([row], at)).records == [row]
    assert page(Page([row], at)).records == []
    page(Page((), at, deleted=["1"]))
    assert page(Page([row], at)).records == [row]


def test_what_is_no_longer_shared_is_hidden() -> None:
    box = Drive(*files("1", "2"))
    followed = Followed(BOX, FILES, box).sync()
    box.happens("COLLAB_REMOVE_COLLABORATOR", box.items.pop(("file", "1")))
    pages = drive(FILES.read, box, followed.at)
    assert [key for page in pages for key in page.hidden] == ["1"]


def test_a_deletion_that_names_nothing_leads_to_a_walk_and_a_look_does_not() -> None:
    box = Drive(*files("1"))
    followed = Followed(BOX, FILES, box).sync()
    box.happens("ITEM_PREVIEW", None)
    followed.sync()
    assert not followed.at.get("lost")
    box.happens("ITEM_TRASH", None)
    followed.sync(now=NOW + HOUR / 2)
    assert followed.at["lost"]
    followed.sync(now=NOW + HOUR)
    assert isinstance(followed.error, CheckpointExpiredError)


def test_while_a_folder_refuses_a_walk_buries_nothing_and_another_is_owed() -> None:
    box = Drive(item("folder", "7"), *files("1"))
    box.refuses["/folders/7/items"] = error(403, "access_denied_insufficient_permissions")
    *_, last = drive(ITEMS.read, as_the_client(BOX, box))
    assert last.unseen == [""]
    assert last.unread
    assert [one.part for one in last.unread] == ["folder_7"]
    box.refuses.clear()
    followed = Followed(BOX, ITEMS, box, at=last.checkpoint).sync(now=NOW + HOUR)
    assert (followed.error, followed.at["lost"]) == (None, True)
    followed.sync(now=NOW + HOUR)
    assert isinstance(followed.error, CheckpointExpiredError)


def test_a_marker_that_lapsed_has_its_folder_listed_anew() -> None:
    box = Drive(*files(*map(str, range(1, 6))), size=2)
    _, second, *_ = drive(FILES.read, box)
    at = {**second.checkpoint}
    assert at["todo"] == ["0 2"]

    def answer(request: Request) -> Response:
        lapsed = request.params.get("marker") == "2" and not box.asked
        box.asked += [request] if lapsed else []
        return error(400, "bad_request") if lapsed else box(request)

    box.asked.clear()
    pages = drive(FILES.read, answer, at)
    assert {row["id"] for page in pages for row in page.records} == set("12345")


def test_the_root_that_refuses_is_all_of_it() -> None:
    box = Drive()
    box.refuses["/folders/0/items"] = error(403, "access_denied_insufficient_permissions")
    assert isinstance(Followed(BOX, FILES, box).sync().error, NotAllowedError)


def test_a_marker_that_does_not_move_is_no_listing() -> None:
    def answer(request: Request) -> Response:
        if request.path == "/events":
            return response({"entries": [], "next_stream_position": 7, "chunk_size": 0})
        return response({"entries": files("1"), "next_marker": "m"})

    with pytest.raises(ContractError):
        drive(FILES.read, answer)


def test_a_folder_above_that_has_the_number_of_a_file_is_another_item() -> None:
    box = Drive(item("file", "5", has_collaborations=True))
    inherited = {"type": "collaboration", "id": "9", "item": {"type": "folder", "id": "5"}}
    box.under["/files/5/collaborations"] = [inherited]
    assert not Followed(BOX, COLLABORATIONS, box).sync().rows


def test_collaborations_that_a_folder_above_hands_down_are_the_folders() -> None:
    box = Drive(item("file", "1", has_collaborations=True))
    rows = [{"id": "c1", "item": {"id": "1"}}, {"id": "c2", "item": {"id": "7"}}]
    box.under["/files/1/collaborations"] = rows
    assert set(Followed(BOX, COLLABORATIONS, box).sync().rows) == {"file_1/c1"}


def test_an_idle_poll_is_one_call() -> None:
    box = Drive(*(item("file", str(id), comment_count=1) for id in range(50)))
    followed = Followed(BOX, COMMENTS, box).sync()
    box.paths()
    followed.sync()
    assert box.paths() == ["/events"]


def test_a_403_says_which_right_is_missing() -> None:
    found = judged(BOX, error(403, "insufficient_scope"))
    assert isinstance(found, NotAllowedError)
    assert "insufficient_scope" in str(found)


async def test_users_of_who_is_no_administrator_are_not_allowed(bench: Bench) -> None:
    tried = await bench.connect(BOX, size=10)
    tried.order("person", admin=False)
    outcome = await tried.sync(BOX.stream("users"))
    assert outcome.failure is Failure.NOT_ALLOWED
    assert tried.status() == "active"


# -- Webhooks --------------------------------------------------------------------------------------

ADDRESS = "https://atom.test/hook"
WANTED = WatchRequest(
    id="w-1", resource="7", address=ADDRESS, secret="unused", lifetime=HOUR,
    context=Context(now=NOW, account_id="9"),
)  # fmt: skip


def calls(made: Any, *answers: Response) -> tuple[Any, list[Request]]:
    """What the steps come to, given those answers."""
    asked, found = [], iter(answers)
    try:
        asked.append(made.send(None))
        while True:
            asked.append(made.send(next(found)))
    except StopIteration as end:
        return end.value, asked


def test_folders_at_the_top_are_watched_and_not_the_root() -> None:
    assert BOX.watch
    rows = [{"type": "folder", "id": "7"}, {"type": "file", "id": "8"}]
    found, _ = calls(BOX.watch.resources(WANTED.context), response({"entries": rows}))
    assert found == ["7"]


def test_a_webhook_that_stands_already_is_turned_to_us() -> None:
    assert BOX.watch
    others = {"id": "1", "target": {"type": "file", "id": "7"}}
    ours = {"id": "2", "target": {"type": "folder", "id": "7"}}
    made, asked = calls(
        BOX.watch.create(WANTED), error(409, "conflict"),
        response({"entries": [others], "next_marker": "m"}), response({"entries": [ours]}),
        response({"id": "2"}),
    )  # fmt: skip
    assert made.vendor_id == "2"
    assert (asked[-1].method, asked[-1].path) == ("PUT", "/webhooks/2")
    assert asked[-1].json["address"] == ADDRESS


def test_a_folder_that_takes_no_webhook_is_polled() -> None:
    assert BOX.watch
    made, _ = calls(BOX.watch.create(WANTED), error(403, "insufficient_scope"))
    assert isinstance(made, NoWatch)


def test_a_webhook_that_is_gone_is_made_anew() -> None:
    assert BOX.watch
    assert BOX.watch.renew
    steps = BOX.watch.renew(WANTED, MadeWatch(vendor_id="2", expires_at=None))
    with pytest.raises(CheckpointExpiredError):
        calls(steps, error(404, "not_found"))


@pytest.mark.parametrize(
    ("trigger", "effect"),
    [("NO_ACTIVE_SESSION", Effect.REVOKED), ("WEBHOOK.DELETED", Effect.LOST)],
)
def test_what_ends_a_webhook_or_the_consent_is_told_of_the_webhook(
    trigger: str, effect: Effect
) -> None:
    body = b'{"id":"d","trigger":"%b","webhook":{"id":"55"}}' % trigger.encode()
    assert BOX.webhook
    delivery = Delivery(
        method="POST", url=ADDRESS, headers={}, query={}, body=body, received_at=NOW
    )
    (event,) = BOX.webhook.events(delivery)
    assert (event.effect, event.watch_id) == (effect, "55")


def test_what_the_sandbox_delivers_is_proven_and_a_forged_one_is_not() -> None:
    assert BOX.webhook
    assert BOX.webhook.verify
    with sandboxed("box") as place:
        account = place.connect(size=10)
        folder = place.change(
            account, "folder_items", "add", record={"type": "folder", "parent": "0"}
        )
        id = folder.removeprefix("folder_")
        body = {
            "target": {"type": "folder", "id": id},
            "address": place.receiver.url, "triggers": ["FILE.UPLOADED"],
        }  # fmt: skip
        hook = place.call(account, "POST", "/api.box.com/2.0/webhooks", body).json()
        secret = place.client.get("/_control").json()["box"]["webhook_secret"]
        place.order(forge=1)
        for _ in range(2):
            place.change(account, "files", "add", record={"parent": id})
            place.standing(idle=True)
        forged, genuine = (
            Delivery(
                method=call.method, url=place.receiver.url, headers=call.headers, query={},
                body=call.body, received_at=datetime.now(UTC),
            )
            for call in place.receiver.calls
        )  # fmt: skip
    keys = VerificationKeys(secrets=tuple(secret.split(",")))
    BOX.webhook.verify(genuine, keys)
    (event,) = BOX.webhook.events(genuine)
    assert (event.watch_id, event.type) == (hook["id"], "FILE.UPLOADED")
    for wrong in (forged, replace(genuine, body=genuine.body + b" ")):
        with pytest.raises(SignatureError):
            BOX.webhook.verify(wrong, keys)
