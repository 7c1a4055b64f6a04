"""Former contents: studies as an earlier snapshot of the lineage had them.

They come from the history, of which single studies are read; the earlier snapshot may be gone, and its
parts would have to be read whole.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import polars as pl
import pyarrow as pa

from ctg_assets.history.contents import SCATTERED_AT_A_TIME, Contents
from ctg_assets.history.store import HistoryStore
from ctg_assets.prefetch import Prefetch
from ctg_assets.snapshot.store import SnapshotManifest, SnapshotStore, snapshot_schema
from ctg_assets.snapshot.typed_contents import CONTENT_COLUMNS, type_contents

# Two columns of so many studies are some 30 MB.
_ROW_GROUPS_AT_A_TIME = 50


class PreviousStudies:
    """Some studies as a snapshot of the lineage had them."""

    def __init__(self, contents: Contents, facts: pl.DataFrame) -> None:
        self._contents = contents
        self._facts = facts

    @classmethod
    @contextlib.contextmanager
    def opened(
        cls,
        history: HistoryStore,
        snapshots: SnapshotStore,
        manifest: SnapshotManifest,
        since: str,
        nct_ids: Collection[str],
    ) -> Iterator[PreviousStudies]:
        """Those of the studies `nct_ids` that the snapshot `since` had, for reading."""
        parts = snapshots.parts(manifest.parts[: manifest.lineage[since].parts])
        asked = pl.Series("nct_id", list(nct_ids), pl.String)
        there = pl.DataFrame(schema={"nct_id": pl.String, "content_hash": pl.String})
        # Ids and hashes of all studies are read: the snapshot's index, as it were.
        for rows in parts.studies(there.columns, row_groups=_ROW_GROUPS_AT_A_TIME):
            found = pl.DataFrame(rows).filter(pl.col("nct_id").is_in(asked.implode()))
            there = pl.concat([there, found])
        named = ["nct_id", "content_hash"]
        known = history.periods(CONTENT_COLUMNS).join(there, on=named, how="semi").unique(named)
        facts = there.join(known, on=named, how="inner")
        if facts.height != there.height:
            message = (
                f"{there.height - facts.height} contents of snapshot {since} are not in the history"
            )
            raise pa.ArrowInvalid(message)
        with history.open_contents() as contents:
            yield cls(contents, facts.select(CONTENT_COLUMNS).sort("nct_id"))

    def studies(self, nct_ids: Collection[str]) -> pa.Table:
        """Those of some studies that were there, typed (`snapshot_schema()`), sorted by NCT id."""
        ids = pl.Series("nct_id", list(nct_ids), pl.String)
        wanted = self._facts.filter(pl.col("nct_id").is_in(ids.implode()))
        with Prefetch(self._contents.rows(wanted, SCATTERED_AT_A_TIME)) as read:
            rows = list(read)
        if not rows:
            return snapshot_schema().empty_table()
        return type_contents(pa.concat_tables(rows)).studies
