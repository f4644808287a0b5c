"""What a customer's subscriptions at Stripe are worth: a tier, or nothing said at all.

active, trialing            the tier of its price
past_due                    the same, for a time of grace from when we learned of it; then nothing
unpaid, canceled, paused    nothing any more
incomplete, and expired so  it never began, so it says nothing: neither for nor against

Of several subscriptions, and of several items of one, the highest tier counts. Items beside one of
a known price are extras. A running subscription of which no price is known may be worth anything,
so it never lowers what a tenant has, and neither does one of a status that Stripe added since.
Statuses: https://docs.stripe.com/billing/subscriptions/overview (2026-11).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from storage.models import Tier

PAST_DUE = "past_due"
RUNNING = frozenset({"active", "trialing", PAST_DUE})
ENDED = frozenset({"unpaid", "canceled", "paused"})
NEVER_BEGAN = frozenset({"incomplete", "incomplete_expired"})


@dataclass(frozen=True)
class Subscription:
    """What a customer of ours is charged for at Stripe; `prices` are those of its items."""

    id: str
    status: str
    prices: tuple[str, ...]

    def tier(self, prices: Mapping[str, Tier]) -> Tier | None:
        """The highest tier among its items; None where no price is known."""
        known = [prices[price] for price in self.prices if price in prices]
        return max(known, key=lambda tier: tier.rank, default=None)


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What subscriptions give. Without a `tier` they say nothing, and it stays as it is.

    `past_due` holds since when each that is past due has been; `changes_at` is when the next time
    of grace ends. `problems` are for the operator.
    """

    tier: Tier | None = None
    subscription: Subscription | None = None
    past_due: Mapping[str, datetime] = field(default_factory=dict)
    changes_at: datetime | None = None
    problems: tuple[str, ...] = ()


def worth(
    subscriptions: Sequence[Subscription],
    prices: Mapping[str, Tier],
    *,
    current: Tier,
    past_due: Mapping[str, datetime],
    now: datetime,
    grace: timedelta,
) -> Worth:
    """What these give a tenant that is on `current`; `past_due` is as this told it before."""
    begun = [each for each in subscriptions if each.status not in NEVER_BEGAN]
    if not begun:
        return Worth()
    since = {each.id: past_due.get(each.id, now) for each in begun if each.status == PAST_DUE}
    ends = {id: at + grace for id, at in since.items()}
    lapsed = {id for id, at in ends.items() if at <= now}
    running = [each for each in begun if each.status not in ENDED and each.id not in lapsed]
    paid = [each for each in running if each.status in RUNNING and each.tier(prices)]
    best = max(paid, key=lambda each: _preference(each, prices), default=None)
    tier = (best and best.tier(prices)) or Tier.FREE
    if len(paid) < len(running):
        tier = max(tier, current, key=lambda each: each.rank)
    return Worth(
        tier=tier,
        subscription=best,
        past_due=since,
        changes_at=min((at for at in ends.values() if at > now), default=None),
        problems=tuple(_problems(running, paid, prices)),
    )


def _preference(subscription: Subscription, prices: Mapping[str, Tier]) -> tuple[int, bool, str]:
    """The higher tier; then one that is paid; then always the same one."""
    tier = subscription.tier(prices)
    return tier.rank if tier else 0, subscription.status != PAST_DUE, subscription.id


def _problems(
    running: Iterable[Subscription], paid: Sequence[Subscription], prices: Mapping[str, Tier]
) -> Iterable[str]:
    for each in running:
        if each.status not in RUNNING:
            yield f"{each.id} has the status {each.status!r}, which is not known here"
        elif each.tier(prices) is None:
            unknown = ", ".join(each.prices) or "none"
            yield f"{each.id} has no price that STRIPE_PRICE_ID_… names: {unknown}"
    if len(paid) > 1:
        yield f"{len(paid)} subscriptions are paid at once: {', '.join(each.id for each in paid)}"
