"""Tests of the warehouse, all against a real embedded Postgres."""
