"""A mark for each app: its initials on a colour that its name decides. Ours, and no trademark."""

import re
from dataclasses import dataclass
from zlib import crc32

# As many as `style.css` has: `.m0` …
HUES = 10
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Mark:
    initials: str
    hue: int


def mark(name: str, title: str) -> Mark:
    """HubSpot is HS, Google Calendar is GC, and Slack is S."""
    words = _WORD.findall(title.partition(".")[0])
    letters = [word[0] for word in words]
    if len(words) == 1:
        letters += [letter for letter in words[0][1:] if letter.isupper()]
    initials = "".join(letters[:2]).upper() or "?"
    return Mark(initials, crc32(name.encode()) % HUES)
