"""`ctg-assets doctor`: each fault is planted, found, and told with what to do. The whole file takes a few seconds."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from psycopg import sql
from typer.testing import CliRunner

from ctg_assets.cli.app import app
from ctg_assets.cli.doctor import files, machine, services
from ctg_assets.cli.doctor.examination import examine
from ctg_assets.cli.doctor.findings import Finding, Verdict
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.settings import ENV_PREFIX
from ctg_assets.simulator.faults import parse_faults
from ctg_assets.simulator.serving import RunningSimulator

pytestmark = pytest.mark.postgres

CANARY = "kanarienvogel-7"


@dataclass
class Place:
    """Where a fault is planted: an empty folder, a database of its own, a registry, the environment."""

    folder: Path
    server: PostgresAddress
    address: PostgresAddress
    simulator: RunningSimulator
    patch: pytest.MonkeyPatch
    until_the_end: contextlib.ExitStack

    def set(self, **settings: object) -> None:
        """Set variables by the names of their settings."""
        for name, value in settings.items():
            self.patch.setenv(ENV_PREFIX + name.upper(), str(value))

    def write(self, name: str, text: str) -> Path:
        """A file in the folder."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return path


@pytest.fixture
def place(
    server: PostgresAddress,
    address: PostgresAddress,
    simulator: RunningSimulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    """A place in which all is well."""
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX) or name == "DAGSTER_HOME":
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    ends = contextlib.ExitStack()
    here = Place(tmp_path, server, address, simulator, monkeypatch, ends)
    here.set(postgres_url=address.url, api_url=simulator.api_url, requests_per_minute=10_000)
    room = SimpleNamespace(total=0, used=0, free=10**12)
    monkeypatch.setattr(files, "shutil", SimpleNamespace(disk_usage=lambda _: room))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(machine, "_UI_PORT", free.getsockname()[1])
    with ends:
        yield here


def wrong(findings: list[Finding]) -> list[Finding]:
    """The findings that are not well."""
    return [finding for finding in findings if finding.verdict is not Verdict.OK]


def test_nothing_is_found_where_all_is_well(place: Place) -> None:
    """Every subject is looked at, nothing is in the way, and nothing of ours is in the database afterwards."""
    findings = list(examine())
    assert wrong(findings) == []
    assert {finding.subject for finding in findings} == {
        "settings",
        "packages",
        "limits",
        "data folder",
        "disk",
        "Dagster",
        "UI",
        "Postgres",
        "clock",
        "registry",
    }
    with connect(place.address) as connection:
        schemas = connection.execute("SELECT nspname FROM pg_namespace").fetchall()
    assert not {"ctg_meta", "staging"} & {name for (name,) in schemas}


# --- the faults -----------------------------------------------------------------------------------


def unusable_setting(place: Place) -> None:
    """A value out of bounds."""
    place.set(page_size=0)


def misspelt_setting(place: Place) -> None:
    """A slip of the pen."""
    place.set(page_siz=10)


def broken_settings_file(place: Place) -> None:
    """A settings file that is no TOML."""
    place.write("ctg.toml", "CTG_PAGE_SIZE 17")


def open_secret(place: Place) -> None:
    """A password in a file that others may read."""
    place.write("ctg.toml", f'CTG_TCP_PASSWORD = "{CANARY}"').chmod(0o644)


def data_folder_is_a_file(place: Place) -> None:
    """The data folder cannot be made."""
    place.set(data_dir=place.write("data", ""))


def full_disk(place: Place) -> None:
    """Hardly anything is free."""
    nothing = SimpleNamespace(free=10**9)
    place.patch.setattr(files, "shutil", SimpleNamespace(disk_usage=lambda _: nothing))


def small_disk(place: Place) -> None:
    """Less is free than the whole registry takes."""
    some = SimpleNamespace(free=30 * 10**9)
    place.patch.setattr(files, "shutil", SimpleNamespace(disk_usage=lambda _: some))


def no_feed_file(place: Place) -> None:
    """The file of sinks is not there."""
    place.set(feed_file="nowhere.toml")


def no_feed_secret(place: Place) -> None:
    """A sink's secret is not in the environment."""
    place.set(
        feed_file=place.write(
            "feed.toml",
            '[[sink]]\ntype = "webhook"\nname = "hook"\nurl = "https://example.org/h"\nsecret_env = "HOOK_SECRET"\n',
        )
    )


def broken_searches_file(place: Place) -> None:
    """The saved searches are no TOML."""
    place.set(searches_file=place.write("searches.toml", "search"))


def cut_off_mesh_file(place: Place) -> None:
    """NLM's file ends in the middle."""
    text = "<DescriptorRecordSet><DescriptorRecord>"
    place.set(mesh_file=place.write("desc2026.xml", text))


def no_dagster_yaml(place: Place) -> None:
    """DAGSTER_HOME is a folder without a dagster.yaml."""
    place.patch.setenv("DAGSTER_HOME", str(place.folder))


def relative_dagster_home(place: Place) -> None:
    """Dagster refuses a DAGSTER_HOME that is not absolute."""
    place.patch.setenv("DAGSTER_HOME", "home")


def root_logger(place: Place) -> None:
    """Dagster's own logging would be logged (dagster#32217)."""
    place.write("dagster.yaml", "python_logs:\n  managed_python_loggers: [root]\n")


def broken_dagster_yaml(place: Place) -> None:
    """Dagster's file is no YAML."""
    place.write("dagster.yaml", "storage: [")


def other_package(place: Place) -> None:
    """Something has brought dbt-core 1.12."""
    place.patch.setattr(
        "ctg_assets.cli.doctor.machine.version",
        lambda name: "1.12.0" if name == "dbt-core" else version(name),
    )


def few_open_files(place: Place) -> None:
    """A low limit, as containers and old systems have."""
    place.patch.setattr(resource, "getrlimit", lambda _: (256, 256))


def little_memory(place: Place) -> None:
    """Less memory than the whole registry needs."""
    place.patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(total=2**31))


def taken_ui_port(place: Place) -> None:
    """Something listens where the UI would."""
    listening = place.until_the_end.enter_context(socket.socket())
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    place.patch.setattr(machine, "_UI_PORT", listening.getsockname()[1])


def no_postgres(place: Place) -> None:
    """Nobody answers there."""
    place.set(postgres_url="postgresql://me@127.0.0.1:1/ctg")


def other_database(place: Place) -> None:
    """A URL of something else."""
    place.set(postgres_url="mysql://me@127.0.0.1/ctg")


def read_only_postgres(place: Place) -> None:
    """A server that only lets read."""
    joined = "&" if "?" in place.address.url else "?"
    place.set(
        postgres_url=f"{place.address.url}{joined}options=-c%20default_transaction_read_only%3Don"
    )


def few_sessions(place: Place) -> None:
    """Nearly all sessions are taken."""
    place.patch.setattr(services, "_LEAST_CONNECTIONS", 10_000)


def foreign_schema(place: Place) -> None:
    """Somebody else has a schema `marts`, with a table."""
    with connect(place.address) as connection:
        connection.execute("CREATE SCHEMA marts CREATE TABLE sales (id int)")


def silent_registry(place: Place) -> None:
    """Nobody answers there."""
    place.set(api_url="http://127.0.0.1:1/api/v2")


def other_registry(place: Place) -> None:
    """Another path of the same server."""
    place.set(api_url=place.simulator.api_url.replace("/api/v2", "/api/v9"))


def refusing_registry(place: Place) -> None:
    """A firewall refuses us."""
    place.simulator.set_faults(*parse_faults(["every=1@version:403"]))


def page_of_html(place: Place) -> None:
    """A page for people in place of JSON."""
    place.simulator.set_faults(*parse_faults(["every=1@version:html"]))


def too_many_requests(place: Place) -> None:
    """More requests than the public registry tolerates."""
    place.patch.setattr(services, "_PUBLIC_REGISTRY", place.simulator.api_url)


class _Ahead(datetime):
    """A clock that is days ahead."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + timedelta(days=3)


def wrong_clock(place: Place) -> None:
    """Our clock is days ahead of the registry's."""
    place.patch.setattr(services, "datetime", _Ahead)


FAULTS: list[tuple[Callable[[Place], None], str, Verdict, str]] = [
    (unusable_setting, "settings", Verdict.FAILED, "greater than or equal to 1"),
    (misspelt_setting, "settings", Verdict.FAILED, "did you mean CTG_PAGE_SIZE?"),
    (broken_settings_file, "settings", Verdict.FAILED, "A line of it looks like"),
    (open_secret, "settings file", Verdict.WARNING, "chmod 600"),
    (data_folder_is_a_file, "data folder", Verdict.FAILED, "set CTG_DATA_DIR"),
    (full_disk, "disk", Verdict.FAILED, "only 1.0 GB are free"),
    (small_disk, "disk", Verdict.WARNING, "CTG_QUERY takes a part"),
    (no_feed_file, "feed file", Verdict.FAILED, "nowhere.toml"),
    (no_feed_secret, "feed file", Verdict.FAILED, "HOOK_SECRET"),
    (broken_searches_file, "searches file", Verdict.FAILED, "searches.toml"),
    (cut_off_mesh_file, "MeSH file", Verdict.FAILED, "correct CTG_MESH_FILE"),
    (no_dagster_yaml, "Dagster", Verdict.WARNING, "unset DAGSTER_HOME"),
    (relative_dagster_home, "Dagster", Verdict.FAILED, "write it out"),
    (root_logger, "Dagster", Verdict.FAILED, "name ctg_assets instead"),
    (broken_dagster_yaml, "Dagster", Verdict.FAILED, "copy ours there"),
    (other_package, "packages", Verdict.FAILED, "dbt-core 1.12.0 is installed"),
    (few_open_files, "limits", Verdict.FAILED, "ulimit -n 1024"),
    (little_memory, "limits", Verdict.WARNING, "2.0 GiB of memory"),
    (taken_ui_port, "UI", Verdict.WARNING, "--port 3001"),
    (no_postgres, "Postgres", Verdict.FAILED, "127.0.0.1"),
    (other_database, "Postgres", Verdict.FAILED, "write postgresql://"),
    (read_only_postgres, "Postgres", Verdict.FAILED, "primary server"),
    (few_sessions, "Postgres", Verdict.WARNING, "raise max_connections"),
    (foreign_schema, "Postgres", Verdict.FAILED, "set CTG_MARTS_SCHEMA"),
    (silent_registry, "registry", Verdict.FAILED, "check the network and CTG_API_URL"),
    (other_registry, "registry", Verdict.FAILED, "CTG_API_URL"),
    (refusing_registry, "registry", Verdict.FAILED, "CTG_USER_AGENT"),
    (page_of_html, "registry", Verdict.FAILED, "HTML"),
    (too_many_requests, "registry", Verdict.WARNING, "tolerates about 50"),
    (wrong_clock, "clock", Verdict.FAILED, "set the clock"),
]


@pytest.mark.parametrize(
    ("plant", "subject", "verdict", "said"), FAULTS, ids=[plant.__name__ for plant, *_ in FAULTS]
)
def test_each_fault_is_found_with_its_remedy(
    place: Place, plant: Callable[[Place], None], subject: str, verdict: Verdict, said: str
) -> None:
    """One finding says what is wrong and what to do; all else is as well as before."""
    plant(place)
    [found] = wrong(list(examine()))
    assert (found.subject, found.verdict) == (subject, verdict)
    assert said in found.text
    assert CANARY not in found.text


@contextlib.contextmanager
def role_without_rights(server: PostgresAddress) -> Iterator[str]:
    """A role that may connect and nothing else."""
    with connect(server) as connection:
        connection.execute(sql.SQL("CREATE ROLE ctg_doctor_test LOGIN"))
        yield "ctg_doctor_test"
        connection.execute("DROP ROLE ctg_doctor_test")


def test_a_role_that_may_not_make_schemas_is_found(place: Place) -> None:
    """The grant that is missing is written out."""
    with role_without_rights(place.server) as role:
        place.set(postgres_url=place.address.url.replace("postgres@", f"{role}@"))
        [found] = wrong(list(examine(offline=True)))
    assert found.verdict is Verdict.FAILED
    assert f'GRANT CREATE ON DATABASE "{place.address.dbname}" TO "{role}"' in found.text


def test_a_database_of_another_encoding_is_found(place: Place) -> None:
    """The registry's text does not fit into Latin 1."""
    name = "doctor_latin"
    with connect(place.server) as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"
        )
        place.set(postgres_url=place.server.database(name).url)
        [found] = wrong(list(examine(offline=True)))
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert "ENCODING 'UTF8'" in found.text


def printed(*arguments: str) -> tuple[int, str]:
    """Exit code and output of the command."""
    done = CliRunner().invoke(app, ["doctor", *arguments])
    return done.exit_code, done.output


def test_the_command_ends_with_1_where_something_is_in_the_way(place: Place) -> None:
    """Warnings alone are no failure; as JSON there is all of it."""
    small_disk(place)
    code, text = printed("--offline")
    assert code == 0
    assert "warning" in text
    assert "registry:" not in text
    root_logger(place)
    code, text = printed("--json")
    found: list[dict[str, Any]] = json.loads(text)
    assert code == 1
    assert {entry["subject"] for entry in found if entry["verdict"] == "failed"} == {"Dagster"}


def test_ours_in_the_database_is_no_stranger(place: Place) -> None:
    """After schemas of ours were made there, all is well still."""
    from ctg_assets.postgres.ownership import claim_schema, open_notes  # noqa: PLC0415 - to plant them

    with connect(place.address) as connection, connection.transaction():
        open_notes(connection)
        claim_schema(connection, "staging", "staging")
        connection.execute("CREATE TABLE staging.studies (nct_id text)")
    assert wrong(list(examine(offline=True))) == []


def test_an_embedded_server_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: Place
) -> None:
    """Without a configured server the embedded one is started, and stopped again."""
    del tmp_path
    monkeypatch.delenv("CTG_POSTGRES_URL")
    found = [finding for finding in examine(offline=True) if finding.subject == "Postgres"]
    assert [finding.verdict for finding in found] == [Verdict.OK]
    assert "embedded" in found[0].text
    shutil.rmtree(place.folder / "data" / "postgres")
