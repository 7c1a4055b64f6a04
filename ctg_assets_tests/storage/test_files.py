"""Publishing files: complete or not at all, on any filesystem."""

from __future__ import annotations

import errno
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from ctg_assets.storage.disk import DiskBackend
from ctg_assets.storage.files import AlreadyPublishedError, Storage, StorageError, Work
from ctg_assets.storage.locks import BusyError
from ctg_assets_tests.support.made_lakes import kill_at_signal
from ctg_assets_tests.support.object_store import all_objects

NAME = "folder one/ünï/file.parquet"
FOLDER = "folder one/ünï"


class Interruption(BaseException):
    """What no code catches by accident."""


def all_files(storage: Storage) -> list[str]:
    """Every file there is, hidden ones included."""
    if not isinstance(storage.backend, DiskBackend):
        return [key.rpartition("/")[2] for key in all_objects(storage)]
    selector = pafs.FileSelector(storage.backend.root, recursive=True, allow_not_found=True)
    infos = storage.backend.filesystem.get_file_info(selector)
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
    """A file of another kind is a failure that names it."""
    any_storage.write_bytes(NAME, b"this is no Parquet file")
    with pytest.raises(StorageError, match=r"cannot read .*file\.parquet.*damaged"):
        _read_parquet(any_storage)


def test_a_folder_cannot_be_read(storage: Storage) -> None:
    """A folder where a file should be is a failure that names it."""
    storage.write_bytes(NAME, b"")
    with pytest.raises(StorageError, match=r"cannot read .*folder one"):
        storage.read_bytes("folder one")


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


def test_a_name_is_given_once(any_storage: Storage) -> None:
    """A file that is to be new is not put in place of one that is there, which stays."""
    any_storage.write_bytes(NAME, b"first", create=True)
    with pytest.raises(AlreadyPublishedError, match=r"file\.parquet .*[Tt]ry again"):
        any_storage.write_bytes(NAME, b"second", create=True)
    assert any_storage.read_bytes(NAME) == b"first"
    assert all_files(any_storage) == ["file.parquet"]


def test_setting_aside(any_storage: Storage) -> None:
    """A file, or a folder with all it holds, is moved below `damaged`; a copy stays where it was, too."""
    for name in ("a", "deeper/b"):
        any_storage.write_bytes(f"{FOLDER}/{name}", name.encode())
    copied = any_storage.copy_aside(f"{FOLDER}/a")
    assert any_storage.read_bytes(copied) == any_storage.read_bytes(f"{FOLDER}/a") == b"a"
    alone = any_storage.set_aside(f"{FOLDER}/a")
    assert any_storage.read_bytes(alone) == b"a"
    assert any_storage.names(FOLDER) == ["deeper"]
    whole = any_storage.set_aside("folder one")
    assert any_storage.files(whole) == [f"{whole}/ünï/deeper/b"]
    assert any_storage.names("folder one") == []
    assert len(any_storage.files("damaged")) == 3


def test_when_a_file_became_visible(any_storage: Storage) -> None:
    """A file that is newer than another is not told to be older."""
    any_storage.write_bytes(f"{FOLDER}/a", b"")
    any_storage.write_bytes(f"{FOLDER}/b", b"")
    first, second = (any_storage.modified(f"{FOLDER}/{name}") for name in "ab")
    assert 1_700_000_000 * 10**9 < first <= second


def test_files_below_a_folder(any_storage: Storage) -> None:
    """All files are found, however deep, and none of a folder whose name only begins alike."""
    for path in ("one/b", "one/deep/er/a", "one.2/c", "onetwo/d"):
        any_storage.write_bytes(path, b"x")
    assert any_storage.files("one") == ["one/b", "one/deep/er/a"]
    assert any_storage.names("one") == ["b", "deep"]
    assert any_storage.files("nowhere") == []


@pytest.mark.parametrize("size", [100, 70_000, 3_000_000])
def test_any_part_of_a_file_can_be_read(any_storage: Storage, size: int) -> None:
    """Reads here and there, across all borders and beyond the end, give what was written there."""
    content = random.Random(size).randbytes(size)
    any_storage.write_bytes(NAME, content)
    places = random.Random(1)
    with any_storage.open_input(NAME) as file:
        assert file.size() == size
        for _ in range(40):
            start = places.randrange(size)
            length = places.choice([1, 20, 5000, size])
            file.seek(start)
            assert file.read_buffer(length).to_pybytes() == content[start : start + length]
        file.seek(0)
        assert file.read() == content


def test_a_lock_is_for_one_thread_at_a_time(any_storage: Storage) -> None:
    """A thread takes it once more, another one does not get it; other work goes on; afterwards it is free."""
    if isinstance(any_storage.backend, DiskBackend) and not any_storage.backend.is_local:
        return  # nobody else could be at work there
    with any_storage.lock(Work.SNAPSHOT), ThreadPoolExecutor(1) as other:
        with any_storage.lock(Work.SNAPSHOT), any_storage.lock(Work.EXTRACTION):
            pass
        with pytest.raises(BusyError, match=r"is at work on the snapshot of .*ctg-assets status"):
            other.submit(_take, any_storage).result()
    with ThreadPoolExecutor(1) as other:
        other.submit(_take, any_storage).result()


def _take(storage: Storage) -> None:
    with storage.lock(Work.SNAPSHOT):
        pass


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
    assert Storage(DiskBackend(pafs._MockFileSystem(), root)).path("a/b") == path
