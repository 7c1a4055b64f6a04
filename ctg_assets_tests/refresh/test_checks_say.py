"""Every check that fails says how many, and which."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from ctg_assets.aact.checks import check_row_counts, check_values_fit
from ctg_assets.aact.schema import aact_tables
from ctg_assets.extract.published_model import PublishedRecord, published_model_check
from ctg_assets.extract.search_file import SavedSearch
from ctg_assets.extract.searches import searches_check
from ctg_assets.history.recording import Disappearance, Recorder
from ctg_assets.lake import Lake
from ctg_assets.model.published import PublishedModel
from ctg_assets.orchestration.check_results import check_result
from ctg_assets.orchestration.extraction import pages_are_complete_and_consistent
from ctg_assets.refresh.checks import (
    check_disappearance,
    check_drift,
    check_foreign_keys,
    check_quarantine,
    check_shards,
    check_snapshot_count,
    check_study_rows,
    check_times,
)
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings
from ctg_assets_tests.orchestration.graph import definitions_without_dbt
from ctg_assets_tests.refresh.test_checks import _manifest
from ctg_assets_tests.support.lakes import add_pages, completed, json_of, planned

_NCT = "NCT00000002"


def _shards(lake: Lake, settings: Settings) -> CheckResult:
    plan = planned(lake, settings, studies=3)
    add_pages(lake, plan, json_of(1, 2, 3, 2))
    return check_shards(lake, plan)


def _published(lake: Lake, settings: Settings) -> CheckResult:
    asked = datetime(2026, 11, 20, tzinfo=UTC)
    model = PublishedModel((), ())
    return published_model_check(
        PublishedRecord(source="", data_timestamp="", asked_at=asked, model=model)
    )


def _times(lake: Lake, settings: Settings) -> CheckResult:
    plan = planned(lake, settings, studies=3)
    completed(lake, plan, json_of(1, 2, 3))
    entry = Recorder(lake.storage, lake.scratch).record(plan.extraction_id)
    odd = msgspec.structs.replace(
        entry, impossible_dates=2, impossible_date=f"2999-01-01 of {_NCT}"
    )
    return check_times(plan, odd)


_AACT_TABLES = [table.name for table in aact_tables()]

# For each check of ours one thing that it finds; and the names, counts or values that it has to tell.
_FAILING: dict[str, tuple[Callable[[Lake, Settings], CheckResult], tuple[str, ...]]] = {
    "the_registrys_model_is_ours": (_published, ("times", "protocolSection")),
    "pages_are_complete_and_consistent": (_shards, ("1 rows", _NCT)),
    "no_mass_disappearance": (
        lambda _, settings: check_disappearance(
            Disappearance(10, 5, left_scope=False, examples=(_NCT, "NCT00000003", "NCT00000004")),
            settings,
        ),
        ("5 of 10", f"{_NCT}, NCT00000003, NCT00000004 and 2 more"),
    ),
    "times_can_be": (_times, ("2 contents", f"2999-01-01 of {_NCT}")),
    "every_study_is_accounted_for": (
        lambda *_: check_snapshot_count(_manifest(studies=900)),
        ("900", "1000"),
    ),
    "few_studies_in_quarantine": (
        lambda _, settings: check_quarantine(
            _manifest(quarantined=2, quarantine_reasons={"count: text": 2}),
            settings,
            [(_NCT, "count: text")],
        ),
        ("2 studies", "count: text (2)", f"for example {_NCT}"),
    ),
    "no_unknown_fields": (
        lambda *_: check_drift(_manifest(unknown_fields={"a.b": 7, "c": 1}), {"c": _NCT}),
        ("2 fields", "a.b (7 times)", f"for example {_NCT} has c"),
    ),
    "one_row_per_study_of_the_snapshot": (
        lambda *_: check_study_rows(_manifest(), 900),
        ("900 rows for 1000 studies",),
    ),
    "as_many_rows_as_staging": (
        lambda *_: check_row_counts(
            {**dict.fromkeys(_AACT_TABLES, 2), "keywords": 3}, dict.fromkeys(_AACT_TABLES, 2)
        ),
        ("1 tables", "keywords: 3 in staging, 2 here"),
    ),
    "values_fit_the_types_of_aact": (
        lambda *_: check_values_fit({"studies.enrollment": 4}),
        ("studies.enrollment (4)",),
    ),
    "saved_searches_are_answered": (
        lambda lake, settings: searches_check(
            lake.storage, settings.api_url, [SavedSearch(name="covid-19", query="COVID-19")]
        ),
        ("1 of 1 saved searches", "'covid-19': not asked yet"),
    ),
    "foreign_keys_hold": (
        lambda *_: check_foreign_keys({"b_fkey", "a_fkey"}),
        ("2 keys", "a_fkey, b_fkey"),
    ),
}


def _names() -> set[str]:
    graph = definitions_without_dbt().resolve_asset_graph()
    pages = pages_are_complete_and_consistent.check_specs
    return {key.name for key in graph.asset_check_keys} | {spec.name for spec in pages}


def test_every_check_is_made_to_fail_here() -> None:
    """The checks that Dagster knows, but for dbt's tests, are those below: a new one needs its words."""
    assert _names() == _FAILING.keys()


@pytest.mark.parametrize("name", _FAILING)
def test_a_failing_check_says_how_many_and_which(lake: Lake, settings: Settings, name: str) -> None:
    """The description that the UI, refresh and status show has a number and what it is about."""
    fail, told = _FAILING[name]
    result = check_result(fail(lake, settings), name)
    assert not result.passed
    description = result.description or ""
    assert re.search(r"\d", description)
    assert [words for words in told if words not in description] == []


def test_a_refusal_to_load_names_a_study(settings: Settings) -> None:
    """Beyond the bound the description still says how many, why and one of them."""
    outcome = check_quarantine(
        _manifest(studies=1, quarantined=2, quarantine_reasons={"count: text": 2}),
        settings,
        [(_NCT, "count: text")],
    )
    assert outcome.blocking
    assert "66.7% of the studies (2)" in outcome.description
    assert f"for example {_NCT}: count: text" in outcome.description
