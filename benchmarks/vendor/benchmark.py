"""A made-up vendor: one stream of records in the order of their numbers, a page at a time.

Only a benchmark sees it: its folder is put on the path of `connectors` by `benchmarks._vendor`.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from connectors import (
    Account,
    Calls,
    Checkpoint,
    Connector,
    Context,
    OAuth2,
    Page,
    RateLimit,
    Reader,
    Request,
    Stream,
    SyncType,
    ask,
    column,
)
from connectors.kernel.versions import epoch_us


def items(at: Checkpoint, context: Context) -> Reader:
    """Every record after the last one that is known."""
    after, more = at.get("after", 0), True
    while more:
        response = yield from ask(Request.get("/items", params={"after": after}))
        after, more = response.json["next"], response.json["more"]
        yield Page(response.json["items"], Checkpoint(after=after))


def identify(answer: Mapping[str, Any], callback: Mapping[str, str]) -> Calls[tuple[Account, ...]]:
    yield from ()
    return (Account("benchmark"),)


connector = Connector(
    name="benchmark",
    title="Benchmark",
    sync_type=SyncType.PULL,
    base_url="https://api.benchmark.test/v1",
    auth=OAuth2(
        env="BENCHMARK",
        authorize_url="https://api.benchmark.test/authorize",
        token_url="https://api.benchmark.test/token",
        scopes={"read": "everything"},
    ),
    streams=(
        Stream(
            name="items",
            read=items,
            version=epoch_us("updatedAt"),
            columns={
                "name": column("properties.name"),
                "amount": column("properties.amount", "numeric"),
                "updated_at": column("updatedAt", "timestamptz"),
            },
        ),
    ),
    rate_limits=(RateLimit(1000, per=timedelta(seconds=1)),),
    identify=identify,
)
