"""What every command prints with: consoles on which text can only be read, and lines that several show."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ctg_assets import logs
from ctg_assets.errors import CtgAssetsError
from ctg_assets.printable import printable, printable_lines
from ctg_assets.redaction import without_secrets
from ctg_assets.setting_values import LogFormat
from ctg_assets.settings import load_settings

_log = logging.getLogger(__name__)

# Of a long list, commands show the beginning.
MOST_LISTED = 20


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


class MessageConsole(SafeConsole):
    """Standard error: what commands tell people while they work, without any secret that is known.

    Where logs are JSON lines, these messages are records as well.
    """

    as_records = False
    threshold = logging.WARNING
    """Of what our code logs, lines are shown from this severity on."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print, or log with a severity that follows from the colour."""
        if not self.as_records:
            super().print(*objects, **options)
            return
        told = " ".join(
            each.plain if isinstance(each, Text) else str(each) for each in objects
        ).strip()
        styles = {str(options.get("style"))}
        styles |= {
            str(span.style) for each in objects if isinstance(each, Text) for span in each.spans
        }
        is_bad = any("red" in style for style in styles)
        is_odd = any("yellow" in style for style in styles)
        level = logging.ERROR if is_bad else logging.WARNING if is_odd else logging.INFO
        if told:
            _log.log(level, "%s", told)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Render as ever, but for secrets."""
        for segment in super().render(renderable, options):
            yield Segment(without_secrets(segment.text), segment.style, segment.control)


# Whatever people see goes through one of these.
out = SafeConsole()
err = MessageConsole(stderr=True)


def tell(text: str) -> None:
    """Say how a command ended: on standard output, or in a record where logs are JSON lines."""
    if err.as_records:
        err.print(text)
    else:
        out.print(text)


class ConsoleHandler(logging.Handler):
    """Shows what our code logs (retries, waits) on a console, a line each."""

    def __init__(self, console: Console, level: int = logging.WARNING) -> None:
        """Show what is this bad or worse on `console`."""
        super().__init__(level)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; one that cannot be written costs nothing else."""
        try:
            self._console.print(Text(self.format(record), "yellow"))
        except Exception:  # noqa: BLE001 - as Python's own handlers do
            self.handleError(record)


def log_as_set(process: str) -> None:
    """Log as the settings say, for a command called `process`; settings that cannot be used are the command's to tell.

    Raises LogFolderError.
    """
    # What this reading of the settings warns of, the command's own reading will.
    logging.disable(logging.CRITICAL)
    try:
        settings = load_settings()
    except CtgAssetsError:
        settings = None
    finally:
        logging.disable(logging.NOTSET)
    err.as_records = settings is not None and settings.log_format is LogFormat.JSON
    if settings is not None:
        logs.set_up(settings, process, sys.stderr)
    level = None if settings is None else settings.log_level
    err.threshold = logging.WARNING if level is None else logs.number_of(level)
    ours = logging.getLogger(logs.OURS)
    ours.setLevel(min(err.threshold, ours.level or err.threshold))
    log_to(err)


def log_to(console: Console) -> None:
    """Let this console, and no other, show what our code logs, unless that is JSON lines."""
    logger = logging.getLogger(logs.OURS)
    for handler in list(logger.handlers):
        if isinstance(handler, ConsoleHandler):
            logger.removeHandler(handler)
    if not err.as_records:
        logger.addHandler(ConsoleHandler(console, err.threshold))


@contextmanager
def quiet_dagster() -> Iterator[None]:
    """Keep dbt's and Dagster's start-up notes out of the display."""
    logger = logging.getLogger("dagster")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)


def labelled(word: str, style: str, rest: object) -> Text:
    """A line that begins with a word in a style of its own."""
    return Text.assemble((printable(word), style), printable(rest))


def check_line(check: str, description: str, *, warning: bool) -> Text:
    """A check that did not pass."""
    word = ("warns", "yellow") if warning else ("failed", "red")
    return Text.assemble("check ", word, printable(f" {check}: {description}"))


def facts(items: Sequence[tuple[str, str]]) -> Text:
    """Names and values, a line each."""
    width = max(len(name) for name, _ in items)
    return Text("\n").join(
        Text.assemble((f"{name:<{width}}", "bold"), f"  {printable(value)}")
        for name, value in items
    )


def rows_table(title: str, counts: Mapping[str, int]) -> Table:
    """A table of row counts."""
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, rows in counts.items():
        table.add_row(printable(name), f"{rows:,}")
    return table


def age(moment: datetime, now: datetime | None = None) -> str:
    """How long ago something was, in words: `3 h ago`."""
    seconds = int(((now or datetime.now(UTC)) - moment).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit} ago"
    return f"{max(0, seconds)} s ago"
