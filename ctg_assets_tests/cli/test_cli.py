"""The command line: help, exit codes, and what it says of input that cannot be used."""

from __future__ import annotations

import contextlib
import http.server
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ctg_assets import __version__, model
from ctg_assets.cli.app import app
from ctg_assets.extract.crawl import Crawler
from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.extract.published_model import check_published_model
from ctg_assets.extract.search_file import saved_searches
from ctg_assets.extract.searches import evaluate_searches
from ctg_assets.postgres.connection import connect
from ctg_assets.postgres.server import open_postgres
from ctg_assets.registry.client import RegistryClient
from ctg_assets.registry_access import open_registry
from ctg_assets.setting_values import RefreshMode
from ctg_assets.simulator import catalog
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.orchestration.workplace import (
    Workplace,
    refresh_while_postgres_is_killed,
    workplace,
)
from ctg_assets_tests.shared_material import shared_path

STUDIES = 25
COMMANDS = ["refresh", "status", "simulate", "import-file", "psql", "db-url", "learn-model"]

# Libraries that take long to load.
HEAVY = ("dagster", "dbt", "httpx", "pika", "polars", "psycopg", "pyarrow")


@contextlib.contextmanager
def html_server() -> Iterator[str]:
    """A web server that answers every request with a page of HTML; yields its URL."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!doctype html><html><body>Welcome</body></html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/api/v2"
        finally:
            server.shutdown()
            thread.join()


def unused_port() -> int:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def refused(done: subprocess.CompletedProcess[str], code: int, *said: str) -> None:
    """Check that a command ended with this status and these words, and without a traceback."""
    printed = done.stdout + done.stderr
    assert done.returncode == code, printed
    assert "Traceback" not in printed, printed
    for words in said:
        assert words in done.stderr, printed


@pytest.fixture(scope="module")
def refreshed() -> Iterator[Workplace]:
    """A workplace with good data."""
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url) as built,
    ):
        built.refresh()
        yield built


def good_data_stay(refreshed: Workplace) -> None:
    """Check that the tables can be read as before."""
    assert refreshed.query("SELECT count(*) FROM staging.studies") == [(STUDIES,)]


def test_help_teaches() -> None:
    """`--help` names every command with a sentence, and `refresh --help` its exit codes."""
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "120"}).output
    for command in COMMANDS:
        assert f" {command} " in shown
        help_text = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "120"}).output
        assert "Usage:" in help_text
    shown = CliRunner().invoke(app, ["refresh", "--help"], env={"COLUMNS": "200"}).output
    for meaning in ("1 failed", "2 unusable settings", "3 a check", "4 another run", "130 "):
        assert meaning in " ".join(shown.split())


def test_refresh_names_its_modes() -> None:
    """A mode that is none is refused with those that there are, before anything is opened."""
    refused = CliRunner().invoke(app, ["refresh", "--mode", "always"], env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    for mode in RefreshMode:
        assert f"'{mode}'" in refused.output


def test_version() -> None:
    """`--version` prints name and version."""
    assert CliRunner().invoke(app, ["--version"]).output == f"ctg-assets {__version__}\n"


@pytest.mark.process
def test_help_waits_for_no_library() -> None:
    """Help comes without loading what only commands need when they run."""
    code = (
        "import sys; from typer.testing import CliRunner; from ctg_assets.cli.app import app; "
        "assert CliRunner().invoke(app, ['refresh', '--help']).exit_code == 0; "
        f"print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_no_command_shows_help() -> None:
    """Without a command the help is shown rather than nothing."""
    assert "refresh" in CliRunner().invoke(app, []).output


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("page_size", "many"),
        ("api_url", "clinicaltrials.gov"),
        ("requests_per_minute", "0"),
        ("max_shrink_fraction", "2"),
    ],
)
@pytest.mark.parametrize("command", ["refresh", "status", "psql", "db-url"])
def test_nonsense_in_a_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, name: str, value: str
) -> None:
    """A setting that cannot be used is named with its value, status 2, and nothing is touched."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv(f"CTG_{name.upper()}", value)
    result = CliRunner().invoke(app, [command])
    assert result.exit_code == 2
    assert f"CTG_{name.upper()}" in result.stderr
    assert value in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["searches_file", "mesh_file"])
def test_a_file_of_a_setting_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """It is named with its setting, status 2, before the registry is asked or a server started."""
    for setting, value in {
        "aact": "true",
        "data_dir": str(tmp_path / "data"),
        name: "/absent",
    }.items():
        monkeypatch.setenv(f"CTG_{setting.upper()}", value)
    result = CliRunner().invoke(app, ["refresh"])
    assert result.exit_code == 2
    assert "/absent" in result.stderr
    assert f"CTG_{name.upper()}" in result.stderr
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.parametrize("option", [["--port", "5433"], ["--host", "127.0.0.1"], ["--owner"]])
def test_options_of_tcp_need_tcp(option: list[str], tmp_path: Path) -> None:
    """What says how TCP is to be opened is not silently ignored where it is not."""
    for asked in (option, ["--no-tcp", *option]):
        result = CliRunner().invoke(
            app, ["db-url", *asked], env={"CTG_DATA_DIR": str(tmp_path / "data")}
        )
        assert result.exit_code == 2
        assert "are about --tcp; add it" in " ".join(result.stderr.split())
    assert not (tmp_path / "data").exists()


def test_a_configured_server_is_not_opened(refreshed: Workplace) -> None:
    """TCP is the embedded server's; of a configured one the URL and a statement are told."""
    with open_postgres(refreshed.settings) as address:
        done = refreshed.ctg("db-url", "--tcp", postgres_url=address.url)
        refused(done, 1, "CTG_POSTGRES_URL is set", "no embedded server", "Unset it")
        with connect(address.database("postgres")) as connection:
            connection.execute("CREATE DATABASE theirs")
        done = refreshed.ctg("db-url", postgres_url=address.database("theirs").url)
        assert (done.returncode, done.stdout) == (0, f"{address.database('theirs').url}\n")
        assert 'ALTER DATABASE "theirs" SET search_path = ' in done.stderr
        with connect(address.database("postgres")) as connection:
            connection.execute("DROP DATABASE theirs")


def test_unreachable_registry(refreshed: Workplace) -> None:
    """A registry that does not answer is said soon, with the URL and what to look at."""
    url = f"http://127.0.0.1:{unused_port()}/api/v2"
    refused(refreshed.ctg("refresh", api_url=url), 1, url, "check the network and CTG_API_URL")
    good_data_stay(refreshed)


def test_wrong_url(refreshed: Workplace) -> None:
    """A server without the API there leads to the question whether the URL is right."""
    url = refreshed.api_url.replace("/api/v2", "/nowhere")
    refused(
        refreshed.ctg("refresh", api_url=url), 1, "404", "is CTG_API_URL the base URL of API v2"
    )
    good_data_stay(refreshed)


def test_html_answer(refreshed: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of HTML in place of JSON, however often it is asked, are recognized and shown in part."""
    # The command in this process, where its pauses, of eight seconds together, can be short.
    usual = RegistryClient.__init__.__kwdefaults__
    assert usual is not None
    monkeypatch.setitem(usual, "first_pause_seconds", 0.01)
    with html_server() as url:
        environment = refreshed.environment(api_url=url, retry_seconds="30")
        told = CliRunner().invoke(app, ["refresh"], env=environment)
    done = subprocess.CompletedProcess([], told.exit_code, told.stdout, told.stderr)
    refused(done, 1, "answered with HTML instead of JSON", "<!doctype html>", "CTG_API_URL")
    good_data_stay(refreshed)


@pytest.mark.parametrize("command", ["refresh", "status", "psql", "db-url"])
def test_unusable_data_folder(refreshed: Workplace, command: str) -> None:
    """Where the data folder cannot be, the message names it and the setting."""
    in_the_way = refreshed.folder / "dagster.yaml" / "data"
    refused(refreshed.ctg(command, data_dir=str(in_the_way)), 1, str(in_the_way), "CTG_DATA_DIR")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_data_folder(refreshed: Workplace, tmp_path: Path) -> None:
    """A folder without write permission is refused with the remedy."""
    tmp_path.chmod(0o500)
    refused(refreshed.ctg("refresh", data_dir=str(tmp_path / "data")), 1, "CTG_DATA_DIR")


@pytest.mark.parametrize("command", [["refresh"], ["status"], ["psql"], ["db-url"]])
def test_postgres_down(refreshed: Workplace, command: list[str]) -> None:
    """A configured database that does not answer is said at once, before any walk."""
    url = f"postgresql://me:secret@127.0.0.1:{unused_port()}/ctg"
    done = refreshed.ctg(*command, postgres_url=url)
    assert done.returncode == 1
    assert "No Postgres answers" in done.stdout + done.stderr
    assert "secret" not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_postgres_killed_while_loading(refreshed: Workplace) -> None:
    """When Postgres dies in mid-load, the refresh says so; the old tables stay, the next one heals."""
    with (
        running_simulator(GeneratedSource(STUDIES + 1, 1)) as running,
        workplace(running.api_url) as copy,
    ):
        subprocess.run(["cp", "-a", f"{refreshed.folder}/.", copy.folder], check=True)
        refreshed = copy
        refused(
            refresh_while_postgres_is_killed(refreshed),
            1,
            "staging failed",
            "stopped in the middle of the work",
            "The last good data are untouched",
        )
        assert refreshed.query("SELECT count(*) FROM staging.studies") == [(STUDIES,)]
        good_data_stay(refreshed)
        refreshed.refresh()
        assert refreshed.query("SELECT count(*) FROM staging.studies") == [(STUDIES + 1,)]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.json", None),
        ("empty.json", b""),
        ("page.json", b"<html>"),
        (
            "cut.json",
            b'[{"protocolSection": {"identificationModule": {"nctId": "NCT00000001"}}}, {',
        ),
        ("broken.json.gz", b"\x1f\x8b\x08\x00nonsense"),
        ("broken.zip", b"PK\x03\x04nonsense"),
    ],
)
def test_broken_import_file(refreshed: Workplace, name: str, content: bytes | None) -> None:
    """A file that is no bulk download is named, with what is wrong; nothing changes."""
    path = refreshed.folder / name
    if content is not None:
        path.write_bytes(content)
    complete = refreshed.lake.extractions.latest(ExtractionState.COMPLETE)
    done = refreshed.ctg("import-file", str(path))
    refused(done, 1, name)
    path.unlink(missing_ok=True)
    good_data_stay(refreshed)
    assert refreshed.lake.extractions.latest(ExtractionState.COMPLETE) == complete


def test_learning_the_model_from_files(tmp_path: Path) -> None:
    """The recorded answers give the project's own files again, with nothing to learn."""
    answers = [
        shared_path(f"spec/{name}") for name in ("studies-metadata.json.gz", "studies-enums.json")
    ]
    told = CliRunner().invoke(app, ["learn-model", *map(str, answers), "--into", str(tmp_path)])
    assert told.exit_code == 0
    assert told.output.startswith("differences learned: 0; written to ")
    for name in ("fields.csv", "enums.csv"):
        assert (tmp_path / name).read_bytes() == (files(model) / name).read_bytes()
    one = CliRunner().invoke(app, ["learn-model", str(answers[0])])
    assert one.exit_code == 2
    assert "give both recorded answers" in one.stderr
    wrong = [*map(str, answers[::-1]), "--into", str(tmp_path)]
    assert CliRunner().invoke(app, ["learn-model", *wrong]).exit_code == 1


@pytest.mark.process
def test_learning_the_model_from_a_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry with one field more is learned from; status says before that the model lacks it."""
    new = {"name": "isNew", "piece": "IsNew", "type": "boolean", "sourceType": "BOOLEAN"}
    with (
        running_simulator(GeneratedSource(0, 1)) as running,
        workplace(running.api_url) as refreshed,
    ):
        running.publish_model(metadata=[*catalog.metadata(), new])
        with open_registry(refreshed.settings) as client:
            plan = Crawler(client, refreshed.lake.extractions, refreshed.lake.shards).plan(
                query="", page_size=10
            )
            check_published_model(client, refreshed.lake.storage, plan)
        status = refreshed.ctg("status").stdout
        assert "the registry's fields and values differ from our model (1 times)" in status
        assert "  field added: isNew (boolean of BOOLEAN, piece IsNew)\n" in status

        for name in ("api_url", "data_dir"):
            monkeypatch.setenv(f"CTG_{name.upper()}", str(getattr(refreshed.settings, name)))
        done = CliRunner().invoke(app, ["learn-model", "--into", str(tmp_path)])
        assert done.output.startswith("field added: isNew")
    assert (tmp_path / "fields.csv").read_text().endswith("\nisNew,IsNew,boolean,BOOLEAN\n")


@pytest.mark.process
def test_status_tells_what_saved_searches_found(tmp_path: Path) -> None:
    """How many studies, and of one that the registry does not take, its reason; nothing before they were asked."""
    file = tmp_path / "searches.toml"
    file.write_text(
        '[[search]]\nname = "all"\nquery = "ALL"\n[[search]]\nname = "odd"\nquery = "AREA[X]y"\n'
    )
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url, aact="true", searches_file=str(file)) as asked,
    ):
        assert "searches" not in asked.ctg("status").stdout
        searches = saved_searches(asked.settings.searches_file)
        with open_registry(asked.settings) as client:
            evaluate_searches(client, asked.lake.storage, searches[:1], "2026-11-20T09:00:05")
            told = asked.ctg("status").stdout
            assert "'odd': not asked yet" in told
            evaluate_searches(client, asked.lake.storage, searches, "2026-11-20T09:00:05")
        told = asked.ctg("status").stdout
        assert "1 of 2 saved searches have no answer of now, and keep their last: 'odd': " in told
        assert "Unknown area name: `X`" in told


@pytest.mark.process
def test_progress_on_a_terminal() -> None:
    """On a terminal pages done, studies, rate and time left are shown live; Ctrl-C ends it well."""
    with (
        running_simulator(GeneratedSource(STUDIES, 1)) as running,
        workplace(running.api_url, retry_seconds="60") as refreshed,
    ):
        running.set_faults("page=3@studies:timeout")
        leader, follower = pty.openpty()
        process = subprocess.Popen(
            ["ctg-assets", "refresh"],
            cwd=refreshed.folder,
            env={**refreshed.environment(), "TERM": "xterm", "COLUMNS": "120"},
            stdin=follower,
            stdout=follower,
            stderr=follower,
            start_new_session=True,
        )
        os.close(follower)
        shown = b""
        while b"2 of 3 pages, 20 studies" not in shown:
            shown += os.read(leader, 4096)
        assert b"pages/s" in shown
        assert b"left" in shown
        os.killpg(process.pid, signal.SIGINT)
        with contextlib.suppress(OSError):
            while chunk := os.read(leader, 4096):
                shown += chunk
        assert process.wait(timeout=60) == 130
        os.close(leader)
        assert b"interrupted; what is finished stays" in shown
        assert b"Traceback" not in shown


@pytest.mark.parametrize("day", ["0204-05-31", "1999-08-31", "2999-01-01", "9999-12-31"])
def test_times_that_cannot_be_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, day: str
) -> None:
    """Whatever command is given one: it says what was found and why it cannot be, and does nothing."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    studies = tmp_path / "studies.jsonl"
    studies.write_text(
        '{"protocolSection": {"identificationModule": {"nctId": "NCT00000001"}}}\n',
        encoding="utf-8",
    )
    for command in (
        ["import-file", str(studies), "--observed-at", day],
        ["as-of", day, "--schema", "past"],
        ["rebuild-months", "--from", day[:7]],
        ["rebuild-months", "--to", day[:7]],
    ):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 1, command
        assert day[:7] in result.stderr
        assert ("earlier than the registry" if day < "2000" else "later than now") in result.stderr
    assert not list((tmp_path / "data").rglob("plan.json"))
    assert not (tmp_path / "data" / "postgres").exists()


@pytest.mark.parametrize("day", ["tomorrow", "2024-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_time_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, day: str
) -> None:
    """It is repeated, with how to write one."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    for command in (
        ["import-file", "studies.jsonl", "--observed-at", day],
        ["as-of", day, "--schema", "past"],
    ):
        result = CliRunner().invoke(app, command, env={"COLUMNS": "200"})
        assert result.exit_code == 2
        assert f"{day!r} is no time; write it as 2024-05-31" in result.stderr


def test_months_in_the_wrong_order_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A range that ends before it begins is a mistake, not nothing to do."""
    monkeypatch.setenv("CTG_DATA_DIR", str(tmp_path / "data"))
    result = CliRunner().invoke(
        app, ["rebuild-months", "--from", "2024-06", "--to", "2024-05"], env={"COLUMNS": "200"}
    )
    assert result.exit_code == 2
    assert "--from 2024-06 is later than --to 2024-05" in result.stderr
