"""Studies from files and from the generator, behind one contract."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctg_assets.simulator import identity
from ctg_assets.simulator.source import FileSource, GeneratedSource, SourceError, StudySource
from ctg_assets_tests.shared_material import shared_path

Study = dict[str, Any]

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def _study(nct_id: str, date: str | None, extra: object) -> Study:
    status = {} if date is None else {"lastUpdatePostDateStruct": {"date": date, "type": "ACTUAL"}}
    return {
        "protocolSection": {
            "identificationModule": {"nctId": nct_id, "briefTitle": extra},
            "statusModule": status,
            "designModule": extra,
        },
        "hasResults": extra,
    }


STUDIES = st.lists(
    st.builds(
        _study,
        st.integers(0, 99_999_999).map("NCT{:08d}".format),
        st.dates().map(lambda day: day.isoformat()) | st.none(),
        JSON_VALUES,
    ),
    min_size=1,
    max_size=5,
    unique_by=lambda study: study["protocolSection"]["identificationModule"]["nctId"],
)


def _compact(study: Study) -> bytes:
    return json.dumps(study, ensure_ascii=False, separators=(",", ":")).encode()


def _pretty(study: Study) -> bytes:
    return json.dumps(study, ensure_ascii=False, indent=2).encode()


def _lines(studies: list[bytes]) -> bytes:
    return b"\n".join(studies) + b"\n"


def _windows_lines(studies: list[bytes]) -> bytes:
    return b"\xef\xbb\xbf" + b"\r\n\r\n".join(studies)


def _array(studies: list[bytes]) -> bytes:
    return b"[" + b",".join(studies) + b"]"


def _spaced_array(studies: list[bytes]) -> bytes:
    return b"\n[ " + b" ,\n ".join(studies) + b"\n]\n"


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("layout", "written"),
    [
        (_lines, _compact),
        (_windows_lines, _compact),
        (_array, _compact),
        (_array, _pretty),
        (_spaced_array, _pretty),
    ],
)
@settings(max_examples=25, deadline=None)
@given(studies=STUDIES)
def test_every_layout_of_a_file_serves_its_bytes(
    layout: Callable[[list[bytes]], bytes],
    written: Callable[[Study], bytes],
    packed: bool,
    studies: list[Study],
) -> None:
    """JSON Lines or array, pretty or compact, gzipped or not, under any name: the bytes are as written."""
    pieces = [written(study) for study in studies]
    content = layout(pieces)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "studies.of.no.known.kind"
        path.write_bytes(gzip.compress(content) if packed else content)
        source: StudySource = FileSource(path)
    assert [source.raw(index) for index in range(len(source))] == pieces
    for index, study in enumerate(studies):
        protocol = study["protocolSection"]
        nct_id = protocol["identificationModule"]["nctId"]
        posted = protocol["statusModule"].get("lastUpdatePostDateStruct", {"date": ""})
        assert source.nct_id(index) == nct_id
        assert source.index_of(nct_id) == index
        assert source.last_update_post_date(index) == posted["date"]


def test_a_gzip_of_several_members_is_one_file(tmp_path: Path) -> None:
    """Gzip files that were appended to each other are read to the end."""
    pieces = [_compact(_study(f"NCT0000000{number}", None, 1)) for number in range(3)]
    path = tmp_path / "studies.jsonl.gz"
    path.write_bytes(b"".join(gzip.compress(piece + b"\n") for piece in pieces))
    assert len(FileSource(path)) == 3


def test_aliases_lead_to_the_surviving_study(tmp_path: Path) -> None:
    """Obsolete ids lead to the study that lists them, unless a study of the file has that id itself."""
    listing = _study("NCT00000001", None, None)
    listing["protocolSection"]["identificationModule"]["nctIdAliases"] = [
        "NCT00000002",
        "NCT00000003",
    ]
    path = tmp_path / "studies.jsonl"
    path.write_bytes(_lines([_compact(listing), _compact(_study("NCT00000002", None, None))]))
    source = FileSource(path)
    assert source.alias_target("NCT00000003") == "NCT00000001"
    assert source.index_of("NCT00000003") is None
    assert source.alias_target("NCT00000002") is None
    assert source.alias_target("NCT00000004") is None


GOOD = _compact(_study("NCT00000001", None, None))
NEXT = _compact(_study("NCT00000002", None, None))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no studies; expected JSON Lines or a JSON array"),
        (b" \n\n", "holds no studies"),
        (b"\n" + GOOD + b'\n\n{"protocolSection": oops}', r"line 4 is no study: .*byte 20"),
        (GOOD + b"\n" + NEXT[:50], r"line 2 is no study: .*truncated"),
        (json.dumps({"a": 1}, indent=1).encode(), r"line 1 is no study"),
        (b"<!DOCTYPE html><p>Sorry</p>", r"line 1 is no study: .*byte 0"),
        (b"PK\x03\x04rest of a zip file", r"line 1 is no study"),
        (b"[" + GOOD + b"," + NEXT[:50], r"broken JSON array of \d+ bytes: .*truncated"),
        (b"[" + GOOD + b";" + NEXT + b"]", rf"broken JSON array .*byte {len(GOOD) + 1}"),
        (b"[" + GOOD + b",7]", r"study 2 of the array is no study"),
        (b'{"studies":[' + GOOD + b"]}", r"line 1 has no NCT id: .* found none"),
        (GOOD.replace(b"NCT00000001", b"NCT1"), r"line 1 has no NCT id: .* found 'NCT1'"),
        (GOOD.replace(b'"NCT00000001"', b"1"), r"line 1 has no NCT id: .* found 1"),
        (b'{"protocolSection": []}', r"line 1 has no NCT id"),
        (
            b"[" + GOOD + b"," + NEXT + b"," + GOOD + b"]",
            r"study 3 of the array repeats NCT00000001",
        ),
        (gzip.compress(GOOD)[:-9], "broken gzip"),
        (gzip.compress(GOOD)[:-5] + b"12345", "broken gzip"),
        (b"\x1f\x8bnothing packed", "broken gzip"),
    ],
)
def test_broken_files_are_refused_with_the_place(
    tmp_path: Path, content: bytes, message: str
) -> None:
    """A file that cannot be served is refused; the message names the file, the place and the fault."""
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=message) as caught:
        FileSource(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """A missing file and a folder are refused with the system's reason."""
    with pytest.raises(SourceError, match=r"absent\.json: cannot be read: No such file"):
        FileSource(tmp_path / "absent.json")
    with pytest.raises(SourceError, match="cannot be read: Is a directory"):
        FileSource(tmp_path)


@pytest.mark.slow
def test_real_studies_are_served_as_they_are() -> None:
    """All 3,395 real studies are served byte for byte, those of old or mistyped shape included."""
    path = shared_path("ctg/studies.jsonl.gz")
    source = FileSource(path)
    with gzip.open(path) as file:
        lines = [line.rstrip(b"\n") for line in file]
    assert len(source) == len(lines) == 3395
    for index, line in enumerate(lines):
        assert source.raw(index) == line
        assert source.index_of(source.nct_id(index)) == index
        assert len(source.last_update_post_date(index)) == 10
    assert source.alias_target("NCT00201097") == "NCT00189228"


def test_generated_studies_keep_the_contract() -> None:
    """Ids, dates and places of generated studies agree with their JSON and with each other."""
    source: StudySource = GeneratedSource(500, seed=4)
    assert len(source) == 500
    for index in range(0, 500, 7):
        status = msgspec.json.decode(source.raw(index))["protocolSection"]["statusModule"]
        assert status["lastUpdatePostDateStruct"]["date"] == source.last_update_post_date(index)
        assert source.nct_id(index).encode() in source.raw(index)[:80]
        assert source.index_of(source.nct_id(index)) == index


def test_generated_studies_end_where_asked() -> None:
    """Studies, ids and aliases beyond the number asked for do not exist."""
    source = GeneratedSource(400, seed=4)
    assert source.index_of(identity.nct_id(4, 400)) is None
    for index, known in ((0, True), (200, True), (400, False)):
        alias = identity.alias_of(4, index)
        assert alias is not None
        assert source.alias_target(alias) == (source.nct_id(index) if known else None)
        assert source.index_of(alias) is None
    for index in (-1, 400):
        for lookup in (source.nct_id, source.raw, source.last_update_post_date):
            with pytest.raises(IndexError, match=f"study {index} of 400"):
                lookup(index)


@pytest.mark.parametrize("studies", [-1, identity.MAX_STUDIES + 1])
def test_numbers_of_studies_that_cannot_be_generated_are_refused(studies: int) -> None:
    """A negative or too great number of studies is refused with the range that is possible."""
    with pytest.raises(SourceError, match=f"can generate 0 to 7400000 studies, not {studies}"):
        GeneratedSource(studies, seed=0)


def test_the_data_day_reaches_every_study() -> None:
    """The registry's day given to the source is the version its studies bear."""
    source = GeneratedSource(3, seed=4, data_day=identity.FIRST_DATA_DAY + 1)
    for index in range(3):
        study = msgspec.json.decode(source.raw(index))
        assert study["derivedSection"]["miscInfoModule"]["versionHolder"] == "2026-03-03"
