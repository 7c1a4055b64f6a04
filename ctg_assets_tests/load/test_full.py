"""Loads: what they leave behind, what readers see meanwhile, and what survives when they fail."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadProgress, LoadReport, LoadRequest
from ctg_assets.model.spec import Column, ColumnType, TableShape
from ctg_assets.model.tables import staging_tables
from ctg_assets.postgres import copying as sending
from ctg_assets.postgres import sessions
from ctg_assets.postgres.builds import builds, load_info, staging_builds
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.errors import (
    LoadBusyError,
    LoadRejectedError,
    ServerUnavailableError,
    WarehouseError,
)
from ctg_assets.postgres.inspection import foreign_keys, row_counts, table_sizes
from ctg_assets.postgres.ownership import note_relations
from ctg_assets.postgres.server import open_postgres
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

OLD = [("conditions", 1, 6), ("studies", 1, 3)]
NEW = [("conditions", 2, 10), ("studies", 2, 5)]


def load(address: PostgresAddress, version: int = 1, **options: Any) -> LoadReport:
    """Load three studies as version 1, five as version 2."""
    rows = batch(range(1, 4 if version == 1 else 6), version)
    return load_tables(LoadRequest(address, ALL, build=build(version), **options), [rows])


def leftovers(address: PostgresAddress) -> list[tuple[Any, ...]]:
    """What a failed load has left anywhere."""
    return query(
        address,
        "SELECT nspname FROM pg_namespace WHERE nspname = 'staging_next' UNION ALL "
        "SELECT conname FROM pg_constraint WHERE conname LIKE '%until_swap%'",
    )


def test_a_load_makes_complete_tables(address: PostgresAddress) -> None:
    """After a load there are rows, keys, indexes, references, comments and statistics."""
    report = load(address)
    assert report.rows == {"studies": 3, "conditions": 6, "keywords": 6}
    assert report.copied_bytes > 0
    assert list(report.seconds) == ["copy", "index", "check", "swap"]
    assert row_counts(address, "staging") == {**report.rows, "load_info": 1}
    assert query(
        address, "SELECT indexname FROM pg_indexes WHERE schemaname = 'staging' ORDER BY 1"
    ) == [
        ("conditions_name_idx",),
        ("conditions_nct_id_idx",),
        ("conditions_pkey",),
        ("conditions_version_nct_id_idx",),
        ("keywords_pkey",),
        ("load_info_pkey",),
        ("studies_pkey",),
    ]
    assert [(key.table, key.name, key.validated) for key in foreign_keys(address, "staging")] == [
        ("conditions", "conditions_nct_id_fkey", False),
        ("keywords", "keywords_condition_id_fkey", False),
    ]
    sizes = {size.table: size for size in table_sizes(address, "staging")}
    assert sizes["conditions"].estimated_rows == 6
    assert sizes["conditions"].index_bytes > 0
    assert leftovers(address) == []


def test_a_load_says_what_it_was_made_from(address: PostgresAddress) -> None:
    """`staging.load_info` and the builds of the staging tables name snapshot and fingerprints."""
    load(address, 2)
    info = load_info(address)
    assert info is not None
    assert (info.snapshot_id, info.content_fingerprint, info.studies) == (
        "snapshot-2",
        "content-2",
        3,
    )
    assert info.data_timestamp == build(2).data_timestamp
    assert info.every_table
    assert [(done.name, done.fingerprint, done.rows) for done in builds(address, "staging")] == [
        ("conditions", "content-2/model", 10),
        ("keywords", "content-2/model", 10),
        ("studies", "content-2/model", 5),
    ]


def test_batches_are_gathered_and_spread(
    address: PostgresAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any number of batches, some without some tables, arrive whole and in order."""
    monkeypatch.setattr(sending, "_GATHER_BYTES", 500)
    monkeypatch.setattr(sending, "_UNSENT_BYTES", 2000)
    seen: list[LoadProgress] = []

    def batches() -> Iterator[dict[str, pa.Table]]:
        yield {}
        for study in range(1, 101):
            rows = batch(range(study, study + 1))
            if study % 2:
                del rows["keywords"]
            yield rows

    report = load_tables(LoadRequest(address, ALL, build=build(), progress=seen.append), batches())
    assert report.rows == {"studies": 100, "conditions": 200, "keywords": 100}
    assert row_counts(address, "staging") == {**report.rows, "load_info": 1}
    assert query(address, "SELECT nct_id FROM staging.studies ORDER BY ctid") == [
        (nct_id(study),) for study in range(1, 101)
    ]
    assert [state.done for state in seen if state.phase == "copy"][-1] == 400
    assert {state.phase: (state.done, state.total) for state in seen} == {
        "copy": (400, None),
        "index": (4, 4),
        "check": (2, 2),
        "swap": (1, 1),
    }


def test_no_rows_at_all(address: PostgresAddress) -> None:
    """Tables without rows exist after a load, with their keys."""
    load_tables(LoadRequest(address, ALL, build=build()), [])
    assert row_counts(address, "staging") == {
        "studies": 0,
        "conditions": 0,
        "keywords": 0,
        "load_info": 1,
    }
    assert len(foreign_keys(address, "staging")) == 2


def test_the_whole_model_can_be_made(address: PostgresAddress) -> None:
    """The statements for every table of the real model are valid, twice over."""
    shapes = [declared.shape for declared in staging_tables()]
    for version in (1, 2):
        whole = build(version, tables=[shape.name for shape in shapes])
        load_tables(LoadRequest(address, shapes, build=whole), [])
    assert set(row_counts(address, "staging")) == {shape.name for shape in shapes} | {"load_info"}
    assert len(foreign_keys(address, "staging")) == sum(len(shape.foreign_keys) for shape in shapes)


def test_readers_see_old_or_new(address: PostgresAddress) -> None:
    """A reader asking again and again during loads never sees tables of different loads."""
    load(address)
    stop = threading.Event()
    seen: list[Any] = []

    def read() -> None:
        with connect(address) as connection:
            while not stop.is_set():
                seen.append(
                    connection.execute(
                        "SELECT (SELECT max(version) FROM staging.studies),"
                        " (SELECT max(version) FROM staging.conditions),"
                        " (SELECT snapshot_id FROM staging.load_info)"
                    ).fetchone()
                )

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for version in (2, 1, 2):
            load(address, version)
    finally:
        stop.set()
        for reader in readers:
            reader.join()
    assert set(seen) <= {(1, 1, "snapshot-1"), (2, 2, "snapshot-2")}
    assert len(seen) > 10


def test_a_reader_with_an_old_snapshot(address: PostgresAddress) -> None:
    """A transaction older than the load finds full tables after it, not empty ones."""
    load(address)
    with connect(address) as reader:
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1")
        load(address, 2)
        assert reader.execute("SELECT count(*) FROM staging.studies").fetchone() == (5,)
        assert reader.execute("SELECT snapshot_id FROM staging.load_info").fetchone() == (
            "snapshot-2",
        )


def test_views_and_grants_survive(address: PostgresAddress) -> None:
    """Views on views, materialized views, their owners, grants, comments and indexes stay."""
    load(address)
    role = f"reader_of_{address.dbname}"
    for statement in (
        f"CREATE ROLE {role}",
        "CREATE SCHEMA mine",
        f"GRANT USAGE, CREATE ON SCHEMA mine, staging TO {role}",
        f"GRANT SELECT ON staging.studies TO {role} WITH GRANT OPTION",
        f"GRANT SELECT (name) ON staging.conditions TO {role}",
        "GRANT SELECT ON staging.keywords TO PUBLIC",
        """CREATE VIEW mine."by study" WITH (security_barrier) AS
           SELECT s.nct_id, count(*) AS n FROM staging.studies AS s
           JOIN staging.conditions AS c USING (nct_id) GROUP BY s.nct_id""",
        """COMMENT ON VIEW mine."by study" IS 'It''s mine'""",
        """COMMENT ON COLUMN mine."by study".n IS 'conditions'""",
        f"""GRANT SELECT ON mine."by study" TO {role}""",
        """CREATE VIEW mine.a_total AS SELECT sum(n) AS n FROM mine."by study" """,
        f"ALTER VIEW mine.a_total OWNER TO {role}",
        "CREATE MATERIALIZED VIEW mine.kept AS SELECT nct_id, version FROM staging.studies",
        "CREATE UNIQUE INDEX kept_by_id ON mine.kept (nct_id)",
    ):
        query(address, statement)
    report = load(address, 2)
    assert report.recreated_views == ("mine.by study", "mine.kept", "mine.a_total")
    assert report.left_out_views == ()
    assert query(address, "SELECT n FROM mine.a_total") == [(10,)]
    assert query(address, "SELECT count(*), max(version) FROM mine.kept") == [(5, 2)]
    assert query(
        address,
        f"""SELECT has_table_privilege('{role}', 'staging.studies', 'SELECT WITH GRANT OPTION'),
        has_column_privilege('{role}', 'staging.conditions', 'name', 'SELECT'),
        has_column_privilege('{role}', 'staging.conditions', 'version', 'SELECT'),
        has_table_privilege('{role}', 'staging.keywords', 'SELECT'),
        has_table_privilege('{role}', 'mine."by study"', 'SELECT'),
        has_table_privilege('{role}', 'mine.kept', 'SELECT')""",
    ) == [(True, True, False, True, True, False)]
    assert query(
        address,
        """SELECT c.relname, pg_get_userbyid(c.relowner), c.reloptions, obj_description(c.oid),
            col_description(c.oid, 2), c.relhasindex
        FROM pg_class AS c WHERE c.relnamespace = 'mine'::regnamespace AND c.relkind IN ('v', 'm')
        ORDER BY c.relname""",
    ) == [
        ("a_total", role, None, None, None, False),
        ("by study", "postgres", ["security_barrier=true"], "It's mine", "conditions", False),
        ("kept", "postgres", None, None, None, True),
    ]
    query(address, f"DROP OWNED BY {role}")
    query(address, f"DROP ROLE {role}")


def _without_names(shape: TableShape) -> TableShape:
    columns = tuple(column for column in shape.columns if column.name != "name")
    return TableShape(shape.name, shape.description, columns, shape.primary_key, shape.foreign_keys)


def test_a_view_that_no_longer_fits(address: PostgresAddress) -> None:
    """A view on a column that is gone stops the load, which names it; the old state stays."""
    load(address)
    query(address, "CREATE VIEW public.named AS SELECT name FROM staging.conditions")
    shapes = [STUDIES, _without_names(CONDITIONS), KEYWORDS]
    with pytest.raises(
        LoadRejectedError, match=r"view public\.named does not fit .* Change or drop"
    ):
        load_tables(LoadRequest(address, shapes, build=build(2)), [])
    assert versions(address) == OLD
    assert query(address, "SELECT count(*) FROM public.named") == [(6,)]
    assert leftovers(address) == []


def test_a_view_that_is_built_after_the_load(address: PostgresAddress) -> None:
    """A view of ours that something builds anyway is left out, and so are ours on it; nobody else's is."""
    load(address)
    query(address, "CREATE SCHEMA built")
    query(address, "CREATE VIEW built.named AS SELECT name FROM staging.conditions")
    query(address, "CREATE VIEW built.named_too AS SELECT name FROM built.named")
    query(address, "CREATE VIEW public.counted AS SELECT count(*) FROM staging.conditions")
    shapes = [STUDIES, _without_names(CONDITIONS), KEYWORDS]
    with pytest.raises(LoadRejectedError, match=r"view built\.named does not fit"):
        load_tables(LoadRequest(address, shapes, build=build(2), rebuildable_schemas=["built"]), [])
    assert query(address, "SELECT count(*) FROM built.named_too") == [(6,)]
    with connect(address) as connection:
        note_relations(connection, "built", ["named", "named_too"])
    report = load_tables(
        LoadRequest(address, shapes, build=build(2), rebuildable_schemas=["built"]), []
    )
    assert report.left_out_views == ("built.named", "built.named_too")
    assert query(address, "SELECT * FROM public.counted") == [(0,)]


def test_something_that_cannot_be_made_again(address: PostgresAddress) -> None:
    """A function that depends on a table stops the load; the message names it."""
    load(address)
    query(
        address,
        "CREATE FUNCTION public.all_studies() RETURNS SETOF staging.studies"
        " LANGUAGE sql BEGIN ATOMIC SELECT * FROM staging.studies; END",
    )
    with pytest.raises(LoadRejectedError, match=r"function public\.all_studies"):
        load(address, 2)
    assert versions(address) == OLD


def test_a_reader_that_stays(address: PostgresAddress) -> None:
    """When a transaction keeps a table locked, the load gives up, names it, and blocks nobody."""
    load(address)
    with connect(address, application_name="slow report") as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM staging.studies")
        with pytest.raises(LoadBusyError, match=r"In the way: pid \d+ \(slow report, idle in tra"):
            load(address, 2, patience_seconds=0)
        assert versions(address) == OLD
    assert leftovers(address) == []


def test_a_reader_that_goes(address: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the transaction ends while the load is stepping back, the load succeeds."""
    load(address)
    with connect(address) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM staging.studies")

        def pause(_: float) -> None:
            assert versions(address) == OLD
            reader.execute("COMMIT")

        monkeypatch.setattr("ctg_assets.postgres.sessions.time.sleep", pause)
        load(address, 2)
    assert versions(address) == NEW


def test_a_subset_of_tables(address: PostgresAddress) -> None:
    """Tables that are not loaded stay, and refer to the new ones under the old names."""
    load(address)
    checked = [
        replace(key, definition=key.definition.removesuffix(" NOT VALID"), validated=True)
        for key in foreign_keys(address, "staging")
    ]
    rows = batch(range(1, 6), version=2)
    load_tables(
        LoadRequest(address, [CONDITIONS], build=build(2)), [{"conditions": table_of_old_studies()}]
    )
    assert foreign_keys(address, "staging") == checked
    load_tables(LoadRequest(address, [STUDIES], build=build(2)), [{"studies": rows["studies"]}])
    assert versions(address) == [("conditions", 2, 6), ("studies", 2, 5)]
    assert foreign_keys(address, "staging") == checked
    info = load_info(address)
    assert info is not None
    assert not info.every_table
    load_tables(
        LoadRequest(address, [KEYWORDS], build=build(2)),
        [{"keywords": batch(range(1, 4))["keywords"]}],
    )
    info = load_info(address)
    assert info is not None
    assert info.every_table


def table_of_old_studies() -> pa.Table:
    """Conditions of a second load, of the studies of the first."""
    return batch(range(1, 4), version=2)["conditions"]


def test_a_subset_that_kept_tables_contradict(address: PostgresAddress) -> None:
    """If kept rows refer to rows that are gone, the load says which tables to load together."""
    load(address)
    before = foreign_keys(address, "staging")
    with pytest.raises(
        LoadRejectedError,
        match=r"(?s)conditions stays and refers to rows that the new studies lacks; load the two tog",
    ):
        load_tables(
            LoadRequest(address, [STUDIES], build=build(2)),
            [{"studies": batch(range(1, 3))["studies"]}],
        )
    assert versions(address) == OLD
    assert foreign_keys(address, "staging") == before
    assert leftovers(address) == []


def test_a_subset_that_contradicts_kept_tables(address: PostgresAddress) -> None:
    """If new rows refer to rows that a kept table lacks, the load says so."""
    load(address)
    rows = {"conditions": batch(range(1, 9), version=2)["conditions"]}
    with pytest.raises(LoadRejectedError, match=r"studies was not loaded and lacks those rows"):
        load_tables(LoadRequest(address, [CONDITIONS], build=build(2)), [rows])
    assert versions(address) == OLD


def test_a_subset_without_what_it_refers_to(address: PostgresAddress) -> None:
    """A table whose referenced table was never loaded cannot be loaded alone."""
    with pytest.raises(
        LoadRejectedError, match="conditions refers to studies, which is not loaded"
    ):
        load_tables(LoadRequest(address, [CONDITIONS], build=build()), [])


def test_references_from_elsewhere(address: PostgresAddress) -> None:
    """A foreign key from somebody's own table keeps its name, its action and whether it is valid."""
    load(address)
    query(
        address,
        "CREATE TABLE public.notes (nct_id text CONSTRAINT noted REFERENCES staging.studies"
        " ON DELETE CASCADE DEFERRABLE)",
    )
    query(address, "INSERT INTO public.notes VALUES ('NCT00000001')")
    query(address, "INSERT INTO public.notes VALUES (NULL)")
    before = foreign_keys(address, "public")
    load(address, 2)
    assert foreign_keys(address, "public") == before
    assert query(address, "SELECT nct_id FROM public.notes") == [("NCT00000001",), (None,)]
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        query(address, "INSERT INTO public.notes VALUES ('NCT99999999')")


def test_tables_that_left_the_model(address: PostgresAddress) -> None:
    """A load drops tables of earlier loads that the model has no more, and nothing that others made."""
    load(address)
    query(address, "CREATE TABLE staging.by_somebody ()")
    load_tables(
        LoadRequest(address, [STUDIES], build=build(2, tables=["studies"])),
        [{"studies": batch(range(9))["studies"]}],
    )
    assert set(row_counts(address, "staging")) == {"studies", "load_info", "by_somebody"}
    assert [done.name for done in builds(address, "staging")] == ["studies"]


def test_tables_that_left_the_model_go_without_a_load(address: PostgresAddress) -> None:
    """When nothing but a table too many is wrong, it is dropped and the others are not touched."""
    load(address)
    before = query(address, "SELECT oid FROM pg_class WHERE relname IN ('studies', 'conditions')")
    load_tables(LoadRequest(address, [], build=build(1, tables=["studies", "conditions"])), [])
    assert set(row_counts(address, "staging")) == {"studies", "conditions", "load_info"}
    after = query(address, "SELECT oid FROM pg_class WHERE relname IN ('studies', 'conditions')")
    assert after == before


def test_tables_that_left_the_model_stay_while_others_are_old(address: PostgresAddress) -> None:
    """A table that is out of date may still refer to one that left the model, so both stay."""
    load(address)
    left = build(2, tables=["studies", "keywords"])
    load_tables(
        LoadRequest(address, [STUDIES], build=left), [{"studies": batch(range(1, 5))["studies"]}]
    )
    assert {"conditions", "keywords"} <= row_counts(address, "staging").keys()
    load_tables(
        LoadRequest(address, [STUDIES, KEYWORDS_OF_NOTHING], build=left), [batch_of_the_rest()]
    )
    assert row_counts(address, "staging").keys() == {"studies", "keywords", "load_info"}


KEYWORDS_OF_NOTHING = TableShape("keywords", "Without conditions.", KEYWORDS.columns, ("id",))


def batch_of_the_rest() -> dict[str, pa.Table]:
    """Rows of all tables but the one that the others no longer refer to."""
    rows = batch(range(1, 4), version=2)
    return {name: rows[name] for name in ("studies", "keywords")}


def test_a_table_that_somebody_dropped_is_out_of_date(address: PostgresAddress) -> None:
    """What was built counts only as long as it is there."""
    load(address)
    assert staging_builds(address).keys() == {"studies", "conditions", "keywords"}
    query(address, "DROP TABLE staging.keywords")
    assert staging_builds(address).keys() == {"studies", "conditions"}
    load_tables(
        LoadRequest(address, [STUDIES], build=build()), [{"studies": batch(range(1, 4))["studies"]}]
    )
    info = load_info(address)
    assert info is not None
    assert not info.every_table


def _bad_batches() -> dict[str, tuple[str, Callable[[], dict[str, pa.Table]]]]:
    def changed(name: str, rows: pa.Table) -> Callable[[], dict[str, pa.Table]]:
        unreferenced = {**batch(range(1, 3), version=2), "keywords": table(KEYWORDS, [])}
        return lambda: {**unreferenced, name: rows}

    study = nct_id(1)
    odd = Column("odd", ColumnType.TEXT, "Not in the shape.")
    wider = TableShape("studies", "", (*STUDIES.columns, odd), ("nct_id",))
    return {
        "duplicate key": (
            r"keys of staging.studies: .*is duplicated",
            changed("studies", table(STUDIES, [(study, 2), (study, 2)])),
        ),
        "missing value": (
            r'rows into staging.conditions: null value in column "nct_id"',
            changed("conditions", table(CONDITIONS, [(1, None, "x", 2)])),
        ),
        "missing reference": (
            r"references of conditions: .*Key \(nct_id\)=\(NCT00000077\) is not present",
            changed("conditions", table(CONDITIONS, [(1, nct_id(77), "x", 2)])),
        ),
        "other columns": (
            r"staging.studies do not have its columns; they differ in \['odd'\]",
            changed("studies", table(wider, [(study, 2, "x")])),
        ),
        "other types": (
            r"staging.studies do not have its types",
            changed("studies", pa.table({"nct_id": [study], "version": ["two"]})),
        ),
        "other table": (
            r"rows for 'designs', which is not among",
            lambda: {"designs": pa.table({})},
        ),
        "own table": (r"rows for 'load_info', which is not", lambda: {"load_info": pa.table({})}),
    }


@pytest.mark.parametrize("case", list(_bad_batches()))
def test_bad_rows(address: PostgresAddress, case: str) -> None:
    """Rows that cannot be stored are an error that says which and why; the old state stays."""
    load(address)
    message, rows = _bad_batches()[case]
    with pytest.raises(LoadRejectedError, match=f"(?s){message}"):
        load_tables(LoadRequest(address, ALL, build=build(2)), [rows()])
    assert versions(address) == OLD
    assert leftovers(address) == []
    load(address, 2)
    assert versions(address) == NEW


def test_what_batches_raise(address: PostgresAddress) -> None:
    """An error or interruption of whoever makes the rows goes through; the old state stays."""
    load(address)

    def batches() -> Iterator[dict[str, pa.Table]]:
        yield batch(range(1, 3), version=2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_tables(LoadRequest(address, ALL, build=build(2)), batches())
    assert versions(address) == OLD
    assert leftovers(address) == []


def test_two_loads_at_once(address: PostgresAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second load fails soon, says who is loading, and leaves the first alone."""
    monkeypatch.setattr(sessions, "DYING_MILLISECONDS", 1)

    def batches() -> Iterator[dict[str, pa.Table]]:
        with pytest.raises(
            LoadBusyError, match=r"another load .* \(server process \d+, client on thi"
        ):
            load(address)
        yield batch(range(1, 6), version=2)

    load_tables(LoadRequest(address, ALL, build=build(2)), batches())
    assert versions(address) == NEW


def test_killed_loads(data_dir: Path) -> None:
    """Killing (-9) the loading process at any stage leaves the old state; the next load cleans up."""
    with open_postgres(settings_for(data_dir)) as address:
        for phase in ("copy", "index", "check", "swap"):
            load(address)
            with held(data_dir, phase) as process:
                process.send_signal(signal.SIGKILL)
                process.wait()
            assert versions(address) == OLD, phase
            load(address, 2)
            assert versions(address) == NEW, phase
            assert leftovers(address) == []


def test_a_killed_server(data_dir: Path) -> None:
    """Killing (-9) the server during a load is a transient error; the old state is there afterwards."""
    pid_file = data_dir / "postgres" / "data" / "postmaster.pid"

    def batches() -> Iterator[dict[str, pa.Table]]:
        yield batch(range(1, 3), version=2)
        postmaster = int(pid_file.read_text().split()[0])
        subprocess.run(["kill", "-9", str(postmaster)], check=True)
        while True:
            yield batch(range(3, 2000), version=2)

    with open_postgres(settings_for(data_dir)) as address:
        load(address)
        with pytest.raises(ServerUnavailableError, match="Check the server and its address"):
            load_tables(LoadRequest(address, ALL, build=build(2)), batches())
        with pytest.raises(ServerUnavailableError, match="connecting to"):
            load(address, 2)
        with open_postgres(settings_for(data_dir)) as again:
            assert versions(again) == OLD
            load(again, 2)
            assert versions(again) == NEW
            assert leftovers(again) == []


def test_a_role_without_rights(address: PostgresAddress) -> None:
    """A role that may not create schemas is told to get the right."""
    role = f"powerless_in_{address.dbname}"
    query(address, f"CREATE ROLE {role} LOGIN")
    weak = PostgresAddress(address.host, address.port, role, address.dbname)
    try:
        with pytest.raises(
            WarehouseError, match=r"permission denied .* Grant the right to the user"
        ):
            load(weak)
    finally:
        query(address, f"DROP ROLE {role}")
