"""OpenAI: nothing is synced. Tenants bring a key of their own, which is verified and kept.

https://platform.openai.com/docs/api-reference/models/list
"""

import re

from connectors import ApiKey, Calls, Connector, Doubt, Request, SyncType, Verdict, ask

REFUSED = "invalid_api_key"
MESSAGE_LENGTH = 200
DOUBTS: dict[int, Doubt] = {401: "not_allowed", 403: "not_allowed", 429: "limited"}
# Messages quote the key that was sent, most of it starred out.
KEY_IN_TEXT = re.compile(r"\S*(?:sk-|\*{3})\S*")


def verify() -> Calls[Verdict]:
    """Listing models bills nothing. Only one error code proves that a key is wrong.

    A 401 also comes for a key outside its organisation or its allowed addresses, a 403 for a key
    that may not list models, a 429 for a key without credit: each of them may be a good key.
    """
    response = yield from ask(Request.get("/models", expect=tuple(range(400, 600))))
    if response.status < 400:
        return Verdict(True, "OpenAI accepts this key")
    error = response.json.get("error") if isinstance(response.json, dict) else None
    error = error if isinstance(error, dict) else {}
    if response.status == 401 and error.get("code") == REFUSED:
        return Verdict(False, "OpenAI does not know this key: it is mistyped, or was revoked")
    message = _shown(error.get("message"))
    doubt = DOUBTS.get(response.status, "unclear" if response.status < 500 else "no_answer")
    reason = f"OpenAI answered {response.status}" + (f": {message}" if message else "")
    return Verdict(None, f"the key could not be verified ({reason})", doubt)


def _shown(message: object) -> str:
    text = KEY_IN_TEXT.sub("…", message) if isinstance(message, str) else ""
    text = " ".join(text.split())
    return text if len(text) <= MESSAGE_LENGTH else f"{text[:MESSAGE_LENGTH]}…"


connector = Connector(
    name="openai",
    title="OpenAI",
    category="AI",
    sync_type=SyncType.NONE,
    base_url="https://api.openai.com/v1",
    auth=ApiKey(
        setting="OPENAI_API_KEY",
        verify=verify,
        hint="platform.openai.com/api-keys",
    ),
    referees=("openai",),
    streams=(),
    rate_limits=(),
)
