"""ClickHouse as a sink of the feed: the tables are those of a load, whatever happened on the way (5 s of CPU; all tables, and ways back, in soaks)."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ctg_assets.clickhouse import BusyError, followed_tables
from ctg_assets.feed.service import (
    give_up_dead_letters,
    replay_dead_letters,
    replay_from,
    sink_statuses,
)
from ctg_assets.lake import Lake
from ctg_assets.load.clickhouse import following
from ctg_assets.load.row_source_protocol import MadeBy, RowSource
from ctg_assets.load.study_rows import FlattenedStudies
from ctg_assets.refresh.undo import undoer
from ctg_assets.snapshot.store import SnapshotManifest
from ctg_assets_tests.clickhouse.following import Engine, FollowedLake
from ctg_assets_tests.history.undone import AUTHOR
from ctg_assets_tests.release.released import few_studies
from ctg_assets_tests.soak import SHARE, only_in_soaks
from ctg_assets_tests.support.few_tables import chosen_sources

pytestmark = pytest.mark.process

LATER = {"n3": "Another Title", "n7": "", "n24": "New"}


def test_tables_follow_changes(engine: Engine, tmp_path: Path) -> None:
    """First load, changes and deletions, in soaks the same again and an undo: each time what a load of everything has.

    While the history is ahead of the snapshots the position stays; and one at a time writes.
    """
    engine(_follow, tmp_path)


def _follow(folder: Path) -> None:
    lake = FollowedLake(folder)
    with lake.opened():
        _follow_in(lake)


def _follow_in(lake: FollowedLake) -> None:
    assert "no snapshot" in str(lake.deliver().problem)
    studies = few_studies(n24="")
    lake.walk(1, [_odd("\0 is U+0000", studies[0]), *studies[1:]])
    lake.walk(2, [_odd("U+0000 is \0", studies[0]), *studies[1:]])
    lake.delivered()
    assert _state(lake) == (40, 0, 0)
    assert lake.told, "who waits for a first load should hear of it"
    lake.told.clear()
    lake.walk(3, [_odd("\0", few_studies()[0]), *few_studies(**LATER)[1:]])
    lake.delivered()
    assert not lake.told
    # Changed, gone, new, and the odd one another: with rows that nobody sees any more.
    assert _state(lake) == (44, 4, 0)
    check_odd(lake)
    [counts] = lake.ask(
        "SELECT (SELECT count() FROM ctg_rows.studies) AS raw, count() AS n, uniqExact(nct_id) AS ids"
        " FROM ctg.studies"
    )
    assert (counts["n"], counts["ids"]) == (39, 39)
    assert counts["raw"] > 39
    if SHARE:
        _go_back_in(lake)
    position = _state(lake)[0]
    lake.walk(6, few_studies())
    newest = lake.lake.snapshots.latest()
    assert newest is not None
    lake.lake.storage.delete_file(f"snapshots/{newest.snapshot_id}/manifest.json")
    assert lake.deliver().problem is None
    [status] = sink_statuses(lake.feed, 0)
    assert status.state is not None
    assert status.behind is not None
    assert status.state.change_seq == position < position + status.behind

    def elsewhere() -> None:
        with followed_tables(lake.address, lake.lake):
            pass

    with (
        followed_tables(lake.address, lake.lake),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(BusyError, match="another process"),
    ):
        pool.submit(elsewhere).result()


def _odd(status: str, study: bytes) -> bytes:
    """A study with what Postgres takes otherwise, or ClickHouse's types are said not to hold.

    Statuses are the only text that the model hands on with U+0000, in `study_events`; and names of unknown fields.
    """
    content = msgspec.json.decode(study)
    module = content["protocolSection"]["statusModule"]
    module["overallStatus"] = status
    module["whyStopped"] = "\ufeff\u00a0\r\n\t\U0001f600 '\\0' \x01"
    module[f"unknown {status}"] = {"\0": ["\0", 1.5]}
    module["startDateStruct"] = {"date": "1850-02-03"}
    module["completionDateStruct"] = {"date": "9999-12-31"}
    module["studyFirstSubmitDate"] = "0001-01-01"
    return msgspec.json.encode(content)


def check_odd(lake: FollowedLake) -> None:
    """Check what is there of it: U+FFFD for U+0000, and all else as it was."""
    [shown] = lake.ask(
        "SELECT overall_status, why_stopped, start_date, completion_date, study_first_submitted_date"
        " FROM ctg.studies WHERE nct_id = 'NCT00100000'"
    )
    assert shown == {
        "overall_status": "\ufffd",
        "why_stopped": "\ufeff\u00a0\r\n\t\U0001f600 '\\0' \x01",
        "start_date": date(1850, 2, 3),
        "completion_date": date(9999, 12, 31),
        "study_first_submitted_date": date(1, 1, 1),
    }
    events = lake.ask("SELECT old_value, new_value FROM ctg.study_events ORDER BY change_seq")
    told = [(each["old_value"], each["new_value"]) for each in events if each["old_value"]]
    assert ("\ufffd is U+0000", "U+0000 is \ufffd") in told
    assert ("U+0000 is \ufffd", "\ufffd") in told


def _go_back_in(lake: FollowedLake) -> None:
    # Everything once more, in several batches.
    assert replay_from(lake.feed, "columns", 1) == 44
    lake.delivered()
    assert _state(lake) == (44, 48, 0)
    lake.walk(4, few_studies(**LATER, n5="Mistaken"))
    lake.delivered()
    undoer(lake.lake).undo(lake.lake.history.entries()[-1].sequence, AUTHOR)
    lake.delivered()
    lake.walk(5, few_studies(**LATER, n9="Later"))
    lake.delivered()


def _state(lake: FollowedLake) -> tuple[int, int, int]:
    """Position, events delivered and dead letters, as `feed status` has them while the engine is not open."""
    [status] = sink_statuses(lake.feed, 10)
    assert status.state is not None
    assert status.behind == 0
    return status.state.change_seq, status.state.delivered, status.state.dead_letters


def test_the_model_changes(engine: Engine, tmp_path: Path) -> None:
    """A table and a column that are new are there with their rows; a table that is no more is gone."""
    engine(_evolve, tmp_path)


class _OlderStudies(FlattenedStudies):
    """The flattened tables of a model that had no keywords, and of conditions no name."""

    def __init__(self) -> None:
        super().__init__()
        shapes = [shape for shape in chosen_sources()[0].shapes if shape.name != "keywords"]
        self.shapes = tuple(
            replace(shape, columns=tuple(each for each in shape.columns if each.name != "name"))
            if shape.name == "conditions"
            else replace(shape, name="old_designs")
            if shape.name == "designs"
            else shape
            for shape in shapes
        )

    def depends_on(self, manifest: MadeBy) -> Mapping[str, str]:
        found = super().depends_on(manifest)
        return {**found, "old_designs": found["designs"]}

    def batches(self, lake: Lake, manifest: SnapshotManifest, names: Any) -> Any:
        asked = [{"old_designs": "designs"}.get(name, name) for name in names]
        for batch in super().batches(lake, manifest, asked):
            told = dict(batch)
            told["old_designs"] = told.pop("designs")
            told["conditions"] = told["conditions"].drop_columns("name")
            yield told


def _evolve(folder: Path) -> None:
    lake = FollowedLake(folder)
    with lake.opened():
        _evolve_in(lake)


def _evolve_in(lake: FollowedLake) -> None:
    lake.walk(1, few_studies())
    sources: tuple[RowSource, ...] = (_OlderStudies(), *chosen_sources()[1:])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(following, "row_sources", lambda: sources)
        shapes = tuple(shape for source in sources for shape in source.shapes)
        patch.setattr(following, "staging_shapes", lambda: shapes)
        assert lake.deliver().problem is None
    names = {
        row["name"] for row in lake.ask("SELECT name FROM system.tables WHERE database = 'ctg'")
    }
    assert "old_designs" in names
    assert "keywords" not in names
    [before] = lake.ask(
        "SELECT sum(rows) AS n FROM system.parts WHERE database = 'ctg_rows' AND table = 'studies'"
    )
    lake.delivered()
    # Tables that are as they were are not loaded again.
    [after] = lake.ask(
        "SELECT sum(rows) AS n FROM system.parts WHERE database = 'ctg_rows' AND table = 'studies'"
    )
    assert before == after


@pytest.mark.soak
@only_in_soaks
def test_what_clickhouse_refuses_is_put_aside(engine: Engine, tmp_path: Path) -> None:
    """A study whose rows are not taken is a dead letter with the reason; others pass, and it comes when asked for."""
    engine(_refuse, tmp_path)


def _refuse(folder: Path) -> None:
    lake = FollowedLake(folder)
    with lake.opened():
        _refuse_in(lake)


def _refuse_in(lake: FollowedLake) -> None:
    lake.walk(1, few_studies())
    lake.delivered()
    with lake.opened() as server:
        server.do(
            "ALTER TABLE ctg_rows.conditions ADD CONSTRAINT no_third CHECK nct_id != 'NCT00300000'"
        )
    lake.walk(2, few_studies(**LATER, n30="Other"))
    assert lake.deliver().problem is None
    # Of 41 to 44 (3, 7, 24, 30) all but the first are there.
    assert _state(lake) == (44, 3, 1)
    [status] = sink_statuses(lake.feed, 10)
    [letter] = status.dead_letters
    assert (letter.change_seq, letter.nct_id, letter.attempts) == (41, "NCT00300000", 1)
    assert "no_third" in letter.reason
    assert lake.ask("SELECT count() AS n FROM ctg.studies WHERE brief_title = 'Other'") == [
        {"n": 1}
    ]
    with lake.opened() as server:
        server.do("ALTER TABLE ctg_rows.conditions DROP CONSTRAINT no_third")
    assert replay_dead_letters(lake.feed, "columns") == 1
    lake.delivered()
    assert _state(lake) == (44, 4, 0)
    assert give_up_dead_letters(lake.feed, "columns") == 0
