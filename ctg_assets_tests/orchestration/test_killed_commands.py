"""Dagster's own commands after a kill: what a dead run left undone, the next one does, or fails.

The kills of real processes are few here. A soak kills random commands at random moments, twenty times (about a
minute each).
"""

from __future__ import annotations

import contextlib
import random
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import dagster as dg
import msgspec
import pytest

from ctg_assets.extract.crawl import open_crawler
from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.extract.import_file import import_file
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.orchestration.extraction import extraction_plan, page_shards
from ctg_assets.orchestration.jobs import build_warehouse
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.runs import marked_in_process_executor
from ctg_assets.orchestration.snapshot import history, studies
from ctg_assets.orchestration.staging import build_staging_assets
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.ownership import note_relations, note_schema
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.extraction_plan import plan_extraction
from ctg_assets.refresh.planner import Idle, Step, next_build_step
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.orchestration.workplace import (
    INSTALLED,
    PROJECT,
    Workplace,
    kill_group,
    wait_until,
    workplace,
)
from ctg_assets_tests.soak import IS_LONG, SHARE, only_at_night, times
from ctg_assets_tests.support.postgres import query, temporary_folder

STUDIES = 25


@dg.asset(key=["marts", "dim_study"], deps=[dg.AssetKey(["staging", "studies"])])
def dim_study(settings: SettingsResource) -> None:
    """Stands for the marts."""
    with open_postgres(settings.load()) as address, connect(address) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS marts")
        connection.execute("DROP TABLE IF EXISTS marts.dim_study")
        connection.execute("CREATE TABLE marts.dim_study AS SELECT nct_id FROM staging.studies")
        note_schema(connection, "marts", "marts")
        note_relations(connection, "marts", ["dim_study"])
        note_built(address)


@dataclass(frozen=True)
class Bench:
    """A registry, a data folder, a database and a Dagster instance."""

    registry: RunningSimulator
    settings: Settings
    address: PostgresAddress
    instance: dg.DagsterInstance

    @property
    def lake(self) -> Lake:
        """Its lake."""
        return open_lake(self.settings)

    def walk(self) -> None:
        """Walk the registry, as the first two commands do."""
        lake = self.lake
        with open_crawler(self.settings, lake.extractions, lake.shards) as crawler:
            plan = plan_extraction(self.settings, lake, crawler)
            list(crawler.walk(plan, plan.planned_pages or 1))

    def run(self, *names: str, **settings: object) -> dg.ExecuteInProcessResult:
        """Materialize assets, all from the history on by default, in one run, as Dagster's commands do."""
        definitions = dg.Definitions(
            assets=[
                extraction_plan,
                page_shards,
                history,
                studies,
                build_staging_assets(),
                dim_study,
            ],
            jobs=[build_warehouse],
            resources={
                "settings": SettingsResource(overrides={**self._overrides, **settings}),
            },
            executor=marked_in_process_executor,
        )
        return definitions.resolve_job_def("build_warehouse").execute_in_process(
            instance=self.instance,
            raise_on_error=False,
            asset_selection=[dg.AssetKey(name.split("/")) for name in names] or None,
        )

    @property
    def _overrides(self) -> dict[str, object]:
        overrides = self.settings.model_dump(mode="json", exclude_none=True)
        return {**overrides, "data_dir": str(self.settings.data_dir)}

    def left(self) -> Step | Idle:
        """What is left to do from the extraction to the marts."""
        return next_build_step(self.settings, self.lake)

    def is_built(self, studies: int) -> bool:
        """Whether the warehouse holds everything, down to the marts."""
        return self.left() == Idle("everything wanted is up to date") and query(
            self.address, "SELECT count(*) FROM marts.dim_study"
        ) == [(studies,)]


@contextmanager
def _new_bench(address: PostgresAddress) -> Iterator[Bench]:
    """A bench on which one walk has been done, and nothing else."""
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as registry,
        temporary_folder() as folder,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        settings = load_settings(
            api_url=registry.api_url,
            data_dir=folder,
            postgres_url=address.url,
            page_size=10,
            requests_per_minute=10_000,
            retry_seconds=0,
            refresh_mode="full",
        )
        bench = Bench(registry, settings, address, instance)
        bench.walk()
        yield bench


@pytest.fixture
def bench(address: PostgresAddress) -> Iterator[Bench]:
    """A bench of the test's own."""
    with _new_bench(address) as bench:
        yield bench


@pytest.fixture(scope="module")
def built(server: PostgresAddress) -> Iterator[Bench]:
    """A bench on which all is built; whoever uses it leaves it so."""
    with new_database(server) as address, _new_bench(address) as bench:
        assert bench.run().success
        yield bench


def _record(bench: Bench) -> None:
    plan = bench.lake.extractions.latest(ExtractionState.COMPLETE)
    assert plan is not None
    Recorder(bench.lake.storage, bench.lake.scratch).record(plan.extraction_id)


def _compact(bench: Bench) -> None:
    plan = bench.lake.extractions.latest(ExtractionState.COMPLETE)
    assert plan is not None
    Compactor(bench.lake.storage, bench.lake.scratch).compact(plan.extraction_id)


def _load_all(bench: Bench) -> None:
    manifest = bench.lake.snapshots.latest()
    assert manifest is not None
    load_staging(bench.address, bench.lake, manifest)


def _load_some(bench: Bench) -> None:
    manifest = bench.lake.snapshots.latest()
    assert manifest is not None
    load_staging(bench.address, bench.lake, manifest, {"studies", "conditions"})


# What a run may have done when it is killed, each after the one before it; a step that was under way
# has done nothing, since its result becomes visible at its end. Single tables are loaded from the UI.
_STEPS: dict[str, tuple[Callable[[Bench], None], ...]] = {
    "nothing": (),
    "recorded": (_record,),
    "compacted": (_record, _compact),
    "some tables loaded": (_record, _compact, _load_some),
    "loaded": (_record, _compact, _load_all),
}


@pytest.mark.parametrize(
    ("done", "before"),
    [
        *((done, False) for done in _STEPS),
        ("recorded", True),
        *([pytest.param("compacted", True, marks=pytest.mark.soak)] if SHARE else []),
    ],
)
def test_the_rest_of_a_dead_run_is_done_by_the_next(bench: Bench, done: str, before: bool) -> None:
    """Whatever a killed run got done, the same run again ends with a loaded warehouse; a third does nothing.

    Every step after which a run may be killed, on an empty database and on one that holds the day before.
    """
    studies = STUDIES
    if before:
        assert bench.run().success
        studies += 1
        bench.registry.advance(GeneratedSource(studies, 1))
        bench.walk()
    for step in _STEPS[done]:
        step(bench)
    assert not bench.is_built(studies)

    again = bench.run()
    assert again.success
    assert bench.is_built(studies)
    loaded_at = query(bench.address, "SELECT loaded_at FROM staging.load_info")
    (made,) = (
        event.step_materialization_data.materialization.metadata
        for event in again.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey(["staging", "studies"])
    )
    assert ("loaded" in made) is ("loaded" in done)

    third = bench.run()
    assert third.success
    assert third.get_asset_materialization_events() == []
    assert query(bench.address, "SELECT loaded_at FROM staging.load_info") == loaded_at


def test_everything_that_waits_is_recorded_in_one_run(bench: Bench) -> None:
    """Two walks that were not recorded are both in the warehouse after one run."""
    bench.registry.advance(GeneratedSource(STUDIES + 1, 1))
    bench.walk()
    assert bench.run().success
    assert len(bench.lake.history.entries()) == 2
    assert bench.is_built(STUDIES + 1)


def test_a_run_that_a_check_stops_fails_each_time(bench: Bench) -> None:
    """What may not be loaded fails the run that finds it and every later one, also one of tables alone."""
    assert bench.run().success
    mistyped = {
        "protocolSection": {
            "identificationModule": {"nctId": "NCT99999999"},
            "designModule": {"enrollmentInfo": {"count": "many"}},
        }
    }
    file = bench.settings.data_dir / "studies.jsonl"
    file.write_bytes(msgspec.json.encode(mistyped))
    import_file(bench.lake, file, page_size=10)
    for names in ((), (), ("staging/studies", "staging/load_info"), ("staging/load_info",)):
        assert not bench.run(*names, max_quarantine_fraction=0.0).success
        assert query(bench.address, "SELECT count(*) FROM staging.studies") == [(STUDIES,)]
    assert bench.run(max_quarantine_fraction=1.0).success
    assert bench.is_built(STUDIES)


@pytest.mark.parametrize(
    "selection",
    [
        ("staging/conditions",),
        ("staging/studies", "staging/conditions", "staging/load_info"),
        ("studies", "staging/conditions"),
        ("marts/dim_study",),
        ("study_changes", "studies"),
    ],
    ids=" ".join,
)
def test_a_subset_does_what_it_says(built: Bench, selection: tuple[str, ...]) -> None:
    """Assets that somebody chose are made, each of them, on a warehouse that is whole; or the log says why not."""
    result = built.run(*selection)
    assert result.success
    made = {
        event.asset_key.to_user_string()
        for event in result.get_asset_materialization_events()
        if event.asset_key is not None
    }
    # What the history has is not recorded again.
    assert made == set(selection) - {"study_changes"}


def test_the_record_of_a_load_is_not_written_before_it(bench: Bench) -> None:
    """`load_info` alone is refused while the tables hold another snapshot: it would not be true."""
    assert bench.run().success
    bench.registry.advance(GeneratedSource(STUDIES + 1, 1))
    bench.walk()
    assert bench.run("study_versions", "study_changes", "studies").success
    before = query(bench.address, "SELECT * FROM staging.load_info")
    assert not bench.run("staging/load_info").success
    assert query(bench.address, "SELECT * FROM staging.load_info") == before


# --- real processes, really killed --------------------------------------------------------------------

_KILLS = times(0, 20) if IS_LONG else 0


def printed_commands() -> list[str]:
    """The `dagster asset materialize` commands, as the README prints them: plan, pages, all that follows."""
    lines = (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("dagster asset materialize ")]


def _connected(place: Workplace, application: str) -> bool:
    """Whether a program of this name works in the database."""
    statement = f"SELECT 1 FROM pg_stat_activity WHERE application_name = '{application}'"
    return bool(place.query(statement))


def _finish(place: Workplace, commands: list[str]) -> None:
    """Run commands to the end, which must bring a warehouse that holds everything."""
    for command in commands:
        done = place.run("sh", "-c", command)
        assert done.returncode == 0, done.stdout + done.stderr
    built = place.query("SELECT count(DISTINCT nct_id) FROM marts.fct_study_sponsor")
    assert built == [(STUDIES,)]
    status = place.ctg("status").stdout
    assert status.endswith("\nnothing is unfinished\n"), status
    assert "running" not in status
    assert "died" not in status


def _dying(command: str, where: str) -> str:
    """A printed command that dies at a file or moment, see `dying.py`."""
    return f"dying {shlex.quote(where)} {command}"


def _as_installed(command: str) -> str:
    """A printed command, with the programs that users have."""
    return f'PATH={shlex.quote(str(INSTALLED))}:"$PATH"; {command}'


def _kill_in_load_and_marts(place: Workplace, command: str) -> None:
    """`kill -9` while tables are loaded, again while marts are built."""
    for application in ("ctg_assets load", "ctg-dbt"):
        # Held by us, so that looking does not start and stop the server each time.
        with open_postgres(place.settings), place.start("sh", "-c", command) as process:
            wait_until(
                f"{application} at work",
                lambda application=application: _connected(place, application),  # type: ignore[misc]
                120,
            )
            kill_group(process)
        assert "died: __ASSET_JOB" in place.ctg("status").stdout


@pytest.fixture(scope="module")
def killed() -> Iterator[Workplace]:
    """An empty place, and a registry."""
    # A path longer than a socket's may be.
    long = "a folder with a rather long name/" * 4
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url, long, marts="fct_study_sponsor") as place,
    ):
        yield place


@pytest.mark.soak
@pytest.mark.process
@only_at_night
def test_the_printed_commands_killed_in_every_stage_end_loaded(killed: Workplace) -> None:
    """The README's commands, in an empty folder, each killed in what it does: run again, they do it all.

    Killed when a file is written and not yet visible: of the plan, of the end of the walk, of the
    history, of the snapshot; and while tables are loaded and while marts are built. Afterwards nothing is
    left for a refresh to do.
    """
    early = killed.ctg("status", "--page-range")
    assert early.returncode == 1
    assert "materialize extraction_plan first" in early.stderr
    plan, pages, build = printed_commands()
    for command, file in (
        *((plan, "plan.json"), (plan, ""), (pages, "complete.json"), (_as_installed(pages), "")),
        *((build, "entry.json"), (build, "manifest.json")),
    ):
        done = killed.run("sh", "-c", _dying(command, file) if file else command)
        # A shell that waits for a killed command adds 128 to the signal.
        expected = {-signal.SIGKILL, 128 + signal.SIGKILL} if file else {0}
        assert done.returncode in expected, (command, file, done.stdout + done.stderr)
    _kill_in_load_and_marts(killed, build)
    _finish(killed, [build])
    assert sorted(killed.dagster_state()["materialized"]["page_shards"]) == killed.pages()
    assert "everything is up to date" in killed.refresh()
    # What a killed command of Dagster's leaves of its own does not count.
    names = {path.name for path in killed.folder.iterdir()}
    left = {name for name in names if name.startswith(".tmp_dagster_home")}
    assert names - left == {"dagster.yaml", "data"}


@pytest.mark.process
def test_what_checks_find_is_told_in_words(killed: Workplace) -> None:
    """Each check that did not pass says how many rows or studies, which values, and names a study.

    In what a command prints and in status, for a study with an unknown value, one in an unknown field
    and one that cannot be typed; dbt's tests as well as ours.
    """
    odd: list[tuple[str, dict[str, object]]] = [
        ("NCT99999991", {"designModule": {"studyType": "DREAM"}}),
        ("NCT99999992", {"newModule": {"newField": "a\x1b[31mb"}}),
        ("NCT99999993", {"designModule": {"enrollmentInfo": {"count": "many"}}}),
    ]
    file = killed.folder / "odd.jsonl"
    file.write_bytes(
        b"\n".join(
            msgspec.json.encode(
                {"protocolSection": {"identificationModule": {"nctId": nct_id}, **sections}}
            )
            for nct_id, sections in odd
        )
    )
    # One mart that is made from the table with the unknown value, so that dbt tests that.
    marts = "fct_study_sponsor,dim_snapshot_month"
    done = killed.ctg("import-file", str(file), max_quarantine_fraction="1", marts=marts)
    assert done.returncode == 0, done.stdout + done.stderr
    for printed in (done.stdout, killed.ctg("status").stdout):
        assert "\x1b" not in printed
        lines = re.findall(r"^ *check (?:warns|failed) (\S+: \w+): (.*)$", printed, re.MULTILINE)
        assert len(lines) == printed.count("check warns") + printed.count("check failed")
        assert [line for line in lines if not re.search(r"\d", line[1])] == []
        said = "\n".join(description for _, description in lines)
        for words in (
            "column_name 'study_type', cell_value 'DREAM', row_count 1; for example NCT99999991",
            "for example NCT99999992 has protocolSection.newModule",
            "for example NCT99999993: ",
        ):
            assert words in said, said


def _progress(place: Workplace) -> tuple[int, ...]:
    """How much is finished: plans, pages, walks, entries of the history, snapshots."""
    lake = place.lake
    plans = lake.extractions.plans()
    ids = [plan.extraction_id for plan in plans]
    return (
        len(ids),
        sum(len(lake.shards.pages(name)) for name in ids),
        sum(lake.extractions.state(name) is ExtractionState.COMPLETE for name in ids),
        len(lake.history.entries()),
        len(lake.snapshots.manifests()),
    )


@pytest.mark.soak
@pytest.mark.process
@pytest.mark.skipif(SHARE < 1, reason="kills at every file take ten minutes: only in a whole soak")
def test_commands_killed_at_every_file_end_loaded() -> None:
    """Each command, killed right before and right after each of its files becomes visible, gets done at last."""
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url, marts="fct_study_sponsor") as place,
    ):
        commands = printed_commands()
        deaths = 0
        for command in commands:
            moment, before = 1, _progress(place)
            while (done := place.run("sh", "-c", _dying(command, str(moment)))).returncode != 0:
                deaths += 1
                assert done.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}, done.stderr
                # What is not finished is begun anew, so the next one dies later. What is finished stays, and
                # the moments of what comes after it are counted from there.
                now = _progress(place)
                moment, before = (moment + 1 if now == before else 1), now
                assert deaths < 200, "no command gets anywhere"
        assert deaths > 20
        _finish(place, commands)


@pytest.mark.soak
@pytest.mark.process
@pytest.mark.parametrize("seed", range(_KILLS))
def test_any_command_killed_at_any_moment_ends_loaded(seed: int) -> None:
    """A random one of the three commands is killed at a random moment; it and those after it end loaded."""
    chance = random.Random(seed)
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url, marts="fct_study_sponsor") as place,
    ):
        commands = printed_commands()
        number = chance.randrange(len(commands))
        for command in commands[:number]:
            assert place.run("sh", "-c", command).returncode == 0
        pause = chance.uniform(2, 25 if number == len(commands) - 1 else 12)
        with place.start("sh", "-c", commands[number]) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(pause)
            with contextlib.suppress(ProcessLookupError):
                kill_group(process)
        _finish(place, commands[number:])
