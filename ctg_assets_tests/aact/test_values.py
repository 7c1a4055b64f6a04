"""Every value of AACT's columns that the reference says is one field of the JSON, against that field."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import Any

from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.aact.from_json import Json, Registry, at, items, last_day, number
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.support.postgres import query

Chain = list[Any]
"""A row's JSON: the study, and the items of the lists on the way to it, the row's own last."""

_HEADING = re.compile(r"#### (\w+)")
_COLUMN = re.compile(r"\| (\w+) \| ([^|]+?) \| `([\w.\[\]]+)`(?: → `(\w+)\(\)`| → boolean)? \|")

OTHERWISE = {
    "baseline_measurements.calculate_percentage",
    "baseline_measurements.number_analyzed",
    "outcome_analyses.p_value",
    "reported_events.frequency_threshold",
}
"""Columns whose values are not simply those of the field; `test_definitions.py` says what they are."""


def _first_day(text: str | None) -> date | None:
    last = last_day(text)
    return None if last is None else last.replace(day=1)


def _whole(value: int | str | None) -> int | None:
    return None if value is None else int(str(value).replace(",", ""))


def _numeric(value: float | str | None) -> Decimal | None:
    return number(value if isinstance(value, str) or value is None else repr(value))


def _same(value: Any) -> Any:
    return value


def _reading(type_: str, conversion: str | None) -> Callable[[Any], Any]:
    """How a value of the JSON becomes one of the column."""
    if conversion == "date_first_of_month":
        return _first_day
    if conversion == "downcase":
        return str.lower
    if type_.startswith("integer"):
        return _whole
    if type_.startswith("numeric"):
        return _numeric
    return last_day if type_ == "date" else _same


def _columns() -> dict[str, dict[str, tuple[str, Callable[[Any], Any]]]]:
    """The columns of each table that are one field: its path, and how it is read."""
    found: dict[str, dict[str, tuple[str, Callable[[Any], Any]]]] = {}
    table = ""
    for line in shared_path("reference/aact_schema.md").read_text(encoding="utf-8").splitlines():
        if heading := _HEADING.match(line):
            table = heading[1]
        elif (column := _COLUMN.match(line)) and f"{table}.{column[1]}" not in OTHERWISE:
            reading = _reading(column[2], column[4])
            found.setdefault(table, {})[column[1]] = (column[3], reading)
    return found


def _lists(base: str) -> list[str]:
    """The paths of the lists on the way to one, itself included; the study's, which is empty, comes first."""
    parts = base.split("[]")
    return ["", *("[]".join(parts[:count]) + "[]" for count in range(1, len(parts)))]


def _chains(study: Json, base: str) -> Iterator[Chain]:
    """The rows of a study: the items of the list at a path, with those of the lists that it is in."""
    chains: list[Chain] = [[study]]
    for part in base.split("[]")[:-1]:
        below = part.strip(".")
        chains = [[*chain, item] for chain in chains for item in items(chain[-1], below)]
    yield from chains


def _values(chains: list[Chain], base: str, path: str) -> Iterator[Any]:
    """The value at a path in each row, from the innermost list that it lies in."""
    depth, known = max(
        (place, prefix) for place, prefix in enumerate(_lists(base)) if path.startswith(prefix)
    )
    rest = path.removeprefix(known).strip(".")
    for chain in chains:
        yield at(chain[depth], rest) if rest else chain[depth]


def _is_row(table: str, chain: Chain) -> bool:
    """Whether a table has a row for it; of contacts of sites each has its share."""
    if table not in {"facility_contacts", "facility_investigators"}:
        return True
    role = chain[-1].get("role") or ""
    return ("INVESTIGATOR" in role) == (table == "facility_investigators")


def _json_of(table: str, base: str, registry: Registry, studies: list[str]) -> Iterator[Chain]:
    """The JSON of each row of a table in their order; of tables without a list, of these studies."""
    if not base:
        yield from ([registry.by_id[nct_id].json] for nct_id in studies)
        return
    for study in registry.studies:
        yield from (chain for chain in _chains(study.json, base) if _is_row(table, chain))


def test_values_are_those_of_the_fields(aact: PostgresAddress, registry: Registry) -> None:
    """Row by row, in the order of ids, each column has what stands at its path, read as its type asks."""
    known = _columns()
    # Three rows a group, with a value each of three fields.
    del known["reported_event_totals"]
    assert sum(map(len, known.values())) == 238
    for table, columns in known.items():
        lists = [path[: path.rindex("[]") + 2] for path, _ in columns.values() if "[]" in path]
        base = max(lists, key=len, default="")
        key = "nct_id" if table == "studies" else "nct_id, id"
        rows = query(aact, f"SELECT nct_id, {', '.join(columns)} FROM ctgov.{table} ORDER BY {key}")
        chains = list(_json_of(table, base, registry, [row[0] for row in rows]))
        assert len(rows) == len(chains), table
        for place, (name, (path, reading)) in enumerate(columns.items(), start=1):
            found = [row[place] for row in rows]
            assert found == [*map(reading, _values(chains, base, path))], f"{table}.{name}"
