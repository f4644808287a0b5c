"""How our pages look: the style with the operator's colour, and what their policy lets through."""

from base64 import b64encode
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from settings import Settings
from settings.appearance import BLACK, WHITE, logo_source, towards

FOLDER = Path(__file__).parent / "templates"
STYLE = (FOLDER / "style.css").read_text(encoding="utf-8")
SCRIPT = (FOLDER / "search.js").read_text(encoding="utf-8")
# A new name with each version, so that browsers may keep it for ever.
SCRIPT_PATH = f"/pages/search-{sha256(SCRIPT.encode()).hexdigest()[:12]}.js"
# The grounds on which links are read: the page's in the light, a card's in the dark.
LIGHT, DARK = "#f6f7f9", "#181d26"

HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


@dataclass(frozen=True)
class Look:
    """What the operator's settings make of our pages; `script` is where their only script is."""

    name: str
    logo: str
    style: str
    policy: str
    script: str = SCRIPT_PATH

    @classmethod
    def of(cls, settings: Settings) -> "Look":
        style = STYLE + _accents(settings.connect_colour)
        digest = b64encode(sha256(style.encode()).digest()).decode()
        logo = settings.connect_logo_url or ""
        # By its whole address: no other answer of ours is to be taken for a script.
        script = f"{settings.nextauth_url}{SCRIPT_PATH}" if settings.nextauth_url else "'none'"
        image = f"img-src {logo_source(logo)}; " if logo else ""
        policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; script-src {script}; {image}"
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        return cls(settings.connect_app_name or "", logo, style, policy)

    @property
    def headers(self) -> dict[str, str]:
        return HEADERS | {"content-security-policy": self.policy}


def _accents(colour: str) -> str:
    """The operator's colour: as it is under white text, and as text where it can be read."""
    light, dark = towards(colour, BLACK, LIGHT), towards(colour, WHITE, DARK, 6.5)
    return (
        f":root {{ --accent: {colour}; --link: {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ --link: {dark} }} }}\n"
    )
