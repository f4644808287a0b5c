"""What tenants pay for, as Stripe tells: who is to be asked about, and what comes of the answer.

An event is a hint, whatever it says: its customer is due to be read again. Who reads claims the
customer and commits before asking Stripe, so nothing is lost with a process that dies; an answer
is written only under the claim it was asked for, so an older one never overwrites a newer. So
neither the order of events matters, nor how often one comes.

Whose a customer is says `tenants.stripe_customer_id`. Metadata at Stripe, which only the holder of
our key writes, joins a customer to a tenant that has none; it never takes one from another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, true, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from storage import tenants
from storage.database import Database
from storage.errors import NotFoundError
from storage.models import BillingCustomer, BillingEvent, Tenant, Tier
from storage.subscriptions import Rules, Standing, Subscription, Worth, worth

# Longer than any read of a customer may take.
CLAIM = timedelta(minutes=2)
# Events may get lost: every tenant's customer is read again as often as this.
READ_AGAIN = timedelta(days=1)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=2), timedelta(minutes=5)
# Stripe repeats an event for three days, and its dashboard for thirty.
KEPT = timedelta(days=60)
# From so many failures in a row on, the operator should look.
STUCK = 5
NOBODY = "no tenant here has its customer"


@dataclass(frozen=True, kw_only=True)
class Hint:
    """An event: something changed about a customer."""

    event_id: str
    type: str
    customer_id: str
    livemode: bool
    created_at: datetime
    deleted: bool = False


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A customer that is ours to read; `deleted` says that an event reported its end."""

    customer_id: str
    claim_id: UUID
    hints: int
    attempts: int
    livemode: bool
    deleted: bool


@dataclass(frozen=True, kw_only=True)
class Customer:
    """A customer as Stripe shows it; `names` is the tenant in its metadata."""

    id: str
    deleted: bool = False
    names: UUID | None = None
    subscriptions: tuple[Subscription, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What came of a read. Without a `slug` the customer is nobody's.

    `problem` is for the operator; `is_new` says that we did not report it before. `others` are
    customers that may take the place of this one, which is gone.
    """

    customer_id: str
    slug: str | None
    former: Tier
    tier: Tier
    subscription: Subscription | None
    problem: str | None
    is_new: bool
    others: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Payer:
    """A tenant with a customer, as we remember both; `livemode` is None before the first read."""

    tenant_id: UUID
    slug: str
    tier: Tier
    customer_id: str
    subscription_id: str | None
    livemode: bool | None
    past_due: Mapping[str, datetime]
    standing: Mapping[str, Standing]


async def receive(database: Database, hint: Hint, *, now: datetime) -> bool:
    """Take an event, and make its customer due; False where it was taken before."""
    event = insert(BillingEvent).values(
        event_id=hint.event_id,
        type=hint.type,
        customer_id=hint.customer_id,
        created_at=hint.created_at,
        received_at=now,
    )
    deleted_at = now if hint.deleted else None
    customer = insert(BillingCustomer).values(
        customer_id=hint.customer_id, livemode=hint.livemode, hints=1, due_at=now,
        deleted_at=deleted_at,
    )  # fmt: skip
    again: dict[str, object] = {"hints": BillingCustomer.hints + 1, "due_at": now, "attempts": 0}
    if hint.deleted:
        again["deleted_at"] = deleted_at
    async with database.receiving() as session:
        taken = await session.scalar(
            event.on_conflict_do_nothing().returning(BillingEvent.event_id)
        )
        if taken is None:
            return False
        await session.execute(
            customer.on_conflict_do_update(index_elements=["customer_id"], set_=again)
        )
    return True


async def claim_due(database: Database, *, now: datetime, at_most: int) -> list[Claim]:
    """Customers that are to be read now, so that nobody else does; the longest due first."""
    due = (
        select(BillingCustomer)
        .where(
            BillingCustomer.due_at <= now,
            or_(BillingCustomer.claimed_until.is_(None), BillingCustomer.claimed_until <= now),
        )
        .order_by(BillingCustomer.due_at)
        .limit(at_most)
        .with_for_update(skip_locked=True, key_share=True)
    )
    async with database.dispatching() as session:
        return [_claimed(row, now) for row in await session.scalars(due)]


async def claim(database: Database, customer_id: str, *, livemode: bool, now: datetime) -> Claim:
    """This customer, whether it is due or not; whoever reads it now loses it."""
    made = insert(BillingCustomer).values(customer_id=customer_id, livemode=livemode, due_at=now)
    async with database.owning() as session:
        await session.execute(made.on_conflict_do_nothing())
        row = await session.get_one(BillingCustomer, customer_id, with_for_update=True)
        return _claimed(row, now)


async def put_off(database: Database, claim: Claim, *, now: datetime) -> None:
    """It could not be read: again after a pause, each longer than the last."""
    pause = min(FIRST_PAUSE * 2 ** min(claim.attempts, 10), LONGEST_PAUSE)
    async with database.dispatching() as session:
        row = await session.scalar(_held(claim))
        if row is not None:
            _give_back(row)
            row.attempts = claim.attempts + 1
            row.due_at = now + (pause if row.hints == claim.hints else FIRST_PAUSE)


async def set_aside(database: Database, claim: Claim, problem: str, *, now: datetime) -> bool:
    """It is the operator's turn, and nothing changes until then; whether that is new.

    A customer that is no tenant's is forgotten.
    """
    query = select(Tenant.id).where(Tenant.stripe_customer_id == claim.customer_id)
    async with database.owning() as session:
        tenant_id = await session.scalar(query)
        row = await session.scalar(_held(claim))
        if row is None:
            return False
        if tenant_id is None and _is_unchanged(row, claim):
            await session.delete(row)
            return False
        is_new = problem != row.problem
        _give_back(row)
        row.problem = problem
        row.due_at = now + (READ_AGAIN if row.hints == claim.hints else FIRST_PAUSE)
        return is_new


def _held(claim: Claim) -> Select[tuple[BillingCustomer]]:
    """The row, if the claim on it is still ours."""
    mine = BillingCustomer.claim_id == claim.claim_id
    query = select(BillingCustomer).where(BillingCustomer.customer_id == claim.customer_id, mine)
    return query.with_for_update(key_share=True)


def _is_unchanged(row: BillingCustomer, claim: Claim) -> bool:
    """Whether nobody's customer is still that, and no event named it since it was claimed."""
    return row.tenant_id is None and row.hints == claim.hints


def _give_back(row: BillingCustomer) -> None:
    row.claim_id, row.claimed_until, row.attempts = None, None, 0


async def settle(
    database: Database, claim: Claim, found: Customer, rules: Rules, *, now: datetime
) -> Settled | None:
    """Write down what a read found, and what follows from it, in one transaction.

    None where the claim was lost: somebody else reads the customer again.
    """
    async with database.owning() as session:
        # The tenant before its customer: whoever deletes a tenant locks in that order.
        tenant, named, objection = await _whose(session, found)
        row = await session.scalar(_held(claim))
        if row is None:
            return None
        former, known = Tier(tenant.tier) if tenant else Tier.FREE, row.problem
        given = worth(
            found.subscriptions, rules, current=former, past_due=_times(row.past_due),
            standing=_standings(row.standing), now=now,
        )  # fmt: skip
        problem = objection
        if tenant is None:
            paid = given.subscription
            problem = f"{paid.id} is paid for, and {objection or NOBODY}" if paid else None
            if problem and named is not None:
                await _read_again(session, named.stripe_customer_id, now=now)
        elif objection is None:
            problem = "; ".join(given.problems) or None
            await _apply(session, row, tenant, found, given)
        forgotten = tenant is None and problem is None and _is_unchanged(row, claim)
        others: Sequence[str] = ()
        if found.deleted or forgotten:
            await session.delete(row)
            if tenant is not None:
                others = await _replacements(session, tenant.id, now=now)
        else:
            again = now + READ_AGAIN
            settled = row.hints == claim.hints and (tenant is not None or row.tenant_id is None)
            row.due_at = min(given.changes_at or again, again) if settled else now
            _give_back(row)
            row.read_at, row.problem = now, problem
            row.names_tenant_id = named.id if named else None
        return Settled(
            customer_id=found.id,
            slug=tenant.slug if tenant else None,
            former=former,
            tier=Tier(tenant.tier) if tenant else former,
            subscription=given.subscription,
            problem=problem,
            is_new=problem not in (None, known),
            others=tuple(others),
        )


async def _read_again(session: AsyncSession, customer_id: str | None, *, now: datetime) -> None:
    """The customer that another would replace may be gone, and its event lost."""
    await session.execute(
        update(BillingCustomer)
        .where(BillingCustomer.customer_id == customer_id)
        .values(due_at=now, hints=BillingCustomer.hints + 1)
        .execution_options(synchronize_session=False)
    )


async def _replacements(session: AsyncSession, tenant_id: UUID, *, now: datetime) -> Sequence[str]:
    """Customers that name the tenant, which has none any more: they are due."""
    found = await session.scalars(
        update(BillingCustomer)
        .where(BillingCustomer.names_tenant_id == tenant_id)
        .values(due_at=now)
        .returning(BillingCustomer.customer_id)
        .execution_options(synchronize_session=False)
    )
    return sorted(found)


async def _whose(
    session: AsyncSession, found: Customer
) -> tuple[Tenant | None, Tenant | None, str | None]:
    """The tenant of a customer, locked, and what speaks against changing anything for it.

    In the middle, the tenant whom it names, and which has another customer.
    """
    rows = await session.scalars(
        select(Tenant)
        .where(or_(Tenant.stripe_customer_id == found.id, Tenant.id == found.names))
        .order_by(Tenant.id)
        .with_for_update(key_share=True)
    )
    tenants = list(rows)
    holder = next((each for each in tenants if each.stripe_customer_id == found.id), None)
    named = next((each for each in tenants if each.id == found.names), None)
    if holder is not None:
        if found.names in (None, holder.id):
            return holder, None, None
        return holder, None, f"its metadata names another tenant, {found.names}"
    if named is not None and named.stripe_customer_id is not None:
        return None, named, f"{named.slug}, which its metadata names, has another customer"
    return named, None, None


async def _apply(
    session: AsyncSession, row: BillingCustomer, tenant: Tenant, found: Customer, given: Worth
) -> None:
    """Make it so for a tenant: its links to Stripe, and its tier if anything is said of that."""
    tier = given.tier
    if found.deleted:
        paid_once = tier or row.tier or tenant.stripe_subscription_id
        tier = Tier.FREE if paid_once else None
        tenant.stripe_customer_id = tenant.stripe_subscription_id = None
    else:
        if row.tenant_id != tenant.id:
            await _forget_others(session, tenant.id, found.id)
        tenant.stripe_customer_id = found.id
        tenant.stripe_subscription_id = given.subscription.id if given.subscription else None
        row.tenant_id, row.tier = tenant.id, tier
        row.past_due = {id: at.isoformat() for id, at in given.past_due.items()}
        row.standing = {id: _kept(each) for id, each in given.standing.items()}
        row.unknown_prices = list(given.unknown_prices)
    if tier is not None:
        await tenants.change_tier(session, tenant.id, tier)


async def _forget_others(session: AsyncSession, tenant_id: UUID, customer_id: str) -> None:
    """What a tenant's former customer at Stripe left here."""
    await session.execute(
        delete(BillingCustomer)
        .where(BillingCustomer.tenant_id == tenant_id, BillingCustomer.customer_id != customer_id)
        .execution_options(synchronize_session=False)
    )


async def link(
    database: Database,
    tenant_id: UUID,
    customer_id: str,
    *,
    livemode: bool,
    now: datetime,
    former: str | None,
) -> str:
    """A new customer is the tenant's, in place of the `former`; another, if that was faster.

    What the former paid for is not paid for any more.
    """
    made = insert(BillingCustomer).values(
        customer_id=customer_id, tenant_id=tenant_id, livemode=livemode, due_at=now + READ_AGAIN
    )
    async with database.owning() as session:
        tenant = await session.get(Tenant, tenant_id, with_for_update={"key_share": True})
        if tenant is None:
            raise NotFoundError(tenants.absent(tenant_id))
        if tenant.stripe_customer_id not in (None, former):
            return tenant.stripe_customer_id
        if tenant.stripe_subscription_id is not None:
            await tenants.change_tier(session, tenant.id, Tier.FREE)
        tenant.stripe_customer_id, tenant.stripe_subscription_id = customer_id, None
        await _forget_others(session, tenant_id, customer_id)
        await session.execute(
            made.on_conflict_do_update(
                index_elements=["customer_id"], set_={"tenant_id": tenant_id}
            )
        )
    return customer_id


async def payer(database: Database, tenant_id: UUID) -> Payer | None:
    """A tenant's customer; None where it has none."""
    return next(iter(await _payers(database, Tenant.id == tenant_id)), None)


async def payers(database: Database) -> list[Payer]:
    """Every tenant that has a customer, in the order of slugs."""
    return await _payers(database)


async def _payers(database: Database, *which: ColumnElement[bool]) -> list[Payer]:
    query = (
        select(
            Tenant.id, Tenant.slug, Tenant.tier, Tenant.stripe_customer_id,
            Tenant.stripe_subscription_id, BillingCustomer.livemode, BillingCustomer.past_due,
            BillingCustomer.standing,
        )
        .outerjoin(BillingCustomer, BillingCustomer.customer_id == Tenant.stripe_customer_id)
        .where(Tenant.stripe_customer_id.is_not(None), *which)
        .order_by(Tenant.slug)
    )  # fmt: skip
    async with database.dispatching() as session:
        return [
            Payer(
                tenant_id=tenant_id, slug=slug, tier=Tier(tier), customer_id=customer,
                subscription_id=subscription, livemode=livemode, past_due=_times(past_due or {}),
                standing=_standings(standing or {}),
            )
            for tenant_id, slug, tier, customer, subscription, livemode, past_due, standing in (
                await session.execute(query)
            )
        ]  # fmt: skip


async def troubles(database: Database) -> tuple[dict[str, str], int]:
    """What waits for the operator: each customer's problem, and how many cannot be read."""
    async with database.dispatching() as session:
        found = await session.execute(
            select(BillingCustomer.customer_id, BillingCustomer.problem)
            .where(BillingCustomer.problem.is_not(None))
            .order_by(BillingCustomer.customer_id)
        )
        problems = {customer_id: problem for customer_id, problem in found if problem}
        unread = select(func.count()).where(BillingCustomer.attempts >= STUCK)
        return problems, await session.scalar(unread) or 0


async def unknown_prices(database: Database) -> dict[str, int]:
    """The prices that no setting names, and how many tenants' customers are charged for each."""
    listed = func.jsonb_array_elements_text(BillingCustomer.unknown_prices).table_valued("value")
    price = listed.c.value
    query = select(price, func.count()).select_from(BillingCustomer).join(listed, true())
    async with database.dispatching() as session:
        found = await session.execute(query.group_by(price).order_by(price))
        return {str(name): count for name, count in found}


async def sweep(database: Database, *, now: datetime) -> None:
    """Forget that events were taken which Stripe will not send again."""
    async with database.dispatching() as session:
        await session.execute(delete(BillingEvent).where(BillingEvent.received_at < now - KEPT))


def _claimed(row: BillingCustomer, now: datetime) -> Claim:
    row.claim_id, row.claimed_until = uuid4(), now + CLAIM
    return Claim(
        customer_id=row.customer_id,
        claim_id=row.claim_id,
        hints=row.hints,
        attempts=row.attempts,
        livemode=row.livemode,
        deleted=row.deleted_at is not None,
    )


def _times(past_due: Mapping[str, str]) -> dict[str, datetime]:
    return {id: datetime.fromisoformat(at) for id, at in past_due.items()}


def _standings(kept: Mapping[str, Mapping[str, Any]]) -> dict[str, Standing]:
    return {
        id: Standing(
            paid=Tier(each["paid"]) if each.get("paid") else None,
            active_since=_time(each.get("active_since")),
            is_beside=bool(each.get("is_beside")),
        )
        for id, each in kept.items()
    }


def _kept(standing: Standing) -> dict[str, Any]:
    since = standing.active_since
    values = {
        "paid": standing.paid,
        "active_since": since.isoformat() if since else None,
        "is_beside": standing.is_beside or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
