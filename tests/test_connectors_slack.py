"""Slack's traps, each named by its test: readers over played channels, events, OAuth."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from connectors import (
    BrokenConnectionError,
    Checkpoint,
    CheckpointExpiredError,
    Context,
    ContractError,
    Delivery,
    Effect,
    Event,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Record,
    Request,
    Response,
    SignatureError,
    load,
)
from connectors.kernel.budget import Budget
from connectors.kernel.client import Transport
from connectors.kernel.oauth import OAuthApp, authorize_url, exchange, refresh, revoke
from connectors.kernel.webhooks import VerificationKeys
from tests._delivered import Place, sandboxed
from tests._driving import NOW, drive, held, response

SLACK = load("slack")
USERS, CHANNELS, MESSAGES, REPLIES, MEMBERS = (
    SLACK.stream(name)
    for name in ("users", "channels", "messages", "thread_replies", "channel_members")
)
DAY = timedelta(days=1)


def ts(ago: timedelta) -> str:
    return f"{(NOW - ago).timestamp():.6f}"


def no(error: str, **more: Any) -> Response:
    return response({"ok": False, "error": error, **more})


class Workspace:
    """Channels with what is said in them; `answers` stand in for those of a method."""

    def __init__(self, **talk: list[Record]) -> None:
        self.talk = talk
        self.outside: set[str] = set()
        self.answers: dict[str, list[Response]] = {}
        self.page = 200
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, request: Request) -> Response:
        method, given = request.path.strip("/"), dict(request.params)
        assert request.budget == method
        self.asked.append((method, given))
        if self.answers.get(method):
            return self.answers[method].pop(0)
        if method == "conversations.list":
            rows = [{"id": one, "is_member": one not in self.outside} for one in self.talk]
            return response({"ok": True, "channels": rows})
        channel = str(given["channel"])
        if channel in self.outside:
            return no("not_in_channel")
        return getattr(self, method.partition(".")[2])(self.talk[channel], given)  # type: ignore[no-any-return]

    def history(self, said: list[Record], given: dict[str, Any]) -> Response:
        oldest = float(given.get("oldest", 0))
        found = [one for one in said if one.get("thread_ts", one["ts"]) == one["ts"]]
        found = [one for one in found if float(one["ts"]) > oldest]
        found.sort(key=lambda one: float(one["ts"]), reverse=True)
        return self._page("messages", found, given)

    def replies(self, said: list[Record], given: dict[str, Any]) -> Response:
        parent = next(one for one in said if one["ts"] == given["ts"])
        rest = [one for one in said if one.get("thread_ts") == given["ts"] and one != parent]
        answer = self._page("messages", rest, given)
        return replace(answer, json={**answer.json, "messages": [parent, *answer.json["messages"]]})

    def members(self, said: list[Record], given: dict[str, Any]) -> Response:
        return self._page("members", ["U1", "U2", "U3"], given)

    def _page(self, name: str, found: list[Any], given: dict[str, Any]) -> Response:
        start = int(given.get("cursor", 0))
        end = start + self.page
        following = str(end) if end < len(found) else ""
        body = {"ok": True, name: found[start:end]}
        return response({**body, "response_metadata": {"next_cursor": following}})

    def histories(self) -> list[dict[str, Any]]:
        return [given for method, given in self.asked if method == "conversations.history"]


def message(ago: timedelta, **more: Any) -> Record:
    return {"type": "message", "user": "U1", "ts": ts(ago), "text": "hello", **more}


def thread(ago: timedelta, *replies: timedelta) -> list[Record]:
    parent = message(ago, thread_ts=ts(ago), reply_count=len(replies), latest_reply=ts(replies[-1]))
    return [parent, *(message(one, thread_ts=ts(ago)) for one in replies)]


# -- Answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("invalid_auth", BrokenConnectionError),
        ("token_revoked", BrokenConnectionError),
        ("token_expired", BrokenConnectionError),
        ("account_inactive", BrokenConnectionError),
        ("missing_scope", NotAllowedError),
        ("ratelimited", RateLimitedError),
        ("internal_error", ProviderUnavailableError),
        ("no_such_thing", ContractError),
    ],
)
def test_what_failed_comes_with_200_and_is_no_empty_page(code: str, kind: type[Exception]) -> None:
    assert isinstance(SLACK.classify(no(code)), kind)


def test_an_error_that_is_left_to_a_reader_is_no_empty_page_to_another() -> None:
    with pytest.raises(KeyError):
        drive(USERS.read, lambda request: no("invalid_cursor"))


def test_a_short_or_an_empty_page_is_not_the_end() -> None:
    pages = [
        {"ok": True, "members": [], "response_metadata": {"next_cursor": "a"}},
        {"ok": True, "members": [{"id": "U1"}], "response_metadata": {"next_cursor": "b"}},
        {"ok": True, "members": [{"id": "U2"}], "response_metadata": {"next_cursor": ""}},
    ]
    answers = iter(pages)
    found = drive(USERS.read, lambda request: response(next(answers)))
    assert held(USERS, found).keys() == {"U1", "U2"}
    assert next(answers, None) is None


def test_a_cursor_that_has_lapsed_begins_its_list_again() -> None:
    space = Workspace(C1=[message(DAY)])
    space.answers["conversations.history"] = [no("invalid_cursor")]
    at = {"parts": {}, "todo": ["C1"], "here": {"started": 1, "page": "old"}}
    found = drive(MESSAGES.read, space, at)
    assert [given.get("cursor") for given in space.histories()] == ["old", None]
    assert len(held(MESSAGES, found)) == 1


# -- Channels, messages, replies ------------------------------------------------------------------


def test_only_channels_that_the_app_is_in_are_read() -> None:
    space = Workspace(C1=[message(DAY)], C2=[message(DAY)])
    space.outside = {"C2"}
    assert held(MESSAGES, drive(MESSAGES.read, space)).keys() == {f"C1/{ts(DAY)}"}


def test_a_channel_that_the_app_is_put_out_of_in_mid_read_is_tried_again_and_stays_meanwhile() -> (
    None
):
    space = Workspace(C1=[message(DAY)], C2=[message(30 * DAY)])
    pages = drive(MESSAGES.read, space)
    first = held(MESSAGES, pages)
    space.answers["conversations.history"] = [no("not_in_channel")]
    *_, last = pages = drive(MESSAGES.read, space, pages[-1].checkpoint)
    assert held(MESSAGES, pages, first) == first
    assert [one.part for one in last.unread or ()] == ["C1"]
    assert last.unseen == ["C1/"]
    later = drive(MESSAGES.read, space, last.checkpoint, now=NOW + DAY)
    assert later[-1].unread == []


def test_a_channel_that_the_app_is_invited_to_again_is_read_from_its_start() -> None:
    space = Workspace(C1=[message(30 * DAY)], C2=[message(DAY)])
    pages = drive(MESSAGES.read, space)
    space.outside = {"C1"}
    pages = drive(MESSAGES.read, space, pages[-1].checkpoint)
    space.outside = set()
    found = held(MESSAGES, drive(MESSAGES.read, space, pages[-1].checkpoint))
    assert f"C1/{ts(30 * DAY)}" in found


def test_a_checkpoint_that_stood_for_all_channels_is_read_on_from() -> None:
    space = Workspace(C1=[message(DAY), message(20 * DAY)], C2=[message(20 * DAY)])
    since = int((NOW - DAY).timestamp())
    old = {"since": since, "channels": ["C1", "C9"]}
    pages = drive(MESSAGES.read, space, old)
    # C2 came since then, and C9 went.
    assert held(MESSAGES, pages).keys() == {f"C1/{ts(DAY)}", f"C2/{ts(20 * DAY)}"}
    assert [listing.prefix for page in pages for listing in page.listed_keys] == ["C9/"]
    window = drive(MESSAGES.read, space, {"since": since})
    assert held(MESSAGES, window).keys() == {f"C1/{ts(DAY)}"}
    with pytest.raises(CheckpointExpiredError):
        drive(MESSAGES.read, space, {"channels": ["C1"], "new": [], "place": 0, "started": 1})


def test_with_a_channel_that_is_left_or_gone_goes_what_was_said_in_it() -> None:
    space = Workspace(C1=[message(DAY)], C2=[message(DAY)], C3=[message(DAY)])
    pages = drive(MESSAGES.read, space)
    first = held(MESSAGES, pages)
    assert len(first) == 3
    del space.talk["C1"]
    space.outside = {"C2"}
    later = held(MESSAGES, drive(MESSAGES.read, space, pages[-1].checkpoint), first)
    assert later.keys() == {f"C3/{ts(DAY)}"}


def test_private_channels_are_asked_for_only_where_that_was_granted() -> None:
    space = Workspace(C1=[])
    drive(CHANNELS.read, space)
    assert space.asked[-1][1]["types"] == "public_channel"
    granted = Context(now=NOW, account_id="T1", config={"scopes": ["groups:read"]})
    request = next(CHANNELS.read(Checkpoint(), granted))
    assert isinstance(request, Request)
    assert request.params["types"] == "public_channel,private_channel"


def test_a_poll_reads_the_last_week_again_since_history_tells_of_no_edit() -> None:
    space = Workspace(C1=[message(3 * DAY), message(20 * DAY)])
    pages = drive(MESSAGES.read, space)
    first = held(MESSAGES, pages)
    space.talk["C1"] = [message(3 * DAY, text="edited"), message(20 * DAY, text="edited")]
    later = held(MESSAGES, drive(MESSAGES.read, space, pages[-1].checkpoint), first)
    assert later[f"C1/{ts(3 * DAY)}"]["text"] == "edited"
    assert later[f"C1/{ts(20 * DAY)}"]["text"] == "hello"
    assert MESSAGES.hides_deletes


def test_a_ts_is_kept_as_the_text_that_it_is() -> None:
    said = {**message(DAY), "ts": "1700000000.000100"}
    (key,) = held(MESSAGES, drive(MESSAGES.read, Workspace(C1=[said])))
    assert key == "C1/1700000000.000100"


def test_the_parent_that_every_page_of_replies_begins_with_is_no_reply() -> None:
    space = Workspace(C1=thread(2 * DAY, DAY, DAY / 2, DAY / 4))
    space.page = 1
    found = held(REPLIES, drive(REPLIES.read, space))
    assert found.keys() == {f"C1/{ts(one)}" for one in (DAY, DAY / 2, DAY / 4)}


def test_a_thread_is_read_again_only_if_it_had_a_reply_of_late() -> None:
    space = Workspace(C1=[*thread(2 * DAY, DAY), *thread(6 * DAY, 5 * DAY), message(DAY)])
    pages = drive(REPLIES.read, space, {"since": int(NOW.timestamp())})
    assert len(held(REPLIES, pages)) == 2
    space.asked.clear()
    later = {"since": int((NOW + 3 * DAY).timestamp())}
    drive(REPLIES.read, space, later)
    asked = [given["ts"] for method, given in space.asked if method == "conversations.replies"]
    assert asked == [ts(2 * DAY)]


def test_a_scan_goes_on_after_the_thread_that_was_read_last() -> None:
    space = Workspace(C1=[*thread(3 * DAY, DAY), *thread(2 * DAY, DAY / 2)])
    first = next(page for page in drive(REPLIES.read, space) if page.records)
    space.asked.clear()
    drive(REPLIES.read, space, first.checkpoint)
    asked = [given["ts"] for method, given in space.asked if method == "conversations.replies"]
    assert asked == [ts(3 * DAY)]


def test_members_are_plain_ids() -> None:
    space = Workspace(C1=[])
    space.page = 2
    found = held(MEMBERS, drive(MEMBERS.read, space))
    assert found["C1/U3"] == {"channel_id": "C1", "user_id": "U3"}
    assert len(found) == 3


def test_an_organisations_token_names_each_of_its_workspaces() -> None:
    asked: list[Any] = []

    def play(request: Request) -> Response:
        asked.append(request.params.get("team_id"))
        if request.path == "/auth.teams.list":
            return response({"ok": True, "teams": [{"id": "T2"}, {"id": "T1"}]})
        return response({"ok": True, "members": [{"id": f"U{asked[-1]}"}]})

    reader = USERS.read(Checkpoint(), Context(now=NOW, account_id="E1", config={"org": True}))
    found, sent = [], None
    while True:
        try:
            action = reader.send(sent)
        except StopIteration:
            break
        sent = play(action) if isinstance(action, Request) else None
        if not isinstance(action, Request | tuple):
            found += [row["id"] for row in action.records]
    assert asked == [None, "T1", "T2"]
    assert found == ["UT1", "UT2"]


def test_users_are_updated_in_seconds_and_channels_in_milliseconds() -> None:
    assert USERS.version({"id": "USLACKBOT", "updated": 0}) == 0
    assert USERS.columns["updated_s"].path == CHANNELS.columns["updated_ms"].path == ("updated",)


# -- Events ---------------------------------------------------------------------------------------


def told(body: Any) -> Delivery:
    return Delivery(
        method="POST",
        url="https://atom.test/hook",
        headers={},
        query={},
        body=json.dumps(body).encode(),
        received_at=NOW,
    )


def events(event: Record, **envelope: Any) -> list[Event]:
    body = {
        "type": "event_callback",
        "event_id": "Ev1",
        "event_time": 1_700_000_000,
        "team_id": "T1",
        "authorizations": [
            {"team_id": "T1", "user_id": "UBOT", "is_bot": True, "is_enterprise_install": False}
        ],
        "event": event,
        **envelope,
    }
    assert SLACK.webhook
    return list(SLACK.webhook.events(told(body)))


def meant(event: Record, **envelope: Any) -> list[tuple[Effect, tuple[str, ...], str]]:
    return [(one.effect, one.streams, one.key) for one in events(event, **envelope)]


def test_the_challenge_is_answered_once_it_is_proven_to_be_slacks() -> None:
    assert SLACK.webhook
    asked = told({"type": "url_verification", "token": "x", "challenge": "abc"})
    assert SLACK.webhook.handshake(asked) is None
    assert SLACK.webhook.verify
    with pytest.raises(SignatureError):
        SLACK.webhook.verify(asked, VerificationKeys(secrets=("secret",)))
    assert SLACK.webhook.events(asked) == ()
    reply = SLACK.webhook.reply(asked)
    assert (reply.status, reply.body, reply.content_type) == (200, "abc", "text/plain")
    assert SLACK.webhook.reply(told({"type": "event_callback"})).body == ""


def test_app_rate_limited_has_no_id_and_is_a_gap_of_a_minute_in_all_that_is_told() -> None:
    assert SLACK.webhook
    body = {"type": "app_rate_limited", "team_id": "T1", "minute_rate_limited": 1_518_467_820}
    (event,) = SLACK.webhook.events(told(body))
    assert (event.effect, event.account_id, event.streams) == (Effect.MISSED, "T1", ())
    assert (event.at, event.until) == (
        datetime(2018, 2, 12, 20, 37, tzinfo=UTC), datetime(2018, 2, 12, 20, 38, tzinfo=UTC)
    )  # fmt: skip
    (same,) = SLACK.webhook.events(told(body))
    (other,) = SLACK.webhook.events(told({**body, "minute_rate_limited": 1_518_467_880}))
    assert event.id == same.id != other.id


def test_a_message_is_kept_as_history_has_it() -> None:
    said = {**message(DAY), "channel": "C1", "event_ts": ts(DAY), "channel_type": "channel"}
    (event,) = events(said)
    assert (event.effect, event.streams) == (Effect.RECORD, ("messages",))
    assert event.record == {**message(DAY), "channel_id": "C1"}
    assert not events({**said, "channel_type": "im"})


def test_an_edit_comes_with_the_message_as_it_is_now() -> None:
    edited = message(DAY, text="edited", edited={"user": "U1", "ts": ts(DAY / 2)})
    change = {"type": "message", "subtype": "message_changed", "channel": "C1", "message": edited}
    (event,) = events({**change, "event_ts": ts(DAY / 2), "ts": ts(DAY / 2)})
    assert event.record == {**edited, "channel_id": "C1"}
    assert event.at == NOW - DAY / 2


def test_a_deletion_is_told_by_deleted_ts() -> None:
    gone = {"type": "message", "subtype": "message_deleted", "channel": "C1", "deleted_ts": ts(DAY)}
    key = f"C1/{ts(DAY)}"
    assert meant({**gone, "ts": ts(DAY / 2), "previous_message": message(DAY)}) == [
        (Effect.DELETED, ("messages",), key)
    ]
    assert {streams for _, streams, _ in meant(gone)} == {("messages",), ("thread_replies",)}


def test_a_reply_is_of_its_thread_and_one_that_was_broadcast_of_both() -> None:
    reply = {**message(DAY, thread_ts=ts(2 * DAY)), "channel": "C1"}
    assert [one.streams for one in events(reply)] == [("thread_replies",)]
    both = events({**reply, "subtype": "thread_broadcast"})
    assert [one.streams for one in both] == [("messages",), ("thread_replies",)]
    assert len({one.id for one in both}) == 2


@pytest.mark.parametrize("channel", ["C1", {"id": "C1", "name": "general"}])
def test_a_channel_may_be_an_id_or_an_object(channel: Any) -> None:
    assert meant({"type": "channel_archive", "channel": channel}) == [
        (Effect.READ, ("channels",), "C1")
    ]
    assert meant({"type": "channel_deleted", "channel": channel}) == [
        (Effect.DELETED, ("channels",), "C1"),
        (Effect.EMPTIED, ("messages",), "C1/"),
        (Effect.EMPTIED, ("thread_replies",), "C1/"),
        (Effect.EMPTIED, ("channel_members",), "C1/"),
    ]


def test_a_channel_that_gets_another_id_is_read_under_it() -> None:
    found = meant({"type": "channel_id_changed", "old_channel_id": "C1", "new_channel_id": "C2"})
    assert found[:2] == [
        (Effect.DELETED, ("channels",), "C1"),
        (Effect.READ, ("channels",), "C2"),
    ]
    assert found[2][0] is Effect.HINT


def test_a_channel_that_the_app_joins_is_read_from_its_start() -> None:
    join = {"type": "member_joined_channel", "channel": "C1"}
    assert meant({**join, "user": "U1"}) == [(Effect.RECORD, ("channel_members",), "")]
    assert (Effect.HINT, ("messages", "thread_replies", "channel_members"), "") in meant(
        {**join, "user": "UBOT"}
    )
    assert meant({"type": "member_left_channel", "channel": "C1", "user": "U1"}) == [
        (Effect.DELETED, ("channel_members",), "C1/U1")
    ]


def test_authorizations_say_whose_an_event_of_a_shared_channel_is() -> None:
    said = {**message(DAY), "channel": "C1"}
    assert [one.account_id for one in events(said, team_id="T9")] == ["T1"]
    org = {"team_id": "T1", "enterprise_id": "E1", "user_id": "U", "is_enterprise_install": True}
    assert [one.account_id for one in events(said, authorizations=[org])] == ["E1"]
    unnamed = events(said, authorizations=[], enterprise_id="E1")
    assert [one.account_id for one in unnamed] == ["T1", "E1"]
    assert len({one.id for one in unnamed}) == 2


def test_tokens_are_revoked_by_the_ids_of_users_and_only_the_bots_are_ours() -> None:
    revoked = {"type": "tokens_revoked", "tokens": {"oauth": [], "bot": ["UBOT"]}}
    assert [effect for effect, _, _ in meant(revoked)] == [Effect.REVOKED]
    users = {"type": "tokens_revoked", "tokens": {"oauth": ["U1"], "bot": []}}
    assert [effect for effect, _, _ in meant(users)] == [Effect.HINT]
    assert [effect for effect, _, _ in meant({"type": "app_uninstalled"})] == [Effect.REVOKED]


# -- OAuth ----------------------------------------------------------------------------------------


@contextmanager
def means(place: Place) -> Iterator[tuple[OAuthApp, dict[str, Any]]]:
    described = place.client.get("/_control").json()["slack"]
    app = OAuthApp(described["client_id"], described["client_secret"], "http://127.0.0.1:9/back")
    origin = str(place.client.base_url).rstrip("/")
    yield app, {"transport": Transport(sandbox_url=origin), "budget": Budget(None)}


def code(place: Place, app: OAuthApp, account: str) -> str:
    page = authorize_url(SLACK.oauth, app, state="s").replace("https://", "/")
    answer = place.client.post(page, data={"decision": "allow", "account": account})
    return str(answer.next_request.url.params["code"]) if answer.next_request else ""


async def test_without_rotation_a_token_has_no_end_and_no_refresh_token() -> None:
    with sandboxed("slack") as place, means(place) as (app, how):
        account = place.control("POST", "accounts", size=2)["id"]
        tokens = await exchange(SLACK, app, code=code(place, app, account), **how)
        assert (tokens.refresh_token, tokens.expires_at) == (None, None)
        assert tokens.scope == tuple(SLACK.oauth.scopes)
        for _ in range(2):  # what is revoked already is as good
            await revoke(SLACK, app, token=tokens.access_token, **how)
        await how["transport"].close()


async def test_with_rotation_a_token_ends_and_its_refresh_token_is_good_once() -> None:
    with sandboxed("slack") as place, means(place) as (app, how):
        account = place.control("POST", "accounts", size=2)["id"]
        place.control("POST", "app", account=account, rotates=True)
        tokens = await exchange(SLACK, app, code=code(place, app, account), **how)
        assert tokens.expires_at is not None
        assert tokens.refresh_token
        again = {"refresh_token": tokens.refresh_token, "account_id": account, **how}
        renewed = await refresh(SLACK, app, **again)
        assert renewed.refresh_token not in (None, tokens.refresh_token)
        # It comes with 200 and ok: false.
        with pytest.raises(BrokenConnectionError):
            await refresh(SLACK, app, **again)
        with pytest.raises(ContractError, match="SLACK_CLIENT_ID"):
            await refresh(SLACK, replace(app, client_secret="other"), **again)
        await how["transport"].close()


def test_a_users_token_has_a_refresh_token_of_its_own() -> None:
    user = {"id": "U1", "access_token": "xoxe.xoxp-1", "refresh_token": "r", "expires_in": 43_200}
    alone = SLACK.oauth.normalize_answer({"ok": True, "authed_user": user, "team": {"id": "T1"}})
    assert (alone["access_token"], alone["refresh_token"]) == ("xoxe.xoxp-1", "r")
    both = SLACK.oauth.normalize_answer({"ok": True, "access_token": "xoxb-1", "authed_user": user})
    assert both == {"ok": True, "access_token": "xoxb-1", "authed_user": {"id": "U1"}}


def test_the_account_of_an_install_in_a_whole_organisation_is_the_organisation() -> None:
    def account(answer: Record) -> Any:
        steps = SLACK.identify(answer, {})
        with pytest.raises(StopIteration) as stop:
            next(steps)
        return stop.value.value[0]

    team = account({"team": {"id": "T1", "name": "Acme"}, "scope": "users:read,team:read"})
    assert (team.id, team.config["org"]) == ("T1", False)
    enterprise = {"team": None, "enterprise": {"id": "E1"}, "is_enterprise_install": True}
    assert account(enterprise).id == "E1"


def test_scopes_are_parted_by_commas_and_no_proof_key_is_sent() -> None:
    page = authorize_url(SLACK.oauth, OAuthApp("id", "secret", "https://atom.test"), state="s")
    assert "channels%3Aread%2Cchannels%3Ahistory" in page
    assert not SLACK.oauth.pkce
