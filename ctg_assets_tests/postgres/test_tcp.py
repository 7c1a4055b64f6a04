"""TCP into the embedded server: who comes in, who does not, and what becomes of it over restarts."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import ServerSetupError, ServerUnavailableError
from ctg_assets.postgres.server import OpenedTcp, close_tcp, open_postgres, open_tcp
from ctg_assets.postgres.tcp import (
    TcpAccess,
    TcpRequest,
    access_file,
    is_free,
    opened,
    read_access,
    rules,
    write_access,
)
from ctg_assets_tests.support.postgres import ALL, batch, build, held, query, settings_for
from ctg_assets_tests.support.readers import unreadable, writable

READER = TcpRequest("ctg_reader")
OWNER = TcpRequest("postgres")


@pytest.fixture(autouse=True)
def _ports_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ports that no test which runs beside this one is given."""
    first = 20_000 + os.getpid() % 250 * 40
    monkeypatch.setattr("ctg_assets.postgres.tcp._PORTS", range(first, first + 40))


def interrupt(*_: object, **__: object) -> None:
    """Stand in for a step at which somebody presses Ctrl-C."""
    raise KeyboardInterrupt


def connected(address: PostgresAddress, **changes: Any) -> psycopg.Connection[tuple[Any, ...]]:
    """A session of a client that knows nothing but the address."""
    url = replace(address, **changes).url
    return psycopg.connect(url, autocommit=True, connect_timeout=10)


def refusal(address: PostgresAddress, **changes: Any) -> str:
    """What a client is told that is not let in."""
    with pytest.raises(psycopg.OperationalError) as refused:
        connected(address, **changes)
    return str(refused.value)


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    """A port of this machine on which another program listens."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def password_of(tcp: OpenedTcp) -> str:
    """The password that opens it."""
    assert tcp.address.password is not None
    return tcp.address.password


# --- who comes in ---------------------------------------------------------------------------------


@pytest.mark.postgres
def test_the_reader_comes_in_and_reads_only(data_dir: Path) -> None:
    """With its password the role reads every table from a real TCP session, and may write none."""
    settings = settings_for(data_dir)
    with open_postgres(settings) as own:
        load_tables(LoadRequest(own, ALL, build=build()), [batch(range(1, 4))])
    with open_tcp(settings, READER) as tcp:
        assert (tcp.address.host, tcp.is_new) == ("127.0.0.1", True)
        with connected(tcp.address) as client:
            assert client.execute("SELECT inet_server_addr()::text, current_user").fetchone() == (
                "127.0.0.1/32",
                "ctg_reader",
            )
            assert client.execute("SELECT count(*) FROM studies").fetchone() == (3,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                client.execute("DELETE FROM studies")
        with open_postgres(settings) as own:
            assert (unreadable(own), writable(own)) == ([], [])


@pytest.mark.postgres
def test_nobody_else_comes_in(data_dir: Path) -> None:
    """A wrong password, none, another role, and the superuser with or without password are refused."""
    with (
        open_tcp(settings_for(data_dir), READER) as tcp,
        open_postgres(settings_for(data_dir)) as own,
    ):
        query(own, "CREATE ROLE other LOGIN PASSWORD 'its own password'")
        assert "password authentication failed" in refusal(tcp.address, password="wrong guess")
        assert "no password supplied" in refusal(tcp.address, password=None)
        for user in ("postgres", "other"):
            for password in (None, password_of(tcp), "its own password"):
                told = refusal(tcp.address, user=user, password=password)
                assert "pg_hba.conf rejects connection" in told
        # The socket is as it was: private, and without a password.
        assert query(own, "SELECT inet_server_addr()") == [(None,)]


@pytest.mark.postgres
def test_what_initdb_allowed_is_not_allowed(data_dir: Path) -> None:
    """Clusters of earlier releases trust whoever comes over TCP; with ours that is over."""
    settings = settings_for(data_dir)
    former = data_dir / "postgres" / "data" / "pg_hba.conf"
    former.write_text("local all all trust\nhost all all 127.0.0.1/32 trust\n")
    with open_tcp(settings, READER) as tcp:
        assert "rejects connection" in refusal(tcp.address, user="postgres", password=None)
        assert "no password supplied" in refusal(tcp.address, password=None)
        with connected(tcp.address):
            pass


@pytest.mark.postgres
@pytest.mark.parametrize("step", ["stop", "write_access", "start", "set_passwords", "write_rules"])
def test_an_opening_that_is_interrupted(
    data_dir: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it ends, the server works for us, nobody comes in without a password, and it can be repeated."""
    settings = settings_for(data_dir)
    with held(data_dir, "hold") as process:
        process.kill()
    with monkeypatch.context() as patched:
        patched.setattr(f"ctg_assets.postgres.embedded.{step}", interrupt)
        with pytest.raises(KeyboardInterrupt), open_tcp(settings, READER):
            pass
    with open_postgres(settings) as own:
        assert query(own, "SELECT 1") == [(1,)]
        if (access := read_access(data_dir / "postgres")) is not None:
            reached = replace(own, host=access.host, port=access.port)
            assert refusal(reached)
            assert refusal(reached, user="ctg_reader")
    with open_tcp(settings, READER) as tcp, connected(tcp.address):
        pass


@pytest.mark.postgres
@pytest.mark.parametrize("step", ["withdraw_passwords", "write_rules", "write_access"])
def test_a_closing_that_is_interrupted(
    data_dir: Path, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others use the server, it is either still open and can be closed again, or closed."""
    settings = settings_for(data_dir)
    with open_tcp(settings, READER) as tcp:
        with monkeypatch.context() as patched:
            patched.setattr(f"ctg_assets.postgres.embedded.{step}", interrupt)
            with pytest.raises(KeyboardInterrupt):
                close_tcp(settings)
        assert close_tcp(settings)
        assert refusal(tcp.address)


@pytest.mark.postgres
def test_the_owner_is_let_in_when_asked_for(data_dir: Path) -> None:
    """The superuser gets a password of its own beside the reader's, and only by that it comes in."""
    settings = settings_for(data_dir)
    with open_tcp(settings, READER) as reader, open_tcp(settings, OWNER) as owner:
        assert owner.address.port == reader.address.port
        assert password_of(owner) != password_of(reader)
        with connected(owner.address) as client:
            client.execute("CREATE TABLE public.mine (n int)")
        with connected(reader.address):
            pass
        told = refusal(owner.address, password=password_of(reader))
        assert "password authentication failed" in told


@pytest.mark.postgres
def test_ones_own_password(data_dir: Path) -> None:
    """A password that somebody chose, with any characters, replaces the earlier one."""
    settings, chosen = settings_for(data_dir), r"a:b\c 'd' \"é\" %s"
    with open_tcp(settings, READER) as tcp:
        made_up = password_of(tcp)
    with open_tcp(settings, replace(READER, password=chosen)) as tcp:
        assert (password_of(tcp), tcp.is_new) == (chosen, False)
        with connected(tcp.address):
            pass
        assert "password authentication failed" in refusal(tcp.address, password=made_up)


# --- what becomes of it ---------------------------------------------------------------------------


@pytest.mark.postgres
def test_it_survives_restarts(data_dir: Path) -> None:
    """Whoever starts the server, the same URL works; it is asked for once."""
    settings = settings_for(data_dir)
    with open_tcp(settings, READER) as tcp:
        first = tcp.address
    assert "refused" in refusal(first)
    with open_postgres(settings), connected(first):
        pass
    with open_tcp(settings, READER) as tcp:
        assert (tcp.address, tcp.is_new) == (first, False)


@pytest.mark.postgres
def test_a_new_cluster_lets_the_same_clients_in(data_dir: Path) -> None:
    """After the cluster was moved away to be made again, passwords are those of before."""
    settings = settings_for(data_dir)
    with open_tcp(settings, READER) as tcp:
        first = tcp.address
    (data_dir / "postgres" / "data").rename(data_dir / "old")
    with open_postgres(settings), connected(first):
        pass


@pytest.mark.postgres
def test_it_is_taken_back(data_dir: Path) -> None:
    """Afterwards nobody listens, the role cannot log in, and no password is left."""
    settings = settings_for(data_dir)
    with open_tcp(settings, OWNER), open_tcp(settings, READER) as tcp:
        pass
    assert close_tcp(settings)
    assert not access_file(data_dir / "postgres").exists()
    with open_postgres(settings) as own:
        assert "refused" in refusal(tcp.address)
        assert query(own, "SHOW listen_addresses") == [("",)]
        assert query(
            own,
            "SELECT rolname, rolcanlogin, rolpassword FROM pg_authid WHERE rolname !~ '^pg_' ORDER BY 1",
        ) == [("ctg_reader", False, None), ("postgres", True, None)]
    assert not close_tcp(settings)


@pytest.mark.postgres
def test_it_is_taken_back_while_others_use_the_server(data_dir: Path) -> None:
    """Sessions over TCP end at once and none begins, though the server goes on; sessions of ours stay."""
    settings = settings_for(data_dir)
    with open_tcp(settings, READER) as tcp, open_postgres(settings) as own:
        client = connected(tcp.address)
        assert close_tcp(settings)
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
        client.close()
        assert "FATAL" in refusal(tcp.address)
        assert query(own, "SELECT 1") == [(1,)]


@pytest.mark.postgres
def test_a_server_in_use_is_not_restarted(data_dir: Path) -> None:
    """When others use the server TCP stays closed, nothing is kept, and what to do is told."""
    with (
        held(data_dir, "hold"),
        pytest.raises(ServerUnavailableError, match=r"has to be restarted .*End them, or wait"),
        open_tcp(settings_for(data_dir), READER),
    ):
        pass
    assert not access_file(data_dir / "postgres").exists()


@pytest.mark.postgres
def test_a_server_that_was_left_behind_is_restarted(data_dir: Path) -> None:
    """One that nobody uses any more stands in nobody's way."""
    with held(data_dir, "hold") as process:
        process.kill()
    with open_tcp(settings_for(data_dir), READER) as tcp, connected(tcp.address):
        pass


@pytest.mark.postgres
def test_a_port_that_is_taken(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused when asked for; if it is taken later, everything works but TCP, and that is told."""
    settings = settings_for(data_dir)
    with taken_port() as port:
        with (
            pytest.raises(ServerSetupError, match=rf"port {port}: another program .*--port"),
            open_tcp(settings, replace(READER, port=port)),
        ):
            pass
        assert not access_file(data_dir / "postgres").exists()
    with open_tcp(settings, replace(READER, port=port)) as tcp:
        assert tcp.address.port == port
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        with open_postgres(settings) as own:
            assert query(own, "SHOW listen_addresses") == [("",)]
        assert f"another program has port {port} at 127.0.0.1" in caplog.text
        with (
            pytest.raises(ServerSetupError, match="another program"),
            open_tcp(settings, READER),
        ):
            pass
    with open_tcp(settings, READER) as tcp, connected(tcp.address):
        assert tcp.address.port == port


@pytest.mark.postgres
def test_a_port_that_is_taken_at_the_last_moment(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers that start at once may both find a port free: the later one runs without TCP, and says so."""
    settings = settings_for(data_dir)
    with taken_port() as port:
        seen = iter([True, True])

        def free_at_first(host: str, port: int) -> bool:
            return next(seen, False) or is_free(host, port)

        for module in ("cluster", "tcp"):
            monkeypatch.setattr(f"ctg_assets.postgres.{module}.is_free", free_at_first)
        with (
            pytest.raises(ServerSetupError, match=rf"cannot listen on 127\.0\.0\.1 port {port}"),
            open_tcp(settings, replace(READER, port=port)),
        ):
            pass
        assert not access_file(data_dir / "postgres").exists()
        with open_postgres(settings) as own:
            assert query(own, "SHOW listen_addresses") == [("",)]


# --- where the password is ------------------------------------------------------------------------


@pytest.mark.postgres
def test_the_password_is_in_one_private_file(data_dir: Path) -> None:
    """No other file has it, not even the log of a server that logs all statements; libpq reads it there."""
    settings = settings_for(data_dir)
    with open_postgres(settings) as own:
        query(own, "ALTER SYSTEM SET log_statement = 'all'")
    with open_tcp(settings, READER) as tcp:
        password = password_of(tcp)
        assert password not in repr(tcp)
        assert stat.S_IMODE(tcp.file.stat().st_mode) == 0o600
        assert tcp.file.stat().st_uid == (data_dir / "postgres" / "data").stat().st_uid
        for host in ("127.0.0.1", "localhost"):
            with psycopg.connect(tcp.address.public_url, host=host, passfile=str(tcp.file)):
                pass
    logged = b"".join(path.read_bytes() for path in data_dir.rglob("*.log"))
    assert b"SCRAM-SHA-256" in logged
    holding = [
        path
        for path in data_dir.rglob("*")
        if path.is_file() and password.encode() in path.read_bytes()
    ]
    assert holding == [tcp.file]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "192.0.2.7", "*"])
def test_what_is_kept_is_read_again(tmp_path: Path, host: str) -> None:
    """Any host, role and password comes back as it was, from a file that only its owner reads."""
    (tmp_path / "data").mkdir()
    access = TcpAccess(host, 5433, {"a:b": "c:\\d", "é \\": "'x' % \\\\", "ctg_reader": "*"})
    write_access(tmp_path, access)
    assert read_access(tmp_path) == access
    assert stat.S_IMODE(access_file(tmp_path).stat().st_mode) == 0o600
    write_access(tmp_path, None)
    assert (read_access(tmp_path), list(tmp_path.iterdir())) == (None, [tmp_path / "data"])


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1:5433:*:me", "127.0.0.1:port:*:me:secret", "a:1:*:me:x:y"]
)
def test_a_file_that_is_not_ours(tmp_path: Path, text: str) -> None:
    """What cannot be understood lets nobody in, and the message says what to do."""
    access_file(tmp_path).write_text(text)
    with pytest.raises(
        ServerSetupError, match=r"is not as ctg-assets writes it; remove it"
    ) as told:
        read_access(tmp_path)
    assert "secret" not in str(told.value)


# --- what is asked for ----------------------------------------------------------------------------


def test_only_loopback_unless_asked() -> None:
    """The rules let the roles in from this machine only, by password, and refuse all others."""
    access, _ = opened(None, TcpRequest('the "reader"'))
    assert (access.host, access.is_loopback) == ("127.0.0.1", True)
    assert rules(access).splitlines()[1:] == [
        'host all "the ""reader""" 127.0.0.1/32 scram-sha-256',
        'host all "the ""reader""" ::1/128 scram-sha-256',
        "host all all all reject",
    ]
    assert rules(None).splitlines()[1:] == []


@pytest.mark.parametrize(
    ("host", "listens", "loopback"),
    [
        ("localhost", "127.0.0.1", True),
        ("::1", "::1", True),
        ("0.0.0.0", "*", False),
        ("::", "*", False),
        ("192.0.2.7", "192.0.2.7", False),
    ],
)
def test_hosts(host: str, listens: str, loopback: bool) -> None:
    """Other machines reach it only where an address of a network, or all, is asked for."""
    access, _ = opened(None, TcpRequest("reader", host, 5433))
    assert (access.host, access.is_loopback) == (listens, loopback)
    assert ('host all "reader" all scram-sha-256' in rules(access)) is not loopback


def test_names_are_no_hosts() -> None:
    """A name may mean another machine tomorrow, so an address is asked for."""
    with pytest.raises(ServerSetupError, match=r"db\.example is no IP address; give 127\.0\.0\.1"):
        opened(None, TcpRequest("reader", "db.example", 5433))


def test_a_free_port_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that is free from 5433 on; when none is, that is told."""
    monkeypatch.setattr("ctg_assets.postgres.tcp._PORTS", range(5433, 5533))
    monkeypatch.setattr("ctg_assets.postgres.tcp.is_free", lambda _, port: port == 5440)
    assert opened(None, READER)[0].port == 5440
    monkeypatch.setattr("ctg_assets.postgres.tcp.is_free", lambda *_: False)
    with pytest.raises(ServerSetupError, match="no port from 5433 to 5532 is free"):
        opened(None, READER)


def test_a_configured_server_is_its_administrators(tmp_path: Path) -> None:
    """With CTG_POSTGRES_URL there is nothing to open or close."""
    settings = settings_for(tmp_path, "postgresql://me@db/x")
    with (
        pytest.raises(ServerSetupError, match="there is no embedded server"),
        open_tcp(settings, READER),
    ):
        pass
    with pytest.raises(ServerSetupError, match="there is no embedded server"):
        close_tcp(settings)
