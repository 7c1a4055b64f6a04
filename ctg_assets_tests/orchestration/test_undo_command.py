"""`ctg-assets history`: a wrong import taken back by command, down to the marts."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from typer.testing import CliRunner, Result

from ctg_assets.cli.app import app
from ctg_assets.counters_file import counters_path, read_counters
from ctg_assets.metrics import RECORDS
from ctg_assets.refresh.planner import Idle, next_known_step
from ctg_assets.settings import ENV_PREFIX
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.orchestration.workplace import Workplace, workplace
from ctg_assets_tests.soak import only_at_night
from ctg_assets_tests.support.made_lakes import study

pytestmark = [pytest.mark.process, pytest.mark.soak, only_at_night]


def records_extracted(place: Workplace) -> float:
    """How many studies were counted as extracted."""
    return sum(
        each.value
        for each in read_counters(counters_path(place.settings))
        if (each.name, each.labels) == (RECORDS.name, {"stage": "extract"})
    )


@pytest.fixture
def place() -> Iterator[Workplace]:
    """A workplace with good data."""
    with (
        running_simulator(GeneratedSource(8, 1)) as running,
        workplace(running.api_url, marts="dim_condition,fct_study_snapshot_monthly") as built,
    ):
        built.refresh()
        yield built


def history(place: Workplace, *arguments: str) -> Result:
    """Run `ctg-assets history` in this process, where no run of Dagster is needed."""
    environment = {
        name: value for name, value in place.environment().items() if name.startswith(ENV_PREFIX)
    }
    return CliRunner().invoke(app, ["history", *arguments], env={"COLUMNS": "200", **environment})


def test_a_wrong_import_is_taken_back(place: Workplace) -> None:
    """Dry run, question, undo: tables and marts are as before, nothing is left to do, all is on record.

    Text of the data and of people is shown, not carried out. It is refused while others are at work. Once
    the walk is taken back as well, nothing is shown any more.
    """
    [(nct_id,), *_] = place.query("SELECT nct_id FROM staging.studies ORDER BY 1")
    before = place.tables()
    wrong = place.folder / "wr\x1b[31mong.jsonl"
    studies = [study(nct_id, "2015-01-01", "Wrong"), study("NCT09999999", "2015-01-01")]
    wrong.write_bytes(b"\n".join(studies))
    extracted = records_extracted(place)
    done = place.ctg("import-file", str(wrong), "--observed-at", "2015-02-01")
    assert done.returncode == 0, done.stdout + done.stderr
    assert records_extracted(place) == extracted + 2
    assert place.tables() != before

    listed = history(place, "list").output
    assert "\x1b" not in listed
    assert "ong.jsonl" in listed
    assert nct_id in history(place, "show", "2").output
    dry = history(place, "undo", "2", "--dry-run")
    assert dry.exit_code == 0, dry.output
    assert "taken back: entry 2" in dry.output
    assert history(place, "undo", "2").exit_code == 1  # nobody there to say yes
    # Where somebody else extracts: what holds a lock may take it once more itself.
    with place.lake.extractions.lock(), ThreadPoolExecutor(1) as other:
        assert other.submit(history, place, "undo", "2", "--yes").result().exit_code == 4
    assert place.lake.history.undos() == []

    done = place.ctg("history", "undo", "2", "--yes", "--reason", "the wrong file")
    assert done.returncode == 0, done.stdout + done.stderr
    after = place.tables()
    assert after.keys() == before.keys()
    for table, rows in before.items():
        # Loads are counted; these were two more.
        assert table == "staging.load_info" or after[table] == rows, table
    assert isinstance(next_known_step(place.settings, place.lake), Idle)
    [undo] = place.lake.history.undos()
    assert undo.reason == "the wrong file"
    assert "history undo 2" in undo.command
    assert "undone (undo" in history(place, "list").output
    again = history(place, "undo", "2", "--yes")
    assert again.exit_code == 1
    assert "entry 2 was undone already" in again.output
    assert "withdrawn entries: 2" in history(place, "prune", "--days", "0").output

    # What is left is the walk alone; without it there is nothing to show.
    assert "tables and marts: emptied" in history(place, "undo", "1", "--dry-run").output
    assert place.tables() == after
    done_in_process = history(place, "undo", "1", "--yes")
    assert done_in_process.exit_code == 0, done_in_process.output
    assert not any(place.tables().values())
    status = place.ctg("status").stdout
    assert "what they held was taken back" in status
    assert "to be done: full" in status
