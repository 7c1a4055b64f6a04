"""Tests of the dbt project and of what runs it."""
