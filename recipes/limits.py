"""How often a vendor may be asked: a manifest's budget for calls, or a modest one of ours."""

from datetime import timedelta

from connectors import RateLimit
from recipes import datetimes
from recipes.manifest import Component

# What a vendor is asked at most, where its manifest says nothing.
DEFAULT = RateLimit(10, timedelta(seconds=1))


def limits_of(root: Component) -> tuple[RateLimit, ...]:
    """The limits of all policies together. They are kept for each call, whichever of them it is of:
    the vendor is never asked more often than it allows."""
    budget = root.part("api_budget")
    found = [
        limit
        for policy in (budget.parts("policies") if budget is not None else ())
        for limit in _limits(policy)
    ]
    return tuple(found) or (DEFAULT,)


def _limits(policy: Component) -> list[RateLimit]:
    if policy.type == "FixedWindowCallRatePolicy":
        pairs = [(policy.get("call_limit"), policy.get("period"))]
    else:
        rates = [rate for rate in policy.get("rates") or () if isinstance(rate, Component)]
        pairs = [(rate.get("limit"), rate.get("interval")) for rate in rates]
    found = []
    for amount, period in pairs:
        try:
            per = datetimes.duration(str(period))
            count = int(str(amount))
        except ValueError:
            continue  # worked out of settings: our own limit is kept
        if isinstance(per, timedelta) and per and count > 0:
            found.append(RateLimit(count, per))
    return found
