"""What people and machines read about AACT's tables: the dictionary, and the list of deviations."""

from __future__ import annotations

import csv
import io

from ctg_assets.aact.definitions import DEFINITIONS, DEVIATIONS, ROW_DEVIATIONS
from ctg_assets.aact.deviations import deviations_page
from ctg_assets.aact.dictionary import dictionary_csv
from ctg_assets.aact.schema import aact_tables

NAMES = [f"{table.name}.{column.name}" for table in aact_tables() for column in table.shape.columns]


def test_the_dictionary_says_what_the_registry_calls_a_column() -> None:
    """Each column of each table has a row, in AACT's layout, with the field that it comes from."""
    rows = list(csv.DictReader(io.StringIO(dictionary_csv())))
    assert [f"{row['table_name']}.{row['column_name']}" for row in rows] == NAMES
    page = "https://clinicaltrials.gov/data-api/about-api/study-data-structure#"
    assert rows[0] | {"description": ""} == {
        "table_name": "studies",
        "column_name": "nct_id",
        "data_type": "character varying",
        "nullable": "false",
        "description": "",
        "ctgov_name": "nctId",
        "ctgov_label": "NCT Id",
        "ctgov_path": "protocolSection.identificationModule.nctId",
        "ctgov_section": "Protocol",
        "ctgov_module": "Identification",
        "ctgov_url": page + "NCTId",
    }
    by_name = {f"{row['table_name']}.{row['column_name']}": row for row in rows}
    assert by_name["facilities.latitude"]["data_type"] == "numeric(10,6)"
    assert by_name["studies.nlm_download_date_description"]["ctgov_path"] == ""
    terms = by_name["browse_conditions.mesh_term"]
    assert terms["ctgov_module"] == "Condition Browse; Condition Browse"
    assert terms["ctgov_section"] == "Derived; Derived"
    assert all(row["description"] for row in rows)


def test_every_deviation_is_listed() -> None:
    """Each column or table that differs has one line with the reason, and is one of AACT's."""
    differing = {name for name, definition in DEFINITIONS.items() if definition.differs}
    listed = {*differing, *DEVIATIONS, *ROW_DEVIATIONS}
    lines = deviations_page().splitlines()
    for name in listed:
        assert len([line for line in lines if line.startswith(f"| `{name}`")]) == 1, name
    tables = {table.name for table in aact_tables()}
    assert listed <= {"id", *NAMES, *tables}
    assert "| `outcome_counts.count` | AACT reads 1,553 as 1; here it is 1553. |" in lines
