"""`ctg-assets`: the commands for people."""

from __future__ import annotations

import getpass
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from ctg_assets import __version__, model
from ctg_assets.cli.console import (
    RefreshDisplay,
    SafeConsole,
    age,
    check_line,
    consequences_lines,
    entry_facts,
    extraction_facts,
    facts,
    history_lines,
    led,
    log_to,
    rows_table,
    sink_lines,
    sinks_table,
    snapshot_facts,
    warehouse_facts,
)
from ctg_assets.errors import CtgAssetsError, ExitCode
from ctg_assets.extract.credible_times import parse_time, require_possible
from ctg_assets.extract.extractions import ExtractionState
from ctg_assets.extract.import_file import import_file as bring_in
from ctg_assets.extract.published_model import (
    ask_for_model,
    published_model_check,
    read_published_model,
    recorded_model,
)
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.feed.errors import SinkBusyError
from ctg_assets.feed.service import (
    deliver,
    replay_dead_letters,
    replay_from,
    sink_statuses,
)
from ctg_assets.history.undo import Author, Consequences
from ctg_assets.integrity.repair_run import mend_lake
from ctg_assets.integrity.verification import verify
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.as_of import load_as_of
from ctg_assets.load.request import LoadProgress
from ctg_assets.load.row_sources import staging_shapes
from ctg_assets.marts.months import observed_months, rebuild_months, remove_months
from ctg_assets.model.drift import drifts
from ctg_assets.postgres.connection import psql_path
from ctg_assets.postgres.errors import WarehouseError
from ctg_assets.postgres.server import open_postgres
from ctg_assets.printable import printable
from ctg_assets.refresh.planner import Idle, Stage, Step
from ctg_assets.refresh.status import (
    WarehouseStatus,
    extraction_statuses,
    odd_times,
    quarantine_reasons,
    warehouse_status,
)
from ctg_assets.refresh.undo import leaves_nothing, take_back, undoer
from ctg_assets.refresh.upcoming import (
    next_extracted_step,
    next_known_step,
    next_refresh_step,
)
from ctg_assets.registry.configured import open_registry
from ctg_assets.settings import RefreshMode, Settings, load_settings
from ctg_assets.shipped import shipped_path
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.data_folder import file_lock

app = typer.Typer(
    help="The whole of ClinicalTrials.gov as Dagster assets: page shards, Parquet, Postgres, marts.\n\n"
    "Start with [bold]refresh[/]; look with [bold]status[/] and [bold]psql[/]. Settings are "
    "environment variables named CTG_…; the README lists them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)
feed = typer.Typer(
    help="Tell others of changes: webhooks and queues of RabbitMQ, named in CTG_FEED_FILE.",
    no_args_is_help=True,
)
app.add_typer(feed, name="feed")
history = typer.Typer(
    help="What each import and each walk brought, and taking it back.", no_args_is_help=True
)
app.add_typer(history, name="history")

# Of a long list, status shows the beginning.
_MOST_LISTED = 20

# Where fields.csv and enums.csv lie: in a clone that is the source itself.
_MODEL_FOLDER = Path(model.__file__).parent

# In place of a time: each study counts as observed on its own last update date.
_EACH_ON_ITS_OWN_DAY = "last-update"

# The lock on running stages from the command line.
_REFRESH = "refresh"

# Whatever people see goes through one of these.
out = SafeConsole()
err = SafeConsole(stderr=True)


def main() -> None:
    """Run the command line."""
    # A traceback, too, may hold text from elsewhere.
    sys.excepthook = lambda *error: err.print("".join(traceback.format_exception(*error)), end="")
    app()


@app.command()
def refresh(
    again: Annotated[
        bool, typer.Option("--again", help="Walk the registry even if its data did not move.")
    ] = False,
    mode: Annotated[
        RefreshMode | None,
        typer.Option(
            help="What to ask for if the registry's data moved, in place of CTG_REFRESH_MODE."
        ),
    ] = None,
) -> None:
    """Bring everything up to date: registry → page shards → snapshot → tables → marts.

    Does only what is left to do, so it can be repeated at will, and goes on where a walk was
    interrupted, whoever had begun it. The same assets run as in the UI, and show there.

    What is asked of the registry takes turns: everything, what was posted lately, a census of ids and
    dates. --mode chooses one for this time; with --again it is done though nothing is due.

    Exit codes: 0 done, 1 failed, 2 unusable settings, 3 a check forbids to go on, 4 another run is
    under way, 130 interrupted.
    """
    with _errors_as_exit_codes():
        settings = load_settings(**({} if mode is None else {"refresh_mode": mode}))
        first = Step(Stage.PLAN, "asked for") if again else None
        with file_lock(settings, _REFRESH):
            _run(settings, partial(next_refresh_step, settings, open_lake(settings)), first)


@app.command()
def status(
    page_range: Annotated[
        bool,
        typer.Option(
            "--page-range",
            help="Print only the partition range of the planned pages, for `dagster asset "
            "materialize --select page_shards --partition-range`.",
        ),
    ] = False,
) -> None:
    """What is there, how fresh it is, and what is running or unfinished.

    Does not ask the registry. Exit codes: 0 all could be told, 1 something cannot be read, 2 unusable
    settings.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        if page_range:
            _print_page_range(settings)
        else:
            _print_status(settings)


@app.command("import-file")
def import_file(
    file: Annotated[
        Path,
        typer.Argument(
            help="JSON array (the site's bulk download), JSON Lines, either compressed (gzip, bz2, xz, "
            "zstd), or a zip of JSON files."
        ),
    ],
    observed_at: Annotated[
        str | None,
        typer.Option(
            help="When the registry had these contents (UTC), as 2024-05-31 or 2024-05-31T09:00:00; "
            "the file's time of modification if not given. [bold]last-update[/]: each study on its own "
            "last update date.",
        ),
    ] = None,
) -> None:
    """Bring in a file of studies instead of walking the API, and build everything from it.

    Older contents take their place in the history of their studies; what is current stays. Studies
    that are not in the file stay as well: only walks of the registry tell that one is gone. Files of
    many gigabytes are streamed. A file that is broken, or most of which is no study, changes nothing.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        by_study = observed_at == _EACH_ON_ITS_OWN_DAY
        at = None if observed_at is None or by_study else _utc_time(observed_at, "--observed-at")
        lake = open_lake(settings)
        studies = 0
        warnings: list[str] = []

        def show(shard: ShardInfo) -> None:
            nonlocal studies
            studies += shard.studies
            live.update(Text(f"reading {printable(file)}: {studies:,} studies"))

        with file_lock(settings, _REFRESH):
            with (
                file_lock(settings, "extraction"),
                out.status(Text(f"reading {printable(file)}")) as live,
            ):
                bring_in(
                    lake,
                    file,
                    page_size=settings.page_size,
                    data_timestamp=at,
                    dated_by_studies=by_study,
                    progress=show,
                    warn=warnings.append,
                )
            out.print(f"{studies:,} records from {printable(file)}")
            for warning in warnings:
                err.print(led("note", "yellow", f": {warning}"))
            _run(settings, partial(next_extracted_step, settings, lake))


@app.command("as-of")
def as_of(
    date: Annotated[
        str,
        typer.Argument(
            help="A day (its end, UTC), as 2024-05-31, or a time, as 2024-05-31T09:00:00."
        ),
    ],
    schema: Annotated[
        str,
        typer.Option(
            help="The Postgres schema to fill; what an earlier as-of put there is replaced."
        ),
    ],
) -> None:
    """Load the flat tables as they stood at an observed time into a schema of their own.

    Takes every study with the content that it had then; studies that were removed since are there
    again, and those that were not known are not. The live tables are not touched.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        at = require_possible(_utc_time(date, "DATE", end_of_day=True), "DATE")
        lake = open_lake(settings)
        with open_postgres(settings) as address, out.status("reading the history") as live:

            def show(progress: LoadProgress) -> None:
                of_total = "" if progress.total is None else f" of {progress.total:,}"
                live.update(f"{progress.phase}: {progress.done:,}{of_total}")

            report = load_as_of(address, lake, at, schema, show)
        out.print(
            f"{report.rows['studies']:,} studies as of {at:%Y-%m-%d %H:%M:%S} UTC in "
            f"{len(report.rows)} tables of schema {printable(schema)}, "
            f"{sum(report.rows.values()):,} rows"
        )


@app.command("rebuild-months")
def rebuild_months_command(
    first: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="The first month, as 2024-05; the one in which the history began if not given. "
            "Of earlier ones only what was imported is known.",
        ),
    ] = None,
    last: Annotated[
        str | None,
        typer.Option("--to", help="The last month, as 2024-05; the last past one if not given."),
    ] = None,
) -> None:
    """Write past months of marts.fct_study_snapshot_monthly again, from the history.

    Each month becomes what it was at the last observation in it. The current month is left to refresh.
    Months in which nothing was observed keep the rows that they have: nothing could replace them.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        begin = None if first is None else _month(first, "--from")
        end = None if last is None else _month(last, "--to")
        if begin is not None and end is not None and begin > end:
            message = f"--from {first} is later than --to {last}"
            raise typer.BadParameter(message)
        with open_postgres(settings) as address, out.status("compiling the marts") as live:

            def show(done: int, total: int) -> None:
                live.update(f"reading the history: {done:,} of {total:,} contents")

            months = rebuild_months(
                address, open_lake(settings), first=begin, last=end, progress=show
            )
        for each in months:
            out.print(
                f"{each.month:%Y-%m}: {each.rows:,} studies as of {each.observed_at:%Y-%m-%d %H:%M:%S} "
                f"UTC; it had {each.rows_before:,}"
            )
        if not months:
            out.print(
                "nothing to rebuild: the history has no observation in a past month asked for"
            )


@app.command("learn-model")
def learn_model(
    metadata: Annotated[
        Path | None,
        typer.Argument(help="Recorded answer to /studies/metadata, gzipped or not."),
    ] = None,
    enums: Annotated[
        Path | None, typer.Argument(help="Recorded answer to /studies/enums, gzipped or not.")
    ] = None,
    into: Annotated[
        Path,
        typer.Option(
            help="Folder in which to write fields.csv and enums.csv.",
            show_default="ctg_assets/model",
        ),
    ] = _MODEL_FOLDER,
) -> None:
    """For keepers of the data model: write its fields.csv and enums.csv anew as the registry has them.

    Asks the registry (two requests), or reads recorded answers. Prints what was learned. Fields that
    are new get columns in ctg_assets/model/tables; the tests name those without one.
    """
    if (metadata is None) is not (enums is None):
        message = "give both recorded answers, or none to ask the registry"
        raise typer.BadParameter(message)
    with _errors_as_exit_codes():
        if metadata is not None and enums is not None:
            published = read_published_model(metadata, enums)
        else:
            with open_registry(load_settings()) as client:
                published = ask_for_model(client)
        learned = drifts(published)
        (into / "fields.csv").write_text(published.fields_csv(), encoding="utf-8")
        (into / "enums.csv").write_text(published.enums_csv(), encoding="utf-8")
        for drift in learned:
            out.print(printable(drift))
        out.print(f"differences learned: {len(learned)}; written to {printable(into)}")


@app.command()
def simulate(
    studies: Annotated[int, typer.Option(help="How many generated studies to serve.")] = 3000,
    seed: Annotated[
        int, typer.Option(help="Which generated studies: same seed, same studies.")
    ] = 1,
    from_file: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Serve the real studies of a file instead: JSON Lines or array, also gzipped.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 lets the system choose.")] = 8765,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="Answer 429 above this rate.")
    ] = None,
    latency: Annotated[float, typer.Option(help="Seconds before every answer.")] = 0.0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            help="A fault to play, WHEN\\[@ENDPOINT]:KIND[=VALUE][xTIMES]; may be repeated."
        ),
    ] = None,
    request_log: Annotated[
        Path | None, typer.Option(help="JSON Lines file to which every request is appended.")
    ] = None,
    churn: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Let the data change and move on by a day every so many seconds; 0: only when asked.",
        ),
    ] = None,
    churn_rate: Annotated[
        float,
        typer.Option(min=0, max=1, help="Share of the studies that a day's changes touch."),
    ] = 0.01,
    churn_seed: Annotated[
        int, typer.Option(help="Which changes: same studies and seed, same changes.")
    ] = 1,
    churn_log: Annotated[
        Path | None,
        typer.Option(
            help="JSON Lines file, begun anew, for what was changed: a line for each act on a study."
        ),
    ] = None,
    explain_faults: Annotated[
        bool,
        typer.Option("--explain-faults", help="Describe the faults that can be played, and stop."),
    ] = False,
) -> None:
    """Serve a stand-in registry that speaks API v2, for trying things out with no network.

    Point CTG_API_URL at the address it prints. Faults can be played to see how a refresh gets over
    them, for instance: --fault page=3:500 --fault every=7:reset

    The data can change as the real registry's do, for instance: --churn 60 --churn-log churn.jsonl. Each
    minute is then a day on which studies are added, updated, edited without a new update date, removed,
    brought back, and merged into others. The log tells the study, the act, the content hashes before and
    after, and what was edited: compare it with what a refresh found. To move on by a day at once:
    curl -X POST http://127.0.0.1:8765/simulator/advance. A simulator started again begins anew, with
    the first day's data.
    """
    from ctg_assets.simulator.churn import Churn
    from ctg_assets.simulator.churn_acts import ChurnRates
    from ctg_assets.simulator.faults import FAULT_SYNTAX, Fault
    from ctg_assets.simulator.middleware import API_PREFIX
    from ctg_assets.simulator.options import SimulatorOptions
    from ctg_assets.simulator.serving import serve
    from ctg_assets.simulator.source import FileSource, GeneratedSource

    if explain_faults:
        out.print(FAULT_SYNTAX)
        return
    if churn is None and churn_log is not None:
        message = "--churn-log has nothing to tell without --churn"
        raise typer.BadParameter(message)
    try:
        faults = tuple(Fault.parse(text) for text in fault or ())
        source = FileSource(from_file) if from_file else GeneratedSource(studies, seed)
        options = SimulatorOptions(
            requests_per_minute=requests_per_minute,
            latency_seconds=latency,
            faults=faults,
            fault_seed=seed,
            request_log=request_log,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error

    def announce(api_url: str) -> None:
        out.print(f"serving {len(source):,} studies; stop with Ctrl-C")
        out.print(f"export CTG_API_URL={api_url}")
        if churn == 0:
            out.print(
                f"a day on: curl -X POST {api_url.removesuffix(API_PREFIX)}/simulator/advance"
            )

    with _errors_as_exit_codes():
        if churn is not None:
            moving = Churn(
                source,
                churn_seed,
                rates=ChurnRates(touched=churn_rate),
                log=churn_log,
                listener=lambda done: out.print(str(done)),
            )
            options = replace(
                options,
                data_timestamp=moving.timestamp,
                next_source=moving.next_source,
                advance_seconds=churn or None,
            )
        serve(source, options, host=host, port=port, ready=announce)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def dev(context: typer.Context) -> None:
    """Start the Dagster UI and the sensor; further arguments go to `dagster dev` (as in: dev --port 3001).

    The same as `dagster dev -m ctg_assets.definitions`, but that Dagster's state is found where
    [bold]refresh[/] keeps it: in the data folder, unless DAGSTER_HOME says otherwise.
    """
    with _errors_as_exit_codes():
        from ctg_assets.orchestration.instance import HOME_VARIABLE, dagster_home

        os.environ[HOME_VARIABLE] = str(dagster_home())
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(shipped_path("workspace.yaml"))]
    # In place of this process, so that Ctrl-C and the exit code are Dagster's.
    os.execv(sys.executable, [*command, *context.args])


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def psql(context: typer.Context) -> None:
    """Open a SQL shell on the database; further arguments go to psql (as in: psql -c 'select 1')."""
    with _errors_as_exit_codes():
        settings = load_settings()
        with open_postgres(settings) as address:
            schemas = address.schemas
            # Ctrl-C belongs to the shell: it cancels a query there.
            before = signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                done = subprocess.run(
                    [psql_path(), address.url, *context.args],
                    env={
                        **os.environ,
                        "PGOPTIONS": f"-c search_path={schemas.marts},{schemas.staging},public",
                    },
                    check=False,
                )
            finally:
                signal.signal(signal.SIGINT, before)
        raise typer.Exit(done.returncode)


@app.command("verify")
def verify_command() -> None:
    """Look at every file of the lake, offline, and say what is damaged and what can be done.

    Page shards, history and snapshots carry digests, which are checked here in full (while a refresh
    runs, of what it reads); then counts and references are held against each other. Nothing is
    changed: [bold]refresh[/] mends what it meets, and what cannot be made again comes from a backup.

    The database is not looked at. It can always be made again from the lake: stop what uses it, move
    postgres in the data folder away, and run refresh.

    Exit codes: 0 all is as it was written, 1 something is damaged or cannot be read, 2 unusable
    settings.
    """
    with _errors_as_exit_codes():
        lake = open_lake(load_settings())
        with out.status("listing the files of the lake") as live:

            def show(done: int, total: int) -> None:
                live.update(f"reading files of the lake: {done:,} of {total:,}")

            found = verify(lake.storage, show)
        for finding in found.findings:
            path = lake.storage.path(finding.relative)
            out.print(led("damaged", "red", f": {path}: {finding.problem}"))
            kind = finding.kind
            out.print(f"  it is       {kind.what}")
            out.print(f"  needed for  {kind.hangs}")
            out.print(f"  remedy      {kind.remedy}")
        if found.unchecked:
            example = lake.storage.path(found.unchecked[0])
            out.print(
                f"{len(found.unchecked):,} files carry no digest, so that a changed value in them cannot "
                f"be told (of an earlier release, or not ours), for example {printable(example)}"
            )
        out.print(
            f"{found.files:,} files of the lake, {found.file_bytes / 1e6:,.1f} MB: "
            f"{len(found.findings):,} damaged"
        )
        if found.findings:
            raise typer.Exit(ExitCode.FAILED)


@app.command("db-url")
def db_url() -> None:
    """Print the database's URL for other clients, and keep the embedded server up until Ctrl-C.

    With CTG_POSTGRES_URL set there is no embedded server: the URL is checked and printed.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        with open_postgres(settings) as address:
            print(address.url, flush=True)
            if address.embedded:
                err.print("the server stays up while this runs; stop with Ctrl-C", style="dim")
                signal.sigwait({signal.SIGINT, signal.SIGTERM})


@feed.command("run")
def feed_run(
    sink: Annotated[list[str] | None, typer.Option(help="Only this sink; may be repeated.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Deliver what there is, and end.")] = False,
) -> None:
    """Deliver changes to the sinks, as they come, until Ctrl-C.

    Each sink goes on where it was, and waits for no other. What a sink did not confirm is sent again.

    Exit codes: 0 done or stopped, 1 something could not be delivered, 2 unusable settings or sinks, 4
    another process delivers to the sink.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        # pika tells every failure in a dozen lines, and ours says it in one.
        logging.getLogger("pika").setLevel(logging.CRITICAL)
        with _stopped_by_signals() as stop:
            outcomes = deliver(settings, sink or (), once=once, stop=stop)
        failed = [outcome for outcome in outcomes if outcome.problem is not None]
        for outcome in failed:
            err.print(led(outcome.sink, "red", f": {outcome.problem}"))
        if once and failed:
            busy = all(isinstance(outcome.problem, SinkBusyError) for outcome in failed)
            raise typer.Exit(ExitCode.BUSY if busy else ExitCode.FAILED)


@feed.command("status")
def feed_status() -> None:
    """How far each sink is, what holds it up, and which events it did not take."""
    with _errors_as_exit_codes():
        statuses = sink_statuses(load_settings(), _MOST_LISTED)
        out.print(sinks_table(statuses))
        for status in statuses:
            for line in sink_lines(status):
                out.print(line)


@feed.command("replay")
def feed_replay(
    sink: Annotated[str, typer.Argument(help="The sink's name.")],
    from_seq: Annotated[
        int | None, typer.Option(help="Send every change from this number on again.")
    ] = None,
    dead_letters: Annotated[
        bool, typer.Option("--dead-letters", help="Send the events again that it did not take.")
    ] = False,
) -> None:
    """Have events sent again to a sink, by `feed run`, also by one that is running.

    They carry the ids that they had, so that the receiver can drop what it has.
    """
    if (from_seq is None) is not dead_letters:
        message = "give either --from-seq or --dead-letters"
        raise typer.BadParameter(message)
    with _errors_as_exit_codes():
        settings = load_settings()
        if from_seq is None:
            count = replay_dead_letters(settings, sink)
            out.print(f"dead letters of {printable(sink)} that will be sent again: {count:,}")
        else:
            before = replay_from(settings, sink, from_seq)
            out.print(
                f"{printable(sink)} will be sent changes {from_seq:,} to {before:,} again, "
                "those of them that it wants"
            )


@history.command("list")
def history_list() -> None:
    """All entries of the history, oldest first: what was recorded when, from where, with what changes.

    Entries that were undone are listed as well, with the undo that withdrew them.
    """
    with _errors_as_exit_codes():
        entries = open_lake(load_settings()).history.with_withdrawn()
        for line in history_lines(entries) if entries else ():
            out.print(line)
        if not entries:
            out.print("nothing is recorded yet; `ctg-assets refresh` begins")


@history.command("show")
def history_show(
    entry: Annotated[int, typer.Argument(help="The entry's number, as `history list` shows it.")],
) -> None:
    """One entry of the history: whence it came, what it changed, and the first studies concerned."""
    with _errors_as_exit_codes():
        store = open_lake(load_settings()).history
        found = {each.sequence: (each, undo) for each, undo in store.with_withdrawn()}
        if entry not in found:
            err.print(
                f"there is no entry {entry}; `ctg-assets history list` shows all", style="red"
            )
            raise typer.Exit(ExitCode.FAILED)
        out.print(facts(entry_facts(*found[entry])))
        changes = store.changes(entry)
        for change in changes.head(_MOST_LISTED).iter_rows(named=True):
            out.print(
                f"  {change['nct_id']}: {change['kind']}, {change['fields_changed']:,} fields "
                f"(change {change['change_seq']:,})"
            )
        if changes.height > _MOST_LISTED:
            out.print(f"  {changes.height - _MOST_LISTED:,} more, in staging.study_changes")


@history.command("undo")
def history_undo(
    entry: Annotated[
        int, typer.Argument(help="The entry to take back, as `history list` shows it.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before doing it.")] = False,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
) -> None:
    """Take back an entry as if it had never been, and build snapshot, tables and marts without it.

    An import is taken back wherever it is in the history: what was recorded later is recorded once more
    without it, from what is kept, with no question to the registry. A walk is taken back together with
    everything after it, since later walks were chosen by what it had found.

    When nothing is left that the settings ask for, the tables are emptied.

    What is taken back is kept aside until `history prune`. The extraction is not recorded again: a file
    can be imported again, and the registry is walked again when a walk is due. Sinks of the feed are
    sent an event of kind `undone` for each change that is withdrawn.

    Exit codes: 0 done, 1 it cannot be taken back, failed or was declined, 2 unusable settings, 3 a check
    forbids to load what is left, 4 another process is at work, 130 interrupted.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        lake = open_lake(settings)
        if dry_run:
            with out.status("recording later entries once more, for a trial"):
                consequences = undoer(lake).preview(entry)
            nothing_left = leaves_nothing(settings, lake, consequences.scope)
            for line in consequences_lines(consequences, nothing_left=nothing_left):
                out.print(line)
            return
        with file_lock(settings, _REFRESH):
            with file_lock(settings, "extraction"), file_lock(settings, "snapshot"):
                consequences = _undo(settings, lake, entry, reason, ask=not yes)
            if leaves_nothing(settings, lake, consequences.scope):
                out.print("the tables are empty until something is recorded")
                return
            _run(settings, partial(next_extracted_step, settings, lake))
            _rebuild_past_months(settings, lake, consequences)


@history.command("prune")
def history_prune(
    days: Annotated[
        int, typer.Option(min=0, help="Keep what was undone in the last so many days.")
    ] = 30,
) -> None:
    """Remove for good the contents of entries that were undone; nothing is pruned but by this command.

    The record of the undo and the withdrawn changes stay.
    """
    with _errors_as_exit_codes():
        settings = load_settings()
        with file_lock(settings, _REFRESH), file_lock(settings, "snapshot"):
            before = datetime.now(UTC) - timedelta(days=days)
            pruned = open_lake(settings).history.prune_withdrawn(before)
        listed = ", ".join(map(str, pruned))
        out.print(f"contents removed of withdrawn entries: {listed or 'none'}")


def _undo(settings: Settings, lake: Lake, entry: int, reason: str, *, ask: bool) -> Consequences:
    """Take back an entry after having said what that means."""
    nothing_left = leaves_nothing(settings, lake, undoer(lake).scope(entry))
    if ask:
        with out.status("recording later entries once more, for a trial"):
            preview = undoer(lake).preview(entry)
        for line in consequences_lines(preview, nothing_left=nothing_left):
            out.print(line)
        typer.confirm("Take this back?", abort=True)
    author = Author(
        command=" ".join(["ctg-assets", *sys.argv[1:]]),
        user=getpass.getuser(),
        host=socket.gethostname(),
        reason=reason,
    )
    with out.status("taking back") as live:

        def show(done: int, total: int) -> None:
            live.update(f"entries recorded once more: {done:,} of {total:,}")

        record, consequences = take_back(settings, lake, entry, author, show)
    if not ask:
        for line in consequences_lines(consequences, nothing_left=nothing_left):
            out.print(line)
    out.print(f"undone; the record is history/undone/{record.undo_id}.json")
    return consequences


def _rebuild_past_months(settings: Settings, lake: Lake, consequences: Consequences) -> None:
    """Write the months again that the monthly snapshot had counted with what was undone."""
    entries = lake.history.entries()
    with open_postgres(settings) as address:
        undone = [entry.observed_at for entry in consequences.scope.undone]
        for month, rows in remove_months(address, lake, undone).items():
            out.print(
                f"{month:%Y-%m}: removed, nothing was observed in it; it had {rows:,} studies"
            )
    since = consequences.since
    if since is None:
        return
    # No month that rebuilding would not have begun with: of those only what was imported is known.
    first = max(since, entries[0].observed_at).date()
    if not observed_months(entries, first):
        return
    with open_postgres(settings) as address, out.status("rebuilding past months"):
        months = rebuild_months(address, lake, first=first)
    for each in months:
        out.print(f"{each.month:%Y-%m}: {each.rows:,} studies; it had {each.rows_before:,}")


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Take the options that come before any command."""
    log_to(err)
    if version:
        out.print(f"ctg-assets {__version__}")
        raise typer.Exit


def _run(
    settings: Settings, following: Callable[[], Step | Idle], first: Step | None = None
) -> None:
    """Run what is left to do, and tell what is there then."""
    # Held to the end: the embedded server starts once, and a server that is down is said at once.
    with open_postgres(settings):
        told = partial(_following_mended, settings, following)
        upcoming = first or told()
        rest = upcoming if isinstance(upcoming, Idle) else _run_stages(settings, upcoming, told)
        if rest.blocked:
            err.print(led("stopped", "yellow", f": {rest.reason}"))
            raise typer.Exit(ExitCode.BLOCKED_BY_CHECK)
        if rest is upcoming:
            out.print("everything is up to date; there was nothing to do")
        _print_outcome(settings)


def _following_mended(settings: Settings, following: Callable[[], Step | Idle]) -> Step | Idle:
    """What is next; where that cannot be told for a damaged file, once what can be mended is mended."""
    try:
        return following()
    except DamagedFileError as error:
        err.print(printable(error), style="yellow")
        if not _mend(settings):
            raise
        return following()


def _mend(settings: Settings) -> bool:
    """Mend what is damaged in the lake, and say so; returns whether anything was mended."""
    err.print("a file of the lake is damaged; looking at all of them", style="yellow")
    report = mend_lake(settings, open_lake(settings))
    for mended in report.mended:
        err.print(led("mended", "green", f": {mended.relative}: {mended.done}"))
    for _, reason in report.left:
        err.print(led("not mended", "red", f": {reason}"))
    return bool(report.mended)


def _run_stages(settings: Settings, first: Step, following: Callable[[], Step | Idle]) -> Idle:
    # Only here, since it takes seconds: a refresh that finds nothing to do needs no Dagster.
    from ctg_assets.orchestration.refresh import StageFailedError, run_stages

    with _stages(settings) as (definitions, instance, display):
        try:
            return run_stages(
                settings,
                definitions,
                instance,
                listener=display,
                first=first,
                following=following,
                mend=partial(_mend, settings),
            )
        except StageFailedError as error:
            display.close()
            err.print(Text.assemble((f"{error.stage} failed", "red"), f": {error.reason}"))
            err.print(
                f"The last good data are untouched. Details: {printable(error.log)}, and run "
                f"{error.run_id} in the Dagster UI ({_program()} dev). Running refresh again goes on from here.",
                style="dim",
            )
            raise typer.Exit(ExitCode.FAILED) from error


@contextmanager
def _stages(settings: Settings) -> Iterator[tuple[Any, Any, RefreshDisplay]]:
    """Dagster's definitions and instance, and a live display, for running stages in this process."""
    # Bound to this stdout: while a stage runs, what Dagster and dbt print goes to a file.
    screen = SafeConsole(file=sys.stdout)
    # Warnings of ours (retries, waits) appear above the live display rather than through it.
    log_to(screen)
    display = RefreshDisplay(screen, open_lake(settings))
    with screen.status("starting"), _quiet_dagster():
        from ctg_assets.definitions import build_definitions
        from ctg_assets.orchestration.instance import open_instance

        definitions = build_definitions(
            data_dir=str(settings.data_dir), refresh_mode=str(settings.refresh_mode)
        )
        instance = open_instance()
    try:
        with instance, display.live():
            yield definitions, instance, display
    finally:
        display.close()
        log_to(err)


def _utc_time(text: str, name: str, *, end_of_day: bool = False) -> datetime:
    """A time as people type it, in UTC; a day is its beginning or its end."""
    try:
        return parse_time(text, end_of_day=end_of_day)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=name) from None


def _month(text: str, name: str) -> date:
    """The first day of a month as people type it; raises ImpossibleTimeError for one that cannot be."""
    try:
        month = datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        message = f"{text!r} is no month; write it as 2024-05"
        raise typer.BadParameter(message, param_hint=name) from None
    return require_possible(month, name).date()


@contextmanager
def _errors_as_exit_codes() -> Iterator[None]:
    """Turn the failures we know into a message and an exit code; others keep their traceback."""
    try:
        yield
    except CtgAssetsError as error:
        is_busy = error.exit_code == ExitCode.BUSY
        err.print(str(error), style="yellow" if is_busy else "red")
        raise typer.Exit(error.exit_code) from error
    except OSError as error:
        err.print(str(error), style="red")
        raise typer.Exit(ExitCode.FAILED) from error
    except KeyboardInterrupt:
        err.print("interrupted; what is finished stays, refresh goes on from here", style="yellow")
        raise typer.Exit(ExitCode.INTERRUPTED) from None


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and SIGTERM set; a second Ctrl-C interrupts at once."""
    stop = threading.Event()

    def set_stop(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_status(settings: Settings) -> None:
    lake = open_lake(settings)
    out.print(facts([("data folder", str(settings.data_dir)), ("registry", settings.api_url)]))
    _print_published_model(settings, lake)
    extractions = extraction_statuses(lake)
    if not extractions:
        out.print("\nnothing has been extracted yet; `ctg-assets refresh` begins")
    for extraction in extractions:
        out.print()
        out.print(facts(extraction_facts(extraction)))
    for line in odd_times(lake, datetime.now(UTC)):
        out.print(f"\na time that cannot be: {printable(line)}")
    _print_snapshot(lake)
    out.print()
    upcoming = _print_database(settings, lake)
    out.print()
    _print_runs()
    if upcoming is None:
        raise typer.Exit(ExitCode.FAILED)
    if isinstance(upcoming, Step):
        out.print(f"to be done: {printable(upcoming.reason)}")
    elif upcoming.blocked:
        out.print(led("held back", "yellow", f": {upcoming.reason}"))
    else:
        out.print("nothing is unfinished")


def _print_published_model(settings: Settings, lake: Lake) -> None:
    record = recorded_model(lake.storage, settings.api_url)
    if record is None:
        return
    check_result = published_model_check(record)
    out.print(facts([("its model", f"{check_result.description} (asked {age(record.asked_at)})")]))
    found = drifts(record.model)
    for drift in found[:_MOST_LISTED]:
        out.print(f"  {printable(drift)}")
    if len(found) > _MOST_LISTED:
        out.print(f"  {len(found) - _MOST_LISTED:,} more differences")


def _print_snapshot(lake: Lake) -> None:
    manifest = lake.snapshots.latest()
    if manifest is not None:
        out.print()
        out.print(facts(snapshot_facts(manifest, lake)))
        quarantined = quarantine_reasons(lake, manifest)
        for nct_id, reason in quarantined[:_MOST_LISTED]:
            out.print(f"  in quarantine: {printable(nct_id)}: {printable(reason)}")
        if len(quarantined) > _MOST_LISTED:
            rest = len(quarantined) - _MOST_LISTED
            out.print(f"  in quarantine: {rest:,} more, in quarantine.parquet beside the snapshot")
        for path, occurrences in manifest.unknown_fields.items():
            out.print(f"  not in the model: {printable(path)} ({occurrences} times)")


def _print_database(settings: Settings, lake: Lake) -> Step | Idle | None:
    """Show what the database holds; returns what is to be done next, None if it cannot be read."""
    upcoming: Step | Idle | None = None
    try:
        # Held, so that the embedded server starts once.
        with open_postgres(settings):
            database = warehouse_status(settings)
            upcoming = next_known_step(settings, lake)
    except WarehouseError as error:
        database = WarehouseStatus(problem=str(error))
    out.print(facts(warehouse_facts(database)))
    return upcoming


def _print_page_range(settings: Settings) -> None:
    extractions = open_lake(settings).extractions
    crawls = extractions.open_crawls()
    plan = crawls[-1] if crawls else extractions.latest(ExtractionState.COMPLETE)
    keys = plan.page_keys() if plan is not None else []
    if not keys:
        err.print("no pages are planned; materialize extraction_plan first", style="red")
        raise typer.Exit(ExitCode.FAILED)
    print(f"{keys[0]}...{keys[-1]}")


def _print_runs() -> None:
    from ctg_assets.orchestration.instance import open_instance
    from ctg_assets.orchestration.runs import failed_checks, unfinished_runs

    with _quiet_dagster(), open_instance() as instance:
        failed = failed_checks(instance)
        runs = unfinished_runs(instance)
    for check in failed:
        name = f"{check.asset}: {check.name}"
        out.print(check_line(name, check.description, warning=check.is_warning))
    for run in runs:
        out.print(str(run))


def _print_outcome(settings: Settings) -> None:
    database = warehouse_status(settings)
    if database.problem is not None:
        err.print(database.problem, style="red")
        raise typer.Exit(ExitCode.FAILED)
    out.print()
    out.print(rows_table("staging tables", _in_order_of_declaration(database.staging_rows or {})))
    out.print()
    out.print(rows_table("marts", dict(sorted((database.marts_rows or {}).items()))))
    out.print()
    out.print(
        facts(
            [
                ("database", database.address or ""),
                ("SQL shell", f"{_program()} psql"),
                ("other clients", f"{_program()} db-url"),
                ("Parquet", open_lake(settings).location + "/snapshots"),
                ("Dagster UI", f"{_program()} dev"),
            ]
        )
    )


def _program() -> str:
    """How to call this program from here: by name if that is on PATH, else by its path."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) is not None:
        return called.name
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)


def _in_order_of_declaration(rows: Mapping[str, int]) -> dict[str, int]:
    """Staging tables as the data model lists them, `studies` first, others after them."""
    declared = [shape.name for shape in staging_shapes() if shape.name in rows]
    return {name: rows[name] for name in dict.fromkeys([*declared, *rows])}


@contextmanager
def _quiet_dagster() -> Iterator[None]:
    """Keep dbt's and Dagster's start-up notes out of the display."""
    logger = logging.getLogger("dagster")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
