"""`doctor`: whether everything that a refresh needs is there."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from ctg_assets.cli.console import labelled, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode

if TYPE_CHECKING:
    from ctg_assets.cli.doctor.findings import Finding

_STYLES = {"ok": "green", "warning": "yellow", "failed": "bold red"}


@with_exit_code
def doctor(
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask neither registry nor mail server anything.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="As JSON: subject, verdict and text of each finding.")
    ] = False,
) -> None:
    """Look whether everything that a refresh needs is there, and say what to do where it is not.

    Settings and their files, packages, data folder, disk, Dagster, Postgres, mail server, registry, clock. Changes
    nothing, but makes and starts an embedded server for the moment. Exit codes: 0 nothing is in the way of a refresh
    (there may be warnings), 1 something is.
    """
    from ctg_assets.cli.doctor.examination import examine
    from ctg_assets.cli.doctor.findings import Verdict

    findings: list[Finding] = []
    for finding in examine(offline=offline):
        findings.append(finding)
        if not as_json:
            word = f"{finding.verdict:<8}"
            out.print(
                labelled(word, _STYLES[finding.verdict], f"{finding.subject}: {finding.text}")
            )
    if as_json:
        typer.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise typer.Exit(ExitCode.FAILED)
