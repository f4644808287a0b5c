"""Times as manifests write them."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COMMON = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%d", "%Y-%m-%dT%H:%M:%S%z")


def written(at: datetime, form: str) -> str | int | float:
    """A time in a form of `strftime`, or one of Airbyte's own: %s, %ms, %s_as_float ..."""
    since = at - EPOCH
    if form == "%s":
        return since // timedelta(seconds=1)
    if form == "%s_as_float":
        return since.total_seconds()
    if form == "%epoch_microseconds":
        return since // timedelta(microseconds=1)
    if form == "%ms":
        return since // timedelta(milliseconds=1)
    if form == "%_ms":
        form = "%f"
    milliseconds = f"{at.microsecond // 1000:03d}"
    text = at.strftime(form.replace("%_ms", "\0").replace("%s", "\1"))
    return text.replace("\0", milliseconds).replace("\1", str(since // timedelta(seconds=1)))


def read(text: str, form: str) -> datetime | None:
    """The time that a request names, in that form or in a common one; None where it is another."""
    text = str(text)
    if re.fullmatch(r"\d{9,11}(\.\d+)?", text):
        return EPOCH + timedelta(seconds=float(text))
    if re.fullmatch(r"\d{12,14}", text):
        return EPOCH + timedelta(milliseconds=int(text))
    if re.fullmatch(r"\d{15,17}", text):
        return EPOCH + timedelta(microseconds=int(text))
    for known in (form.replace("%_ms", "%f"), *_COMMON):
        try:
            found = datetime.strptime(text, known)  # noqa: DTZ007 - the next line gives it a zone
        except ValueError:
            continue
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    return None
