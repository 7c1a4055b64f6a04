"""What a source of rows is, and what it is asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Protocol

import pyarrow as pa

from ctg_assets.lake import Lake
from ctg_assets.load.delta import RowBatch
from ctg_assets.model.id_ranges import IdRanges
from ctg_assets.model.spec import TableShape
from ctg_assets.snapshot.store import Ancestor, SnapshotManifest

Rows = Iterator[Mapping[str, pa.Table]]
"""Batches of rows by table, as the loader takes them."""

Groups = Iterable[IdRanges]
"""Studies that are taken together, some at a time."""


class MadeBy(Protocol):
    """By what code a snapshot was made: how it typed studies, and by which rules it told events."""

    @property
    def model_fingerprint(self) -> str:
        """A digest of the first."""

    @property
    def event_rules(self) -> str:
        """A digest of the second."""


class RowSource(Protocol):
    """Staging tables that are filled in one way.

    Where tables are `compared`, what changed comes with the rows that the studies had before.
    """

    @property
    def shapes(self) -> tuple[TableShape, ...]:
        """The tables, referenced ones first."""

    @property
    def compared(self) -> bool:
        """Whether changes bring the old rows, too."""

    def content(self, snapshot: Ancestor) -> str:
        """A text that changes when the snapshot's rows may."""

    def depends_on(self, manifest: MadeBy) -> Mapping[str, str]:
        """By table, a text that changes when the same content may give other rows."""

    def batches(self, lake: Lake, manifest: SnapshotManifest, names: Collection[str]) -> Rows:
        """The rows of the tables named."""

    def batches_within(
        self, lake: Lake, manifest: SnapshotManifest, names: Collection[str], groups: Groups
    ) -> Rows:
        """For each of some groups of studies a batch with their rows in the tables named, in no order.

        Only of tables that are by study: `appended_to` names the others.
        """

    @property
    def appended_to(self) -> Collection[str]:
        """The tables that rows are only added to, whatever becomes of studies."""

    def changes(self, lake: Lake, manifest: SnapshotManifest, since: str) -> Iterator[RowBatch]:
        """What changed in all tables since an ancestor: the rows of studies that are not as they were then."""

    def appended(self, lake: Lake, ancestor: Ancestor) -> Mapping[str, int]:
        """Of tables that rows are only added to, by name, the number with which new ones since then begin."""
