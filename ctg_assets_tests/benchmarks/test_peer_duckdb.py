"""DuckDB, as it is measured, finds the rows that a study has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb
import msgspec
import pytest

from benchmarks.peer_duckdb import read_json, rows_of
from ctg_assets.model.tables import staging_tables

_SITE = {
    "facility": "St. Mary's",
    "status": "RECRUITING",
    "geoPoint": {"lat": 1.5, "lon": -2},
    "contacts": [{"name": "Ann", "role": "CONTACT"}, {"name": "Bo", "role": "CONTACT"}],
}
_CLASSES = [
    {"title": "Week 4", "categories": [{"measurements": [{"groupId": "OG000", "value": "1,2"}]}]},
    {"categories": [{"title": "old"}, {"title": "young", "measurements": [{"value": "3"}]}]},
]
_FIRST = {
    "protocolSection": {
        "identificationModule": {"nctId": "NCT1", "secondaryIdInfos": [{"id": "A-1"}]},
        "sponsorCollaboratorsModule": {
            "leadSponsor": {"name": "Ann & Co"},
            "collaborators": [{"name": "Bo"}, {"name": "Cy"}],
        },
        "contactsLocationsModule": {"locations": [{"facility": ""}, _SITE]},
        "fieldOfTomorrow": {"deep": [1]},
    },
    "resultsSection": {
        "outcomeMeasuresModule": {"outcomeMeasures": [{"title": "Pain", "classes": _CLASSES}]}
    },
    "hasResults": True,
}
_SECOND = {
    "protocolSection": {
        "identificationModule": {"nctId": "NCT2"},
        "designModule": {"phases": ["PHASE1", "PHASE2"], "enrollmentInfo": {"count": "many"}},
        "sponsorCollaboratorsModule": {},
    }
}


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine that has read the two studies, from a file each."""
    folder = tmp_path_factory.mktemp("json")
    for number, study in enumerate((_FIRST, _SECOND)):
        (folder / f"{number}.ndjson").write_bytes(msgspec.json.encode(study) + b"\n")
    with duckdb.connect() as found:
        found.execute(read_json(folder))
        yield found


@pytest.mark.parametrize(
    ("table", "columns", "rows"),
    [
        (
            "studies",
            "nct_id, has_results, enrollment",
            [("NCT1", True, None), ("NCT2", None, None)],
        ),
        (
            "sponsors",
            "nct_id, name, lead_or_collaborator",
            [
                ("NCT1", "Ann & Co", "lead"),
                ("NCT1", "Bo", "collaborator"),
                ("NCT1", "Cy", "collaborator"),
            ],
        ),
        (
            "facilities",
            "nct_id, position, name, latitude, longitude",
            [("NCT1", 1, "", None, None), ("NCT1", 2, "St. Mary's", 1.5, -2.0)],
        ),
        ("facility_contacts", "nct_id, position, name", [("NCT1", 1, "Ann"), ("NCT1", 2, "Bo")]),
        (
            "outcome_measurements",
            "nct_id, title, classification, category, param_value",
            [("NCT1", "Pain", "Week 4", None, "1,2"), ("NCT1", "Pain", None, "young", "3")],
        ),
        ("conditions", "nct_id", []),
    ],
)
def test_rows_are_those_of_the_study(
    engine: duckdb.DuckDBPyConnection, table: str, columns: str, rows: list[tuple[Any, ...]]
) -> None:
    """Rows come from all lists on the way, with what their holders say, values as they were sent.

    Unknown fields, objects that are not there and values of another type do no harm.
    """
    (declared,) = (one for one in staging_tables() if one.name == table)
    found = engine.execute(f"SELECT {columns} FROM ({rows_of(declared)}) ORDER BY ALL").fetchall()
    assert found == rows


def test_every_column_of_every_table_can_be_selected(
    engine: duckdb.DuckDBPyConnection,
) -> None:
    """Each table of ours has a SELECT with its columns in their order, of types that Postgres has."""
    for table in staging_tables():
        described = engine.execute(f"DESCRIBE {rows_of(table)}").fetchall()
        assert [row[0] for row in described] == [field.name for field in table.fields]
        assert {row[1] for row in described} <= {
            "BOOLEAN", "INTEGER", "BIGINT", "DOUBLE", "VARCHAR", "JSON", '"NULL"',
        }  # fmt: skip
