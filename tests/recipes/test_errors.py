"""What an answer means, by who must act; and who is told what."""

from datetime import timedelta
from typing import Any

import pytest
import yaml

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    ContractError,
    NotAllowedError,
    ProviderUnavailableError,
    RateLimitedError,
    Response,
)
from tests.recipes._playing import NOW, answer, only, play, read, stream


def judged(handler: str, response: Response, config: Any = None) -> ConnectorError | None:
    """What a stream with this error handler makes of an answer."""
    requester = {"error_handler": yaml.safe_load(handler)} if handler else {}
    try:
        play(only(stream(retriever={"requester": requester})), lambda request: response, config)
    except ConnectorError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ContractError),
        (401, BrokenConnectionError),
        (403, NotAllowedError),
        (404, ContractError),
        (408, ProviderUnavailableError),
        (422, ContractError),
        (429, RateLimitedError),
        (500, ProviderUnavailableError),
        (503, ProviderUnavailableError),
        (302, ContractError),
    ],
)
def test_statuses_without_a_handler(status: int, kind: type[ConnectorError]) -> None:
    error = judged("", answer({"items": [], "message": "canary"}, status))
    assert type(error) is kind
    assert "canary" not in str(error)


FILTERS = "{type: DefaultErrorHandler, response_filters: [%s]}"


@pytest.mark.parametrize(
    ("one", "response", "kind"),
    [
        ("{http_codes: [404], action: IGNORE}", answer({}, 404), None),
        ("{http_codes: [418], action: SUCCESS}", answer({"items": []}, 418), None),
        ("{http_codes: [400], action: RETRY}", answer({}, 400), ProviderUnavailableError),
        ("{http_codes: [403], action: RATE_LIMITED}", answer({}, 403), RateLimitedError),
        ("{http_codes: [401], action: FAIL}", answer({}, 401), BrokenConnectionError),
        (
            "{http_codes: [400], action: FAIL, failure_type: config_error}",
            answer({}, 400),
            NotAllowedError,
        ),
        (
            "{http_codes: [500], action: FAIL, failure_type: transient_error}",
            answer({}, 500),
            ProviderUnavailableError,
        ),
        (
            "{http_codes: [403], action: FAIL, failure_type: system_error}",
            answer({}, 403),
            ContractError,
        ),
        (
            '{predicate: "{{ response.ok == false }}", action: FAIL}',
            answer({"ok": False}),
            ContractError,
        ),
        ("{predicate: '{{ response.a.b.c }}', action: FAIL}", answer({"items": []}), None),
        (
            "{predicate: \"{{ headers['x-left'] == '0' }}\", action: RATE_LIMITED}",
            answer({}, 400, x_left="0"),
            RateLimitedError,
        ),
        (
            "{error_message_contains: too many, action: RATE_LIMITED}",
            answer({"errors": [{"message": "too many calls"}]}, 400),
            RateLimitedError,
        ),
        ("{error_message_contains: too many, action: RETRY}", answer({}, 400), ContractError),
    ],
)
def test_filters(one: str, response: Response, kind: type[ConnectorError] | None) -> None:
    error = judged(FILTERS % one.replace("{", "{type: HttpResponseFilter, ", 1), response)
    assert (type(error) if error else None) is kind


def test_handlers_are_asked_one_after_the_other_and_a_failure_is_last() -> None:
    handler = """
    type: CompositeErrorHandler
    error_handlers:
      - response_filters: [{http_codes: [400], action: FAIL, error_message: first}]
      - response_filters: [{predicate: "{{ response.again }}", action: RETRY}]
      - response_filters: [{http_codes: [404], action: IGNORE}]
    """
    assert isinstance(judged(handler, answer({"again": True}, 400)), ProviderUnavailableError)
    assert isinstance(judged(handler, answer({}, 400)), ContractError)
    assert judged(handler, answer({}, 404)) is None


def test_a_message_of_the_manifest_is_said_unless_it_quotes_the_vendor() -> None:
    said = (
        FILTERS % "{type: HttpResponseFilter, http_codes: [403], action: FAIL, error_message: %s}"
    )
    error = judged(said % "Buy the larger plan.", answer({}, 403))
    assert str(error).endswith(": Buy the larger plan.")
    quoting = judged(said % "'{{ response.message }}'", answer({"message": "canary"}, 403))
    assert "canary" not in str(quoting)


@pytest.mark.parametrize(
    ("strategy", "headers", "seconds"),
    [
        ("{type: ConstantBackoffStrategy, backoff_time_in_seconds: 30}", {}, 30),
        ("{type: ConstantBackoffStrategy, backoff_time_in_seconds: '{{ config.wait }}'}", {}, 7),
        ("{type: ExponentialBackoffStrategy, factor: 5}", {}, 0),
        ("{type: WaitTimeFromHeader, header: X-Wait}", {"x-wait": "12"}, 12),
        ("{type: WaitTimeFromHeader, header: X-Wait}", {}, 0),
        ("{type: WaitTimeFromHeader, header: X-Wait, regex: '[0-9]+'}", {"x-wait": "in 9 s"}, 9),
        (
            "{type: WaitUntilTimeFromHeader, header: X-Until}",
            {"x-until": str(int(NOW.timestamp()) + 40)},
            40,
        ),
        (
            "{type: WaitUntilTimeFromHeader, header: X-Until, min_wait: 60}",
            {"x-until": str(int(NOW.timestamp()) - 5)},
            60,
        ),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_waits(strategy: str, headers: dict[str, str], seconds: int, status: int) -> None:
    handler = f"{{type: DefaultErrorHandler, backoff_strategies: [{strategy}]}}"
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    error = judged(handler, answer({}, status, **named), {"wait": 7})
    assert isinstance(error, RateLimitedError | ProviderUnavailableError)
    assert error.retry_after == timedelta(seconds=seconds)


def test_an_action_that_we_lack_is_said() -> None:
    one = "{type: HttpResponseFilter, http_codes: [400], action: RESET_PAGINATION}"
    requester = {"error_handler": yaml.safe_load(FILTERS % one)}
    (unread,) = read(stream(retriever={"requester": requester})).unread
    assert unread.why == "HttpResponseFilter.action RESET_PAGINATION"


def test_an_error_names_the_request_as_the_manifest_does() -> None:
    requester = {
        "path": "/{{ config['key'] }}/items",
        "request_parameters": {"key": "{{ config['key'] }}"},
        "authenticator": {"type": "BearerAuthenticator", "api_token": "{{ config['key'] }}"},
    }
    made = only(stream(retriever={"requester": requester}))
    for status in (400, 401, 403, 404, 429, 500, 302):
        response = answer({}, status)
        with pytest.raises(ConnectorError) as failed:
            play(made, {"/v1/canary/items?key=canary": response})
        error: BaseException | None = failed.value
        shown = ""
        while error is not None:
            shown += f"{error} {error!r} {getattr(error, '__notes__', '')}"
            error = error.__cause__
        assert "canary" not in shown
        if status != 429:
            assert "GET /{{ config['key'] }}/items" in shown or status == 302
