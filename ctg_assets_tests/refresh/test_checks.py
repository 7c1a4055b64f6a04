"""The checks of shards, snapshots and tables: what passes, what is told, what stops the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan
from ctg_assets.history.recording import Disappearance
from ctg_assets.lake import Lake
from ctg_assets.refresh.checks import (
    check_disappearance,
    check_drift,
    check_foreign_keys,
    check_quarantine,
    check_shards,
    check_snapshot_count,
    check_study_rows,
    snapshot_check_results,
)
from ctg_assets.results import CheckResult
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.support.lakes import add_page, add_pages, completed, json_of, planned

PASSED, TOLD, FATAL = "passed", "told", "fatal"


def _outcome(check_result: CheckResult) -> str:
    if check_result.passed:
        return PASSED
    return FATAL if check_result.blocking else TOLD


def _manifest(**facts: Any) -> SnapshotManifest:
    sound: dict[str, Any] = {
        "snapshot_id": "s",
        "extraction_id": "s",
        "source": "http://registry.test/api/v2",
        "query": "",
        "data_timestamp": "2026-11-20T09:00:05",
        "content_fingerprint": "c",
        "model_fingerprint": "m",
        "studies": 1000,
        "distinct_ids": 1000,
        "duplicate_rows": 0,
        "quarantined": 0,
        "quarantine_reasons": {},
        "unknown_fields": {},
        "json_bytes": 1,
        "file_bytes": 1,
        "created_at": datetime(2026, 11, 20, tzinfo=UTC),
        "history_sequence": 1,
        "history_revision": 1,
        "parts": ["s"],
        "lineage": {"s": 1},
    }
    return SnapshotManifest(**{**sound, **facts})


# --- shards ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Shards:
    numbers: Sequence[int]
    expected: int
    outcome: str
    says: str


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [
        _Shards(range(25), 25, PASSED, "all pages are there with 25 distinct studies"),
        _Shards([], 0, PASSED, "all pages are there with 0 distinct studies"),
        _Shards(range(26), 25, TOLD, "counted 25 studies, its pages held 26"),
        _Shards(range(24), 25, FATAL, "counted 25 studies, its pages held 24"),
        _Shards([*range(24), 3], 25, FATAL, "counted 25 studies, its pages held 24"),
        _Shards([*range(25), 3], 25, TOLD, "1 rows repeat a study"),
        # A share of up to one in a thousand is told and tolerated.
        _Shards(range(1998), 2000, TOLD, "its pages held 1998"),
        _Shards(range(1997), 2000, FATAL, "its pages held 1997"),
    ],
    ids=lambda case: f"{len(case.numbers)} of {case.expected}: {case.outcome}",
)
def test_shards_are_compared_with_the_registrys_count(
    lake: Lake, settings: Settings, case: _Shards
) -> None:
    """More studies than counted and repeated ones are told; too few are fatal beyond a small share."""
    plan = planned(lake, settings, studies=case.expected)
    add_pages(lake, plan, json_of(*(number + 1 for number in case.numbers)))
    check_result = check_shards(lake, plan)
    assert (_outcome(check_result), case.says in check_result.description) == (
        case.outcome,
        True,
    ), check_result
    assert check_result.facts["rows"] == len(case.numbers)
    assert check_result.facts["distinct NCT ids"] == len(set(case.numbers))
    assert check_result.facts["expected studies"] == case.expected


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "found", "outcome"),
    [
        (ExtractionMode.INCREMENTAL, 1998, TOLD),
        (ExtractionMode.INCREMENTAL, 1997, FATAL),
        (ExtractionMode.CENSUS, 2000, PASSED),
        (ExtractionMode.CENSUS, 1999, FATAL),
        (ExtractionMode.CENSUS, 2001, FATAL),
    ],
)
def test_a_census_has_to_match_the_registrys_count(
    lake: Lake, settings: Settings, mode: ExtractionMode, found: int, outcome: str
) -> None:
    """Where only presence is told, one study too few or too many is fatal; elsewhere a few are told."""
    plan = planned(lake, settings, studies=2000, mode=mode)
    add_pages(lake, plan, json_of(*range(1, found + 1)))
    assert _outcome(check_shards(lake, plan)) == outcome


def test_of_picked_studies_no_number_is_expected(lake: Lake, settings: Settings) -> None:
    """Ids that the registry does not have any more are no failure."""
    plan = planned(lake, settings, studies=15, mode=ExtractionMode.PICKED)
    plan = msgspec.structs.replace(plan, expected_studies=None)
    add_pages(lake, plan, json_of(1, 2, 3))
    check_result = check_shards(lake, plan)
    assert (_outcome(check_result), check_result.description) == (
        PASSED,
        "all pages are there with 3 distinct studies",
    )


def test_pages_of_a_walk_under_way_are_sound(lake: Lake, settings: Settings) -> None:
    """While pages are missing the count says nothing yet."""
    plan = planned(lake, settings, studies=25)
    add_page(lake, plan, 1, json_of(*range(1, 11)))
    check_result = check_shards(lake, plan)
    assert check_result.passed
    assert "1 of 3 pages are there" in check_result.description


def test_a_page_lost_from_a_complete_extraction_is_fatal(lake: Lake, settings: Settings) -> None:
    """Compacting what is left would lose a page's studies, too few perhaps for any other check."""
    studies = json_of(*range(1, 26))
    plan = completed(lake, planned(lake, settings), studies)
    assert _outcome(check_shards(lake, plan)) == PASSED
    lake.storage.delete_file(f"extractions/{plan.extraction_id}/pages/00002.parquet")
    check_result = check_shards(lake, plan)
    assert _outcome(check_result) == FATAL
    assert "1 of the 3 pages" in check_result.description


def test_no_pages_at_all_are_sound(lake: Lake, settings: Settings) -> None:
    """A plan that nobody has walked yet fails no check."""
    assert check_shards(lake, planned(lake, settings)).passed


def test_an_import_has_no_count_to_agree_with(lake: Lake, settings: Settings) -> None:
    """Of a file only repetition can be told."""
    plan = planned(lake, settings, mode=ExtractionMode.IMPORT)
    add_page(lake, plan, 1, json_of(1, 2))
    assert _outcome(check_shards(lake, plan)) == PASSED
    add_page(lake, plan, 2, json_of(2))
    assert _outcome(check_shards(lake, plan)) == TOLD


def test_a_shard_with_other_rows_than_recorded_is_fatal(lake: Lake, settings: Settings) -> None:
    """A shard whose rows are not as many as it says was tampered with, even if pages are missing."""
    plan = planned(lake, settings, studies=25)
    add_page(lake, plan, 1, json_of(*range(1, 11)))
    add_page(lake, plan, 2, json_of(*range(11, 21)))
    _drop_a_row(lake, plan, page=2)
    check_result = check_shards(lake, plan)
    assert _outcome(check_result) == FATAL
    assert "row counts of 1 of 2 pages are not as recorded: pages 2" in check_result.description


def _drop_a_row(lake: Lake, plan: ExtractionPlan, page: int) -> None:
    path = lake.storage.path(f"extractions/{plan.extraction_id}/pages/{page:05d}.parquet")
    rows: pa.Table = pq.read_table(path)
    pq.write_table(rows.slice(1), path)


# --- snapshots ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "outcome"),
    [
        ({"studies": 1000, "distinct_ids": 1000}, PASSED),
        ({"studies": 998, "quarantined": 2, "distinct_ids": 1000}, PASSED),
        # A row without an NCT id is in quarantine and no id of the shards.
        ({"studies": 1000, "quarantined": 1, "distinct_ids": 1000}, PASSED),
        ({"studies": 999, "distinct_ids": 1000}, FATAL),
        ({"studies": 1001, "distinct_ids": 1000}, FATAL),
        ({"studies": 0, "distinct_ids": 0}, PASSED),
    ],
)
def test_studies_and_quarantine_account_for_all_ids(facts: dict[str, int], outcome: str) -> None:
    """A study that is neither typed nor in quarantine is lost, which is fatal."""
    assert _outcome(check_snapshot_count(_manifest(**facts))) == outcome


@pytest.mark.parametrize(
    ("studies", "quarantined", "outcome"),
    [
        *((1000, 0, PASSED), (990, 10, TOLD), (989, 11, FATAL), (0, 0, PASSED), (0, 1, FATAL)),
        # One odd study stops no others, however few they are.
        *((1, 1, TOLD), (60, 1, TOLD), (60, 2, FATAL)),
    ],
)
def test_a_small_quarantine_is_told_and_a_large_one_fatal(
    settings: Settings, studies: int, quarantined: int, outcome: str
) -> None:
    """Up to the configured share of the studies may be in quarantine."""
    assert settings.max_quarantine_fraction == 0.01
    check_result = check_quarantine(_manifest(studies=studies, quarantined=quarantined), settings)
    assert _outcome(check_result) == outcome
    assert ("CTG_MAX_QUARANTINE_FRACTION" in check_result.description) == (outcome == FATAL)


@pytest.mark.parametrize(
    ("studies", "quarantined", "strays", "outcome"),
    [
        (60, 1, 1, TOLD),
        (60, 30, 30, TOLD),
        (60, 2, 1, TOLD),
        (60, 3, 1, FATAL),
        (990, 30, 20, TOLD),
        (0, 1, 1, TOLD),
    ],
)
def test_what_is_no_study_of_a_file_counts_for_nothing(
    settings: Settings, studies: int, quarantined: int, strays: int, outcome: str
) -> None:
    """Records without an id that came with a file are told, and are no share of the studies."""
    facts = {"studies": studies, "quarantined": quarantined, "strays": strays}
    assert _outcome(check_quarantine(_manifest(**facts), settings)) == outcome


@pytest.mark.parametrize(
    ("found", "outcome", "says"),
    [
        (None, PASSED, "does not tell which studies are gone"),
        (Disappearance(current=1000, gone=20, left_scope=False), PASSED, "20 of 1000"),
        (Disappearance(current=1000, gone=21, left_scope=False), FATAL, "CTG_MAX_SHRINK_FRACTION"),
        (Disappearance(current=1000, gone=999, left_scope=True), PASSED, "another scope"),
        (Disappearance(current=0, gone=0, left_scope=False), PASSED, "0 of 0"),
    ],
)
def test_studies_gone_in_masses_are_not_recorded_as_removed(
    settings: Settings, found: Disappearance | None, outcome: str, says: str
) -> None:
    """Beyond the bound nothing is recorded; studies outside of another scope are no loss."""
    assert settings.max_shrink_fraction == 0.02
    check_result = check_disappearance(found, settings)
    assert (_outcome(check_result), says in check_result.description) == (outcome, True), (
        check_result
    )


def test_no_share_allows_no_study_at_all(settings: Settings) -> None:
    """With a bound of nothing, one study alone is fatal."""
    none = settings.model_copy(update={"max_quarantine_fraction": 0.0})
    assert _outcome(check_quarantine(_manifest(studies=1000, quarantined=1), none)) == FATAL


def test_unknown_fields_are_told() -> None:
    """A field outside the model is named, and stops nothing."""
    assert _outcome(check_drift(_manifest())) == PASSED
    check_result = check_drift(_manifest(unknown_fields={"protocolSection.newModule": 7}))
    assert _outcome(check_result) == TOLD
    assert "protocolSection.newModule" in check_result.description
    assert check_result.facts == {"protocolSection.newModule": 7}


def test_every_check_of_a_snapshot_has_a_name(settings: Settings) -> None:
    """Each check is there once, and a bad snapshot fails those that concern it."""
    bad = _manifest(studies=900, unknown_fields={"x": 1})
    outcomes = {name: _outcome(v) for name, v in snapshot_check_results(bad, settings).items()}
    assert outcomes == {
        "every_study_is_accounted_for": FATAL,
        "few_studies_in_quarantine": PASSED,
        "no_unknown_fields": TOLD,
    }


def test_a_real_snapshot_passes(lake: Lake, settings: Settings) -> None:
    """What compaction makes of studies without an NCT id and of a repeated one is accounted for."""
    plan = planned(lake, settings, studies=3)
    nameless = [msgspec.json.encode({"protocolSection": section}) for section in ({}, {"x": 1})]
    studies = [*json_of(1, 2, 3, 2), *nameless]
    completed(lake, plan, studies)
    manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    assert (manifest.studies, manifest.quarantined, manifest.duplicate_rows) == (3, 2, 1)
    assert check_snapshot_count(manifest).passed
    # Two in five are far above the bound.
    assert _outcome(check_quarantine(manifest, settings)) == FATAL


# --- tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "outcome"), [(1000, PASSED), (None, PASSED), (999, FATAL), (0, FATAL)]
)
def test_the_table_of_studies_has_a_row_for_each_study(rows: int | None, outcome: str) -> None:
    """A table that was not part of the load is not checked_records."""
    assert _outcome(check_study_rows(_manifest(), rows)) == outcome


def test_every_foreign_key_must_hold() -> None:
    """The keys that do not are named in order."""
    assert _outcome(check_foreign_keys([])) == PASSED
    check_result = check_foreign_keys({"b_fkey", "a_fkey"})
    assert _outcome(check_result) == FATAL
    assert "a_fkey, b_fkey" in check_result.description
