"""How the contents before and after changes differ, written into an entry of the history.

Belongs here: reading the contents of changes and writing down what differs. Does not belong here: how
two contents are compared (`model/changes`), and which changes there are (`recording.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from ctg_assets.lake.history import (
    FIELD_CHANGES_FILE,
    FIELD_CHANGES_SCHEMA,
    TYPED_EVENTS_FILE,
    TYPED_EVENTS_SCHEMA,
    HistoryStore,
)
from ctg_assets.model.changes.field_changes import FieldChange, field_changes
from ctg_assets.model.changes.typed_events import TypedEvent, typed_events

# Two contents of each are in memory at a time, some 40 MB of JSON and ten times that decoded.
_COMPARED_AT_A_TIME = 1000


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
    compared = changes.filter(
        pl.col("old_content_hash").is_not_null()
        & pl.col("new_content_hash").is_not_null()
        & (pl.col("old_content_hash") != pl.col("new_content_hash"))
    )
    counts: dict[int, int] = {}
    with (
        history.writer(sequence, FIELD_CHANGES_FILE, FIELD_CHANGES_SCHEMA) as of_fields,
        history.writer(sequence, TYPED_EVENTS_FILE, TYPED_EVENTS_SCHEMA) as of_events,
    ):
        for some in compared.iter_slices(_COMPARED_AT_A_TIME):
            differences = list(_differences(history, some))
            _write_rows(of_fields, FIELD_CHANGES_SCHEMA, _field_rows(differences))
            _write_rows(of_events, TYPED_EVENTS_SCHEMA, _event_rows(differences))
            counts |= {each.change_seq: len(each.fields) for each in differences}
    return counts


def _differences(history: HistoryStore, changes: pl.DataFrame) -> Iterator[_Difference]:
    sides = [
        changes.select(
            "nct_id",
            content_hash=f"{side}_content_hash",
            contents_entry=f"{side}_contents_entry",
        )
        for side in ("old", "new")
    ]
    wanted = pl.concat(sides).unique().sort("nct_id", "content_hash")
    contents: dict[tuple[str, str], bytes] = {}
    for rows in history.contents(wanted, wanted.height):
        keys = zip(rows["nct_id"].to_pylist(), rows["content_hash"].to_pylist(), strict=True)
        contents |= dict(zip(keys, rows["study"].to_pylist(), strict=True))
    columns = ["change_seq", "nct_id", "old_content_hash", "new_content_hash", "observed_at"]
    for change_seq, nct_id, old_hash, new_hash, observed_at in changes.select(columns).iter_rows():
        old, new = _decoded(contents[nct_id, old_hash]), _decoded(contents[nct_id, new_hash])
        if old is None or new is None:
            continue  # not JSON objects: the hashes say all there is to say
        fields = field_changes(old, new)
        events = typed_events(old, new, fields, observed_at.date())
        yield _Difference(change_seq, nct_id, fields, events)


def _decoded(study: bytes) -> dict[str, Any] | None:
    try:
        content = msgspec.json.decode(study)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _write_rows(writer: pq.ParquetWriter, schema: pa.Schema, rows: list[dict[str, Any]]) -> None:
    if rows:
        writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _field_rows(differences: Sequence[_Difference]) -> list[dict[str, Any]]:
    return [
        {
            "change_seq": difference.change_seq,
            "position": position,
            "nct_id": difference.nct_id,
            **asdict(each),
        }
        for difference in differences
        for position, each in enumerate(difference.fields, start=1)
    ]


def _event_rows(differences: Sequence[_Difference]) -> list[dict[str, Any]]:
    return [
        {
            "change_seq": difference.change_seq,
            "position": position,
            "nct_id": difference.nct_id,
            **asdict(each),
        }
        for difference in differences
        for position, each in enumerate(difference.events, start=1)
    ]
