"""The progress of a refresh: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ctg_assets.cli.console import SafeConsole, check_line, labelled
from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.extract.shards import ShardStore
from ctg_assets.lake import Lake
from ctg_assets.refresh.planner import Stage, Step

_POLL_SECONDS = 0.5

# Where output is no terminal (CI logs), one line in so many seconds says how far a walk is.
_PLAIN_LINE_SECONDS = 15.0

_DOING = {
    Stage.PLAN: "asking the registry",
    Stage.PAGES: "fetching pages",
    Stage.SNAPSHOT: "compacting",
    Stage.STAGING: "loading tables and building marts",
    Stage.CTGOV: "making AACT's tables",
    Stage.LOAD_INFO: "noting the new data version",
    Stage.MARTS: "building marts",
    Stage.DROP_MARTS: "dropping marts that are not wanted",
}


class RefreshDisplay:
    """Shows the progress of a refresh; a `Listener` of `orchestration.refresh.run_stages`."""

    def __init__(self, console: SafeConsole, lake: Lake) -> None:
        """Print to `console`; the progress of a crawl is read from `lake`."""
        self._console = console
        self._lake = lake
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task: TaskID | None = None
        self._watch: _PageWatch | None = None
        self._started = 0.0
        self._done_assets = 0

    @contextmanager
    def live(self) -> Iterator[None]:
        """Show progress while the block runs."""
        if not self._console.is_terminal:
            yield
            return
        with self._progress:
            yield

    def stage_started(self, step: Step) -> None:
        """Name the stage and why it runs."""
        self._started = time.monotonic()
        self._done_assets = 0
        self._console.print(labelled(f"{step.stage:<9}", "bold", f" {step.reason}"))
        self._task = self._progress.add_task(_DOING[step.stage], total=None, facts="")
        if step.stage is Stage.PAGES and step.extraction is not None:
            self._watch = _PageWatch(self, self._lake.shards, step.extraction)
            self._watch.start()

    def asset_materialized(self, asset: str, rows: int | None) -> None:
        """Count an asset of the stage that is done."""
        self._done_assets += 1
        if self._task is not None and self._watch is None:
            size = "" if rows is None else f", {rows:,} rows"
            self._progress.update(self._task, facts=f"{self._done_assets} done, last {asset}{size}")

    def check_failed(self, check: str, description: str, *, warning: bool) -> None:
        """Print a check that did not pass."""
        line = check_line(check, description, warning=warning)
        self._console.print(Text.assemble("          ", line))

    def stage_finished(self) -> None:
        """Print what the stage did and how long it took."""
        seconds = time.monotonic() - self._started
        done = ""
        if self._done_assets:
            done = f"{self._done_assets} asset{'s' if self._done_assets > 1 else ''}, "
        if self._watch is not None:
            done = f"{self._watch.stop()}, "
            self._watch = None
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        self._console.print(f"          {done}{seconds:.1f} s", style="dim")

    def close(self) -> None:
        """Stop what is still shown when a stage has failed."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def show_pages(self, plan: ExtractionPlan, pages: int, studies: int, rate: float) -> None:
        """Show how far a crawl is, on the live line."""
        text = f"{pages} of {plan.planned_pages} pages, {studies:,} studies, {rate:.1f} pages/s"
        if self._task is not None:
            self._progress.update(self._task, completed=pages, total=plan.planned_pages, facts=text)

    def print_pages(self, plan: ExtractionPlan, pages: int, studies: int) -> None:
        """Print how far a crawl is, where there is no live line."""
        if not self._console.is_terminal:
            self._console.print(
                f"          {pages} of {plan.planned_pages} pages, {studies:,} studies"
            )


class _PageWatch:
    """Reads the progress of a crawl from its shards, in a thread of its own."""

    def __init__(self, display: RefreshDisplay, shards: ShardStore, plan: ExtractionPlan) -> None:
        self._display = display
        self._shards = shards
        self._plan = plan
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page watch", daemon=True)
        self._studies: dict[int, int] = {}
        self._at_start = 0

    def start(self) -> None:
        self._at_start = self._count_pages()
        self._thread.start()

    def stop(self) -> str:
        """End watching; returns how many pages and studies there are, in words."""
        self._stopped.set()
        self._thread.join()
        pages = self._count_pages()
        return (
            f"{pages} of {self._plan.planned_pages} pages, {sum(self._studies.values()):,} studies"
        )

    def _count_pages(self) -> int:
        for page in self._shards.pages(self._plan.extraction_id):
            if page not in self._studies:
                self._studies[page] = self._shards.info(self._plan.extraction_id, page).studies
        return len(self._studies)

    def _run(self) -> None:
        started = printed = time.monotonic()
        while not self._stopped.wait(_POLL_SECONDS):
            pages = self._count_pages()
            now = time.monotonic()
            studies = sum(self._studies.values())
            rate = (pages - self._at_start) / (now - started)
            self._display.show_pages(self._plan, pages, studies, rate)
            if now - printed > _PLAIN_LINE_SECONDS:
                self._display.print_pages(self._plan, pages, studies)
                printed = now
