"""Deliveries that bring a signed token (JWT) as their proof.

Such a token says who sent it and until when it is good. It does not cover the body: what a body
tells is worth a look, not belief, unless each event also holds the secret of its watch.
"""

import base64
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, Key, OctKey, RSAKey
from joserfc.jws import JWSRegistry
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry

from connectors.kernel.body import parse_json
from connectors.kernel.errors import SignatureError, UnknownKeyError
from connectors.kernel.webhooks import Delivery, VerificationKeys, Verify

LEEWAY_SECONDS = 60  # clocks of two machines differ
# 112 bits (NIST SP 800-131A): who has one token could find a shorter secret by trying.
SHORTEST_SECRET = 14
GOOGLE_ISSUERS = ("https://accounts.google.com", "accounts.google.com")
# Microsoft Graph Change Tracking: the app that notices of Graph come from.
GRAPH_PUBLISHER = "0bf30f3b-4a52-48df-9a82-234910c4a086"
# What joserfc raises of texts that only look like tokens, beside its own errors (1.8).
_UNREADABLE = (JoseError, ValueError, TypeError, LookupError, AttributeError, RecursionError)


def hs256_token(delivery: Delivery, proof: VerificationKeys) -> None:
    """The Authorization header holds a token signed under one of the secrets: Jira's dynamic
    webhooks (the app's client secret) and monday, which leaves the word Bearer out.

    Jira does not say which claims it makes; one without an end would be good for ever, and is
    refused (2026-11).
    """
    token = bearer(delivery)
    for secret in proof.secrets:
        if len(secret.strip().encode()) < SHORTEST_SECRET:
            continue
        try:
            key = OctKey.import_key(secret)
            claims = jwt.decode(token, key, registry=_registry("HS256")).claims
        except _UNREADABLE:
            continue  # not signed under this secret, or no token at all
        _check(claims, delivery.received_at)
        return
    raise SignatureError("the token is not the vendor's")


def claims_in(token: str) -> dict[str, Any]:
    """What a token says, which nothing here proves; ValueError where it is none."""
    parts = token.split(".")
    if len(parts) != 3:
        raise ValueError("this is no signed token")
    claims = parse_json(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    if not isinstance(claims, dict):
        raise ValueError("a token holds an object")  # noqa: TRY004 - it is the token's fault
    return claims


def google_push_token(*, account: str, audience: str) -> Verify:
    """A push of Google Pub/Sub, made for `audience` by the service account `account`.

    Both name variables of the operator. While the audience is not set, it is our address, as it is
    at Google. While the account is not set nothing is proven: anyone can have Google sign a push to
    any address, by an account of their own.
    https://cloud.google.com/pubsub/docs/authenticate-push-subscriptions
    """

    def verify(delivery: Delivery, proof: VerificationKeys) -> None:
        email = proof.variables.get(account, "").strip()
        if not email:
            raise SignatureError("the service account that pushes is not set")
        claims = _rs256_claims(bearer(delivery), proof.keys)
        _check(
            claims,
            delivery.received_at,
            iss=_one_of(*GOOGLE_ISSUERS),
            aud=_one_of(proof.variables.get(audience, "").strip() or delivery.url),
            email=_one_of(email),
            email_verified={"essential": True, "value": True},
        )

    return verify


def graph_tokens(*, app: str) -> Verify:
    """The `validationTokens` of Graph notices that hold data: Microsoft's, for our app (`app` names
    the variable with its client id), one for each directory that the notices are about.

    Notices without data have none: `echoed_token` proves those. Microsoft's keys are published at
    https://login.microsoftonline.com/common/discovery/v2.0/keys.
    https://learn.microsoft.com/graph/change-notifications-with-resource-data
    """

    def verify(delivery: Delivery, proof: VerificationKeys) -> None:
        client_id = proof.variables.get(app, "").strip()
        if not client_id:
            raise SignatureError("the app's client id is not set")
        tokens, directories = _graph_body(delivery)
        proven = {
            _graph_directory(token, client_id, proof.keys, delivery.received_at) for token in tokens
        }
        if not tokens or not proven.issuperset(directories):
            raise SignatureError("the delivery has no token for what it tells")

    return verify


def _graph_body(delivery: Delivery) -> tuple[list[str], set[str]]:
    """The tokens, and the directories that the notices say they are about."""
    try:
        body = delivery.json
        tokens = [str(token) for token in body["validationTokens"]]
        directories = {notice.get("tenantId") for notice in body["value"]}
        return tokens, directories - {None}
    except (ValueError, TypeError, LookupError, AttributeError):
        raise SignatureError("the delivery has no tokens") from None


def _graph_directory(token: str, client_id: str, keys: Mapping[str, Any], now: datetime) -> str:
    claims = _rs256_claims(token, keys)
    directory = claims.get("tid")
    # Tokens of version 1.0 name their sender `appid`, those of version 2.0 `azp`.
    sender = [name for name in ("appid", "azp") if name in claims] or ["azp"]
    _check(
        claims,
        now,
        tid={"essential": True},
        iss=_one_of(
            f"https://sts.windows.net/{directory}/",
            f"https://login.microsoftonline.com/{directory}/v2.0",
        ),
        aud=_one_of(client_id),
        **dict.fromkeys(sender, _one_of(GRAPH_PUBLISHER)),
    )
    return str(directory)


def bearer(delivery: Delivery) -> str:
    """The token of the Authorization header, after the word Bearer or alone."""
    scheme, _, token = delivery.headers.get("authorization", "").rpartition(" ")
    if scheme.lower() not in ("", "bearer"):
        raise SignatureError("the delivery brings no token")
    return token


def _rs256_claims(token: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """The claims of a token that is signed with one of the keys (a JWK set), the one it names."""

    def named(signed: GuestProtocol) -> Key:
        return _key(signed.headers().get("kid"), keys)

    try:
        return jwt.decode(token, named, registry=_registry("RS256")).claims
    except _UNREADABLE:
        raise SignatureError("the token is not the vendor's") from None


def _key(kid: Any, keys: Mapping[str, Any]) -> RSAKey:
    for key in keys.get("keys", ()):
        if kid and key.get("kid") == kid and key.get("kty") == "RSA":
            return _public_key(key["n"], key["e"])
    raise UnknownKeyError("the token is signed with a key that its vendor has not published")


@lru_cache(maxsize=64)  # it costs as much as the signature it proves
def _public_key(modulus: str, exponent: str) -> RSAKey:
    return RSAKey.import_key({"kty": "RSA", "n": modulus, "e": exponent})


def _registry(algorithm: str) -> JWSRegistry:
    return JWSRegistry(algorithms=[algorithm], strict_check_header=False)


def _one_of(*values: str) -> ClaimsOption:
    return {"essential": True, "values": list(values)}


def _check(claims: Mapping[str, Any], now: datetime, **expected: ClaimsOption) -> None:
    """SignatureError unless the token is good now, and says what is expected."""
    registry = JWTClaimsRegistry(
        now=int(now.timestamp()), leeway=LEEWAY_SECONDS, exp={"essential": True}, **expected
    )
    try:
        registry.validate(dict(claims))
    except _UNREADABLE:
        raise SignatureError("the token is not for us, or not for now") from None
