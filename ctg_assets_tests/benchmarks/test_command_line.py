"""What `python -m benchmarks` is asked for, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import machine
from benchmarks.__main__ import options, plan
from benchmarks.suite import Plan, measure


def test_sizes_are_read_in_the_order_given_each_once() -> None:
    """Sizes may be written with underscores; one that is given twice is measured once."""
    assert plan(options(["--sizes", "60_000", "6000", "60000"])).sizes == (60_000, 6_000)


@pytest.mark.parametrize(
    "arguments", [["--sizes", "0"], ["--sizes", "many"], ["--real-copies", "11"]]
)
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers of studies below one, words, and more copies than NCT ids have room for are errors."""
    with pytest.raises(SystemExit) as ended:
        options(arguments)
    assert ended.value.code == 2
    assert arguments[0].removeprefix("--real-") in capsys.readouterr().err


def test_without_a_file_of_real_studies_none_are_planned(tmp_path: Path) -> None:
    """A file that is not there is left out rather than failed on."""
    assert plan(options(["--real", str(tmp_path / "none.jsonl.gz")])).real is None


def test_a_disk_without_room_stops_the_run_before_it_begins(tmp_path: Path) -> None:
    """More studies than the disk can hold are refused, with what they need."""
    folder = tmp_path / "bench"
    with pytest.raises(machine.NoRoomError, match=r"900,000,000,000 studies need about .* GB"):
        measure(Plan(folder=folder, sizes=(900_000_000_000,)), print)
    assert not folder.exists()


def test_the_machine_is_described_without_names_or_paths() -> None:
    """What is published of the machine are cores, memory and versions."""
    facts = machine.describe()
    assert int(facts["cores"]) >= 1
    assert not any("/" in value for value in facts.values())


def test_a_busy_machine_is_stated() -> None:
    """Figures that others disturbed say so; those of a quiet machine need no remark."""
    assert machine.busyness(0.3, cores=2) is None
    assert "load 6.5 on 2 cores" in (machine.busyness(6.5, cores=2) or "")
