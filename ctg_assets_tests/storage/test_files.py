"""Publishing files: complete or not at all, on any filesystem."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from ctg_assets.storage.files import Storage, StorageError
from ctg_assets_tests.support.made_lakes import kill_at_signal

NAME = "folder one/ünï/file.parquet"
FOLDER = "folder one/ünï"


class Interruption(BaseException):
    """What no code catches by accident."""


def all_files(storage: Storage) -> list[str]:
    """Every file there is, hidden ones included."""
    selector = pafs.FileSelector(storage.root, recursive=True, allow_not_found=True)
    infos = storage.filesystem.get_file_info(selector)
    return [info.base_name for info in infos if info.type == pafs.FileType.File]


def test_what_is_published_can_be_read(any_storage: Storage) -> None:
    """A file has its content and size, is listed, and its folders are made as needed."""
    any_storage.write_bytes(NAME, b"content")
    assert any_storage.read_bytes(NAME) == b"content"
    assert any_storage.exists(NAME)
    assert any_storage.size(NAME) == 7
    assert any_storage.names(FOLDER) == ["file.parquet"]
    assert any_storage.names("folder one") == ["ünï"]
    with any_storage.open_input(NAME) as file:
        file.seek(3)
        assert file.read() == b"tent"
    assert all_files(any_storage) == ["file.parquet"]


def test_a_file_is_replaced_as_a_whole(any_storage: Storage) -> None:
    """Until the new content is complete, the old is what readers get."""
    any_storage.write_bytes(NAME, b"old")
    with any_storage.publish(NAME) as stream:
        stream.write(b"brand new")
        assert any_storage.read_bytes(NAME) == b"old"
        assert any_storage.names(FOLDER) == ["file.parquet"]
    assert any_storage.read_bytes(NAME) == b"brand new"
    assert all_files(any_storage) == ["file.parquet"]


def test_a_new_file_is_not_visible_before_it_is_complete(any_storage: Storage) -> None:
    """While it is written, nobody sees it."""
    with any_storage.publish(NAME) as stream:
        stream.write(b"x" * 100_000)
        assert not any_storage.exists(NAME)
        assert any_storage.names(FOLDER) == []


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, Interruption])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failing_block_publishes_nothing(
    any_storage: Storage, failure: type[BaseException], old: bytes | None
) -> None:
    """Whatever is raised passes through, leaves no trace, and an older file stays as it was."""
    if old is not None:
        any_storage.write_bytes(NAME, old)
    with pytest.raises(failure):
        _fail_in_the_middle(any_storage, failure())
    assert all_files(any_storage) == ([] if old is None else ["file.parquet"])
    if old is not None:
        assert any_storage.read_bytes(NAME) == old


def _fail_in_the_middle(storage: Storage, failure: BaseException) -> None:
    with storage.publish(NAME) as stream:
        stream.write(b"half of")
        raise failure


def test_parquet_can_be_published(any_storage: Storage) -> None:
    """The stream is good enough for Arrow's writer."""
    table = pa.table({"x": list(range(1000))})
    with any_storage.publish(NAME) as stream:
        pq.write_table(table, stream)
    with any_storage.open_input(NAME) as file:
        assert pq.read_table(file).equals(table)


def test_a_full_disk_is_told(storage: Storage) -> None:
    """An error of the disk names the file and what to check, and leaves nothing."""
    with pytest.raises(StorageError, match=r"file\.parquet: .*No space left.*CTG_DATA_DIR"):
        _fail_in_the_middle(storage, OSError(errno.ENOSPC, "No space left on device"))
    assert all_files(storage) == []


def test_an_unwritable_folder_is_told(tmp_path: Path) -> None:
    """Where no folder can be made, the message says where and what to check."""
    (tmp_path / "file").write_text("in the way")
    storage = Storage.local(tmp_path / "file" / "lake")
    with pytest.raises(StorageError, match=r"cannot write .*file/lake/folder/x.*CTG_DATA_DIR"):
        storage.write_bytes("folder/x", b"")


def test_what_is_not_there(any_storage: Storage) -> None:
    """Asking for what is missing is answered; reading it fails, removing it does nothing."""
    assert not any_storage.exists(NAME)
    assert any_storage.names("nowhere") == []
    with pytest.raises(FileNotFoundError):
        any_storage.read_bytes(NAME)
    with (
        pytest.raises(StorageError, match=r"cannot read .*file\.parquet"),
        any_storage.open_input(NAME),
    ):
        pass
    any_storage.delete_file(NAME)
    any_storage.delete_folder(FOLDER)
    any_storage.delete_unfinished(FOLDER)


def test_what_cannot_be_read_is_told(any_storage: Storage) -> None:
    """A folder where a file should be, or a file of another kind, is a failure that names it."""
    any_storage.write_bytes(NAME, b"this is no Parquet file")
    with pytest.raises(StorageError, match=r"cannot read .*file\.parquet.*damaged"):
        _read_parquet(any_storage)
    with pytest.raises(StorageError, match=r"cannot read .*folder one"):
        any_storage.read_bytes("folder one")


def _read_parquet(storage: Storage) -> Any:
    with storage.open_input(NAME) as file:
        return pq.read_table(file)


def test_a_folder_is_not_a_file(any_storage: Storage) -> None:
    """Only files count as being there."""
    any_storage.write_bytes(NAME, b"")
    assert not any_storage.exists(FOLDER)
    assert any_storage.size(NAME) == 0


def test_deleting(any_storage: Storage) -> None:
    """A file and a folder with all it holds can be removed."""
    any_storage.write_bytes(f"{FOLDER}/a", b"")
    any_storage.write_bytes(f"{FOLDER}/b", b"")
    any_storage.delete_file(f"{FOLDER}/a")
    assert any_storage.names(FOLDER) == ["b"]
    any_storage.delete_folder("folder one")
    assert all_files(any_storage) == []


KILLED_WRITER = """
import sys
from pathlib import Path
from ctg_assets.storage.files import Storage
storage = Storage.local(Path(sys.argv[1]))
with storage.publish(sys.argv[2]) as stream:
    stream.write(b"x" * 1_000_000)
    stream.flush()
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.process
def test_a_killed_writer_leaves_nothing_visible(tmp_path: Path) -> None:
    """After kill -9 in mid-write no file is visible, and what is left can be cleaned away."""
    storage = Storage.local(tmp_path / "läke")
    storage.write_bytes(f"{FOLDER}/other", b"stays")
    kill_at_signal(KILLED_WRITER, str(tmp_path / "läke"), NAME)
    assert not storage.exists(NAME)
    assert storage.names(FOLDER) == ["other"]
    assert len(all_files(storage)) == 2, "the killed writer should have left its temporary file"
    storage.delete_unfinished(FOLDER)
    assert all_files(storage) == ["other"]


@pytest.mark.parametrize(
    ("root", "path"),
    [("", "a/b"), ("/", "/a/b"), ("lake", "lake/a/b"), ("/x/lake/", "/x/lake/a/b")],
)
def test_paths_are_below_the_root(root: str, path: str) -> None:
    """However the root is written, a path below it is well formed."""
    assert Storage(pafs._MockFileSystem(), root).path("a/b") == path
