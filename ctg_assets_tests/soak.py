"""How often tests repeat what they do at random: a few times as a rule, very often in a soak.

A soak is `make soak`: the tests marked `soak`, with `TEST_SOAK=1`. A share of that, such as 0.2, is a
shorter one.
"""

from __future__ import annotations

import os

SHARE = float(os.environ.get("TEST_SOAK", "0"))


def times(usual: int, soak: int) -> int:
    """How often to repeat something that is repeated `usual` times, in a whole soak `soak` times."""
    return max(usual, round(soak * SHARE))
