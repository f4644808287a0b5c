"""Streams that are read part by part: each part fails, waits and goes on by itself."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    ConnectorError,
    Context,
    ContractError,
    NotAllowedError,
    Page,
    ProviderUnavailableError,
    Reader,
    Request,
    Response,
    Stream,
    ask,
)
from connectors.kernel.paging import Read
from connectors.kernel.parts import AWAY_IN_A_ROW, FIRST_PAUSE, Parts, ask_each, each_part
from tests._driving import NOW, drive, held, response

REFUSED = NotAllowedError("an administrator has to allow it")


class Vendor:
    """Channels, each with messages; some answer with an error."""

    def __init__(self, **channels: Sequence[str]) -> None:
        self.channels = dict(channels)
        self.kept: list[str] = []
        self.errors: dict[str, ConnectorError] = {}
        self.malformed: set[str] = set()
        self.asked: list[str] = []

    def answer(self, request: Request) -> Response:
        if request.path == "/channels":
            return response([*self.channels])
        channel = request.path.strip("/")
        self.asked.append(channel)
        if channel in self.errors:
            raise self.errors[channel]
        if channel in self.malformed:
            return response(None)
        since = request.params.get("since", 0)
        assert isinstance(since, int)
        return response([{"id": f"{channel}/{m}"} for m in self.channels[channel][since:]])


def stream_of(vendor: Vendor, *, hidden: bool = False, alone: bool = False) -> Stream:
    def listing(context: Context) -> Any:
        found = yield Request.get("/channels")
        present = [one for one in found.json if one not in vendor.kept]
        return Parts(present, kept=vendor.kept, hidden=hidden)

    def read(channel: str) -> Read:
        def messages(at: Checkpoint, context: Context) -> Reader:
            seen = at.get("seen", 0)
            found = yield from ask(Request.get(f"/{channel}", params={"since": seen}))
            rows = found.json
            if len(rows) > 1:  # a page of its own
                yield Page(rows[:1], Checkpoint(seen=seen + 1))
                rows = rows[1:]
                seen += 1
            yield Page(rows, Checkpoint(seen=seen + len(rows)))

        return messages

    walked = each_part(listing, read, prefix=lambda part: f"{part}/", alone=alone)
    return Stream(name="messages", read=walked)


def round_of(
    vendor: Vendor, stream: Stream, at: Mapping[str, Any], kept: dict[str, Any], **options: Any
) -> tuple[Checkpoint, dict[str, Any], list[Page]]:
    pages = drive(stream.read, vendor.answer, at, **options)
    return pages[-1].checkpoint, held(stream, pages, kept), pages


def test_a_part_that_fails_leaves_the_others_and_what_was_read_of_it() -> None:
    vendor = Vendor(a=["1", "2"], b=["1"], c=["1"])
    stream = stream_of(vendor)
    at, kept, _ = round_of(vendor, stream, {}, {})
    assert sorted(kept) == ["a/1", "a/2", "b/1", "c/1"]
    vendor.errors["b"] = REFUSED
    vendor.channels |= {"a": ["1", "2", "3"], "c": ["1", "2"]}
    at, kept, pages = round_of(vendor, stream, at, kept)
    assert sorted(kept) == ["a/1", "a/2", "a/3", "b/1", "c/1", "c/2"]
    ((part, error),) = [(one.part, one.error) for one in pages[-1].unread or ()]
    assert (part, str(error)) == ("b", str(REFUSED))
    assert isinstance(error, NotAllowedError)
    assert pages[-1].unseen == ["b/"], "a full read buries nothing of it"


@pytest.mark.parametrize(
    "error", [REFUSED, ContractError("414"), ProviderUnavailableError("500"), None]
)
def test_whatever_concerns_one_part_only_is_noted_and_passed_by(
    error: ConnectorError | None,
) -> None:
    vendor = Vendor(a=["1"], b=["1"])
    stream = stream_of(vendor)
    if error is None:
        vendor.malformed.add("a")
    else:
        vendor.errors["a"] = error
    _, kept, pages = round_of(vendor, stream, {}, {})
    assert sorted(kept) == ["b/1"]
    assert [one.part for one in pages[-1].unread or ()] == ["a"]


@pytest.mark.parametrize("error", [BrokenConnectionError("401"), CheckpointExpiredError("410")])
def test_what_concerns_the_connection_or_the_whole_stream_ends_the_read(
    error: ConnectorError,
) -> None:
    vendor = Vendor(a=["1"], b=["1"])
    vendor.errors["a"] = error
    with pytest.raises(type(error)):
        drive(stream_of(vendor).read, vendor.answer)


def test_a_vendor_that_is_away_is_not_asked_for_every_part() -> None:
    vendor = Vendor(**{f"c{n}": ["1"] for n in range(50)})
    vendor.errors = {name: ProviderUnavailableError("503") for name in vendor.channels}
    with pytest.raises(ProviderUnavailableError):
        drive(stream_of(vendor).read, vendor.answer)
    assert len(vendor.asked) == AWAY_IN_A_ROW


def test_a_part_that_failed_is_tried_again_later_each_time_and_then_goes_on() -> None:
    vendor = Vendor(a=["1"], b=["1"])
    stream = stream_of(vendor)
    vendor.errors["b"] = REFUSED
    at, kept, _ = round_of(vendor, stream, {}, {})
    asked = []
    for minute in range(0, 60, 5):
        vendor.asked.clear()
        at, kept, pages = round_of(
            vendor, stream, at, kept, now=NOW + timedelta(minutes=minute + 5)
        )
        asked.append("b" in vendor.asked)
        assert [one.part for one in pages[-1].unread or ()] == ["b"]
    tries = [5 * (n + 1) for n, was in enumerate(asked) if was]
    pause = FIRST_PAUSE.total_seconds() / 60
    assert tries[0] == 5, "by the next sync: what was refused in mid-read may be there again"
    assert tries[1] - tries[0] == pause
    assert tries[2] - tries[1] == 2 * pause
    del vendor.errors["b"]
    at, kept, pages = round_of(vendor, stream, at, kept, now=NOW + timedelta(days=2))
    assert "b/1" in kept
    assert not pages[-1].unread
    assert "failed" not in at


def test_a_part_that_is_gone_takes_its_records_along_and_one_that_is_only_kept_does_not() -> None:
    vendor = Vendor(a=["1"], b=["1"], c=["1"])
    stream = stream_of(vendor)
    at, kept, _ = round_of(vendor, stream, {}, {})
    vendor.kept = ["b"]
    del vendor.channels["c"]
    at, kept, pages = round_of(vendor, stream, at, kept)
    assert sorted(kept) == ["a/1", "b/1"]
    assert pages[-1].unseen == ["b/"]
    vendor.kept = []
    vendor.channels["b"] = ["1", "2"]
    _, kept, _ = round_of(vendor, stream, at, kept)
    assert sorted(kept) == ["a/1", "b/1", "b/2"], "it goes on where it stood"


def test_a_part_that_is_no_longer_shown_is_told_apart_from_one_that_is_deleted() -> None:
    vendor = Vendor(a=["1"], b=["1"])
    stream = stream_of(vendor, hidden=True)
    at, _, _ = round_of(vendor, stream, {}, {})
    del vendor.channels["b"]
    pages = drive(stream.read, vendor.answer, at)
    assert [(one.prefix, one.hidden) for page in pages for one in page.listed_keys] == [
        ("b/", True)
    ]


def test_a_round_that_was_interrupted_goes_on_where_it_stood() -> None:
    vendor = Vendor(a=["1", "2", "3"], b=["1", "2"], c=["1"])
    stream = stream_of(vendor)
    listed_keys = drive(stream.read, vendor.answer)
    for stopped in range(1, len(listed_keys)):
        before = listed_keys[:stopped]
        rest = drive(stream.read, vendor.answer, before[-1].checkpoint)
        kept = held(stream, [*before, *rest])
        assert sorted(kept) == ["a/1", "a/2", "a/3", "b/1", "b/2", "c/1"]


def test_a_part_that_ends_the_process_each_time_does_not_keep_the_others_waiting() -> None:
    vendor = Vendor(a=["1"], b=["1"])
    stream = stream_of(vendor)
    context = Context(now=NOW, account_id="acme")
    at, kept = Checkpoint(), dict[str, Any]()
    for _ in range(3):  # each time the process is killed at a
        reader, sent, pages = stream.read(at, context), None, []
        for _ in range(50):
            try:
                action: Any = reader.send(sent)
            except StopIteration:
                break
            sent = None
            if isinstance(action, Page):
                pages.append(action)
            elif action.path == "/a":
                break
            else:
                sent = vendor.answer(action)
        at, kept = pages[-1].checkpoint, held(stream, pages, kept)
    assert sorted(kept) == ["b/1"]


def test_a_forgotten_position_of_one_part_starts_that_part_over_where_it_can_stand_alone() -> None:
    vendor = Vendor(a=["1"], b=["1"])
    stream = stream_of(vendor, alone=True)
    at, kept, _ = round_of(vendor, stream, {}, {})

    def forgets(request: Request) -> Response:
        if request.path == "/a" and request.params.get("since"):
            raise CheckpointExpiredError("410")
        return vendor.answer(request)

    vendor.channels["a"] = ["1", "2"]
    pages = drive(stream.read, forgets, at)
    assert sorted(held(stream, pages, kept)) == ["a/1", "a/2", "b/1"]


def test_a_part_whose_position_is_forgotten_again_and_again_fails_alone() -> None:
    vendor = Vendor(a=["1"], b=["1"])
    stream = stream_of(vendor, alone=True)
    at, kept, _ = round_of(vendor, stream, {}, {})
    vendor.errors["a"] = CheckpointExpiredError("410")
    vendor.channels["b"] = ["1", "2"]
    at, kept, pages = round_of(vendor, stream, at, kept)
    assert sorted(kept) == ["a/1", "b/1", "b/2"]
    assert [(one.part, type(one.error)) for one in pages[-1].unread or ()] == [("a", ContractError)]
    assert vendor.asked.count("a") == 3, "at first, from where it stood, and once anew"


def test_a_part_that_fails_while_all_is_read_anew_keeps_where_it_stood() -> None:
    vendor = Vendor(a=["1"], b=["1"], c=["1"])
    stream = stream_of(vendor)
    stood, kept, _ = round_of(vendor, stream, {}, {})
    vendor.errors["b"] = REFUSED
    at, _, pages = round_of(vendor, stream, {}, kept, before=stood)
    assert at["parts"]["b"] == {"seen": 1}
    assert "before" not in at
    for page in pages[:-1]:  # also where it was interrupted
        rest, _, _ = round_of(vendor, stream, page.checkpoint, kept)
        assert rest["parts"]["b"] == {"seen": 1}


def test_of_calls_side_by_side_only_the_one_that_fails_fails() -> None:
    def read(at: Checkpoint, context: Context) -> Reader:
        answers = yield from ask_each([Request.get(f"/{name}") for name in "abc"])
        rows = [one.json for one in answers if isinstance(one, Response)]
        yield Page(rows, Checkpoint())

    def answer(request: Request) -> Response:
        if request.path == "/b":
            raise REFUSED
        return response({"id": request.path})

    (page,) = drive(read, answer)
    assert [row["id"] for row in page.records] == ["/a", "/c"]


def test_many_calls_that_are_away_in_a_row_mean_that_the_vendor_is() -> None:
    asked: list[str] = []

    def read(at: Checkpoint, context: Context) -> Reader:
        yield from ask_each([Request.get(f"/{number}") for number in range(100)])
        yield Page((), Checkpoint())

    def answer(request: Request) -> Response:
        asked.append(request.path)
        raise ProviderUnavailableError("503")

    with pytest.raises(ProviderUnavailableError):
        drive(read, answer)
    assert len(asked) == 1 + AWAY_IN_A_ROW


def nothing(at: Checkpoint, context: Context) -> Reader:
    yield Page((), Checkpoint())


def test_what_was_read_of_a_part_before_it_failed_is_kept_and_gone_on_from() -> None:
    asked: list[object] = []

    def listing(context: Context) -> Any:
        yield from ()
        return Parts(["a", "b"])

    def read(part: str) -> Read:
        if part == "b":
            return nothing

        def rows(at: Checkpoint, context: Context) -> Reader:
            for number in range(at.get("next", 0), 3):
                found = yield from ask(Request.get(f"/{number}"))
                yield Page([{"id": str(found.json)}], Checkpoint(next=number + 1))

        return rows

    def answer(request: Request) -> Response:
        asked.append(request.path)
        if request.path == "/2" and len(asked) < 4:
            raise ProviderUnavailableError("504")
        return response(request.path)

    stream = Stream(name="rows", read=each_part(listing, read))
    pages = drive(stream.read, answer)
    assert sorted(held(stream, pages)) == ["/0", "/1"]
    assert [one.part for one in pages[-1].unread or ()] == ["a"]
    later = drive(stream.read, answer, pages[-1].checkpoint, now=NOW + timedelta(days=1))
    assert sorted(held(stream, [*pages, *later])) == ["/0", "/1", "/2"]
    assert asked == ["/0", "/1", "/2", "/2"]
