"""Lakes for tests: studies made by hand, and extractions made of them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow.fs as pafs
from hypothesis import strategies as st

from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionStore,
    planned_pages,
)
from ctg_assets.extract.shards import ShardInfo, ShardStore
from ctg_assets.storage.disk import DiskBackend
from ctg_assets.storage.files import Storage

EPOCH = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)

# Any JSON there is, as Python values. Finite floats only: JSON knows no others.
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def memory_storage(root: str = "bucket/läke") -> Storage:
    """Storage on a filesystem that is no disk at all."""
    return Storage(DiskBackend(pafs._MockFileSystem(), root))


def study(nct_id: Any, posted: Any = "2026-01-01", title: Any = "A study", **more: Any) -> bytes:
    """A small study as JSON; `more` goes into its top level."""
    content = {
        "protocolSection": {
            "identificationModule": {"nctId": nct_id, "briefTitle": title},
            "statusModule": {"lastUpdatePostDateStruct": {"date": posted}},
        },
        "hasResults": False,
        **more,
    }
    return json.dumps(content, ensure_ascii=False).encode()


_drift = st.sampled_from([{}, {"novel": 1}, {"novel": "x"}, {"hasResults": "no"}])

# Few ids, so that they come again; some of none, some with fields outside the model or a value of another type.
small_studies: st.SearchStrategy[bytes] = st.builds(
    lambda nct_id, date, title, more: study(nct_id, date, title, **more),
    st.sampled_from([f"NCT0000002{digit}" for digit in range(6)] + ["NCT1", None]),
    st.sampled_from([None, "2026-01-01", "2026-02-01"]),
    st.sampled_from("abc"),
    _drift,
)


def plan(extraction_id: str = "20261120T090000Z-full-aaaaaa", **changes: Any) -> ExtractionPlan:
    """A plan, with the given differences from a plain one."""
    facts: dict[str, Any] = {
        "mode": ExtractionMode.FULL,
        "source": "https://registry.example/api/v2",
        "query": "",
        "page_size": 1000,
        "data_timestamp": "2026-11-20T09:00:05",
        "planned_at": EPOCH,
        "planned_pages": 1,
    }
    return ExtractionPlan(extraction_id=extraction_id, **{**facts, **changes})


def shard_info(extraction_id: str, page: int, **facts: Any) -> ShardInfo:
    """The description of a shard, with the given facts."""
    return ShardInfo(
        extraction_id=extraction_id,
        page=page,
        data_timestamp="2026-11-20T09:00:05",
        fetched_at=EPOCH + timedelta(seconds=page),
        **facts,
    )


def extraction(
    storage: Storage,
    pages: Sequence[Sequence[bytes]],
    *,
    extraction_id: str = "20261120T090000Z-full-aaaaaa",
    complete: bool = True,
    **changes: Any,
) -> ExtractionPlan:
    """An extraction of these pages, which is complete unless said otherwise."""
    extractions, shards = ExtractionStore(storage), ShardStore(storage)
    made = extractions.create(plan(extraction_id, planned_pages=len(pages), **changes))
    infos = [
        shards.write(shard_info(extraction_id, page), studies)
        for page, studies in enumerate(pages, start=1)
    ]
    if complete:
        rows = sum(info.studies for info in infos)
        completion = Completion(
            pages=len(pages),
            rows=rows,
            distinct_studies=rows,
            json_bytes=sum(info.json_bytes for info in infos),
            completed_at=EPOCH,
        )
        extractions.complete(extraction_id, completion)
    return made


def in_pages(studies: Sequence[bytes], page_size: int) -> list[Sequence[bytes]]:
    """Studies dealt out to pages in order, as the registry does, an empty last page included."""
    pages = planned_pages(len(studies), page_size)
    return [studies[page * page_size : (page + 1) * page_size] for page in range(pages)]


def kill_at_signal(code: str, *arguments: str) -> None:
    """Run Python code in another process until it prints a line, then kill it with signal 9."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.kill()
        assert process.wait() == -signal.SIGKILL
