"""The vendors' own libraries prove what the sandbox delivers."""

import json
from typing import Any

import pytest
from google.auth.transport.requests import Request
from google.oauth2 import id_token
from hubspot.utils.signature import Signature
from quickbooks import QuickBooks

from tests._delivered import Place, sandboxed
from tests._receiver import Received

pytestmark = pytest.mark.referee


def delivered(place: Place, account: str, stream: str) -> tuple[Received, Received]:
    """A delivery of somebody who does not know the secret, and one of the vendor's."""
    place.order(forge=1)
    for _ in range(2):
        place.change(account, stream, "add")
        place.standing(idle=True)
        place.advance(2)
    forged, genuine = place.receiver.calls
    return forged, genuine


def test_hubspots_sdk_proves_both_signatures_of_a_delivery() -> None:
    with sandboxed("hubspot") as place:
        secret = place.point()["secret"]
        account = place.connect()

        def proves(call: Received, version: str) -> bool:
            suffix = "-v3" if version == "v3" else ""
            proven: bool = Signature.is_valid(
                call.headers[f"x-hubspot-signature{suffix}"],
                secret,
                call.body.decode(),
                place.receiver.url,
                "POST",
                version,
                call.headers["x-hubspot-request-timestamp"],
            )
            return proven

        forged, genuine = delivered(place, account, "contacts")
        for version in ("v1", "v3"):
            assert proves(genuine, version)
            assert not proves(forged, version)


@pytest.mark.parametrize("version", ["v1", "v3"])
def test_googles_library_proves_the_token_of_a_push(version: str) -> None:
    with sandboxed("gmail") as place:
        place.point(audience="our-app")
        account = place.connect()
        described = place.client.get("/_control").json()["gmail"]
        body = {"topicName": described["topic_name"]}
        place.call(account, "POST", "/gmail.googleapis.com/gmail/v1/users/me/watch", body)
        certs = str(place.client.base_url.join(f"/www.googleapis.com/oauth2/{version}/certs"))

        def claims(call: Received, audience: str = "our-app") -> Any:
            token = call.headers["authorization"].removeprefix("Bearer ")
            return id_token.verify_token(  # type: ignore[no-untyped-call, unused-ignore]
                token, Request(), audience, certs_url=certs, clock_skew_in_seconds=10
            )

        forged, genuine = delivered(place, account, "messages")
        assert claims(genuine)["email"] == described["push_account"]
        # The signature is refused by google-auth itself, or by the PyJWT that it calls.
        for call, audience in ((forged, "our-app"), (genuine, "another")):
            with pytest.raises(Exception, match=r"(?i)signature|audience"):
                claims(call, audience)


@pytest.mark.parametrize("legacy", [False, True])
def test_the_quickbooks_client_proves_a_delivery(legacy: bool) -> None:
    with sandboxed("quickbooks") as place:
        token = place.point(legacy=legacy)["secret"]
        account = place.connect()
        client = QuickBooks(minorversion=75)

        def proves(call: Received) -> bool:
            proven: bool = client.validate_webhook_signature(
                call.body.decode(), call.headers["intuit-signature"], token
            )
            return proven

        forged, genuine = delivered(place, account, "customers")
        assert json.loads(genuine.body)
        assert proves(genuine)
        assert not proves(forged)
