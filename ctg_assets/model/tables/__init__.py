"""The staging tables: what rows and columns a study becomes.

Belongs here: the list of all tables, checked against the registry's field tree. Does not belong
here: how rows are computed (`flatten.py`), how a table is spelled in SQL (`warehouse/ddl.py`).

Names and meanings follow AACT, the relational form in which researchers know the registry, and go
beyond it where AACT drops data: the order of lists (`position`), MeSH descriptor ids, the precision
of dates, fields of the study that AACT has no column for. Left out are AACT's columns that are
always NULL (`studies.nlm_download_date_description`, `design_outcomes.population`) and its load
times (`created_at`, `updated_at`): rows here depend on the study alone. A study's content hash says
whether it changed. `derivedSection.miscInfoModule.versionHolder` is no column for the same reason:
it moves with each data version of the registry, for every study.
"""

from __future__ import annotations

from functools import cache

from ctg_assets.model.tables.consistency import check
from ctg_assets.model.tables.declaration import DeclarationError, Table
from ctg_assets.model.tables.derived import derived_tables
from ctg_assets.model.tables.protocol import protocol_tables
from ctg_assets.model.tables.results import results_tables

__all__ = ["DeclarationError", "Table", "staging_tables"]


@cache
def staging_tables() -> tuple[Table, ...]:
    """All staging tables; a table comes after every table that it refers to.

    Raises DeclarationError if a declaration contradicts the registry's field tree.
    """
    tables = (*protocol_tables(), *results_tables(), *derived_tables())
    check(tables)
    return tables
