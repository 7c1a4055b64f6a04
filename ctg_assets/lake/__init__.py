"""The lake: extractions, page shards and snapshots as Parquet files.

Belongs here: everything that lies in files. Does not belong here: HTTP, SQL, Dagster.
"""
