"""What dbt has to know of the staging tables, derived from their declarations.

Belongs here: the text of dbt's source properties and doc blocks. Does not belong here: dbt's models
(see `dbt_project/`).

`python -m ctg_assets.model.dbt_sources dbt_project/models/staging` writes the files anew.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from ctg_assets.model.fields import enum_values, nodes_by_path
from ctg_assets.model.spec import TableShape
from ctg_assets.model.tables import Table, staging_tables
from ctg_assets.model.tables.declaration import Field, Read, Reading

SOURCE_NAME = "staging"
"""Name of the dbt source, of its Postgres schema, and first part of the tables' asset keys."""

_ORIGIN = "Written by `python -m ctg_assets.model.dbt_sources`; change ctg_assets/model/tables."


def dbt_source_files(bookkeeping: Iterable[TableShape] = ()) -> dict[str, str]:
    """All derived files for `dbt_project/models/staging`, by name.

    `bookkeeping` are tables that loading keeps beside the data model's (`load_info`).
    """
    shapes = list(bookkeeping)
    return {
        "_staging__sources.yml": dbt_sources_yaml(shapes),
        "_staging__docs.md": dbt_docs_markdown(shapes),
    }


def dbt_sources_yaml(bookkeeping: Iterable[TableShape] = ()) -> str:
    """Source properties for every staging table: descriptions, asset keys, accepted values.

    Primary keys, foreign keys and NOT NULL need no dbt tests: Postgres itself enforces them. An
    enumerated column warns of a value that the registry's enumerations, as recorded, do not have:
    the registry may add one at any time, and no data are wrong then.
    """
    values = _accepted_values()
    shapes = [*(table.shape for table in staging_tables()), *bookkeeping]
    source = {
        "name": SOURCE_NAME,
        "schema": SOURCE_NAME,
        "description": "The registry's studies as flat tables; a load replaces them as a whole.",
        "tables": [_table_properties(shape, values) for shape in shapes],
    }
    text = yaml.safe_dump(
        {"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=100
    )
    return f"# {_ORIGIN}\n{text}"


def dbt_docs_markdown(bookkeeping: Iterable[TableShape] = ()) -> str:
    """One doc block per staging column, so that models describe a column they pass on by reference.

    The block of column `c` of table `t` is called `t__c`.
    """
    shapes = [*(table.shape for table in staging_tables()), *bookkeeping]
    blocks = [
        f"{{% docs {shape.name}__{column.name} %}}\n{column.description}\n{{% enddocs %}}\n"
        for shape in shapes
        for column in shape.columns
    ]
    return "\n".join([f"<!-- {_ORIGIN} -->\n", *blocks])


def _table_properties(
    shape: TableShape, values: dict[tuple[str, str], list[str]]
) -> dict[str, Any]:
    columns: list[dict[str, Any]] = []
    for column in shape.columns:
        properties: dict[str, Any] = {"name": column.name, "description": column.description}
        if accepted := values.get((shape.name, column.name)):
            test = {
                "name": f"accepted_values_{shape.name}_{column.name}",
                "arguments": {"values": accepted},
                "config": {"severity": "warn"},
            }
            properties["data_tests"] = [{"accepted_values": test}]
        columns.append(properties)
    return {
        "name": shape.name,
        "description": shape.description,
        "config": {"meta": {"dagster": {"asset_key": [SOURCE_NAME, shape.name]}}},
        "columns": columns,
    }


def _accepted_values() -> dict[tuple[str, str], list[str]]:
    """The values, in the registry's order, of each column (table, column) that copies an enumeration."""
    return {
        (table.name, item.name): values
        for table in staging_tables()
        for item in table.fields
        if (values := list(dict.fromkeys(_enumeration(table, item))))
    }


def _enumeration(table: Table, item: Field) -> Iterator[str]:
    if not isinstance(item.value, Read) or item.value.reading is not Reading.AS_SENT:
        return
    for path in table.source_paths(item.value.path):
        for entry in enum_values().get(nodes_by_path()[path].base_type, ()):
            yield entry.value


if __name__ == "__main__":
    from ctg_assets.warehouse.builds import LOAD_INFO

    for file_name, content in dbt_source_files([LOAD_INFO]).items():
        Path(sys.argv[1], file_name).write_text(content, encoding="utf-8")
