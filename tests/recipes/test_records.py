"""Records: where an answer holds them, which are kept, and what is done to them."""

import copy
import gzip
from typing import Any

import pytest
import yaml

from connectors import ContractError, Request, Response
from recipes.transformations import snake_case
from tests.recipes._playing import answer, only, play, read, stream


def records(changes: str, body: Any, config: dict[str, Any] | None = None) -> list[Any]:
    vendor = {"/v1/items": answer(copy.deepcopy(body))}
    return play(only(stream(changes)), vendor, config).records


@pytest.mark.parametrize(
    ("path", "body", "found"),
    [
        ("[]", [{"id": 1}, {"id": 2}], [{"id": 1}, {"id": 2}]),
        ("[]", {"id": 1}, [{"id": 1}]),
        ("[]", {}, []),
        ("[items]", {"items": {"id": 1}}, [{"id": 1}]),
        ("[items]", {"items": {}}, []),
        ("[items]", {"items": None}, []),
        ("[items]", {"other": 1}, []),
        ("[data, '{{ config.kind }}']", {"data": {"deals": [{"id": 1}]}}, [{"id": 1}]),
        ("[data, '*']", {"data": {"a": {"id": 1}, "b": {"id": 2}}}, [{"id": 1}, {"id": 2}]),
        ("['*', a]", {"x": {"a": {"id": 1}}, "y": {"b": 1}}, [{"id": 1}]),
        ("[items, '0', sub]", {"items": [{"sub": [{"id": 1}]}]}, [{"id": 1}]),
        ("['**', deep]", {"a": [{"deep": {"id": 1}}]}, [{"id": 1}]),
        ("[sub]", [{"sub": [{"id": 1}]}, {"sub": [{"id": 2}]}], [{"id": 1}, {"id": 2}]),
    ],
)
def test_records_are_found(path: str, body: Any, found: list[Any]) -> None:
    changes = f"retriever: {{record_selector: {{extractor: {{field_path: {path}}}}}}}"
    assert records(changes, body, {"kind": "deals"}) == found


def test_a_place_that_is_missing_deletes_nothing() -> None:
    def unseen(body: Any) -> Any:
        return play(only(stream()), {"/v1/items": answer(body)}).last.unseen

    assert unseen({"items": []}) == ()
    assert unseen({"error": "odd"}) == ("",)


def test_a_record_that_is_no_object_is_refused() -> None:
    with pytest.raises(ContractError, match="a record that is no object"):
        records("", {"items": ["a"]})


def test_a_filter_keeps_what_it_says() -> None:
    changes = """
    retriever:
      record_selector:
        record_filter:
          type: RecordFilter
          condition: "{{ record.kind == config.kind and not next_page_token }}"
    """
    rows = [{"id": 1, "kind": "a"}, {"id": 2, "kind": "b"}, {"id": 3}]
    assert records(changes, {"items": rows}, {"kind": "a"}) == [{"id": 1, "kind": "a"}]


# Each as airbyte-cdk 7.39.1 does it.
TRANSFORMATIONS = {
    "AddFields": (
        """
        - type: AddFields
          fields:
            - {path: [text], value: static}
            - {path: [number], value: "{{ record.id + 1 }}"}
            - {path: [as_text], value: "{{ record.id }}", value_type: string}
            - {path: [deep, er], value: "{{ config.key }}"}
            - {path: [list, 1], value: x}
            - {path: [none], value: "{{ None }}"}
        - type: AddFields
          condition: "{{ value > 5 }}"
          fields: [{path: [five], value: "{{ 5 }}"}, {path: [six], value: "{{ 6 }}"}]
        """,
        {"id": 1},
        {
            "id": 1,
            "text": "static",
            "number": 2,
            "as_text": "1",
            "deep": {"er": "canary"},
            "list": [None, "x"],
            "none": None,
            "six": 6,
        },
    ),
    "RemoveFields": (
        """
        - type: RemoveFields
          field_pointers: [[a], [b, c], [l, "*", x], ["**", deep], [nope, nope], [m, 0]]
        """,
        {
            "id": 1,
            "a": 1,
            "b": {"c": 1, "d": 2},
            "l": [{"x": 1, "y": 2}],
            "q": {"deep": 1},
            "m": [1, 2],
        },
        {"id": 1, "b": {"d": 2}, "l": [{"y": 2}], "q": {}, "m": [None, 2]},
    ),
    "RemoveFields by their value": (
        """
        - type: RemoveFields
          condition: "{{ property is none }}"
          field_pointers: [["*"]]
        """,
        {"id": 1, "a": None},
        {"id": 1},
    ),
    "KeysToLower": ("- type: KeysToLower", {"ID": 1, "Sub": {"X": 1}}, {"id": 1, "sub": {"X": 1}}),
    "KeysToSnakeCase": (
        "- type: KeysToSnakeCase",
        {"myKey": {"Inner Key": 1}, "HTTPCode2": [{"Not": 1}], "Größe": 3},
        {"my_key": {"inner_key": 1}, "httpcode_2": [{"Not": 1}], "grosse": 3},
    ),
    "KeysReplace": (
        "- {type: KeysReplace, old: ' ', new: '{{ config.sep }}'}",
        {"a b": {"c d": 1}},
        {"a_b": {"c_d": 1}},
    ),
    "FlattenFields": (
        "- type: FlattenFields",
        {"id": 1, "a": {"b": 2}, "l": [{"c": 3}, 4]},
        {"l.1": 4, "l.0.c": 3, "a.b": 2, "id": 1},
    ),
    "FlattenFields without lists": (
        "- {type: FlattenFields, flatten_lists: false}",
        {"id": 1, "a": {"b": 2}, "l": [{"c": 3}]},
        {"id": 1, "b": 2, "l": [{"c": 3}]},
    ),
    "DpathFlattenFields": (
        "- {type: DpathFlattenFields, field_path: [a], delete_origin_value: true}",
        {"id": 1, "a": {"b": 2}},
        {"id": 1, "b": 2},
    ),
    "DpathFlattenFields of a name that the record has": (
        "- {type: DpathFlattenFields, field_path: [a], delete_origin_value: true}",
        {"id": 1, "a": {"id": 2, "b": 3}},
        {"id": 1, "a": {"id": 2, "b": 3}},
    ),
    "DpathFlattenFields with names": (
        """
        - type: DpathFlattenFields
          field_path: ["*", b]
          replace_record: true
          key_transformation: {type: KeyTransformation, prefix: "{{ config.sep }}", suffix: x}
        """,
        {"id": 1, "a": {"b": {"c": 2}}},
        {"_cx": 2},
    ),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_records_are_transformed(name: str) -> None:
    text, row, found = TRANSFORMATIONS[name]
    changes = {"transformations": yaml.safe_load(text)}
    read = only(stream(**changes))
    config = {"key": "canary", "sep": "_"}
    vendor = {"/v1/items": {"items": [copy.deepcopy(row)]}}
    (made,) = play(read, vendor, config).records
    assert made == found


def test_snake_case() -> None:
    found = [
        snake_case(key) for key in ("camelCase", "  Two words ", "a1B2", "9lives", "ID", "a-b_c")
    ]
    assert found == ["camel_case", "_two_words_", "a_1_b_2", "_9_lives", "id", "a_b_c"]


def test_types_are_those_of_the_schema_where_the_manifest_says_so() -> None:
    properties = {
        "text": {"type": ["null", "string"]},
        "number": {"type": "number"},
        "integer": {"type": ["integer", "null"]},
        "truth": {"type": "boolean"},
        "deep": {"type": "object", "properties": {"n": {"type": "integer"}}},
        "list": {"type": "array", "items": {"type": "string"}},
        "either": {"type": ["string", "integer"]},
        "bad": {"type": "integer"},
        "none": {"type": ["null", "string"]},
    }
    row = {"text": 5, "number": "1.5", "integer": "7", "truth": "yes", "deep": {"n": "1"}}
    row |= {"list": [1, "a"], "either": 5, "bad": "x", "none": None, "more": 1}
    schema = {"schema": {"type": "object", "properties": properties}}
    selector = {"record_selector": {"schema_normalization": "Default"}}
    made = only(stream(schema_loader=schema, retriever=selector))
    assert play(made, {"/v1/items": {"items": [row]}}).records == [
        {
            "text": "5",
            "number": 1.5,
            "integer": 7,
            "truth": True,
            "deep": {"n": 1},
            "list": ["1", "a"],
            "either": 5,
            "bad": "x",
            "none": None,
            "more": 1,
        }
    ]


@pytest.mark.parametrize(
    ("decoder", "content", "found"),
    [
        ("{type: JsonlDecoder}", b'{"id": 1}\n\n{"id": 2}\n', [{"id": 1}, {"id": 2}]),
        ("{type: CsvDecoder, delimiter: ;}", b"\xef\xbb\xbfid;n\n1;a\n", [{"id": "1", "n": "a"}]),
        (
            "{type: GzipDecoder, decoder: {type: JsonDecoder}}",
            gzip.compress(b'[{"id": 1}]', mtime=0),
            [{"id": 1}],
        ),
        ("{type: GzipDecoder, decoder: {type: JsonDecoder}}", b'[{"id": 1}]', [{"id": 1}]),
        ("{type: IterableDecoder}", b"a\nb\n", [{"record": "a"}, {"record": "b"}]),
        (
            "{type: CompositeRawDecoder, "
            "parser: {type: GzipParser, inner_parser: {type: CsvParser}}}",
            gzip.compress(b"id\n1\n", mtime=0),
            [{"id": "1"}],
        ),
    ],
)
def test_bodies_that_are_no_json(decoder: str, content: bytes, found: list[Any]) -> None:
    retriever = {"decoder": yaml.safe_load(decoder)}
    retriever["record_selector"] = {"extractor": {"field_path": []}}
    played = play(only(stream(retriever=retriever)), {"/v1/items": content})
    assert played.records == found
    assert [request.raw for request in played.requests] == [True]


def test_a_packed_file_that_unpacks_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("recipes.decoders.MAX_UNPACKED", 2**20)
    decoder = {"type": "GzipDecoder", "decoder": {"type": "JsonDecoder"}}
    bomb = gzip.compress(b" " * 2 * 2**20, mtime=0)
    with pytest.raises(ContractError, match="more than 1 MiB"):
        play(only(stream(retriever={"decoder": decoder})), {"/v1/items": bomb})


def test_keys() -> None:
    def key(primary: Any, record: dict[str, Any]) -> str:
        found = only(stream(primary_key=primary)).key
        assert callable(found)
        return found(record)

    assert key("id", {"id": 5}) == "5"
    assert key(["id"], {"id": "a"}) == "a"
    assert key(["a", "b"], {"a": 1, "b": "x"}) == '[1,"x"]'
    assert key([["a", "b"], ["c"]], {"a": {"b": 1}, "c": 2}) == "[1,2]"
    assert key([["a", "b"]], {"a": {"b": "z"}}) == "z"
    whole = key(None, {"x": 1, "y": 2})
    assert whole == key(None, {"y": 2, "x": 1})
    assert len(whole) == 64
    assert key("id", {"x": 1}) != key("id", {"x": 2})


XML = b"""<?xml version="1.0"?>
<feed kind="k"><item id="1">one</item><item/><item><a>x</a><b y="2"/></item>
<n:t>&amp; t</n:t></feed>"""


def xml(content: bytes) -> Any:
    selector: dict[str, Any] = {"extractor": {"field_path": []}}
    made = stream(retriever={"decoder": {"type": "XmlDecoder"}, "record_selector": selector})
    return play(only(made), {"/v1/items": content}).records


def test_xml_is_read_as_json_has_it() -> None:
    found = {
        "@kind": "k",
        "item": [{"@id": "1", "#text": "one"}, None, {"a": "x", "b": {"@y": "2"}}],
        "n:t": "& t",
    }
    assert xml(XML) == [{"feed": found}]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<a><b></a>", "malformed XML"),
        (b'<!DOCTYPE a [<!ENTITY x "xxxxxxxxxx">]><a>&x;</a>', "declares entities"),
        (b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>', "declares entities"),
        (b"<a>" * 300, "nested too deeply"),
    ],
)
def test_xml_that_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        xml(content)


def test_a_decoder_that_we_lack_is_said() -> None:
    (one,) = read(stream("retriever: {decoder: {type: CustomDecoder, class_name: a.B}}")).unread
    assert one.why == "CustomDecoder: Python of its own (a.B)"


def test_a_listing_in_any_method() -> None:
    def vendor(request: Request) -> Response:
        assert request.method == "PUT"
        return answer({"items": [{"id": 1}]})

    assert play(only(stream("retriever: {requester: {http_method: put}}")), vendor).records
