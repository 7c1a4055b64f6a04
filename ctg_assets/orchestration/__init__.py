"""Dagster: assets, checks, sensors, jobs and resources as thin calls into the other rooms.

Belongs here: what Dagster needs to know to run, show and repeat our steps. Does not belong here:
how a step is done.
"""
