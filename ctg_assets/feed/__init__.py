"""The feed: changes of studies, delivered at least once to sinks outside.

Belongs here: events as they are sent, sinks and their settings, filters, positions, dead letters. Does
not belong here: finding out what changed, and any import of Dagster or of the lake.
"""
