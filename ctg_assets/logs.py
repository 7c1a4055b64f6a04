"""What this process logs, and how: for people, or one JSON object a line, on the console and in files.

Code logs by Python's `logging`, and says in `log_context` what it is about. Dagster's and dbt's records
come the same way, so that all have the same fields, named as in `dagster --log-format json`. Files carry
the day in their names and are appended to by single writes, so that any number of processes can share one:
nothing is ever renamed, and what is old is removed whole.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from contextlib import AbstractContextManager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TextIO

from ctg_assets.errors import CtgAssetsError, ExitCode
from ctg_assets.redaction import without_secrets
from ctg_assets.setting_values import LogFormat, LogLevel
from ctg_assets.settings import Settings, load_settings

# What a record may say of itself, beside its message: by `extra`, by `log_context`, or by Dagster's notes on it.
FIELDS = (
    *("run_id", "job", "step", "asset", "partition"),
    *("extraction", "nct_id", "sink", "dagster_event", "dbt_event", "dbt_node"),
)

OURS, DBT = "ctg_assets", "dbt"

# Dagster's notes on a record of a run.
_NOTES = "dagster_meta"
_WRITTEN_BY = "_ctg_written_by"

_DATED = re.compile(r".+-(\d{4}-\d\d-\d\d)\.jsonl")


class LogFolderError(CtgAssetsError):
    """Log files cannot be written; the message names the folder and the remedy."""

    exit_code = ExitCode.UNUSABLE_SETTINGS


def log_context(**fields: str) -> AbstractContextManager[None]:
    """What is logged within, in this thread, carries these fields (names of FIELDS)."""
    # Takes a tenth of a second, which only who logs should wait.
    from structlog.contextvars import bound_contextvars  # noqa: PLC0415

    return bound_contextvars(**fields)


def set_up(settings: Settings, process: str, console: TextIO | None) -> None:
    """Log as the settings say, in place of what was set up before.

    `process` is what kind of process this is (`refresh`, `daemon`), which also names its files. JSON lines go to `console`,
    if given. Raises LogFolderError.
    """
    stop()
    logging.setLogRecordFactory(_record_without_secrets)
    level = number_of(settings.log_level or LogLevel.INFO)
    handlers: list[logging.Handler] = []
    if settings.log_format is LogFormat.JSON and console is not None:
        handlers.append(_ConsoleLines(console))
        # Some library's, whose lines would stand between ours.
        for other in list(logging.getLogger().handlers):
            if type(other) is logging.StreamHandler:
                logging.getLogger().removeHandler(other)
    if settings.log_dir is not None:
        handlers.append(DailyFile(settings.log_dir, process, settings.log_keep_days))
    for handler in handlers:
        handler.setLevel(level)
        handler.addFilter(_Once(handler))
        handler.setFormatter(_formatter(process))
        logging.getLogger().addHandler(handler)
    _installed.extend(handlers)
    if handlers:
        for name in (OURS, DBT):
            logging.getLogger(name).setLevel(level)


def set_up_in_dagster(settings: Settings) -> None:
    """As `set_up`, in a process that Dagster has started; nothing if it is set up already."""
    if _installed:
        return
    set_up(settings, _kind_of_dagster_process(sys.argv), sys.stderr)
    for handler in _installed:
        if isinstance(handler, _ConsoleLines):
            # Dagster's own loggers print by themselves, as `--log-format` says.
            handler.addFilter(_is_not_printed_by_dagster)


class RunRecords(logging.Handler):
    """For `python_logs` of a dagster.yaml: what runs log goes where everything else goes.

    Dagster makes one for each run. What it is given are records of assets, of Dagster about them, and of
    our code, with its notes on the run.
    """

    def __init__(self) -> None:
        """Raises SettingsError and LogFolderError, unless this process has set up its logs before."""
        super().__init__()
        set_up_in_dagster(load_settings())

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on."""
        for handler in _installed:
            if record.levelno >= handler.level:
                handler.handle(record)


class DailyFile(logging.Handler):
    """A file a day, to which any number of processes may append.

    A line is one write to a file opened for appending, which the system does as a whole. Files of this and other processes that are older than
    `keep_days` are removed when one is begun.
    """

    def __init__(self, folder: Path, process: str, keep_days: int) -> None:
        """Write `<folder>/<process>-<day>.jsonl`; raises LogFolderError when that cannot be done."""
        super().__init__()
        self._folder = folder
        self._process = process
        self._keep_days = keep_days
        self._path: Path | None = None
        self._file: int | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._open_for(datetime.now(UTC).date())
        except OSError as error:
            message = (
                f"cannot write logs to {folder}: {error.strerror}; set CTG_LOG_DIR to a folder you can write "
                "to, or unset it"
            )
            raise LogFolderError(message) from error

    def emit(self, record: logging.LogRecord) -> None:
        """Append a line; a disk that is full, say, costs the line and stops nothing."""
        try:
            line = self.format(record) + "\n"
            file = self._open_for(datetime.fromtimestamp(record.created, UTC).date())
            os.write(file, line.encode("utf-8", errors="backslashreplace"))
        except Exception:  # noqa: BLE001 - whatever it is, logging must not stop what is logged
            self.handleError(record)

    def close(self) -> None:
        """Close the file; a later record opens it again, as Dagster closes all handlers when a run begins."""
        self.acquire()
        try:
            if self._file is not None:
                os.close(self._file)
                self._file = None
        finally:
            self.release()
        super().close()

    def _open_for(self, day: date) -> int:
        path = self._folder / f"{self._process}-{day.isoformat()}.jsonl"
        if self._file is not None and (path != self._path or not path.exists()):
            os.close(self._file)
            self._file = None
        if self._file is None:
            if path != self._path:
                self._remove_old(day)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._path = path
        return self._file

    def _remove_old(self, today: date) -> None:
        oldest = (today - timedelta(days=self._keep_days)).isoformat()
        for path in self._folder.glob("*.jsonl"):
            dated = _DATED.fullmatch(path.name)
            if dated is not None and dated[1] < oldest:
                path.unlink(missing_ok=True)


class _ConsoleLines(logging.StreamHandler[TextIO]):
    """JSON lines on a console."""


class _Once:
    """Lets each record through once: what runs log comes from Dagster and from the logger itself."""

    def __init__(self, handler: logging.Handler) -> None:
        self._handler = handler

    def __call__(self, record: logging.LogRecord) -> bool:
        written = record.__dict__.setdefault(_WRITTEN_BY, [])
        if self._handler in written:
            return False
        written.append(self._handler)
        return True


_installed: list[logging.Handler] = []


def stop() -> None:
    """Take back what was set up, but that secrets stay out of records."""
    for handler in _installed:
        logging.getLogger().removeHandler(handler)
        handler.close()
    _installed.clear()


def _is_not_printed_by_dagster(record: logging.LogRecord) -> bool:
    return _NOTES in record.__dict__ or not record.name.startswith("dagster")


def number_of(level: LogLevel) -> int:
    """A severity as Python counts it."""
    return logging.getLevelNamesMapping()[level.upper()]


def _kind_of_dagster_process(arguments: list[str]) -> str:
    """What a process is by how it was called. Runs are children of the server that loads our code."""
    if multiprocessing.parent_process() is not None:
        return "run"
    # Folders above it, and options, may be called anything.
    called = " ".join(["/".join(Path(arguments[0]).parts[-2:]), *arguments[1:3]])
    for sign, kind in (
        ("webserver", "webserver"),
        ("execute_run", "run"),
        ("grpc", "code-server"),
        ("code-server", "code-server"),
        ("daemon", "daemon"),
    ):
        if sign in called:
            return kind
    return "dagster"


def _record_without_secrets(*arguments: Any, **options: Any) -> logging.LogRecord:
    """What makes records in place of Python's own: a secret is not even in what other handlers get."""
    record = logging.LogRecord(*arguments, **options)
    with suppress(
        Exception
    ):  # a message that does not fit its arguments is the handlers' to complain of
        text = record.getMessage()
        shown = without_secrets(text)
        if shown != text:
            record.msg, record.args = shown, ()
    if record.exc_info and record.exc_info[0] is not None:
        told = logging.Formatter().formatException(record.exc_info)
        shown = without_secrets(told)
        if shown != told:
            record.exc_text = shown
    return record


def _formatter(process: str) -> logging.Formatter:
    import structlog  # noqa: PLC0415 - see log_context

    def describe(_logger: object, _method: str, event: MutableMapping[str, Any]) -> dict[str, Any]:
        record: logging.LogRecord = event["_record"]
        described = {
            "timestamp": _time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": event["event"],
            "process": process,
            "pid": record.process,
            **{name: event[name] for name in FIELDS if event.get(name) is not None},
            **_dagsters_notes(record),
        }
        for name in FIELDS:
            if (value := record.__dict__.get(name)) is not None and name != "dagster_event":
                described[name] = value
        if "exc_info" in event and "exception" not in described:
            described["exc_info"] = event["exc_info"]
        return described

    def render(_logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        return without_secrets(str(to_json(None, "", event)))

    to_json = structlog.processors.JSONRenderer()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.contextvars.merge_contextvars],
        processors=[describe, structlog.processors.format_exc_info, render],
    )


def _time(seconds: float) -> str:
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def _dagsters_notes(record: logging.LogRecord) -> dict[str, Any]:
    """What Dagster knows of a record of a run: message as it was, run, job, step, asset, error."""
    notes: Mapping[str, Any] | None = record.__dict__.get(_NOTES)
    if notes is None:
        return {}
    found = {
        "event": notes["orig_message"],
        "run_id": notes["run_id"],
        "job": notes["job_name"],
        "step": notes["step_key"],
    }
    event = notes["dagster_event"]
    if event is not None:
        found["dagster_event"] = event.event_type_value
        if event.asset_key is not None:
            found["asset"] = event.asset_key.to_user_string()
            found["partition"] = event.partition
        error = getattr(event.event_specific_data, "error", None)
        if error is not None:
            found["exception"] = error.to_string()
    return {name: value for name, value in found.items() if value is not None}
