"""A refresh without Dagster and dbt: what is next is done until nothing is, here or in a process that dies."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from ctg_assets.aact.build import build_ctgov
from ctg_assets.aact.other_rows import ctgov_request
from ctg_assets.extract.crawl import ExtractionSupersededError, open_crawler
from ctg_assets.history.missing_studies import explain_missing
from ctg_assets.history.recording import Recorder
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.marts.up_to_date import note_built
from ctg_assets.postgres.builds import update_load_info
from ctg_assets.postgres.server import open_postgres
from ctg_assets.refresh.extraction_plan import plan_extraction
from ctg_assets.refresh.pending import unrecorded
from ctg_assets.refresh.planner import Idle, Stage, Step, next_step
from ctg_assets.refresh.retention import prune
from ctg_assets.settings import Settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets.storage.files import Storage
from ctg_assets.times import parse_data_timestamp
from ctg_assets_tests.support.processes import forked

_MOST_STEPS = 50


def refresh(
    settings: Settings,
    moment: Callable[[], None] = lambda: None,
    *,
    without: Collection[Stage] = (),
) -> None:
    """Do all there is to do, up to the first stage in `without`.

    `moment` is called at every moment at which something is half done. The marts are not built, only noted as
    built.
    """
    lake = open_lake(settings)
    for _ in range(_MOST_STEPS):
        step = next_step(settings, lake)
        moment()
        if isinstance(step, Idle) or step.stage in without:
            return
        try:
            _do(step, settings, lake, moment)
        except ExtractionSupersededError:
            moment()  # the data moved on; the next step plans anew
    message = f"still not at rest after {_MOST_STEPS} steps; the last one was {step}"
    raise AssertionError(message)


def _do(step: Step, settings: Settings, lake: Lake, moment: Callable[[], None]) -> None:
    match step.stage:
        case Stage.PLAN:
            with open_crawler(settings, lake.extractions, lake.shards) as crawler:
                plan_extraction(settings, lake, crawler)
        case Stage.PAGES:
            assert step.extraction is not None
            with open_crawler(settings, lake.extractions, lake.shards) as crawler:
                for _ in crawler.walk(step.extraction, step.last_page):
                    moment()
        case Stage.SNAPSHOT:
            for plan in unrecorded(settings, lake)[:1]:
                explain = explain_missing(settings, query=plan.query)
                Recorder(lake.storage, lake.scratch).record(plan.extraction_id, explain=explain)
            entry = lake.history.latest()
            assert entry is not None
            Compactor(lake.storage, lake.scratch).compact(entry.extraction_id)
            prune(lake, keep_extractions=settings.keep_extractions)
        case _:
            _change_database(step, settings, lake, moment)


def _change_database(
    step: Step, settings: Settings, lake: Lake, moment: Callable[[], None]
) -> None:
    manifest = lake.snapshots.latest()
    assert manifest is not None
    with open_postgres(settings) as address:
        match step.stage:
            case Stage.STAGING:
                load_staging(address, lake, manifest, step.tables, lambda _: moment())
            case Stage.LOAD_INFO:
                update_load_info(
                    address,
                    snapshot_id=manifest.snapshot_id,
                    data_timestamp=parse_data_timestamp(manifest.data_timestamp),
                )
            case Stage.CTGOV:
                build_ctgov(ctgov_request(address, lake, settings, lambda _: moment()))
            case _:
                note_built(address)


def refresh_until_killed(settings: Settings, moments: int) -> bool:
    """Refresh in a process of its own that is killed after so many moments; False if it ended before.

    Moments are, besides those of `refresh`, those right before and after a file of the lake becomes visible
    or is removed.
    """
    exit_code = forked(_refresh_and_die, settings, moments)
    assert exit_code in {0, -signal.SIGKILL}
    return exit_code != 0


def _refresh_and_die(settings: Settings, moments: int) -> None:
    left = itertools.count(moments, -1)

    def moment() -> None:
        if next(left) <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    with ExitStack() as stack:
        for name in ("delete_file", "delete_folder"):
            stack.enter_context(patch.object(Storage, name, _framed(name, moment)))
        stack.enter_context(patch.object(Storage, "publish", _published(moment)))
        refresh(settings, moment)


def _framed(name: str, moment: Callable[[], None]) -> Callable[..., Any]:
    method = getattr(Storage, name)

    def framed(storage: Storage, relative: str) -> None:
        moment()
        method(storage, relative)
        moment()

    return framed


def _published(moment: Callable[[], None]) -> Callable[..., Any]:
    publish = Storage.publish

    @contextmanager
    def published(storage: Storage, relative: str, **how: bool) -> Iterator[Any]:
        with publish(storage, relative, **how) as stream:
            yield stream
            moment()
        moment()

    return published
