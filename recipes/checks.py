"""Whether a connection's settings are good: the check of a manifest, made before they are kept."""

from collections.abc import Callable, Mapping
from typing import Any

from connectors import Calls, Context, ContractError, Steps
from recipes.delegating import Delegating
from recipes.manifest import Component
from recipes.places import Rows
from recipes.reading import Plan
from recipes.runs import Run
from recipes.slices import Inner


def check_of(
    component: Component | None, plans: Mapping[str, Plan | Delegating], title: str
) -> Callable[[Context], Calls[None]]:
    """Reads the first record of each stream that the manifest names, or of the first one."""
    found = component.get("stream_names") if component is not None else None
    names = [str(name) for name in found] if isinstance(found, list) else []
    chosen = [plans[name] for name in names if name in plans] or list(plans.values())[:1]

    def check(context: Context) -> Calls[None]:
        run = Run.of(title, context)
        for plan in chosen:
            yield from _one_by_one(_first_rows(plan, run))

    return check


def _first_rows(plan: Plan | Delegating, run: Run) -> Steps[None]:
    """Reads until something was read. A part that is refused is no reason for a stream to be."""
    walk: Inner[Rows] = Inner(plan.rows(run, {}))
    while (rows := (yield from walk.following())) is not None:
        if rows.unread and not rows.records:
            raise rows.unread[0].error
        if rows.records:
            return


def _one_by_one(steps: Steps[None]) -> Calls[None]:
    """The same steps, of which none asks for several things at once."""
    answer: Any = None
    while True:
        try:
            failed = isinstance(answer, Exception)
            action = steps.throw(answer) if failed else steps.send(answer)
        except StopIteration:
            return
        if isinstance(action, tuple):
            raise ContractError("a check that asks for several things at once")
        try:
            answer = yield action
        except Exception as error:
            answer = error
