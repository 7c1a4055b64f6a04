"""What a table's rows depend on: enough that no change is missed, and no more."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import ctg_assets
from ctg_assets.model import dependencies
from ctg_assets.model.dependencies import row_code, row_digests
from ctg_assets.model.spec import ColumnType
from ctg_assets.model.tables.column_values import Aggregate, Lookup, Total
from ctg_assets.model.tables.columns import columns, first_found, lookup, parent, text
from ctg_assets.model.tables.declaration import Field, Source, Table
from ctg_assets.model.tables.readings import Read
from ctg_assets_tests.model.models import changed_fields

ARMS = "protocolSection.armsInterventionsModule.armGroups[]"
INTERVENTIONS = "protocolSection.armsInterventionsModule.interventions[]"


def _model() -> dict[str, Table]:
    """Tables that depend on each other in every way: by parent, lookup, lookups in turn, and total."""
    tables = [
        Table("studies", "Studies.", (Source(""),), ()),
        Table(
            "arms",
            "Arms.",
            (Source(ARMS),),
            columns(text("title", "label", "Title."), text("kind", "type", "Kind.")),
        ),
        Table(
            "names",
            "Names of interventions in arms.",
            (Source(f"{ARMS}.interventionNames[]"),),
            columns(text("name", ".", "Name."), parent("arm_id", "arms", "The arm.")),
        ),
        Table(
            "labels",
            "Labels of arms in interventions.",
            (Source(f"{INTERVENTIONS}.armGroupLabels[]"),),
            columns(
                text("label", ".", "Label."),
                lookup("arm_id", "arms", {"title": "label"}, "The arm."),
            ),
        ),
        Table(
            "guesses",
            "Labels once more.",
            (Source(f"{INTERVENTIONS}.armGroupLabels[]"),),
            columns(
                text("label", ".", "Label."),
                first_found(
                    "arm_kind",
                    (Lookup("labels", {"label": "label"}, column="arm_id"),),
                    "Whatever is found.",
                ),
            ),
        ),
        Table(
            "totals",
            "Totals.",
            (Source(""),),
            (Field("arms", ColumnType.BIGINT, "How many.", Aggregate("arms", Total.COUNT)),),
        ),
    ]
    return {table.name: table for table in tables}


def _changed(change: Callable[[dict[str, Table]], None]) -> set[str]:
    """The tables whose digests a change of the model changes."""
    model = _model()
    before = row_digests(list(model.values()))
    change(model)
    after = row_digests(list(model.values()))
    return {name for name, digest in after.items() if before.get(name) != digest}


def _with_field(table: Table, item: Field) -> Table:
    return replace(table, declared=(*table.declared, item))


def test_a_new_column_concerns_its_own_table_only() -> None:
    """Neither children, nor tables that look rows up, change with a column that they do not read."""

    def change(model: dict[str, Table]) -> None:
        model["arms"] = _with_field(model["arms"], text("description", "description", "What."))

    assert _changed(change) == {"arms"}


def test_other_rows_concern_all_who_refer_to_them() -> None:
    """Ids count the rows of a table, so another source changes whatever holds or counts them."""

    def change(model: dict[str, Table]) -> None:
        model["arms"] = replace(model["arms"], sources=(Source(ARMS, distinct="label"),))

    assert _changed(change) == {"arms", "names", "labels", "guesses", "totals"}


def test_another_reading_concerns_those_who_look_it_up() -> None:
    """A column by which rows are found changes what is found, also at second hand."""

    def change(model: dict[str, Table]) -> None:
        title, kind = model["arms"].declared
        other = replace(title, value=Read("description"))
        model["arms"] = replace(model["arms"], declared=(other, kind))

    assert _changed(change) == {"arms", "labels", "guesses"}


def test_words_do_not_matter() -> None:
    """Descriptions are no rows; the database's comments are compared elsewhere."""

    def change(model: dict[str, Table]) -> None:
        for name, table in model.items():
            fields = tuple(replace(item, description="Otherwise.") for item in table.declared)
            model[name] = replace(table, description="Otherwise.", declared=fields)

    assert _changed(change) == set()


def test_a_field_that_arrives_in_another_type_concerns_its_readers() -> None:
    """A retyped leaf changes the tables that read it, and a new leaf beside it none."""
    before = row_digests(list(_model().values()))

    def retype(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        return [row | {"type": "integer"} if row["path"] == f"{ARMS}.type" else row for row in rows]

    with changed_fields(retype):
        after = row_digests(list(_model().values()))
    assert {name for name in after if after[name] != before[name]} == {"arms"}

    def add(rows: list[dict[str, str]]) -> list[dict[str, str]]:
        new = {"path": f"{ARMS}.size", "piece": "ArmSize", "type": "integer", "source_type": "LONG"}
        return [*rows, new]

    with changed_fields(add):
        assert row_digests(list(_model().values())) == before


def test_code_concerns_every_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other code may make other rows of the same declaration."""
    before = row_digests(list(_model().values()))
    monkeypatch.setattr(dependencies, "_code_digest", lambda: "other code")
    after = row_digests(list(_model().values()))
    assert all(after[name] != before[name] for name in before)


def test_all_code_that_makes_rows_is_counted() -> None:
    """Whatever flattening imports of the model is digested, but for the declarations themselves."""
    package = Path(ctg_assets.__file__).parent.parent
    waiting, reached = ["ctg_assets.model.flatten"], set()
    while waiting:
        module = waiting.pop()
        path = package / (module.replace(".", "/") + ".py")
        # The package of declarations is what the digests of tables cover.
        if module in reached or not path.exists():
            continue
        reached.add(module)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ctg_assets"):
                assert node.module is not None
                waiting += [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
    assert sorted(reached) == row_code()
    assert {"ctg_assets.model.flatten", "ctg_assets.model.values"} <= reached
