"""What vendors that sign send with a body, by secrets that the operator has set."""

import base64
import hmac
import time
from hashlib import sha256

from joserfc import jwt
from joserfc.jwk import OctKey

from tests._delivering import HUBSPOT_SECRET, PUBLIC, VERIFIER, hubspot_headers

DROPBOX_SECRET = "canary-dropbox-app-secret"  # pragma: allowlist secret
GITHUB_SECRET = "canary-github-webhook-secret"  # pragma: allowlist secret
LINEAR_SECRET = "canary-linear-signing-secret"  # pragma: allowlist secret
MONDAY_SECRET = "canary-monday-signing-secret"  # pragma: allowlist secret
NOTION_SECRET = "canary-notion-verification-token"  # pragma: allowlist secret
SHOPIFY_SECRET = "canary-shopify-app-secret"  # pragma: allowlist secret
SLACK_SECRET = "canary-slack-signing-secret"  # pragma: allowlist secret
STRIPE_SECRET = "whsec_canary_of_connected_accounts"  # pragma: allowlist secret
XERO_SECRET = "canary-xero-webhooks-key"  # pragma: allowlist secret
SECRETS = {
    "dropbox_client_secret": DROPBOX_SECRET,
    "github_webhook_secret": GITHUB_SECRET,
    "hubspot_client_secret": HUBSPOT_SECRET,
    "linear_webhook_secret": LINEAR_SECRET,
    "monday_webhook_secret": MONDAY_SECRET,
    "notion_webhook_secret": NOTION_SECRET,
    "quickbooks_webhook_secret": VERIFIER,
    "shopify_api_secret": SHOPIFY_SECRET,
    "slack_signing_secret": SLACK_SECRET,
    "stripe_connect_webhook_secret": STRIPE_SECRET,
    "xero_webhook_secret": XERO_SECRET,
}
SIGNED = (
    "dropbox", "github", "hubspot", "linear", "notion", "quickbooks", "shopify", "slack", "stripe",
    "xero",
)  # fmt: skip


def digest(secret: str, message: bytes) -> bytes:
    return hmac.new(secret.encode(), message, sha256).digest()


def in_base64(secret: str, message: bytes) -> str:
    return base64.b64encode(digest(secret, message)).decode()


def monday_token(account: str, secret: str = MONDAY_SECRET) -> str:
    """What monday.com sends beside a body, which it does not cover."""
    now = int(time.time())
    claims = {"accountId": int(account), "userId": 1, "exp": now + 300, "iat": now}
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(secret))


def headers_for(integration: str, body: bytes, **more: str) -> dict[str, str]:
    """The headers of a delivery that the vendor itself might have sent."""
    now = str(int(time.time()))
    match integration:
        case "dropbox":
            headers = {"x-dropbox-signature": digest(DROPBOX_SECRET, body).hex()}
        case "github":
            headers = {
                "x-hub-signature-256": f"sha256={digest(GITHUB_SECRET, body).hex()}",
                "x-github-event": "issue_comment",
                "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
                "x-github-hook-id": "292430182",
                "x-github-hook-installation-target-type": "integration",
            }
        case "hubspot":
            url = f"{PUBLIC}/api/webhooks/hubspot"
            headers = hubspot_headers(body, url=url)
        case "linear":
            headers = {"linear-signature": digest(LINEAR_SECRET, body).hex()}
        case "notion":
            headers = {"x-notion-signature": f"sha256={digest(NOTION_SECRET, body).hex()}"}
        case "quickbooks":
            headers = {"intuit-signature": in_base64(VERIFIER, body)}
        case "shopify":
            headers = {
                "x-shopify-hmac-sha256": in_base64(SHOPIFY_SECRET, body),
                "x-shopify-topic": "orders/updated",
                "x-shopify-shop-domain": "acme.myshopify.com",
                "x-shopify-webhook-id": "b54557e4-8a5f-4f70-9bcd-043000000001",
            }
        case "slack":
            mac = digest(SLACK_SECRET, f"v0:{now}:".encode() + body).hex()
            headers = {"x-slack-request-timestamp": now, "x-slack-signature": f"v0={mac}"}
        case "stripe":
            mac = digest(STRIPE_SECRET, f"{now}.".encode() + body).hex()
            headers = {"stripe-signature": f"t={now},v1={mac}"}
        case "xero":
            headers = {"x-xero-signature": in_base64(XERO_SECRET, body)}
        case other:
            raise LookupError(f"{other} signs no body")
    return {"content-type": "application/json", **headers, **more}
