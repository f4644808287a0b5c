"""Members and channels of a made-up workspace, as the API shows them."""

from collections.abc import Sequence
from random import Random

from sandbox.kernel.data import JOBS, TOPICS, person, plain, sentence
from sandbox.kernel.values import Json

BOT = "U0ATOMBOT1"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def new_id(prefix: str, random: Random) -> str:
    return prefix + "0" + "".join(random.choices(ALPHABET, k=9))


def user(teams: Sequence[str], random: Random, updated: int) -> Json:
    first, last = person(random)
    name = plain(f"{first}{last}")
    return {
        "id": new_id("U", random),
        "team_id": random.choice(teams),
        "name": name,
        "deleted": False,
        "real_name": f"{first} {last}",
        "tz": "Europe/Amsterdam",
        "tz_offset": 3600,
        "profile": {
            "real_name": f"{first} {last}",
            "display_name": name,
            "title": random.choice(JOBS),
            "team": teams[0],
        },
        "is_admin": random.random() < 0.1,
        "is_bot": False,
        "is_restricted": False,
        "updated": updated,
    }


def slackbot(teams: Sequence[str]) -> Json:
    """Always there, and never updated."""
    names = {"real_name": "Slackbot", "display_name": "Slackbot", "title": "", "team": "T"}
    return {
        "id": "USLACKBOT", "team_id": teams[0], "name": "slackbot", "deleted": False,
        "real_name": "Slackbot", "tz": "America/Los_Angeles", "tz_offset": -28_800,
        "profile": names, "is_admin": False, "is_bot": False, "is_restricted": False, "updated": 0,
    }  # fmt: skip


def channel(teams: Sequence[str], random: Random, created: float, *, is_member: bool) -> Json:
    def about(text: str) -> Json:
        return {"value": text, "creator": BOT, "last_set": int(created)}

    name = f"{random.choice(TOPICS).replace(' ', '-')}-{random.randint(1, 10**6)}"
    return {
        "id": new_id("C", random),
        "name": name,
        "is_channel": True,
        "is_private": False,
        "is_archived": False,
        "is_general": False,
        "is_shared": False,
        "is_ext_shared": False,
        "is_member": is_member,
        "created": int(created),
        # In milliseconds, where users' are in seconds.
        "updated": int(created * 1000),
        "creator": BOT,
        "context_team_id": random.choice(teams),
        "name_normalized": name,
        "topic": about(sentence(random)),
        "purpose": about(sentence(random)),
        "previous_names": [],
        "num_members": 1,
    }
