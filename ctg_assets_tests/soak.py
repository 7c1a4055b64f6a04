"""How often tests repeat what they do at random: a few times as a rule, very often in a soak.

A soak is `make soak`: the tests marked `soak`, with `TEST_SOAK=1`. A share of that, such as 0.2, is a
shorter one.
"""

from __future__ import annotations

import math
import os

import pytest

SHARE = float(os.environ.get("TEST_SOAK", "0"))

# What takes a minute more even once is no part of the shortest soaks, such as CI's.
IS_LONG = SHARE >= 0.2

# Beside the marker `soak`: what goes all the way by real commands or daemons, for half a minute, where shorter tests
# hold each part of that way. CI runs it, as a share of the soak.
only_in_soaks = pytest.mark.skipif(
    SHARE == 0, reason="half a minute of real commands: in soaks, and in CI"
)

# The same, of what CI leaves to each night: its ways cross those that CI goes, and its parts are held by tests of CI.
only_at_night = pytest.mark.skipif(
    not IS_LONG, reason="half a minute of real commands: in soaks from a fifth on, every night"
)


def times(usual: int, soak: int) -> int:
    """How often to repeat something that CI repeats `usual` times, a whole soak `soak` times, and who waits half as often as CI."""
    return max(usual, round(soak * SHARE)) if SHARE else math.ceil(usual / 2)
