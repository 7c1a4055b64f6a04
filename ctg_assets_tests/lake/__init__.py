"""Tests of the lake: files, shards, parsing, compaction, bulk files."""
