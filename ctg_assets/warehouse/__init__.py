"""Postgres: the embedded server, DDL from table shapes, loading.

Belongs here: everything that talks SQL. Does not belong here: Dagster, and paths in a study's JSON.
"""
