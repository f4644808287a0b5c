"""How pages for people look: the operator's colour and logo, as they can be used safely.

Contrast is WCAG 2's: a ratio of relative luminances, of which text needs 4.5 to 1.
"""

import re

TEXT_CONTRAST = 4.5
WHITE, BLACK = "#ffffff", "#000000"
_COLOUR = re.compile(r"#[0-9a-f]{6}")
# What could end a directive of a content security policy has no place in it.
_LOGO = re.compile(r"(https://[a-z0-9.-]+(?::[0-9]{1,5})?/[\w.~!$&()*+=:@%/-]*)(\?[\w.~=&%+-]*)?")


def colour(value: str) -> str:
    """The colour, in lower case, where white text can be read on it; else a ValueError."""
    given = value.strip().lower()
    if not _COLOUR.fullmatch(given):
        raise ValueError("it should look like #2451c7")
    found = contrast(given, WHITE)
    if found < TEXT_CONTRAST:
        raise ValueError(
            f"white text on {given} has a contrast of {found:.1f} to 1, and needs {TEXT_CONTRAST}: "
            f"take a darker one, such as {towards(given, BLACK, WHITE)}"
        )
    return given


def logo(url: str) -> str:
    """The address, where a page can load a picture from it; else a ValueError."""
    if not _LOGO.fullmatch(url.strip()):
        raise ValueError("it should look like https://www.example.com/logo.svg")
    return url.strip()


def logo_source(url: str) -> str:
    """What a content security policy names, so that nothing but that picture is loaded."""
    found = _LOGO.fullmatch(url)
    return found[1] if found else "'none'"


def contrast(one: str, other: str) -> float:
    """From 1 to 21, of two colours like `#2451c7`."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def towards(given: str, end: str, ground: str, needed: float = TEXT_CONTRAST) -> str:
    """The colour nearest to the given one, on its way to `end`, with that contrast to a ground."""
    steps = (_mixed(given, end, step / 50) for step in range(51))
    return next((one for one in steps if contrast(one, ground) >= needed), end)


def _mixed(one: str, other: str, share: float) -> str:
    pairs = zip(_channels(one), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _luminance(given: str) -> float:
    red, green, blue = (_linear(channel / 255) for channel in _channels(given))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def _channels(given: str) -> tuple[int, int, int]:
    return int(given[1:3], 16), int(given[3:5], 16), int(given[5:7], 16)
