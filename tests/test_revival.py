"""A part of a machine that ends by itself is started again; one that keeps ending ends all."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from servers import local, revival
from servers.database import database_url_of
from servers.processes import ServiceError
from servers.revival import MOST, Revival
from settings import read


class Now:
    """A clock that is put forward by hand."""

    def __init__(self) -> None:
        self.at = 1000.0

    def monotonic(self) -> float:
        return self.at


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Now:
    clock = Now()
    monkeypatch.setattr(revival, "time", clock)
    return clock


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def services(tmp_path: Path, said: list[str]) -> Iterator[local.Services]:
    settings = read(_env_file=None, atom_home=tmp_path / "home")
    with local.supervised(settings, said.append, lasting=False) as started:
        yield started


def wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_what_is_killed_is_started_again_after_a_pause(
    services: local.Services, said: list[str], now: Now
) -> None:
    services.start_redis()
    services.start_database()
    url = database_url_of(services.settings)
    looking = Revival(services)
    looking.look()
    assert said == []
    for name in ("redis", "postgresql"):
        services._started[name].kill()
        wait(lambda name=name: not services.alive(name))  # type: ignore[misc]
    looking.look()
    looking.look()
    assert not services.alive("redis")
    assert [line.split(": it")[0] for line in said] == [
        "redis ended by itself",
        "postgresql ended by itself",
    ]
    now.at += 1
    looking.look()
    assert services.alive("redis")
    assert said[2:] == []
    with psycopg.connect(url) as sql:
        assert sql.execute("SELECT 1").fetchone() == (1,)


def test_what_keeps_ending_is_tried_ever_later_and_then_ends_all(
    services: local.Services, said: list[str], now: Now
) -> None:
    services.start_process("short", ["this"], {})
    looking = Revival(services)

    def ends() -> None:
        wait(lambda: not services.alive("short"))
        looking.look()

    for _ in range(MOST - 1):
        ends()
        now.at += 8
        looking.look()
    with pytest.raises(ServiceError, match=r"short ended by itself 5 times .* log is .*short\.log"):
        ends()
    assert [line.split(" in ")[1].split(";")[0] for line in said] == ["1 s", "2 s", "4 s", "8 s"]


def test_what_ends_now_and_then_is_started_again_for_ever(
    services: local.Services, said: list[str], now: Now
) -> None:
    services.start_process("short", ["this"], {})
    looking = Revival(services)
    for _ in range(2 * MOST):
        wait(lambda: not services.alive("short"))
        looking.look()
        now.at += revival.WITHIN / 3
        looking.look()
    assert len(said) == 2 * MOST


def test_what_cannot_be_started_again_ends_all_at_once(services: local.Services) -> None:
    services.start_process("short", ["this"], {}, again=False)
    wait(lambda: not services.alive("short"))
    with pytest.raises(ServiceError, match="short ended by itself; its log is"):
        Revival(services).look()
