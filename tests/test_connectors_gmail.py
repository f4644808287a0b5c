"""Gmail's readers, driven over a played mailbox."""

from typing import Any

import pytest

from connectors import (
    CheckpointExpiredError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Request,
    Response,
    load,
)
from tests._driving import drive, response

GMAIL = load("gmail")


class Mailbox:
    """Messages, each a thread of its own number / 10, and a log of changes."""

    def __init__(self, count: int = 0, history_id: int = 100) -> None:
        self.messages = {f"m{number}": f"t{number // 10}" for number in range(count)}
        self.history_id = history_id
        self.oldest = 1
        self.log: list[dict[str, Any]] = []
        self.page_size = 500
        self.asked: list[Request] = []
        self.lapsed_pages = False

    def change(self, kind: str, message_id: str, thread: str = "t0") -> None:
        self.history_id += 1
        if kind == "messagesDeleted":
            thread = self.messages.pop(message_id, thread)
        elif kind == "messagesAdded":
            self.messages[message_id] = thread
        else:
            thread = self.messages.get(message_id, thread)
        message = {"id": message_id, "threadId": thread}
        self.log.append({"id": str(self.history_id), kind: [{"message": message}]})

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        kind, _, one = request.path.removeprefix("/users/me/").partition("/")
        if kind == "profile":
            return response({"emailAddress": "Ann@x.test", "historyId": str(self.history_id)})
        if kind == "history":
            return self._history(request)
        if kind == "labels":
            return response({"labels": [{"id": "INBOX"}]})
        live = list(self.messages) if kind == "messages" else sorted(set(self.messages.values()))
        if one:
            if one not in live:
                return response({"error": {"code": 404}}, status=404)
            return response({"id": one, "historyId": "1", "format": request.params["format"]})
        assert request.params["includeSpamTrash"] is True
        return self._page(request, kind, [{"id": found} for found in live])

    def _history(self, request: Request) -> Response:
        start = int(str(request.params["startHistoryId"]))
        if start < self.oldest:
            return response({"error": {"code": 404}}, status=404)
        if self.lapsed_pages and "pageToken" in request.params:
            return response({"error": {"code": 400}}, status=400)
        rows = [record for record in self.log if int(record["id"]) > start]
        return self._page(request, "history", rows, historyId=str(self.history_id))

    def _page(self, request: Request, kind: str, rows: list[Any], **further: Any) -> Response:
        first = int(str(request.params.get("pageToken", 0)))
        shown = rows[first : first + self.page_size]
        body: dict[str, Any] = {kind: shown, **further} if shown else {**further}
        if first + self.page_size < len(rows):
            body["nextPageToken"] = str(first + self.page_size)
        return response(body)


MESSAGES, THREADS = GMAIL.stream("messages"), GMAIL.stream("threads")


def test_a_backfill_takes_its_position_before_it_lists() -> None:
    mailbox = Mailbox(130)
    mailbox.page_size = 60
    pages = drive(MESSAGES.read, mailbox)
    assert [len(page.records) for page in pages] == [50, 10, 50, 10, 10]
    assert pages[0].records[0] == {"id": "m0", "historyId": "1", "format": "full"}
    assert mailbox.asked[0].path == "/users/me/profile"
    assert pages[0].checkpoint == {"start": "100"}
    assert pages[1].checkpoint == {"start": "100", "page": "60"}
    assert pages[-1].checkpoint == {"history_id": "100"}
    for done, page in enumerate(pages[:-1], start=1):
        rest = drive(MESSAGES.read, mailbox, page.checkpoint)
        listed = [record["id"] for read in (*pages[:done], *rest) for record in read.records]
        assert set(listed) == set(mailbox.messages)
        assert rest[-1].checkpoint == pages[-1].checkpoint


def test_an_empty_mailbox_is_read_as_such() -> None:
    for stream in (MESSAGES, THREADS):
        (page,) = drive(stream.read, Mailbox())
        assert (list(page.records), list(page.deleted)) == ([], [])
        assert page.checkpoint == {"history_id": "100"}


def test_changes_are_fetched_again_and_deletes_told() -> None:
    mailbox = Mailbox(30)
    for kind, one in (
        ("messagesAdded", "new"),
        ("labelsAdded", "m1"),
        ("labelsRemoved", "m1"),
        ("messagesAdded", "brief"),
        ("messagesDeleted", "brief"),
        ("messagesDeleted", "m2"),
    ):
        mailbox.change(kind, one)
    (page,) = drive(MESSAGES.read, mailbox, {"history_id": "100"})
    assert [record["id"] for record in page.records] == ["new", "m1"]
    assert page.deleted == ["brief", "m2"]
    assert page.checkpoint == {"history_id": "106"}


def test_a_message_that_is_named_and_not_shown_is_read_again_before_it_counts_as_gone() -> None:
    mailbox = Mailbox(3)
    mailbox.change("labelsAdded", "m1")
    del mailbox.messages["m1"]
    (page,) = drive(MESSAGES.read, mailbox, {"history_id": "100"})
    assert (list(page.records), page.deleted, page.unsettled) == ([], [], ["m1"])
    assert MESSAGES.fetch
    fetch = MESSAGES.fetch
    (again,) = drive(lambda at, context: fetch(["m1", "m2"], context), mailbox)
    assert ([one["id"] for one in again.records], again.deleted) == (["m2"], ["m1"])


def test_a_message_that_fails_by_itself_keeps_none_back_and_an_outage_is_one() -> None:
    mailbox = Mailbox(8)
    broken = {"m3"}

    def answer(request: Request) -> Response:
        if request.path.rpartition("/")[2] in broken:
            raise ProviderUnavailableError("away")
        return mailbox(request)

    (page,) = drive(MESSAGES.read, answer)
    assert (len(page.records), page.unsettled) == (7, ["m3"])
    broken |= {f"m{number}" for number in range(8)}
    with pytest.raises(ProviderUnavailableError):
        drive(MESSAGES.read, answer)


def test_the_audit_lists_ids_and_fetches_nothing() -> None:
    mailbox = Mailbox(130)
    for stream, count in ((MESSAGES, 130), (THREADS, 13)):
        assert stream.listing
        mailbox.asked.clear()
        pages = drive(stream.listing, mailbox)
        assert sum(len(page.records) for page in pages) == count
        assert len(mailbox.asked) == 1


def test_a_record_of_the_history_that_only_names_messages_has_them_read() -> None:
    mailbox = Mailbox(3)
    mailbox.history_id += 1
    mailbox.log.append({"id": str(mailbox.history_id), "messages": [{"id": "m2"}]})
    (page,) = drive(MESSAGES.read, mailbox, {"history_id": "100"})
    assert [record["id"] for record in page.records] == ["m2"]


def test_threads_follow_their_messages_and_go_with_the_last() -> None:
    mailbox = Mailbox(20)
    mailbox.change("messagesAdded", "x", "t1")
    mailbox.change("messagesAdded", "y", "t9")
    mailbox.change("messagesDeleted", "y")
    mailbox.change("messagesDeleted", "m3")
    (page,) = drive(THREADS.read, mailbox, {"history_id": "100"})
    assert [record["id"] for record in page.records] == ["t1", "t0"]
    assert page.records[0]["format"] == "minimal"
    assert page.deleted == ["t9"]


def test_each_checkpoint_of_a_long_history_resumes_it() -> None:
    mailbox = Mailbox(400)
    mailbox.page_size = 120
    for number in range(300):
        mailbox.change("labelsAdded" if number % 5 else "messagesDeleted", f"m{number}")
    pages = drive(MESSAGES.read, mailbox, {"history_id": "100"})
    assert pages[-1].checkpoint == {"history_id": "400"}
    everything = {record["id"] for page in pages for record in page.records}
    assert len(everything) == 240
    for done, page in enumerate(pages[:-1], start=1):
        rest = drive(MESSAGES.read, mailbox, page.checkpoint)
        again = {record["id"] for read in (*pages[:done], *rest) for record in read.records}
        assert again == everything


def test_a_page_token_that_lapsed_reads_the_history_again_from_its_start() -> None:
    mailbox = Mailbox(10)
    mailbox.change("labelsAdded", "m1")
    mailbox.lapsed_pages = True
    for stream in (MESSAGES, GMAIL.stream("history")):
        (page,) = drive(stream.read, mailbox, {"history_id": "100", "page": "old"})
        assert len(page.records) == 1


def test_a_history_that_gmail_forgot_starts_the_stream_over() -> None:
    mailbox = Mailbox(10)
    mailbox.change("labelsAdded", "m1")
    mailbox.oldest = 200
    for stream in (MESSAGES, THREADS, GMAIL.stream("history")):
        with pytest.raises(CheckpointExpiredError):
            drive(stream.read, mailbox, {"history_id": "100"})


def test_a_listing_that_gmail_forgot_starts_the_stream_over() -> None:
    def refuse(request: Request) -> Response:
        return response({}, status=400)

    with pytest.raises(CheckpointExpiredError):
        drive(MESSAGES.read, refuse, {"start": "100", "page": "old"})


def test_the_history_is_kept_from_the_first_read_on() -> None:
    mailbox, stream = Mailbox(10), GMAIL.stream("history")
    assert drive(stream.read, mailbox)[-1].checkpoint == {"history_id": "100"}
    mailbox.change("labelsAdded", "m1")
    (page,) = drive(stream.read, mailbox, {"history_id": "100"})
    assert [stream.version(record) for record in page.records] == [101]
    assert stream.append_only


def test_labels_are_read_whole() -> None:
    (page,) = drive(GMAIL.stream("labels").read, Mailbox())
    assert (list(page.records), page.checkpoint) == ([{"id": "INBOX"}], {})


def refusal(reason: str, *, field: str = "errors") -> Response:
    return response({"error": {"code": 403, field: [{"reason": reason}]}}, status=403)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusal("rateLimitExceeded"), RateLimitedError),
        (refusal("userRateLimitExceeded"), RateLimitedError),
        (refusal("insufficientPermissions"), NotAllowedError),
        (refusal("ACCESS_TOKEN_SCOPE_INSUFFICIENT", field="details"), NotAllowedError),
        (refusal("accessNotConfigured"), ContractError),
        (refusal("other"), type(None)),
        (response({"error": "canary"}, status=403), type(None)),
        (response(None, status=403), type(None)),
        (response({}, status=429), RateLimitedError),
    ],
)
def test_a_403_is_told_apart_by_its_reason(answer: Response, expected: type) -> None:
    assert isinstance(GMAIL.classify(answer), expected)


def test_calls_cost_quota_units() -> None:
    mailbox = Mailbox(11)
    drive(THREADS.read, mailbox)
    assert [request.cost for request in mailbox.asked] == [1, 10, 40, 40]
    mailbox.asked.clear()
    drive(MESSAGES.read, mailbox, {"history_id": "100"})
    assert [request.cost for request in mailbox.asked] == [2]


def test_a_mailbox_at_rest_whose_position_gmail_forgets_has_nothing_new() -> None:
    mailbox = Mailbox(1)
    mailbox.oldest = 10_000
    pages = drive(GMAIL.stream("history").read, mailbox)
    assert pages[-1].checkpoint == {"history_id": "100"}
    for stream in (MESSAGES, THREADS):
        (page,) = drive(stream.read, mailbox, {"history_id": "100"})
        assert (list(page.records), page.checkpoint) == ([], {"history_id": "100"})
