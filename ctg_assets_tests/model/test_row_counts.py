"""Every table has as many rows as the registry's JSON has things to make rows of.

The recorded real studies are counted where they are loaded, in `whole_way/test_real_studies.py`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from ctg_assets.model.flatten import flatten
from ctg_assets.model.tables import staging_tables
from ctg_assets.simulator.generate import study_json
from ctg_assets_tests.model.row_counter import COUNTED_TABLES, count_rows
from ctg_assets_tests.model.snapshots import typed_rows
from ctg_assets_tests.model.wild import wild_study


def _assert_counts(contents: Sequence[bytes]) -> None:
    found = {name: rows.num_rows for name, rows in flatten(typed_rows(contents)).items()}
    assert found == count_rows(json.loads(content) for content in contents)


def test_every_table_is_counted() -> None:
    """It is known of each table, and of no other, what its rows are counted by."""
    assert {table.name for table in staging_tables()} == COUNTED_TABLES


@pytest.mark.slow
def test_generated_studies_have_the_rows_counted() -> None:
    """On generated studies each table has the rows counted, and none is without any."""
    contents = [study_json(7, index) for index in range(600)]
    _assert_counts(contents)
    counts = count_rows(json.loads(content) for content in contents)
    assert [name for name, count in counts.items() if not count] == []


@pytest.mark.slow
def test_wild_studies_have_the_rows_counted() -> None:
    """Where things are missing, null or empty, each table still has the rows counted."""
    studies = [wild_study(2, number) for number in range(1, 120)]
    _assert_counts([json.dumps(study).encode() for study in studies])
    assert min(count_rows(studies).values()) > 0
