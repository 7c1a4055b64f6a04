"""Tests of verification and repair."""
