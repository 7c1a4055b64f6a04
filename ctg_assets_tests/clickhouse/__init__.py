"""Tests of the flat tables in ClickHouse."""
