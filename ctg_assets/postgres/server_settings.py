"""How the embedded server is set up, each setting with its reason."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import psutil

from ctg_assets.postgres.tcp import TcpAccess

PORT = 5432  # only names the socket file, unless the server also listens on a network address
SETTINGS_FILE = "ctg_assets.conf"
_RULES_FILE = "ctg_assets_hba.conf"
_DAYS_OF_LOGS = 6

# MB that each process of an index build sorts at a time. Keys of 600,000 studies took 41 s on two cores with 16,
# 49 s with 384 and two helpers: larger sorts wait for memory (6 million texts 6.0 s instead of 3.5). A
# helper is not started with less than 32.
_SORT_ALONE = 16
_SORT_OF_A_HELPER = 32


def _server_settings(
    socket_folder: Path, access: TcpAccess | None
) -> tuple[tuple[str, str, str], ...]:
    """Every server setting that differs from Postgres' default: name, value, reason.

    Durability is never traded: fsync, full_page_writes and synchronous_commit stay on. Overrides by
    `ALTER SYSTEM` win over these.
    """
    memory = _memory_mebibytes()
    helpers = min(max(_cores() // 2 - 1, 0), 2)
    sorting = _SORT_ALONE if helpers == 0 else _SORT_OF_A_HELPER

    def share(part: int, least: int, most: int) -> str:
        return f"{min(max(memory // part, least), most)}MB"

    listen_addresses = ("listen_addresses", "", "the socket in a private folder is the only way in")
    port = ("port", str(PORT), "names the socket file; not to be taken from PGPORT")
    if access is not None:
        listen_addresses = ("listen_addresses", access.host, "asked for: ctg-assets db-url --tcp")
        port = ("port", str(access.port), "of the same; names the socket file as well")
    return (
        listen_addresses,
        ("unix_socket_directories", str(socket_folder), "short and plain, unlike data folders"),
        ("unix_socket_permissions", "0700", "trust authentication needs a private socket"),
        port,
        ("max_connections", "60", "two loaders, dbt threads, Dagster and some people"),
        (
            "max_locks_per_transaction",
            "256",
            "a swap locks every table, index and TOAST table at once",
        ),
        ("shared_buffers", share(8, 128, 1024), "polars and the page cache want the rest"),
        ("effective_cache_size", share(2, 512, 1 << 20), "the page cache does most of the caching"),
        ("maintenance_work_mem", f"{sorting * (helpers + 1)}MB", "sorts that fit into caches"),
        ("max_parallel_maintenance_workers", str(helpers), "two index builds at a time"),
        ("work_mem", share(256, 16, 96), "joins and groupings of whole tables in dbt models"),
        ("wal_level", "minimal", "rows of a table made in the same transaction skip the WAL"),
        ("max_wal_senders", "0", "required by wal_level=minimal; nothing replicates"),
        # Full pages are a delta's WAL, and stay uncompressed: the wheel has only pglz, which takes 0.14 ms
        # for one, 8 s for 6,000 studies among 600,000.
        ("max_wal_size", "2GB", "dbt builds should not force a checkpoint every few seconds"),
        (
            "checkpoint_timeout",
            "15min",
            "the same; crash recovery of 2 GB takes well under a minute",
        ),
        ("random_page_cost", "1.1", "solid-state disks, and most pages are cached"),
        ("dynamic_shared_memory_type", _dynamic_memory_type(), "containers give /dev/shm 64 MB"),
        ("client_connection_check_interval", "2s", "a killed client's index build ends with it"),
        ("timezone", "UTC", "the same dates on every machine"),
        ("log_timezone", "UTC", "the same times in the log as in Dagster's"),
        ("logging_collector", "on", "needed for rotation, and keeps the starter's terminal clean"),
        ("log_directory", "log", "inside the cluster, where the server's user may write"),
        ("log_filename", "postgresql-%a.log", "one file a weekday, begun anew each week"),
        ("log_rotation_age", "1d", "with the next: at most seven files"),
        ("log_rotation_size", "0", "rotating by size would append to the same file"),
        ("log_truncate_on_rotation", "on", "a log must not grow without bound"),
        ("log_checkpoints", "off", "a load would fill the log with what nobody reads"),
    )


def write_settings(cluster: Path, socket_folder: Path, access: TcpAccess | None = None) -> None:
    """Write the settings for this machine into the cluster, owned as the cluster is."""
    lines = ["# Written at every start by ctg_assets; use ALTER SYSTEM to override."]
    for name, value, reason in _server_settings(socket_folder, access):
        lines += [f"# {reason}", f"{name} = '{value}'"]
    _write(cluster / SETTINGS_FILE, "\n".join(lines) + "\n")


def write_rules(cluster: Path, text: str) -> None:
    """Write who may connect over TCP, as lines of `pg_hba.conf`, in a file that is read before all its lines.

    A server that runs takes them when it is told to reload.
    """
    _write(cluster / _RULES_FILE, text)
    main = cluster / "pg_hba.conf"
    include = f"include_if_exists {_RULES_FILE}"
    lines = main.read_text(encoding="utf-8").splitlines()
    if include not in lines:
        # Before what initdb has written: the first line that fits decides.
        _write(main, "\n".join([include, *lines]) + "\n")


def _write(file: Path, text: str) -> None:
    cluster = file.parent
    temporary = file.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    owner = cluster.stat()
    if os.geteuid() != owner.st_uid:
        os.chown(temporary, owner.st_uid, owner.st_gid)
    temporary.replace(file)


def _memory_mebibytes() -> int:
    """Memory that this machine, or the container we are in, may use."""
    limits = [psutil.virtual_memory().total]
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(file).read_text()))
        except (OSError, ValueError):  # no control group, or "max"
            continue
    return min(limits) >> 20


def _cores() -> int:
    """Cores that this process, and so a server that it starts, may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def _dynamic_memory_type() -> str:
    try:
        return "posix" if shutil.disk_usage("/dev/shm").total >= 1 << 30 else "mmap"  # noqa: S108
    except FileNotFoundError:
        return "posix"  # macOS keeps POSIX shared memory elsewhere


def remove_old_logs(folder: Path) -> None:
    """Truncation happens only at midnight with the server up, so restarts would append for ever."""
    oldest = time.time() - _DAYS_OF_LOGS * 86_400
    for path in folder.glob("postgresql-*.log"):
        if path.stat().st_mtime < oldest:
            path.unlink()
