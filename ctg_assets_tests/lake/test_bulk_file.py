"""Bulk files: exactly the bytes put in, or a failure that says where."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.lake import bulk_file
from ctg_assets.lake.bulk_file import BulkFileError, read_studies
from ctg_assets_tests.lake.helpers import json_values

MARK = b"\xef\xbb\xbf"
A, B = b'{"a":1}', b'{"b":"}{\\"[,]"}'

# Texts made of what could confuse a search for the boundaries of studies.
treacherous = st.text(alphabet='{}[]",\\\n\u00e9\U0001f600 ab', max_size=12)
contents = st.dictionaries(treacherous, treacherous | json_values, max_size=4).filter(
    lambda content: "studies" not in content
)
spaces = st.text(alphabet=" \t\r\n", max_size=3).map(str.encode)


@st.composite
def study_texts(draw: st.DrawFn) -> bytes:
    """A JSON object in some spelling."""
    text = json.dumps(
        draw(contents),
        indent=draw(st.sampled_from([None, 0, 2, "\t"])),
        ensure_ascii=draw(st.booleans()),
        separators=draw(st.sampled_from([(",", ":"), (" ,\r\n", " : ")])),
    )
    return text.encode()


def array(studies: Sequence[bytes], space: bytes) -> bytes:
    """A JSON array, as the site's download is."""
    comma = space + b"," + space
    return space + b"[" + space + comma.join(studies) + space + b"]" + space


def lines(studies: Sequence[bytes], space: bytes) -> bytes:
    """JSON Lines, one of which may span several."""
    return b"".join(space + study + b"\n" for study in studies)


def _answers(studies: Sequence[bytes], space: bytes) -> list[bytes]:
    pages = [studies[:1], studies[1:]]
    return [
        b'{"totalCount":3,"studies":%s,"nextPageToken":"a{]"}' % array(page, space)
        for page in pages
    ]


def answers(studies: Sequence[bytes], space: bytes) -> bytes:
    """What the API answers, page after page."""
    return space.join(_answers(studies, space))


def array_of_answers(studies: Sequence[bytes], space: bytes) -> bytes:
    """API answers collected into an array."""
    return array(_answers(studies, space), space)


SHAPES = [array, lines, answers, array_of_answers]


def zipped(members: dict[str, bytes]) -> bytes:
    """A zip of these members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def read(content: bytes, block_bytes: int | None = None) -> list[bytes]:
    """The studies of a file of this content, read in blocks of this size."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        if block_bytes is not None:
            patch.setattr(bulk_file, "_BLOCK_BYTES", block_bytes)
        path = Path(folder) / "studies of ünknown kind"
        path.write_bytes(content)
        return list(read_studies(path))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(study_texts(), min_size=1, max_size=5),
    st.sampled_from(SHAPES),
    spaces,
    st.booleans(),
    st.sampled_from(["plain", "gz", "two gz"]),
    st.integers(1, 40) | st.just(1 << 20),
)
def test_exactly_the_bytes_put_in(
    studies: list[bytes],
    shape: Any,
    space: bytes,
    mark: bool,
    packing: str,
    block_bytes: int,
) -> None:
    """Whatever the shape, spelling, packing, and wherever blocks end: each study, in order, untouched."""
    content = (MARK if mark else b"") + shape(studies, space)
    if packing == "gz":
        content = gzip.compress(content)
    if packing == "two gz":
        content = gzip.compress(content[:7]) + gzip.compress(content[7:])
    assert read(content, block_bytes) == studies


@settings(max_examples=30, deadline=None)
@given(st.lists(study_texts(), min_size=1, max_size=5), st.integers(1, 40))
def test_a_zip_of_one_file_a_study(studies: list[bytes], block_bytes: int) -> None:
    """Members come in the archive's order; folders, other files and macOS's remarks are passed over."""
    members = {"ctg/": b"", "ctg/readme.txt": b"not JSON"}
    for number, study in enumerate(studies):
        members[f"ctg/NCT{number:08}.json"] = study
        members[f"__MACOSX/ctg/._NCT{number:08}.json"] = b"\0\5\26\7 not JSON"
    assert read(zipped(members), block_bytes) == studies


def test_a_zip_of_larger_files() -> None:
    """A member may hold many studies, in any shape."""
    members = {"a.json": array([A, B], b"\n"), "b.jsonl": lines([B, A], b""), "c.ndjson": A}
    assert read(zipped(members)) == [A, B, B, A, A]


def test_a_study_with_a_field_called_studies() -> None:
    """Only an object without protocolSection is taken for an API answer."""
    study = b'{"protocolSection":{},"studies":[{}]}'
    assert read(study) == [study]


def test_a_study_longer_than_a_block() -> None:
    """A study may span any number of blocks."""
    long = json.dumps({"a": "\\" * 50_001 + '"}{' * 10_000}).encode()
    assert read(array([A, long, B], b"\n"), 1000) == [A, long, B]


def test_files_are_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first studies are there before the rest of the file has been read."""
    monkeypatch.setattr(bulk_file, "_BLOCK_BYTES", 64)
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + (A + b",") * 1000 + b"here it breaks")
    studies = read_studies(path)
    assert [next(studies) for _ in range(900)] == [A] * 900
    with pytest.raises(BulkFileError, match="here it breaks"):
        list(studies)


ONE_GZ = gzip.compress(lines([A] * 2000 + [B], b""))
ONE_ZIP = zipped({"a.json": lines([A] * 200, b""), "b.json": B})


def encrypted_zip() -> bytes:
    """A zip whose member says that it is encrypted."""
    content = bytearray(zipped({"a.json": A}))
    central = content.index(b"PK\x01\x02")
    for flags in (6, central + 8):
        content[flags : flags + 2] = struct.pack("<H", 1)
    return bytes(content)


BROKEN = {
    "empty": (b"", "is empty"),
    "white space": (b" \n ", "holds no studies"),
    "only a mark": (MARK, "holds no studies"),
    "an empty array": (b"[ ]", "holds no studies"),
    "an empty answer": (b'{"studies":[]}', "holds no studies"),
    "cut in a study": (b"[" + A + b',{"b":"}', "middle of the object that starts at byte 9"),
    "cut in the first study": (b'{"a"', "middle of the object that starts at byte 0"),
    "cut between studies": (b"[" + A + b"," + A, "ends at byte 16.*comma or the end of the array"),
    "cut after a comma": (b"[" + A + b",", "ends at byte 9.*next study"),
    "cut after the bracket": (b"[", "ends at byte 1"),
    "cut answer": (b'{"studies":[' + A, "middle of the object that starts at byte 0"),
    "text": (b"nctId,title\nNCT1,x", "expected a study.*at byte 0, found b'nctId,title"),
    "html": (b"<!DOCTYPE html><style>a{}</style>", "at byte 0, found b'<!DOCTYPE"),
    "utf-16": ('[{"a":1}]'.encode("utf-16"), "at byte 0"),
    "binary": (bytes(range(256)), "at byte 0"),
    "a number": (b"17", "at byte 0, found b'17'"),
    "a text": (b'"{}"', "at byte 0"),
    "a nested array": (b"[[" + A + b"]]", "at byte 1, found"),
    "an array in lines": (A + b"\n[" + B + b"]", "another study.*at byte 8"),
    "lines with commas": (A + b"," + A, "another study.*at byte 7"),
    "two commas": (b"[" + A + b",," + A + b"]", "next study.*at byte 9"),
    "a last comma": (b"[" + A + b",]", "next study.*at byte 9"),
    "a first comma": (b"[," + A + b"]", "at byte 1"),
    "no comma": (b"[" + A + A + b"]", "comma or the end.*at byte 8"),
    "numbers in the array": (b"[" + A + b",1]", "next study.*at byte 9, found b'1]'"),
    "text after the array": (b"[" + A + b"] {}", "nothing after the end.*at byte 10"),
    "text after a line": (A + b"\nrubbish", "another study.*at byte 8, found b'rubbish'"),
    "text between lines": (A + b"\nrubbish" + A, "another study.*at byte 8, found b'rubbish"),
    "a brace too many": (A + b"}" + A, "closing brace too many at byte 7"),
    "a brace first": (b"}", "closing brace too many at byte 0"),
    "a mark later": (A + MARK, "another study.*at byte 7"),
    "broken JSON": (A + b'\n{"a":tru}', "broken JSON in the object that starts at byte 8"),
    "bad bytes in a key": (b'{"\xff":1}', "broken JSON in the object that starts at byte 0"),
    "deep nesting": (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", "broken JSON.*at byte 0"),
    "studies that are none": (b'{"studies":[1]}', "byte 0 lists as a study.*b'1'"),
    "studies of another shape": (
        b'{"studies":{}}',
        "broken JSON in the object that starts at byte 0",
    ),
    "cut gzip": (ONE_GZ[:-20], "cannot be read: .*end-of-stream"),
    "gzip header alone": (ONE_GZ[:6], "cannot be read"),
    "damaged gzip": (ONE_GZ[:20] + b"\xff\xff\xff\xff" + ONE_GZ[24:], "cannot be read: "),
    "wrong check sum": (ONE_GZ[:-8] + b"\0" * 8, "cannot be read: CRC"),
    "rubbish after gzip": (ONE_GZ + b"rubbish", "cannot be read: "),
    "gzip of nothing": (gzip.compress(b""), "holds no studies"),
    "gzip of text": (gzip.compress(b"text"), "at byte 0, found b'text'"),
    "cut zip": (ONE_ZIP[:-30], "cannot be read: File is not a zip file"),
    "damaged zip": (ONE_ZIP[:45] + b"\xff" * 8 + ONE_ZIP[53:], "cannot be read: "),
    "empty zip": (zipped({}), "zip without JSON files"),
    "zip without JSON": (zipped({"a.csv": b"x", "b/": b""}), "zip without JSON files"),
    "zip of an empty file": (zipped({"a.json": A, "b.json": b""}), ":b.json holds no studies"),
    "zip of text": (zipped({"a.json": A, "b.json": b"text"}), ":b.json: expected a study"),
    "encrypted zip": (encrypted_zip(), r":a\.json cannot be read: .*encrypted"),
}


@pytest.mark.parametrize("kind", list(BROKEN))
@pytest.mark.parametrize("block_bytes", [1, 16, 1 << 20])
def test_a_broken_file_is_told_with_the_place(kind: str, block_bytes: int) -> None:
    """Every kind of damage ends in a failure that names the file and the place in it."""
    content, message = BROKEN[kind]
    if block_bytes < 1000:
        # The excerpt of what was found ends where the block ends.
        message = message.partition(", found")[0]
    with pytest.raises(BulkFileError, match=f"(?s)studies of ünknown kind.*{message}"):
        read(content, block_bytes)


@settings(max_examples=100, deadline=None)
@given(st.lists(study_texts(), min_size=1, max_size=4), st.sampled_from(SHAPES), st.data())
def test_a_cut_file_never_passes_for_a_whole_one(
    studies: list[bytes], shape: Any, data: Any
) -> None:
    """Cut anywhere before its last bracket, an array is refused; lines and answers may be lost whole."""
    whole = shape(studies, b"")
    part = whole[: data.draw(st.integers(0, len(whole.rstrip()) - 1))]
    try:
        found = read(part, 16)
    except BulkFileError:
        return
    assert shape in {lines, answers}
    assert found == studies[: len(found)]
    # Of a single study, the second answer holds none.
    assert len(found) < len(studies) or (shape is answers and len(studies) == 1)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file and a folder are named."""
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(BulkFileError, match=rf"{path} cannot be read"):
            list(read_studies(path))
