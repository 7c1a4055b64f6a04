"""What a test needs besides this process: a Postgres, or other processes. Those that need none are fast.

The marker `postgres` is set on tests whose fixtures have a server. What starts servers or processes by
itself says so: `pytestmark = pytest.mark.process`, or `postgres` where it is Postgres alone.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

PROCESS, POSTGRES, SLOW = "process", "postgres", "slow"
_SERVERS = {"server", "stopped_cluster"}
# A broker; ClickHouse's engine; what dbt makes of its project; a place in which commands were run; an object store.
_PROCESSES = {"broker", "engine", "manifest", "refreshed", "s3_server"}
# Those that take longest, longest first: whoever begins one of them late ends long after the others.
LONGEST = (
    "serve/test_real_alerts.py",
    "orchestration/test_pruning_beside_web_server.py",
    "orchestration/test_killed_commands.py",
    "orchestration/test_refresh.py",
    "whole_way/test_churn.py",
    "whole_way/test_workers.py",
    "marts/test_foreign_objects.py",
    "orchestration/test_daemon.py",
    "test_wheel.py",
    "marts/test_changed_studies.py",
    "integrity/test_damage.py",
    "cli/test_cli.py",
    "deploy/test_backup.py",
    "marts/test_long_values.py",
    "extract/test_bulk_file.py",
    "model/test_flatten.py",
    "marts/test_past_months.py",
    "marts/test_odd_fields.py",
    "orchestration/test_undo_command.py",
    "orchestration/test_chosen_marts.py",
)
_STARTS = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "subprocess.Popen",
}


class _Guard:
    """Notes what starts a process while a test runs that is said to start none."""

    def __init__(self) -> None:
        self.watched: str | None = None
        self.started: list[str] = []

    def hook(self, event: str, arguments: tuple[object, ...]) -> None:
        if self.watched is None or event not in _STARTS:
            return
        self.started.append(f"{event} {arguments[:2]}")


_guard = _Guard()


def watch_processes() -> None:
    """From now on see the processes that a watched test starts."""
    sys.addaudithook(_guard.hook)


def watch(item: pytest.Item) -> None:
    """Watch this test, from its first fixture on, unless it says that it starts processes."""
    is_fast = not any(item.iter_markers(PROCESS)) and not any(item.iter_markers(POSTGRES))
    _guard.watched = item.nodeid if is_fast else None
    _guard.started.clear()


def check(item: pytest.Item) -> None:
    """Fail the test that started a process without saying so."""
    _guard.watched = None
    if _guard.started:
        pytest.fail(
            f"{item.nodeid} started processes: {_guard.started}. Mark it with `process`, or with `postgres` "
            "where they are a server, so that `make test-fast` leaves it out.",
            pytrace=False,
        )


def mark_and_sort(items: list[pytest.Item]) -> None:
    """Mark each test by its fixtures; files that take longest come first, so that no process ends late."""
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if fixtures & _SERVERS:
            item.add_marker(POSTGRES)
        if fixtures & _PROCESSES:
            item.add_marker(PROCESS)
    ranks: dict[str, int] = {}
    for item in items:
        file = _file(item)
        ranks[file] = min(ranks.get(file, len(LONGEST) + 2), _rank(item))
    items.sort(key=lambda item: ranks[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).as_posix()


def _rank(item: pytest.Item) -> int:
    file = _file(item)
    if file in LONGEST:
        return LONGEST.index(file)
    kinds: Sequence[str] = [mark.name for mark in item.iter_markers()]
    return len(LONGEST) + (
        0 if PROCESS in kinds else 1 if POSTGRES in kinds or SLOW in kinds else 2
    )
