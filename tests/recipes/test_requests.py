"""What a request carries, and how it shows whose it is."""

import base64
from datetime import timedelta
from typing import Any

import pytest
import yaml

from connectors import BrokenConnectionError, ContractError, Request, Response
from tests.recipes._playing import NOW, answer, line_of, only, play, read, stream

ITEMS = {"items": [{"id": 1}]}


def asked(changes: str, config: dict[str, Any] | None = None, **more: Any) -> Request:
    """The one request of a stream with these changes to its requester."""
    made = stream(retriever={"requester": yaml.safe_load(changes)}, **more)
    (request,) = play(only(made), lambda request: answer(ITEMS), config).requests
    return request


def test_addresses_are_joined() -> None:
    def address(changes: str, config: dict[str, Any] | None = None) -> str:
        return asked(changes, config).path

    base = "https://api.made-up.example/v1"
    assert address("path: /items") == f"{base}/items"
    assert address("path: items/") == f"{base}/items/"
    assert address("path: ''") == base
    assert address("{path: null, url_base: null, url: 'https://x.example/a/'}") == (
        "https://x.example/a/"
    )
    assert address("path: https://other.example/x") == "https://other.example/x"
    sub = "url_base: \"https://{{ config['sub'] }}.made-up.example/\""
    assert address(sub, {"sub": "acme"}) == "https://acme.made-up.example/items"
    assert address("path: /items?kind=a") == f"{base}/items?kind=a"


def test_parameters_and_headers_are_texts_and_lists() -> None:
    request = asked(
        """
        request_parameters:
          number: 5
          truth: true
          text: "{{ config['n'] }}"
          many: ["a", "b"]
          list: "{{ config['l'] }}"
          empty: "{{ config['missing'] }}"
          "{{ config['n'] }}": name
        request_headers:
          X-Number: 7
          X-None: "{{ config['missing'] }}"
          accept: text/plain
        """,
        {"n": "07", "l": ["x", "y"]},
    )
    assert request.params == {
        "number": "5",
        "truth": "True",
        "text": "07",
        "many": ["a", "b"],
        "list": ["x", "y"],
        "07": "name",
    }
    assert request.headers == {"x-number": "7", "accept": "text/plain"}


def test_a_parameter_that_the_address_has_is_not_sent_twice() -> None:
    request = asked("{path: '/items?a=1&b=2', request_parameters: {a: '1', b: '3'}}")
    assert line_of(request) == "/v1/items?a=1&b=2?b=3"


def test_bodies() -> None:
    post = "http_method: POST\n"
    json = post + "request_body_json: {a: 1, b: {c: \"{{ config['n'] }}\", d: '{{ config.no }}'}}"
    assert asked(json, {"n": "2"}).json == {"a": 1, "b": {"c": 2}}
    form = asked(post + "request_body_data: {a: 1, b: \"{{ config['n'] }}\"}", {"n": "02"})
    assert form.form == {"a": "1", "b": "02"}
    several = asked(post + "request_body_data: {a: \"{{ ['x', 'y'] }}\"}")
    assert several.text == "a=x&a=y"
    assert several.headers["content-type"] == "application/x-www-form-urlencoded"
    assert asked(post + "request_body_data: 'query {{ config.n }}'", {"n": "q"}).text == "query q"
    value = "request_body: {type: RequestBodyJsonObject, value: {x: 1}}"
    assert asked(post + value).json == {"x": 1}
    value = "request_body: {type: RequestBodyUrlEncodedForm, value: {x: 1}}"
    assert asked(post + value).form == {"x": "1"}
    value = "request_body: {type: RequestBodyPlainText, value: plain}"
    assert asked(post + value).text == "plain"
    graphql = "request_body: {type: RequestBodyGraphQL, value: {query: 'query { a }'}}"
    assert asked(post + graphql).json == {"query": "query { a }"}


def test_two_parts_that_set_one_place_are_refused() -> None:
    changes = """
    request_parameters: {key: mine}
    authenticator:
      type: ApiKeyAuthenticator
      api_token: other
      inject_into: {type: RequestOption, inject_into: request_parameter, field_name: key}
    """
    with pytest.raises(ContractError, match="two parts of a request set key in the query"):
        asked(changes)


AUTHENTICATORS = {
    "NoAuth": ("{type: NoAuth}", {}, {}),
    "key in a header": (
        "{type: ApiKeyAuthenticator, header: X-Key, api_token: \"{{ config['key'] }}\"}",
        {"x-key": "canary"},
        {},
    ),
    "key at a place": (
        "{type: ApiKeyAuthenticator, api_token: \"{{ config['key'] }}\", inject_into: "
        "{type: RequestOption, inject_into: request_parameter, field_name: api_key}}",
        {},
        {"api_key": "canary"},
    ),
    "bearer": (
        "{type: BearerAuthenticator, api_token: \"{{ config['key'] }}\"}",
        {"authorization": "Bearer canary"},
        {},
    ),
    "basic": (
        "{type: BasicHttpAuthenticator, username: \"{{ config['key'] }}\"}",
        {"authorization": f"Basic {base64.b64encode(b'canary:').decode()}"},
        {},
    ),
    "one of several": (
        "{type: SelectiveAuthenticator, authenticator_selection_path: [how], authenticators: "
        "{a: {type: NoAuth}, b: {type: BearerAuthenticator, api_token: b}}}",
        {"authorization": "Bearer b"},
        {},
    ),
}


@pytest.mark.parametrize("name", AUTHENTICATORS)
def test_what_the_settings_hold_is_not_tried_twice(name: str) -> None:
    changes = {"authenticator": yaml.safe_load(AUTHENTICATORS[name][0])}
    read = only(stream(retriever={"requester": changes}))
    with pytest.raises(BrokenConnectionError) as failed:
        play(read, lambda request: answer({}, 401), {"key": "canary", "how": "b"})
    assert len(failed.value.played.requests) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", AUTHENTICATORS)
def test_authenticators_of_settings(name: str) -> None:
    text, headers, params = AUTHENTICATORS[name]
    request = asked(f"authenticator: {text}", {"key": "canary", "how": "b"})
    assert (request.headers, request.params) == (headers, params)
    assert "canary" not in repr(request)


OAUTH = """
authenticator:
  type: OAuthAuthenticator
  token_refresh_endpoint: https://login.made-up.example/token
  client_id: "{{ config['id'] }}"
  client_secret: "{{ config['secret'] }}"
  refresh_token: "{{ config['refresh'] }}"
"""
SETTINGS = {"id": "me", "secret": "canary", "refresh": "again"}


def oauth(more: str = "", pages: bool = False) -> Any:
    requester = {**yaml.safe_load(OAUTH), "path": "/items"}
    requester["authenticator"] |= yaml.safe_load(more) or {}
    return only(stream(PAGED if pages else "", retriever={"requester": requester}))


PAGED = """
retriever:
  paginator:
    type: DefaultPaginator
    page_token_option: {type: RequestOption, inject_into: request_parameter, field_name: page}
    pagination_strategy: {type: PageIncrement, page_size: 1, start_from_page: 1}
"""


class Login:
    """Gives tokens, and pages to who has the newest one."""

    def __init__(self, last: int = 3, expires_in: Any = 3600) -> None:
        self.tokens = 0
        self.last, self.expires_in = last, expires_in
        self.forms: list[Any] = []
        self.refuses = False

    def __call__(self, request: Request) -> Response:
        if request.path.endswith("/token"):
            self.tokens += 1
            self.forms.append(request.form)
            if self.refuses:
                return answer({"error": "invalid_grant"}, 400)
            token = {"access_token": f"token-{self.tokens}", "expires_in": self.expires_in}
            return answer(token)
        if request.headers.get("authorization") != f"Bearer token-{self.tokens}":
            return answer({}, 401)
        page = int(str(request.params.get("page", 1)))
        return answer({"items": [{"id": page}] if page <= self.last else []})


def test_an_access_token_is_asked_for_once_and_kept_for_the_read() -> None:
    login = Login()
    played = play(oauth(pages=True), login, SETTINGS)
    assert [record["id"] for record in played.records] == [1, 2, 3]
    assert login.forms == [
        {
            "grant_type": "refresh_token",
            "client_id": "me",
            "client_secret": "canary",
            "refresh_token": "again",
        }
    ]
    assert read(stream(retriever={"requester": yaml.safe_load(OAUTH)})).connector.hosts == (
        "api.made-up.example",
        "login.made-up.example",
    )


def test_a_token_that_ended_is_asked_for_again() -> None:
    login = Login(expires_in=30)  # less than the margin: each request asks anew
    assert len(play(oauth(pages=True), login, SETTINGS).records) == 3
    assert login.tokens == 4


def test_a_refused_token_is_asked_for_again_once() -> None:
    login = Login()

    def vendor(request: Request) -> Response:
        if request.params.get("page") == "2" and login.tokens == 1:
            return answer({}, 401)
        return login(request)

    assert len(play(oauth(pages=True), vendor, SETTINGS).records) == 3
    assert login.tokens == 2


def test_a_refusal_of_the_token_itself_asks_the_tenant_and_shows_no_secret() -> None:
    login = Login()
    login.refuses = True
    with pytest.raises(BrokenConnectionError, match="gives no access token") as failed:
        play(oauth(), login, SETTINGS)
    assert "canary" not in str(failed.value)
    with pytest.raises(BrokenConnectionError, match="refuses our authorisation"):
        play(
            oauth(),
            lambda request: answer({"access_token": "x"}) if request.form else answer({}, 401),
            SETTINGS,
        )


def test_the_forms_of_a_token_request() -> None:
    login = Login()
    more = """
    grant_type: client_credentials
    refresh_token: null
    client_id_name: app
    scopes: [a, b]
    refresh_request_body: {extra: "{{ config['id'] }}", app: no}
    """
    with pytest.raises(ContractError, match="without an access token"):
        play(oauth(more + "access_token_name: other"), login, SETTINGS)
    request = play_first(oauth(more))
    assert request.text == (
        "grant_type=client_credentials&app=me&client_secret=canary&scopes=a&scopes=b&extra=me"
    )
    in_header = play_first(oauth("refresh_request_headers: {Authorization: 'Basic x'}"))
    assert in_header.form == {"grant_type": "refresh_token", "refresh_token": "again"}
    assert in_header.headers == {"Authorization": "Basic x"}
    in_query = play_first(oauth("send_refresh_request_as_query_params: true"))
    assert in_query.params["client_secret"] == "canary"
    assert "canary" not in repr(in_query)


def play_first(read: Any) -> Request:
    """The first request of a read."""
    found: list[Request] = []

    def vendor(request: Request) -> Response:
        found.append(request)
        return answer({"access_token": "x", **ITEMS})

    play(read, vendor, SETTINGS)
    return found[0]


def test_a_token_that_changes_with_each_use_is_not_followed() -> None:
    requester = yaml.safe_load(OAUTH)
    requester["authenticator"]["refresh_token_updater"] = {"refresh_token_name": "refresh_token"}
    (one,) = read(stream(retriever={"requester": requester})).unread
    assert one.why == "OAuthAuthenticator.refresh_token_updater"


SESSION = """
authenticator:
  type: SessionTokenAuthenticator
  login_requester:
    type: HttpRequester
    url_base: https://login.made-up.example
    path: session
    http_method: POST
    request_body_json: {username: "{{ config['id'] }}", password: "{{ config['secret'] }}"}
  session_token_path: [data, token]
  expiration_duration: PT1H
  request_authentication: %s
"""


@pytest.mark.parametrize(
    ("how", "headers"),
    [
        ("{type: Bearer}", {"authorization": "Bearer s-1"}),
        (
            "{type: ApiKey, inject_into: {type: RequestOption, inject_into: header, "
            "field_name: X-Session}}",
            {"x-session": "s-1"},
        ),
        (
            "{type: ApiKey, api_token: 'Token {{ session_token }}', inject_into: "
            "{type: RequestOption, inject_into: header, field_name: Authorization}}",
            {"authorization": "Token s-1"},
        ),
    ],
)
def test_a_session_is_opened_by_a_login(how: str, headers: dict[str, str]) -> None:
    made = stream(PAGED, retriever={"requester": yaml.safe_load(SESSION % how)})
    asked: list[Request] = []

    def vendor(request: Request) -> Response:
        asked.append(request)
        if request.path == "https://login.made-up.example/session":
            assert request.json == {"username": "me", "password": "canary"}
            return answer({"data": {"token": "s-1"}})
        assert request.headers == headers
        return answer({"items": [{"id": 1}] if request.params.get("page") != "3" else []})

    play(only(made), vendor, SETTINGS)
    assert sum("login" in request.path for request in asked) == 1


def test_a_session_token_of_the_settings_or_one_for_a_password() -> None:
    text = """
    authenticator:
      type: LegacySessionTokenAuthenticator
      header: X-Session
      session_token: "{{ config['token'] }}"
      username: "{{ config['id'] }}"
      password: "{{ config['secret'] }}"
      session_token_response_key: id
      login_url: /session
      validate_session_url: /me
    """
    made = only(stream(retriever={"requester": yaml.safe_load(text)}))

    def vendor(request: Request) -> Response:
        if request.path.endswith("/session"):
            assert request.json == {"username": "me", "password": "canary"}
            return answer({"id": "from-login"})
        assert request.headers["x-session"] == expected
        return answer(ITEMS)

    expected = "given"
    assert len(play(made, vendor, {**SETTINGS, "token": "given"}).requests) == 1
    expected = "from-login"
    assert len(play(made, vendor, {**SETTINGS, "token": ""}).requests) == 2

    def refusing(request: Request) -> Response:
        return answer({}, 401) if request.headers.get("x-session") == "given" else vendor(request)

    # A token of the settings that is no longer good is as good as none.
    assert len(play(made, refusing, {**SETTINGS, "token": "given"}).requests) == 3


def test_a_token_that_we_sign() -> None:
    from joserfc import jwt
    from joserfc.jwk import OctKey

    text = """
    authenticator:
      type: JwtAuthenticator
      secret_key: "{{ config['secret'] }}"
      algorithm: HS256
      token_duration: 60
      header_prefix: JWT
      jwt_headers: {kid: "{{ config['id'] }}", typ: JWT}
      jwt_payload: {iss: "{{ config['id'] }}"}
      additional_jwt_payload: {more: 1}
    """
    secret = "canary-canary-canary-canary-canary"
    prefix, token = asked(text, {**SETTINGS, "secret": secret}).headers["authorization"].split()
    found = jwt.decode(token, OctKey.import_key(secret), algorithms=["HS256"])
    now = int(NOW.timestamp())
    assert prefix == "JWT"
    assert found.header == {"kid": "me", "typ": "JWT", "alg": "HS256"}
    assert found.claims == {"iss": "me", "more": 1, "iat": now, "nbf": now, "exp": now + 60}


def test_a_key_that_signs_nothing_is_not_shown() -> None:
    text = "authenticator: {type: JwtAuthenticator, secret_key: canary, algorithm: RS256}"
    with pytest.raises(BrokenConnectionError, match="signs no RS256 token") as failed:
        asked(text)
    assert "canary" not in str(failed.value)
    assert failed.value.__suppress_context__


def test_a_vendors_own_limits_are_kept() -> None:
    budget = """
    type: HTTPAPIBudget
    policies:
      - type: MovingWindowCallRatePolicy
        rates: [{type: Rate, limit: 5, interval: PT1S}, {type: Rate, limit: 100, interval: PT1M}]
        matchers: []
      - {type: FixedWindowCallRatePolicy, period: PT1H, call_limit: 1000, matchers: []}
    """
    limits = read(stream(), api_budget=yaml.safe_load(budget)).connector.rate_limits
    found = [(limit.amount, limit.per) for limit in limits]
    assert found == [
        (5, timedelta(seconds=1)),
        (100, timedelta(minutes=1)),
        (1000, timedelta(hours=1)),
    ]
