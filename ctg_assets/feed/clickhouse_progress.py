"""How far a ClickHouse is, and what it did not take: kept in that ClickHouse itself, beside the rows.

The embedded engine lets one process at a time open its folder. For others, who only want to know, a copy of the
notes is written beside the folder whenever they change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ctg_assets.clickhouse import (
    Base,
    ChangedStudy,
    ClickHouse,
    ClickHouseAddress,
    ClickHouseUnavailableError,
    FollowedTables,
    Letter,
    Notes,
    ReaderPosition,
    RowsRefusedError,
    rows_database,
)
from ctg_assets.feed.errors import FeedError, SinkUnavailableError
from ctg_assets.feed.events import Message
from ctg_assets.feed.positions import DeadLetter, Refusal, SinkState

_MOST_COPIED = 100


class _Copy(msgspec.Struct, frozen=True):
    """The notes of one sink, beside the embedded engine's folder."""

    state: SinkState
    letters: list[DeadLetter]
    marts: str | None = None


@dataclass(frozen=True)
class ClickHouseNotes:
    """One sink's notes in a ClickHouse that is open."""

    notes: Notes
    sink: str
    address: ClickHouseAddress

    def state(self) -> SinkState | None:
        """How far the sink is; None before it began."""
        position = self.notes.position(self.sink)
        if position is None or position.moved_at is None:
            return None
        return SinkState(
            sink=self.sink,
            change_seq=position.change_seq,
            delivered=position.delivered,
            moved_at=position.moved_at,
            last_error=position.last_error,
            last_error_at=position.last_error_at,
            failing_since=position.failing_since,
            dead_letters=self.notes.count_letters(self.sink),
            # ClickHouse has no locks that would tell.
            is_held=True,
        )

    def dead_letters(self, limit: int) -> list[DeadLetter]:
        """The first of its dead letters."""
        return [_shown(self.sink, letter) for letter in self.notes.letters(self.sink, limit=limit)]

    def marts(self) -> str | None:
        """Which marts there are, in words; None where there were never any."""
        return self.notes.marts_brought()

    def copy(self) -> None:
        """Write the copy that others read, where they cannot open the engine."""
        state = self.state()
        if state is not None and self.address.folder is not None:
            copied = _Copy(state, self.dead_letters(_MOST_COPIED), self.marts())
            path = _copy_path(self.address.folder, self.address.database, self.sink)
            temporary = path.with_name(f"{path.name}.new")
            temporary.write_bytes(msgspec.json.encode(copied))
            temporary.replace(path)

    def ask_for_dead_letters(self) -> int:
        """Have all dead letters sent again; returns how many there are."""
        letters = self.notes.letters(self.sink)
        self.notes.put_aside(self.sink, [replace(letter, replay_asked=True) for letter in letters])
        self.copy()
        return len(letters)

    def discard_dead_letters(self) -> int:
        """Forget all dead letters; returns how many there were."""
        letters = self.notes.letters(self.sink)
        self.notes.remove_letters(self.sink, [letter.event_id for letter in letters])
        self.copy()
        return len(letters)

    def move_back(self, from_seq: int) -> int:
        """Have everything from a number on brought again; returns how far it was. Raises FeedError."""
        position = self.notes.position(self.sink)
        if position is None:
            message = f"sink {self.sink!r} was never delivered to; `ctg-assets feed run` begins"
            raise FeedError(message)
        before = position.change_seq
        if not 1 <= from_seq <= before + 1:
            message = (
                f"sink {self.sink!r} has everything up to change {before}: from {from_seq} it would miss "
                f"some; give a number from 1 to {before + 1}"
            )
            raise FeedError(message)
        self.notes.move(self.sink, replace(position, change_seq=from_seq - 1, moved_at=None))
        self.copy()
        return before


class ClickHouseProgress:
    """The progress of a sink whose notes lie in ClickHouse, for its delivery."""

    def __init__(self, tables: FollowedTables, held: ClickHouseNotes) -> None:
        """Keep the notes of one sink, beside the tables that it brings changes to."""
        self._tables = tables
        self._held = held
        self._notes, self._sink = held.notes, held.sink
        self._do_marts_fail = False

    def position(self) -> int | None:
        """The highest number up to which everything is settled; loads the tables that are not there yet."""
        with unavailable():
            base = self._tables.prepare()
            position = self._notes.position(self._sink)
            if (
                position is None
                or position.history != base.history
                or position.change_seq > self._tables.newest()
            ):
                # New, or of a history that was made anew: all tables have just been loaded from that.
                position = ReaderPosition(base.change_seq, base.history)
                self._move(position)
        return position.change_seq

    def begin(self, change_seq: int) -> None:
        """Nothing: `position` has begun already."""
        del change_seq

    def advance(
        self, before: int, after: int, accepted: Sequence[str], refused: Sequence[Refusal]
    ) -> bool:
        """Move the position on, over events taken (by id) and others that are put aside; the position last.

        Does nothing and returns False when it is not where it was `before`: a person moved it.
        """
        with unavailable():
            position = self._notes.position(self._sink)
            if position is None or position.change_seq != before:
                return False
            self._write(accepted, refused)
            delivered = position.delivered + len(accepted)
            self._move(
                replace(
                    position,
                    change_seq=after,
                    delivered=delivered,
                    moved_at=None,
                    failing_since=self._still_failing(position),
                )
            )
            self._tables.whole_up_to(after)
        return True

    def settle(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        """Note how dead letters fared that were sent again."""
        with unavailable():
            self._write(accepted, refused)
            position = self._notes.position(self._sink)
            if position is not None:
                delivered = position.delivered + len(accepted)
                self._move(
                    replace(
                        position, delivered=delivered, failing_since=self._still_failing(position)
                    )
                )

    def replays(self, limit: int) -> list[Message]:
        """Dead letters that are to be sent again, in the order of their numbers."""
        with unavailable():
            letters = self._notes.letters(self._sink, asked=True, limit=limit)
        return [
            Message(letter.event_id, letter.change_seq, letter.nct_id, letter.body.encode())
            for letter in letters
        ]

    def failed(self, reason: str) -> None:
        """Note that delivery is held up, if ClickHouse is there to note it."""
        with contextlib.suppress(SinkUnavailableError), unavailable():
            position = self._notes.position(self._sink)
            if position is not None:
                now = datetime.now(UTC)
                since = position.failing_since or now
                noted = replace(position, last_error=reason, last_error_at=now, failing_since=since)
                self._move(noted)

    def marts_failed(self, reason: str) -> None:
        """Note that marts are held up, which events that are delivered do not change."""
        self._do_marts_fail = True
        self.failed(reason)

    def is_well(self) -> None:
        """Note that nothing is held up, and have others see which marts there are. Raises SinkUnavailableError."""
        self._do_marts_fail = False
        with unavailable():
            position = self._notes.position(self._sink)
            if position is not None and position.failing_since is not None:
                self._move(replace(position, failing_since=None))
            else:
                self._held.copy()

    def base(self) -> Base:
        """Up to which change all tables are whole; raises as ClickHouse does."""
        return self._tables.prepare()

    def took(self, messages: Sequence[Message], refused: Sequence[Refusal]) -> None:
        """Note what was brought out of a queue, in whatever order: dead letters first, the position last."""
        if not messages and not refused:
            return
        with unavailable():
            position = self._notes.position(self._sink)
            self._write([message.event_id for message in messages], refused)
            if position is not None:
                highest = max([position.change_seq, *(each.change_seq for each in messages)])
                delivered = position.delivered + len(messages)
                moved = replace(
                    position,
                    change_seq=highest,
                    delivered=delivered,
                    moved_at=None,
                    failing_since=self._still_failing(position),
                )
                self._move(moved)

    def ask_for_dead_letters(self) -> int:
        """Have all dead letters sent again; returns how many there are."""
        with unavailable():
            return self._held.ask_for_dead_letters()

    def discard_dead_letters(self) -> int:
        """Forget all dead letters; returns how many there were."""
        with unavailable():
            return self._held.discard_dead_letters()

    def settled_since(self, change_seq: int) -> set[int]:
        """The numbers after one of changes that are there, or put aside; raises SinkUnavailableError."""
        with unavailable():
            aside = {letter.change_seq for letter in self._notes.letters(self._sink)}
            return self._tables.brought_since(change_seq) | aside

    def whole_up_to(self, change_seq: int, undoings: Sequence[ChangedStudy]) -> None:
        """Note that all changes up to this one are settled, having brought undoings once more, which leave no mark.

        Nothing is noted when ClickHouse refuses those, or the lake is further already.
        """
        with unavailable():
            if undoings:
                try:
                    self._tables.bring(undoings)
                except RowsRefusedError:
                    return
            self._tables.whole_up_to(change_seq)

    def _still_failing(self, position: ReaderPosition) -> datetime | None:
        return position.failing_since if self._do_marts_fail else None

    def _move(self, position: ReaderPosition) -> None:
        self._notes.move(self._sink, position)
        self._held.copy()

    def _write(self, accepted: Sequence[str], refused: Sequence[Refusal]) -> None:
        if not accepted and not refused:
            return
        known = {letter.event_id: letter for letter in self._notes.letters(self._sink)}
        gone = [event_id for event_id in accepted if event_id in known]
        self._notes.remove_letters(self._sink, gone)
        now = datetime.now(UTC)
        letters = []
        for refusal in refused:
            message, before = refusal.message, known.get(refusal.message.event_id)
            letters.append(
                Letter(
                    event_id=message.event_id,
                    change_seq=message.change_seq,
                    nct_id=message.nct_id,
                    reason=refusal.reason,
                    attempts=refusal.attempts + (before.attempts if before else 0),
                    first_failed_at=before.first_failed_at if before else now,
                    last_failed_at=now,
                    replay_asked=False,
                    body=message.body.decode("utf-8", errors="backslashreplace"),
                )
            )
        self._notes.put_aside(self._sink, letters)


@contextlib.contextmanager
def unavailable() -> Iterator[None]:
    """Have what ClickHouse cannot do now be a sink that is not there."""
    try:
        yield
    except (ClickHouseUnavailableError, RowsRefusedError) as error:
        raise SinkUnavailableError(str(error)) from error


@contextlib.contextmanager
def clickhouse_notes(
    address: ClickHouseAddress, password: str | None, sink: str
) -> Iterator[ClickHouseNotes]:
    """One sink's notes, to be read or changed by a person; made if they are not there."""
    server = ClickHouse(address, password, 30.0)
    try:
        notes = Notes(server, rows_database(address))
        notes.prepare()
        yield ClickHouseNotes(notes, sink, address)
    finally:
        server.close()


@dataclass(frozen=True)
class ClickHouseState:
    """How far a sink is, the first of its dead letters, and which marts there are, in words."""

    state: SinkState | None = None
    letters: Sequence[DeadLetter] = ()
    marts: str | None = None


def clickhouse_state(
    address: ClickHouseAddress, password: str | None, sink: str, limit: int
) -> ClickHouseState:
    """How far a sink is: of the embedded engine what was last noted beside it."""
    if address.folder is not None:
        try:
            content = _copy_path(address.folder, address.database, sink).read_bytes()
        except FileNotFoundError:
            return ClickHouseState()
        try:
            copied = msgspec.json.decode(content, type=_Copy)
        except msgspec.DecodeError as error:
            # Of an older release, or written when the machine went down.
            message = f"what was noted beside {address} cannot be read ({error}); the next delivery writes it anew"
            raise ClickHouseUnavailableError(message) from error
        return ClickHouseState(copied.state, copied.letters[:limit], copied.marts)
    server = ClickHouse(address, password, 10.0)
    try:
        notes = Notes(server, rows_database(address))
        if not notes.are_there():
            return ClickHouseState()
        held = ClickHouseNotes(notes, sink, address)
        return ClickHouseState(held.state(), held.dead_letters(limit), held.marts())
    finally:
        server.close()


def _copy_path(folder: Path, database: str, sink: str) -> Path:
    return folder.parent / f"{folder.name}.{database}.{sink}.json"


def _shown(sink: str, letter: Letter) -> DeadLetter:
    return DeadLetter(
        sink=sink,
        event_id=letter.event_id,
        change_seq=letter.change_seq,
        nct_id=letter.nct_id,
        reason=letter.reason,
        attempts=letter.attempts,
        first_failed_at=letter.first_failed_at,
        last_failed_at=letter.last_failed_at,
        replay_asked=letter.replay_asked,
    )
