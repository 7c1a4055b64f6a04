"""`notify`: who is told of failures, and a trial of it."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ctg_assets.cli.console import err, labelled, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings


@with_exit_code
def notify(
    *,
    test: Annotated[
        bool, typer.Option("--test", help="Send each of them a message that says it is a test.")
    ] = False,
) -> None:
    """Say who is told of failed runs and checks, or try it with --test.

    By mail (CTG_SMTP_HOST, CTG_SMTP_TO and what belongs to them), and by webhooks and queues: tables
    [[notify]] in the file that CTG_FEED_FILE names. The sensor failure_notifications tells them, which runs with
    Dagster's daemon ([bold]ctg-assets dev[/]). Exit codes: 0 done, 1 somebody could not be told or nobody would be, 2
    unusable settings.
    """
    from ctg_assets.feed.errors import NotificationError
    from ctg_assets.feed.notifying import open_channels
    from ctg_assets.refresh.failures import trial_notice

    channels = open_channels(load_settings(), os.environ)
    if not channels:
        err.print(
            "nobody is told of failures: set CTG_SMTP_HOST, CTG_SMTP_FROM and CTG_SMTP_TO, or write [[notify]] "
            "into the file of CTG_FEED_FILE (docs/notifications.md)",
            style="yellow",
        )
        raise typer.Exit(ExitCode.FAILED)
    failed = False
    for channel in channels:
        said = f"{channel.name}: {channel.where}"
        if not test:
            out.print(printable(said))
            continue
        try:
            channel.tell(trial_notice())
        except NotificationError as error:
            failed = True
            err.print(labelled("not told", "red", f" {channel.name}: {error}"))
        else:
            out.print(labelled("told", "green", f" {said}"))
    if failed:
        raise typer.Exit(ExitCode.FAILED)
