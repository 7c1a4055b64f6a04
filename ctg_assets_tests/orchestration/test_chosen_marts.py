"""Refreshes that build some of the marts, and what becomes of the others. A minute of one core."""

from __future__ import annotations

import pytest

from ctg_assets.postgres.connection import connect
from ctg_assets.postgres.server import open_postgres
from ctg_assets.simulator.serving import running_simulator
from ctg_assets_tests.orchestration.workplace import Workplace, workplace
from ctg_assets_tests.simulator.in_memory import numbered_studies
from ctg_assets_tests.soak import only_at_night

pytestmark = [pytest.mark.process, pytest.mark.postgres, pytest.mark.soak, only_at_night]

_MADE = """
SELECT tablename FROM pg_tables WHERE schemaname IN ('marts', 'intermediate')
UNION ALL SELECT viewname FROM pg_views WHERE schemaname = 'staging_views'
"""
_BUILT = "SELECT noted_at::text FROM ctg_meta.watermarks WHERE node = 'model.ctg.dim_condition'"
_CONDITIONS = {"dim_condition", "fct_study_condition", "int_condition_headings"}
_VIEWS = {"stg_conditions", "stg_browse_conditions"}


def _made(place: Workplace) -> set[str]:
    return {name for (name,) in place.query(_MADE)}


def _run(place: Workplace, statement: str) -> None:
    with open_postgres(place.settings) as address, connect(address) as connection:
        connection.execute(statement.encode())


def test_marts_are_built_as_chosen() -> None:
    """None, one with what it is made from, one more without the first again, then none: what is unwanted goes.

    A mart stays on which somebody has built; `status` and its comment tell that it is not kept up to date.
    """
    with running_simulator(numbered_studies(5)) as simulator, workplace(simulator.api_url) as place:
        assert "marts" not in place.refresh()
        assert _made(place) == set()
        assert "none wanted" in place.ctg("status").stdout
        assert "nothing to do" in place.refresh()

        assert "dim_condition" in place.refresh(marts="dim_condition")
        assert _made(place) == _CONDITIONS | _VIEWS
        assert "nothing to do" in place.refresh(marts="dim_condition")

        built = place.query(_BUILT)
        assert len(built) == 1
        place.refresh(marts="dim_condition,fct_study_sponsor")
        assert _made(place) == _CONDITIONS | _VIEWS | {"fct_study_sponsor", "stg_sponsors"}
        assert place.query(_BUILT) == built
        assert "nothing to do" in place.refresh(marts="dim_condition,fct_study_sponsor")

        _run(place, "CREATE VIEW public.theirs AS SELECT * FROM marts.fct_study_condition")
        place.refresh()
        assert _made(place) == {"fct_study_condition", "stg_sponsors", *_VIEWS}
        told = place.ctg("status").stdout
        assert "not kept up to date" in told
        assert "fct_study_condition" in told
        comment = "SELECT obj_description('marts.fct_study_condition'::regclass)"
        assert "CTG_MARTS" in place.query(comment)[0][0]
        assert "nothing to do" in place.refresh()
