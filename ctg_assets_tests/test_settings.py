"""The settings: where they come from, and what is said about values that cannot be used."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from ctg_assets.setting_values import (
    LogFormat,
    LogLevel,
    MailSecurity,
    RefreshMode,
    StepsBy,
    Warehouse,
)
from ctg_assets.settings import ENV_PREFIX, Settings, SettingsError, load_settings

GIVEN: dict[str, tuple[str, Any]] = {
    "api_url": ("http://127.0.0.1:8765/api/v2/", "http://127.0.0.1:8765/api/v2"),
    "data_dir": ("/somewhere/ctg data", Path("/somewhere/ctg data")),
    "data_url": ("s3://bucket/lake/", "s3://bucket/lake"),
    "warehouse": ("none", Warehouse.NONE),
    "postgres_url": ("postgresql://me@db/ctg", "postgresql://me@db/ctg"),
    "database": ("aact", "aact"),
    "reader_role": ("analysts", "analysts"),
    "tcp_password": ("long enough", "long enough"),
    "staging_schema": ("ct_tables", "ct_tables"),
    "staging_views_schema": ("ct_views", "ct_views"),
    "intermediate_schema": ("ct_between", "ct_between"),
    "marts_schema": ("ct_marts", "ct_marts"),
    "marts": ("results_reporting, dim_study", "dim_study,results_reporting"),
    "aact": ("false", False),
    "ctgov_schema": ("ct_aact", "ct_aact"),
    "ctgov_2023_schema": ("ct_aact_old", "ct_aact_old"),
    "who_schema": ("ct_who", "ct_who"),
    "who_gho_url": ("https://gho.example/api", "https://gho.example/api"),
    "who_xmart_url": ("https://xmart.example", "https://xmart.example"),
    "who_indicators_file": ("/somewhere/who.toml", Path("/somewhere/who.toml")),
    "who_requests_per_minute": ("9", 9),
    "meta_schema": ("ct_meta", "ct_meta"),
    "requests_per_minute": ("49", 49),
    "token_chains": ("04", "4"),
    "page_size": ("17", 17),
    "query": ("AREA[Phase]PHASE3", "AREA[Phase]PHASE3"),
    "refresh_mode": ("census", RefreshMode.CENSUS),
    "full_every_days": ("14", 14),
    "census_every_days": ("2", 2),
    "incremental_overlap_days": ("0", 0),
    "user_agent": ("my-mirror/1 (me@example.org)", "my-mirror/1 (me@example.org)"),
    "request_timeout_seconds": ("7.5", 7.5),
    "retry_seconds": ("0", 0.0),
    "pages_per_run": ("3", 3),
    "poll_seconds": ("1", 1.0),
    "max_shrink_fraction": ("0.5", 0.5),
    "max_quarantine_fraction": ("1", 1.0),
    "keep_extractions": ("9", 9),
    "keep_releases": ("5", 5),
    "release_place": ("s3://bucket/releases/", "s3://bucket/releases"),
    "release_iceberg": ("true", True),
    "release_key": ("/somewhere/release.pem", Path("/somewhere/release.pem")),
    "feed_file": ("/somewhere/sinks.toml", Path("/somewhere/sinks.toml")),
    "searches_file": ("/somewhere/searches.toml", Path("/somewhere/searches.toml")),
    "mesh_file": ("/somewhere/desc.xml.gz", Path("/somewhere/desc.xml.gz")),
    "executor": ("celery", StepsBy.CELERY),
    "broker_url": ("amqp://me:secret@mq:5672/ctg", "amqp://me:secret@mq:5672/ctg"),
    "log_format": ("json", LogFormat.JSON),
    "log_level": ("debug", LogLevel.DEBUG),
    "log_dir": ("/somewhere/logs", Path("/somewhere/logs")),
    "log_keep_days": ("7", 7),
    "smtp_host": ("mail.example.org", "mail.example.org"),
    "smtp_port": ("465", 465),
    "smtp_security": ("tls", MailSecurity.TLS),
    "smtp_user": ("robot", "robot"),
    "smtp_password": ("x1", "x1"),
    "smtp_from": ("robot@example.org", "robot@example.org"),
    "smtp_to": ("ops@example.org, ann@example.org", "ops@example.org,ann@example.org"),
    "notify_warnings": ("true", True),
    "ui_url": ("https://dagster.example.org/", "https://dagster.example.org"),
}


@pytest.fixture(autouse=True)
def _no_settings_in_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins with none of our variables set."""
    for variable in os.environ:
        if variable.upper().startswith(ENV_PREFIX):
            monkeypatch.delenv(variable)


def test_defaults() -> None:
    """Without any variable the whole public registry is meant, at the tolerated rate."""
    settings = load_settings()
    assert settings.api_url == "https://clinicaltrials.gov/api/v2"
    assert (settings.requests_per_minute, settings.page_size, settings.query) == (50, 1000, "")
    assert settings.postgres_url is None
    assert settings.user_agent.startswith("ctg-assets/")


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_every_setting_is_read_from_its_variable(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting has a variable CTG_<NAME>, and only that setting changes with it."""
    before = load_settings().model_dump()
    text, value = GIVEN[name]
    monkeypatch.setenv(ENV_PREFIX + name.upper(), text)
    assert load_settings().model_dump() == {**before, name: value}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("cor", "no mart or folder is called cor. There are burden ("),
        ("core,all", "no mart or folder is called all; all and none stand alone. There are burden"),
        (",", "no mart is named. There are burden"),
    ],
)
def test_marts_are_named_as_they_are_called(
    asked: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a mart that is none, or all beside others, is told which marts and folders there are."""
    monkeypatch.setenv("CTG_MARTS", asked)
    with pytest.raises(SettingsError, match=re.escape(said)):
        load_settings()


def test_every_setting_says_what_it_is() -> None:
    """Each setting has a description, from which messages and documentation are made."""
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a caller states is not overruled by a variable."""
    monkeypatch.setenv("CTG_PAGE_SIZE", "17")
    assert load_settings(page_size=5).page_size == 5


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_an_empty_variable_counts_as_unset(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`CTG_X=` means the default, as composed environments pass what is not set as empty."""
    before = load_settings()
    monkeypatch.setenv(ENV_PREFIX + name.upper(), "")
    assert load_settings() == before


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("CTG_API_URL", "clinicaltrials.gov/api/v2", "valid URL"),
        ("CTG_API_URL", "ftp://clinicaltrials.gov/api/v2", "URL scheme"),
        ("CTG_API_URL", "https://clinicaltrials.gov/api/v2?format=json", "no query"),
        ("CTG_API_URL", "https://clinicaltrials.gov/api/v2#studies", "no fragment"),
        ("CTG_API_URL", "http://127.0.0.1:notaport/api/v2", "port"),
        ("CTG_DATA_DIR", "~no-such-user-here/data", "write the path out"),
        ("CTG_REQUESTS_PER_MINUTE", "many", "valid integer"),
        ("CTG_REQUESTS_PER_MINUTE", "0", "greater than or equal to 1"),
        ("CTG_PAGE_SIZE", "1001", "less than or equal to 1000"),
        ("CTG_PAGE_SIZE", "1.5", "valid integer"),
        ("CTG_REFRESH_MODE", "always", "'auto', 'full', 'incremental' or 'census'"),
        ("CTG_FULL_EVERY_DAYS", "0", "greater than or equal to 1"),
        ("CTG_CENSUS_EVERY_DAYS", "0", "greater than or equal to 1"),
        ("CTG_INCREMENTAL_OVERLAP_DAYS", "-1", "greater than or equal to 0"),
        ("CTG_USER_AGENT", "M\u00fcller", "printable ASCII"),
        ("CTG_USER_AGENT", "one\r\nX-Other: two", "printable ASCII"),
        ("CTG_USER_AGENT", "  ", "printable ASCII"),
        ("CTG_REQUEST_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("CTG_REQUEST_TIMEOUT_SECONDS", "inf", "finite"),
        ("CTG_RETRY_SECONDS", "nan", "finite"),
        ("CTG_RETRY_SECONDS", "-1", "greater than or equal to 0"),
        ("CTG_PAGES_PER_RUN", "0", "greater than or equal to 1"),
        ("CTG_POLL_SECONDS", "soon", "valid number"),
        ("CTG_MAX_SHRINK_FRACTION", "2", "less than or equal to 1"),
        ("CTG_MAX_QUARANTINE_FRACTION", "5%", "valid number"),
        ("CTG_KEEP_EXTRACTIONS", "0", "greater than or equal to 1"),
        ("CTG_LOG_FORMAT", "xml", "'text' or 'json'"),
        ("CTG_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("CTG_SMTP_SECURITY", "ssl", "'starttls', 'tls' or 'none'"),
        ("CTG_SMTP_PORT", "65536", "less than or equal to 65535"),
        ("CTG_SMTP_FROM", "robot", "no mail address"),
        ("CTG_SMTP_TO", "ops@example.org;ann@example.org", "no mail address"),
        ("CTG_SMTP_TO", "Ann <ann@example.org>", "no mail address"),
    ],
)
def test_nonsense_names_the_variable_and_the_remedy(
    variable: str, value: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which variable, what it holds, what is wrong and what is expected there."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as failure:
        load_settings()
    message = str(failure.value)
    assert f"{variable}={value!r}" in message
    assert complaint in message
    field = Settings.model_fields[variable.removeprefix(ENV_PREFIX).lower()]
    assert f"Expected: {field.description}" in message


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("https://bucket.s3.amazonaws.com/lake", "is at s3://bucket/prefix, gs://"),
        ("/data/lake", "one on a disk is in CTG_DATA_DIR"),
        ("s3:///lake", "is at s3://bucket/prefix, gs://"),
        ("s3://key:hunter2@bucket/lake", "no user, query or fragment"),
        ("s3://bucket/lake?secret=hunter2", "from the provider's variables"),
        ("s3://bucket/lake#hunter2", "no user, query or fragment"),
    ],
)
def test_an_address_of_no_object_store_is_refused(
    url: str, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text says what an address is, where credentials go, and does not repeat what may be one."""
    monkeypatch.setenv("CTG_DATA_URL", url)
    with pytest.raises(SettingsError) as failure:
        load_settings()
    assert complaint in str(failure.value)
    assert "CTG_DATA_URL: " in str(failure.value)
    assert "hunter2" not in str(failure.value)


@pytest.mark.parametrize("url", ["s3://b/p", "gs://b/p/q", "az://c", "s3://b"])
def test_addresses_of_object_stores(url: str) -> None:
    """A slash at the end makes no difference."""
    assert load_settings(data_url=f"{url}/").data_url == load_settings(data_url=url).data_url == url


def test_all_faults_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several unusable settings cost one attempt, not one each."""
    monkeypatch.setenv("CTG_PAGE_SIZE", "x")
    monkeypatch.setenv("CTG_KEEP_EXTRACTION", "3")
    monkeypatch.setenv("CTG_RETRY_SECONDS", "y")
    with pytest.raises(SettingsError) as failure:
        load_settings()
    for variable in ("CTG_PAGE_SIZE=", "CTG_KEEP_EXTRACTION:", "CTG_RETRY_SECONDS="):
        assert variable in str(failure.value)


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("CTG_PAGE_SIZ", "CTG_PAGE_SIZE"),
        ("CTG_PAGESIZE", "CTG_PAGE_SIZE"),
        ("CTG_REQUEST_PER_MINUTE", "CTG_REQUESTS_PER_MINUTE"),
        ("CTG_DATADIR", "CTG_DATA_DIR"),
        ("CTG_APIURL", "CTG_API_URL"),
        ("CTG_POSTGRES", "CTG_POSTGRES_URL"),
        ("ctg_user_agents", "CTG_USER_AGENT"),
    ],
)
def test_a_misspelt_variable_is_refused(
    misspelt: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A variable that nearly is a setting is not ignored in silence: the nearest one is named."""
    monkeypatch.setenv(misspelt, "1")
    with pytest.raises(
        SettingsError, match=rf"{misspelt}: no such setting; did you mean {meant}\?"
    ):
        load_settings()


def test_a_variable_like_no_setting_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A variable of our prefix that resembles none may be another program's: it is logged only."""
    before = load_settings()
    monkeypatch.setenv("CTG_IMAGE_TAG", "7")
    with caplog.at_level(logging.WARNING):
        assert load_settings() == before
    assert "CTG_IMAGE_TAG is ignored" in caplog.text


def test_what_we_hand_to_dbt_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Variables of the dbt profile share the prefix and pass without a word."""
    for name in ("HOST", "PORT", "USER", "PASSWORD", "DBNAME"):
        monkeypatch.setenv(f"CTG_DBT_{name}", "1")
    load_settings()
    assert caplog.text == ""


def test_an_unknown_argument_is_refused() -> None:
    """A misspelt argument is as wrong as a misspelt variable."""
    with pytest.raises(SettingsError, match="pagesize: no such setting; the settings are api_url"):
        load_settings(pagesize=5)


def test_a_relative_data_folder_is_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is fixed when the settings are read: a later change of folder does not move it."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CTG_DATA_DIR", "here/data")
    settings, default = load_settings(), load_settings(data_dir="data")
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert settings.data_dir == tmp_path / "here" / "data"
    assert default.data_dir == tmp_path / "data"


def test_the_default_data_folder_is_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without CTG_DATA_DIR it is the folder `data` of the current one."""
    monkeypatch.chdir(tmp_path)
    assert load_settings().data_dir == tmp_path / "data"


def test_home_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde that no shell expanded (as in an env file) means the home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CTG_DATA_DIR", "~/ctg")
    assert load_settings().data_dir == tmp_path / "ctg"


def test_a_query_of_white_space_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """White space around a query means nothing; a query of it alone means every study."""
    monkeypatch.setenv("CTG_QUERY", " \t ")
    assert load_settings().query == ""
    monkeypatch.setenv("CTG_QUERY", " AREA[Phase]PHASE3 ")
    assert load_settings().query == "AREA[Phase]PHASE3"


def test_a_base_url_of_another_path_is_allowed() -> None:
    """A mirror may serve the API elsewhere; a wrong one is told by its answers, not by its looks."""
    assert (
        load_settings(api_url="http://mirror.example/ctg/").api_url == "http://mirror.example/ctg"
    )


def test_passwords_are_not_shown() -> None:
    """Neither the settings' representation nor a message repeats what may hold a password."""
    assert "hunter2" not in repr(load_settings(postgres_url="postgresql://me:hunter2@db/ctg"))
    with pytest.raises(SettingsError) as failure:
        load_settings(postgres_url=["hunter2"])
    assert "CTG_POSTGRES_URL" in str(failure.value)
    assert "hunter2" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_settings_cannot_be_changed() -> None:
    """What was read once stays as it is."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings().page_size = 7


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ("pg_mine", "Postgres' own"),
        ("public", "Postgres' own"),
        ("information_schema", "Postgres' own"),
        ("marts", "another schema of ours"),
        ("marts_next", "another schema of ours"),
        ("Mine", "small letters"),
        ("my schema", "small letters"),
        ('"mine"', "small letters"),
        ("1st", "small letters"),
        ("x" * 64, "small letters"),
    ],
)
def test_schemas_that_cannot_be_ours(schema: str, complaint: str) -> None:
    """Each schema has a plain name of its own that is not Postgres'."""
    with pytest.raises(SettingsError, match=f"CTG_META_SCHEMA=.*{complaint}"):
        load_settings(meta_schema=schema)
