"""Odd studies through import and API, first seen and changed, to the last table.

The space of the generated tests is that of `oddities.py`: every leaf, object and list of recorded
studies, with texts, numbers and words that are unusual, mistyped, or no JSON at all.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ctg_assets.lake.extractions import ExtractionPlan
from ctg_assets.lake.snapshots import SnapshotManifest
from ctg_assets.pipeline.crawl import Crawler
from ctg_assets.pipeline.fates import registry_fates
from ctg_assets.pipeline.feed_events import HistoryEvents
from ctg_assets.pipeline.import_file import import_file
from ctg_assets.pipeline.load import load_staging
from ctg_assets.pipeline.services import Lake, open_lake
from ctg_assets.settings import Settings
from ctg_assets.warehouse.connection import PostgresAddress
from ctg_assets_tests.pipeline.odd_registry import OddRegistry, running
from ctg_assets_tests.pipeline.oddities import Odd, odd_study
from ctg_assets_tests.pipeline.registries import client_of
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.warehouse.helpers import query

# The full form, `make fuzz`, asks for more.
_STUDIES = int(os.environ.get("FUZZ_STUDIES", "100"))
_SEED = int(os.environ.get("FUZZ_SEED", "11"))
_PAGE = 100


@pytest.fixture
def registry() -> Iterator[OddRegistry]:
    """A registry of any bytes, running."""
    with running(OddRegistry()) as found:
        yield found


@pytest.fixture
def asking(settings: Settings, registry: OddRegistry) -> Settings:
    """Settings that lead to that registry, with patience for nothing."""
    return settings.model_copy(
        update={"api_url": registry.api_url, "retry_seconds": 1, "requests_per_minute": 100_000}
    )


class _Walks:
    """Walks of a registry, each at a later data version."""

    def __init__(self, settings: Settings, lake: Lake, registry: OddRegistry) -> None:
        self._settings = settings
        self._lake = lake
        self._registry = registry
        self._day = 0

    def __call__(self, studies: Mapping[str, bytes]) -> SnapshotManifest:
        self._day += 1
        self._registry.studies = studies
        self._registry.data_timestamp = f"2026-11-{self._day:02}T09:00:05"
        with client_of(self._registry.api_url) as client:
            crawler = Crawler(client, self._lake.extractions, self._lake.shards)
            plan = crawler.plan(query="", page_size=_PAGE)
            list(crawler.walk(plan, plan.planned_pages or 0))
        return _recorded(self._lake, plan, self._settings)


class _Files:
    """Files that are brought in, each of a later day."""

    def __init__(self, folder: Path, lake: Lake, settings: Settings) -> None:
        self._folder = folder
        self._lake = lake
        self._settings = settings
        self._day = 0

    def __call__(self, studies: Mapping[str, bytes]) -> SnapshotManifest:
        self._day += 1
        path = self._folder / f"{self._day}.json"
        path.write_bytes(b"[" + b",\n".join(studies.values()) + b"]")
        plan = import_file(
            self._lake,
            path,
            page_size=_PAGE,
            data_timestamp=datetime(2026, 11, self._day, tzinfo=UTC),
        )
        return _recorded(self._lake, plan, self._settings)


def _recorded(lake: Lake, plan: ExtractionPlan, settings: Settings) -> SnapshotManifest:
    lake.recorder.record(plan.extraction_id, fates=registry_fates(settings, query=""))
    return lake.compactor.compact(plan.extraction_id)


def _reasons(lake: Lake, manifest: SnapshotManifest) -> dict[str, str]:
    rows = lake.snapshots.quarantine(manifest.snapshot_id).select(["nct_id", "reason"])
    return {row["nct_id"]: row["reason"] for row in rows.to_pylist()}


def _last_changes(lake: Lake) -> dict[str, int]:
    entry = lake.history.latest()
    assert entry is not None
    return entry.changes


def _require(
    lake: Lake, manifest: SnapshotManifest, address: PostgresAddress, studies: Sequence[Odd]
) -> None:
    """That each sound study is in the tables, and each other one in quarantine with its field named."""
    reasons = _reasons(lake, manifest)
    wrong = [
        f"{each.nct_id}: {each.what}: expected {each.field}, found {reasons.get(each.nct_id)}"
        for each in studies
        if (each.field is None) != (each.nct_id not in reasons)
        or (each.field is not None and not _names(reasons[each.nct_id], each.field))
    ]
    assert wrong == []
    loaded = {nct_id for (nct_id,) in query(address, "SELECT nct_id FROM staging.studies")}
    assert loaded == {each.nct_id for each in studies if each.field is None}
    current = query(address, "SELECT nct_id FROM staging.study_versions WHERE is_current")
    assert {nct_id for (nct_id,) in current} == {each.nct_id for each in studies}
    assert manifest.distinct_ids == len(studies)


def _names(reason: str, field: str) -> bool:
    path = reason.split(": ", 1)[0]
    # An odd name of a field stands below the object that it is in.
    return path == field or (path.startswith(f"{field}." if field else '"') and '"' in path)


def _originals(number: int) -> list[dict[str, Any]]:
    lines = gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes()).splitlines()
    every = [json.loads(line) for line in lines if len(line) < 60_000]
    every = [study for study in every if "modelPredictions" not in json.dumps(study)]
    by_id = {
        study["protocolSection"]["identificationModule"]["nctId"]: study
        for study in every
        if study["protocolSection"]["identificationModule"]["nctId"] != "NCT76543210"
    }
    return Random(_SEED).sample(list(by_id.values()), min(number, len(by_id)))


def _sound(study: dict[str, Any]) -> Odd:
    nct_id = study["protocolSection"]["identificationModule"]["nctId"]
    return Odd(nct_id, json.dumps(study).encode(), None, "as recorded")


def _bytes_of(studies: Sequence[Odd]) -> dict[str, bytes]:
    return {each.nct_id: each.study for each in studies}


@pytest.mark.parametrize("way", ["api", "import"])
def test_mutated_studies_stop_nothing(
    asking: Settings, registry: OddRegistry, address: PostgresAddress, tmp_path: Path, way: str
) -> None:
    """Of recorded studies with something odd in each, the sound are loaded, the others named; twice over.

    Half of them are odd when first seen and another way odd later; the other half are recorded ones
    that become odd. One study is removed at the same time, and the last walk finds nothing new.
    """
    lake = open_lake(asking)
    bring = _Walks(asking, lake, registry) if way == "api" else _Files(tmp_path, lake, asking)
    random = Random(f"{_SEED} {way}")
    originals = _originals(_STUDIES + 1)
    gone, originals = originals[0], originals[1:]
    before = [
        odd_study(study, random) if number % 2 else _sound(study)
        for number, study in enumerate(originals)
    ]
    manifest = bring(_bytes_of([_sound(gone), *before]))
    load_staging(address, lake, manifest)
    _require(lake, manifest, address, [_sound(gone), *before])

    after = [odd_study(study, random) for study in originals]
    left = [] if way == "api" else [_sound(gone)]  # a file says nothing of what is not in it
    manifest = bring(_bytes_of(after))
    assert _last_changes(lake).get("delete", 0) == 1 - len(left)
    load_staging(address, lake, manifest)
    _require(lake, manifest, address, [*after, *left])
    assert len(HistoryEvents(lake.history).events(0, 10_000)) == len(before) + 1

    manifest = bring(_bytes_of(after))
    assert _last_changes(lake) == {}
    load_staging(address, lake, manifest)
    _require(lake, manifest, address, [*after, *left])
    for table in ("study_field_changes", "study_events"):
        assert query(address, f"SELECT count(*) >= 0 FROM staging.{table}") == [(True,)]
    odd = sum(each.field is not None for each in [*before, *after])
    print(f"{way}: {len(before) + len(after)} studies, {odd} of them in quarantine")  # noqa: T201
