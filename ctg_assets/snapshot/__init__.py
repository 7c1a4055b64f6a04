"""Snapshot: all current studies as typed Parquet, and what could not be typed.

Belongs here: parsing, parts and manifests, quarantine. Does not belong here: tables.
"""
