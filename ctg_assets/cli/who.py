"""`who`: WHO's indicators and Global Health Estimates."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ctg_assets.cli.console import age, check_line, err, labelled, out, tell
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.printable import printable
from ctg_assets.settings import Settings, load_settings

if TYPE_CHECKING:
    from ctg_assets.who.indicators import Indicator
    from ctg_assets.who.refreshing import IndicatorOutcome, RefreshPart, WhoSource
    from ctg_assets.who.releases import IndicatorState, Release

app = typer.Typer(
    help="WHO's indicators and Global Health Estimates, beside the trials (docs/who.md).\n\n"
    "[bold]who refresh[/] fetches every enabled indicator and loads what is new into schema who; "
    "[bold]who list[/] shows them, [bold]who add[/] adds one. Nothing else needs them but the burden marts.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_Codes = Annotated[
    list[str] | None,
    typer.Argument(help="Codes of indicators; without any, all that are enabled.", metavar="CODE"),
]
_Code = Annotated[str, typer.Argument(help="The indicator's code; `who list` has them.")]


@app.command("list")
@with_exit_code
def list_indicators(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")] = False,
) -> None:
    """All indicators that are configured: what is there of each, when it was looked for, what is wrong."""
    import msgspec

    from ctg_assets.who.indicators import indicators, users_file
    from ctg_assets.who.refreshing import WhoSource

    settings = load_settings()
    source, known = WhoSource(settings), indicators(settings)
    if as_json:
        told = [_told(source, indicator) for indicator in known.values()]
        out.print(msgspec.json.format(msgspec.json.encode(told), indent=2).decode())
        return
    table = Table(box=None, pad_edge=False)
    for name in ("indicator", "enabled", "release", "looked for", "name"):
        table.add_column(name)
    table.add_column("rows", justify="right")
    for code, indicator in known.items():
        release, state = source.current(code), source.releases.state(code)
        table.add_row(
            code,
            "yes" if indicator.enabled else "no",
            "" if release is None else printable(release.name),
            "never" if state is None else age(state.checked_at),
            printable(indicator.name),
            "" if release is None else f"{release.rows:,}",
        )
    out.print(table)
    for code in known:
        for line in _check_lines(code, source.releases.state(code)):
            out.print(line)
    out.print(f"your own indicators: {users_file(settings)}")


@app.command("add")
@with_exit_code
def add_indicator(
    code: Annotated[str, typer.Argument(help="A code of your choice; of GHO, WHO's own code.")],
    name: Annotated[str, typer.Option(help="What it measures, with its unit.")],
    dialect: Annotated[str, typer.Option(help="gho or xmart.")] = "gho",
    entity: Annotated[
        str, typer.Option(help="What to ask for, if not the code; of xMart MART/TABLE.")
    ] = "",
    filter_: Annotated[
        str, typer.Option("--filter", help="OData filter, such as: SpatialDimType eq 'COUNTRY'")
    ] = "",
    table: Annotated[
        str, typer.Option(help="Where rows go: observations or global_health_estimates.")
    ] = "observations",
    schedule: Annotated[str, typer.Option(help="daily, weekly, monthly or yearly.")] = "weekly",
) -> None:
    """Add an indicator, with no code: it is fetched by the next `who refresh`.

    For instance: ctg-assets who add MDG_0000000026 --name "Maternal mortality ratio (per 100,000 live births)"

    It is written into who/indicators.toml of the data folder (CTG_WHO_INDICATORS_FILE), where more can be said
    (docs/who.md).
    """
    import msgspec

    from ctg_assets.who.indicators import Indicator, add

    said = {
        "code": code,
        "name": name,
        "dialect": dialect,
        "entity": entity,
        "filter": filter_,
        "target": table,
        "schedule": schedule,
    }
    try:
        indicator = msgspec.convert(said, Indicator)
    except msgspec.ValidationError as error:
        raise typer.BadParameter(str(error)) from error
    file = add(load_settings(), indicator)
    tell(f"added {code} to {file}; `ctg-assets who refresh {code}` fetches it")


@app.command("enable")
@with_exit_code
def enable(code: _Code) -> None:
    """Have an indicator refreshed from now on."""
    _switch(code, enabled=True)


@app.command("disable")
@with_exit_code
def disable(code: _Code) -> None:
    """Have an indicator refreshed no more; what is loaded of it stays."""
    _switch(code, enabled=False)


@app.command("refresh")
@with_exit_code
def refresh(
    codes: _Codes = None,
    due: Annotated[bool, typer.Option("--due", help="Only those whose schedule says so.")] = False,
) -> None:
    """Fetch indicators, keep what is new as a release, and load it: one that fails keeps no other from it.

    It can be repeated at will, and goes on where it was interrupted. A refresh that finds nothing new
    writes nothing. Releases are kept: schema who has all of them, and says which is the newest.

    Exit codes: 0 done, 1 an indicator failed, 2 unusable settings or indicators, 3 a check holds a release
    back, 4 another process is at it, 130 interrupted.
    """
    from ctg_assets.who.indicators import named
    from ctg_assets.who.refreshing import Became, WhoSource

    settings = load_settings()
    source = WhoSource(settings)
    wanted = [each for each in named(settings, codes) if not due or source.is_due(each)]
    with _shown() as show:
        outcomes = source.refresh(wanted, show)
    for outcome in outcomes:
        _print_outcome(outcome)
    became = [outcome.became for outcome in outcomes]
    # Also where nothing is new: whoever was killed before them has left the marts behind.
    _build_marts(settings, is_new=Became.NEW_RELEASE in became)
    if Became.FAILED in became:
        raise typer.Exit(ExitCode.FAILED)
    if Became.HELD_BACK in became:
        raise typer.Exit(ExitCode.BLOCKED_BY_CHECK)


@app.command("simulate")
@with_exit_code
def simulate() -> None:
    """Serve a stand-in for both of WHO's APIs, with made-up numbers for all indicators, until Ctrl-C.

    Point CTG_WHO_GHO_URL and CTG_WHO_XMART_URL at the addresses it prints.
    """
    from ctg_assets.simulator.serving import running_application
    from ctg_assets.simulator.who import GHO_PREFIX, XMART_PREFIX, WhoSimulator
    from ctg_assets.simulator.who_rows import ghe_rows, gho_rows
    from ctg_assets.who.indicators import DialectName, indicators

    rows = {
        each.asked_for: ghe_rows() if each.dialect is DialectName.XMART else gho_rows(each.code)
        for each in indicators(load_settings()).values()
    }
    with running_application(WhoSimulator(dict(rows))) as url:
        out.print(f"export CTG_WHO_GHO_URL={url}{GHO_PREFIX} CTG_WHO_XMART_URL={url}{XMART_PREFIX}")
        err.print("stop with Ctrl-C", style="dim")
        signal.pause()


@app.command("extract")
@with_exit_code
def extract(codes: _Codes = None) -> None:
    """Only fetch: pages of raw rows into the lake, from where an earlier fetch was ended."""
    from ctg_assets.who.indicators import named
    from ctg_assets.who.refreshing import WhoSource

    settings = load_settings()
    source = WhoSource(settings)
    for indicator in named(settings, codes):
        with _shown() as show:
            end = source.extract(indicator, show)
        tell(f"{indicator.code}: {end.rows:,} rows in {end.pages:,} pages")


@app.command("transform")
@with_exit_code
def transform(
    codes: _Codes = None,
    accept: Annotated[
        bool,
        typer.Option("--accept", help="Although a check holds it back, because you looked at it."),
    ] = False,
) -> None:
    """Only make releases of what was fetched last, where its content is new.

    Exit codes: as `who refresh`.
    """
    from ctg_assets.who.indicators import named
    from ctg_assets.who.refreshing import WhoSource

    settings = load_settings()
    source = WhoSource(settings)
    held_back = False
    for indicator in named(settings, codes):
        with _shown() as show:
            state = source.transform(indicator, show, accept=accept)
        held_back = held_back or state.is_held_back
        for line in _check_lines(indicator.code, state):
            err.print(line)
        release = source.current(indicator.code)
        tell(f"{indicator.code}: {_release_line(release)}")
    if held_back:
        raise typer.Exit(ExitCode.BLOCKED_BY_CHECK)


@app.command("load")
@with_exit_code
def load(codes: _Codes = None) -> None:
    """Only load releases that are in the lake and not in schema who yet."""
    from ctg_assets.who.indicators import named
    from ctg_assets.who.refreshing import WhoSource

    settings = load_settings()
    with _shown() as show:
        loaded = WhoSource(settings).load(named(settings, codes), show)
    for each in loaded:
        for release, rows in each.rows.items():
            tell(f"{each.code}: {rows:,} rows of release {release}")
    if not any(each.rows for each in loaded):
        tell("everything is loaded")


def _build_marts(settings: Settings, *, is_new: bool) -> None:
    """Build the marts that are behind, if the registry's tables are there and nothing else comes before.

    If something else does, and what was loaded `is_new`, that is told.
    """
    from ctg_assets.cli.stages import REFRESH_LOCK, run_until_idle
    from ctg_assets.lake import open_lake
    from ctg_assets.refresh.planner import Stage, Step, next_build_step
    from ctg_assets.storage.data_folder import file_lock

    following = partial(next_build_step, settings, open_lake(settings))
    step = following()
    if isinstance(step, Step) and step.stage is Stage.MARTS:
        with file_lock(settings, REFRESH_LOCK):
            run_until_idle(settings, following, step)
    elif isinstance(step, Step) and is_new:
        tell(
            "loaded; `ctg-assets refresh` builds the marts that read it, after what else it has to do"
        )


def _switch(code: str, *, enabled: bool) -> None:
    from ctg_assets.who.indicators import switch

    file = switch(load_settings(), code, enabled=enabled)
    tell(f"{code} is {'refreshed' if enabled else 'not refreshed any more'}, says {file}")


@contextmanager
def _shown() -> Iterator[_Shown]:
    shown = _Shown()
    if not err.is_terminal:
        yield shown
        return
    with shown.progress:
        yield shown


class _Shown:
    """Shows how far a refresh is, on a live line where there is a terminal."""

    def __init__(self) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            console=err,
            transient=True,
        )
        self._task = self.progress.add_task("", total=None, facts="")

    def __call__(self, code: str, stage: RefreshPart, done: int, total: int | None) -> None:
        of_all = "" if total is None else f" of {total:,}"
        self.progress.update(
            self._task,
            description=f"{code} {stage}",
            completed=done,
            total=total,
            facts=f"{done:,}{of_all} rows",
        )


def _print_outcome(outcome: IndicatorOutcome) -> None:
    if outcome.problem is not None:
        err.print(labelled(outcome.code, "red", f": {outcome.problem}"))
        return
    for line in _check_lines(outcome.code, outcome.state):
        err.print(line)
    tell(f"{outcome.code}: {outcome.became}; {_release_line(outcome.release)}")


def _release_line(release: Release | None) -> str:
    if release is None:
        return "there is no release"
    return f"the newest release is {release.name}, {release.rows:,} rows"


def _check_lines(code: str, state: IndicatorState | None) -> Iterator[Text]:
    """The checks of an indicator that did not pass, a line each."""
    for check in [] if state is None else state.checks:
        if not check.passed:
            yield check_line(f"{code}: {check.name}", check.description, warning=not check.blocking)


def _told(source: WhoSource, indicator: Indicator) -> dict[str, object]:
    import msgspec

    release, state = source.current(indicator.code), source.releases.state(indicator.code)
    return {
        **msgspec.to_builtins(indicator),
        "newest_release": None if release is None else release.name,
        "rows": None if release is None else release.rows,
        "checked_at": None if state is None else state.checked_at,
        "is_due": source.is_due(indicator),
        "checks": [] if state is None else msgspec.to_builtins(state.checks),
    }
