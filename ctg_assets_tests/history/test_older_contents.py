"""The recorded older contents of real studies, brought in after the current ones."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from ctg_assets.extract.import_file import import_file
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.as_of import load_as_of
from ctg_assets.load.staging import load_staging
from ctg_assets.model.changes.field_changes import field_changes
from ctg_assets.model.identity import identify
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.postgres import query

OBSERVED = datetime(2026, 11, 20, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Loaded:
    """The lake and database with current and older contents, and what is known of the latter."""

    lake: Lake
    address: PostgresAddress
    before: SnapshotManifest
    after: SnapshotManifest
    entry: HistoryEntry
    older: list[tuple[str, date | None, str, Any]]


@pytest.fixture(scope="module")
def loaded(server: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """Current contents observed at one time, then older ones, each on its own last update date."""
    lines = gzip.decompress(shared_path("ctg/versions.jsonl.gz").read_bytes()).splitlines()
    studies = [
        bytes(msgspec.json.decode(line, type=dict[str, msgspec.Raw])["study"]) for line in lines
    ]
    folder = tmp_path_factory.mktemp("older")
    file, current = folder / "older.jsonl", folder / "current.jsonl"
    Path(file).write_bytes(b"\n".join(studies))
    older = []
    for study in studies:
        found = identify(study)
        assert found.nct_id is not None
        facts = (found.nct_id, found.last_update_post_date, found.content_hash)
        older.append((*facts, msgspec.json.decode(study)))
    lake = open_lake(load_settings(data_dir=tmp_path_factory.mktemp("data")))
    # Those that have older contents, and a tenth of the others.
    every = gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes()).splitlines()
    wanted = {nct_id for nct_id, *_ in older}
    current.write_bytes(
        b"\n".join(
            line
            for number, line in enumerate(every)
            if number % 10 == 0 or identify(line).nct_id in wanted
        )
    )
    plan = import_file(lake, current, page_size=1000, data_timestamp=OBSERVED)
    before = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    with new_database(server) as address:
        load_staging(address, lake, before)
        plan = import_file(lake, file, page_size=1000, dated_by_studies=True)
        after = Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
        load_staging(address, lake, after)
        entry = lake.history.entry_of(plan.extraction_id)
        assert entry is not None
        yield Loaded(lake, address, before, after, entry, older)


def test_current_contents_stay(loaded: Loaded) -> None:
    """Older contents change nothing that is current."""
    assert loaded.after.content_fingerprint == loaded.before.content_fingerprint
    assert loaded.after.data_timestamp == loaded.before.data_timestamp
    assert loaded.entry.studies == loaded.before.studies + loaded.before.quarantined


def test_each_older_content_is_an_earlier_version(loaded: Loaded) -> None:
    """Each lies in a period of its own, before the current one of its study, from its last update date on."""
    rows = query(
        loaded.address,
        "SELECT nct_id, content_hash, valid_from, valid_to, is_current FROM staging.study_versions",
    )
    periods = defaultdict(list)
    for nct_id, content_hash, valid_from, valid_to, is_current in rows:
        periods[nct_id, content_hash].append((valid_from, valid_to, is_current))
    current = {key for key, found in periods.items() if any(is_current for *_, is_current in found)}
    earlier = [item for item in loaded.older if (item[0], item[2]) not in current]
    assert len(earlier) > 70
    for nct_id, posted, content_hash, _ in earlier:
        [(valid_from, valid_to, _)] = periods[nct_id, content_hash]
        assert valid_from.date() == posted
        assert valid_from < valid_to <= OBSERVED


def test_versions_are_numbered_in_time(loaded: Loaded) -> None:
    """Numbers rise with the time of first observation, periods do not overlap, the last one is current."""
    wrong = query(
        loaded.address,
        """
        SELECT count(*) FROM (
            SELECT valid_to, is_current, version_number,
                lead(valid_from) OVER w AS next_from, lead(version_number) OVER w AS next_number
            FROM staging.study_versions WINDOW w AS (PARTITION BY nct_id ORDER BY valid_from)
        ) AS periods
        WHERE valid_to IS DISTINCT FROM next_from OR is_current <> (next_from IS NULL)
            OR version_number + 1 <> next_number
        """,
    )
    assert wrong == [(0,)]


def test_the_changes_are_those_between_the_contents(loaded: Loaded) -> None:
    """Between each two contents of a study in time there is one update, with the fields that differ."""
    contents = {(nct_id, content_hash): json for nct_id, _, content_hash, json in loaded.older}
    wanted = {nct_id for nct_id, _ in contents}
    for line in gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes()).splitlines():
        found = identify(line)
        if found.nct_id in wanted:
            contents[found.nct_id, found.content_hash] = msgspec.json.decode(line)
    changes = loaded.lake.history.changes(loaded.entry.sequence)
    fields = loaded.lake.history.field_changes(loaded.entry.sequence)
    updates = changes.filter(pl.col("kind") == "update")
    assert updates["is_backfill"].all()
    for row in updates.iter_rows(named=True):
        old = contents[row["nct_id"], row["old_content_hash"]]
        new = contents[row["nct_id"], row["new_content_hash"]]
        told = fields.filter(pl.col("change_seq") == row["change_seq"])
        assert told.height == row["fields_changed"] > 0
        expected = [(each.path, str(each.change)) for each in field_changes(old, new)]
        assert list(told.select("path", "change").iter_rows()) == expected
    assert updates.height >= 70
    assert set(changes["kind"]) == {"insert", "update"}


def test_a_past_day_can_be_had(loaded: Loaded) -> None:
    """As of a day in the past, studies have the content that they had then."""
    nct_id, posted, content_hash, _ = min(loaded.older, key=lambda item: item[1] or date.max)
    assert posted is not None
    at = datetime(posted.year, posted.month, posted.day, 12, tzinfo=UTC)
    load_as_of(loaded.address, loaded.lake, at, "then")
    rows = query(loaded.address, 'SELECT nct_id, content_hash FROM "then".studies')
    assert (nct_id, content_hash) in rows
    assert len(rows) == len({item[0] for item in loaded.older if item[1] == posted})
