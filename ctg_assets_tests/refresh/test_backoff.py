"""Pauses between attempts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctg_assets.refresh.backoff import Attempts

_TIMES = st.floats(min_value=0, max_value=4e9)


def _attempted(times: int, at: float = 0.0, work: str = "load") -> Attempts:
    attempts = Attempts()
    for _ in range(times):
        attempts = attempts.next(work, at)
    return attempts


@pytest.mark.parametrize(
    ("times", "pause"),
    [(0, 0), (1, 30), (2, 60), (3, 120), (6, 960), (7, 1800), (8, 1800), (10_000, 1800)],
)
def test_the_pause_doubles_up_to_half_an_hour(times: int, pause: float) -> None:
    """The first attempt is free; from then on the pause doubles until it is half an hour long."""
    attempts = _attempted(times)
    assert attempts.count == times
    assert attempts.pause_left("load", now=0.0) == pause


@given(times=st.integers(1, 50), at=_TIMES, later=st.floats(0, 1e5))
def test_waiting_shortens_the_pause_and_ends_it(times: int, at: float, later: float) -> None:
    """What is left of a pause is never negative, and nothing is left once it is over."""
    attempts = _attempted(times, at)
    whole = attempts.pause_left("load", at)
    left = attempts.pause_left("load", at + later)
    assert left == pytest.approx(max(0.0, whole - later), abs=1e-3)


@given(times=st.integers(1, 50), at=_TIMES, now=_TIMES)
def test_a_clock_that_is_set_makes_nobody_wait_longer(times: int, at: float, now: float) -> None:
    """Whatever our clock was set to meanwhile, the pause is never longer than it was meant to be."""
    attempts = _attempted(times, at)
    assert 0 <= attempts.pause_left("load", now) <= attempts.pause_left("load", at)


@given(times=st.integers(0, 50), at=_TIMES, now=_TIMES)
def test_other_work_begins_without_a_pause(times: int, at: float, now: float) -> None:
    """Only attempts at the same work count; other work starts at one."""
    attempts = _attempted(times, at)
    assert attempts.pause_left("plan", now) == 0.0
    assert attempts.next("plan", now) == Attempts("plan", 1, now)
