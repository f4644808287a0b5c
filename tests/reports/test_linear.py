"""What people reported of programs that read Linear, played on our reader and our webhooks."""

import hmac
import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import pytest
from graphql import parse

from connectors import (
    ContractError,
    Delivery,
    Effect,
    Event,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    Stream,
    VerificationKeys,
    load,
)
from connectors.kernel.versions import epoch_ms
from sandbox.linear.schema import complexity_of
from tests._conformance import Bench
from tests._driving import NOW, drive, held, response
from tests._judging import judged
from tests.reports._following import Followed

LINEAR = load("linear")
ISSUES, COMMENTS, PROJECTS = (LINEAR.stream(name) for name in ("issues", "comments", "projects"))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECRET = "lin_wh_hush"  # pragma: allowlist secret


def stamp(ago: timedelta) -> str:
    return (NOW - ago).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def row(number: int, made: timedelta, changed: timedelta | None = None, **more: Any) -> Record:
    times = {"createdAt": stamp(made), "updatedAt": stamp(made if changed is None else changed)}
    return {"id": f"id-{number:05}", **times, "archivedAt": None, **more}


def refusal(code: str, type_: str, status: int = 400, **headers: str) -> Response:
    errors = [{"message": "no", "extensions": {"code": code, "type": type_}}]
    return response({"errors": errors}, status, headers)


class Workspace:
    """The rows of one connection, newest first, as Linear lists them; `refuses` says of a request
    what is answered instead, if anything."""

    def __init__(self, *rows: Record) -> None:
        self.rows = list(rows)
        self.asked: list[Request] = []
        self.refuses: Callable[[Mapping[str, Any]], Response | None] = lambda given: None

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        given = request.json["variables"]
        if (refused := self.refuses(given)) is not None:
            return refused
        (order,) = re.findall(r"filter: .filter, orderBy: (\w+)", request.json["query"])
        ordered = sorted(self.rows, key=lambda one: (one[order], one["id"]), reverse=True)
        if given["after"]:
            place = next(n for n, one in enumerate(ordered) if one["id"] == given["after"])
            ordered = ordered[place + 1 :]
        found = [one for one in ordered if fits(one, given["filter"])]
        shown = found[: given["size"]]
        end = shown[-1]["id"] if shown else None
        info: dict[str, Any] = {"hasNextPage": len(shown) < len(found), "endCursor": end}
        teams = {"nodes": [], "pageInfo": {"hasNextPage": False}}
        return response({"data": {"rows": {"nodes": shown, "pageInfo": info}, "teams": teams}})


def fits(one: Record, wanted: Mapping[str, Any]) -> bool:
    """The filters that the reader uses; times are compared to the millisecond."""
    for name, test in wanted.items():
        if name == "or":
            fitting = any(fits(one, each) for each in test)
        elif name == "id":
            fitting = one["id"] in test["in"]
        else:
            ((sign, given),) = test.items()
            value, other = one[name], given.replace("+00:00", "Z")
            fitting = value is not None and (value >= other if sign == "gte" else value <= other)
        if not fitting:
            return False
    return True


def delivery(body: Any, *, late: timedelta = timedelta(), **headers: str) -> Delivery:
    raw = json.dumps(body).encode()
    digest = hmac.digest(SECRET.encode(), raw, "sha256").hex()
    return Delivery(
        method="POST", url="https://atom.test/hook", query={}, body=raw, received_at=NOW + late,
        headers={"linear-signature": digest, "linear-delivery": "d-1", **headers},
    )  # fmt: skip


def told(kind: str, action: str, **more: Any) -> dict[str, Any]:
    sent = {"createdAt": stamp(timedelta()), "webhookTimestamp": epoch_ms(NOW)}
    return {"type": kind, "action": action, "organizationId": "org-1", **sent, **more}


def events(body: Any) -> list[Event]:
    assert LINEAR.webhook
    return list(LINEAR.webhook.events(delivery(body)))


def prove(given: Delivery) -> None:
    assert LINEAR.webhook
    assert LINEAR.webhook.verify
    LINEAR.webhook.verify(given, VerificationKeys(secrets=(SECRET,)))


# -- What a query may ask for ---------------------------------------------------------------------


@pytest.mark.parametrize("stream", LINEAR.streams, ids=lambda stream: stream.name)
def test_no_query_asks_for_more_than_ten_thousand_points(stream: Stream) -> None:
    """canvasxai/sketch#246 (2026-06) and linearis-oss/linearis#276 (2026-07): Linear refuses a
    query of more than 10,000 points whatever there is, and counts 50 rows for a connection that
    does not say how many. Right: no query comes near, and each is paid for in full."""
    space = Workspace(*(row(n, DAY + n * HOUR, history=NO_HISTORY) for n in range(500)))
    drive(stream.read, space)
    for request in space.asked:
        points = complexity_of(parse(request.json["query"]), request.json["variables"])
        assert points <= min(request.cost, 9_000)
    assert max(request.json["variables"]["size"] for request in space.asked) >= 50


NO_HISTORY = {"nodes": [], "pageInfo": {"hasNextPage": False, "endCursor": None}}


def test_where_so_much_is_too_much_fewer_rows_are_asked_for() -> None:
    """mvanhorn/printing-press-library#946 (2026-05): projects never came, for each page of them
    was too complex. Right: fewer are asked for, and all of them come."""
    space = Workspace(*(row(n, DAY + n * HOUR) for n in range(90)))
    too_much = refusal("INPUT_ERROR", "invalid input")
    space.refuses = lambda given: too_much if given["size"] > 20 else None
    assert len(Followed(LINEAR, PROJECTS, space).sync().rows) == 90


def test_a_stream_of_many_pages_is_read_to_its_end() -> None:
    """dxos/dxos#11243 (2026-05): a bound of 20 pages cut lists off, and the sync counted as whole.
    Right: every page is read."""
    space = Workspace(*(row(n, DAY + n * HOUR) for n in range(2_600)))
    assert len(Followed(LINEAR, ISSUES, space).sync().rows) == 2_600


def test_a_field_that_linear_has_no_more_deletes_nothing() -> None:
    """onyx-dot-app/onyx#3370 (2024-12): a deprecated field was taken away, and each query failed.
    Right: it is our error, nobody has to reconnect, and what is held stays."""
    followed = Followed(LINEAR, ISSUES, Workspace(row(1, DAY))).sync()
    followed.answer = lambda request: refusal("GRAPHQL_VALIDATION_FAILED", "graphql error")
    followed.sync()
    assert type(followed.error) is ContractError
    assert followed.rows.keys() == {"id-00001"}


# -- Limits and errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 400, 429])
def test_a_limit_is_waited_for_whatever_its_status(status: int) -> None:
    """vanillagreencom/kendex#1018 (2026-08) and NangoHQ/nango#3108 (2024-12): Linear answers a
    limit with 400, and programs took it for an error of theirs. Right: it is waited for, as long as
    the headers say."""
    reset = str(epoch_ms(NOW + timedelta(minutes=7)))
    bucket = {"x-ratelimit-requests-remaining": "0", "x-ratelimit-requests-reset": reset}
    other = {"x-ratelimit-complexity-remaining": "971913", "x-ratelimit-complexity-reset": "9" * 13}
    error = judged(LINEAR, refusal("RATELIMITED", "ratelimited", status, **bucket, **other))
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == timedelta(minutes=7)


def test_an_internal_error_in_an_answer_of_200_passes() -> None:
    """PostHog/posthog#74062 (2026-07): an internal error of Linear's came with HTTP 200 and ended
    the sync. Right: it is tried again."""
    error = judged(LINEAR, refusal("INTERNAL_SERVER_ERROR", "internal error", 200))
    assert isinstance(error, ProviderUnavailableError)


def test_data_that_lacks_its_rows_is_no_empty_list() -> None:
    """NangoHQ/integration-templates#625 (2026-08): a partial failure leaves a connection null
    beside its error. Right: the error counts, and nothing is read as empty."""
    followed = Followed(LINEAR, ISSUES, Workspace(row(1, DAY))).sync()
    error = {"message": "no", "path": ["rows"], "extensions": {"code": "UNKNOWN"}}
    followed.answer = lambda request: response({"data": {"rows": None}, "errors": [error]})
    followed.sync()
    assert isinstance(followed.error, ContractError)
    assert followed.error.may_pass
    assert followed.rows


# -- Newest first ---------------------------------------------------------------------------------


def test_the_next_look_begins_where_the_last_one_began() -> None:
    """NangoHQ/integration-templates#450 (2026-04): lists are newest first, and the time of the last
    row was kept as that of the newest: each sync read everything again. Right: the next look asks
    for what changed since shortly before the last one."""
    space = Workspace(*(row(n, DAY + n * DAY) for n in range(60)))
    followed = Followed(LINEAR, ISSUES, space).sync()
    space.asked.clear()
    followed.sync(now=NOW + HOUR)
    (request,) = space.asked
    changed, _ = request.json["variables"]["filter"]["or"]
    assert changed["updatedAt"]["gte"] >= stamp(2 * HOUR)


def test_a_row_that_changes_while_the_others_are_read_is_not_lost() -> None:
    """spiceai/spiceai#12069 (2026-07, of another GraphQL): by time of change, a row that changes
    while a list is read moves to pages that were read before. Right: the order is one that
    stays."""
    space = Workspace(*(row(n, DAY + n * HOUR) for n in range(60)))

    def change(given: Mapping[str, Any]) -> None:
        if given["after"]:
            oldest = min(space.rows, key=lambda one: one["createdAt"])
            oldest["updatedAt"] = stamp(timedelta())

    space.refuses = change
    assert len(Followed(LINEAR, PROJECTS, space).sync().rows) == 60


def test_rows_of_one_time_are_all_read() -> None:
    """estuary/connectors#5264 (2026-09): Linear stamps all rows of a bulk edit with one time, and a
    cursor of time alone stops among them. Right: all come, also where a cursor is refused in their
    midst because its row was deleted."""
    space = Workspace(*(row(n, DAY, 2 * HOUR) for n in range(40)), row(99, 2 * DAY, 2 * HOUR))
    followed = Followed(LINEAR, PROJECTS, space).sync()
    assert len(followed.rows) == 41
    unknown: set[str] = set()

    def refuse(given: Mapping[str, Any]) -> Response | None:
        if given["after"] and given["after"] not in unknown:
            unknown.add(given["after"])
            return refusal("INPUT_ERROR", "invalid input")
        return None

    space.refuses = refuse
    assert len(Followed(LINEAR, PROJECTS, space).sync().rows) == 41
    assert unknown


# -- Archived, trashed, gone ----------------------------------------------------------------------


def test_an_issue_that_is_archived_or_trashed_is_found_though_its_updated_at_stays() -> None:
    """estuary/connectors#5264 (2026-09): to archive an issue does not change its updatedAt;
    Linear's own webhooks show the same of the trash (recorded in zulip/zulip, 2023-04). Right: both
    are found, by archivedAt."""
    space = Workspace(row(1, 9 * DAY), row(2, 9 * DAY), row(3, 9 * DAY))
    followed = Followed(LINEAR, ISSUES, space).sync()
    space.rows[0] |= {"archivedAt": stamp(-HOUR)}
    space.rows[1] |= {"archivedAt": stamp(-HOUR), "trashed": True}
    followed.sync(now=NOW + 2 * HOUR)
    assert followed.rows.keys() == {"id-00001", "id-00003"}
    assert followed.rows["id-00001"]["archivedAt"]


def test_archived_rows_are_asked_for() -> None:
    """mvanhorn/printing-press-library#1693 (2026-08): no query asked for archived rows, so that
    they were taken for gone, or never came. Right: each query asks for them."""
    for stream in LINEAR.streams:
        space = Workspace()
        drive(stream.read, space)
        assert "includeArchived: true" in space.asked[0].json["query"]


def test_an_issue_that_moves_to_another_team_stays_one_row() -> None:
    """gmickel/flow-next#446 (2026-09): a move gives an issue another identifier. Right: its row is
    known by its id."""
    space = Workspace(row(1, DAY, identifier="ENG-7", previousIdentifiers=[]))
    followed = Followed(LINEAR, ISSUES, space).sync()
    moved = {"identifier": "OPS-1", "previousIdentifiers": ["ENG-7"], "updatedAt": stamp(-HOUR)}
    space.rows[0] |= moved
    followed.sync(now=NOW + 2 * HOUR)
    assert [one["identifier"] for one in followed.rows.values()] == ["OPS-1"]


# -- Tokens ---------------------------------------------------------------------------------------


async def test_a_connection_outlives_the_day_of_its_first_token(bench: Bench) -> None:
    """Fergana-Labs/stash#711 (2026-07): every connection died 24 hours after its consent, for the
    refresh token was thrown away. Right: it is used, and its successor kept, day after day."""
    tried = await bench.connect(LINEAR, size=5)
    for day in (1, 2, 3):
        bench.clock.advance(timedelta(hours=25))
        outcome = await tried.sync(PROJECTS)
        assert outcome.error is None, outcome.error
        assert tried.refreshes() == day
    assert tried.status() == "active"


def test_a_consent_is_given_back_by_its_refresh_token() -> None:
    """ReviewStage/luke#261 (2026-08): only the access token was revoked, and the refresh token went
    on working. Right: the refresh token is."""
    revocation = LINEAR.oauth.revocation
    assert revocation
    assert (revocation.gives, revocation.parameter) == (("refresh_token",), "refresh_token")


# -- Webhooks -------------------------------------------------------------------------------------


def test_a_time_in_a_header_does_not_make_an_old_delivery_new() -> None:
    """linear/linear#1140 (2026-05): the SDK believed the header's time, which is not signed, before
    that of the body: an old delivery could be sent again. Right: the body's counts."""
    body = told("Issue", "update", data={"id": "i-1"})
    prove(delivery(body))
    late = timedelta(hours=9)
    fresh = str(epoch_ms(NOW + late))
    with pytest.raises(SignatureError):
        prove(delivery(body, late=late, **{"linear-timestamp": fresh}))


@pytest.mark.parametrize("after", [60, 3_660, 25_260])
def test_a_delivery_that_is_tried_again_is_taken(after: int) -> None:
    """vercel/eve#1570 (2026-08): a retry is the same byte by byte, with the time of the first try,
    and a window of a minute refused each of them. Right: all three are taken, and known as one."""
    body = told("Issue", "update", data={"id": "i-1"})
    again = delivery(body, late=timedelta(seconds=after), **{"linear-delivery": "d-2"})
    prove(again)
    assert LINEAR.webhook
    assert [one.id for one in LINEAR.webhook.events(again)] == [one.id for one in events(body)]


def test_a_comment_of_no_issue_is_a_comment() -> None:
    """zulip/zulip#39336 (2026-05): a comment on a document names no issue, and the handler failed.
    Right: it is read as any other."""
    data = {"id": "c-1", "documentContentId": "doc-1", "body": "hm"}
    (event,) = events(told("Comment", "create", data=data))
    assert (event.effect, event.streams, event.key) == (Effect.READ, ("comments",), "c-1")
    found = row(1, DAY, issueId=None, documentContentId="doc-1")
    assert held(COMMENTS, drive(COMMENTS.read, Workspace(found)))


def test_an_app_that_is_taken_out_of_a_workspace_ends_its_connections() -> None:
    """Kilo-Org/cloud#3090 (2026-05): an administrator removes the app at Linear's side, which only
    OAuthApp revoked tells. Right: the connection ends, once Linear confirms it."""
    (event,) = events(told("OAuthApp", "revoked", oauthClientId="client-1"))
    assert (event.effect, event.account_id) == (Effect.REVOKED, "org-1")
    assert LINEAR.webhook
    assert LINEAR.webhook.stands
