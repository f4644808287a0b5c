"""What a customer's subscriptions at Stripe are worth: a tier, or nothing said at all.

active, trialing            the tier of its price
past_due                    the tier it paid last, if its price is not a lower one, for a time of
                            grace from the first failed payment of a period; then nothing
unpaid, canceled, paused    nothing any more
incomplete, and expired so  it never began, so it says nothing: neither for nor against

Of several subscriptions, and of several items of one, the highest tier counts. Items beside one of
a known price are extras, and an item of the quantity 0 gives nothing. A running subscription of
which no price is known may be worth what the tenant has, so it lowers nothing; but one that ran
beside a subscription of a known price is another product's, and worth nothing. One of a status that
Stripe added since may be worth what its price says.
Statuses: https://docs.stripe.com/billing/subscriptions/overview (2026-11).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from storage.models import Tier

PAID, PAST_DUE = frozenset({"active", "trialing"}), "past_due"
RUNNING = PAID | {PAST_DUE}
OVER = frozenset({"canceled", "incomplete_expired"})
ENDED = frozenset({"unpaid", "canceled", "paused"})
NEVER_BEGAN = frozenset({"incomplete", "incomplete_expired"})
NONE_KNOWN = "has no price that STRIPE_PRICE_ID_… names"


@dataclass(frozen=True)
class Subscription:
    """What a customer of ours is charged for at Stripe.

    `prices` are those of its items, `idle` those of items with the quantity 0. The times are
    Stripe's: `period_began` is when the period began that it was last invoiced for.
    """

    id: str
    status: str
    prices: tuple[str, ...]
    idle: tuple[str, ...] = ()
    began: datetime | None = None
    ended: datetime | None = None
    period_began: datetime | None = None

    def tier(self, prices: Mapping[str, Tier]) -> Tier | None:
        """The highest tier among its items; None where no price is known."""
        known = [prices[price] for price in self.prices if price in prices]
        if not known and any(price in prices for price in self.idle):
            return Tier.FREE
        return max(known, key=_rank, default=None)

    @property
    def all_prices(self) -> tuple[str, ...]:
        return (*self.prices, *self.idle)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is remembered of a subscription from one reading to the next.

    `paid` is the tier it was last paid for, `active_since` since when no payment has failed.
    `is_beside` says that it ran beside one of a known price, when its own was not.
    """

    paid: Tier | None = None
    active_since: datetime | None = None
    is_beside: bool = False


@dataclass(frozen=True, kw_only=True)
class Worth:
    """What subscriptions give. Without a `tier` they say nothing, and it stays as it is.

    `past_due` holds when the first payment of each failed, for as long as that counts; `changes_at`
    is when the next time of grace ends. `problems` are for the operator.
    """

    tier: Tier | None = None
    subscription: Subscription | None = None
    past_due: Mapping[str, datetime] = field(default_factory=dict)
    standing: Mapping[str, Standing] = field(default_factory=dict)
    changes_at: datetime | None = None
    problems: tuple[str, ...] = ()
    unknown_prices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """How an operator sells: what each price is worth, which are another product's, and how long a
    failed payment is borne."""

    prices: Mapping[str, Tier]
    grace: timedelta
    ignored: frozenset[str] = frozenset()

    def ours(self, subscriptions: Iterable[Subscription]) -> list[Subscription]:
        """Without those of which every price is another product's."""
        return [
            each
            for each in subscriptions
            if not each.all_prices or not self.ignored.issuperset(each.all_prices)
        ]

    def unknown(self, subscription: Subscription) -> list[str]:
        """The prices that a subscription without a known one has."""
        if subscription.tier(self.prices) is not None:
            return []
        return [price for price in subscription.all_prices if price not in self.ignored]


def worth(
    subscriptions: Sequence[Subscription],
    rules: Rules,
    *,
    current: Tier,
    past_due: Mapping[str, datetime],
    standing: Mapping[str, Standing],
    now: datetime,
) -> Worth:
    """What these give a tenant that is on `current`; `past_due` and `standing` are what this
    function returned before."""
    begun = [each for each in rules.ours(subscriptions) if each.status not in NEVER_BEGAN]
    if not begun:
        return Worth()
    kept = {each.id: _standing(each, begun, rules, standing, now) for each in begun}
    since = dict(_failures(begun, rules, past_due, standing, now))
    ends = {each.id: since[each.id] + rules.grace for each in begun if each.status == PAST_DUE}
    lapsed = {id for id, at in ends.items() if at <= now}
    running = [each for each in begun if each.status not in ENDED and each.id not in lapsed]
    given = {each.id: _given(each, rules, kept[each.id]) for each in running}
    paid = [each for each in running if given[each.id] not in (None, Tier.FREE)]
    best = max(paid, key=lambda each: _preference(each, given[each.id]), default=None)
    unclear = [
        _bound(each, rules, kept[each.id], current) for each in running if given[each.id] is None
    ]
    return Worth(
        tier=max((*(tier for tier in given.values() if tier), *unclear, Tier.FREE), key=_rank),
        subscription=best,
        past_due=since,
        standing={each.id: kept[each.id] for each in begun if each.status not in OVER},
        changes_at=min((at for at in ends.values() if at > now), default=None),
        problems=tuple(_problems(running, paid, rules)),
        unknown_prices=tuple(sorted({price for each in running for price in rules.unknown(each)})),
    )


def _rank(tier: Tier) -> int:
    return tier.rank


def _standing(
    subscription: Subscription,
    beside: Iterable[Subscription],
    rules: Rules,
    standing: Mapping[str, Standing],
    now: datetime,
) -> Standing:
    """What is to be remembered of a subscription as it is now."""
    former = standing.get(subscription.id, Standing())
    tier = subscription.tier(rules.prices)
    if tier is None:
        others = (each for each in beside if each.tier(rules.prices) is not None)
        is_beside = former.is_beside or any(_were_both(subscription, each) for each in others)
        return Standing(paid=former.paid, is_beside=is_beside)
    if subscription.status in PAID:
        return Standing(paid=tier, active_since=former.active_since or now)
    return Standing(paid=former.paid)


def _were_both(one: Subscription, other: Subscription) -> bool:
    """Whether there was a time of both; of one that ended, as Stripe says when that was."""
    if other.status not in OVER:
        return True
    return bool(one.began and other.ended and other.ended > one.began)


def _failures(
    begun: Iterable[Subscription],
    rules: Rules,
    past_due: Mapping[str, datetime],
    standing: Mapping[str, Standing],
    now: datetime,
) -> Iterator[tuple[str, datetime]]:
    """Since when each payment that failed has been owed; `standing` is as it was before.

    A return to active does not end that at once: else whoever has paid a while would owe anew. It
    ends with the period, or once the return has lasted for as long as a time of grace.
    """
    for each in begun:
        since = past_due.get(each.id)
        former = standing.get(each.id, Standing())
        active_since = former.active_since or (now if each.status in PAID else None)
        if since and active_since:
            is_new_period = each.period_began is not None and each.period_began > since
            if is_new_period or active_since + rules.grace <= now:
                since = None
        if each.status == PAST_DUE:
            yield each.id, since or now
        elif since and each.status not in OVER:
            yield each.id, since


def _given(subscription: Subscription, rules: Rules, standing: Standing) -> Tier | None:
    """What a running subscription gives; None where that is not known."""
    tier = subscription.tier(rules.prices)
    if tier is None or subscription.status not in RUNNING:
        return None
    if subscription.status == PAST_DUE and standing.paid is not None:
        return min(tier, standing.paid, key=_rank)
    return tier


def _bound(subscription: Subscription, rules: Rules, standing: Standing, current: Tier) -> Tier:
    """The most that one may be worth of which that is not known; never more than the tenant has."""
    most = standing.paid or subscription.tier(rules.prices)
    if most is None:
        most = Tier.FREE if standing.is_beside else current
    return min(most, current, key=_rank)


def _preference(subscription: Subscription, tier: Tier | None) -> tuple[int, bool, str]:
    """The higher tier; then one that is paid; then always the same one."""
    return tier.rank if tier else 0, subscription.status != PAST_DUE, subscription.id


def _problems(
    running: Iterable[Subscription], paid: Sequence[Subscription], rules: Rules
) -> Iterator[str]:
    for each in running:
        if each.status not in RUNNING:
            yield f"{each.id} has the status {each.status!r}, which is not known here"
        elif each.tier(rules.prices) is None:
            yield f"{each.id} {NONE_KNOWN}: {', '.join(rules.unknown(each)) or 'none'}"
        elif each.tier(rules.prices) is Tier.FREE:
            yield f"{each.id} is of the quantity 0: {', '.join(each.idle)}"
    if len(paid) > 1:
        yield f"{len(paid)} subscriptions are paid at once: {', '.join(each.id for each in paid)}"
