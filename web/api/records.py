"""Records: what was synced, stream by stream, whole or as changes."""

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from integrations import load
from storage import NotFoundError, changes
from web._auth import Caller, Scope, Shared, needs
from web._problems import invalid, responses
from web.api._fields import DEFAULT_LIMIT, ConnectionId, CursorText, Limit
from web.api.connections import visible

router = APIRouter(prefix="/api/connections/{connection_id}/records", tags=["records"])


class Record(BaseModel):
    """A record as the vendor has it, or, with `deleted_at` and no data, what is left of one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "501",
                    "observed_at": "2026-11-02T08:30:00.120000Z",
                    "data": {"id": "501", "properties": {"email": "ada@acme.example"}},
                },
                {"id": "502", "deleted_at": "2026-11-02T08:31:00Z", "gone_as": "deleted"},
            ]
        }
    )

    id: str = Field(description="The vendor's key.")
    observed_at: AwareDatetime | None = Field(default=None, description="When it was so.")
    data: dict[str, Any] | None = None
    deleted_at: AwareDatetime | None = None
    gone_as: Literal["deleted", "merged", "hidden"] | None = Field(
        default=None,
        description="Why it is gone: deleted at the vendor, merged into another, or no longer "
        "shown to who consented. A hidden record without `deleted_at` is kept as it was seen last.",
    )
    merged_into: str | None = Field(
        default=None, description="The id of the record that took it in, where the vendor says so."
    )


class Records(BaseModel):
    """A page of records, in the order of their ids."""

    items: list[Record]
    next_cursor: str | None = Field(description="Send it as `cursor` for the next page.")
    next_changed_since: AwareDatetime = Field(
        description="After the last page, ask for what changed since this time: nothing is missed; "
        "a record may come twice."
    )


@router.get(
    "/{stream}",
    summary="A stream's records",
    response_model=Records,
    responses=responses(404),
)
async def list_records(
    shared: Shared,
    caller: Annotated[Caller, needs(Scope.RECORDS_READ)],
    connection_id: ConnectionId,
    stream: Annotated[str, Path(max_length=63, examples=["contacts"])],
    changed_since: Annotated[
        AwareDatetime | None,
        Query(
            description="Only what changed or was deleted from then on; a cursor brings its own.",
            examples=["2026-11-02T08:00:00Z"],
        ),
    ] = None,
    cursor: CursorText = None,
    limit: Limit = DEFAULT_LIMIT,
) -> Response:
    found = await visible(shared, caller, connection_id)
    try:
        load(found.integration).stream(stream)
    except LookupError as error:
        raise NotFoundError(str(error)) from None
    try:
        begun = changes.Cursor.parse(cursor) if cursor else None
    except ValueError as error:
        raise invalid("query.cursor", str(error)) from None
    page = await changes.read(
        shared.database, found, stream, since=changed_since, cursor=begun, limit=limit
    )
    answer = {
        "items": [_item(change) for change in page.changes],
        "next_cursor": str(page.next) if page.next else None,
        "next_changed_since": page.until,
    }
    return Response(orjson.dumps(answer, option=orjson.OPT_UTC_Z), media_type="application/json")


def _item(change: changes.Change) -> dict[str, Any]:
    why = {"gone_as": change.gone_as, "merged_into": change.merged_into}
    why = {name: value for name, value in why.items() if value is not None}
    if change.data is None:
        return {"id": change.id, "deleted_at": change.at, **why}
    # As PostgreSQL has it: parsing and writing it again would cost most of the request.
    data = orjson.Fragment(change.data)
    return {"id": change.id, "observed_at": change.at, "data": data, **why}
