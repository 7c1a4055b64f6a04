"""The queries of docs/warehouses.md: Postgres, DuckDB over a release, and ClickHouse give the same answers (5 s of CPU)."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest
from psycopg import sql

from ctg_assets.clickhouse import followed_tables
from ctg_assets.extract.import_file import import_file
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.storage.files import Storage
from ctg_assets_tests.clickhouse.following import Engine, FollowedLake
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import only_in_soaks
from ctg_assets_tests.support.few_tables import chosen_shapes, few_tables

pytestmark = pytest.mark.process

_DOCS = Path(__file__).resolve().parents[2] / "docs"
_QUERIES = sorted(
    path.name for path in (_DOCS / "queries").glob("??_*[a-z].sql") if path.name.count(".") == 1
)

Answer = Sequence[Sequence[Any]]
Answers = Mapping[str, Mapping[str, Answer]]


def statement(name: str, engine: str) -> str:
    """A query as it is written for an engine; most are written once for all."""
    own = _DOCS / "queries" / name.replace(".sql", f".{engine}.sql")
    return (own if own.exists() else _DOCS / "queries" / name).read_text(encoding="utf-8")


def _by_postgres(address: PostgresAddress) -> Mapping[str, Answer]:
    with connect(address) as connection:
        connection.execute("SET search_path = staging; SET timezone = 'UTC'")
        return {
            name: connection.execute(sql.SQL(statement(name, "postgres"))).fetchall()
            for name in _QUERIES
        }


def _by_duckdb(folder: Path, file: str) -> Mapping[str, Answer]:
    with duckdb.connect(folder / file, read_only=True) as connection:
        connection.execute(f"SET file_search_path = '{folder}'; USE staging; SET TimeZone = 'UTC'")
        return {name: connection.execute(statement(name, "duckdb")).fetchall() for name in _QUERIES}


def _by_clickhouse(lake: FollowedLake) -> Mapping[str, Answer]:
    with followed_tables(lake.address, lake.lake) as tables:
        tables.prepare()
        with lake.opened() as server:
            server.do("USE ctg")
            found = {name: server.ask(statement(name, "clickhouse")) for name in _QUERIES}
    return {name: [tuple(row.values()) for row in rows.to_pylist()] for name, rows in found.items()}


def _in_clickhouse(folder: Path) -> Mapping[str, Answer]:
    return _by_clickhouse(FollowedLake(folder))


@contextmanager
def _answers(lake: FollowedLake, server: PostgresAddress, engine: Engine) -> Iterator[Answers]:
    """The answers of all engines to all queries."""
    manifest = lake.lake.snapshots.latest()
    assert manifest is not None
    place = lake.folder / "release"
    with few_tables():
        release = lake.release(Storage.local(place), most_weight=50_000).manifest
    with new_database(server) as address:
        load_staging(address, lake.lake, manifest, [shape.name for shape in chosen_shapes()])
        yield {
            "postgres": _by_postgres(address),
            "duckdb": _by_duckdb(place, f"releases/{release.name}/ctg.duckdb"),
            "clickhouse": engine(_in_clickhouse, lake.folder),
        }


def _comparable(rows: Answer) -> list[list[Any]]:
    return [[_value(value) for value in row] for row in rows]


def _value(value: Any) -> Any:
    if isinstance(value, Decimal | float):
        return round(float(value), 6)
    if isinstance(value, datetime.datetime):
        return value.astimezone(datetime.UTC)
    return value


def check_same(answers: Answers) -> None:
    """Check that all engines say the same, and something, to each query."""
    assert len(_QUERIES) == 10
    for name in _QUERIES:
        expected = _comparable(answers["postgres"][name])
        assert expected, name
        for engine in ("duckdb", "clickhouse"):
            assert _comparable(answers[engine][name]) == expected, (name, engine)


def test_engines_give_the_same_answers(
    tmp_path: Path, server: PostgresAddress, engine: Engine
) -> None:
    """Over generated studies, some of which changed, and one that went."""
    source = GeneratedSource(60, 3)
    studies = [source.raw(index) for index in range(len(source))]
    lake = FollowedLake(tmp_path)
    lake.walk(1, studies)
    changed = [_renamed(study) for study in studies[:5]]
    lake.walk(20, [*changed, *studies[6:]])
    with _answers(lake, server, engine) as answers:
        check_same(answers)


def _renamed(study: bytes) -> bytes:
    content = msgspec.json.decode(study)
    content["protocolSection"]["identificationModule"]["briefTitle"] = "Another"
    return msgspec.json.encode(content)


@pytest.mark.soak
@only_in_soaks
def test_engines_give_the_same_answers_about_real_studies(
    tmp_path: Path, server: PostgresAddress, engine: Engine
) -> None:
    """Over all recorded studies; skips where there are none (two minutes of CPU)."""
    lake = FollowedLake(tmp_path)
    plan = import_file(lake.lake, shared_path("ctg/studies.jsonl.gz"), page_size=1000)
    Compactor(lake.lake.storage, lake.lake.scratch).compact(plan.extraction_id)
    with _answers(lake, server, engine) as answers:
        check_same(answers)


def test_the_page_names_each_query() -> None:
    """docs/warehouses.md has a line for each of the ten, with a link to its statement."""
    page = (_DOCS / "warehouses.md").read_text(encoding="utf-8")
    for name in _QUERIES:
        assert f"(queries/{name})" in page, name
    for path in (_DOCS / "queries").iterdir():
        assert f"(queries/{path.name})" in page, path.name
