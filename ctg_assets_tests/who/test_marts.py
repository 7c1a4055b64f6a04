"""The marts that read WHO's numbers follow its loads, and no others do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ctg_assets.marts.selection import all_marts, marts_of_who, models_to_build
from ctg_assets.marts.up_to_date import marts_made_from, note_built, outdated_marts
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.simulator.who_rows import ghe_rows, gho_rows
from ctg_assets.who.indicators import Indicator
from ctg_assets_tests.conftest import RecordedBuild, new_database
from ctg_assets_tests.who.conftest import Who, ghe, gho

OF_WHO = {"burden_by_country_cause_year", "research_gap", "research_gap_by_cause"}


@pytest.fixture
def built(server: PostgresAddress, recorded_build: RecordedBuild) -> Iterator[PostgresAddress]:
    """A database with all marts of recorded studies."""
    with new_database(server, recorded_build.database) as address:
        note_built(address)
        yield address


def test_marts_follow_what_is_loaded_of_who(who: Who, built: PostgresAddress) -> None:
    """New estimates make the marts that read them outdated until they are built; indicators, and the same again, do not."""

    def load(*asked: Indicator) -> set[str]:
        for indicator in asked:
            who.source.extract(indicator)
            who.source.transform(indicator)
        who.source.load(asked, address=built)
        return outdated_marts(built, all_marts())

    assert outdated_marts(built, all_marts()) == set()
    who.simulator.entities["LIFE"] = gho_rows("LIFE", years=range(2020, 2022))
    assert load(gho("LIFE")) == set()
    made_from = marts_made_from(built)
    for seed in (1, 2):
        who.simulator.entities["DEX_CMS/GHE_FULL"] = ghe_rows(years=range(2021, 2022), seed=seed)
        assert load(ghe()) == OF_WHO
        note_built(built)
        assert outdated_marts(built, all_marts()) == set()
        before, made_from = made_from, marts_made_from(built)
        assert {name for name in made_from if made_from[name] != before[name]} == OF_WHO
        assert load(ghe()) == set()


def test_what_is_built_for_them() -> None:
    """Of the models that such a mart is made from, marts that are as they should be are not built again."""
    assert marts_of_who() == OF_WHO
    assert marts_of_who(directly=True) == {"burden_by_country_cause_year"}
    to_build = models_to_build(OF_WHO)
    assert {"int_ghe_estimates", *OF_WHO} <= to_build
    assert to_build & all_marts() == OF_WHO
