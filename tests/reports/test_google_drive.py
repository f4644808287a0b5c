"""Google Drive: what people reported of programs that read it, each played on ours."""

from collections.abc import Generator
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Context,
    ContractError,
    MadeWatch,
    NotAllowedError,
    RateLimitedError,
    Request,
    Response,
    WatchRequest,
    load,
)
from tests._driving import NOW, response
from tests.reports._google import Mirror, meaning, refusal

DRIVE = load("google_drive")
MINE = "user"
OWNER = {"id": "p1", "type": "user", "role": "owner", "emailAddress": "ann@firm.example"}
GUEST = {"id": "p2", "type": "user", "role": "reader", "emailAddress": "guest@else.example"}
MEMBER = {"id": "p3", "type": "group", "role": "writer", "emailAddress": "all@firm.example"}
MISSING = refusal(404, "notFound", "File not found: it.")


class Cabinet:
    """The files of a person and of shared drives, who may see them, and a log for each.

    A change token is the name of a log and a place in it; the token of a page, a place in a list.
    """

    def __init__(self, *drives: str) -> None:
        self.drives = list(drives)
        self.files: dict[str, dict[str, Any]] = {}
        self.grants: dict[str, list[dict[str, Any]]] = {}
        self.logs: dict[str, list[dict[str, Any]]] = {MINE: [], **{one: [] for one in drives}}
        self.answers: dict[str, Response] = {}
        self.late: dict[str, int] = {}
        self.page_size = 1000
        self.most = 1000  # files of which so many make an answer that Google cannot give
        self.short = False  # pages have no more than a hundred, whatever was asked for
        self.empty_grants = False
        self.breaks_at = ""  # the token of a page that cannot be had at the moment
        self.forgotten = ""  # the token of a page that is no longer taken, once

    def put(self, id_: str, corpus: str = MINE, *grants: dict[str, Any], **fields: Any) -> None:
        place = {} if corpus == MINE else {"driveId": corpus}
        given = {"id": id_, "name": f"{id_}.txt", "trashed": False, "version": "1", **fields}
        self.files[id_] = {**given, **place}
        self.grants[id_] = list(grants or (OWNER,))
        self.tell(id_, corpus)

    def tell(self, id_: str, corpus: str = MINE, *, removed: bool = False) -> None:
        self.logs[corpus].append({"changeType": "file", "fileId": id_, "removed": removed})

    def remove(self, id_: str, corpus: str = MINE, *, told: bool = True) -> None:
        """Deleted for good, or no longer shared: there is no file beside the change."""
        del self.files[id_]
        if told:
            self.tell(id_, corpus, removed=True)

    def __call__(self, request: Request) -> Response:
        assert request.params.get("supportsAllDrives") or request.path == "/drives"
        corpus = str(request.params.get("driveId", MINE))
        if request.path in self.answers:
            return self.answers[request.path]
        match request.path.split("/")[1:]:
            case ["drives"]:
                found = {"drives": [{"id": one, "name": one} for one in self.drives]}
            case ["changes", "startPageToken"]:
                return response({"startPageToken": f"{corpus}:{len(self.logs[corpus])}"})
            case ["changes"]:
                found = self._changes(request, corpus)
            case ["files", id_]:
                file = self.files.get(id_)
                return response(self._shown(file, request)) if file else MISSING
            case ["files", id_, "permissions"]:
                return self._permissions(id_)
            case _:
                return self._files(request, corpus)
        return response(found)

    def _files(self, request: Request, corpus: str) -> Response:
        token, size = request.params.get("pageToken"), int(str(request.params["pageSize"]))
        if token is not None and token == self.breaks_at:
            return refusal(503, "backendError")
        if token is not None and token == self.forgotten:
            self.forgotten = ""
            return refusal(400, "invalid", "Invalid Value")
        if size > self.most:
            return refusal(500, "internalError", "Internal Error")
        first, size = int(str(token or 0)), min(size, 100) if self.short else size
        size = min(size, self.page_size)
        wants_trash = "trashed=false" not in str(request.params.get("q", ""))
        there = [
            self._shown(file, request)
            for file in self.files.values()
            if file.get("driveId", MINE) == corpus and (wants_trash or not file["trashed"])
        ]
        body: dict[str, Any] = {"files": there[first : first + size]}
        if first + size < len(there):
            body["nextPageToken"] = str(first + size)
        return response(_of_fields(body, request))

    def _shown(self, file: dict[str, Any], request: Request) -> dict[str, Any]:
        if "permissions(" not in str(request.params["fields"]):
            return file
        if "driveId" not in file:
            return {**file, "permissions": self.grants[file["id"]]}
        return {**file, "permissions": []} if self.empty_grants else file

    def _changes(self, request: Request, corpus: str) -> dict[str, Any]:
        first = int(str(request.params["pageToken"]).partition(":")[2])
        shown = []
        for entry in self.logs[corpus][first:]:
            file = self.files.get(str(entry.get("fileId")))
            more = {"file": self._shown(file, request)} if file and not entry["removed"] else {}
            shown.append({**entry, **more})
        token = f"{corpus}:{len(self.logs[corpus])}"
        return _of_fields({"changes": shown, "newStartPageToken": token}, request)

    def _permissions(self, id_: str) -> Response:
        if self.late.get(id_, 0) > 0:
            self.late[id_] -= 1
            return MISSING
        return response({"permissions": self.grants[id_]}) if id_ in self.files else MISSING


def _of_fields(body: dict[str, Any], request: Request) -> dict[str, Any]:
    """What was asked for: what `fields` does not name is left out."""
    fields = str(request.params["fields"])
    return {name: value for name, value in body.items() if name in fields}


def mirrored(cabinet: Cabinet, stream: str = "files") -> Mirror:
    """One who has read the cabinet once."""
    mirror = Mirror(DRIVE, stream, cabinet)
    mirror.poll()
    assert mirror.error is None
    return mirror


def test_a_file_that_is_no_longer_shared_goes_though_no_change_says_so() -> None:
    """googleapis/google-api-nodejs-client#1370, 2018-09: a file was shared with a person, and came
    as a change; when it was no longer shared, or was removed by its owner, no change came, and it
    stayed."""
    cabinet = Cabinet()
    cabinet.put("mine")
    cabinet.put("theirs", ownedByMe=False)
    mirror = mirrored(cabinet)
    cabinet.remove("theirs", told=False)
    mirror.poll()
    assert mirror.stream.hides_deletes  # an audit looks for it once a week
    mirror.audit(NOW + timedelta(days=7))
    assert set(mirror.rows) == {"mine"}


def test_a_changed_file_that_answers_404_for_a_moment_loses_nothing() -> None:
    """googleapis/google-api-python-client#238, 2016-06: a change names a file, and who then asks
    for it is told 404, again and again; some of them never came, though they were there. It is not
    gone because of that: it is asked for again."""
    cabinet = Cabinet("team")
    cabinet.put("plan", "team", MEMBER)
    mirror = mirrored(cabinet, "permissions")
    assert set(mirror.rows) == {"plan/p3"}
    cabinet.grants["plan"] = [MEMBER, GUEST]
    cabinet.tell("plan", "team")
    cabinet.late["plan"] = 1
    mirror.poll()
    mirror.poll(NOW + timedelta(minutes=1))
    assert set(mirror.rows) == {"plan/p2", "plan/p3"}


def test_a_file_that_was_only_looked_at_is_not_told_as_changed() -> None:
    """googleapis/google-api-dotnet-client#2544, 2023-09: the log brings files and folders that
    somebody only opened, and every one of them was worked through again. What we ask to be shown
    does not change by a look, so the row stays as it is."""
    cabinet = Cabinet()
    cabinet.put("plan", modifiedTime="2026-11-01T09:00:00.000Z")
    mirror = mirrored(cabinet)
    before = dict(mirror.rows)
    cabinet.tell("plan")
    (call,) = [call for call in mirror.poll() if call.path == "/changes"]
    asked = str(call.params["fields"])
    assert not [name for name in ("viewedByMe", "lastViewed", "thumbnailLink") if name in asked]
    assert mirror.rows == before


def run(steps: Generator[Request, Response, Any], cabinet: Cabinet) -> tuple[Any, list[Request]]:
    """What the steps return, and what they asked."""
    asked: list[Request] = []
    answer: Any = None
    while True:
        try:
            request = steps.send(answer)
        except StopIteration as done:
            return done.value, asked
        asked.append(request)
        if request.path.endswith("/watch"):
            expires = str(int((NOW + timedelta(days=7)).timestamp() * 1000))
            answer = response({"resourceId": "R1", "expiration": expires})
        else:
            answer = cabinet(request)


def test_changes_in_a_shared_drive_are_told_by_a_channel_on_its_log() -> None:
    """PipedreamHQ/pipedream#2345, 2022-03: a channel on a file that lies in a shared drive is
    opened, and nothing ever comes of it: only one on the log of changes, of that drive, tells."""
    watch = DRIVE.watch
    assert watch
    cabinet = Cabinet("team")
    context = Context(now=NOW, account_id="ann@firm.example")
    resources, _ = run(watch.resources(context), cabinet)
    assert set(resources) == {MINE, "team"}
    wanted = WatchRequest(
        id="c1", resource="team", address="https://sync.test/api/webhooks/google_drive",
        secret="s", lifetime=timedelta(days=7), context=context,
    )  # fmt: skip
    watched, asked = run(watch.create(wanted), cabinet)
    assert isinstance(watched, MadeWatch)
    assert asked[-1].path == "/changes/watch"
    assert asked[-1].params["driveId"] == "team"
    assert asked[-1].params["includeItemsFromAllDrives"] is True


def test_a_change_of_a_shared_drive_itself_names_no_file_and_stops_nothing() -> None:
    """psd401/aistudio#1617, 2026-08: a change of a shared drive (its name, its members) has no
    `fileId`; it was taken for broken, and the position stood still before it for ever."""
    cabinet = Cabinet("team")
    cabinet.put("plan", "team", MEMBER)
    for stream in ("files", "permissions", "changes"):
        mirror = mirrored(cabinet, stream)
        for log in cabinet.logs.values():
            log.append({"changeType": "drive", "driveId": "team", "removed": False})
        cabinet.put(f"more-{stream}")
        mirror.poll()
        assert mirror.error is None
        assert [key for key in mirror.rows if f"more-{stream}" in key]


def test_what_was_in_a_shared_drive_that_is_gone_goes_with_it() -> None:
    """dust-tt/dust#4523, 2024-03: who reads a log for each drive is not told that a shared drive
    was deleted, or that one is no longer a member: its files stayed."""
    cabinet = Cabinet("team", "board")
    cabinet.put("mine")
    cabinet.put("plan", "team")
    cabinet.put("minutes", "board")
    mirror = mirrored(cabinet)
    cabinet.drives.remove("team")
    del cabinet.files["plan"]
    mirror.poll()
    assert set(mirror.rows) == {"mine", "minutes"}


def test_a_file_whose_permissions_a_viewer_may_not_see_stops_nothing() -> None:
    """elastic/connectors#1474, 2023-08: who may only view a file may not list its permissions (403
    `insufficientFilePermissions`), and the first such file ended the sync."""
    cabinet = Cabinet("team")
    cabinet.put("closed", "team", MEMBER)
    cabinet.put("open", "team", MEMBER)
    text = "The user does not have sufficient permissions for this file."
    cabinet.answers["/files/closed/permissions"] = refusal(403, "insufficientFilePermissions", text)
    mirror = mirrored(cabinet, "permissions")
    assert set(mirror.rows) == {"open/p3"}


def test_a_search_that_did_not_look_everywhere_is_not_taken_for_all_there_is() -> None:
    """agno-agi/agno#7823, 2026-05: Drive may say that a search was incomplete, some drives were not
    looked through; who does not ask for that field, or does not read it, takes what was found for
    everything."""
    cabinet = Cabinet()
    cabinet.put("plan")
    cabinet.put("notes")
    mirror = mirrored(cabinet)
    cabinet.answers["/files"] = response({"files": [], "incompleteSearch": True})
    cabinet.answers["/changes"] = refusal(400, "invalid", "Invalid Value")
    calls = mirror.poll()
    (call,) = [call for call in calls if call.path == "/files"]
    assert "incompleteSearch" in str(call.params["fields"])
    assert mirror.error is not None
    assert set(mirror.rows) == {"plan", "notes"}


def test_files_in_the_bin_are_not_read_as_files() -> None:
    """airbytehq/airbyte#58580, 2025-04: files that had been thrown away came with the others, since
    a listing shows them unless one asks otherwise."""
    cabinet = Cabinet()
    cabinet.put("plan")
    cabinet.put("thrown", trashed=True)
    mirror = mirrored(cabinet)
    assert set(mirror.rows) == {"plan"}
    cabinet.put("plan", trashed=True)
    mirror.poll()
    assert not mirror.rows


def test_files_of_the_same_name_in_the_same_folder_are_two() -> None:
    """airbytehq/airbyte#83345, 2026-08: two files of one folder may have the same name; a reader
    that told them apart by path failed at every sync, for all the files."""
    cabinet = Cabinet()
    for id_ in ("one", "two"):
        cabinet.put(id_, name="report.pdf", parents=["folder"])
    assert set(mirrored(cabinet).rows) == {"one", "two"}


def test_a_rate_limit_of_drive_is_waited_for() -> None:
    """rclone/rclone#76, 2015-06 (and rclone/rclone#3200, 2019-05): 403 `userRateLimitExceeded`, or
    429 `rateLimitExceeded`, within the quota that the console shows. It passes; nobody lacks a
    permission."""
    for refused in (
        refusal(403, "userRateLimitExceeded", "User rate limit exceeded"),
        refusal(429, "rateLimitExceeded", "Rate Limit Exceeded"),
    ):
        assert isinstance(meaning(DRIVE, refused), RateLimitedError)


def test_a_file_that_was_deleted_past_the_bin_goes() -> None:
    """rclone/rclone#3020, 2019-03: of a file that is deleted for good, without the bin, the change
    has an id and no file; a reader that looked for its parents passed over it."""
    cabinet = Cabinet()
    cabinet.put("plan")
    cabinet.put("notes")
    for stream, left in (("files", {"plan"}), ("permissions", {"plan/p1"})):
        mirror = mirrored(cabinet, stream)
        file = cabinet.files["notes"]
        cabinet.remove("notes")
        mirror.poll()
        assert set(mirror.rows) == left
        cabinet.files["notes"] = file


def test_a_listing_whose_page_has_lapsed_begins_again() -> None:
    """ericyd/gdrive-copy#83, 2019-02: after a pause the token of the next page was refused as
    invalid, and each attempt to go on ended there."""
    cabinet = Cabinet()
    cabinet.page_size = 2
    for number in range(5):
        cabinet.put(f"f{number}")
    mirror = Mirror(DRIVE, "files", cabinet)
    cabinet.breaks_at = "4"
    mirror.poll()
    assert (mirror.error is not None, len(mirror.rows)) == (True, 4)
    cabinet.breaks_at, cabinet.forgotten = "", "4"
    mirror.poll()
    assert (mirror.error, len(mirror.rows)) == (None, 5)
    assert not cabinet.forgotten


@pytest.mark.parametrize("place", ["/drives", "/files", "/changes"])
def test_a_next_page_that_is_this_page_ends_the_listing(place: str) -> None:
    """openclaw/gogcli#1078, 2026-09: when Drive repeated the token of a page, the listings of
    shared drives and of files never ended."""
    cabinet = Cabinet()
    cabinet.put("plan")
    mirror = mirrored(cabinet)
    again = {"nextPageToken": "again", "drives": [], "files": [], "changes": []}
    cabinet.answers[place] = response(again)
    if place == "/files":
        mirror = Mirror(DRIVE, "files", cabinet)
    assert len(mirror.poll()) < 20
    assert set(mirror.rows) <= {"plan"}


def test_the_fields_that_are_asked_for_name_the_next_page() -> None:
    """nextcloud/integration_google#94, 2021-12: who asks for some fields gets the token of the next
    page only when that is among them: one page was read, and nobody noticed."""
    cabinet = Cabinet()
    cabinet.page_size = 2
    for number in range(5):
        cabinet.put(f"f{number}", name=f"line\nbreak {number}")
    assert len(mirrored(cabinet).rows) == 5
    assert len(mirrored(cabinet, "permissions").rows) == 5


def test_a_page_that_is_shorter_than_asked_for_is_not_the_last() -> None:
    """SCRT-HQ/PSGSuite#175, 2019-04: a thousand files a page are asked for, and a hundred come."""
    cabinet = Cabinet()
    cabinet.short = True
    for number in range(230):
        cabinet.put(f"f{number}")
    assert len(mirrored(cabinet).rows) == 230


def test_a_page_that_is_too_large_for_google_is_asked_for_in_smaller_ones() -> None:
    """prasmussen/gdrive#105, 2016-02: listing gave 500 `internalError` whenever it was tried, until
    fewer files were asked for at once. A fault that stays the same is not waited for, for ever."""
    cabinet = Cabinet()
    cabinet.most = 200
    for number in range(5):
        cabinet.put(f"f{number}")
    mirror = Mirror(DRIVE, "files", cabinet)
    for _ in range(4):
        mirror.poll()
    assert len(mirror.rows) == 5


def test_a_change_token_that_is_refused_leads_to_a_full_read() -> None:
    """corsairdev/corsair#624, 2026-08: a token of changes that Google no longer takes (400, invalid
    value) was tried again at every push, and the sync stood still."""
    cabinet = Cabinet()
    cabinet.put("plan")
    cabinet.put("notes")
    mirror = mirrored(cabinet)
    cabinet.remove("notes")
    cabinet.put("new")
    cabinet.answers["/changes"] = refusal(400, "invalid", "Invalid Value")
    mirror.poll()
    assert (mirror.error, set(mirror.rows)) == (None, {"plan", "new"})
    del cabinet.answers["/changes"]
    mirror.poll()
    assert set(mirror.rows) == {"plan", "new"}


def test_a_permission_that_was_not_ticked_is_the_tenants_to_give() -> None:
    """sienori/Tab-Session-Manager#1537, 2025-10: who did not tick Drive on the consent page was
    shown a sync that never ended, and never what was missing."""
    refused = refusal(403, "insufficientPermissions", "Insufficient Permission")
    error = meaning(DRIVE, refused)
    assert isinstance(error, BrokenConnectionError | NotAllowedError)
    assert "allowed" in str(error)


def test_who_is_let_into_a_folder_of_a_shared_drive_is_let_into_what_is_in_it() -> None:
    """getomnico/omni#421, 2026-08: when a folder of a shared drive is shared, or is no longer,
    the log tells of the folder, and not of what is in it: wrong permissions stayed for good. They
    are right within a day."""
    cabinet = Cabinet("team")
    cabinet.put("folder", "team", MEMBER, mimeType="application/vnd.google-apps.folder")
    cabinet.put("plan", "team", MEMBER, parents=["folder"])
    mirror = mirrored(cabinet, "permissions")
    for one in ("folder", "plan"):
        cabinet.grants[one] = [MEMBER, GUEST]
    cabinet.tell("folder", "team")
    mirror.poll()
    mirror.poll(NOW + timedelta(days=1))
    assert set(mirror.rows) == {"folder/p2", "folder/p3", "plan/p2", "plan/p3"}


def test_an_empty_list_of_permissions_in_a_shared_drive_is_no_list() -> None:
    """vectara/vectara-ingest#346, 2026-05: a file in a shared drive comes with its permissions as
    an empty list, and was taken for one that nobody may see. Its own listing has them."""
    cabinet = Cabinet("team")
    cabinet.empty_grants = True
    cabinet.put("plan", "team", MEMBER, GUEST)
    mirror = mirrored(cabinet, "permissions")
    assert set(mirror.rows) == {"plan/p2", "plan/p3"}
    cabinet.tell("plan", "team")
    mirror.poll()
    assert set(mirror.rows) == {"plan/p2", "plan/p3"}


def test_an_organisation_that_lets_no_app_in_is_named_as_such() -> None:
    """CartoDB/cartodb#4671, 2015-07: 403 `domainPolicy`, the organisation has switched apps off:
    people were told that access was forbidden, and not whom to ask."""
    text = "The domain policy has disabled third-party Drive apps"
    error = meaning(DRIVE, refusal(403, "domainPolicy", text))
    assert isinstance(error, BrokenConnectionError | NotAllowedError)
    assert "administrator" in str(error)


def test_an_api_that_the_operator_has_not_switched_on_is_the_operators() -> None:
    """nextcloud/integration_google#55, 2021-03: consent went well, and then every call gave 403
    `accessNotConfigured`: the operator had not enabled the API in the project."""
    error = meaning(DRIVE, refusal(403, "accessNotConfigured", "Access Not Configured."))
    assert isinstance(error, ContractError)
    assert "not enabled" in str(error)


def test_files_of_shared_drives_are_there_for_who_asks_for_all_drives() -> None:
    """plotlinelabs/loma#111, 2026-07: without `supportsAllDrives` a file of a shared drive is "not
    found", 404, and people were told that it was not shared with them. Each call that can say so
    says it."""
    cabinet = Cabinet("team")
    cabinet.put("plan", "team", MEMBER)
    for stream in ("files", "permissions", "changes"):
        mirror = Mirror(DRIVE, stream, cabinet)
        calls = mirror.poll()
        cabinet.tell("plan", "team")
        calls += mirror.poll()
        for call in calls:
            assert call.path == "/drives" or call.params["supportsAllDrives"] is True
            if call.path in ("/files", "/changes"):
                assert call.params["includeItemsFromAllDrives"] is True
