"""Google Drive's readers, driven over played drives."""

from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
    load,
)
from connectors.kernel.statuses import error_by_status
from tests._driving import NOW, drive, held, response

DRIVE = load("google_drive")
FILES, CHANGES, DRIVES, PERMISSIONS = (
    DRIVE.stream(name) for name in ("files", "changes", "shared_drives", "permissions")
)
ANN = {"id": "01", "type": "user", "role": "owner"}
BEN = {"id": "02", "type": "user", "role": "reader"}


def at(*parts: str) -> dict[str, Any]:
    """A checkpoint between two rounds, of tokens such as `user:1`."""
    return {"parts": {part.partition(":")[0]: {"token": part} for part in parts}}


def refusal(status: int, reason: str) -> Response:
    return response({"error": {"code": status, "errors": [{"reason": reason}]}}, status=status)


class Drives:
    """A person's files and those of shared drives, each corpus with a log of ids.

    A change token is the corpus and a position in its log, a page token a position in a listing.
    """

    def __init__(self, *drives: str) -> None:
        self.drives = list(drives)
        self.files: dict[str, dict[str, Any]] = {}
        self.inline = True
        self.grants: dict[str, list[dict[str, Any]]] = {}
        self.logs: dict[str, list[dict[str, Any]]] = {"user": [], **{one: [] for one in drives}}
        self.page_size = 1000
        self.answers: dict[str, Response] = {}
        self.lapsed_pages = False
        self.incomplete = False
        self.asked: list[Request] = []

    def put(self, id_: str, corpus: str = "user", **fields: Any) -> None:
        file = {"id": id_, "name": id_, "trashed": False, "version": "1", **fields}
        self.files[id_] = {**file, "driveId": corpus}
        self.grants.setdefault(id_, [ANN])
        self.logs[corpus].append({"changeType": "file", "fileId": id_, "removed": False})

    def remove(self, id_: str, corpus: str = "user") -> None:
        del self.files[id_]
        self.logs[corpus].append({"changeType": "file", "fileId": id_, "removed": True})

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self._answer(request)
        if answer.status != 200 and answer.status not in request.expect:
            error = DRIVE.classify(answer) or error_by_status("Google Drive", "it", answer)
            assert error
            raise error
        return answer

    def _answer(self, request: Request) -> Response:
        corpus = str(request.params.get("driveId", "user"))
        for place in (request.path, f"{request.path} {corpus}"):
            if place in self.answers:
                return self.answers[place]
        match request.path.split("/")[1:]:
            case ["drives"]:
                return response({"drives": [{"id": one, "name": one} for one in self.drives]})
            case ["changes", "startPageToken"]:
                return response({"startPageToken": f"{corpus}:{len(self.logs[corpus])}"})
            case ["changes"]:
                return self._changes(request, corpus)
            case ["files", id_]:
                file = self.files.get(id_)
                shown = self._shown(file, request) if file else None
                return response(shown) if shown else refusal(404, "notFound")
            case ["files", id_, "permissions"]:
                return self._permissions(request, id_)
        return self._files(request, corpus)

    def _files(self, request: Request, corpus: str) -> Response:
        if "pageToken" in request.params and self.lapsed_pages:
            return refusal(400, "invalid")
        first = int(str(request.params.get("pageToken", 0)))
        found = [file for file in self.files.values() if file["driveId"] == corpus]
        body: dict[str, Any] = {"files": [self._shown(file, request) for file in found[first:]]}
        if len(body["files"]) > self.page_size:
            del body["files"][self.page_size :]
            body["nextPageToken"] = str(first + self.page_size)
        # The query asks for what is not in the bin.
        assert request.params["q"] == "trashed=false"
        body["files"] = [file for file in body["files"] if not file["trashed"]]
        return response({**body, "incompleteSearch": self.incomplete})

    def _shown(self, file: dict[str, Any], request: Request) -> dict[str, Any]:
        inline = self.inline and "permissions(" in str(request.params["fields"])
        return {**file, **({"permissions": self.grants[file["id"]]} if inline else {})}

    def _changes(self, request: Request, corpus: str) -> Response:
        of, _, first = str(request.params["pageToken"]).partition(":")
        log = self.logs[corpus]
        if of != corpus:
            return refusal(404, "notFound")
        shown = []
        for entry in log[int(first) : int(first) + self.page_size]:
            file = self.files.get(str(entry.get("fileId")))
            there = file and (not entry["removed"] or request.params["includeCorpusRemovals"])
            shown.append(
                {**entry, **({"file": self._shown(file, request)} if file and there else {})}
            )
        body: dict[str, Any] = {"changes": shown}
        if int(first) + self.page_size < len(log):
            body["nextPageToken"] = f"{corpus}:{int(first) + self.page_size}"
        else:
            body["newStartPageToken"] = f"{corpus}:{len(log)}"
        return response(body)

    def _permissions(self, request: Request, id_: str) -> Response:
        if id_ not in self.files:
            return refusal(404, "notFound")
        first = int(str(request.params.get("pageToken", 0)))
        body: dict[str, Any] = {"permissions": self.grants[id_][first : first + self.page_size]}
        if first + self.page_size < len(self.grants[id_]):
            body["nextPageToken"] = str(first + self.page_size)
        return response(body)

    def paths(self) -> list[str]:
        return [
            f"{request.path} {request.params.get('driveId', '')}".strip() for request in self.asked
        ]


def test_the_start_token_is_fetched_before_the_full_listing() -> None:
    drives = Drives()
    drives.put("a")
    pages = drive(FILES.read, drives)
    assert drives.paths() == ["/drives", "/changes/startPageToken", "/files"]
    assert set(held(FILES, pages)) == {"a"}
    assert pages[-1].checkpoint == at("user:1")


def test_where_each_log_stands_is_asked_before_its_listing_and_the_persons_own_comes_last() -> None:
    drives = Drives("d1")
    first = drive(FILES.read, drives)
    assert drives.paths() == [
        *("/drives", "/changes/startPageToken d1", "/files d1"),
        *("/changes/startPageToken", "/files"),
    ]
    drives.drives.append("d2")
    drives.logs["d2"] = []
    drives.asked.clear()
    drive(FILES.read, drives, first[-1].checkpoint)
    assert drives.paths() == [
        *("/drives", "/changes d1", "/changes/startPageToken d2", "/files d2", "/changes")
    ]


def test_a_file_that_moved_to_a_drive_that_is_not_followed_yet_comes_back_with_its_listing() -> (
    None
):
    drives = Drives()
    drives.put("a")
    first = drive(FILES.read, drives)
    # The drive is joined, and the file moves there, after the round has asked what there is.
    drives.logs["d1"] = []
    drives.logs["user"].append({"changeType": "file", "fileId": "a", "removed": True})
    drives.put("a", "d1")
    pages = drive(FILES.read, drives, first[-1].checkpoint)
    left = held(FILES, pages, held(FILES, first))
    assert left == {}
    drives.drives.append("d1")
    again = drive(FILES.read, drives, pages[-1].checkpoint)
    assert held(FILES, again, left)["a"]["driveId"] == "d1"


def test_the_permissions_in_a_drive_that_is_found_later_are_stated_whole() -> None:
    drives = Drives()
    drives.put("a")
    first = drive(PERMISSIONS.read, drives)
    drives.logs["d1"] = []
    drives.put("b", "d1")
    drives.grants["b"] = [ANN]
    # A member may see in the own log what is in a drive that is not followed yet.
    drives.logs["user"].append({"changeType": "file", "fileId": "b", "removed": False})
    pages = drive(PERMISSIONS.read, drives, first[-1].checkpoint)
    seen = held(PERMISSIONS, pages, held(PERMISSIONS, first))
    assert set(seen) == {"a/01", "b/01"}
    drives.grants["b"] = [BEN]
    drives.drives.append("d1")
    again = drive(PERMISSIONS.read, drives, pages[-1].checkpoint)
    assert set(held(PERMISSIONS, again, seen)) == {"a/01", "b/02"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal(404, "notFound"), NotAllowedError),
        (refusal(403, "teamDriveMembershipRequired"), NotAllowedError),
        (refusal(400, "invalid"), ContractError),
        (response(None, status=503), ProviderUnavailableError),
        (response({}), ContractError),
    ],
)
def test_a_shared_drive_that_cannot_be_read_loses_nothing_and_the_others_go_on(
    answer: Response, expected: type[Exception]
) -> None:
    drives = Drives("d1", "d2")
    drives.put("a")
    drives.put("b", "d1")
    drives.put("c", "d2")
    first = drive(FILES.read, drives)
    drives.put("d")
    drives.put("e", "d2")
    former = first[-1].checkpoint
    drives.answers = {"/changes/startPageToken d1": answer, "/files d1": answer}
    if expected is not ContractError:
        drives.answers["/changes d1"] = answer
        pages = drive(FILES.read, drives, former)
        (unread,) = pages[-1].unread or ()
        assert (unread.part, type(unread.error)) == ("d1", expected)
        assert set(held(FILES, pages, held(FILES, first))) == set("abcde")
    pages = drive(FILES.read, drives)
    (unread,) = pages[-1].unread or ()
    assert (unread.part, type(unread.error)) == ("d1", expected)
    assert set(held(FILES, pages)) == set("acde")
    assert pages[-1].unseen == [""]  # nothing counts as gone
    drives.answers = {}
    again = drive(FILES.read, drives, pages[-1].checkpoint, now=NOW + timedelta(hours=1))
    assert set(held(FILES, again)) == {"b"}


def test_a_checkpoint_of_the_former_form_goes_on() -> None:
    drives = Drives("d1")
    drives.put("a")
    for former in (
        {"tokens": {"user": "user:1", "d1": "d1:0"}},
        {"tokens": {"user": "user:1"}, "pending": ["d1"], "starts": {"d1": "d1:0"}, "again": []},
    ):
        pages = drive(FILES.read, drives, former)
        assert (held(FILES, pages), pages[-1].checkpoint) == ({}, at("d1:0", "user:1"))


def test_pages_that_are_too_large_are_asked_for_in_smaller_ones() -> None:
    drives = Drives()
    for number in range(3):
        drives.put(str(number))

    def answer(request: Request) -> Response:
        if request.path == "/files" and int(str(request.params["pageSize"])) > 100:
            raise ProviderUnavailableError("Google Drive cannot answer now (500)")
        return drives(request)

    assert len(held(FILES, drive(FILES.read, answer))) == 3


def test_every_shared_drive_is_listed_for_itself_and_followed_by_its_own_log() -> None:
    drives = Drives("d1", "d2")
    drives.put("a")
    drives.put("b", "d1")
    first = drive(FILES.read, drives)
    assert set(held(FILES, first)) == {"a", "b"}
    listings = [one for one in drives.asked if one.path == "/files"]
    assert [(one.params["corpora"], one.params.get("driveId")) for one in listings] == [
        *(("drive", "d1"), ("drive", "d2"), ("user", None))
    ]
    everywhere = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}
    assert all(everywhere.items() <= one.params.items() for one in listings)
    drives.put("c", "d2")
    drives.remove("b", "d1")
    pages = drive(FILES.read, drives, first[-1].checkpoint)
    assert set(held(FILES, pages, held(FILES, first))) == {"a", "c"}
    assert pages[-1].checkpoint == at("d1:2", "d2:1", "user:1")


def test_the_fields_that_are_wanted_are_named_for_without_them_there_are_four() -> None:
    drives = Drives()
    drive(FILES.read, drives)
    drive(FILES.read, drives, {"tokens": {"user": "user:0"}})
    for path in ("/files", "/changes"):
        (asked,) = (one for one in drives.asked if one.path == path)
        fields = str(asked.params["fields"])
        assert "nextPageToken" in fields
        assert {"md5Checksum", "modifiedTime", "trashed"} <= set(
            fields.replace("(", ",").split(",")
        )
        # What changes with no entry in a log, or with each answer.
        assert not {"permissionIds", "shared", "thumbnailLink"} & set(fields.split(","))


def test_a_search_that_was_not_complete_is_no_listing() -> None:
    drives = Drives()
    drives.incomplete = True
    with pytest.raises(ProviderUnavailableError):
        drive(FILES.read, drives)


def test_removed_is_a_delete_and_so_is_the_bin() -> None:
    drives = Drives()
    for id_ in "abc":
        drives.put(id_)
    first = drive(FILES.read, drives)
    drives.remove("a")
    drives.put("b", trashed=True)
    drives.put("c", starred=True)
    pages = drive(FILES.read, drives, first[-1].checkpoint)
    assert [key for page in pages for key in page.deleted] == ["a", "b"]
    assert set(held(FILES, pages, held(FILES, first))) == {"c"}
    drives.put("b")
    back = drive(FILES.read, drives, pages[-1].checkpoint)
    assert set(held(FILES, back)) == {"b"}


def test_a_file_that_moved_into_a_shared_drive_is_not_deleted() -> None:
    drives = Drives("d1")
    drives.put("a")
    first = drive(FILES.read, drives)
    drives.logs["user"].append({"changeType": "file", "fileId": "a", "removed": True})
    drives.put("a", "d1")
    pages = drive(FILES.read, drives, first[-1].checkpoint)
    assert held(FILES, pages, held(FILES, first))["a"]["driveId"] == "d1"


def test_a_change_of_a_shared_drive_is_no_file() -> None:
    drives = Drives("d1")
    first = drive(FILES.read, drives)
    change = {"changeType": "drive", "driveId": "d1", "removed": False, "drive": {"id": "d1"}}
    for corpus in ("user", "d1"):
        drives.logs[corpus].append(change)
    pages = drive(FILES.read, drives, first[-1].checkpoint)
    assert held(FILES, pages) == {}


def test_each_page_of_a_log_has_a_token_to_go_on_from_and_the_last_a_new_start() -> None:
    drives = Drives()
    first = drive(FILES.read, drives)
    for number in range(5):
        drives.put(str(number))
    drives.page_size = 2
    pages = drive(FILES.read, drives, first[-1].checkpoint)
    tokens = [page.checkpoint["here"]["token"] for page in pages if "here" in page.checkpoint]
    assert tokens == ["user:2", "user:4"]
    assert pages[-1].checkpoint == at("user:5")
    asked = [dict(one.params) for one in drives.asked if one.path == "/changes"]
    assert {"includeRemoved": True, "restrictToMyDrive": False}.items() <= asked[0].items()


@pytest.mark.parametrize("stream", [FILES, PERMISSIONS], ids=["files", "permissions"])
def test_a_read_that_is_stopped_after_any_page_goes_on_from_there(stream: Any) -> None:
    drives = Drives("d1")
    drives.page_size = 2
    for number in range(5):
        drives.put(f"u{number}")
        drives.put(f"d{number}", "d1")
    at: Any = {}
    former: dict[str, Any] = {}
    for number in range(2):
        pages = drive(stream.read, drives, at)
        listed_keys = held(stream, pages, former)
        for done, page in enumerate(pages[:-1], start=1):
            rest = drive(stream.read, drives, page.checkpoint)
            assert held(stream, [*pages[:done], *rest], former) == listed_keys
            assert rest[-1].checkpoint == pages[-1].checkpoint
        at, former = pages[-1].checkpoint, listed_keys
        drives.remove(f"u{number}")
        drives.put("u9")
        drives.remove(f"d{number}", "d1")
        drives.put("d4", "d1", trashed=True)
        drives.logs["d1"].append({"changeType": "drive", "driveId": "d1", "removed": False})


def test_a_page_token_that_lapsed_lists_the_corpus_again_from_its_start() -> None:
    drives = Drives()
    drives.put("a")
    drives.lapsed_pages = True
    here = {"start": "user:0", "page": "7"}
    pages = drive(FILES.read, drives, {"parts": {}, "todo": ["user"], "here": here})
    assert set(held(FILES, pages)) == {"a"}
    assert pages[-1].checkpoint == at("user:0")


@pytest.mark.parametrize("stream", [FILES, PERMISSIONS], ids=["files", "permissions"])
@pytest.mark.parametrize("status", [400, 404, 410])
def test_a_change_token_that_is_refused_starts_the_stream_over(stream: Any, status: int) -> None:
    drives = Drives()
    drives.answers["/changes"] = refusal(status, "notFound" if status == 404 else "invalid")
    with pytest.raises(CheckpointExpiredError):
        drive(stream.read, drives, {"tokens": {"user": "user:0"}})


def test_a_shared_drive_that_was_left_starts_the_stream_over_for_nobody_tells_its_files() -> None:
    drives = Drives("d1")
    first = drive(FILES.read, drives)
    drives.drives = []
    with pytest.raises(CheckpointExpiredError):
        drive(FILES.read, drives, first[-1].checkpoint)


def test_a_persons_own_drive_that_is_refused_loses_nothing() -> None:
    for path in ("/changes/startPageToken", "/files"):
        drives = Drives()
        drives.answers[path] = refusal(403, "forbidden")
        with pytest.raises(NotAllowedError):
            drive(FILES.read, drives)


def test_without_the_scope_for_shared_drives_the_others_go_on_and_known_ones_are_kept() -> None:
    drives = Drives("d1")
    drives.put("b", "d1")
    first = drive(FILES.read, drives)
    drives.answers["/drives"] = refusal(403, "insufficientPermissions")
    with pytest.raises(NotAllowedError, match="reconnect and allow it"):
        drive(DRIVES.read, drives)
    drives.put("a")
    drives.put("c", "d1")
    pages = drive(FILES.read, drives, first[-1].checkpoint)
    assert set(held(FILES, pages, held(FILES, first))) == {"a", "b", "c"}
    assert set(held(FILES, drive(FILES.read, drives))) == {"a"}


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("accessNotConfigured", ContractError),
        ("domainPolicy", NotAllowedError),
        ("somethingNew", NotAllowedError),
    ],
)
def test_a_refusal_of_shared_drives_is_never_read_as_none_of_them(
    reason: str, expected: type[Exception]
) -> None:
    drives = Drives("d1")
    drives.answers["/drives"] = refusal(403, reason)
    for stream in (DRIVES, FILES, PERMISSIONS):
        with pytest.raises(expected):
            drive(stream.read, drives)


def test_shared_drives_are_read_whole() -> None:
    (page,) = drive(DRIVES.read, Drives("d1", "d2"))
    assert [record["id"] for record in page.records] == ["d1", "d2"]
    assert DRIVES.snapshot


def test_the_log_is_kept_from_the_first_read_on_under_type_and_id() -> None:
    drives = Drives("d1")
    drives.put("a")
    first = drive(CHANGES.read, drives)
    assert held(CHANGES, first) == {}
    drives.put("a")
    drives.logs["user"].append({"changeType": "drive", "driveId": "d1", "removed": False})
    pages = drive(CHANGES.read, drives, first[-1].checkpoint)
    assert set(held(CHANGES, pages)) == {"file/a", "drive/d1"}
    assert CHANGES.append_only
    assert "/drives" not in drives.paths()


def test_a_log_that_google_lost_is_kept_again_from_now_on() -> None:
    drives = Drives()
    drives.put("a")
    pages = drive(CHANGES.read, drives, {"tokens": {"user": "another:0"}})
    assert held(CHANGES, pages) == {}
    assert pages[-1].checkpoint == at("user:1")


@pytest.mark.parametrize("inline", [True, False])
def test_the_permissions_of_a_file_are_refetched_when_it_changed_and_absence_deletes(
    inline: bool,
) -> None:
    drives = Drives()
    drives.inline = inline
    for id_ in "abc":
        drives.put(id_)
        drives.grants[id_] = [ANN, BEN]
    first = drive(PERMISSIONS.read, drives)
    drives.grants["a"] = [ANN]
    drives.put("a")
    drives.remove("b")
    drives.put("c", trashed=True)
    drives.asked.clear()
    pages = drive(PERMISSIONS.read, drives, first[-1].checkpoint)
    left = held(PERMISSIONS, pages, held(PERMISSIONS, first))
    assert left == {"a/01": {**ANN, "file_id": "a"}}
    detailed = [path for path in drives.paths() if "/permissions" in path]
    assert detailed == ([] if inline else ["/files/a/permissions"])


def test_a_file_with_more_permissions_than_a_page_holds_is_read_to_its_end() -> None:
    drives = Drives()
    drives.put("a")
    drives.inline = False
    drives.page_size = 2
    drives.grants["a"] = [{**BEN, "id": f"{number:02}"} for number in range(5)]
    assert len(held(PERMISSIONS, drive(PERMISSIONS.read, drives))) == 5


def test_who_may_see_a_file_is_not_for_everybody_to_see() -> None:
    drives = Drives()
    drives.inline = False
    drives.put("a")
    drives.put("b")
    first = drive(PERMISSIONS.read, drives)
    drives.answers["/files/a/permissions"] = refusal(403, "insufficientFilePermissions")
    drives.put("a")
    pages = drive(PERMISSIONS.read, drives, first[-1].checkpoint)
    assert set(held(PERMISSIONS, pages, held(PERMISSIONS, first))) == {"b/01"}
    assert [listing.hidden for page in pages for listing in page.listed_keys] == [True]


def test_permissions_that_cannot_be_read_now_stay_and_are_read_again() -> None:
    drives = Drives()
    drives.inline = False
    for id_ in "ab":
        drives.put(id_)
    first = drive(PERMISSIONS.read, drives)
    for answer in (refusal(404, "notFound"), response(None, status=500)):
        drives.answers["/files/a/permissions"] = answer
        for id_ in "ab":
            drives.put(id_)
        drives.grants["b"] = [BEN]
        pages = drive(PERMISSIONS.read, drives, first[-1].checkpoint)
        assert set(held(PERMISSIONS, pages, held(PERMISSIONS, first))) == {"a/01", "b/02"}
        assert {key for page in pages for key in page.unsettled} == {"a/"}
    assert PERMISSIONS.fetch
    fetch = PERMISSIONS.fetch
    stored = {**held(PERMISSIONS, first), "c/02": {**BEN, "file_id": "c"}}
    drives.grants["b"] = [ANN, BEN]
    pages = drive(lambda at, context: fetch(["a/", "b/02", "c/02"], context), drives)
    # Of `a` it is not known yet, of `b` one key was asked for, and `c` is gone.
    assert set(held(PERMISSIONS, pages, stored)) == {"a/01", "b/01", "b/02"}
    assert [one["id"] for page in pages for one in page.records] == ["02"]
    drives.put("a", trashed=True)
    pages = drive(lambda at, context: fetch(["a/"], context), drives)
    assert set(held(PERMISSIONS, pages, stored)) == {"b/01", "c/02"}


def test_with_a_change_of_a_folder_the_permissions_in_its_drive_are_read_anew_once_a_day() -> None:
    drives = Drives("d1")
    drives.inline = False
    drives.put("b", "d1")
    pages = drive(PERMISSIONS.read, drives)
    for hours, listed in ((1, False), (23, False), (24, True), (25, False), (48, True)):
        if hours != 23:
            drives.put("f", "d1", mimeType="application/vnd.google-apps.folder")
        drives.asked.clear()
        now = NOW + timedelta(hours=hours)
        pages = drive(PERMISSIONS.read, drives, pages[-1].checkpoint, now=now)
        assert ("/files d1" in drives.paths()) == listed


def test_with_a_change_of_a_shared_drive_the_permissions_in_it_are_read_anew() -> None:
    drives = Drives("d1")
    drives.inline = False
    drives.put("a")
    drives.put("b", "d1")
    drives.put("c", "d1")
    first = drive(PERMISSIONS.read, drives)
    drives.logs["d1"].append({"changeType": "drive", "driveId": "d1", "removed": False})
    for id_ in "abc":
        drives.grants[id_] = [BEN]
    drives.asked.clear()
    pages = drive(PERMISSIONS.read, drives, first[-1].checkpoint)
    assert set(held(PERMISSIONS, pages, held(PERMISSIONS, first))) == {"a/01", "b/02", "c/02"}
    assert "/files" not in drives.paths()
    assert "/files d1" in drives.paths()


@pytest.mark.parametrize(
    "reason", ["userRateLimitExceeded", "rateLimitExceeded", "dailyLimitExceeded"]
)
def test_a_spent_quota_is_told_from_a_refusal(reason: str) -> None:
    assert isinstance(DRIVE.classify(refusal(403, reason)), RateLimitedError)


def test_the_account_is_the_persons_address_as_at_googles_other_integrations() -> None:
    steps = DRIVE.identify({}, {})
    asked = next(steps)
    assert (asked.path, asked.params) == ("/about", {"fields": "user"})
    with pytest.raises(StopIteration) as stopped:
        steps.send(response({"user": {"emailAddress": "Ann@X.test", "permissionId": "01"}}))
    (account,) = stopped.value.value
    assert (account.id, account.name) == ("ann@x.test", "Ann@X.test")


def test_all_of_googles_integrations_are_one_app_and_each_adds_to_what_was_granted() -> None:
    auths = [load(name).oauth for name in ("gmail", "google_calendar", "google_drive")]
    assert {one.env for one in auths} == {"GOOGLE"}
    for one in auths:
        assert one.authorize_params == {
            "access_type": "offline",
            "prompt": "consent",
            "include_granted_scopes": "true",
        }
        assert all(one.scopes.values())
    scopes = [scope for one in auths for scope in one.scopes if "/auth/" in scope]
    assert len(scopes) == len(set(scopes))


def test_a_session_that_an_organisation_ended_says_so() -> None:
    explain = DRIVE.oauth.error_from
    error = explain({"error": "invalid_grant", "error_subtype": "invalid_rapt"})
    assert isinstance(error, BrokenConnectionError)
    assert "sign in again" in str(error)
    assert explain({"error": "invalid_grant"}) is None
