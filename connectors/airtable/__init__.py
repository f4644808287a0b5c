"""Airtable: the bases that a person shares with us, their tables, fields, views and records.

https://airtable.com/developers/web/api/introduction

Longer than 300 lines: what changed is told by the log of a webhook or asked for by time, and either
way a table is read whole now and then. Tables and fields are addressed by their ids, and records
hold cells by the id of their field: names are the tenant's to change, and a rename would otherwise
be a change of every record and break each query on it. The stream `fields` has the names.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Connector,
    OAuth2,
    RateLimit,
    Request,
    Stream,
    SyncType,
    ask,
    columns,
)
from connectors.airtable.errors import TITLE, classify
from connectors.airtable.payloads import MANAGE, in_logs
from connectors.airtable.reading import (
    ATTACHMENTS,
    LINKS,
    RECORDS,
    by_key,
    by_table,
    key_of,
)
from connectors.airtable.schema import BASES, in_schema
from connectors.airtable.watching import watch, webhook
from connectors.kernel.paging import cursor_pages


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """Who consented; the token answer does not say. Which bases they ticked is listed each time."""
    response = yield from ask(Request.get("/meta/whoami"))
    user = response.json
    scopes = sorted(str(answer.get("scope") or "").split()) or user.get("scopes", [])
    return (Account(user["id"], user.get("email") or user["id"], {"scopes": scopes}),)


PLACE = "base_id table_id in_record=record_id"
SAID = "source user_id"
connector = Connector(
    name="airtable",
    title=TITLE,
    category="Databases",
    sync_type=SyncType.HYBRID,
    base_url="https://api.airtable.com/v0",
    auth=OAuth2(
        env="AIRTABLE",
        authorize_url="https://airtable.com/oauth2/v1/authorize",
        token_url="https://airtable.com/oauth2/v1/token",  # noqa: S106
        client_auth="basic",
        pkce=True,
        console="https://airtable.com/create/oauth",
        scopes={
            "schema.bases:read": "the streams bases, tables, fields and views",
            "data.records:read": "the streams records, attachments and record_links",
            MANAGE: "the streams webhook_payloads and revisions, and to hear of changes at once",
        },
        # A refresh ends the former access token, too: who still uses it is refused, and asks again.
        rotates=True,
        idle_lifetime=timedelta(days=60),
    ),
    rate_limits=(
        # Five for each base, whoever asks; a call too much locks it for half a minute. We take less
        # from all bases together, for what we send in a second may come in less.
        RateLimit(4, per=timedelta(seconds=1)),
    ),
    identify=identify,
    classify=classify,
    concurrency=1,
    webhook=webhook,
    watch=watch,
    sync_method="the log of a webhook for each base, or formulas on the time of the last change; "
    "each table whole every three days",
    referees=("pyairtable",),
    limitations=(
        "There is no view of its own for each table: a cell is `fields ->> 'fld…'` of "
        "`airtable_records`, and `airtable_fields` has the names of fields.",
        "Where a base has no webhook (they are part of paid plans), a deleted record is found in "
        "three days; so is, everywhere, a cell that is computed from another record or the time.",
        "A plan includes so many calls a month, a free one 1,000: a poll takes one for the list of "
        "bases, and for each base two and, without a webhook, one for each table.",
        "Links of attachments are good for two hours and are not kept; files are not fetched.",
        "Comments are not read: no list tells of new ones but a whole read of each table.",
        "A base that was deleted and one that is no longer shared with our app look alike: what "
        "was read of either counts as hidden.",
        "The log holds a week, from the day on which the webhook was made.",
    ),
    streams=(
        Stream(
            name="bases",
            title="Bases",
            read=cursor_pages(BASES, records="bases", cursor="offset", param="offset"),
            snapshot=True,
            columns=columns("name permission_level=permissionLevel"),
        ),
        Stream(
            name="tables",
            title="Tables",
            read=in_schema("tables"),
            key=key_of,
            snapshot=True,
            columns=columns("base_id table_id=id name description primary_field_id=primaryFieldId"),
        ),
        Stream(
            name="fields",
            title="Fields",
            read=in_schema("fields"),
            key=key_of,
            snapshot=True,
            columns=columns("base_id table_id field_id=id name type description options:jsonb"),
        ),
        Stream(
            name="views",
            title="Views",
            read=in_schema("views"),
            key=key_of,
            snapshot=True,
            columns=columns(
                "base_id table_id view_id=id name type visible_field_ids=visibleFieldIds:jsonb"
            ),
        ),
        Stream(
            name="records",
            title="Records",
            read=by_table(RECORDS),
            fetch=by_key(RECORDS),
            key=key_of,
            hides_deletes=True,
            columns=columns(
                "base_id table_id airtable_id=id created_at=createdTime:timestamptz fields:jsonb"
            ),
        ),
        Stream(
            name="attachments",
            title="Attachments",
            read=by_table(ATTACHMENTS),
            fetch=by_key(ATTACHMENTS),
            key=key_of,
            hides_deletes=True,
            columns=columns(
                PLACE, "field_id attachment_id=id filename content_type=type size:bigint"
            ),
        ),
        Stream(
            name="record_links",
            title="Links between records",
            read=by_table(LINKS),
            fetch=by_key(LINKS),
            key=key_of,
            hides_deletes=True,
            columns=columns(PLACE, "field_id linked_record_id"),
        ),
        Stream(
            name="webhook_payloads",
            title="Webhook payloads",
            read=in_logs(),
            key=lambda row: f"{row['webhook_id']}/{row['cursor']}",
            append_only=True,
            from_now_on=True,
            columns=columns(
                "base_id webhook_id cursor:bigint happened_at=timestamp:timestamptz "
                "transaction_number=baseTransactionNumber:bigint source=actionMetadata.source "
                "user_id=actionMetadata.sourceMetadata.user.id "
                "changed_tables=changedTablesById:jsonb"
            ),
        ),
        Stream(
            name="revisions",
            title="Revisions of records",
            read=in_logs(revisions=True),
            key=lambda row: f"{row['webhook_id']}/{row['cursor']}/{row['record_id']}",
            append_only=True,
            from_now_on=True,
            columns=columns(
                PLACE,
                "kind happened_at=timestamp:timestamptz",
                SAID,
                "current:jsonb previous:jsonb",
            ),
        ),
    ),
)
