"""Telling anew what recorded changes mean, after the rules for that have changed."""

from __future__ import annotations

import logging

from ctg_assets.history.diff_writer import rewrite_events
from ctg_assets.history.store import HistoryStore
from ctg_assets.model.changes.rules import event_rules

_log = logging.getLogger(__name__)


def retell_events(history: HistoryStore) -> int:
    """Write the events of all entries that count as the present rules tell them; returns of how many.

    Entries whose events were told so are left alone, so a call that was killed is gone on with. Only one
    process may write to the lake meanwhile. Raises DamagedFileError where contents cannot be read.
    """
    outdated = [
        entry.sequence
        for entry in history.entries()
        if history.events_told_by(entry.sequence) != event_rules()
    ]
    for done, sequence in enumerate(outdated, start=1):
        rewrite_events(history, sequence)
        _log.info("told the events of %d of %d entries by the present rules", done, len(outdated))
    return len(outdated)
