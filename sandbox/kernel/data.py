"""Made-up people, firms and times: small tables that every vendor's data is drawn from."""

import unicodedata
from datetime import datetime, timedelta
from random import Random

from sandbox.kernel.fields import words

FIRST_NAMES = words(
    "Ada Ben Chloé Dmitri Elif Farah Grace Hugo Ines José Kenji Lena Mara Nils Olga Priya "
    "Quentin Rosa Søren Tomás Uma Viktor Wanda Xenia Yusuf Zoë"
)
LAST_NAMES = words(
    "Abbott Bauer Castillo Dubois Eriksen Fischer García Haddad Ivanova Jansen Kowalski "
    "Lindqvist Müller Nakamura O'Brien Pereira Quinn Rossi Silva Tanaka Ueda Varga Weber Xu "
    "Yildiz Ziegler"
)
FIRM_STARTS = words(
    "Alder Beacon Cobalt Delta Ember Falcon Granite Harbor Indigo Juniper Keystone Lumen "
    "Meridian Nimbus Orchard Pinnacle Quartz Ridge Summit Tidewater Umbra Vertex Willow "
    "Zephyr"
)
FIRM_ENDS = words("Analytics Foods Freight Health Labs Logistics Media Partners Robotics Textiles")
PLACES = (
    ("Amsterdam", "Netherlands"),
    ("Austin", "United States"),
    ("Berlin", "Germany"),
    ("Bogotá", "Colombia"),
    ("Dublin", "Ireland"),
    ("Kraków", "Poland"),
    ("Lyon", "France"),
    ("Nairobi", "Kenya"),
    ("Osaka", "Japan"),
    ("São Paulo", "Brazil"),
    ("Toronto", "Canada"),
    ("Zürich", "Switzerland"),
)
JOBS = (
    "Account Manager",
    "Buyer",
    "CFO",
    "Data Engineer",
    "Head of Operations",
    "Office Manager",
    "Product Owner",
    "Sales Director",
)
TOPICS = (
    "annual renewal",
    "broken export",
    "delivery dates",
    "first invoice",
    "new warehouse",
    "price list",
    "quarterly review",
    "roll-out plan",
    "training days",
)


def person(random: Random) -> tuple[str, str]:
    """A first and a last name."""
    return random.choice(FIRST_NAMES), random.choice(LAST_NAMES)


def firm(random: Random) -> str:
    return f"{random.choice(FIRM_STARTS)} {random.choice(FIRM_ENDS)}"


def plain(text: str) -> str:
    """A text as it goes into an address: small ASCII letters and digits."""
    spelled = unicodedata.normalize("NFKD", text.lower().replace("ø", "o"))
    return "".join(letter for letter in spelled if letter.isascii() and letter.isalnum())


def domain(firm_name: str) -> str:
    """A domain that cannot exist (RFC 2606)."""
    return f"{plain(firm_name)}.example"


def phone(random: Random) -> str:
    """A number of the block that is kept free for fiction."""
    return f"+1-{random.randint(201, 989)}-555-{random.randint(100, 199):04d}"


def sentence(random: Random) -> str:
    first, last = person(random)
    topic = random.choice(TOPICS)
    return random.choice(
        (
            f"{first} {last} asked about the {topic}.",
            f"Please call {first} back: {topic}, before Friday — it is urgent.",
            f"Notes on the {topic} with {firm(random)}.\nNext step: {first} sends numbers.",
        )
    )


def moment(random: Random, before: datetime, days: int = 400) -> datetime:
    """A time within so many days before that one, in whole milliseconds."""
    return before - timedelta(milliseconds=random.randint(60_000, days * 86_400_000))
