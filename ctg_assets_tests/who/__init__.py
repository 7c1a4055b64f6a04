"""Tests of WHO's indicators and estimates, against a stand-in for both of its APIs."""
