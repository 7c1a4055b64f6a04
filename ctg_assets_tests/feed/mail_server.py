"""A mail server on loopback that keeps what it is sent, and refuses as told."""

from __future__ import annotations

import ssl
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from ctg_assets.feed.mail import Mailbox
from ctg_assets.setting_values import MailSecurity
from ctg_assets_tests.feed.broker import unused_ports

USER, PASSWORD = "robot", "mail password 7"


class MailServer:
    """What a server was sent; `refusal` is what it answers to a mail instead of taking it."""

    def __init__(self) -> None:
        """Take everything."""
        self.mails: list[EmailMessage] = []
        self.recipients: list[list[str]] = []
        self.refusal: str | None = None
        self.unknown: set[str] = set()
        self.logins: list[tuple[str, str]] = []
        self.port = 0

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: object, _session: object, envelope: Any, address: str, _options: object
    ) -> str:
        """Take a recipient unless it is unknown."""
        if address in self.unknown:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: object, _session: object, envelope: Any) -> str:  # noqa: N802 - the library's name
        """Take a mail."""
        if self.refusal is not None:
            return self.refusal
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        self.recipients.append(envelope.rcpt_tos)
        return "250 OK"

    def authenticate(
        self, _server: SMTP, _session: object, _envelope: object, _mechanism: str, given: Any
    ) -> AuthResult:
        """Know one user."""
        assert isinstance(given, LoginPassword)
        user, password = given.login.decode(), given.password.decode()
        self.logins.append((user, password))
        return AuthResult(success=(user, password) == (USER, PASSWORD), handled=False)


@contextmanager
def mail_server(
    *,
    security: MailSecurity = MailSecurity.NONE,
    certificate: Path | None = None,
    with_login: bool = False,
    port: int | None = None,
) -> Iterator[MailServer]:
    """A server that runs while the block does; with a certificate file it encrypts."""
    server = MailServer()
    server.port = unused_ports(1)[0] if port is None else port
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    options: dict[str, Any] = {}
    if security is MailSecurity.TLS:
        options["ssl_context"] = context
    elif security is MailSecurity.STARTTLS:
        options |= {"tls_context": context, "require_starttls": True}
    if with_login:
        options |= {
            "authenticator": server.authenticate,
            "auth_required": True,
            "auth_require_tls": security is MailSecurity.STARTTLS,
        }
    # That passwords may come unencrypted is what some tests are about; and it calls names of its own deprecated.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        controller = Controller(
            server,
            hostname="127.0.0.1",
            port=server.port,
            # Or it asks the DNS for its name at each connection.
            server_hostname="mail.example.org",
            **options,
        )
        controller.start()
        try:
            yield server
        finally:
            controller.stop()


def new_certificate(folder: Path) -> Path:
    """A certificate of 127.0.0.1, which vouches for itself, with its key."""
    file = folder / "server.pem"
    key = folder / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(file)),
        ],
        capture_output=True,
        check=True,
    )
    file.write_text(file.read_text() + key.read_text())
    return file


def box(server: MailServer, **given: Any) -> Mailbox:
    """A mailbox at a server, unencrypted and without login, but for what is given."""
    return Mailbox(
        **{
            "host": "127.0.0.1",
            "port": server.port,
            "security": MailSecurity.NONE,
            "sender": "robot@example.org",
            "recipients": ("ops@example.org",),
            **given,
        }
    )
