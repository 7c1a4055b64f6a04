"""Files that are put where releases are kept while others are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctg_assets.release.publishing import Publisher
from ctg_assets.storage.files import Storage, StorageError

# More than may be under way at a time.
_MANY = 30


def _local(folder: Path, number: int) -> Path:
    path = folder / f"made {number}"
    path.write_bytes(b"%d" % number)
    return path


def test_all_files_are_in_place_at_the_end(tmp_path: Path) -> None:
    """What was taken is there with its content, known to be, and no longer where it was made; what is there stays."""
    storage = Storage.local(tmp_path / "kept")
    storage.write_bytes("tables/0", b"as it was")
    there = {"tables/0"}
    with Publisher(storage, there) as publisher:
        for number in range(_MANY):
            publisher.take(_local(tmp_path, number), f"tables/{number}")
    names = [f"tables/{number}" for number in range(_MANY)]
    assert sorted(storage.files("tables")) == sorted(names)
    assert there == set(names)
    contents = [storage.read_bytes(name) for name in names]
    assert contents == [b"as it was", *(b"%d" % number for number in range(1, _MANY))]
    assert [*tmp_path.glob("made *")] == []


def _blocked(folder: Path) -> Storage:
    """A storage in which nothing can be put below `tables`."""
    storage = Storage.local(folder / "kept")
    storage.write_bytes("tables", b"a file where a folder should be")
    return storage


def _put(
    storage: Storage, folder: Path, there: set[str], others: int, error: Exception | None = None
) -> None:
    """Put a file below `tables`, and others elsewhere; then raise an error."""
    with Publisher(storage, there) as publisher:
        publisher.take(_local(folder, 0), "tables/0")
        for number in range(1, others + 1):
            publisher.take(_local(folder, number), f"others/{number}")
        if error is not None:
            raise error


@pytest.mark.parametrize("others", [0, _MANY])
def test_a_file_that_cannot_be_put_ends_it(tmp_path: Path, others: int) -> None:
    """One that cannot be written is told of, however many come after it, and is not said to be there."""
    there: set[str] = set()
    with pytest.raises(StorageError, match="tables/0"):
        _put(_blocked(tmp_path), tmp_path, there, others)
    assert "tables/0" not in there


def test_an_error_of_who_makes_files_goes_through(tmp_path: Path) -> None:
    """It is not hidden by a file that could not be put either."""
    with pytest.raises(ZeroDivisionError):
        _put(_blocked(tmp_path), tmp_path, set(), 0, ZeroDivisionError())
