"""Periods and transitions of single studies out of the index's rows, and back into rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import polars as pl

from ctg_assets.history.schemas import PERIODS_SCHEMA
from ctg_assets.history.timeline import (
    Content,
    Period,
    Transition,
)

PERIODS: pl.Schema = pl.DataFrame(PERIODS_SCHEMA.empty_table()).schema

TRANSITIONS = pl.Schema(
    {
        "nct_id": pl.String(),
        "kind": pl.String(),
        "observed_at": pl.Datetime("us", "UTC"),
        "old_content_hash": pl.String(),
        "old_contents_entry": pl.Int32(),
        "old_date": pl.Date(),
        "new_content_hash": pl.String(),
        "new_contents_entry": pl.Int32(),
        "new_date": pl.Date(),
        "merged_into": pl.String(),
        "is_backfill": pl.Boolean(),
    }
)

CONTENT = ["content_hash", "last_update_post_date", "json_bytes", "extraction_id", "page"]


def content_of(row: Mapping[str, Any]) -> Content:
    """The content that a row is about."""
    return Content(**{name: row[name] for name in (*CONTENT, "contents_entry")})


def content_columns(content: Content) -> dict[str, Any]:
    """The columns of a content."""
    return {name: getattr(content, name) for name in (*CONTENT, "contents_entry")}


def shown(period: Period) -> tuple[Any, ...]:
    """What readers see of a period: of a current one not when it was last observed."""
    return (
        period.content.content_hash,
        period.valid_from,
        period.valid_to,
        period.ended_by,
        None if period.valid_to is None else period.last_observed_at,
    )


def transition_rows(
    noted: Sequence[tuple[str, Transition]], known_until: Mapping[str, datetime]
) -> pl.DataFrame:
    """Transitions of studies as rows (TRANSITIONS); they are backfill up to when something was known of their study."""
    rows = [
        {
            "nct_id": nct_id,
            "kind": str(each.kind),
            "observed_at": each.observed_at,
            "old_content_hash": each.old.content_hash if each.old else None,
            "old_contents_entry": each.old.contents_entry if each.old else None,
            "old_date": each.old.last_update_post_date if each.old else None,
            "new_content_hash": each.new.content_hash if each.new else None,
            "new_contents_entry": each.new.contents_entry if each.new else None,
            "new_date": each.new.last_update_post_date if each.new else None,
            "merged_into": None,
            "is_backfill": each.observed_at <= known_until[nct_id],
        }
        for nct_id, each in noted
    ]
    return pl.DataFrame(rows, schema=TRANSITIONS)


def periods_by_study(nct_ids: Iterable[str], rows: pl.DataFrame) -> dict[str, list[Period]]:
    """The periods of each of these studies, in the order of time, out of rows of the index."""
    of_study: dict[str, list[Period]] = {nct_id: [] for nct_id in nct_ids}
    for row in rows.sort("nct_id", "valid_from").iter_rows(named=True):
        of_study[row["nct_id"]].append(
            Period(
                content_of(row),
                row["valid_from"],
                row["valid_to"],
                row["ended_by"],
                row["last_observed_at"],
            )
        )
    return of_study


def period_rows(of_study: Mapping[str, Sequence[Period]]) -> pl.DataFrame:
    """Periods of studies as rows of the index (PERIODS), without the numbers of their versions."""
    rows = [
        {
            "nct_id": nct_id,
            **content_columns(period.content),
            "valid_from": period.valid_from,
            "valid_to": period.valid_to,
            "ended_by": period.ended_by,
            "last_observed_at": period.last_observed_at,
        }
        for nct_id, periods in of_study.items()
        for period in periods
    ]
    schema = {name: PERIODS[name] for name in PERIODS if name != "version_number"}
    return pl.DataFrame(rows, schema=schema)
