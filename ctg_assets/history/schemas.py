"""The files of an entry of the history, and what their columns hold."""

from __future__ import annotations

import pyarrow as pa

from ctg_assets.model.changes.typed_events import EventType

CONTENTS_FILE = "contents.parquet"
CHANGES_FILE = "changes.parquet"
FIELD_CHANGES_FILE = "field_changes.parquet"
TYPED_EVENTS_FILE = "typed_events.parquet"
TOUCHED_FILE = "touched.parquet"
STALE_IDS_FILE = "wanted.parquet"
PERIODS_FILE = "periods.parquet"
SEEN_FILE = "seen.parquet"
TOUCHED_PERIODS_FILE = "touched_periods.parquet"
REASONS_FILE = "fates.parquet"

_TIME = pa.timestamp("us", "UTC")


CONTENTS_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        # The study's JSON, byte for byte as the registry sent it.
        pa.field("study", pa.large_binary(), nullable=False),
    ]
)

PERIODS_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        # The study's contents in the order in which they were first observed, from 1. A content that
        # comes back keeps its number, so a number may have several periods.
        pa.field("version_number", pa.int32(), nullable=False),
        pa.field("content_hash", pa.string(), nullable=False),
        # When the content was first observed, and when something else (or nothing) was; NULL: it is
        # current. Times are the registry's data timestamps.
        pa.field("valid_from", _TIME, nullable=False),
        pa.field("valid_to", _TIME),
        # The kind of the change that ended the period.
        pa.field("ended_by", pa.string()),
        # The last time that the content was seen in this period.
        pa.field("last_observed_at", _TIME, nullable=False),
        pa.field("last_update_post_date", pa.date32()),
        pa.field("json_bytes", pa.int64(), nullable=False),
        # Whence the content was taken first, and the entry in whose contents it lies.
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("page", pa.int32(), nullable=False),
        pa.field("contents_entry", pa.int32(), nullable=False),
    ]
)

CHANGES_SCHEMA = pa.schema(
    [
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("observed_at", _TIME, nullable=False),
        pa.field("recorded_at", _TIME, nullable=False),
        pa.field("extraction_id", pa.string(), nullable=False),
        pa.field("old_content_hash", pa.string()),
        pa.field("new_content_hash", pa.string()),
        pa.field("old_version_number", pa.int32()),
        pa.field("new_version_number", pa.int32()),
        # The content changed and the last update date did not.
        pa.field("is_silent", pa.bool_(), nullable=False),
        pa.field("merged_into", pa.string()),
        # Found by bringing in an older content: it happened before changes with lower numbers.
        pa.field("is_backfill", pa.bool_(), nullable=False),
        pa.field("fields_changed", pa.int32(), nullable=False),
    ]
)

FIELD_CHANGES_SCHEMA = pa.schema(
    [
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("module", pa.string()),
        pa.field("path", pa.string(), nullable=False),
        pa.field("item", pa.string()),
        pa.field("change", pa.string(), nullable=False),
        pa.field("old_value", pa.string()),
        pa.field("new_value", pa.string()),
    ]
)

# In a file's metadata: the rules by which its events were told.
EVENT_RULES_KEY = "ctg_assets.event_rules"

EVENT_TYPES = tuple(str(each) for each in EventType)
"""What `event_type` can be."""

TYPED_EVENTS_SCHEMA = pa.schema(
    [
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("position", pa.int32(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("event_type", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
        pa.field("old_value", pa.string()),
        pa.field("new_value", pa.string()),
        pa.field("days", pa.int32()),
        pa.field("after_primary_completion", pa.bool_()),
        # Not in files of releases before 2026-11-26.
        pa.field("similarity", pa.float64()),
    ]
)

SEEN_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        # The study had the content that was current before (of a census: the date), which is not named
        # again.
        pa.field("as_before", pa.bool_(), nullable=False),
        pa.field("content_hash", pa.string()),
        pa.field("last_update_post_date", pa.date32()),
        pa.field("page", pa.int32()),
        # Of a study whose periods stayed as they were: when its content was last observed, if that moved.
        pa.field("last_observed_at", _TIME),
    ]
)

REASONS_SCHEMA = pa.schema(
    [
        pa.field("nct_id", pa.string(), nullable=False),
        # The kind of the change; NULL: the registry had the study after all.
        pa.field("kind", pa.string()),
        pa.field("merged_into", pa.string()),
    ]
)

UNDONE_SCHEMA = pa.schema(
    [
        # The undoing has a number like a change, above all before.
        pa.field("change_seq", pa.int64(), nullable=False),
        pa.field("undone_change_seq", pa.int64(), nullable=False),
        # The withdrawn entry that holds the change.
        pa.field("entry", pa.int32(), nullable=False),
        pa.field("nct_id", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("observed_at", _TIME, nullable=False),
        # What the change had led to, and what the study has now; NULL: it is not there.
        pa.field("old_content_hash", pa.string()),
        pa.field("old_version_number", pa.int32()),
        pa.field("new_content_hash", pa.string()),
        pa.field("new_version_number", pa.int32()),
        # The content that the change was about, and the entry in whose contents it lies.
        pa.field("content_hash", pa.string(), nullable=False),
        pa.field("contents_entry", pa.int32(), nullable=False),
    ]
)

IDS_SCHEMA = pa.schema([pa.field("nct_id", pa.string(), nullable=False)])
