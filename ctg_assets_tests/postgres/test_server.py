"""The embedded server's life between processes, and the checking of a configured one."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import psycopg2  # type: ignore[import-untyped]
import pytest
import sqlalchemy

from ctg_assets.postgres import cluster, server_settings
from ctg_assets.postgres.connection import PostgresAddress, connect, psql_path
from ctg_assets.postgres.errors import (
    ServerSetupError,
    ServerUnavailableError,
    WarehouseError,
)
from ctg_assets.postgres.server import open_postgres
from ctg_assets_tests.support.postgres import query, settings_for

pytestmark = pytest.mark.postgres


def postmaster(folder: Path) -> int:
    """The process id of the server running in a data folder."""
    return int((folder / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def is_running(pid: int) -> bool:
    """Whether a process lives; zombies do not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def one(address: PostgresAddress, statement: str) -> object:
    """The only value of a statement."""
    return query(address, statement)[0][0]


@contextlib.contextmanager
def holder(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that uses the server of a folder."""
    command = [sys.executable, "-m", "ctg_assets_tests.postgres.holder", str(folder), "hold"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_open(process: subprocess.Popen[str]) -> str:
    """The URL that the other process prints once it uses the server."""
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    assert line.startswith("postgresql://")
    return line


def leave(process: subprocess.Popen[str]) -> None:
    """Let the other process end in order."""
    process.communicate("")
    assert process.returncode == 0


# --- sharing --------------------------------------------------------------------------------------


def test_data_survive_and_the_server_does_not(data_dir: Path) -> None:
    """The server is gone when its only user leaves; the next user finds the data."""
    with open_postgres(settings_for(data_dir)) as address:
        query(address, "CREATE TABLE kept AS SELECT 1 AS n")
        pid = postmaster(data_dir)
        assert is_running(pid)
        socket_folder = Path(address.host)
    assert not is_running(pid)
    assert not socket_folder.exists()
    with open_postgres(settings_for(data_dir)) as address:
        assert one(address, "SELECT n FROM kept") == 1


def test_two_processes_start_at_once(empty_dir: Path) -> None:
    """Two processes that open a new folder at once share one server, which the last one stops."""
    with holder(empty_dir) as first, holder(empty_dir) as second:
        assert wait_until_open(first) == wait_until_open(second)
        pid = postmaster(empty_dir)
        leave(first)
        assert is_running(pid)
        leave(second)
        assert not is_running(pid)


def test_many_threads(data_dir: Path) -> None:
    """Threads of one process come and go independently; the last one stops the server."""

    def use(number: int) -> tuple[int, object]:
        with open_postgres(settings_for(data_dir)) as address:
            return postmaster(data_dir), one(address, f"SELECT {number}")

    with open_postgres(settings_for(data_dir)):
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(use, range(24)))
        pid = postmaster(data_dir)
        assert answers == [(pid, number) for number in range(24)]
    assert not is_running(pid)


def test_a_killed_user_is_forgotten(data_dir: Path) -> None:
    """A process killed with -9 no longer counts: whoever leaves next is the last and stops it."""
    with holder(data_dir) as process:
        wait_until_open(process)
        pid = postmaster(data_dir)
        process.kill()
    assert is_running(pid)
    with open_postgres(settings_for(data_dir)):
        assert postmaster(data_dir) == pid
    assert not is_running(pid)


def test_a_forked_child_is_a_user(data_dir: Path) -> None:
    """A child forked by a user keeps the server up when its parent leaves, until it ends itself."""
    ours, childs = os.pipe()
    with open_postgres(settings_for(data_dir)):
        child = os.fork()
        if child == 0:
            os.close(childs)
            os.read(ours, 1)
            os._exit(0)
    pid = postmaster(data_dir)
    assert is_running(pid)
    os.close(childs)
    os.waitpid(child, 0)
    os.close(ours)
    with open_postgres(settings_for(data_dir)):
        assert postmaster(data_dir) == pid
    assert not is_running(pid)


def test_a_block_that_is_never_left(data_dir: Path) -> None:
    """A program that ends without leaving the block takes the server with it."""
    program = (
        "import sys; from pathlib import Path\n"
        "from ctg_assets.postgres.server import open_postgres\n"
        "from ctg_assets_tests.support.postgres import settings_for\n"
        "opened = open_postgres(settings_for(Path(sys.argv[1]))); opened.__enter__()\n"
        "pid = (Path(sys.argv[1]) / 'postgres/data/postmaster.pid').read_text().split()[0]\n"
        "print(pid); sys.exit(3)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(data_dir)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr
    assert not is_running(int(done.stdout))


# --- odd folders and left-overs -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a folder, with 'odd' \"characters\" $HOME `x` é %s", "/".join(["long" * 20] * 6)]
)
def test_any_path_will_do(empty_dir: Path, name: str) -> None:
    """Spaces, quotes, commas and 480 bytes of path neither hinder the server nor its clients."""
    with open_postgres(settings_for(empty_dir / name)) as address:
        assert one(address, "SELECT current_setting('data_directory')") == str(
            empty_dir / name / "postgres" / "data"
        )
        assert len(address.host) < 90


def test_a_symlink_is_the_same_folder(empty_dir: Path) -> None:
    """Two names of one folder lead to one server."""
    (empty_dir / "real").mkdir()
    (empty_dir / "link").symlink_to("real")
    with (
        open_postgres(settings_for(empty_dir / "real")) as real,
        open_postgres(settings_for(empty_dir / "link")) as link,
    ):
        assert real == link


def test_a_killed_server_starts_again(data_dir: Path) -> None:
    """After kill -9 of the server, as after a crash of the host, committed data are there."""
    with open_postgres(settings_for(data_dir)) as address:
        query(address, "CREATE TABLE kept AS SELECT 1 AS n")
        os.kill(postmaster(data_dir), signal.SIGKILL)
    with open_postgres(settings_for(data_dir)) as address:
        assert one(address, "SELECT n FROM kept") == 1


def test_a_process_id_that_is_somebody_elses(data_dir: Path) -> None:
    """A pid file from before a reboot may name any live process: it is neither believed nor harmed."""
    with open_postgres(settings_for(data_dir)):
        content = (data_dir / "postgres/data/postmaster.pid").read_text()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        _, _, rest = content.partition("\n")
        (data_dir / "postgres/data/postmaster.pid").write_text(f"{stranger.pid}\n{rest}")
        with open_postgres(settings_for(data_dir)) as address:
            assert one(address, "SELECT 1") == 1
            assert postmaster(data_dir) != stranger.pid
        assert stranger.poll() is None
        stranger.kill()


def test_a_folder_that_was_deleted_meanwhile(data_dir: Path) -> None:
    """Deleting the data folder under a running server does not stand in the way of a new one."""
    with holder(data_dir) as process:
        wait_until_open(process)
        orphan = postmaster(data_dir)
        process.kill()
    shutil.rmtree(data_dir / "postgres")
    with open_postgres(settings_for(data_dir)) as address:
        assert one(address, "SELECT 1") == 1
        assert not is_running(orphan)


def test_a_deleted_folder_in_use(data_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Leaving after the folder was deleted is no error."""
    with open_postgres(settings_for(data_dir)) as address:
        pid = postmaster(data_dir)
        shutil.rmtree(data_dir / "postgres")
    assert "was removed while its Postgres was in use" in caplog.text
    os.kill(pid, signal.SIGQUIT)
    shutil.rmtree(address.host)


def test_a_lost_socket(data_dir: Path) -> None:
    """A server whose socket was cleaned away is replaced, unless others still use it."""
    with holder(data_dir) as process:
        wait_until_open(process)
        pid = postmaster(data_dir)
        lines = (data_dir / "postgres/data/postmaster.pid").read_text().splitlines()
        shutil.rmtree(lines[4])
        with (
            pytest.raises(
                ServerUnavailableError, match=r"was removed\. End the other ctg-assets proc"
            ),
            open_postgres(settings_for(data_dir)),
        ):
            pass
        process.kill()
    with open_postgres(settings_for(data_dir)) as address:
        assert one(address, "SELECT 1") == 1
        assert not is_running(pid)


def test_another_major_version(empty_dir: Path) -> None:
    """A cluster of another major version is left alone; the message says what to do."""
    (empty_dir / "postgres" / "data").mkdir(parents=True)
    (empty_dir / "postgres" / "data" / "PG_VERSION").write_text("16\n")
    with (
        pytest.raises(
            ServerSetupError, match=r"was made by Postgres 16; .*runs Postgres 18\. Move"
        ),
        open_postgres(settings_for(empty_dir)),
    ):
        pass


def test_a_folder_of_other_things(empty_dir: Path) -> None:
    """A folder with anything else in it is not taken for a cluster."""
    (empty_dir / "postgres" / "data").mkdir(parents=True)
    (empty_dir / "postgres" / "data" / "thesis.txt").touch()
    with (
        pytest.raises(ServerSetupError, match="is not empty and not a Postgres cluster"),
        open_postgres(settings_for(empty_dir)),
    ):
        pass


def test_a_half_made_cluster(empty_dir: Path) -> None:
    """What an interrupted first start has left is replaced."""
    (empty_dir / "postgres" / "data.new-x").mkdir(parents=True)
    (empty_dir / "postgres" / "data.new-x" / "PG_VERSION").write_text("18\n")
    with open_postgres(settings_for(empty_dir)) as address:
        assert one(address, "SELECT 1") == 1
    assert list((empty_dir / "postgres").glob("data.new-*")) == []


def test_a_folder_that_cannot_be_made(empty_dir: Path) -> None:
    """Where no folder can be made the message names it and the settings that help."""
    (empty_dir / "file").touch()
    with (
        pytest.raises(ServerSetupError, match=r"cannot keep Postgres in .*set CTG_DATA_DIR"),
        open_postgres(settings_for(empty_dir / "file")),
    ):
        pass


def test_a_server_that_does_not_start(data_dir: Path) -> None:
    """A failed start shows what the server said, and can be repeated when the cause is gone."""
    overrides = data_dir / "postgres" / "data" / "postgresql.auto.conf"
    overrides.write_text("no_such_setting = 1\n")
    with (
        pytest.raises(
            ServerSetupError, match=r'(?s)did not start in .*"no_such_setting".*Free what'
        ),
        open_postgres(settings_for(data_dir)),
    ):
        pass
    overrides.write_text("")
    with open_postgres(settings_for(data_dir)) as address:
        assert one(address, "SELECT 1") == 1


def _open_as(uid: int, folder: str) -> tuple[int, object]:
    os.setgid(uid)
    os.setuid(uid)
    with open_postgres(settings_for(Path(folder))) as address:
        return psutil.Process(postmaster(Path(folder))).uids().real, one(address, "SELECT 1")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_and_as_another_user(data_dir: Path, empty_dir: Path) -> None:
    """Without root the server runs as the user; root, too, runs it as the owner of the data."""
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chown(empty_dir, nobody, nobody)
    with multiprocessing.get_context("fork").Pool(1) as forked:
        assert forked.apply(_open_as, (nobody, str(empty_dir))) == (nobody, 1)
    with open_postgres(settings_for(empty_dir)) as address:
        assert one(address, "SELECT 1") == 1
        assert psutil.Process(postmaster(empty_dir)).uids().real == nobody
    with open_postgres(settings_for(data_dir)):
        assert psutil.Process(postmaster(data_dir)).uids().real != 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_cluster_of_another_user(data_dir: Path) -> None:
    """Somebody else's cluster is named as such."""
    with open_postgres(settings_for(data_dir)):
        pass
    data_dir.chmod(0o755)
    nobody = pwd.getpwnam("nobody").pw_uid
    with (
        multiprocessing.get_context("fork").Pool(1) as forked,
        pytest.raises(ServerSetupError, match=r"belongs to user \w+, and you are nobody\. Run as"),
    ):
        forked.apply(_open_as, (nobody, str(data_dir)))


# --- settings -------------------------------------------------------------------------------------


def test_settings_hold(empty_dir: Path) -> None:
    """The database is UTF-8, ordered by code point, in UTC, durable, and off the network."""
    with open_postgres(settings_for(empty_dir)) as address:
        shown = dict(
            query(
                address,
                "SELECT name, setting FROM pg_settings WHERE name IN ('fsync', 'full_page_writes',"
                " 'synchronous_commit', 'wal_level', 'listen_addresses', 'TimeZone', 'server_encoding')",
            )
        )
        assert shown == {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "wal_level": "minimal",
            "listen_addresses": "",
            "TimeZone": "UTC",
            "server_encoding": "UTF8",
        }
        assert query(
            address, "SELECT x FROM unnest(ARRAY['b', 'é', 'a', 'B', 'z']) AS x ORDER BY x"
        ) == [
            ("B",),
            ("a",),
            ("b",),
            ("z",),
            ("é",),
        ]
        assert one(address, "SELECT 'MÜNCHEN' ILIKE 'münchen'") is True


def test_settings_fit_the_machine(empty_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small laptop gives Postgres little memory, a large machine not more than is of use.

    Helpers of an index build need cores, and 32 MB of sorting each.
    """
    written = {}
    names = ("shared_buffers", "maintenance_work_mem", "max_parallel_maintenance_workers")
    for memory, cores in ((1024, 1), (24 * 1024, 2), (24 * 1024, 4), (1024 * 1024, 64)):
        monkeypatch.setattr(server_settings, "_memory_mebibytes", lambda memory=memory: memory)
        monkeypatch.setattr(server_settings, "_cores", lambda cores=cores: cores)
        server_settings.write_settings(empty_dir, Path("/tmp/x"))
        lines = (empty_dir / server_settings.SETTINGS_FILE).read_text().splitlines()
        settings = dict(line.split(" = ") for line in lines if line.startswith(names))
        written[cores] = [settings[name] for name in names]
    assert written == {
        1: ["'128MB'", "'16MB'", "'0'"],
        2: ["'1024MB'", "'16MB'", "'0'"],
        4: ["'1024MB'", "'64MB'", "'1'"],
        64: ["'1024MB'", "'96MB'", "'2'"],
    }


def test_all_settings_are_in_force(server: PostgresAddress) -> None:
    """Every setting of our file is known to Postgres and applied."""
    assert (
        query(
            server,
            "SELECT name, error FROM pg_file_settings"
            " WHERE sourcefile LIKE '%ctg_assets.conf' AND (NOT applied OR error IS NOT NULL)",
        )
        == []
    )


def test_old_logs_go(empty_dir: Path) -> None:
    """A weekday's log is not continued a week later."""
    old, new = empty_dir / "postgresql-Mon.log", empty_dir / "postgresql-Sun.log"
    for path in (old, new):
        path.touch()
    week_ago = new.stat().st_mtime - 6.5 * 86_400
    os.utime(old, (week_ago, week_ago))
    server_settings.remove_old_logs(empty_dir)
    assert (old.exists(), new.exists()) == (False, True)


# --- addresses ------------------------------------------------------------------------------------


def test_other_clients_can_use_the_address(server: PostgresAddress) -> None:
    """psycopg2 (which dbt uses) by pieces, SQLAlchemy and psql by URL all reach the same database."""
    by_pieces = psycopg2.connect(
        host=server.host,
        port=server.port,
        user=server.user,
        password=server.password,
        dbname=server.dbname,
    )
    with contextlib.closing(by_pieces), by_pieces.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("ctg",)
    engine = sqlalchemy.create_engine(server.url)
    with engine.connect() as connection:
        assert connection.execute(sqlalchemy.text("SELECT current_database()")).scalar() == "ctg"
    engine.dispose()
    said = subprocess.run(
        [psql_path(), server.url, "-Atc", "SELECT current_database()"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == "ctg\n"


def test_a_configured_server(server: PostgresAddress, empty_dir: Path) -> None:
    """With CTG_POSTGRES_URL nothing is started and the pieces are those of that server."""
    url = server.url + "&application_name=mine&connect_timeout=5"
    with open_postgres(settings_for(empty_dir, url)) as address:
        assert not address.embedded
        assert (address.host, address.port, address.user, address.dbname) == (
            server.host,
            server.port,
            server.user,
            "ctg",
        )
        assert address.parameters == {"application_name": "mine", "connect_timeout": "5"}
        assert one(address, "SELECT 1") == 1
    assert list(empty_dir.iterdir()) == []


@pytest.mark.parametrize(
    ("host", "user", "password", "url"),
    [
        ("db.example", "me", "p:/@ ?é", "postgresql://me:p%3A%2F%40%20%3F%C3%A9@db.example:5432/x"),
        ("::1", "a b", None, "postgresql://a%20b@[::1]:5432/x"),
        ("/tmp/s", "me", None, "postgresql://me@:5432/x?host=/tmp/s&sslmode=disable"),
    ],
)
def test_urls_are_quoted(host: str, user: str, password: str | None, url: str) -> None:
    """Any user name and password can stand in the URL; the public one has no password."""
    parameters = {"sslmode": "disable"} if host.startswith("/") else {}
    address = PostgresAddress(host, 5432, user, "x", password=password, parameters=parameters)
    assert address.url == url
    if password is not None:
        assert "p:/@" not in repr(address)
        assert address.public_url == "postgresql://me@db.example:5432/x"


def _open(url: str) -> WarehouseError:
    with (
        pytest.raises(WarehouseError) as caught,
        open_postgres(settings_for(Path("unused"), url)),
    ):
        pass
    return caught.value


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://me@db/x", "begins with 'mysql', which is not a Postgres URL"),
        ("postgresql+psycopg2://me@db/x", "without a driver such as"),
        ("host=db user=me", "which is not a Postgres URL"),
        ("postgresql://me@db:port/x", "port in CTG_POSTGRES_URL is not a number"),
        ("postgresql://me@db/x?colour=red", "CTG_POSTGRES_URL cannot be read"),
    ],
)
def test_urls_that_cannot_be_used(url: str, message: str) -> None:
    """What is no Postgres URL is an error that says how one is written."""
    error = _open(url)
    assert isinstance(error, ServerSetupError)
    assert message in str(error)


def test_nobody_answers() -> None:
    """A server that is not there may be there later."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = _open(f"postgresql://me:secret@127.0.0.1:{unused.getsockname()[1]}/ctg")
    assert isinstance(error, ServerUnavailableError)
    assert "secret" not in str(error)
    assert "Check the server and its address" in str(error)


def test_refused_for_good(data_dir: Path) -> None:
    """A wrong password, database or encoding has to be corrected by a person."""
    with open_postgres(settings_for(data_dir)) as address:
        query(address, "CREATE ROLE guarded LOGIN PASSWORD 'right'")
        query(
            address,
            "CREATE DATABASE western ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
            " LOCALE_PROVIDER libc",
        )
        rules = data_dir / "postgres" / "data" / "pg_hba.conf"
        rules.write_text("local all guarded scram-sha-256\n" + rules.read_text())
        query(address, "SELECT pg_reload_conf()")
        guarded = PostgresAddress(address.host, address.port, "guarded", "ctg", password="wrong")
        for url, message in (
            (guarded.url, "password authentication failed"),
            (guarded.public_url, "no password supplied"),
            (address.database("missing").url, 'database "missing" does not exist'),
            (address.database("western").url, "has encoding LATIN1; the registry needs UTF8"),
        ):
            error = _open(url)
            assert isinstance(error, ServerSetupError), url
            assert message in str(error)
            assert "wrong" not in str(error)


def test_root_opens_the_way(empty_dir: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For root, parent folders closed to others are opened to pass, not to list, and it is logged."""
    if os.geteuid() != 0:
        pytest.skip("only root runs the server as another user")
    closed = empty_dir / "closed"
    closed.mkdir(mode=0o700)
    with caplog.at_level(logging.INFO, cluster.__name__), open_postgres(settings_for(closed)):
        assert closed.stat().st_mode & 0o777 == 0o701
        assert (closed / "postgres" / "data").stat().st_mode & 0o777 == 0o700
    assert f"chmod o+x {closed}" in caplog.text


def test_connections_say_who_they_are(server: PostgresAddress) -> None:
    """A session can be told from others in pg_stat_activity."""
    with connect(server, application_name="me") as connection:
        assert connection.execute("SHOW application_name").fetchone() == ("me",)
