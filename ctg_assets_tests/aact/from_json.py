"""The small program that works out, from the registry's JSON alone, what AACT's tables must answer.

It knows nothing of ctg_assets: plain Python over the studies, one list of named tuples for each of
AACT's tables that a statement asks, in the order of AACT's ids. A row's `id` is its place in its list,
which says nothing but which row is meant.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from functools import cached_property
from typing import Any, NamedTuple

Json = dict[str, Any]


def at(value: Any, path: str) -> Any:
    """What stands at a path of names below a value; None where there is nothing."""
    for name in path.split("."):
        value = (value or {}).get(name)
    return value


def items(value: Any, path: str) -> list[Any]:
    """The items of the list at a path; none where there is no list."""
    return at(value, path) or []


def last_day(text: str | None) -> date | None:
    """The last day that a date to the year, month or day may mean, which is what AACT fills in."""
    if text is None:
        return None
    numbers = [int(number) for number in text[:10].split("-")]
    year, month, day = (*numbers, 12, 31)[:3] if len(numbers) == 1 else (*numbers, 31)[:3]
    return date(year, month, min(day, calendar.monthrange(year, month)[1]))


def number(text: str | None) -> Decimal | None:
    """The number that a text is and nothing else, thousands separators left out; None for other texts."""
    if text is None or not re.fullmatch(
        r"[-+]?(\d+\.?\d*|\.\d+|[1-9]\d{0,2}(,\d{3})+(\.\d*)?)([eE][-+]?\d+)?", text.strip()
    ):
        return None
    return Decimal(text.replace(",", ""))


class Study(NamedTuple):
    """A row of studies, with the JSON it comes from."""

    nct_id: str
    json: Json
    status: str
    study_type: str | None
    phase: str | None
    brief_title: str
    official_title: str | None
    acronym: str | None
    enrollment: int | None
    enrollment_type: str | None
    start_text: str | None
    start: date | None
    start_type: str | None
    primary_completion_text: str | None
    primary_completion: date | None
    primary_completion_type: str | None
    completion: date | None
    first_submitted: date
    results_submitted: date | None
    results_posted: date | None
    why_stopped: str | None
    source: str


class Named(NamedTuple):
    """A row of conditions, keywords or countries, or another with a name only."""

    id: int
    nct_id: str
    name: str


class Intervention(NamedTuple):
    """A row of interventions."""

    id: int
    nct_id: str
    type: str
    name: str
    json: Json


class Sponsor(NamedTuple):
    """A row of sponsors."""

    id: int
    nct_id: str
    role: str
    agency_class: str | None
    name: str


class Facility(NamedTuple):
    """A row of facilities."""

    id: int
    nct_id: str
    name: str | None
    status: str | None
    city: str | None
    state: str | None
    country: str | None
    latitude: float | None
    longitude: float | None
    json: Json


class Country(NamedTuple):
    """A row of countries."""

    nct_id: str
    name: str
    removed: bool


class Term(NamedTuple):
    """A row of browse_conditions or browse_interventions."""

    id: int
    nct_id: str
    term: str
    mesh_type: str


class Group(NamedTuple):
    """A row of design_groups."""

    id: int
    nct_id: str
    title: str
    type: str | None


class Planned(NamedTuple):
    """A row of design_outcomes."""

    id: int
    nct_id: str
    type: str
    measure: str
    time_frame: str | None


class Outcome(NamedTuple):
    """A row of outcomes."""

    id: int
    nct_id: str
    type: str
    title: str
    json: Json

    def group(self, code: str) -> str:
        """The title of the outcome's group of a code."""
        return _titles(items(self.json, "groups"))[code]


class Measurement(NamedTuple):
    """A row of outcome_measurements."""

    outcome: Outcome
    group: str
    classification: str | None
    category: str | None
    value: str | None


class Event(NamedTuple):
    """A row of reported_events, with the title of its group."""

    nct_id: str
    type: str
    organ_system: str | None
    term: str
    group: str
    affected: int | None
    at_risk: int | None
    times: int | None


def _titles(groups: list[Json]) -> dict[str, str]:
    return {group["id"]: group["title"] for group in groups}


_PROTOCOL = "protocolSection"
_IDENTIFICATION = f"{_PROTOCOL}.identificationModule"
_STATUS = f"{_PROTOCOL}.statusModule"
_DESIGN = f"{_PROTOCOL}.designModule"
_SPONSORS = f"{_PROTOCOL}.sponsorCollaboratorsModule"
_ARMS = f"{_PROTOCOL}.armsInterventionsModule"
_CONTACTS = f"{_PROTOCOL}.contactsLocationsModule"
_EVENTS = "resultsSection.adverseEventsModule"


def _study(json: Json) -> Study:
    phases = items(json, f"{_DESIGN}.phases")
    start, primary = (
        at(json, f"{_STATUS}.startDateStruct"),
        at(json, f"{_STATUS}.primaryCompletionDateStruct"),
    )
    first = last_day(at(json, f"{_STATUS}.studyFirstSubmitDate"))
    assert first is not None
    return Study(
        nct_id=at(json, f"{_IDENTIFICATION}.nctId"),
        json=json,
        status=at(json, f"{_STATUS}.overallStatus"),
        study_type=at(json, f"{_DESIGN}.studyType"),
        phase="/".join(phases) or None,
        brief_title=at(json, f"{_IDENTIFICATION}.briefTitle"),
        official_title=at(json, f"{_IDENTIFICATION}.officialTitle"),
        acronym=at(json, f"{_IDENTIFICATION}.acronym"),
        enrollment=at(json, f"{_DESIGN}.enrollmentInfo.count"),
        enrollment_type=at(json, f"{_DESIGN}.enrollmentInfo.type"),
        start_text=at(start, "date"),
        start=last_day(at(start, "date")),
        start_type=at(start, "type"),
        primary_completion_text=at(primary, "date"),
        primary_completion=last_day(at(primary, "date")),
        primary_completion_type=at(primary, "type"),
        completion=last_day(at(json, f"{_STATUS}.completionDateStruct.date")),
        first_submitted=first,
        results_submitted=last_day(at(json, f"{_STATUS}.resultsFirstSubmitDate")),
        results_posted=last_day(at(json, f"{_STATUS}.resultsFirstPostDateStruct.date")),
        why_stopped=at(json, f"{_STATUS}.whyStopped"),
        source=at(json, f"{_IDENTIFICATION}.organization.fullName"),
    )


class Registry:
    """AACT's tables as lists, made when they are asked for."""

    def __init__(self, studies: list[Json]) -> None:
        """Take the studies as the registry sent them."""
        self.studies = sorted((_study(json) for json in studies), key=lambda study: study.nct_id)
        self.by_id = {study.nct_id: study for study in self.studies}

    def eligibility(self, nct_id: str, name: str) -> Any:
        """A field of a study's eligibility module."""
        return at(self.by_id[nct_id].json, f"{_PROTOCOL}.eligibilityModule.{name}")

    def design(self, nct_id: str, name: str) -> Any:
        """A field of a study's design."""
        return at(self.by_id[nct_id].json, f"{_DESIGN}.designInfo.{name}")

    def _each(self, rows: Callable[[Study], Iterator[Any]]) -> list[Any]:
        """The rows of all studies, their first field being their place."""
        every = (row for study in self.studies for row in rows(study))
        return [row._replace(id=place) for place, row in enumerate(every)]

    def _named(self, path: str) -> list[Named]:
        return self._each(
            lambda study: (Named(0, study.nct_id, name) for name in items(study.json, path))
        )

    @cached_property
    def conditions(self) -> list[Named]:
        """The conditions as written."""
        return self._named(f"{_PROTOCOL}.conditionsModule.conditions")

    @cached_property
    def keywords(self) -> list[Named]:
        """The keywords as written."""
        return self._named(f"{_PROTOCOL}.conditionsModule.keywords")

    @cached_property
    def interventions(self) -> list[Intervention]:
        """The interventions, each with its JSON."""
        return self._each(
            lambda study: (
                Intervention(0, study.nct_id, one.get("type"), one.get("name"), one)
                for one in items(study.json, f"{_ARMS}.interventions")
            )
        )

    @cached_property
    def groups(self) -> list[Group]:
        """The planned groups."""
        return self._each(
            lambda study: (
                Group(0, study.nct_id, one.get("label"), one.get("type"))
                for one in items(study.json, f"{_ARMS}.armGroups")
            )
        )

    @cached_property
    def sponsors(self) -> list[Sponsor]:
        """The lead sponsor of each study, and those who work with it."""

        def rows(study: Study) -> Iterator[Sponsor]:
            lead = at(study.json, f"{_SPONSORS}.leadSponsor")
            others = items(study.json, f"{_SPONSORS}.collaborators")
            for role, one in [("lead", lead), *(("collaborator", other) for other in others)]:
                if one is not None:
                    yield Sponsor(0, study.nct_id, role, one.get("class"), one.get("name"))

        return self._each(rows)

    @cached_property
    def leads(self) -> dict[str, Sponsor]:
        """The lead sponsor by study."""
        return {one.nct_id: one for one in self.sponsors if one.role == "lead"}

    @cached_property
    def facilities(self) -> list[Facility]:
        """The sites."""
        return self._each(
            lambda study: (
                Facility(
                    0,
                    study.nct_id,
                    name=one.get("facility"),
                    status=one.get("status"),
                    city=one.get("city"),
                    state=one.get("state"),
                    country=one.get("country"),
                    latitude=at(one, "geoPoint.lat"),
                    longitude=at(one, "geoPoint.lon"),
                    json=one,
                )
                for one in items(study.json, f"{_CONTACTS}.locations")
            )
        )

    @cached_property
    def countries(self) -> list[Country]:
        """The countries of each study's sites, and those whose sites were removed."""
        there = [(one.nct_id, one.country, False) for one in self.facilities if one.country]
        path = "derivedSection.miscInfoModule.removedCountries"
        removed = [
            (study.nct_id, name, True) for study in self.studies for name in items(study.json, path)
        ]
        return [Country(*row) for row in [*dict.fromkeys(there), *removed]]

    def terms(self, kind: str) -> list[Term]:
        """The MeSH terms (`mesh-list`) and those above them of conditions or interventions."""

        def rows(study: Study) -> Iterator[Term]:
            module = at(study.json, f"derivedSection.{kind}BrowseModule")
            for name, mesh_type in (("meshes", "mesh-list"), ("ancestors", "mesh-ancestor")):
                for one in items(module, name):
                    yield Term(0, study.nct_id, one.get("term"), mesh_type)

        return self._each(rows)

    @cached_property
    def planned(self) -> list[Planned]:
        """The outcomes to be measured."""
        return self._each(
            lambda study: (
                Planned(0, study.nct_id, kind, one.get("measure"), one.get("timeFrame"))
                for kind in ("primary", "secondary", "other")
                for one in items(study.json, f"{_PROTOCOL}.outcomesModule.{kind}Outcomes")
            )
        )

    @cached_property
    def outcomes(self) -> list[Outcome]:
        """The outcomes with results."""
        path = "resultsSection.outcomeMeasuresModule.outcomeMeasures"
        return self._each(
            lambda study: (
                Outcome(0, study.nct_id, one.get("type"), one.get("title"), one)
                for one in items(study.json, path)
            )
        )

    @cached_property
    def measurements(self) -> list[Measurement]:
        """What was measured of each outcome."""
        return [
            Measurement(
                outcome,
                outcome.group(one["groupId"]),
                class_.get("title"),
                category.get("title"),
                one.get("value"),
            )
            for outcome in self.outcomes
            for class_ in items(outcome.json, "classes")
            for category in items(class_, "categories")
            for one in items(category, "measurements")
        ]

    @cached_property
    def events(self) -> list[Event]:
        """How many subjects of each group had each adverse event."""
        return [
            Event(
                study.nct_id,
                kind,
                event.get("organSystem"),
                event.get("term"),
                titles[one["groupId"]],
                one.get("numAffected"),
                one.get("numAtRisk"),
                one.get("numEvents"),
            )
            for study in self.studies
            for titles in [_titles(items(study.json, f"{_EVENTS}.eventGroups"))]
            for kind in ("serious", "other")
            for event in items(study.json, f"{_EVENTS}.{kind}Events")
            for one in items(event, "stats")
        ]


def by_study(rows: list[Any]) -> dict[str, list[Any]]:
    """The rows of each study, by its number."""
    found: dict[str, list[Any]] = {}
    for row in rows:
        found.setdefault(row.nct_id, []).append(row)
    return found
