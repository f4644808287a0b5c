"""What a control orders of a vendor's webhook: its address, and the deliveries' misbehaviour."""

from dataclasses import asdict, fields
from math import isfinite
from typing import Any
from urllib.parse import urlsplit

from sandbox.kernel.outbox import DeliveryControls, Outbox
from sandbox.kernel.values import Address, Json, RefusedError
from sandbox.kernel.webhooks import CallbackFlow


def shown_address(outbox: Outbox) -> Json:
    """The app's address; `url` is None while there is none."""
    app = outbox.app
    if app is None:
        return {"url": None, "secret": outbox.sender.secret, **outbox.sender.settings}
    return {"url": app.url, "secret": app.secret, **app.about}


def set_address(outbox: Outbox, body: Json) -> CallbackFlow[Json]:
    """Sets the app's address as the vendor's dashboard does; without a `url` takes it away."""
    sender = outbox.sender
    unknown = sorted(set(body) - {"url", "secret", *sender.settings})
    if unknown:
        known = ", ".join(["url", "secret", *sender.settings])
        raise RefusedError(f"a webhook has no {unknown}; it has: {known}", status=400)
    url = body.get("url") or ""
    if not url:
        outbox.app = None
        return shown_address(outbox)
    target = urlsplit(str(url))
    if target.scheme not in ("http", "https") or not target.hostname or target.fragment:
        raise RefusedError("url must be a web address", status=400)
    settings = {name: body.get(name, default) for name, default in sender.settings.items()}
    for name, default in sender.settings.items():
        if type(settings[name]) is not type(default):
            raise RefusedError(f"{name} must be like {default!r}", status=400)
    secret = str(body.get("secret") or sender.secret)
    address = Address(url=str(url), secret=secret, about=settings)
    if sender.handshake:
        yield from sender.handshake(address)
    outbox.app = address
    return shown_address(outbox)


def deliveries(outbox: Outbox) -> Json:
    """How it stands: counts, what is ordered, and the newest calls."""
    return {**outbox.standing(), "orders": asdict(outbox.orders), "log": list(outbox.log)}


def order(outbox: Outbox, body: Json) -> Json:
    """Sets the orders that the body names, and leaves the others."""
    known = {each.name: getattr(DeliveryControls(), each.name) for each in fields(DeliveryControls)}
    unknown = sorted(set(body) - set(known))
    if unknown:
        raise RefusedError(f"deliveries have no {unknown}; they have: {', '.join(known)}")
    checked = {name: _checked(name, value, known[name]) for name, value in body.items()}
    for name, value in checked.items():
        setattr(outbox.orders, name, value)
    outbox.wake()
    return asdict(outbox.orders)


def clear(outbox: Outbox) -> Json:
    """Forgets all deliveries, those still to come too, and takes back all orders."""
    cleared = outbox.counts.made
    outbox.clear()
    outbox.orders = DeliveryControls()
    return {"cleared": cleared}


def _checked(name: str, value: Any, default: object) -> bool | int | float:
    """A value of its default's type; a number is never below 0."""
    wanted = (int, float) if isinstance(default, float) else (type(default),)
    # A bool is an int to Python, and to nobody else.
    fits = type(value) in wanted and (isinstance(value, bool) or (value >= 0 and isfinite(value)))
    if not fits:
        kind = {bool: "true or false", int: "a whole number from 0", float: "a number from 0"}
        raise RefusedError(f"{name} must be {kind[type(default)]}", status=400)
    checked: bool | int | float = value
    return checked
