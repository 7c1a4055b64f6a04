"""The lake in S3: what goes wrong there, what it costs in requests, and that nothing gets lost on the way."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from ctg_assets.storage import object_client, objects
from ctg_assets.storage.backend import (
    AlreadyPublishedError,
    PermanentStorageError,
    TransientStorageError,
)
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage, StorageError, Work
from ctg_assets.storage.object_client import ObjectClient
from ctg_assets.storage.objects import unfit_store
from ctg_assets.storage.sealed_parquet import check_sealed, open_sealed, sealed_writer
from ctg_assets_tests.support.object_store import (
    SECRET,
    Fault,
    S3Server,
    all_objects,
    object_storage,
)

pytestmark = pytest.mark.process

TABLE = pa.table({"x": list(range(5000)), "y": [os.urandom(80) for _ in range(5000)]})


@pytest.fixture
def lake(s3: S3Server, tmp_path: Path) -> Storage:
    """A lake in S3 that nobody has used."""
    return Storage.remote(s3.new_url(), tmp_path / "scratch")


def write_table(storage: Storage, relative: str = "a/x.parquet") -> None:
    """Publish TABLE in many row groups."""
    with sealed_writer(storage, relative, TABLE.schema, use_dictionary=False) as writer:
        writer.write_table(TABLE, row_group_size=100)


@pytest.mark.parametrize("applied", [False, True])
@pytest.mark.parametrize("create", [False, True])
def test_a_server_error_is_not_the_end(
    lake: Storage, s3: S3Server, applied: bool, create: bool
) -> None:
    """A put is repeated; if it had been carried out, its own work is not taken for another's."""
    if not create:
        lake.write_bytes("a/file", b"before")
    s3.set_faults(Fault("PUT", "a/file", times=2, applied=applied))
    lake.write_bytes("a/file", b"content", create=create)
    assert lake.read_bytes("a/file") == b"content"


def test_who_reads_meanwhile_does_not_get_two_halves(lake: Storage) -> None:
    """A file that is replaced while it is read says so, and is not called damaged."""
    write_table(lake)
    with pytest.raises(TransientStorageError, match="replaced while it was read; try again"):
        _read_while(lake, lambda: lake.write_bytes("a/x.parquet", b"another"))
    write_table(lake)
    with pytest.raises(TransientStorageError, match="removed while it was read; try again"):
        _read_while(lake, lambda: lake.delete_file("a/x.parquet"))


def _read_while(storage: Storage, something: Callable[[], object]) -> None:
    with open_sealed(storage, "a/x.parquet") as file:
        file.read_row_group(0)
        something()
        file.read()


def test_a_store_that_is_away_is_no_damage(
    lake: Storage, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be had just now is not reported as damaged, which would set it aside."""
    write_table(lake)
    monkeypatch.setattr(object_client, "_RETRIES", 0)
    away = Storage.remote(lake.root, Path(lake.root))
    fault = Fault("GET", "x.parquet", times=1000)
    with pytest.raises(TransientStorageError, match=r"no usable answer.*try again") as caught:
        _read_while(away, lambda: s3.set_faults(fault))
    assert not isinstance(caught.value, DamagedFileError)
    s3.set_faults(Fault("HEAD", "x.parquet", "503 Slow Down", times=1000))
    with pytest.raises(TransientStorageError, match=r"s3://bucket/.*/a/x\.parquet"):
        away.exists("a/x.parquet")
    s3.set_faults()
    assert check_sealed(away, "a/x.parquet")


def test_an_object_that_is_cut_is_damaged(lake: Storage) -> None:
    """The seals are asked as on a disk."""
    write_table(lake)
    content = lake.read_bytes("a/x.parquet")
    lake.write_bytes("a/x.parquet", content[:300] + b"\0" + content[301:])
    with pytest.raises(DamagedFileError, match=r"x\.parquet is damaged: bytes 0 to"):
        check_sealed(lake, "a/x.parquet")
    lake.write_bytes("a/x.parquet", content[:-20])
    with pytest.raises(DamagedFileError, match="does not end as Parquet does"):
        check_sealed(lake, "a/x.parquet")


def test_two_writers_of_one_name(lake: Storage, tmp_path: Path) -> None:
    """Who began first and ends last is told, whether the name was free or not; the other's file stays."""
    other = Storage.remote(lake.root, tmp_path)
    for before in (None, b"before"):
        if before is not None:
            lake.write_bytes("a/file", before)
        else:
            lake.delete_file("a/file")
        with pytest.raises(AlreadyPublishedError, match="by another process meanwhile; try again"):
            _write_while(lake, lambda: other.write_bytes("a/file", b"theirs"))
        assert lake.read_bytes("a/file") == b"theirs"


def _write_while(storage: Storage, something: Callable[[], object]) -> None:
    with storage.publish("a/file") as stream:
        something()
        stream.write(b"ours")


def test_a_large_file_goes_in_parts(
    lake: Storage, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too large for memory waits on the disk, is visible at its end only, and is what was written."""
    monkeypatch.setattr(objects, "_SINGLE_PUT_BYTES", 100_000)
    monkeypatch.setattr(object_client, "_PART_BYTES", 5 << 20)
    content = os.urandom(11 << 20)
    with lake.publish("a/large") as stream:
        for start in range(0, len(content), 1 << 20):
            stream.write(content[start : start + (1 << 20)])
        assert not lake.exists("a/large")
    assert lake.read_bytes("a/large") == content
    assert sum("uploadId=" in path for method, path in s3.requests() if method == "PUT") == 3
    with pytest.raises(KeyboardInterrupt):
        _write_and_stop(lake, content)
    assert lake.size("a/large") == len(content)
    assert list((Path(lake.backend._scratch)).iterdir()) == []  # type: ignore[attr-defined]


def _write_and_stop(storage: Storage, content: bytes) -> None:
    with storage.publish("a/large") as stream:
        stream.write(content + content)
        raise KeyboardInterrupt


def test_a_record_is_published_through_the_lock(lake: Storage, s3: S3Server) -> None:
    """While a lock is held, what makes files count is said in it before; other files cost no more than they must."""
    with lake.lock(Work.SNAPSHOT):
        s3.requests()
        lake.write_bytes("history/1/entry.json", b"{}", create=True)
        puts = [path.rpartition("/")[2] for method, path in s3.requests() if method == "PUT"]
        assert puts == ["snapshot.json", "entry.json", "snapshot.json"]
        lake.write_bytes("history/1/seen.parquet", b"x", create=True)
        puts = [path.rpartition("/")[2] for method, path in s3.requests() if method == "PUT"]
        assert puts == ["seen.parquet"]
    lake.write_bytes("history/2/entry.json", b"{}", create=True)
    puts = [path.rpartition("/")[2] for method, path in s3.requests() if method == "PUT"]
    assert puts == ["snapshot.json", "entry.json"]


def test_what_reading_costs(lake: Storage, s3: S3Server) -> None:
    """Opening a file is one request; a listing one for a thousand files; reading all of it few."""
    write_table(lake)
    for number in range(5):
        lake.write_bytes(f"many/{number}", b"")
    s3.requests()
    with open_sealed(lake, "a/x.parquet") as file:
        assert file.metadata.num_rows == 5000
    assert [method for method, _ in s3.requests()] == ["GET"]
    assert len(lake.names("many")) == len(lake.files("many")) == 5
    assert [method for method, _ in s3.requests()] == ["GET", "GET"]
    with open_sealed(lake, "a/x.parquet") as file:
        for group in range(file.num_row_groups):
            file.read_row_group(group)
    assert len(s3.requests()) <= 5
    assert lake.size("a/x.parquet") > 400_000
    s3.requests()
    lake.delete_folder("many")
    assert [method for method, _ in s3.requests()] == ["GET", "POST"]


def test_no_bucket(s3: S3Server, tmp_path: Path) -> None:
    """A bucket that is not there is no passing failure, and the text says what to do."""
    storage = Storage.remote("s3://nowhere/lake", tmp_path)
    told = "there is no such bucket; create it, or correct CTG_DATA_URL"
    with pytest.raises(PermanentStorageError, match=told):
        storage.write_bytes("a", b"", create=True)
    with pytest.raises(PermanentStorageError, match=told):
        storage.names("")
    with pytest.raises(PermanentStorageError, match=told):
        storage.read_bytes("a")
    with pytest.raises(PermanentStorageError, match=told):
        unfit_store("s3://nowhere/lake")


@pytest.mark.parametrize("status", ["403 Forbidden", "401 Unauthorized"])
def test_no_rights(lake: Storage, s3: S3Server, status: str) -> None:
    """Who may not is told to look at the credentials, and none of them is shown."""
    s3.set_faults(Fault("PUT", "a", status, times=9), Fault("GET", "", status, times=9))
    with pytest.raises(PermanentStorageError, match="refuses us; check the credentials") as put:
        lake.write_bytes("a", b"", create=True)
    with pytest.raises(PermanentStorageError, match="refuses us; check the credentials") as got:
        lake.names("")
    assert not any(secret in f"{put.value}{got.value}" for secret in (SECRET, "canary-access-key"))


def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the extra the text says how to install it."""
    monkeypatch.setitem(__import__("sys").modules, "obstore.store", None)
    with pytest.raises(StorageError, match=r"pip install 'ctg-assets\[objects\]'"):
        Storage.remote("s3://bucket/lake", tmp_path)


def test_an_address_without_a_host(tmp_path: Path) -> None:
    """What obstore cannot use is an error of ours."""
    with pytest.raises(StorageError, match=r"cannot be used: .*CTG_DATA_URL"):
        ObjectClient.connect("s4://bucket/lake")


def test_a_fit_store(lake: Storage) -> None:
    """The store that tests use is fit for a lake, and looking leaves nothing."""
    assert unfit_store(lake.root) is None
    assert all_objects(lake) == []


def test_kinds_of_stores_in_one_process(tmp_path: Path) -> None:
    """Two lakes have locks of their own."""
    one, other = object_storage(tmp_path), object_storage(tmp_path)
    with one.lock(Work.SNAPSHOT), other.lock(Work.SNAPSHOT):
        assert all_objects(one) == all_objects(other) == ["locks/snapshot.json"]
