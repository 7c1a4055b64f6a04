"""Marts that follow the studies that changed, compared with marts built whole."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.simulator.generate import study_json
from ctg_assets.simulator.identity import nct_id
from ctg_assets.warehouse.connection import PostgresAddress, connect
from ctg_assets_tests.dbt.projects import dbt_on, load, load_changes, values
from ctg_assets_tests.model.snapshots import typed_rows

SEED = 7
WITHOUT_VIEWS = ("--exclude", "config.materialized:view")
FIRST_DAY = datetime(2025, 11, 3, 9, tzinfo=UTC)


class Registry:
    """Generated studies that change at random, and a database that is told of it."""

    def __init__(self, address: PostgresAddress, seed: int) -> None:
        self.address = address
        self.draw = random.Random(seed)
        self.revisions = dict.fromkeys(range(40), 0)
        self.now = FIRST_DAY

    def _rows(self, indexes: Iterable[int]) -> Any:
        contents = [study_json(SEED, index, self.revisions[index]) for index in sorted(indexes)]
        return typed_rows(contents or [study_json(SEED, 0)]).slice(0, len(contents))

    def load(self) -> None:
        """Load everything."""
        load(self.address, self._rows(self.revisions), self.now)

    def change_one(self, index: int) -> None:
        """Load one study that changed."""
        self.revisions[index] += 1
        changed, total = {nct_id(SEED, index)}, len(self.revisions)
        load_changes(self.address, self._rows([index]), changed, self.now, total=total)

    def change(self) -> None:
        """Let a day pass: some studies change, one comes, one goes; only those are loaded."""
        self.now += timedelta(days=1)
        there = sorted(self.revisions)
        changed = set(self.draw.sample(there, 4))
        gone = self.draw.choice(there)
        come = self.draw.choice([index for index in range(60) if index not in self.revisions])
        for index in changed:
            self.revisions[index] += self.draw.randint(1, 40)
        self.revisions[come] = self.draw.randint(0, 3)
        del self.revisions[gone]
        load_changes(
            self.address,
            self._rows((changed - {gone}) | {come}),
            {nct_id(SEED, index) for index in changed | {gone, come}},
            self.now,
            total=len(self.revisions),
        )


def relations(address: PostgresAddress) -> Mapping[str, list[str]]:
    """Every row of every mart, as text, in order."""
    names = values(address, "SELECT tablename FROM pg_tables WHERE schemaname = 'marts'")
    return {
        name: [
            text for (text,) in values(address, f"SELECT m::text FROM marts.{name} AS m ORDER BY 1")
        ]
        for (name,) in names
    }


@pytest.mark.parametrize("seed", [1])
def test_following_changes_ends_where_a_whole_build_does(
    address: PostgresAddress, tmp_path: Path, seed: int
) -> None:
    """After days of random changes, each built from the last, every row is as if all were built anew."""
    registry = Registry(address, seed)
    registry.load()
    dbt_on(address, tmp_path, "run")
    built_whole = "SELECT relation, relation_oid, whole_load_number FROM ctg_meta.mart_builds"
    before = set(values(address, built_whole))
    for _ in range(3):
        registry.change()
        dbt_on(address, tmp_path, "run", *WITHOUT_VIEWS)
    assert set(values(address, built_whole)) == before
    followed = relations(address)
    dbt_on(address, tmp_path, "run", *WITHOUT_VIEWS, "--full-refresh")
    assert set(values(address, built_whole)) != before
    assert relations(address) == followed


def test_tests_read_changed_studies_after_they_found_nothing(
    address: PostgresAddress, tmp_path: Path
) -> None:
    """What changed is read again; a warning stays while its cause does, changed or not."""
    registry = Registry(address, 1)
    registry.load()

    def unknown_values() -> str:
        said = dbt_on(address, tmp_path, "test", "--select", "known_values_studies")
        [(verdict, found)] = re.findall(r"(PASS|WARN) (\d+)?", said)[:1]
        return f"{verdict} {found}".strip()

    def set_class(index: int, value: str) -> None:
        with connect(address) as connection:
            connection.execute(
                "UPDATE staging.studies SET source_class = %s WHERE nct_id = %s",
                [value, nct_id(SEED, index)],
            )

    assert unknown_values() == "PASS"
    set_class(3, "MOON")
    assert unknown_values() == "PASS", "study 3 was not loaded again"
    registry.change_one(3)
    set_class(3, "MOON")
    assert unknown_values() == "WARN 1"
    registry.change_one(4)
    assert unknown_values() == "WARN 1"
    set_class(3, "OTHER")
    assert unknown_values() == "PASS"
