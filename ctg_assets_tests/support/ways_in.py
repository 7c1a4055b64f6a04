"""The two ways by which studies come in, walks and files, and where each study of them has to be then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.extract.import_file import import_file
from ctg_assets.history.missing_studies import explain_missing
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake, open_lake
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import Settings, load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.support.odd_registry import OddRegistry, running
from ctg_assets_tests.support.oddities import Odd
from ctg_assets_tests.support.postgres import query
from ctg_assets_tests.support.registries import client_of

WAYS = ("api", "import")
_PAGE = 100


class WaysIn:
    """A lake, a registry of any bytes, and files; what is brought in is recorded and compacted at once.

    Each time is a day later than the one before.
    """

    def __init__(self, folder: Path, registry: OddRegistry) -> None:
        self._folder = folder
        self._registry = registry
        self._day = 0
        self._settings = load_settings(
            data_dir=folder / "data",
            api_url=registry.api_url,
            retry_seconds=1,
            requests_per_minute=10_000,
        )
        self.lake: Lake = open_lake(self._settings)

    @property
    def settings(self) -> Settings:
        """What leads to the registry and the lake."""
        return self._settings

    def bring(self, way: str, studies: Sequence[Odd]) -> SnapshotManifest:
        """Bring studies in by a walk (`api`) or in a file (`import`)."""
        self._day += 1
        by_id = {each.nct_id: each.study for each in studies}
        return self._recorded(self._walk(by_id) if way == "api" else self._file(by_id))

    def _walk(self, studies: Mapping[str, bytes]) -> ExtractionPlan:
        self._registry.studies = studies
        self._registry.data_timestamp = f"2026-11-{self._day:02}T09:00:05"
        with client_of(self._registry.api_url) as client:
            crawler = Crawler(client, self.lake.extractions, self.lake.shards)
            plan = crawler.plan(query="", page_size=_PAGE)
            list(crawler.walk(plan, plan.planned_pages or 0))
        return plan

    def _file(self, studies: Mapping[str, bytes]) -> ExtractionPlan:
        path = self._folder / f"{self._day}.json"
        path.write_bytes(b"[" + b",\n".join(studies.values()) + b"]")
        day = datetime(2026, 11, self._day, 9, 0, 5, tzinfo=UTC)
        return import_file(self.lake, path, page_size=_PAGE, data_timestamp=day)

    def _recorded(self, plan: ExtractionPlan) -> SnapshotManifest:
        explain = explain_missing(self._settings, query="")
        Recorder(self.lake.storage, self.lake.scratch).record(plan.extraction_id, explain=explain)
        return Compactor(self.lake.storage, self.lake.scratch).compact(plan.extraction_id)


@contextmanager
def ways_in(folder: Path) -> Iterator[WaysIn]:
    """An empty lake below a folder, and a registry that runs."""
    with running(OddRegistry()) as registry:
        yield WaysIn(folder, registry)


def require_in_their_place(
    ways: WaysIn, manifest: SnapshotManifest, address: PostgresAddress, studies: Sequence[Odd]
) -> None:
    """That each sound study is in the tables, and each other one in quarantine with its field named."""
    rows = ways.lake.snapshots.quarantine(manifest.snapshot_id).select(["nct_id", "reason"])
    reasons = {row["nct_id"]: row["reason"] for row in rows.to_pylist()}
    wrong = [
        f"{each.nct_id}: {each.what}: expected {each.field}, found {reasons.get(each.nct_id)}"
        for each in studies
        if (each.field is None) != (each.nct_id not in reasons)
        or (each.field is not None and not _names(reasons[each.nct_id], each.field))
    ]
    assert wrong == [], f"{len(wrong)}, first {wrong[:5]}"
    loaded = {nct_id for (nct_id,) in query(address, "SELECT nct_id FROM staging.studies")}
    assert loaded == {each.nct_id for each in studies if each.field is None}
    current = query(address, "SELECT nct_id FROM staging.study_versions WHERE is_current")
    assert {nct_id for (nct_id,) in current} == {each.nct_id for each in studies}
    assert manifest.distinct_ids == len(studies)


def _names(reason: str, field: str) -> bool:
    path = reason.split(": ", 1)[0]
    # An odd name of a field stands below the object that it is in.
    return path == field or (path.startswith(f"{field}." if field else '"') and '"' in path)
