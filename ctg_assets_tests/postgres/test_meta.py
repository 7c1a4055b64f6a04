"""Our notes in `ctg_meta`: who writes them, and that those of databases in use are read on."""

from __future__ import annotations

import re
from pathlib import Path

import ctg_assets
from ctg_assets.load.full import load_tables
from ctg_assets.load.request import LoadRequest
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.watermarks import write_watermark
from ctg_assets_tests.support.postgres import ALL, batch, build, query

_PACKAGE = Path(ctg_assets.__file__).parent
_NAMED = re.compile(r"\{meta\}\.(\w+)")

# As databases of the release of 2026-11-26 have them. Whatever is changed here needs a way from there.
_COLUMNS = {
    ("builds", "stage", "text", "NO"),
    ("builds", "name", "text", "NO"),
    ("builds", "fingerprint", "text", "NO"),
    ("builds", "rows", "bigint", "YES"),
    ("builds", "built_at", "timestamp with time zone", "NO"),
    ("loads", "load_number", "bigint", "NO"),
    ("loads", "kind", "text", "NO"),
    ("loads", "snapshot_id", "text", "NO"),
    ("loads", "loaded_at", "timestamp with time zone", "NO"),
    ("changed_studies", "nct_id", "text", "NO"),
    ("changed_studies", "load_number", "bigint", "NO"),
    ("changed_studies", "first_id", "bigint", "NO"),
    ("changed_studies", "last_id", "bigint", "NO"),
    ("watermarks", "node", "text", "NO"),
    ("watermarks", "definition", "text", "NO"),
    ("watermarks", "load_number", "bigint", "NO"),
    ("watermarks", "noted_at", "timestamp with time zone", "NO"),
    ("owned", "schema_name", "text", "NO"),
    ("owned", "name", "text", "NO"),
    ("owned", "purpose", "text", "NO"),
    ("owned", "oid", "oid", "NO"),
}
# By these a table of notes is known as ours.
_COMMENTS = {
    ("builds", "What each staging table and each model was last built from."),
    (
        "loads",
        "Every load of staging: full ones may have changed any row, deltas the rows of some studies.",
    ),
    (
        "changed_studies",
        (
            "The studies that deltas since the last full load changed or removed, each with the newest of"
            " those loads, and the range of keys that its rows have in the staging tables."
        ),
    ),
    (
        "watermarks",
        (
            "The newest load that each mart stands for, or at which each test of studies found nothing, by its"
            " name in dbt; and the newest load when each dbt run began that is not over."
        ),
    ),
    ("owned", "The schemas (with an empty name), tables and views that ctg_assets has made."),
}
# Under which stage and name a later load and build look for what was made.
_BUILDS = {
    *(("staging", name) for name in ("studies", "conditions", "keywords")),
    ("staging_views", "(all)"),
    ("intermediate", "dim_study"),
    ("marts", "dim_study"),
}


def test_notes_are_where_databases_in_use_have_them(address: PostgresAddress) -> None:
    """Tables, columns, comments and names are those of before, so that nothing there is loaded or built again."""
    load_tables(LoadRequest(address, ALL, build=build(1)), [batch(range(1, 4))])
    note_built(address, {"dim_study"})
    with connect(address) as connection:
        write_watermark(connection, "ctgov", "definition", 1)
    columns = query(
        address,
        "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
        " WHERE table_schema = 'ctg_meta'",
    )
    assert {*columns} == _COLUMNS
    comments = query(
        address,
        "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class"
        " WHERE relnamespace = 'ctg_meta'::regnamespace AND relkind = 'r'",
    )
    assert {*comments} == _COMMENTS
    assert {*query(address, "SELECT stage, name FROM ctg_meta.builds")} == _BUILDS
    assert query(address, "SELECT load_number, kind FROM ctg_meta.loads") == [(1, "full")]
    noted = query(address, "SELECT node, definition, load_number FROM ctg_meta.watermarks")
    assert noted == [("ctgov", "definition", 1)]


def test_one_room_owns_the_notes() -> None:
    """SQL on them stands in `postgres/`; another room names only tables of its own, called after it."""
    others = {
        (path.relative_to(_PACKAGE).parts[0], table)
        for path in _PACKAGE.rglob("*.py")
        for table in _NAMED.findall(path.read_text(encoding="utf-8"))
        if path.relative_to(_PACKAGE).parts[0] != "postgres"
    }
    assert ("feed", "feed_positions") in others
    assert [(room, table) for room, table in others if not table.startswith(f"{room}_")] == []
