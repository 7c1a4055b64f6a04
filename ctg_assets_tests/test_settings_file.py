"""The settings file, and what `ctg-assets config` shows of settings."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.cli.config import literal
from ctg_assets.settings import (
    ENV_PREFIX,
    Settings,
    SettingsError,
    load_settings,
    setting_sources,
    variable,
)
from ctg_assets_tests.test_settings import GIVEN

CANARY = "kanarienvogel-7"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in an empty folder, with none of our variables set."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, *lines: str) -> Path:
    """A settings file with these lines in a folder."""
    file = folder / "ctg.toml"
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def shown(*arguments: str) -> str:
    """What `ctg-assets config` prints."""
    done = CliRunner().invoke(app, ["config", *arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_can_be_a_line_of_the_file(name: str, folder: Path) -> None:
    """Under its variable's name, as text at least, and only that setting changes with it."""
    before = load_settings().model_dump()
    text, value = GIVEN[name]
    file = write(folder, f"{variable(name)} = {json.dumps(text)}")
    assert load_settings().model_dump() == {**before, name: value}
    sources = setting_sources()
    assert sources.pop(name) == str(file)
    assert set(sources.values()) == {"default"}


def test_numbers_and_booleans_are_written_as_such(folder: Path) -> None:
    """TOML's own types are taken, and an empty string is a setting that is not set."""
    write(
        folder,
        "CTG_PAGE_SIZE = 17",
        "CTG_AACT = false",
        "CTG_RETRY_SECONDS = 2.5",
        'CTG_DATABASE = ""',
    )
    settings = load_settings()
    assert (settings.page_size, settings.aact, settings.retry_seconds) == (17, False, 2.5)
    assert settings.database is None


def test_the_environment_wins_and_arguments_win_over_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable is stronger than the file, whatever its case; an empty one is not set."""
    write(folder, "CTG_PAGE_SIZE = 17", "CTG_PAGES_PER_RUN = 3")
    monkeypatch.setenv("ctg_page_size", "18")
    monkeypatch.setenv("CTG_PAGES_PER_RUN", "")
    settings = load_settings()
    assert (settings.page_size, settings.pages_per_run) == (18, 3)
    assert setting_sources()["page_size"] == "environment"
    assert load_settings(page_size=5, pages_per_run=6).model_dump() == {
        **settings.model_dump(),
        "page_size": 5,
        "pages_per_run": 6,
    }


def test_a_file_elsewhere_is_named_and_its_paths_are_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CTG_CONFIG_FILE names the file; what is relative in it is so to its folder."""
    elsewhere = folder / "etc"
    elsewhere.mkdir()
    write(folder, "CTG_PAGE_SIZE = 16")
    file = write(elsewhere, 'CTG_DATA_DIR = "lake"', 'CTG_FEED_FILE = "/srv/feed.toml"')
    monkeypatch.setenv("CTG_CONFIG_FILE", str(file))
    settings = load_settings()
    assert settings.data_dir == elsewhere / "lake"
    assert settings.feed_file == Path("/srv/feed.toml")
    assert settings.page_size == 1000


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["CTG_PAGE_SIZ = 1"], r"CTG_PAGE_SIZ: no such setting \(in .*ctg.toml\); did you mean CTG_PAGE_SIZE\?"),
        (["page_size = 1"], r"page_size: no such setting .*did you mean CTG_PAGE_SIZE\?"),
        (["colour = 1"], r"colour: no such setting .*`ctg-assets config` lists all"),
        (["[CTG]", "PAGE_SIZE = 1"], "CTG: no such setting"),
        (["CTG_PAGE_SIZE = 1001"], r"CTG_PAGE_SIZE=1001 \(in .*ctg.toml\): Input should be less than"),
        (["CTG_PAGE_SIZE = [1]"], "valid integer"),
        (["CTG_DATA_DIR = 7"], "CTG_DATA_DIR=7 .*valid path|CTG_DATA_DIR=7 .*not a valid"),
        (["CTG_DATA_DIR = '~no-such-user-here/x'"], "write the path out"),
        (["CTG_PAGE_SIZE 17"], r"no TOML: .*line 1.*CTG_PAGE_SIZE = 500"),
        (["CTG_PAGE_SIZE = 1", "CTG_PAGE_SIZE = 2"], "no TOML"),
        (["CTG_STAGING_SCHEMA = 'marts'"], "CTG_MARTS_SCHEMA"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_named_with_its_file(
    lines: list[str], said: str, folder: Path
) -> None:
    """A slip in the file is refused, as a slip in the environment is, and told where it stands."""
    write(folder, *lines)
    with pytest.raises(SettingsError, match=said):
        load_settings()


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever names a file wants it read."""
    monkeypatch.setenv("CTG_CONFIG_FILE", "nowhere.toml")
    with pytest.raises(SettingsError, match=r"cannot read .*nowhere\.toml.*CTG_CONFIG_FILE"):
        load_settings()


def test_a_secret_is_shown_by_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither form of `config`, nor a complaint, has a password in it."""
    write(folder, f'CTG_POSTGRES_URL = "postgresql://me:{CANARY}@db/ctg"', "CTG_PAGE_SIZE = 'many'")
    monkeypatch.setenv("CTG_TCP_PASSWORD", f"{CANARY}\x07")
    with pytest.raises(SettingsError) as refused:
        load_settings()
    assert CANARY not in str(refused.value)
    monkeypatch.setenv("CTG_TCP_PASSWORD", CANARY)
    monkeypatch.setenv("CTG_PAGE_SIZE", "1")
    for arguments in ((), ("--json",), ("--toml",)):
        printed = shown(*arguments)
        assert "CTG_TCP_PASSWORD" in printed
        assert CANARY not in printed


def test_config_says_value_source_and_meaning(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting is there once, with what it is and where from."""
    file = write(folder, "CTG_PAGE_SIZE = 17")
    monkeypatch.setenv("CTG_QUERY", "diabetes")
    entries: dict[str, Any] = {entry.pop("name"): entry for entry in json.loads(shown("--json"))}
    assert list(entries) == [variable(name) for name in Settings.model_fields]
    assert entries["CTG_PAGE_SIZE"] == {
        "value": 17,
        "source": str(file),
        "meaning": Settings.model_fields["page_size"].description,
    }
    assert entries["CTG_QUERY"]["source"] == "environment"
    assert entries["CTG_DATABASE"]["value"] is None
    assert entries["CTG_DATABASE"]["source"] == "default"


def test_the_template_says_what_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `--toml` prints is a settings file with which the same holds, wherever it lies."""
    text = shown("--toml")
    assert tomllib.loads(text) == {}
    assert 'CTG_DATA_DIR = "data"' in text
    monkeypatch.setenv("CTG_PAGE_SIZE", "17")
    monkeypatch.setenv("CTG_AACT", "false")
    monkeypatch.setenv("CTG_FEED_FILE", "feed.toml")
    expected, text = load_settings(), shown("--toml")
    for name in ("CTG_PAGE_SIZE", "CTG_AACT", "CTG_FEED_FILE"):
        monkeypatch.delenv(name)
    elsewhere = folder / "etc"
    elsewhere.mkdir()
    monkeypatch.setenv("CTG_CONFIG_FILE", str(write(elsewhere, text)))
    assert load_settings() == expected


@pytest.mark.slow
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_any_text_survives_the_template(text: str) -> None:
    """Quotes, backslashes, control characters and every alphabet are written so that TOML reads them back."""
    assert tomllib.loads(f"x = {literal(text)}") == {"x": text}
