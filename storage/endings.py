"""What could not be ended at Stripe for a tenant that is erased: owed until that is done.

Only the customer's id is kept: whose it was, Stripe's dashboard says to whoever may see it. Where a
tenant has that customer, it is not erased (yet), and nothing of it is to be ended.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from storage.database import Database
from storage.models import BillingEnding, Tenant

AGAIN = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Owed:
    """A customer who may be charged still; `livemode` is None where it was never read."""

    customer_id: str
    livemode: bool | None
    problem: str
    owed_since: datetime


async def owe(
    database: Database, customer_id: str, *, livemode: bool | None, problem: str, now: datetime
) -> None:
    """Keep that a customer's subscriptions are to be ended, and why they could not be."""
    made = insert(BillingEnding).values(
        customer_id=customer_id, livemode=livemode, problem=problem, owed_since=now,
        due_at=now + AGAIN,
    )  # fmt: skip
    again = {"problem": problem, "due_at": now + AGAIN}
    async with database.owning() as session:
        await session.execute(
            made.on_conflict_do_update(index_elements=["customer_id"], set_=again)
        )


async def owed(database: Database, *, due: datetime | None = None) -> Sequence[Owed]:
    """All that is owed, or what is to be tried again by then; the longest owed first."""
    holder = select(Tenant.id).where(Tenant.stripe_customer_id == BillingEnding.customer_id)
    query = select(BillingEnding).where(~holder.exists())
    if due is not None:
        query = query.where(BillingEnding.due_at <= due)
    async with database.dispatching() as session:
        rows = await session.scalars(
            query.order_by(BillingEnding.owed_since, BillingEnding.customer_id)
        )
        return [
            Owed(
                customer_id=row.customer_id, livemode=row.livemode, problem=row.problem,
                owed_since=row.owed_since,
            )
            for row in rows
        ]  # fmt: skip


async def put_off(database: Database, customer_id: str, problem: str, *, now: datetime) -> None:
    """It could not be ended this time either."""
    changed = update(BillingEnding).where(BillingEnding.customer_id == customer_id)
    async with database.dispatching() as session:
        await session.execute(changed.values(problem=problem, due_at=now + AGAIN))


async def settled(database: Database, customer_id: str) -> bool:
    """It is ended, or the operator sees to it elsewhere; False where nothing was owed."""
    gone = delete(BillingEnding).where(BillingEnding.customer_id == customer_id)
    async with database.dispatching() as session:
        found = await session.scalar(gone.returning(BillingEnding.customer_id))
    return found is not None
