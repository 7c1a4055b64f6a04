"""AACT's tables of MeSH from NLM's file: both of its forms, what is refused, and what is kept of it."""

from __future__ import annotations

import gzip
import os
import tracemalloc
from pathlib import Path

import pytest

from ctg_assets.aact import mesh
from ctg_assets.aact.mesh import mesh_fingerprint, mesh_rows
from ctg_assets.aact.mesh_file import Descriptor, MeshFileError, descriptors
from ctg_assets.errors import ExitCode
from ctg_assets.storage.files import Storage
from ctg_assets_tests.aact.mesh_files import DESCRIPTORS, mesh_ascii, mesh_xml

EXPECTED_TERMS = [
    (1, "C04", "C04", "D009369", "Neoplasms", "neoplasms"),
    (2, "C04", "C04.182", "D003560", "Cysts", "cysts"),
    (3, "C04", "C04.182.089", "D001847", "Bone Cysts", "bone cysts"),
    (4, "C05", "C05", "D009140", "Musculoskeletal Diseases", "musculoskeletal diseases"),
    (5, "C05", "C05.116", "D001847x", "Bone & Joint Diseases", "bone & joint diseases"),
    (6, "C05", "C05.116.070", "D001847", "Bone Cysts", "bone cysts"),
    (7, "Z01", "Z01", "D000068", "Sjögren's Things", "sjögren's things"),
]
EXPECTED_HEADINGS = [
    (1, "C04", "Neoplasms", "Cysts"),
    (2, "C05", "Musculoskeletal Diseases", "Bone & Joint Diseases"),
    (3, "Z01", "Sjögren's Things", None),
]


def write(tmp_path: Path, content: bytes) -> Path:
    """A file with this content."""
    file = tmp_path / "desc"
    file.write_bytes(content)
    return file


@pytest.mark.parametrize("text", [mesh_xml(), mesh_ascii()], ids=["xml", "ascii"])
@pytest.mark.parametrize("zipped", [False, True])
def test_each_place_in_the_tree_is_a_row(
    tmp_path: Path, storage: Storage, text: str, zipped: bool
) -> None:
    """In the order of the tree; a descriptor without a place has none, one with two has two."""
    content = text.encode()
    file = write(tmp_path, gzip.compress(content) if zipped else content)
    rows = mesh_rows(storage, file)
    terms = [tuple(row.values()) for row in rows["mesh_terms"].to_pylist()]
    headings = [tuple(row.values()) for row in rows["mesh_headings"].to_pylist()]
    assert (terms, headings) == (EXPECTED_TERMS, EXPECTED_HEADINGS)
    assert rows["mesh_terms"].column_names == [
        *("id", "qualifier", "tree_number", "description", "mesh_term", "downcase_mesh_term")
    ]
    assert rows["mesh_headings"].column_names == ["id", "qualifier", "heading", "subcategory"]


def test_a_byte_order_mark_is_no_matter(tmp_path: Path) -> None:
    """Editors put one before UTF-8."""
    file = write(tmp_path, b"\xef\xbb\xbf" + mesh_xml().encode())
    assert next(descriptors(file)) == Descriptor("D009369", "Neoplasms", ("C04",))


_ENTITIES = """<?xml version="1.0"?>
<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<DescriptorRecordSet><DescriptorRecord><DescriptorUI>&b;</DescriptorUI></DescriptorRecord>
</DescriptorRecordSet>
"""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it begins with b''"),
        (b"name,place\nx,y\n", "it begins with b'name,place"),
        (mesh_xml().encode()[:-60], "no sound XML"),
        (gzip.compress(mesh_xml().encode())[:-20], "cut off"),
        (gzip.compress(b"")[:3] + b"xxxxxxxxxxxxxxxxxxx", "cut off or damaged|cannot be read"),
        (b"<DescriptorRecordSet></DescriptorRecordSet>", "it has no descriptors"),
        (b"<html><body>Not found</body></html>", "it has no descriptors"),
        (_ENTITIES.encode(), r"declares an entity \(a\)"),
        (b"*NEWRECORD\nRECTYPE = Q\nSH = analysis\n", "not one number and one name"),
        (b"*NEWRECORD\nMH = \xff\n", "it is not UTF-8"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """With its name, what is wrong, what is expected, and the setting."""
    file = write(tmp_path, content)
    with pytest.raises(MeshFileError, match=said) as found:
        list(descriptors(file))
    assert str(file) in str(found.value)
    assert "CTG_MESH_FILE" in str(found.value)
    assert found.value.exit_code == ExitCode.UNUSABLE_SETTINGS


def test_a_file_that_is_not_there_is_said(tmp_path: Path, storage: Storage) -> None:
    """Already when it is told what the tables should hold."""
    for look in (mesh_fingerprint, lambda path: mesh_rows(storage, path)):
        with pytest.raises(MeshFileError, match=r"absent.*No such file"):
            look(tmp_path / "absent")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Twenty megabytes of descriptors are read within five."""
    many = {f"D{number:06d}": ("Term " * 20, ["C04"]) for number in range(20_000)}
    file = write(tmp_path, mesh_xml(many).encode())
    assert file.stat().st_size > 12_000_000
    tracemalloc.start()
    try:
        assert sum(1 for _ in descriptors(file)) == 20_000
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 5_000_000


def test_a_file_is_read_once(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is kept, under what tells that the file is the same; an older state is removed."""
    file = write(tmp_path, mesh_xml().encode())
    first = mesh_rows(storage, file)
    monkeypatch.setattr(mesh, "descriptors", lambda _: pytest.fail("it was read again"))
    assert mesh_rows(storage, file) == first
    monkeypatch.undo()
    before = mesh_fingerprint(file)
    file.write_bytes(mesh_xml({"D1": ("Other", ["A01"])}).encode())
    assert mesh_fingerprint(file) != before
    assert mesh_rows(storage, file)["mesh_terms"].num_rows == 1
    assert len(storage.names("mesh")) == 2


def test_a_file_of_the_same_size_counts_as_another(tmp_path: Path) -> None:
    """When it was written is part of what tells files apart."""
    file = write(tmp_path, mesh_xml().encode())
    os.utime(file, ns=(1, 1))
    before = mesh_fingerprint(file)
    os.utime(file, ns=(1, 2))
    assert mesh_fingerprint(file) != before
    assert mesh_fingerprint(None) is None


def test_what_is_kept_may_be_damaged(tmp_path: Path, storage: Storage) -> None:
    """The file is there to be read again."""
    file = write(tmp_path, mesh_xml(DESCRIPTORS).encode())
    rows = mesh_rows(storage, file)
    kept = Path(storage.path("mesh")) / storage.names("mesh")[0]
    kept.write_bytes(kept.read_bytes()[:-30])
    assert mesh_rows(storage, file) == rows
