"""`CTG_WAREHOUSE=none`: a lake that is refreshed and released with no database at all."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import psutil
import pytest

from ctg_assets.cli.status import warehouse_facts
from ctg_assets.definitions import build_definitions
from ctg_assets.postgres.errors import NoWarehouseError
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.planner import Idle, next_known_step
from ctg_assets.refresh.status import warehouse_status
from ctg_assets.release.manifest import newest_release
from ctg_assets.release.verification import verify_release
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets.storage.files import Storage
from ctg_assets_tests.orchestration.workplace import workplace


def _servers(folder: Path) -> list[str]:
    """The command lines of processes that name the data folder and Postgres."""
    lines = [
        " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    ]
    return [line for line in lines if str(folder) in line and "postgres" in line]


@pytest.mark.process
def test_a_lake_alone_is_refreshed_and_released(simulator: RunningSimulator) -> None:
    """Refresh and release by command; no server is started, no folder made for one (4 s)."""
    with workplace(simulator.api_url, warehouse="none") as place:
        printed = place.refresh()
        assert "there is no database" in printed
        assert ("database", "none wanted (CTG_WAREHOUSE)") in warehouse_facts(
            warehouse_status(place.settings)
        )
        step = next_known_step(place.settings, place.lake)
        assert isinstance(step, Idle)
        assert not step.blocked
        releases = place.folder / "releases"
        done = place.ctg("release", str(releases))
        assert done.returncode == 0, done.stderr
        manifest = newest_release(Storage.local(releases))
        assert manifest is not None
        assert {table.schema for table in manifest.tables} == {"staging"}
        assert manifest.census.registry_counted == manifest.census.here == 25
        assert verify_release(Storage.local(releases)).findings == []
        with (
            pytest.raises(NoWarehouseError, match="CTG_WAREHOUSE=none"),
            open_postgres(place.settings),
        ):
            pass
        assert not (place.settings.data_dir / "postgres").exists()
        assert _servers(place.settings.data_dir) == []


def test_dagster_shows_what_is_there(tmp_path: Path) -> None:
    """There are assets of the lake, and none of a database; the jobs that are left can be resolved."""
    definitions = build_definitions(data_dir=str(tmp_path), warehouse="none")
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert {"extraction_plan", "page_shards", "studies"} <= keys
    assert not any(key.startswith(("staging/", "marts/", "ctgov/", "report")) for key in keys)
    for job in definitions.jobs or []:
        assert isinstance(definitions.resolve_job_def(job.name), dg.JobDefinition)
