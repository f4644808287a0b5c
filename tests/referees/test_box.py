"""Box's own SDK against the sandbox, with only its base URLs set."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - gives the sandbox its orders
import pytest
from box_sdk_gen import (
    BoxAPIError,
    BoxClient,
    BoxDeveloperTokenAuth,
    BoxOAuth,
    CreateWebhookTarget,
    GetAuthorizeUrlOptions,
    OAuthConfig,
)
from box_sdk_gen.managers.events import GetEventsStreamType
from box_sdk_gen.managers.webhooks import CreateWebhookTriggers, WebhooksManager
from box_sdk_gen.networking import BaseUrls, NetworkSession

from sandbox import start
from tests._delivered import sandboxed

pytestmark = pytest.mark.referee

BACK = "http://127.0.0.1:9/callback"
FIELDS = ["name", "size", "sha1", "modified_at", "owned_by", "shared_link", "tags", "parent"]


def urls(origin: str) -> BaseUrls:
    return BaseUrls(
        base_url=f"{origin}/api.box.com",
        upload_url=f"{origin}/upload.box.com/api",
        oauth_2_url=f"{origin}/account.box.com/api/oauth2",
    )


class Referee:
    """The SDK with a token of an account of its own, and the orders to the sandbox."""

    def __init__(self, origin: str, control: httpx.Client) -> None:
        self.http, self.urls = control, urls(origin)
        self.described = control.get("/_control").json()["box"]
        self.account = self.control("accounts", size=60)["id"]
        token = self.control("grant", account=self.account)["access_token"]
        client = BoxClient(auth=BoxDeveloperTokenAuth(token=token))
        self.box: Any = client.with_custom_base_urls(self.urls)

    def control(self, action: str, **body: Any) -> Any:
        answer = self.http.post(f"/_control/box/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def change(self, stream: str, op: str, **more: Any) -> str:
        return str(self.control(f"records/{stream}?account={self.account}", op=op, **more)["id"])

    def store(self, stream: str) -> dict[str, Any]:
        answer = self.http.get("/_control/box/store", params={"account": self.account})
        found: dict[str, Any] = answer.json()["streams"][stream]
        return found


@pytest.fixture
def referee() -> Iterator[Referee]:
    with start(["box"]) as origin, httpx.Client(base_url=origin, timeout=60) as client:
        yield Referee(origin, client)


def test_the_sdk_walks_through_all_folders_by_marker(referee: Referee) -> None:
    found, folders = set[str](), ["0"]
    while folders:
        folder, marker = folders.pop(), None
        while True:
            page = referee.box.folders.get_folder_items(
                folder, fields=FIELDS, usemarker=True, marker=marker, limit=7
            )
            found |= {f"{item.type.value}_{item.id}" for item in page.entries}
            folders += [item.id for item in page.entries if item.type.value == "folder"]
            if not (marker := page.next_marker):
                break
    assert found == set(referee.store("folder_items"))


def test_the_sdk_reads_a_file_with_its_fields_and_is_told_of_a_trashed_one(
    referee: Referee,
) -> None:
    id, row = next(iter(referee.store("files").items()))
    file = referee.box.files.get_file_by_id(id, fields=FIELDS)
    assert (file.name, file.size, file.sha_1) == (row["name"], row["size"], row["sha1"])
    assert file.owned_by.login == row["owned_by"]["login"]
    referee.change("files", "delete", id=id)
    with pytest.raises(BoxAPIError) as refused:
        referee.box.files.get_file_by_id(id)
    assert (refused.value.response_info.status_code, refused.value.response_info.code) == (
        404, "trashed",
    )  # fmt: skip
    trashed = referee.box.trashed_items.get_trashed_items(usemarker=True, limit=1000)
    assert id in {item.id for item in trashed.entries}


def test_the_sdk_reads_what_hangs_on_files_and_the_people(referee: Referee) -> None:
    box = referee.box
    for stream, listed in (
        ("comments", box.comments.get_file_comments),
        ("tasks", box.tasks.get_file_tasks),
        ("collaborations", box.list_collaborations.get_file_collaborations),
    ):
        rows = [row for row in referee.store(stream).values() if row["item_type"] == "file"]
        for file in {row["item_id"] for row in rows}:
            ids = {row["id"] for row in rows if row["item_id"] == file}
            assert ids <= {one.id for one in listed(file).entries}
    users = box.users.get_users(usemarker=True, limit=1000)
    assert {user.id for user in users.entries} == set(referee.store("users"))


def test_the_sdk_follows_the_events_from_a_position(referee: Referee) -> None:
    events = referee.box.events
    now = events.get_events(stream_position="now").next_stream_position
    assert not events.get_events(stream_position=str(now)).entries
    id = referee.change("files", "add", record={"name": "new"})
    page = events.get_events(
        stream_type=GetEventsStreamType.CHANGES, stream_position=str(now), limit=500
    )
    assert page.chunk_size == 1
    (event,) = page.entries
    assert (event.event_type.value, event.source.id) == ("ITEM_UPLOAD", id)


def test_the_sdk_exchanges_refreshes_and_revokes(referee: Referee) -> None:
    known = {name: referee.described[name] for name in ("client_id", "client_secret")}
    auth = BoxOAuth(OAuthConfig(**known))
    session = NetworkSession(base_urls=referee.urls)
    options = GetAuthorizeUrlOptions(redirect_uri=BACK, state="s", scope="root_readonly")
    page = httpx.URL(auth.get_authorize_url(options=options))
    address = f"{referee.urls.oauth_2_url}/authorize?{page.query.decode()}"
    form = {"decision": "allow", "account": referee.account}
    answered = referee.http.post(address, data=form)
    code = httpx.URL(answered.headers["location"]).params["code"]
    first = auth.get_tokens_authorization_code_grant(code, network_session=session)
    second = auth.refresh_token(network_session=session)
    assert first.refresh_token != second.refresh_token
    box: Any = BoxClient(auth=auth).with_custom_base_urls(referee.urls)
    assert box.users.get_user_me().id == referee.account
    auth.revoke_token(network_session=session)
    with pytest.raises(BoxAPIError):
        auth.refresh_token(network_session=session)


def test_the_sdk_makes_a_webhook_and_proves_what_is_delivered() -> None:
    with sandboxed("box") as place:
        account = place.connect(size=10)
        origin = str(place.client.base_url).rstrip("/")
        client = BoxClient(auth=BoxDeveloperTokenAuth(token=place.token(account)))
        box: Any = client.with_custom_base_urls(urls(origin))
        record = {"type": "folder", "parent": "0"}
        folder = place.change(account, "folder_items", "add", record=record)
        id = folder.removeprefix("folder_")
        hook = box.webhooks.create_webhook(
            CreateWebhookTarget(id=id, type="folder"), place.receiver.url,
            [CreateWebhookTriggers.FILE_UPLOADED],
        )  # fmt: skip
        assert [one.id for one in box.webhooks.get_webhooks().entries] == [hook.id]
        primary, secondary = (
            place.client.get("/_control").json()["box"]["webhook_secret"].split(",")
        )
        place.order(forge=1)
        for _ in range(2):
            place.change(account, "files", "add", record={"parent": id, "name": "Ærøskøbing"})
            place.standing(idle=True)
        forged, genuine = place.receiver.calls
        proves = [
            WebhooksManager.validate_message(
                call.body.decode(), dict(call.headers), primary, secondary_key=secondary
            )
            for call in (forged, genuine)
        ]
    assert proves == [False, True]
