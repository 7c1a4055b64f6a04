"""Files for people: there when they are whole, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctg_assets.storage.locks import BusyError
from ctg_assets.storage.whole_file import WholeFileError, write_whole
from ctg_assets_tests.support.made_lakes import kill_at_signal


class Interruption(BaseException):
    """What no code catches by accident."""


def test_a_file_takes_its_name_when_it_is_whole(tmp_path: Path) -> None:
    """Until then readers have the older one; folders are made, and no other file stays."""
    path = tmp_path / "new folder" / "file.zip"
    for content, before in ((b"first", None), (b"second", b"first")):
        with write_whole(path) as stream:
            stream.write(content)
            stream.flush()
            assert (path.read_bytes() if path.exists() else None) == before
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, Interruption])
def test_what_fails_leaves_the_older_file(tmp_path: Path, error: type[BaseException]) -> None:
    """Whatever ends the writing, nothing half written stays."""
    path = tmp_path / "file.zip"
    path.write_bytes(b"older")

    def fail() -> None:
        with write_whole(path) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second writer of the same file is told so, and the first is not disturbed."""
    path = tmp_path / "file.zip"
    with write_whole(path) as stream:
        stream.write(b"first")
        with pytest.raises(BusyError, match="another process is writing"), write_whole(path):
            pass
    assert path.read_bytes() == b"first"


_DIE = """
import sys
from pathlib import Path
from ctg_assets.storage.whole_file import write_whole
with write_whole(Path(sys.argv[1])) as stream:
    stream.write(b"a long beginning")
    stream.flush()
    print("ready", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.process
def test_what_a_killed_writer_left_is_overwritten(tmp_path: Path) -> None:
    """After kill -9 nothing has the name, and the next writer's file has nothing of the rest."""
    path = tmp_path / "file.zip"
    kill_at_signal(_DIE, str(path))
    assert not path.exists()
    with write_whole(path) as stream:
        stream.write(b"short")
    assert path.read_bytes() == b"short"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_to(tmp_path: Path) -> None:
    """The path and the remedy are said."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(WholeFileError, match="name another with --output"),
        write_whole(tmp_path / "file" / "file.zip"),
    ):
        pass
