"""What becomes of a vendor's records before they are written; no database."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import Checkpoint, Context, ContractError, Page, Reader, Stream
from storage.records import Row, rows
from tests._stored import at


def _nothing(checkpoint: Checkpoint, context: Context) -> Reader:
    yield Page([], Checkpoint())


CONTACTS = Stream(name="contacts", read=_nothing)
VERSIONED = Stream(name="contacts", read=_nothing, version=lambda record: record["version"])


def _rows(*records: Any, stream: Stream = CONTACTS, deleted: tuple[str, ...] = ()) -> list[Row]:
    return rows(stream, Page(records, Checkpoint(), deleted), at(0))


def test_a_record_becomes_a_row_with_sorted_json() -> None:
    (row,) = _rows({"name": "Ada", "id": "1"})
    assert (row.record_id, row.data, row.version) == ("1", b'{"id":"1","name":"Ada"}', None)
    assert (row.observed_at, row.deleted, len(row.content_hash)) == (at(0), False, 16)


def test_equal_content_has_an_equal_hash_whatever_the_order_of_its_fields() -> None:
    one, other = _rows(
        {"id": "1", "a": [1, {"x": 1, "y": 2}]}, {"a": [1, {"y": 2, "x": 1}], "id": "1"}
    )
    assert one.content_hash == other.content_hash
    (changed,) = _rows({"id": "1", "a": [1, {"x": 1, "y": 3}]})
    assert changed.content_hash != one.content_hash


def test_an_integer_key_becomes_text() -> None:
    assert _rows({"id": 7})[0].record_id == "7"


def test_a_key_may_be_computed() -> None:
    stream = Stream(name="lines", read=_nothing, key=lambda record: f"{record['a']}/{record['b']}")
    assert _rows({"a": 1, "b": 2}, stream=stream)[0].record_id == "1/2"


@pytest.mark.parametrize(
    "record", [{}, {"id": None}, {"id": ""}, {"id": True}, {"id": 1.5}, {"id": ["1"]}, None, "text"]
)
def test_a_record_without_its_key_is_refused_by_stream(record: Any) -> None:
    with pytest.raises(ContractError, match="contacts: a record came without its key"):
        _rows(record)


def test_a_key_that_no_index_could_hold_is_refused() -> None:
    with pytest.raises(ContractError, match="contacts: the key 'xxx"):
        _rows({"id": "x" * 3000})


def test_deletions_follow_the_records() -> None:
    record, deleted = _rows({"id": "1"}, deleted=("2",))
    assert (record.deleted, deleted.deleted) == (False, True)
    assert (deleted.record_id, deleted.data, deleted.version) == ("2", b"{}", None)


@pytest.mark.parametrize("version", [2**63, -(2**63) - 1, 1.5, "7", True])
def test_a_version_that_is_no_bigint_is_refused_by_stream_and_key(version: object) -> None:
    with pytest.raises(ContractError, match="contacts: record '1' has a version"):
        _rows({"id": "1", "version": version}, stream=VERSIONED)


def test_a_version_that_cannot_be_read_is_refused_by_stream_and_key() -> None:
    with pytest.raises(ContractError, match="contacts: record '1' has no readable version"):
        _rows({"id": "1"}, stream=VERSIONED)


@pytest.mark.parametrize("version", [2**63 - 1, -(2**63), 0, None])
def test_a_version_may_use_the_whole_of_a_bigint(version: int | None) -> None:
    assert _rows({"id": "1", "version": version}, stream=VERSIONED)[0].version == version


def test_what_jsonb_cannot_hold_is_replaced() -> None:
    (row,) = _rows({"id": "a\x00b", "t\ud800": ["x\x00y", {"z": "\udc00"}], "whole": "\U0001f600"})
    assert row.record_id == "a\ufffdb"
    assert json.loads(row.data) == {
        "id": "a\ufffdb",
        "t\ufffd": ["x\ufffdy", {"z": "\ufffd"}],
        "whole": "\U0001f600",
    }


def test_a_backslash_before_u0000_is_kept_as_it_is() -> None:
    (row,) = _rows({"id": "1", "text": r"\u0000"})
    assert json.loads(row.data)["text"] == r"\u0000"


def test_integers_beyond_64_bits_stay_exact() -> None:
    (row,) = _rows({"id": "1", "big": 2**80 + 1, "small": -(2**70)})
    assert json.loads(row.data) == {"id": "1", "big": 2**80 + 1, "small": -(2**70)}


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("beside", [None, 2**80])
def test_a_number_that_is_not_finite_is_refused_by_stream_and_key(
    number: float, beside: int | None
) -> None:
    with pytest.raises(ContractError, match="contacts: record '1'"):
        _rows({"id": "1", "deep": [{"number": number}], "beside": beside})


def test_what_is_not_json_is_refused_by_stream_and_key() -> None:
    with pytest.raises(ContractError, match="contacts: record '1' cannot be stored as JSON"):
        _rows({"id": "1", "value": object()})


def test_a_record_nested_beyond_reason_is_refused() -> None:
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    with pytest.raises(ContractError, match="contacts: record '1' cannot be stored as JSON"):
        _rows({"id": "1", "nested": nested})


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc"), inner, max_size=4),
)


@given(JSON)
def test_any_json_value_is_kept_as_it_is(value: object) -> None:
    (row,) = _rows({"id": "1", "value": value})
    assert json.loads(row.data) == {"id": "1", "value": value}
