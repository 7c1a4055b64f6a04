"""From which columns of its parents each column of a dbt model is made.

dagster-dbt's `fetch_column_metadata` finds the same, but asks the database for columns that the project
states anyway, from threads that change the working directory (see `marts.py`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import sqlglot
from sqlglot import expressions
from sqlglot.errors import SqlglotError
from sqlglot.lineage import lineage

logger = logging.getLogger(__name__)

_DIALECT = "postgres"


class ColumnLineage:
    """Answers for the models of one manifest."""

    def __init__(self, manifest: Mapping[str, Any], asset_keys: Mapping[str, dg.AssetKey]) -> None:
        """`asset_keys` are those of models and sources, by their unique ids."""
        nodes = {**manifest["sources"], **manifest["nodes"]}
        # Without the database's name: the manifest may have been made for another.
        self._columns: dict[str, dict[str, dict[str, str]]] = {}
        self._keys: dict[tuple[str, str], dg.AssetKey] = {}
        for unique_id, key in asset_keys.items():
            node = nodes[unique_id]
            name = node.get("alias") or node["identifier"]
            columns = dict.fromkeys(node["columns"], "text")
            self._columns.setdefault(node["schema"], {})[name] = columns
            self._keys[node["schema"], name] = key

    def of(self, compiled: str) -> dg.TableColumnLineage:
        """The lineage of all columns that a model's compiled SQL selects; of none if it is not understood."""
        try:
            return self._of(sqlglot.parse_one(compiled, dialect=_DIALECT))
        except SqlglotError as error:
            # The model is built all the same; what is missing is an ornament.
            logger.warning("no column lineage: %s", error)
            return dg.TableColumnLineage({})

    def _of(self, query: sqlglot.Expr) -> dg.TableColumnLineage:
        for table in query.find_all(expressions.Table):
            table.set("catalog", None)
        # Trimmed selects serve only to draw the lineage, and take twenty times as long.
        columns = lineage(None, query, self._columns, dialect=_DIALECT, trim_selects=False)
        return dg.TableColumnLineage(
            {name: list(dict.fromkeys(self._parents(node))) for name, node in columns.items()}
        )

    def _parents(self, node: Any) -> Iterator[dg.TableColumnDep]:
        for origin in node.walk():
            table = origin.expression
            if origin.downstream or not isinstance(table, expressions.Table):
                continue
            if key := self._keys.get((table.db, table.name)):
                yield dg.TableColumnDep(key, expressions.to_column(origin.name).name)
