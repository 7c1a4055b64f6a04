"""Tests of typed snapshots."""
