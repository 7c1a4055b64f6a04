"""Tests; the tree mirrors `ctg_assets`."""
