"""No secret is left anywhere: a canary in every setting and variable that holds one, and a search for it in all that commands leave.

One refresh that works and one that does not, the feed and notifications with receivers that refuse, the pages of
`serve`, and whatever shows settings.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pika
import pytest
from pika import spec

from ctg_assets.feed.config import AmqpSettings, WebhookSettings
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.server import open_tcp
from ctg_assets.postgres.tcp import TcpRequest
from ctg_assets.settings import Settings, is_secret
from ctg_assets.simulator.serving import running_simulator
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets_tests.conftest import new_database
from ctg_assets_tests.feed.helpers import receiver
from ctg_assets_tests.feed.mail_server import mail_server
from ctg_assets_tests.orchestration.workplace import Workplace, workplace
from ctg_assets_tests.soak import only_in_soaks
from ctg_assets_tests.support.postgres import settings_for, temporary_folder

pytestmark = [pytest.mark.process, pytest.mark.postgres]

CANARY = "kanarienvogel"
HOOK_SECRET = "whsec_" + base64.b64encode(b"kanarienvogel of webhooks").decode()
# As it may be written: alone, and as AMQP, SMTP and webhooks encode it.
SPELLINGS = (CANARY.encode(), b"a2FuYXJpZW52b2dl", b"thbmFyaWVudm9nZW", b"rYW5hcmllbnZvZ2Vs")
# Each is also somebody who is told of failures.
SINKS = """
[[sink]]
name = "hook"
type = "webhook"
url = "{hook}?token=kanarienvogel-of-the-url"
secret_env = "HOOK_SECRET"
start = "beginning"
attempts = 1

[[sink]]
name = "queue"
type = "amqp"
url = "amqp://feeder@127.0.0.1:{broker}/%2F"
secret_env = "BROKER_PASSWORD"
queue = "changes"
start = "beginning"
attempts = 1
"""


SINKS += SINKS.replace("[[sink]]", "[[notify]]")


def canary(name: str) -> str:
    """A secret of a setting's own."""
    return f"{CANARY}-{name}-7"


def planted(address: PostgresAddress) -> dict[str, str]:
    """Every setting that is declared secret, with a canary in it; a new one is among them by itself."""
    secrets = {name: canary(name) for name in Settings.model_fields if is_secret(name)}
    return {
        **secrets,
        "postgres_url": replace(address, password=canary("postgres_url")).url,
        "broker_url": f"amqp://me:{canary('broker_url')}@127.0.0.1:1//",
    }


@dataclass
class Found:
    """What was looked through, and where a canary was."""

    looked_at: dict[str, int] = field(default_factory=dict)
    leaks: list[str] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)
    refreshed: str = ""

    def look(self, where: str, content: bytes) -> None:
        """Search some bytes."""
        self.looked_at[where] = self.looked_at.get(where, 0) + len(content)
        for spelling in SPELLINGS:
            at = content.find(spelling)
            if at >= 0:
                around = content[max(0, at - 80) : at + 80]
                self.leaks.append(f"{where}: {around!r}")

    def look_at_files(self, folder: Path) -> None:
        """Search all files below a folder, and their names."""
        for path in folder.rglob("*"):
            self.look("names of files", str(path.relative_to(folder)).encode())
            if path.is_file():
                self.look(f"{path.relative_to(folder).parts[-2:]}", path.read_bytes())

    def told(self, done: subprocess.CompletedProcess[str], code: int) -> None:
        """Search what a command printed, after it ended as it should."""
        assert done.returncode == code, (done.args, done.returncode, done.stdout, done.stderr)
        name = " ".join(map(str, done.args[1:3]))
        self.look(f"output of {name}", (done.stdout + done.stderr).encode())


class ProcessList(threading.Thread):
    """Looks again and again at the arguments of all processes of the machine, as `ps` does."""

    def __init__(self, found: Found) -> None:
        super().__init__(daemon=True)
        self._found = found
        self._end = threading.Event()
        self.seen: set[bytes] = set()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._end.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    arguments = path.read_bytes()
                except OSError:
                    continue
                if arguments not in self.seen:
                    self.seen.add(arguments)
                    self._found.look("process list", arguments)

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        self.join()


@contextmanager
def refusing_broker() -> Iterator[int]:
    """The port of a broker that hears user and password, and does not let them in."""

    def method(of: object) -> bytes:
        return bytes(pika.frame.Method(0, of).marshal())

    start = spec.Connection.Start(server_properties={}, mechanisms="PLAIN", locales="en_US")
    refused = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN"

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                client.recv(8)
                client.sendall(method(start))
                heard.append(client.recv(65536))
                client.sendall(method(spec.Connection.Close(403, refused, 0, 0)))

    heard: list[bytes] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()
    # Or nothing was risked.
    assert any(canary("broker").encode() in said for said in heard)


def look_at_pages(place: Workplace, found: Found, **settings: str) -> None:
    """Search all that `serve` tells."""
    with place.start("ctg-assets", "serve", "--port", "0", **settings) as process:
        assert process.stdout is not None
        serving = re.match(r"serving (\S+)/metrics", process.stdout.readline())
        assert serving is not None
        for page in ("metrics", "health", "ready", "status"):
            answer = httpx.get(f"{serving[1]}/{page}", timeout=60)
            found.look(f"page /{page}", f"{answer.headers}\n{answer.text}".encode())
        process.terminate()
        printed, told = process.communicate(timeout=60)
        found.look("output of serve", (printed + told).encode())


def use(place: Workplace, found: Found, wrong_url: str) -> None:
    """Run what people run, with all going well and with refusals."""
    refreshed = place.ctg("refresh")
    found.told(refreshed, 0)
    found.refreshed = refreshed.stderr
    for command in (["status"], ["config"], ["config", "--json"], ["config", "--toml"]):
        found.told(place.ctg(*command), 0)
    found.told(place.ctg("psql", "-c", "SELECT pg_sleep(1)"), 0)
    found.told(place.ctg("feed", "run", "--once"), 1)
    found.told(place.ctg("feed", "status"), 0)
    found.told(place.ctg("doctor"), 0)
    found.told(place.ctg("notify", "--test"), 1)
    look_at_pages(place, found)
    # The server asks for a password there, and this is not the one.
    look_at_pages(place, found, postgres_url=wrong_url)
    for command in (["refresh"], ["status"], ["doctor", "--offline"], ["feed", "status"]):
        found.told(place.ctg(*command, postgres_url=wrong_url), 1)
    found.told(place.materialize("--select", "staging/load_info", postgres_url=wrong_url), 1)
    for unreadable in (
        f"host=db password={canary('postgres_url')}",
        f"postgresql://me:a/{canary('postgres_url')}@db/ctg",
        f"postgresql://me:a@{canary('postgres_url')}@db/ctg",
        f"postgresql+psycopg2://me:{canary('postgres_url')}@db/ctg",
        f"postgresql://me:{canary('postgres_url')}@db:port/ctg",
        f"postgresql://me@db/ctg?sslpassword={canary('postgres_url')}&colour=1",
    ):
        found.told(place.ctg("refresh", postgres_url=unreadable), 1)
    found.told(place.ctg("config", tcp_password=f"{CANARY}\x07"), 2)


@pytest.fixture(scope="module")
def found(server: PostgresAddress) -> Iterator[Found]:
    """What a search for the canaries found after everything was done."""
    found = Found()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("HOOK_SECRET", HOOK_SECRET)
        patch.setenv("BROKER_PASSWORD", canary("broker"))
        registry = stack.enter_context(running_simulator(GeneratedSource(30, 1)))
        hook = stack.enter_context(receiver(lambda _: 500))
        broker = stack.enter_context(refusing_broker())
        address = stack.enter_context(new_database(server))
        guarded = stack.enter_context(temporary_folder())
        tcp = stack.enter_context(
            open_tcp(settings_for(guarded), TcpRequest("ctg_reader", password="another password"))
        )
        mail = stack.enter_context(mail_server(with_login=True))
        folder = stack.enter_context(temporary_folder())
        (folder / "sinks.toml").write_text(SINKS.format(hook=hook.url, broker=broker))
        place = stack.enter_context(
            workplace(
                registry.api_url,
                **planted(address),
                marts="dim_condition",
                feed_file=str(folder / "sinks.toml"),
                log_format="json",
                log_level="debug",
                log_dir=str(folder / "logs"),
                smtp_host="127.0.0.1",
                smtp_port=str(mail.port),
                smtp_security="none",
                smtp_user="robot",
                smtp_from="robot@example.org",
                smtp_to="ops@example.org",
            )
        )
        processes = ProcessList(found)
        processes.start()
        wrong = replace(tcp.address, password=canary("postgres_url"))
        use(place, found, wrong.url)
        processes.stop()
        assert any(b"psql" in arguments for arguments in processes.seen)
        found.look_at_files(place.folder)
        found.look_at_files(folder / "logs")
        for file in (folder / "logs").glob("refresh-*.jsonl"):
            found.records += map(json.loads, file.read_text().splitlines())
        # Or nothing was risked.
        assert hook.requests
        assert {password for _, password in mail.logins} == {canary("smtp_password")}
        assert mail.mails == []
        yield found


@pytest.mark.soak
@only_in_soaks
def test_nothing_holds_a_secret(found: Found) -> None:
    """Output, logs, files of Dagster, dbt and the lake, and the list of processes are free of every canary."""
    assert found.leaks == []


@only_in_soaks
def test_all_kinds_of_places_were_searched(found: Found) -> None:
    """The search saw Dagster's events, dbt's log and manifest, our logs, and what commands print."""
    places = " ".join(found.looked_at)
    for name in ("index.db", "runs.db", "dbt.log", "manifest.json", "plan.json", ".jsonl", ".log"):
        assert name in places, places
    assert found.looked_at["process list"] > 1000
    assert found.looked_at["page /metrics"] > 5000
    assert {"output of refresh", "output of doctor", "output of feed run"} <= set(found.looked_at)


@only_in_soaks
def test_records_of_ours_dagster_and_dbt_have_the_same_fields(found: Found) -> None:
    """In the file of a refresh each says its run, and what it is about; each is there once, as on the console."""
    printed = [json.loads(line) for line in found.refreshed.splitlines()]
    runs = {record["run_id"] for record in found.records if "run_id" in record}
    assert [record for record in printed if record.get("run_id") in runs]
    made = [
        record["asset"]
        for record in printed
        if record.get("dagster_event") == "ASSET_MATERIALIZATION"
    ]
    assert sorted(set(made)) == sorted(made)[: len(set(made))] or "page_shards" in made
    assert {"extraction_plan", "studies", "staging/studies", "marts/dim_condition"} <= set(made)
    built = [record for record in printed if record.get("dbt_event") == "LogModelResult"]
    assert {record["dbt_node"] for record in built} >= {"model.ctg.dim_condition"}
    assert all(record["run_id"] in runs and record["step"] == "marts" for record in built)
    (planned,) = [record for record in printed if record["event"].startswith("extraction 2")]
    assert planned["extraction"] in planned["event"]
    assert planned["job"] == "plan_extraction"
    stages = [record for record in printed if record["logger"] == "ctg_assets.cli.refresh_log"]
    assert stages[0]["event"].startswith("plan: ")
    assert printed[-1]["event"].startswith("the database at postgresql://")


def test_every_setting_that_sounds_secret_is_declared_so() -> None:
    """Whoever adds a setting named like a secret has to keep it out of `repr`, and with that it is planted above."""
    sounding = re.compile(r"password|secret|(^|_)(token|key|credentials?)$|_url$")
    # The last one names a file.
    shown = {"api_url", "data_url", "ui_url", "who_gho_url", "who_xmart_url", "release_key"}
    named = {name for name in Settings.model_fields if sounding.search(name)} - shown
    assert named == {name for name in Settings.model_fields if is_secret(name)}


def test_sinks_hold_no_secrets_themselves() -> None:
    """A sink's secret comes from a variable that it names; nothing else of it sounds like one."""
    for settings in (WebhookSettings, AmqpSettings):
        sounding = [
            name for name in settings.model_fields if re.search("password|secret|token", name)
        ]
        assert sounding == ["secret_env"]
    assert os.environ.get("HOOK_SECRET") in {None, HOOK_SECRET}
