"""`ctg-assets verify`: what it says of a sound and of a damaged lake."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan
from ctg_assets.lake import open_lake
from ctg_assets.settings import load_settings


@pytest.fixture
def plan_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only file of a lake, which the settings point to."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    plan = ExtractionPlan(
        extraction_id="20261121T093015Z-full-1a2b3c",
        mode=ExtractionMode.FULL,
        source="http://registry.test/api/v2",
        query="",
        page_size=10,
        data_timestamp="2026-11-20T09:00:05",
        planned_at=datetime(2026, 11, 21, 9, 30, 15, tzinfo=UTC),
        planned_pages=1,
    )
    open_lake(load_settings()).extractions.create(plan)
    [file] = tmp_path.rglob("plan.json")
    return file


def test_a_sound_lake(plan_file: Path) -> None:
    """Exit code 0, with what was looked at."""
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 0, done.output
    assert "1 files of the lake, 0.0 MB: 0 damaged" in done.output
    assert plan_file.exists()


def test_a_damaged_file(plan_file: Path) -> None:
    """Exit code 1; the file, what it is, what hangs on it and what to do."""
    content = plan_file.read_bytes()
    plan_file.write_bytes(content.replace(b"9:00:05", b"9:00:06"))
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 1, done.output
    assert f"damaged: {plan_file}: its content is not what its digest says" in done.output
    assert "it is       the plan of an extraction" in done.output
    assert "needed for  its pages cannot be used without it" in done.output
    assert "remedy      `ctg-assets refresh` takes it from the history" in done.output
    status = CliRunner().invoke(app, ["status"])
    assert status.exit_code == 1
    assert f"{plan_file} is damaged" in status.output


def test_a_file_of_an_earlier_release(plan_file: Path) -> None:
    """Read as it is, and said to carry no digest."""
    content = plan_file.read_bytes()
    plan_file.write_bytes(content[: content.rindex(b",")] + b"\n}")
    done = CliRunner().invoke(app, ["verify"])
    assert done.exit_code == 0, done.output
    assert "1 files carry no digest" in done.output
    assert str(plan_file) in done.output
