"""A folder to work in like a user: data, a Dagster instance, and the commands in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ctg_assets.lake import Lake, open_lake
from ctg_assets.postgres.connection import connect
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import ENV_PREFIX, Settings, load_settings
from ctg_assets_tests.orchestration.parsed_project import give_parsed_project
from ctg_assets_tests.support.forked_commands import forked_commands
from ctg_assets_tests.support.postgres import kill_server, temporary_folder

PROJECT = Path(__file__).resolve().parents[2]
# Where programs lie as users start them: each imports all that it needs.
INSTALLED = Path(sys.executable).parent
PAGE_SIZE = 10
# All that a refresh makes for users, who set nothing.
EVERYTHING = {"marts": "all", "aact": "true"}
_SECONDS = 600

# Prints what Dagster knows: runs, how often each partition and asset was materialized, where the columns
# of models come from, and what else is shown of them.
_KNOWN_TO_DAGSTER = """
import json, dagster as dg
instance = dg.DagsterInstance.get()
keys = [dg.AssetKey([name]) for name in ("extraction_plan", "page_shards", "studies")]
counts = {}
for key in keys:
    records = instance.fetch_materializations(key, limit=1000).records
    counts[key.to_user_string()] = [record.partition_key for record in records]
models = {}
for key in (dg.AssetKey(["staging_views", "stg_conditions"]), dg.AssetKey(["marts", "fct_study_condition"])):
    for record in instance.fetch_materializations(key, limit=1).records:
        shown = record.asset_materialization.metadata
        lineage = shown["dagster/column_lineage"].value.deps_by_column
        models[key.to_user_string()] = {"shown": sorted(shown), "lineage": {
            column: [f"{dep.asset_key.to_user_string()}.{dep.column_name}" for dep in deps]
            for column, deps in lineage.items()
        }}
print(json.dumps({
    "models": models,
    "runs": [[run.job_name, run.status.value, dict(run.tags)] for run in instance.get_runs()],
    "materialized": counts,
    "slots": [
        [slot.run_id for slot in instance.event_log_storage.get_concurrency_info(key).claimed_slots]
        for key in instance.event_log_storage.get_concurrency_keys()
    ],
    "partitions": list(instance.get_dynamic_partitions("page")),
}))
"""


class Workplace:
    """A data folder and a Dagster instance, pointed at one registry."""

    def __init__(self, folder: Path, api_url: str, **settings: str) -> None:
        """Work in `folder`; `settings` are further CTG_ variables without the prefix.

        Unless these say otherwise there are no marts and none of AACT's tables: dbt's 170 nodes take most of a
        refresh. `EVERYTHING` has what users get.
        """
        self.folder = folder
        self.api_url = api_url
        self.given = settings
        shutil.copy(PROJECT / "dagster.yaml", folder)
        give_parsed_project(self.settings.data_dir)

    def environment(self, **settings: str) -> dict[str, str]:
        """The environment of a command, as after a fresh login plus our settings.

        The programs that are found are forked ones (`forked_commands.py`); INSTALLED has those of users.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith((ENV_PREFIX, "DAGSTER_"))
        }
        chosen = {
            "api_url": self.api_url,
            "data_dir": str(self.folder / "data"),
            "page_size": str(PAGE_SIZE),
            "requests_per_minute": "10000",
            "retry_seconds": "0.2",
            "marts": "none",
            "aact": "false",
            **self.given,
            **settings,
        }
        return {
            **kept,
            "PATH": os.pathsep.join([str(forked_commands()), str(INSTALLED), kept["PATH"]]),
            **{ENV_PREFIX + name.upper(): value for name, value in chosen.items()},
        }

    @property
    def settings(self) -> Settings:
        """The settings that its commands see."""
        variables = self.environment()
        return load_settings(
            **{
                name: variables[ENV_PREFIX + name.upper()]
                for name in Settings.model_fields
                if ENV_PREFIX + name.upper() in variables
            }
        )

    @property
    def lake(self) -> Lake:
        """Its lake."""
        return open_lake(self.settings)

    def start(self, *command: str, **settings: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a shell does."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with self.start(*command, **settings) as process:
            try:
                out, err = process.communicate(timeout=_SECONDS)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def ctg(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `ctg-assets`."""
        return self.run("ctg-assets", *arguments, **settings)

    def refresh(self, *arguments: str, **settings: str) -> str:
        """Refresh, which has to succeed; returns what was printed."""
        done = self.ctg("refresh", *arguments, **settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def materialize(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `dagster asset materialize`."""
        return self.run(
            "dagster",
            "asset",
            "materialize",
            "-m",
            "ctg_assets.definitions",
            *arguments,
            **settings,
        )

    def dagster_state(self) -> Any:
        """What Dagster's instance holds, read by a process of its own."""
        done = subprocess.run(
            [forked_commands() / "code", _KNOWN_TO_DAGSTER],
            cwd=self.folder,
            env={**self.environment(), "DAGSTER_HOME": str(self.folder)},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def pages(self) -> list[str]:
        """The keys of all pages of all extractions that are there."""
        return [
            plan.page_key(page)
            for plan in self.lake.extractions.plans()
            for page in self.lake.shards.pages(plan.extraction_id)
        ]

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of one statement on the database."""
        with open_postgres(self.settings) as address, connect(address) as connection:
            return list(connection.execute(statement.encode()).fetchall())

    def tables(self) -> Mapping[str, list[tuple[Any, ...]]]:
        """All rows of all tables of staging and marts as JSON without load times, by table."""
        with open_postgres(self.settings) as address, connect(address) as connection:
            names = connection.execute(
                "SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN "
                "('staging', 'marts') ORDER BY 1, 2"
            ).fetchall()
            return {
                f"{schema}.{table}": connection.execute(
                    f"SELECT (to_jsonb(t) - 'loaded_at')::text FROM {schema}.{table} AS t "
                    "ORDER BY 1".encode()
                ).fetchall()
                for schema, table in names
            }


@contextmanager
def workplace(api_url: str, subfolder: str = "", **settings: str) -> Iterator[Workplace]:
    """A workplace in a temporary folder whose name has spaces."""
    with temporary_folder() as folder:
        home = folder / subfolder
        home.mkdir(parents=True, exist_ok=True)
        yield Workplace(home, api_url, **settings)


def wait_until(
    what: str, condition: Callable[[], object], seconds: float = 120, pause: float = 0.1
) -> None:
    """Look again and again until the condition holds; fails when it does not in this time."""
    deadline = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        tick.wait(pause)


def kill_group(process: subprocess.Popen[str]) -> None:
    """`kill -9` a command with all it started in its group."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=30)


def refresh_while_postgres_is_killed(
    place: Workplace, kill: Callable[[], None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Begin a refresh, and kill the server with all its processes while tables are loaded.

    `kill` does so where it is not the embedded one.
    """
    with (
        open_postgres(place.settings) as address,
        closing(connect(address)) as reader,
        closing(connect(address)) as watcher,
        place.start("ctg-assets", "refresh") as process,
    ):
        # A reader in a transaction keeps the load from its last step.
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM staging.studies")
        wait_until(
            "load under way",
            lambda: watcher.execute(
                "SELECT 1 FROM pg_stat_activity WHERE application_name = 'ctg_assets load'"
            ).fetchone(),
        )
        if kill is None:
            kill_server(place.settings.data_dir / "postgres" / "data")
        else:
            kill()
        out, err = process.communicate(timeout=120)
    return subprocess.CompletedProcess([], process.returncode, out, err)
