"""Who has to report results, and who has: the recorded real studies, and the list of January 2017."""

from __future__ import annotations

import csv
import gzip

import pytest

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.marts.projects import dbt_on, values
from ctg_assets_tests.model.snapshots import real_studies
from ctg_assets_tests.shared_material import shared_path

FIGURES = """
    SELECT
        count(*) FILTER (WHERE is_act), count(*) FILTER (WHERE is_pact),
        count(*) FILTER (WHERE results_due),
        count(*) FILTER (WHERE status = 'ongoing'), count(*) FILTER (WHERE status = 'reported'),
        count(*) FILTER (WHERE status = 'reported-late'),
        count(*) FILTER (WHERE status = 'overdue'),
        count(*) FILTER (WHERE status = 'overdue-cancelled'),
        count(*) FILTER (WHERE has_late_certificate AND status IS NOT NULL)
    FROM marts.fct_results_reporting
"""


def unregulated() -> list[str]:
    """The studies that the published file says are not regulated, in order."""
    published = gzip.decompress(
        shared_path("fdaaa/regulatory_snapshot_2017-01.csv.gz").read_bytes()
    )
    return sorted(
        row["nct_id"]
        for row in csv.DictReader(published.decode().splitlines())
        if row["is_fda_regulated"] == "false"
    )


def test_the_trackers_own_code_finds_the_same(recorded: PostgresAddress) -> None:
    """Each figure is that of the TrialsTracker's code, run on the same studies as of the same day."""
    assert values(recorded, FIGURES) == [(471, 72, 317, 222, 138, 57, 126, 0, 5)]


def test_the_list_of_2017_is_as_it_was_published(recorded: PostgresAddress) -> None:
    """The seed has each of the published studies that are not regulated, and no other; the mart reads it."""
    published = unregulated()
    thousands = values(
        recorded, "SELECT nct_id_start, nct_id_ends FROM intermediate.unregulated_2017"
    )
    assert sorted(start + end for start, ends in thousands for end in ends.split()) == published
    marked = values(
        recorded, "SELECT nct_id FROM marts.fct_results_reporting WHERE was_unregulated_2017"
    )
    _, studies = real_studies()
    assert {nct_id for (nct_id,) in marked} == {*published} & {*studies["nct_id"].to_pylist()}


def test_sponsors_add_up_to_the_trials(recorded: PostgresAddress) -> None:
    """Each trial of the population is one of its lead sponsor's; ranks are those among who has any due."""
    statement = """
        SELECT sum(trials), sum(trials_due), sum(trials_reported), sum(trials_reported_late),
            sum(trials_overdue), min(sponsor_rank),
            count(*) FILTER (WHERE (sponsor_rank IS NULL) <> (trials_due = 0))
        FROM marts.fct_results_reporting_by_sponsor
    """
    assert values(recorded, statement) == [(543, 321, 195, 57, 126, 1, 0)]


def test_another_day_can_be_asked_for(
    recorded: PostgresAddress, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As of another day other results are due and late; the next build is of the data's day again."""
    folder = tmp_path_factory.mktemp("another")
    days_of_the_overdue = (
        "SELECT count(*), sum(days_late) FROM marts.fct_results_reporting WHERE status = 'overdue'"
    )
    [(overdue, days)] = values(recorded, days_of_the_overdue)
    model = ("run", "--select", "fct_results_reporting")
    dbt_on(recorded, folder, *model, "--vars", "as_of: 2026-08-14")
    [(overdue_later, days_later)] = values(recorded, days_of_the_overdue)
    assert overdue_later >= overdue
    assert days_later >= days + overdue
    dbt_on(recorded, folder, *model, "--vars", "as_of: 2017-01-18")
    assert values(recorded, days_of_the_overdue) == [(0, None)]
    dbt_on(recorded, folder, *model)
    assert values(recorded, days_of_the_overdue) == [(overdue, days)]
