"""JSON Web Tokens (RS256), signed with keys that live as long as the process.

A key has a name here, and a `kid` that is made from it: who keeps a published key longer than
the sandbox runs never takes another one for it.
"""

import base64
import hashlib
import json
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from sandbox.kernel.values import Json

# A certificate is for whoever reads keys in that form; its own times say nothing.
CERTIFIED_FROM, CERTIFIED_TO = datetime(2020, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)


def sign(name: str, claims: Json, *, kid: str = "") -> str:
    """A token signed with the key of that name; `kid` is for one that lies about its key."""
    head = {"alg": "RS256", "kid": kid or key_id(name), "typ": "JWT"}
    signed = f"{packed(head)}.{packed(claims)}"
    signature = _key(name).sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    return f"{signed}.{unpadded(signature)}"


@cache
def key_id(name: str) -> str:
    number = _key(name).public_key().public_numbers().n
    return hashlib.sha256(_bytes(number)).hexdigest()[:40]


def jwk(name: str) -> Json:
    """The public key as a member of a JWK set."""
    numbers = _key(name).public_key().public_numbers()
    shown = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": key_id(name)}
    return {**shown, "n": unpadded(_bytes(numbers.n)), "e": unpadded(_bytes(numbers.e))}


@cache
def certificate(name: str) -> str:
    """The public key as a PEM certificate, signed by itself."""
    key = _key(name)
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name}.sandbox.example")])
    built = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(CERTIFIED_FROM)
        .not_valid_after(CERTIFIED_TO)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(Encoding.PEM).decode()


def packed(value: Json) -> str:
    """JSON as a part of a token."""
    return unpadded(json.dumps(value, separators=(",", ":")).encode())


def unpadded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@cache
def _key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65_537, 2048)


def _bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")
