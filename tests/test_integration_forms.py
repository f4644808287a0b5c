"""The form of a JSON schema: what is asked, what is sent, and what is wrong with it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

import integrations
from accounts import filled
from connectors import (
    ConnectorError,
    Context,
    ContractError,
    SettingsForm,
    Stream,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client
from connectors.kernel.transport import Transport
from integrations import UnreadableError, form
from integrations.form import FormError
from tests._kraal import FARM, KEY, MANIFEST, Kraal, kraal
from web import _form

SECRET = "canary-of-a-form-that-nobody-may-see"


def made(
    *required: str, secrets: frozenset[tuple[str, ...]] = frozenset(), **of: Any
) -> SettingsForm:
    schema = {"type": "object", "required": list(required), "properties": of}

    def verify(context: Context) -> Any:
        yield from ()

    return SettingsForm(schema=schema, secrets=frozenset(), verify=verify)


def sent(auth: SettingsForm, **posted: str) -> _form.Answers:
    return _form.read(auth, {f".{name}": [value] for name, value in posted.items()})


def told(answers: _form.Answers) -> dict[str, str]:
    return {".".join(one.path): one.text for one in answers.problems}


KINDS = made(
    "text",
    text={"type": "string", "title": "A <b>text</b> &amp; more", "order": 1},
    whole={"type": ["null", "integer"], "minimum": 3, "order": 0},
    share={"type": "number", "default": 0.5},
    on={"type": "boolean", "default": True},
    day={"type": "string", "format": "date", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
    at={"type": "string", "format": "date-time", "examples": ["2026-01-31T00:00:00Z"]},
    one={"type": "string", "enum": ["a", "b"], "default": "b"},
    many={"type": "array", "items": {"type": "integer"}},
    secret={"type": "string", "airbyte_secret": True, "default": "not shown"},
    long={"type": "string", "airbyte_secret": True, "multiline": True},
    fixed={"type": "string", "const": "this"},
    inner={"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}},
    hidden={"type": "string", "airbyte_hidden": True},
    odd={"type": "object", "additionalProperties": True},
)


def test_each_kind_of_value_has_its_input_in_the_order_of_the_schema() -> None:
    shown = {one.field.path[-1]: one for one in _form.inputs(KINDS)}
    assert list(shown)[:2] == ["whole", "text"]
    assert {name: one.field.kind for name, one in shown.items()} == {
        "text": "text", "whole": "number", "share": "number", "on": "switch", "day": "date",
        "at": "text", "one": "choice", "many": "lines", "secret": "secret", "long": "long_secret",
        "inner": "group",
    }  # fmt: skip
    assert shown["text"].field.title == "A text & more"
    assert (shown["share"].value, shown["on"].value, shown["one"].value) == ("0.5", "yes", "1")
    assert shown["secret"].value == ""
    assert shown["at"].field.example == "2026-01-31T00:00:00Z"


def test_what_is_sent_has_the_types_of_the_schema() -> None:
    answers = sent(
        KINDS, text=" x ", whole="7", share="0.25", day="2026-01-31", at="2026-01-31T00:00:00Z",
        one="0", many="1\r\n2\r\n", secret=SECRET, long="a\r\nb", inner="", hidden="no",
    )  # fmt: skip
    assert answers.problems == []
    assert answers.settings == {
        "text": "x", "whole": 7, "share": 0.25, "on": False, "day": "2026-01-31",
        "at": "2026-01-31T00:00:00Z", "one": "a", "many": [1, 2], "secret": SECRET, "long": "a\nb",
        "fixed": "this",
    }  # fmt: skip
    shown = json.dumps([repr(one) for one in _form.inputs(KINDS, answers.settings)])
    assert SECRET not in shown
    assert SECRET not in repr(answers)


def test_what_is_wrong_is_told_at_its_field_and_repeats_nothing_that_was_filled_in() -> None:
    auth = made(
        "text", "key",
        text={"type": "string"}, whole={"type": "integer", "minimum": 3}, n={"type": "integer"},
        day={"type": "string", "format": "date"}, at={"type": "string", "format": "date-time"},
        key={"type": "string", "airbyte_secret": True, "pattern": "^sk-"},
        inner={"type": "object", "required": ["x"],
               "properties": {"x": {"type": "string"}, "y": {"type": "string"}}},
    )  # fmt: skip
    posted = {".whole": ["2"], ".n": ["x"], ".day": ["31.1.2026"], ".at": ["soon"],
              ".key": [SECRET], ".inner.y": ["1"]}  # fmt: skip
    answers = _form.read(auth, posted)
    assert told(answers) == {
        "text": "This is needed.",
        "whole": "This must be at least 3.",
        "n": "This must be a whole number.",
        "day": "This must be a date, such as 2026-01-31.",
        "at": "This must be a date, such as 2026-01-31T00:00:00Z.",
        "key": "This does not have the form ^sk-.",
        "inner.x": "This is needed.",
    }
    assert SECRET not in str(told(answers))
    inputs = _form.inputs(auth, answers.settings, answers.problems)
    assert _form.unplaced(inputs, answers.problems) == []
    assert {one.field.path[-1]: str(one.problem) for one in inputs}[
        "n"
    ] == "This must be a whole number."


BRANCHES = made(
    "access",
    access={
        "type": "object",
        "oneOf": [
            {"title": "Key", "required": ["kind", "key"], "properties": {
                "kind": {"const": "key"}, "key": {"type": "string", "airbyte_secret": True}}},
            {"title": "Name", "required": ["kind", "name", "key"], "properties": {
                "kind": {"enum": ["name"]}, "name": {"type": "string"},
                "key": {"type": "string", "airbyte_secret": True}}},
        ],
    },
)  # fmt: skip


def test_of_several_ways_one_is_chosen_and_judged_alone() -> None:
    both = {".access.0.key": ["k"], ".access.1.name": ["n"], ".access.1.key": [SECRET]}
    first = _form.read(BRANCHES, {**both, ".access": ["0"]})
    assert (first.settings, first.problems) == ({"access": {"kind": "key", "key": "k"}}, [])
    second = _form.read(BRANCHES, {**both, ".access": ["1"], ".access.1.name": [""]})
    assert told(second) == {"access.name": "This is needed."}
    (shown,) = _form.inputs(BRANCHES, second.settings, second.problems)
    assert [one.chosen for one in shown.inside] == [False, True]
    assert [str(one.problem or "") for one in shown.inside[1].inside] == ["This is needed.", ""]
    assert told(_form.read(BRANCHES, {})) == {"access": "This is needed."}
    (fresh,) = _form.inputs(BRANCHES)
    assert [one.chosen for one in fresh.inside] == [True, False]


def test_secrets_are_split_off_and_put_back() -> None:
    hidden = form.secrets(BRANCHES)
    settings = {"access": {"kind": "name", "name": "n", "key": SECRET}}
    shown, kept = form.split(hidden, settings)
    assert (shown, kept) == ({"access": {"kind": "name", "name": "n"}}, {"access": {"key": SECRET}})
    assert form.merged(shown, kept) == settings


def test_an_empty_secret_stays_only_while_nothing_else_is_changed() -> None:
    """Else who holds a link could have it sent to a host of their own."""
    auth = made("host", "key", host={"type": "string"},
                key={"type": "string", "airbyte_secret": True})  # fmt: skip
    kept = {"host": "ours.example", "key": SECRET}
    same = _form.read(auth, {".host": ["ours.example"]}, kept)
    assert (same.settings, same.problems) == (kept, [])
    moved = _form.read(auth, {".host": ["theirs.example"]}, kept)
    assert moved.settings == {"host": "theirs.example"}
    assert told(moved) == {"key": "This is needed."}


@pytest.mark.parametrize(
    ("part", "why"),
    [
        ({"type": "object", "additionalProperties": True}, "we cannot ask for such a value"),
        ({"$ref": "https://evil.example/schema"}, "we cannot ask for such a value"),
        ({"type": "string", "pattern": "("}, "no regular expression"),
        ("text", "its schema is not an object"),
    ],
)
def test_a_schema_that_cannot_be_asked_for_is_refused_and_named(part: Any, why: str) -> None:
    with pytest.raises(FormError, match=why) as refused:
        form.fields(made("odd", odd=part))
    assert "odd" in str(refused.value)


def test_a_schema_elsewhere_is_not_fetched() -> None:
    auth = made(text={"type": "string"}, odd={"$ref": "https://evil.example/schema"})
    with pytest.raises(FormError, match="refers to another"):
        form.problems(auth, {"odd": 1})


# At the vendor


async def tried(vendor: Kraal, manifest: str, **settings: Any) -> None:
    transport, budget = Transport(sandbox_url=vendor.origin), Budget(None)
    try:
        connector = integrations.read("kraal", "Kraal", manifest)
        await filled.check(connector, settings, transport=transport, budget=budget)
    finally:
        await budget.aclose()
        await transport.close()


ANY_HOST = MANIFEST.replace("{{ config['farm'] }}.kraal.example", "{{ config['farm'] }}")
ACCESS = {"kind": "key", "key": KEY}


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "localhost", "10.0.0.1", "169.254.169.254", "[::1]", "2130706433", "0x7f.1",
        "kraal.internal", "north.kraal.example@127.0.0.1", "127.0.0.1#north.kraal.example", "",
    ],
)  # fmt: skip
async def test_a_host_of_ours_is_not_called_whoever_names_it(host: str) -> None:
    with kraal() as vendor:
        with pytest.raises(ConnectorError) as refused:
            await tried(vendor, ANY_HOST, farm=host, credentials=ACCESS)
        assert vendor.asked == []
    assert KEY not in str(refused.value)


async def test_what_a_tenant_filled_in_cannot_lead_to_another_host() -> None:
    with kraal() as vendor:
        for farm in ("evil.example/", "evil.example#", "x@evil.example/?", "evil.example\\"):
            with pytest.raises(ConnectorError):
                await tried(vendor, MANIFEST, farm=farm, credentials=ACCESS)
        assert vendor.asked == []


async def test_a_redirect_is_not_followed_with_the_secret() -> None:
    with kraal() as vendor:
        vendor.redirect = "https://evil.example/collect"
        with pytest.raises(ContractError, match=r"\(302\)"):
            await tried(vendor, MANIFEST, farm=FARM, credentials=ACCESS)
        assert len(vendor.asked) == 1


def test_a_manifest_that_would_call_a_host_of_ours_is_refused() -> None:
    for host in ("169.254.169.254", "localhost", "db.internal"):
        with pytest.raises(UnreadableError, match="no public host"):
            integrations.recipe(
                "kraal", MANIFEST.replace("{{ config['farm'] }}.kraal.example", host)
            )


LINKS = """
        page_token_option: {type: RequestPath}
        pagination_strategy:
          type: CursorPagination
          cursor_value: "{{ 'https://evil.example/more' }}"
"""


async def test_a_link_in_an_answer_leads_to_no_host_that_is_not_in_the_manifest() -> None:
    hostile = MANIFEST[: MANIFEST.index("        page_token_option")] + LINKS
    hostile += MANIFEST[MANIFEST.index("    schema_loader") :]
    connector = integrations.read("kraal", "Kraal", hostile)
    config = {"farm": FARM, "credentials": ACCESS}
    budget = Budget(None)
    with kraal() as vendor:
        vendor.grow(3)
        transport = Transport(sandbox_url=vendor.origin)

        async def token(refused: bool) -> str:
            return ""

        client = Client(
            connector, transport=transport, account_id="", config=config, token=token, budget=budget
        )
        stream: Stream = connector.streams[0]
        context = Context(now=datetime.now(UTC), account_id="", config=config)
        with pytest.raises(ContractError, match="host") as refused:
            async for _ in client.read(stream.read({}, context)):  # type: ignore[arg-type]
                pass
        assert vendor.asked == [f"/{FARM}.kraal.example/v1/cattle"]
        assert KEY not in str(refused.value)
    await budget.aclose()
    await transport.close()
