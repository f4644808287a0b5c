"""What the shell has set and what lies in the working folder, and what of it our processes see."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.errors import PrefectUnavailableError
from deployments.prefect_api import connected
from servers import environment, local
from settings import ALONE, read, untouched
from tests._vendor import Answer, Vendor, serve

SEEN = """
import json, sys
from pathlib import Path
from servers import environment, local
home = Path(sys.argv[1])
local.prepare(home)
with environment.apart(home):
    from prefect.settings import get_current_settings
    seen = get_current_settings()
    print(json.dumps({
        "url": seen.api.url, "level": seen.logging.level, "home": str(seen.home),
        "password": seen.server.api.auth_string and seen.server.api.auth_string.get_secret_value(),
        "limit": seen.server.api.default_limit,
    }))
"""


def seen_by_prefect(folder: Path, **shell: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", SEEN, str(folder / "home")],
        cwd=folder, env=os.environ | shell, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_prefect_is_given_what_the_operator_set_and_an_empty_value_is_unset(
    tmp_path: Path,
) -> None:
    (tmp_path / ".env").write_text(
        "PREFECT_SERVER_API_AUTH_STRING=\nPREFECT_API_URL=\nPREFECT_LOGGING_LEVEL=ERROR\n"
        "PREFECT_SERVER_API_DEFAULT_LIMIT=150\n"
    )
    found = seen_by_prefect(
        tmp_path, PREFECT_LOGGING_LEVEL="", PREFECT_SERVER_API_DEFAULT_LIMIT="120"
    )
    assert (found["password"], found["url"]) == (None, None)
    assert found["level"] == "ERROR"
    assert found["limit"] == 120
    assert found["home"] == str(tmp_path / "home" / "prefect")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("prefect.toml", '[server.api]\nauth_string = "stray"\n[api]\nurl = "http://stray/api"\n'),
        ("pyproject.toml", '[tool.prefect.server.api]\nauth_string = "stray"\n'),
        (
            ".prefect/profiles.toml",
            'active = "a"\n[profiles.a]\nPREFECT_API_URL = "http://stray"\n',
        ),
    ],
)
def test_prefect_reads_no_file_of_the_working_folder_and_no_profile(
    tmp_path: Path, name: str, text: str
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    found = seen_by_prefect(tmp_path, HOME=str(tmp_path), PREFECT_PROFILE="a")
    assert (found["password"], found["url"]) == (None, None)


def test_what_was_set_is_set_again_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "ERROR")
    monkeypatch.setenv("PREFECT_PROFILE", "a")
    local.prepare(tmp_path)
    former, folder = dict(os.environ), Path.cwd()
    with environment.apart(tmp_path):
        assert os.environ["PREFECT_LOGGING_LEVEL"] == "ERROR"
        assert "PREFECT_PROFILE" not in os.environ
        assert Path.cwd() == environment.folder_of(tmp_path)
    assert (dict(os.environ), Path.cwd()) == (former, folder)


def test_a_home_of_the_demo_sees_nothing_of_what_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("DATABASE_URL=mysql://x\nPREFECT_LOGGING_LEVEL=ERROR\n")
    for name in ("ENCRYPTION_KEYS", "HUBSPOT_CLIENT_ID", "PREFECT_API_KEY", "PGSERVICE"):
        monkeypatch.setenv(name, "stray")
    home = tmp_path / "demo"
    monkeypatch.setenv("ATOM_HOME", str(home))
    local.prepare(home)
    (home / ALONE).touch()
    assert read() == untouched(home)
    assert read(redis_url="redis://127.0.0.1/0").redis_url is not None
    with environment.apart(home):
        left = [name for name, value in os.environ.items() if value in ("stray", "ERROR")]
    assert left == []


async def test_a_password_that_the_prefect_server_refuses_is_named_with_the_variable() -> None:
    with serve(Vendor()) as vendor:
        vendor.will(Answer(status=401, body={"exception_message": "Unauthorized"}))
        settings = read(_env_file=None, prefect_api_url=f"{vendor.origin}/api")
        with pytest.raises(PrefectUnavailableError, match="set PREFECT_API_AUTH_STRING"):
            async with connected(settings) as client:
                await client.read_work_pool("any")


def test_what_the_server_asks_for_is_given_unless_something_else_is_set() -> None:
    server = read(_env_file=None, prefect_server_api_auth_string="us:one")
    assert server.prefect_password is not None
    assert server.prefect_password.get_secret_value() == "us:one"
    both = read(_env_file=None, prefect_server_api_auth_string="us:one",
                prefect_api_auth_string="us:two")  # fmt: skip
    assert both.prefect_password is not None
    assert both.prefect_password.get_secret_value() == "us:two"
