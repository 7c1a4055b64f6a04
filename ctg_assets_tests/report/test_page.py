"""The report's page, from rows made for this: what it shows, and that it can only be looked at."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from ctg_assets.postgres.schemas import Schemas
from ctg_assets.report import extra
from ctg_assets.report.asking import Answer, shown_question
from ctg_assets.report.extra import PlotsNotInstalledError, require_plots
from ctg_assets.report.figures import SECTIONS, Columns, Figure, all_figures
from ctg_assets.report.page import DataState, report_page
from ctg_assets.report.plots import describe, draw
from ctg_assets.results import FailedCheck
from ctg_assets_tests.report.pages import check_page

HOSTILE = '</script><b>bold</b> & \x1b[31m "quoted" \u202e'
SHOWN = "&lt;/script&gt;&lt;b&gt;bold&lt;/b&gt; &amp; \\x1b[31m &quot;quoted&quot; \\u202e"

FIGURES = {figure.name: figure for figure in all_figures()}
NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
STATE = DataState(
    (("Loaded", "today"),), (("NCT00000001", HOSTILE),), (FailedCheck("a", "b", HOSTILE, True),)
)


def answers(**rows: Sequence[Mapping[str, Any]]) -> dict[str, Answer]:
    """Answers with these rows; what the others would need is not there."""
    return {
        name: Answer(figure, f"select '{name}' < 1", tuple(rows[name]))
        if name in rows
        else Answer(figure, "select", missing=f'relation "marts.{name}" does not exist')
        for name, figure in FIGURES.items()
    }


def page(state: DataState = STATE, /, **rows: Sequence[Mapping[str, Any]]) -> str:
    """The page of such answers, which is checked."""
    made = report_page(answers(**rows), state, NOW, "2026-03-15 09:00 UTC")
    check_page(made)
    return made


def drawn(name: str, *rows: Mapping[str, Any]) -> str:
    """The plot of a figure with these rows."""
    return draw(answers(**{name: rows})[name])


@pytest.mark.slow
def test_what_people_wrote_can_only_be_read() -> None:
    """Names with markup and escape sequences are shown as they are, in plots, tables, checks and quarantine."""
    made = page(
        conditions=[{"condition": HOSTILE, "studies": 3, "recruiting": 1}],
        changes_of_note=[
            {
                "nct_id": "NCT00000002",
                "title": HOSTILE,
                "what": "status_changed",
                "subject": None,
                "old_value": "RECRUITING",
                "new_value": "TERMINATED",
                "days": None,
                "after_primary_completion": None,
                "observed": date(2026, 3, 14),
            }
        ],
    )
    # Table, change, check, quarantine, and what a plot is described by on two screens.
    assert made.count(SHOWN) == 6
    # The plot itself has as much of a name as there is room for.
    assert "&lt;/script&gt;&lt;b&gt;bold&lt;/b" in made.partition("<table")[0]
    assert "Status changed: Recruiting → Terminated" in made
    assert ">2026-03-14</td>" in made
    assert "select &#x27;conditions&#x27; &lt; 1" in made


def test_what_is_missing_is_said() -> None:
    """Where nothing is loaded each section names what is missing and the remedy, and what is empty says so.

    What is about a source that not everybody loads is not there.
    """
    optional = [figure for section in SECTIONS if section.needs_data for figure in section.figures]
    made = page(DataState((), (), None), results_overdue=[])
    assert made.count("does not exist. `ctg-assets refresh` builds what is missing") == len(
        FIGURES
    ) - 1 - len(optional)
    assert [section.name for section in SECTIONS if f'href="#{section.name}"' not in made] == [
        "burden"
    ]
    assert not [figure for figure in optional if figure.title in made]
    assert "No results are overdue." in made
    assert "What checks found is not known here." in made
    assert "No study is in quarantine." in made
    assert "Every check passed when it was last made." in page(DataState((), (), ()))


@pytest.mark.slow
def test_plots_have_texts_for_those_who_do_not_see_them() -> None:
    """Each kind of plot is described by its largest values, on both screens, with its unit on the axis."""
    rows: dict[str, list[dict[str, Any]]] = {
        "status": [{"status": "COMPLETED", "studies": 1400}, {"status": None, "studies": 2000}],
        "registered_by_year": [
            {"year": 2020, "study_type": "INTERVENTIONAL", "studies": 5},
            {"year": 2020, "study_type": "OBSERVATIONAL", "studies": 3},
            {"year": 2023, "study_type": "INTERVENTIONAL", "studies": 7},
        ],
        "countries": [
            {
                "country": "France",
                "studies": 4,
                "recruiting": 1,
                "latitude": 46.0,
                "longitude": 2.0,
            },
            {
                "country": "Nowhere",
                "studies": 9,
                "recruiting": 0,
                "latitude": None,
                "longitude": None,
            },
        ],
    }
    described = check_page(page(STATE, **rows))
    assert described == [
        text
        for text in (
            "Bar chart with 2 bars. Longest: not given 2,000; Completed 1,400.",
            "Column chart from 2020 to 2023. Highest in 2020 with 8; 7 in 2023.",
            "World map with a circle for each of 2 countries. Most: Nowhere 9; France 4.",
        )
        for _ in ("wide", "narrow")
    ]
    years = drawn("registered_by_year", *rows["registered_by_year"])
    # The years between, in which nothing was posted, have their place.
    assert [year for year in ("2020", "2021", "2022", "2023") if f">{year}<" in years] == [
        *("2020", "2021", "2022", "2023")
    ]
    assert ">Studies<" in years
    assert "var(--series-2)" in years


def _burden(country: str, numeric_code: str, per_million: str) -> dict[str, Any]:
    return {
        "country": country,
        "numeric_code": numeric_code,
        "trials": 1,
        "dalys": 10,
        "year": 2021,
        "trials_per_million_dalys": Decimal(per_million),
        "release": "GHE2021",
        "licence": "CC",
    }


@pytest.mark.slow
def test_a_map_shades_countries_by_class() -> None:
    """Each country with a number is drawn in the shade of its class, none apart from a little; others stay land."""
    rows = [
        _burden("France", "250", "100.0"),
        _burden("India", "356", "9.9"),
        _burden("Mali", "466", "0.9"),
        _burden("Niger", "562", "0"),
        # It has no outline at this scale.
        _burden("Nauru", "520", "3"),
    ]
    made = page(STATE, burden_map=rows)
    assert check_page(made)[0].startswith("World map with 5 countries shaded. Most: France 100.0; ")
    wide = drawn("burden_map", *rows).partition("</svg>")[0]
    # One for each country with an outline, and one for each class in the legend.
    shades = Counter(re.findall(r"var\(--series-1\) (\d+)%", wide))
    assert shades == {"10": 2, "32": 2, "55": 2, "77": 1, "100": 2}
    for name in ("none", "under 1", "1 to 10", "10 to 100", "100 and more"):
        assert f">{name}<" in wide
    # The other figure of the section has no rows here, and says so.
    assert "The ten causes with the fewest trials for their burden" in made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("status", {"status": "A", "studies": 0}),
        ("conditions", {"condition": "x" * 10_000, "studies": 600_000, "recruiting": 1}),
        ("starts_by_month", {"month": "2026-03", "start_date_type": "NOT_STATED", "studies": 1}),
        ("results_falling_due", {"month": "2026-03", "trials": 1}),
    ],
)
def test_odd_rows_are_drawn(name: str, row: Mapping[str, Any]) -> None:
    """One row, nothing in it, or a name of any length: there is a plot, and it is no wider than its screen."""
    made = drawn(name, row)
    assert made.count("<svg ") == 2
    widths = [float(part.split('"')[0].split()[2]) for part in made.split('viewBox="')[1:]]
    assert widths[0] <= 870
    assert widths[1] <= 360


@pytest.mark.slow
def test_dates_that_are_centuries_off_do_not_make_a_plot_endless() -> None:
    """Of a column chart the newest sixty years or months are drawn; the table has the others."""
    figure = Figure("x", "X", {"n": "N"}, Columns("year", "n"))
    rows = ({"year": 1, "n": 1}, {"year": 2026, "n": 2})
    answer = Answer(figure, "", rows)
    assert describe(answer).startswith("Column chart from 1 to 2026.")
    assert draw(answer).count("<path aria-") < 10


@pytest.mark.parametrize("figure", all_figures(), ids=lambda figure: figure.name)
def test_each_question_is_a_file_that_reads_by_purpose(figure: Figure) -> None:
    """The SQL begins with what it asks, and names no schema but by its purpose."""
    shown = shown_question(figure.name, Schemas(marts="m", staging="s"))
    assert shown.startswith("-- ")
    assert "{" not in shown
    assert "marts." not in shown
    assert "staging." not in shown


def test_without_the_extra_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the libraries that draw are not installed, the error says what to install."""
    monkeypatch.setattr(extra, "find_spec", lambda _: None)
    with pytest.raises(PlotsNotInstalledError, match=r"pip install 'ctg-assets\[report\]'"):
        require_plots()
