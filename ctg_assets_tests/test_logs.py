"""What is logged: the fields of a record, on the console and in files that several processes share."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from ctg_assets import logs
from ctg_assets.cli.app import app
from ctg_assets.cli.console import err, log_as_set
from ctg_assets.logs import DailyFile, LogFolderError, RunRecords, log_context, set_up
from ctg_assets.redaction import keep_secret
from ctg_assets.settings import ENV_PREFIX, Settings, load_settings

OURS = logging.getLogger("ctg_assets.somewhere")
CANARY = "kanarienvogel-logs-3"


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Each test begins without our variables, and leaves logging as it was."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    levels = {name: logging.getLogger(name).level for name in (logs.OURS, logs.DBT)}
    factory = logging.getLogRecordFactory()
    ours = logging.getLogger(logs.OURS)
    # Left by commands that other tests ran.
    for handler in list(ours.handlers):
        ours.removeHandler(handler)
    yield
    logs.stop()
    err.as_records, err.threshold = False, logging.WARNING
    logging.setLogRecordFactory(factory)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def settings(**given: Any) -> Settings:
    """Settings with JSON lines on the console, but for what is given."""
    return load_settings(**{"log_format": "json", **given})


def lines(text: str) -> list[dict[str, Any]]:
    """The records of some lines, each of which has to be JSON."""
    return [json.loads(line) for line in text.splitlines()]


def logged(**given: Any) -> io.StringIO:
    """A console that is set up for records."""
    console = io.StringIO()
    set_up(settings(**given), "testing", console)
    return console


def test_a_record_says_when_where_and_what() -> None:
    """One object a line, with a time in UTC, severity, logger, message, kind of process and its id."""
    console = logged()
    before = datetime.now(UTC)
    OURS.warning("page %d of %d", 3, 7)
    (record,) = lines(console.getvalue())
    at = datetime.fromisoformat(record.pop("timestamp"))
    assert before - timedelta(milliseconds=1) <= at <= datetime.now(UTC)
    assert record == {
        "level": "warning",
        "logger": "ctg_assets.somewhere",
        "event": "page 3 of 7",
        "process": "testing",
        "pid": os.getpid(),
    }


def test_what_a_record_is_about_are_fields() -> None:
    """Fields come from the context, in which they end, and from the record, which is closer."""
    console = logged()
    with log_context(run_id="r", asset="studies", extraction="x"):
        OURS.warning(
            "odd", extra={"nct_id": "NCT00000001", "asset": "page_shards", "colour": "red"}
        )
    OURS.warning("even")
    first, second = lines(console.getvalue())
    fields = {"run_id": "r", "asset": "page_shards", "extraction": "x", "nct_id": "NCT00000001"}
    assert {name: first.get(name) for name in (*fields, "colour")} == {**fields, "colour": None}
    assert not {*fields} & {*second}


def test_a_text_of_many_lines_is_one_line() -> None:
    """Line breaks, escape sequences and halves of surrogate pairs are written as JSON writes them."""
    console = logged()
    OURS.warning("a\nb\x1b[2J\u2028\ud800 é")
    assert console.getvalue().count("\n") == 1
    assert console.getvalue().isascii()
    assert lines(console.getvalue())[0]["event"] == "a\nb\x1b[2J\u2028\ud800 é"


def test_an_exception_is_a_field() -> None:
    """The traceback stands beside the message, in the same line."""
    console = logged()
    try:
        raise ValueError("nonsense")  # noqa: TRY301
    except ValueError:
        OURS.exception("it failed")
    (record,) = lines(console.getvalue())
    assert record["event"] == "it failed"
    assert record["exception"].endswith("ValueError: nonsense")


@pytest.mark.parametrize(
    ("level", "heard"),
    [
        (None, ["info", "warning", "error"]),
        ("debug", ["debug", "info", "warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_least_severity_is_a_setting(level: str | None, heard: list[str]) -> None:
    """From info on, unless CTG_LOG_LEVEL says otherwise; of others' libraries from warnings on."""
    console = logged(log_level=level)
    for name in ("debug", "info", "warning", "error"):
        getattr(OURS, name)("x")
    logging.getLogger("some.library").info("chatter")
    assert [record["level"] for record in lines(console.getvalue())] == heard


# --- Dagster and dbt ------------------------------------------------------------------------------


def noted(record: logging.LogRecord, message: str, event: Any = None) -> None:
    """Do to a record what Dagster's handler does before it hands it on."""
    notes = {
        "orig_message": message,
        "run_id": "run 1",
        "job_name": "build_warehouse",
        "step_key": "studies",
        "dagster_event": event,
    }
    record.__dict__.update(dagster_meta=notes, msg=f"build_warehouse - run 1 - {message}", args=())


class Noting(logging.Handler):
    """Dagster's handler on a logger whose records it takes for a run."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note the run on the record, and hand it to the handlers of dagster.yaml."""
        noted(record, record.getMessage())
        RunRecords().handle(record)


def test_records_of_a_run_have_its_fields_once() -> None:
    """What our code logs in a run comes by Dagster and by the logger, and is written once, as it was logged."""
    console = logged()
    managed = logging.getLogger(logs.OURS)
    noting = Noting()
    managed.addHandler(noting)
    try:
        OURS.warning("waiting")
    finally:
        managed.removeHandler(noting)
    (record,) = lines(console.getvalue())
    assert (record["event"], record["logger"]) == ("waiting", "ctg_assets.somewhere")
    assert (record["run_id"], record["job"], record["step"]) == (
        "run 1",
        "build_warehouse",
        "studies",
    )


def test_events_of_dagster_name_asset_partition_and_error() -> None:
    """An event's kind, asset and partition are fields, and a failure's traceback is the exception."""
    console = logged()
    record = logging.LogRecord("dagster", logging.ERROR, "", 0, "", (), None)
    error = SimpleNamespace(to_string=lambda: "Traceback: the disk is full")
    event = SimpleNamespace(
        event_type_value="STEP_FAILURE",
        asset_key=SimpleNamespace(to_user_string=lambda: "staging/studies"),
        partition="x-00001",
        event_specific_data=SimpleNamespace(error=error),
    )
    noted(record, "it failed", event)
    RunRecords().handle(record)
    (found,) = lines(console.getvalue())
    assert found["event"] == "it failed"
    assert (found["dagster_event"], found["asset"]) == ("STEP_FAILURE", "staging/studies")
    assert (found["partition"], found["exception"]) == ("x-00001", "Traceback: the disk is full")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (["/bin/dagster-webserver", "-p", "3000"], "webserver"),
        (["/x/dagster_webserver/__main__.py"], "webserver"),
        (
            [
                "/x/dagster/_daemon/__main__.py",
                "run",
                "--log-level",
                "info",
                "--code-server-log-level",
            ],
            "daemon",
        ),
        (["/srv/daemon/bin/dagster", "asset", "materialize"], "dagster"),
        (["/x/dagster/__main__.py", "api", "grpc", "--socket", "/tmp/x"], "code-server"),
        (["/bin/dagster", "code-server", "start"], "code-server"),
        (["/bin/dagster", "api", "execute_run", "{}"], "run"),
        (["/bin/dagster", "asset", "materialize"], "dagster"),
    ],
)
def test_dagsters_processes_have_files_by_kind(
    arguments: list[str], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever Dagster starts logs into the file of its kind; what Dagster prints itself is not printed again."""
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(sys, "stderr", printed := io.StringIO())
    logs.set_up_in_dagster(settings(log_dir=tmp_path / "logs"))
    logging.getLogger("dagster.daemon").warning("a tick failed")
    OURS.warning("waiting")
    (file,) = (tmp_path / "logs").iterdir()
    assert file.name == f"{kind}-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    assert [record["event"] for record in lines(file.read_text())] == ["a tick failed", "waiting"]
    assert [record["event"] for record in lines(printed.getvalue())] == ["waiting"]


def test_what_is_set_up_stays() -> None:
    """An instance that is opened within a command does not take its logs over."""
    console = logged()
    logs.set_up_in_dagster(settings())
    OURS.warning("x")
    assert [record["process"] for record in lines(console.getvalue())] == ["testing"]


# --- files ----------------------------------------------------------------------------------------


def test_files_are_json_lines_whatever_the_console_shows(tmp_path: Path) -> None:
    """With text on the console the files are the same."""
    console = io.StringIO()
    set_up(settings(log_format="text", log_dir=tmp_path), "refresh", console)
    OURS.info("done")
    (file,) = tmp_path.iterdir()
    assert [record["event"] for record in lines(file.read_text())] == ["done"]
    assert console.getvalue() == ""


def write_many(folder: Path, name: str, size: int) -> None:
    """Log a thousand records of this size as one of several processes."""
    set_up(settings(log_dir=folder), "many", None)
    for number in range(1000):
        OURS.info("%s", name * size, extra={"step": str(number)})


@pytest.mark.process
def test_processes_that_share_a_file_do_not_tear_its_lines(tmp_path: Path) -> None:
    """Every record of four processes is there, whole, whatever its length, in the order of its process."""
    context = multiprocessing.get_context("fork")
    # Longer than any buffer of Python's or page of the system's.
    sizes = {"a": 10, "b": 5000, "c": 9000, "d": 20_000}
    processes = [
        context.Process(target=write_many, args=(tmp_path, *each)) for each in sizes.items()
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    (file,) = tmp_path.iterdir()
    found: dict[str, list[int]] = {name: [] for name in sizes}
    for record in lines(file.read_text()):
        name = record["event"][0]
        assert record["event"] == name * sizes[name]
        found[name].append(int(record["step"]))
    assert found == {name: list(range(1000)) for name in sizes}


def at(moment: datetime) -> logging.LogRecord:
    """A record of some time."""
    record = logging.LogRecord("x", logging.INFO, "", 0, f"at {moment:%d}", (), None)
    record.created = moment.timestamp()
    return record


def test_each_day_has_a_file_and_old_ones_go(tmp_path: Path) -> None:
    """A record goes into the file of its day (UTC); with the first of a day, files past their time are removed."""
    today = datetime.now(UTC).replace(hour=23, minute=59)
    old, kept = today - timedelta(days=4), today - timedelta(days=3)
    for day in (old, kept):
        (tmp_path / f"daemon-{day:%Y-%m-%d}.jsonl").touch()
    others = {"notes-2020-01-01.txt", "mine.jsonl"}
    for name in others:
        (tmp_path / name).touch()
    handler = DailyFile(tmp_path, "run", keep_days=3)
    handler.emit(at(today))
    handler.emit(at(today + timedelta(minutes=2)))
    handler.close()
    tomorrow = today + timedelta(days=1)
    assert (tmp_path / f"run-{today:%Y-%m-%d}.jsonl").read_text() == f"at {today:%d}\n"
    assert (tmp_path / f"run-{tomorrow:%Y-%m-%d}.jsonl").read_text() == f"at {tomorrow:%d}\n"
    left = {path.name for path in tmp_path.iterdir()} - others
    # The day that was the oldest to be kept is too old on the day after.
    assert left == {f"run-{day:%Y-%m-%d}.jsonl" for day in (today, tomorrow)}
    assert others < {path.name for path in tmp_path.iterdir()}


def test_a_file_that_was_taken_away_is_begun_again(tmp_path: Path) -> None:
    """Whoever moves or removes a file loses no later record, and closing is not for ever."""
    handler = DailyFile(tmp_path, "run", keep_days=3)
    now = datetime.now(UTC)
    handler.emit(at(now))
    (file,) = tmp_path.iterdir()
    file.rename(tmp_path / "moved")
    handler.emit(at(now))
    handler.close()
    handler.emit(at(now))
    handler.close()
    assert (tmp_path / "moved").read_text().count("\n") == 1
    assert file.read_text().count("\n") == 2


def test_a_folder_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    """Who asks for files gets them, or is told why not and what to do."""
    (tmp_path / "taken").touch()
    with pytest.raises(LogFolderError, match=r"cannot write logs to .*taken.*CTG_LOG_DIR"):
        set_up(settings(log_dir=tmp_path / "taken"), "x", None)
    told = CliRunner().invoke(app, ["config"], env={"CTG_LOG_DIR": str(tmp_path / "taken")})
    assert (told.exit_code, "set CTG_LOG_DIR" in told.stderr) == (2, True)


def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that cannot be written is lost, and whoever logged it goes on."""
    set_up(settings(log_dir=tmp_path), "x", None)
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        OURS.info("lost")
    OURS.info("there")
    (file,) = tmp_path.iterdir()
    assert [record["event"] for record in lines(file.read_text())] == ["there"]


# --- what commands print --------------------------------------------------------------------------


def test_messages_of_commands_are_records_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """With JSON lines standard error has nothing else; severities are those that colours show."""
    monkeypatch.setenv("CTG_LOG_FORMAT", "json")
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    log_as_set("refresh")
    err.print("broken", style="red")
    err.print("odd", style="yellow")
    err.print("so it is")
    OURS.warning("waiting")
    assert [(record["level"], record["event"]) for record in lines(told.getvalue())] == [
        ("error", "broken"),
        ("warning", "odd"),
        ("info", "so it is"),
        ("warning", "waiting"),
    ]


def test_text_is_as_ever(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the settings a console shows warnings as lines; a level shows more, or less."""
    log_as_set("refresh")
    OURS.info("hidden")
    OURS.warning("shown")
    monkeypatch.setenv("CTG_LOG_LEVEL", "info")
    log_as_set("refresh")
    OURS.info("shown now")
    monkeypatch.setenv("CTG_LOG_LEVEL", "error")
    log_as_set("refresh")
    OURS.warning("hidden again")
    assert capsys.readouterr().err == "shown\nshown now\n"


def test_unusable_settings_are_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says what is wrong, and a variable that is ignored is named one time."""
    told = CliRunner().invoke(app, ["config"], env={"CTG_PAGE_SIZE": "0"})
    assert (told.exit_code, told.stderr.count("CTG_PAGE_SIZE")) == (2, 1)
    told = CliRunner().invoke(app, ["config"], env={"CTG_COLOUR_OF_SKY": "blue"})
    assert (told.exit_code, told.stderr.count("CTG_COLOUR_OF_SKY")) == (0, 1)


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        f"postgresql://me:{CANARY}@db/ctg",
        f"postgresql://me@db/ctg?password={CANARY}",
        f"host=db password={CANARY}",
        CANARY,
    ],
)
def test_a_secret_is_in_no_record(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither in message, arguments, fields nor traceback, of JSON lines or of other handlers' text."""
    keep_secret(given)
    console = logged()
    plain = logging.StreamHandler(shown := io.StringIO())
    logging.getLogger().addHandler(plain)
    try:
        OURS.warning("connecting to %s", f"postgresql://me:{CANARY}@db/ctg")
        OURS.warning(f"as {CANARY}", extra={"sink": CANARY})
        try:
            raise ValueError(f"bad password {CANARY}")  # noqa: TRY301
        except ValueError:
            OURS.exception("failed")
    finally:
        logging.getLogger().removeHandler(plain)
    err.print(f"password {CANARY} was refused")
    everything = console.getvalue() + shown.getvalue() + capsys.readouterr().err
    assert CANARY not in everything
    assert everything.count("(secret)") >= 7


def test_secrets_are_known_in_every_spelling() -> None:
    """As they stand in URLs, in JSON and in base64, too; what is short hides nothing."""
    keep_secret('sécret/"with @ marks')
    keep_secret("db")
    console = logged()
    for spelled in (
        "s%C3%A9cret%2F%22with%20%40%20marks",
        r"s\u00e9cret/\"with @ marks",
        "c8OpY3JldC8id2l0aCBAIG1hcmtz",
    ):
        OURS.warning("db says %s.", spelled)
    assert {record["event"] for record in lines(console.getvalue())} == {"db says (secret)."}


def test_what_is_no_message_stays_what_it_was() -> None:
    """Arguments that do not fit are told by Python, as ever, and stop nobody; what is logged next is there."""
    console = logged()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging, "raiseExceptions", False)
        OURS.warning("%d and %d", 1)
    OURS.warning("next")
    assert [record["event"] for record in lines(console.getvalue())] == ["next"]
