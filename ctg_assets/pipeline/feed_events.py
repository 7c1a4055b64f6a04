"""The feed's events, out of the history.

Belongs here: making an event of a change, its fields, its typed events and the study's content. Does not
belong here: what the history holds (`lake/history.py`), and sending events (`feed/`).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import polars as pl

from ctg_assets.feed.errors import SourceError
from ctg_assets.feed.events import ChangeEvent, TypedEvent
from ctg_assets.lake.history import ChangeKind, HistoryEntry, HistoryStore
from ctg_assets.lake.storage import StorageError
from ctg_assets.model.changes.typed_events import EventType

EVENT_NAMES = tuple(str(name) for name in (*ChangeKind, *EventType))
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
class _Changes:
    """The changes of one entry, with the entry in which the content of each lies."""

    entry: HistoryEntry
    changes: pl.DataFrame
    field_changes: pl.DataFrame
    typed_events: pl.DataFrame


class HistoryEvents:
    """The changes of a history as events; several threads may ask."""

    def __init__(self, history: HistoryStore) -> None:
        """Read from `history`."""
        self._history = history
        self._lock = threading.Lock()
        # Sinks mostly are at the same entry, which is read once.
        self._last_read: _Changes | None = None

    def newest(self) -> int:
        """The highest number of a change, 0 if there is none."""
        try:
            latest = self._history.latest()
        except (OSError, StorageError) as error:
            raise _unreadable(error) from error
        return 0 if latest is None else latest.next_change_seq - 1

    def events(self, after_seq: int, limit: int) -> Sequence[ChangeEvent]:
        """The next events after one, at most `limit`, none beyond the entry that holds the next."""
        if self.newest() <= after_seq:
            return []
        try:
            with self._lock:
                found = self._changes_after(after_seq)
                return [] if found is None else self._events(found, after_seq, limit)
        except (OSError, StorageError) as error:
            raise _unreadable(error) from error

    def _changes_after(self, after_seq: int) -> _Changes | None:
        known = self._last_read
        if known is None or not _holds(known.entry, after_seq + 1):
            entries = self._history.entries()
            entry = next(
                (entry for entry in entries if entry.next_change_seq > after_seq + 1), None
            )
            if entry is None:
                return None
            known = self._last_read = self._read(entry)
        return known

    def _read(self, entry: HistoryEntry) -> _Changes:
        changes = self._history.changes(entry.sequence).with_columns(
            # A study that is gone is known by its last content.
            content_hash=pl.coalesce("new_content_hash", "old_content_hash")
        )
        places = (
            self._history.periods(_PLACE)
            .join(changes, on=["nct_id", "content_hash"], how="semi")
            .unique(["nct_id", "content_hash"])
        )
        return _Changes(
            entry=entry,
            changes=changes.join(places, on=["nct_id", "content_hash"], how="left").sort(
                "change_seq"
            ),
            field_changes=self._history.field_changes(entry.sequence).select("change_seq", "path"),
            typed_events=self._history.typed_events(entry.sequence),
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
        for row in found.typed_events.filter(in_these).sort("position").iter_rows(named=True):
            meaning = msgspec.convert(row, TypedEvent)
            meanings.setdefault(row["change_seq"], []).append(meaning)
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


def _holds(entry: HistoryEntry, change_seq: int) -> bool:
    return entry.first_change_seq <= change_seq < entry.next_change_seq


def _unreadable(error: Exception) -> SourceError:
    return SourceError(f"the history cannot be read: {error}")
