"""Mail of failures, by a real SMTP server: what arrives, and what is said of a server that will not have it."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.feed.errors import NotificationError
from ctg_assets.feed.mail import MailSettingsError, mailbox
from ctg_assets.feed.webhook import signature, signing_key
from ctg_assets.setting_values import MailSecurity
from ctg_assets.settings import load_settings
from ctg_assets_tests.feed.helpers import SECRET, SECRET_ENV, receiver, webhook_settings
from ctg_assets_tests.feed.mail_server import (
    PASSWORD,
    USER,
    MailServer,
    box,
    mail_server,
    new_certificate,
)

LOGIN = {"user": USER, "password": PASSWORD}


def problem(server: MailServer, **given: Any) -> str:
    """What is said when a mail cannot be sent."""
    with pytest.raises(NotificationError) as refused:
        box(server, **given).send("subject", "text")
    assert PASSWORD not in str(refused.value)
    return str(refused.value)


def test_a_mail_arrives_as_it_was_written() -> None:
    """Letters of any alphabet, in subject and text, and each recipient; the subject is one line."""
    with mail_server() as server:
        box(server, recipients=("ops@example.org", "ann@example.org")).send(
            "études: «Ω» \n failed", "Größe 3 ≥ 2\nnäxt line é 漢字\n"
        )
    (mail,) = server.mails
    assert mail["subject"] == r"études: «Ω» \n failed"
    assert mail.get_content().replace("\r\n", "\n") == "Größe 3 ≥ 2\nnäxt line é 漢字\n"
    assert (mail["from"], mail["to"]) == ("robot@example.org", "ops@example.org, ann@example.org")
    assert server.recipients == [["ops@example.org", "ann@example.org"]]
    assert mail["auto-submitted"] == "auto-generated"
    assert mail["message-id"].endswith("@example.org>")
    assert mail["date"]


@pytest.mark.process
@pytest.mark.parametrize("security", [MailSecurity.STARTTLS, MailSecurity.TLS])
def test_mail_is_encrypted(
    security: MailSecurity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both ways of encryption work with a certificate that is known, and neither with one that is not."""
    certificate = new_certificate(tmp_path)
    with mail_server(security=security, certificate=certificate, with_login=True) as server:
        told = problem(server, security=security, **LOGIN)
        assert re.search(r"cannot be reached encrypted .*CTG_SMTP_SECURITY.*certificate", told)
        assert server.logins == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        box(server, security=security, **LOGIN).send("subject", "text")
        box(server, security=security, **LOGIN).look()
    assert len(server.mails) == 1
    assert set(server.logins) == {(USER, PASSWORD)}


def test_a_wrong_password_is_told_as_such() -> None:
    """With the server's answer and the settings to look at, and nothing of the password."""
    with mail_server(with_login=True) as server:
        told = problem(server, user=USER, password="wrong one")
        assert re.search(
            "refuses user and password .535.*CTG_SMTP_USER and CTG_SMTP_PASSWORD", told
        )
        assert "wrong one" not in told
        assert "CTG_SMTP_USER" in problem(server)
        box(server, **LOGIN).send("subject", "text")


def test_refusals_name_what_to_look_at() -> None:
    """Of a recipient, of the mail, and of a server that cannot encrypt."""
    with mail_server() as server:
        server.unknown = {"ann@example.org"}
        told = problem(server, recipients=("ann@example.org",))
        assert re.search(
            "no mail for ann@example.org: 550 no such mailbox; check CTG_SMTP_TO", told
        )
        server.refusal = "554 looks like spam"
        assert "refused the mail (554 looks like spam)" in problem(server)
        told = problem(server, security=MailSecurity.STARTTLS)
        assert re.search("cannot do what is asked of it .*CTG_SMTP_SECURITY", told)


def test_a_server_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is not there, and one that does not say anything."""
    server = MailServer()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server.port = taken.getsockname()[1]
        told = problem(server)
        assert f"mail server 127.0.0.1:{server.port} cannot be reached" in told
        assert "CTG_SMTP_HOST" in told
    with receiver() as web:
        server.port = int(web.url.split(":")[2].partition("/")[0])
        monkeypatch.setattr("ctg_assets.feed.mail._TIMEOUT_SECONDS", 0.2)
        assert "timed out" in problem(server)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"smtp_to": None}, "CTG_SMTP_TO is not"),
        ({"smtp_to": None, "smtp_from": None}, "CTG_SMTP_FROM and CTG_SMTP_TO is not"),
        ({"smtp_user": "robot"}, "go together"),
        ({"smtp_password": "x"}, "go together"),
    ],
)
def test_settings_that_do_not_go_together_are_named(given: dict[str, Any], said: str) -> None:
    """A server without addresses, or half a login, is no way to tell anybody."""
    settings = {"smtp_host": "h", "smtp_from": "a@b.org", "smtp_to": "c@d.org", **given}
    with pytest.raises(MailSettingsError, match=said):
        mailbox(load_settings(**settings))


def environment(server: MailServer, folder: Path, hook: str) -> dict[str, str]:
    """The variables of somebody who wants mail and a webhook."""
    (folder / "sinks.toml").write_text(
        f'[[notify]]\nname = "on-call"\ntype = "webhook"\nurl = "{hook}"\nsecret_env = "{SECRET_ENV}"\n'
    )
    return {
        "CTG_SMTP_HOST": "127.0.0.1",
        "CTG_SMTP_PORT": str(server.port),
        "CTG_SMTP_SECURITY": "none",
        "CTG_SMTP_FROM": "robot@example.org",
        "CTG_SMTP_TO": "ops@example.org",
        "CTG_FEED_FILE": str(folder / "sinks.toml"),
        SECRET_ENV: SECRET,
    }


def test_the_command_tries_every_channel(tmp_path: Path) -> None:
    """`notify` names them, `notify --test` sends to each, and says with its exit code whether all took it."""
    with mail_server() as server, receiver() as hook:
        env = environment(server, tmp_path, hook.url)
        listed = CliRunner().invoke(app, ["notify"], env=env)
        assert listed.exit_code == 0
        assert listed.output.splitlines() == [
            f"mail: ops@example.org by 127.0.0.1:{server.port}",
            f"webhook on-call: {hook.url}",
        ]
        assert (server.mails, hook.requests) == ([], [])
        assert CliRunner().invoke(app, ["notify", "--test"], env=env).exit_code == 0
        (mail,), (request,) = server.mails, hook.requests
        assert mail["subject"] == "ctg_assets: a test, nothing failed"
        assert "Nothing failed" in mail.get_content()
        server.refusal = "451 later"
        told = CliRunner().invoke(app, ["notify", "--test"], env=env)
    assert told.exit_code == 1
    assert "not told mail: mail server" in told.stderr
    assert "told webhook on-call" in told.stdout
    (event,) = request.events
    assert (event["kind"], event["subject"]) == ("notification", mail["subject"])
    headers = {name.lower(): value for name, value in request.headers.items()}
    key = signing_key(webhook_settings(hook.url), SECRET)
    assert headers["webhook-signature"] == signature(
        key, headers["webhook-id"], headers["webhook-timestamp"], request.body
    )


def test_nobody_to_tell_is_said() -> None:
    """Without any setting the command says what to set."""
    told = CliRunner().invoke(app, ["notify"], env={"CTG_SMTP_HOST": "", "CTG_FEED_FILE": ""})
    assert (told.exit_code, "set CTG_SMTP_HOST" in told.stderr) == (1, True)
