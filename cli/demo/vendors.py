"""The sandboxed vendors of a demo: started, told where we are, ordered to change, consented at."""

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import sandbox
from connectors import all_connectors
from integrations import load
from servers import local
from servers.ports import LOOPBACK, free_port
from settings import Settings, SettingsError, variables_of
from settings.webhooks import address_of, is_enabled
from storage import connections

PORT = 4010
# What a newcomer sees of each kind: pushed, polled, and a subscription that expires.
FEW = ("hubspot", "slack", "quickbooks", "gmail")
ALL = "all"
CHANGES = 25  # for each account and round


def chosen(given: str | None) -> list[str]:
    """The integrations of a demo: a few, `all`, or those named; LookupError names those there are.

    What tenants bring a key for has nothing to sync.
    """
    there = list(sandbox.names())
    names = there if given == ALL else given.split(",") if given else list(FEW)
    if unknown := sorted(set(names) - set(there)):
        raise LookupError(f"no sandbox for {', '.join(unknown)}; there are: {', '.join(there)}")
    synced = {each.name for each in all_connectors() if each.streams}
    return [name for name in names if name in synced]


def start(services: local.Services, names: Sequence[str]) -> None:
    """Starts the sandbox; from then on the settings hold our apps at its vendors."""
    port = free_port(PORT)
    if port != PORT:
        services.say(f"port {PORT} is taken: the sandbox listens on {port}")
    origin = f"http://{LOOPBACK}:{port}"
    services.start_process(
        "sandbox",
        ["cli", "sandbox", "--port", str(port), "--integrations", ",".join(names), "--json"],
        {},
        again=False,  # a new one would know nothing of the accounts
    )
    services.wait_until_answers("sandbox", f"{origin}/_control")
    described = control(origin, "GET", "")
    apps: dict[str, str] = {}
    for name in names:
        client_id, client_secret, _ = variables_of(name)
        apps[client_id.lower()] = described[name]["client_id"]
        apps[client_secret.lower()] = described[name]["client_secret"]
        apps |= {key.lower(): value for key, value in described[name].get("variables", {}).items()}
        webhook, secret = load(name).webhook, described[name].get("webhook_secret")
        if webhook and webhook.verified_by and secret:
            apps.setdefault(webhook.verified_by.lower(), secret)
    services.add_settings(atom_sandbox_url=origin, **apps)


def tell_our_addresses(settings: Settings, names: Sequence[str]) -> None:
    """As an operator does in each vendor's console."""
    for name in names:
        webhook = load(name).webhook
        if webhook is not None and webhook.verified_by and is_enabled(settings, load(name)):
            body = {"url": address_of(settings, name)}
            control(settings.atom_sandbox_url or "", "POST", f"/{name}/webhook", body)


def change(settings: Settings, linked: Sequence[connections.Connection]) -> None:
    """Some changes in each of these accounts."""
    for connection in linked:
        control(
            settings.atom_sandbox_url or "", "POST", f"/{connection.integration}/mutate",
            {"account": connection.account_id, "count": CHANGES},
        )  # fmt: skip


def consent(origin: str, asked: str, account: str) -> dict[str, str]:
    """Say yes on the vendor's page, as a person would; what the callback would be given."""
    page = asked.replace("https://", f"{origin}/", 1)
    form = urlencode({"decision": "allow", "account": account})
    status, headers, body = _call(page, "POST", form, "application/x-www-form-urlencoded")
    if status not in (302, 303):
        raise SettingsError(f"the sandbox's consent page answered {status}: {body[:200]!r}")
    return dict(parse_qsl(urlsplit(headers["location"]).query))


def control(origin: str, method: str, path: str, body: Any = None) -> Any:
    """What a control of the sandbox answers."""
    content = None if body is None else json.dumps(body)
    status, _, answer = _call(f"{origin}/_control{path}", method, content, "application/json")
    if status >= 400:
        raise SettingsError(f"the sandbox refused {method} {path}: {answer[:200]!r}")
    return json.loads(answer)


def _call(
    url: str, method: str, content: str | None, content_type: str
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, content, {"content-type": content_type})
        answer = connection.getresponse()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, headers, answer.read()
    finally:
        connection.close()
