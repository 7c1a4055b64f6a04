"""The allocator of loads and releases."""

from __future__ import annotations

import pyarrow as pa
import pytest

from ctg_assets.arrow_memory import memory_for_tables


def _fail() -> None:
    with memory_for_tables():
        raise ZeroDivisionError


def test_the_allocator_is_as_before_after_a_release() -> None:
    """Whatever ends it; what was made meanwhile stays readable."""
    before = pa.default_memory_pool().backend_name
    with memory_for_tables():
        numbers = pa.array(range(1000)).filter(pa.array([True, False] * 500))
    assert pa.default_memory_pool().backend_name == before
    assert numbers.to_pylist() == list(range(0, 1000, 2))
    with pytest.raises(ZeroDivisionError):
        _fail()
    assert pa.default_memory_pool().backend_name == before


@pytest.mark.skipif(
    not {"mimalloc", "jemalloc"} <= set(pa.supported_memory_backends()),
    reason="this build of Arrow has one allocator of the two",
)
def test_a_chosen_allocator_stays() -> None:
    """Arrow's usual one gives way to jemalloc, another that somebody chose does not."""
    before = pa.default_memory_pool()
    found = []
    try:
        for chosen in (pa.mimalloc_memory_pool(), pa.system_memory_pool()):
            pa.set_memory_pool(chosen)
            with memory_for_tables():
                found.append(pa.default_memory_pool().backend_name)
    finally:
        pa.set_memory_pool(before)
    assert found == ["jemalloc", "system"]
