"""Odd studies through import and API, first seen and changed, to the last table.

The space of the generated tests is that of `oddities.py`: every leaf, object and list of recorded
studies, with texts, numbers and words that are unusual, mistyped, or no JSON at all.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ctg_assets.feed.history_events import HistoryEvents
from ctg_assets.lake import Lake
from ctg_assets.load.staging import load_staging
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets_tests.shared_material import shared_path
from ctg_assets_tests.soak import times
from ctg_assets_tests.support.oddities import Odd, odd_study
from ctg_assets_tests.support.postgres import query
from ctg_assets_tests.support.ways_in import WAYS, require_in_their_place, ways_in

# `make fuzz` says how many.
_STUDIES = int(os.environ.get("FUZZ_STUDIES", times(60, 300)))
_SEED = int(os.environ.get("FUZZ_SEED", "11"))


def _last_changes(lake: Lake) -> dict[str, int]:
    entry = lake.history.latest()
    assert entry is not None
    return entry.changes


def _originals(number: int) -> list[dict[str, Any]]:
    lines = gzip.decompress(shared_path("ctg/studies.jsonl.gz").read_bytes()).splitlines()
    every = [json.loads(line) for line in lines if len(line) < 60_000]
    every = [study for study in every if "modelPredictions" not in json.dumps(study)]
    by_id = {
        study["protocolSection"]["identificationModule"]["nctId"]: study
        for study in every
        if study["protocolSection"]["identificationModule"]["nctId"] != "NCT76543210"
    }
    return Random(_SEED).sample(list(by_id.values()), min(number, len(by_id)))


def _sound(study: dict[str, Any]) -> Odd:
    nct_id = study["protocolSection"]["identificationModule"]["nctId"]
    return Odd(nct_id, json.dumps(study).encode(), None, "as recorded")


@pytest.mark.soak
@pytest.mark.parametrize("way", WAYS)
def test_mutated_studies_stop_nothing(address: PostgresAddress, tmp_path: Path, way: str) -> None:
    """Of recorded studies with something odd in each, the sound are loaded, the others named; twice over.

    Half of them are odd when first seen and another way odd later; the other half are recorded ones
    that become odd. One study is removed at the same time, and the last walk finds nothing new.
    """
    random = Random(f"{_SEED} {way}")
    originals = _originals(_STUDIES + 1)
    gone, originals = originals[0], originals[1:]
    before = [
        odd_study(study, random) if number % 2 else _sound(study)
        for number, study in enumerate(originals)
    ]
    after = [odd_study(study, random) for study in originals]
    with ways_in(tmp_path) as ways:
        manifest = ways.bring(way, [_sound(gone), *before])
        load_staging(address, ways.lake, manifest)
        require_in_their_place(ways, manifest, address, [_sound(gone), *before])

        left = [] if way == "api" else [_sound(gone)]  # a file says nothing of what is not in it
        manifest = ways.bring(way, after)
        assert _last_changes(ways.lake).get("delete", 0) == 1 - len(left)
        load_staging(address, ways.lake, manifest)
        require_in_their_place(ways, manifest, address, [*after, *left])
        assert len(HistoryEvents(ways.lake.history).events(0, 10_000)) == len(before) + 1

        manifest = ways.bring(way, after)
        assert _last_changes(ways.lake) == {}
        load_staging(address, ways.lake, manifest)
        require_in_their_place(ways, manifest, address, [*after, *left])
    # Of a study that was sound before and is now, what differs is told field by field.
    [(told,)] = query(address, "SELECT count(DISTINCT nct_id) FROM staging.study_field_changes")
    both = sum(
        old.field is None and new.field is None for old, new in zip(before, after, strict=True)
    )
    assert told >= both > 0
    odd = sum(each.field is not None for each in [*before, *after])
    print(f"{way}: {len(before) + len(after)} studies, {odd} of them in quarantine")  # noqa: T201
