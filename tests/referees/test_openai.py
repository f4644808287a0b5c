"""OpenAI's own SDK judges the sandbox: it lists models, and names what went wrong."""

from collections.abc import Iterator
from typing import Any

import httpx  # noqa: TID251 - a test speaks to the sandbox's controls
import openai
import pytest

import sandbox

pytestmark = pytest.mark.referee


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with sandbox.start(["openai"]) as started:
        yield started


def described(origin: str) -> Any:
    return httpx.get(f"{origin}/_control").json()["openai"]


def client(origin: str, key: str) -> openai.OpenAI:
    return openai.OpenAI(api_key=key, base_url=described(origin)["base_url"], max_retries=0)


def test_the_sdk_lists_and_finds_models(origin: str) -> None:
    with client(origin, described(origin)["access_token"]) as sdk:
        listed = list(sdk.models.list())
        assert [model.object for model in listed] == ["model"] * len(listed)
        assert sdk.models.retrieve(listed[0].id) == listed[0]
        with pytest.raises(openai.NotFoundError) as caught:
            sdk.models.retrieve("no-such-model")
    assert caught.value.code == "model_not_found"


def test_the_sdk_sees_a_wrong_key_as_one(origin: str) -> None:
    with (
        client(origin, "sk-proj-wrong") as sdk,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        sdk.models.list()
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (401, "invalid_organization", openai.AuthenticationError),
        (403, None, openai.PermissionDeniedError),
        (429, "insufficient_quota", openai.RateLimitError),
        (500, None, openai.InternalServerError),
    ],
)
def test_the_sdk_reads_every_ordered_answer(
    origin: str, status: int, code: str | None, error: type[openai.APIStatusError]
) -> None:
    facts = described(origin)
    ordered = {"account": facts["account_id"], "status": status, "code": code}
    httpx.post(f"{origin}/_control/openai/answer", json=ordered).raise_for_status()
    with client(origin, facts["access_token"]) as sdk, pytest.raises(error) as caught:
        sdk.models.list()
    assert caught.value.code == code
    assert caught.value.status_code == status
