"""What AACT's columns mean where staging means something else, with values worked out by hand from the JSON.

Studies with numbers below NCT00000100 are made by hand (`made_studies.py`); the others are recorded.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.request import CtgovReport, CtgovRequest
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.aact.made_studies import write_made_studies
from ctg_assets_tests.conftest import loaded_once
from ctg_assets_tests.support.loaded_studies import LoadedStudies


@pytest.fixture(scope="module")
def by_hand(server: PostgresAddress) -> tuple[PostgresAddress, CtgovReport]:
    """The database with AACT's tables of the studies made by hand, and what the build of them told."""

    def write(folder: Path) -> Path:
        path = folder / "studies.jsonl.gz"
        write_made_studies(path)
        return path

    loaded = loaded_once(server, "by_hand", write)
    return loaded.address, build_ctgov(CtgovRequest(loaded.address))


@pytest.fixture(scope="module")
def made_by_hand(by_hand: tuple[PostgresAddress, CtgovReport]) -> PostgresAddress:
    """The database alone."""
    return by_hand[0]


def rows(address: PostgresAddress, statement: str, number: int = 0) -> list[tuple[Any, ...]]:
    """The rows of a statement in schema ctgov; `{study}` stands for the number of a study made by hand."""
    study = f"'NCT{number:08d}'"
    with connect(address) as connection:
        connection.execute("SET search_path = ctgov")
        return list(connection.execute(statement.format(study=study).encode()).fetchall())


def calculated(address: PostgresAddress, columns: str, *studies: str) -> list[tuple[Any, ...]]:
    """These columns of calculated_values, of studies in this order."""
    statement = f"SELECT {columns} FROM calculated_values WHERE nct_id = "
    return [row for study in studies for row in rows(address, f"{statement} '{study}'")]


def test_outcomes_not_yet_posted_are_expected_from_the_first_of_the_month(
    aact: PostgresAddress, made_by_hand: PostgresAddress
) -> None:
    """NCT00113087's first outcome was to be posted in "2009-11", the one made by hand in "2027-02"."""
    statement = "SELECT anticipated_posting_date, anticipated_posting_month_year FROM outcomes "
    assert rows(aact, f"{statement} WHERE nct_id = 'NCT00113087' ORDER BY id LIMIT 1") == [
        (date(2009, 11, 1), "2009-11")
    ]
    assert rows(made_by_hand, f"{statement} WHERE nct_id = {{study}}", 12) == [
        (date(2027, 2, 1), "2027-02")
    ]


def test_other_partial_dates_are_the_last_of_the_month(aact: PostgresAddress) -> None:
    """NCT01127061 began in "2010-04", and its primary completion was in "2015-09"."""
    columns = "start_month_year, start_date, primary_completion_month_year, primary_completion_date"
    assert rows(aact, f"SELECT {columns} FROM studies WHERE nct_id = 'NCT01127061'") == [
        ("2010-04", date(2010, 4, 30), "2015-09", date(2015, 9, 30))
    ]


def test_numbers_of_planned_outcomes_are_null_where_there_is_none(aact: PostgresAddress) -> None:
    """NCT00520975 plans 1, 4 and 6 outcomes of the kinds, NCT00001245 none of any."""
    columns = ", ".join(
        f"number_of_{kind}_outcomes_to_measure" for kind in ("primary", "secondary", "other")
    )
    assert calculated(aact, columns, "NCT00520975", "NCT00001245") == [
        (1, 4, 6),
        (None, None, None),
    ]


def test_of_studies_without_sites_nothing_is_said_of_where_they_are(aact: PostgresAddress) -> None:
    """NCT00088257 has no site, NCT00001245 one in the United States, NCT00219323 one in Japan.

    NCT00125996 has two, in Poland and the United Kingdom.
    """
    columns = "number_of_facilities, has_us_facility, has_single_facility"
    studies = ("NCT00088257", "NCT00001245", "NCT00219323", "NCT00125996")
    assert calculated(aact, columns, *studies) == [
        (0, None, None),
        (1, True, True),
        (1, False, True),
        (2, False, False),
    ]


def test_the_territories_are_in_the_united_states(made_by_hand: PostgresAddress) -> None:
    """One study has a site in Puerto Rico, another one in Guam and one in Japan."""
    columns = "has_us_facility, has_single_facility"
    assert calculated(made_by_hand, columns, "NCT00000005", "NCT00000006") == [
        (True, True),
        (True, False),
    ]


def test_actual_durations_are_in_months_of_thirty_days(aact: PostgresAddress) -> None:
    """From start to primary completion, cut off; NULL when one is missing or estimated.

    NCT00877903: 30 March 2009 to 18 May 2011 are 779 days, 25.97 months. NCT00000410: from 31 March 2000,
    of no type, to 30 April 2015 are 5,508 days, 183.6 months. NCT00286637's end is estimated; NCT00001908
    has none.
    """
    studies = ("NCT00877903", "NCT00000410", "NCT00286637", "NCT00001908")
    assert calculated(aact, "actual_duration", *studies) == [(25,), (183,), (None,), (None,)]


def test_durations_of_odd_dates(made_by_hand: PostgresAddress) -> None:
    """Minus 59 days are minus one month; 335 days between dates without types are 11; an estimate is none."""
    studies = ("NCT00000001", "NCT00000002", "NCT00000003")
    assert calculated(made_by_hand, "actual_duration", *studies) == [(-1,), (11,), (None,)]


def test_months_to_report_results(aact: PostgresAddress, made_by_hand: PostgresAddress) -> None:
    """From primary completion to the first submission of results, cut off, estimated or not.

    NCT00551369: 31 May 2012 to 6 September 2016 are 1,559 days, 51.97 months. NCT01133288: 31 July to 11
    July 2011 are minus 20 days. NCT00877903 has no results. Made by hand: minus 32 days, and 151 days from
    an estimated completion.
    """
    column = "months_to_report_results"
    studies = ("NCT00551369", "NCT01133288", "NCT00877903")
    assert calculated(aact, column, *studies) == [(51,), (0,), (None,)]
    assert calculated(made_by_hand, column, "NCT00000001", "NCT00000003") == [(-1,), (5,)]


def test_subjects_count_once_for_each_event_and_group(aact: PostgresAddress) -> None:
    """Sums over events; NULL where there is no event of the kind.

    NCT00789724: serious 2+2 and 0+2, other 2+0. NCT00162773: one other event, of one subject. NCT03862131:
    other 1+1, and a group of which no number was sent. NCT00189228 reports that there was none.
    """
    columns = "number_of_sae_subjects, number_of_nsae_subjects"
    studies = ("NCT00789724", "NCT00162773", "NCT03862131", "NCT00189228")
    assert calculated(aact, columns, *studies) == [(6, 2), (None, 1), (None, 2), (None, None)]


def test_results_are_reported_where_there_is_an_outcome(
    aact: PostgresAddress, made_by_hand: PostgresAddress
) -> None:
    """NCT00789724 has outcomes, NCT00001908 has none; nor has one made by hand that says it has results."""
    column = "were_results_reported"
    assert calculated(aact, column, "NCT00789724", "NCT00001908") == [(True,), (False,)]
    assert calculated(made_by_hand, column, "NCT00000004", "NCT00000008") == [(False,), (True,)]


def test_years_and_ages(aact: PostgresAddress) -> None:
    """NCT00298376 was submitted on 1 March 2006, for ages of "1 Month" to "15 Months"; NCT00000410 from "18 Years"."""
    columns = "registered_in_calendar_year, minimum_age_num, minimum_age_unit, maximum_age_num, maximum_age_unit"
    assert calculated(aact, columns, "NCT00298376", "NCT00000410") == [
        (2006, 1, "month", 15, "month"),
        (1999, 18, "year", None, None),
    ]


@pytest.mark.parametrize(
    "column",
    [
        "studies.nlm_download_date_description",
        "calculated_values.nlm_download_date",
        "design_outcomes.population",
        "drop_withdrawals.count_units",
        "reported_events.default_vocab",
        "reported_events.default_assessment",
        "result_agreements.agreement",
    ],
)
def test_columns_of_the_past_are_there_and_empty(aact: PostgresAddress, column: str) -> None:
    """Columns that AACT has and never fills are there, and NULL."""
    table, _, name = column.partition(".")
    [(count, filled)] = rows(aact, f"SELECT count(*), count({name}) FROM {table}")
    assert count > 0
    assert filled == 0


def test_what_is_left_of_a_p_value(aact: PostgresAddress, made_by_hand: PostgresAddress) -> None:
    """The modifier is empty for a plain number, and NULL only where no p value was sent.

    NCT00114530's "Regimen-Related Toxicities" has analyses with "<0.001" and twice without one.
    """
    statement = (
        "SELECT {} FROM outcome_analyses a JOIN outcomes o ON o.id = a.outcome_id WHERE o.nct_id = "
    )
    known = statement.format("p_value_raw, p_value_modifier, p_value")
    assert rows(aact, f"{known} 'NCT00114530' AND o.title ~ '^Regimen' ORDER BY a.id") == [
        ("<0.001", "<", 0.001),
        (None, None, None),
        (None, None, None),
    ]
    made = statement.format("p_value_raw, p_value_modifier")
    assert rows(made_by_hand, f"{made} {{study}} ORDER BY a.id", 8) == [
        ("0.05", ""),
        (">0.99", ">"),
        ("0.04 (two-sided)", "(twosided)"),
        ("&lt; 0.001", "&lt;"),
        (None, None),
    ]


def test_percentages_are_calculated_yes_or_no(
    aact: PostgresAddress, made_by_hand: PostgresAddress
) -> None:
    """NCT01644500 says false of "Sex: Female, Male", with four groups twice, and nothing of "Age, Continuous"."""
    statement = "SELECT calculate_percentage, count(*) FROM baseline_measurements WHERE nct_id = "
    assert rows(
        aact,
        f"{statement} 'NCT01644500' AND title IN ('Sex: Female, Male', 'Age, Continuous') GROUP BY 1 ORDER BY 1",
    ) == [("No", 8), (None, 4)]
    assert rows(made_by_hand, f"{statement} {{study}} GROUP BY 1", 7) == [("Yes", 1)]


def test_thresholds_are_whole_numbers(aact: PostgresAddress, made_by_hand: PostgresAddress) -> None:
    """So "0.1" is 0, "0.5" is 0, "3.3" is 3, "5.0" and "5" are 5; made by hand, "99.9" is 99."""
    statement = "SELECT DISTINCT frequency_threshold FROM reported_events WHERE nct_id = "
    thresholds = {
        "NCT00094302": 0,
        "NCT02151383": 0,
        "NCT03447990": 3,
        "NCT01644617": 5,
        "NCT00067236": 5,
    }
    for study, threshold in thresholds.items():
        assert rows(aact, f"{statement} '{study}'") == [(threshold,)]
    assert rows(made_by_hand, f"{statement} {{study}}", 4) == [(99,)]


def test_comments_of_milestones_are_kept(
    aact: PostgresAddress, made_by_hand: PostgresAddress
) -> None:
    """AACT has none; here they are what was sent of the group, beside what was sent of the milestone.

    NCT00115934 says of the second group that started "276 randomized to RVPAS, but 2 did not have ...".
    """
    statement = "SELECT description, milestone_description FROM milestones WHERE nct_id ="
    [(description, milestone)] = rows(
        aact, f"{statement} 'NCT00115934' AND title = 'STARTED' AND ctgov_group_code = 'FG001'"
    )
    assert description.startswith("276 randomized to RVPAS, but 2 did not have a Norwood surgery")
    assert milestone is None
    assert rows(made_by_hand, f"{statement} {{study}}", 7) == [("of the group", "of the milestone")]


def test_times_are_those_of_the_observation(
    aact: PostgresAddress, real_studies: LoadedStudies
) -> None:
    """All studies were seen once, in the file, so that is when each was created and last changed."""
    seen = datetime.fromisoformat(real_studies.manifest.data_timestamp).replace(tzinfo=None)
    for table in ("studies", "reported_event_totals"):
        assert rows(aact, f"SELECT DISTINCT created_at, updated_at FROM {table}") == [(seen, seen)]


def test_dates_of_quality_control_of_updates_are_copies(aact: PostgresAddress) -> None:
    """NCT00000410 was last updated on 3 August 2015; the registry has no date of control of that."""
    columns = "last_update_submitted_date, last_update_submitted_qc_date"
    assert rows(aact, f"SELECT {columns} FROM studies WHERE nct_id = 'NCT00000410'") == [
        (date(2015, 8, 3), date(2015, 8, 3))
    ]
    assert rows(
        aact,
        "SELECT count(*) FROM studies WHERE last_update_submitted_qc_date IS DISTINCT FROM last_update_submitted_date",
    ) == [(0,)]


def test_classes_without_values_have_no_rows(aact: PostgresAddress) -> None:
    """AACT adds an empty row for each where the first is one; here there are the values sent, and no more.

    Of NCT02569710's "Trough Plasma Concentration" the class AL-335 has none, ALS-022399 three and ALS-022227
    five. NCT00585611 has none of any measure at baseline.
    """
    assert rows(
        aact,
        "SELECT classification, count(*) FROM outcome_measurements WHERE nct_id = 'NCT02569710' "
        "AND title ~ '^Trough Plasma Concentration .Ctrough. for AL-335 and' GROUP BY 1 ORDER BY 1",
    ) == [("ALS-022227", 5), ("ALS-022399", 3)]
    assert rows(
        aact, "SELECT count(*) FROM baseline_measurements WHERE nct_id = 'NCT00585611'"
    ) == [(0,)]


def test_counts_with_separators_are_whole(
    aact: PostgresAddress, made_by_hand: PostgresAddress
) -> None:
    """NCT02817828 sent "1,553" at baseline and for an outcome, which AACT reads as 1; made by hand "12,345"."""
    assert rows(aact, "SELECT count FROM baseline_counts WHERE nct_id = 'NCT02817828'") == [(1553,)]
    assert rows(
        aact,
        "SELECT DISTINCT c.count FROM outcome_counts c JOIN outcomes o ON o.id = c.outcome_id "
        "WHERE o.nct_id = 'NCT02817828' AND o.title ~ '^Number of Subjects With Unscheduled Blee'",
    ) == [(1553,)]
    assert rows(made_by_hand, "SELECT count FROM baseline_counts WHERE nct_id = {study}", 7) == [
        (12345,)
    ]


def test_numbers_with_separators_are_numbers(
    aact: PostgresAddress, made_by_hand: PostgresAddress
) -> None:
    """AACT has NULL for them, and for a number with a dot at its end.

    NCT00712335's "Sputum IL-8 Levels": "26,300" and "74,106" in the second group. NCT04767061: "1,999.32".
    NCT03079102: "134.". NCT02817828: "1,553" women at baseline.
    """
    statement = (
        "SELECT param_value, param_value_num, dispersion_value_num FROM {table} WHERE nct_id ="
    )
    outcomes = statement.format(table="outcome_measurements")
    assert rows(aact, f"{outcomes} 'NCT00712335' AND param_value = '26,300'") == [
        ("26,300", Decimal(26300), Decimal(74106))
    ]
    assert rows(aact, f"{outcomes} 'NCT04767061' AND dispersion_value = '1,999.32'") == [
        ("2790.5", Decimal("2790.5"), Decimal("1999.32"))
    ]
    assert rows(aact, f"{outcomes} 'NCT03079102' AND param_value = '134.'") == [
        ("134.", Decimal(134), Decimal("5.3"))
    ]
    baseline = statement.format(table="baseline_measurements")
    assert rows(aact, f"{baseline} 'NCT02817828' AND category = 'Female'") == [
        ("1,553", Decimal(1553), None)
    ]
    columns = (
        "param_value_num, dispersion_value_num, dispersion_lower_limit, dispersion_upper_limit"
    )
    assert rows(
        made_by_hand, f"SELECT {columns} FROM baseline_measurements WHERE nct_id = {{study}}", 7
    ) == [(Decimal(80), Decimal("1234.5"), Decimal(1000), Decimal(2000000))]


def test_numbers_with_signs_are_none(made_by_hand: PostgresAddress) -> None:
    """Of "<0.5" the column cannot say that it is less, so it is NULL, as in AACT; "= 7" is 7."""
    columns = "param_value, param_value_num, dispersion_value_num, dispersion_lower_limit, dispersion_upper_limit"
    statement = f"SELECT {columns} FROM outcome_measurements WHERE nct_id = {{study}} ORDER BY id"
    assert rows(made_by_hand, statement, 13) == [
        ("<0.5", None, None, None, None),
        ("= 7", Decimal(7), Decimal("0.1"), None, None),
    ]
    columns = "param_value, ci_percent, ci_upper_limit, ci_upper_limit_raw"
    statement = f"SELECT {columns} FROM outcome_analyses WHERE nct_id = {{study}}"
    assert rows(made_by_hand, statement, 13) == [(None, Decimal(95), None, ">90")]


def test_commas_that_may_be_decimal_make_no_number(
    aact: PostgresAddress, made_by_hand: PostgresAddress
) -> None:
    """NCT02717507 sent "-0,083", which AACT reads as 0; beside "0,3139", "1,249" may mean 1.249."""
    assert rows(
        aact,
        "SELECT a.param_value FROM outcome_analyses a JOIN outcomes o ON o.id = a.outcome_id "
        "WHERE o.nct_id = 'NCT02717507' AND o.title = 'Average Left Ventricular End-diastolic Dimension'",
    ) == [(None,)]
    assert rows(
        made_by_hand,
        "SELECT param_value, param_value_num FROM outcome_measurements WHERE nct_id = {study} ORDER BY id",
        9,
    ) == [("0,3139", None), ("1,249", None)]


def test_numbers_analyzed_are_the_study_s_own(aact: PostgresAddress) -> None:
    """NCT00733343's groups have 666, 659 and, together, 1,325 participants; AACT mostly has another study's."""
    assert rows(
        aact,
        "SELECT ctgov_group_code, number_analyzed, number_analyzed_units FROM baseline_measurements "
        "WHERE nct_id = 'NCT00733343' AND title = 'Age, Continuous' ORDER BY id",
    ) == [
        ("BG000", 666, "Participants"),
        ("BG001", 659, "Participants"),
        ("BG002", 1325, "Participants"),
    ]


def test_p_values_with_escaped_signs_are_numbers(aact: PostgresAddress) -> None:
    """NCT01874431 sent "&lt; 0.0001" three times, and NCT04435626 "&lt;.0001"; AACT reads them as 0."""
    assert rows(
        aact,
        "SELECT nct_id, p_value, count(*) FROM outcome_analyses "
        "WHERE p_value_raw LIKE '&lt;%' AND nct_id IN ('NCT01874431', 'NCT04435626') GROUP BY 1, 2 ORDER BY 1",
    ) == [("NCT01874431", 0.0001, 3), ("NCT04435626", 0.0001, 1)]


def test_what_does_not_fit_is_null_and_told(
    by_hand: tuple[PostgresAddress, CtgovReport],
) -> None:
    """An enrollment of 3,000,000,000 is NULL, as sent in staging, and counted by the build."""
    address, report = by_hand
    assert rows(
        address, "SELECT enrollment, enrollment_type FROM studies WHERE nct_id = {study}", 10
    ) == [(None, "ACTUAL")]
    assert rows(address, "SELECT enrollment FROM staging.studies WHERE nct_id = {study}", 10) == [
        (3_000_000_000,)
    ]
    assert report.not_fitting == {"studies.enrollment": 1}


def test_an_invented_role_is_a_contact_s(made_by_hand: PostgresAddress) -> None:
    """Investigators are those of the registry's roles; AACT takes whoever has the word in the role."""
    statement = (
        "SELECT name, contact_type FROM facility_contacts WHERE nct_id = {study} ORDER BY id"
    )
    assert rows(made_by_hand, statement, 11) == [("Ada", "primary"), ("Bo", "backup")]
    [(count,)] = rows(made_by_hand, "SELECT count(*) FROM facility_investigators")
    assert count == 0


def test_of_groups_with_one_name_the_first_is_meant(made_by_hand: PostgresAddress) -> None:
    """An intervention that names its group belongs to the first of that name; AACT takes the last."""
    statement = (
        "SELECT g.group_type FROM design_group_interventions i JOIN design_groups g "
        "ON g.id = i.design_group_id WHERE i.nct_id = {study}"
    )
    assert rows(made_by_hand, statement, 11) == [("EXPERIMENTAL",)]


def test_there_is_one_row_a_study_or_none(aact: PostgresAddress) -> None:
    """Four tables have a row for each of the 3,394 studies, also of a study without that part; designs has 9 fewer."""
    for table in ("brief_summaries", "detailed_descriptions", "eligibilities", "calculated_values"):
        assert rows(aact, f"SELECT count(*), count(DISTINCT nct_id) FROM {table}") == [(3394, 3394)]
    assert rows(aact, "SELECT count(*), count(DISTINCT nct_id) FROM designs") == [(3385, 3385)]
    assert rows(
        aact, "SELECT description FROM detailed_descriptions WHERE nct_id = 'NCT00069082'"
    ) == [(None,)]


def test_no_phase_and_no_enrollment_are_not_values(aact: PostgresAddress) -> None:
    """NCT00115934's phase is NA, NCT00001245 has none; NCT00260546 enrolled 0, NCT00428467 says nothing."""
    phases = "SELECT phase FROM studies WHERE nct_id IN ('NCT00115934', 'NCT00001245') ORDER BY nct_id DESC"
    assert rows(aact, phases) == [("NA",), (None,)]
    enrolled = "SELECT enrollment FROM studies WHERE nct_id IN ('NCT00260546', 'NCT00428467') ORDER BY nct_id"
    assert rows(aact, enrolled) == [(0,), (None,)]


def test_countries_of_removed_sites_are_marked(aact: PostgresAddress) -> None:
    """NCT00077649 has sites in the United States and Puerto Rico, and had some in Canada."""
    assert rows(
        aact, "SELECT name, removed FROM countries WHERE nct_id = 'NCT00077649' ORDER BY id"
    ) == [("United States", False), ("Puerto Rico", False), ("Canada", True)]
