"""Changes of outcomes over the recorded older contents of real studies, read without events or SQL as well.

One build of three marts, two changes of it, and one whole build: some 25 s of one core.
"""

from __future__ import annotations

import calendar
import gzip
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ctg_assets.extract.import_file import import_file
from ctg_assets.history.undo import Author
from ctg_assets.lake import Lake, open_lake
from ctg_assets.load.staging import load_staging
from ctg_assets.model.identity import identify
from ctg_assets.postgres.connection import PostgresAddress
from ctg_assets.refresh.undo import undoer
from ctg_assets.settings import load_settings
from ctg_assets.snapshot.compaction import Compactor
from ctg_assets_tests.marts.projects import dbt_on, rows
from ctg_assets_tests.shared_material import shared_path

OBSERVED = datetime(2026, 11, 20, 9, tzinfo=UTC)
MARTS = ("fct_study_milestones", "fct_outcome_change", "fct_study_outcome_changes")
UNDER_WAY = {
    "RECRUITING",
    "ENROLLING_BY_INVITATION",
    "ACTIVE_NOT_RECRUITING",
    "COMPLETED",
    "TERMINATED",
}

# Found by reading the outcomes of each pair of contents side by side: study, list, kind, how often.
READ_BY_HAND = {
    ("NCT01234567", "primary", "removed"): 3,
    ("NCT01234567", "secondary", "removed"): 6,
    ("NCT04435626", "secondary", "description changed"): 4,
    ("NCT06780137", "secondary", "reworded"): 3,
    ("NCT06861062", "primary", "moved to secondary"): 1,
    ("NCT06861062", "primary", "added"): 2,
    ("NCT06861062", "secondary", "removed"): 5,
    ("NCT06861062", "secondary", "added"): 26,
    ("NCT07098338", "primary", "description changed"): 1,
    ("NCT07098338", "secondary", "description changed"): 1,
}

Version = tuple[date, Any]
"""The day from which a content was there, and the content."""


@dataclass(frozen=True)
class Followed:
    """The marts after older contents were brought in, whole and followed, and after they were taken back."""

    versions: dict[str, list[Version]]
    before: dict[str, list[dict[str, Any]]]
    followed: dict[str, list[dict[str, Any]]]
    whole: dict[str, list[dict[str, Any]]]
    undone: dict[str, list[dict[str, Any]]]


def lines(name: str) -> Iterator[bytes]:
    """The lines of recorded material."""
    with gzip.open(shared_path(name)) as found:
        yield from found


def read_versions(older: list[Any], current: dict[str, bytes]) -> dict[str, list[Version]]:
    """Each study's contents in time, those that are the same one after the other once."""
    versions: dict[str, list[Version]] = {}
    for nct_id, newest in current.items():
        dated = [
            (date.fromisoformat(it["lastUpdatePostDate"]), it["study"])
            for it in older
            if it["nctId"] == nct_id
        ]
        dated.sort(key=lambda it: it[0])
        content = msgspec.json.decode(newest)
        posted = content["protocolSection"]["statusModule"]["lastUpdatePostDateStruct"]["date"]
        is_posted_later = date.fromisoformat(posted) > max(day for day, _ in dated)
        seen = date.fromisoformat(posted) if is_posted_later else OBSERVED.date()
        kept: list[Version] = []
        for day, study in [*dated, (seen, content)]:
            if not kept or digest(study) != digest(kept[-1][1]):
                kept.append((day, study))
        versions[nct_id] = kept
    return versions


def digest(study: Any) -> str:
    """What tells contents apart."""
    return identify(msgspec.json.encode(study)).content_hash


def marts(address: PostgresAddress) -> dict[str, list[dict[str, Any]]]:
    """All rows of the marts."""
    found = {name: rows(address, f"SELECT * FROM marts.{name}") for name in MARTS}
    return {name: sorted(it, key=repr) for name, it in found.items()}


def load_newest(lake: Lake, address: PostgresAddress) -> None:
    """Bring the history's newest entry to the tables."""
    entry = lake.history.latest()
    assert entry is not None
    manifest = Compactor(lake.storage, lake.scratch).compact(entry.extraction_id)
    load_staging(address, lake, manifest)


@pytest.fixture(scope="module")
def followed(address: PostgresAddress, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """The studies of which older contents are recorded: as they are, then with these, then without them."""
    folder = tmp_path_factory.mktemp("outcomes")
    older = [msgspec.json.decode(line) for line in lines("ctg/versions.jsonl.gz")]
    wanted = {version["nctId"] for version in older}
    identified = re.compile(rb'"nctId":"(NCT[0-9]{8})"')
    current = {
        nct_id: line
        for line in lines("ctg/studies.jsonl.gz")
        if (found := identified.search(line)) and (nct_id := found[1].decode()) in wanted
    }
    files = {
        "current": list(current.values()),
        "older": [msgspec.json.encode(it["study"]) + b"\n" for it in older],
    }
    for name, content in files.items():
        Path(folder / f"{name}.jsonl").write_bytes(b"".join(content))
    lake = open_lake(load_settings(data_dir=folder / "data"))
    run = ("run", "--exclude", "config.materialized:view", "--select")

    import_file(lake, folder / "current.jsonl", page_size=1000, data_timestamp=OBSERVED)
    [plan] = lake.extractions.plans()
    Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    load_newest(lake, address)
    dbt_on(address, folder, "run", "--select", *(f"+{name}" for name in MARTS))
    before = marts(address)
    plan = import_file(lake, folder / "older.jsonl", page_size=1000, dated_by_studies=True)
    Compactor(lake.storage, lake.scratch).compact(plan.extraction_id)
    load_newest(lake, address)
    dbt_on(address, folder, *run, *MARTS)
    with_older = marts(address)
    dbt_on(address, folder, *run, *MARTS, "--full-refresh")
    whole = marts(address)
    entry = lake.history.entry_of(plan.extraction_id)
    assert entry is not None
    author = Author(command="history undo", user="tester", host="here")
    undoer(lake).undo(entry.sequence, author)
    load_newest(lake, address)
    dbt_on(address, folder, *run, *MARTS)
    return Followed(read_versions(older, current), before, with_older, whole, marts(address))


def outcomes(study: Any, name: str) -> list[Any]:
    """One of a study's lists of outcomes."""
    found: list[Any] = study["protocolSection"].get("outcomesModule", {}).get(f"{name}Outcomes", [])
    return found


def text(study: Any) -> str | None:
    """A study's primary outcomes as the marts write them."""
    listed = sorted(
        it.get("measure", "") + (f" [{it['timeFrame']}]" if "timeFrame" in it else "")
        for it in outcomes(study, "primary")
    )
    return "\n".join(listed) or None


def stated(study: Any, name: str) -> date | None:
    """The last day of one of a study's dates."""
    found = study["protocolSection"]["statusModule"].get(f"{name}Struct", {}).get("date")
    if found is None:
        return None
    year, *parts = map(int, found.split("-"))
    month = parts[0] if parts else 12
    return date(year, month, parts[1] if parts[1:] else calendar.monthrange(year, month)[1])


def point(versions: list[Version], name: str, statuses: set[str]) -> date | None:
    """The date stated in the first version with one of these statuses, else in the newest one."""
    for _, study in versions:
        if study["protocolSection"]["statusModule"]["overallStatus"] in statuses:
            return stated(study, name)
    return stated(versions[-1][1], name)


def phase(day: date, study: Any, versions: list[Version]) -> str | None:
    """Where in the study's life a version lies."""
    if study.get("hasResults") or any(it.get("hasResults") for on, it in versions if on < day):
        return "after results"
    ended = {"COMPLETED", "TERMINATED"}
    for name, after, statuses in (
        ("completionDate", "after completion", ended),
        ("primaryCompletionDate", "after primary completion", ended),
        ("startDate", "during recruitment", UNDER_WAY),
    ):
        at = point(versions, name, statuses)
        if at is not None and day >= at:
            return after
    return "before launch" if point(versions, "startDate", UNDER_WAY) else None


def test_changes_are_those_read_by_hand(followed: Followed) -> None:
    """Of 82 older contents those of five studies have other outcomes; each of them is in one row, of its kind."""
    changes = followed.followed["fct_outcome_change"]
    kinds = Counter((it["nct_id"], it["outcome_list"], it["kind"]) for it in changes)
    assert kinds == READ_BY_HAND
    major = {it["nct_id"] for it in changes if it["weight"] == "major"}
    assert major == {"NCT01234567", "NCT06861062"}


def test_each_change_is_between_the_contents_in_time(followed: Followed) -> None:
    """Day, phase and days since launch are those told from the contents themselves; texts are theirs."""
    expected = Counter[tuple[Any, ...]]()
    for nct_id, versions in followed.versions.items():
        launch = point(versions, "startDate", UNDER_WAY)
        for (_, before), (day, after) in pairwise(versions):
            for name in ("primary", "secondary"):
                old, new = (outcomes(study, name) for study in (before, after))
                since = None if launch is None else (day - launch).days
                place = (nct_id, day, phase(day, after, versions), since)
                expected.update((*place, "gone", repr(it)) for it in old if it not in new)
                expected.update((*place, "come", repr(it)) for it in new if it not in old)
    found = Counter[tuple[Any, ...]]()
    for row in followed.followed["fct_outcome_change"]:
        place = tuple(row[it] for it in ("nct_id", "change_date", "phase", "days_since_launch"))
        for side, is_there in (
            ("old", row["kind"] != "added"),
            ("new", row["kind"] != "removed"),
        ):
            outcome = {
                key: row[f"{side}_{column}"]
                for key, column in (
                    ("measure", "measure"),
                    ("description", "description"),
                    ("timeFrame", "time_frame"),
                )
                if row[f"{side}_{column}"] is not None
            }
            if is_there:
                found[*place, {"old": "gone", "new": "come"}[side], repr(outcome)] += 1
    assert found == expected


def test_lists_at_launch_are_those_of_the_version_before_it(followed: Followed) -> None:
    """The baseline that is worked out from changes is the list of the content that was there at launch."""
    told = {it["nct_id"]: it for it in followed.followed["fct_study_outcome_changes"]}
    assert told.keys() == followed.versions.keys()
    for nct_id, versions in followed.versions.items():
        launch = point(versions, "startDate", UNDER_WAY)
        before = [study for day, study in versions if launch is not None and day < launch]
        at_launch = (before or [versions[0][1]])[-1]
        row = told[nct_id]
        assert row["known_since"] == versions[0][0]
        assert row["launch_date"] == launch, nct_id
        assert sorted((row["baseline_primary_outcomes"] or "").split("\n")) == sorted(
            (text(at_launch) or "").split("\n")
        )
        assert sorted((row["latest_primary_outcomes"] or "").split("\n")) == sorted(
            (text(versions[-1][1]) or "").split("\n")
        )


def test_marts_follow_what_is_brought_in_and_taken_back(followed: Followed) -> None:
    """Older contents brought in give what a whole build gives; taken back, what was there before."""
    assert followed.followed == followed.whole
    assert followed.followed != followed.before
    assert followed.before["fct_outcome_change"] == []
    assert followed.undone == followed.before
