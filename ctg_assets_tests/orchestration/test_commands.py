"""Dagster's own commands, as a CI job uses them on an empty instance."""

from __future__ import annotations

from pathlib import Path

from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.orchestration.workplace import workplace

STUDIES = 45

README = Path(__file__).resolve().parents[2] / "README.md"


def printed_commands() -> list[str]:
    """The `dagster asset materialize` commands, as the README prints them."""
    lines = README.read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line.startswith("dagster asset materialize ")]


def test_ci_commands_build_everything() -> None:
    """The plan, its pages, and all downstream of the snapshot, each a command, in an empty folder.

    Afterwards nothing is left for a refresh to do.
    """
    # A path longer than a socket's may be.
    long = "a folder with a rather long name/" * 4
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url, long) as place,
    ):
        early = place.ctg("status", "--page-range")
        assert early.returncode == 1
        assert "materialize extraction_plan first" in early.stderr
        commands = printed_commands()
        assert len(commands) == 3
        for command in commands:
            done = place.run("sh", "-c", command)
            assert done.returncode == 0, done.stdout + done.stderr
        assert place.query("SELECT count(*) FROM marts.dim_study") == [(STUDIES,)]
        assert sorted(place.dagster_state()["materialized"]["page_shards"]) == place.pages()
        assert "everything is up to date" in place.refresh()
        assert sorted(path.name for path in place.folder.iterdir()) == [
            "dagster.yaml",
            "data",
        ]
