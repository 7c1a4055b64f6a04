"""How the contents before and after changes differ, written into an entry of the history."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.history.contents import SCATTERED_AT_A_TIME, Contents
from ctg_assets.history.schemas import (
    EVENT_RULES_KEY,
    FIELD_CHANGES_FILE,
    FIELD_CHANGES_SCHEMA,
    TYPED_EVENTS_FILE,
    TYPED_EVENTS_SCHEMA,
)
from ctg_assets.history.store import HistoryStore
from ctg_assets.model.changes.decoding import decode_differing
from ctg_assets.model.changes.field_changes import FieldChange, field_changes
from ctg_assets.model.changes.rules import event_rules
from ctg_assets.model.changes.typed_events import TypedEvent, typed_events
from ctg_assets.prefetch import Prefetch

# Rows gathered before they are written.
_ROWS_AT_A_TIME = 10_000

_Contents = dict[tuple[str, str], bytes]
"""JSON by NCT id and content hash."""


@dataclass(frozen=True)
class _Difference:
    """How the contents before and after a change differ."""

    change_seq: int
    nct_id: str
    fields: Sequence[FieldChange]
    events: Sequence[TypedEvent]


def write_differences(
    history: HistoryStore, sequence: int, changes: pl.DataFrame
) -> dict[int, int]:
    """Write how contents differ; returns the number of changed fields by change."""
    compared = _compared(changes)
    counts: dict[int, int] = {}
    with (
        history.open_contents() as kept,
        history.writer(sequence, FIELD_CHANGES_FILE, FIELD_CHANGES_SCHEMA) as field_writer,
        history.writer(sequence, TYPED_EVENTS_FILE, _events_schema()) as event_writer,
        # Files are read without Python's lock, and contents compared with it.
        Prefetch(_with_contents(kept, compared)) as batches,
    ):
        of_fields = _Rows(field_writer, FieldChange)
        of_events = _Rows(event_writer, TypedEvent)
        for some, contents in batches:
            for each in _differences(some, contents):
                of_fields.add(each.change_seq, each.nct_id, each.fields)
                of_events.add(each.change_seq, each.nct_id, each.events)
                counts[each.change_seq] = len(each.fields)
        of_fields.write()
        of_events.write()
    return counts


def rewrite_events(history: HistoryStore, sequence: int) -> None:
    """Write the events of an entry's changes anew, in place of those that it has."""
    compared = _compared(placed_changes(history, sequence))
    with (
        history.open_contents() as kept,
        history.writer(sequence, TYPED_EVENTS_FILE, _events_schema()) as writer,
        Prefetch(_with_contents(kept, compared)) as batches,
    ):
        of_events = _Rows(writer, TypedEvent)
        for some, contents in batches:
            for each in _differences(some, contents):
                of_events.add(each.change_seq, each.nct_id, each.events)
        of_events.write()


def placed_changes(history: HistoryStore, sequence: int) -> pl.DataFrame:
    """The changes of an entry, with the entries in whose contents those before and after them lie."""
    changes = history.changes(sequence)
    lies_in = history.periods(["nct_id", "content_hash", "contents_entry"]).unique()
    for side in ("old", "new"):
        renamed = lies_in.rename(
            {"content_hash": f"{side}_content_hash", "contents_entry": f"{side}_contents_entry"}
        )
        changes = changes.join(
            renamed, on=["nct_id", f"{side}_content_hash"], how="left", maintain_order="left"
        )
    return changes


def _compared(changes: pl.DataFrame) -> pl.DataFrame:
    """The changes from one content to another."""
    return changes.filter(
        pl.col("old_content_hash").is_not_null()
        & pl.col("new_content_hash").is_not_null()
        & (pl.col("old_content_hash") != pl.col("new_content_hash"))
    )


def _events_schema() -> pa.Schema:
    return TYPED_EVENTS_SCHEMA.with_metadata({EVENT_RULES_KEY: event_rules()})


def _with_contents(
    kept: Contents, changes: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, _Contents]]:
    """Some changes at a time, with the contents before and after them."""
    for some in changes.iter_slices(SCATTERED_AT_A_TIME):
        sides = [
            some.select(
                "nct_id",
                content_hash=f"{side}_content_hash",
                contents_entry=f"{side}_contents_entry",
            )
            for side in ("old", "new")
        ]
        wanted = pl.concat(sides).unique().sort("nct_id", "content_hash")
        contents: _Contents = {}
        for rows in kept.rows(wanted, wanted.height):
            keys = zip(rows["nct_id"].to_pylist(), rows["content_hash"].to_pylist(), strict=True)
            contents |= dict(zip(keys, rows["study"].to_pylist(), strict=True))
        yield some, contents


def _differences(changes: pl.DataFrame, contents: _Contents) -> Iterator[_Difference]:
    columns = ["change_seq", "nct_id", "old_content_hash", "new_content_hash", "observed_at"]
    for change_seq, nct_id, old_hash, new_hash, observed_at in changes.select(columns).iter_rows():
        decoded = decode_differing(contents[nct_id, old_hash], contents[nct_id, new_hash])
        if decoded is None:
            continue  # not JSON objects: the hashes say all there is to say
        old, new = decoded
        fields = field_changes(old, new)
        events = typed_events(old, new, fields, observed_at.date())
        yield _Difference(change_seq, nct_id, fields, events)


class _Rows:
    """What changes consist of, on its way into a file: a row for each FieldChange or TypedEvent."""

    def __init__(self, writer: pq.ParquetWriter, kind: type[FieldChange | TypedEvent]) -> None:
        own = [each.name for each in fields(kind)]
        self._writer = writer
        self._names = ["change_seq", "position", "nct_id", *own]
        self._values_of = attrgetter(*own)
        self._rows: list[tuple[object, ...]] = []

    def add(self, change_seq: int, nct_id: str, found: Sequence[FieldChange | TypedEvent]) -> None:
        """Take what a change consists of."""
        self._rows += [
            (change_seq, position, nct_id, *self._values_of(each))
            for position, each in enumerate(found, start=1)
        ]
        if len(self._rows) >= _ROWS_AT_A_TIME:
            self.write()

    def write(self) -> None:
        """Write what was taken."""
        if not self._rows:
            return
        columns = dict(zip(self._names, zip(*self._rows, strict=True), strict=True))
        schema = self._writer.schema
        arrays = [pa.array(columns[field.name], field.type) for field in schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
        self._rows = []
