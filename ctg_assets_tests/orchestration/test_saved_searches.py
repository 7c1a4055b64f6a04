"""Saved searches on their way: asked with the plan of a walk, then rows of AACT's tables; and MeSH beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import pytest

from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.lake import open_lake
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.orchestration.ctgov import build_ctgov_assets
from ctg_assets.orchestration.extraction import extraction_plan, page_shards
from ctg_assets.orchestration.pages import range_tags
from ctg_assets.orchestration.resources import SettingsResource
from ctg_assets.orchestration.snapshot import history, studies
from ctg_assets.orchestration.staging import build_staging_assets
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.planner import Stage, Step, next_build_step
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.aact.mesh_files import mesh_xml
from ctg_assets_tests.support.postgres import query, temporary_folder

SEARCHES = """
[[search]]
name = "all"
query = "ALL"
[[search]]
name = "broken"
query = "AREA[NoSuchField]x"
"""
_CHECK = "saved_searches_are_answered"


class Follower:
    """Materializes assets in a data folder of its own."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance

    def materialize(
        self, asset: dg.AssetsDefinition, tags: Mapping[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        """Materialize an asset, or all of a definition."""
        overrides = self.settings.model_dump(mode="json", exclude_none=True)
        return dg.materialize(
            [asset],
            instance=self.instance,
            resources={"settings": SettingsResource(overrides=overrides)},
            tags=dict(tags or {}),
        )

    def next_stage(self) -> Stage | None:
        """What is to be done next with what is extracted."""
        step = next_build_step(self.settings, open_lake(self.settings))
        return step.stage if isinstance(step, Step) else None


@pytest.fixture
def follower(simulator: RunningSimulator) -> Iterator[Follower]:
    """An empty data folder, with AACT's tables and a file of searches."""
    with temporary_folder() as folder, dg.DagsterInstance.ephemeral() as instance:
        file = folder / "searches.toml"
        file.write_text(SEARCHES, encoding="utf-8")
        settings = load_settings(
            api_url=simulator.api_url,
            data_dir=folder,
            requests_per_minute=10_000,
            retry_seconds=0,
            aact=True,
            searches_file=file,
        )
        yield Follower(settings, instance)


def search_check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    """How the check of the searches ended."""
    evaluations = {found.check_name: found for found in result.get_asset_check_evaluations()}
    return evaluations[_CHECK]


@pytest.mark.postgres
def test_searches_become_rows_and_what_changes_of_them_alone_is_followed(
    follower: Follower,
) -> None:
    """A search that fails is a warning; a group changed in the file, or a file of MeSH, makes tables due."""
    evaluation = search_check(follower.materialize(extraction_plan))
    assert not evaluation.passed
    assert evaluation.severity is dg.AssetCheckSeverity.WARN
    assert "'broken'" in (evaluation.description or "")
    plan = open_lake(follower.settings).extractions.latest(ExtractionState.OPEN)
    assert plan is not None
    follower.materialize(page_shards, range_tags(plan, 1, plan.planned_pages or 1))
    for asset in (history, studies, build_staging_assets()):
        assert follower.materialize(asset).success
    assert follower.next_stage() is Stage.MARTS

    with open_postgres(follower.settings) as address:
        note_built(address)

        def build() -> list[tuple[str, int]]:
            assert follower.next_stage() is Stage.CTGOV
            assert follower.materialize(build_ctgov_assets()).success
            assert follower.next_stage() is None
            return query(
                address, 'SELECT "grouping", count(*) FROM ctgov.search_results GROUP BY 1'
            )

        assert build() == [("", 25)]
        assert query(address, "SELECT term FROM ctgov.search_terms") == [("all",)]
        assert follower.settings.searches_file is not None
        changed = SEARCHES.replace('"ALL"', '"ALL"\ngrouping = "some"')
        follower.settings.searches_file.write_text(changed, encoding="utf-8")
        assert build() == [("some", 25)]
        mesh_file = Path(follower.settings.data_dir) / "desc.xml"
        mesh_file.write_text(mesh_xml(), encoding="utf-8")
        follower.settings = follower.settings.model_copy(update={"mesh_file": mesh_file})
        assert build() == [("some", 25)]
        assert query(address, "SELECT count(*) FROM ctgov.mesh_terms") == [(7,)]


def test_without_aacts_tables_nothing_is_searched(
    follower: Follower,
) -> None:
    """Who switches them off asks nothing for them and needs no sound file, and a run that holds them ends well."""
    follower.settings = follower.settings.model_copy(
        update={"aact": False, "searches_file": Path("/nowhere")}
    )
    evaluation = search_check(follower.materialize(extraction_plan))
    assert (evaluation.passed, evaluation.description) == (True, "no saved searches")
    made = follower.materialize(build_ctgov_assets())
    assert made.success
    assert made.get_asset_materialization_events() == []
    assert all(found.passed for found in made.get_asset_check_evaluations())


def test_tables_of_searches_follow_the_plan() -> None:
    """In the UI they lie downstream of what asks the registry, and no other table of AACT's does."""
    followers = {
        spec.key.path[-1]
        for spec in build_ctgov_assets().specs
        if dg.AssetKey("extraction_plan") in {dep.asset_key for dep in spec.deps}
    }
    assert followers == {
        *("study_searches", "search_results", "search_terms", "search_term_results")
    }
