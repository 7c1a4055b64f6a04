"""The files of the repository that are derived from the data model, and from what dbt's models declare.

`python -m ctg_assets.codegen` writes them anew; `make generate` calls it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ctg_assets.aact.deviations import deviations_page
from ctg_assets.aact.dictionary import dictionary_csv
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts.dbt_project import PROJECT_DIR
from ctg_assets.marts.documentation import marts_page, read_marts
from ctg_assets.model.documentation.dbt import STAGING_DOCS, dbt_files
from ctg_assets.model.documentation.dictionary import data_dictionary, tables_page
from ctg_assets.model.documentation.relationships import entity_relationships
from ctg_assets.model.spec import TableShape
from ctg_assets.model.tables import Table, staging_tables
from ctg_assets.postgres.builds import LOAD_INFO
from ctg_assets.who.tables import SHAPES

DBT_STAGING = PROJECT_DIR / "models" / "staging"
"""The folder of dbt's staging layer; everything in it is derived."""

_WHO = """\
# Tables of WHO's numbers

<!-- Written by `make generate` from ctg_assets/who/tables.py; change it there. -->

The tables of schema `who`. How they are filled, and what their numbers are, is in [who.md](who.md). Sources are
columns of WHO's answers: the first that holds something counts.
"""

DOCS = PROJECT_DIR.parent / "docs"


def derived_files(tables: Sequence[Table] | None = None) -> dict[Path, str]:
    """The text of every derived file; of the declared tables, unless others are given."""
    tables = staging_tables() if tables is None else tables
    others = _tables_beside_the_declared()
    staging = dbt_files(tables, others)
    return {
        **{DBT_STAGING / name: text for name, text in staging.items()},
        DOCS / "marts.md": marts_page(read_marts(staging[STAGING_DOCS]), DOCS),
        DOCS / "data_dictionary.md": data_dictionary(tables, others),
        DOCS / "who_tables.md": tables_page(_WHO, SHAPES),
        DOCS / "entity_relationships.md": entity_relationships(tables),
        DOCS / "aact_dictionary.csv": dictionary_csv(),
        DOCS / "aact_deviations.md": deviations_page(),
    }


def _tables_beside_the_declared() -> list[TableShape]:
    """The tables of schema `staging` that studies are not flattened into."""
    declared = {table.name for table in staging_tables()}
    return [*(shape for shape in staging_shapes() if shape.name not in declared), LOAD_INFO]


def stale_files(derived: dict[Path, str]) -> list[Path]:
    """Files of dbt's staging layer that nothing declares any more."""
    return sorted(path for path in DBT_STAGING.iterdir() if path not in derived)


def write_derived_files() -> None:
    """Bring all derived files up to date and remove those that nothing declares any more."""
    derived = derived_files()
    for path, text in derived.items():
        path.write_text(text, encoding="utf-8")
    for path in stale_files(derived):
        path.unlink()


if __name__ == "__main__":
    write_derived_files()
