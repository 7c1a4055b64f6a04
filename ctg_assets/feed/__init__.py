"""The feed: changes of studies, delivered at least once to sinks outside; and failures, told to people.

Belongs here: events as they are sent, sinks and their settings, filters, positions, dead letters, mail. Does
not belong here: finding out what changed or failed, and any import of Dagster or of the lake.
"""
