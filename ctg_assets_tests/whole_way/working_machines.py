"""Two machines that do the steps of runs, the services they share, and one more that starts the runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from ctg_assets.errors import TransientError
from ctg_assets.lake import Lake, open_lake
from ctg_assets.orchestration.celery_steps import connected_workers
from ctg_assets.orchestration.jobs import STAGE_JOBS
from ctg_assets.orchestration.pages import range_tags
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.refresh.planner import Idle, Stage, Step, next_step
from ctg_assets.settings import ENV_PREFIX, Settings, load_settings, variable
from ctg_assets.simulator.serving import RunningSimulator
from ctg_assets_tests.feed.broker import Broker, running_broker, unused_ports
from ctg_assets_tests.feed.helpers import SECRET, SECRET_ENV
from ctg_assets_tests.orchestration.parsed_project import give_parsed_project
from ctg_assets_tests.orchestration.test_daemon import end_daemon
from ctg_assets_tests.orchestration.workplace import INSTALLED, PROJECT, wait_until
from ctg_assets_tests.postgres.debian_server import LOOPBACK, DebianServer, running_server
from ctg_assets_tests.support.forked_commands import forked_commands
from ctg_assets_tests.support.namespaces import Line, Machine, Network, line, network
from ctg_assets_tests.support.object_store import S3Server, running_s3

_WORKER = [sys.executable, "-m", "ctg_assets_tests.orchestration.hurried_worker", "worker"]
CONTROL, ALONE = "control", "alone"
_MOST_RUNS = 60
_RUN_SECONDS = 240


@dataclass(frozen=True)
class Services:
    """What machines share."""

    host: str
    simulator: RunningSimulator
    broker: Broker
    postgres: DebianServer
    s3: S3Server
    s3_line: Line


class Site:
    """Machines with workers, one that starts runs, and one that does all alone, on a disk and with a database of its own."""

    def __init__(
        self, folder: Path, services: Services, machines: Sequence[Machine], given: dict[str, str]
    ) -> None:
        """Make the databases; no worker runs yet."""
        self.machines = machines
        self.runs = 0
        self._folder = folder
        host = services.host
        with connect(services.postgres.address) as connection:
            for name in ("ctg", "dagster", "alone"):
                connection.execute(f"CREATE DATABASE {name}".encode())
        server = services.postgres.address
        self.tables, self.tables_alone = server.database("ctg"), server.database("alone")
        # Nothing of it is cut or killed while its settings are used.
        self._alone = {**given, "api_url": services.simulator.api_url} | {
            "postgres_url": self.tables_alone.url
        }
        self._given = {
            **given,
            "api_url": services.simulator.api_url.replace(LOOPBACK, host),
            "data_url": services.s3.new_url(),
            "postgres_url": self.tables.url,
            "executor": "celery",
            "broker_url": f"amqp://guest@{host}:{services.broker.port}//",
        }
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((ENV_PREFIX, "DAGSTER_", "AWS_"))
        }
        self._outside = {
            **kept,
            **services.s3.environment(),
            "AWS_ENDPOINT_URL": services.s3.endpoint.replace(LOOPBACK, host),
            "DAGSTER_POSTGRES_URL": server.database("dagster").url,
            "PYTHONPATH": str(PROJECT),
            "NO_PROXY": "*",
            "no_proxy": "*",
        }

    @property
    def settings(self) -> Settings:
        """Those of the machine that starts runs, for which the store is where this process sees it."""
        return load_settings(data_dir=self._folder / CONTROL / "data", **self._given)

    @property
    def lake(self) -> Lake:
        """The lake in the object store."""
        return open_lake(self.settings)

    @property
    def lake_alone(self) -> Lake:
        """The lake of the machine that does all alone."""
        return open_lake(load_settings(data_dir=self._folder / ALONE / "data", **self._alone))

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a machine, whose home and disk are a folder of its own."""
        home = self._folder / name
        given = self._alone if name == ALONE else self._given
        if not (home / "dagster.yaml").exists():
            home.mkdir(exist_ok=True)
            instance = (
                PROJECT / "dagster.yaml" if name == ALONE else PROJECT / "deploy/dagster.yaml"
            )
            shutil.copy(instance, home)
            if given["marts"] != "none":
                give_parsed_project(home / "data")
        forked = [str(forked_commands())] if name in {ALONE, CONTROL} else []
        return {
            **self._outside,
            **{variable(setting): value for setting, value in given.items()},
            variable("data_dir"): str(home / "data"),
            "DAGSTER_HOME": str(home),
            "HOME": str(home),
            # What the dead leave there goes with the test.
            **({} if forked else {"TMPDIR": str(home)}),
            "PATH": os.pathsep.join([*forked, str(INSTALLED), os.environ["PATH"]]),
        }

    def start(self, machine: Machine) -> None:
        """Start a machine that is down, with its worker."""
        log = self._folder / f"{machine.name}.log"
        environment = self.environment(machine.name)
        machine.start(_WORKER, environment, self._folder / machine.name, log)

    def at_work(self) -> Machine | None:
        """The machine that does a step, if one does."""
        with connect(self.tables) as connection:
            rows = connection.execute(
                "SELECT host(client_addr) FROM pg_stat_activity JOIN pg_locks USING (pid) "
                "WHERE locktype = 'advisory' AND application_name = 'ctg_assets step'"
            ).fetchall()
        addresses = {address for (address,) in rows}
        return next((one for one in self.machines if one.address in addresses), None)

    def next_step(self) -> Step | Idle:
        """What the sensor would ask for, once Postgres answers."""
        found: list[Step | Idle] = []

        def look() -> bool:
            try:
                found.append(next_step(self.settings, self.lake))
            except TransientError:
                return False
            return True

        wait_until("Postgres answers", look)
        return found[0]

    def refresh(self, meanwhile: Callable[[Step], None] = lambda _: None) -> None:
        """Start runs, as the sensor does, until nothing is left to do; `meanwhile` is called as one is under way."""
        for _ in range(_MOST_RUNS):
            step = self.next_step()
            if isinstance(step, Idle):
                assert not step.blocked, step
                return
            self._run(step, meanwhile)
        message = f"not at rest after {_MOST_RUNS} runs; the last one was for {step}"
        raise AssertionError(message)

    def _run(self, step: Step, meanwhile: Callable[[Step], None]) -> None:
        self.runs += 1
        with self.start_run(step) as run:
            try:
                meanwhile(step)
                run.wait(_RUN_SECONDS)
            finally:
                run.kill()

    def start_run(self, step: Step) -> subprocess.Popen[bytes]:
        """Start a run for a step by Dagster's command."""
        tags = {}
        if step.stage is Stage.PAGES and step.extraction is not None:
            tags = range_tags(step.extraction, step.first_page, step.last_page)
        return self._start(
            CONTROL,
            *("dagster", "job", "execute", "-m", "ctg_assets.definitions"),
            *("-j", STAGE_JOBS[step.stage].name, "--tags", json.dumps(tags)),
        )

    @contextmanager
    def daemon(self) -> Iterator[None]:
        """Dagster's daemon, with the sensor, on the machine that starts runs."""
        location = "ctg_assets_tests.orchestration.quick_location"
        process = self._start(CONTROL, "dagster-daemon", "run", "-m", location)
        try:
            yield
        finally:
            end_daemon(process, self._folder / CONTROL)

    def refresh_alone(self) -> None:
        """Have the other machine do the same, undisturbed."""
        self._do(ALONE, "ctg-assets", "refresh")

    def deliver(self, name: str, url: str) -> None:
        """Deliver changes to a receiver, from the lake of the site or of the machine that is alone."""
        home = self._folder / name
        sink = (
            f'[[sink]]\nname = "receiver"\ntype = "webhook"\nurl = "{url}"\nstart = "beginning"\n'
        )
        (home / "sinks.toml").write_text(f'{sink}secret_env = "{SECRET_ENV}"\n')
        given = {SECRET_ENV: SECRET, variable("feed_file"): str(home / "sinks.toml")}
        self._do(name, "ctg-assets", "feed", "run", "--once", **given)

    def _do(self, name: str, *command: str, **environment: str) -> None:
        with self._start(name, *command, **environment) as process:
            assert process.wait(_RUN_SECONDS) == 0, (self._folder / f"{name}.log").read_text()[
                -2000:
            ]

    def _start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a command of the machine that starts runs, or of the one that does all alone."""
        around = {**self.environment(name), **environment}
        with (self._folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [str(forked_commands() / command[0]), *command[1:]],
                cwd=self._folder / name,
                env=around,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def senders(self) -> set[str]:
        """The machines that asked the registry under the shared limit."""
        return {
            machine.name
            for machine in self.machines
            if list((self._folder / machine.name).glob("data/state/machines-*"))
        }


_SCHEMAS = ["staging", "marts", "ctgov"]


def rows_of_all_tables(address: PostgresAddress) -> dict[str, list[str]]:
    """All rows of all tables as JSON, without times of loading and ids that no two lakes share."""
    with psycopg.connect(address.url) as connection:
        names = connection.execute(
            "SELECT schemaname, tablename FROM pg_tables WHERE schemaname = ANY(%s)", [_SCHEMAS]
        ).fetchall()
        return {
            f"{schema}.{table}": [
                row
                for (row,) in connection.execute(
                    "SELECT (to_jsonb(t) - '{loaded_at,recorded_at,snapshot_id,extraction_id}'::text[])::text AS row "
                    f"FROM {schema}.{table} AS t ORDER BY 1".encode()
                )
            ]
            for schema, table in names
        }


@contextmanager
def shared_services(simulator: RunningSimulator) -> Iterator[tuple[Network, Services]]:
    """A network and what its machines share; skips the test where something for that is missing."""
    with ExitStack() as stack:
        enter = stack.enter_context
        net = enter(network())
        broker = enter(running_broker(largest_message=None))
        s3 = enter(running_s3())
        [port] = unused_ports(1)
        postgres = enter(running_server(port, net.host))
        s3_port, simulator_port = (
            urlsplit(url).port or 0 for url in (s3.endpoint, simulator.api_url)
        )
        enter(line(net.host, broker.port))
        enter(line(net.host, simulator_port))
        yield (
            net,
            Services(net.host, simulator, broker, postgres, s3, enter(line(net.host, s3_port))),
        )


@contextmanager
def working_site(
    folder: Path, network: Network, services: Services, **given: str
) -> Iterator[Site]:
    """Two machines with a worker each; `given` are settings."""
    machines = [network.machine() for _ in range(2)]
    site = Site(folder, services, machines, given)
    try:
        for machine in machines:
            site.start(machine)
        wait_until("two workers answer", lambda: len(connected_workers(site.settings)) == 2)
        yield site
    finally:
        for machine in machines:
            machine.kill()
