"""What proves that a vendor sent a delivery: a function for every scheme that vendors have.

Digests and secrets are compared as bytes, in constant time; a blank secret proves nothing. Whatever
is wrong with a delivery is a SignatureError, and its message holds nothing of the delivery. Tokens
that are signed themselves (JWT) stand in `connectors.kernel.jwts`.

Most vendors sign the raw body with HMAC-SHA256, and differ in the header and how it is written:

    verify=hmac_signature("x-hub-signature-256", prefix="sha256=")              GitHub
    verify=hmac_signature("x-xero-signature", encoding="base64")                Xero
    verify_event=per_watch(hmac_signature(…, key=base64_key))                   Airtable
    verify_event=echoed_token                                                   Graph, Zoho
"""

import base64
import hmac
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Literal, TypeAlias
from urllib.parse import unquote

from connectors.kernel.errors import SignatureError
from connectors.kernel.versions import EPOCH, MILLISECOND, parse_time
from connectors.kernel.webhooks import Delivery, Event, VerificationKeys, Verify

Encoding: TypeAlias = Literal["hex", "base64"]
VerifyEvent: TypeAlias = Callable[[Delivery, Event, str], None]

SECOND = timedelta(seconds=1)
TOLERANCE = timedelta(minutes=5)
# Thirteen digits are the milliseconds of today.
_DIGITS = re.compile(r"[0-9]{1,16}")
_HUBSPOT_DECODED = re.compile(r"%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)


def check_hmac(
    given: Iterable[str],
    messages: Iterable[bytes],
    keys: Iterable[bytes],
    *,
    encoding: Encoding = "hex",
    prefix: str = "",
) -> None:
    """SignatureError unless a digest that was given is that of a message under one of the keys.

    For deliveries, and for what vendors sign elsewhere: the callback of Shopify's consent, the
    token answer of Salesforce. An empty key proves nothing.
    """
    messages = tuple(messages)
    expected = [
        prefix + _written(hmac.digest(key, message, "sha256"), encoding)
        for key in keys
        if key
        for message in messages
    ]
    if not any(_same(one, other) for one in given for other in expected):
        raise SignatureError("the signature is not the vendor's")


def text_key(secret: str) -> bytes:
    """A secret that is the key as it is written; a blank one is no key."""
    return _bytes(secret) if secret.strip() else b""


def base64_key(secret: str) -> bytes:
    """A secret that is the key in base64."""
    try:
        return base64.b64decode(_bytes(secret), validate=True)
    except ValueError:
        raise SignatureError("the secret is not written in base64") from None


def raw_body(delivery: Delivery) -> tuple[bytes, ...]:
    return (delivery.body,)


def epoch_header(name: str, unit: timedelta = SECOND) -> Callable[[Delivery], datetime]:
    """The time a header tells, counted in that unit since 1970."""
    return lambda delivery: _epoch(_header(delivery, name), unit)


def hmac_signature(
    *headers: str,
    encoding: Encoding = "hex",
    prefix: str = "",
    key: Callable[[str], bytes] = text_key,
    signed: Callable[[Delivery], Sequence[bytes]] = raw_body,
    sent_at: Callable[[Delivery], datetime] | None = None,
    tolerance: timedelta = TOLERANCE,
    retried: timedelta = timedelta(),
) -> Verify:
    """HMAC-SHA256 under one of the secrets, in one of the headers.

    `signed` gives the signed bytes, several where the vendor's words can be read in several ways.
    `sent_at` reads the time that is signed: it may be off by `tolerance` to either side, and older
    by `retried` of vendors that repeat a delivery as it was.
    """

    def verify(delivery: Delivery, proof: VerificationKeys) -> None:
        given = [delivery.headers[name] for name in headers if name in delivery.headers]
        if not given:
            raise SignatureError("the delivery is not signed")
        keys = [key(secret) for secret in proof.secrets]
        check_hmac(given, signed(delivery), keys, encoding=encoding, prefix=prefix)
        if sent_at is not None:
            _check_time(delivery, sent_at(delivery), tolerance, retried)

    return verify


def per_watch(verify: Verify) -> VerifyEvent:
    """The same scheme where each watch has a secret of its own."""

    def verify_event(delivery: Delivery, event: Event, secret: str) -> None:
        verify(delivery, VerificationKeys(secrets=(secret,)))

    return verify_event


def echoed_token(delivery: Delivery, event: Event, secret: str) -> None:
    """The event repeats its watch's secret: Graph calls it `clientState`, Zoho `token`."""
    _check_echo(event.token, secret)


def channel_secret(token: str, resource_id: str) -> str:
    """What is kept as the secret of a Google channel, once Google has named its resource."""
    return f"{token} {resource_id}"


def google_channel(delivery: Delivery, event: Event, secret: str) -> None:
    """Google repeats the channel's token, its id and the id of what it watches.

    The secret is the token alone until the resource is known (see `channel_secret`): the first
    notice may come before the answer that names it.
    """
    token = _header(delivery, "x-goog-channel-token")
    if " " in secret:
        token = channel_secret(token, _header(delivery, "x-goog-resource-id"))
    _check_echo(token, secret)
    _check_echo(_header(delivery, "x-goog-channel-id"), event.watch_id)


def _slack_base(delivery: Delivery) -> tuple[bytes, ...]:
    sent = _bytes(_header(delivery, "x-slack-request-timestamp"))
    return (b"v0:%b:%b" % (sent, delivery.body),)


slack_signature: Verify = hmac_signature(
    "x-slack-signature",
    prefix="v0=",
    signed=_slack_base,
    sent_at=epoch_header("x-slack-request-timestamp"),
)


def _hubspot_source(delivery: Delivery) -> tuple[bytes, ...]:
    """HubSpot's pages ask to decode some characters of the URI first, its SDKs hash it as it is
    (2026-11): either is taken."""
    sent = _header(delivery, "x-hubspot-request-timestamp")
    decoded = _HUBSPOT_DECODED.sub(lambda match: unquote(match[0]), delivery.url)
    return tuple(
        _bytes(delivery.method + uri) + delivery.body + _bytes(sent)
        for uri in dict.fromkeys((delivery.url, decoded))
    )


# The older signatures that HubSpot sends beside this one are not taken even where it is missing:
# they have no time, and whoever replays a delivery could leave this one out.
hubspot_signature: Verify = hmac_signature(
    "x-hubspot-signature-v3",
    encoding="base64",
    signed=_hubspot_source,
    sent_at=epoch_header("x-hubspot-request-timestamp", MILLISECOND),
)


def _linear_time(delivery: Delivery) -> datetime:
    """The body's, which is signed; only where it has none, the header's, which is not."""
    try:
        body = delivery.json
    except ValueError:
        raise SignatureError("the delivery is no JSON") from None
    timestamp = body.get("webhookTimestamp") if isinstance(body, dict) else None
    return _epoch(
        _header(delivery, "linear-timestamp") if timestamp is None else str(timestamp), MILLISECOND
    )


# Linear tries again after a minute, an hour and six hours. Its SDK allows 60 s; whether a repeated
# delivery has a new time is not documented, and those who saw one say that it has not (2026-11).
linear_signature: Verify = hmac_signature(
    "linear-signature",
    sent_at=_linear_time,
    tolerance=timedelta(seconds=60),
    retried=timedelta(hours=8),
)


def _box_source(delivery: Delivery) -> tuple[bytes, ...]:
    return (delivery.body + _bytes(_header(delivery, "box-delivery-timestamp")),)


def _box_time(delivery: Delivery) -> datetime:
    try:
        return parse_time(_header(delivery, "box-delivery-timestamp"))
    except ValueError:
        raise SignatureError("the delivery's time is none") from None


_box_digest = hmac_signature(
    "box-signature-primary",
    "box-signature-secondary",
    encoding="base64",
    signed=_box_source,
    sent_at=_box_time,
    tolerance=timedelta(minutes=10),
)


def box_signature(delivery: Delivery, proof: VerificationKeys) -> None:
    """Box signs under two keys, so that one can be changed: either signature will do."""
    version = delivery.headers.get("box-signature-version")
    algorithm = delivery.headers.get("box-signature-algorithm")
    if (version, algorithm) != ("1", "HmacSHA256"):
        raise SignatureError("the delivery is signed in a way that is not known")
    _box_digest(delivery, proof)


def stripe_signature(delivery: Delivery, proof: VerificationKeys) -> None:
    """Stripe's header holds the time and, while a secret rotates, several signatures; those of
    another scheme than v1 prove nothing."""
    parts = [part.partition("=") for part in _header(delivery, "stripe-signature").split(",")]
    times = [value for name, _, value in parts if name == "t"]
    if len(times) != 1 or not all(name and value for name, _, value in parts):
        raise SignatureError("the signature is written in a way that is not known")
    given = [value for name, _, value in parts if name == "v1"]
    signed = b"%b.%b" % (_bytes(times[0]), delivery.body)
    check_hmac(given, (signed,), [text_key(secret) for secret in proof.secrets])
    _check_time(delivery, _epoch(times[0], SECOND), TOLERANCE)


def _check_time(
    delivery: Delivery, sent_at: datetime, tolerance: timedelta, retried: timedelta = timedelta()
) -> None:
    if not -tolerance <= delivery.received_at - sent_at <= tolerance + retried:
        raise SignatureError("the delivery's time is too far from now")


def _check_echo(echo: str, secret: str) -> None:
    if not secret.strip() or not _same(echo, secret):
        raise SignatureError("the delivery does not know its watch's secret")


def _header(delivery: Delivery, name: str) -> str:
    try:
        return delivery.headers[name]
    except KeyError:
        raise SignatureError(f"the delivery has no {name}") from None


def _epoch(digits: str, unit: timedelta) -> datetime:
    try:
        if _DIGITS.fullmatch(digits):
            return EPOCH + int(digits) * unit
    except OverflowError:
        pass  # more than the calendar has
    raise SignatureError("the delivery's time is none")


def _written(digest: bytes, encoding: Encoding) -> str:
    return digest.hex() if encoding == "hex" else base64.b64encode(digest).decode()


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    """Different bytes of different texts, whatever they hold: compare_digest of str wants ASCII."""
    return text.encode("utf-8", "surrogatepass")
