"""One study: what it is, and how it came to be so, out of the lake alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import polars as pl

from ctg_assets.errors import CtgAssetsError
from ctg_assets.lake import Lake
from ctg_assets.model.nct_ids import EXPECTED, is_nct_id
from ctg_assets.report.labels import coded

_ALIASES = "protocolSection.identificationModule.nctIdAliases"
_WANTED = ["nct_id", "content_hash", "contents_entry"]


class UnknownStudyError(CtgAssetsError, LookupError):
    """The lake never saw such a study; the message says what was looked for."""


@dataclass(frozen=True)
class StudyVersion:
    """A stretch of time in which the study had one content."""

    number: int
    valid_from: datetime
    valid_to: datetime | None
    ended_by: str | None
    last_update_post_date: date | None


@dataclass(frozen=True)
class Event:
    """What a change means: see the table `study_events`."""

    event_type: str
    subject: str | None
    old_value: str | None
    new_value: str | None
    days: int | None
    after_primary_completion: bool | None


@dataclass(frozen=True)
class Change:
    """What happened to the study at one time, what that means, and in which fields.

    `kind` is that of the table `study_changes`.
    """

    change_seq: int
    kind: str
    observed_at: datetime
    is_silent: bool
    is_backfill: bool
    merged_into: str | None
    events: tuple[Event, ...]
    fields: tuple[str, ...]


@dataclass(frozen=True)
class StudyCard:
    """A study as it is, or last was, and its history, oldest first.

    `facts` are names and values in words. `state` says where it is now. `asked` is the id that was asked for, where that is
    an alias of the study.
    """

    nct_id: str
    title: str
    state: str
    facts: tuple[tuple[str, str], ...]
    versions: tuple[StudyVersion, ...]
    changes: tuple[Change, ...]
    asked: str | None = None


def study_card(lake: Lake, asked: str) -> StudyCard:
    """The card of the study that an id names, be it in small letters, or an alias.

    Raises UnknownStudyError for an id of which the lake knows nothing, DamagedFileError for a file that is not as it
    was written.
    """
    nct_id = asked.strip()
    index = lake.history.periods() if lake.history.latest() else pl.DataFrame()
    periods = _periods(index, nct_id)
    if periods.is_empty():
        nct_id = nct_id.upper()
        periods = _periods(index, nct_id)
    alias = None
    if periods.is_empty():
        alias, nct_id = nct_id, _bearer(lake, nct_id)
        periods = _periods(index, nct_id)
    changes = tuple(_changes(lake, nct_id))
    content = _content(lake, periods)
    return StudyCard(
        nct_id=nct_id,
        title=_title(content),
        state=_state(periods, changes),
        facts=tuple(_facts(content)),
        versions=tuple(
            StudyVersion(
                row["version_number"],
                row["valid_from"],
                row["valid_to"],
                row["ended_by"],
                row["last_update_post_date"],
            )
            for row in periods.iter_rows(named=True)
        ),
        changes=changes,
        asked=alias,
    )


def _periods(index: pl.DataFrame, nct_id: str) -> pl.DataFrame:
    if index.is_empty():
        return index
    return index.filter(pl.col("nct_id") == nct_id).sort("valid_from")


def _bearer(lake: Lake, alias: str) -> str:
    """The current study that bears an id as its alias; raises UnknownStudyError if there is none."""
    manifest = lake.snapshots.latest()
    if manifest is not None and is_nct_id(alias):
        for studies in lake.snapshots.batches(manifest.snapshot_id, ["nct_id", _ALIASES]):
            for row in studies.to_pylist():
                protocol = row["protocolSection"] or {}
                aliases = (protocol.get("identificationModule") or {}).get("nctIdAliases") or ()
                if alias in aliases:
                    return str(row["nct_id"])
    where = lake.storage.root
    if not is_nct_id(alias):
        message = (
            f"{alias!r} is no study's id, and nothing in {where} is called so; an id is {EXPECTED}"
        )
    elif manifest is None:
        message = f"there are no studies in {where} yet; `ctg-assets refresh` brings them"
    else:
        message = f"no study {alias} was ever seen in {where}, nor is it an alias of one"
    raise UnknownStudyError(message)


def _content(lake: Lake, periods: pl.DataFrame) -> Any:
    """The newest content as Python has it; None if it is no sound JSON."""
    newest = periods.tail(1).select(_WANTED)
    [rows] = lake.history.contents(newest, 1)
    try:
        return json.loads(rows["study"][0].as_py())
    except ValueError:
        return None


def _changes(lake: Lake, nct_id: str) -> Iterator[Change]:
    """The changes of a study in the order in which they happened."""
    history, of_study = lake.history, pl.col("nct_id") == nct_id
    found = []
    for entry in history.entries():
        changes = history.changes(entry.sequence).filter(of_study)
        if changes.is_empty():
            continue
        events = history.typed_events(entry.sequence).filter(of_study)
        fields = history.field_changes(entry.sequence).filter(of_study)
        found += [
            _change(
                row,
                events.filter(pl.col("change_seq") == row["change_seq"]),
                fields.filter(pl.col("change_seq") == row["change_seq"]),
            )
            for row in changes.iter_rows(named=True)
        ]
    yield from sorted(found, key=lambda change: (change.observed_at, change.change_seq))


def _change(row: Mapping[str, Any], events: pl.DataFrame, fields: pl.DataFrame) -> Change:
    return Change(
        change_seq=row["change_seq"],
        kind=row["kind"],
        observed_at=row["observed_at"],
        is_silent=row["is_silent"],
        is_backfill=row["is_backfill"],
        merged_into=row["merged_into"],
        events=tuple(
            Event(*(event[name] for name in Event.__dataclass_fields__))
            for event in events.sort("position").iter_rows(named=True)
        ),
        fields=tuple(fields.sort("position")["path"].unique(maintain_order=True).to_list()),
    )


def _state(periods: pl.DataFrame, changes: Sequence[Change]) -> str:
    last = periods.row(-1, named=True)
    if last["valid_to"] is None:
        return "in the registry"
    when = f"since {last['valid_to']:%Y-%m-%d}"
    if last["ended_by"] == "leave_scope":
        return f"in the registry, but not in the scope of this warehouse {when}"
    if last["ended_by"] == "merge":
        bearers = [change.merged_into for change in changes if change.merged_into]
        return f"merged into {bearers[-1] if bearers else 'another study'} {when}"
    return f"gone from the registry {when}"


def _title(content: Any) -> str:
    names = ("protocolSection", "identificationModule")
    found = _at(content, *names, "briefTitle") or _at(content, *names, "officialTitle")
    return str(found) if found else "(no title)"


def _facts(content: Any) -> Iterator[tuple[str, str]]:
    """What the newest content says; whatever is absent, or not of the kind expected, is left out."""
    if not isinstance(content, dict):
        yield "content", "is no sound JSON"
        return
    protocol = _at(content, "protocolSection")
    status, design = _at(protocol, "statusModule"), _at(protocol, "designModule")
    sponsors = _at(protocol, "sponsorCollaboratorsModule")
    stated = [
        ("official title", _at(protocol, "identificationModule", "officialTitle")),
        ("acronym", _at(protocol, "identificationModule", "acronym")),
        ("status", _code(_at(status, "overallStatus"))),
        ("why stopped", _at(status, "whyStopped")),
        ("type", _code(_at(design, "studyType"))),
        ("phase", ", ".join(map(_code, _list(design, "phases")))),
        ("lead sponsor", _at(sponsors, "leadSponsor", "name")),
        ("collaborators", _joined(sponsors, "collaborators")),
        ("conditions", ", ".join(map(str, _list(protocol, "conditionsModule", "conditions")))),
        ("interventions", _joined(protocol, "armsInterventionsModule", "interventions")),
        ("start", _dated(status, "startDateStruct")),
        ("primary completion", _dated(status, "primaryCompletionDateStruct")),
        ("completion", _dated(status, "completionDateStruct")),
        ("enrollment", _enrollment(design)),
        ("sites", _sites(protocol)),
        ("first posted", _at(status, "studyFirstPostDateStruct", "date")),
        ("last update posted", _at(status, "lastUpdatePostDateStruct", "date")),
        ("results", _results(content, status)),
        ("aliases", ", ".join(map(str, _list(protocol, "identificationModule", "nctIdAliases")))),
    ]
    for name, value in stated:
        if value:
            yield name, str(value)


def _at(content: Any, *path: str) -> Any:
    for name in path:
        content = content.get(name) if isinstance(content, dict) else None
    return content


def _list(content: Any, *path: str) -> list[Any]:
    found = _at(content, *path)
    return found if isinstance(found, list) else []


def _code(value: Any) -> str:
    return coded(value) if isinstance(value, str) else ""


def _joined(content: Any, *path: str) -> str:
    return ", ".join(str(_at(item, "name")) for item in _list(content, *path))


def _dated(status: Any, name: str) -> str:
    day, kind = _at(status, name, "date"), _code(_at(status, name, "type"))
    return f"{day} ({kind.lower()})" if day and kind else str(day or "")


def _enrollment(design: Any) -> str:
    count, kind = (_at(design, "enrollmentInfo", name) for name in ("count", "type"))
    if not isinstance(count, int):
        return ""
    return f"{count:,} participants" + (f" ({_code(kind).lower()})" if kind else "")


def _sites(protocol: Any) -> str:
    sites = _list(protocol, "contactsLocationsModule", "locations")
    countries = sorted({str(_at(site, "country")) for site in sites if _at(site, "country")})
    if not sites:
        return ""
    return f"{len(sites):,} in {', '.join(countries) or 'no country that is named'}"


def _results(content: Any, status: Any) -> str:
    posted = _at(status, "resultsFirstPostDateStruct", "date")
    if _at(content, "hasResults") or posted:
        return f"posted {posted}" if posted else "posted"
    submitted = _at(status, "resultsFirstSubmitDate")
    return f"submitted {submitted}, not posted" if submitted else "none posted"
