"""Generated studies that change day by day, and all that the marts hold of them."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.simulator.generate import study_json
from ctg_assets.simulator.identity import nct_id
from ctg_assets_tests.marts.projects import load, load_changes, values
from ctg_assets_tests.model.snapshots import typed_rows

SEED = 7
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
