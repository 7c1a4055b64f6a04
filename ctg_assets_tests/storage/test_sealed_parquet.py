"""Sealed Parquet: any flipped bit, any cut and any garbage is found before a row is handed out."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import ctg_assets
from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.sealed_parquet import check_sealed, open_sealed, sealed_writer
from ctg_assets_tests.support.made_lakes import memory_storage

NAME = "history/000001/contents.parquet"
# Not compressed further: the file is some blocks long, the last one not full.
TABLE = pa.table(
    {"id": list(range(3000)), "text": [random.Random(i).randbytes(20).hex() for i in range(3000)]}
)


def write(storage: Storage, table: pa.Table = TABLE, rows: int = 500) -> bytes:
    """Write a table sealed; returns the file's bytes."""
    with sealed_writer(storage, NAME, table.schema, compression="zstd") as writer:
        writer.write_table(table, row_group_size=rows)
    return storage.read_bytes(NAME)


def read(storage: Storage) -> pa.Table:
    """The table, row group by row group."""
    with open_sealed(storage, NAME) as file:
        return pa.concat_tables(file.read_row_group(i) for i in range(file.num_row_groups))


@pytest.mark.parametrize("rows", [0, 1, 3000])
def test_a_sealed_file_is_read_as_it_was_written(any_storage: Storage, rows: int) -> None:
    """On every kind of storage, whatever its length, and with single columns and row groups."""
    table = TABLE.slice(0, rows)
    with sealed_writer(any_storage, NAME, table.schema) as writer:
        writer.write_table(table)
    with open_sealed(any_storage, NAME) as file:
        assert file.read().equals(table)
        assert file.read(columns=["id"]).equals(table.select(["id"]))
    assert check_sealed(any_storage, NAME)


def test_others_read_a_sealed_file(storage: Storage) -> None:
    """To other readers it is Parquet like any other."""
    write(storage)
    assert pq.read_table(storage.path(NAME)).equals(TABLE)
    metadata = pq.read_metadata(storage.path(NAME))
    assert metadata.num_rows == TABLE.num_rows


def test_a_failed_writer_leaves_nothing(storage: Storage) -> None:
    """An error in the block is raised as it is, and no file is visible."""

    def fail() -> None:
        with sealed_writer(storage, NAME, TABLE.schema) as writer:
            writer.write_table(TABLE)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not storage.exists(NAME)


@pytest.mark.slow
def test_a_flipped_bit_never_gives_a_wrong_row() -> None:
    """Bits at 400 random places and at each of the last 200 bytes: the file is named, or read as it was."""
    storage = memory_storage()
    content = write(storage)
    places = random.Random(11)
    bits = [places.randrange(len(content) * 8) for _ in range(400)]
    bits += [8 * (len(content) - back) + places.randrange(8) for back in range(1, 201)]
    found = 0
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        storage.write_bytes(NAME, bytes(flipped))
        try:
            assert read(storage).equals(TABLE)
            assert not check_sealed(storage, NAME), f"bit {bit} was not found"
        except DamagedFileError as error:
            assert NAME in str(error)  # noqa: PT017 - either may happen
            found += 1
    assert found >= len(bits) - 1, "only the first magic bytes may be overlooked by readers of rows"


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 0.3, 0.9, 0.999])
def test_a_cut_file_is_named(kept: float) -> None:
    """Wherever a file ends too early."""
    storage = memory_storage()
    content = write(storage)
    storage.write_bytes(
        NAME, content[: kept if isinstance(kept, int) else int(len(content) * kept)]
    )
    with pytest.raises(DamagedFileError, match=r"contents\.parquet is damaged: .*backup"):
        read(storage)
    with pytest.raises(DamagedFileError, match=r"contents\.parquet is damaged"):
        check_sealed(storage, NAME)


def test_garbage_and_nothing_are_named(storage: Storage) -> None:
    """Other bytes in place of a file, and no file at all."""
    with pytest.raises(DamagedFileError, match="not there"):
        read(storage)
    for garbage in (b"\0" * 100_000, random.Random(1).randbytes(100_000), b"PAR1" * 1000):
        storage.write_bytes(NAME, garbage)
        with pytest.raises(DamagedFileError, match=r"contents\.parquet is damaged"):
            read(storage)


def test_undamaged_row_groups_of_a_damaged_file_are_read(storage: Storage) -> None:
    """Damage in one place stops only those who need it."""
    content = bytearray(write(storage, rows=500))
    content[len(content) // 2] ^= 1
    storage.write_bytes(NAME, bytes(content))
    with open_sealed(storage, NAME) as file:
        assert file.read_row_group(0).equals(TABLE.slice(0, 500))
    with pytest.raises(DamagedFileError):
        read(storage)


def test_a_file_of_an_earlier_release_is_read(storage: Storage) -> None:
    """Without a seal it is read as it is, and said to have none; garbled it is named."""
    with storage.publish(NAME) as stream:
        pq.write_table(TABLE, stream)
    assert read(storage).equals(TABLE)
    assert not check_sealed(storage, NAME)
    content = bytearray(storage.read_bytes(NAME))
    content[100:300] = bytes(200)
    storage.write_bytes(NAME, bytes(content))
    with pytest.raises(DamagedFileError, match="cannot be read as Parquet"):
        check_sealed(storage, NAME)


def test_nobody_goes_round_the_seal() -> None:
    """In the rooms that use the lake, nobody else reads or writes Parquet, or opens its files.

    Files of a release leave the lake; the sums of their bytes are in its manifest. What it is made from it reads
    by the stores, as all do.
    """
    root = Path(ctg_assets.__file__).parent
    forbidden = {
        "write_table": "pq", "read_table": "pq", "read_metadata": "pq", "read_schema": "pq",
        "ParquetDataset": "pq",
        "read_parquet": "pl", "scan_parquet": "pl", "write_parquet": None, "sink_parquet": None,
        "dataset": "pa", "open_input": None,
    }  # fmt: skip
    seen = []
    own = ("storage/sealed_parquet.py", "storage/files.py")
    for file in sorted(root.rglob("*.py")):
        if file.relative_to(root).as_posix() in own or {"simulator", "release"} & {*file.parts}:
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else None
            name = node.func.attr
            round_it = name in forbidden and forbidden[name] in (None, owner)
            if round_it or (owner == "pq" and name in ("ParquetWriter", "ParquetFile")):
                seen.append(f"{file.relative_to(root)}:{node.lineno} {name}")
    assert not seen
