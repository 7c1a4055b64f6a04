"""What people see in the terminal: progress of a refresh, tables, error messages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ctg_assets.extract.extractions import ExtractionPlan
from ctg_assets.feed.service import SinkStatus
from ctg_assets.history.entries import HistoryEntry, UndoRecord
from ctg_assets.history.undo import Consequences
from ctg_assets.lake import Lake
from ctg_assets.printable import printable, printable_lines
from ctg_assets.refresh.planner import Stage, Step
from ctg_assets.refresh.status import ExtractionStatus, WarehouseStatus
from ctg_assets.snapshot.store import SnapshotManifest

_POLL_SECONDS = 0.5

# Where output is no terminal (CI logs), one line in so many seconds says how far a walk is.
_PLAIN_LINE_SECONDS = 15.0

_DOING = {
    Stage.PLAN: "asking the registry",
    Stage.PAGES: "fetching pages",
    Stage.SNAPSHOT: "compacting",
    Stage.STAGING: "loading tables and building marts",
    Stage.LOAD_INFO: "noting the new data version",
    Stage.MARTS: "building marts",
}


class SafeConsole(Console):
    """A console on which nothing that is printed can do more than be read.

    Text is taken as it is, without markup and emoji codes, and characters that a terminal would act on
    are shown as escapes, in whatever is rendered: lines, tables, live displays.
    """

    def __init__(self, *, file: IO[str] | None = None, stderr: bool = False) -> None:
        """Print to standard output or error as they are at the time, or to `file`."""
        # Nothing is folded, so that paths and URLs can be copied whole.
        super().__init__(
            file=file, stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=True
        )

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as ever, but for what a terminal would act on; styles and cursor are rich's own."""
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(printable_lines(segment.text), segment.style)


class ConsoleHandler(logging.Handler):
    """Shows what our code logs (retries, waits) on a console, a line each."""

    def __init__(self, console: Console) -> None:
        """Show warnings and worse on `console`."""
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        self._console.print(Text(self.format(record), "yellow"))


def log_to(console: Console) -> None:
    """Let this console, and no other, show what our code logs."""
    logger = logging.getLogger("ctg_assets")
    for handler in list(logger.handlers):
        if isinstance(handler, ConsoleHandler):
            logger.removeHandler(handler)
    logger.addHandler(ConsoleHandler(console))


def led(word: str, style: str, rest: object) -> Text:
    """A line that begins with a word in some style."""
    return Text.assemble((printable(word), style), printable(rest))


def check_line(check: str, description: str, *, warning: bool) -> Text:
    """A check that did not pass."""
    word = ("warns", "yellow") if warning else ("failed", "red")
    return Text.assemble("check ", word, printable(f" {check}: {description}"))


class RefreshDisplay:
    """Shows a refresh as it goes: a live line on a terminal, plain lines elsewhere."""

    def __init__(self, console: Console, lake: Lake) -> None:
        """Show on `console`; the walk's progress is read from `lake`."""
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
        """A stage begins."""
        self._started = time.monotonic()
        self._done_assets = 0
        self._console.print(led(f"{step.stage:<9}", "bold", f" {step.reason}"))
        self._task = self._progress.add_task(_DOING[step.stage], total=None, facts="")
        if step.stage is Stage.PAGES and step.extraction is not None:
            self._watch = _PageWatch(self, step.extraction)
            self._watch.start()

    def asset_materialized(self, asset: str, rows: int | None) -> None:
        """An asset of the stage is done."""
        self._done_assets += 1
        if self._task is not None and self._watch is None:
            size = "" if rows is None else f", {rows:,} rows"
            self._progress.update(self._task, facts=f"{self._done_assets} done, last {asset}{size}")

    def check_failed(self, check: str, description: str, *, warning: bool) -> None:
        """A check did not pass."""
        line = check_line(check, description, warning=warning)
        self._console.print(Text.assemble("          ", line))

    def stage_finished(self) -> None:
        """The stage ended."""
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
        """Stop whatever is still shown; for when a stage ends badly."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def show_pages(self, plan: ExtractionPlan, pages: int, studies: int, rate: float) -> None:
        """Show how far a walk is."""
        said = f"{pages} of {plan.planned_pages} pages, {studies:,} studies, {rate:.1f} pages/s"
        if self._task is not None:
            self._progress.update(self._task, completed=pages, total=plan.planned_pages, facts=said)

    def say_pages(self, plan: ExtractionPlan, pages: int, studies: int) -> None:
        """Say in a plain line how far a walk is, where there is no live display."""
        if not self._console.is_terminal:
            self._console.print(
                f"          {pages} of {plan.planned_pages} pages, {studies:,} studies"
            )

    @property
    def lake(self) -> Lake:
        """The lake whose walk is shown."""
        return self._lake


class _PageWatch:
    """Reads a walk's progress from its shards, in a thread of its own."""

    def __init__(self, display: RefreshDisplay, plan: ExtractionPlan) -> None:
        self._display = display
        self._plan = plan
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="page watch", daemon=True)
        self._studies: dict[int, int] = {}
        self._at_start = 0

    def start(self) -> None:
        self._at_start = self._look()
        self._thread.start()

    def stop(self) -> str:
        """End watching; returns what was seen, in words."""
        self._stopped.set()
        self._thread.join()
        pages = self._look()
        return (
            f"{pages} of {self._plan.planned_pages} pages, {sum(self._studies.values()):,} studies"
        )

    def _look(self) -> int:
        shards = self._display.lake.shards
        for page in shards.pages(self._plan.extraction_id):
            if page not in self._studies:
                self._studies[page] = shards.info(self._plan.extraction_id, page).studies
        return len(self._studies)

    def _run(self) -> None:
        started = said = time.monotonic()
        while not self._stopped.wait(_POLL_SECONDS):
            pages = self._look()
            now = time.monotonic()
            studies = sum(self._studies.values())
            rate = (pages - self._at_start) / (now - started)
            self._display.show_pages(self._plan, pages, studies, rate)
            if now - said > _PLAIN_LINE_SECONDS:
                self._display.say_pages(self._plan, pages, studies)
                said = now


def rows_table(title: str, counts: Mapping[str, int]) -> Table:
    """A table of row counts."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, rows in counts.items():
        table.add_row(printable(name), f"{rows:,}")
    return table


def sinks_table(statuses: Sequence[SinkStatus]) -> Table:
    """How far the feed's sinks are."""
    table = Table(box=None, pad_edge=False)
    table.add_column("sink")
    table.add_column("type")
    for name in ("at change", "behind", "delivered", "dead letters"):
        table.add_column(name, justify="right")
    table.add_column("moved")
    for status in statuses:
        kind = "not in the file" if status.settings is None else status.settings.type
        if status.state is None or status.behind is None:
            table.add_row(printable(status.name), kind, "", "", "", "", "never delivered to")
        else:
            state = status.state
            numbers = (state.change_seq, status.behind, state.delivered, state.dead_letters)
            shown = (f"{number:,}" for number in numbers)
            table.add_row(printable(status.name), kind, *shown, age(state.moved_at))
    return table


def sink_lines(status: SinkStatus) -> Iterator[Text]:
    """What else there is to say of a sink, a line each."""
    state = status.state
    if state is None:
        return
    name = printable(status.name)
    if not state.is_held:
        yield Text(f"{name}: no process delivers to it; `ctg-assets feed run` does")
    if state.last_error is not None and state.last_error_at is not None:
        error = f"last error {age(state.last_error_at)}: {printable(state.last_error)}"
        if state.failing_since is None:
            yield Text(f"{name}: {error}")
        else:
            since = f" since {state.failing_since.astimezone(UTC):%Y-%m-%d %H:%M} UTC, {error}"
            yield Text.assemble(f"{name}: ", ("held up", "red"), since)
    for letter in status.dead_letters:
        again = ", to be sent again" if letter.replay_asked else ""
        yield Text(
            f"{name}: dead letter: change {letter.change_seq} of {printable(letter.nct_id)}, tried "
            f"{letter.attempts} times, last {age(letter.last_failed_at)}{again}: "
            f"{printable(letter.reason)}"
        )
    if state.dead_letters > len(status.dead_letters):
        more = state.dead_letters - len(status.dead_letters)
        yield Text(f"{name}: {more:,} more dead letters, in ctg_meta.feed_dead_letters")


def history_lines(entries: Sequence[tuple[HistoryEntry, UndoRecord | None]]) -> Iterator[Text]:
    """The entries of the history, one a line; those that were withdrawn say by which undo."""
    yield Text(
        f"{'entry':>5}  {'mode':<11}  {'as of (UTC)':<16}  {'recorded (UTC)':<16}  {'studies':>9}  "
        "changes; from",
        style="bold",
    )
    for entry, undo in entries:
        source = entry.source + (f" ({entry.query})" if entry.query else "")
        state = standing(entry, undo)
        yield Text(
            f"{entry.sequence:>5}  {entry.mode:<11}  {entry.observed_at:%Y-%m-%d %H:%M}  "
            f"{entry.recorded_at:%Y-%m-%d %H:%M}  {entry.studies:>9,}  "
            f"{changes_in_words(entry.changes)}; {printable(source)}"
            + (f"; {state}" if state else ""),
            style="dim" if undo is not None else "",
        )


def changes_in_words(changes: Mapping[str, int]) -> str:
    """How many changes of each kind: `3 insert, 1 update`."""
    return ", ".join(f"{count:,} {kind}" for kind, count in changes.items()) or "none"


def standing(entry: HistoryEntry, undo: UndoRecord | None) -> str:
    """Whether an entry counts, where that needs a word."""
    if undo is None:
        return "" if entry.replays is None else f"entry {entry.replays} recorded once more"
    if entry.sequence in undo.replayed:
        return f"now entry {undo.replayed[entry.sequence]} (undo {undo.undo_id})"
    return f"undone (undo {undo.undo_id})"


def entry_facts(entry: HistoryEntry, undo: UndoRecord | None) -> list[tuple[str, str]]:
    """What there is to say of an entry of the history."""
    lines = [
        ("entry", f"{entry.sequence} {standing(entry, undo)}".rstrip()),
        ("extraction", f"{entry.extraction_id} ({entry.mode})"),
        ("from", entry.source + (f", query {entry.query}" if entry.query else "")),
        ("as of", f"{entry.observed_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("recorded", f"{entry.recorded_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("whole scope seen", "yes" if entry.complete else "no"),
        ("studies afterwards", f"{entry.studies:,}"),
        ("changes", changes_in_words(entry.changes)),
        ("silent updates", f"{entry.silent:,}"),
        ("numbers", ", ".join(f"{first:,} to {after - 1:,}" for first, after in entry.numbers)),
    ]
    if undo is not None:
        lines += [
            ("undone", f"{undo.undone_at:%Y-%m-%d %H:%M:%S} UTC by {undo.user} on {undo.host}"),
            ("command", undo.command),
            ("reason", undo.reason or "(none given)"),
        ]
    return lines


def consequences_lines(found: Consequences, *, nothing_left: bool) -> list[str]:
    """What an undo does, in sentences; `nothing_left` if the tables are emptied by it."""
    undone = ", ".join(str(entry.sequence) for entry in found.scope.undone)
    lines = [f"taken back: entry {undone}"]
    lines += [
        f"  {entry.sequence}: {entry.mode} of {entry.observed_at:%Y-%m-%d %H:%M} UTC from "
        f"{entry.source}, {changes_in_words(entry.changes)}"
        for entry in found.scope.undone
    ]
    if found.scope.replayed:
        first, last = found.scope.replayed[0].sequence, found.scope.replayed[-1].sequence
        lines.append(f"recorded once more without it: entries {first} to {last}")
    lines += [
        (
            f"current studies: {found.studies:,} ({found.removed:,} fewer, {found.added:,} more, "
            f"{found.changed:,} with another content)"
        ),
        (
            f"changes: {found.withdrawn:,} withdrawn, {found.found:,} new; of the entries recorded once "
            f"more {found.kept:,} stay as they are"
        ),
        (
            "tables and marts: emptied, since nothing is left that they could hold"
            if nothing_left
            else "tables and marts: loaded whole from the history"
        ),
    ]
    return lines


def facts(items: Sequence[tuple[str, str]]) -> Text:
    """Names and values, a line each."""
    width = max(len(name) for name, _ in items)
    return Text("\n").join(
        Text.assemble((f"{name:<{width}}", "bold"), f"  {printable(value)}")
        for name, value in items
    )


def age(moment: datetime, now: datetime | None = None) -> str:
    """How long ago something was, in words: `3 h ago`."""
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{max(0, seconds)} s ago"


def extraction_facts(status: ExtractionStatus) -> list[tuple[str, str]]:
    """An extraction's state."""
    plan = status.plan
    of_pages = "" if plan.planned_pages is None else f" of {plan.planned_pages}"
    found = [
        ("extraction", plan.extraction_id),
        ("state", str(status.state)),
        ("from", plan.source + (f" where {plan.query}" if plan.query else "")),
        ("data version", f"{plan.data_timestamp} UTC"),
        ("mode", str(plan.mode) + (f": {plan.reason}" if plan.reason else "")),
        ("planned", f"{plan.planned_at:%Y-%m-%d %H:%M:%S} UTC ({age(plan.planned_at)})"),
        ("pages", f"{status.pages}{of_pages}"),
    ]
    if status.completion is not None:
        found.append(("studies", f"{status.completion.distinct_studies:,}"))
    if status.supersession is not None:
        found.append(("given up", status.supersession.reason))
    return found


def snapshot_facts(manifest: SnapshotManifest, lake: Lake) -> list[tuple[str, str]]:
    """What the newest snapshot holds."""
    parquet, json = manifest.file_bytes / 1e6, manifest.json_bytes / 1e6
    return [
        ("snapshot", lake.snapshots.studies_path(manifest.snapshot_id)),
        ("data version", f"{manifest.data_timestamp} UTC"),
        ("studies", f"{manifest.studies:,}"),
        ("in quarantine", f"{manifest.quarantined:,}"),
        ("size", f"{parquet:,.1f} MB of {json:,.1f} MB JSON"),
    ]


def warehouse_facts(status: WarehouseStatus) -> list[tuple[str, str]]:
    """What the database holds."""
    if status.problem is not None:
        return [("database", status.problem)]
    found = [("database", status.address or "")]
    if status.info is None:
        # A load makes tables and fills them at once.
        emptied = "empty; what they held was taken back (`ctg-assets history list`)"
        found.append(("tables", emptied if status.staging_rows else "nothing has been loaded yet"))
        return found
    loaded, version = status.info.loaded_at, status.info.data_timestamp
    return [
        *found,
        ("loaded", f"{loaded:%Y-%m-%d %H:%M:%S} UTC ({age(loaded)})"),
        ("from snapshot", status.info.snapshot_id),
        ("data version", "unknown" if version is None else f"{version:%Y-%m-%dT%H:%M:%S} UTC"),
        ("staging", _rows_in_words(status.staging_rows)),
        ("marts", _rows_in_words(status.marts_rows)),
    ]


def _rows_in_words(rows: Mapping[str, int] | None) -> str:
    if not rows:
        return "not built yet"
    return f"{len(rows)} tables, {sum(rows.values()):,} rows"
