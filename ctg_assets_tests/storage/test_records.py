"""Records: a small JSON file that is not as it was written is named, whatever became of it."""

from __future__ import annotations

import msgspec
import pytest

from ctg_assets.storage.damage import DamagedFileError
from ctg_assets.storage.files import Storage
from ctg_assets.storage.records import check_record, read_record, write_record
from ctg_assets_tests.support.made_lakes import memory_storage

NAME = "extractions/x/plan.json"


class Record(msgspec.Struct, frozen=True):
    """As small as it gets, with a text that looks like a digest of nothing."""

    name: str = "0" * 64
    number: int = 7
    names: tuple[str, ...] = ("ä", "b")


def test_a_record_is_read_as_it_was_written(any_storage: Storage) -> None:
    """With its digest as the last member, which readers of JSON see as any other."""
    write_record(any_storage, NAME, Record())
    assert read_record(any_storage, NAME, Record) == Record()
    assert check_record(any_storage, NAME)
    members = msgspec.json.decode(any_storage.read_bytes(NAME))
    assert list(members) == ["name", "number", "names", "sha256"]


def test_every_flipped_bit_is_told() -> None:
    """All bits of a file, one after the other."""
    storage = memory_storage()
    write_record(storage, NAME, Record())
    content = storage.read_bytes(NAME)
    overlooked = 0
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        storage.write_bytes(NAME, bytes(flipped))
        try:
            assert read_record(storage, NAME, Record) == Record()
            overlooked += 1
        except DamagedFileError as error:
            assert NAME in str(error)  # noqa: PT017 - either may happen
    assert overlooked == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" \n",
        b"{",
        b"\0" * 300,
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b'{"name": 1}',
        b"{" * 9999,
    ],
    ids=repr,
)
def test_other_content_is_named(storage: Storage, content: bytes) -> None:
    """Empty, cut, garbled, or JSON of another kind."""
    storage.write_bytes(NAME, content)
    with pytest.raises(DamagedFileError, match=r"x/plan\.json is damaged: .*plan of an extraction"):
        read_record(storage, NAME, Record)


def test_every_cut_is_told() -> None:
    """Wherever a record ends too early."""
    storage = memory_storage()
    write_record(storage, NAME, Record())
    content = storage.read_bytes(NAME)
    for end in range(len(content) - 1):
        storage.write_bytes(NAME, content[:end])
        with pytest.raises(DamagedFileError):
            read_record(storage, NAME, Record)


def test_a_record_of_an_earlier_release_is_read(storage: Storage) -> None:
    """Without a digest it is read as it is, and said to have none."""
    storage.write_bytes(NAME, msgspec.json.format(msgspec.json.encode(Record()), indent=2))
    assert read_record(storage, NAME, Record) == Record()
    assert not check_record(storage, NAME)


def test_what_is_not_there_is_no_damage(storage: Storage) -> None:
    """Whether a record has to be there is for its reader to know."""
    with pytest.raises(FileNotFoundError):
        read_record(storage, NAME, Record)
