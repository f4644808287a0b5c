"""How runs end that fail for a reason that passes: not red, for nobody has to act."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Failed

from storage import DatabaseUnavailableError, LeaseLostError, StorageError

# The name of the state of such a run.
PUT_OFF = "PutOff"
# Neither says anything of the connection or event that was being worked on.
PASSING = (DatabaseUnavailableError, LeaseLostError)

P = ParamSpec("P")


def put_off(message: str) -> State[None]:
    return Cancelled(name=PUT_OFF, message=message)


def ends_well(
    body: Callable[P, Coroutine[Any, Any, State[None]]],
) -> Callable[P, Coroutine[Any, Any, State[None]]]:
    """The body of a flow, where what storage raises is how the run ends, in words."""

    @wraps(body)
    async def run(*args: P.args, **kwargs: P.kwargs) -> State[None]:
        try:
            return await body(*args, **kwargs)
        except PASSING as error:
            return put_off(f"{error}; nobody has to act here, it is tried again by itself")
        except StorageError as error:
            return Failed(message=str(error))

    return run


def is_put_off(state: State[Any]) -> bool:
    return state.is_cancelled() and state.name == PUT_OFF
