"""Deltas: they leave what a whole load would leave, readers never wait, and failures change nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from ctg_assets.warehouse.connection import PostgresAddress
from ctg_assets.warehouse.delta import apply_delta
from ctg_assets.warehouse.loader import LoadProgress, LoadReport, load_tables
from ctg_assets_tests.warehouse.helpers import (
    ALL,
    batch,
    build,
    nct_id,
    query,
)


def load(address: PostgresAddress, studies: range = range(1, 4)) -> None:
    """Load whole tables as version 1."""
    load_tables(address, ALL, [batch(studies)], build=build())


def change(
    address: PostgresAddress,
    changed: Sequence[int],
    rows: Mapping[str, pa.Table],
    version: int = 2,
    **options: Any,
) -> LoadReport:
    """Change some studies to the next version."""
    return apply_delta(
        address,
        ALL,
        [rows],
        build=build(version),
        base_snapshot_id=f"snapshot-{version - 1}",
        changed=[nct_id(study) for study in changed],
        **options,
    )


def content(address: PostgresAddress) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in the order of their keys."""
    return {
        shape.name: query(address, f"SELECT * FROM staging.{shape.name} ORDER BY 1")
        for shape in ALL
    }


def test_a_delta_replaces_the_rows_of_changed_studies(address: PostgresAddress) -> None:
    """A changed study has its new rows, a removed one none, a new one its own; others stay."""
    load(address)
    seen: list[LoadProgress] = []
    report = change(address, [1, 2, 9], batch(range(1, 10, 8), version=2), progress=seen.append)
    assert query(address, "SELECT nct_id, version FROM staging.studies ORDER BY 1") == [
        (nct_id(1), 2),
        (nct_id(3), 1),
        (nct_id(9), 2),
    ]
    assert query(address, "SELECT id, version FROM staging.conditions ORDER BY 1") == [
        (1_000_000_001, 2),
        (1_000_000_002, 2),
        (3_000_000_001, 1),
        (3_000_000_002, 1),
        (9_000_000_001, 2),
        (9_000_000_002, 2),
    ]
    assert report.rows == {"studies": 3, "conditions": 6, "keywords": 6}
    assert report.deleted_rows == {"studies": 2, "conditions": 4, "keywords": 4}
    assert report.inserted_rows == {"studies": 2, "conditions": 4, "keywords": 4}
    assert report.copied_bytes > 0
    assert list(report.seconds) == ["delete", "copy", "check", "commit"]
    assert {state.phase: (state.done, state.total) for state in seen} == {
        "delete": (3, 3),
        "copy": (10, None),
        "check": (3, 3),
        "commit": (1, 1),
    }
