"""The table: ratios, growth and goals are computed from the figures that are in it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from benchmarks import report
from benchmarks.report import Line, Results


def _line(name: str, seconds: float, studies: int = 1000, kind: str = "real") -> Line:
    return Line(
        studies_of=f"{studies:,} {kind}",
        studies=studies,
        json_bytes=studies * 20_000,
        name=name,
        seconds=seconds,
        median_seconds=seconds,
        peak_bytes=512 << 20,
        server_peak_bytes=256 << 20,
    )


def _results(
    contenders: Sequence[Line] = (), stages: Sequence[Line] = (), parsers: Sequence[Line] = ()
) -> Results:
    return Results(
        measured_on="2026-11-21",
        machine={"cores": "2"},
        contenders=list(contenders),
        stages=list(stages),
        parsers=list(parsers),
    )


def _goals(results: Results) -> dict[str, tuple[str, bool]]:
    return {goal.goal: (goal.found, goal.met) for goal in report.goals(results)}


def test_nobody_else_is_compared_with_our_making_of_keys() -> None:
    """A peer's seconds are divided by ours without keys, and those by the limit's."""
    contenders = [
        _line(report.OURS_BARE, 1.2),
        _line(report.OURS_WHOLE, 9.0),
        _line(report.LIMIT, 0.8),
        _line(report.DLT, 30.0),
        _line(report.PANDAS, 59.4),
    ]
    assert _goals(_results(contenders=contenders)) == {
        "at least 25 times dlt (1,000 real)": ("25.0 times", True),
        "at least 50 times pandas (1,000 real)": ("49.5 times", False),
        "at most 1.5 times the limit (1,000 real)": ("1.50 times", True),
    }


def test_a_contender_is_compared_on_its_own_studies_only() -> None:
    """Figures of other studies never enter a ratio, so a goal without its counterpart is not checked_records."""
    contenders = [_line(report.OURS_BARE, 2.0, studies=500), _line(report.DLT, 50.0)]
    assert _goals(_results(contenders=contenders)) == {}


def test_time_and_memory_are_judged_on_the_largest_set() -> None:
    """The eight minutes are scaled to the largest set; of memory, a stage's and Postgres' count together."""
    end = _line(report.END_TO_END, 48.0, 60_000, "generated")
    load, dbt = (_line(name, 20.0, 60_000, "generated") for name in ("load", "dbt"))
    stages = [
        _line(report.END_TO_END, 5.0, 6_000, "generated"),
        msgspec.structs.replace(load, peak_bytes=3 << 30, server_peak_bytes=(1 << 30) - 1),
        msgspec.structs.replace(dbt, peak_bytes=1 << 30, server_peak_bytes=2 << 30),
        # Of different stages, so they do not add up.
        msgspec.structs.replace(end, peak_bytes=3 << 30, server_peak_bytes=2 << 30),
    ]
    assert _goals(_results(stages=stages)) == {
        "shards to marts in 8 minutes for 600,000, so 0.80 for 60,000": ("0.80 minutes", True),
        "below 4 GiB resident, Postgres included (60,000 generated)": ("4.00 GiB", True),
        "60,000 against 6,000: at most 10.5 times": ("9.6 times", True),
    }


def test_the_table_shows_every_figure_with_its_ratios() -> None:
    """Each line of the results is a row, beside it how often it takes our time."""
    contenders = [
        _line(report.OURS_BARE, 1.0),
        _line(report.OURS_WHOLE, 2.0),
        msgspec.structs.replace(_line(report.DLT, 40.0), note="csv", runs=3, rows=1234),
    ]
    stages = [_line("parse", 0.5, 10, "generated"), _line("parse", 4.0, 100, "generated")]
    table = report.as_markdown(_results(contenders=contenders, stages=stages))
    assert (
        "| 1,000 real | dlt (csv) | 40.00 (median of 3: 40.00) | 40.00 | 40.00 | 20.00 | 1,234 | 512 "
        "| 256 |"
    ) in table
    assert "| parse | 8.0 |" in table
    assert "Measured on 2026-11-21: cores 2." in table


def test_results_survive_their_file() -> None:
    """What is kept as JSON is all that was found."""
    results = _results(parsers=[_line("orjson", 0.25)])
    assert msgspec.json.decode(report.as_json(results), type=Results) == results
