"""Rows of a table that are replaced between rows that stay."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.release import edits as module
from ctg_assets.release.edits import Edits
from ctg_assets.release.spool import Spool

_SCHEMA = pa.schema([("id", pa.int64()), ("nct_id", pa.string()), ("text", pa.string())])
# Few, so that units that go, come and stay lie side by side; 0 is no number of a study.
_UNITS = st.lists(st.integers(1, 12), max_size=16)

_Row = tuple[int, str]


def _table(rows: list[_Row]) -> pa.Table:
    return pa.table(
        [
            [unit for unit, _ in rows],
            [f"NCT{unit:08d}" for unit, _ in rows],
            [text for _, text in rows],
        ],
        schema=_SCHEMA,
    )


@given(
    _UNITS,
    st.sets(st.integers(1, 12)),
    _UNITS,
    st.integers(1, 5),
    st.booleans(),
    st.sampled_from([0, 2, 100]),
)
def test_rows_come_where_others_go(
    there: list[int], gone: set[int], coming: list[int], group: int, by_row: bool, at_a_cut: int
) -> None:
    """However rows lie in groups and are put together, what is left is what stays and comes, in order, and of one study in theirs."""
    if by_row:
        there, coming = sorted(set(there)), sorted(set(coming))
    old = [(unit, f"old {place}") for place, unit in enumerate(sorted(there))]
    stays = [row for row in old if row[0] not in gone]
    units = {unit for unit, _ in stays}
    new = [(unit, f"new {place}") for place, unit in enumerate(sorted(coming)) if unit not in units]
    expected = sorted(stays + new, key=lambda row: row[0])
    key = "id" if by_row else "nct_id"
    with TemporaryDirectory() as folder:
        spool = Spool(Path(folder) / "rows", _SCHEMA, [key])
    edits = Edits(by_row, key, np.array(sorted(gone), np.int64), spool)
    groups = (_table(old[start : start + group]) for start in range(0, len(old), group))
    with mock.patch.object(module, "_FEWEST_ROWS_AT_A_CUT", at_a_cut):
        made = pa.concat_tables([_SCHEMA.empty_table(), *edits.applied(groups, _table(new))])
    assert made.equals(_table(expected))
