"""What dbt has to know of the staging tables: sources, staging views, doc blocks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import yaml

from ctg_assets.model.documentation import ORIGIN
from ctg_assets.model.documentation.values import enumerations
from ctg_assets.model.spec import TableShape
from ctg_assets.model.tables import Table

SOURCE_NAME = "staging"
"""Name of the dbt source, and first part of the tables' asset keys."""

_SOURCE_SCHEMA = "{{ env_var('CTG_STAGING_SCHEMA', 'staging') }}"

MODEL_PREFIX = "stg_"
"""What a staging view is called, before the name of its table."""

STAGING_DOCS = "_staging__docs.md"
"""The file of doc blocks: the text of each table and column."""


def dbt_files(tables: Sequence[Table], others: Sequence[TableShape] = ()) -> dict[str, str]:
    """All files of dbt's staging folder, by name.

    `others` are tables that studies are not flattened into, such as `load_info`.
    """
    shapes = [*(table.shape for table in tables), *others]
    return {
        "_staging__sources.yml": _sources(tables, shapes),
        "_staging__models.yml": _models(shapes),
        STAGING_DOCS: _doc_blocks(shapes),
        **{f"{MODEL_PREFIX}{shape.name}.sql": _view(shape) for shape in shapes},
    }


def _view(shape: TableShape) -> str:
    """The staging view of a table: its columns by name, so that a view says what it needs."""
    columns = ",\n".join(f"    {column.name}" for column in shape.columns)
    source = f'{{{{ source("{SOURCE_NAME}", "{shape.name}") }}}}'
    return f"-- {ORIGIN}\nselect\n{columns}\nfrom {source}\n"


def _sources(tables: Sequence[Table], shapes: Iterable[TableShape]) -> str:
    """Source properties of every staging table: descriptions, asset keys, known values.

    Primary keys, foreign keys and NOT NULL need no dbt tests: loads and Postgres see to them. One test
    a table warns of values that the registry's enumerations, as recorded, do not have: the registry
    may add one at any time, and no data are wrong then.
    """
    checked = {
        path
        for table in tables
        for one in enumerations(table).values()
        if not one.repeated
        for path in one.paths
    }
    tests = {table.name: _known_values_test(table, checked) for table in tables}
    source = {
        "name": SOURCE_NAME,
        "schema": _SOURCE_SCHEMA,
        "description": "The registry's studies as flat tables; a load replaces them as a whole.",
        "tables": [
            {
                "name": shape.name,
                "description": _table_reference(shape),
                "config": {"meta": {"dagster": {"asset_key": [SOURCE_NAME, shape.name]}}},
                **tests.get(shape.name, {}),
                "columns": _columns(shape),
            }
            for shape in shapes
        ],
    }
    return _yaml({"version": 2, "sources": [source]})


def _known_values_test(table: Table, checked: Set[str]) -> Mapping[str, Any]:
    """The test of a table's enumerated columns, but for those that repeat fields `checked` elsewhere.

    Those are in the largest tables, where reading them all again would take longest.
    """
    known = {
        name: one
        for name, one in enumerations(table).items()
        if not (one.repeated and one.paths <= checked)
    }
    if not known:
        return {}
    arguments: dict[str, Any] = {"columns": {name: list(one.values) for name, one in known.items()}}
    if joined := [name for name, one in known.items() if one.joined]:
        arguments["joined"] = joined
    test = {
        "name": f"known_values_{table.name}",
        "arguments": arguments,
        "config": {"severity": "warn"},
    }
    return {"data_tests": [{"known_values": test}]}


def _models(shapes: Iterable[TableShape]) -> str:
    models = [
        {
            "name": f"{MODEL_PREFIX}{shape.name}",
            "description": _table_reference(shape),
            "columns": _columns(shape),
        }
        for shape in shapes
    ]
    return _yaml({"version": 2, "models": models})


def _doc_blocks(shapes: Iterable[TableShape]) -> str:
    """One doc block per table and column, so that models describe what they pass on by reference.

    The block of table `t` is called `t`, that of its column `c` is called `t__c`.
    """
    blocks = [f"<!-- {ORIGIN} -->\n"]
    for shape in shapes:
        blocks.append(_doc_block(shape.name, shape.description))
        blocks += [
            _doc_block(f"{shape.name}__{column.name}", column.description)
            for column in shape.columns
        ]
    return "\n".join(blocks)


def _doc_block(name: str, text: str) -> str:
    return f"{{% docs {name} %}}\n{text}\n{{% enddocs %}}\n"


def _table_reference(shape: TableShape) -> str:
    return f'{{{{ doc("{shape.name}") }}}}'


def _columns(shape: TableShape) -> list[dict[str, str]]:
    return [
        {
            "name": column.name,
            "description": f'{{{{ doc("{shape.name}__{column.name}") }}}}',
        }
        for column in shape.columns
    ]


def _yaml(content: Mapping[str, Any]) -> str:
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    return f"# {ORIGIN}\n{text}"
