"""`dropbox` against the sandbox, with only the addresses of its hosts set."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - orders the sandbox
import pytest
import requests
from dropbox import Dropbox, exceptions, files
from dropbox.common import PathRoot
from requests import PreparedRequest, Response

from sandbox import start

pytestmark = pytest.mark.referee


class ToTheSandbox(requests.adapters.HTTPAdapter):  # type: ignore[misc]  # requests brings no types
    """Sends what is meant for Dropbox's hosts to the sandbox, whose paths begin with the host."""

    def __init__(self, origin: str) -> None:
        super().__init__()
        self.origin = origin

    def send(self, request: PreparedRequest, *args: Any, **options: Any) -> Response:
        assert request.url
        request.url = f"{self.origin}/{request.url.removeprefix('https://')}"
        return super().send(request, *args, **options)


class Place:
    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.client = httpx.Client(base_url=f"{origin}/_control/dropbox")
        self.account = str(self.control("accounts", size=60)["id"])
        self.described = httpx.get(f"{origin}/_control").json()["dropbox"]
        self.tokens = self.control("grant", account=self.account)

    def control(self, action: str, **body: Any) -> Any:
        answer = self.client.post(f"/{action}", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def store(self, stream: str) -> dict[str, Any]:
        asked = {"account": self.account, "stream": stream}
        found: dict[str, Any] = self.client.get("/store", params=asked).json()["streams"][stream]
        return found

    def sdk(self, **options: Any) -> Any:
        session = requests.Session()
        session.mount("https://", ToTheSandbox(self.origin))
        given = {"oauth2_access_token": self.tokens["access_token"], **options}
        return Dropbox(session=session, max_retries_on_error=0, **given)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with start(["dropbox"]) as origin:
        place = Place(origin)
        yield place
        place.client.close()


@pytest.fixture
def rooted(place: Place) -> Any:
    """The SDK at the root of the account."""
    sdk = place.sdk()
    root = sdk.users_get_current_account().root_info.root_namespace_id
    return sdk.with_path_root(PathRoot.root(root))


def test_the_sdk_follows_files_by_a_cursor(place: Place, rooted: Any) -> None:
    page = rooted.files_list_folder("", recursive=True, limit=20)
    found = list(page.entries)
    while page.has_more:
        page = rooted.files_list_folder_continue(page.cursor)
        found += page.entries
    assert {entry.path_lower for entry in found} == set(place.store("files"))
    file = next(entry for entry in found if isinstance(entry, files.FileMetadata))
    path = f"records/files?account={place.account}"
    place.control(path, op="delete", id=file.path_lower)
    (gone,) = rooted.files_list_folder_continue(page.cursor).entries
    assert isinstance(gone, files.DeletedMetadata)
    assert gone.path_lower == file.path_lower
    past = rooted.files_list_revisions(file.path_lower, limit=100)
    assert past.is_deleted
    assert file.rev in {each.rev for each in past.entries}


def test_the_sdk_knows_what_is_shared(place: Place) -> None:
    sdk = place.sdk()
    folders = sdk.sharing_list_folders(limit=100).entries
    assert {each.shared_folder_id for each in folders} == set(place.store("shared_folders"))
    assert sdk.sharing_list_received_files(limit=100).entries
    assert sdk.sharing_list_shared_links().links
    assert sdk.users_get_space_usage().used == place.store("space_usage")["space_usage"]["used"]
    shown = [sdk.sharing_list_folder_members(each.shared_folder_id) for each in folders]
    count = sum(len(each.users) + len(each.groups) + len(each.invitees) for each in shown)
    assert count == len(place.store("folder_members"))
    assert {each.id for each in sdk.file_requests_list_v2().file_requests} == set(
        place.store("file_requests")
    )


def test_the_sdk_knows_each_refusal_for_what_it_is(place: Place, rooted: Any) -> None:
    cursor = rooted.files_list_folder("").cursor
    with pytest.raises(exceptions.BadInputError):
        rooted.files_list_folder("/")
    with pytest.raises(exceptions.ApiError) as missing:
        rooted.files_list_folder("/nowhere")
    assert missing.value.error.get_path().is_not_found()
    place.control("expire_checkpoints", account=place.account)
    with pytest.raises(exceptions.ApiError) as reset:
        rooted.files_list_folder_continue(cursor)
    assert reset.value.error.is_reset()
    with pytest.raises(exceptions.AuthError):
        place.sdk(oauth2_access_token="no").users_get_current_account()
    with pytest.raises(exceptions.PathRootError):
        place.sdk().with_path_root(PathRoot.root("1")).files_list_folder("")
    place.control("faults", kind="429", retry_after=7)
    with pytest.raises(exceptions.RateLimitError) as limited:
        place.sdk(max_retries_on_rate_limit=0).users_get_current_account()
    assert limited.value.backoff == 7


def test_the_sdk_refreshes_and_revokes(place: Place) -> None:
    tokens = place.control("grant", account=place.account)
    given = {
        "oauth2_access_token": None,
        "oauth2_refresh_token": tokens["refresh_token"],
        "app_key": place.described["client_id"],
        "app_secret": place.described["client_secret"],
    }
    sdk = place.sdk(**given)
    assert sdk.users_get_current_account().account_id == place.account
    sdk.auth_token_revoke()
    with pytest.raises(exceptions.AuthError):
        place.sdk(**given).users_get_current_account()
