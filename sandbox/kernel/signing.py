"""How vendors sign what they send."""

import base64
import hmac


def hex_signature(secret: str, over: bytes) -> str:
    """HMAC-SHA256 of that, in hexadecimal digits."""
    return hmac.digest(secret.encode(), over, "sha256").hex()


def base64_signature(secret: str, over: bytes) -> str:
    """HMAC-SHA256 of that, in Base64."""
    return base64.b64encode(hmac.digest(secret.encode(), over, "sha256")).decode()
