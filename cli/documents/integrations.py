"""`docs/integrations/<slug>.md` and the README's table, written from what connectors declare."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from connectors import ApiKey, Connector, OAuth2, Stream, SyncType, all_connectors
from integrations import index, levels
from settings import CALLBACK_PATH
from settings.apps import apps
from settings.intervals import SYNC_INTERVALS, in_words
from settings.webhooks import PATH

ROOT = Path(__file__).parent.parent.parent
BEGIN, END = "<!-- integrations -->", "<!-- /integrations -->"
PROOFS, PROOFS_END = "<!-- proofs -->", "<!-- /proofs -->"
KINDS = {
    SyncType.PUSH: "push: webhooks, with polls as a backup",
    SyncType.HYBRID: "hybrid: webhooks say that something changed, a delta says what",
    SyncType.PULL: "pull: we ask",
    SyncType.NONE: "nothing is synced",
}


def written(command: str) -> dict[Path, str]:
    """Each file, and what it has to hold."""
    files = {
        ROOT / "docs" / "integrations" / f"{connector.name}.md": "\n".join(
            _document(connector, command)
        )
        + "\n"
        for connector in all_connectors()
    }
    files[ROOT / "docs" / "integrations.md"] = "\n".join(_levels(command)) + "\n"
    readme = ROOT / "README.md"
    webhooks = ROOT / "docs" / "webhooks.md"
    return files | {
        readme: _between(readme, BEGIN, table(), END),
        webhooks: _between(webhooks, PROOFS, proofs(), PROOFS_END),
    }


def _levels(command: str) -> Iterator[str]:
    """How well each integration is known to work, and how many of each there are."""
    built = sorted(all_connectors(), key=lambda one: one.title.lower())
    known = list(index.entries().values())
    whole = [one for one in known if one.streams and not one.unread]
    partly = [one for one in known if one.streams and one.unread]
    yield "# Integrations"
    yield ""
    yield f"<!-- Written by `{command}` from the connectors and the shipped index. -->"
    yield ""
    yield "A level says how well an integration is known to work. Each includes those before it."
    yield ""
    yield "| level | what it means | built in | in the index |"
    yield "|---|---|---|---|"
    for level, meaning in levels.MEANING.items():
        name, _, what = meaning.partition(": ")
        here = sum(levels.of(one) == level for one in built)
        there = sum(one.level == level for one in known)
        yield f"| {level} {name} | {what} | {here} | {there} |"
    yield ""
    yield (
        "That of a built-in one follows from what it declares, and the suite holds it to that, at a"
        " sandbox: no vendor can be reached from a test. Of writing at vendors nothing is built, so"
        " that none is at level 5. An added one has the level that was measured of exactly its"
        " manifest, and 0 until somebody has."
    )
    yield ""
    yield f"## Built in: {len(built)}"
    yield ""
    yield "| integration | level | streams |"
    yield "|---|---|---|"
    for one in built:
        page = f"[{one.title}](integrations/{one.name}.md)"
        yield f"| {page} | {levels.said(levels.of(one))} | {len(one.streams)} |"
    yield ""
    yield f"## In the index: {len(known)}"
    yield ""
    yield (
        "They are added by name ([how](adding.md)); `atom-sync integrations search` finds them."
        f" We read all streams of {len(whole)} of them, some of {len(partly)}, and none of"
        f" {len(known) - len(whole) - len(partly)}. Of none was it measured against its vendor what"
        " comes of them."
    )
    yield ""
    yield "| name | title | version | licence | streams that we read | that we do not | level |"
    yield "|---|---|---|---|---|---|---|"
    for entry in known:
        yield (
            f"| `{entry.name}` | {entry.title} | {entry.version} | {entry.licence}"
            f" | {len(entry.streams)} | {len(entry.unread)} | {levels.said(entry.level)} |"
        )


def _between(path: Path, begin: str, text: str, end: str) -> str:
    """The file, with that text between its two marks."""
    before, _, rest = path.read_text().partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n{text}\n{end}{after}"


def proofs() -> str:
    """What the proof of each vendor's deliveries covers, a row each."""
    rows = ["| deliveries of | what their proof covers |", "|---|---|"]
    for connector in sorted(all_connectors(), key=lambda one: one.title.lower()):
        if connector.webhook is not None:
            rows.append(f"| {connector.title} | {connector.webhook.proof} |")
    return "\n".join(rows)


def table() -> str:
    """All integrations, a row each."""
    rows = ["| integration | how changes reach us | streams | judged by |", "|---|---|---|---|"]
    for connector in sorted(all_connectors(), key=lambda one: one.title.lower()):
        source = connector.sync_type.value if connector.streams else "a tenant's own key"
        follows = f": {connector.sync_method}" if connector.sync_method else ""
        streams = ", ".join(stream.name for stream in connector.streams)
        judges = ", ".join(f"`{name}`" for name in connector.referees)
        page = f"[{connector.title}](docs/integrations/{connector.name}.md)"
        rows.append(f"| {page} | {source}{follows} | {streams} | {judges} |")
    return "\n".join(rows)


def _document(connector: Connector, command: str) -> Iterator[str]:
    yield f"# {connector.title}"
    yield ""
    yield f"<!-- Written by `{command}` from `connectors.{connector.name}`. -->"
    yield ""
    if isinstance(connector.auth, ApiKey):
        yield from _of_key(connector, connector.auth)
        return
    how = KINDS[connector.sync_type]
    yield f"{how[0].upper()}{how[1:]}." + (
        f" Followed by: {connector.sync_method}." if connector.sync_method else ""
    )
    yield from ("", "## What is synced", "")
    yield from _streams(connector)
    yield from ("", "## How often", "")
    yield from _intervals(connector)
    yield from ("", "## Setting it up", "")
    yield from _setup(connector, connector.oauth)
    yield from ("", "## Webhooks", "")
    yield from _webhooks(connector)
    yield from ("", "## Limits that are kept", "")
    yield from _limits(connector)
    yield from ("", "## Known gaps", "")
    yield from [f"* {gap}" for gap in connector.limitations] or ["None that we know of."]
    yield from ("", "## Proven by", "")
    yield from _judges(connector)


def _streams(connector: Connector) -> Iterator[str]:
    yield "| stream | table | records are found gone | columns of the view |"
    yield "|---|---|---|---|"
    for stream in connector.streams:
        view = f"{connector.name}_{stream.name}"
        columns = ", ".join(f"`{name}`" for name in stream.columns)
        yield f"| {stream.name} | `{view}` | {_deletes(stream)} | {columns} |"


def _deletes(stream: Stream) -> str:
    if stream.append_only:
        return "never: a log of what happened"
    if stream.snapshot:
        return "by each read, which is a whole listing"
    if stream.hides_deletes:
        return "by a full read now and then: the vendor does not tell"
    return "as the vendor tells of it"


def _intervals(connector: Connector) -> Iterator[str]:
    yield "| tier | polled | while webhooks tell of changes |"
    yield "|---|---|---|"
    covers = connector.webhook is not None and connector.webhook.covers
    for tier, by_kind in SYNC_INTERVALS.items():
        polled = max(by_kind[SyncType.PULL], connector.floor)
        with_webhooks = max(by_kind[connector.sync_type], connector.floor)
        yield f"| {tier} | {in_words(polled)} | {in_words(with_webhooks) if covers else '-'} |"


def _setup(connector: Connector, auth: OAuth2) -> Iterator[str]:
    app = next(one for one in apps() if connector.name in one.integrations)
    if app.console:
        yield f"1. Register an app at {app.console}."
    else:
        yield "1. Register an app at the vendor."
    callback = f"`NEXTAUTH_URL` followed by `{CALLBACK_PATH}`"
    yield f"2. As its callback (redirect) address paste {callback}."
    if auth.scopes:
        yield "3. Allow it these scopes, which are what is asked of a tenant:"
        yield ""
        yield from (f"   * `{scope}`: {why}" for scope, why in auth.scopes.items())
        yield ""
    else:
        yield "3. There are no scopes: who consents picks what it may read."
    yield "4. Set:"
    yield ""
    yield from (f"   * `{name}`: {about}" for name, about in app.variables().items())
    if len(app.integrations) > 1:
        yield ""
        yield f"   The same app serves {', '.join(app.integrations)}."


def _webhooks(connector: Connector) -> Iterator[str]:
    webhook = connector.webhook
    if webhook is None:
        yield "None: this vendor is polled."
        return
    where = f"`NEXTAUTH_URL` followed by `{PATH}/{connector.name}`"
    ends = ", and an end of each connection's own that proves them" if webhook.secret_in_url else ""
    yield f"Delivered to {where}{ends}."
    yield f"What their proof covers: {webhook.proof[0].lower()}{webhook.proof[1:]}"
    if webhook.setup:
        yield webhook.setup
    if webhook.verified_by:
        yield f"While `{webhook.verified_by}` is empty they are refused."
    if webhook.covers:
        yield f"They tell of: {', '.join(webhook.covers)}."
    else:
        yield "They need not tell of everything: streams are polled as if there were none."
    if connector.watch is not None:
        hours = connector.watch.lifetime / timedelta(hours=1)
        how = "renewed" if connector.watch.renew else "replaced by a new one"
        yield f"They come by a watch of {hours:g} hours, which is {how} at half of its life."
    if connector.feed is not None:
        title = next(q.title for q in connector.oauth.questions if q.name == connector.feed.wanted)
        yield (
            f'Besides, its events are listened to, of each tenant that answers "{title}" with yes'
            " when it connects."
        )


def _limits(connector: Connector) -> Iterator[str]:
    for limit in connector.rate_limits:
        of = f" of {limit.name}" if limit.name else ""
        for_ = "account" if limit.scope == "account" else "app, whatever the account"
        seconds = limit.per.total_seconds()
        yield f"* {limit.amount:,} units{of} in {seconds:g} s for each {for_}"
    yield f"* {connector.concurrency} requests of a connection at once"


def _of_key(connector: Connector, key: ApiKey) -> Iterator[str]:
    yield "Nothing is synced: a tenant brings a key of its own, which is verified, sealed and"
    yield f"handed out to your backend. It is kept as `{key.setting}`; it is made at {key.hint}."
    yield from ("", "## Proven by", "")
    yield from _judges(connector)


def _judges(connector: Connector) -> Iterator[str]:
    yield f"* the suite of all connectors (`pytest tests/test_connectors.py -k {connector.name}`)"
    for name in connector.referees:
        yield f"* `{name}`, unchanged but for its base URL, against the sandbox (`make referees`)"
    yield "* never by the vendor itself: it was not in reach where this was written"
