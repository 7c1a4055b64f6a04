"""The feed as configured: the sinks of the file, the history's events, the database's progress."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from ctg_assets.clickhouse import ClickHouseAddress, ClickHouseUnavailableError, MartsSource
from ctg_assets.feed.clickhouse_progress import (
    ClickHouseNotes,
    ClickHouseState,
    clickhouse_notes,
    clickhouse_state,
)
from ctg_assets.feed.config import ClickHouseSettings, SinkSettings, read_sinks, secret_of
from ctg_assets.feed.errors import SinkFileError
from ctg_assets.feed.history_events import EVENT_NAMES, HistoryEvents
from ctg_assets.feed.positions import (
    DeadLetter,
    SinkState,
    ask_for_dead_letters,
    dead_letters,
    discard_dead_letters,
    move_back,
    sink_states,
)
from ctg_assets.feed.runner import Outcome, make_any_sink, run_feed
from ctg_assets.lake import open_lake
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.postgres.server import open_postgres
from ctg_assets.settings import Settings


@dataclass(frozen=True)
class SinkStatus:
    """One sink: what the file says of it, how far it is, and the first of what it did not take.

    `problem` says why nothing can be told of it. `settings` is None for a sink that the file does not name any more, `state` for one that was never
    delivered to. `behind` counts the changes, wanted or not, that it has not reached; None where nothing says from
    which it will begin. `marts` says in words which marts a ClickHouse has.
    """

    name: str
    settings: SinkSettings | None
    state: SinkState | None
    behind: int | None
    dead_letters: Sequence[DeadLetter]
    problem: str | None = None
    marts: str | None = None


def configured_sinks(settings: Settings, names: Collection[str] = ()) -> list[SinkSettings]:
    """The sinks of the file, or those of them that are named. Raises SinkFileError."""
    if settings.feed_file is None:
        message = (
            "no sinks are configured; write a file of sinks (docs/feed.md shows one) and set "
            "CTG_FEED_FILE to its path"
        )
        raise SinkFileError(message)
    sinks = read_sinks(settings.feed_file, EVENT_NAMES)
    if not sinks:
        message = f"there is no [[sink]] in {settings.feed_file}; docs/feed.md shows one"
        raise SinkFileError(message)
    known = [sink.name for sink in sinks]
    unknown = sorted(set(names) - set(known))
    if unknown:
        message = (
            f"no sink {', '.join(map(repr, unknown))} in {settings.feed_file}; there are "
            f"{', '.join(known)}"
        )
        raise SinkFileError(message)
    return [sink for sink in sinks if not names or sink.name in names]


def deliver(
    settings: Settings,
    names: Collection[str],
    *,
    once: bool,
    stop: threading.Event,
    show: Callable[[str], None] | None = None,
    marts: MartsSource | None = None,
) -> list[Outcome]:
    """Deliver to all sinks, or those named, until `stop` is set, or `once`; `show` is told what takes minutes.

    A ClickHouse gets `marts`, too; without, those that are there stay.

    Raises SinkFileError before anything is sent, and WarehouseError when a sink needs the database and there is none.
    """
    lake = open_lake(settings)
    chosen = configured_sinks(settings, names)
    sinks = [(sink, make_any_sink(sink, os.environ, lake, show, marts)) for sink in chosen]
    with _database(settings, chosen) as address:
        return run_feed(sinks, address, HistoryEvents(lake.history), once=once, stop=stop)


@contextmanager
def _database(
    settings: Settings, sinks: Sequence[SinkSettings]
) -> Iterator[PostgresAddress | None]:
    """The database, if the notes of any of some sinks are in it."""
    if all(isinstance(sink, ClickHouseSettings) for sink in sinks):
        yield None
    else:
        with open_postgres(settings) as address:
            yield address


def sink_statuses(settings: Settings, most_letters: int) -> list[SinkStatus]:
    """All sinks that the file names or that were ever delivered to."""
    configured = {sink.name: sink for sink in configured_sinks(settings)}
    newest = HistoryEvents(open_lake(settings).history).newest()
    states: dict[str, SinkState] = {}
    letters: dict[str, Sequence[DeadLetter]] = {}
    with _database(settings, [*configured.values()]) as address:
        if address is not None:
            states |= {state.sink: state for state in sink_states(address)}
            letters |= {name: dead_letters(address, name, most_letters) for name in states}
    problems: dict[str, str] = {}
    marts: dict[str, str | None] = {}
    for name, sink in configured.items():
        if isinstance(sink, ClickHouseSettings):
            try:
                found = _state_in_clickhouse(sink, most_letters)
            except ClickHouseUnavailableError as error:
                problems[name] = str(error)
            else:
                letters[name], marts[name] = found.letters, found.marts
                states |= {} if found.state is None else {name: found.state}
    return [
        SinkStatus(
            name=name,
            settings=configured.get(name),
            state=states.get(name),
            behind=_behind(newest, configured.get(name), states.get(name)),
            dead_letters=letters.get(name, ()),
            problem=problems.get(name),
            marts=marts.get(name),
        )
        for name in dict.fromkeys([*configured, *states])
    ]


def _state_in_clickhouse(sink: ClickHouseSettings, most_letters: int) -> ClickHouseState:
    address, password = ClickHouseAddress.parse(sink.url), secret_of(sink, os.environ)
    return clickhouse_state(address, password, sink.name, most_letters)


def _behind(newest: int, settings: SinkSettings | None, state: SinkState | None) -> int | None:
    if state is not None:
        return newest - state.change_seq
    return newest if settings is not None and settings.start == "beginning" else None


def replay_from(settings: Settings, name: str, from_seq: int) -> int:
    """Have a sink sent everything from a number on; returns how far it was."""
    with _notes(settings, name) as found:
        if isinstance(found, ClickHouseNotes):
            return found.move_back(from_seq)
        return move_back(found, name, from_seq)


def replay_dead_letters(settings: Settings, name: str) -> int:
    """Have a sink sent its dead letters again; returns how many."""
    with _notes(settings, name) as found:
        if isinstance(found, ClickHouseNotes):
            return found.ask_for_dead_letters()
        return ask_for_dead_letters(found, name)


def give_up_dead_letters(settings: Settings, name: str) -> int:
    """Forget a sink's dead letters, which it will not be sent again; returns how many."""
    with _notes(settings, name) as found:
        if isinstance(found, ClickHouseNotes):
            return found.discard_dead_letters()
        return discard_dead_letters(found, name)


@contextmanager
def _notes(settings: Settings, name: str) -> Iterator[PostgresAddress | ClickHouseNotes]:
    """Where the notes of a sink are."""
    [sink] = configured_sinks(settings, [name])
    with ExitStack() as stack:
        if isinstance(sink, ClickHouseSettings):
            address, password = ClickHouseAddress.parse(sink.url), secret_of(sink, os.environ)
            yield stack.enter_context(clickhouse_notes(address, password, name))
        else:
            yield stack.enter_context(open_postgres(settings))
