"""Values from outside the data model as rows."""

from __future__ import annotations

import pyarrow as pa

from ctg_assets.model.extras import EXTRAS, extras_rows
from ctg_assets.snapshot.store import EXTRAS_SCHEMA


def test_rows_are_numbered_within_their_study() -> None:
    """Each row has the key that its study and its place there give; values stay as they are."""
    sent = [
        ("NCT00000001", "a.b[].c", "2", "1.50"),
        ("NCT00000001", "n", None, '{"x" : "\\u0000"}'),
        ("NCT00000009", "nul \0", None, "[]"),
    ]
    columns = [pa.array(column, pa.string()) for column in zip(*sent, strict=True)]
    rows = extras_rows(pa.table(columns, schema=EXTRAS_SCHEMA))
    assert rows.schema.equals(EXTRAS.arrow_schema)
    assert [tuple(row.values()) for row in rows.to_pylist()] == [
        (1_000_000_001, *sent[0]),
        (1_000_000_002, *sent[1]),
        (9_000_000_001, "NCT00000009", "nul \ufffd", None, "[]"),
    ]


def test_no_rows_have_the_shape_too() -> None:
    """Nothing outside the model gives an empty table of the right schema."""
    assert extras_rows(EXTRAS_SCHEMA.empty_table()).equals(EXTRAS.arrow_schema.empty_table())
