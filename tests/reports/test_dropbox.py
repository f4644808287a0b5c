"""What people reported of programs that read Dropbox, played on our reader and our webhook."""

import hmac
import json
from collections.abc import Sequence
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    ContractError,
    Delivery,
    Effect,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    VerificationKeys,
    load,
)
from tests._driving import NOW, response
from tests.reports._following import Followed

DROPBOX = load("dropbox")
FILES, ACCOUNT = DROPBOX.stream("files"), DROPBOX.stream("account")
SECRET = "dropbox-hush"  # pragma: allowlist secret
ROOT = "3235641"


def entry(display: str, tag: str = "file", **more: Any) -> Record:
    named = {"name": display.rpartition("/")[2], "path_lower": display.lower()}
    known = {} if tag == "deleted" else {"id": f"id:{display.lower()}"}
    return {".tag": tag, **named, "path_display": display, **known, **more}


def refusal(*tags: str, status: int = 409) -> Response:
    error: dict[str, Any] = {".tag": tags[-1]}
    for tag in reversed(tags[:-1]):
        error = {".tag": tag, tag: error}
    return response({"error_summary": f"{'/'.join(tags)}/..", "error": error}, status)


class Box:
    """A Dropbox that tells one list of entries after the other, a page each."""

    def __init__(self, *pages: Sequence[Record]) -> None:
        self.pages = list(pages)
        self.asked: list[Request] = []
        self.refused: Response | None = None

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        if request.path == "/users/get_current_account":
            return response({"account_id": "dbid:1", "root_info": {"root_namespace_id": ROOT}})
        if self.refused is not None:
            refused, self.refused = self.refused, None
            return refused
        here = int(request.json.get("cursor", "0"))
        entries = self.pages[here] if here < len(self.pages) else []
        following = min(here + 1, len(self.pages))
        more = following < len(self.pages)
        return response({"entries": entries, "cursor": str(following), "has_more": more})


def followed(box: Box) -> Followed:
    return Followed(DROPBOX, FILES, box).sync()


def told(box: Box, files: Followed, *entries: Record) -> set[str]:
    box.pages.append(list(entries))
    files.sync()
    assert files.error is None
    return set(files.rows)


# -- Listings and cursors


def test_all_pages_are_read_and_an_edited_file_is_the_newer_one() -> None:
    """dropbox/dropbox-sdk-java#43 (2016-03): who read the first page alone saw old revisions."""
    box = Box([entry("/a.xml", rev="1")], [], [entry("/b.xml"), entry("/a.xml", rev="2")])
    files = followed(box)
    assert files.rows.keys() == {"/a.xml", "/b.xml"}
    assert files.rows["/a.xml"]["rev"] == "2"


def test_deletions_come_without_asking_for_what_was_deleted_before() -> None:
    """NangoHQ/integration-templates#460 (2026-04), osteele/banyan#3 (2018-02): it makes the listing
    much slower, and rows that were never buried stayed for good."""
    box = Box([entry("/docs", "folder"), entry("/docs/a.txt"), entry("/docs2")])
    files = followed(box)
    assert "include_deleted" not in box.asked[1].json
    assert told(box, files, entry("/docs", "deleted")) == {"/docs2"}


def test_a_cursor_that_is_reset_leads_to_a_full_read() -> None:
    """BasedHardware/omi#13821 (2026-09): what was answered with 409 was a list that ended early."""
    box = Box([entry("/a.txt")])
    files = followed(box)
    box.refused = refusal("reset")
    assert isinstance(files.sync().error, CheckpointExpiredError)
    assert files.rows.keys() == {"/a.txt"}


def test_changes_below_a_folder_are_told() -> None:
    """kunalvarma05/dropbox-php-sdk#64 (2017-09): a cursor of one folder kept silent of them."""
    box = Box([entry("/tests", "folder")])
    files = followed(box)
    assert box.asked[1].json == {"path": "", "recursive": True, "limit": 300}
    assert told(box, files, entry("/tests/images/a.png")) == {"/tests", "/tests/images/a.png"}


# -- Names and paths


def test_a_rename_in_other_letters_changes_its_row() -> None:
    """samschott/maestral#176 (2020-08): a second folder came up beside the first."""
    box = Box([entry("/Folder", "folder")])
    files = followed(box)
    assert told(box, files, entry("/folder", "folder")) == {"/folder"}
    assert files.rows["/folder"]["path_display"] == "/folder"


def test_letters_of_the_path_are_kept_beside_the_small_ones() -> None:
    """dropbox/dropbox-sdk-php#37 (2015-08): only the small letters of a path were shown."""
    files = followed(Box([entry("/CaSe/CaSe.docx")]))
    assert files.rows["/case/case.docx"]["path_display"] == "/CaSe/CaSe.docx"


def test_a_file_in_the_place_of_a_folder_ends_what_was_in_it() -> None:
    """dropbox/dropbox-sdk-obj-c#204 (2017-12): entries are of three kinds, and each says more than
    that something is there."""
    box = Box([entry("/a", "folder"), entry("/a/b.txt"), entry("/a b.txt")])
    files = followed(box)
    assert told(box, files, entry("/a")) == {"/a", "/a b.txt"}
    again = (entry("/a", "deleted"), entry("/a", "folder"), entry("/a/c.txt"))
    assert told(box, files, *again) == {"/a", "/a/c.txt", "/a b.txt"}
    assert files.rows["/a"][".tag"] == "folder"


# -- Team spaces


def test_folders_of_the_team_are_read_from_its_root() -> None:
    """rclone/rclone#2003 (2018-01), karthik/rdrop2#160 (2018-09): only the person's own folder was
    there to be read."""
    box = Box([entry("/Team", "folder")])
    followed(box)
    told_root = json.loads(box.asked[1].headers["dropbox-api-path-root"])
    assert told_root == {".tag": "root", "root": ROOT}


def test_a_root_that_is_no_longer_the_accounts_leads_to_a_full_read() -> None:
    """The same: an account that joins a team has another root, and the former one is refused."""
    box = Box([entry("/a.txt")])
    files = followed(box)
    box.refused = refusal("invalid_root", status=422)
    assert isinstance(files.sync().error, CheckpointExpiredError)


# -- Forms of requests and answers


def test_a_call_without_arguments_has_neither_body_nor_its_type() -> None:
    """edgurgel/httpoison#145 (2016-06): {} is refused. n8n-io/n8n#27685 (2026-03): so is a form."""
    box = Box()
    Followed(DROPBOX, ACCOUNT, box).sync()
    (asked,) = box.asked
    assert (asked.json, asked.form, dict(asked.headers)) == (None, None, {})


def test_a_refusal_in_plain_text_is_no_crash() -> None:
    """home-assistant/core#173311 (2026-06): the form of a request is refused in plain text."""
    files = followed(box := Box([entry("/a.txt")]))
    box.refused = response(None, 400, {"content-type": "text/plain; charset=utf-8"})
    assert isinstance(files.sync().error, ContractError)


@pytest.mark.parametrize(("told", "waits"), [({"retry_after": 15}, 15), ({}, 0)])
def test_too_many_requests_are_waited_for(told: dict[str, int], waits: int) -> None:
    """rclone/rclone#1788 (2017-10), #1900 (2017-12): listings ended with too_many_requests."""
    reason = {"reason": {".tag": "too_many_requests"}, **told}
    error = DROPBOX.classify(response({"error_summary": "", "error": reason}, 429))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after.total_seconds() == waits
    assert "too_many_requests" in str(error)


def test_too_many_writes_of_others_pass() -> None:
    """rclone/rclone#5242 (2021-04): too_many_write_operations comes with 409 as well."""
    error = DROPBOX.classify(refusal("too_many_write_operations"))
    assert isinstance(error, ProviderUnavailableError)


# -- Tokens


def test_a_token_of_four_hours_is_renewed() -> None:
    """dropbox/dropbox-sdk-java#494 (2023-05), froemken/dropbox#29 (2023-06): tokens ended
    after four hours. An error of this kind has the client refresh first."""
    assert DROPBOX.oauth.access_token_ttl is not None
    error = DROPBOX.classify(refusal("expired_access_token", status=401))
    assert isinstance(error, BrokenConnectionError)


def test_consent_asks_for_a_refresh_token() -> None:
    """dropbox/dropbox-sdk-java#379 (2022-01): there was none to refresh with."""
    assert DROPBOX.oauth.authorize_params["token_access_type"] == "offline"


# -- Webhooks


def delivery(body: Any, method: str = "POST", **query: str) -> Delivery:
    raw = json.dumps(body).encode()
    signature = hmac.digest(SECRET.encode(), raw, "sha256").hex()
    return Delivery(
        method=method, url="https://atom.test/hook", query=query, body=raw, received_at=NOW,
        headers={"x-dropbox-signature": signature},
    )  # fmt: skip


def test_a_delivery_names_accounts_and_nothing_else() -> None:
    """dropbox/dropbox-sdk-python#387 (2021-09): the same accounts come whatever changed in them.
    corsairdev/corsair#77 (2026-03): what changed is not said."""
    assert DROPBOX.webhook
    named = {"list_folder": {"accounts": ["dbid:1", "dbid:2"]}, "delta": {"users": [7]}}
    found = DROPBOX.webhook.events(delivery(named))
    assert [(event.account_id, event.effect) for event in found] == [
        ("dbid:1", Effect.HINT), ("dbid:2", Effect.HINT)
    ]  # fmt: skip
    odd = DROPBOX.webhook.events(delivery({"list_folder": {"accounts": [7, "dbid:2"]}}))
    assert [event.effect for event in odd] == [Effect.UNREADABLE, Effect.HINT]
    with pytest.raises(SignatureError):
        DROPBOX.webhook.events(delivery({"delta": {"users": [7]}}))


def test_a_challenge_is_answered_as_it_came() -> None:
    """huginn/huginn#2931 (2021-01): without its answer the address is not taken."""
    assert DROPBOX.webhook
    answered = DROPBOX.webhook.handshake(delivery(None, "GET", challenge="a<b>"))
    assert answered
    assert (answered.body, answered.content_type) == ("a<b>", "text/plain")
    assert answered.headers["x-content-type-options"] == "nosniff"
    assert DROPBOX.webhook.handshake(delivery({}, challenge="a")) is None


def test_the_signature_is_over_the_body_and_in_hex() -> None:
    """midday-ai/midday#691 (2025-12): deliveries are told from forged ones by their HMAC."""
    assert DROPBOX.webhook
    assert DROPBOX.webhook.verify
    good = delivery({"list_folder": {"accounts": ["dbid:1"]}})
    DROPBOX.webhook.verify(good, VerificationKeys(secrets=(SECRET,)))
    with pytest.raises(SignatureError):
        DROPBOX.webhook.verify(good, VerificationKeys(secrets=("another",)))
