"""Load: from the snapshot to the tables of staging, whole or only what changed.

Belongs here: rows of tables out of a snapshot or the history, and the transactions that put them in place.
Does not belong here: how a study is flattened (`model`), and when a load is due (`refresh`).
"""
