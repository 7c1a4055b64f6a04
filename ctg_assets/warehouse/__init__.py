"""Postgres: the embedded server, DDL from table shapes, loading. No Dagster, no registry paths."""
