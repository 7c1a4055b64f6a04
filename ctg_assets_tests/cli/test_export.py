"""`ctg-assets export`: where files go, and what is said of them."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ctg_assets.aact.dictionary import dictionary_csv
from ctg_assets.cli.app import app
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.aact.few_rows import make_tables


def export(*arguments: str) -> Result:
    """Run `export aact`."""
    return CliRunner().invoke(app, ["export", "aact", *arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder that commands use."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def database(
    address: PostgresAddress, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> PostgresAddress:
    """A database with AACT's tables, and one study, that commands use."""
    make_tables(address)
    monkeypatch.setenv("CTG_POSTGRES_URL", address.url)
    return address


def test_the_flat_files_go_to_the_data_folder(database: PostgresAddress, folder: Path) -> None:
    """Without options the pipe-delimited files are written; path, digest and rows are said."""
    done = export()
    assert done.exit_code == 0, done.output
    path = folder / "exports" / "20260301_export_ctgov.zip"
    lines = done.stdout.splitlines()
    assert lines[0] == f"file          {path}"
    assert lines[3] == "data version  2026-03-01 09:00:05 UTC"
    assert lines[4] == "rows          1 in 53 tables"
    with zipfile.ZipFile(path) as archive:
        assert archive.read("studies.txt").splitlines()[1].startswith(b"NCT00000001|")


def test_where_to_and_from_can_be_said(database: PostgresAddress, tmp_path: Path) -> None:
    """A file, a format and another schema of AACT's tables."""
    make_tables(database, "ctgov_20260301")
    output = tmp_path / "elsewhere" / "mine.zip"
    done = export("--format", "csv", "--schema", "ctgov_20260301", "--output", str(output))
    assert done.exit_code == 0, done.output
    with zipfile.ZipFile(output) as archive:
        assert "studies.csv" in archive.namelist()


def test_the_dictionary_needs_no_database(folder: Path) -> None:
    """It is written alone, and its path is said."""
    done = export("--format", "dictionary")
    path = folder / "exports" / "data_dictionary.csv"
    assert done.stdout == f"{path}\n"
    assert path.read_text(encoding="utf-8") == dictionary_csv()


def test_what_does_not_go_together(database: PostgresAddress) -> None:
    """A dump with AACT's losses is refused as wrong usage, a schema without its tables as a failure."""
    assert export("--format", "dump", "--aact-exact").exit_code == 2
    assert export("--format", "dictionary", "--aact-exact").exit_code == 2
    missing = export("--schema", "nowhere")
    assert missing.exit_code == 1
    assert "schema nowhere does not have AACT's tables" in missing.output
