"""What an operator sets, and the one clear message for each thing set wrong."""

from pathlib import Path
from typing import Any

import pytest

from settings import SettingsError, asyncpg_url, read

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="  # pragma: allowlist secret
URL = "postgresql://user:canary-password@db.example:5432/atom_saas?sslmode=require"


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "REDIS_URL", "ENCRYPTION_KEYS", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_needs_to_be_set() -> None:
    settings = read()
    assert settings.database_url is None
    assert settings.home == Path(".atom").resolve()


def test_empty_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "")
    assert read().database_url is None


def test_the_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("HUBSPOT_CLIENT_ID=from-file\nUNKNOWN=1\n")
    with pytest.raises(SettingsError, match="set HUBSPOT_CLIENT_SECRET, HUBSPOT_CALLBACK_URL"):
        read().app("hubspot")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"database_url": "mysql://x/y"}, r"DATABASE_URL: it should look like postgresql://"),
        ({"database_url": URL}, r"ENCRYPTION_KEYS is required with DATABASE_URL.*openssl rand"),
        ({"database_url": URL}, r"already open with their own key alone: it lies in .*ATOM_HOME"),
        ({"redis_url": "http://x"}, r"REDIS_URL: it should look like redis://"),
        ({"encryption_keys": "canary-short"}, r"ENCRYPTION_KEYS: .*openssl rand -base64 32"),
        ({"prefect_api_url": "localhost:4200"}, r"PREFECT_API_URL: it should look like http://"),
        ({"atom_schema": "Robert'); --"}, r"ATOM_SCHEMA: "),
    ],
)
def test_a_malformed_value_is_named_with_what_it_should_look_like(
    given: dict[str, Any], expected: str
) -> None:
    with pytest.raises(SettingsError, match=expected) as caught:
        read(**given)
    assert "canary" not in str(caught.value)


def test_every_wrong_variable_is_named_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        read(redis_url="x", prefect_api_url="y")
    assert "REDIS_URL" in str(caught.value)
    assert "PREFECT_API_URL" in str(caught.value)


def test_no_secret_is_shown() -> None:
    settings = read(database_url=URL, encryption_keys=KEY, hubspot_client_secret="canary-app")
    shown = repr(settings) + str(settings)
    assert "canary" not in shown
    assert KEY not in shown


def test_a_home_is_the_same_folder_wherever_a_process_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = read(atom_home=Path("here"))
    monkeypatch.chdir("/")
    assert settings.environment()["ATOM_HOME"] == str(settings.home) == str(tmp_path / "here")


def test_a_child_process_is_given_what_is_set() -> None:
    settings = read(database_url=URL, encryption_keys=KEY, hubspot_client_secret="hidden")
    environment = settings.environment()
    assert environment["DATABASE_URL"] == URL
    assert environment["HUBSPOT_CLIENT_SECRET"] == "hidden"
    assert "REDIS_URL" not in environment


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (URL, "postgresql+asyncpg://user:canary-password@db.example:5432/prefect?ssl=require"),
        (
            "postgres://u@/atom?host=/run/atom&application_name=x",
            "postgresql+asyncpg://u@/prefect?host=/run/atom",
        ),
        ("postgresql://h/atom", "postgresql+asyncpg://h/prefect"),
    ],
)
def test_a_database_url_is_translated_for_prefect(url: str, expected: str) -> None:
    assert asyncpg_url(url, database="prefect") == expected


def test_prefects_own_database_can_be_elsewhere() -> None:
    elsewhere = "postgresql+asyncpg://p@other/prefect"
    settings = read(prefect_api_database_connection_url=elsewhere)
    assert settings.prefect_database_url(URL) == elsewhere


def test_a_price_is_of_one_tier() -> None:
    given = {"stripe_price_id_solo": "price_1,price_2", "stripe_price_id_team": "price_3, price_2"}
    with pytest.raises(SettingsError, match="price_2 stands there more than once"):
        read(_env_file=None, **given)
