"""monday.com: boards with their groups, columns, items, subitems and logs; updates, people, teams.

https://developer.monday.com/api-reference (GraphQL, API-Version 2026-01; 2026-11)

Apps have one of two flows of consent: the classic one, whose tokens do not end, or OAuth 2.1, whose
tokens say their end in themselves and are refreshed at an address of their own, where the refresh
token is a new one each time (join-the-beta-oauth-2-1-for-monday-apps, 2026).

Subitems are the items of boards of a type of their own, and are read like those.

It is polled (PULL) although it has webhooks, which a tenant's boards get as far as its plan's calls
go: they do not tell all (connectors.monday.watches).

Longer than 300 lines: nothing filters items by their time, so that the logs of boards say which are
to be read; and there are twelve streams.
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
    Stream,
    SyncType,
    ask,
    columns,
)
from connectors.kernel.jwts import claims_in
from connectors.kernel.versions import epoch_us, integer
from connectors.monday.listing import (
    at_once,
    inside,
    not_deleted,
    updates,
    updates_again,
    whole,
)
from connectors.monday.query import TOLD, classify, data_of, graphql
from connectors.monday.reading import (
    BOARD,
    BOARDS,
    SUBITEMS,
    by_key,
    items,
    itself,
    key_of,
    log,
    of_boards,
    values,
)
from connectors.monday.watches import SCOPES, SECRET, watch, webhook

IN_BOARD = columns("board_id id title")


def of_items(name: str, type_: str) -> Stream:
    return Stream(
        name=name,
        read=of_boards(items(itself), type_),
        fetch=by_key(itself, type_),
        key=key_of,
        version=epoch_us("updated_at"),
        hides_deletes=True,
        columns=columns(
            "id name state board_id=board.id group_id=group.id creator_id column_values:jsonb",
            "created_at:timestamptz updated_at:timestamptz",
            "parent_item_id=parent_item.id" if type_ == SUBITEMS else "",
        ),
    )


def in_boards(name: str, fields: str, shown: str) -> Stream:
    return Stream(
        name=name,
        read=whole(
            "boards", f"id state {name} {{ {fields} }}", ", state: all", size=BOARDS,
            unfold=inside(name),
        ),
        key=lambda row: f"{row['board_id']}/{row['id']}",
        snapshot=True,
        columns=IN_BOARD | columns(shown),
    )  # fmt: skip


STREAMS = (
    Stream(
        name="boards",
        read=whole(
            "boards",
            "id name description state type board_kind board_folder_id workspace_id permissions"
            " item_terminology updated_at url creator { id }",
            ", state: all",
            size=BOARDS,
            unfold=not_deleted,
        ),
        version=epoch_us("updated_at"),
        snapshot=True,
        columns=columns(
            "name description state type board_kind workspace_id permissions url",
            "creator_id=creator.id updated_at:timestamptz",
        ),
    ),
    of_items("items", BOARD),
    of_items("subitems", SUBITEMS),
    Stream(
        name="column_values",
        read=of_boards(items(values), BOARD, SUBITEMS),
        fetch=by_key(values, BOARD, SUBITEMS),
        key=key_of,
        hides_deletes=True,
        columns=columns("board_id item_id id type text value linked_item_ids:jsonb"),
    ),
    in_boards("columns", "id title description type archived settings_str", "type settings_str"),
    in_boards(
        "groups",
        "id title color position archived deleted",
        "color position archived:boolean deleted:boolean",
    ),
    Stream(
        name="activity_logs",
        read=of_boards(log, BOARD, SUBITEMS, prefix=False),
        version=integer("created_at"),
        append_only=True,
        keeps_hidden=True,
        columns=columns("event entity details=data user_id account_id ticks=created_at:numeric"),
    ),
    Stream(
        name="updates",
        read=updates,
        fetch=updates_again,
        version=epoch_us("updated_at"),
        hides_deletes=True,
        columns=columns(
            "body text_body creator_id item_id replies:jsonb",
            "created_at:timestamptz updated_at:timestamptz edited_at:timestamptz",
        ),
    ),
    Stream(
        name="users",
        read=whole(
            "users",
            "id name email enabled is_admin is_guest is_pending is_view_only is_verified"
            " title location time_zone_identifier created_at join_date url teams { id }",
            "",
            ", non_active: true",
        ),
        snapshot=True,
        columns=columns(
            "name email enabled:boolean is_admin:boolean is_guest:boolean is_pending:boolean",
            "is_view_only:boolean title location time_zone_identifier created_at:timestamptz",
        ),
    ),
    Stream(
        name="workspaces",
        read=whole("workspaces", "id name kind description state created_at"),
        snapshot=True,
        columns=columns("name kind description state created_at:timestamptz"),
    ),
    Stream(
        name="teams",
        read=at_once("teams", "id name picture_url is_guest users { id }"),
        snapshot=True,
        columns=columns("name picture_url is_guest:boolean users:jsonb"),
    ),
    Stream(
        name="tags",
        read=at_once("tags", "id name color"),
        snapshot=True,
        columns=columns("name color"),
    ),
)


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    """The account, by the id that signed deliveries name; the token answer does not say it, but to
    what the person agreed."""
    account = data_of((yield from ask(graphql("{ me { id account { id name slug } } }"))))["me"][
        "account"
    ]
    config = {"scopes": sorted(str(answer.get("scope") or "").replace(",", " ").split())}
    return (Account(str(account["id"]), str(account["name"]), config),)


def with_its_end(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The life of a token that says its end in itself, and nowhere else. It is not verified: it
    only decides when we ask for the next one."""
    try:
        claims = claims_in(str(answer.get("access_token", "")))
    except ValueError:
        return answer
    if "expires_in" in answer or "exp" not in claims or "iat" not in claims:
        return answer
    return {**answer, "expires_in": claims["exp"] - claims["iat"]}


connector = Connector(
    name="monday",
    title="monday.com",
    category="Project management",
    sync_type=SyncType.PULL,
    base_url="https://api.monday.com",
    headers={"API-Version": "2026-01"},
    auth=OAuth2(
        env="MONDAY",
        authorize_url="https://auth.monday.com/oauth2/authorize",
        token_url="https://auth.monday.com/oauth2/token",  # noqa: S106
        refresh_url="https://auth.monday.com/oauth_ms/oauth/token",
        console="https://monday.com, Developer Center",
        scopes={
            "me:read": "who connects, and which account",
            "account:read": "which account it is",
            "boards:read": "boards, columns, groups, items, subitems and logs",
            "users:read": "users",
            "teams:read": "teams",
            "tags:read": "tags",
            "updates:read": "updates",
            "workspaces:read": "workspaces",
            **SCOPES,
        },
        rotates=True,
        access_token_ttl=None,
        normalize_answer=with_its_end,
    ),
    # Of the smallest plans; a paid account has five times the points, and more calls.
    rate_limits=(
        RateLimit(1_000_000, per=timedelta(minutes=1)),
        RateLimit(20, per=timedelta(hours=1), name=TOLD),
    ),
    # A poll with nothing new takes some fifteen calls, of 1,000 a day on the smaller paid plans,
    # which all apps of the account share.
    floor=timedelta(minutes=30),
    identify=identify,
    classify=classify,
    variables={
        SECRET: "The app's signing secret, from its page in the Developer Center; while it is "
        "empty, no webhooks are made and deliveries are refused."
    },
    webhook=webhook,
    watch=watch,
    sync_method="activity log of each board",
    referees=("monday",),
    limitations=(
        "An item that is archived is gone from the tables, like one that is deleted.",
        "What is computed from other items, in mirror and formula columns, is not read: it changes "
        "without a change of the item.",
        "An update that is edited more than a week after it was written, or deleted, is found by "
        "the weekly audit.",
        "A free account has 200 calls a day, which hourly polls use up: what is refused then waits "
        "for midnight (UTC).",
        "Of an archived board stays what was read before.",
        "Webhooks stand on the 50 newest boards of an account (on none of the free plan or a "
        "trial, on 150 of pro and enterprise); the others are polled.",
        "What webhooks tell is read by 20 calls an hour at the most: where much changes, what "
        "comes then waits for minutes, and is read together.",
        "Webhooks do not tell what goes with a column, a group or an item, nor of what changes its "
        "board or parent: polls find it.",
        "Who connected before webhooks were asked for is polled until they connect anew.",
        "Whether deliveries count as an account's integration actions is not documented.",
    ),
    streams=STREAMS,
)
