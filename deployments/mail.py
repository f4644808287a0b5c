"""Mail to tenants over SMTP: where the server is, and a session with it.

The server's own words never leave this module: they may quote what was sent to it.
"""

import smtplib
import ssl
from dataclasses import dataclass, field
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from ipaddress import ip_address
from urllib.parse import urlsplit

from settings import Settings, SettingsError

SUBMISSION, IMPLICIT_TLS = 587, 465
TIMEOUT_SECONDS = 20


class MailError(Exception):
    """No mail can be sent now; the message says why, and what the operator may do."""


class RefusedMailError(Exception):
    """The server will never take this very mail."""


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """Where mail is handed in, and in whose name."""

    host: str
    port: int
    sender: Address
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> "MailServer | None":
        """The settings' server, None where there is none; SettingsError if one is half set."""
        if settings.smtp_host is None:
            return None
        parts = urlsplit(f"//{settings.smtp_host}")
        try:
            host, port = parts.hostname, parts.port or SUBMISSION
        except ValueError:
            host, port = None, 0
        if not host:
            raise SettingsError("SMTP_HOST: it should look like smtp.example.com:587")
        if settings.from_email is None:
            raise SettingsError("FROM_EMAIL: set it as well as SMTP_HOST, to whom mail comes from")
        if (settings.smtp_user is None) != (settings.smtp_pass is None):
            raise SettingsError("SMTP_USER and SMTP_PASS: set both or neither")
        return cls(
            host=host,
            port=port,
            sender=_sender(settings.from_email),
            user=settings.smtp_user,
            password=settings.smtp_pass.get_secret_value() if settings.smtp_pass else None,
        )

    def open(self) -> "Session":
        """A session with the server, logged in; MailError if it is away or does not let us in."""
        try:
            return Session(self._connect(), self)
        except (OSError, smtplib.SMTPException) as error:
            raise MailError(f"the mail server {self} {_fault(error)}") from None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    def _connect(self) -> smtplib.SMTP:
        tls = ssl.create_default_context()
        if self.port == IMPLICIT_TLS:
            smtp: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=TIMEOUT_SECONDS, context=tls
            )
        else:
            smtp = smtplib.SMTP(self.host, self.port, timeout=TIMEOUT_SECONDS)
        try:
            if self.port != IMPLICIT_TLS:
                self._secure(smtp, tls)
            if self.user and self.password:
                smtp.login(self.user, self.password)
        except BaseException:
            _close(smtp)
            raise
        return smtp

    def _secure(self, smtp: smtplib.SMTP, tls: ssl.SSLContext) -> None:
        smtp.ehlo_or_helo_if_needed()
        if smtp.has_extn("starttls"):
            smtp.starttls(context=tls)
            smtp.ehlo()
        elif not _is_loopback(self.host) and (self.port == SUBMISSION or self.password):
            raise MailError(
                f"the mail server {self} offers no STARTTLS: nothing is sent to it in the clear; "
                "use port 465 or another server in SMTP_HOST"
            )


@dataclass(frozen=True)
class Session:
    """A mail server that listens; to be closed."""

    smtp: smtplib.SMTP
    server: MailServer

    def close(self) -> None:
        _close(self.smtp)

    def send(self, message: EmailMessage) -> None:
        """Hand one message in; RefusedMailError if it will never be taken."""
        try:
            self.smtp.send_message(message)
        except smtplib.SMTPRecipientsRefused as error:
            code = max((code for code, _ in error.recipients.values()), default=0)
            self._refuse("the recipient", code, error)
        except smtplib.SMTPDataError as error:
            self._refuse("the message", error.smtp_code, error)
        except smtplib.SMTPNotSupportedError:
            raise RefusedMailError(
                "the mail server takes no address that is not plain ASCII"
            ) from None
        except smtplib.SMTPSenderRefused as error:
            raise MailError(
                f"the mail server {self.server} refuses FROM_EMAIL ({error.smtp_code})"
            ) from None
        except (OSError, smtplib.SMTPException) as error:
            raise MailError(f"the mail server {self.server} {_fault(error)}") from None

    def _refuse(self, what: str, code: int, error: smtplib.SMTPException) -> None:
        if 500 <= code < 600:
            raise RefusedMailError(f"the mail server refuses {what} ({code})") from None
        raise MailError(f"the mail server {self.server} {_fault(error)} ({code})") from None


def compose(
    sender: Address, recipient: str, name: str, subject: str, *, text: str, html: str
) -> EmailMessage:
    """A message to one recipient; RefusedMailError if that is no address."""
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = _recipient(recipient, name)
    message["Subject"] = one_line(subject)
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    message.add_alternative(html, subtype="html")
    return message


def one_line(text: str) -> str:
    """Text that others chose, fit for a header: no control character, and not endless."""
    kept = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(kept.split())[:200]


def _recipient(recipient: str, name: str) -> Address:
    try:
        return Address(display_name=one_line(name), addr_spec=recipient.strip())
    except (HeaderParseError, ValueError, IndexError):
        raise RefusedMailError("the tenant's contact is not an e-mail address") from None


def _sender(from_email: str) -> Address:
    name, _, rest = from_email.rpartition("<")
    try:
        return Address(display_name=name.strip(' "'), addr_spec=rest.removesuffix(">").strip())
    except (HeaderParseError, ValueError, IndexError):
        raise SettingsError(
            'FROM_EMAIL: it should look like no-reply@example.com or "ATOM <no-reply@example.com>"'
        ) from None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _fault(error: Exception) -> str:
    match error:
        case smtplib.SMTPAuthenticationError():
            return "does not accept SMTP_USER and SMTP_PASS"
        case ssl.SSLCertVerificationError():
            return "shows a certificate that cannot be verified"
        case ssl.SSLError():
            return "does not speak TLS as it should"
        case smtplib.SMTPNotSupportedError():
            return "takes no login: unset SMTP_USER and SMTP_PASS, or compare its port"
        case smtplib.SMTPResponseException():
            return f"does not take mail now ({error.smtp_code})"
        case TimeoutError():
            return "does not answer in time"
        case _:
            return "cannot be reached"


def _close(smtp: smtplib.SMTP) -> None:
    try:
        smtp.quit()
    except (OSError, smtplib.SMTPException):
        smtp.close()
