"""What ends a connection or erases: the vendor is asked first, and there is time to withdraw it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta

from connectors import (
    BrokenConnectionError,
    ConnectorError,
    Context,
    Effect,
    NotAllowedError,
    Webhook,
)
from connectors.kernel.client import Client
from integrations import load
from settings import SettingsError
from storage import Status, StorageError
from storage.connections import Connection
from storage.inbox import Taken

# A vendor may let us in for a moment after it said that it will not.
SETTLED = timedelta(minutes=1)
ASK_AGAIN = timedelta(minutes=10)
# Who cannot be asked for so long is believed: what the law asks for has a deadline.
ASKED_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Later:
    """For how long an event is put off, and why; `in_grace` while it can be withdrawn."""

    wait: timedelta
    reason: str
    in_grace: bool = False


@dataclass
class Weighed:
    """Events that are not applied now, and those that the vendor's own answer belies."""

    later: dict[int, Later] = field(default_factory=dict)
    belied: set[int] = field(default_factory=set)


async def weigh(
    client: Client, context: Context, connection: Connection, events: Iterable[Taken]
) -> Weighed:
    """What is to become of events that end or erase something; the others are not in it."""
    found = Weighed()
    webhook = load(connection.integration).webhook
    weighty = [event for event in events if event.effect.ends or event.effect is Effect.ERASE]
    if webhook is None or not weighty:
        return found
    asked = any(event.effect.ends for event in weighty)
    stands = await _stands(client, context, connection, webhook) if asked else False
    for event in weighty:
        age = context.now - event.received_at
        left = webhook.grace.get(event.effect, timedelta()) - age
        if event.effect.ends and stands is True:
            if event.effect is Effect.REVOKED and age < SETTLED:
                found.later[event.id] = Later(SETTLED, "the vendor still lets us in")
            else:
                found.belied.add(event.id)
        elif left > timedelta():
            found.later[event.id] = Later(left, "it can be withdrawn until then", in_grace=True)
        elif event.effect.ends and isinstance(stands, str) and -left < ASKED_FOR:
            found.later[event.id] = Later(ASK_AGAIN, f"the vendor could not be asked: {stands}")
    return found


async def _stands(
    client: Client, context: Context, connection: Connection, webhook: Webhook
) -> bool | str:
    """Whether the vendor still lets us in; why that could not be asked."""
    if webhook.stands is None or connection.status == Status.REVOKED:
        return False
    try:
        await client.run(webhook.stands(context))
    except BrokenConnectionError:
        return False
    except NotAllowedError:
        return True
    except (ConnectorError, StorageError, SettingsError) as error:
        return str(error)
    return True
