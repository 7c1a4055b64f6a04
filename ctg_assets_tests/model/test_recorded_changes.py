"""The changes between recorded contents of real studies, against a sample checked by hand.

`recorded_changes.json` was checked by reading the two contents of each study side by side. It holds no
texts of the registry: names of items and subjects are the first digits of their SHA-256.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from ctg_assets.model.changes.field_changes import field_changes
from ctg_assets.model.changes.typed_events import typed_events
from ctg_assets_tests.model.test_field_changes import assert_all_is_told
from ctg_assets_tests.shared_material import shared_path

OBSERVED = date(2026, 3, 13)
_NCT_ID = re.compile(rb'"nctId":"(NCT[0-9]{8})"')
CHECKED: list[dict[str, Any]] = msgspec.json.decode(
    files(__package__).joinpath("recorded_changes.json").read_bytes()
)


@dataclass(frozen=True)
class Recorded:
    """An older content of a study, and the current one."""

    nct_id: str
    last_update_post_date: str
    old: Any
    new: Any


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    """All recorded older contents with the current ones; skips where there are none."""
    older = [msgspec.json.decode(line) for line in _lines("ctg/versions.jsonl.gz")]
    wanted = {version["nctId"] for version in older}
    # A study begins with its id; parsing all to find these few would take longer than the tests.
    current = {
        nct_id: msgspec.json.decode(line)
        for line in _lines("ctg/studies.jsonl.gz")
        if (found := _NCT_ID.search(line)) and (nct_id := found[1].decode()) in wanted
    }
    return [
        Recorded(it["nctId"], it["lastUpdatePostDate"], it["study"], current[it["nctId"]])
        for it in older
    ]


def _lines(name: str) -> Iterator[bytes]:
    with gzip.open(shared_path(name)) as lines:
        yield from lines


def _digits(text: str | None) -> str | None:
    return text and hashlib.sha256(text.encode()).hexdigest()[:8]


@pytest.mark.parametrize("checked", CHECKED, ids=lambda checked: checked["nct_id"])
def test_changes_and_events_are_those_found_by_hand(
    recorded: list[Recorded], checked: dict[str, Any]
) -> None:
    """For each study of the sample: every changed path and item, every event, and nothing else."""
    asked = (checked["nct_id"], checked["last_update_post_date"])
    one = next(it for it in recorded if (it.nct_id, it.last_update_post_date) == asked)
    changes = field_changes(one.old, one.new)
    found = [[str(change.change), change.path, _digits(change.item)] for change in changes]
    assert found == checked["changes"]
    events = typed_events(one.old, one.new, changes, OBSERVED)
    assert [
        [str(event.event_type), _digits(event.subject), event.days, event.after_primary_completion]
        for event in events
    ] == checked["events"]


@pytest.mark.slow
def test_every_recorded_change_is_told_whole(recorded: list[Recorded]) -> None:
    """The changes of all 82 older contents account for every value of both sides."""
    assert len(recorded) == 82
    for one in recorded:
        assert_all_is_told(one.old, one.new)
