"""Compaction: a complete extraction becomes the next snapshot.

A snapshot builds on the one before it as long as little has changed: only studies that changed are
typed. Those of a first crawl were typed while they came (`typing_ahead.py`). While one thread writes what was parsed, the next rows are parsed.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.errors import CtgAssetsError
from ctg_assets.history.entries import HistoryEntry
from ctg_assets.history.recording import ExplainMissing, Recorder
from ctg_assets.history.retelling import retell_events
from ctg_assets.history.store import HistoryStore
from ctg_assets.metrics import NO_COUNTERS, RECORDS, TRANSFORMATION_ERRORS, Counters
from ctg_assets.model.changes.rules import event_rules
from ctg_assets.model.json_text import FOUND
from ctg_assets.model.nct_ids import are_nct_ids
from ctg_assets.prefetch import Prefetch
from ctg_assets.snapshot.store import (
    EXTRAS_FILE,
    EXTRAS_SCHEMA,
    QUARANTINE_FILE,
    QUARANTINE_FILE_SCHEMA,
    REPLACED_FILE,
    REPLACED_SCHEMA,
    STUDIES_FILE,
    Ancestor,
    SnapshotManifest,
    SnapshotStore,
    snapshot_path,
    snapshot_schema,
)
from ctg_assets.snapshot.typed_contents import (
    CONTENT_COLUMNS,
    TypedContents,
    model_fingerprint,
    type_contents,
)
from ctg_assets.snapshot.typing_ahead import (
    finished_portions,
    remove_needless_portions,
    typed_contents,
)
from ctg_assets.storage.files import Storage
from ctg_assets.storage.sealed_parquet import sealed_writer

# Flattening takes some row groups at a time; one is about 70 MB of Arrow at the registry's average size.
ROW_GROUP_ROWS = 4000

# Beyond this share of studies, or this many parts, a snapshot is made anew: readers skip what later
# parts replace, and look at each part.
_MOST_REPLACED = 0.1
_MOST_PARTS = 30

# Level 3 and dictionaries write in 1.8 times the time to 0.9 of the size (100 MB of real studies).
_COMPRESSION_LEVEL = 1

# Whom to look up in a file; bounds on the study's several hundred own columns cost a fifth of writing.
_STATISTICS = ["nct_id", "last_update_post_date"]


class OvertakenError(CtgAssetsError):
    """The history has gone on since the extraction; the newest one is to be compacted."""


class Compactor:
    """Records extractions and makes snapshots."""

    def __init__(self, storage: Storage, scratch: Path, counters: Counters = NO_COUNTERS) -> None:
        """Compact within `storage`; `scratch` is a local folder for temporary files."""
        self._storage = storage
        self._scratch = scratch
        self._counters = counters
        self._history = HistoryStore(storage)
        self._snapshots = SnapshotStore(storage)
        self._recorder = Recorder(storage, scratch)

    def compact(
        self,
        extraction_id: str,
        progress: Callable[[int, int], None] | None = None,
        *,
        explain: ExplainMissing | None = None,
    ) -> SnapshotManifest:
        """Record a complete extraction and make its snapshot; one that is there is returned as it is.

        Events of the history that were told by other rules than the present ones are told anew. `progress`
        is called with the studies typed and their total, `explain` as by `Recorder.record`. What a killed
        compaction left behind is removed first.

        Raises OvertakenError when a later extraction was recorded before this one got its snapshot,
        BusyError when another process records, compacts or undoes, and what `Recorder.record` raises.
        """
        with self._history.lock():
            remove_withdrawn_snapshots(self._history, self._snapshots)
            existing = self._snapshots.manifest(extraction_id)
            if existing is not None and existing.model_fingerprint == model_fingerprint():
                return self._with_events_told(existing)
            entry = self._recorder.record(extraction_id, explain=explain)
            latest = self._history.latest()
            if latest is None or latest.sequence != entry.sequence:
                message = (
                    f"extraction {extraction_id} was recorded, and a later one as well; compact that "
                    "(the newest snapshot holds everything)"
                )
                raise OvertakenError(message)
            retell_events(self._history)
            self._snapshots.clean(extraction_id)
            base, changed = self._base(entry)
            current = self._history.periods().filter(pl.col("valid_to").is_null())
            parts = [] if base is None else list(base.parts)
            lineage = {} if base is None else dict(base.lineage)
            unknown_fields: Counter[str] | None = None
            if base is None or changed:
                wanted = (
                    current if base is None else current.filter(pl.col("nct_id").is_in(changed))
                )
                replaced = None if base is None else changed
                unknown_fields = self._write_part(extraction_id, wanted, replaced, progress)
                parts.append(extraction_id)
            whole = self._snapshots.parts(parts)
            if base is not None:
                unknown_fields = Counter(
                    path for rows in whole.extras() for path in rows["path"].to_pylist()
                )
            manifest = self._manifest(entry, current, parts, lineage, unknown_fields or Counter())
            self._snapshots.write_manifest(manifest)
            remove_needless_portions(self._storage, self._scratch)
            return manifest

    def _with_events_told(self, manifest: SnapshotManifest) -> SnapshotManifest:
        """A snapshot that is there, of a history whose events are told by the present rules."""
        if has_events_told(manifest):
            return manifest
        retell_events(self._history)
        told = msgspec.structs.replace(manifest, event_rules=event_rules())
        self._snapshots.write_manifest(told)
        return told

    def _base(self, entry: HistoryEntry) -> tuple[SnapshotManifest | None, list[str]]:
        """The snapshot to build on, if it pays, and the studies that changed since."""
        candidates = [
            manifest
            for manifest in self._snapshots.manifests()
            if manifest.model_fingerprint == model_fingerprint()
            and manifest.snapshot_id != entry.extraction_id
            and manifest.history_sequence < entry.sequence
        ]
        if not candidates:
            return None, []
        base = max(candidates, key=lambda manifest: manifest.history_sequence)
        if len(base.parts) >= _MOST_PARTS:
            return None, []
        changed: set[str] = set()
        for later in self._history.since(base.history_sequence):
            changed.update(self._history.touched(later.sequence).to_list())
        replaced = changed | set(self._snapshots.parts(base.parts).replaced(1))
        if len(replaced) > entry.studies * _MOST_REPLACED:
            return None, []
        return base, sorted(changed)

    def _write_part(
        self,
        name: str,
        wanted: pl.DataFrame,
        replaced: Sequence[str] | None,
        progress: Callable[[int, int], None] | None,
    ) -> Counter[str]:
        """Write a part with these studies; returns the occurrences of unknown fields."""
        studies = set_aside = 0
        unknown_fields: Counter[str] = Counter()
        with ExitStack() as stack:
            output = stack.enter_context(_Output(self._storage, name))
            for typed in self._typed(stack, name, wanted, whole=replaced is None):
                output.add(typed)
                studies += typed.studies.num_rows
                set_aside += typed.quarantined.num_rows
                unknown_fields.update(typed.unknown_fields)
                if progress is not None:
                    progress(studies, wanted.height)
        processed = RECORDS.by(studies + set_aside, stage="transform")
        self._counters.add(processed, TRANSFORMATION_ERRORS.by(set_aside))
        if replaced is not None:
            path = snapshot_path(name, REPLACED_FILE)
            with sealed_writer(self._storage, path, REPLACED_SCHEMA) as writer:
                writer.write_table(pa.table([pa.array(replaced, pa.string())], REPLACED_SCHEMA))
        return unknown_fields

    def _typed(
        self, stack: ExitStack, extraction_id: str, wanted: pl.DataFrame, *, whole: bool
    ) -> Iterator[TypedContents]:
        """Studies typed, some at a time; what is read or made ahead ends with `stack`."""
        facts = wanted.select(CONTENT_COLUMNS)
        portions = finished_portions(self._storage, self._scratch, extraction_id) if whole else []
        if portions:
            merged = typed_contents(portions, self._history, facts, ROW_GROUP_ROWS)
            return stack.enter_context(Prefetch(merged))
        read = self._history.contents(facts, ROW_GROUP_ROWS)
        return map(type_contents, stack.enter_context(Prefetch(read)))

    def _manifest(
        self,
        entry: HistoryEntry,
        current: pl.DataFrame,
        parts: list[str],
        lineage: Mapping[str, Ancestor],
        unknown_fields: Counter[str],
    ) -> SnapshotManifest:
        quarantine = self._snapshots.parts(parts).quarantine(with_studies=False)
        known = current.filter(are_nct_ids(pl.col("nct_id")))
        typed = known.filter(~pl.col("nct_id").is_in(quarantine["nct_id"].to_pylist()))
        spelled = typed.select(pl.format("{} {}\n", "nct_id", "content_hash").str.join("")).item()
        content_fingerprint = hashlib.sha256((spelled or "").encode()).hexdigest()
        itself = Ancestor(
            parts=len(parts),
            content_fingerprint=content_fingerprint,
            history_sequence=entry.sequence,
            history_revision=entry.revision,
        )
        imports = {each.extraction_id for each in self._history.entries() if each.is_import}
        return SnapshotManifest(
            snapshot_id=entry.extraction_id,
            extraction_id=entry.extraction_id,
            source=entry.source,
            query=entry.query,
            # An older content brought in last does not make what is current older.
            data_timestamp=max(
                self._history.entries(), key=lambda each: each.observed_at
            ).counted_timestamp,
            content_fingerprint=content_fingerprint,
            model_fingerprint=model_fingerprint(),
            studies=typed.height,
            distinct_ids=known.height,
            duplicate_rows=entry.duplicate_rows,
            quarantined=quarantine.num_rows,
            strays=sum(
                nct_id is None and extraction_id in imports
                for nct_id, extraction_id in zip(
                    *(quarantine[name].to_pylist() for name in ("nct_id", "extraction_id")),
                    strict=True,
                )
            ),
            # Without what was found, which may be another thing in each of many studies.
            quarantine_reasons=dict(
                Counter(reason.split(FOUND)[0] for reason in quarantine["reason"].to_pylist())
            ),
            unknown_fields=dict(sorted(unknown_fields.items())),
            json_bytes=int(typed["json_bytes"].sum()),
            file_bytes=sum(self._storage.size(snapshot_path(part, STUDIES_FILE)) for part in parts),
            created_at=datetime.now(UTC),
            history_sequence=entry.sequence,
            history_revision=entry.revision,
            event_rules=event_rules(),
            parts=parts,
            lineage={**lineage, entry.extraction_id: itself},
        )


def has_events_told(manifest: SnapshotManifest) -> bool:
    """Whether the events of a snapshot's history are told by the present rules."""
    return manifest.event_rules == event_rules()


def stands_on_what_counts(manifest: SnapshotManifest, entries: Sequence[HistoryEntry]) -> bool:
    """Whether a snapshot is of an entry of the history that was not withdrawn since."""
    return any(
        entry.sequence == manifest.history_sequence
        and entry.extraction_id == manifest.extraction_id
        for entry in entries
    )


def remove_withdrawn_snapshots(history: HistoryStore, snapshots: SnapshotStore) -> list[str]:
    """Remove snapshots of entries that were undone; returns their ids.

    An entry that was recorded once more is of the same extraction, so their names cannot tell them apart.
    """
    if not history.undos():
        return []
    entries = history.entries()
    removed = [
        manifest.snapshot_id
        for manifest in snapshots.manifests()
        if not stands_on_what_counts(manifest, entries)
    ]
    for snapshot_id in removed:
        snapshots.delete(snapshot_id)
    return removed


class _Output:
    """The files of a part being written; studies go to theirs in a thread, one table behind."""

    def __init__(self, storage: Storage, part: str) -> None:
        # Ended in reverse order, whatever fails: the last table, the thread, the writers.
        self._stack = ExitStack()
        self._studies = self._stack.enter_context(
            _writer(storage, snapshot_path(part, STUDIES_FILE), snapshot_schema())
        )
        self._extras = self._stack.enter_context(
            _writer(storage, snapshot_path(part, EXTRAS_FILE), EXTRAS_SCHEMA)
        )
        self._quarantine = self._stack.enter_context(
            _writer(storage, snapshot_path(part, QUARANTINE_FILE), QUARANTINE_FILE_SCHEMA)
        )
        self._thread = self._stack.enter_context(ThreadPoolExecutor(1))
        self._stack.callback(self._wait)
        self._pending: Future[None] | None = None

    def __enter__(self) -> _Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Told of failures, so that none of the files is published.
        self._stack.__exit__(kind, error, traceback)

    def add(self, typed: TypedContents) -> None:
        """Write typed contents; raises what writing those before them raised."""
        self._wait()
        self._pending = self._thread.submit(
            self._studies.write_table, typed.studies, row_group_size=ROW_GROUP_ROWS
        )
        if typed.extras.num_rows:
            self._extras.write_table(typed.extras)
        if typed.quarantined.num_rows:
            self._quarantine.write_table(typed.quarantined)

    def _wait(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()


def _writer(
    storage: Storage, relative: str, schema: pa.Schema
) -> AbstractContextManager[pq.ParquetWriter]:
    return sealed_writer(
        storage,
        relative,
        schema,
        compression="zstd",
        compression_level=_COMPRESSION_LEVEL,
        use_dictionary=False,
        write_statistics=[name for name in _STATISTICS if name in schema.names],
    )
