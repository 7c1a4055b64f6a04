"""Something odd in every field of the model, by both ways in, first seen and changed, to the last mart."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.marts.changing import relations
from ctg_assets_tests.marts.projects import TABLES, WITHOUT_VIEWS, dbt_on, values
from ctg_assets_tests.soak import IS_LONG, only_in_soaks, times
from ctg_assets_tests.support.odd_fields import odd_fields
from ctg_assets_tests.support.oddities import Odd
from ctg_assets_tests.support.ways_in import WAYS, WaysIn, require_in_their_place, ways_in

# Of some fifty. `make fuzz` says how many.
_PER_FIELD = int(os.environ.get("FUZZ_VALUES", times(1, 4)))


def _require_in_marts(address: PostgresAddress, studies: list[Odd]) -> None:
    """That the marts have the sound studies, each with the rows that the tables have of it."""
    sound = {each.nct_id for each in studies if each.field is None}
    assert {nct_id for (nct_id,) in values(address, "SELECT nct_id FROM marts.dim_study")} == sound
    for fact, table in {
        "fct_study_condition": "conditions",
        "fct_study_intervention": "interventions",
        "fct_study_sponsor": "sponsors",
        "fct_study_site": "facilities",
    }.items():
        counted = "SELECT nct_id, count(*) FROM {} GROUP BY nct_id ORDER BY nct_id"
        rows = values(address, counted.format(f"marts.{fact}"))
        assert rows == values(address, counted.format(f"staging.{table}")), fact


@pytest.mark.soak
@only_in_soaks
@pytest.mark.parametrize("first", WAYS if IS_LONG else WAYS[:1])
def test_every_odd_value_of_every_field_reaches_the_marts_or_quarantine(
    server: PostgresAddress, tmp_path: Path, first: str
) -> None:
    """Of studies with every field, one of them odd, the sound are in the marts, the others named; twice over.

    All leaves, objects and lists of the model; the first content by one way, the second, odd otherwise, by
    the other. The marts that followed the change are those that a whole build makes.

    The short form: one odd value a field, some 640 studies, twice; marts are made once, of the second contents.
    """
    then = WAYS[1 - WAYS.index(first)]
    before, after = (odd_fields(Random(f"{first} {seed}"), _PER_FIELD) for seed in (1, 2))
    with new_database(server) as address, ways_in(tmp_path) as ways:
        for way, studies in ((first, before), (then, after)):
            _bring(ways, way, studies, address)
            if IS_LONG and studies is before:
                dbt_on(address, tmp_path, *TABLES)
                _require_in_marts(address, studies)
        dbt_on(address, tmp_path, *TABLES, *(WITHOUT_VIEWS if IS_LONG else ()))
        _require_in_marts(address, after)
        if IS_LONG:
            followed = relations(address)
            dbt_on(address, tmp_path, "run", *WITHOUT_VIEWS, "--full-refresh")
            assert relations(address) == followed


def _bring(ways: WaysIn, way: str, studies: list[Odd], address: PostgresAddress) -> None:
    manifest = ways.bring(way, studies)
    load_staging(address, ways.lake, manifest)
    require_in_their_place(ways, manifest, address, studies)
