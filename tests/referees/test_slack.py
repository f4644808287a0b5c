"""Slack's own SDK against the sandbox, with only its base URL set."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackTokenRotationError
from slack_sdk.http_retry.builtin_handlers import RateLimitErrorRetryHandler
from slack_sdk.oauth.installation_store.models import Installation
from slack_sdk.oauth.token_rotation import TokenRotator
from slack_sdk.signature import SignatureVerifier

from sandbox import start
from tests._receiver import receiving

pytestmark = pytest.mark.referee

BACK = "http://127.0.0.1:9/callback"


class Referee:
    """The SDK with a token of a workspace of its own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int = 60) -> None:
        self.http = control
        self.described = control.get("/_control").json()["slack"]
        self.account = self.control("accounts", size=size)["id"]
        self.web = self.client(self.control("grant", account=self.account)["access_token"])

    def client(self, token: str | None = None) -> WebClient:
        return WebClient(token=token, base_url=self.described["base_url"])

    def control(self, action: str, **body: Any) -> Any:
        answer = self.http.post(f"/_control/slack/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.http.get("/_control/slack/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def installed(self) -> dict[str, Any]:
        """A consent, and the code exchanged by the SDK, which names no grant type."""
        query = {
            "client_id": self.described["client_id"],
            "scope": "channels:read,channels:history,users:read",
            "redirect_uri": BACK,
        }
        page = self.described["authorize_url"]
        answer = self.http.post(
            page, params=query, data={"decision": "allow", "account": self.account}
        )
        code = dict(parse_qsl(urlsplit(answer.headers["location"]).query))["code"]
        found = self.client().oauth_v2_access(
            client_id=self.described["client_id"],
            client_secret=self.described["client_secret"],
            code=code,
            redirect_uri=BACK,
        )
        assert isinstance(found.data, dict)
        return found.data


@pytest.fixture
def referee() -> Iterator[Referee]:
    with start(["slack"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield Referee(client)


def test_lists_are_walked_by_cursor_to_their_end(referee: Referee) -> None:
    users = [one for page in referee.web.users_list(limit=7) for one in page["members"]]
    assert {one["id"]: one for one in users} == referee.store("users")
    channels = [one for page in referee.web.conversations_list(limit=1) for one in page["channels"]]
    assert {one["id"]: one for one in channels} == referee.store("channels")
    info = referee.web.conversations_info(channel=channels[0]["id"], include_num_members=True)
    assert info["channel"] == channels[0]


def test_messages_threads_and_members_of_a_channel_are_read(referee: Referee) -> None:
    messages: dict[str, Any] = {}
    replies: dict[str, Any] = {}
    members: set[str] = set()
    for channel in [one for one, row in referee.store("channels").items() if row["is_member"]]:
        for page in referee.web.conversations_history(channel=channel, limit=5):
            for one in page["messages"]:
                messages[f"{channel}/{one['ts']}"] = {**one, "channel_id": channel}
                if not one.get("reply_count"):
                    continue
                for thread in referee.web.conversations_replies(
                    channel=channel, ts=one["ts"], limit=1
                ):
                    parent, *rest = thread["messages"]
                    assert parent == one
                    replies |= {
                        f"{channel}/{row['ts']}": {**row, "channel_id": channel} for row in rest
                    }
        for page in referee.web.conversations_members(channel=channel, limit=2):
            members |= {f"{channel}/{one}" for one in page["members"]}
    assert messages == referee.store("messages")
    assert replies == referee.store("thread_replies")
    assert members == set(referee.store("channel_members"))


def test_what_the_sdk_writes_is_in_the_history(referee: Referee) -> None:
    channel = next(one for one, row in referee.store("channels").items() if row["is_member"])
    said = referee.web.chat_postMessage(channel=channel, text="first")
    referee.web.chat_update(channel=channel, ts=said["ts"], text="second")
    assert referee.store("messages")[f"{channel}/{said['ts']}"]["text"] == "second"
    referee.web.chat_delete(channel=channel, ts=said["ts"])
    assert f"{channel}/{said['ts']}" not in referee.store("messages")


def test_errors_are_the_ones_that_the_sdk_raises(referee: Referee) -> None:
    with pytest.raises(SlackApiError) as caught:
        referee.web.conversations_history(channel="C0NOWHERE")
    assert caught.value.response["error"] == "channel_not_found"
    with pytest.raises(SlackApiError) as caught:
        referee.client("xoxb-nobody").auth_test()
    assert caught.value.response["error"] == "invalid_auth"
    referee.control("faults", kind="429", retry_after=1)
    referee.web.retry_handlers.append(RateLimitErrorRetryHandler(max_retry_count=1))
    assert referee.web.auth_test()["team_id"] == referee.account


def test_a_token_without_rotation_has_no_end_and_is_revoked(referee: Referee) -> None:
    granted = referee.installed()
    assert "refresh_token" not in granted
    assert "expires_in" not in granted
    web = referee.client(granted["access_token"])
    assert web.auth_test()["ok"]
    assert web.auth_revoke()["revoked"]
    with pytest.raises(SlackApiError) as caught:
        web.auth_test()
    assert caught.value.response["error"] == "token_revoked"


def test_the_sdk_rotates_tokens(referee: Referee) -> None:
    referee.control("app", account=referee.account, rotates=True)
    granted = referee.installed()
    installation = Installation(
        user_id="U1",
        team_id=referee.account,
        bot_token=granted["access_token"],
        bot_refresh_token=granted["refresh_token"],
        bot_token_expires_in=granted["expires_in"],
    )
    rotator = TokenRotator(
        client_id=referee.described["client_id"],
        client_secret=referee.described["client_secret"],
        client=referee.client(),
    )
    rotated = rotator.perform_token_rotation(
        installation=installation, minutes_before_expiration=60 * 24
    )
    assert rotated is not None
    assert rotated.bot_token not in (None, granted["access_token"])
    assert referee.client(rotated.bot_token).auth_test()["ok"]
    with pytest.raises(SlackTokenRotationError, match="invalid_refresh_token"):
        rotator.perform_token_rotation(installation=installation, minutes_before_expiration=60 * 24)


def test_the_sdk_takes_the_signatures_and_no_forged_ones(referee: Referee) -> None:
    verifier = SignatureVerifier(referee.described["webhook_secret"])
    with receiving() as receiver:
        referee.control("webhook", url=receiver.url)
        referee.control("deliveries", forge=1)
        for _ in range(2):
            referee.http.post(
                f"/_control/slack/records/users?account={referee.account}", json={"op": "add"}
            )
            receiver.wait(1)
        forged, genuine = receiver.wait(2)[:2]
    assert not verifier.is_valid_request(forged.body, forged.headers)
    assert verifier.is_valid_request(genuine.body, genuine.headers)
