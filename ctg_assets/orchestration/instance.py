"""The Dagster instance: where its state lies, and how the command line finds it.

Dagster's state (runs, events, partitions, cursors) is about one data folder, so it lies in it. Whoever
opens the instance (commands of ours and of Dagster, web server, daemon, run workers) finds the folder by
the settings; two data folders share nothing.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from weakref import finalize

import dagster as dg
from dagster._core.events.log import EventLogEntry
from dagster._core.instance.config import dagster_instance_config
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.root import LocalArtifactStorage
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.pool import QueuePool

from ctg_assets.logs import set_up_in_dagster
from ctg_assets.settings import Settings, load_settings
from ctg_assets.shipped import shipped_path
from ctg_assets.storage.data_folder import data_folder

# Each run has a file, and what is asked of all has two; a process of ours works on one or two runs at a time.
_MOST_ENGINES = 8

# How many of the events that a run plans Dagster hands over at once; without this, each alone. More do not pay.
_BATCH_VARIABLE, _BATCH_SIZE = "DAGSTER_EVENT_BATCH_SIZE", 500

_INSTANCE_FILE = "dagster.yaml"
_STATE = "dagster"

HOME_VARIABLE = "DAGSTER_HOME"


def _state_folder() -> Path:
    return load_settings().data_dir / _STATE


def dagster_home() -> Path:
    """The folder whose `dagster.yaml` describes the instance: DAGSTER_HOME if set, or where we are.

    Without either it is the folder of Dagster's state in the data folder, with a copy of our own file,
    which is written anew if it differs. Raises SettingsError and DataFolderError.
    """
    configured = os.environ.get(HOME_VARIABLE)
    if configured:
        return Path(configured).expanduser()
    if (Path.cwd() / _INSTANCE_FILE).exists():
        return Path.cwd()
    home = data_folder(load_settings(), _STATE)
    ours = shipped_path(_INSTANCE_FILE).read_bytes()
    file = home / _INSTANCE_FILE
    if not file.exists() or file.read_bytes() != ours:
        # Another process may read it at this moment.
        unfinished = home / f".{_INSTANCE_FILE}-{os.getpid()}"
        unfinished.write_bytes(ours)
        unfinished.replace(file)
    return home


def has_state(settings: Settings) -> bool:
    """Whether there is an instance to open: one is set up, or something was run on this data folder."""
    configured = os.environ.get(HOME_VARIABLE)
    is_set_up = bool(configured) and (dagster_home() / _INSTANCE_FILE).exists()
    return is_set_up or (settings.data_dir / _STATE).exists()


class _Engines:
    """Engines of SQLite files, each of which keeps one connection open for the next use.

    Dagster makes an engine and a connection for each statement. It compiles the statement anew, and whoever closes a
    file last writes its write-ahead log into it and deletes that.
    """

    def __init__(self) -> None:
        # Connections must not be used after a fork, so that each process has its own.
        self._engines: OrderedDict[tuple[int, str], Engine] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, url: str) -> Engine:
        """The engine of a file; that of the file used least recently is closed when there are too many."""
        key = os.getpid(), url
        with self._lock:
            if key not in self._engines:
                self._engines[key] = create_engine(
                    url,
                    poolclass=QueuePool,
                    pool_size=1,
                    max_overflow=-1,
                    connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS},
                )
            self._engines.move_to_end(key)
            engine = self._engines[key]
            if len(self._engines) > _MOST_ENGINES:
                (pid, _), oldest = self._engines.popitem(last=False)
                oldest.dispose(close=pid == os.getpid())
        return engine

    def close(self) -> None:
        """Close what is not in use; a file is opened again when it is asked for."""
        with self._lock:
            for (pid, _), engine in self._engines.items():
                engine.dispose(close=pid == os.getpid())
            self._engines.clear()


class _Batch:
    """A transaction on each file that some events go to, all of them by one thread."""

    def __init__(self, transactions: ExitStack) -> None:
        self.thread = threading.get_ident()
        self._transactions = transactions
        self._connections: dict[str, Connection] = {}

    def connection(self, shard: str, begin: AbstractContextManager[Connection]) -> Connection:
        """That of a file; the first time its transaction begins."""
        if shard not in self._connections:
            self._connections[shard] = self._transactions.enter_context(begin)
        return self._connections[shard]


class _EventLog(SqliteEventLogStorage):
    """Dagster's event log, which does once what Dagster does for each of the hundreds of events of a run.

    Dagster opens a file for each event, looks into the schema before it stores what a check found, and
    writes each event that a run plans in transactions of its own.
    """

    def __init__(self, base_dir: str, engines: _Engines) -> None:
        self._engines = engines
        # What a schema has stays there; what it lacks may come with an upgrade.
        self._seen: set[str] = set()
        self._batch: _Batch | None = None
        super().__init__(base_dir)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        batch = self._batch_of_this_thread()
        if batch is not None:
            yield batch.connection(shard, self._begin(shard))
        else:
            with self._db_lock, self._begin(shard) as connection:
                yield connection

    def _batch_of_this_thread(self) -> _Batch | None:
        batch = self._batch
        return batch if batch is not None and batch.thread == threading.get_ident() else None

    @contextmanager
    def _begin(self, shard: str) -> Iterator[Connection]:
        engine = self._engines.of(self.conn_string_for_shard(shard))
        if shard not in self._initialized_dbs:
            self._initdb(engine)
            self._initialized_dbs.add(shard)
        with engine.begin() as connection:
            yield connection

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event."""
        super().store_event(event)
        if self._batch_of_this_thread() is None:
            self._tell_followers(event.run_id)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """Store events in one transaction a file; if one cannot be stored, none is, and Dagster tries each alone."""
        with self._db_lock, ExitStack() as transactions:
            self._batch = _Batch(transactions)
            try:
                for event in events:
                    self.store_event(event)
            finally:
                self._batch = None
        for run_id in {event.run_id for event in events}:
            self._tell_followers(run_id)

    def _tell_followers(self, run_id: str) -> None:
        """Have the file of a run look changed, which who follows the run waits for.

        What was written is in the log beside it as long as the connection is open. A file that was only read must not
        be touched: who follows the run would read it again.
        """
        # Stored it is; if the file was removed since, there is nothing left to follow.
        with suppress(FileNotFoundError):
            os.utime(self.path_for_shard(run_id))

    def dispose(self) -> None:
        """Close all files."""
        super().dispose()
        self._engines.close()

    def wipe(self) -> None:
        """Remove the files of all runs, which must not be open then."""
        self._engines.close()
        super().wipe()

    def has_table(self, table_name: str) -> bool:
        """Whether the index has this table."""
        return self._is_there(table_name, super().has_table)

    def has_asset_key_col(self, column_name: str) -> bool:
        """Whether the table of asset keys has this column."""
        return self._is_there(column_name, super().has_asset_key_col)

    def _has_asset_key_col_on_connection(self, conn: Connection, column_name: str) -> bool:
        look = super()._has_asset_key_col_on_connection
        return self._is_there(column_name, lambda name: look(conn, name))

    def _is_there(self, name: str, look: Callable[[str], bool]) -> bool:
        if name not in self._seen and look(name):
            self._seen.add(name)
        return name in self._seen


class _Runs(SqliteRunStorage):
    """Dagster's runs."""

    def __init__(self, conn_string: str, engines: _Engines) -> None:
        self._engines = engines
        super().__init__(conn_string)

    def connect(self) -> AbstractContextManager[Connection]:  # type: ignore[override]
        return self._engines.of(self._conn_string).begin()

    def dispose(self) -> None:
        """Close all files."""
        super().dispose()
        self._engines.close()


class DataFolderStorage(DagsterSqliteStorage):
    """Dagster's SQLite storage, in the data folder."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Work in `base_dir`."""
        super().__init__(base_dir, inst_data)
        os.environ.setdefault(_BATCH_VARIABLE, str(_BATCH_SIZE))
        self._engines = _Engines()
        self._event_log_storage = _EventLog(self._event_log_storage._base_dir, self._engines)
        self._run_storage = _Runs(self._run_storage._conn_string, self._engines)
        # Not everybody who opens an instance disposes of it.
        finalize(self, self._engines.close)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to be configured."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Any
    ) -> DataFolderStorage:
        """The storage of the data folder that the settings name."""
        del config_value
        return cls.from_local(str(_state_folder() / "storage"), inst_data)


class DataFolderArtifacts(LocalArtifactStorage):
    """Where Dagster puts files of its own, in the data folder."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to be configured."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DataFolderArtifacts:
        """The folder within the data folder that the settings name."""
        del config_value
        # Of web server and daemon this is the only code of ours that runs, whatever keeps their state.
        set_up_in_dagster(load_settings())
        return cls(str(_state_folder()), inst_data)


class DataFolderComputeLogs(LocalComputeLogManager):
    """What steps print, in the data folder."""

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Nothing to be configured."""
        return {}

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData | None, config_value: Any
    ) -> DataFolderComputeLogs:
        """The logs of the data folder that the settings name."""
        del config_value
        return cls(str(_state_folder() / "compute_logs"), inst_data=inst_data)


# The file-descriptor tricks of Dagster's own capturing hold back what a person should see at once, and
# its helper processes write a traceback each on Ctrl-C.
_NO_CAPTURING = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


def open_instance() -> dg.DagsterInstance:
    """The Dagster instance of `dagster_home`.

    Its state is that of the data folder, unless the `dagster.yaml` there says otherwise. What steps
    print is not captured, and what runs log is logged from CTG_LOG_LEVEL on.
    """
    home = str(dagster_home())
    overrides: dict[str, Any] = dict(_NO_CAPTURING)
    level = load_settings().log_level
    if level is not None:
        configured, _ = dagster_instance_config(home)
        overrides["python_logs"] = {
            **configured.get("python_logs", {}),
            "python_log_level": level.upper(),
        }
    return dg.DagsterInstance.from_ref(InstanceRef.from_dir(home, overrides=overrides))
