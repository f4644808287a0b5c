"""The servers that we depend on, asked live: PostgreSQL, Redis, Prefect, mail."""

import asyncio
import base64
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import psutil
import psycopg
import redis.asyncio
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from redis.exceptions import RedisError

from cli.doctor import health
from cli.doctor.row import Row, State, host_of, is_local
from connectors.kernel.clock import SYSTEM_CLOCK
from deployments import prefect_yaml
from deployments.errors import PrefectUnavailableError
from deployments.mail import MailError, MailServer
from deployments.prefect_api import connected, standing
from servers.database import database_url_of, ready
from settings import Settings, SettingsError
from storage import OLDEST_POSTGRESQL, DatabaseUnavailableError, StorageError, check, incarnations
from storage.clock import TOLERANCE, difference

SECONDS = 5
PREFECT_SECONDS = 30  # its one process answers late while it makes schedules on a busy machine
TLS_MODES = ("require", "verify-ca", "verify-full")
# So a call reaches what it names, whatever proxy the environment speaks of.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


async def database(settings: Settings) -> list[Row]:
    """Reachable, over TLS when it is elsewhere, new enough, its schema current."""
    area = "database"
    if settings.database_url is None:
        found = "not set: atom-sync up starts one"
        return [Row(area, "DATABASE_URL", State.OPTIONAL, found, required=False)]
    url = database_url_of(settings)
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        remedy = "it should look like postgresql://user:password@host:5432/atom_saas"
        return [Row(area, "DATABASE_URL", State.WRONG, "it cannot be read", remedy)]
    hosts = str(given.get("host") or "").split(",")
    rows = [_tls(hosts, str(given.get("sslmode", "")))]
    conninfo = make_conninfo(url, **{**given, "connect_timeout": str(SECONDS)})
    try:
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            major = connection.info.server_version // 10_000
            secured = "TLS" if connection.pgconn.ssl_in_use else "no TLS"
            clock = await _clock(connection)
    except psycopg.OperationalError as error:
        lines = str(error).strip().splitlines() or ["no reason given"]
        remedy = "start it, or compare DATABASE_URL with what the hosting company says"
        return [Row(area, "reachable", State.WRONG, lines[0], remedy), *rows]
    rows.insert(0, Row(area, "reachable", State.OK, f"PostgreSQL {major}, {secured}"))
    rows.append(clock)
    if major < OLDEST_POSTGRESQL:
        remedy = f"upgrade to {OLDEST_POSTGRESQL} or newer"
        rows.append(Row(area, "version", State.WRONG, f"PostgreSQL {major}", remedy))
    try:
        await check(url, settings.atom_schema)
        rows.append(Row(area, "schema", State.OK, f"current, in {settings.atom_schema!r}"))
        rows += await health.rows(settings)
    except DatabaseUnavailableError as error:
        rows.append(health.unwell(error))
    except StorageError as error:
        found, _, remedy = str(error).splitlines()[0].rpartition(": ")
        rows.append(Row(area, "schema", State.WRONG, found or remedy, remedy.replace("`", "")))
    return rows


async def _clock(connection: psycopg.AsyncConnection[Any]) -> Row:
    """Whether this machine's clock is the database's, by which all our processes go."""
    before = SYSTEM_CLOCK.now()
    answer = await (await connection.execute("SELECT clock_timestamp()")).fetchone()
    after = SYSTEM_CLOCK.now()
    ahead = before + (after - before) / 2 - answer[0] if answer else timedelta()
    if abs(ahead) <= TOLERANCE:
        return Row("database", "clock", State.OK, difference(ahead))
    remedy = "set the clock of the machine that is wrong, and keep both right by NTP"
    return Row("database", "clock", State.WRONG, difference(ahead), remedy, required=False)


async def ups(settings: Settings) -> list[Row]:
    """Each `atom-sync up` that is there, whatever it is called: a name may repeat."""
    if settings.database_url is None:
        return []
    try:
        async with ready(settings) as database:
            found = await incarnations.living(database)
    except StorageError:  # the database's own rows say so
        return []
    rows = []
    for each in found:
        one = each.incarnation
        line = f"process {one.pid} on {one.host}, since {each.started_at:%Y-%m-%d %H:%M} UTC"
        line += ", is ending" if each.stopping else ""
        rows.append(Row("atom-sync up", one.worker, State.OK, line, required=False))
    return rows


def _tls(hosts: list[str], mode: str) -> Row:
    if all(is_local(host) for host in hosts):
        return Row("database", "TLS", State.OK, "on this machine: not needed")
    if mode in TLS_MODES:
        return Row("database", "TLS", State.OK, f"sslmode={mode}")
    found = f"sslmode={mode or 'prefer'} lets it go without TLS"
    remedy = "add ?sslmode=require to DATABASE_URL, or verify-full with the provider's certificate"
    return Row("database", "TLS", State.WRONG, found, remedy)


async def cache(settings: Settings) -> list[Row]:
    """Redis answers. Without REDIS_URL an embedded one is started with everything else."""
    area = "redis"
    if settings.redis_url is None:
        found = "not set: atom-sync up starts one"
        return [Row(area, "REDIS_URL", State.OPTIONAL, found, required=False)]
    url = settings.redis_url.get_secret_value()
    rows = []
    if url.startswith("redis://") and not is_local(host_of(url)):
        found, remedy = "its password goes over the network in the clear", "use rediss://"
        rows.append(Row(area, "TLS", State.WRONG, found, remedy, required=False))
    client = redis.asyncio.Redis.from_url(
        url, socket_connect_timeout=SECONDS, socket_timeout=SECONDS
    )
    try:
        await client.ping()
        rows.insert(0, Row(area, "reachable", State.OK, "it answers"))
    except (RedisError, OSError) as error:
        found = f"it does not answer ({type(error).__name__})"
        remedy = "start it, or compare REDIS_URL: host, port and password"
        rows.insert(0, Row(area, "reachable", State.WRONG, found, remedy))
    finally:
        await client.aclose()
    return rows


async def prefect(settings: Settings) -> list[Row]:
    """The Prefect API answers us, and nobody who does not give the password."""
    area, url = "prefect", settings.prefect_api_url
    if url is None:
        found = "not set: atom-sync up starts one that only this machine reaches"
        return [Row(area, "PREFECT_API_URL", State.OPTIONAL, found, required=False)]
    given = settings.prefect_password
    password = given.get_secret_value() if given else None
    elsewhere = not is_local(host_of(url))
    status, text = await asyncio.to_thread(
        _asked, f"{url}/admin/version", password, PREFECT_SECONDS
    )
    rows = []
    if status is None:
        remedy = "start it, or compare PREFECT_API_URL, which ends in /api"
        rows.append(Row(area, "reachable", State.WRONG, f"{url} does not answer", remedy))
    elif status == 401:
        found = "it does not accept our password" if password else "it asks for a password"
        remedy = "set PREFECT_API_AUTH_STRING to the server's PREFECT_SERVER_API_AUTH_STRING"
        rows.append(Row(area, "reachable", State.WRONG, found, remedy))
    elif status != 200:
        found = f"it answers {status}"
        rows.append(Row(area, "reachable", State.WRONG, found, "compare PREFECT_API_URL"))
    else:
        rows.append(Row(area, "reachable", State.OK, url))
        rows.append(_version(text))
        with suppress(PrefectUnavailableError):  # it went away meanwhile
            rows.append(await _deployments(settings))
    if elsewhere and url.startswith("http://"):
        found, remedy = "runs and password go over the network in the clear", "put it behind https"
        rows.append(Row(area, "TLS", State.WRONG, found, remedy, required=False))
    rows.append(await asyncio.to_thread(_open_to_others, url, password))
    return rows


async def _deployments(settings: Settings) -> Row:
    """Whether those of prefect.yaml stand."""
    wanted = await asyncio.to_thread(prefect_yaml.declared)
    async with connected(settings) as client:
        there = await standing(client, {each.flow for each in wanted})
    gone = [str(each) for each in wanted if str(each) not in there.deployments]
    if not gone:
        return Row("prefect", "deployments", State.OK, "those of prefect.yaml stand")
    found = f"not there: {', '.join(gone)}"
    remedy = "run `atom-sync deploy`; the flow `reconcile` does so within ten minutes"
    return Row("prefect", "deployments", State.WRONG, found, remedy)


def _version(answer: bytes) -> Row:
    """Whether the server is of our version; one that is older does not know all that we ask of it.

    Prefect keeps a newer server to what older clients know, within a major version.
    """
    ours, theirs = version("prefect"), answer.decode(errors="replace").strip().strip('"')
    if theirs == ours:
        return Row("prefect", "version", State.OK, f"Prefect {ours}, there and here")
    numbers = [[int(n) for n in re.findall(r"\d+", each)[:3]] for each in (theirs, ours)]
    newer = numbers[0][:1] == numbers[1][:1] and numbers[0] >= numbers[1]
    there = f"Prefect {theirs}" if numbers[0] else "no Prefect that tells its version"
    found = f"the server is {there}, and here is Prefect {ours}"
    remedy = f"run the server on Prefect {ours}"
    return Row("prefect", "version", State.WRONG, found, remedy, required=not newer)


def _open_to_others(url: str, password: str | None) -> Row:
    remedy = (
        "set PREFECT_SERVER_API_AUTH_STRING=user:password for the server and the same as"
        " PREFECT_API_AUTH_STRING for us; or let it listen on 127.0.0.1 alone"
    )
    for address in addresses(url):
        if _asked(f"{address}/admin/version", None)[0] == 200:
            found = f"whoever reaches {host_of(address)} can run flows: it asks for no password"
            return Row("prefect", "closed to others", State.WRONG, found, remedy)
    if not is_local(host_of(url)) and password is None:
        found = "it is elsewhere, and PREFECT_SERVER_API_AUTH_STRING is not set"
        return Row("prefect", "closed to others", State.MISSING, found, remedy)
    return Row("prefect", "closed to others", State.OK, "others get no answer without a password")


def addresses(url: str) -> Iterator[str]:
    """The URL as others would call it: of a loopback address, by each address of this machine."""
    parts = urlsplit(url)
    if not is_local(parts.hostname or ""):
        yield url
        return
    for found in psutil.net_if_addrs().values():
        for each in found:
            address = each.address.partition("%")[0]
            if each.family.name in ("AF_INET", "AF_INET6") and not is_local(address):
                host = f"[{address}]" if ":" in address else address
                yield urlunsplit(parts._replace(netloc=f"{host}:{parts.port or 80}"))


def _asked(url: str, password: str | None, seconds: float = SECONDS) -> tuple[int | None, bytes]:
    """What a GET is answered with: its status, None if nothing answers, and the body."""
    request = urllib.request.Request(url)  # noqa: S310 - settings take http and https alone
    if password:
        given = base64.b64encode(password.encode()).decode()
        request.add_header("authorization", f"Basic {given}")
    try:
        with _DIRECT.open(request, timeout=seconds) as answer:
            return answer.status, answer.read(1_000)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""
    except (OSError, ValueError):
        return None, b""


async def mail(settings: Settings) -> list[Row]:
    """The mail server takes our login. Nothing is sent."""
    area = "mail"
    others = (settings.smtp_user, settings.smtp_pass, settings.from_email)
    if settings.smtp_host is None:
        if any(value is not None for value in others):
            remedy = "set it, or unset SMTP_USER, SMTP_PASS and FROM_EMAIL"
            return [Row(area, "SMTP_HOST", State.MISSING, "not set, unlike the others", remedy)]
        found = "not set: that a connection needs its tenant is only logged"
        return [Row(area, "SMTP_HOST", State.OPTIONAL, found, required=False)]
    try:
        server = MailServer.of(settings)
        if server is None:
            return []
        session = await asyncio.to_thread(server.open)
    except SettingsError as error:
        return [Row(area, "settings", State.WRONG, str(error), "see docs/credentials.md")]
    except MailError as error:
        return [Row(area, "reachable", State.WRONG, str(error), "compare the SMTP_ variables")]
    secured = "TLS" if isinstance(session.smtp.sock, ssl.SSLSocket) else "no TLS"
    logged_in = ", logged in" if server.user else ""
    await asyncio.to_thread(session.close)
    return [Row(area, "reachable", State.OK, f"{server}, {secured}{logged_in}")]
