"""Pages as they are written: for six hundred apps, in each language, in any colour. No server."""

import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args
from uuid import UUID

import pytest
from fastapi import Request

from cli.documents import catalogues
from connectors import (
    Category,
    Connector,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    SyncType,
    all_connectors,
    say,
)
from settings import SettingsError, read
from settings.appearance import BLACK, TEXT_CONTRAST, WHITE, contrast, towards
from storage.connect_sessions import Session
from tests._sandboxed import KEY
from web import _languages, _overview
from web._languages import LANGUAGES, chosen
from web._look import DARK, LIGHT, STYLE, Look
from web._marks import HUES, mark
from web._notes import explained, note, shown
from web._overview import CATEGORIES, Entry, Search
from web._pages import page, problem

PLACEHOLDER = re.compile(r"%\(\w+\)s|%")
FOREIGN = sorted(set(LANGUAGES) - {"en"})
SESSION = Session(UUID(int=1), UUID(int=2), None, None, None, datetime(2030, 1, 1, tzinfo=UTC))


def request(language: str = "en", **settings: Any) -> Request:
    """Of a browser of that language, to an application with those settings."""
    chosen = read(
        _env_file=None, encryption_keys=KEY, nextauth_url="https://sync.example.com", **settings
    )
    app = SimpleNamespace(state=SimpleNamespace(look=Look.of(chosen)))
    headers = [(b"accept-language", language.encode())]
    return Request({"type": "http", "app": app, "headers": headers, "state": {}})


def made_up(number: int) -> Connector:
    """One of many: each third is asked something first, as Shopify is."""
    names = ("Fjord", "Meridian Desk", "Tall Ship", "pebble.io", "Étoile")
    model = next(
        each for each in all_connectors() if each.name == ("shopify", "box")[number % 3 > 0]
    )
    return Connector(
        name=f"made_up_{number}",
        title=f"{names[number % len(names)]} {number}",
        category=get_args(Category)[number % len(get_args(Category))],
        sync_type=SyncType.PULL,
        base_url="https://api.example.com",
        auth=model.auth,
        streams=(),
        rate_limits=(),
    )


def listed(
    entries: list[Entry], search: Search | None = None, language: str = "en", **values: Any
) -> str:
    """The list as it is sent."""
    asked, search = request(language), search or Search()
    answer = page(
        asked,
        "connect.html",
        **{
            "tenant": "Acme",
            "session": SESSION,
            "note": None,
            "token": "t" * 43,
            "return_host": "",
            "total": len(entries),
            "sections": _overview.sections(entries, search, LANGUAGES[language]),
            "categories": _overview.categories(entries, LANGUAGES[language]),
            "search": search,
            "is_searched": len(entries) > 6,
            **values,
        },
    )
    return bytes(answer.body).decode()


@pytest.fixture(scope="module")
def many() -> list[Entry]:
    return _overview.in_order((_overview.of_oauth(made_up(n), ()) for n in range(600)), ())


def test_six_hundred_apps_are_a_page_of_less_than_a_quarter_of_a_megabyte(
    many: list[Entry],
) -> None:
    text = listed(many)
    assert text.count("<h3>") == 600
    each = (len(text.encode()) - len(listed([]).encode())) / 600
    assert each < 380, f"{each:.0f} bytes for each app"
    assert len(text.encode()) < 240_000
    # Nothing of an app that is not connected has a form of its own: they share one.
    assert text.count("<form") == 2
    assert text.count("formaction=") == 400


def test_of_six_hundred_apps_a_search_leaves_those_that_have_all_its_words(
    many: list[Entry],
) -> None:
    def left(**search: str) -> set[str]:
        (section,) = _overview.sections(many, Search(**search), LANGUAGES["en"])
        return {entry.title for entry in section.entries if entry.name in section.found}

    assert left(text="") == {entry.title for entry in many}
    assert left(text="  desk MERIDIAN 31 ") == {
        "Meridian Desk 31",
        *(f"Meridian Desk {n}" for n in range(600) if n % 5 == 1 and "31" in str(n)),
    }
    assert left(text="etoile 599") == {"Étoile 599"}
    assert left(text="Fjord", category="Email") == {
        entry.title for entry in many if entry.category == "Email" and "Fjord" in entry.title
    }
    assert left(text="(.*") == set()
    text = listed(many, Search(text="etoile 599"))
    assert len(re.findall(r'<li id="\w+" hidden>', text)) == 599
    assert ">1 app</p>" in text


def test_apps_come_in_the_order_that_was_given_and_then_by_name(many: list[Entry]) -> None:
    some = [each for each in many if each.name in ("made_up_5", "made_up_1", "made_up_4")]
    names = [each.name for each in _overview.in_order(some, ["made_up_4"])]
    assert names == ["made_up_4", "made_up_5", "made_up_1"]


def test_every_connector_has_a_category_and_every_category_a_word() -> None:
    assert set(CATEGORIES) == set(get_args(Category))
    assert {each.category for each in all_connectors()} <= set(CATEGORIES)
    by_name = {each.name: each.category for each in all_connectors()}
    assert (by_name["hubspot"], by_name["xero"], by_name["box"]) == ("CRM", "Accounting", "Files")


@pytest.mark.parametrize(
    ("title", "initials"),
    [("HubSpot", "HS"), ("Google Calendar", "GC"), ("Slack", "S"), ("monday.com", "M"),
     ("OpenAI", "OA"), ("Zoho CRM", "ZC"), ("<b>", "B"), ("…", "?"), ("Étoile d'or", "ÉD")],
)  # fmt: skip
def test_a_mark_is_the_initials_of_a_name(title: str, initials: str) -> None:
    assert mark(title, title).initials == initials
    assert mark(title, title) == mark(title, title)
    assert mark(title, title).hue in range(HUES)


def test_initials_can_be_read_on_the_colour_of_every_mark() -> None:
    hues = dict(re.findall(r"\.m(\d) \{ background: (#\w{6}) \}", STYLE))
    assert sorted(map(int, hues)) == list(range(HUES))
    for colour in hues.values():
        assert contrast(colour, WHITE) >= TEXT_CONTRAST, colour


@pytest.mark.parametrize("code", FOREIGN)
def test_a_catalogue_has_every_sentence_with_the_same_placeholders(code: str) -> None:
    sentences = LANGUAGES[code].sentences
    needed = catalogues.sentences()
    assert set(sentences) == set(needed), f"run {catalogues.__name__}"
    assert [one for one in needed if not sentences[one]] == []
    for english, foreign in sentences.items():
        found = sorted(set(PLACEHOLDER.findall(foreign)))
        assert found == sorted(set(PLACEHOLDER.findall(english))), foreign
        assert re.findall(r"</?\w+>", foreign) == re.findall(r"</?\w+>", english), foreign


def test_no_template_has_a_sentence_that_no_catalogue_has() -> None:
    """What stands between tags is translated, or a value."""
    for path in sorted((Path(_languages.__file__).parent / "templates").glob("*.html")):
        text = path.read_text().replace('{% block width %} class="narrow"{% endblock %}', "")
        text = re.sub(r"\{[#%{].*?[#%}]\}", "", text, flags=re.DOTALL)
        assert re.findall(r">[^<]*[A-Za-z]{2,}[^<]*<", text) == [], path.name


@pytest.mark.parametrize("code", sorted(LANGUAGES))
def test_a_page_says_in_which_language_it_is(code: str, many: list[Entry]) -> None:
    text = listed(many[:9], language=code)
    assert f'<html lang="{code}">' in text
    title = LANGUAGES[code].text("Connect your apps")
    assert f"<h1>{title}</h1>" in text
    assert ("Connect your apps" in text) == (code == "en")
    answer = problem(request(code), 404, say("Not found"), say("There is no such page."))
    assert f'<html lang="{code}">' in bytes(answer.body).decode()


@pytest.mark.parametrize(
    ("wanted", "accepted", "code"),
    [
        (None, "", "en"),
        (None, "de", "de"),
        (None, "fr-CH, fr;q=0.9, en;q=0.8, de;q=0.7, *;q=0.5", "fr"),
        (None, "en;q=0.1, es;q=0.9", "es"),
        (None, "de;q=0, es;q=x, fr;q=0.1", "fr"),
        (None, "zz-" + "9" * 9_000, "en"),
        ("ES_mx", "de", "es"),
        ("ja", "de-CH", "de"),
        ("ja", "", "en"),
    ],
)
def test_the_language_is_the_links_or_else_the_browsers(
    wanted: str | None, accepted: str, code: str
) -> None:
    assert chosen(wanted, accepted).code == code


def test_a_note_is_kept_as_a_sentence_and_told_in_any_language() -> None:
    gone = say("%(title)s is disconnected: %(name)s.", title="Box", name="100 %(title)s <b>")
    kept = note("done", gone, say("Its data was deleted."))
    told = {code: shown(kept, language) for code, language in LANGUAGES.items()}
    english, german = told["en"], told["de"]
    assert english
    assert german
    assert english.text == "Box is disconnected: 100 %(title)s <b>. Its data was deleted."
    assert german.text == "Box ist getrennt: 100 %(title)s <b>. Die Daten wurden gelöscht."
    assert "&lt;b&gt;" in listed([], note=english)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ProviderUnavailableError("Acme answered 503 (XY_1)"), "cannot answer right now"),
        (NotAllowedError("Acme refuses (insufficient_scope)"), "administrator"),
        (ContractError("Acme answered 418 (teapot)"), "whoever runs this service"),
        (ConnectorError(say("no site was allowed"), code="E_17"), "no site was allowed"),
    ],
)
def test_a_vendors_code_is_not_told_to_a_person(error: ConnectorError, told: str) -> None:
    words = str(explained("Acme", error))
    assert told in words
    assert "(" not in words
    assert "(" in str(error)  # for who runs this


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("connect_colour", "#88aaff", "CONNECT_COLOUR: white text on #88aaff has a contrast of"),
        ("connect_colour", "blue", "CONNECT_COLOUR: it should look like #2451c7"),
        ("connect_colour", "#fff;}", "CONNECT_COLOUR"),
        ("connect_logo_url", "http://example.com/a.png", "CONNECT_LOGO_URL: it should look like"),
        ("connect_logo_url", "https://a.example/x.png; script-src *", "CONNECT_LOGO_URL"),
        ("connect_logo_url", "data:image/png;base64,AAAA", "CONNECT_LOGO_URL"),
        ("connect_integrations", "slack,slak", "CONNECT_INTEGRATIONS: there is no slak"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named_at_the_start(
    setting: str, value: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)):
        request(**{setting: value})


@pytest.mark.parametrize("colour", ["#2f55c8", "#000000", "#7a3e00", "#6b6b6b", "#c2002f"])
def test_in_every_colour_that_is_taken_text_can_be_read(colour: str) -> None:
    look = Look.of(read(_env_file=None, encryption_keys=KEY, connect_colour=colour))
    assert f"--accent: {colour}" in look.style
    assert contrast(colour, WHITE) >= TEXT_CONTRAST
    light, dark = re.findall(r"--link: (#\w{6})", look.style)
    for ground in (LIGHT, WHITE):
        assert contrast(light, ground) >= TEXT_CONTRAST
    for ground in (DARK, "#10141b"):
        assert contrast(dark, ground) >= TEXT_CONTRAST
    assert {LIGHT, DARK} <= set(re.findall(r"#\w{6}", STYLE))


def test_contrast_is_that_of_wcag() -> None:
    assert contrast(BLACK, WHITE) == pytest.approx(21)
    assert contrast("#777777", WHITE) == pytest.approx(4.48, abs=0.01)
    assert contrast(towards("#88aaff", BLACK, WHITE), WHITE) >= TEXT_CONTRAST


def test_a_page_bears_the_operators_name_and_logo_and_loads_nothing_else() -> None:
    logo = "https://cdn.example.com/logo.svg?v=2"
    asked = request(connect_app_name="Ham & <b>", connect_logo_url=logo)
    answer = page(asked, "open.html")
    policy = answer.headers["content-security-policy"]
    assert "img-src https://cdn.example.com/logo.svg;" in policy
    text = bytes(answer.body).decode()
    assert f'<img src="{logo}" alt=""' in text
    assert "Ham &amp; &lt;b&gt;" in text
    plain = page(request(), "open.html")
    assert "img-src" not in plain.headers["content-security-policy"]
    assert "<img" not in bytes(plain.body).decode()
