"""Lakes that are released in tests: some walks over few studies, far enough apart to be in files of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.row_sources import row_sources
from ctg_assets.release.making import ReleaseReport, ReleaseRequest, make_release
from ctg_assets.release.manifest import ReleaseManifest
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.storage.files import Storage
from ctg_assets_tests.simulator.in_memory import study
from ctg_assets_tests.support.lakes import completed, planned

STUDIES = 40
# One study a leaf, several leaves a file.
APART = 100_000
SMALL = 400


def few_studies(**titles: str) -> list[bytes]:
    """Studies by their places from 1, some with a title of their own (`n3="Other"`); a title of "" leaves one out."""
    return [
        msgspec.json.encode(
            study(
                place * APART,
                title=titles.get(f"n{place}", "A Study"),
                conditions=["Cough", f"Condition {place}"],
                start="2024-02" if place % 2 else None,
                enrollment=None if place % 3 else place,
                locations=[{"city": "Oslo", "country": "Norway"}] * (place % 3),
            )
        )
        for place in range(1, STUDIES + 1)
        if titles.get(f"n{place}") != ""
    ]


class ReleasedLake:
    """A data folder, walked and released at will."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = load_settings(data_dir=folder / "data", max_shrink_fraction=1)
        self.lake: Lake = open_lake(self.settings)

    def walk(self, day: int, studies: Sequence[bytes]) -> None:
        """Record and compact what a walk of everything saw on a day of November 2026."""
        at = f"2026-11-{day:02d}T09:00:05"
        plan = planned(self.lake, self.settings, studies=len(studies), data_timestamp=at)
        completed(self.lake, plan, studies)
        Compactor(self.lake.storage, self.lake.scratch).compact(plan.extraction_id)

    def request(self, target: Storage, **options: Any) -> ReleaseRequest:
        """What is asked for a release there, in small files unless told."""
        given = {"keep": 2, "most_weight": SMALL, **options}
        return ReleaseRequest(self.lake, target, self.folder / "scratch", **given)

    def release(self, target: Storage, **options: Any) -> ReleaseReport:
        """Release to a place."""
        return make_release(self.request(target, **options))

    def rows(self) -> dict[str, pa.Table]:
        """The rows of all tables as a whole load would take them, by name, in the order of their keys."""
        manifest = self.lake.snapshots.latest()
        assert manifest is not None
        found: dict[str, list[pa.Table]] = {}
        shapes = {shape.name: shape for source in row_sources() for shape in source.shapes}
        for source in row_sources():
            names = [shape.name for shape in source.shapes]
            for batch in source.batches(self.lake, manifest, names):
                for name, rows in batch.items():
                    found.setdefault(name, []).append(rows)
        return {
            name: pa.concat_tables(
                [shape.arrow_schema.empty_table(), *found.get(name, [])]
            ).sort_by([(column, "ascending") for column in shape.primary_key])
            for name, shape in shapes.items()
        }


def local_rows(folder: Path, manifest: ReleaseManifest) -> dict[str, pa.Table]:
    """The rows of a release's tables of schema staging, file after file."""
    return {
        table.name: pa.concat_tables([pq.read_table(folder / file.path) for file in table.files])
        for table in manifest.tables
        if table.schema == "staging"
    }


def file_paths(manifest: ReleaseManifest) -> Mapping[str, list[str]]:
    """The paths of the files of each table, which tell their content."""
    return {table.qualified: [file.path for file in table.files] for table in manifest.tables}
