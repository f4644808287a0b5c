"""How the rows of a Linear workspace are read: all of them once, then those that changed.

Lists are newest first, and nothing turns them round, so a look stands at its end only once its last
page was read. They come in the order of their making: by time of change, a row that changes while
they are read would leave the pages that are still to come.
https://linear.app/developers/pagination
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any, TypeAlias

from connectors.kernel.looks import Look, Looks, is_under_way
from connectors.kernel.messages import (
    Checkpoint,
    Context,
    Page,
    Reader,
    Record,
    Response,
    Steps,
    ask,
)
from connectors.kernel.paging import batches, onward
from connectors.kernel.positions import Position
from connectors.kernel.statuses import vendor_time
from connectors.kernel.versions import parse_time
from connectors.linear.errors import RefusedInputError, data_of
from connectors.linear.query import HISTORY, PAGE_INFO, Rows, graphql, points_of, selection_of

LOOKS = Looks()
# A page of fewer rows is not tried.
FEWEST = 5
AT_ONCE = 50
ENTRIES = (
    "createdAt updatedAt actorId fromStateId toStateId fromAssigneeId toAssigneeId fromTeamId "
    "toTeamId fromProjectId toProjectId fromCycleId toCycleId fromPriority:bigint "
    "toPriority:bigint fromEstimate:numeric toEstimate:numeric fromTitle toTitle "
    "addedLabelIds:jsonb removedLabelIds:jsonb archived:boolean trashed:boolean"
)
ENTRY_POINTS = points_of(ENTRIES) + PAGE_INFO
PART, REST = 10, 40
PAGE = f"nodes {{ id {selection_of(ENTRIES)} }} pageInfo {{ hasNextPage endCursor }}"
MORE = f"""query($id: String!, $after: String) {{ issue(id: $id) {{ history(
    first: {REST}, after: $after, orderBy: createdAt, includeArchived: true) {{ {PAGE} }} }} }}"""
HISTORIES = Rows(
    "issues",
    "createdAt",
    archived=True,
    page=50,
    short=10,
    inner=f"history(first: {PART}, orderBy: createdAt, includeArchived: true) {{ {PAGE} }}",
    inner_points=PART * ENTRY_POINTS,
    budget=HISTORY,
)

# What becomes of the rows of a page that changed since a time: they, or what stands in them.
Unfold: TypeAlias = Callable[[Sequence[Record], datetime | None], Steps[Page]]


@dataclass
class _Scan(Position):
    """All rows, or those that changed since a look began, and how far that has come.

    `after` is a cursor, which is the last row's id and ends with it, `last` when that row was made:
    from there on is read (`until`) where the cursor is refused. `teams` stands for those that were
    visible at the last late look.
    """

    look: Look = field(init=False)
    after: str | None = None
    until: str | None = None
    last: str | None = None
    count: int = 0
    teams: str | None = None

    @classmethod
    def at(cls, at: Checkpoint, context: Context) -> "_Scan":
        here = cls.of(at)
        here.look = LOOKS.begin(at, context.now)
        return here

    @property
    def is_late(self) -> bool:
        return self.look.late == self.look.looked

    def saved(self) -> Checkpoint:
        return Checkpoint(self.look.saved, **super().saved())

    def ended(self) -> Checkpoint:
        teams = {"teams": self.teams} if self.teams else {}
        return Checkpoint(self.look.checkpoint, **teams)

    def behind(self, response: Response) -> None:
        """No position is ahead of the vendor's clock."""
        now, look = vendor_time(response), self.look
        self.look = replace(look, looked=min(look.looked, now), late=min(look.late, now))

    def came(self, nodes: Sequence[Record], cursor: str) -> None:
        self.after, self.count = onward(self.after, cursor), self.count + len(nodes)
        self.last = nodes[-1]["createdAt"] if nodes else self.last


def rows_as_they_are(nodes: Sequence[Record], since: datetime | None) -> Steps[Page]:
    """The rows of a page. What a person deletes lies in the trash for 30 days."""
    yield from ()
    trashed = [row for row in nodes if row.get("trashed")]
    live = [row for row in nodes if not row.get("trashed")]
    return Page(live, Checkpoint(), deleted=[str(row["id"]) for row in trashed])


def entries(issues: Sequence[Record], since: datetime | None) -> Steps[Page]:
    """What was done to those issues since that time, newest first."""
    found: list[Record] = []
    for issue in issues:
        part: Mapping[str, Any] | None = issue["history"]
        while part is not None:
            nodes, more = part["nodes"], part["pageInfo"]
            found += [{**entry, "issueId": issue["id"]} for entry in nodes]
            if not more["hasNextPage"] or (since and parse_time(nodes[-1]["createdAt"]) < since):
                break
            part = yield from _history(issue["id"], more["endCursor"])
    return Page(found, Checkpoint())


def _history(issue: str, after: str) -> Steps[Mapping[str, Any] | None]:
    """A page of an issue's history, the first one if the cursor is refused; None if all is gone."""
    for cursor in (after, None):
        asked = {"id": issue, "after": cursor}
        request = graphql(MORE, asked, REST * ENTRY_POINTS, budget=HISTORY)
        try:
            response = yield from ask(request)
        except RefusedInputError:
            continue
        history: Mapping[str, Any] = data_of(response)["issue"]["history"]
        return history
    return None


def scan(rows: Rows, at: Checkpoint, context: Context, unfold: Unfold = rows_as_they_are) -> Reader:
    """All rows, or those that changed since the checkpoint."""
    here, most = _Scan.at(at, context), rows.page
    looks_at_teams = rows.of_teams and here.is_late and not is_under_way(at)
    while True:
        # Points are taken for the rows that are asked for: no more than came before.
        size = min(most, max(rows.short, here.count))
        request = rows.listing(
            size, here.after, since=here.look.since, until=here.until, teams=looks_at_teams
        )
        try:
            response = yield from ask(request)
        except RefusedInputError as error:
            most = _after_refusal(here, size, error)
            continue
        data = data_of(response)
        here.behind(response)
        if looks_at_teams:
            looks_at_teams = False
            if _sees_others(here, at, data["teams"]):
                # What is visible only now did not change now: all is read.
                here.look = replace(here.look, since=None)
                continue
        nodes, more = data["rows"]["nodes"], data["rows"]["pageInfo"]
        page = yield from unfold(nodes, here.look.since)
        if not more["hasNextPage"]:
            yield replace(page, checkpoint=here.ended())
            return
        here.came(nodes, more["endCursor"])
        yield replace(page, checkpoint=here.saved())


def _after_refusal(here: _Scan, size: int, error: RefusedInputError) -> int:
    """How many rows to ask for now: a cursor may be refused, or so much at once."""
    if here.after is not None:
        here.after, here.until = None, here.last
        return size
    if size <= FEWEST:
        raise error
    return max(FEWEST, size // 4)


def _sees_others(here: _Scan, at: Mapping[str, Any], teams: Mapping[str, Any]) -> bool:
    """Whether a team is visible now, or is no more, that was there at the last late look."""
    former = here.teams
    here.teams = _visible(teams, here.look.late)
    return former is not None and _visible(teams, parse_time(at["late"])) not in (None, former)


def _visible(teams: Mapping[str, Any], until: datetime) -> str | None:
    """What stands for the teams that were made until then; None where there are too many."""
    if teams["pageInfo"]["hasNextPage"]:
        return None
    ids = [team["id"] for team in teams["nodes"] if parse_time(team["createdAt"]) <= until]
    return blake2b("".join(sorted(ids)).encode(), digest_size=8).hexdigest()


def read_again(rows: Rows, keys: Sequence[str], context: Context) -> Reader:
    """The rows of those keys. Linear does not tell what was deleted from what is not shown."""
    for some in batches(keys, AT_ONCE):
        response = yield from ask(rows.again(some))
        page = yield from rows_as_they_are(data_of(response)["rows"]["nodes"], None)
        found = {*page.deleted, *(row["id"] for row in page.records)}
        yield replace(page, hidden=[key for key in some if key not in found])
