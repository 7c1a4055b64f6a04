"""AACT's tables with the labels of before June 2024, as views on those with today's.

Until then AACT had the labels of the registry's classic site ("Completed", "Phase 1/Phase 2", "February
2008"), and half of the published SQL compares with them. The registry still says for each value of its
enumerations what it was called there (its legacy value); what AACT had otherwise stands here. Compared
with AACT's rows of 2022 and 2023 for studies that have not changed since.
"""

from __future__ import annotations

from collections.abc import Mapping

from ctg_assets.aact.schema import AactTable
from ctg_assets.model.fields import enum_values, nodes_by_path
from ctg_assets.model.spec import Column, ColumnType

_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _case(value: str, labels: Mapping[str, str], otherwise: str) -> str:
    """What a value is called; one without a label stays as it is."""
    whens = " ".join(
        f"WHEN {_literal(code)} THEN {_literal(text)}" for code, text in labels.items()
    )
    return f"CASE {value} {whens} ELSE {otherwise} END"


def _labels(path: str) -> dict[str, str]:
    """The legacy spelling of each value of the enumeration at a registry path."""
    node = nodes_by_path()[path]
    return {
        value.value: value.legacy_exceptions.get(node.piece, value.legacy_value)
        for value in enum_values()[node.base_type]
    }


def _phase() -> str:
    labels = _labels("protocolSection.designModule.phases[]")
    each = _case("p.phase", labels, "p.phase")
    several = (
        f"(SELECT string_agg({each}, '/' ORDER BY p.position) "
        "FROM unnest(string_to_array(t.phase, '/')) WITH ORDINALITY AS p (phase, position))"
    )
    return _case("t.phase", labels, several)


def _study_type() -> str:
    plain = _case("t.study_type", _labels("protocolSection.designModule.studyType"), "t.study_type")
    return (
        "CASE WHEN t.study_type = 'OBSERVATIONAL' AND t.patient_registry "
        f"THEN 'Observational [Patient Registry]' ELSE {plain} END"
    )


def _month_year(column: str) -> str:
    """A date as sent, in words. The function that makes dates of text would stop at the 31st of February."""
    value = f"t.{column}"
    months = ", ".join(_literal(month) for month in _MONTHS)
    month = f"(ARRAY[{months}])[substr({value}, 6, 2)::integer]"
    return (
        f"CASE WHEN {value} ~ '^[0-9]{{{{4}}}}-(0[1-9]|1[0-2])$' THEN {month} || ' ' || left({value}, 4) "
        f"WHEN {value} ~ '^[0-9]{{{{4}}}}-(0[1-9]|1[0-2])-[0-9]{{{{2}}}}$' "
        f"THEN {month} || ' ' || substr({value}, 9, 2)::integer || ', ' || left({value}, 4) "
        f"ELSE {value} END"
    )


# Of the classic XML, in which publications that were found by the study's number were results, too.
_REFERENCE_TYPES = {
    "BACKGROUND": "reference",
    "RESULT": "results_reference",
    "DERIVED": "results_reference",
}

_OTHERWISE: Mapping[str, str] = {
    "studies.phase": _phase(),
    "studies.study_type": _study_type(),
    "studies.delayed_posting": "CASE WHEN t.delayed_posting THEN 'Yes' END",
    "eligibilities.healthy_volunteers": "CASE t.healthy_volunteers WHEN true "
    "THEN 'Accepts Healthy Volunteers' WHEN false THEN 'No' END",
    "study_references.reference_type": _case(
        "t.reference_type", _REFERENCE_TYPES, "t.reference_type"
    ),
}
"""Where the old label is not the registry's legacy value of one code."""


def old_label_query(table: AactTable) -> str:
    """The SELECT that gives a table's rows with the old labels; `{ctgov}` stands for today's schema."""
    columns = [
        f"{_value(table.name, column)} AS {_quoted(column.name)}" for column in table.shape.columns
    ]
    return f"SELECT {', '.join(columns)} FROM {{ctgov}}.{table.name} AS t"


def _value(table: str, column: Column) -> str:
    value = f"t.{_quoted(column.name)}"
    labels = labels_of(column)
    if (other := _OTHERWISE.get(f"{table}.{column.name}")) is not None:
        return f"({other})::character varying"
    if column.name.endswith("_month_year"):
        return f"({_month_year(column.name)})::character varying"
    if labels:
        kind = "text" if column.type is ColumnType.TEXT else "character varying"
        return f"({_case(value, labels, value)})::{kind}"
    return value


def labels_of(column: Column) -> dict[str, str]:
    """The old label of each code that a column may hold and that was called otherwise; none for others."""
    nodes = [nodes_by_path().get(path) for path in column.sources]
    if column.type not in {ColumnType.VARCHAR, ColumnType.TEXT} or not nodes:
        return {}
    labels: dict[str, str] = {}
    for node in nodes:
        if node is None or not node.is_enum:
            return {}
        labels |= _labels(node.path)
    return {code: label for code, label in labels.items() if code != label}


def _quoted(name: str) -> str:
    return '"' + name + '"'
