"""`feed`: others are told of changes."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ctg_assets.cli.console import MOST_LISTED, age, err, labelled, out
from ctg_assets.cli.exit_codes import with_exit_code
from ctg_assets.errors import ExitCode
from ctg_assets.printable import printable
from ctg_assets.settings import load_settings

if TYPE_CHECKING:
    from ctg_assets.feed.service import SinkStatus

_SECONDS_BETWEEN_LINES = 5.0

app = typer.Typer(
    help="Tell others of changes: webhooks, queues of RabbitMQ and ClickHouse, named in CTG_FEED_FILE.",
    no_args_is_help=True,
)


@app.command("run")
@with_exit_code
def run(
    sink: Annotated[list[str] | None, typer.Option(help="Only this sink; may be repeated.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Deliver what there is, and end.")] = False,
) -> None:
    """Deliver changes to the sinks, as they come, until Ctrl-C.

    Each sink goes on where it was, and waits for no other. What a sink did not confirm is sent again.

    Exit codes: 0 done or stopped, 1 something could not be delivered, 2 unusable settings or sinks, 4
    another process delivers to the sink.
    """
    from ctg_assets.feed.errors import SinkBusyError
    from ctg_assets.feed.service import deliver
    from ctg_assets.refresh.copied_marts import marts_source

    settings = load_settings()
    # pika tells every failure in a dozen lines, and ours says it in one.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    if not once:
        err.print("delivering changes as they come; stop with Ctrl-C")
    with _stopped_by_signals() as stop:
        outcomes = deliver(
            settings,
            sink or (),
            once=once,
            stop=stop,
            show=_seldom(err.print),
            marts=marts_source(settings),
        )
    failed = [outcome for outcome in outcomes if outcome.problem is not None]
    for outcome in failed:
        err.print(labelled(outcome.sink, "red", f": {outcome.problem}"))
    if once and failed:
        busy = all(isinstance(outcome.problem, SinkBusyError) for outcome in failed)
        raise typer.Exit(ExitCode.BUSY if busy else ExitCode.FAILED)


@app.command("status")
@with_exit_code
def show_status() -> None:
    """How far each sink is, what holds it up, and which events it did not take."""
    from ctg_assets.feed.service import sink_statuses

    statuses = sink_statuses(load_settings(), MOST_LISTED)
    out.print(sinks_table(statuses))
    for status in statuses:
        for line in sink_lines(status):
            out.print(line)


@app.command("replay")
@with_exit_code
def replay(
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
    from ctg_assets.feed.service import replay_dead_letters, replay_from

    if (from_seq is None) is not dead_letters:
        message = "give either --from-seq or --dead-letters"
        raise typer.BadParameter(message)
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


@app.command("discard")
@with_exit_code
def discard(sink: Annotated[str, typer.Argument(help="The sink's name.")]) -> None:
    """Forget the events that a sink did not take, for good: nobody wants them sent again.

    [bold]replay --from-seq[/] still sends the changes that they told of.
    """
    from ctg_assets.feed.service import give_up_dead_letters

    count = give_up_dead_letters(load_settings(), sink)
    out.print(f"dead letters of {printable(sink)} that were discarded: {count:,}")


@app.command("consume")
@with_exit_code
def consume(
    source: Annotated[
        str, typer.Option("--from", help="The broker: amqp://user@host:port/virtual-host.")
    ],
    queue: Annotated[str, typer.Option(help="The queue that a sink of the feed publishes to.")],
    to: Annotated[
        str | None, typer.Option(help="clickhouse://user@host:port/database, or chdb:///folder.")
    ] = None,
    embedded: Annotated[
        bool, typer.Option("--embedded", help="The embedded engine, in the data folder.")
    ] = False,
    name: Annotated[
        str, typer.Option(help="Position and dead letters are kept under it.")
    ] = "queue",
    batch_size: Annotated[int, typer.Option(help="Studies that are brought in one go.")] = 2000,
    from_secret_env: Annotated[
        str | None, typer.Option(help="Environment variable with the broker's password.")
    ] = None,
    to_secret_env: Annotated[
        str | None, typer.Option(help="Environment variable with ClickHouse's password.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Take what is there, and end.")] = False,
    replay_letters: Annotated[
        bool,
        typer.Option("--replay-dead-letters", help="Bring what was put aside once more, first."),
    ] = False,
    discard_letters: Annotated[
        bool, typer.Option("--discard-dead-letters", help="Forget what was put aside, for good.")
    ] = False,
) -> None:
    """Bring what a queue says into ClickHouse: the rows of studies that changed, from this lake; and marts.

    What is no event, or is refused, is put aside in ctg_dead_letters. Whatever is killed, each message is
    acknowledged after its rows are there.

    Exit codes: 0 done or stopped, 1 broker, ClickHouse or (for marts) Postgres did not do it, 2 unusable addresses, 4 another process
    writes these tables.
    """
    import os

    from ctg_assets.clickhouse import ClickHouseAddress
    from ctg_assets.feed.config import consumed_queue, written_clickhouse
    from ctg_assets.feed.consuming import consume as run_consumer
    from ctg_assets.refresh.copied_marts import marts_source
    from ctg_assets.storage.data_folder import CLICKHOUSE, data_folder

    if (to is None) is not embedded:
        message = "give either --to or --embedded"
        raise typer.BadParameter(message)
    if replay_letters and discard_letters:
        message = "give either --replay-dead-letters or --discard-dead-letters"
        raise typer.BadParameter(message)
    settings = load_settings()
    to = to or ClickHouseAddress.embedded_url(data_folder(settings, CLICKHOUSE))
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    with _stopped_by_signals() as stop:
        report = run_consumer(
            settings,
            consumed_queue(name, source, queue, from_secret_env),
            written_clickhouse(name, to, batch_size, to_secret_env),
            dict(os.environ),
            once=once,
            stop=stop,
            show=_seldom(err.print),
            replay=replay_letters,
            discard=discard_letters,
            marts=marts_source(settings),
        )
    if report.replayed:
        out.print(f"dead letters sent again: {report.replayed:,}")
    if report.discarded:
        out.print(f"dead letters discarded: {report.discarded:,}")
    out.print(
        f"messages: {report.messages:,}, studies brought: {report.brought:,}, repeats: {report.repeats:,}, "
        f"put aside: {report.put_aside:,}"
    )
    if report.waiting:
        out.print(f"waiting for the lake's next snapshot: {report.waiting:,}")
    if report.problem is not None:
        err.print(labelled(name, "red", f": {report.problem}"))
        raise typer.Exit(ExitCode.FAILED)


def _seldom(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Hand on what is told often, at first and then every few seconds."""
    told_at: float | None = None

    def hear(text: str) -> None:
        nonlocal told_at
        if told_at is None or time.monotonic() - told_at >= _SECONDS_BETWEEN_LINES:
            told_at = time.monotonic()
            tell(text)

    return hear


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


def sinks_table(statuses: Sequence[SinkStatus]) -> Table:
    """A table of the feed's sinks and how far each is."""
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
    """Troubles and dead letters of a sink, one a line."""
    state = status.state
    name = printable(status.name)
    if status.problem is not None:
        yield Text(f"{name}: {printable(status.problem)}")
    if status.marts is not None:
        yield Text(f"{name}: marts of {printable(status.marts)}")
    if state is None:
        return
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
