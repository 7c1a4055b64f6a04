"""The derived files: that they are current, and that they follow it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from ctg_assets.codegen import DBT_STAGING, DOCS, derived_files, stale_files
from ctg_assets.marts.documentation import (
    MARTS_DIR,
    UndescribedMartError,
    marts_page,
    read_marts,
)
from ctg_assets.model.documentation.values import enumerations
from ctg_assets.model.fields import nodes_by_path
from ctg_assets.model.tables import Table, staging_tables
from ctg_assets.model.tables.columns import text

DICTIONARY = DOCS / "data_dictionary.md"
DIAGRAMS = DOCS / "entity_relationships.md"


@cache
def derived() -> dict[Path, str]:
    """Every derived file as the declarations give it today."""
    return derived_files()


def read_yaml(text: str) -> Any:
    """What a file of dbt's says, read ten times as fast as by Python alone."""
    return yaml.load(text, Loader=yaml.CSafeLoader)


def with_a_column(table: str) -> list[Table]:
    """The declared tables, one of them with a column more."""
    mood = text("mood", "status", "Mood of the site, `|` or < 5 *stars*.", aact=None)
    return [
        replace(one, declared=(*one.declared, mood)) if one.name == table else one
        for one in staging_tables()
    ]


def test_derived_files_are_current() -> None:
    """Every derived file is what the declarations give today, and none is left of older ones."""
    assert {path.name: path.read_text(encoding="utf-8") for path in derived()} == {
        path.name: text for path, text in derived().items()
    }
    assert stale_files(derived()) == []


@pytest.mark.slow
def test_a_new_column_appears_everywhere() -> None:
    """A column added to a declaration is in dictionary, source, staging view and doc block at once."""
    anew = derived_files(with_a_column("facilities"))
    path = "protocolSection.contactsLocationsModule.locations[].status"
    meaning = "Mood of the site, `|` or &lt; 5 \\*stars\\*.".replace("|", "\\|")
    assert f"| `mood` | text | yes | {meaning} | `{path}` |  |" in anew[DICTIONARY]
    assert "\n    mood\nfrom" in anew[DBT_STAGING / "stg_facilities.sql"]
    assert "{% docs facilities__mood %}\nMood of" in anew[DBT_STAGING / "_staging__docs.md"]
    [source] = read_yaml(anew[DBT_STAGING / "_staging__sources.yml"])["sources"]
    [facilities] = [table for table in source["tables"] if table["name"] == "facilities"]
    assert facilities["columns"][-1]["name"] == "mood"
    [test] = facilities["data_tests"]
    values = test["known_values"]["arguments"]["columns"]
    assert values["mood"] == values["status"]
    models = read_yaml(anew[DBT_STAGING / "_staging__models.yml"])["models"]
    [view] = [model for model in models if model["name"] == "stg_facilities"]
    assert view["columns"][-1]["name"] == "mood"


def test_the_dictionary_has_every_table_and_column() -> None:
    """Each table has an entry in the list, a section of its own, and a row per column."""
    dictionary = derived()[DICTIONARY]
    for table in staging_tables():
        assert f" | [{table.name}](#{table.name}) | " in dictionary
        section = dictionary.partition(f"\n### {table.name}\n")[2].partition("\n#")[0]
        rows = [line for line in section.splitlines() if line.startswith("| `")]
        assert [row.split("`")[1] for row in rows] == [one.name for one in table.shape.columns]


def test_the_dictionary_names_known_values() -> None:
    """Enumerated columns, and those by which sources are told apart, come with their values."""
    dictionary = derived()[DICTIONARY]
    assert "\nValues of `enrollment_type`: `ACTUAL`, `ESTIMATED`.\n" in dictionary
    assert "\nValues of `outcome_type`: `primary`, `secondary`, `other`.\n" in dictionary
    assert "\nValues of `removed`: `false`, `true`.\n" in dictionary


def test_every_foreign_key_is_drawn() -> None:
    """The overview has every reference but those to studies; each diagram is one that GitHub draws."""
    diagrams = derived()[DIAGRAMS].split("```mermaid\n")[1:]
    overview = diagrams[0]
    keys = [
        f"{key.table} {sign}--o{{ {table.name} : {key.columns[0]}\n"
        for table in staging_tables()
        for key in table.shape.foreign_keys
        if key.table != "studies"
        for column in table.shape.columns
        if column.name == key.columns[0]
        for sign in ["|o" if column.nullable else "||"]
    ]
    assert len(keys) == overview.count("--") > 0
    assert all(key in overview for key in keys)
    for table in staging_tables():
        assert f"\n    {table.name} {{\n" in "".join(diagrams[1:])
    # Mermaid refuses longer texts.
    assert max(map(len, diagrams)) < 50_000


def test_every_enumerated_field_is_checked_once() -> None:
    """Each field of an enumeration is tested where its own rows are, not again where it is repeated."""
    [source] = read_yaml(derived()[DBT_STAGING / "_staging__sources.yml"])["sources"]
    tested = {
        (table["name"], column)
        for table in source["tables"]
        for test in table.get("data_tests", [])
        for column in test["known_values"]["arguments"]["columns"]
    }
    checked: set[str] = set()
    for table in staging_tables():
        for name, enumeration in enumerations(table).items():
            assert ((table.name, name) in tested) is not enumeration.repeated
            checked |= enumeration.paths if (table.name, name) in tested else set()
    assert checked == {path for path, node in nodes_by_path().items() if node.is_enum}


def test_the_page_of_marts_has_every_mart_and_column() -> None:
    """Each model of the folder has a section with a row per column that its properties name."""
    page = derived()[DOCS / "marts.md"]
    for path in MARTS_DIR.rglob("*.sql"):
        [model] = [
            one
            for one in read_yaml(path.with_suffix(".yml").read_text())["models"]
            if one["name"] == path.stem
        ]
        section = page.partition(f"\n### {path.stem}\n")[2].partition("\n#")[0]
        rows = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
        assert rows == [column["name"] for column in model["columns"]]


def test_the_page_of_marts_says_what_the_project_declares(tmp_path: Path) -> None:
    """Texts that are referred to, sources, gaps, values, keys and what is read, of a mart made for this."""
    folder = tmp_path / "dbt_project" / "models" / "marts" / "odd_subject"
    folder.mkdir(parents=True)
    (folder / "fct_odd.sql").write_text(
        '{{ config(unique_key="a") }} select * from {{ ref("stg_odd") }} join {{ ref(\'fct_odd\') }}'
    )
    (folder / "fct_odd.yml").write_text(
        """
models:
  - name: fct_odd
    description: >
      One row per <thing>.
      It is odd.

      Source: A. Uthor, 1999.

      Not known: why.
    columns:
      - name: a
        description: '{{ doc("odd__b") }}'
        data_tests: [unique, not_null]
      - name: c
        description: "'x | y', see {{ doc('odd__b') }}"
        data_tests:
          - accepted_values: {arguments: {values: [x, y]}}
          - not_null: {config: {severity: warn}}
"""
    )
    marts = read_marts("{% docs odd__b %}\nThe *key*.\n{% enddocs %}\n", folder.parent)
    page = marts_page(marts, tmp_path / "docs")
    assert page.partition("| Odd subject | [fct_odd](#fct_odd) | ")[2].splitlines() == [
        "per &lt;thing&gt; |",
        "",
        "## Odd subject",
        "",
        "### fct_odd",
        "",
        "One row per &lt;thing&gt;. It is odd.",
        "",
        "**Source.** A. Uthor, 1999.",
        "",
        "**Not known.** why.",
        "",
        "- Key: `a`",
        "- Made from: `stg_odd`",
        "- A build computes: everything",
        "- SQL: [fct_odd.sql](../dbt_project/models/marts/odd_subject/fct_odd.sql)",
        "",
        "| column | NULL | meaning | source |",
        "|---|---|---|---|",
        "| `a` | no | The \\*key\\*. | [odd](data_dictionary.md#odd).`b` |",
        "| `c` |  | 'x \\| y', see The \\*key\\*.<br>Values: `x`, `y`. |  |",
    ]


def test_a_mart_that_nothing_describes_is_named(tmp_path: Path) -> None:
    """A mart without properties, and one that refers to a text that is nowhere, stop the generation by name."""
    folder = tmp_path / "subject"
    folder.mkdir()
    (folder / "fct_odd.sql").write_text("select 1")
    with pytest.raises(UndescribedMartError, match=r"describe model fct_odd in fct_odd\.yml"):
        read_marts("", tmp_path)
    (folder / "fct_odd.yml").write_text(
        "models: [{name: fct_odd, description: '{{ doc(\"gone\") }}'}]"
    )
    with pytest.raises(UndescribedMartError, match=r"fct_odd refers to .*gone"):
        read_marts("", tmp_path)
