"""Mending: making damaged files of the lake again from what else is there.

Nothing is deleted: a damaged file goes to `damaged/` in the lake, or a copy of it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import polars as pl
import pyarrow as pa

from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionState,
    ExtractionStore,
)
from ctg_assets.extract.shards import ShardStore, first_missing_page
from ctg_assets.history.diff_writer import placed_changes, write_differences
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.entry_files import history_path
from ctg_assets.history.schemas import CONTENTS_FILE, CONTENTS_SCHEMA, STALE_IDS_FILE, TOUCHED_FILE
from ctg_assets.history.store import HistoryStore
from ctg_assets.model.identity import identify
from ctg_assets.model.nct_ids import UNIDENTIFIED, is_nct_id
from ctg_assets.snapshot.store import SnapshotStore, snapshot_path
from ctg_assets.storage.damage import DamagedFileError, kind_of_file
from ctg_assets.storage.files import Storage, StorageError
from ctg_assets.storage.sealed_parquet import open_sealed

Fetch = Callable[[Sequence[str]], Iterable[bytes]]
"""Asks the registry for studies by their ids; those that it does not have are left out."""

_MOST_NAMED = 5


class NotMendableError(StorageError):
    """A file cannot be made again; the message says why and what is left to do."""


@dataclass(frozen=True)
class Mended:
    """A file that was damaged, by its path within the lake, and what was done."""

    relative: str
    done: str


class Mender:
    """Mends files of one lake; only one process may write to the lake meanwhile."""

    def __init__(self, storage: Storage, fetch: Fetch | None = None) -> None:
        """Mend within `storage`; without `fetch` the registry is not asked."""
        self._storage = storage
        self._fetch = fetch
        self._extractions = ExtractionStore(storage)
        self._shards = ShardStore(storage)
        self._history = HistoryStore(storage)
        self._snapshots = SnapshotStore(storage)

    def mend(self, relative: str) -> Mended:
        """Make a damaged file again, or set it aside so that the next steps make it again.

        Raises NotMendableError when neither is possible.
        """
        ways: list[tuple[str, Callable[..., str]]] = [
            (r"registries/[^/]+", lambda: self._set_aside(relative, "the registry is asked again")),
            (r"searches/[^/]+", lambda: self._set_aside(relative, "the registry is asked again")),
            (r"mesh/[^/]+", lambda: self._set_aside(relative, "CTG_MESH_FILE is read again")),
            (r"extractions/([^/]+)/plan\.json", self._plan),
            (r"extractions/([^/]+)/ids\.json", self._ids),
            (r"extractions/([^/]+)/complete\.json", self._completion),
            (r"extractions/([^/]+)/superseded\.json", self._supersession),
            (r"extractions/([^/]+)/pages/([0-9]+)\.parquet", self._page),
            (r"snapshots/([^/]+)/([^/]+)", self._snapshot),
            (r"history/([0-9]+)/periods\.parquet", self._periods),
            (r"history/([0-9]+)/contents\.parquet", self._contents),
            (r"history/([0-9]+)/touched\.parquet", self._touched),
            (r"history/([0-9]+)/wanted\.parquet", self._wanted),
            (r"history/([0-9]+)/(?:field_changes|typed_events)\.parquet", self._differences),
        ]
        for pattern, way in ways:
            if (match := re.fullmatch(pattern, relative)) is not None:
                try:
                    return Mended(relative, way(*match.groups()))
                except NotMendableError:
                    raise
                except (StorageError, KeyError) as error:
                    message = f"{self._storage.path(relative)} cannot be made again: {error}"
                    raise NotMendableError(message) from error
        message = (
            f"{self._storage.path(relative)} cannot be made again. {kind_of_file(relative).remedy}"
        )
        raise NotMendableError(message)

    def _set_aside(self, relative: str, done: str) -> str:
        if self._storage.exists(relative):
            return f"moved to {self._storage.path(self._storage.set_aside(relative))}; {done}"
        return done

    def _plan(self, extraction_id: str) -> str:
        relative = f"extractions/{extraction_id}/plan.json"
        entry = self._history.entry_of(extraction_id)
        if entry is None:
            aside = self._storage.set_aside(f"extractions/{extraction_id}")
            again = (
                "the file has to be imported again"
                if f"-{ExtractionMode.IMPORT}-" in extraction_id
                else "the registry is walked again"
            )
            return f"extraction {extraction_id} moved to {self._storage.path(aside)}; {again}"
        try:
            plan = self._history.plan(entry.sequence)
        except (KeyError, DamagedFileError):
            plan = self._plan_of_entry(entry)
        done = self._set_aside(relative, "taken from the history")
        self._extractions.restore(plan)
        return done

    def _plan_of_entry(self, entry: HistoryEntry) -> ExtractionPlan:
        """What an entry of an earlier release knows of its plan."""
        pages = self._shards.pages(entry.extraction_id)
        return ExtractionPlan(
            extraction_id=entry.extraction_id,
            mode=entry.mode,
            source=entry.source,
            query=entry.query,
            page_size=1,
            data_timestamp=entry.data_timestamp,
            planned_at=entry.recorded_at,
            planned_pages=None if entry.is_import else len(pages),
            reason="its plan was damaged and taken from the history",
        )

    def _ids(self, extraction_id: str) -> str:
        if self._extractions.state(extraction_id) is ExtractionState.OPEN:
            self._extractions.supersede(extraction_id, "the list of its ids was damaged")
        return self._set_aside(
            f"extractions/{extraction_id}/ids.json", "if it was needed, the extraction is given up"
        )

    def _completion(self, extraction_id: str) -> str:
        relative = f"extractions/{extraction_id}/complete.json"
        plan = self._extractions.plan(extraction_id)
        pages = self._shards.pages(extraction_id)
        planned = len(pages) if plan.planned_pages is None else plan.planned_pages
        if first_missing_page(pages) != planned + 1 or len(pages) != planned:
            return self._set_aside(relative, "the walk goes on where pages are missing")
        ids: set[str] = set()
        rows = json_bytes = 0
        for info in self._shards.infos(extraction_id):
            page_ids = self._shards.read(extraction_id, info.page, ["nct_id"])["nct_id"]
            ids.update(page_ids.drop_null().to_pylist())
            rows += info.studies
            json_bytes += info.json_bytes
        self._extractions.complete(
            extraction_id,
            Completion(
                pages=len(pages),
                rows=rows,
                distinct_studies=len(ids),
                json_bytes=json_bytes,
                completed_at=datetime.now(UTC),
            ),
        )
        return "worked out from the pages"

    def _supersession(self, extraction_id: str) -> str:
        reason = "it was given up; the record of the reason was damaged"
        self._extractions.supersede(extraction_id, reason)
        return "written again, without the reason"

    def _page(self, extraction_id: str, page: str) -> str:
        relative = f"extractions/{extraction_id}/pages/{page}.parquet"
        if self._history.entry_of(extraction_id) is not None:
            return self._set_aside(relative, "what it held is in the history")
        plan = self._extractions.plan(extraction_id)
        if self._extractions.state(extraction_id) is ExtractionState.SUPERSEDED:
            return self._set_aside(relative, "its extraction was given up before")
        if plan.mode is ExtractionMode.IMPORT:
            self._extractions.supersede(extraction_id, f"its page {int(page)} was damaged")
            return self._set_aside(relative, f"import {plan.source} again")
        # The end goes first: an extraction whose end is there has all its pages.
        completion = f"extractions/{extraction_id}/complete.json"
        if self._storage.exists(completion):
            self._storage.delete_file(completion)
        return self._set_aside(relative, "the registry is asked for the page again")

    def _snapshot(self, part: str, name: str) -> str:
        done = "the snapshot is made again from the history"
        for manifest in self._snapshots.manifests():
            if part in manifest.parts or part == manifest.snapshot_id:
                path = snapshot_path(manifest.snapshot_id, "manifest.json")
                if self._storage.exists(path):
                    self._storage.set_aside(path)
        return self._set_aside(snapshot_path(part, name), done)

    def _periods(self, sequence: str) -> str:
        derived = self._history.derived_periods(int(sequence))
        relative = history_path(int(sequence), "periods.parquet")
        done = self._set_aside(relative, "derived again from what the entries saw")
        self._history.write_periods(int(sequence), derived)
        return done

    def _touched(self, sequence: str) -> str:
        touched = self._history.touched_periods(int(sequence))["nct_id"]
        relative = history_path(int(sequence), TOUCHED_FILE)
        done = self._set_aside(relative, "derived from the periods of these studies")
        self._history.write_ids(int(sequence), TOUCHED_FILE, touched)
        return done

    def _wanted(self, sequence: str) -> str:
        seen = self._history.seen(int(sequence))
        wanted = seen.filter(
            ~pl.col("as_before") & ~pl.col("nct_id").str.starts_with(UNIDENTIFIED)
        )["nct_id"]
        relative = history_path(int(sequence), STALE_IDS_FILE)
        done = self._set_aside(relative, "derived from what the census saw")
        self._history.write_ids(int(sequence), STALE_IDS_FILE, wanted)
        return done

    def _differences(self, sequence: str) -> str:
        changes = placed_changes(self._history, int(sequence))
        for name in ("field_changes.parquet", "typed_events.parquet"):
            relative = history_path(int(sequence), name)
            if self._storage.exists(relative):
                self._storage.copy_aside(relative)
        write_differences(self._history, int(sequence), changes)
        return "the contents of the changes were compared again"

    def _contents(self, sequence: str) -> str:
        number = int(sequence)
        columns = ["nct_id", "content_hash", "extraction_id", "page", "contents_entry"]
        periods = [self._history.periods(columns)]
        if self._history.tells_what_it_did(number):
            # Of a withdrawn entry the index knows nothing.
            periods.append(self._history.touched_periods(number).select(columns))
        wanted = (
            pl.concat(periods)
            .filter(pl.col("contents_entry") == number)
            .unique(["nct_id", "content_hash"])
        )
        relative = history_path(number, CONTENTS_FILE)
        found = self._readable(relative)
        had = {(row["nct_id"], row["content_hash"]) for row in found}
        lost = [
            row
            for row in wanted.select(CONTENTS_SCHEMA.names[:-1]).iter_rows(named=True)
            if (row["nct_id"], row["content_hash"]) not in had
        ]
        total = len(lost)
        lost = self._from_shards(lost, found)
        from_shards = total - len(lost)
        lost = self._from_registry(lost, found)
        if lost:
            named = ", ".join(
                f"{row['nct_id']} ({str(row['content_hash'])[:12]})" for row in lost[:_MOST_NAMED]
            )
            more = f" and {len(lost) - _MOST_NAMED} more" if len(lost) > _MOST_NAMED else ""
            message = (
                f"{self._storage.path(relative)} cannot be made again: no page is kept that has these "
                f"contents, and the registry does not have them any more: {named}{more}. Bring the file "
                "back from a backup. What does not need them goes on"
            )
            raise NotMendableError(message)
        if self._storage.exists(relative):
            self._storage.copy_aside(relative)
        found.sort(key=lambda row: (row["nct_id"], row["content_hash"]))
        with self._history.contents_writer(number) as writer:
            rows = pa.Table.from_pylist(found, schema=CONTENTS_SCHEMA)
            self._history.write_contents(writer, rows)
        return (
            f"{total} contents taken again: {from_shards} from pages that are kept, "
            f"{total - from_shards} from the registry"
        )

    def _readable(self, relative: str) -> list[dict[str, object]]:
        """The rows of a damaged file that are as they were written."""
        found: list[dict[str, object]] = []
        try:
            with open_sealed(self._storage, relative) as file:
                for group in range(file.num_row_groups):
                    try:
                        found += file.read_row_group(group).to_pylist()
                    except DamagedFileError:
                        continue  # what was in it is lost
        except DamagedFileError:
            pass  # of its footer, and with it all rows
        return found

    def _from_shards(
        self, lost: list[dict[str, object]], found: list[dict[str, object]]
    ) -> list[dict[str, object]]:
        """Take lost contents from pages that are kept; returns those that are in none."""
        left = []
        pages: dict[tuple[str, int], dict[object, bytes]] = {}
        for row in lost:
            place = (str(row["extraction_id"]), int(str(row["page"])))
            if place not in pages:
                try:
                    there = self._shards.read(*place, ["content_hash", "study"])
                except StorageError:
                    pages[place] = {}
                else:
                    pages[place] = dict(
                        zip(
                            there["content_hash"].to_pylist(),
                            there["study"].to_pylist(),
                            strict=True,
                        )
                    )
            study = pages[place].get(row["content_hash"])
            if study is None:
                left.append(row)
            else:
                found.append(row | {"study": study})
        return left

    def _from_registry(
        self, lost: list[dict[str, object]], found: list[dict[str, object]]
    ) -> list[dict[str, object]]:
        """Take lost contents from the registry where it still has the same; returns the others."""
        asked = sorted({str(row["nct_id"]) for row in lost if is_nct_id(str(row["nct_id"]))})
        if self._fetch is None or not asked:
            return lost
        there = {identify(study).content_hash: study for study in self._fetch(asked)}
        found += [
            row | {"study": there[str(row["content_hash"])]}
            for row in lost
            if row["content_hash"] in there
        ]
        return [row for row in lost if row["content_hash"] not in there]
