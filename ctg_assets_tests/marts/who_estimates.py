"""WHO's Global Health Estimates as a load makes them, for tests that put rows of their own there."""

from __future__ import annotations

from typing import LiteralString

from psycopg import sql

from ctg_assets.postgres.ddl import create_primary_key, create_table
from ctg_assets.who.tables import SHAPES

ESTIMATES: sql.Composed = sql.SQL("; ").join(
    [
        sql.SQL("CREATE SCHEMA who"),
        *(create_table(shape, "who") for shape in SHAPES),
        *(create_primary_key(shape, "who") for shape in SHAPES),
    ]
)
"""The schema and its tables."""

ESTIMATE: LiteralString = """
    INSERT INTO who.global_health_estimates (
        indicator, release, country_code, year, sex, age_group, cause_code, cause_title, dalys, source, licence
    ) VALUES ('GHE', %s, %s, %s, %s, %s, %s, 'as sent', %s, 'WHO', 'CC')
"""
"""One row: release, country, year, sex, age group, code of the cause, years of life lost."""
