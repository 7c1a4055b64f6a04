"""AACT's data dictionary: what each column is, and which field of the registry it comes from, as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable

from ctg_assets.aact.schema import aact_tables
from ctg_assets.model.fields import FieldNode, nodes_by_path
from ctg_assets.model.spec import Column
from ctg_assets.postgres.ddl import type_name

DICTIONARY_FILE = "data_dictionary.csv"

_COLUMNS = (
    *("table_name", "column_name", "data_type", "nullable", "description"),
    *("ctgov_name", "ctgov_label", "ctgov_path", "ctgov_section", "ctgov_module", "ctgov_url"),
)
_SEVERAL = "; "
_REGISTRY_PAGE = "https://clinicaltrials.gov/data-api/about-api/study-data-structure#"


def dictionary_csv() -> str:
    """The whole dictionary, with the columns of AACT's: a row for each column of each table.

    What is said of the registry is empty for columns that no field of it fills; of several fields, each is
    said, in the same order in all columns.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for table in aact_tables():
        for column in table.shape.columns:
            nullable = column.nullable and column.name not in table.shape.primary_key
            writer.writerow([table.name, *_facts(column, nullable), *_of_registry(column)])
    return text.getvalue()


def _facts(column: Column, nullable: bool) -> list[str]:
    return [column.name, type_name(column.type), str(nullable).lower(), column.description]


def _of_registry(column: Column) -> list[str]:
    nodes = [nodes_by_path()[path] for path in column.sources]
    return [
        _each(nodes, lambda node: node.name),
        _each(nodes, lambda node: _words(node.piece)),
        _each(nodes, lambda node: node.path),
        _each(nodes, lambda node: _ancestor(node, 0).removesuffix(" Section")),
        _each(nodes, lambda node: _ancestor(node, 1).removesuffix(" Module")),
        _each(nodes, lambda node: _REGISTRY_PAGE + node.piece),
    ]


def _each(nodes: Iterable[FieldNode], fact: Callable[[FieldNode], str]) -> str:
    return _SEVERAL.join(fact(node) for node in nodes)


def _ancestor(node: FieldNode, depth: int) -> str:
    """The label of the node that a field lies in at a depth, or of itself where it lies no deeper."""
    path = node.path.split(".")[: depth + 1]
    return _words(nodes_by_path()[".".join(path)].piece)


_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def _words(piece: str) -> str:
    """The registry's short name of a field in words: BriefTitle is Brief Title."""
    return _WORD.sub(" ", piece)
