"""What subscriptions at Stripe are worth."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import Tier
from storage.subscriptions import (
    ENDED,
    NEVER_BEGAN,
    RUNNING,
    Rules,
    Standing,
    Subscription,
    Worth,
    worth,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GRACE = timedelta(days=7)
PRICES = {
    "price_solo": Tier.SOLO, "price_team": Tier.TEAM, "price_yearly": Tier.TEAM,
    "price_enterprise": Tier.ENTERPRISE,
}  # fmt: skip
RULES = Rules(PRICES, GRACE, frozenset({"price_of_shirts"}))
DAY = timedelta(days=1)
_ids = count(1)


def sub(status: str, *prices: str, id: str = "", **more: Any) -> Subscription:
    return Subscription(id or f"sub_{next(_ids)}", status, prices or ("price_team",), **more)


def now_worth(
    *subscriptions: Subscription,
    current: Tier = Tier.SOLO,
    past_due: Mapping[str, datetime] | None = None,
    standing: Mapping[str, Standing] | None = None,
    now: datetime = NOW,
) -> Worth:
    return worth(
        subscriptions, RULES, current=current, past_due=past_due or {}, standing=standing or {},
        now=now,
    )  # fmt: skip


@dataclass
class Tenant:
    """A tenant over time: what is remembered of one reading is given to the next."""

    tier: Tier = Tier.FREE
    at: datetime = NOW
    last: Worth = field(default_factory=Worth)

    def reads(self, *subscriptions: Subscription, days: float = 0) -> Tier:
        """So many days later these are read; the tier that follows."""
        self.at += days * DAY
        self.last = now_worth(
            *subscriptions, current=self.tier, past_due=self.last.past_due,
            standing=self.last.standing, now=self.at,
        )  # fmt: skip
        self.tier = self.last.tier or self.tier
        return self.tier


@pytest.mark.parametrize(
    ("status", "tier"),
    [
        ("active", Tier.TEAM), ("trialing", Tier.TEAM), ("past_due", Tier.TEAM),
        ("unpaid", Tier.FREE), ("canceled", Tier.FREE), ("paused", Tier.FREE),
        ("incomplete", None), ("incomplete_expired", None),
    ],
)  # fmt: skip
def test_each_status_has_its_worth(status: str, tier: Tier | None) -> None:
    found = now_worth(sub(status, id="sub_1"))
    assert found.tier is tier
    assert found.problems == ()
    paid = tier is Tier.TEAM
    assert (found.subscription.id if found.subscription else None) == ("sub_1" if paid else None)


def test_who_never_subscribed_keeps_what_the_operator_gave() -> None:
    assert now_worth() == Worth()
    assert now_worth(sub("incomplete"), sub("incomplete_expired")).tier is None


def test_a_payment_that_failed_is_borne_for_the_time_of_grace() -> None:
    owing = sub("past_due", id="sub_1")
    first = now_worth(owing)
    assert first.past_due == {"sub_1": NOW}
    assert first.changes_at == NOW + GRACE
    almost = now_worth(owing, past_due={"sub_1": NOW}, now=NOW + GRACE - timedelta(seconds=1))
    assert (almost.tier, almost.changes_at) == (Tier.TEAM, NOW + GRACE)
    over = now_worth(owing, past_due={"sub_1": NOW}, now=NOW + GRACE)
    assert (over.tier, over.subscription, over.changes_at) == (Tier.FREE, None, None)
    assert over.past_due == {"sub_1": NOW}


def test_an_upgrade_that_was_not_paid_gives_what_was_paid_before() -> None:
    acme, upgraded = Tenant(), sub("past_due", "price_enterprise", id="sub_1")
    assert acme.reads(sub("active", "price_solo", id="sub_1")) is Tier.SOLO
    assert acme.reads(upgraded, days=10) is Tier.SOLO
    assert acme.reads(upgraded, days=6.9) is Tier.SOLO
    assert acme.reads(upgraded, days=0.1) is Tier.FREE
    assert acme.reads(sub("active", "price_enterprise", id="sub_1")) is Tier.ENTERPRISE
    assert acme.reads(upgraded, days=20) is Tier.ENTERPRISE  # that is paid by now


def test_a_change_to_less_that_was_not_paid_gives_no_more_than_its_price() -> None:
    acme = Tenant()
    assert acme.reads(sub("active", "price_enterprise", id="sub_1")) is Tier.ENTERPRISE
    assert acme.reads(sub("past_due", "price_solo", id="sub_1"), days=30) is Tier.SOLO


def test_a_short_return_to_active_does_not_begin_the_time_of_grace_anew() -> None:
    acme = Tenant()
    owing, active = sub("past_due", id="sub_1"), sub("active", id="sub_1")
    assert acme.reads(active) is Tier.TEAM
    assert acme.reads(owing, days=1) is Tier.TEAM
    assert acme.reads(active, days=3) is Tier.TEAM
    assert acme.reads(owing, days=1) is Tier.TEAM
    assert acme.reads(sub("unpaid", id="sub_1"), days=1) is Tier.FREE
    assert acme.reads(active, days=1) is Tier.TEAM
    assert acme.reads(owing, days=1) is Tier.FREE
    assert acme.last.past_due == {"sub_1": NOW + DAY}


@pytest.mark.parametrize(
    ("active_days", "period_began"), [(7, None), (2, NOW + 3 * DAY), (1, NOW + 2 * DAY)]
)
def test_a_payment_of_the_next_period_or_a_lasting_return_ends_the_time_of_grace(
    active_days: int, period_began: datetime | None
) -> None:
    acme = Tenant()
    owing, active = sub("past_due", id="sub_1"), sub("active", id="sub_1", period_began=NOW)
    acme.reads(active)
    acme.reads(owing, days=1)
    acme.reads(active, days=1)
    acme.reads(sub("active", id="sub_1", period_began=period_began), days=active_days)
    assert acme.last.past_due == {}
    assert acme.reads(owing, days=1) is Tier.TEAM
    assert acme.reads(owing, days=6.5) is Tier.TEAM
    assert acme.reads(owing, days=0.5) is Tier.FREE


def test_each_subscription_has_a_time_of_grace_of_its_own() -> None:
    since = {"sub_old": NOW - GRACE, "sub_new": NOW - timedelta(days=1)}
    found = now_worth(
        sub("past_due", "price_enterprise", id="sub_old"), sub("past_due", id="sub_new"),
        past_due=since,
    )  # fmt: skip
    assert found.tier is Tier.TEAM
    assert found.changes_at == NOW + timedelta(days=6)


def test_of_several_the_highest_counts_and_it_is_said_that_there_are_several() -> None:
    found = now_worth(
        sub("active", "price_solo", id="sub_a"), sub("past_due", id="sub_b"),
        sub("trialing", "price_yearly", id="sub_c"), sub("canceled", "price_enterprise"),
    )  # fmt: skip
    assert found.tier is Tier.TEAM
    assert found.subscription is not None
    assert found.subscription.id == "sub_c"  # paid before past due
    assert found.problems == ("3 subscriptions are paid at once: sub_a, sub_b, sub_c",)


def test_of_several_items_the_highest_counts_and_extras_are_no_matter() -> None:
    bought = sub("active", "price_solo", "price_seat", "price_enterprise", id="sub_1")
    assert now_worth(bought) == Worth(
        tier=Tier.ENTERPRISE, subscription=bought,
        standing={"sub_1": Standing(paid=Tier.ENTERPRISE, active_since=NOW)},
    )  # fmt: skip


def test_an_item_of_the_quantity_0_gives_nothing_and_is_told() -> None:
    paused = sub("active", "price_solo", idle=("price_enterprise",))
    assert (now_worth(paused).tier, now_worth(paused).problems) == (Tier.SOLO, ())
    nothing = Subscription("sub_1", "active", (), idle=("price_enterprise",))
    found = now_worth(nothing, current=Tier.ENTERPRISE)
    assert (found.tier, found.subscription) == (Tier.FREE, None)
    assert found.problems == ("sub_1 is of the quantity 0: price_enterprise",)


@pytest.mark.parametrize("current", Tier)
def test_an_unknown_price_changes_nothing_and_is_told(current: Tier) -> None:
    found = now_worth(sub("active", "price_of_tomorrow", id="sub_1"), current=current)
    assert found.tier is current
    assert found.subscription is None
    assert found.problems == ("sub_1 has no price that STRIPE_PRICE_ID_… names: price_of_tomorrow",)
    assert found.unknown_prices == ("price_of_tomorrow",)


def test_another_product_beside_ours_gives_nothing_when_ours_ends() -> None:
    acme, other = Tenant(), sub("active", "price_of_tomorrow", id="sub_2")
    assert acme.reads(sub("active", "price_enterprise", id="sub_1"), other) is Tier.ENTERPRISE
    assert acme.reads(sub("active", "price_solo", id="sub_1"), other, days=1) is Tier.SOLO
    assert "price_of_tomorrow" in acme.last.problems[0]
    assert acme.reads(sub("canceled", "price_solo", id="sub_1"), other, days=1) is Tier.FREE
    assert acme.reads(other, days=60) is Tier.FREE


def test_that_there_was_a_time_of_both_is_seen_later_by_when_each_began_and_ended() -> None:
    ended = sub("canceled", "price_enterprise", ended=NOW - 60 * DAY)
    beside = sub("active", "price_of_tomorrow", began=NOW - 90 * DAY)
    after = sub("active", "price_of_tomorrow", began=NOW - 60 * DAY)
    assert now_worth(ended, beside, current=Tier.ENTERPRISE).tier is Tier.FREE
    # What takes the place of ours may be ours, under a price that is not named yet.
    assert now_worth(ended, after, current=Tier.ENTERPRISE).tier is Tier.ENTERPRISE


def test_ours_that_is_moved_to_an_unknown_price_keeps_what_it_paid_before() -> None:
    acme, moved = Tenant(), sub("active", "price_of_tomorrow", id="sub_1")
    acme.reads(sub("active", "price_team", id="sub_1"), sub("active", "price_enterprise"))
    assert acme.tier is Tier.ENTERPRISE
    assert acme.reads(moved, sub("active", "price_solo"), days=1) is Tier.TEAM
    assert acme.reads(moved, days=1) is Tier.TEAM


def test_a_price_that_the_operator_ignores_is_neither_told_nor_holds_anything() -> None:
    shirts = sub("active", "price_of_shirts")
    assert now_worth(shirts, current=Tier.TEAM) == Worth()
    found = now_worth(shirts, sub("canceled"), current=Tier.TEAM)
    assert (found.tier, found.problems, found.unknown_prices) == (Tier.FREE, (), ())
    mixed = now_worth(sub("active", "price_of_shirts", "price_of_tomorrow"))
    assert mixed.unknown_prices == ("price_of_tomorrow",)


def test_a_status_that_stripe_adds_is_worth_what_its_price_says_at_most_and_is_told() -> None:
    found = now_worth(sub("suspended", id="sub_1"), current=Tier.TEAM)
    assert found.tier is Tier.TEAM
    assert found.problems == ("sub_1 has the status 'suspended', which is not known here",)
    assert now_worth(sub("suspended"), current=Tier.ENTERPRISE).tier is Tier.TEAM
    assert now_worth(sub("suspended"), current=Tier.FREE).tier is Tier.FREE


ANY = st.builds(
    Subscription,
    st.from_regex(r"sub_[a-f]{4}", fullmatch=True),
    st.sampled_from(sorted(RUNNING | ENDED | NEVER_BEGAN | {"suspended"})),
    st.lists(st.sampled_from([*PRICES, "price_odd"]), max_size=3).map(tuple),
)


@given(
    st.lists(ANY, max_size=4, unique_by=lambda each: each.id).flatmap(
        lambda held: st.tuples(st.just(held), st.permutations(held))
    ),
    st.sampled_from(Tier),
)
def test_the_order_in_which_stripe_lists_them_does_not_matter(
    listings: tuple[list[Subscription], list[Subscription]], current: Tier
) -> None:
    one, other = (now_worth(*listing, current=current) for listing in listings)
    assert (one.tier, one.subscription, one.past_due, one.changes_at) == (
        other.tier, other.subscription, other.past_due, other.changes_at,
    )  # fmt: skip


@given(st.lists(ANY, max_size=4, unique_by=lambda each: each.id), st.sampled_from(Tier))
def test_what_is_worth_something_is_running_and_what_is_unclear_never_lowers(
    held: list[Subscription], current: Tier
) -> None:
    found = now_worth(*held, current=current)
    if found.subscription:
        assert found.subscription.status in RUNNING
        assert found.subscription.tier(PRICES) is not None
    running = [each for each in held if each.status in {*RUNNING, "suspended"}]
    unclear = [each for each in running if not each.tier(PRICES) or each.status == "suspended"]
    known = [each.tier(PRICES) for each in held if each.status not in NEVER_BEGAN]
    if unclear and found.tier:
        assert found.problems
        if not any(known):
            assert found.tier is current
    again = now_worth(
        *held, current=found.tier or current, past_due=found.past_due, standing=found.standing
    )
    assert (again.tier, again.past_due, again.standing) == (
        found.tier, found.past_due, found.standing,
    )  # fmt: skip
