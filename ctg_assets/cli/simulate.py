"""`simulate`: the stand-in registry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ctg_assets.cli.console import out
from ctg_assets.cli.exit_codes import with_exit_code


@with_exit_code
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
