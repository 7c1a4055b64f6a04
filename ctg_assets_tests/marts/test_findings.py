"""What is said of dbt tests that found something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ctg_assets.marts.dbt_findings import compiled_path, describe_findings, node_under_test
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.three_studies import ThreeStudies


@pytest.fixture(scope="module")
def address(server: PostgresAddress, three_studies: ThreeStudies) -> Iterator[PostgresAddress]:
    """A database with all marts of three studies, some of whose values are unknown."""
    with new_database(server, three_studies.database) as own:
        yield own


@pytest.fixture(scope="module")
def target(
    address: PostgresAddress, three_studies: ThreeStudies, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What dbt has written, whose SQL names the database that it was run on, for the copy of that."""
    target = tmp_path_factory.mktemp("target")
    for path in three_studies.target.glob("compiled/**/*.sql"):
        copied = target / path.relative_to(three_studies.target)
        copied.parent.mkdir(parents=True, exist_ok=True)
        written = path.read_text(encoding="utf-8")
        copied.write_text(
            written.replace(f'"{three_studies.database}".', f'"{address.dbname}".'),
            encoding="utf-8",
        )
    return target


def test_every_test_of_the_project_can_say_what_it_found(
    address: PostgresAddress, target: Path, manifest: dict[str, Any]
) -> None:
    """The SQL of each test is found and can be run once more; a test that finds rows tells number and values.

    All tests of the project, on studies with a phase, a type of id and dates that are none.
    """
    said = {}
    for node in manifest["nodes"].values():
        if node["resource_type"] == "test":
            compiled = compiled_path(target, node)
            tested = node_under_test(manifest, node)
            said[node["name"]] = describe_findings(address, node, tested, compiled, None)
    assert len(said) > 50
    assert {name: text for name, text in said.items() if "cannot be told" in text} == {}
    found = {name: text for name, text in said.items() if not text.startswith("0 rows")}
    phases = next(text for name, text in found.items() if "PHASE5" in text)
    assert phases == (
        "1 row that should not be there: phase 'PHASE4/PHASE5', n_records 1; for example NCT00000002"
    )
    dates = found["dates_outside_calendar"]
    assert dates.startswith("2 rows that should not be there: nct_id 'NCT0000000")
    assert re.search(r"date_day (1900-01-01|2999-12-31)", dates)
    assert all(re.match(r"\d+ rows? that should not be there: \S", text) for text in found.values())


@pytest.mark.parametrize(
    ("metadata", "statement", "expected"),
    [
        (
            {"name": "unique", "kwargs": {"column_name": "code"}},
            "SELECT code AS unique_field, count(*) AS n_records FROM marts.things GROUP BY 1 HAVING count(*) > 1",
            "1 row that should not be there: code 'a', n_records 2; for example NCT00000001",
        ),
        (
            {"name": "not_null", "kwargs": {"column_name": "code"}},
            "SELECT code FROM marts.things WHERE code IS NULL",
            "1 row that should not be there: code NULL; for example NCT00000003",
        ),
        (
            {"name": "accepted_values", "kwargs": {"column_name": "number"}},
            "SELECT number AS value_field, count(*) AS n_records FROM marts.things WHERE number > 6 GROUP BY 1",
            "1 row that should not be there: number 7, n_records 1; for example NCT00000003",
        ),
        (
            {"name": "unique_combination", "kwargs": {"columns": ["code", "number"]}},
            "SELECT code, number, 1 AS n FROM marts.things WHERE code = 'a'",
            "2 rows that should not be there: code 'a', number 5, n 1; code 'a', number 6, n 1; for example NCT00000001",
        ),
        (
            None,
            "SELECT n AS number_found FROM generate_series(1, 9) AS n",
            "9 rows that should not be there: number_found 1; number_found 2; number_found 3; and 6 more",
        ),
        (
            None,
            "SELECT nonsense",
            'it could not be run; what it found cannot be told: column "nonsense" does not exist',
        ),
    ],
    ids=lambda value: (value or {}).get("name", "singular") if not isinstance(value, str) else "",
)
def test_a_finding_names_rows_values_and_a_study(
    address: PostgresAddress,
    tmp_path: Path,
    metadata: dict[str, Any] | None,
    statement: str,
    expected: str,
) -> None:
    """Of each kind of test: how many rows, the first of them, and a study that has such a value."""
    with connect(address) as connection:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS marts.things AS SELECT * FROM (VALUES "
            "('NCT00000001', 'a', 5), ('NCT00000002', 'a', 6), ('NCT00000003', NULL, 7)) "
            "AS t (nct_id, code, number)"
        )
    compiled = tmp_path / "test.sql"
    compiled.write_text(statement + " -- as dbt wrote it", encoding="utf-8")
    tested = {"schema": "marts", "alias": "things", "columns": {"nct_id": {}}}
    node = {"test_metadata": metadata}
    described = describe_findings(address, node, tested, compiled, None)
    assert described.partition(" LINE ")[0] == expected
