"""`ctg-assets`: all commands, in the order of its help."""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer

from ctg_assets import __version__
from ctg_assets.cli import (
    as_of,
    backup,
    config,
    dagster_ui,
    database,
    events,
    export,
    feed,
    history,
    imports,
    integrity,
    marts,
    model,
    notify,
    refresh,
    release,
    report,
    serve,
    simulate,
    status,
    who,
    worker,
)
from ctg_assets.cli.console import err, log_as_set, out
from ctg_assets.cli.doctor.command import doctor
from ctg_assets.cli.exit_codes import with_exit_code

app = typer.Typer(
    help="The whole of ClinicalTrials.gov as Dagster assets: page shards, Parquet, Postgres, marts.\n\n"
    "Start with [bold]refresh[/]; look with [bold]status[/] and [bold]psql[/]. Settings are "
    "environment variables named CTG_…, or lines of a file ctg.toml: see [bold]config[/].",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    add_completion=False,
)

# Whatever a command does not know goes on to the program that it starts.
_PASSING_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True}

app.command("refresh")(refresh.refresh)
app.command("status")(status.status)
app.command("config")(config.config)
app.command("doctor")(doctor)
app.command("report")(report.report)
app.command("study")(report.study)
app.command("import-file")(imports.import_file)
app.command("as-of")(as_of.as_of)
app.command("rebuild-months")(marts.rebuild_past_months)
app.command("learn-model")(model.learn_model)
app.command("simulate")(simulate.simulate)
app.command("dev", context_settings=_PASSING_ON)(dagster_ui.dev)
app.command("serve")(serve.serve)
app.command("worker")(worker.worker)
app.command("psql", context_settings=_PASSING_ON)(database.psql)
app.command("notify")(notify.notify)
app.command("release")(release.release)
app.command("verify")(integrity.verify)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("prune-events")(events.prune_events)
app.command("db-url")(database.db_url)
app.add_typer(export.app, name="export")
app.add_typer(feed.app, name="feed")
app.add_typer(history.app, name="history")
app.add_typer(who.app, name="who")


def main() -> None:
    """Run the command line."""
    # A traceback, too, may hold text from elsewhere.
    sys.excepthook = _tell_of_crash
    app()


def _tell_of_crash(*error: Any) -> None:
    told = "".join(traceback.format_exception(*error))
    if err.as_records:
        err.print(told, style="red")
    else:
        err.print(told, end="")


@app.callback(invoke_without_command=True)
@with_exit_code
def options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Take the options that come before any command."""
    log_as_set(context.invoked_subcommand or "ctg-assets")
    if version:
        out.print(f"ctg-assets {__version__}")
        raise typer.Exit
