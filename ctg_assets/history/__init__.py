"""History: every content that a study was ever seen with, when it had it, and what changed.

Belongs here: the store of entries, recording an extraction, comparing contents, taking entries back. Does
not belong here: typed values, and whoever reads the history.
"""
