"""What every command prints with: consoles on which text can only be read, and lines that several show."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import IO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from ctg_assets.printable import printable, printable_lines

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


# Whatever people see goes through one of these.
out = SafeConsole()
err = SafeConsole(stderr=True)


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
