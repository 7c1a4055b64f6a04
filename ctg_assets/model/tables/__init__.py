"""The staging tables: what rows and columns a study becomes.

Belongs here: the list of all tables, checked against the registry's field tree. Does not belong
here: how rows are computed (`flatten.py`), how a table is spelled in SQL (`postgres/ddl.py`).

Names and meanings follow AACT, the relational form in which researchers know the registry, and go
beyond it where AACT drops data: the order of lists (`position`), MeSH descriptor ids, the precision
of dates, items without children, what groups are counted and how numbers are qualified. What is left
out, AACT's columns and the registry's fields alike, is listed with reasons in `omissions.py`.
"""

from __future__ import annotations

from functools import cache

from ctg_assets.model.tables.calculated import calculated_tables
from ctg_assets.model.tables.consistency import check
from ctg_assets.model.tables.contacts import contact_tables
from ctg_assets.model.tables.declaration import DeclarationError, Table
from ctg_assets.model.tables.derived import derived_tables
from ctg_assets.model.tables.documents import document_tables
from ctg_assets.model.tables.protocol import protocol_tables
from ctg_assets.model.tables.references import reference_tables
from ctg_assets.model.tables.results import results_tables
from ctg_assets.model.tables.studies import studies

__all__ = ["DeclarationError", "Table", "declared_tables", "staging_tables"]


@cache
def staging_tables() -> tuple[Table, ...]:
    """All staging tables; a table comes after every table that it refers to.

    Raises DeclarationError if a declaration contradicts the registry's field tree.
    """
    tables = declared_tables()
    check(tables)
    return tables


def declared_tables() -> tuple[Table, ...]:
    """The same as their modules declare them, not yet checked."""
    return (
        studies(),
        *protocol_tables(),
        *contact_tables(),
        *reference_tables(),
        *results_tables(),
        *document_tables(),
        *derived_tables(),
        *calculated_tables(),
    )
