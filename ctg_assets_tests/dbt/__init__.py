"""Tests of the dbt project: what it declares, and what it makes of staging tables."""
