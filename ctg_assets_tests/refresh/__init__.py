"""Tests of what is due, of checks, retention and status."""
