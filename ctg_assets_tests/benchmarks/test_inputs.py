"""Real studies are copied under ids of their own."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec

from benchmarks.inputs import real, real_sample
from benchmarks.pages import pages
from ctg_assets_tests.support.lakes import json_of


def _ids(data_dir: Path) -> list[str]:
    return [
        msgspec.json.decode(study)["protocolSection"]["identificationModule"]["nctId"]
        for page in pages(str(data_dir))
        for study in page
    ]


def _file(folder: Path, *numbers: int) -> Path:
    file = folder / "studies.jsonl.gz"
    file.write_bytes(gzip.compress(b"\n".join(json_of(*numbers))))
    return file


def test_copies_have_other_ids_and_the_same_content(tmp_path: Path) -> None:
    """Each copy of a study has an id that no other has; all else stays."""
    found = real(tmp_path / "sets", _file(tmp_path, 7, 8), 3)
    assert _ids(found.data_dir) == [
        "NCT00000007", "NCT00000008", "NCT10000007", "NCT10000008", "NCT20000007", "NCT20000008",
    ]  # fmt: skip
    (studies,) = pages(str(found.data_dir))
    assert studies[4] == studies[0].replace(b"NCT00000007", b"NCT20000007")
    assert (found.name, found.studies) == ("2 real x 3", 6)


def test_a_sample_is_spread_over_the_file(tmp_path: Path) -> None:
    """A sample takes studies at even distances, so that it has the file's mixture."""
    found = real_sample(tmp_path / "sets", _file(tmp_path, *range(1, 11)), 3)
    assert _ids(found.data_dir) == ["NCT00000001", "NCT00000004", "NCT00000007"]


def test_a_file_that_changed_makes_another_set(tmp_path: Path) -> None:
    """A set is kept for the content it was made from, not for its name."""
    real(tmp_path / "sets", _file(tmp_path, 1), 1)
    found = real(tmp_path / "sets", _file(tmp_path, 2), 1)
    assert _ids(found.data_dir) == ["NCT00000002"]
    assert [path.name for path in (tmp_path / "sets").iterdir()] == [found.data_dir.name]


def test_studies_whose_copies_would_meet_others_are_left_out(tmp_path: Path) -> None:
    """An id of eight digits may be the one that a copy of another study gets."""
    found = real(tmp_path / "sets", _file(tmp_path, 7, 10_000_007), 2)
    assert _ids(found.data_dir) == ["NCT00000007", "NCT10000007"]
