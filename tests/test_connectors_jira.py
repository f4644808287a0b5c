"""What is Jira's own, and not asked of every connector: driven with a site that is played here."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    CheckpointExpiredError,
    Connector,
    Context,
    MadeWatch,
    NotAllowedError,
    NoWatch,
    Page,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    WatchRequest,
    load,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Client, Transport
from connectors.kernel.webhooks import Delivery, Effect, Event, VerificationKeys
from tests._delivered import sandboxed
from tests._driving import NOW, Answer, drive, held, response
from tests._judging import as_the_client, judged

JIRA: Connector = load("jira")
CLOUD = "11111111-2222-4333-8444-555555555555"
CONTEXT = Context(now=NOW, account_id=CLOUD, config={"host": "acme.atlassian.net"})
HOOK = "https://atom.test/webhooks/jira"


def written(at: datetime) -> str:
    """A time as Jira writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.000+0000")


def issue(number: int, *, updated: datetime = NOW, **more: Any) -> Record:
    created = written(NOW - timedelta(days=400) + timedelta(hours=number))
    fields = {"created": created, "updated": written(updated), "summary": "x"}
    return {"id": str(number), "key": f"AB-{number}", "expand": "a", "fields": fields, **more}


@dataclass
class Site:
    """Answers by path: a value, or what comes of a request. Searches give `pages` in turn, each
    with the token of the next."""

    pages: list[list[Record]] = field(default_factory=lambda: [[]])
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        self.asked.append(request)
        path = request.path.removeprefix("/rest/api/3").removeprefix("/rest/agile/1.0")
        if path in self.answers:
            found = self.answers[path]
            found = found(request) if callable(found) else found
            return found if isinstance(found, Response) else response(found)
        if path == "/project/search":
            return response({"values": [], "total": 0})
        assert path == "/search/jql", path
        place = int(str(request.params.get("nextPageToken", "0")))
        more = {"nextPageToken": str(place + 1)} if place + 1 < len(self.pages) else {}
        return response({"issues": self.pages[place], "isLast": not more, **more})

    def read(
        self, stream: str, at: Mapping[str, Any] | None = None, now: datetime = NOW
    ) -> list[Page]:
        return drive(JIRA.stream(stream).read, as_the_client(JIRA, self), at, now=now)

    def again(self, stream: str, *keys: str) -> Page:
        fetch = JIRA.stream(stream).fetch
        assert fetch
        pages = drive(lambda at, context: fetch(keys, CONTEXT), as_the_client(JIRA, self))
        assert len(pages) == 1
        return pages[0]

    def queries(self) -> list[str]:
        return [str(each.params["jql"]) for each in self.asked if "jql" in each.params]


def looked(ago: timedelta, late: timedelta = timedelta()) -> dict[str, str]:
    """The checkpoint of a stream that looked so long ago."""
    return {"looked": (NOW - ago).isoformat(), "late": (NOW - late).isoformat()}


def rows(stream: str, pages: list[Page]) -> dict[str, Record]:
    return held(JIRA.stream(stream), pages)


def steps(calls: Any, answer: Answer) -> Any:
    """What a generator of calls comes to."""
    found: Any = None
    try:
        while True:
            found = as_the_client(JIRA, answer)(calls.send(found))
    except StopIteration as stop:
        return stop.value


# -- Searches --------------------------------------------------------------------------------------


def test_a_page_token_that_lapsed_is_gone_on_from_by_when_issues_were_created() -> None:
    """Nothing is read anew from its beginning: the last issue's time is where it goes on."""
    first = Site(pages=[[issue(1), issue(2)], [issue(3)]]).read("issues")[0]

    def lapsed(request: Request) -> Any:
        if "nextPageToken" in request.params:
            return response({"errorMessages": ["expired"]}, 400)
        return {"issues": [issue(2), issue(3)], "isLast": True}

    site = Site(answers={"/search/jql": lapsed})
    assert rows("issues", site.read("issues", first.checkpoint)).keys() == {"2", "3"}
    created = re.search(r"created >= (\d+) ORDER", site.queries()[-1])
    assert created
    of_last = NOW - timedelta(days=400) + timedelta(hours=2)
    assert 0 <= of_last.timestamp() * 1000 - int(created[1]) <= 60_000


def test_comments_beyond_those_that_a_search_shows_are_listed() -> None:
    shown = [{"id": "7", "updated": written(NOW)}]
    busy = issue(1)
    busy["fields"]["comment"] = {"comments": shown, "total": 2}

    def listed(request: Request) -> Any:
        all_rows = [*shown, {"id": "8", "updated": written(NOW)}]
        start = int(str(request.params["startAt"]))
        return {"comments": all_rows[start : start + 1], "total": 2, "maxResults": 1}

    site = Site(pages=[[busy]], answers={"/issue/1/comment": listed})
    assert rows("comments", site.read("comments")).keys() == {"1/7", "1/8"}


def test_an_issue_that_goes_while_its_comments_are_listed_leaves_the_others_read() -> None:
    gone, other = issue(1), issue(2)
    gone["fields"]["comment"] = {"comments": [{"id": "7"}], "total": 30}
    other["fields"]["comment"] = {"comments": [{"id": "9"}], "total": 1}
    site = Site(pages=[[gone, other]], answers={"/issue/1/comment": response({}, 404)})
    assert rows("comments", site.read("comments")).keys() == {"1/7", "2/9"}


def test_changes_are_listed_only_where_the_newest_do_not_reach_back_to_the_look() -> None:
    def histories(newest: timedelta) -> dict[str, Any]:
        row = {"id": "70", "created": written(NOW - newest), "items": []}
        return {"histories": [row], "total": 900}

    at = looked(timedelta(minutes=10), late=timedelta(minutes=10))
    site = Site(pages=[[issue(1, changelog=histories(timedelta(hours=1)))]])
    assert rows("changelogs", site.read("changelogs", at)).keys() == {"1/70"}
    row = {"id": "69", "created": written(NOW - timedelta(minutes=2)), "items": []}
    site = Site(
        pages=[[issue(1, changelog=histories(timedelta(minutes=1)))]],
        answers={"/issue/1/changelog": {"values": [row], "total": 1}},
    )
    assert rows("changelogs", site.read("changelogs", at)).keys() == {"1/69"}


def test_the_end_of_a_full_read_counts_nothing_as_gone_where_projects_are_archived() -> None:
    archived = {"/project/search": {"values": [{"id": "1", "archived": True}], "total": 1}}
    *_, last = Site(pages=[[issue(1)]], answers=archived).read("issues")
    assert last.unseen == [""]
    *_, last = Site(pages=[[issue(1)]]).read("issues")
    assert not last.unseen


# -- By id -----------------------------------------------------------------------------------------


def test_what_jira_cannot_give_now_is_read_again_and_what_it_leaves_out_is_hidden() -> None:
    errors = [{"id": "2", "errorMessage": "payload too large"}]
    found = {"issues": [issue(1)], "issueErrors": errors}
    page = Site(answers={"/issue/bulkfetch": found}).again("issues", "1", "2", "3")
    assert [row["id"] for row in page.records] == ["1"]
    assert (page.unsettled, page.hidden, page.deleted) == (["2"], ["3"], ())


def test_comments_are_found_gone_one_by_one_or_with_their_issue() -> None:
    there = {"/issue/1/comment": {"comments": [{"id": "7"}], "total": 1}}
    page = Site(answers=there).again("comments", "1/7", "1/8")
    assert rows("comments", [page]).keys() == {"1/7"}
    assert page.hidden == ["1/8"]
    page = Site(answers={"/issue/1/comment": response({}, 404)}).again("comments", "1/", "1/7")
    assert page.hidden == ["1/7"]
    (listing,) = page.listed_keys
    assert (listing.prefix, list(listing.keys), listing.hidden) == ("1/", [], True)


# -- Errors ----------------------------------------------------------------------------------------


def test_a_401_of_the_agile_api_is_the_connections_only_as_long_as_no_fresh_token_was_tried() -> (
    None
):
    refused = response({"message": "Unauthorized"}, 401)
    agile = Response(
        status=401, headers={}, json={}, sent_at=NOW,
        url=f"https://api.atlassian.com/ex/jira/{CLOUD}/rest/agile/1.0/board",
    )  # fmt: skip
    found = judged(JIRA, agile)
    assert isinstance(found, BrokenConnectionError)
    assert isinstance(found.lasting, NotAllowedError)
    found = judged(JIRA, refused)
    assert isinstance(found, BrokenConnectionError)
    assert found.lasting is None


def test_a_429_may_have_any_body() -> None:
    assert isinstance(judged(JIRA, response(None, 429)), RateLimitedError)


def test_a_site_without_jira_software_lacks_its_boards_and_nothing_else() -> None:
    site = Site(answers={"/board": response({"errorMessages": ["no"]}, 404)})
    for stream in ("boards", "sprints"):
        with pytest.raises(NotAllowedError, match="Jira Software"):
            site.read(stream)


# -- Webhooks --------------------------------------------------------------------------------------


def told(kind: str, self_: str, **more: Any) -> list[Event]:
    """What a delivery comes to."""
    body = {
        "timestamp": 1_790_000_000_000, "webhookEvent": kind,
        "issue": {"id": "10001", "key": "AB-1", "self": self_}, **more,
    }  # fmt: skip
    headers = {"x-atlassian-webhook-identifier": "one"}
    assert JIRA.webhook
    return list(JIRA.webhook.events(Delivery(
        method="POST", url=HOOK, headers=headers, query={}, body=json.dumps(body).encode(),
        received_at=NOW,
    )))  # fmt: skip


BY_CLOUD = f"https://api.atlassian.com/ex/jira/{CLOUD}/rest/api/2/10001"
BY_HOST = "https://acme.atlassian.net/rest/api/2/10001"


def test_no_event_stores_or_deletes_by_itself() -> None:
    for kind in ("jira:issue_created", "jira:issue_updated", "jira:issue_deleted"):
        assert {event.effect for event in told(kind, BY_CLOUD)} <= {Effect.READ, Effect.GONE}
    deleted = told("jira:issue_deleted", BY_CLOUD)
    assert {(event.streams[0], event.key, event.account_id) for event in deleted} == {
        ("issues", "10001", CLOUD),
        ("comments", "10001/", CLOUD),
        ("changelogs", "10001/", CLOUD),
    }


def test_a_delivery_that_names_the_sites_host_is_of_the_webhooks_that_it_matched() -> None:
    comment = {"comment": {"id": "7"}, "matchedWebhookIds": [3, 4]}
    events = told("comment_updated", BY_HOST, **comment)
    assert [(event.watch_id, event.key, event.account_id) for event in events] == [
        ("acme.atlassian.net:3", "10001/7", ""),
        ("acme.atlassian.net:4", "10001/7", ""),
    ]
    assert len({event.id for event in events}) == 2


def test_an_id_that_is_none_is_not_asked_for() -> None:
    comment = {"comment": {"id": "../7"}}
    (event,) = told("comment_updated", BY_CLOUD, **comment)
    assert (event.effect, event.account_id) == (Effect.UNREADABLE, CLOUD)
    assert told("sprint_created", BY_CLOUD) == []


def test_a_secret_that_could_be_found_by_trying_proves_nothing() -> None:
    delivery = Delivery(
        method="POST", url=HOOK, headers={"authorization": "Bearer a.b.c"}, query={}, body=b"{}",
        received_at=NOW,
    )  # fmt: skip
    assert JIRA.webhook
    assert JIRA.webhook.verify
    with pytest.raises(SignatureError):
        JIRA.webhook.verify(delivery, VerificationKeys(secrets=("short",)))


# -- Watches ---------------------------------------------------------------------------------------


def wanted() -> WatchRequest:
    return WatchRequest(
        id="w", resource="issues", address=HOOK, secret="s", lifetime=timedelta(days=30),
        context=CONTEXT,
    )  # fmt: skip


def hook(id_: int, **more: Any) -> Record:
    events = [
        f"{what}_{how}"
        for what in ("jira:issue", "comment")
        for how in ("created", "updated", "deleted")
    ]
    return {"id": id_, "url": HOOK, "events": events, "jqlFilter": "project != null", **more}


def standing(*hooks: Record) -> dict[str, Any]:
    return {
        "/webhook": {"values": list(hooks), "total": len(hooks)},
        "/webhook/refresh": {"expirationDate": "2026-12-01T12:00:00.000+0000"},
    }


def test_a_webhook_of_ours_that_stands_is_taken_as_it_is() -> None:
    site = Site(answers=standing(hook(5, url="https://other.test"), hook(6)))
    assert JIRA.watch
    made = steps(JIRA.watch.create(wanted()), site)
    assert isinstance(made, MadeWatch)
    assert made.vendor_id == "acme.atlassian.net:6"
    assert made.expires_at == NOW + timedelta(days=30)


@pytest.mark.parametrize("status", [400, 403])
def test_a_site_that_gives_no_webhook_is_polled(status: int) -> None:
    def asked(request: Request) -> Any:
        if request.method == "GET":
            return {"values": [], "total": 0}
        return response({"errorMessages": ["Only a single URL per app is allowed"]}, status)

    assert JIRA.watch
    made = steps(JIRA.watch.create(wanted()), Site(answers={"/webhook": asked}))
    assert isinstance(made, NoWatch)
    assert (status == 403) or "single URL" in made.reason


async def test_a_webhook_of_a_sandboxed_site_delivers_what_is_found_by_its_watch() -> None:
    assert JIRA.watch
    assert JIRA.watch.renew
    assert JIRA.webhook
    assert JIRA.webhook.verify
    with sandboxed("jira") as place:
        account = place.connect()
        token = place.token(account)
        (known,) = [
            one
            for one in place.client.get(
                "/api.atlassian.com/oauth/token/accessible-resources",
                headers={"authorization": f"Bearer {token}"},
            ).json()
            if "read:jira-work" in one["scopes"]
        ]

        async def bearer(refused: bool) -> str:
            return token

        transport = Transport(sandbox_url=str(place.client.base_url).rstrip("/"))
        client = Client(
            JIRA, transport=transport, account_id=account, config={}, token=bearer,
            budget=Budget(None),
        )  # fmt: skip
        host = known["url"].removeprefix("https://")
        context = replace(CONTEXT, account_id=account, config={"host": host})
        asked = replace(wanted(), context=context, address=place.receiver.url)
        made = await client.run(JIRA.watch.create(asked))
        assert isinstance(made, MadeWatch)
        again = await client.run(JIRA.watch.create(asked))
        kept = await client.run(JIRA.watch.renew(asked, made))
        assert made.vendor_id == again.vendor_id == kept.vendor_id  # type: ignore[union-attr]
        issue_id = place.change(account, "issues", "add")
        place.standing(sent=1, idle=True)
        (call,) = place.receiver.calls
        delivery = Delivery(
            method="POST", url=place.receiver.url, headers=call.headers, query={}, body=call.body,
            received_at=datetime.now(UTC),
        )  # fmt: skip
        secret = place.client.get("/_control").json()["jira"]["client_secret"]
        JIRA.webhook.verify(delivery, VerificationKeys(secrets=(secret,)))
        (event,) = JIRA.webhook.events(delivery)
        assert (event.watch_id, event.key) == (made.vendor_id, issue_id)
        await client.run(JIRA.watch.delete(made, context))
        with pytest.raises(CheckpointExpiredError):
            await client.run(JIRA.watch.renew(asked, made))
        await transport.close()


def test_worklogs_begin_before_the_minute_that_the_feeds_leave_out() -> None:
    empty = {"values": [], "until": 0, "lastPage": True}
    site = Site(answers={"/worklog/updated": empty, "/worklog/deleted": empty})
    *_, last = site.read("worklogs")
    assert [each.path for each in site.asked] == ["/rest/api/3/worklog/updated"]
    site.read("worklogs", last.checkpoint, now=NOW + timedelta(minutes=10))
    since = int(str(site.asked[-1].params["since"]))
    assert since <= (NOW - timedelta(minutes=2)).timestamp() * 1000
    assert site.asked[-1].path == "/rest/api/3/worklog/deleted"
