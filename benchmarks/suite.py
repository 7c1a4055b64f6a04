"""The course of a run: which tasks on which studies, in which databases."""

from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import psutil
from msgspec.structs import replace
from psycopg import sql

from benchmarks import inputs, machine, peer_duckdb, report
from benchmarks.columns import BYTES
from benchmarks.inputs import StudySet, settings_of
from benchmarks.limit import PARSERS, WITHOUT_VALUES
from benchmarks.measuring import Figure, Run, repeat, run_task, run_task_here
from benchmarks.outcome import BEFORE, Outcome
from benchmarks.peer_dlt import FORMATS
from benchmarks.report import Line, Results
from ctg_assets.postgres.cluster import read_postmaster
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets.postgres.server import open_postgres

# The files of encoded rows would fill the disk, and the limit grows with the data.
_LIMIT_UP_TO = 100_000

# A generated study takes 56 kB in tables and indexes and 4 kB in files; marts, scratch files and WAL
# come on top. Where the limit is measured, the rows lie there twice more.
_DISK_BYTES_PER_STUDY = 90_000
_MORE_FOR_THE_LIMIT = 40_000

_MAIN_TABLE = "studies"


class MismatchError(Exception):
    """Two ways of loading the same studies gave other numbers of rows."""


@dataclass(frozen=True)
class Plan:
    """What a run measures.

    `folder` keeps the sets of studies and, during the run, everything else. `real` is a file of real
    studies, measured `real_copies` times over; peers get `peer_studies` of them, or generated ones
    where there is no file. Without `own_processes` all tasks run in this one: that only shows whether
    they work.
    """

    folder: Path
    sizes: tuple[int, ...]
    real: Path | None = None
    real_copies: int = 4
    peer_studies: int = 1000
    repeats: int = 3
    with_dbt: bool = True
    own_processes: bool = True
    dlt_formats: tuple[str, ...] = FORMATS


def missing_modules() -> list[str]:
    """What has to be installed for all peers and parsers and is not."""
    wanted = ("dlt", "duckdb", "orjson", "pandas", "simdjson")
    return [name for name in wanted if find_spec(name) is None]


def measure(plan: Plan, say: Callable[[str], None]) -> Results:
    """Measure all that the plan names; `say` gets a line for every step.

    Raises NoRoomError before anything is done, and TaskError or MismatchError when figures would mean
    nothing.
    """
    largest = max((plan.peer_studies, *plan.sizes))
    with_limit = min(largest, _LIMIT_UP_TO)
    needed = largest * _DISK_BYTES_PER_STUDY + with_limit * _MORE_FOR_THE_LIMIT
    machine.require_room(plan.folder, largest, needed)
    sets = plan.folder / "inputs"
    cores = psutil.cpu_count() or 1
    busy = machine.busyness(psutil.getloadavg()[0], cores)
    notes = [] if busy is None else [busy]
    if plan.real is None:
        notes.append("No file of real studies is there: peers are measured on generated ones.")
    with _scratch(plan.folder) as scratch, open_postgres(settings_of(scratch)) as server:
        course = _Course(plan, say, scratch, server)
        if plan.real is None:
            say("making the studies for peers")
            course.peers(inputs.generated(sets, plan.peer_studies))
        else:
            say("preparing real studies")
            course.peers(inputs.real_sample(sets, plan.real, plan.peer_studies))
            course.fast_peers(inputs.real(sets, plan.real, plan.real_copies))
        for size in sorted(plan.sizes):
            say(f"making {size:,} studies, unless they are there")
            course.ours(inputs.generated(sets, size))
    return Results(
        measured_on=datetime.now(UTC).date().isoformat(),
        machine=machine.describe(),
        contenders=course.contenders,
        stages=course.stages,
        parsers=course.parsers,
        notes=notes,
    )


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A data folder for one run: the server's, and of the lakes that are written to."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix="run-") as name:
        yield Path(name)


@dataclass
class _Course:
    """A run under way, and what it has found."""

    plan: Plan
    say: Callable[[str], None]
    scratch: Path
    server: PostgresAddress
    contenders: list[Line] = field(default_factory=list)
    stages: list[Line] = field(default_factory=list)
    parsers: list[Line] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _dlt_format: str | None = None

    # what is measured on a set

    def ours(self, studies: StudySet) -> None:
        """Our stages, and where it fits on the disk the limit."""
        with self._lake(studies) as work:
            self._measure_ours(studies, work)

    def peers(self, studies: StudySet) -> None:
        """Our stages, the limit, and all peers."""
        with self._lake(studies) as work:
            rows = self._measure_ours(studies, work)
            for file_format in self.plan.dlt_formats:
                self._measure_dlt(studies, file_format)
            found = [line for line in self.contenders if line.name == report.DLT]
            if found:
                # The slower formats are kept to be seen, under another name.
                fastest = min(found, key=lambda line: line.seconds)
                self._dlt_format = fastest.note
                self.contenders = [line for line in self.contenders if line.name != report.DLT]
                self.contenders += [
                    line if line is fastest else replace(line, name=f"{report.DLT}, slower")
                    for line in found
                ]
            self._measure_duckdb(studies)
            if find_spec("pandas"):
                self._measure_pandas(studies)
            self._measure_pydantic(studies, work, rows)

    def fast_peers(self, studies: StudySet) -> None:
        """Our stages, the limit, DuckDB, and dlt as it was fastest; other peers would take too long."""
        with self._lake(studies) as work:
            self._measure_ours(studies, work)
            if self._dlt_format is not None:
                self._measure_dlt(studies, self._dlt_format)
            self._measure_duckdb(studies)

    # our own work and the limit

    def _measure_ours(self, studies: StudySet, work: Path) -> Mapping[str, int]:
        """Returns the rows by table."""
        data_dir = str(work)
        parsed = self._repeated("benchmarks.ours:parse", {"data_dir": data_dir})
        self.stages.append(_line(studies, "parse", parsed))

        def compact(task: str) -> Run:
            for made in ("snapshots", "history"):
                shutil.rmtree(work / "lake" / made, ignore_errors=True)
            return self._run(f"benchmarks.ours:{task}", {"data_dir": data_dir})

        typed_ahead = repeat(lambda: compact("compact_typed_ahead"), self.plan.repeats)
        self.stages.append(_line(studies, report.TYPED_AHEAD, typed_ahead))
        compacted = repeat(lambda: compact("compact"), self.plan.repeats)
        self.stages.append(_line(studies, "compact", compacted))
        flattened = self._repeated("benchmarks.ours:flatten_snapshot", {"data_dir": data_dir})
        self.stages.append(_line(studies, "flatten", flattened))
        with self._database() as loaded_into:
            loaded = self._loaded(studies, data_dir, loaded_into)
            self._end_to_end(studies, compacted, typed_ahead, loaded, loaded_into)
            rows = loaded.fastest.outcome.rows
            if rows != flattened.fastest.outcome.rows:
                message = f"{studies.name}: flattening gave other rows than were loaded"
                raise MismatchError(message)
            self._measure_clickhouse(studies, data_dir, loaded_into, rows)
            if studies.studies <= _LIMIT_UP_TO:
                with tempfile.TemporaryDirectory(dir=self.scratch, prefix="rows-") as folder:
                    self._task("benchmarks.limit:dump", folder, loaded_into)
                    self._measure_limit(studies, folder, rows)
            with self._copy(work) as copy, self._released(studies, copy) as releases:
                self._measure_refresh(studies, str(copy), loaded_into)
                self._measure_release(studies, copy, releases, f"{report.REFRESH}: release")
        if studies.studies <= _LIMIT_UP_TO:
            self._measure_straight(studies, data_dir)
        return rows

    def _loaded(self, studies: StudySet, data_dir: str, dbname: str) -> Figure:
        # A load replaces what an earlier one left, so all runs can use one database.
        loaded = repeat(
            lambda: self._task("benchmarks.ours:load", data_dir, dbname), self.plan.repeats
        )
        self.stages.append(_line(studies, "load", loaded))
        for phase, seconds in loaded.fastest.outcome.parts.items():
            note = "with reading and flattening" if phase == "copy" else ""
            self.stages.append(
                Line(
                    studies_of=studies.name,
                    studies=studies.studies,
                    json_bytes=studies.json_bytes,
                    name=f"load: {phase}",
                    seconds=seconds,
                    median_seconds=seconds,
                    note=note,
                )
            )
        return loaded

    def _measure_clickhouse(
        self, studies: StudySet, data_dir: str, dbname: str, rows: Mapping[str, int]
    ) -> None:
        """The first load into ClickHouse, and how large its tables are beside those of Postgres."""
        if find_spec("chdb") is None:
            return

        def load() -> Run:
            with tempfile.TemporaryDirectory(dir=self.scratch, prefix="clickhouse-") as folder:
                task = {"data_dir": data_dir, "folder": folder}
                return self._run("benchmarks.columns:first_load", task)

        loaded = repeat(load, self.plan.repeats)
        outcome = loaded.fastest.outcome
        if outcome.rows != rows:
            message = f"{studies.name}: ClickHouse has other rows than Postgres"
            raise MismatchError(message)
        with connect(self.server.database(dbname)) as connection:
            [(held,)] = connection.execute(
                "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c"
                " WHERE c.relkind = 'r' AND c.relnamespace = 'staging'::regnamespace"
            ).fetchall()
        note = (
            f"{outcome.parts[BYTES] / 1e6:,.0f} MB on disk; Postgres: {float(held) / 1e6:,.0f} MB"
        )
        self.stages.append(replace(_line(studies, report.CLICKHOUSE, loaded), note=note))

    def _end_to_end(
        self,
        studies: StudySet,
        compacted: Figure,
        typed_ahead: Figure,
        loaded: Figure,
        dbname: str,
    ) -> None:
        if not self.plan.with_dbt:
            return
        star = self._in_database("benchmarks.ours:star_schema", dbname)
        self.stages.append(_line(studies, report.STAR, star))
        for name, first in ((report.END_TO_END, compacted), (report.AFTER_CRAWL, typed_ahead)):
            figures = [first, loaded, star]
            seconds = sum(figure.fastest.wall_seconds for figure in figures)
            seconds -= first.fastest.outcome.parts.get(BEFORE, 0)
            self.say(f"  {name}: {seconds:.1f} s")
            self.stages.append(
                Line(
                    studies_of=studies.name,
                    studies=studies.studies,
                    json_bytes=studies.json_bytes,
                    name=name,
                    seconds=seconds,
                    median_seconds=seconds,
                    peak_bytes=max(figure.peak_bytes for figure in figures),
                    server_peak_bytes=max(figure.server_peak_bytes for figure in figures),
                    note="compact, load and the star schema, with starting their processes",
                )
            )
        self._measure_beside(studies, dbname)

    def _measure_beside(self, studies: StudySet, dbname: str, prefix: str = "") -> None:
        """AACT's tables, and the marts that the star schema is not made of."""
        for name, task in (("ctgov", "ctgov"), (report.OTHER_MARTS, "other_marts")):
            made = self._in_database(f"benchmarks.ours:{task}", dbname)
            self.stages.append(_line(studies, f"{prefix}{name}", made))

    def _measure_refresh(self, studies: StudySet, data_dir: str, dbname: str) -> None:
        """What it costs to follow when one study in a hundred changed."""
        compared = self._repeated("benchmarks.changes:compare", {"data_dir": data_dir})
        self.stages.append(
            replace(
                _line(studies, report.COMPARE, compared),
                note=f"{compared.fastest.outcome.rows['studies'] / compared.seconds:,.0f} a second",
            )
        )
        changed = self._run("benchmarks.changes:change_some", {"data_dir": data_dir})
        followed = self._task(
            "benchmarks.ours:follow", data_dir, dbname, with_dbt=self.plan.with_dbt
        )
        of_changed = replace_studies(studies, changed.outcome)
        whole = _line(of_changed, report.REFRESH, Figure((followed,)))
        for name, seconds in followed.outcome.parts.items():
            self.stages.append(
                replace(
                    whole,
                    name=f"{report.REFRESH}: {name}",
                    seconds=seconds,
                    median_seconds=seconds,
                    rows=None,
                    peak_bytes=None,
                    server_peak_bytes=None,
                )
            )
        seconds = followed.wall_seconds
        self.stages.append(
            replace(
                whole,
                seconds=seconds,
                median_seconds=seconds,
                note="with starting its process and dbt's",
            )
        )
        if self.plan.with_dbt:
            self._measure_beside(of_changed, dbname, f"{report.REFRESH}: ")

    @contextmanager
    def _released(self, studies: StudySet, lake: Path) -> Iterator[Path]:
        """A folder with a release of a lake."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="releases-") as name:
            self._measure_release(studies, lake, Path(name), report.RELEASE)
            yield Path(name)

    def _measure_release(self, studies: StudySet, lake: Path, releases: Path, name: str) -> None:
        task = {"data_dir": str(lake), "place": str(releases)}
        figure = Figure((self._run("benchmarks.ours:release", task),))
        seconds = figure.fastest.wall_seconds
        there = sum(path.stat().st_size for path in releases.rglob("*.parquet"))
        note = f"with starting its process; {there / 1e6:,.0f} MB of files are there then"
        line = _line(studies, name, figure, note)
        self.stages.append(replace(line, seconds=seconds, median_seconds=seconds))

    def _measure_straight(self, studies: StudySet, data_dir: str) -> None:
        straight = self._in_new_databases("benchmarks.ours:straight", data_dir)
        copied = [run.outcome.parts["copy"] for run in straight.runs]
        whole = _line(studies, report.OURS_WHOLE, straight)
        self.contenders += [
            replace(
                whole,
                name=report.OURS_BARE,
                seconds=min(copied),
                median_seconds=statistics.median(copied),
            ),
            whole,
        ]

    def _measure_limit(self, studies: StudySet, folder: str, rows: Mapping[str, int]) -> None:
        parsed = {}
        for parser in PARSERS:
            if parser in missing_modules():
                continue
            task = {"data_dir": str(studies.data_dir), "parser": parser}
            parsed[parser] = self._repeated("benchmarks.limit:parse", task)
            self.parsers.append(_line(studies, parser, parsed[parser]))
        copied = self._in_new_databases("benchmarks.limit:copy_rows", folder)
        if copied.fastest.outcome.rows != rows:
            message = f"{studies.name}: the limit copied other rows than we loaded"
            raise MismatchError(message)
        handing_out = {name: one for name, one in parsed.items() if name not in WITHOUT_VALUES}
        for name, choice in ((report.LIMIT, parsed), (report.LIMIT_WITH_VALUES, handing_out)):
            parser = min(choice, key=lambda one: choice[one].seconds)
            line = _line(studies, name, copied, note=parser)
            self.contenders.append(
                replace(
                    line,
                    seconds=line.seconds + choice[parser].seconds,
                    median_seconds=line.median_seconds + choice[parser].median_seconds,
                    peak_bytes=max(copied.peak_bytes, choice[parser].peak_bytes),
                )
            )

    # peers

    def _measure_dlt(self, studies: StudySet, file_format: str) -> None:
        if find_spec("dlt") is None:
            return
        figure = self._in_new_databases(
            "benchmarks.peer_dlt:run", str(studies.data_dir), file_format=file_format
        )
        self.contenders.append(_line(studies, report.DLT, figure, note=file_format))
        self._check_main_table(studies, report.DLT, figure)

    def _measure_duckdb(self, studies: StudySet) -> None:
        if find_spec("duckdb") is None:
            return
        way = peer_duckdb.way()
        figure = self._in_new_databases(
            "benchmarks.peer_duckdb:run", str(studies.data_dir), way=way
        )
        self.contenders.append(_line(studies, report.DUCKDB, figure, note=way))
        self._check_main_table(studies, report.DUCKDB, figure)

    def _measure_pandas(self, studies: StudySet) -> None:
        figure = self._in_new_databases("benchmarks.peer_pandas:run", str(studies.data_dir))
        self.contenders.append(_line(studies, report.PANDAS, figure))
        self._check_main_table(studies, report.PANDAS, figure)

    def _measure_pydantic(self, studies: StudySet, work: Path, rows: Mapping[str, int]) -> None:
        figure = self._in_new_databases("benchmarks.peer_pydantic:run", str(work))
        self.contenders.append(_line(studies, report.PYDANTIC, figure))
        if figure.fastest.outcome.rows != rows:
            message = f"{studies.name}: {report.PYDANTIC} inserted other rows than we loaded"
            raise MismatchError(message)

    def _check_main_table(self, studies: StudySet, name: str, figure: Figure) -> None:
        found = figure.fastest.outcome.rows[_MAIN_TABLE]
        if found != studies.studies:
            message = f"{name} loaded {found} of {studies.studies} studies ({studies.name})"
            raise MismatchError(message)

    # running tasks

    @contextmanager
    def _lake(self, studies: StudySet) -> Iterator[Path]:
        """A lake with the set's shards, to be written to; the set itself stays as it is."""
        self.say(f"{studies.name}: {studies.json_bytes / 1e6:,.0f} MB of JSON")
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="lake-") as name:
            extractions = Path(name, "lake", "extractions")
            extractions.mkdir(parents=True)
            for made in (studies.data_dir / "lake" / "extractions").absolute().iterdir():
                (extractions / made.name).symlink_to(made, target_is_directory=True)
            yield Path(name)

    @contextmanager
    def _copy(self, work: Path) -> Iterator[Path]:
        """A copy of a lake, to which more can be added; it costs no space, as files are only replaced."""
        with tempfile.TemporaryDirectory(dir=self.scratch, prefix="lake-") as name:
            shutil.copytree(work, name, symlinks=True, copy_function=os.link, dirs_exist_ok=True)
            yield Path(name)

    @contextmanager
    def _database(self) -> Iterator[str]:
        """The name of an empty database, which is dropped in the end."""
        dbname = f"bench_{next(self._numbers)}"
        name = sql.Identifier(dbname)
        with connect(self.server) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(name))
            # So that nobody pays for what an earlier task has left to be written.
            connection.execute("CHECKPOINT")
        try:
            yield dbname
        finally:
            with connect(self.server) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))

    def _in_new_databases(self, task: str, data_dir: str, **others: object) -> Figure:
        def once() -> Run:
            with self._database() as dbname:
                return self._task(task, data_dir, dbname, **others)

        return repeat(once, self.plan.repeats)

    def _task(self, task: str, data_dir: str, dbname: str, **others: object) -> Run:
        place = {"data_dir": data_dir, "server_dir": str(self.scratch), "dbname": dbname}
        return self._run(task, {**place, **others})

    def _in_database(self, task: str, dbname: str) -> Figure:
        """One run of a task that finds all it needs in a database."""
        return Figure((self._run(task, {"server_dir": str(self.scratch), "dbname": dbname}),))

    def _repeated(self, task: str, arguments: Mapping[str, object]) -> Figure:
        return repeat(lambda: self._run(task, arguments), self.plan.repeats)

    def _run(self, task: str, arguments: Mapping[str, object]) -> Run:
        postmaster = read_postmaster(self.scratch / "postgres" / "data")
        if self.plan.own_processes:
            run = run_task(task, arguments, None if postmaster is None else postmaster.pid)
        else:
            run = run_task_here(task, arguments)
        name = task.partition(".")[2]
        shown = ", ".join(
            str(arguments[key]) for key in ("parser", "file_format", "way") if key in arguments
        )
        self.say(f"  {name}{f' ({shown})' if shown else ''}: {run.outcome.seconds:.2f} s")
        return run


def replace_studies(studies: StudySet, changed: Outcome) -> StudySet:
    """The same set by name and number, with the bytes of what changed."""
    return dataclasses.replace(studies, json_bytes=changed.json_bytes)


def _line(studies: StudySet, name: str, figure: Figure, note: str = "") -> Line:
    return Line(
        studies_of=studies.name,
        studies=studies.studies,
        json_bytes=studies.json_bytes,
        name=name,
        seconds=figure.seconds,
        median_seconds=figure.median_seconds,
        runs=len(figure.runs),
        rows=sum(figure.fastest.outcome.rows.values()) or None,
        peak_bytes=figure.peak_bytes,
        server_peak_bytes=figure.server_peak_bytes,
        note=note,
    )
