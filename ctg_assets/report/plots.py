"""Plots as SVG that stands within a page: no script, colours of the page, for a wide and a narrow screen.

Colours are variables of the page's style sheet, so that one drawing serves light and dark.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from importlib.resources import files
from itertools import pairwise
from typing import Any

import altair as alt
import vl_convert

from ctg_assets.report.asking import Answer
from ctg_assets.report.figures import Areas, Bars, Columns, Places
from ctg_assets.report.labels import label

Rows = Sequence[Mapping[str, Any]]
_Chart = alt.Chart | alt.LayerChart | alt.FacetChart


@dataclass(frozen=True)
class _Screen:
    """How wide a drawing is, in pixels, and how many characters of a name fit beside a bar."""

    name: str
    width: int
    characters: int


_SCREENS = (_Screen("wide", 860, 44), _Screen("narrow", 350, 20))

# Of a character at 12 pixels in a wide font: which one a reader's browser takes is not known here.
_CHARACTER_WIDTH = 7.3

_SERIES_COLOURS = tuple(f"var(--series-{number})" for number in range(1, 6))
_INK, _QUIET, _LINES = "var(--ink)", "var(--quiet)", "var(--lines)"

_CONFIG: dict[str, Any] = {
    "aria": False,  # the figure has a text of its own
    "background": "transparent",
    # To the right there is half of the last number of an axis.
    "padding": {"left": 5, "top": 5, "right": 20, "bottom": 5},
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _INK,
        "titleColor": _QUIET,
        "gridColor": _LINES,
        "tickColor": _LINES,
        "domainColor": _LINES,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelPadding": 6,
        "labelFlush": False,
    },
    "legend": {
        "labelColor": _INK,
        "titleColor": _QUIET,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "orient": "top",
        "symbolType": "square",
        "labelLimit": 320,
        "columnPadding": 40,
    },
}

# Columns are drawn for so many years or months at most, the newest: dates may be wrong by centuries.
_MOST_TIMES = 60

# A number with more places than a screen can show.
_LONG_NUMBER = re.compile(r"(-?\d+\.\d)\d+")


def draw(answer: Answer) -> str:
    """The plot of an answer that has rows, as SVG elements for both screens.

    Their title is the figure's, their description what `describe` says.
    """
    return "".join(_svg(answer, screen) for screen in _SCREENS)


def describe(answer: Answer) -> str:
    """What a plot shows, for those who do not see it."""
    plot, rows = answer.figure.plot, answer.rows
    if isinstance(plot, Columns):
        return _describe_columns(plot, rows)
    if plot is None:
        return ""
    most = sorted(rows, key=lambda row: -row[plot.value])[:5]
    named = "; ".join(
        f"{label(plot.category, row[plot.category])} {row[plot.value]:,}" for row in most
    )
    if isinstance(plot, Areas):
        return f"World map with {len(rows):,} countries shaded. Most: {named}."
    if isinstance(plot, Places):
        return f"World map with a circle for each of {len(rows):,} countries. Most: {named}."
    return f"Bar chart with {len(rows):,} bars. Longest: {named}."


def _describe_columns(plot: Columns, rows: Rows) -> str:
    totals: dict[Any, int] = {}
    for row in rows:
        totals[row[plot.time]] = totals.get(row[plot.time], 0) + row[plot.value]
    highest = max(totals, key=lambda time: totals[time])
    return (
        f"Column chart from {min(totals)} to {max(totals)}. Highest in {highest} with "
        f"{totals[highest]:,}; {totals[max(totals)]:,} in {max(totals)}."
    )


def _svg(answer: Answer, screen: _Screen) -> str:
    figure, rows = answer.figure, answer.rows
    chart: _Chart
    match figure.plot:
        case Bars():
            chart = _bars(figure.plot, rows, figure.columns[figure.plot.value], screen)
        case Columns():
            chart = _columns(figure.plot, rows, figure.columns[figure.plot.value], screen)
        case Places():
            chart = _places(figure.plot, rows, figure.columns[figure.plot.value], screen)
        case Areas():
            chart = _areas(figure.plot, rows, figure.columns[figure.plot.value], screen)
        case None:
            return ""
    drawn = vl_convert.vegalite_to_svg(chart.configure(**_CONFIG).to_json())
    return _within_page(
        drawn, f"{figure.name}-{screen.name}", screen.name, figure.title, describe(answer)
    )


def _bars(plot: Bars, rows: Rows, unit: str, screen: _Screen) -> _Chart:
    data = [
        # By number, since two different names may be the same to read.
        {
            "number": number,
            "name": label(plot.category, row[plot.category]),
            "value": row[plot.value],
        }
        for number, row in enumerate(rows)
    ]
    names = {str(row["number"]): _shortened(row["name"], screen.characters) for row in data}
    extent = _CHARACTER_WIDTH * max(map(len, names.values())) + 12
    longest = max(row["value"] for row in data)
    # Room for the numbers beside the bars.
    room = screen.width - extent
    domain = longest * room / (room - _CHARACTER_WIDTH * len(f"{longest:,}") - 12)
    base = alt.Chart(alt.InlineData(values=data)).encode(
        y=alt.Y(
            "number:O",
            sort=None,
            title=None,
            axis=alt.Axis(
                labelExpr=f"{json.dumps(names)}[datum.value]",
                labelLimit=0,
                minExtent=extent,
                maxExtent=extent,
                ticks=False,
                domain=False,
            ),
        ),
        x=alt.X(
            "value:Q",
            title=unit,
            axis=alt.Axis(format=",d", tickCount=6 if screen.width > 500 else 3, tickMinStep=1),
            scale=alt.Scale(domain=[0, domain], nice=False),
        ),
    )
    bars = base.mark_bar(color=_SERIES_COLOURS[0], height={"band": 0.7})
    numbers = base.mark_text(align="left", dx=4, color=_INK, fontSize=12).encode(
        text=alt.Text("value:Q", format=",d")
    )
    return alt.layer(bars, numbers).properties(
        width=screen.width,
        height=alt.Step(24),
        autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
    )


def _shortened(name: str, characters: int) -> str:
    return name if len(name) <= characters else name[: characters - 1].rstrip() + "…"


def _columns(plot: Columns, rows: Rows, unit: str, screen: _Screen) -> _Chart:
    times = _all_times([row[plot.time] for row in rows])
    series = (
        []
        if plot.series is None
        else list(dict.fromkeys(label(plot.series, row[plot.series]) for row in rows))
    )
    data = [
        {
            "time": str(row[plot.time]),
            "value": row[plot.value],
            "series": "" if plot.series is None else label(plot.series, row[plot.series]),
        }
        for row in rows
    ]
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=data))
        .mark_bar(color=_SERIES_COLOURS[0])
        .encode(
            x=alt.X(
                "time:O",
                title=None,
                scale=alt.Scale(domain=times),
                axis=alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=8, ticks=False),
            ),
            y=alt.Y(
                "sum(value):Q", title=unit, axis=alt.Axis(format=",d", tickCount=5, tickMinStep=1)
            ),
        )
        .properties(
            width=screen.width,
            height=260,
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        )
    )
    if not series:
        return chart
    in_parts: alt.Chart = chart.encode(
        color=alt.Color(
            "series:N",
            title=None,
            scale=alt.Scale(domain=series, range=list(_SERIES_COLOURS[: len(series)])),
            legend=alt.Legend(columns=1 if screen.name == "narrow" else 0),
        )
    )
    return in_parts


def _all_times(times: Sequence[Any]) -> list[str]:
    """Every year, or month, from the first to the last, those without a row included; the newest of too many."""
    if all(isinstance(time, int) for time in times):
        return [
            str(year)
            for year in range(max(min(times), max(times) - _MOST_TIMES + 1), max(times) + 1)
        ]
    first, last = (int(time[:4]) * 12 + int(time[5:7]) - 1 for time in (min(times), max(times)))
    months = range(max(first, last - _MOST_TIMES + 1), last + 1)
    return [f"{month // 12:04}-{month % 12 + 1:02}" for month in months]


def _shapes(feature: str) -> alt.Chart:
    """The world's `land`, or its `countries`."""
    shapes = alt.TopoDataFormat(type="topojson", feature=feature)
    chart: alt.Chart = alt.Chart(alt.InlineData(values=_world(), format=shapes, name=feature))
    return chart


def _areas(plot: Areas, rows: Rows, unit: str, screen: _Screen) -> _Chart:
    land = _shapes("land").mark_geoshape(fill="var(--land)", stroke=None).project("equalEarth")
    names = _class_names(plot.limits)
    classes = [
        {
            "id": row[plot.numeric_code],
            "class": names[_class(row[plot.value], plot.limits)],
        }
        for row in rows
    ]
    # Mixed by the browser, since the page's colours are known to it only.
    shades = [
        f"color-mix(in srgb, {_SERIES_COLOURS[0]} {part}%, var(--raised))"
        for part in (10 + 90 * number // (len(names) - 1) for number in range(len(names)))
    ]
    areas = (
        _shapes("countries")
        .mark_geoshape(stroke="var(--page)", strokeWidth=0.3)
        .transform_lookup(
            lookup="id",
            from_=alt.LookupData(data=alt.InlineData(values=classes), key="id", fields=["class"]),
        )
        .transform_filter("isValid(datum.class)")
        .encode(
            fill=alt.Fill(
                "class:N",
                title=unit,
                scale=alt.Scale(domain=names, range=shades),
                legend=alt.Legend(columns=0 if screen.width > 500 else 3, columnPadding=20),
            )
        )
        .project("equalEarth")
    )
    return alt.layer(land, areas).properties(width=screen.width, height=screen.width * 0.5)


def _class(value: Any, limits: Sequence[int]) -> int:
    """The class of a value: 0 for none, 1 for some below the second limit, and so on."""
    return int(value > limits[0]) + sum(1 for limit in limits[1:] if value >= limit)


def _class_names(limits: Sequence[int]) -> list[str]:
    """Classes between limits in words, the first for none: with 0, 1 and 10 `none`, `under 1`, `1 to 10`, `10 and more`."""
    between = (f"{low:,} to {high:,}" for low, high in pairwise(limits[1:]))
    return ["none", f"under {limits[1]:,}", *between, f"{limits[-1]:,} and more"]


def _places(plot: Places, rows: Rows, unit: str, screen: _Screen) -> _Chart:
    land = _shapes("land").mark_geoshape(fill="var(--land)", stroke=None).project("equalEarth")
    data = [
        {"latitude": row["latitude"], "longitude": row["longitude"], "value": row[plot.value]}
        for row in rows
        if row["latitude"] is not None and row["longitude"] is not None
    ]
    circles = (
        alt.Chart(alt.InlineData(values=data))
        .mark_circle(color=_SERIES_COLOURS[0], opacity=0.65, stroke="var(--page)", strokeWidth=0.5)
        .encode(
            latitude="latitude:Q",
            longitude="longitude:Q",
            size=alt.Size(
                "value:Q",
                title=unit,
                scale=alt.Scale(range=[0, screen.width * 2], domainMin=0),
                legend=alt.Legend(
                    symbolType="circle",
                    symbolFillColor=_SERIES_COLOURS[0],
                    format=",d",
                    values=_sizes(data),
                ),
            ),
        )
    )
    return alt.layer(land, circles).properties(width=screen.width, height=screen.width * 0.5)


def _sizes(data: Rows) -> list[int]:
    """Sizes that explain the circles: round numbers up to the largest."""
    largest = max((row["value"] for row in data), default=0)
    power = 10 ** max(0, len(str(largest)) - 1)
    round_ones = {max(1, power // 10), power, largest // power * power}
    return sorted(size for size in round_ones if size <= largest)


@cache
def _world() -> dict[str, Any]:
    """Land and countries as TopoJSON: Natural Earth 1:110m, in the public domain, as world-atlas 2.0.2 (ISC) packs it."""
    text = files(__package__).joinpath("countries-110m.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def _within_page(drawn: str, name: str, kind: str, title: str, description: str) -> str:
    """An SVG document as an element of a page, which has one document's worth of names."""
    opening = re.match(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', drawn)
    if opening is None:
        message = f"vl-convert's SVG does not begin as it should: {drawn[:80]}"
        raise AssertionError(message)
    width = opening[1].split()[2]
    body = drawn[opening.end() :]
    body = re.sub(r'\bid="([^"]*)"', rf'id="{name}-\1"', body)
    body = re.sub(r"url\(#([^)]*)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r'\sd="[^"]*"', lambda path: _LONG_NUMBER.sub(r"\1", path[0]), body)
    return (
        f'<svg class="{kind}" role="img" aria-labelledby="{name}-t {name}-d" viewBox="{opening[1]}" '
        f'width="{width}"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{body}'
    )
