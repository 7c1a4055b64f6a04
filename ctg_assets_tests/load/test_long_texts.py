"""Texts too long for a B-tree, by every way into staging: they stop no load, and cost at most one of whole tables."""

from __future__ import annotations

import string
from collections.abc import Sequence
from datetime import UTC, datetime
from random import Random

import msgspec
import pyarrow as pa
import pytest

from ctg_assets.lake import Lake
from ctg_assets.load.as_of import load_as_of
from ctg_assets.load.delta import RowBatch, apply_delta
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import ChangesSince, LoadRequest
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import WholeLoadNeededError
from ctg_assets.settings import Settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.support.lakes import completed, planned
from ctg_assets_tests.support.postgres import (
    ALL,
    CONDITIONS,
    batch,
    build,
    index_kinds,
    nct_id,
    query,
    table,
)

LONG = "".join(Random(7).choices(string.ascii_letters, k=10_000))


def _named(study: int, name: str, version: int) -> dict[str, pa.Table]:
    """A study's rows, with a condition of this name."""
    conditions = [(study * 10**9 + position, nct_id(study), name, version) for position in (1, 2)]
    return {**batch(range(study, study + 1), version), "conditions": table(CONDITIONS, conditions)}


def test_a_load_chooses_by_what_is_there(address: PostgresAddress) -> None:
    """The index on names is a B-tree, SP-GiST while there is one long name, and then a B-tree again."""
    for version, name, kind in ((1, "short", "btree"), (2, LONG, "spgist"), (3, "x", "btree")):
        rows = [batch(range(1, 3), version), _named(3, name, version)]
        load_tables(LoadRequest(address, ALL, build=build(version)), rows)
        kinds = index_kinds(address, "staging")
        assert kinds["conditions_name_idx"] == kind
        assert {kinds[f"conditions_{name}_idx"] for name in ("nct_id", "version_nct_id")} == {
            "btree"
        }


@pytest.mark.parametrize("compared", [True, False])
def test_a_change_with_a_long_text_asks_for_a_whole_load(
    address: PostgresAddress, *, compared: bool
) -> None:
    """A B-tree refuses it and all stays as it was; after a whole load the next long text is a change in place."""

    def change(version: int, name: str) -> None:
        old = _named(3, LONG if version > 2 else "short", version - 1)
        apply_delta(
            LoadRequest(address, ALL, build=build(version)),
            ChangesSince(
                base_snapshot_id=f"snapshot-{version - 1}",
                studies=[nct_id(3)],
                compared=[shape.name for shape in ALL] if compared else [],
            ),
            [RowBatch(_named(3, name, version), old if compared else {})],
        )

    before = [batch(range(1, 3)), _named(3, "short", 1)]
    load_tables(LoadRequest(address, ALL, build=build()), before)
    with pytest.raises(WholeLoadNeededError, match=r"index row .*; a load of all tables"):
        change(2, LONG)
    versions = "SELECT DISTINCT version FROM staging.conditions ORDER BY 1"
    assert query(address, versions) == [(1,)]
    load_tables(
        LoadRequest(address, ALL, build=build(2)), [batch(range(1, 3), 2), _named(3, LONG, 2)]
    )
    change(3, f"{LONG} and longer")
    assert query(address, versions) == [(2,), (3,)]
    longest = "SELECT max(length(name)) FROM staging.conditions"
    assert query(address, longest) == [(len(LONG) + 11,)]


def _with_condition(study: bytes, name: str) -> bytes:
    content = msgspec.json.decode(study)
    content["protocolSection"]["conditionsModule"] = {"conditions": [name]}
    return msgspec.json.encode(content)


def _snapshot(
    lake: Lake, settings: Settings, day: int, studies: Sequence[bytes]
) -> SnapshotManifest:
    data_timestamp = f"2026-11-{day}T09:00:05"
    plan = planned(lake, settings, studies=len(studies), data_timestamp=data_timestamp)
    completed(lake, plan, studies)
    return Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)


def test_a_refresh_loads_whole_tables_once(
    lake: Lake, settings: Settings, address: PostgresAddress
) -> None:
    """A first long name among changes costs a load of whole tables; later ones, and loads of the past, do not stop."""
    settings = settings.model_copy(update={"postgres_url": address.url})
    source = GeneratedSource(40, seed=9)
    studies = [source.raw(index) for index in range(40)]

    index = "conditions_downcase_name_idx"
    found = []
    for day, name in ((20, "short"), (21, LONG), (22, LONG[::-1])):
        changed = [*studies[:-1], _with_condition(studies[-1], name)]
        load_staging(address, lake, _snapshot(lake, settings, day, changed))
        [(kind,)] = query(
            address, "SELECT kind FROM ctg_meta.loads ORDER BY load_number DESC LIMIT 1"
        )
        found.append((kind, index_kinds(address, "staging")[index]))
        there = f"SELECT count(*) FROM staging.conditions WHERE downcase_name = '{name.lower()}'"
        assert query(address, there) == [(1,)]
    assert found == [("full", "btree"), ("full", "spgist"), ("delta", "spgist")]
    assert index_kinds(address, "staging")["sponsors_name_idx"] == "btree"

    load_as_of(address, lake, datetime(2026, 11, 21, 12, tzinfo=UTC), "past")
    assert index_kinds(address, "past")[index] == "spgist"


def test_some_tables_alone_take_any_text(
    lake: Lake, settings: Settings, address: PostgresAddress
) -> None:
    """A load of two tables, which replaces them whole, chooses by what they then hold."""
    settings = settings.model_copy(update={"postgres_url": address.url})
    kinds = []
    for day, name in ((20, "short"), (21, LONG)):
        studies = [_with_condition(GeneratedSource(1, seed=9).raw(0), name)]
        manifest = _snapshot(lake, settings, day, studies)
        load_staging(address, lake, manifest, tables=["studies", "conditions"])
        kinds.append(index_kinds(address, "staging")["conditions_downcase_name_idx"])
    assert kinds == ["btree", "spgist"]
