"""Bulk files: exactly the bytes put in, or a failure that says where."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import struct
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.extract import bulk_file, json_objects
from ctg_assets.extract.bulk_file import LeftOut, read_records, read_studies
from ctg_assets.extract.json_objects import BulkFileError
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.made_lakes import json_values

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
            patch.setattr(json_objects, "_BLOCK_BYTES", block_bytes)
        path = Path(folder) / "studies of ünknown kind"
        path.write_bytes(content)
        return list(read_studies(path))


@pytest.mark.soak
@settings(max_examples=times(30, 100), deadline=None)
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


@pytest.mark.soak
@settings(max_examples=times(10, 30), deadline=None)
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
    monkeypatch.setattr(json_objects, "_BLOCK_BYTES", 64)
    path = tmp_path / "x.json"
    path.write_bytes(b"[" + (A + b",") * 1000 + b"here it breaks")
    studies = read_studies(path)
    assert [next(studies) for _ in range(900)] == [A] * 900
    with pytest.raises(BulkFileError, match="here it breaks"):
        list(studies)


ONE_GZ = gzip.compress(lines([A] * 2000 + [B], b""))
ONE_ZIP = zipped({"a.json": lines([A] * 200, b""), "b.json": B})


# Where a member's header in its place, and that in the directory, hold what is spoilt, and what by.
_SPOILT: dict[str, tuple[int | None, int | None, bytes, str]] = {
    "encrypted": (6, 8, struct.pack("<H", 1), "encrypted"),
    "unusual method": (8, 10, struct.pack("<H", 99), "not supported"),
    "wrong check sum": (None, 16, b"\xff\0\xff\0", "Bad CRC-32"),
    "no header": (0, None, b"XX", "magic number"),
}


def spoilt(archive: bytes, name: str, how: str) -> bytes:
    """A zip with one of its members, named in ASCII, spoilt."""
    content = bytearray(archive)
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        local, central = read.getinfo(name).header_offset, read.start_dir
    while content[central + 46 :][: len(name)] != name.encode():
        central = content.index(b"PK\x01\x02", central + 1)
    in_place, in_directory, value, _ = _SPOILT[how]
    for start, offset in ((local, in_place), (central, in_directory)):
        if offset is not None:
            content[start + offset : start + offset + len(value)] = value
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
    "text": (b"some text", "expected a study.*at byte 0 in line 1, found b'some text"),
    "binary": (bytes(range(256)), "at byte 0"),
    "a number": (b"17", "at byte 0 in line 1, found b'17'"),
    "a text": (b'"{}"', "at byte 0"),
    "a nested array": (b"[[" + A + b"]]", "at byte 1 in line 1, found"),
    "an array in lines": (A + b"\n[" + B + b"]", "another study.*at byte 8"),
    "lines with commas": (A + b"," + A, "another study.*at byte 7"),
    "two commas": (b"[" + A + b",," + A + b"]", "next study.*at byte 9"),
    "a last comma": (b"[" + A + b",]", "next study.*at byte 9"),
    "a first comma": (b"[," + A + b"]", "at byte 1"),
    "no comma": (b"[" + A + A + b"]", "comma or the end.*at byte 8"),
    "numbers in the array": (b"[" + A + b",1]", "next study.*at byte 9 in line 1, found b'1]'"),
    "text after the array": (b"[" + A + b"] {}", "nothing after the end.*at byte 10"),
    "text after a line": (A + b"\nrubbish", "another study.*at byte 8 in line 2, found b'rubbish'"),
    "text between lines": (
        A + b"\nrubbish" + A,
        "another study.*at byte 8 in line 2, found b'rubbish",
    ),
    "a brace too many": (A + b"}" + A, "closing brace too many at byte 7"),
    "a brace first": (b"}", "closing brace too many at byte 0"),
    "a mark later": (A + MARK, "another study.*at byte 7"),
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
    "gzip of text": (gzip.compress(b"text"), "at byte 0 in line 1, found b'text'"),
    "cut zip": (ONE_ZIP[:-30], "cannot be read: File is not a zip file"),
    "empty zip": (zipped({}), "zip without JSON files"),
    "zip without JSON": (zipped({"a.csv": b"x", "b/": b""}), "zip without JSON files"),
    "zip of an empty file": (zipped({"b.json": b" "}), r"something else: 1; .*:b.json \(empty\)"),
    "zip of text": (zipped({"b.json": b"text"}), "something else: 1; .*:b.json .no JSON: b'text'"),
    "zip of a cut file": (zipped({"b.json": A[:-1]}), r"else: 1; .*:b.json \(ends in the middle"),
    "encrypted zip": (
        spoilt(zipped({"a.json": A}), "a.json", "encrypted"),
        r"something else: 1; .*:a\.json \(.*encrypted",
    ),
    "zip of a damaged zip": (
        zipped({"b.zip": spoilt(zipped({"a.json": A}), "a.json", "wrong check sum")}),
        r"something else: 1; .*:b\.zip:a\.json \(Bad CRC-32",
    ),
    "zip of an empty zip": (
        zipped({"b.zip": zipped({})}),
        r"else: 1; .*:b\.zip \(is a zip without",
    ),
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


@pytest.mark.soak
@settings(max_examples=times(25, 100), deadline=None)
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


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda content: pa.compress(content, "zstd", asbytes=True),
}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"]


@pytest.mark.soak
@settings(max_examples=times(25, 60), deadline=None)
@given(
    st.lists(study_texts(), min_size=1, max_size=4),
    st.sampled_from(SHAPES),
    st.sampled_from(ENCODINGS),
    st.lists(st.sampled_from([*PACKINGS, "zip", "two members"]), max_size=3),
    st.integers(1, 40) | st.just(1 << 20),
)
def test_whatever_the_packing_and_the_encoding(
    studies: list[bytes], shape: Any, encoding: str, packings: list[str], block_bytes: int
) -> None:
    """Every shape in every encoding, in up to three packings of any kinds, zips in zips too."""
    content = shape(studies, b"").decode().encode(encoding)
    inner = None
    for packing in packings:
        if packing == "zip":
            # A zip is found from its end, and this compression cannot be searched.
            content = zipped({"any name": content})
        elif packing == "two members" and inner != "zst":
            content = gzip.compress(content[:9]) + gzip.compress(content[9:])
        elif packing in PACKINGS:
            content = PACKINGS[packing](content)
        inner = packing
    is_searched = any(pair == ("zip", "zst") for pair in pairwise(packings))
    if is_searched or ("zip" in packings and "zst" in packings[packings.index("zip") :]):
        with pytest.raises(BulkFileError, match="unpack it first"):
            read(content, block_bytes)
    else:
        assert read(content, block_bytes) == studies


NAMES = [
    "a.json",
    "B.JSON",
    "c.json.gz",
    "d",
    "e/f.jsonl",
    "g.ndjson",
    "h.txt",
    "\u00fc.Json",
    ".i",
]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES),
            st.sampled_from(["plain", *PACKINGS, "zip"]),
            st.sampled_from(["study", "study", "empty", "text", "binary", "html"]),
        ),
        max_size=6,
        unique_by=lambda member: member[0],
    )
)
def test_members_of_a_zip_are_told_by_content(members: list[tuple[str, str, str]]) -> None:
    """Under any name and in any packing what is JSON is read; the rest is counted, and named with a reason."""
    others = {"empty": b" ", "text": b"17", "binary": b"\x89PNG\r\n", "html": b"<html>"}
    archive, expected, other = {"folder/": b"", "__MACOSX/x": b"\0"}, [], []
    for name, packing, kind in members:
        content = b'{"id":"%s"}' % name.encode() if kind == "study" else others[kind]
        if kind == "study":
            expected.append(content)
            packed = zipped({"inner": content}) if packing == "zip" else content
            content = PACKINGS[packing](packed) if packing in PACKINGS else packed
        else:
            other.append(name)
        archive[name] = content
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "studies.zip"
        path.write_bytes(zipped(archive))
        left_out = LeftOut()
        if not expected:
            with pytest.raises(BulkFileError, match=f"without JSON files.*: {len(other)}"):
                list(read_records(path, left_out))
            return
        assert [record.json for record in read_records(path, left_out)] == expected
        assert left_out.count == len(other)
        named = [example.partition(" (")[0] for example in left_out.examples]
        assert named == [f"{path}:{name}" for name in other[:5]]


_UNREADABLE = {
    "cut": (A[:-1], "ends in the middle"),
    "cut gzip": (gzip.compress(A * 9)[:-6], "end-of-stream"),
    "damaged xz": (lzma.compress(A * 9)[:-9], "end-of-stream"),
    "not JSON": (A + b"}", "closing brace too many"),
    "no studies": (b"[]", "holds no studies"),
    "cut zip": (zipped({"b": A})[:-1], "not a zip file"),
    **{
        f"zip: {how}": (spoilt(zipped({"b": A}), "b", how), text)
        for how, (*_, text) in _SPOILT.items()
        if how != "no header"  # by which a zip is told
    },
    **{how: (A, text) for how, (*_, text) in _SPOILT.items()},
}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["study", "study", *_UNREADABLE]), min_size=1, max_size=7))
def test_unreadable_members_cost_no_other(kinds: list[str]) -> None:
    """Members encrypted, cut, damaged or packed unusually, in any order, are named; others are read."""
    studies = [b'{"id":%d}' % number for number in range(len(kinds))]
    archive = zipped(
        {
            "folder/": b"",  # a zip is told by its first header
            **{
                f"member {number}": _UNREADABLE[kind][0] if kind in _UNREADABLE else studies[number]
                for number, kind in enumerate(kinds)
            },
        }
    )
    for number, kind in enumerate(kinds):
        if kind in _SPOILT:
            archive = spoilt(archive, f"member {number}", kind)
    bad = [(f"member {number}", kind) for number, kind in enumerate(kinds) if kind in _UNREADABLE]
    good = [study for study, kind in zip(studies, kinds, strict=True) if kind == "study"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "studies.zip"
        path.write_bytes(archive)
        left_out = LeftOut()
        if good:
            assert [record.json for record in read_records(path, left_out)] == good
        else:
            with pytest.raises(BulkFileError, match=f"can be read.*: {len(bad)};"):
                list(read_records(path, left_out))
    assert left_out.count == len(bad)
    for example, (name, kind) in zip(left_out.examples, bad, strict=False):
        assert example.startswith((f"{path}:{name} (", f"{path}:{name}:b ("))
        assert _UNREADABLE[kind][1] in example


def test_what_is_wrong_late_in_a_large_member_refuses_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a member whose records were passed on already, nothing may count as left out."""
    monkeypatch.setattr(bulk_file, "_HELD_BYTES", 100)
    with pytest.raises(BulkFileError, match=r":b ends in the middle"):
        read(zipped({"a": A, "b": lines([A] * 100, b"")[:-3]}), 16)


def test_the_zip_of_case_13() -> None:
    """Case 13 of the odd inputs: .json, .JSON, .json.gz and no ending, all four read."""
    path = shared_path("cases/13-zip-members-left-out.zip")
    left_out = LeftOut()
    assert len(list(read_records(path, left_out))) == 4
    assert left_out.count == 0


OTHERS = {
    b"PAR1\x15\x04": "a Parquet file",
    b"%PDF-1.7": "a PDF",
    b"PGDMP\x01": "a dump of a Postgres database",
    b"id|nct_id|x\n1|NCT00000001|y": "a table of AACT",
    b"nct_id|nlm_download_date\n": "a table of AACT",
    b"NCT00000001\nNCT00000002\n": "a list of NCT ids",
    b"NCT00000001": "a list of NCT ids",
    b"NCT Number,Study Title\n": "search results as CSV",
    MARK + b'"NCT Number","Study Title"\n': "search results as CSV",
    b"<?xml version='1.0'?><clinical_study>": "XML",
    b" <!DOCTYPE HTML>": "an HTML page",
    b"\x00" * 257 + b"ustar": "a tar archive",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
}


@pytest.mark.parametrize("packing", [bytes, gzip.compress, bz2.compress])
@pytest.mark.parametrize("content", OTHERS)
def test_what_is_no_json_is_called_what_it_is(content: bytes, packing: Any) -> None:
    """Files that people take for studies are told apart, compressed ones too."""
    if content.startswith(b"\0"):
        content = b"name" + content[4:]
    expected = next(kind for start, kind in OTHERS.items() if content[-5:] == start[-5:])
    with pytest.raises(BulkFileError, match=f"is {expected}"):
        read(packing(content))


study_lines = st.builds(
    lambda number, text: json.dumps(
        {
            "protocolSection": {
                "identificationModule": {"nctId": f"NCT{number:08}", "briefTitle": text}
            }
        },
        separators=(",", ":"),
    ).encode(),
    st.integers(1, 10**8 - 1),
    treacherous,
)


@pytest.mark.soak
@settings(max_examples=times(20, 100), deadline=None)
@given(
    st.lists(study_lines, min_size=2, max_size=6),
    st.data(),
    st.integers(1, 60) | st.just(1 << 20),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_a_broken_line_costs_no_other_study(
    studies: list[bytes], data: st.DataObject, block_bytes: int, end: bytes
) -> None:
    """A line cut anywhere behind its first key, or with signs that open and close too much.

    Every other line is a record of its own, untouched, wherever blocks end; only the last line's damage
    is that of a cut file.
    """
    number = data.draw(st.integers(0, len(studies) - 2))
    line = studies[number]
    place = data.draw(st.integers(len(b'{"protocolSection"'), len(line) - 1))
    inserted = data.draw(st.sampled_from([b"}", b"{", b'"', b"{{", b"}}", b'\\"']))
    broken = data.draw(st.sampled_from([line[:place], line[:place] + inserted + line[place:]]))
    found = read(end.join([*studies[:number], broken, *studies[number + 1 :]]), block_bytes)
    assert found[:number] == studies[:number]
    assert found[len(found) - len(studies) + number + 1 :] == studies[number + 1 :]
    assert b"".join(found[number : len(found) - len(studies) + number + 1]).replace(
        b" ", b""
    ) == broken.replace(b" ", b"")


@pytest.mark.parametrize("end", ["", "{", "}", "}}{", '"'])
@pytest.mark.parametrize("block_bytes", [7, 1 << 20])
def test_what_follows_a_study_that_closed_too_early_is_the_rest_of_its_line(
    block_bytes: int, end: str
) -> None:
    """A quote too much makes a brace of a text close the study; what comes then costs no other study either."""
    sound = b'{"protocolSection":{"identificationModule":{"nctId":"NCT00000002"}}}'
    title = f'"briefTitle":"}}}}{{{end}"'.encode()
    broken = b'{"protocolSection":{""identificationModule":{"nctId":"NCT00000001",' + title + b"}}}"
    found = read(b"\n".join([sound, broken, sound, sound]), block_bytes)
    assert (found[0], found[-2:]) == (sound, [sound, sound])
    assert b"".join(found[1:-2]) == broken


def test_a_cut_file_names_the_study_and_the_line() -> None:
    """Line, byte and NCT id of the study in which a file ends."""
    study = b'{"protocolSection":{"identificationModule":{"nctId":"NCT01234567"}}}'
    with pytest.raises(BulkFileError, match=r"byte 71 in line 2 \(study NCT01234567\).*cut off"):
        read(b"[" + study + b",\n" + study[:-2])


def test_an_object_that_never_ends_is_not_held_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by the largest object that is believed in."""
    monkeypatch.setattr(json_objects, "_LARGEST_OBJECT", 100)
    with pytest.raises(BulkFileError, match="line 1 is not closed after 100 bytes"):
        read(b'{"a":[' + A * 100, 16)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file and a folder are named."""
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(BulkFileError, match=rf"{path} cannot be read"):
            list(read_studies(path))
