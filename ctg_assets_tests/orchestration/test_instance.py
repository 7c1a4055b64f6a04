"""Where Dagster's state lies: in the data folder, whoever opens the instance."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from queue import Queue
from typing import Any

import dagster as dg
import pytest
import yaml
from sqlalchemy import Engine, create_engine, event
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.logs import RunRecords
from ctg_assets.orchestration.instance import dagster_home, open_instance
from ctg_assets_tests.support.forked_commands import forked_commands

PROJECT = Path(__file__).resolve().parents[2]

# What a command of Dagster's finds, which opens the instance by itself.
_PARTITIONS = "import json, dagster as dg; print(json.dumps(dg.DagsterInstance.get().get_dynamic_partitions('page')))"


@pytest.mark.slow
@pytest.mark.parametrize("home", ["DAGSTER_HOME", "anywhere"])
def test_two_data_folders_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str
) -> None:
    """Partitions, cursors and runs of one data folder are unknown in another, and found again in the first.

    With DAGSTER_HOME as the Makefile sets it, and without it in any folder.
    """
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    if home == "DAGSTER_HOME":
        monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.chdir(tmp_path)
    folders = [tmp_path / "a folder", tmp_path / "another"]
    for number, folder in enumerate(folders):
        monkeypatch.setenv("CTG_DATA_DIR", str(folder))
        with open_instance() as instance:
            assert instance.get_dynamic_partitions("page") == []
            assert instance.get_runs() == []
            instance.add_dynamic_partitions("page", [f"page {number}"])
            run = instance.create_run_for_job(_nothing)
            instance.daemon_cursor_storage.set_cursor_values({"cursor": run.run_id})
    for number, folder in enumerate(folders):
        monkeypatch.setenv("CTG_DATA_DIR", str(folder))
        with open_instance() as instance:
            assert instance.get_dynamic_partitions("page") == [f"page {number}"]
            (run,) = instance.get_runs()
            assert instance.daemon_cursor_storage.get_cursor_values({"cursor"}) == {
                "cursor": run.run_id
            }
        assert [path.name for path in folder.iterdir()] == ["dagster"]


@pytest.mark.process
def test_dagsters_own_commands_find_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An instance opened by Dagster, with DAGSTER_HOME, knows what ours wrote, and nothing elsewhere."""
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    with open_instance() as instance:
        instance.add_dynamic_partitions("page", ["one"])
    for folder, known in (("data", ["one"]), ("other", [])):
        done = subprocess.run(
            [forked_commands() / "code", _PARTITIONS],
            env={**os.environ, "CTG_DATA_DIR": str(tmp_path / folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        assert json.loads(done.stdout) == known


def test_outside_a_clone_the_instance_is_described_in_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without DAGSTER_HOME, the data folder holds a copy of our settings, made anew if it is an older one."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTG_DATA_DIR", "some data")
    home = tmp_path / "some data" / "dagster"
    assert dagster_home() == home
    ours = (PROJECT / "dagster.yaml").read_text()
    assert (home / "dagster.yaml").read_text() == ours
    (home / "dagster.yaml").write_text("telemetry: {enabled: true}")
    with open_instance() as instance:
        assert not instance.telemetry_enabled
    assert [path.name for path in home.glob("*dagster.yaml*")] == ["dagster.yaml"]


def test_a_folders_own_settings_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `dagster.yaml` in the current folder is taken before ours, and DAGSTER_HOME before both."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dagster.yaml").touch()
    assert dagster_home() == tmp_path
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    assert dagster_home() == PROJECT


def test_the_command_dev_starts_dagster_on_the_data_folders_instance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ctg-assets dev` becomes `dagster dev` on our code, with the instance of refresh and the arguments given."""
    monkeypatch.setenv("DAGSTER_HOME", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTG_DATA_DIR", "data")
    started: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, arguments: started.append(arguments))
    assert CliRunner().invoke(app, ["dev", "--port", "3001"]).exit_code == 0
    workspace = str(PROJECT / "workspace.yaml")
    assert started == [[sys.executable, "-m", "dagster", "dev", "-w", workspace, "--port", "3001"]]
    assert os.environ["DAGSTER_HOME"] == str(tmp_path / "data" / "dagster")


_MANAGED = re.compile(r"managed_python_loggers:\s*(\[[^\]]*\]|(?:\n\s*-\s*\S+)+)")


@pytest.mark.process
def test_root_is_no_managed_logger_anywhere() -> None:
    """With `root` Dagster logs its own logging for ever (dagster#32217); no configuration that we ship or show has it."""
    files = subprocess.run(
        ["git", "ls-files", "*.yaml", "*.yml", "*.md", "ctg_assets/*.py", "deploy"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    named = {
        file: yaml.safe_load(found)
        for file in files
        for found in _MANAGED.findall((PROJECT / file).read_text(encoding="utf-8"))
    }
    assert named["dagster.yaml"] == named["docs/logging.md"] == ["ctg_assets"]
    assert [file for file, loggers in named.items() if "root" in loggers] == []


def test_runs_hand_their_records_to_our_logs() -> None:
    """The instance that we ship has our handler, and no other."""
    config = yaml.safe_load((PROJECT / "dagster.yaml").read_text())["python_logs"]
    handlers = config["dagster_handler_config"]["handlers"].values()
    assert [each["class"] for each in handlers] == [f"{RunRecords.__module__}.RunRecords"]


@dg.job
def _nothing() -> None:
    """A job for a run to be of."""


@pytest.mark.slow
def test_each_file_is_opened_once_until_the_instance_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's events go to its own file and to the index, by one connection each; none is open afterwards."""
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    opened: list[str] = []

    def watched(url: str, **options: Any) -> Engine:
        engine = create_engine(url, **options)
        event.listen(engine, "connect", lambda *_: opened.append(url))
        return engine

    monkeypatch.setattr("ctg_assets.orchestration.instance.create_engine", watched)
    with open_instance() as instance:
        run = instance.create_run_for_job(_nothing)
        for number in range(20):
            instance.report_engine_event(f"step {number}", run)
        instance.report_run_failed(run)
        assert len(instance.all_logs(run.run_id)) == 21
        # Making the schema of a new file takes a second connection.
        assert max(Counter(opened).values()) <= 2
        assert any(run.run_id in url for url in opened)
        instance.event_log_storage.wipe()
        assert instance.all_logs(run.run_id) == []
    assert list(tmp_path.rglob("*-wal")) == []


def test_who_follows_a_run_is_told_of_each_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event reaches another instance that follows the run, at once; reading does not look like an event."""
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    told: Queue[str] = Queue()
    with open_instance() as instance, open_instance() as following:
        run = instance.create_run_for_job(_nothing)
        instance.report_engine_event("begun", run)
        file = tmp_path / "dagster" / "storage" / "history" / "runs" / f"{run.run_id}.db"
        following.event_log_storage.watch(
            run.run_id, None, lambda entry, _cursor: told.put(entry.message)
        )
        for number in range(3):
            instance.report_engine_event(f"step {number}", run)
            while told.get(timeout=30) != f"step {number}":
                pass
        changed = file.stat().st_mtime_ns
        assert len(following.all_logs(run.run_id)) == len(instance.all_logs(run.run_id)) == 4
        assert file.stat().st_mtime_ns == changed


def _job_of(assets: int) -> dg.JobDefinition:
    """A job of so many assets with a check each."""

    def asset(name: str) -> dg.AssetsDefinition:
        @dg.asset(name=name)
        def made() -> None:
            """Never materialized here."""

        return made

    def check(name: str) -> dg.AssetChecksDefinition:
        @dg.asset_check(asset=name)
        def fits() -> dg.AssetCheckResult:
            return dg.AssetCheckResult(passed=True)

        return fits

    names = [f"table_{number}" for number in range(assets)]
    definitions = dg.Definitions(
        assets=[asset(name) for name in names],
        asset_checks=[check(name) for name in names],
        jobs=[dg.define_asset_job("all_tables")],
    )
    return definitions.resolve_job_def("all_tables")


def _planned(instance: dg.DagsterInstance, run_id: str) -> list[str]:
    """What a run said that it would make and check."""
    return sorted(
        f"{entry.dagster_event_type} {entry.dagster_event.step_key}"
        for entry in instance.all_logs(run_id)
        if entry.dagster_event is not None
    )


def test_what_a_run_plans_is_written_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planned assets and checks take as many transactions for twelve assets as for two."""
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    commits: list[object] = []

    def watched(url: str, **options: Any) -> Engine:
        engine = create_engine(url, **options)
        if "/runs/" in url:  # not what is kept of the run itself
            event.listen(engine, "commit", commits.append)
        return engine

    monkeypatch.setattr("ctg_assets.orchestration.instance.create_engine", watched)
    counted = []
    with open_instance() as instance:
        for assets in (2, 2, 12):
            commits.clear()
            run = instance.create_run_for_job(_job_of(assets))
            counted.append(len(commits))
            assert len(_planned(instance, run.run_id)) == 2 * assets
            checks = instance.event_log_storage.get_asset_check_execution_history(
                dg.AssetCheckKey(dg.AssetKey("table_0"), "fits"), limit=1
            )
            assert [check.run_id for check in checks] == [run.run_id]
    # The first one looks at the schema as well.
    assert counted[2] == counted[1] < 12


def test_what_cannot_be_written_at_once_is_written_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If one of several events cannot be stored, none of them is, and Dagster stores each once."""
    monkeypatch.setenv("DAGSTER_HOME", str(PROJECT))
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    with open_instance() as instance:
        log: Any = instance.event_log_storage
        store = log.store_asset_check_event
        failures = iter([RuntimeError("the disk is full")])

        def fail_once(entry: Any, event_id: int | None) -> None:
            for failure in failures:
                raise failure
            store(entry, event_id)

        monkeypatch.setattr(log, "store_asset_check_event", fail_once)
        run = instance.create_run_for_job(_job_of(2))
        assert len(_planned(instance, run.run_id)) == 4
    assert "the disk is full" in capsys.readouterr().err
