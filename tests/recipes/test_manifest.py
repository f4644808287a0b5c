"""The manifest's text: references, parameters, lines, and what is wrong with it."""

from itertools import pairwise

import pytest

import recipes
from recipes.manifest import load, slug
from tests.recipes._playing import manifest, only, play, read, stream

REFERRED = """
version: 6.0.0
type: DeclarativeSource
definitions:
  requester:
    type: HttpRequester
    url_base: https://api.made-up.example/v1
    path: /{{ parameters.path }}
  selector:
    type: RecordSelector
    extractor: {type: DpathExtractor, field_path: ["{{ parameters['inside'] }}"]}
  base:
    $parameters: {inside: items, path: base}
    retriever:
      type: SimpleRetriever
      requester: {$ref: "#/definitions/requester", http_method: POST}
      record_selector: {$ref: "#/definitions/selector"}
  names:
    list/with/slashes: two
streams:
  - $ref: "#/definitions/base"
    type: DeclarativeStream
    name: first
    primary_key: [id]
    $parameters: {inside: rows, path: first}
  - $ref: "#/definitions/base"
    type: DeclarativeStream
    name: "#/definitions/names/list/with/slashes"
check: {type: CheckStream, stream_names: [first]}
"""


def test_references_are_merged_and_parameters_reach_what_is_inside() -> None:
    recipe = recipes.read(REFERRED, name="x")
    assert [one.title for one in recipe.connector.streams] == ["first", "two"]
    first, second = recipe.connector.streams
    # What stands beside a reference goes before it: so do its parameters, as a whole.
    assert play(first, {"POST /v1/first": {"rows": [{"id": 1}]}}).records == [{"id": 1}]
    assert play(second, {"POST /v1/base": {"items": [{"id": 2}]}}).records == [{"id": 2}]


def test_a_parameter_fills_a_field_that_is_empty_and_no_other() -> None:
    root = load(
        "type: DeclarativeSource\nstreams:\n"
        "- type: DeclarativeStream\n  name: ''\n  primary_key: [id]\n"
        "  $parameters: {name: given, primary_key: other}\n  retriever: {type: SimpleRetriever}\n"
    )
    (one,) = root.parts("streams")
    assert (one["name"], one["primary_key"]) == ("given", ["id"])
    assert one["retriever"]["name"] == "given"
    assert one["retriever"].parameters == {"name": "given", "primary_key": "other"}


def test_a_json_schema_gets_no_parameters() -> None:
    made = {**stream(), "$parameters": {"name": "items"}}
    root = load(manifest(made))
    schema = root.parts("streams")[0]["schema_loader"]["schema"]
    assert schema == made["schema_loader"]["schema"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1", "line 2: not YAML"),
        ("- a", "the manifest is no mapping"),
        ("type: Other", "line 1: the type is 'Other', not DeclarativeSource"),
        ("streams:\n- $ref: '#/nowhere'", "line 2: the reference #/nowhere leads to nothing"),
        (
            "definitions: {a: '#/definitions/b', b: '#/definitions/a'}\nstreams: '#/definitions/a'",
            "leads back to itself",
        ),
        ("streams: [1]", "line 1: DeclarativeSource.streams holds what is no component"),
        ("streams: []", "line 1: the manifest has no streams"),
        ("x" * 6_000_000, "longer than 5,000,000 characters"),
        ("[" * 20_000, "not YAML"),
    ],
    ids=range(9),
)
def test_what_is_no_manifest_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(recipes.ManifestError) as failed:
        recipes.read(text, name="x")
    assert said in str(failed.value)


@pytest.mark.parametrize("way", ["anchors", "references"])
def test_references_that_multiply_without_end_are_refused(way: str) -> None:
    names = "abcdefghi"
    if way == "anchors":
        rows = [
            f"{name}: &{name} [{', '.join(['*' + below] * 9)}]" for below, name in _pairs(names)
        ]
        text = "\n".join(["a: &a [x]", *rows, "streams: *i"])
    else:
        nine = ", ".join(["'#/definitions/{}'"] * 9)
        rows = [f"  {name}: [{nine.format(*[below] * 9)}]" for below, name in _pairs(names)]
        text = "\n".join(["definitions:", "  a: [x]", *rows, "streams: '#/definitions/i'"])
    with pytest.raises(recipes.ManifestError, match="too large"):
        recipes.read(text, name="x")


def _pairs(names: str) -> list[tuple[str, str]]:
    return list(pairwise(names))


def test_a_stream_that_needs_what_we_lack_is_left_out_and_says_why() -> None:
    custom = stream(
        "retriever: {record_selector: {extractor: {type: CustomRecordExtractor, "
        "class_name: source.Own, field_path: null}}}",
        name="custom",
    )
    undeclared = stream("retriever: {requester: {path: '/{{ nobody }}'}}", name="undeclared")
    recipe = read(stream(), custom, undeclared)
    assert [one.name for one in recipe.connector.streams] == ["items"]
    found = [(one.stream, one.why) for one in recipe.unread]
    assert found == [
        ("custom", "CustomRecordExtractor: Python of its own (source.Own)"),
        ("undeclared", "a template's variable: nobody"),
    ]
    text = manifest(stream(), custom, undeclared).splitlines()
    assert "CustomRecordExtractor" in text[recipe.unread[0].line - 1]
    assert "url_base" in text[recipe.unread[1].line]  # the component begins on the line before


def test_names_fit_tables_and_are_apart() -> None:
    assert slug("Project Tasks (v2)") == "project_tasks_v2"
    assert slug("monthlyActiveUsers") == "monthly_active_users"
    assert slug("2fa") == "s_2fa"
    recipe = read(stream(), stream(name="Items"), stream(name="a" * 70))
    names = [one.name for one in recipe.connector.streams]
    assert names[:2] == ["items", "items_2"]
    assert len(names[2]) == 40


def test_columns_have_the_types_of_the_schema() -> None:
    properties = {
        "id": {"type": ["null", "integer"]},
        "createdAt": {"type": "string", "format": "date-time"},
        "day": {"type": ["string", "null"], "format": "date"},
        "is_new": {"type": "boolean"},
        "tags": {"type": "array"},
        "either": {"type": ["string", "integer"]},
        "data": {"type": "string"},
        "untyped": {},
    }
    made = stream(schema_loader={"schema": {"type": "object", "properties": properties}})
    found = {name: (one.path, one.type) for name, one in only(made).columns.items()}
    assert found == {
        "id": (("id",), "numeric"),
        "name": (("name",), "text"),
        "created_at": (("createdAt",), "timestamptz"),
        "day": (("day",), "text"),
        "is_new": (("is_new",), "boolean"),
        "tags": (("tags",), "jsonb"),
        "either": (("either",), "jsonb"),
        "data_": (("data",), "text"),
        "untyped": (("untyped",), "jsonb"),
    }


def test_secrets_are_found_wherever_they_stand() -> None:
    secret = {"type": "string", "airbyte_secret": True}
    spec = {
        "properties": {
            "key": secret,
            "credentials": {"oneOf": [{"properties": {"token": secret}}, {"properties": {}}]},
            "apps": {"type": "array", "items": {"properties": {"secret": secret}}},
        }
    }
    recipe = read(stream(), spec={"type": "Spec", "connection_specification": spec})
    assert recipe.secrets == {("key",), ("credentials", "token"), ("apps", "*", "secret")}


def test_streams_that_only_a_connection_knows_are_said() -> None:
    dynamic = {
        "type": "DynamicDeclarativeStream",
        "name": "tables",
        "components_resolver": {"type": "HttpComponentsResolver"},
    }
    (one,) = read(stream(), dynamic_streams=[dynamic]).unread
    assert one.why == "streams that only a connection knows (HttpComponentsResolver)"


def test_names_may_be_written_with_parameters() -> None:
    made = stream(name="{{ parameters['what'] }}", primary_key=["{{ parameters.of }}"])
    made["$parameters"] = {"what": "things", "of": "id"}
    (one,) = read(made).connector.streams
    assert (one.name, one.key({"id": 5})) == ("things", "5")  # type: ignore[operator]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ("retriever: 5", "DeclarativeStream.retriever is no component"),
        ("retriever: {requester: {http_method: FETCH}}", "http_method is 'FETCH'"),
        ("retriever: {requester: {url_base: 'http://x.example'}}", "an address that is not https"),
        ("retriever: {record_selector: {extractor: {field_path: x}}}", "without a field_path"),
        ("transformations: [{type: AddFields, fields: [{value: x}]}]", "AddFields without a path"),
        ("retriever: {requester: {request_parameters: [1]}}", "request_parameters is no mapping"),
        (
            "retriever: {paginator: {type: DefaultPaginator, pagination_strategy: "
            "{type: PageIncrement, start_from_page: x}}}",
            "PageIncrement.start_from_page is no number",
        ),
        (
            "transformations: [{type: RemoveFields, field_pointers: 5}]",
            "not written as the language",
        ),
    ],
)
def test_a_stream_that_is_written_wrongly_is_left_out(changes: str, said: str) -> None:
    recipe = read(stream(name="good"), stream(changes))
    assert [one.name for one in recipe.connector.streams] == ["good"]
    (one,) = recipe.unread
    assert said in one.why
    assert one.line > 1
