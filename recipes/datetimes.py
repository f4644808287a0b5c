"""Times as manifests write them: formats of strptime with a few of the language's own, durations.

`%s` is seconds of the epoch, `%s_as_float` with a fraction, `%ms` milliseconds, `%_ms` the
milliseconds of a second, `%epoch_microseconds` microseconds of the epoch.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ISO = "%Y-%m-%dT%H:%M:%S.%f%z"
MAX_FORMAT = 200

_DURATION = re.compile(
    r"(?P<sign>[+-])?P(?!$)(?:(?P<years>\d+(?:[.,]\d+)?)Y)?(?:(?P<months>\d+(?:[.,]\d+)?)M)?"
    r"(?:(?P<weeks>\d+(?:[.,]\d+)?)W)?(?:(?P<days>\d+(?:[.,]\d+)?)D)?"
    r"(?:T(?=\d)(?:(?P<hours>\d+(?:[.,]\d+)?)H)?(?:(?P<minutes>\d+(?:[.,]\d+)?)M)?"
    r"(?:(?P<seconds>\d+(?:[.,]\d+)?)S)?)?"
)
_LENIENT_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d(?::\d\d)?)(?:[.,](\d+))?(.*)", re.DOTALL
)


def parse(value: Any, format: str) -> datetime:
    """A time in that format, aware; ValueError where it is none. No offset means UTC."""
    if len(format) > MAX_FORMAT:
        raise ValueError("a datetime format that is too long")
    try:
        if format == "%s":
            return EPOCH + timedelta(seconds=int(value))
        if format == "%s_as_float":
            return EPOCH + timedelta(seconds=float(value))
        if format == "%epoch_microseconds":
            return EPOCH + timedelta(microseconds=int(value))
        if format == "%ms":
            return EPOCH + timedelta(milliseconds=int(value))
    except (OverflowError, TypeError) as error:
        raise ValueError("a time out of range") from error
    at = datetime.strptime(str(value), format.replace("%_ms", "%f"))  # noqa: DTZ007 - see below
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def parse_any(value: Any, formats: tuple[str, ...]) -> datetime:
    """A time in the first of the formats that fits; ValueError where none does."""
    for format in formats:
        try:
            return parse(value, format)
        except ValueError:
            continue
    raise ValueError("a time that none of its formats fits")


def write(at: datetime, format: str) -> str:
    """The time in that format."""
    if len(format) > MAX_FORMAT:
        raise ValueError("a datetime format that is too long")
    if format == "%s":
        return str((at - EPOCH) // timedelta(seconds=1))
    if format == "%s_as_float":
        return str((at - EPOCH) / timedelta(seconds=1))
    if format == "%epoch_microseconds":
        return str((at - EPOCH) // timedelta(microseconds=1))
    if format == "%ms":
        return str((at - EPOCH) // timedelta(milliseconds=1))
    # A bare %s inside of a format would be by the machine's zone.
    format = format.replace("%_ms", f"{at.microsecond // 1000:03}")
    format = re.sub(r"%s(?![\w])", str((at - EPOCH) // timedelta(seconds=1)), format)
    return at.strftime(format)


def from_iso(text: str) -> datetime:
    """A time of ISO 8601, in UTC; ValueError where it is none. No offset means UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        # Fractions of any length, which Python 3.11 cuts by itself only up to some length.
        found = _LENIENT_ISO.fullmatch(text)
        if not found:
            raise
        day, clock, fraction, zone = found.groups()
        at = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6]:0<6}{zone}")
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)


class Months:
    """A duration of years and months, which have no fixed length."""

    def __init__(self, months: int, rest: timedelta) -> None:
        self.months, self.rest = months, rest

    def _moved(self, at: Any, sign: int) -> Any:
        years, month = divmod(at.month - 1 + sign * self.months, 12)
        year = at.year + years
        last = (datetime(year + month // 11, (month + 1) % 12 + 1, 1) - timedelta(days=1)).day  # noqa: DTZ001
        moved = at.replace(year=year, month=month + 1, day=min(at.day, last))
        return moved + sign * self.rest

    def __radd__(self, at: Any) -> Any:
        return self._moved(at, 1)

    def __rsub__(self, at: Any) -> Any:
        return self._moved(at, -1)


def duration(text: str) -> timedelta | Months:
    """A duration of ISO 8601, `P30D`, `PT1H`, `P1M`; ValueError where it is none."""
    found = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if not found:
        raise ValueError(f"{str(text)[:40]!r} is no duration such as P30D or PT1H")
    amount = {
        name: float((value or "0").replace(",", "."))
        for name, value in found.groupdict().items()
        if name != "sign"
    }
    sign = -1 if found["sign"] == "-" else 1
    try:
        rest = sign * timedelta(
            weeks=amount["weeks"],
            days=amount["days"],
            hours=amount["hours"],
            minutes=amount["minutes"],
            seconds=amount["seconds"],
        )
    except OverflowError as error:
        raise ValueError(f"{text[:40]!r} is too long a duration") from error
    months = sign * int(amount["years"] * 12 + amount["months"])
    return Months(months, rest) if months else rest
