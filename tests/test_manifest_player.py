"""What judges recipes: the player of made-up vendors, and the comparison of two readings."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.referees._compare import compare
from tests.referees.player.calls import Call
from tests.referees.player.vendor import Player

MANIFESTS = Path(__file__).parent / "referees" / "manifests"


def reading() -> dict[str, Any]:
    call = {
        "method": "GET",
        "url": "https://acme.example/rows",
        "query": [["page", "2"]],
        "headers": {"authorization": "Bearer made-up", "user-agent": "theirs"},
        "body": "",
        "is_token": False,
    }
    stream = {
        "calls": [call],
        "records": [{"id": 1, "amount": 7.0}],
        "errors": [],
        "unplayable": None,
    }
    return {"runs": {"first": {"streams": {"rows": stream}}}}


def unlike(path: list[Any], value: Any) -> list[str]:
    """The kinds of differences, once ours has that value at that place."""
    ours = copy.deepcopy(reading())
    at: Any = ours["runs"]["first"]["streams"]["rows"]
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return [one.kind for one in compare(reading(), ours)]


@pytest.mark.parametrize(
    ("path", "value", "kinds"),
    [
        (["calls", 0, "method"], "POST", ["method"]),
        (["calls", 0, "url"], "https://acme.example/row", ["url"]),
        (["calls", 0, "query"], [["page", "3"]], ["query"]),
        (["calls", 0, "headers"], {"authorization": "Bearer else"}, ["headers"]),
        (["calls", 0, "body"], "{}", ["body"]),
        (["calls"], [], ["we ask less"]),
        (["calls"], reading()["runs"]["first"]["streams"]["rows"]["calls"] * 2, ["repeated"]),
        (["errors"], ["ContractError: no"], ["only we fail"]),
        (["records"], [], ["they have more records"]),
        (["records", 0, "id"], "1", ["records"]),
        (["records", 0, "id"], True, ["records"]),
        # The CDK makes 7.0 of 7, and each library names itself.
        (["records", 0, "amount"], 7, []),
        (["calls", 0, "headers", "user-agent"], "ours", []),
    ],
)
def test_what_differs_is_named(path: list[Any], value: Any, kinds: list[str]) -> None:
    assert unlike(path, value) == kinds


def test_a_listing_goes_on_ends_and_is_the_same_to_the_same_call() -> None:
    manifest = yaml.safe_load((MANIFESTS / "sable_pages.yaml").read_text())
    streams = manifest["streams"]
    for stream in streams:  # as the CDK resolves references
        requester = stream["retriever"]["requester"]
        requester |= manifest["definitions"]["requester"]
        stream["retriever"]["record_selector"] = manifest["definitions"]["selector"]
    player = Player(manifest, "first")

    def asked(query: str) -> dict[str, Any]:
        call = Call.sent("GET", f"https://sable.example/after{query}", {}, None)
        answer = player.answer(call)
        assert answer.body == Player(manifest, "first").answer(call).body
        found: dict[str, Any] = json.loads(answer.body)
        return found

    pages = [asked("")]
    while pages[-1]["has_more"]:
        pages.append(asked(f"?starting_after={pages[-1]['rows'][-1]['id']}"))

    assert [len(page["rows"]) for page in pages] == [3, 3, 2]
    assert len({row["id"] for page in pages for row in page["rows"]}) == 8
