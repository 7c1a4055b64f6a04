"""What workers of a run share: made by one, found by all, and not left half done."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from ctg_assets_tests.support import shared_states


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run with nothing in it."""
    monkeypatch.setenv("TESTS_SHARED_FOLDER", str(tmp_path))
    return tmp_path


def test_whoever_comes_meanwhile_waits_and_finds_it() -> None:
    """Of two that want a state at once one makes it, and both get what that returned."""
    made: list[Path] = []
    found: list[str] = []
    begun, go_on = threading.Event(), threading.Event()

    def make(folder: Path) -> str:
        made.append(folder)
        begun.set()
        go_on.wait(20)
        return f"made {len(made)}"

    workers = [
        threading.Thread(target=lambda: found.append(shared_states.made_once("state", make)))
        for _ in range(2)
    ]
    workers[0].start()
    assert begun.wait(20)
    workers[1].start()
    go_on.set()
    for worker in workers:
        worker.join(20)
    assert (found, len(made)) == (["made 1", "made 1"], 1)


def test_what_was_left_half_done_is_made_anew(run_folder: Path) -> None:
    """A state whose making failed, or was killed, is begun again in an empty folder."""

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("killed")

    with pytest.raises(OSError, match="killed"):
        shared_states.made_once("state", fail)
    assert (run_folder / "state" / "half").exists()
    assert shared_states.made_once("state", lambda folder: sorted(folder.iterdir())) == []
