"""What subscriptions at Stripe are worth."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import Tier
from storage.subscriptions import ENDED, NEVER_BEGAN, RUNNING, Subscription, Worth, worth

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GRACE = timedelta(days=7)
PRICES = {
    "price_solo": Tier.SOLO, "price_team": Tier.TEAM, "price_yearly": Tier.TEAM,
    "price_enterprise": Tier.ENTERPRISE,
}  # fmt: skip
_ids = count(1)


def sub(status: str, *prices: str, id: str = "") -> Subscription:
    return Subscription(id or f"sub_{next(_ids)}", status, prices or ("price_team",))


def now_worth(
    *subscriptions: Subscription,
    current: Tier = Tier.SOLO,
    past_due: dict[str, datetime] | None = None,
    now: datetime = NOW,
) -> Worth:
    return worth(
        subscriptions, PRICES, current=current, past_due=past_due or {}, now=now, grace=GRACE
    )


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


def test_a_payment_that_came_ends_the_time_of_grace() -> None:
    paid = now_worth(sub("active", id="sub_1"), past_due={"sub_1": NOW - GRACE})
    assert (paid.tier, paid.past_due) == (Tier.TEAM, {})


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
    assert now_worth(sub("active", "price_solo", "price_seat", "price_enterprise")) == Worth(
        tier=Tier.ENTERPRISE, subscription=Subscription(
            f"sub_{next(_ids) - 1}", "active", ("price_solo", "price_seat", "price_enterprise")
        ),
    )  # fmt: skip


@pytest.mark.parametrize("current", Tier)
def test_an_unknown_price_changes_nothing_and_is_told(current: Tier) -> None:
    found = now_worth(sub("active", "price_of_tomorrow", id="sub_1"), current=current)
    assert found.tier is current
    assert found.subscription is None
    assert found.problems == ("sub_1 has no price that STRIPE_PRICE_ID_… names: price_of_tomorrow",)


def test_an_unknown_price_beside_a_known_subscription_never_lowers() -> None:
    both = sub("active", "price_of_tomorrow"), sub("active", "price_team")
    assert now_worth(*both, current=Tier.FREE).tier is Tier.TEAM
    assert now_worth(*both, current=Tier.ENTERPRISE).tier is Tier.ENTERPRISE


def test_a_status_that_stripe_adds_changes_nothing_and_is_told() -> None:
    found = now_worth(sub("suspended", id="sub_1"), current=Tier.ENTERPRISE)
    assert found.tier is Tier.ENTERPRISE
    assert found.problems == ("sub_1 has the status 'suspended', which is not known here",)


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
    unclear = [each for each in held if each.status in {*RUNNING, "suspended"}]
    unclear = [each for each in unclear if not each.tier(PRICES) or each.status == "suspended"]
    if unclear and found.tier:
        assert found.tier.rank >= current.rank
        assert found.problems
    again = now_worth(*held, current=found.tier or current, past_due=dict(found.past_due))
    assert (again.tier, again.past_due) == (found.tier, found.past_due)
