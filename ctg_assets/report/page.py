"""The report as one page of HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ctg_assets.report.asking import Answer
from ctg_assets.report.figures import OVERVIEW, SECTIONS, Section
from ctg_assets.report.labels import label
from ctg_assets.report.markup import (
    definitions,
    element,
    folded,
    sql_block,
    table,
    text,
    whole_page,
)
from ctg_assets.report.plots import draw
from ctg_assets.report.study_card import Event
from ctg_assets.report.study_words import event_in_words
from ctg_assets.results import FailedCheck

_TITLE = "What is in this warehouse"
_DATA = ("data", "State of the data")

# What is not there yet is made so.
_REMEDY = "`ctg-assets refresh` builds what is missing, if CTG_MARTS asks for it."


@dataclass(frozen=True)
class DataState:
    """How the data are: facts in words, what is in quarantine and why, checks that did not pass.

    `findings` is None where nobody can tell.
    """

    facts: tuple[tuple[str, str], ...]
    quarantine: tuple[tuple[str, str], ...]
    findings: tuple[FailedCheck, ...] | None


def report_page(
    answers: Mapping[str, Answer], state: DataState, made_at: datetime, data_version: str
) -> str:
    """The whole page; `answers` are by the names of the figures."""
    subtitle = f"Studies of ClinicalTrials.gov, data of {data_version}; this page was made on {made_at:%Y-%m-%d %H:%M} UTC."
    shown = shown_sections(answers)
    sections = [(section.name, section.title) for section in shown] + [_DATA]
    contents = element(
        "nav",
        element(
            "ul",
            "".join(
                element("li", element("a", text(title), href=f"#{name}"))
                for name, title in sections
            ),
        ),
        aria_label="Sections",
    )
    header = element(
        "header",
        element("h1", text(_TITLE)) + element("p", text(subtitle), class_="quiet") + contents,
    )
    main = element(
        "main",
        _overview(answers[OVERVIEW.name])
        + "".join(_section(section, answers) for section in shown)
        + _state(state),
    )
    footer = element(
        "footer",
        "Made by <code>ctg-assets report</code>. Each figure has the SQL behind it; "
        "<code>ctg-assets psql</code> opens a shell to ask further. The outlines of land and countries are Natural Earth's.",
    )
    return whole_page(f"{_TITLE} · ctg_assets", header + main + footer)


def shown_sections(answers: Mapping[str, Answer]) -> list[Section]:
    """The sections of the page; one that needs data is there only if some of its figures have rows."""
    return [
        section
        for section in SECTIONS
        if not section.needs_data or any(answers[figure.name].rows for figure in section.figures)
    ]


def _overview(answer: Answer) -> str:
    if answer.missing is not None or not answer.rows:
        return _without(answer)
    [row] = answer.rows
    tiles = "".join(
        element("div", element("dt", text(heading)) + element("dd", text(label(name, row[name]))))
        for name, heading in answer.figure.columns.items()
    )
    return element("dl", tiles, class_="tiles") + folded("SQL", sql_block(answer.sql))


def _section(section: Section, answers: Mapping[str, Answer]) -> str:
    figures = "".join(_figure(answers[figure.name]) for figure in section.figures)
    return element("section", element("h2", text(section.title)) + figures, id=section.name)


def _figure(answer: Answer) -> str:
    figure = answer.figure
    heading = element("h3", text(figure.title))
    if answer.missing is not None or not answer.rows:
        return element("figure", heading + _without(answer), id=f"figure-{figure.name}")
    note = element("p", text(figure.note), class_="quiet") if figure.note else ""
    numbers = table(figure.columns, _told(answer), figure.title, stacks=figure.plot is None)
    shown = numbers if figure.plot is None else draw(answer) + folded("Numbers", numbers)
    return element(
        "figure",
        element("figcaption", heading + note) + shown + folded("SQL", sql_block(answer.sql)),
        id=f"figure-{figure.name}",
    )


def _told(answer: Answer) -> Sequence[Mapping[str, Any]]:
    """The rows of an answer, events told in words."""
    if not answer.figure.tells_events:
        return answer.rows
    return [
        {
            **row,
            "told": event_in_words(
                Event(
                    row["what"],
                    row["subject"],
                    row["old_value"],
                    row["new_value"],
                    row["days"],
                    row["after_primary_completion"],
                )
            ),
        }
        for row in answer.rows
    ]


def _without(answer: Answer) -> str:
    """What stands where an answer has no rows: that there is nothing, or what is missing."""
    if answer.missing is None:
        return element("p", text(answer.figure.nothing)) + folded("SQL", sql_block(answer.sql))
    said = f"This cannot be told: {answer.missing}. {_REMEDY}"
    return element("p", text(said), class_="bad") + folded("SQL", sql_block(answer.sql))


def _state(state: DataState) -> str:
    name, title = _DATA
    body = element("h2", text(title)) + definitions(state.facts, class_="facts")
    body += element("h3", "Checks") + _findings(state.findings)
    body += element("h3", "Quarantine") + _quarantine(state.quarantine)
    return element("section", body, id=name)


def _findings(findings: Sequence[FailedCheck] | None) -> str:
    if findings is None:
        return element("p", "What checks found is not known here.")
    if not findings:
        return element("p", "Every check passed when it was last made.")
    rows = [
        {
            "is": "warns" if one.is_warning else "failed",
            "check": f"{one.asset}: {one.name}",
            "said": one.description,
        }
        for one in findings
    ]
    return table(
        {"is": "", "check": "Check", "said": "What it found"},
        rows,
        "Checks that did not pass",
        stacks=True,
    )


def _quarantine(studies: Sequence[tuple[str, str]]) -> str:
    if not studies:
        return element("p", "No study is in quarantine.")
    rows = [{"study": nct_id, "why": reason} for nct_id, reason in studies]
    return element("p", "Studies that could not be typed, and are in no table.") + table(
        {"study": "Study", "why": "Reason"}, rows, "Studies in quarantine", stacks=True
    )
