"""Which foreign keys of a whole load its batches prove, against sets in plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.load.full import load_tables
from ctg_assets.load.references import BatchReferences
from ctg_assets.load.request import LoadRequest
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.errors import LoadRejectedError
from ctg_assets.postgres.inspection import foreign_keys
from ctg_assets_tests.support.postgres import ALL, batch, build, query, table

SHAPES = {shape.name: shape for shape in ALL}

Rows = Mapping[str, Sequence[tuple[Any, ...]]]
_TEXTS = st.sampled_from(["NCT00000001", "NCT00000002", "NCT0000000\N{FULLWIDTH DIGIT ONE}", ""])
_NUMBERS = st.sampled_from([0, 1, 2, -1, 2**62, 2**62 + 1])
_ROWS = {
    "studies": st.tuples(_TEXTS, st.none()),
    "conditions": st.tuples(_NUMBERS, _TEXTS | st.none(), st.none(), st.none()),
    "keywords": st.tuples(_NUMBERS, _NUMBERS | st.none(), st.none()),
}
_BATCHES = st.lists(
    st.fixed_dictionaries({}, optional={name: st.lists(row) for name, row in _ROWS.items()}),
    max_size=4,
)


def _arrow(batch: Rows) -> dict[str, pa.Table]:
    """Rows as Arrow, in several chunks, of which one is empty."""
    found = {}
    for name, rows in batch.items():
        pieces = [table(SHAPES[name], some) for some in (rows[:1], [], rows[1:])]
        found[name] = pa.concat_tables(pieces)
    return found


def _leads_out(batch: Rows, child: str, place: int, parent: str) -> set[Any]:
    """What rows of a table refer to in a place and the batch does not have."""
    referred = {row[place] for row in batch.get(child, ())} - {None}
    return referred - {row[0] for row in batch.get(parent, ())}


@given(_BATCHES)
def test_a_key_is_proved_if_no_reference_leads_out_of_its_batch(batches: list[Rows]) -> None:
    """It is proved just then, and what is proved holds for all rows together."""
    references = BatchReferences(SHAPES)
    for some in batches:
        references.add(_arrow(some))
    for child, place, parent in [("conditions", 1, "studies"), ("keywords", 1, "conditions")]:
        [key] = SHAPES[child].foreign_keys
        proved = references.proves(child, key)
        assert proved == (not any(_leads_out(some, child, place, parent) for some in batches))
        if proved:
            everything = {
                name: [row for some in batches for row in some.get(name, ())] for name in SHAPES
            }
            assert not _leads_out(everything, child, place, parent)


@pytest.mark.parametrize(
    ("of", "columns", "is_proved"),
    [
        (pa.int64(), ("of",), True),
        (pa.int32(), ("of",), False),
        (pa.string(), ("of",), False),
        (pa.int64(), ("of", "id"), False),
    ],
)
def test_what_is_left_to_postgres(
    of: pa.DataType, columns: tuple[str, ...], *, is_proved: bool
) -> None:
    """Values of another type than the key's prove nothing, and keys of two columns are not looked at."""
    value = pa.array([1], pa.int64()).cast(of)
    key = ForeignKey(columns, "parents")
    declared = tuple(Column(name, ColumnType.BIGINT, "A number.") for name in ("id", "of"))
    child = TableShape("children", "", declared, ("id",), foreign_keys=(key,))
    parent = TableShape("parents", "", declared, ("id", "of")[: len(columns)])
    references = BatchReferences({"children": child, "parents": parent})
    ones = pa.array([1], pa.int64())
    references.add(
        {
            "children": pa.table({"id": ones, "of": value}),
            "parents": pa.table({"id": ones, "of": ones}),
        }
    )
    assert references.proves("children", key) == is_proved


def test_references_out_of_a_batch_are_checked_by_postgres(address: PostgresAddress) -> None:
    """They may lead to rows of any batch, and nowhere else; what batches prove is not checked again."""
    first, second = batch(range(1, 3)), batch(range(3, 5))
    conditions = pa.concat_tables([first["conditions"], second.pop("conditions")])
    batches = [{**first, "conditions": conditions}, second]
    load_tables(LoadRequest(address, ALL, build=build(1)), batches)
    assert [(key.name, key.validated) for key in foreign_keys(address, "staging")] == [
        ("conditions_nct_id_fkey", True),
        ("keywords_condition_id_fkey", True),
    ]
    before = query(address, "SELECT count(*) FROM staging.keywords")
    broken = [batch(range(1, 3)), {"keywords": second["keywords"]}]
    with pytest.raises(
        LoadRejectedError,
        match=r"(?s)references of keywords: .*keywords_condition_id_fkey.*Key \(condition_id\)=\(\d+\) is not "
        r'present in table "conditions"',
    ):
        load_tables(LoadRequest(address, ALL, build=build(2)), broken)
    assert query(address, "SELECT count(*) FROM staging.keywords") == before


def test_a_reference_that_is_proved_binds_whoever_writes(address: PostgresAddress) -> None:
    """Postgres refuses rows of others that refer to nothing, though it has not checked ours."""
    load_tables(LoadRequest(address, ALL, build=build(1)), [batch(range(1, 3))])
    assert not any(key.validated for key in foreign_keys(address, "staging"))
    with pytest.raises(psycopg.errors.ForeignKeyViolation, match="violates foreign key constraint"):
        query(address, "INSERT INTO staging.keywords (id, condition_id) VALUES (9, 8)")


def test_every_key_of_the_model_can_be_proved() -> None:
    """All have one column, of the type of what it refers to: the others would be read once more by each load."""
    shapes = {shape.name: shape for shape in staging_shapes()}
    types = {(s.name, c.name): c.type for s in shapes.values() for c in s.columns}
    for shape in shapes.values():
        for key in shape.foreign_keys:
            [column], [referred] = key.columns, shapes[key.table].primary_key
            assert types[shape.name, column] == types[key.table, referred], (shape.name, key)
