"""A tenant whose connection breaks is told: once, again after three days, never a third time."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from prefect.client.schemas.objects import State
from psycopg.rows import DictRow, dict_row
from sqlalchemy import update

from accounts.runtime import Runtime, opened
from connectors import Account
from connectors.kernel.token_answers import Tokens
from deployments.mail import MailError, MailServer, RefusedMailError, one_line
from flows.notify import send_due
from settings import Settings, SettingsError, read
from storage import connections, grants, notices, reconnect_links, runs, tenants
from storage.database import Database
from storage.models import Failure, Grant, Tenant
from tests._mailbox import PASSWORD, USER, Mailbox, certificate, smtp
from tests._sandboxed import KEY
from tests._stored import Stocked, stock

DAYS = timedelta(days=1)
SECRET = "canary-nextauth-secret-canary-nextauth"
REASON = "HubSpot no longer accepts this authorisation (invalid_grant)"
# What the vendor calls it is for who runs this.
TOLD = "HubSpot no longer accepts this authorisation"


@dataclass(frozen=True)
class Post:
    """Our side: what runs when notices are due, and what is in the database."""

    url: str
    database: Database
    stocked: Stocked

    def settings(self, mailbox: Mailbox | None = None, **given: Any) -> Settings:
        mail: dict[str, Any] = {
            "nextauth_url": "https://sync.atom.test",
            "nextauth_secret": SECRET,
        }
        if mailbox is not None:
            mail |= {"smtp_host": mailbox.host, "from_email": "ATOM <no-reply@atom.test>"}
        return read(
            _env_file=None, database_url=self.url, encryption_keys=KEY, redis_url=None,
            **mail | given,
        )  # fmt: skip

    async def send(
        self, mailbox: Mailbox | None = None, *, after: timedelta = timedelta(), **given: Any
    ) -> State[None]:
        async with opened(self.settings(mailbox, **given)) as shared:
            return await send_due(shared, now=datetime.now(UTC) + after)

    async def break_it(self, stocked: Stocked | None = None, reason: str = REASON) -> None:
        broken = stocked or self.stocked
        async with self.database.transaction(broken.tenant_id) as session:
            grant = await session.get_one(Grant, broken.grant_id)
            await grants.need_consent(session, grant, reason)

    async def reconnect(self) -> None:
        await connections_back(self.database, self.stocked)

    async def tenant(self, **changes: Any) -> None:
        async with self.database.owning() as session:
            changed = update(Tenant).where(Tenant.id == self.stocked.tenant_id)
            await session.execute(changed.values(**changes))

    def rows(self, query: str, *values: object) -> list[DictRow]:
        with psycopg.connect(self.url, row_factory=dict_row, autocommit=True) as sql:
            cursor = sql.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    def told(self) -> list[str]:
        rows = self.rows("SELECT detail FROM oauth_log WHERE event = 'notice' ORDER BY id")
        return [row["detail"]["outcome"] for row in rows]


async def connections_back(database: Database, stocked: Stocked) -> None:
    async with database.transaction(stocked.tenant_id) as session:
        await grants.restore(session, await session.get_one(Grant, stocked.grant_id))


@pytest.fixture
async def post(database: Database, database_url: str) -> Post:
    made = Post(database_url, database, await stock(database, "north"))
    await made.tenant(contact_email="ops@north.test", name="North & Sons")
    return made


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with smtp(Mailbox()) as started:
        yield started


@pytest.fixture
async def shared(post: Post) -> AsyncIterator[Runtime]:
    async with opened(post.settings()) as runtime:
        yield runtime


def parts(mailbox: Mailbox, number: int = -1) -> tuple[str, str]:
    message = mailbox.arrived[number]
    plain, html = message.get_body(("plain",)), message.get_body(("html",))
    assert plain is not None
    assert html is not None
    return plain.get_content(), html.get_content()


async def test_a_break_is_told_once_again_after_three_days_and_never_a_third_time(
    post: Post, mailbox: Mailbox
) -> None:
    assert "nobody is to be told" in str((await post.send(mailbox)).message)
    await post.break_it()
    state = await post.send(mailbox)
    assert state.is_completed()
    assert state.message == "1 sent"
    for later in (0, 1, 2.9):
        await post.send(mailbox, after=later * DAYS)
    assert len(mailbox.arrived) == 1
    await post.send(mailbox, after=3.1 * DAYS)
    assert len(mailbox.arrived) == 2
    for later in (3.2, 7, 30, 400):
        await post.send(mailbox, after=later * DAYS)
    assert len(mailbox.arrived) == 2
    assert mailbox.recipients == ["ops@north.test"] * 2
    first, reminder = mailbox.arrived
    assert first["subject"] == "North & Sons: reconnect HubSpot"
    assert reminder["subject"] == "North & Sons: HubSpot is still disconnected"
    assert first["from"] == "ATOM <no-reply@atom.test>"
    assert first["message-id"] != reminder["message-id"]
    assert post.told() == ["sent", "sent"]


async def test_the_mail_says_what_happened_in_plain_text_and_in_html(
    post: Post, mailbox: Mailbox
) -> None:
    await post.break_it()
    await post.send(mailbox)
    plain, html = parts(mailbox)
    assert "HubSpot (42) no longer lets North & Sons in." in plain
    assert f"The reason: {TOLD}" in plain
    assert "invalid_grant" not in plain + html
    assert "North &amp; Sons" in html
    (link,) = set(re.findall(r"https://\S+/reconnect/[\w-]+", plain))
    assert f'href="{link}"' in html
    assert mailbox.arrived[0]["auto-submitted"] == "auto-generated"
    for secret in (SECRET, KEY):
        assert secret not in mailbox.arrived[0].as_string()


async def test_several_breaks_of_one_grant_are_one_mail(post: Post, mailbox: Mailbox) -> None:
    await post.break_it()
    await post.send(mailbox)
    post.rows("UPDATE connections SET status = 'active'")
    await post.break_it(reason="refused again before anyone noticed")
    await post.send(mailbox)
    assert len(mailbox.arrived) == 1


async def test_a_sync_that_finds_the_connection_broken_tells_it_too(
    post: Post, mailbox: Mailbox
) -> None:
    connection = await connections.get(post.database, post.stocked.connection_id)
    run = await runs.start(post.database, connection, trigger="manual")
    for _ in range(2):
        await runs.finish(
            post.database,
            run,
            connection,
            outcomes={},
            requests=0,
            error=REASON,
            failure=Failure.BROKEN,
        )
    await post.send(mailbox)
    assert len(mailbox.arrived) == 1
    assert TOLD in parts(mailbox)[0]


async def test_reconnecting_cancels_what_was_to_be_told_and_a_new_break_is_told_anew(
    post: Post, mailbox: Mailbox
) -> None:
    await post.break_it()
    await post.reconnect()
    await post.send(mailbox)
    assert mailbox.arrived == []
    await post.break_it()
    await post.send(mailbox)
    await post.reconnect()
    await post.send(mailbox, after=4 * DAYS)
    assert len(mailbox.arrived) == 1
    await post.break_it()
    await post.send(mailbox, after=4 * DAYS)
    assert len(mailbox.arrived) == 2


async def test_a_new_consent_cancels_the_notice(post: Post, mailbox: Mailbox) -> None:
    async with opened(post.settings()) as shared:
        tokens = Tokens(access_token="a", refresh_token="r", expires_at=None, scope=())
        consent: dict[str, Any] = {
            "tenant_id": post.stocked.tenant_id, "integration": "hubspot", "tokens": tokens,
            "accounts": (Account("42"),),
        }  # fmt: skip
        await post.break_it()
        await grants.connect(shared.database, shared.vault, **consent)
    await post.send(mailbox, after=4 * DAYS)
    assert mailbox.arrived == []
    (row,) = post.rows("SELECT outcome, ended_at FROM notices")
    assert row["outcome"] == "cancelled"


@pytest.mark.parametrize("status", ["paused", "revoked"])
async def test_a_connection_that_its_tenant_put_away_is_not_written_about(
    post: Post, mailbox: Mailbox, status: str
) -> None:
    await post.break_it()
    post.rows("UPDATE connections SET status = %s, status_reason = 'by itself'", status)
    await post.send(mailbox)
    assert mailbox.arrived == []
    post.rows("UPDATE connections SET status = 'active'")
    await post.break_it()
    await post.send(mailbox)
    assert len(mailbox.arrived) == 1, "that was another break"


async def test_a_break_that_is_rolled_back_is_not_told(post: Post, mailbox: Mailbox) -> None:
    async with post.database.transaction(post.stocked.tenant_id) as session:
        grant = await session.get_one(Grant, post.stocked.grant_id)
        await grants.need_consent(session, grant, REASON)
        await session.rollback()
    await post.send(mailbox)
    assert mailbox.arrived == []


async def test_without_smtp_settings_it_is_logged_once(
    post: Post, caplog: pytest.LogCaptureFixture
) -> None:
    await post.break_it()
    for later in (0, 1, 4, 30):
        state = await post.send(after=later * DAYS)
        assert state.is_completed()
    lines = [entry.message for entry in caplog.records if entry.name == "storage.oauth_log"]
    assert lines == [
        f"hubspot, grant {post.stocked.grant_id}: notice logged: "
        f"no mail is sent without SMTP_HOST: {REASON}"
    ]
    assert caplog.records[-1].levelno == logging.WARNING
    assert post.told() == ["logged"]


async def test_a_tenant_without_a_contact_is_logged_and_the_others_are_told(
    post: Post, mailbox: Mailbox
) -> None:
    other = await stock(post.database, "south")
    await post.break_it()
    await post.break_it(other)
    state = await post.send(mailbox)
    assert state.message is not None
    assert sorted(state.message.split("; ")) == ["1 logged", "1 sent"]
    assert mailbox.recipients == ["ops@north.test"]


async def test_nothing_a_tenant_is_called_becomes_a_header_or_markup(
    post: Post, mailbox: Mailbox
) -> None:
    hostile = 'Evil\r\nBcc: spy@evil.test\r\n\r\n<img src=x onerror="alert(1)">\u2028x'
    await post.tenant(name=hostile)
    post.rows("UPDATE connections SET account_name = %s", "<b>\n.\r\nQUIT</b>")
    await post.break_it(reason="<script>\r\n.\r\nMAIL FROM:<a@evil.test></script>")
    await post.send(mailbox)
    (message,) = mailbox.arrived
    assert mailbox.recipients == ["ops@north.test"]
    assert message["bcc"] is None
    assert set(message.keys()) == {
        "Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID", "Subject",
        "To",
    }  # fmt: skip
    _, html = parts(mailbox)
    for markup in ("<img", "<script", "<b>"):
        assert markup not in html
    assert "&lt;img" in html


@pytest.mark.parametrize(
    "contact",
    ["nobody", "a@b.test, c@d.test", "a@b.test\r\nBcc: c@d.test", "<a@b.test>", "", "a@b@c", "@"],
)
async def test_a_contact_that_is_no_address_gets_nothing_and_stops_nobody(
    post: Post, mailbox: Mailbox, contact: str
) -> None:
    await post.tenant(contact_email=contact)
    await post.break_it()
    assert (await post.send(mailbox)).message == "1 refused"
    assert mailbox.arrived == []
    assert (await post.send(mailbox)).message == "nobody is to be told anything"


async def test_a_server_that_was_away_is_tried_again_after_longer_and_longer_pauses(
    post: Post,
) -> None:
    mailbox = Mailbox()
    with smtp(mailbox):
        pass
    await post.break_it()
    tried = []
    async with opened(post.settings(mailbox)) as shared:
        for minute in range(200):
            state = await send_due(shared, now=datetime.now(UTC) + timedelta(minutes=minute))
            if state.is_failed():
                tried.append(minute)
                why = f"1 put off: the mail server {mailbox.host} cannot be reached"
                assert state.message == why
    pauses = [later - earlier for earlier, later in pairwise(tried)]
    assert pauses == sorted(pauses)
    assert pauses[0] == 1
    assert 59 <= pauses[-1] <= 61
    with smtp(mailbox, mailbox.port):
        await post.send(mailbox, after=timedelta(hours=5))
        assert len(mailbox.arrived) == 1
        await post.send(mailbox, after=timedelta(hours=5, days=3))
        assert len(mailbox.arrived) == 2
    assert post.told() == ["put_off"] * len(tried) + ["sent", "sent"]


async def test_a_recipient_that_is_refused_for_good_is_not_tried_every_hour(
    post: Post, mailbox: Mailbox
) -> None:
    await post.break_it()
    mailbox.answers.append("550 no such user: ops@north.test")
    assert (await post.send(mailbox)).message == "1 refused"
    for later in (0.1, 1, 2):
        await post.send(mailbox, after=later * DAYS)
    assert mailbox.arrived == []
    await post.send(mailbox, after=3.1 * DAYS)
    assert len(mailbox.arrived) == 1
    (entry,) = post.rows("SELECT message FROM oauth_log WHERE detail ->> 'outcome' = 'refused'")
    assert entry["message"] == "the mail server refuses the recipient (550)"


async def test_a_server_that_says_later_is_asked_later(post: Post, mailbox: Mailbox) -> None:
    await post.break_it()
    mailbox.answers.append("451 greylisted")
    assert (await post.send(mailbox)).is_failed()
    assert (await post.send(mailbox)).is_completed()
    assert mailbox.arrived == []
    await post.send(mailbox, after=timedelta(minutes=2))
    assert len(mailbox.arrived) == 1


async def test_of_many_senders_at_once_none_tells_what_another_does(
    post: Post, mailbox: Mailbox
) -> None:
    for number in range(60):
        stocked = await stock(post.database, f"tenant-{number}")
        await post.break_it(stocked)
    post.rows("UPDATE tenants SET contact_email = slug || '@x.test'")
    await asyncio.gather(*(post.send(mailbox) for _ in range(6)))
    assert len(mailbox.recipients) == 60
    assert len(set(mailbox.recipients)) == 60


async def test_a_sender_that_died_is_followed_by_another(
    post: Post, mailbox: Mailbox, shared: Runtime
) -> None:
    await post.break_it()
    now = datetime.now(UTC)
    (died,) = await notices.claim(shared.database, now=now, at_most=10)
    await post.send(mailbox)
    assert mailbox.arrived == []
    await post.send(mailbox, after=notices.CLAIM + timedelta(minutes=1))
    assert len(mailbox.arrived) == 1
    assert not await notices.sent(shared.database, died, now=now), "its claim has run out"
    (row,) = post.rows("SELECT told FROM notices")
    assert row["told"] == 1


async def test_half_set_mail_settings_are_named_and_nothing_is_claimed(
    post: Post, mailbox: Mailbox
) -> None:
    await post.break_it()
    half: list[tuple[dict[str, Any], str]] = [
        ({"from_email": None}, "FROM_EMAIL"),
        ({"from_email": "nobody"}, "FROM_EMAIL"),
        ({"smtp_user": "mailer"}, "SMTP_PASS"),
        ({"smtp_host": "host:port"}, "SMTP_HOST"),
        ({"nextauth_url": None}, "NEXTAUTH_URL"),
    ]
    for given, named in half:
        with pytest.raises(SettingsError, match=named):
            await post.send(mailbox, **given)
    assert (await post.send(mailbox)).message == "1 sent"


async def test_mail_goes_over_tls_where_the_server_has_it(
    post: Post, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted, context = certificate(tmp_path)
    mailbox = Mailbox()
    secure: dict[str, Any] = {
        "tls_context": context, "require_starttls": True, "authenticator": mailbox.authenticate,
    }  # fmt: skip
    login: dict[str, Any] = {"smtp_user": USER.decode(), "smtp_pass": PASSWORD.decode()}
    await post.break_it()
    with smtp(mailbox, **secure):
        state = await post.send(mailbox, **login)
    assert "shows a certificate that cannot be verified" in str(state.message)
    assert mailbox.logins == []
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with smtp(mailbox, **secure):
        wrong = {**login, "smtp_pass": "wrong"}
        state = await post.send(mailbox, after=timedelta(minutes=2), **wrong)
        assert "does not accept SMTP_USER and SMTP_PASS" in str(state.message)
        await post.send(mailbox, after=timedelta(minutes=10), **login)
    assert mailbox.secured == [True]
    assert mailbox.logins[-1] == (USER, PASSWORD)
    assert PASSWORD.decode() not in str(post.rows("SELECT * FROM oauth_log"))


def test_a_mail_server_is_read_from_the_settings_as_people_write_them(post: Post) -> None:
    for host, found in [
        ("smtp.x.test", ("smtp.x.test", 587)),
        ("smtp.x.test:465", ("smtp.x.test", 465)),
        ("[::1]:25", ("::1", 25)),
    ]:
        server = MailServer.of(post.settings(smtp_host=host, from_email="a@x.test"))
        assert server is not None
        assert (server.host, server.port) == found
    assert MailServer.of(post.settings()) is None
    assert one_line("a\r\n\tb\x00c\u202e") == "a b c"


def test_a_mail_that_was_not_taken_is_one_of_two_kinds() -> None:
    assert not issubclass(RefusedMailError, MailError)


async def test_a_link_is_good_for_its_grant_while_it_is_broken_and_not_for_ever(
    post: Post, mailbox: Mailbox
) -> None:
    await post.break_it()
    await post.send(mailbox)
    found = re.search(r"https://\S+", parts(mailbox)[0])
    assert found is not None
    signed = urlsplit(found[0]).path.rpartition("/")[2]
    now = datetime.now(UTC)
    link = reconnect_links.read(SECRET, signed, now=now)
    assert link is not None
    broken = await reconnect_links.broken(post.database, link)
    assert broken is not None
    assert (broken.tenant_id, broken.integration) == (post.stocked.tenant_id, "hubspot")
    assert broken.label == str(post.stocked.grant_id)
    assert reconnect_links.read(SECRET, signed, now=now + 15 * DAYS) is None
    assert reconnect_links.read("another secret", signed, now=now) is None
    assert reconnect_links.read("", reconnect_links.sign("", link), now=now) is None
    for place in range(0, len(signed) - 1):
        changed = signed[:place] + ("A" if signed[place] != "A" else "B") + signed[place + 1 :]
        assert reconnect_links.read(SECRET, changed, now=now) is None
    for other in ("", "é" * len(signed), signed[:-1], signed + "A", "." * len(signed)):
        assert reconnect_links.read(SECRET, other, now=now) is None
    await post.reconnect()
    assert await reconnect_links.broken(post.database, link) is None


async def test_tenants_are_told_of_their_own_grants_only(post: Post) -> None:
    stranger = await tenants.create(post.database, "stranger", "Stranger", "FREE")
    await post.break_it()
    ends = datetime.now(UTC) + DAYS
    swapped = reconnect_links.Link(stranger.id, post.stocked.grant_id, ends)
    assert await reconnect_links.broken(post.database, swapped) is None
