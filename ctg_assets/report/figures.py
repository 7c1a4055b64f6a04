"""What the report shows: every figure with its question, its plot and the names of its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Bars:
    """A bar for each row, as long as `value`, named by `category`."""

    category: str
    value: str


@dataclass(frozen=True)
class Columns:
    """A column for each `time`, as high as `value`, in parts of `series` if there is one."""

    time: str
    value: str
    series: str | None = None


@dataclass(frozen=True)
class Places:
    """A world map with a circle for each row, its area that of `value`, named by `category`."""

    category: str
    value: str


@dataclass(frozen=True)
class Areas:
    """A world map on which each row's country is as dark as `value`, in classes that begin at `limits`.

    `category` names the country, `numeric_code` has its three digits of ISO 3166-1.
    """

    category: str
    value: str
    limits: tuple[int, ...]
    numeric_code: str = "numeric_code"


Plot = Bars | Columns | Places | Areas


@dataclass(frozen=True)
class Figure:
    """One question to the warehouse, and how its answer is shown.

    `name` is that of the file in `queries`. `columns` are those that the table shows, with their headings, in
    which the unit stands. Without a plot the table is shown itself, else it is folded behind the plot. `nothing` says
    what it means that there are no rows. Where `tells_events`, each row is an event, and column `told` tells it in words.
    """

    name: str
    title: str
    columns: Mapping[str, str]
    plot: Plot | None = None
    note: str = ""
    nothing: str = "There are none."
    tells_events: bool = False


@dataclass(frozen=True)
class Section:
    """Figures on one subject.

    One that `needs_data` is about a source that not everybody loads; without any row it is no part of the page.
    """

    name: str
    title: str
    figures: tuple[Figure, ...]
    needs_data: bool = False


OVERVIEW = Figure(
    "overview",
    "In numbers",
    {
        "studies": "studies",
        "recruiting": "recruiting now",
        "interventional": "interventional",
        "with_results": "with results",
        "sponsors": "sponsors and collaborators",
        "sites": "places",
        "countries": "countries",
    },
)
"""Its one row is shown as numbers at the top."""

SECTIONS = (
    Section(
        "studies",
        "Studies",
        (
            Figure(
                "status",
                "Studies by status",
                {"status": "Status", "studies": "Studies"},
                Bars("status", "studies"),
            ),
            Figure(
                "phase",
                "Interventional studies by phase",
                {"phase": "Phase", "studies": "Studies"},
                Bars("phase", "studies"),
                note="Not applicable are mostly studies without a drug or biological product.",
            ),
            Figure(
                "registered_by_year",
                "Studies by year of first posting, and type",
                {"year": "Year", "study_type": "Type", "studies": "Studies"},
                Columns("year", "studies", "study_type"),
                note="The newest year is not over.",
            ),
            Figure(
                "conditions",
                "Conditions that most studies name",
                {"condition": "Condition", "studies": "Studies", "recruiting": "Recruiting now"},
                Bars("condition", "studies"),
                note="Names as sponsors write them, MeSH headings where a name is one; subtypes are not added up.",
            ),
        ),
    ),
    Section(
        "recruitment",
        "Recruitment",
        (
            Figure(
                "starts_by_month",
                "Studies by the month in which they start",
                {"month": "Month", "start_date_type": "Date is", "studies": "Studies"},
                Columns("month", "studies", "start_date_type"),
                note="Two years back from the day of the data, and what is planned for the year ahead.",
            ),
            Figure(
                "recruiting_conditions",
                "What studies that recruit now are about",
                {
                    "condition": "Condition",
                    "studies": "Recruiting studies",
                    "participants": "Planned participants",
                },
                Bars("condition", "studies"),
            ),
            Figure(
                "recruitment_months",
                "How long interventional studies recruited",
                {"phase": "Phase", "months": "Months (median)", "studies": "Studies"},
                Bars("phase", "months"),
                note="From start to primary completion, of studies of which that is known.",
            ),
            Figure(
                "stopped_by_year",
                "Completed or stopped, by year of start",
                {"year": "Year of start", "outcome": "Outcome", "studies": "Studies"},
                Columns("year", "studies", "outcome"),
                note="Stopped are those terminated, withdrawn or suspended; those still under way, or of unknown "
                "status, are not counted.",
            ),
            Figure(
                "stop_reasons",
                "Why studies were stopped",
                {"reason": "Reason", "studies": "Studies"},
                Bars("reason", "studies"),
                note="Told from what sponsors write; a study may have several reasons.",
                nothing="No study was stopped.",
            ),
        ),
    ),
    Section(
        "sponsors",
        "Sponsors",
        (
            Figure(
                "sponsors",
                "Organizations that lead most studies",
                {
                    "sponsor": "Lead sponsor",
                    "class": "Class",
                    "studies": "Studies",
                    "recruiting": "Recruiting now",
                },
                Bars("sponsor", "studies"),
            ),
            Figure(
                "sponsor_classes",
                "Studies by class of lead sponsor",
                {"class": "Class", "studies": "Studies"},
                Bars("class", "studies"),
            ),
        ),
    ),
    Section(
        "countries",
        "Countries",
        (
            Figure(
                "countries",
                "Studies by country",
                {"country": "Country", "studies": "Studies", "recruiting": "Recruiting now"},
                Places("country", "studies"),
                note="A study counts in each country where it lists a site.",
                nothing="No study lists a site.",
            ),
        ),
    ),
    Section(
        "burden",
        "Trials and the burden of disease",
        (
            Figure(
                "burden_map",
                "Trials for each million years of healthy life lost",
                {
                    "country": "Country",
                    "trials_per_million_dalys": "Trials per million DALYs",
                    "trials": "Trials under way",
                    "dalys": "DALYs",
                    "year": "Year",
                    "release": "Estimates",
                    "licence": "Licence",
                },
                Areas("country", "trials_per_million_dalys", (0, 1, 10, 100)),
                note="Interventional studies under way in the newest year that WHO estimates, by the disability-adjusted life "
                "years (DALYs) of all causes. A trial counts in each country where it lists a site. Trials registered elsewhere only "
                "are not known here. Countries that WHO does not estimate are grey.",
            ),
            Figure(
                "burden_causes",
                "The ten causes with the fewest trials for their burden",
                {
                    "cause": "Cause",
                    "trials_per_million_dalys": "Trials per million DALYs",
                    "trials": "Trials under way",
                    "dalys": "DALYs",
                    "year": "Year",
                    "release": "Estimates",
                    "licence": "Licence",
                },
                note="Of the causes that WHO ranks. Those that no MeSH term tells, such as road injury, are left out. Few trials need "
                "not be too few: nothing is said of their size, or of what is known already.",
            ),
        ),
        needs_data=True,
    ),
    Section(
        "results",
        "Results that are due",
        (
            Figure(
                "results_status",
                "What trials that have to report results have done",
                {"status": "Status", "trials": "Trials"},
                Bars("status", "trials"),
                note="Applicable and probable trials of FDAAA 801, by the rules of the FDAAA TrialsTracker.",
                nothing="No study has to report results.",
            ),
            Figure(
                "results_falling_due",
                "Results that fall due within a year",
                {"month": "Month", "trials": "Trials"},
                Columns("month", "trials"),
            ),
            Figure(
                "results_overdue",
                "Sponsors that most results are overdue from",
                {
                    "sponsor": "Lead sponsor",
                    "trials_overdue": "Trials overdue",
                    "trials_due": "Trials due",
                    "percent_reported": "Reported, %",
                },
                Bars("sponsor", "trials_overdue"),
                nothing="No results are overdue.",
            ),
            Figure(
                "results_overdue_longest",
                "Trials whose results are overdue the longest",
                {
                    "nct_id": "Study",
                    "title": "Title",
                    "sponsor": "Lead sponsor",
                    "due_date": "Due",
                    "days_late": "Days late",
                },
                nothing="No results are overdue.",
            ),
        ),
    ),
    Section(
        "changes",
        "What changed this week",
        (
            Figure(
                "changes_of_note",
                "The most important changes",
                {
                    "nct_id": "Study",
                    "title": "Title",
                    "told": "What happened",
                    "observed": "Observed",
                },
                tells_events=True,
                note="Seven days up to the day of the data. First come retractions and results withdrawn, then "
                "studies stopped or gone, outcomes changed after completion, results posted. A study is named once.",
                nothing="Nothing important changed in these seven days, or the history begins with them.",
            ),
            Figure(
                "changes_by_kind",
                "How many studies something happened to",
                {"what": "What happened", "studies": "Studies"},
                Bars("what", "studies"),
                nothing="Nothing changed in these seven days, or the history begins with them.",
            ),
        ),
    ),
)


def all_figures() -> tuple[Figure, ...]:
    """Every figure, in the order of the page."""
    return (OVERVIEW, *(figure for section in SECTIONS for figure in section.figures))
