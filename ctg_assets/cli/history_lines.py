"""How the history's entries, and the consequences of taking one back, are printed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.text import Text

from ctg_assets.history.entries import HistoryEntry, UndoRecord
from ctg_assets.history.undo import Consequences
from ctg_assets.printable import printable


def history_lines(entries: Sequence[tuple[HistoryEntry, UndoRecord | None]]) -> Iterator[Text]:
    """The entries of the history, one a line; those that were withdrawn say by which undo."""
    yield Text(
        f"{'entry':>5}  {'mode':<11}  {'as of (UTC)':<16}  {'recorded (UTC)':<16}  {'studies':>9}  "
        "changes; from",
        style="bold",
    )
    for entry, undo in entries:
        source = entry.source + (f" ({entry.query})" if entry.query else "")
        state = entry_state(entry, undo)
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


def entry_state(entry: HistoryEntry, undo: UndoRecord | None) -> str:
    """Whether an entry was undone or recorded once more; empty for one that was neither."""
    if undo is None:
        return "" if entry.replays is None else f"entry {entry.replays} recorded once more"
    if entry.sequence in undo.replayed:
        return f"now entry {undo.replayed[entry.sequence]} (undo {undo.undo_id})"
    return f"undone (undo {undo.undo_id})"


def entry_facts(entry: HistoryEntry, undo: UndoRecord | None) -> list[tuple[str, str]]:
    """An entry of the history in full."""
    lines = [
        ("entry", f"{entry.sequence} {entry_state(entry, undo)}".rstrip()),
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
