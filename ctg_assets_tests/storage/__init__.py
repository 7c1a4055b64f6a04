"""Tests of files and the data folder."""
