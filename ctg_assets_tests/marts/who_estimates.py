"""WHO's Global Health Estimates as the marts read them, for tests that put rows of their own there."""

from __future__ import annotations

from typing import LiteralString

ESTIMATES: LiteralString = """
    CREATE SCHEMA who;
    CREATE TABLE who.global_health_estimates (
        release text, country_code text, year integer, sex text, age_group text, cause_code integer, cause_title text,
        population double precision, deaths double precision, deaths_low double precision,
        deaths_high double precision, deaths_per_100k double precision, dalys double precision,
        dalys_low double precision, dalys_high double precision, dalys_per_100k double precision,
        ylls double precision, ylds double precision, source text, licence text
    );
"""
"""The schema and its table."""

ESTIMATE: LiteralString = """
    INSERT INTO who.global_health_estimates (
        release, country_code, year, sex, age_group, cause_code, cause_title, dalys, source, licence
    ) VALUES (%s, %s, %s, %s, %s, %s, 'as sent', %s, 'WHO', 'CC')
"""
"""One row: release, country, year, sex, age group, code of the cause, years of life lost."""
