"""A made-up workspace: its people, its channels, and what they say."""

from random import Random

from sandbox.kernel.data import sentence
from sandbox.kernel.values import Seed
from sandbox.slack.rows import BOT, channel, new_id, slackbot, user
from sandbox.slack.store import Workspace, post_at, recount

DAY = 86_400


def new(seed: Seed) -> Workspace:
    """About `size` messages, half of them of the last days; the app is in all channels but one."""
    random, now = seed.random, seed.clock.time()
    is_org = seed.account_id.startswith("E")
    teams = [new_id("T", random) for _ in range(2)] if is_org else [seed.account_id]
    space = Workspace(seed.account_id, seed.name, seed.clock, seed.tell, teams)
    if not seed.size:
        return space
    space.users["USLACKBOT"] = slackbot(teams)
    for _ in range(min(seed.size, 40)):
        row = user(teams, random, int(now - random.uniform(DAY, 90 * DAY)))
        space.users[row["id"]] = row
    count = max(2, min(8, seed.size // 30))
    for number in range(count):
        row = channel(teams, random, now - 100 * DAY, is_member=number < 2 or number < count - 1)
        row["is_general"] = number == 0
        space.channels[row["id"]], space.talk[row["id"]] = row, {}
        people = random.sample(list(space.users), k=min(5, len(space.users)))
        space.members[row["id"]] = {*people, BOT} if row["is_member"] else set(people)
        row["num_members"] = len(space.members[row["id"]])
    for number in range(seed.size):
        age = random.uniform(600, 5 * DAY) if number % 2 else random.uniform(8 * DAY, 90 * DAY)
        _talk(space, random, list(space.channels)[number % count], now - age, now)
    return space


def _talk(space: Workspace, random: Random, where: str, at: float, now: float) -> None:
    people = list(space.users)
    ts = post_at(space, where, at, random.choice(people), sentence(random))
    if random.random() < 0.1:
        space.talk[where][ts]["edited"] = {"user": people[0], "ts": f"{at + 60:.6f}"}
    if random.random() < 0.05:
        space.talk[where][ts] |= {"subtype": "bot_message", "bot_id": new_id("B", random)}
    elif random.random() < 0.12:
        for _ in range(random.randint(1, 3)):
            later = at + random.uniform(10, 500)
            said = post_at(space, where, later, random.choice(people), sentence(random))
            reply = space.talk[where][said]
            reply |= {"thread_ts": ts, "parent_user_id": space.talk[where][ts]["user"]}
            if random.random() < 0.2:
                reply["subtype"] = "thread_broadcast"
            if random.random() < 0.4:
                reply["edited"] = {"user": reply["user"], "ts": f"{later + 60:.6f}"}
            if random.random() < 0.4:
                reply["bot_id"] = new_id("B", random)
        recount(space, where, ts)
