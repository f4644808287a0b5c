"""What the sandboxed vendors make up from a seed is the same on every day, but for its times."""

import calendar
import json
import re
from collections import Counter
from datetime import timedelta
from typing import Any

import httpx  # noqa: TID251 - speaks to the sandbox as a stranger would
import pytest

import sandbox

# Names of days and months, long and short, tell times.
TIMES = {
    name.lower()
    for names in (calendar.day_name, calendar.day_abbr, calendar.month_name, calendar.month_abbr)
    for name in names
}
# Ids, and bodies of mail in base64, hold times in a form that no word of them shows.
ENCODED = re.compile(r"[\w+/=-]{30,}")


def words(name: str, ahead: timedelta) -> dict[str, Counter[str]]:
    """The words in each stream of a new account, on the day that is so far ahead."""
    with sandbox.start([name]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post("/_control/clock", json={"advance": ahead.total_seconds()})
        made = client.post(f"/_control/{name}/accounts", json={"size": 120, "seed": 3}).json()
        answer = client.get(f"/_control/{name}/store", params={"account": made["id"]}).json()
    return {stream: _words(rows) for stream, rows in answer["streams"].items()}


def _words(rows: dict[str, Any]) -> Counter[str]:
    text = ENCODED.sub("", json.dumps(list(rows.values())).lower())
    return Counter(word for word in re.findall(r"\b[a-z]{3,}\b", text) if word not in TIMES)


@pytest.mark.parametrize("name", sandbox.names())
def test_a_seed_gives_the_same_data_on_every_day(name: str) -> None:
    today = words(name, timedelta())
    assert today == words(name, timedelta(days=38, hours=7, minutes=13))
    assert today == words(name, timedelta(days=401))
