"""Notion: pages and data sources of a workspace, with what is in them (API version 2026-03-11).

https://developers.notion.com/reference/intro

Longer than 300 lines: search is all there is to follow pages by, and shows neither what is in them
nor all references of their cells; data sources are queried one by one.

Against older descriptions: a query of a data source takes no `in_trash` any more
(https://developers.notion.com/reference/query-a-data-source, 2026-11); search shows the trash
(https://github.com/makenotion/notion-sdk-js/releases/tag/v5.23.2, 2026-07). Search, too, ends after
10,000 results.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Column,
    Connector,
    ContractError,
    OAuth2,
    RateLimit,
    Request,
    Revocation,
    Stream,
    SyncType,
    Webhook,
    columns,
)
from connectors.kernel.looks import looked_until
from connectors.kernel.paging import cursor_pages
from connectors.kernel.signatures import hmac_signature
from connectors.kernel.versions import epoch_us
from connectors.notion import content
from connectors.notion.errors import classify
from connectors.notion.events import events, handshake
from connectors.notion.query import PAGE
from connectors.notion.reading import Followed, again, follow
from connectors.notion.rows import data_source_rows, row_key

API = "https://api.notion.com/v1"
VERSION = {"notion-version": "2026-03-11"}
TIMES = (
    "created_at=created_time:timestamptz updated_at=last_edited_time:timestamptz "
    "created_by=created_by.id"
)
EDITED = f"{TIMES} updated_by=last_edited_by.id"
PAGES = columns("title=plain_title url parent_type=parent.type", EDITED)
CELLS = "page_id property_id property"


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The workspace, which the token answer names and webhooks do."""
    yield from ()
    workspace = answer.get("workspace_id")
    if not isinstance(workspace, str) or not workspace:
        raise ContractError("Notion did not say which workspace was connected (workspace_id)")
    return (Account(workspace, name=answer.get("workspace_name") or f"Notion {workspace}"),)


def _id(row: Mapping[str, Any]) -> str:
    return str(row["id"])


def of_pages(name: str, shown: dict[str, Column], **what: Any) -> Stream:
    return _stream(name, shown, Followed(kind="page", path="/pages", **{"key": _id, **what}))


def of_sources(name: str, shown: dict[str, Column], **what: Any) -> Stream:
    found = Followed(kind="data_source", path="/data_sources", **{"key": _id, **what})
    return _stream(name, shown, found)


def _stream(name: str, shown: dict[str, Column], what: Followed) -> Stream:
    finish = FINISH.get(name)
    return Stream(
        name=name,
        read=follow(what),
        key=what.key,
        version=epoch_us("last_edited_time"),
        fetch=again(f"/{name}", what.key, finish) if finish else None,
        window=looked_until,
        # That the trash counts as an edit is not documented, and nothing tells what is unshared.
        hides_deletes=True,
        columns=shown,
    )


# Of streams whose records can be asked for by their ids, what an answer lacks.
FINISH = {
    "pages": content.whole,
    "data_sources": content.as_it_is,
    "databases": content.as_it_is,
    "comments": content.of_its_page,
}

connector = Connector(
    name="notion",
    title="Notion",
    category="Notes and documents",
    sync_type=SyncType.PULL,
    base_url=API,
    headers=VERSION,
    auth=OAuth2(
        env="NOTION",
        authorize_url=f"{API}/oauth/authorize",
        token_url=f"{API}/oauth/token",
        revocation=Revocation(url=f"{API}/oauth/revoke", body="json"),
        console="https://www.notion.so/my-integrations, as a public one with the capabilities to "
        "read content, comments and user information",
        # There are none: the app has capabilities, and the person picks pages.
        scopes={},
        authorize_params={"owner": "user"},
        client_auth="basic",
        body="json",
        rotates=True,
        # No answer says how long a token lives: it is renewed once it is refused.
        access_token_ttl=None,
    ),
    # Three a second on average; bursts are tolerated.
    rate_limits=(RateLimit(180, per=timedelta(minutes=1)),),
    identify=identify,
    classify=classify,
    variables={
        "NOTION_WEBHOOK_SECRET": "The verification token of the app's webhook subscription; while "
        "it is empty, deliveries are refused."
    },
    webhook=Webhook(
        verified_by="NOTION_WEBHOOK_SECRET",
        verify=hmac_signature("x-notion-signature", prefix="sha256="),
        events=lambda delivery: tuple(events(delivery)),
        handshake=handshake,
        covers=(
            "pages",
            "data_source_rows",
            "blocks",
            "page_markdown",
            "relations",
            "page_property_items",
            "data_sources",
            "properties_schema",
            "databases",
            "comments",
        ),
        setup="Set the variable to any text, so that the address answers, and in the app's "
        "webhooks subscribe it to the events of pages, data sources, databases and comments. "
        "Notion then sends its verification token there once: let your proxy show the body of that "
        "call (we keep it out of our logs), paste the token at Notion, and set the variable to it.",
        proof="The body, without a time; not the address. The body names the workspace, and is a "
        "hint to read what changed, and no more.",
    ),
    sync_method="search by time of edit, queries of data sources, blocks of edited pages",
    referees=("notion-client",),
    limitations=(
        "Of more than 10,000 pages search shows the newest 10,000; rows of data sources are read "
        "without that limit.",
        "Comments on blocks within a page come by webhook alone. So do those on a page that is "
        "otherwise left as it was: without webhooks the audit finds them once a week. Resolved "
        "comments are not shown.",
        "What is shared with the app no longer is found to be so by a webhook, which tells it from "
        "what was deleted, or once a week, which does not.",
        "Rollups and formulas over more than 25 references are what Notion makes of them.",
        "Files: links to them end within the hour and are left out.",
    ),
    streams=(
        of_pages("pages", PAGES, read=content.page),
        of_sources(
            "data_sources",
            columns("title=title.0.plain_text database_id=parent.database_id url", EDITED),
            read=content.data_source,
        ),
        Stream(
            name="data_source_rows",
            read=data_source_rows,
            key=row_key,
            version=epoch_us("last_edited_time"),
            fetch=again("/pages", row_key, content.whole),
            hides_deletes=True,
            columns={**PAGES, **columns("data_source_id=parent.data_source_id")},
        ),
        of_pages(
            "blocks",
            columns("page_id type has_children:boolean parent_type=parent.type", EDITED),
            read=content.under("/blocks/{}/children"),
            key=content.under_page,
            keys="under",
            dear=True,
        ),
        of_pages(
            "comments",
            columns("page_id discussion_id text=rich_text.0.plain_text", TIMES),
            read=content.under("/comments?block_id={}"),
            key=content.under_page,
            keys="under",
            dear=True,
        ),
        of_pages(
            "page_markdown",
            columns("markdown truncated:boolean"),
            read=content.markdown,
            dear=True,
        ),
        of_pages(
            "relations",
            columns(CELLS, "related_id"),
            read=content.relations,
            key=content.relation_key,
            keys="under",
        ),
        of_pages(
            "page_property_items",
            columns(CELLS, "index:integer type item:jsonb"),
            read=content.long_cells,
            key=content.item_key,
            keys="under",
        ),
        of_sources(
            "databases",
            columns("title=title.0.plain_text url parent_type=parent.type", EDITED),
            read=content.database,
            keys="beside",
            of=lambda source: source["parent"].get("database_id"),
        ),
        of_sources(
            "properties_schema",
            columns("data_source_id property_id=id name type"),
            read=content.properties,
            key=content.property_key,
            keys="under",
        ),
        Stream(
            name="users",
            read=cursor_pages(
                Request.get("/users", params={"page_size": PAGE}),
                records="results",
                cursor="next_cursor",
                param="start_cursor",
            ),
            snapshot=True,
            columns=columns("name type email=person.email"),
        ),
    ),
)
