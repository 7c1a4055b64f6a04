"""`ctg-assets refresh`, end to end: what it builds, repeats, takes over and refuses."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest

from ctg_assets.counters_file import counters_path, read_counters
from ctg_assets.extract.extractions import ExtractionMode, ExtractionState
from ctg_assets.metrics import WRITE_ERRORS, WRITES
from ctg_assets.orchestration.marts import manifest_folder
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.planner import Stage
from ctg_assets.simulator.serving import RunningSimulator, running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.storage.data_folder import file_lock
from ctg_assets_tests.orchestration.workplace import (
    EVERYTHING,
    INSTALLED,
    PAGE_SIZE,
    Workplace,
    kill_group,
    wait_until,
    workplace,
)
from ctg_assets_tests.soak import SHARE, only_in_soaks
from ctg_assets_tests.support.readers import relations, unreadable, writable

pytestmark = pytest.mark.process

STUDIES = 60
PAGES = STUDIES // PAGE_SIZE + 1
# What tests ask for, and what changes with the day; in a soak all that users get, which takes half a minute.
FEW = "fct_study_condition,fct_results_reporting,fct_study_snapshot_monthly,dim_snapshot_month"
GIVEN = EVERYTHING if SHARE else {**EVERYTHING, "marts": FEW}
STAGES = re.compile("^(" + "|".join(f"{stage:<9}" for stage in Stage) + r") (?=\S)", re.MULTILINE)


def stages(printed: str) -> list[str]:
    """The stages that a refresh ran, as it says."""
    return [name.strip() for name in STAGES.findall(printed)]


def names_in(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def page_tokens(simulator: RunningSimulator) -> Counter[str]:
    """How often each page of a walk was asked for, by its token."""
    asked: Counter[str] = Counter()
    for request in simulator.requests:
        query = parse_qs(request.query)
        # Counts and searches ask for ids alone.
        if request.path.endswith("/studies") and query.get("fields") != ["NCTId"]:
            asked[query.get("pageToken", ["first"])[0]] += 1
    return asked


def marts_of_the_day(place: Workplace) -> set[str]:
    """The marts that may change with the day alone: those that read it, whether themselves or not."""
    manifest = json.loads((manifest_folder(place.settings) / "manifest.json").read_text())
    children = manifest["child_map"]
    found, reached = set[str](), ["model.ctg.int_data_date"]
    while reached:
        node = reached.pop()
        if node.startswith("model.ctg.") and node not in found:
            found.add(node)
            reached += children[node]
    return {node.replace("model.ctg.", "marts.") for node in found}


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """A registry that only the tests of `refreshed` move."""
    with running_simulator(GeneratedSource(STUDIES, 1)) as running:
        yield running


@pytest.fixture(scope="module")
def refreshed(simulator: RunningSimulator) -> Iterator[tuple[Workplace, str]]:
    """A workplace after its first refresh, and what that printed."""
    with workplace(simulator.api_url, **GIVEN) as place:
        yield place, place.refresh()


@pytest.mark.soak
def test_first_refresh_builds_everything_and_says_so(refreshed: tuple[Workplace, str]) -> None:
    """Each stage runs once, in order, and a table of what was built ends the output."""
    place, printed = refreshed
    assert stages(printed) == ["plan", "pages", "snapshot", "staging"]
    assert f"{PAGES} of {PAGES} pages, {STUDIES} studies" in printed
    assert "1 asset," in printed
    staging, marts = re.split(r"^marts *$", printed, flags=re.MULTILINE)
    assert re.search(rf"^table +rows\nstudies +{STUDIES}$", staging, re.MULTILINE)
    assert re.search(rf"^dim_study +{STUDIES}$", marts, re.MULTILINE)
    assert re.search(r"^database +postgresql://\S+$", marts, re.MULTILINE)
    assert place.query("SELECT count(*) FROM marts.fct_study_snapshot_monthly") == [(STUDIES,)]


def test_what_was_built_is_counted(refreshed: tuple[Workplace, str]) -> None:
    """Every dbt model and seed that is a table or view is one write, AACT's tables together another one."""
    place, _ = refreshed
    counted = {
        (each.name, *each.labels.values()): each.value
        for each in read_counters(counters_path(place.settings))
    }
    [(built,)] = place.query(
        "SELECT (SELECT count(*) FROM pg_tables WHERE schemaname IN ('intermediate', 'marts'))"
        " + (SELECT count(*) FROM pg_views WHERE schemaname = 'staging_views')"
    )
    assert counted[WRITES.name, "marts", "model"] == built > 0
    assert counted[WRITES.name, "ctgov", "full"] == 1
    assert WRITE_ERRORS.name not in {name for name, *_ in counted}


def test_runs_and_pages_show_in_dagster(refreshed: tuple[Workplace, str]) -> None:
    """What refresh did are runs of the same jobs that the sensor uses, pages are materialized once."""
    place, _ = refreshed
    state = place.dagster_state()
    assert [(job, status) for job, status, _ in reversed(state["runs"])] == [
        ("plan_extraction", "SUCCESS"),
        ("extract_pages", "SUCCESS"),
        ("build_warehouse", "SUCCESS"),
        ("build_warehouse", "SUCCESS"),
    ]
    assert state["partitions"] == place.pages()
    assert sorted(state["materialized"]["page_shards"]) == place.pages()


def test_columns_can_be_traced_from_a_mart_to_the_tables(refreshed: tuple[Workplace, str]) -> None:
    """Dagster shows where each column of a mart and of a view comes from; rows are counted of marts only."""
    place, _ = refreshed
    models = place.dagster_state()["models"]
    view, mart = models["staging_views/stg_conditions"], models["marts/fct_study_condition"]
    assert mart["lineage"]["condition_key"] == ["staging_views/stg_conditions.name"]
    assert view["lineage"]["name"] == ["staging/conditions.name"]
    assert "dagster/column_schema" in view["shown"]
    assert "dagster/row_count" not in view["shown"]
    assert {"dagster/column_schema", "dagster/row_count", "preview"} <= set(mart["shown"])


def test_only_the_instance_and_data_folders_are_written(refreshed: tuple[Workplace, str]) -> None:
    """Nothing appears beside the data folder and Dagster's own, and nothing in the dbt project."""
    place, _ = refreshed
    assert names_in(place.folder) == ["dagster.yaml", "data"]
    assert names_in(place.folder / "data" / "dagster") == ["storage"]


def test_status_tells_what_is_there(refreshed: tuple[Workplace, str]) -> None:
    """Status shows extraction, snapshot and database with their ages, and that nothing is left."""
    place, _ = refreshed
    printed = place.ctg("status").stdout
    assert re.search(rf"^pages +{PAGES} of {PAGES}$", printed, re.MULTILINE)
    assert re.search(r"^loaded +\S+ \S+ UTC \(\d+ (s|min) ago\)$", printed, re.MULTILINE)
    assert printed.endswith("\nnothing is unfinished\n")


def test_page_range_names_all_pages(refreshed: tuple[Workplace, str]) -> None:
    """`status --page-range` prints the first and last partition key for Dagster's command."""
    place, _ = refreshed
    pages = place.pages()
    assert place.ctg("status", "--page-range").stdout == f"{pages[0]}...{pages[-1]}\n"


def test_psql_finds_tables_without_schema(refreshed: tuple[Workplace, str]) -> None:
    """In the SQL shell marts come first, then staging."""
    place, _ = refreshed
    done = place.ctg(
        "psql", "-Atc", "SELECT count(*) FROM dim_study JOIN conditions USING (nct_id)"
    )
    assert int(done.stdout) >= STUDIES
    assert place.ctg("psql", "-c", "SELECT nonsense").returncode != 0


def test_db_url_keeps_the_server_up(refreshed: tuple[Workplace, str]) -> None:
    """The printed URL works for other clients until Ctrl-C, which ends the command well."""
    place, _ = refreshed
    with place.start("ctg-assets", "db-url") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        done = place.ctg("psql", "-Atc", "SELECT 1", postgres_url=url)
        assert (done.stdout, done.returncode) == ("1\n", 0), done.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.mark.soak
def test_clients_read_everything_over_tcp(refreshed: tuple[Workplace, str]) -> None:
    """After a refresh the printed URL lets another program read every table and view, until it is taken back."""
    place, _ = refreshed
    with open_postgres(place.settings) as address:
        assert {"ctgov.studies", "ctgov_2023.studies"} < set(relations(address))
        assert (unreadable(address), writable(address)) == ([], [])
    with place.start("ctg-assets", "db-url", "--tcp") as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with psycopg.connect(url) as client:
            row = client.execute("SELECT current_user, count(*) FROM dim_study").fetchone()
            assert row == ("ctg_reader", STUDIES)
            found = client.execute(
                "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'studies'::regclass"
            )
            assert found.fetchone() == ("ctgov",)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                client.execute("DROP TABLE dim_study")
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 0
    password = urlsplit(url).password
    assert password is not None
    assert password not in told
    assert "is not shown again" in told
    assert str(place.settings.data_dir / "postgres" / "tcp.pgpass") in told
    with place.start("ctg-assets", "db-url", "--tcp") as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == url.replace(f":{password}", "")
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert place.ctg("db-url", "--no-tcp").stdout == "TCP is closed again\n"
    assert place.ctg("db-url", "--no-tcp").stdout == "TCP was not open\n"
    assert not (place.settings.data_dir / "postgres" / "tcp.pgpass").exists()


@pytest.mark.soak
def test_unchanged_data_mean_no_work(
    refreshed: tuple[Workplace, str], simulator: RunningSimulator
) -> None:
    """A second refresh runs nothing, and another day with the same studies only what speaks of the day.

    The registry is asked for what was posted lately and then for a census. Rows and keys stay the same, but for what is late by then.
    """
    place, _ = refreshed
    before = place.tables()
    printed = place.refresh()
    assert stages(printed) == []
    assert "everything is up to date" in printed

    marts = (
        "SELECT relname, relfilenode FROM pg_class WHERE relnamespace = 'marts'::regnamespace"
        " ORDER BY relname"
    )
    files = place.query(marts)
    timestamp = simulator.advance().data_timestamp
    printed = place.refresh()
    assert re.findall(r"^plan +(\w+):", printed, re.MULTILINE) == ["incremental", "census"]
    extraction = ["plan", "pages", "snapshot"]
    assert stages(printed) == [*extraction, "load_info", "marts", *extraction]
    assert place.query("SELECT to_char(data_timestamp, 'YYYY-MM-DD\"T\"HH24:MI:SS') FROM staging.load_info") == [(timestamp,)]  # fmt: skip
    assert place.query(marts) == files

    assert stages(place.refresh("--mode", "census")) == []
    printed = place.refresh("--again", "--mode", "census")
    assert stages(printed) == extraction
    modes = [plan.mode for plan in place.lake.extractions.plans()]
    assert modes[-1] is ExtractionMode.CENSUS
    after = place.tables()
    assert after.keys() == before.keys()
    differ = {name for name in before if before[name] != after[name]}
    assert {"staging.load_info", "marts.dim_snapshot_month"} <= differ
    assert differ <= {"staging.load_info", *marts_of_the_day(place)}


def test_another_refresh_is_refused(refreshed: tuple[Workplace, str]) -> None:
    """While one refresh is at work, a second one says so and ends with status 4."""
    place, _ = refreshed
    with file_lock(place.settings, "refresh"):
        done = place.ctg("refresh")
    assert done.returncode == 4
    assert "another process is at work on the refresh" in done.stderr


@pytest.fixture
def few_marts() -> Iterator[tuple[Workplace, RunningSimulator]]:
    """A workplace with good data down to one mart, and its registry."""
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url, marts="fct_study_sponsor") as place,
    ):
        place.refresh()
        yield place, running


@pytest.mark.soak
@only_in_soaks
def test_mass_disappearance_is_held_back(
    few_marts: tuple[Workplace, RunningSimulator],
) -> None:
    """When many studies are gone the tables keep the old state until a person lets it pass."""
    place, simulator = few_marts
    before = place.query("SELECT count(*) FROM staging.studies")
    fewer = STUDIES - 7
    simulator.advance(GeneratedSource(fewer, 1))
    done = place.ctg("refresh")
    assert done.returncode == 3
    assert "7 of 60 studies are gone" in done.stderr
    assert "CTG_MAX_SHRINK_FRACTION" in done.stderr
    assert place.query("SELECT count(*) FROM staging.studies") == before

    again = place.ctg("refresh")
    assert again.returncode == 3
    assert stages(again.stdout) == []
    held_back = "held back: not recorded, check no_mass_disappearance failed"
    assert held_back in place.ctg("status").stdout

    # The UI and the CI commands run all in one: there the blocking check stops what is downstream.
    blocked = place.materialize(
        "--select",
        "(group:lake or key:studies+) and not group:ctgov_downloads and not group:release",
    )
    assert blocked.returncode != 0
    assert place.query("SELECT count(*) FROM staging.studies") == before

    place.refresh(max_shrink_fraction="1")
    assert place.query("SELECT count(*) FROM staging.studies") == [(fewer,)]
    assert place.query("SELECT count(DISTINCT nct_id) FROM marts.fct_study_sponsor") == [(fewer,)]


@only_in_soaks
def test_killed_walk_is_taken_over() -> None:
    """A walk ended by `kill -9`, then by Ctrl-C, goes on by other means; no page is asked for twice.

    But for those in flight. The killed run is reported failed, its pool slot is free again, and Dagster
    learns of the pages that landed before.
    """
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        # One page after the other; and a busy machine is not to make a request again while commands run.
        workplace(running.api_url, token_chains="1", request_timeout_seconds="600") as at,
    ):
        running.set_faults("page=3@studies:timeout")
        with at.start(str(INSTALLED / "ctg-assets"), "refresh", retry_seconds="60") as killed:
            wait_until("third page asked for", lambda: sum(page_tokens(running).values()) == 3)
            busy = at.materialize("--select", "extraction_plan")
            assert busy.returncode != 0
            assert "another process is at work on the extraction" in busy.stdout + busy.stderr
            assert "running: extract_pages" in at.ctg("status").stdout
            kill_group(killed)
        assert len(at.pages()) == 2
        said = at.ctg("status").stdout
        assert "running:" not in said
        assert re.search(
            rf"^died: extract_pages, started, Dagster run \S+: its process \({killed.pid} on ",
            said,
            re.MULTILINE,
        )
        assert "the next refresh or run reports it as failed" in said

        running.set_faults("page=5@studies:timeout")
        with at.start("ctg-assets", "refresh", retry_seconds="60") as stopped:
            wait_until(
                "fourth page there, fifth asked for",
                lambda: len(at.pages()) == 4 and sum(page_tokens(running).values()) == 6,
            )
            os.killpg(stopped.pid, signal.SIGINT)
            _, said = stopped.communicate(timeout=60)
        assert stopped.returncode == 130, said
        assert said.startswith("interrupted; what is finished stays")
        assert "Traceback" not in said
        assert len(at.pages()) == 4
        state = at.dagster_state()
        assert sorted(state["materialized"]["page_shards"]) == at.pages()
        runs = [(job, status) for job, status, _ in state["runs"]]
        assert runs == [
            ("extract_pages", "FAILURE"),
            ("__ASSET_JOB", "FAILURE"),
            ("extract_pages", "FAILURE"),
            ("plan_extraction", "SUCCESS"),
        ]
        assert not any(state["slots"])

        # From here the partition range takes over, and refresh from that.
        running.set_faults()
        pages = at.ctg("status", "--page-range").stdout.strip()
        done = at.materialize("--select", "page_shards", "--partition-range", pages)
        assert done.returncode == 0, done.stderr
        assert set(at.dagster_state()["materialized"]["page_shards"]) == set(at.pages())
        assert Counter(page_tokens(running).values()) == {1: PAGES - 2, 2: 2}
        plan = at.lake.extractions.latest(ExtractionState.COMPLETE)
        assert plan is not None
        assert len(at.lake.shards.pages(plan.extraction_id)) == PAGES
