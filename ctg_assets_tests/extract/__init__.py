"""Tests of what brings studies in: plans, the crawl, shards, files."""
