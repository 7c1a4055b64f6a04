"""Where tests find the recorded registry material that lies beside the project, if it is there."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def shared_path(relative: str) -> Path:
    """The path of a file of recorded material; skips the test where the material is absent."""
    path = SHARED / relative
    if not path.exists():
        pytest.skip(f"recorded registry material is not beside this clone: {path}")
    return path
