"""One small HTTP service for who keeps this running: metrics, health, readiness, status.

Belongs here: what is read of the lake, the database, the feed and the disk for them, how it is told, and the
server. Does not belong here: counting while work is done (`counters_file.py`), and Dagster, whose state is handed
in by whoever starts the service. Nothing is changed by being asked, and no request waits for a lock or for long.
"""
