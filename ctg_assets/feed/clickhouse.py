"""ClickHouse: the flat tables follow the changes, study by study, and marts the database.

An event says which study changed. What is written is what the lake's newest snapshot has of that study, so that
events that come twice, or in another order, leave the same rows.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from ctg_assets.clickhouse import (
    BusyError,
    ChangedStudy,
    ClickHouseAddress,
    ClickHouseAddressError,
    ClickHouseUnavailableError,
    FollowedTables,
    MartsSource,
    RowsRefusedError,
    followed_tables,
    reflected,
    require_clickhouse,
)
from ctg_assets.feed.clickhouse_marts import FollowedMarts
from ctg_assets.feed.clickhouse_progress import (
    ClickHouseNotes,
    ClickHouseProgress,
    unavailable,
)
from ctg_assets.feed.config import ClickHouseSettings
from ctg_assets.feed.delivery import Pauses
from ctg_assets.feed.errors import (
    EventsRefusedError,
    MartsError,
    SinkBusyError,
    SinkFileError,
    SinkUnavailableError,
)
from ctg_assets.feed.events import ChangeEvent, EventSource, Sendable
from ctg_assets.lake import Lake

_log = logging.getLogger(__name__)

_NCT_ID = re.compile(r"NCT[0-9]{8}")


class _Undoes(msgspec.Struct):
    change_seq: int


class _Said(msgspec.Struct):
    """What is read of an event; everything else in it is for others."""

    change_seq: int
    nct_id: str
    undoes: _Undoes | None = None


class ClickHouseSink:
    """The flat tables and marts in a ClickHouse. For one thread at a time."""

    def __init__(
        self,
        settings: ClickHouseSettings,
        password: str | None,
        lake: Lake,
        show: Callable[[str], None] | None = None,
        marts: MartsSource | None = None,
    ) -> None:
        """Prepare; nothing is opened yet. `show` is told what takes long; without it, that is logged.

        Without `marts`, those that are there stay as they are.
        Raises SinkFileError when the address is not usable.
        """
        self._show = show or _log.info
        self._settings = settings
        self._password = password
        self._lake = lake
        self._source = marts
        self._tables: FollowedTables | None = None
        self._marts: FollowedMarts | None = None
        try:
            self.address = ClickHouseAddress.parse(settings.url)
            require_clickhouse(self.address)
        except ClickHouseAddressError as error:
            message = f"sink {settings.name!r}: {error}"
            raise SinkFileError(message) from error

    @contextlib.contextmanager
    def open_progress(self) -> Iterator[ClickHouseProgress]:
        """The sink's notes, and the right to write these tables until the block ends or the process dies.

        Raises SinkBusyError when another process has that right, SinkUnavailableError.
        """
        name = self._settings.name
        try:
            with unavailable(), contextlib.ExitStack() as stack:
                self._tables = stack.enter_context(
                    followed_tables(
                        self.address,
                        self._lake,
                        password=self._password,
                        timeout=self._settings.timeout_seconds,
                        show=self._show,
                    )
                )
                held = ClickHouseNotes(self._tables.notes, name, self.address)
                progress = ClickHouseProgress(self._tables, held)
                if self._source is not None:
                    self._marts = FollowedMarts(self._source, self._tables, progress, stack)
                yield progress
        except BusyError as error:
            message = f"another process writes to sink {name!r}: {error}"
            raise SinkBusyError(message) from error
        finally:
            self._tables = self._marts = None

    def bounded(self, source: EventSource) -> EventSource:
        """The events of a source that the newest snapshot has in it: others have no rows yet."""
        return _InSnapshot(source, self._lake)

    def deliver(self, messages: Sequence[Sendable]) -> None:
        """Bring the rows of the studies that events tell of; returns when ClickHouse has them.

        Raises SinkUnavailableError or EventsRefusedError; some rows may be there then.
        """
        if self._tables is None:
            message = f"sink {self._settings.name!r} can only be delivered to between begin and end"
            raise SinkUnavailableError(message)
        changes = [changed_study(message.body) for message in messages]
        try:
            self._tables.bring(changes)
        except RowsRefusedError as error:
            raise EventsRefusedError(str(error), for_good=error.for_good) from error
        except ClickHouseUnavailableError as error:
            raise SinkUnavailableError(str(error)) from error

    def are_marts_waiting(self, pauses: Pauses) -> bool:
        """Whether there are marts to be brought, as long as the progress is open."""
        return self._marts is not None and self._marts.are_waiting(pauses)

    def bring_marts(self, pauses: Pauses) -> MartsError | None:
        """Bring the marts that are not there yet, as long as the progress is open; returns what is in the way, if anything is.

        Raises SinkUnavailableError.
        """
        return None if self._marts is None else self._marts.bring(pauses)

    def close(self) -> None:
        """Nothing: the connection is open as long as the progress is."""


def changed_study(body: bytes) -> ChangedStudy:
    """What an event says; raises EventsRefusedError for one that is none of ours."""
    try:
        said = msgspec.json.decode(body, type=_Said)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = f"it is no event of this feed: {error}"
        raise EventsRefusedError(message, for_good=True) from error
    if not _NCT_ID.fullmatch(said.nct_id) or said.change_seq < 1:
        message = f"it tells of {said.nct_id!r} and change {said.change_seq}, which are none"
        raise EventsRefusedError(message, for_good=True)
    undone = None if said.undoes is None else said.undoes.change_seq
    return ChangedStudy(said.nct_id, said.change_seq, undone)


class _InSnapshot:
    """The events up to the last change that the newest snapshot has."""

    def __init__(self, source: EventSource, lake: Lake) -> None:
        self._source = source
        self._lake = lake

    def events(self, after_seq: int, limit: int) -> Sequence[ChangeEvent]:
        """The next events, none while the snapshot is being made."""
        there = reflected(self._lake)
        if there is None or there.change_seq <= after_seq:
            return []
        events = self._source.events(after_seq, limit)
        return [event for event in events if event.change_seq <= there.change_seq]

    def newest(self) -> int:
        """The highest number there is."""
        return self._source.newest()
