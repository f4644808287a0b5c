"""Which teams, channels and chats there are.

https://learn.microsoft.com/graph/api/user-list-joinedteams
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

from connectors import (
    Calls,
    Checkpoint,
    ConnectorError,
    Context,
    ListedKeys,
    Page,
    Reader,
    Record,
    Request,
    Response,
    Steps,
    ask,
)
from connectors._microsoft import NEXT, REFUSED
from connectors.kernel.paging import Read, rows_of
from connectors.kernel.paging import onward as further
from connectors.kernel.parts import OF_A_PART, Parts
from connectors.kernel.positions import Position

TEAMS, CHATS = "/me/joinedTeams", "/me/chats"
# The most that Graph gives of messages, and of chats (the latter by what clients ask for, 2026-11).
PAGE = 50
LIST_OF_CHATS = Request.get(CHATS, params={"$top": PAGE})
# The budget of what is counted for any one team or channel.
IN_TEAMS = "teams"


@dataclass(frozen=True, kw_only=True)
class _Channels(Position):
    """The channels of a team that were there at the last look."""

    ids: Sequence[str] = ()


def teams() -> Calls[list[str]]:
    """The ids of the teams that the person is in. OData parameters are not taken here."""
    return [team["id"] for team in (yield from all_rows(Request.get(TEAMS)))]


def chats() -> Calls[list[str]]:
    return [chat["id"] for chat in (yield from all_rows(LIST_OF_CHATS))]


def chats_if_allowed() -> Calls[list[str]]:
    """None where we may not read chats."""
    answer = yield from ask(replace(LIST_OF_CHATS, expect=(403,)))
    if answer.status == 403:
        return []
    return [chat["id"] for chat in (yield from all_rows(LIST_OF_CHATS, answer))]


def listed_channels(context: Context) -> Steps[Parts]:
    """The channels of all teams, as `team/channel`; of a team that shows none now, the former."""
    found, unlisted = yield from _channels_of_all()

    def check(former: Sequence[str]) -> Calls[Parts]:
        hidden = [one for one in former if one.partition("/")[0] in unlisted]
        there, kept = yield from channels_again([one for one in former if one not in hidden])
        present = [channel_key(row) for row in there]
        return Parts(present, [*hidden, *kept])

    return Parts(found, hidden=True, check=check)


def channels() -> Calls[list[str]]:
    """The channels of all teams that show them, as `team/channel`."""
    found, _ = yield from _channels_of_all()
    return found


def _channels_of_all() -> Calls[tuple[list[str], set[str]]]:
    """All channels, and the teams that the person is in and that do not show theirs now. If none
    does, its refusal is raised: it is the permission that is gone."""
    found: list[str] = []
    unlisted: set[str] = set()
    refusal: ConnectorError | None = None
    team_ids = yield from teams()
    for team in team_ids:
        try:
            rows = yield from channels_of(team)
        except OF_A_PART as error:
            unlisted.add(team)
            refusal = error
        else:
            found += [channel_key(row) for row in rows]
    if refusal is not None and len(unlisted) == len(team_ids):
        raise refusal
    return found, unlisted


def channels_of(team: str) -> Calls[list[Record]]:
    """The channels of a team, each with the team's id."""
    request = Request.get(f"/teams/{quoted(team)}/channels", budget=IN_TEAMS)
    return [{**plain(row), "team_id": team} for row in (yield from all_rows(request))]


def channels_again(former: Sequence[str]) -> Calls[tuple[list[Record], list[str]]]:
    """Of channels that are listed no more those that are there after all, and those that an
    archived team keeps; all others are gone.

    The list of an archived team's channels lacks the private ones (microsoft-graph-docs#9758,
    2020-09; #17306, 2022-06): people still see them in Teams.
    """
    there: list[Record] = []
    kept: list[str] = []
    is_archived: dict[str, bool] = {}
    for channel in former:
        team = channel.partition("/")[0]
        answer = yield from ask(Request.get(path_of(channel), expect=REFUSED, budget=IN_TEAMS))
        if answer.status == 200:
            there.append({**plain(answer.json), "team_id": team})
            continue
        if team not in is_archived:
            request = Request.get(f"/teams/{quoted(team)}", expect=REFUSED, budget=IN_TEAMS)
            of_team = yield from ask(request)
            is_archived[team] = of_team.status == 200 and bool(of_team.json.get("isArchived"))
        if is_archived[team]:
            kept.append(channel)
    return there, kept


def read_channels(team: str) -> Read:
    """The channels of one team: no delta tells of them, so all are listed."""

    def read(at: Checkpoint, context: Context) -> Reader:
        rows = yield from channels_of(team)
        listed = {row["id"] for row in rows}
        missing = [f"{team}/{id_}" for id_ in _Channels.of(at).ids if id_ not in listed]
        there, kept = yield from channels_again(missing)
        rows += there
        ids = [*(row["id"] for row in rows), *(key.partition("/")[2] for key in kept)]
        listed_keys = ListedKeys(f"{team}/", [f"{team}/{id_}" for id_ in ids], context.now)
        yield Page(rows, _Channels(ids=ids).saved(), listed_keys=[listed_keys])

    return read


def listed_teams(context: Context) -> Steps[Parts]:
    return Parts((yield from teams()), hidden=True)


def listed_chats(context: Context) -> Steps[Parts]:
    return Parts((yield from chats()), hidden=True, check=_chats_again)


def _chats_again(former: Sequence[str]) -> Calls[Parts]:
    """Chats that are listed no more: some with people of other organisations are in no list, and
    their messages are given all the same (microsoft-graph-docs#12259, 2021-04)."""
    present: list[str] = []
    for chat in former:
        answer = yield from ask(Request.get(in_chat(chat), params={"$top": 1}, expect=REFUSED))
        if answer.status == 200:
            present.append(chat)
    return Parts(present)


def all_rows(request: Request, answer: Response | None = None) -> Calls[list[Record]]:
    """The rows of every page; the first answer may be there already."""
    response: Response = answer or (yield from ask(request))
    found, link = rows_of(response, "value"), request.path
    while following := response.json.get(NEXT):
        link = further(link, following)
        response = yield from ask(Request.get(link, budget=request.budget))
        found = [*found, *rows_of(response, "value")]
    return found


def in_chat(chat: str) -> str:
    return f"/chats/{quoted(chat)}/messages"


def path_of(channel: str) -> str:
    """The path of a channel named as `team/channel`."""
    team, _, id_ = channel.partition("/")
    return f"/teams/{quoted(team)}/channels/{quoted(id_)}"


def quoted(id_: str) -> str:
    return quote(id_, safe="")


def plain(value: Any) -> Any:
    """Without what is about the answer: one and the same message comes with more of it by a delta
    than by its id. Replies are records of their own."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if "@odata" not in name}
        return {name: plain(one) for name, one in kept.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


def channel_key(channel: Record) -> str:
    return f"{channel['team_id']}/{channel['id']}"
