"""Deliveries that bring a signed token: Google's push, Graph's notices with data, Jira, monday."""

import base64
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import example, given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

from connectors import Delivery, SignatureError, UnknownKeyError, VerificationKeys
from connectors.kernel.jwts import claims_in, google_push_token, graph_tokens, hs256_token

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
SECONDS = int(NOW.timestamp())
ADDRESS = "https://atom.test/api/webhooks/gmail"
KEY = RSAKey.generate_key(2048, {"kid": "key-1", "use": "sig", "alg": "RS256"})
NEXT_KEY = RSAKey.generate_key(2048, {"kid": "key-2", "use": "sig"})
STRANGER = RSAKey.generate_key(2048, {"kid": "key-1"})
# As vendors publish them: with more than is needed, and with keys of other kinds.
PUBLISHED = {
    "keys": [
        {"kty": "EC", "kid": "key-1", "crv": "P-256", "x": "…", "y": "…"},
        {**KEY.as_dict(private=False), "x5t": "key-1", "issuer": "https://vendor.test/{tenantid}"},
        NEXT_KEY.as_dict(private=False),
    ]
}
SECRET = "canary-client-secret-of-an-app"


def delivery(token: str = "", body: bytes = b"{}", **headers: str) -> Delivery:
    bearer = {"authorization": f"Bearer {token}"} if token else {}
    return Delivery(
        method="POST",
        url=ADDRESS,
        headers=bearer | headers,
        query={},
        body=body,
        received_at=NOW,
    )


def signed(claims: dict[str, Any], key: RSAKey = KEY, **header: Any) -> str:
    """A token of the vendor; claims and headers given as None stay away."""
    kept = {name: value for name, value in claims.items() if value is not None}
    head = {"alg": "RS256", "typ": "JWT", "kid": key.kid} | header
    head = {name: value for name, value in head.items() if value is not None}
    return jwt.encode(head, kept, key, algorithms=[head["alg"]])


def text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def part(value: Any) -> str:
    return text(json.dumps(value).encode())


def under(secret: bytes, head: dict[str, Any], claims: dict[str, Any]) -> str:
    """A token signed without joserfc, which has its doubts about some secrets."""
    signing = f"{part(head)}.{part(claims)}"
    return f"{signing}.{text(hmac.digest(secret, signing.encode(), 'sha256'))}"


# Google Pub/Sub

google = google_push_token(account="PUSH_ACCOUNT", audience="PUSH_AUDIENCE")
GOOGLE: dict[str, Any] = {
    "aud": "https://atom.test/pushes",
    "azp": "113774264463038321964",
    "email": "push@atom.iam.gserviceaccount.com",
    "email_verified": True,
    "exp": SECONDS + 3600,
    "iat": SECONDS,
    "iss": "https://accounts.google.com",
    "sub": "113774264463038321964",
}
GOOGLE_PROOF = VerificationKeys(
    keys=PUBLISHED, variables={"PUSH_ACCOUNT": GOOGLE["email"], "PUSH_AUDIENCE": GOOGLE["aud"]}
)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"iss": "accounts.google.com"},
        {"exp": SECONDS - 59},
        {"iat": SECONDS + 59},
        {"iat": None},
        {"aud": [GOOGLE["aud"]]},
    ],
)
def test_a_push_of_our_service_account_is_proven(changed: dict[str, Any]) -> None:
    google(delivery(signed(GOOGLE | changed)), GOOGLE_PROOF)
    google(delivery(signed(GOOGLE | changed, NEXT_KEY)), GOOGLE_PROOF)


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": "https://other.test/pushes"},
        {"aud": GOOGLE["aud"] + "/"},
        {"aud": None},
        {"aud": ""},
        {"aud": 7},
        {"iss": "https://accounts.google.com.evil.test"},
        {"iss": None},
        {"email": "push@evil.iam.gserviceaccount.com"},
        {"email": None},
        {"email": ""},
        {"email_verified": False},
        {"email_verified": "true"},
        {"email_verified": None},
        {"exp": SECONDS - 61},
        {"exp": None},
        {"exp": "later"},
        {"exp": True},
        {"iat": SECONDS + 61},
        {"nbf": SECONDS + 61},
    ],
)
def test_a_push_for_someone_else_or_another_time_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(SignatureError) as refusal:
        google(delivery(signed(GOOGLE | changed)), GOOGLE_PROOF)
    assert "push" not in str(refusal.value)


def test_without_an_audience_google_signs_for_our_address() -> None:
    proof = replace(GOOGLE_PROOF, variables={"PUSH_ACCOUNT": GOOGLE["email"]})
    google(delivery(signed(GOOGLE | {"aud": ADDRESS})), proof)
    with pytest.raises(SignatureError):
        google(delivery(signed(GOOGLE)), proof)


@pytest.mark.parametrize("account", ["", " "])
@pytest.mark.parametrize("email", ["", " ", None, GOOGLE["email"]])
def test_while_the_service_account_is_not_set_nothing_is_proven(account: str, email: Any) -> None:
    proof = replace(GOOGLE_PROOF, variables=dict(GOOGLE_PROOF.variables, PUSH_ACCOUNT=account))
    with pytest.raises(SignatureError, match="not set"):
        google(delivery(signed(GOOGLE | {"email": email})), proof)


def test_a_token_without_a_signature_is_refused() -> None:
    header = {"alg": "none", "typ": "JWT", "kid": "key-1"}
    for token in (
        f"{part(header)}.{part(GOOGLE)}.",
        f"{part(header)}.{part(GOOGLE)}",
        f"{part(header)}.{part(GOOGLE)}.{part('')}",
        signed(GOOGLE).rpartition(".")[0] + ".",
    ):
        with pytest.raises(SignatureError):
            google(delivery(token), GOOGLE_PROOF)


def public_forms() -> list[bytes]:
    raw = KEY.public_key
    pem = raw.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return [pem, pem.strip(), raw.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)]


@pytest.mark.parametrize("public", public_forms())
def test_a_token_whose_secret_is_the_public_key_is_refused(public: bytes) -> None:
    token = under(public, {"alg": "HS256", "typ": "JWT", "kid": "key-1"}, GOOGLE)
    with pytest.raises(SignatureError):
        google(delivery(token), GOOGLE_PROOF)


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256"])
def test_a_token_signed_in_another_way_is_refused(algorithm: str) -> None:
    key = RSAKey.import_key({**KEY.as_dict(private=True), "alg": algorithm})
    with pytest.raises(SignatureError):
        google(delivery(signed(GOOGLE, key, alg=algorithm)), GOOGLE_PROOF)


def test_a_token_of_a_stranger_is_refused() -> None:
    with pytest.raises(SignatureError) as refusal:
        google(delivery(signed(GOOGLE, STRANGER)), GOOGLE_PROOF)
    assert not isinstance(refusal.value, UnknownKeyError)


@pytest.mark.parametrize("keys", [PUBLISHED, {"keys": []}, {}])
def test_a_key_that_is_not_published_is_told_from_a_wrong_signature(keys: dict[str, Any]) -> None:
    """The vendor may have changed its keys since they were read."""
    token = signed(GOOGLE, RSAKey.import_key({**KEY.as_dict(private=True), "kid": "key-3"}))
    with pytest.raises(UnknownKeyError):
        google(delivery(token), replace(GOOGLE_PROOF, keys=keys))


@pytest.mark.parametrize("keys", [PUBLISHED, {"keys": [KEY.as_dict(private=False)]}])
def test_a_token_that_names_no_key_is_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        google(delivery(signed(GOOGLE, kid=None)), replace(GOOGLE_PROOF, keys=keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"keys": [{"kid": "key-1", "kty": "RSA"}]},
        {"keys": [{"kid": "key-1", "kty": "RSA", "n": "!", "e": []}]},
        {"keys": ["key-1", None]},
        {"keys": None},
        {"keys": {"kid": "key-1"}},
    ],
)
def test_a_key_set_that_is_none_proves_nothing(keys: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        google(delivery(signed(GOOGLE)), replace(GOOGLE_PROOF, keys=keys))


def test_a_token_with_a_key_of_its_own_is_refused() -> None:
    own = STRANGER.as_dict(private=False)
    for header in ({"jwk": own}, {"jku": "https://evil.test/keys"}, {"x5u": "https://evil.test/"}):
        with pytest.raises(SignatureError):
            google(delivery(signed(GOOGLE, STRANGER, **header)), GOOGLE_PROOF)


def by_hand(head: dict[str, Any], claims: str = part(GOOGLE)) -> str:
    signing = f"{part({'alg': 'RS256', 'kid': 'key-1', **head})}.{claims}"
    assert KEY.private_key is not None
    return f"{signing}.{text(KEY.private_key.sign(signing.encode(), PKCS1v15(), SHA256()))}"


@pytest.mark.parametrize("claims", ["[" * 9_000, '"text"', "null", "[]", "no json", ""])
def test_a_token_without_claims_is_refused_though_it_is_signed(claims: str) -> None:
    with pytest.raises(SignatureError):
        google(delivery(by_hand({}, text(claims.encode()))), GOOGLE_PROOF)


def test_a_token_with_a_part_that_must_be_understood_is_refused() -> None:
    google(delivery(by_hand({})), GOOGLE_PROOF)
    google(delivery(by_hand({"new": True})), GOOGLE_PROOF)
    with pytest.raises(SignatureError):
        google(delivery(by_hand({"new": True, "crit": ["new"]})), GOOGLE_PROOF)


def mutated(token: str) -> list[str]:
    """One byte more, less or other."""
    places = range(0, len(token), 3)
    less = [token[:place] + token[place + 1 :] for place in places]
    more = [token[:place] + byte + token[place:] for place in places for byte in ("A", "=", " ")]
    other = [
        token[:place] + chr(ord(token[place]) ^ 1) + token[place + 1 :]
        for place in (*places, len(token) - 1)
    ]
    return [*less, *more, *other, token + "=", token + "A", token + "\n", token[:-1]]


def test_a_byte_more_less_or_other_in_a_token_refuses() -> None:
    for token in mutated(signed(GOOGLE)):
        with pytest.raises(SignatureError):
            google(delivery(token), GOOGLE_PROOF)
    for token in mutated(shared(JIRA)):
        with pytest.raises(SignatureError):
            hs256_token(delivery(token), VerificationKeys(secrets=(SECRET,)))


# Microsoft Graph

graph = graph_tokens(app="MICROSOFT_CLIENT_ID")
APP = "8e460676-ae3f-4b1e-8790-ee0fb5d6148f"
DIRECTORY = "84bd8158-6d4d-4958-8b9f-9d6445542f95"
OTHER_DIRECTORY = "11111111-2222-3333-4444-555555555555"
PUBLISHER = "0bf30f3b-4a52-48df-9a82-234910c4a086"
GRAPH_PROOF = VerificationKeys(keys=PUBLISHED, variables={"MICROSOFT_CLIENT_ID": APP})


def graph_claims(directory: str = DIRECTORY, **changed: Any) -> dict[str, Any]:
    return {
        "aud": APP,
        "iss": f"https://sts.windows.net/{directory}/",
        "iat": SECONDS - 10,
        "nbf": SECONDS - 10,
        "exp": SECONDS + 29_000,
        "appid": PUBLISHER,
        "appidacr": "2",
        "tid": directory,
        "ver": "1.0",
        **changed,
    }


def version_2(directory: str = DIRECTORY, **changed: Any) -> dict[str, Any]:
    issuer = f"https://login.microsoftonline.com/{directory}/v2.0"
    claims = graph_claims(directory, iss=issuer, azp=PUBLISHER, appid=None, ver="2.0")
    return claims | changed


def notice(*tokens: Any, told_of: tuple[Any, ...] = (DIRECTORY,)) -> Delivery:
    value = [{"subscriptionId": "s-1", "tenantId": directory} for directory in told_of]
    body = {"value": value, "validationTokens": list(tokens)}
    return delivery(body=json.dumps(body).encode())


@pytest.mark.parametrize("claims", [graph_claims(), version_2()])
def test_a_notice_with_a_token_of_graph_is_proven(claims: dict[str, Any]) -> None:
    graph(notice(signed(claims)), GRAPH_PROOF)


def test_a_notice_may_be_about_several_directories() -> None:
    tokens = (signed(graph_claims()), signed(version_2(OTHER_DIRECTORY)))
    graph(notice(*tokens, told_of=(DIRECTORY, OTHER_DIRECTORY, None)), GRAPH_PROOF)
    with pytest.raises(SignatureError):
        graph(notice(tokens[0], told_of=(DIRECTORY, OTHER_DIRECTORY)), GRAPH_PROOF)


@pytest.mark.parametrize("claims", [graph_claims, version_2])
@pytest.mark.parametrize(
    "changed",
    [
        {"aud": OTHER_DIRECTORY},
        {"aud": None},
        {"tid": OTHER_DIRECTORY},
        {"tid": None},
        {"iss": f"https://sts.windows.net/{OTHER_DIRECTORY}/"},
        {"iss": "https://evil.test/"},
        {"iss": None},
        {"appid": OTHER_DIRECTORY},
        {"azp": OTHER_DIRECTORY},
        {"appid": None, "azp": None},
        {"exp": SECONDS - 61},
        {"exp": None},
        {"nbf": SECONDS + 61},
    ],
)
def test_a_token_of_graph_for_someone_else_is_refused(
    claims: Callable[..., dict[str, Any]], changed: dict[str, Any]
) -> None:
    with pytest.raises(SignatureError):
        graph(notice(signed(claims(**changed))), GRAPH_PROOF)


def test_a_token_of_no_directory_is_none() -> None:
    claims = graph_claims("None", tid=None)
    with pytest.raises(SignatureError):
        graph(notice(signed(claims), told_of=()), GRAPH_PROOF)


def test_one_bad_token_spoils_the_notice() -> None:
    for bad in (signed(graph_claims(), STRANGER), "a.b.c", "", None, 7, {"token": True}):
        with pytest.raises(SignatureError):
            graph(notice(signed(graph_claims()), bad), GRAPH_PROOF)
        with pytest.raises(SignatureError):
            graph(notice(bad, signed(graph_claims())), GRAPH_PROOF)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"null", b"[]", b"7", b"no json", b"\xff", b"[" * 100_000),
        *(b'{"value":[]}', b'{"value":[],"validationTokens":[]}', b'{"validationTokens":{}}'),
        *(b'{"value":7,"validationTokens":[]}', b'{"value":["x"],"validationTokens":[]}'),
        b'{"value":[{"tenantId":{}}],"validationTokens":[]}',
    ],
)
def test_a_notice_without_tokens_is_refused(body: bytes) -> None:
    with pytest.raises(SignatureError):
        graph(delivery(body=body), GRAPH_PROOF)


@pytest.mark.parametrize("app", ["", " "])
def test_while_our_app_has_no_id_no_token_is_for_it(app: str) -> None:
    proof = replace(GRAPH_PROOF, variables={"MICROSOFT_CLIENT_ID": app})
    with pytest.raises(SignatureError, match="not set"):
        graph(notice(signed(graph_claims(aud=app))), proof)


# Jira and monday

JIRA: dict[str, Any] = {"iss": "jira", "iat": SECONDS, "exp": SECONDS + 180}
MONDAY: dict[str, Any] = {
    "accountId": 1_825_529,
    "userId": 4_012_689,
    "aud": ADDRESS,
    "exp": SECONDS + 300,
    "iat": SECONDS,
}


def shared(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    kept = {name: value for name, value in claims.items() if value is not None}
    key = OctKey.import_key(secret)
    return jwt.encode({"alg": algorithm, "typ": "JWT"}, kept, key, algorithms=[algorithm])


@pytest.mark.parametrize("claims", [JIRA, MONDAY])
def test_a_token_under_the_apps_secret_is_proven(claims: dict[str, Any]) -> None:
    proof = VerificationKeys(secrets=(SECRET,))
    token = shared(claims)
    for authorization in (f"Bearer {token}", f"bearer {token}", token):
        hs256_token(delivery(authorization=authorization), proof)
    for authorization in (f"JWT {token}", f"Basic {token}", f" {token} ", f"Bearer {token} x"):
        with pytest.raises(SignatureError):
            hs256_token(delivery(authorization=authorization), proof)


@pytest.mark.parametrize(
    "token",
    ["", "a.b", "a.b.c", "a.é.c", "a..c", f"a.{part([1])}.c", f"a.{text(b'{')}.c", "a.b.c.d"],
)
def test_what_is_no_token_says_nothing(token: str) -> None:
    assert claims_in(shared(MONDAY)) == MONDAY
    with pytest.raises(ValueError, match=r"."):
        claims_in(token)


def test_both_secrets_are_good_while_one_is_changed() -> None:
    for secrets in ((SECRET, "another-secret-of-ours"), ("another-secret-of-ours", SECRET)):
        hs256_token(delivery(shared(JIRA)), VerificationKeys(secrets=secrets))
    with pytest.raises(SignatureError):
        hs256_token(delivery(shared(JIRA)), VerificationKeys(secrets=("another-secret-of-ours",)))


@pytest.mark.parametrize("secrets", [(), ("",), (" ",)])
def test_a_secret_that_is_not_set_proves_no_token(secrets: tuple[str, ...]) -> None:
    for secret in (b"", b" "):
        token = under(secret, {"alg": "HS256"}, JIRA)
        with pytest.raises(SignatureError):
            hs256_token(delivery(token), VerificationKeys(secrets=secrets))


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": SECONDS - 61},
        {"exp": None},
        {"exp": "never"},
        {"exp": []},
        {"iat": SECONDS + 61},
        {"nbf": SECONDS + 61},
    ],
)
def test_a_token_of_another_time_or_for_ever_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(SignatureError):
        hs256_token(delivery(shared(JIRA | changed)), VerificationKeys(secrets=(SECRET,)))


def test_an_old_delivery_is_refused_once_its_token_has_ended() -> None:
    later = replace(delivery(shared(JIRA)), received_at=NOW + timedelta(seconds=241))
    with pytest.raises(SignatureError):
        hs256_token(later, VerificationKeys(secrets=(SECRET,)))


def test_a_secret_that_is_a_public_key_proves_nothing() -> None:
    pem = public_forms()[0].decode()
    token = under(pem.encode(), {"alg": "HS256"}, JIRA)
    with pytest.raises(SignatureError):
        hs256_token(delivery(token), VerificationKeys(secrets=(pem,)))


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_secret_signs_in_one_way_only(algorithm: str) -> None:
    secret = SECRET * 4
    hs256_token(delivery(shared(JIRA, secret)), VerificationKeys(secrets=(secret,)))
    with pytest.raises(SignatureError):
        hs256_token(delivery(shared(JIRA, secret, algorithm)), VerificationKeys(secrets=(secret,)))


def test_a_delivery_without_a_token_is_refused() -> None:
    proof = replace(GOOGLE_PROOF, secrets=(SECRET,))
    for verify in (hs256_token, google):
        for authorization in ("", "Bearer", "Bearer ", "x"):
            with pytest.raises(SignatureError):
                verify(delivery(authorization=authorization), proof)
        with pytest.raises(SignatureError):
            verify(delivery(), proof)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)
HEADS = JSON | st.fixed_dictionaries(
    {},
    optional={
        "alg": st.sampled_from(["none", "HS256", "RS256", "ES256", ""]) | JSON,
        "kid": st.just("key-1") | JSON,
        "crit": st.just(["exp"]) | JSON,
        "b64": st.booleans() | JSON,
        "typ": JSON,
    },
)
NAMES = st.sampled_from(["exp", "iat", "nbf", "aud", "iss", "tid", "azp", "appid", "email"])
PARTS = st.one_of(HEADS.map(part), JSON.map(part), st.text(), st.just("W" * 4_000))


@given(st.lists(PARTS, min_size=1, max_size=5).map(".".join) | st.text())
@example("\ud800")
def test_whatever_comes_as_a_token_is_refused_and_raises_nothing_else(token: str) -> None:
    proof = replace(GOOGLE_PROOF, secrets=(SECRET,), variables=GOOGLE_PROOF.variables)
    for verify in (hs256_token, google):
        with pytest.raises(SignatureError) as refusal:
            verify(delivery(token), proof)
        assert refusal.value.__cause__ is None
    with pytest.raises(SignatureError):
        graph(notice(token), GRAPH_PROOF)


@settings(max_examples=50)
@given(st.dictionaries(NAMES, JSON))
def test_whatever_a_vendor_claims_raises_nothing_else(changed: dict[str, Any]) -> None:
    """Claims that are signed, and not what they should be."""
    with suppress(SignatureError):
        google(delivery(signed(GOOGLE | changed)), GOOGLE_PROOF)
    with suppress(SignatureError):
        graph(notice(signed(graph_claims() | changed)), GRAPH_PROOF)


@given(JSON)
def test_a_token_is_good_until_a_time_and_nothing_else_is_one(exp: Any) -> None:
    token = delivery(shared(JIRA | {"exp": exp}))
    number = isinstance(exp, int | float) and not isinstance(exp, bool)
    if number and SECONDS - 60 < exp < float("inf"):
        hs256_token(token, VerificationKeys(secrets=(SECRET,)))
    else:
        with pytest.raises(SignatureError):
            hs256_token(token, VerificationKeys(secrets=(SECRET,)))
