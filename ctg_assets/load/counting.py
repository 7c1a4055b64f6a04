"""Counting the loads of a schema: those that failed, and what those that did not have brought."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ctg_assets.metrics import SAVED, WRITE_ERRORS, WRITES, Counters
from ctg_assets.postgres.errors import WarehouseError


@contextmanager
def counting_errors(counters: Counters, schema: str) -> Iterator[None]:
    """Count what the database refuses; `schema` is called by its purpose, as in architecture.md."""
    try:
        yield
    except WarehouseError:
        counters.add(WRITE_ERRORS.by(1, schema=schema))
        raise


def count_load(counters: Counters, schema: str, *, is_delta: bool, rows: int) -> None:
    """Count a load that was committed, and the rows that it put into tables."""
    kind = "delta" if is_delta else "full"
    counters.add(WRITES.by(1, schema=schema, kind=kind), SAVED.by(rows, schema=schema))
