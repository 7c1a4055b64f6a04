"""The state that is told at every scrape: what each metric is called and means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ctg_assets.metrics import Metric

PARTS = ("counters", "lake", "database", "feed", "dagster", "disk")
"""What is read for a scrape, each by itself: one that cannot be read leaves the others as they are."""


@dataclass(frozen=True)
class Sample:
    """The value of one series of a gauge."""

    metric: Metric
    labels: Mapping[str, str]
    value: float


def sample(metric: Metric, value: float, **labels: str) -> Sample:
    """A sample; raises ValueError for other labels than the metric has."""
    metric.by(0, **labels)
    return Sample(metric, labels, value)


_SINCE_1970 = "in seconds since 1970 (UTC)"

# --- this service

BUILD_INFO = Metric(
    "ctg_build_info", "Always 1; the version of ctg_assets as a label.", ("version",)
)
SCRAPE_ERRORS = Metric(
    "ctg_scrape_errors",
    "1 if a part of the metrics could not be read for this scrape, else 0. Its last values are told for a "
    "minute, then none.",
    ("part",),
)
SCRAPE_SECONDS = Metric(
    "ctg_scrape_seconds",
    "Seconds that reading a part of the metrics took the last time.",
    ("part",),
)

# --- the lake

DATA_TIME = Metric(
    "ctg_data_timestamp_seconds",
    f"When the registry published the newest data that the history has, {_SINCE_1970}; the age of the data is "
    "time() less this.",
)
WALK_TIME = Metric(
    "ctg_last_walk_timestamp_seconds",
    "When the newest extraction of a mode (full, scoped, census, incremental, picked, import) was recorded in "
    f"the history, {_SINCE_1970}; of full, scoped and census only those that brought all the registry counted.",
    ("mode",),
)
CHANGES = Metric(
    "ctg_history_changes",
    "The number of the newest change in the history, counted from 1 for ever.",
)
STUDIES = Metric("ctg_studies", "Studies in the newest snapshot, typed.")
QUARANTINED = Metric("ctg_studies_quarantined", "Studies in the quarantine of the newest snapshot.")
UNKNOWN_FIELDS = Metric(
    "ctg_unknown_fields",
    "Fields that studies of the newest snapshot have and the data model does not.",
)
EXTRACTION_OPEN = Metric(
    "ctg_extraction_open", "1 while a walk over the registry is planned and not finished, else 0."
)
PAGES_PLANNED = Metric(
    "ctg_extraction_pages_planned",
    "Pages planned of the newest walk, open or complete.",
    ("mode",),
)
PAGES_DONE = Metric("ctg_extraction_pages_done", "Pages of that walk that are there.", ("mode",))

# --- the database

DATABASE_UP = Metric("ctg_database_up", "1 if the database answered just now, else 0.")
LOADED_DATA_TIME = Metric(
    "ctg_loaded_data_timestamp_seconds",
    f"When the registry published the data that the staging tables hold, {_SINCE_1970}.",
)
LOADED_TIME = Metric(
    "ctg_loaded_timestamp_seconds", f"When the staging tables were last loaded, {_SINCE_1970}."
)
LOADED_STUDIES = Metric("ctg_loaded_studies", "Studies that the staging tables hold.")
TABLE_ROWS = Metric(
    "ctg_table_rows",
    "Rows of a table, as its load noted them; of marts, as Postgres last estimated them.",
    ("schema", "table"),
)
TABLE_BYTES = Metric(
    "ctg_table_bytes", "Bytes of a table on disk, with its indexes.", ("schema", "table")
)

# --- the feed

FEED_LAG = Metric(
    "ctg_feed_lag_changes", "Changes that a sink of the feed has not settled yet.", ("sink",)
)
FEED_DELIVERED = Metric(
    "ctg_feed_delivered_events", "Events that a sink has confirmed since it was set up.", ("sink",)
)
FEED_DEAD_LETTERS = Metric("ctg_feed_dead_letters", "Events that a sink did not take.", ("sink",))
FEED_FAILING = Metric(
    "ctg_feed_failing", "1 while a sink cannot be delivered to, else 0.", ("sink",)
)
FEED_DELIVERING = Metric(
    "ctg_feed_delivering",
    "1 while a process (ctg-assets feed run) delivers to a sink, else 0.",
    ("sink",),
)

# --- Dagster

RUNS = Metric(
    "ctg_dagster_runs",
    "Runs that Dagster has on record, by status (queued, started, failure, ...).",
    ("status",),
)
DEAD_RUNS = Metric(
    "ctg_dagster_dead_runs",
    "Runs that count as under way although their process on this machine is gone; the next run reports them failed.",
)
HEARTBEAT = Metric(
    "ctg_dagster_daemon_heartbeat_timestamp_seconds",
    f"When a daemon of Dagster last gave a sign of life, {_SINCE_1970}.",
    ("daemon",),
)
CHECKS_FAILED = Metric(
    "ctg_checks_failed",
    "Asset checks that did not pass when they were last made: error (stops what comes after) or warning.",
    ("severity",),
)
STAGE_SECONDS = Metric(
    "ctg_stage_seconds",
    "Seconds that a step of the way took in the last run in which it succeeded.",
    ("stage",),
)

# --- the disk

FOLDER_BYTES = Metric(
    "ctg_data_folder_bytes", "Bytes of files in a part of the data folder.", ("folder",)
)
DISK_FREE = Metric("ctg_disk_free_bytes", "Bytes free for us on the disk of the data folder.")
DISK_SIZE = Metric("ctg_disk_size_bytes", "Bytes that the disk of the data folder has.")

GAUGES = (
    BUILD_INFO, SCRAPE_ERRORS, SCRAPE_SECONDS,
    DATA_TIME, WALK_TIME, CHANGES, STUDIES, QUARANTINED, UNKNOWN_FIELDS, EXTRACTION_OPEN, PAGES_PLANNED, PAGES_DONE,
    DATABASE_UP, LOADED_DATA_TIME, LOADED_TIME, LOADED_STUDIES, TABLE_ROWS, TABLE_BYTES,
    FEED_LAG, FEED_DELIVERED, FEED_DEAD_LETTERS, FEED_FAILING, FEED_DELIVERING,
    RUNS, DEAD_RUNS, HEARTBEAT, CHECKS_FAILED, STAGE_SECONDS,
    FOLDER_BYTES, DISK_FREE, DISK_SIZE,
)  # fmt: skip
