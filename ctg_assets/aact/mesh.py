"""AACT's tables of MeSH, made of NLM's file once and kept in the lake."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ctg_assets.aact.mesh_file import descriptors, mesh_stamp
from ctg_assets.aact.schema import aact_tables
from ctg_assets.load.staging import digest
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.sealed_parquet import open_sealed, sealed_writer

_log = logging.getLogger(__name__)

MESH_TABLES = ("mesh_terms", "mesh_headings")

_FOLDER = "mesh"

# To be raised when rows are made otherwise of the same file.
_FORM = "1"


def mesh_fingerprint(path: Path | None) -> str | None:
    """What the rows depend on, told without reading the file; None without one.

    Raises MeshFileError when the file is not there.
    """
    return None if path is None else digest(_FORM, mesh_stamp(path))


def mesh_rows(storage: Storage, path: Path) -> dict[str, pa.Table]:
    """The rows of AACT's two tables of MeSH, from what is kept in the lake if the file is still the same.

    Raises MeshFileError when the file cannot be used.
    """
    fingerprint = digest(_FORM, mesh_stamp(path))
    kept = {name: f"{_FOLDER}/{fingerprint[:16]}-{name}.parquet" for name in MESH_TABLES}
    try:
        return {name: _read(storage, file) for name, file in kept.items()}
    except DamagedFileError as error:
        if any(map(storage.exists, kept.values())):
            _log.warning("reading %s again: %s", path, error)
    for name, rows in _made(path).items():
        with sealed_writer(storage, kept[name], rows.schema, compression="zstd") as writer:
            writer.write_table(rows)
    for name in storage.names(_FOLDER):
        if f"{_FOLDER}/{name}" not in kept.values():
            storage.delete_file(f"{_FOLDER}/{name}")
    return {name: _read(storage, file) for name, file in kept.items()}


def _read(storage: Storage, file: str) -> pa.Table:
    with open_sealed(storage, file) as parquet:
        return parquet.read()


def _made(path: Path) -> dict[str, pa.Table]:
    places = sorted(
        (tree_number, descriptor.number, descriptor.name)
        for descriptor in descriptors(path)
        for tree_number in descriptor.tree_numbers
    )
    names = {tree_number: name for tree_number, _, name in places}
    rows: Mapping[str, list[dict[str, Any]]] = {
        "mesh_terms": [
            {
                "qualifier": _branch(tree_number),
                "tree_number": tree_number,
                "description": number,
                "mesh_term": name,
                "downcase_mesh_term": name.lower(),
            }
            for tree_number, number, name in places
        ],
        "mesh_headings": list(_headings(names)),
    }
    schemas = {table.name: table.shape.arrow_schema for table in aact_tables()}
    return {
        name: pa.Table.from_pylist(
            [{"id": place, **row} for place, row in enumerate(rows[name], start=1)],
            schema=schemas[name],
        )
        for name in MESH_TABLES
    }


def _headings(names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Each branch of the tree (C04) with each of the places just below it, or with none if it has none."""
    below: dict[str, list[str]] = {number: [] for number in names if "." not in number}
    for number, name in names.items():
        if number.count(".") == 1 and _branch(number) in below:
            below[_branch(number)].append(name)
    for branch, subcategories in below.items():
        row = {"qualifier": branch, "heading": names[branch]}
        yield from ({**row, "subcategory": name} for name in subcategories or (None,))


def _branch(tree_number: str) -> str:
    return tree_number.partition(".")[0]
