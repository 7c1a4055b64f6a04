"""Tests of the history: entries, recording, timelines, undo."""
