"""Deltas: they leave what a whole load would leave, readers never wait, and failures change nothing."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctg_assets.load.delta import RowBatch, apply_delta
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import ChangesSince, LoadProgress, LoadReport, LoadRequest
from ctg_assets.load.row_diff import TableDelta
from ctg_assets.model.spec import Column, ColumnType, ForeignKey, TableShape
from ctg_assets.postgres import sessions
from ctg_assets.postgres.builds import builds, load_info
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import (
    LoadBusyError,
    LoadRejectedError,
    ServerUnavailableError,
    StaleBaseError,
    WholeLoadNeededError,
)
from ctg_assets.postgres.server import open_postgres
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.postgres import (
    ALL,
    CONDITIONS,
    KEYWORDS,
    STUDIES,
    batch,
    build,
    held,
    nct_id,
    query,
    settings_for,
    table,
    versions,
)


def load(address: PostgresAddress, studies: range = range(1, 4)) -> None:
    """Load whole tables as version 1."""
    load_tables(LoadRequest(address, ALL, build=build()), [batch(studies)])


def change(
    address: PostgresAddress,
    changed: Sequence[int],
    rows: Mapping[str, pa.Table],
    version: int = 2,
    old: Mapping[str, pa.Table] | None = None,
    **options: Any,
) -> LoadReport:
    """Change some studies to the next version; rows are compared with `old` ones if those are given."""
    return apply_delta(
        LoadRequest(address, ALL, build=build(version), **options),
        ChangesSince(
            base_snapshot_id=f"snapshot-{version - 1}",
            studies=[nct_id(study) for study in changed],
            compared=[] if old is None else [shape.name for shape in ALL],
        ),
        [RowBatch(rows, old or {})],
    )


def content(address: PostgresAddress) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in the order of their keys."""
    return {
        shape.name: query(address, f"SELECT * FROM staging.{shape.name} ORDER BY 1")
        for shape in ALL
    }


def test_a_delta_replaces_the_rows_of_changed_studies(address: PostgresAddress) -> None:
    """A changed study has its new rows, a removed one none, a new one its own; others stay."""
    load(address)
    seen: list[LoadProgress] = []
    report = change(address, [1, 2, 9], batch(range(1, 10, 8), version=2), progress=seen.append)
    assert query(address, "SELECT nct_id, version FROM staging.studies ORDER BY 1") == [
        (nct_id(1), 2),
        (nct_id(3), 1),
        (nct_id(9), 2),
    ]
    assert query(address, "SELECT id, version FROM staging.conditions ORDER BY 1") == [
        (1_000_000_001, 2),
        (1_000_000_002, 2),
        (3_000_000_001, 1),
        (3_000_000_002, 1),
        (9_000_000_001, 2),
        (9_000_000_002, 2),
    ]
    assert report.rows == {"studies": 3, "conditions": 6, "keywords": 6}
    assert report.deleted_rows == {"studies": 2, "conditions": 4, "keywords": 4}
    assert report.inserted_rows == {"studies": 2, "conditions": 4, "keywords": 4}
    assert report.copied_bytes > 0
    assert set(report.seconds) == {"flatten", "compare", "replace", "commit"}
    assert {state.phase: (state.done, state.total) for state in seen} == {
        "compare": (10, None),
        "replace": (10, None),
        "commit": (1, 1),
    }


def test_a_delta_says_what_it_was_made_from(address: PostgresAddress) -> None:
    """`staging.load_info` and the builds are those of the new snapshot; the load has the next number."""
    load(address)
    change(address, [2, 3], batch(range(2, 3), version=2))
    info = load_info(address)
    assert info is not None
    assert (info.snapshot_id, info.content_fingerprint, info.model_fingerprint) == (
        "snapshot-2",
        "content-2",
        "model",
    )
    assert info.data_timestamp == build(2).data_timestamp
    assert (info.every_table, info.load_number) == (True, 2)
    assert [(done.name, done.fingerprint, done.rows) for done in builds(address, "staging")] == [
        ("conditions", "content-2/model", 4),
        ("keywords", "content-2/model", 4),
        ("studies", "content-2/model", 2),
    ]


def numbered(address: PostgresAddress) -> list[tuple[Any, ...]]:
    """The loads as they are recorded."""
    return query(
        address, "SELECT load_number, kind, snapshot_id FROM ctg_meta.loads ORDER BY load_number"
    )


def test_loads_are_numbered_and_name_what_they_changed(address: PostgresAddress) -> None:
    """Each changed study stands with the newest delta that changed it, until a full load."""
    load(address)
    change(address, [1, 2], batch(range(1, 2), version=2))
    change(address, [1, 4], batch(range(1, 5, 3), version=3), version=3)
    assert numbered(address) == [
        (1, "full", "snapshot-1"),
        (2, "delta", "snapshot-2"),
        (3, "delta", "snapshot-3"),
    ]
    assert query(address, "SELECT * FROM ctg_meta.changed_studies ORDER BY nct_id") == [
        (nct_id(1), 3, 1_000_000_000, 1_999_999_999),
        (nct_id(2), 2, 2_000_000_000, 2_999_999_999),
        (nct_id(4), 3, 4_000_000_000, 4_999_999_999),
    ]
    load_tables(LoadRequest(address, ALL, build=build(4)), [batch(range(1, 3))])
    assert numbered(address)[3:] == [(4, "full", "snapshot-4")]
    assert query(address, "SELECT * FROM ctg_meta.changed_studies") == []


def test_a_load_of_some_tables_is_a_full_one(address: PostgresAddress) -> None:
    """What replaces a table replaces it for all studies, so nobody may follow it study by study."""
    load(address)
    change(address, [1], batch(range(1, 2), version=2))
    rows = batch(range(1, 4), version=3)
    load_tables(LoadRequest(address, [KEYWORDS], build=build(3)), [{"keywords": rows["keywords"]}])
    assert numbered(address)[2:] == [(3, "full", "snapshot-3")]
    assert query(address, "SELECT * FROM ctg_meta.changed_studies") == []


def test_rows_that_are_the_same_are_not_written(address: PostgresAddress) -> None:
    """Where the old rows are known, only those that differ are made anew."""
    load(address)
    places = "SELECT ctid, xmin, id FROM staging.conditions ORDER BY id"
    before = query(address, places)
    names = [(10**9 + 1, nct_id(1), "condition 1", 1), (10**9 + 2, nct_id(1), "another", 1)]
    rows = {**batch(range(1, 2)), "conditions": table(CONDITIONS, names)}
    report = change(address, [1], rows, old=batch(range(1, 2)))
    assert report.deleted_rows == {"studies": 0, "conditions": 1, "keywords": 0}
    assert report.inserted_rows == {"studies": 0, "conditions": 1, "keywords": 0}
    after = query(address, places)
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        True,
        False,
        *[True] * 4,
    ]


EVERY_TYPE = TableShape(
    name="everything",
    description="One column of each type.",
    columns=(
        Column("id", ColumnType.BIGINT, "Key.", nullable=False),
        *(Column(f"a_{type_.value}", type_, "Any.") for type_ in ColumnType if type_.is_copied),
    ),
    primary_key=("id",),
)


def test_values_of_every_type_are_compared(address: PostgresAddress) -> None:
    """Rows count as the same if all values are, NULL or not, whatever their type and length."""
    moment, later = (datetime(2026, 1, day, 3, 4, 5, 6, tzinfo=UTC) for day in (2, 3))
    values: dict[ColumnType, tuple[Any, Any]] = {
        ColumnType.TEXT: ("a" * 5000, "a" * 4999 + "b"),
        ColumnType.BOOLEAN: (True, False),
        ColumnType.INTEGER: (1, 2),
        ColumnType.BIGINT: (1, 2),
        ColumnType.DOUBLE: (0.0, -0.0),
        ColumnType.DATE: (moment.date(), later.date()),
        ColumnType.TIMESTAMP: (moment, later),
        ColumnType.LOCAL_TIMESTAMP: (moment.replace(tzinfo=None), later.replace(tzinfo=None)),
        ColumnType.JSON: ('{"a": 1.0}', '{"a": 1.00}'),
        ColumnType.VARCHAR: ("a" * 5000, "a" * 4999 + "b"),
    }
    old = [one for one, _ in values.values()]
    rows = [old, [None] * len(old)]
    for position, (_, other) in enumerate(values.values()):
        rows += [[*old[:position], new, *old[position + 1 :]] for new in (other, None)]
    keyed = [(10**9 + number, *row) for number, row in enumerate(rows)]
    shuffled = [(10**9 + number, *row) for number, row in enumerate([rows[0]] * len(rows))]

    def write(version: int, given: Sequence[tuple[Any, ...]]) -> LoadReport:
        old, new = ({"everything": table(EVERY_TYPE, each)} for each in (keyed, given))
        return apply_delta(
            LoadRequest(address, [EVERY_TYPE], build=build(version, tables=["everything"])),
            ChangesSince(
                base_snapshot_id=f"snapshot-{version - 1}",
                studies=[nct_id(1)],
                compared=["everything"],
            ),
            [RowBatch(new, old)],
        )

    load_tables(
        LoadRequest(address, [EVERY_TYPE], build=build(tables=["everything"])),
        [{"everything": table(EVERY_TYPE, keyed)}],
    )
    assert write(2, keyed).inserted_rows == {"everything": 0}
    assert write(3, shuffled).inserted_rows == {"everything": len(rows) - 1}


def test_nothing_changed(address: PostgresAddress) -> None:
    """A delta of no studies changes the record only."""
    load(address)
    before = content(address)
    report = change(address, [], {})
    assert content(address) == before
    assert report.inserted_rows == {"studies": 0, "conditions": 0, "keywords": 0}
    assert numbered(address)[1:] == [(2, "delta", "snapshot-2")]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            "DELETE FROM staging.keywords WHERE id = 1000000002",
            r"1 of 2 rows that staging\.keywords should have before the change are not there",
        ),
        (
            "INSERT INTO staging.keywords VALUES (1000000003, 1000000001, 'by hand')",
            r"Key \(id\)=\(1000000003\) already exists.*; that row should not be there",
        ),
    ],
)
def test_rows_that_are_not_those_known(address: PostgresAddress, spoil: str, message: str) -> None:
    """If the tables do not have the old rows just as they are known, only a whole load will do."""
    load(address)
    query(address, spoil)
    before = content(address)
    rows = batch(range(1, 2), version=2)
    keys = [10**9 + 1, 10**9 + 3]
    rows["keywords"] = table(KEYWORDS, [(key, 10**9 + 1, "new") for key in keys])
    with pytest.raises(StaleBaseError, match=f"(?s){message}.*load all tables"):
        change(address, [1], rows, old=batch(range(1, 2)))
    assert content(address) == before


def test_old_rows_of_a_table_that_is_not_compared(address: PostgresAddress) -> None:
    """Old rows are refused where all rows of changed studies are replaced anyway."""
    load(address)
    rows = batch(range(1, 2))
    with pytest.raises(LoadRejectedError, match=r"old rows for \['studies', 'keywords'\]"):
        apply_delta(
            LoadRequest(address, ALL, build=build(2)),
            ChangesSince(
                base_snapshot_id="snapshot-1", studies=[nct_id(1)], compared=["conditions"]
            ),
            [RowBatch(rows, rows)],
        )


def test_a_table_that_cannot_be_compared() -> None:
    """Rows are told apart by one column; a longer key is refused rather than compared wrongly."""
    with pytest.raises(ValueError, match="study_versions cannot be compared"):
        TableDelta(VERSIONS, "staging", compared=True)


VERSIONS = TableShape(
    name="study_versions",
    description="One row per content of a study.",
    columns=(
        Column("nct_id", ColumnType.TEXT, "The study.", nullable=False),
        Column("version_number", ColumnType.INTEGER, "Its number.", nullable=False),
    ),
    primary_key=("nct_id", "version_number"),
)
CHANGES = TableShape(
    name="study_changes",
    description="One row per change of a study.",
    columns=(
        Column("change_seq", ColumnType.BIGINT, "Key.", nullable=False),
        Column("nct_id", ColumnType.TEXT, "The study.", nullable=False),
    ),
    primary_key=("change_seq",),
)
FIELDS = TableShape(
    name="field_changes",
    description="One row per field of a change.",
    columns=(
        Column("change_seq", ColumnType.BIGINT, "The change.", nullable=False),
        Column("position", ColumnType.INTEGER, "Its place in the change.", nullable=False),
    ),
    primary_key=("change_seq", "position"),
    foreign_keys=(ForeignKey(("change_seq",), "study_changes"),),
)
HISTORY = (STUDIES, VERSIONS, CHANGES, FIELDS)


def change_history(
    address: PostgresAddress,
    rows: Mapping[str, Sequence[tuple[Any, ...]]],
    tables: Sequence[TableShape] = HISTORY,
    appended: Mapping[str, int] | None = None,
    **builds: int,
) -> None:
    """Apply a delta of the first study with these rows, beginning with change 3."""
    apply_delta(
        LoadRequest(
            address, tables, build=build(2, tables=[shape.name for shape in tables], **builds)
        ),
        ChangesSince(
            base_snapshot_id="snapshot-1",
            studies=[nct_id(1)],
            appended=appended or {"study_changes": 3, "field_changes": 3},
        ),
        [RowBatch({shape.name: table(shape, rows.get(shape.name, [])) for shape in tables})],
    )


def load_history(address: PostgresAddress) -> None:
    """Load two studies of one version each, of a change each."""
    rows: dict[str, list[tuple[Any, ...]]] = {
        "studies": [(nct_id(1), 1), (nct_id(2), 1)],
        "study_versions": [(nct_id(1), 1), (nct_id(2), 1)],
        "study_changes": [(1, nct_id(1)), (2, nct_id(2))],
        "field_changes": [(1, 1), (2, 1), (2, 2)],
    }
    batches = [{shape.name: table(shape, rows[shape.name]) for shape in HISTORY}]
    names = [shape.name for shape in HISTORY]
    load_tables(LoadRequest(address, HISTORY, build=build(tables=names)), batches)


NEW_HISTORY: dict[str, list[tuple[Any, ...]]] = {
    "studies": [(nct_id(1), 2)],
    "study_versions": [(nct_id(1), 1), (nct_id(1), 2)],
    "study_changes": [(3, nct_id(1))],
    "field_changes": [(3, 1), (3, 2)],
}


def test_history_is_appended_once(address: PostgresAddress) -> None:
    """Rows found by NCT id are replaced, changes are appended, and a repeat adds nothing twice."""
    load_history(address)
    for _ in range(2):
        change_history(address, NEW_HISTORY)
        assert query(address, "SELECT * FROM staging.study_versions ORDER BY 1, 2") == [
            (nct_id(1), 1),
            (nct_id(1), 2),
            (nct_id(2), 1),
        ]
        assert query(address, "SELECT change_seq FROM staging.study_changes ORDER BY 1") == [
            (1,),
            (2,),
            (3,),
        ]
        assert query(address, "SELECT count(*) FROM staging.field_changes") == [(5,)]
        # As it is when the first one was committed and the caller died before it heard of it.
        query(address, "UPDATE staging.load_info SET snapshot_id = 'snapshot-1'")


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("study_changes", [(2, nct_id(1))], "1 rows for staging.study_changes are not among"),
        ("study_versions", [(nct_id(2), 2)], f"the one with nct_id {nct_id(2)}; name all"),
        (
            "field_changes",
            [(4, 1)],
            r"field_changes_change_seq_fkey is violated: \(change_seq\)=\(4\)",
        ),
    ],
)
def test_history_that_is_not_new(
    address: PostgresAddress, name: str, rows: list[tuple[Any, ...]], message: str
) -> None:
    """Changes that were there before, versions of other studies and parts of no change are refused."""
    load_history(address)
    with pytest.raises(LoadRejectedError, match=message):
        change_history(address, {**NEW_HISTORY, name: rows})
    assert query(address, "SELECT count(*) FROM staging.study_changes") == [(2,)]


@pytest.mark.parametrize("case", ["from changes to studies", "from different changes on"])
def test_references_that_a_delta_cannot_check(address: PostgresAddress, case: str) -> None:
    """If rows that stay might refer to rows that go, only a whole load will do."""
    load_history(address)
    to_studies = replace(CHANGES, foreign_keys=(ForeignKey(("nct_id",), "studies"),))
    tables, appended = (
        ((STUDIES, VERSIONS, to_studies, FIELDS), {"study_changes": 3, "field_changes": 3})
        if case == "from changes to studies"
        else (HISTORY, {"study_changes": 3, "field_changes": 2})
    )
    with pytest.raises(WholeLoadNeededError, match=r"cannot check .*_fkey: rows of .* Load all"):
        change_history(address, NEW_HISTORY, tables, appended)


# --- when only a whole load will do


def _not_the_base(address: PostgresAddress) -> None:
    query(address, "UPDATE staging.load_info SET snapshot_id = 'another'")


def _another_model(address: PostgresAddress) -> None:
    query(address, "UPDATE staging.load_info SET model_fingerprint = 'another'")


def _some_tables_only(address: PostgresAddress) -> None:
    rows = {"keywords": batch(range(1, 4))["keywords"]}
    load_tables(
        LoadRequest(address, [KEYWORDS], build=replace(build(3), snapshot_id="snapshot-1")), [rows]
    )


def _a_release_without_numbers(address: PostgresAddress) -> None:
    query(address, "ALTER TABLE staging.load_info DROP COLUMN load_number")


def _no_record(address: PostgresAddress) -> None:
    query(address, "DROP TABLE staging.load_info")


def _no_table(address: PostgresAddress) -> None:
    query(address, "DROP TABLE staging.keywords")


def _a_key_of_others(address: PostgresAddress) -> None:
    query(
        address,
        "CREATE TABLE public.notes (nct_id text CONSTRAINT noted REFERENCES staging.studies)",
    )


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_another_model, "made by another data model"),
        (_some_tables_only, "do not all come from one numbered load"),
        (_a_release_without_numbers, "do not all come from one numbered load"),
        (_no_record, 'relation "staging.load_info" does not exist; load all tables'),
        (_no_table, r"differs in \['keywords'\]. Load all tables"),
        (_a_key_of_others, r"noted of public\.notes\).* drop those foreign keys"),
        (_not_the_base, "hold snapshot another, and the changes are those since snapshot-1"),
    ],
)
def test_a_whole_load_is_needed(
    address: PostgresAddress, spoil: Callable[[PostgresAddress], None], message: str
) -> None:
    """Where a delta would not give what a whole load gives, it says so, and a whole load works."""
    load(address)
    spoil(address)
    with pytest.raises(WholeLoadNeededError, match=f"(?s){message}") as raised:
        change(address, [1], batch(range(1, 2), version=2))
    assert isinstance(raised.value, StaleBaseError) == (spoil is _not_the_base)
    assert query(address, "SELECT max(version) FROM staging.studies") == [(1,)]
    load_tables(LoadRequest(address, ALL, build=build(2)), [batch(range(1, 4), version=2)])
    assert query(address, "SELECT max(version) FROM staging.studies") == [(2,)]


def test_nothing_loaded_yet(address: PostgresAddress) -> None:
    """An empty database needs a whole load."""
    with pytest.raises(WholeLoadNeededError, match="does not have just the tables"):
        change(address, [1], batch(range(1, 2), version=2))


def test_a_list_of_tables_that_is_not_the_model(address: PostgresAddress) -> None:
    """A delta of some tables would leave the others behind."""
    load(address)
    with pytest.raises(LoadRejectedError, match=r"not in both lists: \['keywords'\]"):
        apply_delta(
            LoadRequest(address, [STUDIES, CONDITIONS], build=build(2)),
            ChangesSince(base_snapshot_id="snapshot-1", studies=[nct_id(1)]),
            [],
        )


def test_a_role_that_lacks_rights(address: PostgresAddress) -> None:
    """A role that may not switch off triggers is told what to grant."""
    role = f"loader_of_{address.dbname}"
    query(address, f"CREATE ROLE {role} LOGIN")
    query(address, f"GRANT CREATE ON DATABASE {address.dbname} TO {role}")
    own = replace(address, user=role)
    try:
        load(own)
        with pytest.raises(WholeLoadNeededError) as raised:
            change(own, [1], batch(range(1, 2), version=2))
        advice = re.search(r"GRANT SET ON PARAMETER .* TO \S+", str(raised.value))
        assert advice is not None
        query(address, advice.group())
        change(own, [1], batch(range(1, 2), version=2))
        assert query(address, "SELECT max(version) FROM staging.studies") == [(2,)]
    finally:
        query(address, f"REVOKE SET ON PARAMETER session_replication_role FROM {role}")
        query(address, f"DROP OWNED BY {role} CASCADE")
        query(address, f"DROP ROLE {role}")


# --- rows that cannot be


def _bad_rows() -> dict[str, tuple[str, str, pa.Table]]:
    study, first = nct_id(1), 1_000_000_001
    return {
        "another study": (
            "rows for staging.studies are not among what is replaced",
            "studies",
            table(STUDIES, [(study, 2), (nct_id(2), 2)]),
        ),
        "a key of another study": (
            "1 rows for staging.conditions .* id 2000000007",
            "conditions",
            table(CONDITIONS, [(first, study, "x", 2), (2_000_000_007, study, "x", 2)]),
        ),
        "a reference to nothing": (
            r"keywords_condition_id_fkey is violated: \(condition_id\)=\(1000000009\)",
            "keywords",
            table(KEYWORDS, [(first, first, "x"), (first + 1, 1_000_000_009, "x")]),
        ),
        "a reference to another study": (
            r"conditions_nct_id_fkey is violated: \(nct_id\)=\(NCT00000002\) is not present",
            "conditions",
            table(CONDITIONS, [(first, nct_id(2), "x", 2), (first + 1, study, "x", 2)]),
        ),
        "a study that is gone": (
            "conditions_nct_id_fkey is violated",
            "studies",
            table(STUDIES, []),
        ),
        "a duplicate": (
            r"rows for staging.studies: key \(nct_id\)=\(NCT00000001\) is duplicated",
            "studies",
            table(STUDIES, [(study, 2), (study, 3)]),
        ),
        "no key": (
            "1 rows for staging.conditions have no id",
            "conditions",
            table(CONDITIONS, [(None, study, "x", 2)]),
        ),
        "no value": (
            'rows into staging.conditions: null value in column "nct_id"',
            "conditions",
            table(CONDITIONS, [(first, None, "x", 2), (first + 1, study, "x", 2)]),
        ),
        "another table": ("rows for 'designs', which is not", "designs", pa.table({})),
        "other columns": (
            "rows for staging.studies do not have its columns",
            "studies",
            pa.table({"nct_id": [study]}),
        ),
    }


@pytest.mark.parametrize("case", list(_bad_rows()))
def test_bad_rows(address: PostgresAddress, case: str) -> None:
    """Rows that cannot be stored are an error that says which and why; the old state stays."""
    load(address)
    before = content(address)
    message, name, rows = _bad_rows()[case]
    with pytest.raises(LoadRejectedError, match=f"(?s){message}"):
        change(address, [1], {**batch(range(1, 2), version=2), name: rows})
    assert content(address) == before
    assert numbered(address) == [(1, "full", "snapshot-1")]
    change(address, [1], batch(range(1, 2), version=2))


def test_a_reference_to_another_changed_study(address: PostgresAddress) -> None:
    """A study refers to its own rows only: a later delta of the other one would not look here."""
    load(address)
    rows = batch(range(1, 3), version=2)
    rows["keywords"] = table(KEYWORDS, [(1_000_000_001, 2_000_000_001, "x")])
    with pytest.raises(
        LoadRejectedError, match=r"keywords_condition_id_fkey is violated: .*=\(2000000001\)"
    ):
        change(address, [1, 2], rows)


def test_a_reference_may_be_missing(address: PostgresAddress) -> None:
    """A reference that is NULL refers to nothing, and is no violation."""
    load(address)
    rows = {**batch(range(1, 2), version=2), "keywords": table(KEYWORDS, [(10**9 + 5, None, "x")])}
    change(address, [1], rows)
    assert query(address, "SELECT name FROM staging.keywords WHERE condition_id IS NULL") == [
        ("x",)
    ]


def test_what_batches_raise(address: PostgresAddress) -> None:
    """An interruption of whoever makes the rows goes through; the old state stays."""
    load(address)
    before = content(address)

    def batches() -> Iterator[RowBatch]:
        yield RowBatch(batch(range(1, 2), version=2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        apply_delta(
            LoadRequest(address, ALL, build=build(2)),
            ChangesSince(base_snapshot_id="snapshot-1", studies=[nct_id(1)]),
            batches(),
        )
    assert content(address) == before


# --- with others in the database


def test_readers_never_wait(address: PostgresAddress) -> None:
    """At every stage a reader gets the whole old state without waiting for a lock."""
    load(address)
    before = content(address)
    stages: list[str] = []
    with connect(address) as reader:
        reader.execute("SET lock_timeout = 1")

        def read(state: LoadProgress) -> None:
            if (state.phase, state.done) == ("commit", 1):
                return
            stages.append(state.phase)
            for shape in ALL:
                rows = reader.execute(f"SELECT * FROM staging.{shape.name} ORDER BY 1").fetchall()
                assert rows == before[shape.name]

        change(address, [1, 2], batch(range(1, 2), version=2), progress=read)
    assert set(stages) == {"compare", "replace", "commit"}


def test_readers_see_old_or_new(address: PostgresAddress) -> None:
    """A reader asking again and again during deltas never sees the rows of two of them."""
    load(address)
    stop = threading.Event()
    seen: list[Any] = []

    def read() -> None:
        with connect(address) as connection:
            connection.execute("SET lock_timeout = 1000")
            while not stop.is_set():
                seen.append(
                    connection.execute(
                        "SELECT array_agg(DISTINCT s.version), array_agg(DISTINCT c.version),"
                        " array_agg(DISTINCT i.snapshot_id), count(*)"
                        " FROM staging.studies AS s JOIN staging.conditions AS c USING (nct_id)"
                        " CROSS JOIN staging.load_info AS i"
                    ).fetchone()
                )

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for version in range(2, 8):
            change(address, [1, 2, 3], batch(range(1, 4), version), version)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert all(
        row == ([version], [version], [f"snapshot-{version}"], 6)
        for row in seen
        for version in row[0]
    )
    assert len(seen) > 10


def test_somebody_who_keeps_writers_out(address: PostgresAddress) -> None:
    """A delta waits only for so long for whoever holds a lock against writers."""
    load(address)
    with connect(address) as other:
        other.execute("BEGIN")
        other.execute("LOCK TABLE staging.studies IN SHARE MODE")
        with pytest.raises(LoadBusyError, match="try again when they are done"):
            change(address, [1], batch(range(1, 2), version=2), patience_seconds=0)


def test_a_load_at_the_same_time(address: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """A delta and a load of whole tables exclude each other."""
    load(address)
    monkeypatch.setattr(sessions, "DYING_MILLISECONDS", 1)

    def read(_: LoadProgress) -> None:
        with pytest.raises(LoadBusyError, match="another load"):
            load(address)

    change(address, [1], batch(range(1, 2), version=2), progress=read)


def test_views_of_people(address: PostgresAddress) -> None:
    """A materialized view shows the new rows, also one upon another; an empty one stays empty."""
    load(address)
    for statement in (
        "CREATE SCHEMA mine",
        "CREATE VIEW mine.plain AS SELECT nct_id, version FROM staging.studies",
        "CREATE MATERIALIZED VIEW mine.kept AS SELECT * FROM mine.plain",
        "CREATE MATERIALIZED VIEW mine.a_total AS SELECT sum(version) AS sum FROM mine.kept",
        "CREATE MATERIALIZED VIEW mine.later AS SELECT * FROM staging.studies WITH NO DATA",
    ):
        query(address, statement)
    report = change(address, [1], batch(range(1, 2), version=2))
    assert report.recreated_views == ("mine.kept", "mine.a_total")
    assert query(address, "SELECT * FROM mine.a_total") == [(4,)]
    assert query(address, "SELECT relispopulated FROM pg_class WHERE relname = 'later'") == [
        (False,)
    ]


# --- what it costs


def scans_of_whole_tables(address: PostgresAddress) -> list[tuple[Any, ...]]:
    """How often tables without a block range index (to which new pages are added) were read whole."""
    others = "SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    while query(address, others):
        pass  # a session adds up its counts before it is gone
    return query(
        address,
        "SELECT relname, seq_scan FROM pg_stat_user_tables"
        " WHERE relname IN ('studies', 'keywords') ORDER BY relname",
    )


def test_only_changed_rows_are_read(address: PostgresAddress) -> None:
    """No table is read as a whole, and the block range index covers the new rows as well."""
    ordered = replace(CONDITIONS, indexes=(), ordered_columns=("nct_id",))
    tables = (STUDIES, ordered, KEYWORDS)
    load_tables(LoadRequest(address, tables, build=build()), [batch(range(1, 2000))])
    before = scans_of_whole_tables(address)
    apply_delta(
        LoadRequest(address, tables, build=build(2)),
        ChangesSince(
            base_snapshot_id="snapshot-1", studies=[nct_id(study) for study in range(500, 1500)]
        ),
        [RowBatch(batch(range(500, 1500), version=2))],
    )
    assert scans_of_whole_tables(address) == before
    left = "SELECT brin_summarize_new_values('staging.conditions_order_idx')"
    assert query(address, left) == [(0,)]


# --- the same as a whole load


def _rows(studies: Mapping[int, tuple[int, list[int]]]) -> dict[str, pa.Table]:
    """Rows of studies given as version, and number of keywords for each condition."""
    conditions, keywords = [], []
    for study, (version, counts) in studies.items():
        for position, count in enumerate(counts, start=1):
            key = study * 10**9 + position
            conditions.append((key, nct_id(study), f"condition {position}", version))
            keywords += [(key * 10 % 10**9 + study * 10**9 + n, key, "x") for n in range(count)]
    return {
        "studies": table(STUDIES, [(nct_id(study), of[0]) for study, of in studies.items()]),
        "conditions": table(CONDITIONS, conditions),
        "keywords": table(KEYWORDS, keywords),
    }


_contents = st.dictionaries(
    st.integers(1, 8), st.none() | st.lists(st.integers(0, 3), max_size=3), max_size=8
)


@pytest.mark.soak
@given(rounds=st.lists(_contents, min_size=1, max_size=4), knows_old=st.booleans())
@settings(max_examples=times(6, 40), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_deltas_give_what_a_whole_load_gives(
    address: PostgresAddress, rounds: list[dict[int, list[int] | None]], *, knows_old: bool
) -> None:
    """After any deltas every table has the rows, and the record the counts, of a load from scratch."""
    studies: dict[int, tuple[int, list[int]]] = {study: (1, [2, 1]) for study in range(1, 5)}
    load_tables(LoadRequest(address, ALL, build=build(1)), [_rows(studies)])
    for version, contents in enumerate(rounds, start=2):
        kept = {study: of for study, of in studies.items() if study not in contents}
        old = {study: of for study, of in studies.items() if study in contents}
        # Of some changed studies only the rows of keywords are other ones.
        new = {
            study: (old[study][0] if study in old and len(of) % 2 else version, of)
            for study, of in contents.items()
            if of is not None
        }
        studies = kept | new
        known = _rows(old) if knows_old else None
        report = change(address, list(contents), _rows(new), version, old=known)
    load_tables(LoadRequest(address, ALL, build=build(9), schema="from_scratch"), [_rows(studies)])
    for shape in ALL:
        assert query(address, f"SELECT * FROM staging.{shape.name} ORDER BY 1") == query(
            address, f"SELECT * FROM from_scratch.{shape.name} ORDER BY 1"
        )
    whole = {done.name: done.rows for done in builds(address, "from_scratch")}
    assert report.rows == whole
    assert {done.name: done.rows for done in builds(address, "staging")} == whole


# --- crashes

OLD = [("conditions", 1, 6), ("studies", 1, 3)]
CHANGED = [("conditions", 2, 8), ("studies", 2, 4)]


def test_killed_deltas(data_dir: Path) -> None:
    """Killing (-9) the client at any stage leaves the old state; another delta then succeeds."""
    with open_postgres(settings_for(data_dir)) as address:
        for phase in ("compare", "replace", "commit"):
            load(address)
            with held(data_dir, f"delta {phase}") as process:
                process.send_signal(signal.SIGKILL)
                process.wait()
            assert versions(address) == OLD, phase
            change(address, [1, 2, 3, 4], batch(range(1, 5), version=2))
            assert versions(address) == CHANGED, phase


def test_a_killed_server(data_dir: Path) -> None:
    """Killing (-9) the server during a delta is a transient error; the old state is there afterwards."""
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"

    def batches() -> Iterator[RowBatch]:
        yield RowBatch(batch(range(1, 3), version=2))
        postmaster = int(pid_file.read_text().split()[0])
        subprocess.run(["kill", "-9", str(postmaster)], check=True)
        while True:
            yield RowBatch(batch(range(3, 2000), version=2))

    with open_postgres(settings_for(data_dir)) as address:
        load(address)
        with pytest.raises(ServerUnavailableError, match="Check the server and its address"):
            apply_delta(
                LoadRequest(address, ALL, build=build(2)),
                ChangesSince(
                    base_snapshot_id="snapshot-1",
                    studies=[nct_id(study) for study in range(1, 2000)],
                ),
                batches(),
            )
        with open_postgres(settings_for(data_dir)) as again:
            assert versions(again) == OLD
            change(again, [1, 2, 3], batch(range(1, 4), version=2))
            assert versions(again) == [("conditions", 2, 6), ("studies", 2, 3)]
