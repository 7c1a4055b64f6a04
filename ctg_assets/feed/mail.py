"""E-mail by SMTP, for what a person should know today."""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from ctg_assets.errors import ExitCode
from ctg_assets.feed.errors import FeedError, NotificationError
from ctg_assets.printable import printable
from ctg_assets.setting_values import MailSecurity
from ctg_assets.settings import Settings

# A sensor's tick has a minute for all that it does.
_TIMEOUT_SECONDS = 10.0

_SECURITY = "CTG_SMTP_SECURITY (starttls mostly with port 587, tls with 465) and CTG_SMTP_PORT"


class MailSettingsError(FeedError):
    """The settings of the mail server do not go together; the message names what is missing."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


@dataclass(frozen=True)
class Mailbox:
    """A mail server, and from whom to whom mail goes."""

    host: str
    port: int
    security: MailSecurity
    sender: str
    recipients: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def send(self, subject: str, text: str) -> None:
        """Hand one mail to the server, which takes it from there; raises NotificationError."""
        message = EmailMessage()
        message["Subject"] = printable(subject)
        message["From"] = self.sender
        message["To"] = ", ".join(self.recipients)
        message["Date"] = formatdate()
        message["Message-ID"] = make_msgid(domain=self.sender.rpartition("@")[2])
        # Nobody's holiday notice should answer.
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        with self._errors(), self._logged_in() as server:
            server.send_message(message)

    def look(self) -> None:
        """Log in and send nothing; raises NotificationError."""
        with self._errors(), self._logged_in() as server:
            server.noop()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (smtplib.SMTPException, OSError, ValueError) as error:
            message = f"mail server {self.host}:{self.port} {_told(error)}"
            raise NotificationError(message) from error

    def _logged_in(self) -> smtplib.SMTP:
        context = ssl.create_default_context()
        if self.security is MailSecurity.TLS:
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                self.host, self.port, timeout=_TIMEOUT_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(self.host, self.port, timeout=_TIMEOUT_SECONDS)
        try:
            if self.security is MailSecurity.STARTTLS:
                server.starttls(context=context)
            if self.user is not None:
                server.login(self.user, self.password or "")
        except BaseException:
            server.close()
            raise
        return server


def mailbox(settings: Settings) -> Mailbox | None:
    """Where mail goes by the settings, None if nowhere; raises MailSettingsError when they are incomplete."""
    if settings.smtp_host is None:
        return None
    sender, recipients = settings.smtp_from, settings.smtp_to
    if sender is None or recipients is None:
        missing = [
            name
            for name, value in (("CTG_SMTP_FROM", sender), ("CTG_SMTP_TO", recipients))
            if value is None
        ]
        message = f"CTG_SMTP_HOST is set, and {' and '.join(missing)} is not; set it, or unset CTG_SMTP_HOST"
        raise MailSettingsError(message)
    if (settings.smtp_user is None) is not (settings.smtp_password is None):
        message = "CTG_SMTP_USER and CTG_SMTP_PASSWORD go together; set both, or none to send without logging in"
        raise MailSettingsError(message)
    return Mailbox(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        sender,
        tuple(recipients.split(",")),
        settings.smtp_user,
        settings.smtp_password,
    )


def _told(error: Exception) -> str:
    """What went wrong, in words, and what to do."""
    match error:
        case smtplib.SMTPAuthenticationError():
            told = f"refuses user and password ({_answer(error)}); check CTG_SMTP_USER and CTG_SMTP_PASSWORD"
        case smtplib.SMTPRecipientsRefused(recipients=recipients):
            refused = (f"{who}: {code} {_text(text)}" for who, (code, text) in recipients.items())
            told = f"takes no mail for {'; '.join(refused)}; check CTG_SMTP_TO, and whether it wants CTG_SMTP_USER"
        case smtplib.SMTPSenderRefused(sender=sender):
            told = f"takes no mail from {sender} ({_answer(error)}); check CTG_SMTP_FROM and CTG_SMTP_USER"
        case smtplib.SMTPNotSupportedError():
            told = f"cannot do what is asked of it ({error}); check {_SECURITY}"
        case smtplib.SMTPResponseException():
            told = f"refused the mail ({_answer(error)}); ask its administrator"
        case smtplib.SMTPServerDisconnected():
            told = f"hung up ({error}); check {_SECURITY}"
        case ssl.SSLError():
            told = f"cannot be reached encrypted ({error.reason or error}); check {_SECURITY}, and its certificate"
        case OSError():
            told = f"cannot be reached ({error.strerror or error}); check CTG_SMTP_HOST, CTG_SMTP_PORT and the network"
        case _:
            told = f"did not take the mail ({error}); check the settings CTG_SMTP_…"
    return told


def _answer(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {_text(error.smtp_error)}"


def _text(said: bytes | str) -> str:
    return printable(said.decode("utf-8", errors="replace") if isinstance(said, bytes) else said)
