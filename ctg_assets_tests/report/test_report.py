"""The report on real studies, on an empty warehouse, and where something is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.marts.selection import all_marts
from ctg_assets.orchestration import report as report_module
from ctg_assets.orchestration.jobs import STAGE_SELECTIONS, write_report
from ctg_assets.orchestration.report import build_report_assets
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.report.asking import Answer, ask
from ctg_assets.report.figures import SECTIONS, all_figures
from ctg_assets_tests.model.row_counter import Study
from ctg_assets_tests.model.snapshots import real_studies
from ctg_assets_tests.orchestration.graph import definitions_without_dbt
from ctg_assets_tests.report.pages import check_page


@pytest.fixture(scope="module")
def answers(recorded: PostgresAddress) -> dict[str, Answer]:
    """What the warehouse answers."""
    return ask(recorded, all_figures())


def _at(study: Study, *path: str) -> Any:
    found: Any = study["protocolSection"]
    for name in path:
        found = (found or {}).get(name)
    return found


def _studies() -> list[Study]:
    studies, _ = real_studies()
    return studies


def _counted(key: Callable[[Study], Any]) -> Counter[Any]:
    return Counter(map(key, _studies()))


def _rows(answer: Answer) -> dict[Any, int]:
    """The rows of a figure that counts: the last column by the others."""
    return {
        next(iter(key)) if len(key := tuple(row.values())[:-1]) == 1 else key: [*row.values()][-1]
        for row in answer.rows
    }


def test_every_question_is_answered(answers: Mapping[str, Answer]) -> None:
    """Nothing is missing; all but what is about changes or WHO's numbers has rows, with every column that the page shows."""
    for name, answer in answers.items():
        assert answer.missing is None, name
        # These studies came in one load, without a history, and WHO's numbers are not loaded.
        assert bool(answer.rows) is not name.startswith(("changes_", "burden_")), name
        for row in answer.rows:
            assert answer.figure.columns.keys() - {"told"} <= row.keys(), name


def test_counts_are_those_of_the_json(answers: Mapping[str, Answer]) -> None:
    """Studies by status, phase, year and type, and class are what plain Python counts in the JSON."""
    assert _rows(answers["status"]) == _counted(
        lambda one: _at(one, "statusModule", "overallStatus")
    )
    assert _rows(answers["phase"]) == Counter(
        "/".join(phases) if (phases := _at(one, "designModule", "phases")) else None
        for one in _studies()
        if _at(one, "designModule", "studyType") == "INTERVENTIONAL"
    )
    assert _rows(answers["registered_by_year"]) == _counted(
        lambda one: (
            int(_at(one, "statusModule", "studyFirstPostDateStruct", "date")[:4]),
            _at(one, "designModule", "studyType"),
        )
    )
    [numbers] = answers["overview"].rows
    assert numbers["studies"] == len(_studies())
    assert numbers["with_results"] == sum(bool(one["hasResults"]) for one in _studies())


def test_countries_are_those_of_the_sites(answers: Mapping[str, Answer]) -> None:
    """A study counts once in each country where it lists a site; each country lies where its sites do."""
    expected = Counter(
        country
        for one in _studies()
        for country in {
            site.get("country") for site in _at(one, "contactsLocationsModule", "locations") or ()
        }
        if country
    )
    rows = answers["countries"].rows
    assert {row["country"]: row["studies"] for row in rows} == expected
    assert all(-90 <= row["latitude"] <= 90 for row in rows if row["latitude"] is not None)
    [france] = [row for row in rows if row["country"] == "France"]
    assert 43 < france["latitude"] < 50
    assert -2 < france["longitude"] < 7


def test_results_are_those_of_the_tracker(answers: Mapping[str, Answer]) -> None:
    """What is due, reported and overdue are the figures of the TrialsTracker's own code as of that day."""
    assert _rows(answers["results_status"]) == {
        "ongoing": 222,
        "reported": 138,
        "reported-late": 57,
        "overdue": 126,
    }


CHANGES = """
    INSERT INTO staging.study_changes (change_seq, nct_id, kind, observed_at, recorded_at, extraction_id, is_silent,
        is_backfill, fields_changed)
    SELECT seq, nct_id, kind, at::timestamptz, now(), 'x', false, false, 1 FROM (VALUES
        (1, 'NCT00000001', 'insert', '2026-08-01 09:00+00'),
        (2, (SELECT min(nct_id) FROM marts.dim_study), 'update', '2026-08-02 09:00+00'),
        (3, (SELECT min(nct_id) FROM marts.dim_study), 'update', '2026-08-12 09:00+00'),
        (4, (SELECT max(nct_id) FROM marts.dim_study), 'update', '2026-08-12 09:00+00'),
        (5, 'NCT00000001', 'delete', '2026-08-13 09:00+00'),
        (6, (SELECT max(nct_id) FROM marts.dim_study), 'delete', '2026-08-12 10:00+00')
    ) AS given (seq, nct_id, kind, at);
    INSERT INTO staging.study_events (change_seq, position, nct_id, event_type, old_value, new_value, days)
    SELECT seq, position, (SELECT nct_id FROM staging.study_changes WHERE change_seq = seq), type, old, new, days
    FROM (VALUES
        (2, 1, 'results_withdrawn', '2020-01-01', null, null),
        (3, 1, 'primary_completion_moved', '2026-01', '2026-02', 28),
        (3, 2, 'status_changed', 'RECRUITING', 'TERMINATED', null),
        (4, 1, 'results_posted', null, '2026-08-11', null)
    ) AS given (seq, position, type, old, new, days);
"""


def test_the_important_changes_of_the_week_come_first(recorded: PostgresAddress) -> None:
    """Of seven days a study is named once, by what matters most; the first walk, older changes and studies that came back are not."""
    with connect(recorded) as connection, connection.transaction(force_rollback=True):
        connection.execute(CHANGES)
        first, last = connection.execute(
            "SELECT min(nct_id), max(nct_id) FROM marts.dim_study"
        ).fetchone() or (None, None)
        found = {
            name: connection.execute(answer.sql).fetchall()
            for name, answer in ask(recorded, all_figures()).items()
            if name.startswith("changes_")
        }
    assert [(row[0], *row[2:6]) for row in found["changes_of_note"]] == [
        (first, "status_changed", None, "RECRUITING", "TERMINATED"),
        ("NCT00000001", "delete", None, None, None),
        (last, "results_posted", None, None, "2026-08-11"),
    ]
    assert dict(found["changes_by_kind"]) == {
        "delete": 2,
        "primary_completion_moved": 1,
        "results_posted": 1,
        "status_changed": 1,
    }


@pytest.mark.slow
def test_the_command_writes_one_file(
    recorded: PostgresAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`report` writes a page under 3 MB that names no address outside, and prints where it is."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("CTG_POSTGRES_URL", recorded.url)
    done = CliRunner().invoke(app, ["report"])
    assert done.exit_code == 0, done.output
    path = tmp_path / "report" / "index.html"
    assert done.stdout.splitlines()[0] == f"file          {path}"
    assert list(path.parent.iterdir()) == [path]
    assert path.stat().st_size < 3_000_000
    described = check_page(path.read_text(encoding="utf-8"))
    # Twice each, for two widths; the changes and WHO's numbers have no rows.
    empty = {"changes_by_kind", "burden_map"}
    plots = [figure for figure in all_figures() if figure.plot and figure.name not in empty]
    assert len(described) == 2 * len(plots)


@pytest.mark.slow
def test_the_asset_says_where_the_page_is(address: PostgresAddress, tmp_path: Path) -> None:
    """On an empty database the asset is made all the same, with the number of sections that cannot be told."""
    with dg.DagsterInstance.ephemeral() as instance:
        overrides = {"data_dir": str(tmp_path), "postgres_url": address.url}
        result = dg.materialize(
            build_report_assets(all_marts()),
            instance=instance,
            resources={"settings": SettingsResource(overrides=overrides)},
        )
    [materialization] = result.asset_materializations_for_node("report")
    shown = {name: value.value for name, value in materialization.metadata.items()}
    assert shown["path"] == str(tmp_path / "report" / "index.html")
    # Nobody is told to build what is about a source that not everybody loads.
    optional = [figure for section in SECTIONS if section.needs_data for figure in section.figures]
    assert shown["sections that cannot be told yet"] == len(all_figures()) - len(optional)
    check_page(Path(str(shown["path"])).read_text(encoding="utf-8"))


def test_no_refresh_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The asset hangs below the marts and is in no stage of a refresh; without the extra there is none."""
    [asset] = build_report_assets(all_marts())
    assert dg.AssetKey(["marts", "fct_results_reporting"]) in asset.dependency_keys
    assert dg.AssetKey(["staging", "study_events"]) in asset.dependency_keys
    definitions = dg.Definitions.merge(definitions_without_dbt(), dg.Definitions(assets=[asset]))
    graph = definitions.resolve_asset_graph()
    for stage, selection in STAGE_SELECTIONS.items():
        assert asset.key not in selection.resolve(graph), stage
    assert isinstance(write_report.selection, dg.AssetSelection)
    assert write_report.selection.resolve(graph) == {asset.key}
    [alone] = build_report_assets([])
    assert {key.path[0] for key in alone.dependency_keys} == {"staging"}
    monkeypatch.setattr(report_module, "plots_installed", lambda: False)
    assert build_report_assets(all_marts()) == []
