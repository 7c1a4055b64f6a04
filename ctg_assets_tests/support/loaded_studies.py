"""Studies of a file all the way into a lake and a database."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, replace
from pathlib import Path

from ctg_assets.extract.import_file import import_file
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.schemas import Schemas
from ctg_assets.settings import Settings, load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.model.row_counter import Study

MISTYPED = "NCT76543210"
"""A recorded study that cannot be typed: it is in quarantine, and in no table."""


@dataclass(frozen=True)
class LoadedStudies:
    """Studies as they were sent, the lake and the database that they went into."""

    studies: list[Study]
    lake: Lake
    settings: Settings
    manifest: SnapshotManifest
    address: PostgresAddress

    @property
    def in_tables(self) -> list[Study]:
        """Those that can be typed."""
        return [study for study in self.studies if nct_id(study) != MISTYPED]


def nct_id(study: Study) -> str:
    """The registry number of a study."""
    number: str = study["protocolSection"]["identificationModule"]["nctId"]
    return number


def load_studies(path: Path, data_dir: Path, address: PostgresAddress) -> None:
    """Import, compact and load the studies of a gzipped file of JSON lines, where AACT's schemas are wanted."""
    lake = open_lake(load_settings(data_dir=data_dir, aact=True))
    plan = import_file(lake, path, page_size=1000)
    manifest = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    load_staging(replace(address, schemas=Schemas()), lake, manifest)


def read_studies(path: Path, data_dir: Path, address: PostgresAddress) -> LoadedStudies:
    """What was loaded like this."""
    settings = load_settings(data_dir=data_dir, aact=True)
    lake = open_lake(settings)
    manifest = lake.snapshots.latest()
    assert manifest is not None
    address = replace(address, schemas=Schemas())
    studies = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    return LoadedStudies(studies, lake, settings, manifest, address)
