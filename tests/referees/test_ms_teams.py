"""Microsoft's own SDK against the sandbox's Teams, with only its address set."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from kiota_abstractions.api_error import APIError
from kiota_abstractions.base_request_configuration import RequestConfiguration
from msgraph.generated.chats.item.messages.messages_request_builder import (
    MessagesRequestBuilder as ChatMessages,
)
from msgraph.generated.teams.item.channels.item.messages.delta.delta_request_builder import (
    DeltaRequestBuilder,
)
from msgraph.generated.teams.item.channels.item.messages.messages_request_builder import (
    MessagesRequestBuilder as ChannelMessages,
)
from msgraph.generated.users.item.chats.chats_request_builder import ChatsRequestBuilder

from sandbox import start
from tests.referees._graph import signed_in

pytestmark = pytest.mark.referee


def asking(builder: Any, name: str, **options: Any) -> Any:
    """The SDK's form of `$top` and the like."""
    parameters = getattr(builder, f"{name}GetQueryParameters")(**options)
    return RequestConfiguration(query_parameters=parameters)


class Referee:
    """The SDK, signed in as a person with Teams of their own, and the orders to the sandbox."""

    def __init__(self, control: httpx.Client, size: int = 60) -> None:
        self.control = control
        self.account = control.post("/_control/ms_teams/accounts", json={"size": size}).json()["id"]
        self.connections = httpx.AsyncHTTPTransport()
        self.graph = signed_in(control, "ms_teams", self.account, self.connections)

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.control.get("/_control/ms_teams/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found

    def order(self, control: str, **body: Any) -> None:
        body = {"account": self.account, **body}
        self.control.post(f"/_control/ms_teams/{control}", json=body).raise_for_status()

    def busiest(self) -> tuple[str, str, Any]:
        """The channel with the most messages, and its builder."""
        keys = [key.rpartition("/")[0] for key in self.store("channel_messages")]
        place = max(set(keys), key=keys.count)
        team, _, channel = place.partition("/")
        found = self.graph.teams.by_team_id(team).channels.by_channel_id(channel)
        return place, channel, found


@pytest.fixture(scope="module")
def control() -> Iterator[httpx.Client]:
    with start(["ms_teams"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        client.post("/_control/ms_teams/limits", json={"scale": 1000})
        yield client


@pytest.fixture
async def referee(control: httpx.Client) -> AsyncIterator[Referee]:
    made = Referee(control)
    yield made
    await made.connections.aclose()


async def every_page(builder: Any, page: Any) -> tuple[list[Any], str | None]:
    """All rows from that page on, and the delta link at their end if there is one."""
    rows = list(page.value)
    while page.odata_next_link:
        page = await builder.with_url(page.odata_next_link).get()
        rows += page.value
    return rows, getattr(page, "odata_delta_link", None)


async def test_joined_teams_and_their_channels_are_listed(referee: Referee) -> None:
    joined = await referee.graph.me.joined_teams.get()
    assert joined
    teams = {team.id: team.display_name for team in joined.value or ()}
    assert teams == {id_: row["displayName"] for id_, row in referee.store("teams").items()}
    found: dict[str, Any] = {}
    for team in teams:
        listed = await referee.graph.teams.by_team_id(str(team)).channels.get()
        assert listed
        found |= {f"{team}/{one.id}": one.membership_type for one in listed.value or ()}
    stored = referee.store("channels")
    assert {key: str(kind.value) for key, kind in found.items() if kind} == {
        key: row["membershipType"] for key, row in stored.items()
    }


async def test_a_channels_messages_are_listed_in_pages(referee: Referee) -> None:
    place, _, channel = referee.busiest()
    asked = asking(ChannelMessages, "MessagesRequestBuilder", top=10, expand=["replies"])
    rows, _ = await every_page(channel.messages, await channel.messages.get(asked))
    stored = {key: row for key, row in referee.store("channel_messages").items()}
    assert {f"{place}/{row.id}" for row in rows} == {k for k in stored if k.startswith(place)}
    replies = {f"{place}/{row.id}/{one.id}" for row in rows for one in row.replies or ()}
    assert replies == {key for key in referee.store("message_replies") if key.startswith(place)}


async def test_a_delta_is_enumerated_and_then_tells_what_changed(referee: Referee) -> None:
    place, _, channel = referee.busiest()
    delta = channel.messages.delta
    rows, link = await every_page(
        delta, await delta.get(asking(DeltaRequestBuilder, "DeltaRequestBuilder", top=10))
    )
    assert rows
    assert link
    id_ = next(key for key in referee.store("channel_messages") if key.startswith(place))
    for op, record in (("change", {"text": "another"}), ("delete", {})):
        path = "/_control/ms_teams/records/channel_messages"
        order = {"op": op, "id": id_, "record": record}
        referee.control.post(path, params={"account": referee.account}, json=order)
        rows, link = await every_page(delta, await delta.with_url(link).get())
        (told,) = rows
        assert f"{place}/{told.id}" == id_
        assert bool(told.deleted_date_time) == (op == "delete")
        assert told.body.content == record.get("text", "")
    rows, _ = await every_page(delta, await delta.with_url(link).get())
    assert rows == []


async def test_a_delta_takes_a_filter_by_time_and_gives_replies_where_expanded(
    referee: Referee,
) -> None:
    _, _, channel = referee.busiest()
    since = (datetime.now(UTC) - timedelta(days=60)).strftime("%Y-%m-%dT%H:%M:%SZ")
    asked = asking(
        DeltaRequestBuilder, "DeltaRequestBuilder",
        filter=f"lastModifiedDateTime gt {since}", expand=["replies"],
    )  # fmt: skip
    rows, link = await every_page(channel.messages.delta, await channel.messages.delta.get(asked))
    assert rows
    assert link
    last = [max(one.last_modified_date_time for one in (row, *row.replies)) for row in rows]
    assert min(last) > datetime.now(UTC) - timedelta(days=61)


async def test_a_delta_that_lapsed_is_refused(referee: Referee) -> None:
    _, _, channel = referee.busiest()
    delta = channel.messages.delta
    _, link = await every_page(delta, await delta.get())
    referee.order("expire_checkpoints")
    with pytest.raises(APIError) as refused:
        await delta.with_url(link).get()
    assert refused.value.response_status_code == 410


async def test_messages_and_replies_are_read_by_their_ids(referee: Referee) -> None:
    for key, stored in list(referee.store("message_replies").items())[:5]:
        team, channel_id, above, id_ = key.split("/")
        channel = referee.graph.teams.by_team_id(team).channels.by_channel_id(channel_id)
        message = channel.messages.by_chat_message_id(above)
        assert (await message.get()).id == above
        reply = await message.replies.by_chat_message_id1(id_).get()
        assert reply
        assert reply.reply_to_id == above
        assert reply.body
        assert reply.body.content == stored["body"]["content"]


async def test_chats_and_their_messages_are_read_newest_first(referee: Referee) -> None:
    asked = asking(
        ChatsRequestBuilder, "ChatsRequestBuilder",
        expand=["lastMessagePreview"], orderby=["lastMessagePreview/createdDateTime desc"], top=2,
    )  # fmt: skip
    chats = referee.graph.me.chats
    rows, _ = await every_page(chats, await chats.get(asked))
    assert {row.id for row in rows} == set(referee.store("chats"))
    previews = [row.last_message_preview.created_date_time for row in rows]
    assert previews == sorted(previews, reverse=True)
    by_time = {"orderby": ["lastModifiedDateTime desc"], "top": 7}
    found = set()
    for row in rows:
        messages = referee.graph.chats.by_chat_id(row.id).messages
        asked = asking(ChatMessages, "MessagesRequestBuilder", **by_time)
        page, _ = await every_page(messages, await messages.get(asked))
        found |= {f"{row.id}/{one.id}" for one in page}
    assert found == set(referee.store("chat_messages"))


async def test_a_team_that_is_not_there_is_not_found(referee: Referee) -> None:
    with pytest.raises(APIError) as refused:
        await referee.graph.teams.by_team_id("nobody").channels.get()
    assert refused.value.response_status_code == 404
