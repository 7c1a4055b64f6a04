"""The index of periods, entry by entry: what an extraction did to it, kept small, and done again.

A whole walk touches no study that stayed as it was but for the time at which it was last observed. So
the rows of touched studies are kept as they are afterwards, and of all others no more than that time.
"""

from __future__ import annotations

import polars as pl


def seen_rows(
    seen: pl.DataFrame,
    before: pl.DataFrame,
    after: pl.DataFrame,
    touched: pl.Series,
    *,
    with_contents: bool,
) -> pl.DataFrame:
    """What an extraction saw (SEEN_SCHEMA), in the order of `seen`.

    `before` and `after` are the index before and after it, `touched` the studies whose periods are not
    as they were. A content that was current before is named by `as_before` alone: hashes are what would
    be large. Without `with_contents` (a census) only the dates are compared.
    """
    current = (
        _current_periods(before)
        .join(seen, on="nct_id", how="semi")
        .select(
            "nct_id",
            known_hash="content_hash",
            known_date="last_update_post_date",
            known_time="last_observed_at",
        )
    )
    moved = (
        _current_periods(after)
        .join(seen, on="nct_id", how="semi")
        .filter(~pl.col("nct_id").is_in(touched.implode()))
        .join(current, on="nct_id", how="inner")
        .filter(pl.col("last_observed_at") != pl.col("known_time"))
        .select("nct_id", "last_observed_at")
    )
    is_known = pl.col("known_hash").is_not_null()
    same = (
        pl.col("content_hash") == pl.col("known_hash")
        if with_contents
        else pl.col("last_update_post_date").eq_missing(pl.col("known_date"))
    )
    as_before = (is_known & same).fill_null(value=False)
    return (
        seen.join(current, on="nct_id", how="left", maintain_order="left")
        .join(moved, on="nct_id", how="left", maintain_order="left")
        .with_columns(as_before=as_before)
        .select(
            "nct_id",
            "as_before",
            content_hash=pl.when(~pl.col("as_before") & pl.lit(with_contents)).then("content_hash"),
            last_update_post_date=pl.when(~pl.col("as_before")).then("last_update_post_date"),
            page=pl.when(pl.lit(with_contents)).then("page"),
            last_observed_at="last_observed_at",
        )
    )


def index_after(
    before: pl.DataFrame, seen: pl.DataFrame, touched_periods: pl.DataFrame
) -> pl.DataFrame:
    """The index after an entry, from the one before it, what it saw, and what it made of the touched."""
    times = (
        seen.select("nct_id", seen_again="last_observed_at")
        .drop_nulls()
        .group_by("nct_id")
        .agg(pl.col("seen_again").max())
    )
    is_head = pl.col("valid_to").is_null()
    kept = (
        before.filter(~pl.col("nct_id").is_in(touched_periods["nct_id"].unique().implode()))
        .join(times, on="nct_id", how="left", maintain_order="left")
        .with_columns(
            last_observed_at=pl.when(is_head & pl.col("seen_again").is_not_null())
            .then("seen_again")
            .otherwise("last_observed_at")
        )
        .select(before.columns)
    )
    return pl.concat([kept, touched_periods.select(before.columns)]).sort("nct_id", "valid_from")


def seen_again(seen: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """What an extraction saw, with hashes and dates in full: `seen_rows` turned round.

    Columns: nct_id, content_hash, last_update_post_date, page. `before` is the index before it.
    """
    current = _current_periods(before).select(
        "nct_id", known_hash="content_hash", known_date="last_update_post_date"
    )
    return seen.join(current, on="nct_id", how="left", maintain_order="left").select(
        "nct_id",
        content_hash=pl.when("as_before").then("known_hash").otherwise("content_hash"),
        last_update_post_date=pl.when("as_before")
        .then("known_date")
        .otherwise("last_update_post_date"),
        page="page",
    )


def _current_periods(periods: pl.DataFrame) -> pl.DataFrame:
    return periods.filter(pl.col("valid_to").is_null())
