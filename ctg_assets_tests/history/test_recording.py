"""Recording: what an extraction tells about studies, in whatever mode and order, and crashes."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from ctg_assets.extract import external_sort
from ctg_assets.extract.extractions import ExtractionMode
from ctg_assets.history import diff_writer
from ctg_assets.history.entries import StudyChangeKind
from ctg_assets.history.extraction_diff import MissingReason
from ctg_assets.history.recording import Disappearance, IncompleteExtractionError
from ctg_assets.history.schemas import CHANGES_SCHEMA
from ctg_assets.storage.files import Storage
from ctg_assets_tests.history.histories import Chronicler, Row, hash_of, on
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.made_lakes import kill_at_signal, memory_storage, study

ONE, TWO, THREE = "NCT00000001", "NCT00000002", "NCT00000003"
A, B, C = (study(ONE, title=title) for title in "abc")
OTHER = study(TWO)

_WHAT = ("nct_id", "kind", "old_version_number", "new_version_number")


@pytest.fixture
def lake(storage: Storage, tmp_path: Path) -> Chronicler:
    """An empty lake."""
    return Chronicler(storage, tmp_path / "scratch")


# --- one walk after the other ---------------------------------------------------------------------


def test_a_first_walk_inserts_all(lake: Chronicler) -> None:
    """Each study is inserted with its first version, which is current from the data version on."""
    entry = lake.record(1, OTHER, A, source="the registry", query="asthma")
    assert lake.changes(entry, "change_seq", *_WHAT, "new_content_hash", "observed_at") == [
        (1, ONE, "insert", None, 1, hash_of(A), on(1)),
        (2, TWO, "insert", None, 1, hash_of(OTHER), on(1)),
    ]
    columns = ("nct_id", "version_number", "content_hash", "valid_from", "valid_to", "json_bytes")
    assert lake.periods(*columns) == [
        (ONE, 1, hash_of(A), on(1), None, len(A)),
        (TWO, 1, hash_of(OTHER), on(1), None, len(OTHER)),
    ]
    assert (entry.sequence, entry.revision, entry.studies, entry.complete) == (1, 1, 2, True)
    assert (entry.source, entry.query, entry.mode) == (
        "the registry",
        "asthma",
        ExtractionMode.FULL,
    )
    assert (entry.changes, entry.silent, entry.stale) == ({"insert": 2}, 0, 0)
    assert (entry.first_change_seq, entry.next_change_seq) == (1, 3)
    assert entry.observed_at == on(1) < entry.recorded_at
    assert lake.history.touched(1).to_list() == [ONE, TWO]


def test_a_walk_that_finds_nothing_new(lake: Chronicler) -> None:
    """Then only the time of the last observation moves, and the revision stays."""
    lake.record(1, A)
    entry = lake.record(4, A)
    assert (entry.changes, entry.next_change_seq, entry.revision) == ({}, 2, 1)
    assert lake.periods("valid_from", "last_observed_at", "contents_entry") == [(on(1), on(4), 1)]
    assert lake.history.changes(2).is_empty()
    assert lake.history.touched(2).is_empty()


@pytest.mark.parametrize(
    ("before", "after", "is_silent"),
    [
        ("2026-01-01", "2026-01-02", False),
        ("2026-01-01", "2026-01-01", True),
        (None, None, True),
        ("2026-01-01", None, False),
        (None, "2026-01-01", False),
    ],
)
def test_an_update_is_silent_when_the_date_stays(
    lake: Chronicler, before: str | None, after: str | None, is_silent: bool
) -> None:
    """The content decides that a study was updated, the last update date whether it was said."""
    old, new = study(ONE, before, "old"), study(ONE, after, "new")
    lake.record(1, old, OTHER)
    entry = lake.record(2, new, OTHER)
    assert lake.changes(entry, *_WHAT, "is_silent") == [(ONE, "update", 1, 2, is_silent)]
    assert entry.silent == is_silent
    columns = ("content_hash", "valid_from", "valid_to", "ended_by", "last_observed_at")
    assert lake.periods(*columns)[:2] == [
        (hash_of(old), on(1), on(2), "update", on(1)),
        (hash_of(new), on(2), None, None, on(2)),
    ]
    assert lake.history.touched(2).to_list() == [ONE]


def test_the_day_of_the_registry_is_no_update(lake: Chronicler) -> None:
    """What moves on every study every day changes nothing."""
    days = [study(ONE, derivedSection={"miscInfoModule": {"versionHolder": f"d{n}"}}) for n in "12"]
    lake.record(1, days[0])
    assert lake.record(2, days[1]).changes == {}


def test_an_update_tells_fields_and_what_they_mean(lake: Chronicler) -> None:
    """The fields that differ are numbered within the change, and so are the events in them."""

    def with_status(status: str, title: str) -> bytes:
        content = json.loads(study(ONE, title=title))
        content["protocolSection"]["statusModule"]["overallStatus"] = status
        return json.dumps(content).encode()

    lake.record(1, with_status("RECRUITING", "a"), OTHER)
    entry = lake.record(2, with_status("TERMINATED", "b"), study(TWO, title="x"))
    assert lake.changes(entry, "change_seq", "nct_id", "fields_changed") == [
        (3, ONE, 2),
        (4, TWO, 1),
    ]
    fields = lake.history.field_changes(entry.sequence)
    columns = ("change_seq", "position", "nct_id", "path", "old_value", "new_value")
    title, status = (
        f"protocolSection.{name}"
        for name in ("identificationModule.briefTitle", "statusModule.overallStatus")
    )
    assert fields.select(columns).rows() == [
        (3, 1, ONE, title, '"a"', '"b"'),
        (3, 2, ONE, status, '"RECRUITING"', '"TERMINATED"'),
        (4, 1, TWO, title, '"A study"', '"x"'),
    ]
    events = lake.history.typed_events(entry.sequence)
    assert events.select("change_seq", "position", "nct_id").rows() == [
        (3, position, ONE) for position in range(1, events.height + 1)
    ]
    assert events.height > 0


def test_many_updates_are_compared_in_portions(
    lake: Chronicler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few contents are read and rows written at a time, each change has its own fields."""
    monkeypatch.setattr(diff_writer, "SCATTERED_AT_A_TIME", 2)
    monkeypatch.setattr(diff_writer, "_ROWS_AT_A_TIME", 2)
    ids = [f"NCT0000002{digit}" for digit in range(5)]
    lake.record(1, *(study(nct_id, title="old") for nct_id in ids))
    entry = lake.record(2, *(study(nct_id, title=f"new {nct_id}") for nct_id in ids))
    fields = lake.history.field_changes(entry.sequence)
    assert fields.select("change_seq", "nct_id", "new_value").rows() == [
        (6 + place, nct_id, f'"new {nct_id}"') for place, nct_id in enumerate(ids)
    ]


def test_a_study_that_comes_back(lake: Chronicler) -> None:
    """Gone, it is removed; back, it is restored; a content that comes back keeps its number."""
    for day, studies in enumerate([[A, OTHER], [OTHER], [A, OTHER], [OTHER], [B, OTHER]], start=1):
        lake.record(day, *studies)
    changes = lake.all_changes().filter(pl.col("nct_id") == ONE).select(*_WHAT[1:], "is_silent")
    assert changes.rows() == [
        ("insert", None, 1, False),
        ("delete", 1, None, False),
        ("restore", 1, 1, False),
        ("delete", 1, None, False),
        ("restore", 1, 2, False),
    ]
    assert lake.periods("nct_id", "version_number", "valid_from", "valid_to", "ended_by")[:3] == [
        (ONE, 1, on(1), on(2), "delete"),
        (ONE, 1, on(3), on(4), "delete"),
        (ONE, 2, on(5), None, None),
    ]
    contents = lake.history.contents(
        lake.history.periods().select("nct_id", "content_hash", "contents_entry").unique(), 9
    )
    assert sum(rows.num_rows for rows in contents) == 3


def test_a_content_that_comes_back_by_an_update(lake: Chronicler) -> None:
    """It has its old number and lies where it was first written."""
    for day, content in enumerate([A, B, A], start=1):
        lake.record(day, content)
    columns = ("version_number", "valid_from", "contents_entry", "extraction_id")
    assert lake.periods(*columns) == [
        (1, on(1), 1, "0001"),
        (2, on(2), 2, "0002"),
        (1, on(3), 1, "0001"),
    ]


def test_a_study_seen_twice_in_a_walk(lake: Chronicler) -> None:
    """It counts once, with the content updated last."""
    newer = study(ONE, "2026-02-02", "newer")
    entry = lake.record(1, newer, A, OTHER, OTHER, expected_studies=4)
    assert lake.current() == {ONE: hash_of(newer), TWO: hash_of(OTHER)}
    assert entry.duplicate_rows == 2


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([None, "2026-02-01", "2026-02-02"]), st.integers(0, 3)),
        min_size=1,
        max_size=6,
    ),
    st.sampled_from([None, "2026-02-01", "2026-02-02"]),
)
def test_every_content_of_a_study_in_a_file(
    contents: list[tuple[str | None, int]],
    known: str | None,
) -> None:
    """Any number of contents, equal ones too, on any dates, the same one too, before or after what is known.

    The history has each of them, the one updated last or else the last in the file is current, a file
    brought in again changes nothing, and what else is in the file is not touched.
    """
    with tempfile.TemporaryDirectory() as scratch:
        _bring_in_several(Chronicler(memory_storage(), Path(scratch)), contents, known)


def _bring_in_several(
    lake: Chronicler, contents: list[tuple[str | None, int]], known: str | None
) -> None:
    lake.record(1, study(ONE, known, "known"), OTHER)
    sent = [study(ONE, date, f"title {number}") for date, number in contents]
    lake.record(2, *sent, OTHER, mode=ExtractionMode.IMPORT)
    newest = max(enumerate(contents), key=lambda each: (each[1][0] or "", each[0]))[0]
    expected = {ONE: hash_of(sent[newest]), TWO: hash_of(OTHER)}
    assert lake.current() == lake.current(on(2)) == expected
    kept = {row[1] for row in lake.periods("nct_id", "content_hash") if row[0] == ONE}
    assert kept == {hash_of(each) for each in [study(ONE, known, "known"), *sent]}
    again = lake.record(3, *sent, OTHER, mode=ExtractionMode.IMPORT)
    assert again.changes == {}
    assert lake.current() == expected


# --- studies that are gone ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        (None, ("delete", None)),
        (MissingReason(StudyChangeKind.DELETE), ("delete", None)),
        (MissingReason(StudyChangeKind.MERGE, THREE), ("merge", THREE)),
        (MissingReason(StudyChangeKind.LEAVE_SCOPE), ("leave_scope", None)),
    ],
)
def test_what_became_of_a_study(
    lake: Chronicler, reason: MissingReason | None, told: tuple[str, str | None]
) -> None:
    """Whoever can tell is asked, for all that are missing at once; what he does not know was removed."""
    asked: list[Sequence[str]] = []

    def explain(nct_ids: Sequence[str]) -> Mapping[str, MissingReason]:
        asked.append(nct_ids)
        return {} if reason is None else {ONE: reason}

    lake.record(1, A, OTHER, study(THREE), explain=explain)
    assert asked == []
    entry = lake.record(2, study(THREE), explain=explain)
    assert asked == [[ONE, TWO]]
    columns = ("nct_id", "kind", "merged_into", "old_content_hash", "new_content_hash")
    assert lake.changes(entry, *columns) == [
        (ONE, *told, hash_of(A), None),
        (TWO, "delete", None, hash_of(OTHER), None),
    ]
    assert lake.periods("ended_by", "valid_to", "last_observed_at")[0] == (told[0], on(2), on(1))
    assert lake.current() == {THREE: hash_of(study(THREE))}
    assert lake.history.touched(2).to_list() == [ONE, TWO]


def test_a_study_that_is_there_after_all(lake: Chronicler) -> None:
    """What the registry has, although a walk did not see it, is not gone."""
    lake.record(1, A, OTHER)
    entry = lake.record(2, OTHER, explain=lambda _: {ONE: MissingReason(None)})
    assert (entry.changes, entry.studies) == ({}, 2)


@pytest.mark.parametrize("changed", [{"query": "asthma"}, {"source": "another registry"}])
def test_another_scope_loses_nothing(lake: Chronicler, changed: dict[str, Any]) -> None:
    """Studies outside of the new one have left it; nobody is asked what became of them."""
    lake.record(1, A, OTHER)
    name = lake.extracted(2, OTHER, **changed)
    assert lake.recorder.disappearance(name) == Disappearance(2, 1, left_scope=True)
    entry = lake.recorder.record(name, explain=lambda _: pytest.fail("asked"))
    assert lake.changes(entry, "nct_id", "kind") == [(ONE, "leave_scope")]
    back = lake.record(3, A, OTHER)
    assert lake.changes(back, *_WHAT) == [(ONE, "restore", 1, 1)]


@pytest.mark.parametrize(
    "changes",
    [
        {"expected_studies": 2},
        {"mode": ExtractionMode.CENSUS, "expected_studies": 2},
        {"mode": ExtractionMode.INCREMENTAL},
        {"mode": ExtractionMode.PICKED},
        {"mode": ExtractionMode.IMPORT},
    ],
)
def test_who_has_not_seen_everything_removes_nothing(
    lake: Chronicler, changes: dict[str, Any]
) -> None:
    """A walk whose count does not agree, and whatever looks at a part, leaves what it did not see."""
    lake.record(1, A, OTHER)
    name = lake.extracted(2, OTHER, **changes)
    assert lake.recorder.disappearance(name) is None
    entry = lake.recorder.record(name, explain=lambda _: pytest.fail("asked"))
    assert (entry.complete, entry.changes, entry.studies) == (False, {}, 2)


def test_what_is_gone_is_known_beforehand(lake: Chronicler) -> None:
    """Before anything is recorded, one can ask how much a walk would remove."""
    lake.record(1, A, OTHER)
    lake.record(2, A, OTHER, study(THREE))
    name = lake.extracted(3, B, study("NCT00000009"))
    assert lake.recorder.disappearance(name) == Disappearance(3, 2, left_scope=False)
    assert lake.history.entry_of(name) is None
    assert lake.recorder.record(name).changes == {
        "delete": 2,
        "insert": 1,
        "update": 1,
    }


def test_an_import_of_a_later_time_is_not_undone_by_a_walk(lake: Chronicler) -> None:
    """What was seen after the data version that is walked was there then; the next walk decides."""
    lake.record(1, OTHER)
    lake.record(5, A, mode=ExtractionMode.IMPORT)
    name = lake.extracted(3, OTHER)
    assert lake.recorder.disappearance(name) == Disappearance(2, 0, left_scope=False)
    assert lake.recorder.record(name).changes == {}
    assert lake.changes(lake.record(6, OTHER), "nct_id", "kind") == [(ONE, "delete")]


# --- modes ----------------------------------------------------------------------------------------


def test_a_census_tells_whom_to_fetch(lake: Chronicler) -> None:
    """Those who are new or have another date; who is not in it is gone, and no content is taken."""
    lake.record(1, A, OTHER, study(THREE), b"{}")

    def counted(nct_id: str, posted: str | None) -> bytes:
        return study(nct_id, posted, title=None)

    entry = lake.record(
        2,
        counted(ONE, "2026-01-01"),
        counted(TWO, "2026-01-02"),
        counted("NCT00000004", None),
        counted("NCT00000005", "2026-01-01"),
        mode=ExtractionMode.CENSUS,
    )
    assert lake.history.stale_ids(2) == [TWO, "NCT00000004", "NCT00000005"]
    assert (entry.stale, entry.complete) == (3, True)
    assert lake.changes(entry, "nct_id", "kind") == [(THREE, "delete")]
    # What has no NCT id is not seen by a census.
    assert list(lake.current()) == [f"?{hash_of(b'{}')[:16]}", ONE, TWO]
    assert set(lake.history.periods()["contents_entry"]) == {1}
    assert not lake.storage.names("history/000002").count("contents.parquet")


def test_a_census_that_finds_everything_known(lake: Chronicler) -> None:
    """Then nobody is wanted and nothing changes."""
    nameless = study(TWO, None)
    lake.record(1, A, nameless)
    entry = lake.record(2, A, nameless, mode=ExtractionMode.CENSUS)
    assert (entry.stale, entry.changes, entry.revision) == (0, {}, 1)


def test_walks_of_one_data_version_follow_each_other(lake: Chronicler) -> None:
    """The second one counts a millisecond later; so does one of a registry whose clock went back."""
    assert lake.record(3, A).observed_at == on(3)
    assert lake.record(3, B, mode=ExtractionMode.INCREMENTAL).observed_at == on(3, 1)
    assert lake.record(3, B, mode=ExtractionMode.CENSUS).observed_at == on(3, 2)
    assert lake.record(1, C, mode=ExtractionMode.PICKED).observed_at == on(3, 3)
    assert lake.record(4, C).observed_at == on(4)
    assert lake.periods("content_hash", "valid_from", "valid_to") == [
        (hash_of(A), on(3), on(3, 1)),
        (hash_of(B), on(3, 1), on(3, 3)),
        (hash_of(C), on(3, 3), None),
    ]


def test_a_first_walk_of_a_part_after_a_file_of_everything(lake: Chronicler) -> None:
    """What a file brought in and the query does not match has left the scope; it did not disappear."""
    lake.record(1, A, OTHER, mode=ExtractionMode.IMPORT)
    extraction_id = lake.extracted(2, OTHER, query="asthma")
    found = lake.recorder.disappearance(extraction_id)
    assert found is not None
    assert (found.gone, found.left_scope) == (1, True)
    entry = lake.recorder.record(extraction_id)
    assert lake.changes(entry, "nct_id", "kind") == [(ONE, "leave_scope")]


# --- older contents -------------------------------------------------------------------------------


def _imported(lake: Chronicler, day: int, *studies: bytes, **changes: Any) -> Any:
    return lake.record(day, *studies, mode=ExtractionMode.IMPORT, **changes)


def test_an_older_content_lies_before_the_newer(lake: Chronicler) -> None:
    """It is the first version then, and those known before are numbered after it."""
    lake.record(5, B)
    lake.record(9, C)
    entry = _imported(lake, 2, A)
    assert lake.periods("version_number", "content_hash", "valid_from", "valid_to") == [
        (1, hash_of(A), on(2), on(5)),
        (2, hash_of(B), on(5), on(9)),
        (3, hash_of(C), on(9), None),
    ]
    columns = ("change_seq", "kind", "observed_at", "old_content_hash", "is_backfill")
    assert lake.changes(entry, *columns) == [
        (3, "insert", on(2), None, True),
        (4, "update", on(5), hash_of(A), True),
    ]
    assert lake.changes(entry, "fields_changed") == [(0,), (1,)]


def test_a_content_between_observations_of_another(lake: Chronicler) -> None:
    """What was seen before and afterwards stays current, however late the other one comes in."""
    for day in (1, 5, 9):
        lake.record(day, A)
    entry = _imported(lake, 3, B)
    assert lake.periods("version_number", "content_hash", "valid_from", "valid_to") == [
        (1, hash_of(A), on(1), on(3)),
        (2, hash_of(B), on(3), on(5)),
        (1, hash_of(A), on(5), None),
    ]
    assert lake.changes(entry, "kind", "observed_at", "is_backfill") == [
        ("update", on(3), True),
        ("update", on(5), True),
    ]


def test_studies_dated_by_themselves(lake: Chronicler) -> None:
    """Each content counts from its own last update date, and a file may hold several of a study."""
    lake.record(9, study(ONE, "2026-11-08", "current"))
    older = [study(ONE, day, title=f"of {day}") for day in ("2026-10-03", "2026-10-01")]
    undated = study(TWO, None)
    entry = _imported(lake, 5, *older, undated, dated_by_studies=True)
    days = [datetime(2026, 10, day, tzinfo=on(1).tzinfo) for day in (1, 3)]
    assert lake.periods("nct_id", "version_number", "valid_from", "last_update_post_date") == [
        (ONE, 1, days[0], date(2026, 10, 1)),
        (ONE, 2, days[1], date(2026, 10, 3)),
        (ONE, 3, on(9), date(2026, 11, 8)),
        (TWO, 1, on(5), None),
    ]
    assert entry.changes == {"delete": 1, "insert": 2, "update": 2}
    assert lake.current() == {ONE: hash_of(study(ONE, "2026-11-08", "current"))}


@pytest.mark.parametrize(("query", "kind"), [("", "delete"), ("asthma", "leave_scope")])
def test_an_older_study_that_a_later_walk_did_not_see(
    lake: Chronicler, query: str, kind: str
) -> None:
    """It was there until the first walk without it: old files bring nothing back to the present."""
    for day in (2, 5, 9):
        lake.record(day, OTHER, query=query)
    entry = _imported(lake, 3, A, OTHER)
    assert lake.current() == {TWO: hash_of(OTHER)}
    assert lake.periods("nct_id", "valid_from", "valid_to", "ended_by") == [
        (ONE, on(3), on(5), kind),
        (TWO, on(2), None, None),
    ]
    assert lake.changes(entry, *_WHAT, "observed_at", "is_backfill") == [
        (ONE, "insert", None, 1, on(3), True),
        (ONE, kind, 1, None, on(5), True),
    ]
    assert lake.current(on(4)) == {ONE: hash_of(A), TWO: hash_of(OTHER)}


def test_an_older_study_that_was_gone_and_came_back(lake: Chronicler) -> None:
    """Between two walks without it, an import saw it: it was there until the second one."""
    for day, studies in ((1, [A, OTHER]), (3, [OTHER]), (7, [OTHER]), (9, [B, OTHER])):
        lake.record(day, *studies)
    entry = _imported(lake, 5, C)
    assert lake.periods("content_hash", "valid_from", "valid_to", "ended_by")[:3] == [
        (hash_of(A), on(1), on(3), "delete"),
        (hash_of(C), on(5), on(7), "delete"),
        (hash_of(B), on(9), None, None),
    ]
    assert lake.changes(entry, "kind", "observed_at") == [
        ("restore", on(5)),
        ("delete", on(7)),
        ("restore", on(9)),
    ]


def test_a_census_tells_that_older_studies_are_gone(lake: Chronicler) -> None:
    """But of what has no NCT id it tells nothing."""
    lake.record(1, OTHER)
    lake.record(5, OTHER, mode=ExtractionMode.CENSUS)
    _imported(lake, 3, A, b"{}")
    assert set(lake.current()) == {TWO, f"?{hash_of(b'{}')[:16]}"}


def test_an_import_of_what_is_current_then_and_now(lake: Chronicler) -> None:
    """It is no change, and the time of the last observation does not go back."""
    lake.record(1, A)
    lake.record(9, A)
    assert _imported(lake, 5, A).changes == {}
    assert lake.periods("valid_from", "last_observed_at") == [(on(1), on(9))]


def test_a_past_observation_is_seen_by_readers(lake: Chronicler) -> None:
    """That a former content was seen later than was known changes its study's row."""
    lake.record(1, A)
    lake.record(9, B)
    entry = _imported(lake, 5, A)
    assert lake.periods("last_observed_at")[0] == (on(5),)
    assert (entry.changes, entry.revision) == ({}, 3)
    assert lake.history.touched(3).to_list() == [ONE]


# --- whatever studies hold ------------------------------------------------------------------------


def test_contents_are_as_sent(lake: Chronicler) -> None:
    """Byte for byte, also of studies without an NCT id and of those that cannot be typed."""
    studies = [
        b'{ "protocolSection" : {"identificationModule":{"nctId":"NCT00000001"}},"x":1.50 }',
        study(TWO, hasResults=[]),
        b'{"broken":',
        b"\xff",
        b"[]",
        study("ISRCTN1", title="\u00e9"),
    ]
    lake.record(1, *studies)
    wanted = lake.history.periods().select("nct_id", "content_hash", "contents_entry")
    found = [raw for rows in lake.history.contents(wanted, 4) for raw in rows["study"].to_pylist()]
    assert sorted(found) == sorted(studies)
    assert all(
        nct_id in (ONE, TWO) or nct_id == f"?{content_hash[:16]}"
        for nct_id, content_hash, _ in wanted.rows()
    )


def test_unidentified_studies_are_known_by_content(lake: Chronicler) -> None:
    """Another content is another study: the one is gone and the other is new."""
    lake.record(1, b'{"a":1}', A)
    assert lake.record(2, b'{"a":2}', A).changes == {"delete": 1, "insert": 1}
    assert lake.record(3, b'{ "a" : 2 }', A).changes == {}


# --- once and for all -----------------------------------------------------------------------------


def test_an_extraction_is_recorded_once(lake: Chronicler) -> None:
    """Recorded again, it is returned as it was, also after others."""
    first = lake.record(1, A)
    lake.record(2, B)
    assert lake.recorder.record("0001") == first
    assert [entry.sequence for entry in lake.history.entries()] == [1, 2]


def test_an_incomplete_extraction_is_not_recorded(lake: Chronicler) -> None:
    """Neither is it checked_records what it would remove."""
    name = lake.extracted(1, A, complete=False)
    for ask in (
        lake.recorder.record,
        lake.recorder.disappearance,
    ):
        with pytest.raises(IncompleteExtractionError, match="has 1 of 1 pages"):
            ask(name)
    assert lake.history.latest() is None


def test_when_nobody_can_tell_nothing_is_recorded(lake: Chronicler) -> None:
    """A failure on the way is raised as it is; afterwards the same extraction can be recorded."""
    lake.record(1, A, OTHER)

    def explain(nct_ids: Sequence[str]) -> Mapping[str, MissingReason]:
        message = f"cannot ask for {nct_ids}"
        raise ConnectionError(message)

    name = lake.extracted(2, B)
    with pytest.raises(ConnectionError, match=TWO):
        lake.recorder.record(name, explain=explain)
    assert [entry.sequence for entry in lake.history.entries()] == [1]
    assert set(lake.current()) == {ONE, TWO}
    assert lake.recorder.record(name).changes == {"delete": 1, "update": 1}


def test_progress_counts_up_to_all(lake: Chronicler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The contents written are told as they are written; what is known is not written again."""
    monkeypatch.setattr(external_sort, "_ROWS_AT_A_TIME", 2)
    studies = [study(f"NCT0000002{digit}") for digit in range(5)]
    lake.record(1, *studies[:2])
    told: list[tuple[int, int]] = []
    lake.recorder.record(lake.extracted(2, *studies), progress=lambda *done: told.append(done))
    assert told == [(2, 3), (3, 3)]


KILLED_RECORDING = """
import sys
from pathlib import Path
from ctg_assets.extract import external_sort
from ctg_assets.history.recording import Recorder
from ctg_assets.storage.files import Storage

external_sort._PORTION_JSON_BYTES = 300
external_sort._ROWS_AT_A_TIME = 1

def wait():
    print("ready", flush=True)
    sys.stdin.read()

def progress(done, total):
    if sys.argv[4] == "contents" and done == total // 2:
        wait()

def explain(nct_ids):
    if sys.argv[4] == "reasons":
        wait()
    return {}

def killed_commit(self, entry):
    wait()

recorder = Recorder(Storage.local(Path(sys.argv[1])), Path(sys.argv[2]))
if sys.argv[4] == "commit":
    type(recorder._history).commit = killed_commit
recorder.record(sys.argv[3], explain=explain, progress=progress)
"""


@pytest.mark.process
@pytest.mark.parametrize("place", ["contents", "reasons", "commit"])
def test_a_killed_recording_leaves_no_entry(tmp_path: Path, place: str) -> None:
    """After kill -9 the history is as before; the next run succeeds and clears away what was left."""
    folder, scratch = tmp_path / "läke", tmp_path / "scratch"
    lake = Chronicler(Storage.local(folder), scratch)
    before = [study(f"NCT0000002{digit}") for digit in range(9)]
    after = [study(f"NCT0000002{digit}", title="new") for digit in range(8)]
    first = lake.record(1, *before)
    known = lake.history.periods()
    name = lake.extracted(2, *after)
    kill_at_signal(KILLED_RECORDING, str(folder), str(scratch), name, place)
    assert lake.history.entries() == [first]
    assert lake.history.periods().equals(known)
    left = [*scratch.iterdir(), *(folder / "history" / "000002").iterdir()]
    assert left, "something should be left"

    entry = lake.recorder.record(name)
    assert (entry.sequence, entry.changes) == (2, {"delete": 1, "update": 8})
    assert list(scratch.iterdir()) == []
    assert sorted(file.name for file in (folder / "history" / "000002").iterdir()) == [
        "changes.parquet",
        "contents.parquet",
        "entry.json",
        "fates.parquet",
        "field_changes.parquet",
        "periods.parquet",
        "plan.json",
        "seen.parquet",
        "touched.parquet",
        "touched_periods.parquet",
        "typed_events.parquet",
    ]
    assert lake.history.field_changes(2).height == 8


# --- any sequence ---------------------------------------------------------------------------------

_IDS = [ONE, TWO, THREE, None]
_contents = st.dictionaries(st.sampled_from(_IDS), st.sampled_from("abc"), max_size=4)
_extractions = st.lists(
    st.tuples(
        st.integers(1, 12),
        st.sampled_from(
            [
                ExtractionMode.FULL,
                ExtractionMode.FULL,
                ExtractionMode.CENSUS,
                ExtractionMode.INCREMENTAL,
                ExtractionMode.IMPORT,
            ]
        ),
        _contents,
    ),
    min_size=1,
    max_size=7,
)


def _studies(contents: Mapping[str | None, str]) -> list[bytes]:
    return [study(nct_id, f"2026-01-0{'abc'.index(t) + 1}", t) for nct_id, t in contents.items()]


def _key(raw: bytes) -> str:
    nct_id = json.loads(raw)["protocolSection"]["identificationModule"]["nctId"]
    return nct_id or f"?{hash_of(raw)[:16]}"


_dated = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from([ONE, TWO]), st.sampled_from(["", *"1357"]), st.sampled_from("ab")
        ),
        max_size=5,
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.soak
@settings(max_examples=times(8, 30), deadline=None)
@given(_extractions, _dated)
def test_the_index_is_derived_through_dated_imports(
    extractions: list[tuple[int, ExtractionMode, dict[str | None, str]]],
    imports: list[list[tuple[str, str, str]]],
) -> None:
    """Files with several contents of a study, each on its own day, between walks of any kind.

    Drawn: up to seven extractions of every mode, and up to three such files, one after every second.
    """
    with tempfile.TemporaryDirectory() as scratch:
        lake = Chronicler(memory_storage(), Path(scratch))
        indexes: dict[int, pl.DataFrame] = {}
        for place, (day, mode, contents) in enumerate(extractions):
            entry = lake.record(day, *_studies(contents), mode=mode)
            indexes[entry.sequence] = lake.history.periods()
            if place % 2 == 0 and place // 2 < len(imports):
                studies = [
                    study(nct_id, f"2026-11-0{posted}" if posted else None, title)
                    for nct_id, posted, title in imports[place // 2]
                ]
                entry = lake.record(4, *studies, mode=ExtractionMode.IMPORT, dated_by_studies=True)
                indexes[entry.sequence] = lake.history.periods()
        for sequence in indexes:
            lake.storage.delete_file(f"history/{sequence:06d}/periods.parquet")
        for sequence, index in indexes.items():
            assert_frame_equal(lake.history.derived_periods(sequence), index)


@pytest.mark.soak
@settings(max_examples=times(15, 60), deadline=None)
@given(_extractions)
@example(
    [
        (2, ExtractionMode.FULL, {}),
        (1, ExtractionMode.IMPORT, {"NCT00000001": "a"}),
        (2, ExtractionMode.IMPORT, {"NCT00000001": "b"}),
    ]
)
@example(
    [
        (1, ExtractionMode.FULL, {"NCT00000001": "a"}),
        (3, ExtractionMode.IMPORT, {"NCT00000001": "a"}),
        (2, ExtractionMode.IMPORT, {"NCT00000001": "a"}),
        (1, ExtractionMode.FULL, {"NCT00000001": "b"}),
    ]
)
@example(
    [
        (1, ExtractionMode.FULL, {"NCT00000001": "a"}),
        (3, ExtractionMode.INCREMENTAL, {"NCT00000001": "a"}),
        (4, ExtractionMode.FULL, {"NCT00000001": "a"}),
        (2, ExtractionMode.IMPORT, {"NCT00000001": "b"}),
    ]
)
def test_any_sequence_of_extractions(
    extractions: list[tuple[int, ExtractionMode, dict[str | None, str]]],
) -> None:
    """At each time observed, studies are as they were seen then, whatever came in later.

    Entries go on with the numbers of changes, changes lead from content to content, and versions are
    numbered in time. The index after each entry can be derived from what entries keep.
    """
    with tempfile.TemporaryDirectory() as scratch:
        lake = Chronicler(memory_storage(), Path(scratch))
        seen = []
        indexes = []
        for day, mode, contents in extractions:
            studies = _studies(contents)
            entry = lake.record(day, *studies, mode=mode)
            seen.append((entry, {_key(raw): hash_of(raw) for raw in studies}))
            indexes.append(lake.history.periods())
            if mode is ExtractionMode.CENSUS:
                known = lake.history.periods().filter(pl.col("valid_to").is_null())
                dates = dict(known.select("nct_id", "last_update_post_date").iter_rows())
                expected = {
                    _key(raw)
                    for raw in studies
                    if not _key(raw).startswith("?")
                    and str(dates.get(_key(raw)))
                    != json.loads(raw)["protocolSection"]["statusModule"][
                        "lastUpdatePostDateStruct"
                    ]["date"]
                }
                assert set(lake.history.stale_ids(entry.sequence)) == expected

    times = [entry.observed_at for entry, _ in seen if entry.mode is not ExtractionMode.IMPORT]
    assert times == sorted(set(times))
    _check_observations(lake, seen)
    _check_changes(lake)
    _check_periods(lake)
    for entry, _ in seen:
        lake.storage.delete_file(f"history/{entry.sequence:06d}/periods.parquet")
    for (entry, _), index in zip(seen, indexes, strict=True):
        assert_frame_equal(lake.history.derived_periods(entry.sequence), index)
    assert_frame_equal(lake.history.periods(), indexes[-1])


def _check_observations(lake: Chronicler, seen: list[tuple[Any, dict[str, str]]]) -> None:
    taken = {entry.observed_at: 0 for entry, _ in seen}
    for entry, _ in seen:
        taken[entry.observed_at] += 1
    for place, (entry, contents) in enumerate(seen):
        # Contents that several imports saw at one time are put one after the other.
        if taken[entry.observed_at] > 1:
            continue
        # What an import had seen of a later time stays until a walk of a later time misses it.
        ahead = {
            key
            for other, found in seen[:place]
            if other.observed_at > entry.observed_at
            for key in found
        }
        then = {
            key: found
            for key, found in lake.current(entry.observed_at).items()
            if key in contents or key not in ahead
        }
        if entry.mode is ExtractionMode.CENSUS:
            assert {i for i in then if i[0] != "?"} <= set(contents)
        elif entry.mode is ExtractionMode.FULL:
            assert then == contents
        else:
            assert then.items() >= contents.items()


def _check_changes(lake: Chronicler) -> None:
    entries = lake.history.entries()
    following = 1
    for entry in entries:
        numbers = lake.history.changes(entry.sequence)["change_seq"].to_list()
        assert numbers == list(range(entry.first_change_seq, entry.next_change_seq))
        assert entry.first_change_seq == following
        following = entry.next_change_seq
        assert sum(entry.changes.values()) == len(numbers)
    changes = lake.all_changes()
    assert changes.columns == CHANGES_SCHEMA.names
    columns = ("nct_id", "observed_at", "old_content_hash", "new_content_hash")
    told = set(changes.select(columns).iter_rows())
    of_study: dict[str, list[Row]] = {}
    for nct_id, *period in lake.periods("nct_id", "content_hash", "valid_from", "valid_to"):
        of_study.setdefault(nct_id, []).append(tuple(period))
    for nct_id, periods in of_study.items():
        first = periods[0]
        # That a study's first content was there earlier than it was first seen is no change.
        assert any(row[0] == nct_id and row[2:] == (None, first[0]) for row in told)
        for (old, _, end), (new, start, _) in itertools.pairwise(periods):
            assert (nct_id, start, old, new) in told
            assert end == start or (nct_id, end, old, None) in told
        *_, (last, _, end) = periods
        assert end is None or (nct_id, end, last, None) in told


def _check_periods(lake: Chronicler) -> None:
    imported = {
        entry.observed_at for entry in lake.history.entries() if entry.mode is ExtractionMode.IMPORT
    }
    for _, of_study in lake.history.periods().group_by("nct_id", maintain_order=True):
        rows = of_study.select("valid_from", "valid_to", "ended_by").rows()
        for (start, end, by), (after, _, _) in itertools.pairwise(rows):
            assert start < end <= after
            if by == "update":
                assert end == after
            elif end == after:
                # A walk missed the study and a file of the very same time has it: it went and came back.
                assert end in imported
        assert (rows[-1][1] is None) == (rows[-1][2] is None)
        numbered = of_study.group_by("content_hash").agg(
            pl.col("valid_from").min(), pl.col("version_number").unique()
        )
        in_time = numbered.sort("valid_from")["version_number"].to_list()
        assert in_time == [[number] for number in range(1, len(in_time) + 1)]
