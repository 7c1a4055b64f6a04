"""Files: the one way to read and publish them, and how they tell that they are damaged.

Belongs here: publication by rename, digests of Parquet and JSON files, reading ahead. Does not belong here:
what the files mean, but for what hangs on each kind when one is damaged.
"""
