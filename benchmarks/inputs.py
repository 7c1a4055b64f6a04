"""The studies that are measured: generated ones and real ones, as page shards in lakes.

Each set lies in a data folder of its own, as one complete extraction. Making 600,000 studies takes
minutes, so sets are kept; the name of a folder bears a digest of what the set is made from, and a set
that was cut off half way is continued.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import ctg_assets.simulator
from ctg_assets.extract.bulk_file import read_studies
from ctg_assets.extract.extractions import (
    Completion,
    ExtractionMode,
    ExtractionPlan,
    ExtractionState,
    new_extraction_id,
)
from ctg_assets.extract.shards import ShardInfo
from ctg_assets.lake import Lake, open_lake
from ctg_assets.model.identity import identify
from ctg_assets.settings import Settings, load_settings
from ctg_assets.simulator.source import GeneratedSource
from ctg_assets.snapshot.parsing import parse_studies

PAGE_SIZE = 1000
_SEED = 3
_DATA_TIMESTAMP = "2026-11-20T09:00:05"

# Real ids have seven digits; a copy's number becomes the eighth.
MOST_COPIES = 10
_COPY_DIGIT = len(b"NCT")


@dataclass(frozen=True)
class StudySet:
    """Some studies, as the complete extraction of a lake."""

    name: str
    data_dir: Path
    studies: int
    json_bytes: int


def settings_of(data_dir: Path) -> Settings:
    """Settings with this data folder and its embedded server."""
    return load_settings(data_dir=data_dir, postgres_url=None)


def generated(folder: Path, studies: int) -> StudySet:
    """As many generated studies; made on all cores."""
    made_from = _digest(sorted(Path(ctg_assets.simulator.__file__).parent.glob("*.py")))
    pages = -(-studies // PAGE_SIZE)
    data_dir = _only(folder, f"generated-{studies}", made_from)
    write = partial(_write_generated_page, data_dir, studies)
    return _complete(f"{studies:,} generated", data_dir, [write] * pages)


def real(folder: Path, file: Path, copies: int) -> StudySet:
    """The studies of a file, `copies` times, each time with other NCT ids.

    Those whose id has eight digits already are left out: copies of others would have theirs.
    """
    studies = [study for study in read_studies(file) if _has_room(study)]
    repeated = [_copy(study, number) for number in range(copies) for study in studies]
    return _real(folder, file, f"{len(studies):,} real x {copies}", f"real-x{copies}", repeated)


def real_sample(folder: Path, file: Path, most: int) -> StudySet:
    """Up to `most` studies spread over a file; those that cannot be typed are left out.

    Not every peer survives them.
    """
    studies = list(read_studies(file))
    typed = [studies[index] for index in parse_studies(studies).accepted]
    step = max(1, len(typed) / most)
    sample = [typed[int(place * step)] for place in range(min(most, len(typed)))]
    return _real(folder, file, f"{len(sample):,} real", f"real-sample-{most}", sample)


def _real(folder: Path, file: Path, name: str, key: str, studies: Sequence[bytes]) -> StudySet:
    data_dir = _only(folder, key, _digest([file]))
    paged = [studies[start : start + PAGE_SIZE] for start in range(0, len(studies), PAGE_SIZE)]
    return _complete(name, data_dir, [partial(_write_page, data_dir, page) for page in paged])


def _has_room(study: bytes) -> bool:
    nct_id = identify(study).nct_id
    return nct_id is not None and nct_id[_COPY_DIGIT] == "0"


def _copy(study: bytes, number: int) -> bytes:
    """The study under an id of its own, the same in all places of its JSON."""
    nct_id = identify(study).nct_id
    if number == 0 or nct_id is None:
        return study
    own = nct_id.encode()
    return study.replace(own, b"%b%d%b" % (own[:_COPY_DIGIT], number, own[_COPY_DIGIT + 1 :]))


def _complete(
    name: str, data_dir: Path, writers: Sequence[Callable[[str, int], ShardInfo]]
) -> StudySet:
    """The set in a data folder; the pages that it lacks are made first, each by its writer."""
    lake = open_lake(settings_of(data_dir))
    plan = lake.extractions.latest(ExtractionState.COMPLETE)
    if plan is None:
        plan = lake.extractions.latest(ExtractionState.OPEN) or _new_plan(lake, name)
        present = set(lake.shards.pages(plan.extraction_id))
        _write_all(
            [
                partial(write, plan.extraction_id, page)
                for page, write in enumerate(writers, start=1)
                if page not in present
            ]
        )
        infos = list(lake.shards.infos(plan.extraction_id))
        rows = sum(info.studies for info in infos)
        completion = Completion(
            pages=len(writers),
            rows=rows,
            distinct_studies=rows,
            json_bytes=sum(info.json_bytes for info in infos),
            completed_at=datetime.now(UTC),
        )
        lake.extractions.complete(plan.extraction_id, completion)
    completion_found = lake.extractions.completion(plan.extraction_id)
    assert completion_found is not None  # noqa: S101 - it was just written, or found by this state
    return StudySet(name, data_dir, completion_found.rows, completion_found.json_bytes)


def _write_all(writers: Sequence[Callable[[], ShardInfo]]) -> None:
    if len(writers) <= 1:
        for write in writers:
            write()
        return
    # Not forked: Arrow's threads would not survive it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context) as processes:
        for written in [processes.submit(write) for write in writers]:
            written.result()


def _new_plan(lake: Lake, name: str) -> ExtractionPlan:
    now = datetime.now(UTC)
    plan = ExtractionPlan(
        extraction_id=new_extraction_id(ExtractionMode.IMPORT, now),
        mode=ExtractionMode.IMPORT,
        source=name,
        query="",
        page_size=PAGE_SIZE,
        data_timestamp=_DATA_TIMESTAMP,
        planned_at=now,
    )
    lake.extractions.create(plan)
    return plan


def _write_generated_page(data_dir: Path, studies: int, extraction_id: str, page: int) -> ShardInfo:
    source = GeneratedSource(studies, _SEED)
    indexes = range((page - 1) * PAGE_SIZE, min(page * PAGE_SIZE, studies))
    return _write_page(data_dir, [source.raw(index) for index in indexes], extraction_id, page)


def _write_page(
    data_dir: Path, studies: Sequence[bytes], extraction_id: str, page: int
) -> ShardInfo:
    info = ShardInfo(
        extraction_id=extraction_id,
        page=page,
        data_timestamp=_DATA_TIMESTAMP,
        fetched_at=datetime.now(UTC),
    )
    return open_lake(settings_of(data_dir)).shards.write(info, studies)


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _only(folder: Path, key: str, made_from: str) -> Path:
    """The folder of a set; sets of the same key that were made from something else are removed."""
    wanted = folder / f"{key}-{made_from}"
    for outdated in _made_for(folder, key):
        if outdated != wanted:
            shutil.rmtree(outdated)
    return wanted


def _made_for(folder: Path, key: str) -> Iterator[Path]:
    yield from (path for path in folder.glob(f"{key}-*") if path.name.rpartition("-")[0] == key)
