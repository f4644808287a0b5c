"""The mail that tells a tenant to connect an account again."""

from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape

from connectors.kernel.errors import without_codes
from deployments.mail import compose, one_line
from integrations import load
from storage.notices import AGAIN_AFTER, AT_MOST, Due

_PAGE = """\
<!doctype html>
<html lang="en">
<body style="margin:0;padding:24px;font:16px/1.5 system-ui,sans-serif;color:#1a1a1a">
<div style="max-width:34em">
{paragraphs}
<p style="margin:28px 0"><a href="{link}"
 style="background:#1a4fd6;color:#fff;padding:12px 20px;border-radius:6px;text-decoration:none"
>Reconnect {title}</a></p>
{notes}
</div>
</body>
</html>
"""


def letter(
    sender: Address, due: Due, link: str, *, good_for: timedelta, now: datetime
) -> EmailMessage:
    """Plain text and HTML; RefusedMailError where the tenant's contact is no address.

    Names and reasons were written by others: each is put on one line, and escaped in the HTML.
    """
    title, tenant = title_of(due.integration), one_line(due.tenant_name)
    accounts = ", ".join(one_line(account) for account in due.accounts[:10])
    of = f" ({accounts})" if accounts else ""
    again = due.number > 1
    opening = (
        f"{title}{of} is still disconnected from {tenant}."
        if again
        else f"{title}{of} no longer lets {tenant} in."
    )
    paragraphs = [
        "Hello,",
        f"{opening} Until someone reconnects it no new data arrives; what is here already stays.",
        f"The reason: {without_codes(one_line(due.reason))}",
    ]
    last = due.number >= AT_MOST
    notes = [
        f"The link is good for {good_for.days} days, or until {title} is connected again. Whoever "
        f"has it can connect an account for {tenant}: please do not pass it on.",
        f"You are written to as the contact of {tenant}. "
        + ("No further reminder follows." if last else f"If {title} stays disconnected, one "
           f"reminder follows in {AGAIN_AFTER.days} days."),
    ]  # fmt: skip
    text = "\n\n".join([*paragraphs, f"Reconnect {title}: {link}", *notes]) + "\n"
    html = _PAGE.format(
        paragraphs=_paragraphs(paragraphs),
        link=escape(link),
        title=escape(title),
        notes=_paragraphs(notes),
    )
    subject = (
        f"{tenant}: {title} is still disconnected" if again else f"{tenant}: reconnect {title}"
    )
    message = compose(sender, due.contact_email or "", tenant, subject, text=text, html=html)
    message["Date"] = format_datetime(now)
    # The same for each attempt: a mailbox can tell a copy from a second mail.
    message["Message-ID"] = f"<{due.id}.{due.number}@{sender.domain}>"
    return message


def title_of(integration: str) -> str:
    try:
        return load(integration).title
    except LookupError:
        return integration


def _paragraphs(lines: list[str]) -> str:
    return "\n".join(f"<p>{escape(line)}</p>" for line in lines)
