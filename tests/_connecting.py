"""A person with a browser, our pages on a port of loopback, and the sandboxed vendors' pages."""

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit
from uuid import UUID

import httpx  # noqa: TID251 - a test is a browser
import psycopg
import uvicorn
from psycopg.rows import DictRow, dict_row

from settings import Settings, read, variables_of
from tests._sandboxed import HTTP, INTEGRATIONS, environment
from tests._web import JWT_SECRET, claims, token
from web import _door
from web.app import create_app

NEXTAUTH_SECRET = "canary-nextauth-secret-of-enough-characters"
# What browsers say of a page that a person opens by a link.
FOLLOWED = {"sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "sec-fetch-site": "none"}
_FORM = re.compile(r'<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>', re.DOTALL)
_BUTTON = re.compile(r'formaction="([^"]*)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')
_NOTE = re.compile(r'<p class="note (\w+)" role="(?:status|alert)">(.*?)</p>', re.DOTALL)


@dataclass
class Person:
    """A browser of its own: cookies, and nothing that it was not told."""

    origin: str
    http: httpx.Client

    def get(self, url: str, **headers: str) -> httpx.Response:
        """A page, and whatever of ours it redirects to."""
        return self._arrive(self.http.get(self._at(url), headers={**FOLLOWED, **headers}))

    def post(self, url: str, fields: dict[str, Any]) -> httpx.Response:
        return self._arrive(self.http.post(self._at(url), data=fields, headers=FOLLOWED))

    def press(
        self, page: httpx.Response, action: str, instead: str = "", **fields: Any
    ) -> httpx.Response:
        """Send the page's form for that action, or its fields to another one `instead`; where a
        page leads to an integration's own instead of having the form, it is followed there."""
        forms = [(target, body) for target, body in _FORM.findall(page.text) if action in target]
        forms += [(target, page.text) for target in _BUTTON.findall(page.text) if action in target]
        if forms:
            target, body = forms[0]
            where = unescape(target).replace(action, instead or action)
            return self.post(where, {**dict(_HIDDEN.findall(body)), **fields})
        kind, _, name = action.partition("/")
        if found := re.search(rf'href="([^"]*/apps/{name})"', page.text):
            return self.press(self.get(found[1]), f"{kind}/{name}", instead, **fields)
        raise AssertionError(f"the page has no form for {action!r}")

    def leave(self, page: httpx.Response, integration: str, **answers: str) -> str:
        """Press Connect, with answers to what is asked; where the vendor's page is."""
        found = re.search(
            r'content="0; url=([^"]*)"', self.press(page, f"start/{integration}", **answers).text
        )
        assert found
        return unescape(found[1])

    def consent(self, vendor_page: str, account: str, decision: str = "allow") -> str:
        """Decide on the vendor's page; where the vendor sends the browser back to."""
        answer = self.http.post(vendor_page, data={"decision": decision, "account": account})
        assert answer.status_code == 302, answer.text
        return str(answer.headers["location"])

    def connect(
        self, page: httpx.Response, integration: str, account: str, **answers: str
    ) -> httpx.Response:
        """All of it: Connect, Allow, and back on our page."""
        return self.get(self.consent(self.leave(page, integration, **answers), account))

    def _at(self, url: str) -> str:
        return urljoin(self.origin, url)

    def _arrive(self, answer: httpx.Response) -> httpx.Response:
        while answer.status_code == 303:
            answer = self.http.get(self._at(answer.headers["location"]), headers=FOLLOWED)
        return answer


@dataclass(frozen=True)
class Connecting:
    """Our pages over real HTTP, and what the database and the vendors say of what was done."""

    origin: str
    vendors: str
    settings: Settings
    database_url: str
    _open: contextlib.ExitStack

    def person(self) -> Person:
        """Somebody with a browser that was never here."""
        http = httpx.Client(trust_env=False, timeout=60)
        return Person(self.origin, self._open.enter_context(http))

    def link(
        self, tenant_id: UUID, scope: str = "connections:write", **body: Any
    ) -> httpx.Response:
        """What our API answers to the SaaS's backend that asks for a link."""
        order = {"tenant": str(tenant_id), "return_url": "https://app.example.com/apps", **body}
        bearer = token(claims(tenant_id, scope))
        return httpx.post(
            f"{self.origin}/api/connect-sessions",
            json=order,
            headers={"authorization": f"Bearer {bearer}"},
            trust_env=False,
        )

    def url(self, tenant_id: UUID, **body: Any) -> str:
        """Of a new link, for a token with the `scope` that is given or the usual one."""
        answer = self.link(tenant_id, **body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["url"])

    def visitor(self, tenant_id: UUID, **body: Any) -> tuple[Person, httpx.Response]:
        """A person who has opened a new link of that tenant, and the page they see."""
        person = self.person()
        page = person.get(self.url(tenant_id, **body))
        assert page.status_code == 200, page.text
        return person, page

    def account(self, integration: str, size: int = 5) -> str:
        """A new account at the vendor."""
        return str(self.control(f"/{integration}/accounts", {"size": size})["id"])

    def answers(self, integration: str, account: str) -> dict[str, str]:
        """What a tenant with that account is asked before it is sent to the vendor."""
        known = HTTP.get(f"{self.vendors}/_control/{integration}/accounts").json()["accounts"]
        return next(each.get("answers", {}) for each in known if each["id"] == account)

    def described(self, integration: str) -> dict[str, Any]:
        """What the sandbox tells a client of a vendor, with credentials that work."""
        answer = HTTP.get(f"{self.vendors}/_control")
        found: dict[str, Any] = answer.json()[integration]
        return found

    def control(self, path: str, body: Any) -> Any:
        answer = HTTP.post(f"{self.vendors}/_control{path}", json=body)
        answer.raise_for_status()
        return answer.json()

    def requests(self, integration: str) -> dict[str, int]:
        answer = HTTP.get(f"{self.vendors}/_control/{integration}/requests")
        found: dict[str, int] = answer.json()["by_path"]
        return found

    def rows(self, query: str, *values: object) -> list[DictRow]:
        with psycopg.connect(self.database_url, row_factory=dict_row, autocommit=True) as sql:
            cursor = sql.execute(query, values)
            return cursor.fetchall() if cursor.description else []


@contextlib.contextmanager
def connecting(
    vendors: str, database_url: str, names: list[str] = INTEGRATIONS, **more: Any
) -> Iterator[Connecting]:
    """Our application in a thread, with those integrations configured at these vendors."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        origin = f"http://127.0.0.1:{listening.getsockname()[1]}"
        given = environment(vendors, database_url, "redis://127.0.0.1:1", names)
        given |= {variables_of(name)[2]: f"{origin}/api/integrations/callback" for name in names}
        values: dict[str, Any] = {name.lower(): value for name, value in given.items()}
        values |= {
            "redis_url": None,
            "nextauth_url": origin,
            "nextauth_secret": NEXTAUTH_SECRET,
            "connect_return_hosts": "app.example.com",
            "jwt_secret": JWT_SECRET,
            **more,
        }
        settings = read(_env_file=None, **values)
        server = uvicorn.Server(
            _door.config(
                create_app(settings), log_config=None, lifespan="on", timeout_graceful_shutdown=2
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive(), "the application did not start"
                thread.join(0.02)
            with contextlib.ExitStack() as people:
                yield Connecting(origin, vendors, settings, database_url, people)
        finally:
            server.should_exit = True
            thread.join(10)


def note(page: httpx.Response) -> tuple[str, str]:
    """How the last thing went, as the page tells it."""
    found = _NOTE.search(page.text)
    assert found, page.text
    return found[1], " ".join(unescape(found[2]).split())


def query_of(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def with_query(url: str, **changes: str | None) -> str:
    """The URL with other parameters; None leaves one out."""
    values = {**query_of(url), **changes}
    kept = {name: value for name, value in values.items() if value is not None}
    return f"{url.partition('?')[0]}?{urlencode(kept)}"
