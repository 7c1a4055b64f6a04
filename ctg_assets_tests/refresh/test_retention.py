"""What is kept and what is thrown away."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ctg_assets.extract.extractions import ExtractionMode, ExtractionPlan, ExtractionState
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake
from ctg_assets.refresh.retention import prune
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.storage.files import Storage
from ctg_assets_tests.support.lakes import add_page, completed, json_of, planned


def _extracted(
    lake: Lake, settings: Settings, *, compacted: bool = True, title: str = "A Study"
) -> ExtractionPlan:
    plan = completed(lake, planned(lake, settings, studies=2), json_of(1, 2, title=title))
    if compacted:
        Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    return plan


def _given_up(lake: Lake, settings: Settings) -> ExtractionPlan:
    plan = planned(lake, settings)
    add_page(lake, plan, 1, json_of(1))
    lake.extractions.supersede(plan.extraction_id, "the data moved")
    return plan


def _killed_import(lake: Lake, settings: Settings) -> ExtractionPlan:
    plan = planned(lake, settings, mode=ExtractionMode.IMPORT)
    add_page(lake, plan, 1, json_of(1))
    return plan


def _ids(*plans: ExtractionPlan) -> list[str]:
    return [plan.extraction_id for plan in plans]


def _folders(lake: Lake, kind: str) -> list[str]:
    return sorted(path.name for path in (Path(lake.location) / kind).iterdir())


@pytest.mark.slow
def test_older_complete_extractions_go_with_their_snapshots(lake: Lake, settings: Settings) -> None:
    """The newest ones stay, as many as configured; nothing of the others stays on disk."""
    plans = [_extracted(lake, settings, title=f"Title {number}") for number in range(4)]
    assert prune(lake, keep_extractions=2) == _ids(*plans[:2])
    assert lake.extractions.plans() == plans[2:]
    assert _folders(lake, "extractions") == _ids(*plans[2:])
    assert _folders(lake, "snapshots") == _ids(*plans[2:])
    assert prune(lake, keep_extractions=2) == []
    assert prune(lake, keep_extractions=1) == _ids(plans[2])


def test_parts_that_newer_snapshots_consist_of_stay(lake: Lake, settings: Settings) -> None:
    """A snapshot goes, but what a kept one builds on does not, until that one goes too."""
    first, _, last = (_extracted(lake, settings) for _ in range(3))
    prune(lake, keep_extractions=1)
    assert [m.snapshot_id for m in lake.snapshots.manifests()] == _ids(last)
    assert _folders(lake, "snapshots") == sorted(_ids(first, last))
    assert sum(batch.num_rows for batch in lake.snapshots.batches(last.extraction_id)) == 2
    newest = _extracted(lake, settings, title="Another title")
    prune(lake, keep_extractions=1)
    assert _folders(lake, "snapshots") == _ids(newest)


def test_what_was_given_up_or_broken_off_goes(lake: Lake, settings: Settings) -> None:
    """Superseded extractions and imports without an end go, once something newer is complete."""
    given_up, killed = _given_up(lake, settings), _killed_import(lake, settings)
    newest = _extracted(lake, settings)
    assert prune(lake, keep_extractions=2) == _ids(given_up, killed)
    assert _folders(lake, "extractions") == _ids(newest)


def test_open_walks_and_an_import_under_way_stay(lake: Lake, settings: Settings) -> None:
    """A walk can always be resumed, and an import newer than everything may still be running."""
    walk = planned(lake, settings)
    add_page(lake, walk, 1, json_of(1))
    complete = _extracted(lake, settings)
    running = _killed_import(lake, settings)
    assert prune(lake, keep_extractions=1) == []
    assert lake.extractions.plans() == [walk, complete, running]


def test_what_is_not_in_the_history_stays(lake: Lake, settings: Settings) -> None:
    """Shards go only when their contents are in the history, and it has its snapshot."""
    assert prune(lake, keep_extractions=1) == []
    _extracted(lake, settings)
    _given_up(lake, settings)
    assert len(lake.extractions.plans()) == 2
    waiting = _extracted(lake, settings, compacted=False)
    assert len(prune(lake, keep_extractions=1)) == 1
    assert waiting in lake.extractions.plans()
    Recorder(lake.storage, lake.scratch).record(waiting.extraction_id)
    assert prune(lake, keep_extractions=1) == []
    Compactor(lake.storage, lake.scratch).compact(waiting.extraction_id)
    assert len(prune(lake, keep_extractions=1)) == 1
    assert lake.extractions.plans() == [waiting]


def test_what_was_overtaken_goes_if_it_saw_nothing_else(lake: Lake, settings: Settings) -> None:
    """A complete extraction that a later one overtook goes, unless it alone saw some content."""
    same = _extracted(lake, settings, compacted=False)
    other = _extracted(lake, settings, compacted=False, title="Seen once")
    newest = _extracted(lake, settings)
    assert prune(lake, keep_extractions=2) == _ids(same)
    assert lake.extractions.plans() == [other, newest]


class _Killed(BaseException):
    """Stands for a kill: nothing handles it."""


@pytest.mark.slow
@pytest.mark.parametrize("steps", range(8))
def test_a_kill_at_any_step_leaves_nothing_that_counts(
    lake: Lake, settings: Settings, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an extraction is never a complete one, and pruning again removes what is left."""
    _extracted(lake, settings)
    newest = _extracted(lake, settings)
    _kill_after(steps, monkeypatch)
    with contextlib.suppress(_Killed):
        prune(lake, keep_extractions=1)
    monkeypatch.undo()
    plans = lake.extractions.plans()
    complete = [
        plan
        for plan in plans
        if lake.extractions.state(plan.extraction_id) is ExtractionState.COMPLETE
    ]
    assert complete[-1] == newest
    assert all(lake.shards.pages(plan.extraction_id) == [1] for plan in complete)

    prune(lake, keep_extractions=1)
    assert lake.extractions.plans() == [newest]
    assert len(list(Path(lake.location).rglob("pages/*.parquet"))) == 1


def _kill_after(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let so many changes of the storage happen, and no more."""
    left = steps

    def limited(name: str) -> None:
        change = getattr(Storage, name)

        def counted(self: Storage, *arguments: object, **how: object) -> object:
            nonlocal left
            if left == 0:
                raise _Killed
            left -= 1
            return change(self, *arguments, **how)

        monkeypatch.setattr(Storage, name, counted)

    for name in ("write_bytes", "delete_file", "delete_folder"):
        limited(name)
