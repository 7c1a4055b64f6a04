"""The stages of ours: what is built in two parts is all that there is."""

from __future__ import annotations

from benchmarks.ours import other_models, star_marts
from ctg_assets.marts.dbt_project import PROJECT_DIR
from ctg_assets.marts.selection import needed_models


def test_the_star_schema_and_the_others_are_all_models() -> None:
    """No model is left out of both builds of marts, and no mart is built by both."""
    models = {path.stem for path in PROJECT_DIR.glob("models/**/*.sql")}
    assert needed_models(star_marts()) | other_models() >= models
    assert not star_marts() & other_models()
    assert {"dim_study", "fct_study_site"} <= star_marts()
    assert {"dim_country", "study_summary"} <= other_models()
