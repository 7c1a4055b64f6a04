"""Whether everything that a refresh needs is there: folder, disk, files, Postgres, registry, machine.

Belongs here: looking, and saying what to do. What is looked at is told by the rooms that use it, by the errors
that they raise. Does not belong here: how far a refresh is (`refresh/status.py`), or whether the lake's
files are as they were written (`integrity/`).
"""
