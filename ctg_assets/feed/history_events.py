"""The feed's events, out of the history."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from ctg_assets.errors import CtgAssetsError
from ctg_assets.feed.errors import EventsUnreadableError
from ctg_assets.feed.events import UNDONE, ChangeEvent, TypedEvent, UndoneChange
from ctg_assets.history.entries import HistoryEntry, StudyChangeKind, UndoRecord
from ctg_assets.history.schemas import EVENT_TYPES
from ctg_assets.history.store import HistoryStore

EVENT_NAMES = tuple(str(name) for name in (*StudyChangeKind, UNDONE, *EVENT_TYPES))
"""What a sink's filter can call events."""

# Contents in memory at a time; most are 16 kB, the largest 20 MB.
_CONTENTS_AT_A_TIME = 100

_PLACE = ["nct_id", "content_hash", "contents_entry"]

_CONDITIONS = (("protocolSection", "conditionsModule", "conditions"),)
_CONDITION_TERMS = (
    ("derivedSection", "conditionBrowseModule", "meshes", "term"),
    ("derivedSection", "conditionBrowseModule", "ancestors", "term"),
)
_SPONSORS = (
    ("protocolSection", "sponsorCollaboratorsModule", "leadSponsor", "name"),
    ("protocolSection", "sponsorCollaboratorsModule", "collaborators", "name"),
)
_COUNTRIES = (("protocolSection", "contactsLocationsModule", "locations", "country"),)
_TITLE = (("protocolSection", "identificationModule", "briefTitle"),)


@dataclass(frozen=True)
class _Range:
    """Numbers from `first` up to, not including, `after`, and what has them: an entry, or an undo."""

    first: int
    after: int
    holder: HistoryEntry | UndoRecord


@dataclass(frozen=True)
class _Changes:
    """The changes within a range, with the entry in which the content of each lies."""

    range: _Range
    changes: pl.DataFrame
    field_changes: pl.DataFrame
    typed_events: pl.DataFrame


class HistoryEvents:
    """The changes of a history, and the undoings of changes, as events; several threads may ask."""

    def __init__(self, history: HistoryStore) -> None:
        """Read from `history`."""
        self._history = history
        self._lock = threading.Lock()
        # Sinks mostly are at the same entry, which is read once.
        self._last_read: _Changes | None = None

    def newest(self) -> int:
        """The highest number of a change or an undoing, 0 if there is none."""
        try:
            return self._history.next_change_seq() - 1
        except (OSError, CtgAssetsError) as error:
            raise _unreadable(error) from error

    def events(self, after_seq: int, limit: int) -> Sequence[ChangeEvent]:
        """The next events after one, at most `limit`, none beyond the range that holds the next."""
        try:
            with self._lock:
                for each in self._ranges():
                    # Of a range in which changes were withdrawn nothing may be left.
                    if each.after > after_seq + 1 and (
                        events := self._events(self._changes(each), after_seq, limit)
                    ):
                        return events
        except (OSError, CtgAssetsError) as error:
            raise _unreadable(error) from error
        return []

    def _ranges(self) -> list[_Range]:
        """All ranges of numbers, ascending; no two have a number in common."""
        found = [
            _Range(first, after, entry)
            for entry in self._history.entries()
            for first, after in entry.numbers
        ]
        found += [
            _Range(undo.first_change_seq, undo.next_change_seq, undo)
            for undo in self._history.undos()
        ]
        return sorted(found, key=lambda each: each.first)

    def _changes(self, wanted: _Range) -> _Changes:
        known = self._last_read
        if known is None or known.range != wanted:
            known = self._last_read = (
                self._read(wanted, wanted.holder)
                if isinstance(wanted.holder, HistoryEntry)
                else self._read_undoings(wanted, wanted.holder)
            )
        return known

    def _read(self, wanted: _Range, entry: HistoryEntry) -> _Changes:
        in_range = pl.col("change_seq").is_between(wanted.first, wanted.after, closed="left")
        changes = (
            self._history.changes(entry.sequence)
            .filter(in_range)
            # A study that is gone is known by its last content.
            .with_columns(content_hash=pl.coalesce("new_content_hash", "old_content_hash"))
        )
        places = (
            self._history.periods(_PLACE)
            .join(changes, on=["nct_id", "content_hash"], how="semi")
            .unique(["nct_id", "content_hash"])
        )
        return _Changes(
            range=wanted,
            changes=changes.join(places, on=["nct_id", "content_hash"], how="left").sort(
                "change_seq"
            ),
            field_changes=self._history.field_changes(entry.sequence).select("change_seq", "path"),
            typed_events=self._history.typed_events(entry.sequence),
        )

    def _read_undoings(self, wanted: _Range, undo: UndoRecord) -> _Changes:
        """The undoings of an undo; what the changes were about, as long as it is not pruned."""
        rows = self._history.undone_changes(undo.undo_id)
        there = [
            sequence
            for sequence in rows["contents_entry"].unique()
            if self._history.keeps_contents(sequence)
        ]
        meanings = [
            self._history.typed_events(sequence) for sequence in rows["entry"].unique().sort()
        ]
        no_paths = pl.DataFrame(schema={"change_seq": pl.Int64, "path": pl.String})
        return _Changes(
            range=wanted,
            changes=rows.with_columns(
                contents_entry=pl.when(pl.col("contents_entry").is_in(there)).then(
                    "contents_entry"
                ),
                undone_kind="kind",
                kind=pl.lit(UNDONE),
                is_silent=pl.lit(value=False),
                is_backfill=pl.lit(value=False),
                merged_into=pl.lit(None, pl.String),
            ).sort("change_seq"),
            field_changes=no_paths,
            typed_events=pl.concat(meanings) if meanings else pl.DataFrame(),
        )

    def _events(self, found: _Changes, after_seq: int, limit: int) -> list[ChangeEvent]:
        changes = found.changes.filter(pl.col("change_seq") > after_seq).head(limit)
        if changes.is_empty():
            return []
        first, last = changes["change_seq"][0], changes["change_seq"][-1]
        in_these = pl.col("change_seq").is_between(first, last)
        paths = found.field_changes.filter(in_these).unique(maintain_order=True)
        by_change: dict[int, list[str]] = {}
        for change_seq, path in paths.iter_rows():
            by_change.setdefault(change_seq, []).append(path)
        meanings: dict[int, list[TypedEvent]] = {}
        if isinstance(found.range.holder, HistoryEntry):
            for row in found.typed_events.filter(in_these).sort("position").iter_rows(named=True):
                meaning = msgspec.convert(row, TypedEvent)
                meanings.setdefault(row["change_seq"], []).append(meaning)
        undone = _undone(changes, found.typed_events) if "undone_kind" in changes.columns else {}
        about = self._about_studies(changes)
        return [
            ChangeEvent(
                change_seq=change["change_seq"],
                nct_id=change["nct_id"],
                kind=change["kind"],
                observed_at=change["observed_at"],
                old_version_number=change["old_version_number"],
                new_version_number=change["new_version_number"],
                old_content_hash=change["old_content_hash"],
                new_content_hash=change["new_content_hash"],
                is_silent=change["is_silent"],
                is_backfill=change["is_backfill"],
                merged_into=change["merged_into"],
                undoes=undone.get(change["change_seq"]),
                typed_events=tuple(meanings.get(change["change_seq"], ())),
                fields_changed=tuple(by_change.get(change["change_seq"], ())),
                **about.get(change["change_seq"], {}),
            )
            for change in changes.iter_rows(named=True)
        ]

    def _about_studies(self, changes: pl.DataFrame) -> dict[int, dict[str, Any]]:
        """What events say of the studies themselves, by number of the change."""
        wanted = changes.select("change_seq", *_PLACE).drop_nulls("contents_entry").sort("nct_id")
        about = {}
        for contents in self._history.contents(wanted, _CONTENTS_AT_A_TIME):
            numbers, studies = contents["change_seq"].to_pylist(), contents["study"]
            for change_seq, study in zip(numbers, studies, strict=True):
                about[change_seq] = about_study(study.as_py())
        return about


def about_study(study: bytes) -> dict[str, Any]:
    """What an event says of a study, from its JSON; what is not there or of another type is left out."""
    try:
        content = msgspec.json.decode(study)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Such a study is in quarantine; that it changed is an event all the same.
        return {}
    return {
        "title": next(iter(_texts(content, _TITLE)), None),
        "conditions": _texts(content, _CONDITIONS),
        "condition_terms": _texts(content, _CONDITION_TERMS),
        "sponsors": _texts(content, _SPONSORS),
        "countries": _texts(content, _COUNTRIES),
    }


def _texts(content: Any, paths: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """The texts at some paths, through lists, each once."""
    found: dict[str, None] = {}
    for path in paths:
        nodes = [content]
        for key in path:
            values = [node[key] for node in nodes if isinstance(node, dict) and key in node]
            nodes = [
                item for value in values for item in (value if isinstance(value, list) else [value])
            ]
        found.update(dict.fromkeys(text for text in nodes if isinstance(text, str)))
    return tuple(found)


def _undone(changes: pl.DataFrame, typed_events: pl.DataFrame) -> dict[int, UndoneChange]:
    """What undoings take back, by their own numbers."""
    of_these = typed_events.filter(
        pl.col("change_seq").is_in(changes["undone_change_seq"].implode())
    )
    types: dict[int, dict[str, None]] = {}
    for number, event_type in of_these.sort("position").select("change_seq", "event_type").rows():
        types.setdefault(number, {})[event_type] = None
    return {
        row["change_seq"]: UndoneChange(
            change_seq=row["undone_change_seq"],
            kind=row["undone_kind"],
            event_types=tuple(types.get(row["undone_change_seq"], ())),
        )
        for row in changes.iter_rows(named=True)
    }


def _unreadable(error: Exception) -> EventsUnreadableError:
    return EventsUnreadableError(f"the history cannot be read: {error}")
