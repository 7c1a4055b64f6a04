"""Recruitment, reasons for stopping and the funnel: the recorded real studies, worked out again in plain Python."""

from __future__ import annotations

import calendar
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from ctg_assets.model.changes.field_changes import field_changes
from ctg_assets.model.changes.typed_events import typed_events
from ctg_assets.postgres.connection import PostgresAddress, connect
from ctg_assets_tests.marts.projects import dbt_on, rows, values
from ctg_assets_tests.model.snapshots import real_studies
from ctg_assets_tests.shared_material import shared_path

DAY = datetime(2026, 8, 13, 9, tzinfo=UTC)
MONTH = 30.4375
DATES = {
    "start": "startDateStruct",
    "primary_completion": "primaryCompletionDateStruct",
    "completion": "completionDateStruct",
}
STATUSES = {
    "not_yet_recruiting": {"NOT_YET_RECRUITING"},
    "recruiting": {"RECRUITING", "ENROLLING_BY_INVITATION"},
    "active_not_recruiting": {"ACTIVE_NOT_RECRUITING"},
    "suspended": {"SUSPENDED"},
    "completed": {"COMPLETED"},
    "terminated": {"TERMINATED"},
    "withdrawn": {"WITHDRAWN"},
    "unknown": {"UNKNOWN"},
}
STARTED = {
    *STATUSES["recruiting"],
    *("ACTIVE_NOT_RECRUITING", "SUSPENDED", "COMPLETED", "TERMINATED"),
}
GUIDE = Path(__file__).parents[2] / "docs" / "recruitment.md"

# Read one by one: the texts that say so, and no other (two of them doubtful).
STOPPED_FOR_SAFETY = """
    Secondary to safety concerns plus change in Campath® (alemtuzumab) availability.
    SERVE-HF results showed ASV increased CV mortality in patients with reduced LVEF
    Safety concerns led to early termination.
    Terminated prematurely due to high incidence of postoperative atrial fibrillation.
    The stopping rule for incidence of acute rejection was met.
    Ongoing juvenile rat toxicology studies.
    Unfavourable benefit:risk
    Attendance at study sites carries risk of COVID-19 infection. Non-attendance at planned study site visits has unacceptable study related patient safety risk.
    Based on internal review of safety data
    Prior to termination the DESIGNATE study was an on enrollment hold due to greater than anticipated lymphodepletion. The pharmaceutical partner decided not to reopen its own T1D trial and ceased development of siplizumab in autoimmunity.
"""


def status_module(study: Any) -> dict[str, Any]:
    """The module of a study with its status and dates."""
    module: dict[str, Any] = study["protocolSection"]["statusModule"]
    return module


def stated(study: Any, name: str) -> tuple[str | None, str | None]:
    """A date of a study as it was sent, and its type."""
    struct = status_module(study).get(DATES[name]) or {}
    return struct.get("date"), struct.get("type")


def enrollment(study: Any) -> tuple[int | None, str | None]:
    """The number of participants, and its type."""
    info = study["protocolSection"].get("designModule", {}).get("enrollmentInfo") or {}
    return info.get("count"), info.get("type")


def days_between(old: str, new: str) -> int:
    """Days between two dates by what both are known to."""
    length = min(len(old), len(new))
    first, second = (date.fromisoformat((it[:length] + "-01-01")[:10]) for it in (old, new))
    return (second - first).days


def last_day(text: str) -> date:
    """The last day that a date covers."""
    year, month, day = [*map(int, text.split("-")), 0, 0][:3]
    month = month or 12
    return date(year, month, day or calendar.monthrange(year, month)[1])


def months_later(day: date, months: int) -> date:
    """The same day so many months later, or the last one of that month."""
    years, month = divmod(day.month - 1 + months, 12)
    last = calendar.monthrange(day.year + years, month + 1)[1]
    return date(day.year + years, month + 1, min(day.day, last))


@pytest.fixture(scope="module")
def histories() -> dict[str, list[Any]]:
    """Each recorded study: its older contents in the order of their dates, and the current one."""
    current, _ = real_studies()
    contents: dict[str, list[Any]] = defaultdict(list)
    older = gzip.decompress(shared_path("ctg/versions.jsonl.gz").read_bytes()).splitlines()
    for version in sorted(map(json.loads, older), key=lambda it: it["lastUpdatePostDate"]):
        contents[version["nctId"]].append(version["study"])
    return {it["nct_id"]: [*contents[it["nct_id"]], it] for it in current}


def note_history(address: PostgresAddress, histories: dict[str, list[Any]]) -> None:
    """Write the tables of the history as loads of these contents would, one on each day before DAY."""
    with connect(address) as connection:
        number = 0
        for nct_id, contents in histories.items():
            if len(contents) == 1:
                continue
            times = [DAY.replace(year=2025 - k) for k in range(len(contents))][::-1]
            for k, time in enumerate(times):
                connection.execute(
                    "INSERT INTO staging.study_versions (nct_id, valid_from, is_current, version_number,"
                    " content_hash, first_observed_at, json_bytes, extraction_id)"
                    " VALUES (%s, %s, %s, %s, %s, %s, 1, 'x')",
                    [nct_id, time, k == len(times) - 1, k + 1, f"hash {k}", time],
                )
            for k, (old, new) in enumerate(pairwise(contents), 1):
                number += 1
                connection.execute(
                    "INSERT INTO staging.study_changes (change_seq, nct_id, kind, observed_at,"
                    " recorded_at, extraction_id, old_content_hash, new_content_hash, is_silent,"
                    " is_backfill, fields_changed)"
                    " VALUES (%s, %s, 'update', %s, %s, 'x', %s, %s, false, false, 1)",
                    [number, nct_id, times[k], times[k], f"hash {k - 1}", f"hash {k}"],
                )
                events = typed_events(old, new, field_changes(old, new), times[k].date())
                for position, event in enumerate(events, 1):
                    connection.execute(
                        "INSERT INTO staging.study_events (change_seq, position, nct_id, event_type,"
                        " old_value, new_value, days) VALUES (%s, %s, %s, %s, %s, %s, %s)",
                        [
                            *(number, position, nct_id, str(event.event_type)),
                            *(event.old_value, event.new_value, event.days),
                        ],
                    )


@pytest.fixture(scope="module")
def built(
    recorded: PostgresAddress,
    histories: dict[str, list[Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> PostgresAddress:
    """A database with the marts of the recorded studies, those that read the history made anew with one."""
    note_history(recorded, histories)
    marts = ("fct_study_milestones", "fct_recruitment", "fct_study_funnel")
    folder = tmp_path_factory.mktemp("dbt")
    dbt_on(recorded, folder, "run", "--full-refresh", "--select", *marts)
    return recorded


def expected_recruitment(contents: list[Any]) -> dict[str, Any]:
    """What is expected of a study in fct_recruitment, by its contents."""
    study = contents[-1]
    (start, start_type), (end, end_type), (last, last_type) = (stated(study, it) for it in DATES)
    is_actual = end_type == "ACTUAL" and start_type != "ESTIMATED" and start and end
    days = days_between(start, end) if is_actual and start and end else None
    study_days = (
        days_between(start, last)
        if start and last and last_type == "ACTUAL" and start_type != "ESTIMATED"
        else None
    )
    number, kind = enrollment(study)
    enrolled = number if kind == "ACTUAL" else None
    sites = len(study["protocolSection"].get("contactsLocationsModule", {}).get("locations") or [])
    per_month = enrolled / (days / MONTH) if enrolled is not None and days and days > 0 else None
    plans = [
        count
        for count, type_ in map(enrollment, contents)
        if type_ == "ESTIMATED" and count is not None
    ]
    module = status_module(study)
    sent = module.get("resultsFirstSubmitDate")
    submitted = last_day(sent) if sent else None
    ended = last_day(end) if end and end_type == "ACTUAL" else None
    found: dict[str, Any] = {
        "recruitment_days": days if days is not None and days >= 0 else None,
        "study_days": study_days if study_days is not None and study_days >= 0 else None,
        "enrolled": enrolled,
        "site_count": sites or None,
        "enrolled_per_month": per_month,
        "enrolled_per_site": enrolled / sites if enrolled is not None and sites else None,
        "enrolled_per_site_and_month": per_month / sites
        if per_month is not None and sites
        else None,
        "first_planned_enrollment": plans[0] if plans else None,
        "last_planned_enrollment": plans[-1] if plans else None,
        "share_of_first_planned": enrolled / plans[0]
        if enrolled is not None and plans and plans[0]
        else None,
        "days_to_results_submitted": (submitted - ended).days if submitted and ended else None,
    }
    for months in (12, 24, 36):
        found[f"has_results_within_{months}_months"] = (
            None
            if ended is None
            else submitted is not None and submitted <= months_later(ended, months)
        )
    for name in DATES:
        said = [stated(content, name)[0] for content in contents]
        moved = [(a, b) for a, b in pairwise(said) if a and b and days_between(a, b) != 0]
        told = [
            a or b
            for a, b in pairwise(said)
            if a != b and not (a and b and days_between(a, b) == 0)
        ]
        first, now = (told or said[-1:])[0], said[-1]
        found[f"{name}_moves"] = len(moved)
        found[f"{name}_first_stated"] = first
        found[f"{name}_slippage_days"] = days_between(first, now) if first and now else None
    return found


def test_recruitment_of_every_study(
    built: PostgresAddress, histories: dict[str, list[Any]]
) -> None:
    """Durations, rates, plans, moves and times to results of all studies, 67 of which have a history."""
    found = {row["nct_id"]: row for row in rows(built, "SELECT * FROM marts.fct_recruitment")}
    assert found.keys() == histories.keys()
    for nct_id, contents in histories.items():
        for column, value in expected_recruitment(contents).items():
            told = found[nct_id][column]
            if isinstance(value, float):
                # Rates are rounded to four places.
                assert abs(float(told) - value) <= 0.00005001, (nct_id, column)
            else:
                assert told == value, (nct_id, column)
    moved = [row for row in found.values() if row["primary_completion_moves"]]
    assert len(moved) > 10
    assert sum(row["first_observed_date"] is not None for row in found.values()) == 67


def test_funnel_adds_up(built: PostgresAddress, histories: dict[str, list[Any]]) -> None:
    """By year of registration, each stage has as many studies as the JSON has."""
    expected: dict[int, Counter[str]] = defaultdict(Counter)
    for contents in histories.values():
        study, module = contents[-1], status_module(contents[-1])
        counts = expected[int(module["studyFirstSubmitDate"][:4])]
        status, last_known = module.get("overallStatus"), module.get("lastKnownStatus")
        stage = next((name for name, held in STATUSES.items() if status in held), "other_status")
        counts.update([stage, "registered"])
        counts["started"] += status in STARTED or (status == "UNKNOWN" and last_known in STARTED)
        counts["with_results"] += bool(study.get("hasResults"))
    columns = [*STATUSES, "other_status", "registered", "started", "with_results"]
    sums = ", ".join(f"sum({name})" for name in columns)
    found = values(
        built, f"SELECT registration_year, {sums} FROM marts.fct_study_funnel GROUP BY 1"
    )
    assert {year: dict(zip(columns, map(int, counts), strict=True)) for year, *counts in found} == {
        year: {name: counts[name] for name in columns} for year, counts in expected.items()
    }


def test_reasons_of_every_stopped_study(
    built: PostgresAddress, histories: dict[str, list[Any]]
) -> None:
    """Each study that stopped, and no other, has reasons; those for safety are the ones found by reading."""
    stopped = {
        nct_id: module.get("whyStopped")
        for nct_id, contents in histories.items()
        for module in [status_module(contents[-1])]
        if module.get("overallStatus") in {"TERMINATED", "WITHDRAWN", "SUSPENDED"}
        or module.get("whyStopped")
    }
    found = rows(built, "SELECT * FROM marts.fct_stop_reason")
    assert {row["nct_id"]: row["why_stopped"] for row in found} == stopped
    assert all(
        reasons in ({"other"}, {"none given"}) or not reasons & {"other", "none given"}
        for nct_id in stopped
        for reasons in [{row["reason"] for row in found if row["nct_id"] == nct_id}]
    )
    for_safety = [row["why_stopped"] for row in found if row["reason"] == "safety"]
    assert sorted(for_safety) == sorted(map(str.strip, STOPPED_FOR_SAFETY.strip().splitlines()))


def queries() -> Iterator[str]:
    """The queries of the guide, in order."""
    for block in re.findall(r"```sql\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL):
        yield from (query for query in block.split(";\n") if query.strip())


def test_first_queries_of_the_guide(
    built: PostgresAddress, histories: dict[str, list[Any]]
) -> None:
    """Each finds something; the first finds the medians that the guide tells."""
    answers = [values(built, query) for query in queries()]
    assert all(answers)
    months = []
    for contents in histories.values():
        section, module = contents[-1]["protocolSection"], status_module(contents[-1])
        sponsor = section["sponsorCollaboratorsModule"]["leadSponsor"]["class"]
        kinds = section.get("armsInterventionsModule", {}).get("interventions") or []
        if (
            sponsor == "INDUSTRY"
            and section.get("designModule", {}).get("phases") == ["PHASE3"]
            and module["overallStatus"] == "COMPLETED"
            and "2016" <= (stated(contents[-1], "completion")[0] or "")[:4] <= "2019"
            and any(kind["type"] == "DRUG" for kind in kinds)
        ):
            it = expected_recruitment(contents)
            if it["recruitment_days"] and it["site_count"] and it["enrolled"]:
                months.append(it["recruitment_days"] / MONTH)
    [(trials, median_months, *rates)] = answers[0]
    assert (trials, median_months) == (len(months), pytest.approx(median(months), abs=0.005))
    assert [float(rate) for rate in rates] == pytest.approx([51.5537, 55, 6.7684, 0.2585])
