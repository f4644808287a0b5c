"""Links, states and addresses in the wrong hands: nothing is connected, nobody is led astray."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from connectors import Account, Connector, ContractError, OAuth2, SyncType
from connectors.kernel.hosts import check_account
from storage import connect_sessions, tenants
from storage.database import Database
from tests._connecting import (
    NEXTAUTH_SECRET,
    Connecting,
    connecting,
    note,
    query_of,
    with_query,
)
from web._state import Signer, State


@pytest.fixture
def ours(origin: str, database_url: str) -> Iterator[Connecting]:
    with connecting(origin, database_url, ["hubspot", "quickbooks"]) as application:
        yield application


@pytest.fixture
async def acme(database: Database) -> UUID:
    return (await tenants.create(database, "acme", "Acme", "TEAM")).id


@pytest.fixture
async def other(database: Database) -> UUID:
    return (await tenants.create(database, "other", "Other", "TEAM")).id


def nothing_connected(ours: Connecting) -> bool:
    return ours.rows("SELECT 1 FROM connections UNION ALL SELECT 1 FROM tenant_settings") == []


async def test_a_state_that_was_tampered_with_is_refused_before_the_vendor_is_asked(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    state = query_of(back)["state"]
    packed, _, signature = state.partition(".")
    forged = Signer(b"another secret of more than enough characters", False)
    browser = "guessed"
    made_up = forged.state(State(uuid4(), acme, "A" * 22, "hubspot"), browser)
    before = sum(ours.requests("hubspot").values())
    for wrong in (
        None,
        "",
        ".",
        "x" * 5_000,
        f"{packed}.",
        f".{signature}",
        f"{packed[:-2]}AA.{signature}",
        f"{packed}.{signature[:-2]}AA",
        made_up,
    ):
        answer = person.get(with_query(back, state=wrong))
        assert answer.status_code == 400, wrong
    assert sum(ours.requests("hubspot").values()) == before
    assert nothing_connected(ours)
    assert note(person.get(back))[0] == "done"


async def test_an_answer_is_read_once_and_what_came_of_it_told_each_time(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    first = note(person.get(back))
    assert first[0] == "done"
    asked = sum(ours.requests("hubspot").values())
    for _ in range(2):
        again = person.get(back)
        assert (again.status_code, note(again)) == (200, first)
    # Whatever else it says now: the first answer was the one.
    assert note(person.get(with_query(back, code="other"))) == first
    assert sum(ours.requests("hubspot").values()) == asked
    assert len(ours.rows("SELECT 1 FROM connections")) == 1
    assert len(ours.rows("SELECT 1 FROM oauth_log")) == 1
    # The binding to the browser holds for what is told, too.
    assert ours.person().get(back).status_code == 403
    assert ours.visitor(acme)[0].get(back).status_code == 400


async def test_a_consent_that_was_denied_or_failed_is_told_so_again(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    denied = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"), "deny")
    page = person.get(denied)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    failing = with_query(back, code="of-nobody")
    told = note(person.get(failing))
    assert note(person.get(denied)) == note(page)
    assert note(person.get(back)) == note(person.get(failing)) == told
    assert [told[0], note(page)[0]] == ["problem"] * 2
    assert told != note(page)
    assert nothing_connected(ours)


async def test_two_returns_at_once_read_the_answer_once_and_tell_the_same(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    ours.control("/hubspot/faults", {"kind": "slow", "seconds": 1, "count": 1})
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: person.http.get(back), range(4)))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert note(person.get(back))[0] == "done"
    assert len(ours.rows("SELECT 1 FROM connections")) == 1
    assert len(ours.rows("SELECT 1 FROM oauth_log")) == 1


async def test_an_answer_whose_process_ended_is_not_waited_for_for_ever(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    ours.rows("UPDATE oauth_states SET used_at = now() - interval '3 minutes'")
    again = person.get(back)
    assert again.status_code == 410
    assert "used already" in again.text
    assert nothing_connected(ours)


async def test_an_answer_that_failed_on_our_side_says_so_to_who_brings_it_again(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    ours.rows("ALTER TABLE grants RENAME TO gone")
    assert person.get(back).status_code == 500
    ours.rows("ALTER TABLE gone RENAME TO grants")
    assert note(person.get(back))[0] == "problem"


async def test_an_answer_is_good_for_ten_minutes(ours: Connecting, acme: UUID) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    (row,) = ours.rows("SELECT expires_at - created_at AS life FROM oauth_states")
    assert row["life"] == timedelta(minutes=10)
    ours.rows("UPDATE oauth_states SET expires_at = now()")
    late = person.get(back)
    assert late.status_code == 410
    assert nothing_connected(ours)


async def test_an_answer_is_good_in_the_browser_that_asked_only(
    ours: Connecting, acme: UUID, other: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    assert ours.person().get(back).status_code == 403
    stranger, _ = ours.visitor(other)
    assert stranger.get(back).status_code == 400
    assert nothing_connected(ours)


async def test_states_of_two_tenants_are_not_swapped(
    ours: Connecting, acme: UUID, other: UUID
) -> None:
    mine, page = ours.visitor(acme)
    theirs, their_page = ours.visitor(other)
    my_back = mine.consent(mine.leave(page, "hubspot"), ours.account("hubspot"))
    their_back = theirs.consent(theirs.leave(their_page, "hubspot"), ours.account("hubspot"))
    swapped = with_query(my_back, state=query_of(their_back)["state"])
    assert mine.get(swapped).status_code == 400
    assert theirs.get(with_query(their_back, state=query_of(my_back)["state"])).status_code == 400
    assert nothing_connected(ours)


async def test_a_code_of_another_persons_consent_needs_the_state_it_was_given_for(
    ours: Connecting, acme: UUID
) -> None:
    person, page = ours.visitor(acme)
    back = person.consent(person.leave(page, "hubspot"), ours.account("hubspot"))
    wrong_door = back.replace("/integrations/callback", "/integrations/quickbooks/callback")
    assert person.get(wrong_door).status_code == 400
    doubled = f"{back}&state=other"
    assert person.get(doubled).status_code == 400
    assert person.get(f"{back}&code=other").status_code == 400
    assert nothing_connected(ours)


async def test_a_link_opens_in_one_browser(ours: Connecting, acme: UUID) -> None:
    url = ours.url(acme)
    person = ours.person()
    page = person.get(url)
    assert page.status_code == 200
    assert person.get(url).status_code == 200
    assert ours.person().get(url).status_code == 403
    stranger, _ = ours.visitor(acme)
    assert stranger.get(str(page.url)).status_code == 403
    assert stranger.get(url).status_code == 403


async def test_a_link_must_be_opened_within_ten_minutes(ours: Connecting, acme: UUID) -> None:
    url = ours.url(acme)
    (row,) = ours.rows("SELECT expires_at - created_at AS life FROM connect_sessions")
    assert row["life"] == timedelta(minutes=10)
    ours.rows("UPDATE connect_sessions SET expires_at = now()")
    answer = ours.person().get(url)
    assert answer.status_code == 410
    assert "is over" in answer.text


async def test_only_a_hash_of_the_link_is_stored(ours: Connecting, acme: UUID) -> None:
    url = ours.url(acme)
    (row,) = ours.rows("SELECT connect_sessions::text AS text FROM connect_sessions")
    assert url.rpartition("/")[2] not in row["text"]


async def test_a_link_that_nobody_made_is_not_found(ours: Connecting, acme: UUID) -> None:
    visitor, _ = ours.visitor(acme)
    for link in ("x", "A" * 43, str(uuid4()), "%00", "..%2f..%2fetc", "a" * 500):
        for person in (visitor, ours.person()):
            assert person.get(f"/connect/{link}").status_code in (403, 404), link


async def test_a_form_that_is_not_ours_does_nothing(
    ours: Connecting, acme: UUID, other: UUID
) -> None:
    person, page = ours.visitor(acme)
    stranger, their_page = ours.visitor(other)
    assert person.press(page, "start/hubspot", token="").status_code == 403
    assert person.press(page, "start/hubspot", token="x.y").status_code == 403
    # The token of one session is worth nothing in another, nor in another browser.
    session = str(page.url).rpartition("/")[2]
    theirs = str(their_page.url).rpartition("/")[2]
    here, there = f"{session}/start/hubspot", f"{theirs}/start/hubspot"
    assert stranger.press(their_page, there, here).status_code == 403
    assert ours.rows("SELECT 1 FROM oauth_states") == []


async def test_a_token_of_one_tenant_makes_no_link_for_another(
    ours: Connecting, acme: UUID, other: UUID
) -> None:
    assert ours.link(acme, tenant=str(other)).status_code == 404
    answer = ours.link(acme, tenant="other")
    assert answer.status_code == 404
    assert "acme" not in answer.text
    assert ours.link(acme, tenant=str(uuid4())).status_code == 404
    assert ours.link(acme, scope="connections:read").status_code == 403
    assert ours.link(acme, scope="admin", tenant="other").status_code == 201
    assert ours.link(acme, tenant="acme").status_code == 201


async def test_an_order_that_cannot_be_right_is_refused(ours: Connecting, acme: UUID) -> None:
    for wrong in (
        {"tenant": "a\x00b"},
        {"tenant": ""},
        {"integration": "no_such"},
        {"label": "../x"},
        {"label": "x" * 64},
        {"unknown": 1},
    ):
        assert ours.link(acme, **wrong).status_code == 422, wrong


ELSEWHERE = [
    "https://evil.example.net/",
    "https://app.example.com.evil.net/",
    "https://app.example.com@evil.net/",
    "https://evil.net\\@app.example.com/",
    "https://app.example.com\\.evil.net/",
    "https:///evil.net",
    "https:evil.net",
    "//evil.net/",
    "/relative",
    "javascript:alert(1)",
    "JavaScript://app.example.com/%0aalert(1)",
    "data:text/html,x",
    "http://app.example.com/",
    "https://app.example.com:8443/",
    " https://app.example.com/",
    "https://app.example.com/\n",
    "https://app.example.com/\tx",
    "https://app.example.com/a b",
    "https://äpp.example.com/",
    "https://app.example.com/" + "x" * 3_000,
    "",
]


async def test_a_return_url_that_leads_elsewhere_is_refused(ours: Connecting, acme: UUID) -> None:
    for return_url in ELSEWHERE:
        answer = ours.link(acme, return_url=return_url)
        assert answer.status_code == 422, return_url
        assert answer.headers["content-type"] == "application/problem+json"
    assert ours.rows("SELECT 1 FROM connect_sessions") == []


async def test_a_return_url_is_followed_as_it_was_stored(ours: Connecting, acme: UUID) -> None:
    url = 'https://app.example.com/a?next=//evil.net&q="><script>'
    _, page = ours.visitor(acme, return_url=url.replace('"><', "%22%3E%3C"))
    (row,) = ours.rows("SELECT return_url FROM connect_sessions")
    assert row["return_url"] == url.replace('"><', "%22%3E%3C")
    assert ours.link(acme, return_url="http://localhost:3000/apps").status_code == 201
    assert ours.link(acme, return_url="https://app.example.com:443/").status_code == 201
    assert "<script>" not in page.text


async def test_a_cookie_that_we_did_not_sign_is_no_browser(ours: Connecting, acme: UUID) -> None:
    planted = ours.person()
    planted.http.cookies.set("atom-connect", "planted.signature", domain="127.0.0.1")
    url = ours.url(acme)
    assert planted.get(url).status_code == 200
    assert "planted" not in str(ours.rows("SELECT browser_hash FROM connect_sessions"))
    thief = ours.person()
    thief.http.cookies.set("atom-connect", "planted.signature", domain="127.0.0.1")
    assert thief.get(url).status_code == 403


async def test_signatures_of_one_purpose_are_worth_nothing_for_another() -> None:
    signer = Signer(NEXTAUTH_SECRET.encode(), secure=True)
    browser = signer.browser(signer.new_browser())
    assert browser
    session_id = uuid4()
    token = signer.form_token(session_id, browser)
    assert signer.is_our_form(token, session_id, browser)
    assert signer.browser(f"{browser}.{token}") is None
    assert not signer.is_our_form(token, uuid4(), browser)
    assert signer.cookie.startswith("__Host-")
    state = State(uuid4(), uuid4(), "A" * 22, "hubspot")
    assert signer.open_state(signer.state(state, browser), browser) == state
    assert signer.open_state(signer.state(state, browser), "other") is None
    assert signer.code_verifier("n") != signer.code_verifier("m")


async def test_a_consent_of_one_session_is_not_redeemed_for_another_integration(
    database: Database, acme: UUID
) -> None:
    made, secret = await connect_sessions.create(database, acme)
    session = await connect_sessions.open_link(database, secret, "browser")
    state_id, nonce = await connect_sessions.begin(database, session, "hubspot")
    for wrong in ({"integration": "quickbooks"}, {"nonce": "other"}, {"browser": "other"}):
        given = {"integration": "hubspot", "nonce": nonce, "browser": "browser", **wrong}
        with pytest.raises(connect_sessions.LinkRefusedError):
            await connect_sessions.redeem(database, tenant_id=acme, state_id=state_id, **given)
    assert made.id == session.id


SHOP = Connector(
    name="shop",
    title="Shop",
    sync_type=SyncType.PULL,
    base_url="https://{config[shop]}/admin",
    auth=OAuth2(env="SHOP", authorize_url="", token_url="", scopes={}),
    streams=(),
    rate_limits=(),
    hosts=("*.myshop.test", "*.pod.test"),
)


@pytest.mark.parametrize(
    "shop",
    [
        "evil.test",
        "evil.test/.myshop.test",
        "evil.test#.myshop.test",
        "evil.test?.myshop.test",
        "evil.test\\.myshop.test",
        "a@evil.test",
        "myshop.test",
        "a.myshop.test.evil.test",
        "a.myshop.test:8080",
        "",
        None,
    ],
)
def test_a_hostile_shop_is_not_connected(shop: str | None) -> None:
    with pytest.raises(ContractError, match="not one of its own"):
        check_account(SHOP, Account("1", config={"shop": shop} if shop is not None else {}))


@pytest.mark.parametrize(
    "url", ["https://evil.test", "http://x.pod.test", "https://x.pod.test@evil.test", "ftp://x"]
)
def test_a_hostile_instance_is_not_connected(url: str) -> None:
    config = {"shop": "a.myshop.test", "instance_url": url}
    with pytest.raises(ContractError, match="not one of its own"):
        check_account(SHOP, Account("1", config=config))


def test_hosts_of_the_connectors_own_are_connected() -> None:
    config = {"shop": "a-1.myshop.test", "instance_url": "https://x.pod.test/path", "plan": "a/b"}
    check_account(SHOP, Account("1", config=config))
